/* common.cuh - what the kernels share: numbers and their conversion, 16-byte packs, sums over warps
 * and blocks, and one small function for each tensor-core and asynchronous instruction.
 *
 * Compiled by nvcc it is CUDA; compiled by g++ the same names are those of emulate.h, so that every
 * kernel runs in tests without a GPU. For that, a kernel
 *   - is launched by LC_LAUNCH(kernel, grid, block, shared bytes, stream, arguments...); a template
 *     with a comma in it stands in parentheses: LC_LAUNCH((attention<lc_bf16, 128>), ...);
 *   - names its shared memory by LC_SHARED(float, sums, [4][32]) or LC_SHARED_DYNAMIC(memory);
 *   - has blocks of whole warps, and uses warp functions with all 32 lanes;
 *   - unrolls a loop by LC_UNROLL or LC_UNROLL_BY(n) before it;
 *   - uses the functions below and not inline assembly or the intrinsics of cuda_bf16.h. */
#ifndef LC_CUDA_COMMON_CUH
#define LC_CUDA_COMMON_CUH
#include <float.h>
#include <math.h>
#include <stdint.h>

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define LC_LAUNCH(kernel, grid, block, shared, stream, ...)                                        \
    kernel<<<grid, block, shared, stream>>>(__VA_ARGS__)
#define LC_SHARED(type, name, size) __shared__ __align__(16) type name size
#define LC_SHARED_DYNAMIC(name)                                                                    \
    extern __shared__ __align__(1024) unsigned char lc_dynamic_shared[];                           \
    unsigned char *const name = lc_dynamic_shared
#define LC_UNROLL _Pragma("unroll")
#define LC_PRAGMA(text) _Pragma(#text)
#define LC_UNROLL_BY(n) LC_PRAGMA(unroll n)
#define LC_ASM(...) asm volatile(__VA_ARGS__)
#else
#include "cuda/emulate.h"
#define LC_LAUNCH(kernel, grid, block, shared, stream, ...)                                        \
    ((void)(stream), emulate_call_of(kernel).launch(#kernel, grid, block, shared, __VA_ARGS__))
#define LC_SHARED(type, name, size)                                                                \
    typedef type name##_type size;                                                                 \
    static const char name##_site = 0;                                                             \
    name##_type &name = *(name##_type *)emulate_shared(&name##_site, sizeof(name##_type))
#define LC_SHARED_DYNAMIC(name) unsigned char *const name = emulate_now.dynamic
#define LC_UNROLL
#define LC_UNROLL_BY(n)
#endif

#define LC_DEVICE __device__ __forceinline__

enum { WARP = 32 };
#define ALL_LANES 0xffffffffu

/* ---- numbers --------------------------------------------------------------------------------- */

/* Storage types; arithmetic is in f32. */
struct lc_bf16 {
    uint16_t bits;
};
struct lc_f16 {
    uint16_t bits;
};

LC_DEVICE float to_float(float x) { return x; }
LC_DEVICE float to_float(lc_bf16 x) { return __uint_as_float((uint32_t)x.bits << 16); }
LC_DEVICE float to_float(lc_f16 x) {
#ifdef __CUDACC__
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
    return y;
#else
    return (float)emulate_bits<_Float16>(x.bits);
#endif
}

/* Rounds to the nearest, ties to even; NaN stays NaN. */
template <typename T> LC_DEVICE T from_float(float x);
template <> LC_DEVICE float from_float<float>(float x) { return x; }
template <> LC_DEVICE lc_bf16 from_float<lc_bf16>(float x) {
#ifdef __CUDACC__
    lc_bf16 y;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
#else
    uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return {(uint16_t)0x7fff};
    return {(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
#endif
}
template <> LC_DEVICE lc_f16 from_float<lc_f16>(float x) {
#ifdef __CUDACC__
    lc_f16 y;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
    return y;
#else
    return {emulate_bits<uint16_t>((_Float16)x)};
#endif
}

/* Two numbers in one register, low first. */
template <typename T> LC_DEVICE uint32_t pack_two(float low, float high);
template <> LC_DEVICE uint32_t pack_two<lc_bf16>(float low, float high) {
#ifdef __CUDACC__
    uint32_t y;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
#else
    return from_float<lc_bf16>(low).bits | (uint32_t)from_float<lc_bf16>(high).bits << 16;
#endif
}
template <> LC_DEVICE uint32_t pack_two<lc_f16>(float low, float high) {
#ifdef __CUDACC__
    uint32_t y;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(y) : "f"(high), "f"(low));
    return y;
#else
    return from_float<lc_f16>(low).bits | (uint32_t)from_float<lc_f16>(high).bits << 16;
#endif
}
template <typename T> LC_DEVICE float2 unpack_two(uint32_t x) {
    T low = {(uint16_t)x}, high = {(uint16_t)(x >> 16)};
    return make_float2(to_float(low), to_float(high));
}
template <> LC_DEVICE float2 unpack_two<lc_bf16>(uint32_t x) {
    return make_float2(__uint_as_float(x << 16), __uint_as_float(x & 0xffff0000u));
}

/* 2^x and log2(x), of hardware's accuracy (2 units in the last place); 2^-inf = 0. */
LC_DEVICE float fast_exp2(float x) {
#ifdef __CUDACC__
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return exp2f(x);
#endif
}

/* 1 / x for x of 1 and more, of hardware's accuracy (1 unit in the last place); 0 from 2^126 on. */
LC_DEVICE float fast_inverse(float x) {
#ifdef __CUDACC__
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
#else
    return 1.0f / x;
#endif
}

/* ---- packs: 16 bytes of one array, at an address that is a multiple of 16 -------------------- */

template <typename T> struct __align__(16) lc_pack {
    enum { N = 16 / sizeof(T) };
    T x[N];
};

/* A pack as words: it stays in four registers, where compilers give one to each element of a pack that
 * is kept, and of 16-bit numbers it is what mma() takes, two in a register. */
union pack_words {
    uint4 all;
    uint32_t word[4];
};
template <typename T> LC_DEVICE pack_words words_of(const lc_pack<T> &x) {
    union {
        lc_pack<T> pack;
        uint4 all;
    } y = {x};
    return {y.all};
}
template <typename T> LC_DEVICE lc_pack<T> pack_of(pack_words words) {
    union {
        uint4 all;
        lc_pack<T> pack;
    } y = {words.all};
    return y.pack;
}

template <typename T> LC_DEVICE pack_words load_words(const T *p) {
#ifdef __CUDACC__
    return {*reinterpret_cast<const uint4 *>(p)};
#else
    if ((uintptr_t)p % 16) emulate_fault_here("load_pack: an address is no multiple of 16");
    return words_of(*(const lc_pack<T> *)p);
#endif
}
/* The same of what is read once: it does not drive out what is read again. */
template <typename T> LC_DEVICE pack_words load_words_once(const T *p) {
#ifdef __CUDACC__
    return {__ldcs(reinterpret_cast<const uint4 *>(p))};
#else
    return load_words(p);
#endif
}
template <typename T> LC_DEVICE lc_pack<T> load_pack(const T *p) {
    return pack_of<T>(load_words(p));
}

template <typename T> LC_DEVICE void store_words(T *p, pack_words words) {
#ifdef __CUDACC__
    *reinterpret_cast<uint4 *>(p) = words.all;
#else
    if ((uintptr_t)p % 16) emulate_fault_here("store_pack: an address is no multiple of 16");
    *(lc_pack<T> *)p = pack_of<T>(words);
#endif
}
template <typename T> LC_DEVICE void store_pack(T *p, const lc_pack<T> &x) {
    store_words(p, words_of(x));
}

/* The numbers of a pack of T, from its words and back. */
template <typename T> struct lc_floats {
    enum { N = 16 / sizeof(T) };
    float x[N];
};

template <typename T> LC_DEVICE lc_floats<T> floats_of(pack_words words) {
    lc_floats<T> y;
    LC_UNROLL
    for (int i = 0; i < 4; i++) {
        const float2 two = unpack_two<T>(words.word[i]);
        y.x[2 * i] = two.x;
        y.x[2 * i + 1] = two.y;
    }
    return y;
}
template <> LC_DEVICE lc_floats<float> floats_of<float>(pack_words words) {
    lc_floats<float> y;
    LC_UNROLL
    for (int i = 0; i < 4; i++) y.x[i] = __uint_as_float(words.word[i]);
    return y;
}

template <typename T> LC_DEVICE pack_words words_of(const lc_floats<T> &y) {
    pack_words words;
    LC_UNROLL
    for (int i = 0; i < 4; i++) words.word[i] = pack_two<T>(y.x[2 * i], y.x[2 * i + 1]);
    return words;
}
LC_DEVICE pack_words words_of(const lc_floats<float> &y) {
    pack_words words;
    LC_UNROLL
    for (int i = 0; i < 4; i++) words.word[i] = __float_as_uint(y.x[i]);
    return words;
}

/* ---- sums over warps and blocks, in a fixed order; every lane gets the result ---------------- */

LC_DEVICE int lane_id() { return (int)(threadIdx.x % WARP); }
LC_DEVICE int warp_id() { return (int)(threadIdx.x / WARP); }

template <typename T> LC_DEVICE T warp_sum(T x) {
    LC_UNROLL
    for (int bits = WARP / 2; bits; bits /= 2) x += __shfl_xor_sync(ALL_LANES, x, bits);
    return x;
}

LC_DEVICE float warp_max(float x) {
    LC_UNROLL
    for (int bits = WARP / 2; bits; bits /= 2) x = fmaxf(x, __shfl_xor_sync(ALL_LANES, x, bits));
    return x;
}

/* For all threads of a block of one dimension; a barrier before it protects the last call's memory. */
template <typename T> LC_DEVICE T block_sum(T x) {
    LC_SHARED(T, sums, [WARP]);
    const int warps = (int)blockDim.x / WARP;
    x = warp_sum(x);
    __syncthreads();
    if (lane_id() == 0) sums[warp_id()] = x;
    __syncthreads();
    return warp_sum(lane_id() < warps ? sums[lane_id()] : T(0));
}

LC_DEVICE float block_max(float x) {
    LC_SHARED(float, tops, [WARP]);
    const int warps = (int)blockDim.x / WARP;
    x = warp_max(x);
    __syncthreads();
    if (lane_id() == 0) tops[warp_id()] = x;
    __syncthreads();
    return warp_max(lane_id() < warps ? tops[lane_id()] : -INFINITY);
}

/* ---- tensor cores (sm_80 and newer) ---------------------------------------------------------- *
 *
 * Fragments of m16n8k16, with g = lane / 4 and t = 2 (lane % 4):
 *   a[0..3]  rows g, g + 8, g, g + 8 and columns t, t + 1 (+ 8 in a[2], a[3])
 *   b0, b1   rows t, t + 1 (+ 8 in b1) and column g
 *   c[0..3]  row g, columns t, t + 1; row g + 8, the same
 * So c of one product, packed by two, is a of the next. */

/* c += a b, sums in f32 */
template <typename T>
LC_DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

#ifdef __CUDACC__
#define LC_MMA(type)                                                                               \
    asm("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 {%0, %1, %2, %3}, "           \
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                                            \
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                           \
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1))
template <>
LC_DEVICE void mma<lc_bf16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    LC_MMA("bf16");
}
template <>
LC_DEVICE void mma<lc_f16>(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    LC_MMA("f16");
}
#undef LC_MMA
#else
template <typename T>
LC_DEVICE void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    const uint32_t b[2] = {b0, b1};
    float left[8], right[4];
    for (int i = 0; i < 8; i++) left[i] = to_float(T{(uint16_t)(a[i / 2] >> 16 * (i % 2))});
    for (int i = 0; i < 4; i++) right[i] = to_float(T{(uint16_t)(b[i / 2] >> 16 * (i % 2))});
    emulate_mma(c, left, right);
}
#endif

/* Four 8 x 8 matrices of 16-bit numbers out of shared memory; lane 8 m + i gives the address of row
 * i of matrix m. r[m]: row lane / 4, columns t and t + 1; trans: rows t and t + 1, column lane / 4. */
LC_DEVICE void ldmatrix(uint32_t (&r)[4], const void *row) {
#ifdef __CUDACC__
    LC_ASM("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
           : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
           : "r"((uint32_t)__cvta_generic_to_shared(row))
           : "memory");
#else
    emulate_ldmatrix(r, row, false);
#endif
}

LC_DEVICE void ldmatrix_trans(uint32_t (&r)[4], const void *row) {
#ifdef __CUDACC__
    LC_ASM("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
           : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
           : "r"((uint32_t)__cvta_generic_to_shared(row))
           : "memory");
#else
    emulate_ldmatrix(r, row, true);
#endif
}

/* ---- asynchronous copies, global to shared memory -------------------------------------------- */

/* 16 bytes, or with there = false 16 zero bytes; then from is not read. */
LC_DEVICE void cp_async(void *to, const void *from, bool there = true) {
#ifdef __CUDACC__
    LC_ASM("{\n.reg .pred none;\nsetp.eq.s32 none, %2, 0;\n"
           "cp.async.cg.shared.global [%0], [%1], 16, none;\n}" ::"r"(
               (uint32_t)__cvta_generic_to_shared(to)),
           "l"(from), "r"((int)there)
           : "memory");
#else
    emulate_cp_async(to, from, 16, there);
#endif
}

/* One number of 4 bytes, or 0. */
LC_DEVICE void cp_async_number(float *to, const float *from, bool there) {
#ifdef __CUDACC__
    LC_ASM("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(
               (uint32_t)__cvta_generic_to_shared(to)),
           "l"(from), "r"(there ? 4 : 0)
           : "memory");
#else
    emulate_cp_async(to, from, 4, there);
#endif
}

/* Ends a group of this thread's copies. */
LC_DEVICE void cp_async_commit() {
#ifdef __CUDACC__
    LC_ASM("cp.async.commit_group;" ::: "memory");
#else
    emulate_cp_async_commit();
#endif
}

/* This thread's copies have arrived but for those of its newest n groups; others see them after a
 * barrier. */
template <int n> LC_DEVICE void cp_async_wait() {
#ifdef __CUDACC__
    LC_ASM("cp.async.wait_group %0;" ::"n"(n) : "memory");
#else
    emulate_cp_async_wait(n);
#endif
}

/* ---- what device.cu gives to launchers (host) ------------------------------------------------ */

extern "C" {
cudaStream_t cuda_stream(void); /* the one that everything runs on */
/* 0, or -1 after lc_fail() with the op and the error's name */
int cuda_check(cudaError_t error, const char *op);
void *cuda_alloc(
    size_t bytes); /* NULL after lc_fail(); free again at once for what the stream does next */
void cuda_free(void *p, size_t bytes);
int cuda_upload(void *dst, const void *src, size_t bytes); /* src may be freed on return */
int cuda_wait_for(cudaEvent_t event);                      /* the host does, and it is counted */
}
#define LC_CUDA(call) cuda_check((call), __func__)

#endif
