/* attention.c - forest attention, forward and backward.
 *
 * A block is up to 64 pairs (query row, head): rows of one query tile with all the heads that share
 * a key head (a group). Its keys are walked along the path in chunks of 64, gathered into scratch
 * as f32, so scratch is bounded however long the path is. Scores are held [keys, pairs]: a
 * vector's lanes are pairs, so softmax needs no sum across lanes. Every sum has one accumulator
 * and a fixed order, over features or along the path; nothing a row computes depends on its
 * neighbours or on where rows are stored. A key that a row does not see enters as an exact 0.
 *
 * Decoding, with a pair or a few to a tile, would leave lanes empty: few_queries.c has its own loop with the
 * same sums.
 *
 * Forward is in parallel over (tile, group), each written by one thread. Backward is in parallel
 * over (tree, group): it recomputes P from lse, and adds up dK and dV tile by tile, in order. Who
 * computes an item changes nothing in it, so an idle thread takes the next. */
#include <math.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "cpu/attention.h"

static struct call make_call(const struct lc_spans *spans, const void *q, const void *k,
                             const void *v, int dtype, int64_t heads, int64_t groups, int64_t d,
                             int64_t q_row, int64_t k_row, int64_t v_row, int64_t o_row,
                             float scale) {
    int64_t share = heads / groups, rows = share < LC_TILE_ROWS ? LC_TILE_ROWS / share : 1;
    return (struct call){.spans = spans,
                         .q = q,
                         .k = k,
                         .v = v,
                         .dtype = dtype,
                         .heads = heads,
                         .groups = groups,
                         .share = share,
                         .d = d,
                         .width = lanes_up(d),
                         .block_rows = (int32_t)rows,
                         .pairs = lanes_up(rows * share),
                         .q_row = q_row,
                         .k_row = k_row,
                         .v_row = v_row,
                         .o_row = o_row,
                         .scale = scale};
}

/* ---- small products -------------------------------------------------------------------------- */

enum {
    BLOCK_ROWS = 6,
    BLOCK_LANES = 2,
    PARALLEL = 1 << 16 /* elements worth waking a thread for */
};

/* C [rows, columns * LANES] (+)= A B, sums over n in order; A(i, x) is a[i * a_row + x * a_step] */
static inline __attribute__((always_inline)) void
product_block(float *c, int64_t c_row, const float *a, int64_t a_row, int64_t a_step,
              const float *b, int64_t b_row, int64_t n, bool add, int rows, int columns) {
    lanes sum[BLOCK_ROWS][BLOCK_LANES];
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++)
            sum[i][j] = add ? lanes_at(c + i * c_row + j * LANES) : lanes_all(0);
    for (int64_t x = 0; x < n; x++, a += a_step, b += b_row) {
        lanes y[BLOCK_LANES];
        for (int j = 0; j < columns; j++) y[j] = lanes_at(b + j * LANES);
#pragma GCC unroll 6
        for (int i = 0; i < rows; i++) {
            lanes f = lanes_all(a[i * a_row]);
            for (int j = 0; j < columns; j++) sum[i][j] = lanes_fma(f, y[j], sum[i][j]);
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++) lanes_put(c + i * c_row + j * LANES, sum[i][j]);
}

/* The same for any number of lanes; rows <= BLOCK_ROWS, width a multiple of LANES. */
static void product_rows(float *c, int64_t c_row, const float *a, int64_t a_row, int64_t a_step,
                         const float *b, int64_t b_row, int64_t n, bool add, int rows,
                         int64_t width) {
#define ROWS(r)                                                                                    \
    case r:                                                                                        \
        for (; width >= BLOCK_LANES * LANES; width -= BLOCK_LANES * LANES) {                       \
            product_block(c, c_row, a, a_row, a_step, b, b_row, n, add, r, BLOCK_LANES);           \
            c += BLOCK_LANES * LANES, b += BLOCK_LANES * LANES;                                    \
        }                                                                                          \
        if (width) product_block(c, c_row, a, a_row, a_step, b, b_row, n, add, r, 1);              \
        break;
    switch (rows) { ROWS(1) ROWS(2) ROWS(3) ROWS(4) ROWS(5) ROWS(6) }
#undef ROWS
}

/* ---- blocks of queries ----------------------------------------------------------------------- */

/* dst [d, pairs] = src [m, width] transposed, zeros in the lanes beyond m. */
static void transpose(const struct call *c, float *dst, const float *src, int m) {
    for (int64_t i = 0; i < c->d; i++) {
        float *row = dst + i * c->pairs;
        for (int x = 0; x < m; x++) row[x] = src[x * c->width + i];
        for (int64_t x = m; x < lanes_up(m); x++) row[x] = 0;
    }
}

/* q [m, width], scaled, and qt, its transpose */
static void load_queries(const struct call *c, const struct block *b, float *q, float *qt) {
    for (int x = 0; x < b->m; x++) load_query(c, &b->pair[x], q + x * c->width);
    transpose(c, qt, q, b->m);
}

/* ---- chunks of keys -------------------------------------------------------------------------- */

/* dst [n, width]: keys or values of the group */
static void load_keys(const struct call *c, const struct block *b, const struct chunk *k,
                      float *dst, const void *src, int64_t stride) {
    for (int j = 0; j < k->n; j++) {
        if (j + AHEAD < k->n)
            prefetch_row(c, src, k->rows[j + AHEAD] * stride + b->group * c->d, c->d);
        load_row(c, dst + j * c->width, src, k->rows[j] * stride + b->group * c->d);
    }
}

/* How many of the chunk's keys pair x sees. */
static int seen_in(const struct block *b, const struct chunk *k, int x) {
    int64_t seen = b->pair[x].seen - k->at;
    return (int)(seen < 0 ? 0 : seen < k->n ? seen : k->n);
}

/* s [n, pairs] = a [n, width] bt [d, pairs], for the pairs that see one of each six keys */
static void scores(const struct call *c, const struct block *b, const struct chunk *k, float *s,
                   const float *a, const float *bt) {
    int64_t first = 0;
    for (int j = 0; j < k->n; j += BLOCK_ROWS) {
        int keys = k->n - j < BLOCK_ROWS ? k->n - j : BLOCK_ROWS;
        while (seen_in(b, k, (int)first + LANES - 1 < b->m ? (int)first + LANES - 1 : b->m - 1) <=
               j)
            first += LANES;
        product_rows(s + j * c->pairs + first, c->pairs, a + j * c->width, c->width, 1, bt + first,
                     c->pairs, c->d, false, keys, lanes_up(b->m) - first);
    }
}

/* o [m, width] += s^T v, s [n, pairs], v [n, width] */
static void add_to_queries(const struct call *c, const struct block *b, const struct chunk *k,
                           float *o, const float *s, const float *v) {
    for (int x = 0; x < b->m; x += BLOCK_ROWS) {
        int rows = b->m - x < BLOCK_ROWS ? b->m - x : BLOCK_ROWS;
        product_rows(o + x * c->width, c->width, s + x, 1, c->pairs, v, c->width,
                     seen_in(b, k, x + rows - 1), true, rows, c->width);
    }
}

/* dst[rows[j], :] (rows dst_row apart) += s a, s [n, pairs], a [m, width]; sum [n, width] is scratch. The pairs before
 * the first that sees a key would add zeros. */
static void add_to_keys(const struct call *c, const struct block *b, const struct chunk *k,
                        float *dst, int64_t dst_row, float *sum, const float *s, const float *a) {
    int first = 0;
    for (int j = 0; j < k->n; j += BLOCK_ROWS) {
        int keys = k->n - j < BLOCK_ROWS ? k->n - j : BLOCK_ROWS;
        while (seen_in(b, k, first) <= j) first++;
        product_rows(sum + j * c->width, c->width, s + j * c->pairs + first, c->pairs, 1,
                     a + first * c->width, c->width, b->m - first, false, keys, c->width);
    }
    for (int j = 0; j < k->n; j++) {
        float *to = dst + k->rows[j] * dst_row + b->group * c->d;
        for (int64_t i = 0; i < c->d; i++) to[i] += sum[j * c->width + i];
    }
}

/* How many of the chunk's keys each of the pairs from x on sees, and the most of them. */
static lanes_int seen_lanes(const struct block *b, const struct chunk *k, int x, int *most) {
    lanes_int seen;
    *most = 0;
    for (int i = 0; i < LANES; i++) {
        seen[i] = x + i < b->m ? seen_in(b, k, x + i) : 0;
        if (seen[i] > *most) *most = seen[i];
    }
    return seen;
}

/* ---- forward --------------------------------------------------------------------------------- */

/* One thread's memory. */
struct scratch {
    float *q, *o, *dout, *dq;   /* [m, width] */
    float *qt, *dout_t;         /* [width, pairs] */
    float *k, *v, *sum;         /* [KEYS, width] */
    float *s, *ds;              /* [KEYS, pairs] */
    float *top, *total, *delta; /* [pairs]: running maximum (backward: lse), sum, rowsum(dO * O) */
    struct pair *pair;          /* [m] */
};

/* Cuts a thread's part out of memory; with memory NULL, only counts. Floats. */
static int64_t cut_scratch(const struct call *c, struct scratch *w, float *memory, bool backward) {
    int64_t rows = c->pairs * c->width, keys = KEYS * c->width, table = KEYS * c->pairs, used = 0;
    struct {
        float **part;
        int64_t size;
        bool needed;
    } parts[] = {{&w->q, rows, true},        {&w->qt, rows, true},
                 {&w->o, rows, true},        {&w->k, keys, true},
                 {&w->v, keys, true},        {&w->s, table, true},
                 {&w->top, c->pairs, true},  {&w->total, c->pairs, true},
                 {&w->dout, rows, backward}, {&w->dout_t, rows, backward},
                 {&w->dq, rows, backward},   {&w->sum, keys, backward},
                 {&w->ds, table, backward},  {&w->delta, c->pairs, backward}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!parts[i].needed) continue;
        *parts[i].part = memory ? memory + used : NULL;
        used += (parts[i].size + 15) / 16 * 16;
    }
    w->pair = memory ? (struct pair *)(void *)(memory + used) : NULL;
    return used + (c->pairs * (int64_t)(sizeof *w->pair / sizeof *memory) + 15) / 16 * 16;
}

/* s: scores -> exp(score - top), zeros where a pair does not see; top, total and o follow. */
static void softmax_chunk(const struct call *c, const struct block *b, const struct chunk *k,
                          struct scratch *w) {
    for (int x = 0; x < b->m; x += LANES) {
        int most, j;
        lanes_int seen = seen_lanes(b, k, x, &most);
        lanes before = lanes_at(w->top + x), top = before, sum = lanes_all(0);
        for (j = 0; j < most; j++) {
            lanes y = lanes_at(w->s + j * c->pairs + x);
            top = lanes_pick((y > top) & (seen > j), y, top);
        }
        for (j = 0; j < most; j++) {
            float *s = w->s + j * c->pairs + x;
            lanes y = lanes_pick(seen > j, lanes_exp(lanes_at(s) - top), lanes_all(0));
            lanes_put(s, y);
            sum += y;
        }
        for (; j < k->n; j++) lanes_put(w->s + j * c->pairs + x, lanes_all(0));
        lanes factor = lanes_pick(top > before, lanes_exp(before - top), lanes_all(1));
        lanes_put(w->top + x, top);
        lanes_put(w->total + x, lanes_fma(lanes_at(w->total + x), factor, sum));
        for (int i = 0; k->at && i < LANES && x + i < b->m; i++) {
            if (factor[i] == 1) continue;
            float *o = w->o + (x + i) * c->width;
            for (int64_t e = 0; e < c->width; e += LANES)
                lanes_put(o + e, lanes_at(o + e) * factor[i]);
        }
    }
}

static void forward_block(const struct call *c, const struct block *b, struct scratch *w, void *out,
                          float *lse) {
    load_queries(c, b, w->q, w->qt);
    memset(w->o, 0, (size_t)(b->m * c->width) * sizeof *w->o);
    for (int x = 0; x < lanes_up(b->m); x++) w->top[x] = -INFINITY, w->total[x] = 0;
    for (int64_t at = 0; at < b->most; at += KEYS) {
        struct chunk k = make_chunk(c, b, at);
        load_keys(c, b, &k, w->k, c->k, c->k_row);
        load_keys(c, b, &k, w->v, c->v, c->v_row);
        scores(c, b, &k, w->s, w->k, w->qt);
        softmax_chunk(c, b, &k, w);
        add_to_queries(c, b, &k, w->o, w->s, w->v);
    }
    for (int x = 0; x < b->m; x++)
        finish_pair(c, &b->pair[x], w->o + x * c->width, w->top[x], w->total[x], out, lse);
}

/* Work that one thread ends before others are awake stays with it. */
static int threads_for(const struct call *c, int64_t items) {
    double products =
        (double)c->spans->queries * (double)c->spans->longest * (double)(c->heads * c->d);
    return items > 1 && products > 1e5 ? omp_get_max_threads() : 1;
}

/* Every thread's scratch in one piece; *step is how many floats each has. */
static float *alloc_scratch(const struct call *c, bool backward, int threads, int64_t *step) {
    struct scratch none;
    *step = cut_scratch(c, &none, NULL, backward);
    return lc_alloc((size_t)threads * (size_t)*step * sizeof(float));
}

int cpu_attention(void *o, float *lse, const void *q, const void *k, const void *v, int dtype,
                  const struct lc_spans *spans, int64_t heads, int64_t groups, int64_t d,
                  int64_t q_row, int64_t k_row, int64_t v_row, int64_t o_row, float scale) {
    struct call c =
        make_call(spans, q, k, v, dtype, heads, groups, d, q_row, k_row, v_row, o_row, scale);
    int64_t items = spans->tile_count * groups, step;
    int threads = threads_for(&c, items);
    if (cpu_few_queries_serve(&c)) return cpu_few_queries(&c, threads, o, lse);
    float *memory = alloc_scratch(&c, false, threads, &step);
    if (!memory) return -1;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < items; i++) {
        struct scratch w;
        struct item at = item_at(spans, groups, i);
        cut_scratch(&c, &w, memory + omp_get_thread_num() * step, false);
        for (int32_t row = at.tile->q0; row < at.tile->q1; row += c.block_rows) {
            struct block b = make_block(&c, at.tile, at.part, row, w.pair);
            forward_block(&c, &b, &w, o, lse);
        }
    }
    lc_free(memory);
    return 0;
}

/* ---- backward -------------------------------------------------------------------------------- */

/* The gradients of one call. */
struct gradients {
    void *dq;
    float *dk, *dv; /* [spans->keys, groups, d], added to */
    int64_t dq_row, dk_row;
    const void *dout, *o;
    const float *lse;
};

/* s: scores -> P = exp(score - lse); ds: dO V^T -> P (dO V^T - delta); zeros where a pair does not
 * see. */
static void softmax_backward_chunk(const struct call *c, const struct block *b,
                                   const struct chunk *k, struct scratch *w) {
    for (int x = 0; x < b->m; x += LANES) {
        int most, j;
        lanes_int seen = seen_lanes(b, k, x, &most);
        lanes lse = lanes_at(w->top + x), delta = lanes_at(w->delta + x);
        for (j = 0; j < most; j++) {
            float *s = w->s + j * c->pairs + x, *ds = w->ds + j * c->pairs + x;
            lanes p = lanes_pick(seen > j, lanes_exp(lanes_at(s) - lse), lanes_all(0));
            lanes_put(s, p);
            lanes_put(ds, lanes_pick(seen > j, p * (lanes_at(ds) - delta), lanes_all(0)));
        }
        for (; j < k->n; j++) {
            lanes_put(w->s + j * c->pairs + x, lanes_all(0));
            lanes_put(w->ds + j * c->pairs + x, lanes_all(0));
        }
    }
}

static void load_outputs(const struct call *c, const struct block *b, struct scratch *w,
                         const struct gradients *g) {
    for (int x = 0; x < b->m; x++) {
        float *dout = w->dout + x * c->width, *o = w->o + x * c->width;
        load_row(c, dout, g->dout, pair_at(c, &b->pair[x], c->heads * c->d));
        load_row(c, o, g->o, pair_at(c, &b->pair[x], c->o_row));
        lanes delta = lanes_all(0);
        for (int64_t i = 0; i < c->width; i += LANES)
            delta = lanes_fma(lanes_at(dout + i), lanes_at(o + i), delta);
        w->delta[x] = lanes_sum(delta);
        w->top[x] = g->lse[lse_at(c, &b->pair[x])];
    }
    transpose(c, w->dout_t, w->dout, b->m);
}

static void backward_block(const struct call *c, const struct block *b, struct scratch *w,
                           const struct gradients *g) {
    load_queries(c, b, w->q, w->qt);
    load_outputs(c, b, w, g);
    memset(w->dq, 0, (size_t)(b->m * c->width) * sizeof *w->dq);
    for (int64_t at = 0; at < b->most; at += KEYS) {
        struct chunk k = make_chunk(c, b, at);
        load_keys(c, b, &k, w->k, c->k, c->k_row);
        load_keys(c, b, &k, w->v, c->v, c->v_row);
        scores(c, b, &k, w->s, w->k, w->qt);
        scores(c, b, &k, w->ds, w->v, w->dout_t);
        softmax_backward_chunk(c, b, &k, w);
        add_to_queries(c, b, &k, w->dq, w->ds, w->k);
        add_to_keys(c, b, &k, g->dk, g->dk_row, w->sum, w->ds, w->q); /* q is scaled already */
        add_to_keys(c, b, &k, g->dv, g->dk_row, w->sum, w->s, w->dout);
    }
    for (int x = 0; x < b->m; x++) {
        float *dq = w->dq + x * c->width;
        for (int64_t i = 0; i < c->d; i++) dq[i] = dq[i] * c->scale + 0.0f;
        store_row(c, g->dq, pair_at(c, &b->pair[x], g->dq_row), dq);
    }
}

static int backward(const struct call *c, const struct gradients *g) {
    const struct lc_spans *spans = c->spans;
    int64_t items = spans->trees * c->groups, step;
    int threads = threads_for(c, items);
    float *memory = alloc_scratch(c, true, threads, &step);
    if (!memory) return -1;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < items; i++) {
        struct scratch w;
        int64_t tree = i / c->groups;
        cut_scratch(c, &w, memory + omp_get_thread_num() * step, true);
        for (int32_t t = spans->tree_first[tree]; t < spans->tree_first[tree + 1]; t++)
            for (int32_t row = spans->tiles[t].q0; row < spans->tiles[t].q1; row += c->block_rows) {
                struct block b = make_block(c, &spans->tiles[t], i % c->groups, row, w.pair);
                backward_block(c, &b, &w, g);
            }
    }
    lc_free(memory);
    return 0;
}

int cpu_attention_backward(void *dq, void *dk, void *dv, const void *dout, const void *o,
                           const float *lse, const void *q, const void *k, const void *v, int dtype,
                           const struct lc_spans *spans, int64_t heads, int64_t groups, int64_t d,
                           int64_t q_row, int64_t k_row, int64_t v_row, int64_t o_row,
                           int64_t dq_row, int64_t dk_row, float scale) {
    struct call c =
        make_call(spans, q, k, v, dtype, heads, groups, d, q_row, k_row, v_row, o_row, scale);
    const int64_t width = groups * d, count = spans->keys * width;
    struct gradients g = {dq, dk, dv, dq_row, dk_row, dout, o, lse};
    float *sums = NULL; /* dK and dV add up in f32 */
    if (dtype != LC_F32) {
        sums = lc_alloc(2 * (size_t)count * sizeof *sums);
        if (!sums) return -1;
        g.dk = sums;
        g.dv = sums + count;
        g.dk_row = width;
    }
#pragma omp parallel for schedule(static) if (count > PARALLEL)
    for (int64_t r = 0; r < spans->keys; r++) {
        memset(g.dk + r * g.dk_row, 0, (size_t)width * sizeof *g.dk);
        memset(g.dv + r * g.dk_row, 0, (size_t)width * sizeof *g.dv);
    }
    int done = backward(&c, &g);
    const int64_t stored = !done && sums ? spans->keys : 0;
#pragma omp parallel for schedule(static) if (count > PARALLEL)
    for (int64_t r = 0; r < stored; r++) {
        cpu_store(dk, dtype, r * dk_row, g.dk + r * width, width);
        cpu_store(dv, dtype, r * dk_row, g.dv + r * width, width);
    }
    lc_free(sums);
    return done;
}
