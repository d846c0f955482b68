/* forest.c - from segments and parents to packed rows, ranges and tiles.
 *
 * Rows are packed in depth-first preorder, siblings and roots by number. A segment's ranges are
 * those of its nearest ancestor that has tokens, seen whole, and then its own. Everything is a
 * loop: a chain of segments may be as long as memory allows. */
#include "nn/forest.h"

#include "base/error.h"
#include "base/memory.h"
#include "tensor/tensor.h"

#include <inttypes.h>
#include <stdlib.h>

static void forest_free(lc_forest *f) {
    lc_free(f->segment);
    lc_free(f->order);
    lc_free(f->ranges);
    lc_free(f->tiles);
    lc_free(f->tree_first);
    lc_free(f);
}

lc_forest *lc_forest_retain(lc_forest *f) {
    if (f) f->holders++;
    return f;
}

void lc_forest_release(lc_forest *f) {
    if (f && --f->holders == 0) forest_free(f);
}

/* A forest whose segments have parents (NULL: none), lengths and kinds, and nothing else yet. */
static lc_forest *forest_begin(const char *op, int n, const int32_t *parent, const int32_t *length,
                               const uint8_t *bidirectional) {
    if (n < 0) return lc_fail_null(LC_EINVAL, "%s: %d segments", op, n);
    lc_forest *f = lc_alloc_zero(sizeof *f);
    if (!f) return NULL;
    f->holders = 1;
    f->segments = n;
    f->segment = lc_alloc_zero((size_t)n * sizeof *f->segment);
    f->order = lc_alloc((size_t)n * sizeof *f->order);
    if (!f->segment || !f->order) goto fail;
    for (int i = 0; i < n; i++) {
        int32_t p = parent ? parent[i] : -1;
        if (p < -1 || p >= n) {
            lc_fail(LC_EINVAL, "%s: segment %d has parent %d, but there are %d segments", op, i, p,
                    n);
            goto fail;
        }
        if (length[i] < 0) {
            lc_fail(LC_EINVAL, "%s: segment %d has length %d", op, i, length[i]);
            goto fail;
        }
        f->segment[i] = (struct lc_segment){
            .parent = p, .length = length[i], .bidirectional = bidirectional && bidirectional[i]};
        f->rows += length[i];
    }
    if (f->rows > INT32_MAX) {
        lc_fail(LC_EINVAL, "%s: %" PRId64 " tokens in one batch, at most %d are possible", op,
                f->rows, INT32_MAX);
        goto fail;
    }
    return f;
fail:
    forest_free(f);
    return NULL;
}

/* ---- order ----------------------------------------------------------------------------------- */

/* Names a segment that is its own ancestor; there is one. packed: those that are not. */
static void report_cycle(const lc_forest *f, const uint8_t *packed) {
    int at = 0;
    while (packed[at]) at++;
    for (int i = 0; i < f->segments; i++) at = f->segment[at].parent; /* now on the cycle */
    lc_fail(LC_EINVAL,
            "forest: segment %d is its own ancestor (its parent is segment %d); parents must not "
            "form a cycle",
            at, f->segment[at].parent);
}

/* Fills order: depth-first preorder. */
static int sort_segments(lc_forest *f) {
    int n = f->segments, packed = 0, at = n;
    /* child and sibling chains, then the walk's marks; index n is the parent of the roots */
    int32_t *child = lc_alloc(((size_t)n * 2 + 1) * sizeof *child);
    uint8_t *done = lc_alloc_zero((size_t)n + 1);
    if (!child || !done) {
        lc_free(child);
        lc_free(done);
        return -1;
    }
    int32_t *sibling = child + n + 1;
    for (int i = 0; i <= n; i++) child[i] = -1;
    for (int i = n - 1; i >= 0; i--) {
        int32_t parent = f->segment[i].parent < 0 ? n : f->segment[i].parent;
        sibling[i] = child[parent];
        child[parent] = i;
    }
    for (;;) {
        int next = child[at];
        if (next >= 0) { /* down to the next child that is left */
            child[at] = sibling[next];
            f->order[packed++] = next;
            done[next] = 1;
            at = next;
        } else if (at == n) break;
        else at = f->segment[at].parent < 0 ? n : f->segment[at].parent;
    }
    if (packed < n) report_cycle(f, done);
    lc_free(child);
    lc_free(done);
    return packed < n ? -1 : 0;
}

static void place_segments(lc_forest *f) {
    int32_t row = 0;
    for (int k = 0; k < f->segments; k++) {
        struct lc_segment *s = &f->segment[f->order[k]];
        const struct lc_segment *parent = s->parent < 0 ? NULL : &f->segment[s->parent];
        s->first = row;
        s->position = parent ? parent->position + parent->length : 0;
        row += s->length;
        if (s->position + s->length > f->spans.longest) f->spans.longest = s->position + s->length;
    }
}

/* ---- ranges and tiles ------------------------------------------------------------------------ */

static int32_t tiles_of(const struct lc_segment *s) {
    return s->length / LC_TILE_ROWS + (s->length % LC_TILE_ROWS != 0);
}

/* Room for that many of each. */
static int reserve(lc_forest *f, int64_t ranges, int64_t tiles, int64_t trees) {
    if (ranges > INT32_MAX)
        return lc_fail(LC_EINVAL,
                       "forest: %" PRId64
                       " ranges of keys; join the segments of long chains that do not branch",
                       ranges);
    f->ranges = lc_alloc((size_t)ranges * sizeof *f->ranges);
    f->tiles = lc_alloc((size_t)tiles * sizeof *f->tiles);
    f->tree_first = lc_alloc(((size_t)trees + 1) * sizeof *f->tree_first);
    if (!f->ranges || !f->tiles || !f->tree_first) return -1;
    f->spans.ranges = f->ranges;
    f->spans.tiles = f->tiles;
    f->spans.tree_first = f->tree_first;
    f->spans.queries = f->rows;
    return 0;
}

uint64_t lc_spans_number(void) {
    static _Atomic uint64_t last;
    return ++last;
}

static void begin_tree(lc_forest *f) { f->tree_first[f->spans.trees++] = f->spans.tile_count; }
static void end_trees(lc_forest *f) {
    f->tree_first[f->spans.trees] = f->spans.tile_count;
    f->spans.number = lc_spans_number();
}

/* The tiles of a segment whose ranges are [r0, range_count). */
static void add_tiles(lc_forest *f, const struct lc_segment *s, int32_t r0) {
    for (int32_t i = 0; i < tiles_of(s); i++) {
        int32_t q0 = s->first + i * LC_TILE_ROWS, left = s->length - i * LC_TILE_ROWS;
        f->tiles[f->spans.tile_count++] = (struct lc_query_tile){
            q0, q0 + (left < LC_TILE_ROWS ? left : LC_TILE_ROWS), r0, f->spans.range_count};
    }
}

static void add_range(lc_forest *f, const struct lc_segment *s, int32_t k0, int32_t k1,
                      bool causal) {
    f->ranges[f->spans.range_count++] =
        (struct lc_range){k0, k1, s->first, s->first + s->length, causal};
}

/* A segment's path, for its children; of an empty one, that of its nearest ancestor with tokens. */
struct path {
    int32_t r0, count; /* its ranges in the list */
    int32_t whole; /* how many they are when all is seen: neighbours on the packed axis joined */
    int32_t end;   /* the row after its last token; -1: there is none */
};

static struct path path_above(const lc_forest *f, const struct path *path, int32_t segment) {
    int32_t parent = f->segment[segment].parent;
    return parent < 0 ? (struct path){0, 0, 0, -1} : path[parent];
}

/* The ranges of the path above, seen whole. A chain of first children is one range. */
static void add_ancestors(lc_forest *f, const struct lc_segment *s, struct path above) {
    int32_t first = f->spans.range_count;
    for (int32_t r = above.r0; r < above.r0 + above.count; r++) {
        int32_t k0 = f->ranges[r].k0, k1 = f->ranges[r].k1, last = f->spans.range_count - 1;
        if (last >= first && f->ranges[last].k1 == k0) f->ranges[last].k1 = k1;
        else add_range(f, s, k0, k1, false);
    }
}

static int build_spans(lc_forest *f) {
    struct path *path = lc_alloc((size_t)f->segments * sizeof *path);
    if (!path) return -1;
    int64_t ranges = 0, tiles = 0, trees = 0;
    for (int k = 0; k < f->segments; k++) {
        int i = f->order[k];
        const struct lc_segment *s = &f->segment[i];
        struct path above = path_above(f, path, i);
        trees += s->parent < 0;
        path[i] = above;
        if (!s->length) continue;
        path[i].whole = above.whole + (above.end != s->first);
        path[i].end = s->first + s->length;
        ranges += above.whole + 1;
        tiles += tiles_of(s);
    }
    if (reserve(f, ranges, tiles, trees) < 0) {
        lc_free(path);
        return -1;
    }
    for (int k = 0; k < f->segments; k++) {
        int i = f->order[k];
        const struct lc_segment *s = &f->segment[i];
        struct path above = path_above(f, path, i);
        if (s->parent < 0) begin_tree(f);
        path[i].r0 = s->length ? f->spans.range_count : above.r0;
        if (s->length) {
            add_ancestors(f, s, above);
            add_range(f, s, s->first, s->first + s->length, !s->bidirectional);
            add_tiles(f, s, path[i].r0);
        }
        path[i].count = s->length ? f->spans.range_count - path[i].r0 : above.count;
    }
    end_trees(f);
    f->spans.keys = f->rows;
    lc_free(path);
    return 0;
}

lc_forest *lc_forest_new(int segments, const int32_t *parent, const int32_t *length,
                         const uint8_t *bidirectional) {
    lc_forest *f = forest_begin("forest", segments, parent, length, bidirectional);
    if (!f) return NULL;
    if (sort_segments(f) < 0) goto fail;
    place_segments(f);
    if (build_spans(f) < 0) goto fail;
    return f;
fail:
    forest_free(f);
    return NULL;
}

/* ---- cross-attention ------------------------------------------------------------------------- */

struct seen { /* the keys that a segment sees */
    int32_t first, count, segment;
};

static int by_first_key(const void *a, const void *b) {
    const struct seen *x = a, *y = b;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return x->segment < y->segment ? -1 : 1;
}

/* Segments whose key ranges overlap share gradients, so they are one tree. */
static int build_cross(lc_forest *f, struct seen *seen) {
    int64_t tiles = 0, end = -1; /* end of the keys of the tree so far */
    for (int i = 0; i < f->segments; i++) tiles += tiles_of(&f->segment[i]);
    if (reserve(f, f->segments, tiles, f->segments) < 0) return -1;
    qsort(seen, (size_t)f->segments, sizeof *seen, by_first_key);
    for (int i = 0; i < f->segments; i++) {
        const struct lc_segment *s = &f->segment[seen[i].segment];
        int64_t first = seen[i].first, last = first + seen[i].count;
        int32_t r0 = f->spans.range_count;
        if (!i || first >= end) begin_tree(f);
        if (seen[i].count && last > end) end = last;
        if (seen[i].count) add_range(f, s, (int32_t)first, (int32_t)last, false);
        add_tiles(f, s, r0);
        if (seen[i].count > f->spans.longest) f->spans.longest = seen[i].count;
    }
    end_trees(f);
    f->spans.keys = end < 0 ? 0 : end;
    return 0;
}

lc_forest *lc_forest_cross(int segments, const int32_t *length, const int32_t *key_first,
                           const int32_t *key_count) {
    lc_forest *f = forest_begin("forest_cross", segments, NULL, length, NULL);
    struct seen *seen = f ? lc_alloc((size_t)segments * sizeof *seen) : NULL;
    if (!seen) goto fail;
    int32_t row = 0;
    for (int i = 0; i < segments; i++) {
        if (key_first[i] < 0 || key_count[i] < 0 || key_first[i] > INT32_MAX - key_count[i]) {
            lc_fail(LC_EINVAL, "forest_cross: segment %d sees %d keys from row %d", i, key_count[i],
                    key_first[i]);
            goto fail;
        }
        seen[i] = (struct seen){key_first[i], key_count[i], i};
        f->order[i] = i;
        f->segment[i].first = row;
        row += length[i];
    }
    if (build_cross(f, seen) < 0) goto fail;
    lc_free(seen);
    return f;
fail:
    lc_free(seen);
    if (f) forest_free(f);
    return NULL;
}

/* ---- questions ------------------------------------------------------------------------------- */

const struct lc_spans *lc_forest_spans(const lc_forest *f) { return &f->spans; }
int64_t lc_forest_rows(const lc_forest *f) { return f->rows; }

static const struct lc_segment *segment_of(const lc_forest *f, int i, const char *op) {
    if (i >= 0 && i < f->segments) return &f->segment[i];
    return lc_fail_null(LC_EINVAL, "%s: there is no segment %d, the forest has %d", op, i,
                        f->segments);
}

int64_t lc_forest_first(const lc_forest *f, int segment) {
    const struct lc_segment *s = segment_of(f, segment, "forest_first");
    return s ? s->first : -1;
}

int64_t lc_forest_position(const lc_forest *f, int segment) {
    const struct lc_segment *s = segment_of(f, segment, "forest_position");
    return s ? s->position : -1;
}

void lc_forest_fill_positions(const lc_forest *f, int32_t *position) {
    for (int i = 0; i < f->segments; i++) {
        const struct lc_segment *s = &f->segment[i];
        for (int32_t x = 0; x < s->length; x++) position[s->first + x] = s->position + x;
    }
}

lc_tensor *lc_forest_positions(const lc_forest *f, int device) {
    lc_tensor *t = lc_tensor_new(1, &f->rows, LC_I32, device);
    size_t bytes = (size_t)f->rows * sizeof(int32_t);
    int32_t *position = t ? lc_alloc(bytes) : NULL;
    if (!position) return NULL;
    lc_forest_fill_positions(f, position);
    int done = lc_tensor_write(t, position, bytes);
    lc_free(position);
    return done < 0 ? NULL : t;
}
