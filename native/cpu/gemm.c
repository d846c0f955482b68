/* gemm.c - matrix products by packed panels and a register tile.
 *
 * Every element of C is one chain: acc = fma(a[i, k], b[k, j], acc) with k ascending, in f32 whatever
 * the storage, then alpha, beta and bias. Blocks, edges, transposes and threads only decide who runs a
 * chain and when, never its order. So a row has the same bits alone and among others, at any place, and
 * with any number of threads, forward and backward.
 *
 * A is cut into panels of TILE_ROWS rows, B into panels of TILE_COLS columns, K into blocks of BLOCK_K;
 * a panel of B stays in the first-level cache while a block of A streams from the second. Panels hold
 * f32, so packing is also where dtypes and transposes are settled. */
#include <omp.h>

#include "base/error.h"
#include "base/memory.h"
#include "cpu/cpu.h"

#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { LANES = 16, TILE_ROWS = 12 };
#elif defined(__AVX2__) && defined(__FMA__)
enum { LANES = 8, TILE_ROWS = 6 };
#else
enum { LANES = 4, TILE_ROWS = 4 };
#endif
enum { TILE_COLS = 2 * LANES, BLOCK_ROWS = 96, BLOCK_COLS = 2048, BLOCK_K = 256 };

typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

static inline vector fma_lanes(vector a, vector b, vector c) {
#if defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__) && defined(__FMA__)
    return _mm256_fmadd_ps(a, b, c);
#else
    for (int i = 0; i < LANES; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
#endif
}

static inline int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }

/* ---- the register tile ----------------------------------------------------------------------------- */

/* out [rows, TILE_COLS] = a b, or += a b to resume. a: element (i, k) at i * a_row + k * a_k;
 * b: a packed panel of depth steps. rows, a_row or a_k are constants where this is called. */
static inline __attribute__((always_inline)) void tile(int rows, const float *a, int64_t a_row,
                                                       int64_t a_k, const float *b, int64_t depth,
                                                       float *out, int64_t out_row, bool resume) {
    vector sum[TILE_ROWS][2];
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
        for (int h = 0; h < 2; h++)
            sum[i][h] = resume ? *(const vector *)(out + i * out_row + h * LANES) : (vector){0};
    for (int64_t k = 0; k < depth; k++, a += a_k, b += TILE_COLS) {
        const vector left = *(const vector *)b, right = *(const vector *)(b + LANES);
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            const vector x = a[i * a_row] - (vector){0}; /* in every lane */
            sum[i][0] = fma_lanes(x, left, sum[i][0]);
            sum[i][1] = fma_lanes(x, right, sum[i][1]);
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
        for (int h = 0; h < 2; h++) *(vector *)(out + i * out_row + h * LANES) = sum[i][h];
}

/* a is a packed panel of TILE_ROWS rows, of which the first rows are asked for. */
static void packed_tile(int64_t rows, const float *a, const float *b, int64_t depth, float *out,
                        int64_t out_row, bool resume) {
    if (rows == 1) tile(1, a, 1, TILE_ROWS, b, depth, out, out_row, resume);
    else if (rows == 2) tile(2, a, 1, TILE_ROWS, b, depth, out, out_row, resume);
    else if (rows <= 4) tile(4, a, 1, TILE_ROWS, b, depth, out, out_row, resume);
    else tile(TILE_ROWS, a, 1, TILE_ROWS, b, depth, out, out_row, resume);
}

/* ---- packing ----------------------------------------------------------------------------------------- */

struct operand { /* A as [m, k] or B as [n, k]: lines (m or n) of steps (k) */
    const unsigned char *data;
    int dtype;
    bool crossed;     /* stored [k, lines], else [lines, k] */
    int64_t row_size; /* bytes from one stored row to the next */
};

/* Lines [line, line + count) and steps [k, k + depth) as one panel: dst[step * width + l], zeros in the
 * lines beyond count. count <= width <= BLOCK_K, depth <= BLOCK_K. */
static void pack_panel(float *dst, int width, const struct operand *x, int64_t line, int64_t count,
                       int64_t k, int64_t depth) {
    float buffer[BLOCK_K];
    if (x->crossed) {
        for (int64_t s = 0; s < depth; s++) {
            const float *row =
                cpu_load(buffer, x->data + (k + s) * x->row_size, x->dtype, line, count);
            for (int64_t l = 0; l < count; l++) dst[s * width + l] = row[l];
            for (int64_t l = count; l < width; l++) dst[s * width + l] = 0;
        }
        return;
    }
    for (int64_t l = 0; l < count; l++) {
        const float *row = cpu_load(buffer, x->data + (line + l) * x->row_size, x->dtype, k, depth);
        for (int64_t s = 0; s < depth; s++) dst[s * width + l] = row[s];
    }
    for (int64_t l = count; l < width; l++)
        for (int64_t s = 0; s < depth; s++) dst[s * width + l] = 0;
}

/* ---- one product --------------------------------------------------------------------------------------- */

struct product {
    const struct lc_gemm *g;
    struct operand a, b;
    unsigned char *c;
    float *sums;      /* [m, n] where chains wait between blocks of K: C itself, or scratch */
    int64_t sums_row; /* floats */
    float *b_panels;  /* [panels of a block of columns, depth, TILE_COLS] */
    float *a_panels;  /* [threads, BLOCK_ROWS / TILE_ROWS, depth, TILE_ROWS] */
};

struct block { /* the part of the product at work: columns [j, j + cols), steps [k, k + depth) */
    int64_t j, cols, k, depth;
    bool first, last; /* of the blocks of K */
};

static bool plain(const struct lc_gemm *g) {
    return g->c_dtype == LC_F32 && g->alpha == 1 && g->beta == 0 && !g->bias;
}

/* C[i, j..] = alpha * sum + beta * C[i, j..] + bias[j..] for one row of a tile */
static void finish_row(const struct product *p, const float *sum, int64_t i, int64_t j,
                       int64_t cols) {
    const struct lc_gemm *g = p->g;
    float value[TILE_COLS], old[TILE_COLS], bias[TILE_COLS];
    for (int64_t c = 0; c < cols; c++) value[c] = g->alpha * sum[c];
    if (g->beta != 0) {
        const float *x = cpu_load(old, p->c, g->c_dtype, i * g->c_row + j, cols);
        for (int64_t c = 0; c < cols; c++) value[c] = __builtin_fmaf(g->beta, x[c], value[c]);
    }
    if (g->bias) {
        const float *x = cpu_load(bias, g->bias, g->bias_dtype, j, cols);
        for (int64_t c = 0; c < cols; c++) value[c] += x[c];
    }
    if (g->c_dtype == LC_F32)
        memcpy((float *)p->c + i * g->c_row + j, value, (size_t)cols * sizeof *value);
    else cpu_store(p->c, g->c_dtype, i * g->c_row + j, value, cols);
}

/* The tile of C at (i, j): rows x cols, from one panel of A and one of B. */
static void run_tile(const struct product *p, const struct block *k, const float *a, const float *b,
                     int64_t i, int64_t rows, int64_t j, int64_t cols) {
    float *home = p->sums ? p->sums + i * p->sums_row + j : NULL;
    if (home && cols == TILE_COLS && (rows == TILE_ROWS || rows <= 2 || rows == 4) &&
        (!k->last || plain(p->g))) {
        packed_tile(rows, a, b, k->depth, home, p->sums_row, !k->first);
        return;
    }
    float sum[TILE_ROWS * TILE_COLS];
    if (!k->first)
        for (int64_t r = 0; r < rows; r++)
            memcpy(sum + r * TILE_COLS, home + r * p->sums_row, (size_t)cols * sizeof *sum);
    packed_tile(rows, a, b, k->depth, sum, TILE_COLS, !k->first);
    for (int64_t r = 0; r < rows; r++)
        if (k->last) finish_row(p, sum + r * TILE_COLS, i + r, j, cols);
        else memcpy(home + r * p->sums_row, sum + r * TILE_COLS, (size_t)cols * sizeof *sum);
}

/* Rows [i, i + rows) by the columns [j, end) of a block whose panels of B are packed. */
static void run_rows(const struct product *p, const struct block *k, int64_t i, int64_t rows,
                     int64_t j, int64_t end) {
    float *a = p->a_panels + (int64_t)omp_get_thread_num() * BLOCK_ROWS * BLOCK_K;
    for (int64_t r = 0; r < rows; r += TILE_ROWS)
        pack_panel(a + r * k->depth, TILE_ROWS, &p->a, i + r, at_most(rows - r, TILE_ROWS), k->k,
                   k->depth);
    for (; j < end; j += TILE_COLS)
        for (int64_t r = 0; r < rows; r += TILE_ROWS)
            run_tile(p, k, a + r * k->depth, p->b_panels + (j - k->j) * k->depth, i + r,
                     at_most(rows - r, TILE_ROWS), j, at_most(end - j, TILE_COLS));
}

/* One block on every thread of the team that calls it. */
static void run_block(const struct product *p, const struct block *k) {
    int64_t threads = omp_get_num_threads(), panels = parts(k->cols, TILE_COLS);
    int64_t row_tasks = parts(parts(p->g->m, BLOCK_ROWS), threads) * threads;
    int64_t rows = parts(parts(p->g->m, row_tasks), TILE_ROWS) * TILE_ROWS;
    row_tasks = parts(p->g->m, rows);
    int64_t col_tasks = row_tasks < threads ? at_most(threads, panels) : 1;
    int64_t cols = parts(panels, col_tasks) * TILE_COLS;
#pragma omp for schedule(static)
    for (int64_t j = 0; j < panels; j++)
        pack_panel(p->b_panels + j * TILE_COLS * k->depth, TILE_COLS, &p->b, k->j + j * TILE_COLS,
                   at_most(k->cols - j * TILE_COLS, TILE_COLS), k->k, k->depth);
#pragma omp for schedule(static) collapse(2)
    for (int64_t r = 0; r < row_tasks; r++)
        for (int64_t c = 0; c < col_tasks; c++)
            run_rows(p, k, r * rows, at_most(p->g->m - r * rows, rows), k->j + c * cols,
                     k->j + at_most((c + 1) * cols, k->cols));
}

static void run_product(const struct product *p, int threads) {
    const struct lc_gemm *g = p->g;
#pragma omp parallel num_threads(threads)
    for (int64_t j = 0; j < g->n; j += BLOCK_COLS)
        for (int64_t k = 0; k < g->k || k == 0; k += BLOCK_K)
            run_block(p, &(struct block){.j = j,
                                         .cols = at_most(g->n - j, BLOCK_COLS),
                                         .k = k,
                                         .depth = at_most(g->k - k, BLOCK_K),
                                         .first = k == 0,
                                         .last = k + BLOCK_K >= g->k});
}

/* ---- the kernel ------------------------------------------------------------------------------------------ */

static const void *offset(const void *p, int dtype, int64_t elements) {
    return (const unsigned char *)p + elements * (int64_t)lc_dtype_bytes(dtype);
}

int cpu_gemm(const struct lc_gemm *g) {
    if (!g->m || !g->n || !g->batch) return 0;
    /* below 2^18 multiplications waking the other threads costs more than they save */
    int threads = g->m * g->n * g->k < 1 << 18 ? 1 : omp_get_max_threads();
    bool in_place = g->c_dtype == LC_F32 && g->beta == 0;
    int64_t depth = at_most(g->k, BLOCK_K);
    int64_t b_size = parts(at_most(g->n, BLOCK_COLS), TILE_COLS) * TILE_COLS * depth;
    int64_t a_size = (int64_t)threads * BLOCK_ROWS * BLOCK_K;
    int64_t c_size = !in_place && g->k > BLOCK_K ? g->m * g->n : 0;
    float *scratch = lc_alloc((size_t)(b_size + a_size + c_size) * sizeof *scratch);
    if (!scratch) return -1;
    for (int64_t i = 0; i < g->batch; i++) {
        struct product p = {.g = g, .b_panels = scratch, .a_panels = scratch + b_size};
        p.a = (struct operand){offset(g->a, g->a_dtype, i * g->a_batch), g->a_dtype,
                               g->a_transposed, g->a_row * (int64_t)lc_dtype_bytes(g->a_dtype)};
        p.b = (struct operand){offset(g->b, g->b_dtype, i * g->b_batch), g->b_dtype,
                               !g->b_transposed, g->b_row * (int64_t)lc_dtype_bytes(g->b_dtype)};
        p.c = (unsigned char *)g->c + i * g->c_batch * (int64_t)lc_dtype_bytes(g->c_dtype);
        p.sums = in_place ? (float *)p.c : c_size ? scratch + b_size + a_size : NULL;
        p.sums_row = in_place ? g->c_row : g->n;
        run_product(&p, threads);
    }
    lc_free(scratch);
    return 0;
}
