/* sandbox.c - the side of the process that asks: it starts build/lucid-decode, hands it one file after another in
 * shared memory and takes pixels out, none of which it believes before it has looked. */
#define _GNU_SOURCE
#include "image/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/plugin.h"
#include "image/decoder.h"

enum {
    PROGRAM_BYTES = 64 << 20, /* the decoder and its libraries */
    JPEG_BYTES = 384 << 20,   /* what a progressive JPEG may keep */
    BYTES_A_PIXEL = 16,       /* what a GIF takes */
    MOST_HELD = 32 << 20,     /* of memory, after a picture */
    GREETING = 20,            /* seconds that a start may take */
    PAGE = 64 << 10           /* at least */
};

static atomic_int seconds; /* that a picture may take; 0: pictures are decoded here */
static struct lc_sandbox common = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- the process ---------------------------------------------------------------------------------- */

/* Ends the process, which may have closed its socket and live on; what it ended by, 0 where nobody knows. */
static int reap(struct lc_sandbox *s) {
    int status = 0;
    pid_t got;
    kill(s->pid, SIGKILL); /* nothing to one that has ended: its own end stays */
    while ((got = waitpid(s->pid, &status, 0)) < 0 && errno == EINTR) {}
    close(s->socket);
    munmap(s->shared, s->room);
    s->pid = 0;
    return got > 0 && WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void end(struct lc_sandbox *s) {
    if (s->pid) reap(s);
}

void lc_sandbox_end(struct lc_sandbox *s) {
    pthread_mutex_lock(&s->lock);
    end(s);
    pthread_mutex_unlock(&s->lock);
}

/* Memory that both see and neither can make shorter, mapped here. */
static int share(struct lc_sandbox *s) {
    int memory = memfd_create("lucid-picture", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memory < 0) return -1;
    s->shared = MAP_FAILED;
    if (!ftruncate(memory, (off_t)s->room) &&
        !fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL))
        s->shared = mmap(NULL, s->room, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (s->shared != MAP_FAILED) return memory;
    close(memory);
    return -1;
}

/* The program with nothing but its two descriptors, no signal blocked or ignored, in a group of its own, which
 * Ctrl-C does not reach. Of the environment, in which keys may lie, it gets the libraries' folder. */
static int spawn(pid_t *pid, const char *program, int64_t address_space, int socket, int memory) {
    char space[32], folders[PATH_MAX];
    const char *asked = getenv("LD_LIBRARY_PATH");
    snprintf(space, sizeof space, "%" PRId64, address_space);
    snprintf(folders, sizeof folders, "LD_LIBRARY_PATH=%s", asked ? asked : "");
    char *words[] = {(char *)(uintptr_t)program, space, NULL};
    char *environment[] = {asked ? folders : NULL, NULL};
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&how);
    posix_spawn_file_actions_adddup2(&files, socket, LC_DECODER_SOCKET);
    posix_spawn_file_actions_adddup2(&files, memory, LC_DECODER_MEMORY);
    posix_spawnattr_setsigmask(&how, &none);
    posix_spawnattr_setsigdefault(&how, &all);
    posix_spawnattr_setpgroup(&how, 0);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                       POSIX_SPAWN_SETPGROUP);
    int failed = posix_spawn(pid, program, &files, &how, words, environment);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&how);
    return failed;
}

/* Descriptors of ours that stand where the decoder's do would be lost as it gets its own. */
static int above(int fd) {
    int other = fd < 0 || fd > 2 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (other != fd) close(fd);
    return other;
}

static int launch(struct lc_sandbox *s, const char *program, int64_t address_space) {
    int ends[2], memory = above(share(s));
    if (memory < 0) return lc_fail(LC_ENOMEM, "sandbox: no memory to share: %s", strerror(errno));
    int failed = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0 ? errno : 0;
    if (!failed) {
        int theirs = above(ends[1]);
        s->socket = ends[0];
        failed = spawn(&s->pid, program, address_space, theirs, memory);
        close(theirs);
        if (failed) close(s->socket);
    }
    close(memory);
    if (!failed) return 0;
    munmap(s->shared, s->room);
    s->pid = 0;
    return lc_fail(failed == ENOENT ? LC_EMISSING : LC_EIO, "sandbox: %s: %s; run make", program,
                   strerror(failed));
}

/* ---- talking -------------------------------------------------------------------------------------- */

enum { THERE, GONE, LATE, STOPPED };

static int receive(struct lc_sandbox *s, struct lc_decode_answer *a, int most_seconds) {
    double last = lc_seconds() + most_seconds;
    for (size_t done = 0; done < sizeof *a;) {
        struct pollfd one = {.fd = s->socket, .events = POLLIN};
        double left = last - lc_seconds();
        int ready = left > 0 ? poll(&one, 1, (int)(left * 1000) + 1) : 0;
        if (ready == 0) return LATE;
        if (ready < 0 && lc_poll("picture") < 0) return STOPPED;
        ssize_t got = ready > 0 ? recv(s->socket, (char *)a + done, sizeof *a - done, 0) : 0;
        if (ready > 0 && got <= 0) return GONE;
        done += (size_t)got;
    }
    a->reason[sizeof a->reason - 1] = 0;
    for (char *c = a->reason; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 127) *c = '?'; /* a terminal obeys some */
    return THERE;
}

static int start(struct lc_sandbox *s, int *filtered) {
    char program[PATH_MAX];
    const struct lc_picture_limits most = lc_picture_limits();
    s->file_room = ((size_t)most.bytes + PAGE - 1) / PAGE * PAGE;
    s->room = s->file_room + 3 * (size_t)most.pixels;
    lc_beside(program, sizeof program, "lucid-decode");
    if (launch(s, program, PROGRAM_BYTES + JPEG_BYTES + BYTES_A_PIXEL * most.pixels) < 0) return -1;
    struct lc_decode_answer greeting = {0};
    if (receive(s, &greeting, GREETING) != THERE) {
        end(s);
        return lc_fail(LC_EIO, "sandbox: %s does not start", program);
    }
    *filtered = greeting.code != 0;
    return 0;
}

/* A process that has room for what the limits allow by now. Whether the last one still lives is seen by its socket. */
static int ready(struct lc_sandbox *s) {
    int filtered;
    const struct lc_picture_limits most = lc_picture_limits();
    struct pollfd one = {.fd = s->socket, .events = POLLIN};
    if (s->pid && ((int64_t)s->file_room < most.bytes ||
                   (int64_t)(s->room - s->file_room) < 3 * most.pixels || poll(&one, 1, 0) != 0))
        end(s);
    return s->pid ? 0 : start(s, &filtered);
}

static int fail_dead(struct lc_sandbox *s, const char *name) {
    int signal = reap(s);
    if (signal == SIGSYS)
        return lc_fail(LC_EINVAL,
                       "%s: decoding was stopped: it asked the system for what no decoder needs",
                       name);
    return lc_fail(LC_EINVAL, "%s: the decoder broke on this picture (signal %d%s%s)", name, signal,
                   signal ? ", " : "", signal ? strsignal(signal) : "");
}

static int ask(struct lc_sandbox *s, struct lc_decode_answer *a, size_t n, const char *name) {
    int most = atomic_load(&seconds);
    struct lc_decode_request r = {(int64_t)n, (int64_t)s->file_room, most + 1, lc_picture_limits(),
                                  ""};
    size_t length = strlen(name);
    if (length > 4) snprintf(r.suffix, sizeof r.suffix, "%s", name + length - 4);
    ssize_t sent = send(s->socket, &r, sizeof r, MSG_NOSIGNAL);
    int came = sent == (ssize_t)sizeof r ? receive(s, a, most) : GONE;
    if (came == THERE) return 0;
    if (came == GONE) return fail_dead(s, name);
    end(s);
    if (came == STOPPED) return lc_poll(name);
    return lc_fail(LC_EINVAL, "%s: decoding takes longer than %d s; --picture-seconds allows more",
                   name, most);
}

static int take(struct lc_sandbox *s, struct lc_picture *p, const struct lc_decode_answer *a,
                const char *name) {
    if (a->code) {
        int known = a->code > 0 && a->code <= LC_EMISSING;
        return lc_fail(known ? a->code : LC_EINVAL, "%s: %s", name, a->reason);
    }
    if (lc_picture_check(name, a->height, a->width) < 0) return -1;
    size_t bytes = 3 * (size_t)a->height * (size_t)a->width;
    *p = (struct lc_picture){a->height, a->width, lc_alloc(bytes)};
    if (!p->rgb) return -1;
    memcpy(p->rgb, s->shared + s->file_room, bytes);
    return 0;
}

static int decode_apart(struct lc_sandbox *s, struct lc_picture *p, const void *bytes, size_t n,
                        const char *name) {
    struct lc_decode_answer a = {0};
    *p = (struct lc_picture){0};
    if (n > INT64_MAX || lc_picture_check_bytes(name, (int64_t)n) < 0 || ready(s) < 0) return -1;
    memcpy(s->shared, bytes, n);
    if (ask(s, &a, n, name) < 0) return -1;
    int done = take(s, p, &a, name);
    if (n + 3 * (size_t)p->height * (size_t)p->width > MOST_HELD)
        end(s); /* and its memory with it */
    return done;
}

int lc_sandbox_decode(struct lc_sandbox *s, struct lc_picture *p, const void *bytes, size_t n,
                      const char *name) {
    if (!atomic_load(&seconds)) return lc_picture_decode_here(p, bytes, n, name);
    pthread_mutex_lock(&s->lock);
    int done = decode_apart(s, p, bytes, n, name);
    pthread_mutex_unlock(&s->lock);
    return done;
}

int lc_sandbox_read(struct lc_sandbox *s, struct lc_picture *p, const char *path) {
    char *bytes;
    size_t n;
    int64_t size = lc_file_size(path);
    if (size < 0 || lc_picture_check_bytes(path, size) < 0) return -1;
    if (lc_file_read_most(path, lc_picture_limits().bytes, &bytes, &n) < 0) return -1;
    int result = lc_sandbox_decode(s, p, bytes, n, path);
    lc_free_bytes(bytes);
    return result;
}

/* ---- the switch ----------------------------------------------------------------------------------- */

int lc_image_sandbox(int most_seconds) {
    int filtered = 1, failed = 0;
    if (most_seconds < 0) return lc_fail(LC_EINVAL, "sandbox: %d seconds", most_seconds);
    lc_sandbox_end(&common);
    if (most_seconds > 0) {
        pthread_mutex_lock(&common.lock);
        failed = start(&common, &filtered);
        pthread_mutex_unlock(&common.lock);
    }
    if (failed) return -1;
    atomic_store(&seconds, most_seconds);
    return !filtered;
}

int lc_picture_decode(struct lc_picture *p, const void *bytes, size_t n, const char *name) {
    return lc_sandbox_decode(&common, p, bytes, n, name);
}

int lc_picture_read(struct lc_picture *p, const char *path) {
    return lc_sandbox_read(&common, p, path);
}
