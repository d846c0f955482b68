/* emulate_runtime.h - what the sources under cuda/ use of CUDA's own headers: vector types, small
 * device functions, and memory; emulate_stream.h has the runtime's host calls.
 *
 * Memory from cudaMalloc starts as NaN. Before it lies a page of NaN, behind it up to 255 bytes of
 * NaN and then a page that no one may touch, so a write or a read past an end is seen. */
#ifndef LC_CUDA_EMULATE_RUNTIME_H
#define LC_CUDA_EMULATE_RUNTIME_H
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

[[noreturn]] inline void emulate_fault(const char *what, const char *where) {
    fprintf(stderr, "emulation: %s (%s)\n", what, where);
    _exit(3);
}

/* ---- words of the language ------------------------------------------------------------------- */

#define __global__ static
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __constant__ static
#define __align__(n) __attribute__((aligned(n)))

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned nx = 1, unsigned ny = 1, unsigned nz = 1) : x(nx), y(ny), z(nz) {}
};

/* ---- vector types ---------------------------------------------------------------------------- */

struct __align__(8) uint2 {
    unsigned x, y;
};
struct __align__(16) uint4 {
    unsigned x, y, z, w;
};
struct __align__(8) int2 {
    int x, y;
};
struct __align__(16) int4 {
    int x, y, z, w;
};
struct __align__(8) float2 {
    float x, y;
};
struct __align__(16) float4 {
    float x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

/* ---- small functions ------------------------------------------------------------------------- */

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t max(int64_t a, int64_t b) { return a > b ? a : b; }
inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1 / x; }
inline void sincospi(double x, double *sine, double *cosine) {
    *sine = sin(M_PI * x);
    *cosine = cos(M_PI * x);
}
inline void sincospif(float x, float *sine, float *cosine) {
    *sine = (float)sin(M_PI * (double)x);
    *cosine = (float)cos(M_PI * (double)x);
}
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)(((uint64_t)a * b) >> 32); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }
template <typename T> inline T __ldg(const T *p) { return *p; }
template <typename T> inline T __ldcg(const T *p) { return *p; }
template <typename To, typename From> inline To emulate_bits(From x) {
    static_assert(sizeof(To) == sizeof(From), "bits of another size");
    To y;
    memcpy(&y, &x, sizeof y);
    return y;
}
inline unsigned __float_as_uint(float x) { return emulate_bits<unsigned>(x); }
inline int __float_as_int(float x) { return emulate_bits<int>(x); }
inline float __uint_as_float(unsigned x) { return emulate_bits<float>(x); }
inline float __int_as_float(int x) { return emulate_bits<float>(x); }
/* Fibers change places at rendezvous only, so a plain addition is atomic. */
template <typename T> inline T atomicAdd(T *p, T x) {
    static_assert(T(1) / 2 == 0, "no float atomics: sums have a fixed order");
    T old = *p;
    *p = old + x;
    return old;
}
template <typename T> inline T atomicMax(T *p, T x) {
    T old = *p;
    if (x > old) *p = x;
    return old;
}
inline void __threadfence() {}

/* ---- memory ---------------------------------------------------------------------------------- */

enum { EMULATE_PAGE = 4096, EMULATE_ALIGN = 256, EMULATE_HUGE = 2 << 20 };

struct emulate_memory {
    unsigned char *map, *data;
    size_t map_bytes, bytes;
    struct emulate_memory *next;
};
inline struct emulate_memory *emulate_memories;

/* Once emulate_close() was called, device memory can be touched by kernels and copies alone: a host that
 * reads or writes it ends with a fault, as beside a real device. */
inline bool emulate_closed;
inline void emulate_protect(int how) {
    for (struct emulate_memory *m = emulate_memories; m; m = m->next)
        mprotect(m->map, m->map_bytes - EMULATE_PAGE, how);
}
inline void emulate_close() {
    emulate_closed = true;
    emulate_protect(PROT_NONE);
}
inline int emulate_accesses;
struct emulate_access { /* while one lives, device memory is open */
    emulate_access() {
        if (emulate_closed && !emulate_accesses++) emulate_protect(PROT_READ | PROT_WRITE);
    }
    ~emulate_access() {
        if (emulate_closed && !--emulate_accesses) emulate_protect(PROT_NONE);
    }
};

inline size_t emulate_up(size_t n, size_t step) { return (n + step - 1) / step * step; }

/* Pages, the second of which begins a huge one where that is asked for: opening and closing what is one
 * huge page costs little. NULL: there are none. */
inline void *emulate_map(size_t bytes, bool huge) {
    const size_t spare = huge ? EMULATE_HUGE : 0;
    unsigned char *all = (unsigned char *)mmap(NULL, bytes + spare, PROT_READ | PROT_WRITE,
                                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) return NULL;
    if (!huge) return all;
    unsigned char *body = (unsigned char *)emulate_up((size_t)all + EMULATE_PAGE, EMULATE_HUGE);
    unsigned char *map = body - EMULATE_PAGE, *end = map + bytes;
    if (map > all) munmap(all, (size_t)(map - all));
    if (end < all + bytes + spare) munmap(end, (size_t)(all + bytes + spare - end));
    madvise(body, bytes - 2 * EMULATE_PAGE, MADV_HUGEPAGE);
    return map;
}

/* NULL where the system has none. */
inline void *emulate_alloc(size_t bytes) {
    const size_t body = emulate_up(emulate_up(bytes, EMULATE_ALIGN), EMULATE_PAGE);
    const size_t all = body + 2 * EMULATE_PAGE;
    void *map = emulate_map(all, body % EMULATE_HUGE == 0);
    if (!map) return NULL;
    struct emulate_memory *m = (struct emulate_memory *)malloc(sizeof *m);
    unsigned char *end = (unsigned char *)map + EMULATE_PAGE + body;
    *m = {(unsigned char *)map, end - emulate_up(bytes, EMULATE_ALIGN), all, bytes,
          emulate_memories};
    memset(map, 0xff, all - EMULATE_PAGE);
    mprotect(end, EMULATE_PAGE, PROT_NONE);
    emulate_memories = m;
    if (emulate_closed && !emulate_accesses) mprotect(map, all - EMULATE_PAGE, PROT_NONE);
    return m->data;
}

inline void emulate_check_memory(const char *where) {
    for (struct emulate_memory *m = emulate_memories; m; m = m->next) {
        const unsigned char *end = m->map + m->map_bytes - EMULATE_PAGE;
        const unsigned char *first = m->data - EMULATE_PAGE;
        if (first < m->map) first = m->map;
        for (const unsigned char *p = first; p < m->data; p++)
            if (*p != 0xff) emulate_fault("a write before the first byte of a buffer", where);
        for (const unsigned char *p = m->data + m->bytes; p < end; p++)
            if (*p != 0xff) emulate_fault("a write behind the last byte of a buffer", where);
    }
}

inline void emulate_free(void *p) {
    struct emulate_memory **at = &emulate_memories;
    if (!p) return;
    struct emulate_access access;
    emulate_check_memory("free");
    while (*at && (*at)->data != p) at = &(*at)->next;
    if (!*at) emulate_fault("a buffer is freed that was never allocated", "free");
    struct emulate_memory *m = *at;
    *at = m->next;
    munmap(m->map, m->map_bytes);
    free(m);
}

#endif
