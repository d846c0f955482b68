/* scratch.c - memory that a thread's kernels work in, kept from call to call: a step of training makes thousands of
 * them, and fresh pages would cost more than the small ones. A thread touches its own first, so that it lies near
 * the thread's core. It is not counted: nobody else can have it, and it ends with the thread. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>

#include "cpu/cpu.h"

enum { HEADER = 64, HUGE = 2 << 20 };

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool has_key;

static void unmap(void *p) {
    size_t bytes;
    memcpy(&bytes, p, sizeof bytes);
    munmap(p, bytes);
}

static void make_key(void) { has_key = pthread_key_create(&key, unmap) == 0; }

void *cpu_scratch(size_t bytes) {
    pthread_once(&once, make_key);
    if (!has_key) return NULL;
    unsigned char *own = pthread_getspecific(key);
    size_t had = 0;
    if (own) memcpy(&had, own, sizeof had);
    if (had >= bytes + HEADER) return own + HEADER;
    const size_t whole = (bytes + HEADER + HUGE - 1) / HUGE * HUGE;
    if (own) unmap(own);
    own = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (own == MAP_FAILED) own = NULL;
    if (pthread_setspecific(key, own) != 0 && own) {
        munmap(own, whole);
        own = NULL;
    }
    if (!own) return NULL;
#ifdef MADV_HUGEPAGE
    madvise(own, whole, MADV_HUGEPAGE);
#endif
    memcpy(own, &whole, sizeof whole);
    return own + HEADER;
}
