/* few_queries.c - forest attention of a pair or a few to a tile: what decoding does.
 *
 * It is as fast as the keys and values can be read. Several groups walk the path together, so that what
 * is read lies side by side; keys are multiplied as they lie (turn.h), a vector's lanes are keys. Every
 * sum is that of attention.c, in its order: a score over the features, a total and an output over the
 * keys one by one; so a row's bits are the same here and there. */
#include "cpu/attention.h"

#include "base/memory.h"
#include "base/parallel.h"
#include "cpu/turn.h"

#ifdef LC_TURN

enum {
    FEW = 4,   /* most pairs */
    SIDE = 2,  /* chains of scores */
    PARTED = 2 /* items that each thread gets of one row, so that they end together */
};

/* One group of a tile. Beside the others of its item it is a cursor over the same chunks of keys. */
struct few {
    struct pair pair[FEW];
    struct block b;
    float top[FEW], total[FEW];
    float *q, *o; /* [m, width] */
};

bool cpu_few_queries_serve(const struct call *c) {
    for (int32_t i = 0; i < c->spans->tile_count; i++) {
        const struct lc_query_tile *t = &c->spans->tiles[i];
        if ((t->q1 - t->q0) * c->share > FEW) return false;
    }
    return true;
}

/* What is read once a group is done with a chunk: a chunk's keys, and whose. */
struct next {
    const struct chunk *k;
    int64_t group;
};

/* s [m, KEYS] = the scores of the chunk's keys, SIDE times COLS of them side by side: one chain would wait for
 * itself at every step. Beyond the last key the last again: never used. For every line that is multiplied one of the
 * next keys is asked for: memory is as busy as the processor. */
static inline __attribute__((always_inline)) void scores(enum kind kind, int m,
                                                         const struct call *c, const struct few *w,
                                                         const struct chunk *k,
                                                         const struct next *next, float *s) {
    const int64_t size = (int64_t)lc_dtype_bytes(c->dtype), bytes = c->d * size;
    const unsigned char *own = (const unsigned char *)c->k + w->b.group * bytes,
                        *later = (const unsigned char *)c->k + next->group * bytes;
    const int steps = line_steps(kind);
    for (int j = 0; j < k->n; j += SIDE * COLS) {
        const unsigned char *b[SIDE * COLS], *then[SIDE * COLS];
        wide acc[SIDE][FEW];
        struct left x = {w->q, c->width};
        int64_t at = 0;
        for (int i = 0; i < SIDE * COLS; i++) {
            b[i] = own + k->rows[j + i < k->n ? j + i : k->n - 1] * c->k_row * size;
            then[i] = later + next->k->rows[j + i] * c->k_row * size;
        }
        for (int i = 0; i < SIDE; i++)
            for (int r = 0; r < m; r++) acc[i][r] = OP(setzero_ps)();
        for (; at + LINE <= bytes; at += LINE, x.a += steps)
            for (int i = 0; i < SIDE; i++) {
                for (int l = 0; l < COLS; l++) __builtin_prefetch(then[i * COLS + l] + at);
                multiply_line(kind, acc[i], b + i * COLS, at, &x, m, steps);
            }
        for (int i = 0; at < bytes && i < SIDE; i++)
            multiply_rest(kind, acc[i], b + i * COLS, at, &x, m, (int)((bytes - at) / size),
                          bytes - at);
        for (int i = 0; i < SIDE; i++)
            for (int r = 0; r < m; r++) OP(storeu_ps)(s + r * KEYS + j + i * COLS, acc[i][r]);
    }
}

typedef void scores_function(const struct call *c, const struct few *w, const struct chunk *k,
                             const struct next *next, float *s);

#define DEFINE(KIND, M)                                                                            \
    static void KIND##_##M(const struct call *c, const struct few *w, const struct chunk *k,       \
                           const struct next *next, float *s) {                                    \
        scores(KIND, M, c, w, k, next, s);                                                         \
    }
#define DEFINE_KIND(kind) DEFINE(kind, 1) DEFINE(kind, 2) DEFINE(kind, 3) DEFINE(kind, 4)
DEFINE_KIND(WITH_F32)
DEFINE_KIND(WITH_F16)
DEFINE_KIND(WITH_BF16)
static scores_function *const score[3][FEW] = {
    [WITH_F32] = {WITH_F32_1, WITH_F32_2, WITH_F32_3, WITH_F32_4},
    [WITH_F16] = {WITH_F16_1, WITH_F16_2, WITH_F16_3, WITH_F16_4},
    [WITH_BF16] = {WITH_BF16_1, WITH_BF16_2, WITH_BF16_3, WITH_BF16_4}};

/* s [n]: scores -> exp(score - top); top and total follow. Returns what the output so far is worth. */
static float softmax(float *s, int n, float *top, float *total) {
    lanes most = lanes_all(*top);
    float high = *top, sum = 0;
    for (int j = n; j % LANES; j++) s[j] = -INFINITY;
    for (int j = 0; j < n; j += LANES) {
        const lanes y = lanes_at(s + j);
        most = lanes_pick(y > most, y, most);
    }
    for (int i = 0; i < LANES; i++) high = most[i] > high ? most[i] : high;
    for (int j = 0; j < n; j += LANES) lanes_put(s + j, lanes_exp(lanes_at(s + j) - high));
    for (int j = 0; j < n; j++) sum += s[j];
    const float factor = high > *top ? lanes_exp(lanes_all(*top - high))[0] : 1;
    *total = __builtin_fmaf(*total, factor, sum);
    *top = high;
    return factor;
}

/* LANES elements as floats */
static inline lanes values_at(const void *p, int dtype, int64_t first) {
    if (dtype == LC_F32) return lanes_at((const float *)p + first);
    half h;
    memcpy(&h, (const uint16_t *)p + first, sizeof h);
    if (dtype == LC_F16) return (lanes)OP(cvtph_ps)(h);
    return (lanes)((lanes_bits)OP(cvtepu16_epi32)(h) << 16);
}

enum { BLOCK = 8 }; /* vectors of an output that are in registers together */

/* o[first..] = o * factor + the sum of s[j] values[j], for `vectors` vectors; the next ones are asked for */
static inline __attribute__((always_inline)) void
add_values(const struct call *c, const struct few *w, const struct chunk *k,
           const struct next *next, const float *s, int n, float factor, float *o, int64_t first,
           int vectors) {
    lanes sum[BLOCK];
    for (int i = 0; i < vectors; i++) {
        sum[i] = lanes_at(o + first + i * LANES);
        if (factor != 1) sum[i] *= factor;
    }
    for (int j = 0; j < n; j++) {
        const int64_t at = k->rows[j] * c->v_row + w->b.group * c->d + first;
        const lanes f = lanes_all(s[j]);
        prefetch_row(c, c->v, next->k->rows[j] * c->v_row + next->group * c->d + first,
                     vectors * LANES);
        for (int i = 0; i < vectors; i++)
            sum[i] = lanes_fma(f, values_at(c->v, c->dtype, at + i * LANES), sum[i]);
    }
    for (int i = 0; i < vectors; i++) lanes_put(o + first + i * LANES, sum[i]);
}

/* The last features, which do not fill a vector. */
static void add_rest(const struct call *c, const struct few *w, const struct chunk *k,
                     const float *s, int n, float factor, float *o, int64_t first) {
    float buffer[LANES] = {0};
    lanes sum = lanes_at(o + first);
    if (factor != 1) sum *= factor;
    for (int j = 0; j < n; j++) {
        const int64_t at = k->rows[j] * c->v_row + w->b.group * c->d + first;
        const float *v = cpu_load(buffer, c->v, c->dtype, at, c->d - first);
        if (v != buffer) memcpy(buffer, v, (size_t)(c->d - first) * sizeof *v);
        sum = lanes_fma(lanes_all(s[j]), lanes_at(buffer), sum);
    }
    lanes_put(o + first, sum);
}

static void walk_chunk(const struct call *c, struct few *w, const struct chunk *k,
                       const struct next *next) {
    float s[FEW * KEYS];
    score[c->dtype == LC_F32   ? WITH_F32
          : c->dtype == LC_F16 ? WITH_F16
                               : WITH_BF16][w->b.m - 1](c, w, k, next, s);
    for (int x = 0; x < w->b.m; x++) {
        const int n = (int)(w->pair[x].seen - k->at < k->n ? w->pair[x].seen - k->at : k->n);
        if (n <= 0) continue;
        float *o = w->o + x * c->width;
        const float factor = softmax(s + x * KEYS, n, &w->top[x], &w->total[x]);
        int64_t first = 0;
        for (; first + BLOCK * LANES <= c->d; first += BLOCK * LANES)
            add_values(c, w, k, next, s + x * KEYS, n, factor, o, first, BLOCK);
        for (; first + LANES <= c->d; first += LANES)
            add_values(c, w, k, next, s + x * KEYS, n, factor, o, first, 1);
        if (first < c->d) add_rest(c, w, k, s + x * KEYS, n, factor, o, first);
    }
}

/* Groups [first, end) of a tile, their memory at w. */
static void walk_path(const struct call *c, const struct lc_query_tile *t, int64_t first,
                      int64_t end, struct few *w, void *out, float *lse) {
    const int64_t groups = end - first;
    for (int64_t g = 0; g < groups; g++) {
        w[g].b = make_block(c, t, first + g, t->q0, w[g].pair);
        for (int x = 0; x < w[g].b.m; x++) {
            load_query(c, &w[g].pair[x], w[g].q + x * c->width);
            w[g].top[x] = -INFINITY, w[g].total[x] = 0;
        }
        memset(w[g].o, 0, (size_t)(w[g].b.m * c->width) * sizeof *w[g].o);
    }
    struct chunk k = make_chunk(c, &w->b, 0), then;
    for (int64_t at = 0; at < w->b.most; at += KEYS, k = then) {
        then = make_chunk(c, &w->b, at + KEYS < w->b.most ? at + KEYS : at);
        for (int64_t g = 0; g < groups; g++) {
            const bool more = g + 1 < groups;
            walk_chunk(c, &w[g], &k,
                       &(struct next){more ? &k : &then, more ? first + g + 1 : first});
        }
    }
    for (int64_t g = 0; g < groups; g++)
        for (int x = 0; x < w[g].b.m; x++)
            finish_pair(c, &w[g].pair[x], w[g].o + x * c->width, w[g].top[x], w[g].total[x], out,
                        lse);
}

/* A lone row has all of its groups side by side, as many to an item as keep every thread busy; rows that
 * share their path take it in turns, group by group, while it is in the cache. */
static int64_t groups_of_item(const struct call *c, int threads) {
    if (c->spans->tile_count > c->spans->trees) return 1;
    const int64_t items = PARTED * threads;
    return threads > 1 ? (c->groups + items - 1) / items : c->groups;
}

int cpu_few_queries(const struct call *c, int threads, void *out, float *lse) {
    const int64_t each = groups_of_item(c, threads), parts = (c->groups + each - 1) / each;
    const int64_t items = c->spans->tile_count * parts, floats = 2 * FEW * c->width;
    struct few *few =
        lc_alloc((size_t)(threads * each) * (sizeof *few + (size_t)floats * sizeof(float)));
    if (!few) return -1;
    float *rows = (float *)(void *)(few + threads * each);
    for (int64_t i = 0; i < threads * each; i++, rows += floats) {
        few[i].q = rows;
        few[i].o = rows + FEW * c->width;
    }
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < items; i++) {
        const struct item at = item_at(c->spans, parts, i);
        const int64_t first = at.part * each,
                      end = first + each < c->groups ? first + each : c->groups;
        walk_path(c, at.tile, first, end, few + omp_get_thread_num() * each, out, lse);
    }
    lc_free(few);
    return 0;
}

#else

bool cpu_few_queries_serve(const struct call *c) {
    (void)c;
    return false;
}

int cpu_few_queries(const struct call *c, int threads, void *out, float *lse) {
    (void)c, (void)threads, (void)out, (void)lse;
    return -1;
}

#endif
