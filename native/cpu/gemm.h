/* gemm.h - what the ways of multiplying matrices share. */
#ifndef LC_CPU_GEMM_H
#define LC_CPU_GEMM_H
#include "base/parallel.h"
#include "cpu/cpu.h"
#include "cpu/lanes.h"

#if !defined(LC_GEMM_LOOP) && !(defined(__AVX2__) && defined(__FMA__)) && !defined(__AVX512F__)
#define LC_GEMM_LOOP
#endif
#if defined(__AVX512BF16__) && defined(__AVX512BW__) && defined(__AVX512VL__) &&                   \
    !defined(LC_GEMM_LOOP)
#define LC_GEMM_PAIRS 1 /* the CPU multiplies pairs of bf16 */
#endif

enum {
    CPU_GEMM_COLS = 2 * LANES, /* columns of a register tile */
    CPU_GEMM_LINES = 128       /* cache lines of a block of K where pairs are multiplied */
};

/* Whether the product is of pairs of bf16. */
static inline bool cpu_gemm_pairs(const struct lc_gemm *g) {
#ifdef LC_GEMM_PAIRS
    return g->a_dtype == LC_BF16 && g->b_dtype == LC_BF16;
#else
    (void)g;
    return false;
#endif
}

/* Whether the chains go on from what is in C: an addition without a pass over C. */
static inline bool cpu_gemm_starts_from_c(const struct lc_gemm *g) {
    return g->c_dtype == LC_F32 && g->alpha == 1 && g->beta == 1;
}

/* Threads for so many multiplications: few are not worth waking another one for, and a part that a thread has of a
 * product is its own. */
static inline int cpu_gemm_threads(double work) {
    return work < 1 << 18 || omp_in_parallel() ? 1 : omp_get_max_threads();
}

static inline int64_t cpu_at_most(int64_t a, int64_t b) { return a < b ? a : b; }

/* n elements of p from index first as floats: cpu_load with the usual case in line. */
static inline const float *cpu_gemm_floats(float *buffer, const void *p, int dtype, int64_t first,
                                           int64_t n) {
    return dtype == LC_F32 ? (const float *)p + first : cpu_load(buffer, p, dtype, first, n);
}

/* C[i, j..] = alpha * sum + beta * C[i, j..] + bias[j..] for at most CPU_GEMM_COLS columns; blend says
 * whether there is a beta to heed, c is this product's C. */
static inline __attribute__((always_inline)) void cpu_gemm_finish_row(const struct lc_gemm *g,
                                                                      void *c, bool blend,
                                                                      const float *sum, int64_t i,
                                                                      int64_t j, int64_t cols) {
    const int64_t at = i * g->c_row + j;
    float value[CPU_GEMM_COLS], buffer[CPU_GEMM_COLS];
    for (int64_t n = 0; n < cols; n++) value[n] = g->alpha * sum[n];
    if (blend) {
        const float *old = cpu_gemm_floats(buffer, c, g->c_dtype, at, cols);
        for (int64_t n = 0; n < cols; n++) value[n] = __builtin_fmaf(g->beta, old[n], value[n]);
    }
    if (g->bias) {
        const float *bias = cpu_gemm_floats(buffer, g->bias, g->bias_dtype, j, cols);
        for (int64_t n = 0; n < cols; n++) value[n] += bias[n];
    }
    if (g->c_dtype == LC_F32) memcpy((float *)c + at, value, (size_t)cols * sizeof *value);
    else if (g->c_dtype == LC_BF16)
        for (int64_t n = 0; n < cols; n++) ((uint16_t *)c)[at + n] = cpu_to_bf16(value[n]);
    else cpu_store(c, g->c_dtype, at, value, cols);
}

/* ---- few_rows.c ---- */
/* Whether cpu_few_rows takes this product: few rows, a weight stored [n, k], one matrix. */
bool cpu_few_rows_serve(const struct lc_gemm *g);
int cpu_few_rows(const struct lc_gemm *g);

#endif
