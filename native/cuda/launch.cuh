/* launch.cuh - what the plain kernels share beside common.cuh: numbers of every dtype, packs of any
 * place and length, loops, and launching.
 *
 * A thread takes whole packs, counted from the first element of an array or row, wherever that lies in
 * memory: an aligned pack moves in one access, another one element by element. So which elements a
 * thread adds up, and with that the bits of a row, depend on the row's width alone. */
#ifndef LC_CUDA_LAUNCH_CUH
#define LC_CUDA_LAUNCH_CUH
#include "cuda/common.cuh"
#include "cuda/launchers.h"

/* ---- dtypes ---- */

LC_DEVICE float to_float(int32_t x) { return (float)x; }
LC_DEVICE float to_float(uint8_t x) { return x; }

/* Integers saturate; NaN becomes the lowest. */
LC_DEVICE float clamped(float x, float low, float high) {
    return x >= low ? (x <= high ? x : high) : low;
}
template <> LC_DEVICE int32_t from_float<int32_t>(float x) {
    return (int32_t)clamped(x, -2147483648.0f, 2147483520.0f);
}
template <> LC_DEVICE uint8_t from_float<uint8_t>(float x) { return (uint8_t)clamped(x, 0, 255); }

/* Bytes of an element. */
inline size_t dtype_bytes(int dtype) {
    return dtype == LC_F32 || dtype == LC_I32 ? 4 : dtype == LC_U8 ? 1 : 2;
}

/* Call f with a number of the dtype's type, of floats or of all dtypes. */
template <typename F> int with_float(int dtype, F f) {
    switch (dtype) {
    case LC_F32: return f(float());
    case LC_BF16: return f(lc_bf16());
    default: return f(lc_f16());
    }
}
template <typename F> int with_any(int dtype, F f) {
    switch (dtype) {
    case LC_I32: return f(int32_t());
    case LC_U8: return f(uint8_t());
    default: return with_float(dtype, f);
    }
}
/* Calls f with an unsigned number of the dtype's size: for kernels that only move elements. */
template <typename F> int with_size(int dtype, F f) {
    switch (dtype_bytes(dtype)) {
    case 4: return f(uint32_t());
    case 2: return f(uint16_t());
    default: return f(uint8_t());
    }
}

/* ---- packs ---- */

template <typename T> constexpr int64_t PACK = 16 / (int64_t)sizeof(T);

template <typename T> LC_DEVICE bool whole_pack(const T *p, int64_t n) {
    return n >= PACK<T> && (uintptr_t)p % 16 == 0;
}

/* The first n elements of a pack anywhere; what is behind them is zero and not read. */
template <typename T> LC_DEVICE pack_words get_words(const T *p, int64_t n) {
    if (whole_pack(p, n)) return load_words(p);
    lc_pack<T> pack = {};
    LC_UNROLL
    for (int k = 0; k < PACK<T>; k++)
        if (k < n) pack.x[k] = p[k];
    return words_of(pack);
}
template <typename T> LC_DEVICE lc_pack<T> get_pack(const T *p, int64_t n) {
    return pack_of<T>(get_words(p, n));
}

template <typename T> LC_DEVICE void put_words(T *p, pack_words words, int64_t n) {
    if (whole_pack(p, n)) {
        store_words(p, words);
        return;
    }
    const lc_pack<T> pack = pack_of<T>(words);
    LC_UNROLL
    for (int k = 0; k < PACK<T>; k++)
        if (k < n) p[k] = pack.x[k];
}
template <typename T> LC_DEVICE void put_pack(T *p, const lc_pack<T> &pack, int64_t n) {
    put_words(p, words_of(pack), n);
}

/* The same as numbers. */
template <typename T> LC_DEVICE lc_floats<T> get_floats(const T *p, int64_t n) {
    return floats_of<T>(get_words(p, n));
}
template <typename T> LC_DEVICE void put_floats(T *p, const lc_floats<T> &x, int64_t n) {
    put_words(p, words_of(x), n);
}

/* Packs of [rows, width], where no pack is of two rows, and one of them. */
template <typename T> __host__ LC_DEVICE int64_t row_packs(int64_t rows, int64_t width) {
    return rows * ((width + PACK<T> - 1) / PACK<T>);
}
struct row_pack {
    int64_t row, first;
};
/* i / n for i below most: in 32 bits where they do. */
LC_DEVICE int64_t quotient(int64_t i, int64_t n, int64_t most) {
    return most < INT32_MAX ? (uint32_t)i / (uint32_t)n : i / n;
}
template <typename T> LC_DEVICE row_pack row_pack_of(int64_t i, int64_t rows, int64_t width) {
    const int64_t each = row_packs<T>(1, width), row = quotient(i, each, rows * each);
    return {row, (i - row * each) * PACK<T>};
}

/* ---- loops ---- */

LC_DEVICE int64_t thread_number() { return (int64_t)blockIdx.x * blockDim.x + threadIdx.x; }
LC_DEVICE int64_t thread_count() { return (int64_t)gridDim.x * blockDim.x; }

/* The packs of an array that are this thread's of the grid, or of a row that are its of the block. */
#define EACH_PACK(T, i, count)                                                                     \
    for (int64_t i = thread_number() * PACK<T>; i < (count); i += thread_count() * PACK<T>)
#define EACH_ROW_PACK(T, i, width)                                                                 \
    for (int64_t i = (int64_t)threadIdx.x * PACK<T>; i < (width); i += blockDim.x * PACK<T>)
#define EACH_ROW(r, rows) for (int64_t r = blockIdx.x; r < (rows); r += gridDim.x)

/* ---- launching ---- */

enum { THREADS = 256, ROW_THREADS = 512 /* most of a block that works on one row */ };

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* Threads of a block that works on one row, EACH packs a thread; a function of the width alone. */
template <typename T, int EACH> int row_threads(int64_t width) {
    int64_t warps = ceil_div(width, EACH * PACK<T> * WARP);
    return WARP * (int)(warps < 1 ? 1 : warps > ROW_THREADS / WARP ? ROW_THREADS / WARP : warps);
}

template <typename... P, typename... A>
int launch(const char *op, void (*kernel)(P...), int64_t blocks, int threads, A... arguments) {
    if (blocks < 1) return 0;
    const dim3 grid((unsigned)blocks), block((unsigned)threads);
    LC_LAUNCH(kernel, grid, block, 0, cuda_stream(), arguments...);
    return cuda_launched(op);
}

#ifdef __CUDACC__
constexpr int64_t MOST_BLOCKS = INT32_MAX;
#else
constexpr int64_t MOST_BLOCKS = 3; /* loops over the grid turn */
#endif

/* For kernels that stride over the grid. It is as large as the work all the same: processors that get a block whenever
 * one is done keep memory busier than blocks that go round, by 7 % to 12 % on an H200. */
template <typename... P, typename... A>
int launch_loop(const char *op, void (*kernel)(P...), int64_t blocks, int threads, A... arguments) {
    return launch(op, kernel, blocks < MOST_BLOCKS ? blocks : MOST_BLOCKS, threads, arguments...);
}

/* One thread a pack, or one an element. */
template <typename T, typename... P, typename... A>
int launch_packs(const char *op, void (*kernel)(P...), int64_t count, A... arguments) {
    return launch_loop(op, kernel, ceil_div(count, PACK<T> * THREADS), THREADS, arguments...);
}
template <typename... P, typename... A>
int launch_each(const char *op, void (*kernel)(P...), int64_t count, A... arguments) {
    return launch_loop(op, kernel, ceil_div(count, THREADS), THREADS, arguments...);
}

/* One block a row. */
template <typename T, int EACH = 1, typename... P, typename... A>
int launch_rows(const char *op, void (*kernel)(P...), int64_t rows, int64_t width, A... arguments) {
    return launch_loop(op, kernel, rows, row_threads<T, EACH>(width), arguments...);
}

#endif
