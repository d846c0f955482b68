/* reader.c - pictures that are read and decoded ahead, on a thread of their own.
 *
 * The caller asks for files and takes them, in any order; meanwhile it may run the tower on what it has. One that
 * is not begun when it is taken is read by the caller, which reads others too while it waits for one. What is ready
 * and not taken yet is bounded. */
#define _GNU_SOURCE
#include "image/sandbox.h"

#include "base/error.h"
#include "base/memory.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>

enum { MOST_BYTES = 64 << 20 }; /* of pixels that nobody has taken */

struct job {
    struct job *next;
    char *path;
    enum { WAITING, READING, READY } state;
    int result, code; /* of reading; the reason stands beside a failure */
    char *reason;
    struct lc_picture picture;
};

struct lc_reader {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool running, closing;
    struct job *first;         /* in the order in which they were asked for */
    int64_t held;              /* bytes of pixels that are ready */
    struct lc_sandbox sandbox; /* the thread's */
};

static int64_t bytes_of(const struct lc_picture *p) { return 3 * p->height * p->width; }

static void free_job(struct job *j) {
    lc_free(j->picture.rgb);
    lc_free(j->reason);
    lc_free(j->path);
    lc_free(j);
}

/* ---- reading ahead: every function here holds the lock, but for the time that it reads ---- */

static struct job *next_job(const struct lc_reader *r) {
    struct job *j = r->held < MOST_BYTES ? r->first : NULL;
    while (j && j->state != WAITING) j = j->next;
    return j;
}

/* apart: the sandbox of the thread, NULL for the caller, which has the common one */
static void read_job(struct lc_reader *r, struct job *j, struct lc_sandbox *apart) {
    j->state = READING;
    pthread_mutex_unlock(&r->lock);
    j->result = apart ? lc_sandbox_read(apart, &j->picture, j->path)
                      : lc_picture_read(&j->picture, j->path);
    if (j->result < 0) {
        j->picture = (struct lc_picture){0};
        j->code = lc_error_code();
        j->reason = lc_copy_text(lc_error());
    }
    pthread_mutex_lock(&r->lock);
    j->state = READY;
    r->held += bytes_of(&j->picture);
    pthread_cond_broadcast(&r->changed);
}

static void *run(void *context) {
    struct lc_reader *r = context;
    pthread_mutex_lock(&r->lock);
    while (!r->closing) {
        struct job *j = next_job(r);
        if (j) read_job(r, j, &r->sandbox);
        else pthread_cond_wait(&r->changed, &r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* Signals are the main thread's. */
static bool start(struct lc_reader *r) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool done = pthread_create(&r->thread, NULL, run, r) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return done;
}

/* ---- the caller ---- */

lc_reader *lc_reader_new(void) {
    lc_reader *r = lc_alloc_zero(sizeof *r);
    if (!r) return NULL;
    pthread_mutex_init(&r->lock, NULL);
    pthread_mutex_init(&r->sandbox.lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    return r;
}

/* The first that has this path or, where that is NULL, that nobody reads. */
static struct job *find(const struct lc_reader *r, const char *path) {
    struct job *j = r->first;
    while (j && (path ? strcmp(j->path, path) != 0 : j->state == READING)) j = j->next;
    return j;
}

static void take_out(struct lc_reader *r, const struct job *j) {
    struct job **at = &r->first;
    while (*at != j) at = &(*at)->next;
    *at = j->next;
    r->held -= bytes_of(&j->picture);
}

/* What nobody reads goes before it is waited for the rest, so that nobody begins it. */
void lc_reader_clear(lc_reader *r) {
    pthread_mutex_lock(&r->lock);
    while (r->first) {
        struct job *j = find(r, NULL);
        if (j) {
            take_out(r, j);
            free_job(j);
        } else {
            pthread_cond_wait(&r->changed, &r->lock);
        }
    }
    pthread_mutex_unlock(&r->lock);
}

void lc_reader_free(lc_reader *r) {
    if (!r) return;
    pthread_mutex_lock(&r->lock);
    r->closing = true;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    if (r->running) pthread_join(r->thread, NULL);
    lc_reader_clear(r);
    lc_sandbox_end(&r->sandbox);
    pthread_mutex_destroy(&r->sandbox.lock);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    lc_free(r);
}

int lc_reader_ask(lc_reader *r, const char *path) {
    struct job *j = lc_alloc_zero(sizeof *j);
    if (!j || !(j->path = lc_copy_text(path))) {
        lc_free(j);
        return -1;
    }
    pthread_mutex_lock(&r->lock);
    struct job **end = &r->first;
    while (*end) end = &(*end)->next;
    *end = j;
    if (!r->running) r->running = start(r); /* without a thread the caller reads everything */
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    return 0;
}

int lc_reader_picture(lc_reader *r, const char *path, struct lc_picture *p) {
    struct job *j;
    pthread_mutex_lock(&r->lock);
    while ((j = find(r, path)) && j->state == READING) {
        struct job *other = next_job(r);
        if (other) read_job(r, other, NULL);
        else pthread_cond_wait(&r->changed, &r->lock);
    }
    if (j) take_out(r, j);
    pthread_cond_broadcast(&r->changed); /* there is room again */
    pthread_mutex_unlock(&r->lock);
    if (!j || j->state == WAITING || j->code == LC_EINTR) { /* stopped: no fault of the picture's */
        if (j) free_job(j);
        return lc_picture_read(p, path);
    }
    int result = j->result;
    if (result < 0) lc_fail(j->code, "%s", j->reason ? j->reason : "out of memory");
    else *p = j->picture;
    j->picture.rgb = result < 0 ? j->picture.rgb : NULL;
    free_job(j);
    return result;
}
