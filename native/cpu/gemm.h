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

/* n elements of p from index first, at most LANES, as floats; what is beyond them is 0. */
static inline lanes cpu_gemm_lanes(const void *p, int dtype, int64_t first, int64_t n) {
    if (n == LANES && dtype == LC_F32) return lanes_at((const float *)p + first);
    if (n == LANES && dtype == LC_BF16) return lanes_at_bf16((const uint16_t *)p + first);
    float x[LANES] = {0}, buffer[LANES];
    memcpy(x, cpu_load(buffer, p, dtype, first, n), (size_t)n * sizeof *x);
    return lanes_at(x);
}

/* And the other way. */
static inline void cpu_gemm_put(void *p, int dtype, int64_t first, lanes x, int64_t n) {
    float buffer[LANES];
    if (n == LANES && dtype == LC_F32) {
        lanes_put((float *)p + first, x);
    } else if (n == LANES && dtype == LC_BF16) {
        lanes_put_bf16((uint16_t *)p + first, x);
    } else {
        lanes_put(buffer, x);
        if (dtype == LC_F32) memcpy((float *)p + first, buffer, (size_t)n * sizeof *buffer);
        else cpu_store(p, dtype, first, buffer, n);
    }
}

/* C[i, j..] = alpha * sum + beta * C[i, j..] + bias[j..] for so many columns; sum is readable as whole lanes, blend says
 * whether there is a beta to heed, c is this product's C. */
static inline void cpu_gemm_finish_row(const struct lc_gemm *g, void *c, bool blend,
                                       const float *sum, int64_t i, int64_t j, int64_t cols) {
    for (int64_t l = 0; l < cols; l += LANES) {
        const int64_t at = i * g->c_row + j + l, n = cpu_at_most(cols - l, LANES);
        lanes x = g->alpha * lanes_at(sum + l);
        if (blend) x = lanes_fma(lanes_all(g->beta), cpu_gemm_lanes(c, g->c_dtype, at, n), x);
        if (g->bias) x += cpu_gemm_lanes(g->bias, g->bias_dtype, j + l, n);
        cpu_gemm_put(c, g->c_dtype, at, x, n);
    }
}

/* ---- few_rows.c ---- */
/* Whether cpu_few_rows takes this product: few rows, a weight stored [n, k], one matrix. */
bool cpu_few_rows_serve(const struct lc_gemm *g);
int cpu_few_rows(const struct lc_gemm *g);

#endif
