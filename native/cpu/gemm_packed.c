/* gemm_packed.c - products with a packed weight: few rows read it as it is (few_rows.c), more a copy of so many of its
 * columns at a time that a cache still holds it when it is multiplied. Each column of C is a chain of its own, so its
 * bits are those of a product with the whole weight. Each thread expands for itself and waits for none. */
#include "base/error.h"
#include "base/memory.h"
#include "cpu/cpu.h"
#include "cpu/gemm.h"
#include "cpu/packed.h"

enum {
    COPY_BYTES = 12 << 20,
    COPY_COLS = 512, /* at most; the rows are packed again for as many (gemm.c) */
    COL_STEP = 64    /* elements of whole blocks, and columns of whole panels */
};

static int64_t rounded_up(int64_t n) { return (n + COL_STEP - 1) / COL_STEP * COL_STEP; }

/* Columns [j, j + cols) of B, stored as all of it is. */
static void expand_columns(void *to, const struct lc_gemm *g, const struct cpu_packed *p, int64_t j,
                           int64_t cols) {
    const int64_t lines = g->b_transposed ? cols : g->k, length = g->b_transposed ? g->k : cols;
    for (int64_t l = 0; l < lines; l++)
        cpu_expand_run((char *)to + l * length * (int64_t)lc_dtype_bytes(g->b_dtype), g->b_dtype, p,
                       g->b_transposed ? (j + l) * g->k : l * g->n + j, length);
}

/* The same product of some of the columns. */
static struct lc_gemm columns_of(const struct lc_gemm *g, const void *b, int64_t j, int64_t cols) {
    struct lc_gemm part = *g;
    part.n = cols;
    part.b = b;
    part.b_row = g->b_transposed ? g->k : cols;
    part.c = (char *)g->c + j * (int64_t)lc_dtype_bytes(g->c_dtype);
    if (g->bias) part.bias = (const char *)g->bias + j * (int64_t)lc_dtype_bytes(g->bias_dtype);
    return part;
}

static int by_columns(const struct lc_gemm *g, const struct cpu_packed *p) {
    const int64_t size = g->k * (int64_t)lc_dtype_bytes(g->b_dtype);
    const int threads = cpu_gemm_threads((double)g->m * (double)g->n * (double)g->k);
    const int64_t fit = rounded_up(COPY_BYTES / (size + 1) - COL_STEP + 1);
    const int64_t share = rounded_up((g->n + threads - 1) / threads);
    const int64_t most = cpu_at_most(share, cpu_at_most(fit > 0 ? fit : COL_STEP, COPY_COLS));
    const int64_t cols = cpu_at_most(most, g->n), copy = cols * size;
    char *copies = lc_alloc((size_t)(threads * copy));
    if (!copies) return -1;
    int failed = 0;
#pragma omp parallel for schedule(dynamic) num_threads(threads) reduction(+ : failed) if (threads > 1)
    for (int64_t j = 0; j < g->n; j += cols) {
        void *own = copies + omp_get_thread_num() * copy;
        const struct lc_gemm part = columns_of(g, own, j, cpu_at_most(g->n - j, cols));
        expand_columns(own, g, p, j, part.n);
        failed += cpu_gemm(&part) < 0;
    }
    lc_free(copies);
    return failed ? lc_fail(LC_ENOMEM, "out of memory: a product with a packed weight") : 0;
}

int cpu_gemm_packed(const struct lc_gemm *packed) {
    if (!packed->m || !packed->n) return 0;
    const enum lc_quant quant = lc_quant_of(packed->b_dtype);
    const struct cpu_packed p = cpu_packed_at(packed->b, quant, packed->n * packed->k);
    struct lc_gemm g = *packed; /* as if B were expanded */
    g.b_dtype = g.a_dtype;
    return cpu_few_rows_serve_packed(&g, quant) ? cpu_few_rows_packed(&g, &p) : by_columns(&g, &p);
}
