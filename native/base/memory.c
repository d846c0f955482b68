/* memory.c - counted allocation.
 *
 * Each block has a 64-byte header that holds its sizes, so that free knows what to uncount and the
 * block after it stays 64-byte aligned. The counters are atomic: the picture reader and the HTTP
 * client allocate on their own threads. */
#define _GNU_SOURCE
#include "base/memory.h"

#include "base/error.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

enum {
    HEADER = 64,
    HUGE = 2 << 20,
    LARGE = 32 << 20,     /* bytes from which on malloc maps a block and unmaps it again, always */
    MOST_KEPT = 512 << 20 /* bytes of such blocks that are kept */
};

/* What stands before a block. */
struct header {
    size_t bytes, whole; /* asked for, and with the header */
};

static atomic_llong used, peak, limit, fail_at;

#ifdef __GLIBC__
/* A step frees its tensors and the next one wants the same sizes: pages go back to the system only in
 * quantity, since fresh ones cost as much as the products that fill them. */
__attribute__((constructor)) static void keep_pages(void) {
    mallopt(M_MMAP_THRESHOLD, LARGE);
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

/* ---- large blocks that were freed, the oldest first; a sanitizer wants to see them go ---- */

enum { KEPT = 16 };
static struct kept {
    unsigned char *p;
    size_t whole;
} kept[KEPT];
static int kept_count;
static size_t kept_bytes;
static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;

static void take_out(int i) {
    kept_bytes -= kept[i].whole;
    memmove(kept + i, kept + i + 1, (size_t)(--kept_count - i) * sizeof *kept);
}

/* The smallest that serves without wasting a quarter, whose size is then *whole; NULL: there is none. */
static unsigned char *reuse(size_t *whole) {
    int best = -1;
    unsigned char *p = NULL;
    pthread_mutex_lock(&kept_lock);
    for (int i = 0; i < kept_count; i++)
        if (kept[i].whole >= *whole && kept[i].whole - *whole <= *whole / 4 &&
            (best < 0 || kept[i].whole < kept[best].whole))
            best = i;
    if (best >= 0) {
        p = kept[best].p;
        *whole = kept[best].whole;
        take_out(best);
    }
    pthread_mutex_unlock(&kept_lock);
    return p;
}

/* Gives the oldest back until at most so many bytes are kept, in a free place. */
static void keep_at_most(size_t bytes) {
    while (kept_count == KEPT || kept_bytes > bytes) {
        free(kept[0].p);
        take_out(0);
    }
}

static void keep(unsigned char *p, size_t whole) {
    pthread_mutex_lock(&kept_lock);
    keep_at_most(MOST_KEPT - whole);
    kept[kept_count++] = (struct kept){p, whole};
    kept_bytes += whole;
    pthread_mutex_unlock(&kept_lock);
}

static bool keeps(size_t whole) {
#ifdef __SANITIZE_ADDRESS__
    (void)whole;
    return false;
#else
    return whole >= LARGE && whole <= MOST_KEPT / 2;
#endif
}

/* Fresh memory; where the system has none, once more without what is kept. */
static unsigned char *fresh(size_t whole) {
    unsigned char *p = aligned_alloc(HEADER, whole);
    if (!p) {
        pthread_mutex_lock(&kept_lock);
        keep_at_most(0);
        pthread_mutex_unlock(&kept_lock);
        p = aligned_alloc(HEADER, whole);
    }
    if (p) advise_huge(p, whole);
    return p;
}

/* ---- blocks ---- */

void *lc_alloc(size_t bytes) {
    if (bytes > PTRDIFF_MAX - 2 * HEADER)
        return lc_fail_null(LC_ENOMEM, "out of memory: %zu bytes asked", bytes);
    if (lc_memory_charge((int64_t)bytes) < 0) return NULL;
    size_t whole = (bytes + 2 * HEADER - 1) / HEADER * HEADER;
    unsigned char *p = keeps(whole) ? reuse(&whole) : NULL;
    if (!p) p = fresh(whole);
    if (!p) {
        lc_memory_discharge((int64_t)bytes);
        return lc_fail_null(LC_ENOMEM, "out of memory: the system refused %zu bytes", bytes);
    }
    const struct header h = {bytes, whole};
    memcpy(p, &h, sizeof h);
    return p + HEADER;
}

void *lc_alloc_zero(size_t bytes) {
    void *p = lc_alloc(bytes);
    return p ? memset(p, 0, bytes) : NULL;
}

static struct header header_of(const void *p) {
    struct header h;
    memcpy(&h, (const unsigned char *)p - HEADER, sizeof h);
    return h;
}

void lc_free(void *p) {
    if (!p) return;
    const struct header h = header_of(p);
    unsigned char *block = (unsigned char *)p - HEADER;
    lc_memory_discharge((int64_t)h.bytes);
    if (keeps(h.whole)) keep(block, h.whole);
    else free(block);
}

void *lc_realloc(void *p, size_t bytes) {
    if (!p) return lc_alloc(bytes);
    void *q = lc_alloc(bytes);
    if (!q) return NULL;
    size_t old = header_of(p).bytes;
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
