/* attention.c - forest attention, forward and backward.
 *
 * A block is up to 64 (query row, head) pairs: rows of one query tile with all the heads that share
 * a key head (a group). Its keys are walked along the path in chunks of 64, gathered into scratch
 * as f32, so scratch is bounded however long the path is. Products keep one accumulator an output
 * and walk their sums in order, over features or along the path; nothing a row computes depends on
 * its neighbours or on where rows are stored. A key that a row does not see enters as an exact 0.
 *
 * Forward is in parallel over (tile, group), each written by one thread. Backward is in parallel
 * over (tree, group): it recomputes P from lse, and adds up dK and dV tile by tile, in order. */
#include <math.h>
#include <omp.h>

#include "base/error.h"
#include "base/memory.h"
#include "cpu/cpu.h"
#include "cpu/lanes.h"

enum { KEYS = 64 }; /* of a chunk, and the row length of score matrices */

/* What both directions know. */
struct call {
    const struct lc_spans *spans;
    const void *q, *k, *v;
    int dtype;
    int64_t heads, groups, share; /* share = heads / groups */
    int64_t d, width;             /* width = d rounded up to whole lanes */
    int64_t q_row, k_row, v_row;
    float scale;
};

static struct call make_call(const struct lc_spans *spans, const void *q, const void *k,
                             const void *v, int dtype, int64_t heads, int64_t groups, int64_t d,
                             int64_t q_row, int64_t k_row, int64_t v_row, float scale) {
    return (struct call){spans,          q, k,           v,     dtype, heads, groups,
                         heads / groups, d, lanes_up(d), q_row, k_row, v_row, scale};
}

/* ---- small products ----------------------------------------------------------------------------- */

enum { BLOCK_ROWS = 6, BLOCK_LANES = 2 };

/* C [rows, columns * LANES] (+)= A B, sums over n in order; a(i, x) is a[i * a_row + x * a_step]. */
static inline __attribute__((always_inline)) void
product_block(float *c, int64_t c_row, const float *a, int64_t a_row, int64_t a_step,
              const float *b, int64_t b_row, int64_t n, bool add, int rows, int columns) {
    lanes sum[BLOCK_ROWS][BLOCK_LANES];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++)
            sum[i][j] = add ? lanes_at(c + i * c_row + j * LANES) : lanes_all(0);
    for (int64_t x = 0; x < n; x++, a += a_step, b += b_row) {
        lanes y[BLOCK_LANES];
        for (int j = 0; j < columns; j++) y[j] = lanes_at(b + j * LANES);
        for (int i = 0; i < rows; i++) {
            lanes f = lanes_all(a[i * a_row]);
            for (int j = 0; j < columns; j++) sum[i][j] = lanes_fma(f, y[j], sum[i][j]);
        }
    }
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

/* ---- blocks of queries ---------------------------------------------------------------------------- */

struct block {
    const struct lc_query_tile *tile;
    int64_t group;
    int32_t row;   /* its first query row */
    int m;         /* pairs: pair x is row + x / share, head group * share + x % share */
    int64_t most;  /* keys that its last row sees */
    int64_t *seen; /* [m] path keys that each pair sees; never falls */
};

/* Query rows of a tile that go into one block. */
static int32_t block_rows(const struct call *c) {
    return c->share < LC_TILE_ROWS ? (int32_t)(LC_TILE_ROWS / c->share) : 1;
}

static int block_most(const struct call *c) { return (int)(block_rows(c) * c->share); }

static struct block make_block(const struct call *c, const struct lc_query_tile *t, int64_t group,
                               int32_t row, int64_t *seen) {
    int32_t rows = t->q1 - row < block_rows(c) ? t->q1 - row : block_rows(c);
    struct block b = {t, group, row, (int)(rows * c->share), 0, seen};
    for (int x = 0; x < b.m; x++)
        seen[x] =
            x % c->share ? seen[x - 1] : lc_tile_seen(c->spans, t, row + (int32_t)(x / c->share));
    b.most = seen[b.m - 1];
    return b;
}

static int64_t pair_row(const struct call *c, const struct block *b, int x) {
    return b->row + x / c->share;
}

static int64_t pair_head(const struct call *c, const struct block *b, int x) {
    return b->group * c->share + x % c->share;
}

/* Where a pair begins in a dense [queries, heads, d]. */
static int64_t pair_at(const struct call *c, const struct block *b, int x) {
    return (pair_row(c, b, x) * c->heads + pair_head(c, b, x)) * c->d;
}

/* One row of d elements as f32, ended by zeros. */
static void load_row(const struct call *c, float *dst, const void *src, int64_t first) {
    const float *x = cpu_load(dst, src, c->dtype, first, c->d);
    if (x != dst) memcpy(dst, x, (size_t)c->d * sizeof *dst);
    for (int64_t i = c->d; i < c->width; i++) dst[i] = 0;
}

static void store_row(const struct call *c, void *dst, int64_t first, const float *src) {
    if (c->dtype == LC_F32) memcpy((float *)dst + first, src, (size_t)c->d * sizeof *src);
    else cpu_store(dst, c->dtype, first, src, c->d);
}

/* q, scaled, [m, width] */
static void load_queries(const struct call *c, const struct block *b, float *q) {
    for (int x = 0; x < b->m; x++) {
        float *row = q + x * c->width;
        load_row(c, row, c->q, pair_row(c, b, x) * c->q_row + pair_head(c, b, x) * c->d);
        for (int64_t i = 0; i < c->d; i++) row[i] *= c->scale;
    }
}

/* ---- chunks of keys ---------------------------------------------------------------------------------- */

/* The rows of path keys [at, at + n). */
static void path_rows(const struct lc_spans *s, const struct lc_query_tile *t, int64_t at, int n,
                      int32_t *rows) {
    int filled = 0;
    for (int32_t r = t->r0; filled < n; r++) {
        int64_t length = s->ranges[r].k1 - s->ranges[r].k0;
        for (; at < length && filled < n; at++) rows[filled++] = s->ranges[r].k0 + (int32_t)at;
        at -= length;
    }
}

/* Keys or values of the group, [n rounded up to LANES, width], rows beyond n zero. */
static void load_keys(const struct call *c, float *dst, const void *src, int64_t stride,
                      int64_t group, const int32_t *rows, int n) {
    for (int i = 0; i < n; i++)
        load_row(c, dst + i * c->width, src, rows[i] * stride + group * c->d);
    memset(dst + n * c->width, 0, (size_t)((lanes_up(n) - n) * c->width) * sizeof *dst);
}

/* dst [width, KEYS] = src [n, width] transposed, by squares of LANES. */
static void transpose(float *restrict dst, const float *restrict src, int n, int64_t width) {
    for (int i = 0; i < n; i += LANES)
        for (int64_t c = 0; c < width; c++)
            for (int j = 0; j < LANES; j++) dst[c * KEYS + i + j] = src[(i + j) * width + c];
}

/* s [m, KEYS] = a [m, width] b^T for the keys that each six pairs can see; bt is [width, KEYS]. */
static void scores(const struct call *c, const struct block *b, float *s, const float *a,
                   const float *bt, int64_t at, int n) {
    for (int x = 0; x < b->m; x += BLOCK_ROWS) {
        int rows = b->m - x < BLOCK_ROWS ? b->m - x : BLOCK_ROWS;
        int64_t seen = b->seen[x + rows - 1] - at;
        if (seen <= 0) continue;
        product_rows(s + x * KEYS, KEYS, a + x * c->width, c->width, 1, bt, KEYS, c->d, false, rows,
                     lanes_up(seen < n ? seen : n));
    }
}

/* o [m, width] += p [m, KEYS] v [n, width] */
static void weighted_sum(const struct call *c, const struct block *b, float *o, const float *p,
                         const float *v, int64_t at, int n) {
    for (int x = 0; x < b->m; x += BLOCK_ROWS) {
        int rows = b->m - x < BLOCK_ROWS ? b->m - x : BLOCK_ROWS;
        int64_t seen = b->seen[x + rows - 1] - at;
        if (seen <= 0) continue;
        product_rows(o + x * c->width, c->width, p + x * KEYS, KEYS, 1, v, c->width,
                     seen < n ? seen : n, true, rows, c->width);
    }
}

/* ---- forward ------------------------------------------------------------------------------------------- */

/* One thread's memory. */
struct scratch {
    float *q, *o, *dout, *dq;   /* [m, width] */
    float *k, *v;               /* [KEYS, width] */
    float *kt, *vt;             /* [width, KEYS] */
    float *s, *ds;              /* [m, KEYS] */
    float *sum;                 /* [KEYS, width] */
    float *top, *total, *delta; /* [m] */
    int64_t *seen;              /* [m] */
};

/* Cuts a thread's part out of memory; with memory NULL, only counts. Floats. */
static int64_t cut_scratch(const struct call *c, struct scratch *w, float *memory, bool backward) {
    int64_t m = block_most(c), pairs = m * c->width, keys = KEYS * c->width, used = 0;
    struct {
        float **part;
        int64_t size;
        bool needed;
    } parts[] = {
        {&w->q, pairs, true},         {&w->o, pairs, true},      {&w->dout, pairs, backward},
        {&w->dq, pairs, backward},    {&w->k, keys, true},       {&w->v, keys, true},
        {&w->kt, keys, true},         {&w->vt, keys, backward},  {&w->s, m * KEYS, true},
        {&w->ds, m * KEYS, backward}, {&w->sum, keys, backward}, {&w->top, m, true},
        {&w->total, m, true},         {&w->delta, m, backward}};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        if (!parts[i].needed) continue;
        *parts[i].part = memory + used;
        used += (parts[i].size + 15) / 16 * 16;
    }
    w->seen = (int64_t *)(void *)(memory + used);
    return used + (2 * m + 15) / 16 * 16;
}

/* s: scores -> exp(score - top) with zeros where a pair does not see; top, total and o follow. */
static void softmax_chunk(const struct call *c, const struct block *b, struct scratch *w,
                          int64_t at, int n) {
    for (int x = 0; x < b->m; x++) {
        float *s = w->s + x * KEYS, *o = w->o + x * c->width;
        int64_t seen = b->seen[x] - at < n ? b->seen[x] - at : n, end = lanes_up(n);
        lanes top = lanes_all(w->top[x]), total = lanes_all(0);
        for (int64_t j = 0; j < seen; j += LANES) {
            lanes y = lanes_at(s + j);
            top = lanes_pick((y > top) & lanes_first(seen - j), y, top);
        }
        float before = w->top[x], now = lanes_max(top), factor = 1;
        if (now > before && at) {
            factor = lanes_exp(lanes_all(before - now))[0];
            for (int64_t i = 0; i < c->width; i += LANES)
                lanes_put(o + i, lanes_at(o + i) * factor);
        }
        for (int64_t j = 0; j < end; j += LANES) {
            lanes y =
                lanes_pick(lanes_first(seen - j), lanes_exp(lanes_at(s + j) - now), lanes_all(0));
            lanes_put(s + j, y);
            total += y;
        }
        w->top[x] = now;
        w->total[x] = __builtin_fmaf(w->total[x], factor, lanes_sum(total));
    }
}

static void finish_rows(const struct call *c, const struct block *b, struct scratch *w, void *out,
                        float *lse) {
    for (int x = 0; x < b->m; x++) {
        float *o = w->o + x * c->width;
        bool any = b->seen[x] > 0;
        float factor = any ? 1 / w->total[x] : 0;
        /* adding 0 makes a -0 of underflow +0: its sign could tell what was beside the row */
        for (int64_t i = 0; i < c->d; i++) o[i] = o[i] * factor + 0.0f;
        store_row(c, out, pair_at(c, b, x), o);
        lse[pair_head(c, b, x) * c->spans->queries + pair_row(c, b, x)] =
            any ? w->top[x] + logf(w->total[x]) : -INFINITY;
    }
}

static void forward_block(const struct call *c, const struct block *b, struct scratch *w, void *out,
                          float *lse) {
    int32_t rows[KEYS];
    load_queries(c, b, w->q);
    memset(w->o, 0, (size_t)(b->m * c->width) * sizeof *w->o);
    for (int x = 0; x < b->m; x++) w->top[x] = -INFINITY, w->total[x] = 0;
    for (int64_t at = 0; at < b->most; at += KEYS) {
        int n = (int)(b->most - at < KEYS ? b->most - at : KEYS);
        path_rows(c->spans, b->tile, at, n, rows);
        load_keys(c, w->k, c->k, c->k_row, b->group, rows, n);
        load_keys(c, w->v, c->v, c->v_row, b->group, rows, n);
        transpose(w->kt, w->k, n, c->width);
        scores(c, b, w->s, w->q, w->kt, at, n);
        softmax_chunk(c, b, w, at, n);
        weighted_sum(c, b, w->o, w->s, w->v, at, n);
    }
    finish_rows(c, b, w, out, lse);
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
                  int64_t q_row, int64_t k_row, int64_t v_row, float scale) {
    struct call c = make_call(spans, q, k, v, dtype, heads, groups, d, q_row, k_row, v_row, scale);
    int64_t items = spans->tile_count * groups, step;
    int threads = threads_for(&c, items);
    float *memory = alloc_scratch(&c, false, threads, &step);
    if (!memory) return -1;
        /* who computes an item changes nothing in it, so idle threads may take the next */
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < items; i++) {
        struct scratch w;
        const struct lc_query_tile *t = &spans->tiles[i / groups];
        cut_scratch(&c, &w, memory + omp_get_thread_num() * step, false);
        for (int32_t row = t->q0; row < t->q1; row += block_rows(&c)) {
            struct block b = make_block(&c, t, i % groups, row, w.seen);
            forward_block(&c, &b, &w, o, lse);
        }
    }
    lc_free(memory);
    return 0;
}

/* ---- backward -------------------------------------------------------------------------------------------- */

/* The gradients of one call. */
struct gradients {
    void *dq;
    float *dk, *dv; /* [spans->keys, groups, d], added to */
    const void *dout, *o;
    const float *lse;
};

/* s: scores -> P = exp(score - lse); ds: dO V^T -> P (dO V^T - delta); zeros where a pair does not see. */
static void softmax_backward_chunk(const struct block *b, struct scratch *w, int64_t at, int n) {
    for (int x = 0; x < b->m; x++) {
        float *s = w->s + x * KEYS, *ds = w->ds + x * KEYS;
        for (int64_t j = 0; j < n; j += LANES) {
            lanes_int sees = lanes_first(b->seen[x] - at - j);
            lanes p = lanes_pick(sees, lanes_exp(lanes_at(s + j) - w->top[x]), lanes_all(0));
            lanes_put(s + j, p);
            lanes_put(ds + j, lanes_pick(sees, p * (lanes_at(ds + j) - w->delta[x]), lanes_all(0)));
        }
    }
}

/* dst[rows[j], :] += sum over pairs x of p[x, j] a[x, :]; the pairs before the first that sees
 * path key at + j would add zeros. */
static void add_to_keys(const struct call *c, const struct block *b, float *dst, float *sum,
                        const float *p, const float *a, int64_t at, const int32_t *rows, int n) {
    int first = 0;
    for (int j = 0; j < n; j += BLOCK_ROWS) {
        int keys = n - j < BLOCK_ROWS ? n - j : BLOCK_ROWS;
        while (b->seen[first] <= at + j) first++;
        product_rows(sum + j * c->width, c->width, p + first * KEYS + j, 1, KEYS,
                     a + first * c->width, c->width, b->m - first, false, keys, c->width);
    }
    for (int j = 0; j < n; j++) {
        float *to = dst + (rows[j] * c->groups + b->group) * c->d;
        for (int64_t i = 0; i < c->d; i++) to[i] += sum[j * c->width + i];
    }
}

static void load_outputs(const struct call *c, const struct block *b, struct scratch *w,
                         const struct gradients *g) {
    for (int x = 0; x < b->m; x++) {
        float *dout = w->dout + x * c->width, *o = w->o + x * c->width;
        load_row(c, dout, g->dout, pair_at(c, b, x));
        load_row(c, o, g->o, pair_at(c, b, x));
        lanes delta = lanes_all(0);
        for (int64_t i = 0; i < c->width; i += LANES)
            delta = lanes_fma(lanes_at(dout + i), lanes_at(o + i), delta);
        w->delta[x] = lanes_sum(delta);
        w->top[x] = g->lse[pair_head(c, b, x) * c->spans->queries + pair_row(c, b, x)];
    }
}

static void backward_block(const struct call *c, const struct block *b, struct scratch *w,
                           const struct gradients *g) {
    int32_t rows[KEYS];
    load_queries(c, b, w->q);
    load_outputs(c, b, w, g);
    memset(w->dq, 0, (size_t)(b->m * c->width) * sizeof *w->dq);
    for (int64_t at = 0; at < b->most; at += KEYS) {
        int n = (int)(b->most - at < KEYS ? b->most - at : KEYS);
        path_rows(c->spans, b->tile, at, n, rows);
        load_keys(c, w->k, c->k, c->k_row, b->group, rows, n);
        load_keys(c, w->v, c->v, c->v_row, b->group, rows, n);
        transpose(w->kt, w->k, n, c->width);
        transpose(w->vt, w->v, n, c->width);
        scores(c, b, w->s, w->q, w->kt, at, n);
        scores(c, b, w->ds, w->dout, w->vt, at, n);
        softmax_backward_chunk(b, w, at, n);
        weighted_sum(c, b, w->dq, w->ds, w->k, at, n);
        add_to_keys(c, b, g->dk, w->sum, w->ds, w->q, at, rows, n); /* q is scaled already */
        add_to_keys(c, b, g->dv, w->sum, w->s, w->dout, at, rows, n);
    }
    for (int x = 0; x < b->m; x++) {
        float *dq = w->dq + x * c->width;
        for (int64_t i = 0; i < c->d; i++) dq[i] = dq[i] * c->scale + 0.0f;
        store_row(c, g->dq, pair_at(c, b, x), dq);
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
            for (int32_t row = spans->tiles[t].q0; row < spans->tiles[t].q1; row += block_rows(c)) {
                struct block b = make_block(c, &spans->tiles[t], i % c->groups, row, w.seen);
                backward_block(c, &b, &w, g);
            }
    }
    lc_free(memory);
    return 0;
}

int cpu_attention_backward(void *dq, void *dk, void *dv, const void *dout, const void *o,
                           const float *lse, const void *q, const void *k, const void *v, int dtype,
                           const struct lc_spans *spans, int64_t heads, int64_t groups, int64_t d,
                           int64_t q_row, int64_t k_row, int64_t v_row, float scale) {
    struct call c = make_call(spans, q, k, v, dtype, heads, groups, d, q_row, k_row, v_row, scale);
    int64_t count = spans->keys * groups * d;
    struct gradients g = {dq, dk, dv, dout, o, lse};
    float *sums = NULL; /* dK and dV add up in f32 */
    if (dtype != LC_F32) {
        sums = lc_alloc(2 * (size_t)count * sizeof *sums);
        if (!sums) return -1;
        g.dk = sums;
        g.dv = sums + count;
    }
    memset(g.dk, 0, (size_t)count * sizeof *g.dk);
    memset(g.dv, 0, (size_t)count * sizeof *g.dv);
    int done = backward(&c, &g);
    if (!done && sums) {
        cpu_convert(dk, dtype, g.dk, LC_F32, count);
        cpu_convert(dv, dtype, g.dv, LC_F32, count);
    }
    lc_free(sums);
    return done;
}
