/* tile.h - the register tile of a product: TILE_ROWS x TILE_COLS sums that stay in registers. */
#ifndef LC_CPU_TILE_H
#define LC_CPU_TILE_H
#include "cpu/gemm.h"

#if !defined(LC_GEMM_LOOP) && defined(__AVX512F__)
enum { TILE_ROWS = 12 };
#elif !defined(LC_GEMM_LOOP) && defined(__AVX2__) && defined(__FMA__)
enum { TILE_ROWS = 6 };
#else
enum { TILE_ROWS = 4 };
#endif
enum { TILE_COLS = CPU_GEMM_COLS };

/* out = from + a b: every sum is one chain of fma, k ascending. Of pairs of bf16, each in the place of a float,
 * a chain starts from 0 and is added to what `from` has. */
struct tile {
    const float *a, *b;
    int64_t a_row, a_k; /* element (i, k) of A is a[i * a_row + k * a_k] */
    int64_t b_k;        /* element (k, j) of B is b[k * b_k + j] */
    int64_t depth;      /* steps of k */
    const float *from;  /* element (i, j) is from[i * from_row + j]; NULL: zeros */
    int64_t from_row;
    float *out; /* likewise; it may be `from` */
    int64_t out_row;
    const float *ahead; /* as many floats are fetched meanwhile as there are steps; NULL: none */
};

/* The rows of the tallest tile that so many fill. */
static inline int cpu_tile_rows(int64_t rows) {
    return rows >= TILE_ROWS ? TILE_ROWS : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
}

/* rows is a cpu_tile_rows(), cols at most TILE_COLS: all of a half or of both are computed. */
void cpu_tile(const struct tile *t, bool pairs, int rows, int64_t cols);

#endif
