/* cache.c - slots, who uses them, and the spans of a pass over cached keys.
 *
 * users[s] is the number of leaves that see slot s; 0: free. A leaf's slots are held as runs of
 * consecutive ones. A leaf that cannot go on where it ended begins a new block of BLOCK slots, so
 * that leaves that grow side by side keep long runs. */
#include "nn/cache.h"

#include "base/error.h"
#include "base/memory.h"
#include "nn/forest.h"
#include "tensor/device.h"
#include "ops/attention.h"

#include <inttypes.h>
#include <string.h>

enum {
    BLOCK = 16,
    LINE = 64 /* bytes of a cache's line */
};

struct run {
    int32_t first, count;
};

struct leaf {
    struct run *runs; /* in the order of the path */
    int count, room;
    int64_t length;
    int64_t planned; /* the last pass that it was in */
    bool live;
};

struct layer {
    lc_tensor *k, *v; /* [slots, groups, d], slots slot_row elements apart, held */
};

struct lc_cache {
    struct layer *layers;
    int layer_count, dtype, device;
    int64_t slots, groups, d, slot_row, free;
    int32_t *users; /* [slots] */
    int64_t cursor; /* the block where the last search for a free one ended */
    struct leaf *leaves;
    int leaf_count, leaf_room;

    int64_t storage; /* changes when keys and values, or the lists of rows, move */

    /* the planned pass */
    int64_t pass;    /* its number */
    lc_tensor *rows; /* i32 [2 n or more], held: slots of its n rows, then their positions */
    struct lc_spans spans;
    struct lc_range *ranges;
    struct lc_query_tile *tiles;
    int32_t *tree_first;
};

/* ---- making ---------------------------------------------------------------------------------- */

static void free_plan(struct lc_cache *c) {
    lc_free(c->ranges);
    lc_free(c->tiles);
    lc_free(c->tree_first);
    c->ranges = NULL;
    c->tiles = NULL;
    c->tree_first = NULL;
    c->spans = (struct lc_spans){0};
}

void lc_cache_free(struct lc_cache *c) {
    if (!c) return;
    free_plan(c);
    lc_tensor_release(c->rows);
    for (int i = 0; i < c->leaf_count; i++) lc_free(c->leaves[i].runs);
    for (int i = 0; c->layers && i < c->layer_count; i++) {
        lc_tensor_release(c->layers[i].k);
        lc_tensor_release(c->layers[i].v);
    }
    lc_free(c->layers);
    lc_free(c->users);
    lc_free(c->leaves);
    lc_free(c);
}

/* A tensor that is held and belongs to no scope. */
static lc_tensor *held(int ndim, const int64_t *shape, int dtype, int device) {
    int before = lc_pool(), tag = lc_device_tag(LC_FOR_CACHE);
    lc_scope_outside(1);
    lc_tensor *t = lc_tensor_retain(lc_tensor_new(ndim, shape, dtype, device));
    lc_scope_outside(0);
    lc_device_tag(tag);
    lc_pool_end(before, NULL);
    return t;
}

/* Elements from a slot to the next. On the host they are an odd number of cache lines: attention reads a head's keys slot
 * by slot, and at a round distance they would all fall into the same few sets of the first cache. */
static int64_t slot_row(int64_t width, int dtype, int device) {
    const int64_t size = (int64_t)lc_dtype_bytes(dtype), lines = (width * size + LINE - 1) / LINE;
    return device == LC_HOST ? (lines | 1) * LINE / size : width;
}

/* A layer's keys or values. */
static lc_tensor *held_slots(const struct lc_cache *c, int64_t slots) {
    lc_tensor *whole = held(2, (int64_t[]){slots, c->slot_row}, c->dtype, c->device), *t = NULL;
    int before = lc_pool();
    if (whole)
        t = lc_tensor_retain(lc_tensor_alias(whole, 3, (int64_t[]){slots, c->groups, c->d},
                                             (int64_t[]){c->slot_row, c->d, 1}, 0));
    lc_pool_end(before, NULL);
    lc_tensor_release(whole);
    return t;
}

struct lc_cache *lc_cache_new(int layers, int64_t slots, int64_t groups, int64_t d, int dtype,
                              int device) {
    if (layers < 0 || slots < 0 || slots > INT32_MAX)
        return lc_fail_null(LC_EINVAL, "cache: %d layers of %" PRId64 " slots; at most %d slots",
                            layers, slots, INT32_MAX);
    struct lc_cache *c = lc_alloc_zero(sizeof *c);
    if (!c) return NULL;
    c->layer_count = layers;
    c->dtype = dtype;
    c->device = device;
    c->slots = c->free = slots;
    c->groups = groups;
    c->d = d;
    c->slot_row = slot_row(groups * d, dtype, device);
    c->users = lc_alloc_zero((size_t)slots * sizeof *c->users);
    c->layers = lc_alloc_zero((size_t)layers * sizeof *c->layers);
    bool ok = c->users && c->layers;
    for (int i = 0; ok && i < layers; i++) {
        c->layers[i].k = held_slots(c, slots);
        c->layers[i].v = held_slots(c, slots);
        ok = c->layers[i].k && c->layers[i].v;
    }
    if (ok) return c;
    lc_cache_free(c);
    return NULL;
}

/* The first `from` slots of a layer's tensor in a new one of `to` slots; slot: 0, 1, 2 ... */
static int widen(const struct lc_cache *c, lc_tensor **t, int64_t from, int64_t to,
                 const lc_tensor *slot) {
    if ((*t)->shape[0] >= to) return 0;
    lc_tensor *wide = held_slots(c, to);
    if (!wide) return -1;
    int done = lc_kernels_of(wide)->put_rows(lc_data(wide), lc_data(*t), c->dtype, lc_data(slot),
                                             from, c->slot_row, c->slot_row);
    lc_tensor_release(done < 0 ? wide : *t);
    if (!done) *t = wide;
    return done;
}

int lc_cache_reserve(struct lc_cache *c, int64_t free) {
    int64_t old = c->slots, more = free - c->free, slots = old;
    if (more <= 0) return 0;
    slots += more > old / 2 ? more : old / 2;
    if (slots > INT32_MAX)
        return lc_fail(LC_EINVAL, "cache: %" PRId64 " slots are needed; at most %d", slots,
                       INT32_MAX);
    lc_tensor *slot = held(1, &old, LC_I32, c->device);
    int32_t *index = lc_alloc((size_t)old * sizeof *index);
    int done = slot && index ? 0 : -1;
    for (int64_t i = 0; !done && i < old; i++) index[i] = (int32_t)i;
    if (!done) done = lc_tensor_write(slot, index, (size_t)old * sizeof *index);
    for (int i = 0; !done && i < c->layer_count; i++) {
        done = widen(c, &c->layers[i].k, old, slots, slot);
        if (!done) done = widen(c, &c->layers[i].v, old, slots, slot);
    }
    lc_tensor_release(slot);
    lc_free(index);
    int32_t *users = done ? NULL : lc_realloc(c->users, (size_t)slots * sizeof *users);
    if (!users) return -1;
    memset(users + old, 0, (size_t)(slots - old) * sizeof *users);
    c->users = users;
    c->slots = slots;
    c->free += slots - old;
    c->storage++;
    return 0;
}

/* ---- leaves ---------------------------------------------------------------------------------- */

static struct leaf *leaf_of(const struct lc_cache *c, int leaf) {
    if (leaf >= 0 && leaf < c->leaf_count && c->leaves[leaf].live) return &c->leaves[leaf];
    return lc_fail_null(LC_EINVAL, "cache: there is no live leaf %d of %d", leaf, c->leaf_count);
}

static int reserve_runs(struct leaf *l, int64_t count) {
    if (count <= l->room) return 0;
    int64_t room = count > 2 * (int64_t)l->room ? count : 2 * (int64_t)l->room;
    struct run *runs = lc_realloc(l->runs, (size_t)room * sizeof *runs);
    if (!runs) return -1;
    l->runs = runs;
    l->room = (int)room;
    return 0;
}

/* A new leaf with room for that many runs; its number, or -1. A dropped one's number comes again. */
static int new_leaf(struct lc_cache *c, int64_t runs) {
    for (int i = 0; i < c->leaf_count; i++)
        if (!c->leaves[i].live) {
            c->leaves[i] = (struct leaf){0};
            if (reserve_runs(&c->leaves[i], runs) < 0) return -1;
            c->leaves[i].live = true;
            return i;
        }
    if (c->leaf_count == c->leaf_room) {
        int room = c->leaf_room ? 2 * c->leaf_room : 16;
        struct leaf *leaves = lc_realloc(c->leaves, (size_t)room * sizeof *leaves);
        if (!leaves) return -1;
        c->leaves = leaves;
        c->leaf_room = room;
    }
    struct leaf *l = &c->leaves[c->leaf_count];
    *l = (struct leaf){.live = true};
    return reserve_runs(l, runs) < 0 ? -1 : c->leaf_count++;
}

/* The leaf begins (by 1) or ceases (by -1) to use its slots from a path position on. */
static void count_users(struct lc_cache *c, const struct run *runs, int count, int by) {
    for (int r = 0; r < count; r++)
        for (int32_t s = runs[r].first; s < runs[r].first + runs[r].count; s++) {
            c->free -= by > 0 && c->users[s] == 0;
            c->users[s] += by;
            c->free += c->users[s] == 0;
        }
}

int lc_cache_root(struct lc_cache *c) { return new_leaf(c, 1); }

int lc_cache_fork(struct lc_cache *c, int leaf) {
    const struct leaf *old = leaf_of(c, leaf);
    int copy = old ? new_leaf(c, old->count) : -1;
    if (copy < 0) return -1;
    old = &c->leaves[leaf]; /* the list may have moved */
    struct leaf *l = &c->leaves[copy];
    if (old->count) memcpy(l->runs, old->runs, (size_t)old->count * sizeof *l->runs);
    l->count = old->count;
    l->length = old->length;
    count_users(c, l->runs, l->count, 1);
    return copy;
}

int lc_cache_drop(struct lc_cache *c, int leaf) {
    struct leaf *l = leaf_of(c, leaf);
    if (!l) return -1;
    count_users(c, l->runs, l->count, -1);
    lc_free(l->runs);
    *l = (struct leaf){0};
    return 0;
}

int64_t lc_cache_length(const struct lc_cache *c, int leaf) {
    const struct leaf *l = leaf_of(c, leaf);
    return l ? l->length : -1;
}

int64_t lc_cache_free_slots(const struct lc_cache *c) { return c->free; }

/* ---- slots ----------------------------------------------------------------------------------- */

static int64_t free_from(const struct lc_cache *c, int64_t first, int64_t most) {
    int64_t n = 0;
    while (n < most && first + n < c->slots && !c->users[first + n]) n++;
    return n;
}

/* The first of n free slots in a row, or -1. */
static int64_t find_row(const struct lc_cache *c, int64_t n) {
    for (int64_t at = 0; at + n <= c->slots; at++) {
        int64_t free = free_from(c, at, n);
        if (free == n) return at;
        at += free;
    }
    return -1;
}

/* Where a leaf goes on: behind its last slot, else in a free block, else in any free slot. */
static int32_t find_slot(struct lc_cache *c, const struct leaf *l) {
    if (l->count) {
        int64_t next = l->runs[l->count - 1].first + l->runs[l->count - 1].count;
        if (free_from(c, next, 1)) return (int32_t)next;
    }
    int64_t blocks = c->slots / BLOCK;
    for (int64_t i = 0; i < blocks; i++) {
        int64_t block = (c->cursor + i) % blocks;
        if (free_from(c, block * BLOCK, BLOCK) < BLOCK) continue;
        c->cursor = block;
        return (int32_t)(block * BLOCK);
    }
    return (int32_t)find_row(c, 1);
}

/* Gives the leaf one more slot; there is a free one, and room for a run. */
static int32_t grow(struct lc_cache *c, struct leaf *l) {
    int32_t slot = find_slot(c, l);
    struct run *last = l->count ? &l->runs[l->count - 1] : NULL;
    if (last && last->first + last->count == slot) last->count++;
    else l->runs[l->count++] = (struct run){slot, 1};
    l->length++;
    c->users[slot] = 1;
    c->free--;
    return slot;
}

/* ---- planning a pass ------------------------------------------------------------------------- */

/* Empties the plan and makes room for a new one. */
static int begin_plan(struct lc_cache *c, int64_t rows, int64_t ranges, int64_t tiles,
                      int32_t trees) {
    free_plan(c);
    if (ranges > INT32_MAX)
        return lc_fail(LC_EINVAL, "cache: %" PRId64 " ranges of keys in one pass", ranges);
    c->ranges = lc_alloc((size_t)ranges * sizeof *c->ranges);
    c->tiles = lc_alloc((size_t)tiles * sizeof *c->tiles);
    c->tree_first = lc_alloc(((size_t)trees + 1) * sizeof *c->tree_first);
    if (!c->rows || c->rows->shape[0] < 2 * rows) {
        lc_tensor *more = held(1, (int64_t[]){2 * rows}, LC_I32, c->device);
        if (!more) return -1;
        lc_tensor_release(c->rows);
        c->rows = more;
        c->storage++;
    }
    c->spans = (struct lc_spans){.ranges = c->ranges,
                                 .tiles = c->tiles,
                                 .tree_first = c->tree_first,
                                 .trees = trees,
                                 .queries = rows,
                                 .keys = c->slots};
    return c->ranges && c->tiles && c->tree_first ? 0 : -1;
}

/* rows: where they go, then where they stand, on the host. */
static int end_plan(struct lc_cache *c, const int32_t *rows) {
    c->tree_first[c->spans.trees] = c->spans.tile_count;
    c->spans.number = lc_spans_number();
    return lc_kernels_of(c->rows)->upload(lc_data(c->rows), rows,
                                          2 * (size_t)c->spans.queries * sizeof *rows);
}

/* A new leaf that sees a segment's path, whose packed rows are in slots base on. */
static int add_prompt_leaf(struct lc_cache *c, const lc_forest *f, int segment, int32_t base) {
    int64_t runs = 0;
    for (int i = segment; i >= 0; i = f->segment[i].parent) runs += f->segment[i].length > 0;
    int leaf = new_leaf(c, runs);
    if (leaf < 0) return -1;
    struct leaf *l = &c->leaves[leaf];
    l->count = (int)runs;
    for (int i = segment; i >= 0; i = f->segment[i].parent) {
        const struct lc_segment *s = &f->segment[i];
        if (s->length) l->runs[--runs] = (struct run){base + s->first, s->length};
        l->length += s->length;
    }
    count_users(c, l->runs, l->count, 1);
    return 0;
}

/* The forest's spans with their keys in slots base on. */
static int plan_forest(struct lc_cache *c, const lc_forest *f, int32_t base) {
    const struct lc_spans *s = &f->spans;
    int32_t *slot = lc_alloc(2 * (size_t)f->rows * sizeof *slot), *position = slot + f->rows;
    int done = slot ? begin_plan(c, f->rows, s->range_count, s->tile_count, s->trees) : -1;
    if (!done) {
        for (int64_t i = 0; i < f->rows; i++) slot[i] = base + (int32_t)i;
        lc_forest_fill_positions(f, position);
        for (int32_t r = 0; r < s->range_count; r++) {
            c->ranges[r] = s->ranges[r];
            c->ranges[r].k0 += base;
            c->ranges[r].k1 += base;
        }
        if (s->tile_count) memcpy(c->tiles, s->tiles, (size_t)s->tile_count * sizeof *c->tiles);
        memcpy(c->tree_first, s->tree_first, (size_t)s->trees * sizeof *c->tree_first);
        c->spans.range_count = s->range_count;
        c->spans.tile_count = s->tile_count;
        c->spans.longest = s->longest;
        done = end_plan(c, slot);
    }
    lc_free(slot);
    return done;
}

int lc_cache_prefill(struct lc_cache *c, const lc_forest *f, int n, const int32_t *segments) {
    for (int i = 0; i < n; i++)
        if (segments[i] < 0 || segments[i] >= f->segments)
            return lc_fail(LC_EINVAL, "cache: there is no segment %d, the forest has %d",
                           segments[i], f->segments);
    int64_t base = find_row(c, f->rows);
    if (base < 0)
        return lc_fail(LC_EINVAL,
                       "cache: the prompts have %" PRId64 " tokens, of %" PRId64 " slots %" PRId64
                       " are free; make the cache larger",
                       f->rows, c->slots, c->free);
    if (plan_forest(c, f, (int32_t)base) < 0) return -1;
    for (int i = 0; i < n; i++)
        if (add_prompt_leaf(c, f, segments[i], (int32_t)base) < 0) return -1;
    return 0;
}

static void add_range(struct lc_cache *c, int32_t k0, int32_t count, int32_t q_lo, int32_t q_hi,
                      bool causal) {
    if (count > 0)
        c->ranges[c->spans.range_count++] = (struct lc_range){k0, k0 + count, q_lo, q_hi, causal};
}

/* Rows [q0, q0 + count) are the leaf's last: what they see, and their tiles. */
static void plan_leaf(struct lc_cache *c, const struct leaf *l, int32_t q0, int32_t count) {
    int32_t r0 = c->spans.range_count, q1 = q0 + count;
    int64_t at = 0, old = l->length - count; /* path positions */
    for (int i = 0; i < l->count; i++) {
        struct run run = l->runs[i];
        int64_t before = old - at < run.count ? old - at : run.count;
        if (before < 0) before = 0;
        add_range(c, run.first, (int32_t)before, q0, q1, false);
        add_range(c, run.first + (int32_t)before, run.count - (int32_t)before,
                  q0 + (int32_t)(at + before - old), q1, true);
        at += run.count;
    }
    for (int32_t q = q0; q < q1; q += LC_TILE_ROWS) {
        int32_t end = q1 - q < LC_TILE_ROWS ? q1 : q + LC_TILE_ROWS;
        c->tiles[c->spans.tile_count++] = (struct lc_query_tile){q, end, r0, c->spans.range_count};
    }
    if (l->length > c->spans.longest) c->spans.longest = l->length;
}

int lc_cache_extend(struct lc_cache *c, int n, const int32_t *leaf, const int32_t *count,
                    int fill) {
    int64_t rows = 0, ranges = 0, tiles = fill;
    c->pass++;
    for (int i = 0; i < n; i++) {
        struct leaf *l = leaf_of(c, leaf[i]);
        int32_t more = count ? count[i] : 1;
        if (!l) return -1;
        if (more < 0 || l->planned == c->pass)
            return lc_fail(LC_EINVAL, "cache: %d new rows for leaf %d%s", more, leaf[i],
                           l->planned == c->pass ? ", which is in the pass already" : "");
        l->planned = c->pass;
        if (reserve_runs(l, l->count + (int64_t)more) < 0) return -1;
        rows += more;
        ranges += l->count + (int64_t)more + 1;
        tiles += more / LC_TILE_ROWS + 1;
    }
    if (rows > c->free)
        return lc_fail(LC_EINVAL,
                       "cache: %" PRId64 " new rows, of %" PRId64 " slots %" PRId64
                       " are free; make the cache larger or end some leaves",
                       rows, c->slots, c->free);
    rows += fill;
    int32_t *slot = lc_alloc(2 * (size_t)rows * sizeof *slot), *position = slot + rows, row = 0;
    int done = slot ? begin_plan(c, rows, ranges, tiles, n) : -1;
    for (int i = 0; !done && i < n; i++) {
        struct leaf *l = &c->leaves[leaf[i]];
        int32_t end = row + (count ? count[i] : 1), first = row;
        for (; row < end; row++) {
            position[row] = (int32_t)l->length;
            slot[row] = grow(c, l);
        }
        c->tree_first[i] = c->spans.tile_count; /* each reads keys of its own */
        plan_leaf(c, l, first, end - first);
    }
    for (; !done && row < rows; row++) {
        slot[row] = -1;
        position[row] = 0;
        c->tiles[c->spans.tile_count++] =
            (struct lc_query_tile){row, row + 1, c->spans.range_count, c->spans.range_count};
    }
    if (!done) done = end_plan(c, slot);
    lc_free(slot);
    return done;
}

/* ---- running it ------------------------------------------------------------------------------ */

int64_t lc_cache_storage(const struct lc_cache *c) { return c->storage; }

int lc_cache_prepare(const struct lc_cache *c, int64_t heads) {
    return lc_device_prepare(c->device, &c->spans, c->dtype, heads, c->groups, c->d);
}

static int check_rows(const struct lc_cache *c, const char *what, const lc_tensor *x,
                      int64_t heads) {
    if (x->ndim == 3 && x->shape[0] == c->spans.queries && x->shape[1] == heads &&
        x->shape[2] == c->d && x->dtype == c->dtype)
        return 0;
    return lc_fail(LC_EINVAL,
                   "cache: the %s are %s; %s [%" PRId64 ", %" PRId64 ", %" PRId64 "] is planned",
                   what, lc_shape_text(x), lc_dtype_name(c->dtype), c->spans.queries, heads, c->d);
}

lc_tensor *lc_cache_attention(struct lc_cache *c, int layer, lc_tensor *q, lc_tensor *k,
                              lc_tensor *v, double theta, double scale, int64_t room) {
    if (!lc_usable("cache", q) || !lc_usable("cache", k) || !lc_usable("cache", v)) return NULL;
    if (layer < 0 || layer >= c->layer_count || !c->ranges)
        return lc_fail_null(LC_EINVAL, "cache: layer %d of %d%s", layer, c->layer_count,
                            c->ranges ? "" : ", and no pass is planned");
    if (check_rows(c, "queries", q, q->ndim == 3 ? q->shape[1] : 0) < 0 ||
        check_rows(c, "keys", k, c->groups) < 0 || check_rows(c, "values", v, c->groups) < 0)
        return NULL;
    struct layer *l = &c->layers[layer];
    const int32_t *slot = lc_data(c->rows), *position = slot + c->spans.queries;
    q = lc_heads_dense(q);
    k = lc_heads_dense(k);
    v = lc_heads_dense(v);
    if (!q || !k || !v ||
        lc_kernels_of(l->k)->rope_append(lc_data(q), lc_data(l->k), lc_data(l->v), lc_data(k),
                                         lc_data(v), c->dtype, position, slot, c->spans.queries,
                                         q->shape[1], c->groups, c->d, q->stride[0], k->stride[0],
                                         v->stride[0], c->slot_row, theta) < 0)
        return NULL;
    return lc_attention_spans(q, l->k, l->v, &c->spans, scale, room);
}
