/* mmap.c - files in memory. */
#define _GNU_SOURCE
#include "io/mmap.h"

#include "base/file.h"
#include "base/memory.h"

#include <sys/mman.h>

struct lc_mapping *lc_map(int fd, size_t bytes, const char *path) {
    struct lc_mapping *m = lc_alloc(sizeof *m);
    if (!m) return NULL;
    void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, fd, 0);
    if (data == MAP_FAILED) {
        lc_fail_errno(path, "mapping");
        lc_free(m);
        return NULL;
    }
    *m = (struct lc_mapping){.data = data, .bytes = bytes, .holders = 1};
    return m;
}

void lc_map_release(void *mapping) {
    struct lc_mapping *m = mapping;
    if (!m || --m->holders > 0) return;
    munmap(m->data, m->bytes);
    lc_free(m);
}
