/* mmap.c - files in memory. A page of a file that has become shorter cannot be read any more: the
 * process gets SIGBUS, and whoever handles it asks lc_mapped_name which file that was. */
#define _GNU_SOURCE
#include "io/mmap.h"

#include "base/file.h"
#include "base/memory.h"
#include "lucid.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

/* Changed under the lock; walked without it, by a thread that is about to end the process. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct lc_mapping *_Atomic first;

static void link_in(struct lc_mapping *m) {
    pthread_mutex_lock(&lock);
    m->next = first;
    first = m;
    pthread_mutex_unlock(&lock);
}

static void unlink_from(struct lc_mapping *m) {
    pthread_mutex_lock(&lock);
    if (first == m) first = m->next;
    else
        for (struct lc_mapping *p = first; p; p = p->next)
            if (p->next == m) p->next = m->next;
    pthread_mutex_unlock(&lock);
}

struct lc_mapping *lc_map(int fd, size_t bytes, const char *path) {
    struct lc_mapping *m = lc_alloc(sizeof *m);
    char *name = m ? lc_copy_text(path) : NULL;
    if (!name) {
        lc_free(m);
        return NULL;
    }
    void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    if (data == MAP_FAILED) {
        lc_fail_errno(path, "mapping");
        lc_free(name);
        lc_free(m);
        return NULL;
    }
    *m = (struct lc_mapping){.data = data, .bytes = bytes, .holders = 1, .path = name};
    link_in(m);
    return m;
}

void lc_map_forget(const struct lc_mapping *m, size_t begin, size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t first_whole = (begin + page - 1) / page * page, end = (begin + bytes) / page * page;
    if (end > first_whole) madvise(m->data + first_whole, end - first_whole, MADV_DONTNEED);
}

void lc_map_release(void *mapping) {
    struct lc_mapping *m = mapping;
    if (!m || --m->holders > 0) return;
    unlink_from(m);
    munmap(m->data, m->bytes);
    lc_free(m->path);
    lc_free(m);
}

const char *lc_mapped_name(const void *address) {
    for (const struct lc_mapping *m = first; m; m = m->next) {
        size_t last =
            (m->bytes + 4095) / 4096 * 4096; /* the page that holds the end belongs to it */
        if ((const char *)address >= m->data && (const char *)address < m->data + last)
            return m->path;
    }
    return NULL;
}
