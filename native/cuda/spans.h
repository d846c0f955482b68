/* spans.h - from lc_spans to the lists of work that attention kernels walk. Plain C, for the host
 * and for kernels.
 *
 * Three lists, each sorted so that the longest work starts first:
 *   query blocks  up to `rows` query rows of one segment: whole tiles that see the same path
 *   key blocks    up to KEY_BLOCK keys that are in the same ranges of every tile, with the interval
 *                 of tiles that see them; every key is in one, so all of dK and dV is written
 *   chunk items   for decoding: CHUNK path keys from a fixed path position on, and the tiles of one
 *                 row each, next to each other in the list, whose path has the same rows there; who
 *                 sees nothing has one chunk without keys, so that every row is written
 * Nothing that a kernel adds up depends on how rows were put together: a query row's sums follow its
 * path, a key's sums follow the tiles. */
#ifndef LC_CUDA_SPANS_H
#define LC_CUDA_SPANS_H
#ifdef __cplusplus
extern "C" {
#include "kernels.h"
}
#else
#include "kernels.h"
#endif

#ifdef __CUDACC__
#define SPANS_BOTH static __host__ __device__ __forceinline__
#else
#define SPANS_BOTH static inline
#endif

enum {
    KEY_BLOCK = 64,
    CHUNK = 128, /* path keys of an item, a constant: then a row's sums do not depend on others */
    CHUNK_PAIRS = 16 /* pairs of row and head in an item */
};

struct key_block {
    int32_t k0, k1;
    int32_t t0, t1; /* tiles that may see it; the first and the last of them do */
};

struct chunk_item {
    int32_t chunk;       /* path keys from chunk * CHUNK on */
    int32_t tile, tiles; /* which tiles */
};

/* The range of tile t that holds key k, -1: none. Ranges of a path that has gradients ascend. */
SPANS_BOTH int32_t spans_find(const struct lc_range *ranges, const struct lc_query_tile *t,
                              int32_t k) {
    int32_t low = t->r0, high = t->r1; /* the last range with k0 <= k is below high */
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (ranges[middle].k0 <= k) low = middle + 1;
        else high = middle;
    }
    return low > t->r0 && k < ranges[low - 1].k1 ? low - 1 : -1;
}

/* How many keys of a range row i sees; lc_range_seen for both sides. */
SPANS_BOTH int32_t spans_seen(const struct lc_range *r, int32_t i) {
    int32_t all = r->k1 - r->k0, causal = i - r->q_lo + 1;
    if (i < r->q_lo || i >= r->q_hi) return 0;
    return r->step && causal < all ? causal : all;
}

/* Chunks of a row that sees so many path keys. */
SPANS_BOTH int32_t spans_chunks(int64_t seen) {
    return seen > CHUNK ? (int32_t)((seen + CHUNK - 1) / CHUNK) : 1;
}

/* Key k + x of range r is seen by rows x + ahead of the tile on; ahead is far below 0 where all do. */
SPANS_BOTH int32_t spans_ahead(const struct lc_range *r, const struct lc_query_tile *t, int32_t k) {
    return r->step ? k - r->k0 - (t->q0 - r->q_lo) : -KEY_BLOCK;
}

/* A place on a path. */
struct spans_cursor {
    int32_t r, r1; /* the range it is in */
    int64_t start; /* path position of that range's first key */
};

/* The row of path key `at`, which is not before the cursor's range; -1 behind the end. */
SPANS_BOTH int32_t spans_row(const struct lc_range *ranges, struct spans_cursor *c, int64_t at) {
    while (c->r < c->r1) {
        const int32_t k0 = ranges[c->r].k0, length = ranges[c->r].k1 - k0;
        if (at - c->start < length) return k0 + (int32_t)(at - c->start);
        c->start += length;
        c->r++;
    }
    return -1;
}

#ifdef __cplusplus
extern "C" {
#endif

/* All lists of one kind in one piece of memory, which spans_free gives back. */
struct spans_lists {
    struct lc_query_tile *blocks;
    struct key_block *keys;
    struct chunk_item *items;
    int64_t block_count, key_count, item_count;
};

/* Each makes one list in `lists`; -1: no memory. */
int spans_make_blocks(struct spans_lists *lists, const struct lc_spans *s, int32_t rows);
int spans_make_keys(struct spans_lists *lists, const struct lc_spans *s);
int spans_make_items(struct spans_lists *lists, const struct lc_spans *s, int64_t share);
void spans_free(struct spans_lists *lists);

#ifdef __cplusplus
}
#endif
#endif
