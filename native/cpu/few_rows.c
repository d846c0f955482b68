/* few_rows.c - a product of one to four rows with a stored weight: what decoding does.
 *
 * Such a product is as fast as its weight can be read, so nothing is packed: eight lines of the weight
 * are read a cache line each, turned in registers so that a register holds one step of eight columns,
 * and multiplied at once. The chains are those of gemm.c (k ascending, one fma a step, or one of pairs
 * of bf16 where the CPU multiplies those), so a row's bits are the same here and there. */
#include <omp.h>

#include "base/memory.h"
#include "cpu/cpu.h"
#include "cpu/gemm.h"

#if !defined(LC_GEMM_LOOP) && defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#include <immintrin.h>

enum {
    MOST_ROWS = 4,
    COLS = 8,             /* lines of the weight that are turned together */
    GROUPS = 4,           /* groups of them whose chains run side by side */
    SPAN = GROUPS * COLS, /* columns that a thread works on at a time */
    LINE = 64,            /* bytes of a weight's line that are read together */
    AHEAD = 8 * LINE,     /* ... and how far ahead of them the next are fetched */
    LONE_WORK = 1 << 18   /* multiplications that are not worth waking another thread for */
};

enum kind { WITH_F32, WITH_F16, WITH_BF16, WITH_PAIRS };

/* r[i][j] = r[j][i], elements of 32 bits */
static inline __attribute__((always_inline)) void turn(__m256 r[8]) {
    __m256 t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
        u[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        u[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xEE);
        u[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        u[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
    }
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
    }
}

/* The left operand: rows of A, as f32 or as pairs of bf16 in the place of one. */
struct left {
    const float *a;
    int64_t stride;
};

/* acc[r] += a[r][s] * w: one step of eight columns */
static inline __attribute__((always_inline)) void step(__m256 *acc, const struct left *x, int rows,
                                                       int64_t s, __m256 w) {
    for (int r = 0; r < rows; r++)
        acc[r] = _mm256_fmadd_ps(_mm256_broadcast_ss(x->a + r * x->stride + s), w, acc[r]);
}

static inline __attribute__((always_inline)) void step_pair(__m256 *acc, const struct left *x,
                                                            int rows, int64_t s, __m256 w) {
#ifdef LC_GEMM_PAIRS
    for (int r = 0; r < rows; r++)
        acc[r] = _mm256_dpbf16_ps(
            acc[r], (__m256bh)_mm256_castps_si256(_mm256_broadcast_ss(x->a + r * x->stride + s)),
            (__m256bh)_mm256_castps_si256(w));
#else
    (void)acc, (void)x, (void)rows, (void)s, (void)w;
#endif
}

/* Steps [s, limit) of one cache line of eight lines of the weight; x->a is at the first of them. */
static inline __attribute__((always_inline)) void multiply_line(enum kind kind, __m256 *acc,
                                                                const unsigned char *const *b,
                                                                const struct left *x, int rows,
                                                                int limit) {
    const __m256i high = _mm256_set1_epi32((int)0xFFFF0000u);
    const int parts = kind == WITH_F16 ? 4 : 2, each = kind == WITH_BF16 ? 16 : 8;
    for (int part = 0; part < parts; part++) {
        __m256 w[8];
        if (part * each >= limit) return;
        for (int i = 0; i < 8; i++)
            w[i] = kind == WITH_F16
                       ? _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(b[i] + 16 * part)))
                       : _mm256_loadu_ps((const float *)(b[i] + 32 * part));
        turn(w);
        for (int i = 0; i < 8; i++) {
            const int s = part * each + (kind == WITH_BF16 ? 2 * i : i);
            if (s >= limit) return;
            if (kind == WITH_PAIRS) {
                step_pair(acc, x, rows, s, w[i]);
            } else if (kind == WITH_BF16) { /* a register holds pairs of steps: they are parted */
                const __m256i pair = _mm256_castps_si256(w[i]);
                step(acc, x, rows, s, _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16)));
                if (s + 1 >= limit) return;
                step(acc, x, rows, s + 1, _mm256_castsi256_ps(_mm256_and_si256(pair, high)));
            } else {
                step(acc, x, rows, s, w[i]);
            }
        }
    }
}

/* Steps of a cache line, counted as the rows of A count them. */
static inline __attribute__((always_inline)) int line_steps(enum kind kind) {
    return kind == WITH_F32 || kind == WITH_PAIRS ? LINE / 4 : LINE / 2;
}

/* The last steps, which do not fill a cache line: read from a copy, so that nothing is read beyond. */
static inline __attribute__((always_inline)) void multiply_rest(enum kind kind, __m256 *acc,
                                                                const unsigned char *const *b,
                                                                const struct left *x, int rows,
                                                                int steps, int64_t bytes) {
    unsigned char copy[COLS][LINE] = {{0}};
    const unsigned char *line[COLS];
    for (int i = 0; i < COLS; i++) line[i] = memcpy(copy[i], b[i], (size_t)bytes);
    multiply_line(kind, acc, line, x, rows, steps);
}

/* sum[r][c] += the products of columns [j, j + count), at most SPAN of them. */
static inline __attribute__((always_inline)) void multiply_span(enum kind kind, int rows,
                                                                const struct lc_gemm *g,
                                                                struct left x, float sum[][SPAN],
                                                                int64_t j, int64_t count) {
    const int64_t size = (int64_t)lc_dtype_bytes(g->b_dtype), bytes = g->k * size;
    const int groups = (int)((count + COLS - 1) / COLS), steps = line_steps(kind);
    const unsigned char *b[SPAN];
    for (int64_t c = 0; c < SPAN; c++) /* beyond the last column the last again: never used */
        b[c] = (const unsigned char *)g->b + (j + (c < count ? c : count - 1)) * g->b_row * size;
    for (int64_t at = 0; at < bytes; at += LINE, x.a += steps)
        for (int group = 0; group < groups; group++) {
            const unsigned char **own = b + group * COLS;
            __m256 acc[MOST_ROWS];
            for (int r = 0; r < rows; r++) acc[r] = _mm256_loadu_ps(sum[r] + group * COLS);
            if (bytes - at >= LINE) {
                for (int i = 0; i < COLS; i++)
                    _mm_prefetch((const char *)own[i] + AHEAD, _MM_HINT_T1);
                multiply_line(kind, acc, own, &x, rows, steps);
                for (int i = 0; i < COLS; i++) own[i] += LINE;
            } else {
                const int64_t unit = LINE / steps, left = (bytes - at + unit - 1) / unit;
                multiply_rest(kind, acc, own, &x, rows, (int)left, bytes - at);
            }
            for (int r = 0; r < rows; r++) _mm256_storeu_ps(sum[r] + group * COLS, acc[r]);
        }
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
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
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
