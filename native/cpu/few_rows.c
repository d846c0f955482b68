/* few_rows.c - a product of few rows with a stored weight: what decoding does.
 *
 * Such a product is as fast as its weight can be read, so nothing of it is copied: several lines are turned in
 * registers (turn.h), or, where the CPU multiplies pairs of bf16, multiplied as they lie (few_pairs.h). The
 * chains are those of gemm.c, so a row's bits are the same here and there.
 *
 * A packed weight (packed.h) is expanded in registers where pairs are multiplied and no block has parts of two lines
 * (few_pairs.h), each line once for all rows; else a span of lines is expanded at a time, into memory that a cache
 * holds. */
#include <stdatomic.h>

#include "base/memory.h"
#include "cpu/cpu.h"
#include "cpu/few_pairs.h"

#ifdef LC_TURN

enum {
    MOST_ROWS = 4,     /* where lines are turned */
    MOST_GROUPED = 32, /* rows where pairs are multiplied, in groups: more are faster by copies */
    GROUPS = SPAN / COLS, /* of COLS columns, turned together */
    MOST_THREADS = 64
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
        const int left = (int)((bytes - at) / size);
        for (int i = 0; i < GROUPS; i++)
            multiply_rest(kind, acc[i], b + i * COLS, at, &x, rows, left, bytes - at);
    }
    for (int i = 0; i < GROUPS; i++)
        for (int r = 0; r < rows; r++) OP(storeu_ps)(sum[r] + i * COLS, acc[i][r]);
}

/* p: what the weight is packed as, or NULL. */
typedef void multiply_function(const struct lc_gemm *g, const struct cpu_packed *p, struct left x,
                               float sum[][SPAN], int64_t j, int64_t count);

#define DEFINE(KIND, ROWS)                                                                         \
    static void KIND##_##ROWS(const struct lc_gemm *g, const struct cpu_packed *p, struct left x,  \
                              float sum[][SPAN], int64_t j, int64_t count) {                       \
        (void)p;                                                                                   \
        multiply_span(KIND, ROWS, g, x, sum, j, count);                                            \
    }
#define DEFINE_KIND(kind) DEFINE(kind, 1) DEFINE(kind, 2) DEFINE(kind, 3) DEFINE(kind, 4)
DEFINE_KIND(WITH_F32)
DEFINE_KIND(WITH_F16)
DEFINE_KIND(WITH_BF16)
static multiply_function *const multiply[3][MOST_ROWS] = {
    [WITH_F32] = {WITH_F32_1, WITH_F32_2, WITH_F32_3, WITH_F32_4},
    [WITH_F16] = {WITH_F16_1, WITH_F16_2, WITH_F16_3, WITH_F16_4},
    [WITH_BF16] = {WITH_BF16_1, WITH_BF16_2, WITH_BF16_3, WITH_BF16_4}};

#ifdef LC_GEMM_PAIRS
#define DEFINE_PAIRS(HOW, ROWS)                                                                    \
    static void HOW##_##ROWS(const struct lc_gemm *g, const struct cpu_packed *p, struct left x,   \
                             float sum[][SPAN], int64_t j, int64_t count) {                        \
        if (ROWS <= 2 && ROWS * g->k <= MOST_BY_LINE)                                              \
            multiply_by_line(HOW, ROWS, g, p, x.a, sum, j, count);                                 \
        else multiply_by_part(HOW, ROWS, g, p, x.a, sum, j, count);                                \
    }
#define DEFINE_STORED(HOW)                                                                         \
    DEFINE_PAIRS(HOW, 1)                                                                           \
    DEFINE_PAIRS(HOW, 2)                                                                           \
    DEFINE_PAIRS(HOW, 3)                                                                           \
    DEFINE_PAIRS(HOW, 4)                                                                           \
    DEFINE_PAIRS(HOW, 5)                                                                           \
    DEFINE_PAIRS(HOW, 6)                                                                           \
    DEFINE_PAIRS(HOW, 7)                                                                           \
    DEFINE_PAIRS(HOW, 8)
#define ALL_OF(HOW)                                                                                \
    { HOW##_1, HOW##_2, HOW##_3, HOW##_4, HOW##_5, HOW##_6, HOW##_7, HOW##_8 }
DEFINE_STORED(PLAIN)
DEFINE_STORED(EIGHT_BITS)
DEFINE_STORED(FOUR_BITS)
static multiply_function *const multiply_with_pairs[][MOST_PAIRS] = {
    [PLAIN] = ALL_OF(PLAIN), [EIGHT_BITS] = ALL_OF(EIGHT_BITS), [FOUR_BITS] = ALL_OF(FOUR_BITS)};
#endif

/* p: the packed weight that is read as it is, or NULL. */
static multiply_function *function_for(const struct lc_gemm *g, const struct cpu_packed *p,
                                       int64_t rows) {
    (void)p;
#ifdef LC_GEMM_PAIRS
    if (cpu_gemm_pairs(g))
        return multiply_with_pairs[!p                    ? PLAIN
                                   : p->quant == LC_Q8_0 ? EIGHT_BITS
                                                         : FOUR_BITS][rows - 1];
#endif
    return multiply[g->b_dtype == LC_F32   ? WITH_F32
                    : g->b_dtype == LC_F16 ? WITH_F16
                                           : WITH_BF16][rows - 1];
}

static bool serves(const struct lc_gemm *g, int64_t most) {
    return g->m <= most && g->b_transposed && !g->a_transposed && g->batch == 1 && g->n >= COLS &&
           g->k > 0;
}

bool cpu_few_rows_serve(const struct lc_gemm *g) {
    return serves(g, cpu_gemm_pairs(g) ? MOST_GROUPED : MOST_ROWS);
}

/* Whether blocks can be expanded in registers: all of a line's are its own. */
static bool in_registers(const struct lc_gemm *g, enum lc_quant quant) {
    return cpu_gemm_pairs(g) && g->k % lc_packed_each(quant) == 0;
}

bool cpu_few_rows_serve_packed(const struct lc_gemm *g, enum lc_quant quant) {
    return serves(g, in_registers(g, quant) ? MOST_GROUPED
                     : cpu_gemm_pairs(g)    ? MOST_PAIRS
                                            : MOST_ROWS);
}

/* Rows of a group that is multiplied at once: all are equal, but for the last one's that are left. */
static int64_t rows_of_group(const struct lc_gemm *g) {
    const int64_t groups = (g->m + MOST_PAIRS - 1) / MOST_PAIRS;
    return (g->m + groups - 1) / groups;
}

/* Row r of A to its place in its group. */
static void interleave_row(float *x, const struct lc_gemm *g, int64_t stride, int64_t r) {
    const int64_t most = rows_of_group(g), first = r / most * most,
                  rows = cpu_at_most(most, g->m - first);
    const uint16_t *from = (const uint16_t *)g->a + r * g->a_row;
    float *to = x + first * stride + (r - first) * COLS;
    for (int64_t k = 0; k < g->k; k += 2 * COLS, to += rows * COLS)
        memcpy(to, from + k, 2 * (size_t)cpu_at_most(2 * COLS, g->k - k));
}

/* The rows of A where they are, or as f32, or as pairs in whole cache lines, which groups of rows have interleaved; in
 * fresh memory, which is then *made. */
static struct left take_rows(const struct lc_gemm *g, float **made) {
    const bool pairs = cpu_gemm_pairs(g);
    if (g->a_dtype == LC_F32) return (struct left){g->a, g->a_row};
    struct left x = {NULL, pairs ? (g->k + 2 * COLS - 1) / (2 * COLS) * COLS : g->k};
    *made = lc_alloc_zero((size_t)(g->m * x.stride) * sizeof **made);
    for (int64_t r = 0; *made && r < g->m; r++) {
        if (pairs) interleave_row(*made, g, x.stride, r);
        else cpu_load(*made + r * x.stride, g->a, g->a_dtype, r * g->a_row, g->k);
    }
    x.a = *made;
    return x;
}

/* The spans that a thread has left, from the first to before the end: 32 bits each. */
struct share {
    _Alignas(LINE) _Atomic uint64_t left;
};

/* The first span that is left of a share, or the last; -1: none is. */
static int64_t take_span(struct share *s, bool last) {
    uint64_t old = atomic_load(&s->left), next;
    do {
        if (old >> 32 >= (uint32_t)old) return -1;
        next = last ? old - 1 : old + (UINT64_C(1) << 32);
    } while (!atomic_compare_exchange_weak(&s->left, &old, next));
    return last ? (int64_t)(uint32_t)old - 1 : (int64_t)(old >> 32);
}

/* What is multiplied. A packed weight that no kernel reads as it is is expanded span by span, each thread's into its
 * part of `lines`. */
struct work {
    const struct lc_gemm *g; /* of a packed weight: as if it were expanded */
    struct left x;
    const struct cpu_packed *packed; /* or NULL */
    unsigned char *lines;            /* or NULL */
};

static int64_t bytes_of_lines(const struct lc_gemm *g) {
    return (SPAN * g->k * (int64_t)lc_dtype_bytes(g->b_dtype) + LINE - 1) / LINE * LINE;
}

/* Columns [j, j + count) by the lines that are expanded for them. */
static void multiply_expanded(const struct work *w, float sum[][SPAN], int64_t j, int64_t count) {
    struct lc_gemm g = *w->g;
    unsigned char *lines = w->lines + omp_get_thread_num() * bytes_of_lines(&g);
    cpu_expand_run(lines, g.b_dtype, w->packed, j * g.k, count * g.k);
    g.b = lines;
    function_for(&g, NULL, g.m)(&g, NULL, w->x, sum, 0, count);
}

/* Columns [j, j + count) of rows [first, first + rows) of C */
static void multiply_group(const struct work *w, int64_t first, int64_t rows, int64_t j,
                           int64_t count) {
    const struct lc_gemm *g = w->g;
    const bool resume = cpu_gemm_starts_from_c(g);
    const struct left x = {w->x.a + first * w->x.stride, w->x.stride};
    float sum[MOST_PAIRS][SPAN] = {{0}};
    for (int64_t r = 0; resume && r < rows; r++)
        memcpy(sum[r], (const float *)g->c + (first + r) * g->c_row + j,
               (size_t)count * sizeof **sum);
    if (w->lines) multiply_expanded(w, sum, j, count);
    else function_for(g, w->packed, rows)(g, w->packed, x, sum, j, count);
    for (int64_t r = 0; r < rows; r++)
        cpu_gemm_finish_row(g, g->c, !resume && g->beta != 0, sum[r], first + r, j, count);
}

/* Columns [s * SPAN, ...) of C, whose lines stay in the second-level cache for further groups of rows. */
static void multiply_columns(const struct work *w, int64_t s) {
    const int64_t j = s * SPAN, count = w->g->n - j < SPAN ? w->g->n - j : SPAN;
    const int64_t rows = rows_of_group(w->g);
    for (int64_t r = 0; r < w->g->m; r += rows)
        multiply_group(w, r, cpu_at_most(rows, w->g->m - r), j, count);
}

static int threads_for(const struct lc_gemm *g) {
    const int threads = cpu_gemm_threads((double)g->m * (double)g->n * (double)g->k);
    return threads < MOST_THREADS ? threads : MOST_THREADS;
}

static void multiply_all(const struct work *w, int threads) {
    const int64_t spans = (w->g->n + SPAN - 1) / SPAN;
    struct share shares[MOST_THREADS];
    for (int64_t t = 0; t < threads; t++)
        atomic_init(&shares[t].left,
                    (uint64_t)(t * spans / threads) << 32 | (uint64_t)((t + 1) * spans / threads));
        /* What a thread reads lies in one piece. Who is done takes from the end of another's share: a thread
     * that lost its core to other work does not keep the rest waiting. */
#pragma omp parallel num_threads(threads) if (threads > 1)
    for (int t = 0, self = omp_get_thread_num(); t < threads; t++)
        for (int64_t s; (s = take_span(&shares[(self + t) % threads], t > 0)) >= 0;)
            multiply_columns(w, s);
}

int cpu_few_rows(const struct lc_gemm *g) {
    float *made = NULL;
    const struct work w = {g, take_rows(g, &made), NULL, NULL};
    if (!w.x.a) return -1;
    multiply_all(&w, threads_for(g));
    lc_free(made);
    return 0;
}

int cpu_few_rows_packed(const struct lc_gemm *g, const struct cpu_packed *p) {
    const int threads = threads_for(g);
    float *made = NULL;
    struct work w = {g, take_rows(g, &made), p, NULL};
    const bool expands = !in_registers(g, p->quant);
    if (w.x.a && expands) w.lines = lc_alloc((size_t)(threads * bytes_of_lines(g)));
    const bool able = w.x.a && (w.lines || !expands);
    if (able) multiply_all(&w, threads);
    lc_free(w.lines);
    lc_free(made);
    return able ? 0 : -1;
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

bool cpu_few_rows_serve_packed(const struct lc_gemm *g, enum lc_quant quant) {
    (void)g;
    (void)quant;
    return false;
}

int cpu_few_rows_packed(const struct lc_gemm *g, const struct cpu_packed *p) {
    (void)g;
    (void)p;
    return -1;
}

#endif
