/* spans.c - query blocks, key blocks and chunk items out of a call's spans. */
#include "cuda/spans.h"

#include <stdlib.h>
#include <string.h>

void spans_free(struct spans_lists *lists) {
    free(lists->blocks);
    free(lists->keys);
    free(lists->items);
    memset(lists, 0, sizeof *lists);
}

/* malloc, but nothing is no failure. */
static void *make(int64_t count, size_t size) { return malloc((size_t)(count + 1) * size); }

/* Path keys that the last row of a tile sees. */
static int64_t most_of(const struct lc_spans *s, const struct lc_query_tile *t) {
    return lc_tile_seen(s, t, t->q1 - 1);
}

/* ---- longest first --------------------------------------------------------------------------- */

struct weighed {
    int64_t work;
    int32_t index;
};

static int by_work(const void *a, const void *b) {
    const struct weighed *x = a, *y = b;
    if (x->work != y->work) return x->work > y->work ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Puts `count` things of `size` bytes in the order of their work; w has index i at place i. */
static int sort_by_work(void *things, size_t size, struct weighed *w, int64_t count) {
    char *copy = make(count, size);
    if (!copy) return -1;
    qsort(w, (size_t)count, sizeof *w, by_work);
    memcpy(copy, things, (size_t)count * size);
    for (int64_t i = 0; i < count; i++)
        memcpy((char *)things + (size_t)i * size, copy + (size_t)w[i].index * size, size);
    free(copy);
    return 0;
}

/* ---- query blocks ---------------------------------------------------------------------------- */

int spans_make_blocks(struct spans_lists *lists, const struct lc_spans *s, int32_t rows) {
    struct lc_query_tile *blocks = make(s->tile_count, sizeof *blocks);
    struct weighed *work = make(s->tile_count, sizeof *work);
    int64_t n = 0;
    lists->blocks = blocks;
    if (!blocks || !work) goto fail;
    for (int32_t i = 0; i < s->tile_count; i++) {
        const struct lc_query_tile *t = &s->tiles[i];
        struct lc_query_tile *last = n ? &blocks[n - 1] : NULL;
        if (last && last->q1 == t->q0 && last->r0 == t->r0 && last->r1 == t->r1 &&
            t->q1 - last->q0 <= rows)
            last->q1 = t->q1;
        else blocks[n++] = *t;
    }
    for (int64_t i = 0; i < n; i++) work[i] = (struct weighed){most_of(s, &blocks[i]), (int32_t)i};
    if (sort_by_work(blocks, sizeof *blocks, work, n) < 0) goto fail;
    lists->block_count = n;
    free(work);
    return 0;
fail:
    free(work);
    return -1;
}

/* ---- key blocks ------------------------------------------------------------------------------ */

static int ascending(const void *a, const void *b) {
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return x < y ? -1 : x > y;
}

/* Where ranges begin and end, each once, with 0 and the number of keys around them. */
static int64_t find_cuts(const struct lc_spans *s, int32_t *cut) {
    int64_t n = 0, kept = 0;
    cut[n++] = 0;
    cut[n++] = (int32_t)s->keys;
    for (int32_t r = 0; r < s->range_count; r++) {
        if (s->ranges[r].k0 >= s->ranges[r].k1) continue;
        cut[n++] = s->ranges[r].k0;
        cut[n++] = s->ranges[r].k1;
    }
    qsort(cut, (size_t)n, sizeof *cut, ascending);
    for (int64_t i = 0; i < n; i++)
        if (!kept || cut[kept - 1] != cut[i]) cut[kept++] = cut[i];
    return kept;
}

/* Which of the cuts is at key k. */
static int64_t cut_at(const int32_t *cut, int64_t cuts, int32_t k) {
    int64_t low = 0, high = cuts - 1;
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (cut[middle] < k) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Whether a row of the tile sees key k. */
static bool sees(const struct lc_spans *s, int32_t tile, int32_t k) {
    const struct lc_query_tile *t = &s->tiles[tile];
    const int32_t r = spans_find(s->ranges, t, k);
    return r >= 0 && k - s->ranges[r].k0 < spans_seen(&s->ranges[r], t->q1 - 1);
}

struct interval {
    int32_t t0, t1; /* none: t0 = t1 */
};

/* of[c]: the tiles that see cut interval c, from the first to the last */
static void find_tiles(const struct lc_spans *s, const int32_t *cut, int64_t cuts,
                       struct interval *of) {
    for (int64_t c = 0; c < cuts; c++) of[c] = (struct interval){0, 0};
    for (int32_t i = 0; i < s->tile_count; i++)
        for (int32_t r = s->tiles[i].r0; r < s->tiles[i].r1; r++) {
            const struct lc_range *range = &s->ranges[r];
            if (range->k0 >= range->k1) continue;
            for (int64_t c = cut_at(cut, cuts, range->k0); cut[c] < range->k1; c++) {
                if (of[c].t0 == of[c].t1) of[c].t0 = i;
                of[c].t1 = i + 1;
            }
        }
}

int spans_make_keys(struct spans_lists *lists, const struct lc_spans *s) {
    int32_t *cut = make(2 * (int64_t)s->range_count + 2, sizeof *cut);
    struct interval *of = NULL;
    struct weighed *work = NULL;
    int64_t n = 0, room = 0, cuts = cut ? find_cuts(s, cut) : 0;
    for (int64_t c = 0; c + 1 < cuts; c++)
        room += (cut[c + 1] - cut[c] + KEY_BLOCK - 1) / KEY_BLOCK;
    struct key_block *keys = lists->keys = make(room, sizeof *keys);
    of = make(cuts, sizeof *of);
    work = make(room, sizeof *work);
    if (!cut || !keys || !of || !work) goto fail;
    find_tiles(s, cut, cuts, of);
    for (int64_t c = 0; c + 1 < cuts; c++)
        for (int32_t k = cut[c]; k < cut[c + 1]; k += KEY_BLOCK) {
            const int32_t left = cut[c + 1] - k;
            struct key_block b = {k, k + (left < KEY_BLOCK ? left : KEY_BLOCK), of[c].t0, of[c].t1};
            while (b.t0 < b.t1 && !sees(s, b.t0, k)) b.t0++; /* causal: before the key */
            work[n] = (struct weighed){b.t1 - b.t0, (int32_t)n};
            keys[n++] = b;
        }
    if (sort_by_work(keys, sizeof *keys, work, n) < 0) goto fail;
    lists->key_count = n;
    free(cut);
    free(of);
    free(work);
    return 0;
fail:
    free(cut);
    free(of);
    free(work);
    return -1;
}

/* ---- chunk items ----------------------------------------------------------------------------- */

/* Whether two tiles have the same rows in a chunk, as far as both see. The cursors are before it. */
static bool same_rows(const struct lc_spans *s, struct spans_cursor a, struct spans_cursor b,
                      int64_t at, int64_t end) {
    while (at < end) {
        const int32_t x = spans_row(s->ranges, &a, at), y = spans_row(s->ranges, &b, at);
        if (x != y) return false;
        if (x < 0) return true;
        /* both go on to the end of the shorter range */
        const int64_t left_a = a.start + s->ranges[a.r].k1 - s->ranges[a.r].k0 - at;
        const int64_t left_b = b.start + s->ranges[b.r].k1 - s->ranges[b.r].k0 - at;
        at += left_a < left_b ? left_a : left_b;
    }
    return true;
}

int spans_make_items(struct spans_lists *lists, const struct lc_spans *s, int64_t share) {
    const int32_t most = share < CHUNK_PAIRS ? (int32_t)(CHUNK_PAIRS / share) : 1;
    struct spans_cursor *at = make(s->tile_count, sizeof *at);
    int64_t *seen = make(s->tile_count, sizeof *seen), room = 0, chunks = 0, n = 0;
    if (!at || !seen) goto fail;
    for (int32_t i = 0; i < s->tile_count; i++) {
        const struct lc_query_tile *t = &s->tiles[i];
        at[i] = (struct spans_cursor){t->r0, t->r1, 0};
        seen[i] = most_of(s, t);
        const int64_t own = spans_chunks(seen[i]);
        room += own;
        if (own > chunks) chunks = own;
    }
    struct chunk_item *items = lists->items = make(room, sizeof *items);
    if (!items) goto fail;
    for (int64_t c = 0; c < chunks; c++) {
        struct chunk_item *last = NULL;
        for (int32_t i = 0; i < s->tile_count; i++) {
            if (c >= spans_chunks(seen[i])) {
                last = NULL;
                continue;
            }
            spans_row(s->ranges, &at[i], c * CHUNK);
            if (last && last->tiles < most &&
                same_rows(s, at[last->tile], at[i], c * CHUNK, (c + 1) * CHUNK))
                last->tiles++;
            else {
                last = &items[n++];
                *last = (struct chunk_item){(int32_t)c, i, 1};
            }
        }
    }
    lists->item_count = n;
    free(at);
    free(seen);
    return 0;
fail:
    free(at);
    free(seen);
    return -1;
}
