/* memory.c - counted allocation.
 *
 * Each block has a 64-byte header that holds its size, so that free knows what to uncount and the
 * block after it stays 64-byte aligned. The counters are atomic: the picture reader and the HTTP
 * client allocate on their own threads. */
#define _GNU_SOURCE
#include "base/memory.h"

#include "base/error.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

enum { HEADER = 64, HUGE = 2 << 20 };

static atomic_llong used, peak, limit, fail_at;

#ifdef __GLIBC__
/* A step frees its tensors and the next one wants the same sizes: pages go back to the system only in
 * quantity, since fresh ones cost as much as the products that fill them. */
__attribute__((constructor)) static void keep_pages(void) {
    mallopt(M_MMAP_THRESHOLD, 32 << 20);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
}
#endif

int64_t lc_memory_used(void) { return atomic_load(&used); }
int64_t lc_memory_peak(void) { return atomic_load(&peak); }
void lc_memory_peak_reset(void) { atomic_store(&peak, atomic_load(&used)); }
void lc_memory_limit(int64_t bytes) { atomic_store(&limit, bytes); }
void lc_memory_fail_at(int64_t n) { atomic_store(&fail_at, n); }

/* Counts down to the allocation that a test wants to fail. */
static bool must_fail(void) {
    return atomic_load(&fail_at) > 0 && atomic_fetch_sub(&fail_at, 1) == 1;
}

int lc_memory_charge(int64_t bytes) {
    int64_t most = atomic_load(&limit), now = atomic_fetch_add(&used, bytes) + bytes;
    if ((most > 0 && now > most) || must_fail()) {
        atomic_fetch_sub(&used, bytes);
        return lc_fail(LC_ENOMEM, "out of memory: %" PRId64 " bytes asked, %" PRId64 " in use%s",
                       bytes, now - bytes, most > 0 ? ", limit reached" : "");
    }
    long long seen = atomic_load(&peak);
    while (now > seen && !atomic_compare_exchange_weak(&peak, &seen, now)) {}
    return 0;
}

void lc_memory_discharge(int64_t bytes) { atomic_fetch_sub(&used, bytes); }

/* Large blocks lie in huge pages where the system has them: a page's first touch is a trap, and memory is read
 * faster where the processor can look further ahead than 4 KiB. */
static void advise_huge(unsigned char *p, size_t bytes) {
#ifdef MADV_HUGEPAGE
    if (bytes < 2 * HUGE) return;
    unsigned char *first = p + (HUGE - (uintptr_t)p % HUGE) % HUGE;
    madvise(first, (bytes - (size_t)(first - p)) / HUGE * HUGE, MADV_HUGEPAGE);
#else
    (void)p, (void)bytes;
#endif
}

void *lc_alloc(size_t bytes) {
    if (bytes > PTRDIFF_MAX - 2 * HEADER)
        return lc_fail_null(LC_ENOMEM, "out of memory: %zu bytes asked", bytes);
    if (lc_memory_charge((int64_t)bytes) < 0) return NULL;
    size_t whole = (bytes + 2 * HEADER - 1) / HEADER * HEADER;
    unsigned char *p = aligned_alloc(HEADER, whole);
    if (!p) {
        lc_memory_discharge((int64_t)bytes);
        return lc_fail_null(LC_ENOMEM, "out of memory: the system refused %zu bytes", bytes);
    }
    advise_huge(p, whole);
    memcpy(p, &bytes, sizeof bytes);
    return p + HEADER;
}

void *lc_alloc_zero(size_t bytes) {
    void *p = lc_alloc(bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

static size_t size_of(const void *p) {
    size_t bytes;
    memcpy(&bytes, (const unsigned char *)p - HEADER, sizeof bytes);
    return bytes;
}

void lc_free(void *p) {
    if (!p) return;
    lc_memory_discharge((int64_t)size_of(p));
    free((unsigned char *)p - HEADER);
}

void *lc_realloc(void *p, size_t bytes) {
    if (!p) return lc_alloc(bytes);
    void *q = lc_alloc(bytes);
    if (!q) return NULL;
    size_t old = size_of(p);
    memcpy(q, p, old < bytes ? old : bytes);
    lc_free(p);
    return q;
}

void lc_free_bytes(void *data) { lc_free(data); }

char *lc_copy_text(const char *text) {
    size_t n = strlen(text) + 1;
    char *copy = lc_alloc(n);
    return copy ? memcpy(copy, text, n) : NULL;
}

bool lc_multiply(int64_t *product, int64_t factor) {
    return factor >= 0 && *product >= 0 && !__builtin_mul_overflow(*product, factor, product);
}
