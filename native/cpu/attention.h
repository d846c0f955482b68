/* attention.h - what the ways of computing attention share: a call, its blocks of queries, its chunks of
 * keys (attention.c says what they are). */
#ifndef LC_CPU_ATTENTION_H
#define LC_CPU_ATTENTION_H
#include <math.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/lanes.h"

enum {
    KEYS = 64, /* of a chunk */
    AHEAD = 8  /* keys that are asked for before they are loaded */
};

/* What both directions know. */
struct call {
    const struct lc_spans *spans;
    const void *q, *k, *v;
    int dtype;
    int64_t heads, groups, share; /* share = heads / groups */
    int64_t d, width;             /* width = d rounded up to whole lanes */
    int32_t block_rows;           /* query rows of a tile that go into one block */
    int64_t pairs;                /* most pairs of a block, rounded up to whole lanes */
    int64_t q_row, k_row, v_row, o_row;
    float scale;
};

/* ---- blocks of queries ----------------------------------------------------------------------- */

struct pair {
    int32_t row, head;
    int64_t seen; /* path keys that it sees; never falls from pair to pair */
};

struct block {
    const struct lc_query_tile *tile;
    int64_t group;
    int m;        /* pairs: row by row, and head by head of the group */
    int64_t most; /* keys that the last of them sees */
    struct pair *pair;
};

static inline struct block make_block(const struct call *c, const struct lc_query_tile *t,
                                      int64_t group, int32_t row, struct pair *pair) {
    int32_t end = t->q1 - row < c->block_rows ? t->q1 : row + c->block_rows;
    struct block b = {.tile = t, .group = group, .pair = pair};
    for (; row < end; row++) {
        b.most = lc_tile_seen(c->spans, t, row);
        for (int64_t h = group * c->share; h < (group + 1) * c->share; h++)
            pair[b.m++] = (struct pair){row, (int32_t)h, b.most};
    }
    return b;
}

/* Where a pair begins in [queries, heads, d] whose rows lie `row` apart, and where its lse is. */
static inline int64_t pair_at(const struct call *c, const struct pair *p, int64_t row) {
    return p->row * row + p->head * c->d;
}

static inline int64_t lse_at(const struct call *c, const struct pair *p) {
    return p->head * c->spans->queries + p->row;
}

/* One row of d elements as f32, ended by zeros. */
static inline void load_row(const struct call *c, float *dst, const void *src, int64_t first) {
    const float *x =
        c->dtype == LC_F32 ? (const float *)src + first : cpu_load(dst, src, c->dtype, first, c->d);
    int64_t i = 0;
    for (; i + LANES <= c->d; i += LANES) lanes_put(dst + i, lanes_at(x + i));
    for (; i < c->d; i++) dst[i] = x[i];
    for (; i < c->width; i++) dst[i] = 0;
}

static inline void store_row(const struct call *c, void *dst, int64_t first, const float *src) {
    if (c->dtype == LC_F32) memcpy((float *)dst + first, src, (size_t)c->d * sizeof *src);
    else cpu_store(dst, c->dtype, first, src, c->d);
}

/* A pair's query, scaled. */
static inline void load_query(const struct call *c, const struct pair *p, float *row) {
    load_row(c, row, c->q, pair_at(c, p, c->q_row));
    for (int64_t i = 0; i < c->width; i += LANES) lanes_put(row + i, lanes_at(row + i) * c->scale);
}

/* A pair's sum o, the largest of its scores and the total of its weights become its output. */
static inline void finish_pair(const struct call *c, const struct pair *p, float *o, float top,
                               float total, void *out, float *lse) {
    const bool any = p->seen > 0;
    const float factor = any ? 1 / total : 0;
    /* adding 0 makes a -0 of underflow +0: its sign could tell what was beside the row */
    for (int64_t i = 0; i < c->d; i++) o[i] = o[i] * factor + 0.0f;
    store_row(c, out, pair_at(c, p, c->o_row), o);
    lse[lse_at(c, p)] = any ? top + logf(total) : -INFINITY;
}

/* ---- chunks of keys -------------------------------------------------------------------------- */

/* Path keys [at, at + n) and the rows they are stored in. */
struct chunk {
    int64_t at;
    int n;
    int32_t rows[KEYS];
};

static inline struct chunk make_chunk(const struct call *c, const struct block *b, int64_t at) {
    struct chunk k = {at, (int)(b->most - at < KEYS ? b->most - at : KEYS), {0}};
    int filled = 0;
    for (int32_t r = b->tile->r0; filled < k.n; r++) {
        const struct lc_range *range = &c->spans->ranges[r];
        int64_t length = range->k1 - range->k0;
        for (; at < length && filled < k.n; at++) k.rows[filled++] = range->k0 + (int32_t)at;
        at -= length;
    }
    return k;
}

/* Asks for elements that will be read soon: rows of a group lie far apart, out of the sight of the
 * processor's own prefetching. In line, for to gcc a function of nothing else does nothing, and its calls go. */
static inline __attribute__((always_inline)) void
prefetch_row(const struct call *c, const void *src, int64_t first, int64_t n) {
    const int64_t size = c->dtype == LC_F32 ? 4 : 2;
    const char *p = (const char *)src + first * size;
    for (int64_t i = 0; i < n * size; i += 64) __builtin_prefetch(p + i);
}

/* ---- items of work --------------------------------------------------------------------------- */

/* The i-th (tile, part of the groups) of a call: tree by tree, so that what was just read is read again. */
struct item {
    const struct lc_query_tile *tile;
    int64_t part;
};

static inline struct item item_at(const struct lc_spans *spans, int64_t parts, int64_t i) {
    const int32_t *first = spans->tree_first;
    int64_t tree = 0, end = spans->trees;
    while (end - tree > 1) {
        int64_t middle = (tree + end) / 2;
        if (first[middle] * parts <= i) tree = middle;
        else end = middle;
    }
    int64_t tiles = first[tree + 1] - first[tree], x = i - first[tree] * parts;
    return (struct item){&spans->tiles[first[tree] + x % tiles], x / tiles};
}

/* ---- few_queries.c --------------------------------------------------------------------------- */

/* Whether every tile of the call has few pairs of a query row and a head of a group: decoding. */
bool cpu_few_queries_serve(const struct call *c);
int cpu_few_queries(const struct call *c, int threads, void *out, float *lse);

#endif
