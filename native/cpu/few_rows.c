/* few_rows.c - a product of one to four rows with a stored weight: what decoding does.
 *
 * Such a product is as fast as its weight can be read, so nothing is packed (turn.h). The chains are those
 * of gemm.c (k ascending, one fma a step, or one of pairs of bf16 where the CPU multiplies those), so a
 * row's bits are the same here and there. */
#include <omp.h>

#include "base/memory.h"
#include "cpu/cpu.h"
#include "cpu/turn.h"

#ifdef LC_TURN

enum {
    MOST_ROWS = 4,
    SPAN = 16,            /* columns at a time: with more lines at once memory is slower */
    GROUPS = SPAN / COLS, /* of COLS columns, turned together */
    SHARE = 4,            /* spans that a thread takes at a time */
    LONE_WORK = 1 << 18   /* multiplications that are not worth waking another thread for */
};

/* At every step one of the lines is fetched, as far as the run of steps that comes next: memory is faster
 * in runs than in single cache lines of many pages. Behind its end a line goes on in the next span. */
static inline __attribute__((always_inline)) void
fetch(const unsigned char *const b[SPAN], int64_t at, int64_t bytes, int64_t row_bytes) {
    const int64_t step = at / LINE % SPAN, next = at + (SPAN - step) * LINE;
    const int64_t from = next < bytes ? next : next - bytes + SPAN * row_bytes;
    const char *p = (const char *)b[step] + from;
    for (int i = 0; i < SPAN; i++) _mm_prefetch(p + i * LINE, _MM_HINT_T0);
}

/* sum[r][c] += the products of columns [j, j + count), at most SPAN of them. */
static inline __attribute__((always_inline)) void multiply_span(enum kind kind, int rows,
                                                                const struct lc_gemm *g,
                                                                struct left x, float sum[][SPAN],
                                                                int64_t j, int64_t count) {
    const int64_t size = (int64_t)lc_dtype_bytes(g->b_dtype), bytes = g->k * size;
    const int64_t row_bytes = g->b_row * size;
    const int steps = line_steps(kind);
    const unsigned char *b[SPAN];
    wide acc[GROUPS][MOST_ROWS];
    for (int64_t c = 0; c < SPAN; c++) /* beyond the last column the last again: never used */
        b[c] = (const unsigned char *)g->b + (j + (c < count ? c : count - 1)) * row_bytes;
    for (int i = 0; i < GROUPS; i++)
        for (int r = 0; r < rows; r++) acc[i][r] = OP(loadu_ps)(sum[r] + i * COLS);
    int64_t at = 0;
    for (; at + LINE <= bytes; at += LINE, x.a += steps) {
        fetch(b, at, bytes, row_bytes);
        for (int i = 0; i < GROUPS; i++)
            multiply_line(kind, acc[i], b + i * COLS, at, &x, rows, steps);
    }
    if (at < bytes) {
        const int64_t unit = LINE / steps, left = (bytes - at + unit - 1) / unit;
        for (int i = 0; i < GROUPS; i++)
            multiply_rest(kind, acc[i], b + i * COLS, at, &x, rows, (int)left, bytes - at);
    }
    for (int i = 0; i < GROUPS; i++)
        for (int r = 0; r < rows; r++) OP(storeu_ps)(sum[r] + i * COLS, acc[i][r]);
}

typedef void multiply_function(const struct lc_gemm *g, struct left x, float sum[][SPAN], int64_t j,
                               int64_t count);

#define DEFINE(KIND, ROWS)                                                                         \
    static void KIND##_##ROWS(const struct lc_gemm *g, struct left x, float sum[][SPAN],           \
                              int64_t j, int64_t count) {                                          \
        multiply_span(KIND, ROWS, g, x, sum, j, count);                                            \
    }
#define DEFINE_KIND(kind) DEFINE(kind, 1) DEFINE(kind, 2) DEFINE(kind, 3) DEFINE(kind, 4)
DEFINE_KIND(WITH_F32)
DEFINE_KIND(WITH_F16)
DEFINE_KIND(WITH_BF16)
DEFINE_KIND(WITH_PAIRS)
static multiply_function *const multiply[4][MOST_ROWS] = {
    {WITH_F32_1, WITH_F32_2, WITH_F32_3, WITH_F32_4},
    {WITH_F16_1, WITH_F16_2, WITH_F16_3, WITH_F16_4},
    {WITH_BF16_1, WITH_BF16_2, WITH_BF16_3, WITH_BF16_4},
    {WITH_PAIRS_1, WITH_PAIRS_2, WITH_PAIRS_3, WITH_PAIRS_4}};

static enum kind kind_of(const struct lc_gemm *g) {
    if (cpu_gemm_pairs(g)) return WITH_PAIRS;
    return g->b_dtype == LC_F32 ? WITH_F32 : g->b_dtype == LC_F16 ? WITH_F16 : WITH_BF16;
}

bool cpu_few_rows_serve(const struct lc_gemm *g) {
    return g->m <= MOST_ROWS && g->b_transposed && !g->a_transposed && g->batch == 1 &&
           g->n >= COLS && g->k > 0;
}

/* The rows of A where they are, or as f32 (or pairs) in fresh memory, which is then *made. */
static struct left take_rows(const struct lc_gemm *g, enum kind kind, float **made) {
    if (g->a_dtype == LC_F32) return (struct left){g->a, g->a_row};
    struct left x = {NULL, kind == WITH_PAIRS ? (g->k + 1) / 2 : g->k};
    *made = lc_alloc_zero((size_t)(g->m * x.stride) * sizeof **made);
    for (int64_t r = 0; *made && r < g->m; r++) {
        float *to = *made + r * x.stride;
        if (kind == WITH_PAIRS) memcpy(to, (const uint16_t *)g->a + r * g->a_row, 2 * (size_t)g->k);
        else cpu_load(to, g->a, g->a_dtype, r * g->a_row, g->k);
    }
    x.a = *made;
    return x;
}

int cpu_few_rows(const struct lc_gemm *g) {
    const enum kind kind = kind_of(g);
    float *made = NULL;
    const struct left x = take_rows(g, kind, &made);
    if (!x.a) return -1;
    const bool resume = cpu_gemm_starts_from_c(g);
    multiply_function *const run = multiply[kind][g->m - 1];
    const int64_t spans = (g->n + SPAN - 1) / SPAN;
    const int threads = g->m * g->n * g->k < LONE_WORK ? 1 : omp_get_max_threads();
    /* A thread that lost its core to other work leaves the rest to the others. */
#pragma omp parallel for schedule(dynamic, SHARE) num_threads(threads) if (threads > 1)
    for (int64_t s = 0; s < spans; s++) {
        const int64_t j = s * SPAN, count = g->n - j < SPAN ? g->n - j : SPAN;
        float sum[MOST_ROWS][SPAN] = {{0}};
        for (int64_t r = 0; resume && r < g->m; r++)
            memcpy(sum[r], (const float *)g->c + r * g->c_row + j, (size_t)count * sizeof **sum);
        run(g, x, sum, j, count);
        for (int64_t r = 0; r < g->m; r++)
            for (int64_t c = 0; c < count; c += CPU_GEMM_COLS)
                cpu_gemm_finish_row(g, g->c, !resume && g->beta != 0, sum[r] + c, r, j + c,
                                    count - c < CPU_GEMM_COLS ? count - c : CPU_GEMM_COLS);
    }
    lc_free(made);
    return 0;
}

#else

bool cpu_few_rows_serve(const struct lc_gemm *g) {
    (void)g;
    return false;
}

int cpu_few_rows(const struct lc_gemm *g) {
    (void)g;
    return -1;
}

#endif
