/* batch.c - collecting segments and pictures, and the index lists that a model needs of them. */
#include "models/batch.h"

#include "base/error.h"
#include "base/memory.h"

#include <inttypes.h>
#include <string.h>

lc_batch *lc_batch_new(void) { return lc_alloc_zero(sizeof(lc_batch)); }

void lc_batch_free(lc_batch *b) {
    if (!b) return;
    for (int i = 0; i < b->count; i++) lc_free(b->segments[i].ids);
    for (int i = 0; i < b->image_count; i++) {
        lc_tensor_release(b->images[i].features);
        lc_free(b->images[i].text);
    }
    lc_tensor_release(b->log_squares);
    lc_free(b->segments);
    lc_free(b->images);
    lc_free(b);
}

int lc_batch_segments(const lc_batch *b) { return b->count; }

void lc_batch_want_log_squares(lc_batch *b) { b->wants_log_squares = true; }

lc_tensor *lc_batch_log_squares(lc_batch *b) { return b->log_squares; }

static int grow(void **list, int count, int *room, size_t size) {
    if (count < *room) return 0;
    int more = *room ? 2 * *room : 32;
    void *bigger = lc_realloc(*list, (size_t)more * size);
    if (!bigger) return -1;
    *list = bigger;
    *room = more;
    return 0;
}

int lc_batch_image(lc_batch *b, lc_tensor *features) {
    if (!lc_usable("batch image", features)) return -1;
    if (features->ndim != 2)
        return lc_fail(LC_EINVAL, "batch image: features are %s, [rows, width] is expected",
                       lc_shape_text(features));
    return lc_batch_add_picture(b, features, features->shape[0], NULL, 0);
}

int lc_batch_add_picture(lc_batch *b, lc_tensor *features, int64_t rows, const int32_t *text,
                         int count) {
    if (count < 0 || rows > INT32_MAX)
        return lc_fail(LC_EINVAL, "batch picture: %" PRId64 " rows, %d ids of text", rows, count);
    if (grow((void **)&b->images, b->image_count, &b->image_room, sizeof *b->images) < 0) return -1;
    int32_t *copy = lc_alloc((size_t)count * sizeof *copy);
    if (!copy) return -1;
    if (count) memcpy(copy, text, (size_t)count * sizeof *copy);
    b->images[b->image_count] =
        (struct lc_batch_image){lc_tensor_retain(features), (int32_t)rows, copy, count};
    return b->image_count++;
}

/* The picture's place among the ids: its index, -1 for none, -2 for more than one. */
static int32_t find_image(const int32_t *ids, int count) {
    int32_t at = -1;
    for (int i = 0; i < count; i++) {
        if (ids[i] != LC_IMAGE_TOKEN) continue;
        if (at >= 0) return -2;
        at = i;
    }
    return at;
}

int lc_batch_segment(lc_batch *b, int parent, const int32_t *ids, int count, int image, int score) {
    int number = b->count + 1; /* as Lua counts */
    if (parent < -1 || parent >= b->count)
        return lc_fail(LC_EINVAL, "segment %d: its parent %d is not an earlier segment", number,
                       parent + 1);
    if (count < 0) return lc_fail(LC_EINVAL, "segment %d: %d tokens", number, count);
    if (image < -1 || image >= b->image_count)
        return lc_fail(LC_EINVAL, "segment %d: there is no picture %d", number, image + 1);
    int32_t at = find_image(ids, count);
    if (at == -2)
        return lc_fail(LC_EINVAL,
                       "segment %d: it has more than one <image>; at most one is possible", number);
    if ((at < 0) != (image < 0))
        return lc_fail(LC_EINVAL,
                       at < 0 ? "segment %d: it has a picture but no <image> among its tokens"
                              : "segment %d: it has <image> among its tokens but no picture",
                       number);
    if (at >= 0 && score)
        return lc_fail(LC_EINVAL,
                       "segment %d: a picture cannot be scored; put the scored tokens into a child",
                       number);
    if (grow((void **)&b->segments, b->count, &b->room, sizeof *b->segments) < 0) return -1;
    int32_t *copy = lc_alloc((size_t)count * sizeof *copy);
    if (!copy) return -1;
    if (count) memcpy(copy, ids, (size_t)count * sizeof *copy);
    int32_t rows = count + (at < 0 ? 0 : b->images[image].rows - 1);
    b->segments[b->count] =
        (struct lc_batch_segment){parent, copy, count, image, at, rows, score != 0};
    return b->count++;
}

lc_forest *lc_batch_forest(const lc_batch *b) {
    int32_t *parent = lc_alloc(2 * (size_t)(b->count + 1) * sizeof *parent);
    if (!parent) return NULL;
    int32_t *length = parent + b->count;
    for (int i = 0; i < b->count; i++) {
        parent[i] = b->segments[i].parent;
        length[i] = b->segments[i].rows;
    }
    lc_forest *f = lc_forest_new(b->count, parent, length, NULL);
    lc_free(parent);
    return f;
}

/* ---- index lists --------------------------------------------------------------------------------- */

static lc_tensor *int_list(int64_t count, int32_t **data) {
    lc_tensor *t = lc_tensor_new(1, &count, LC_I32, LC_HOST);
    if (t) *data = lc_data(t);
    return t;
}

static int64_t text_count(const lc_batch *b) {
    int64_t n = 0;
    for (int i = 0; i < b->count; i++) n += b->segments[i].count - (b->segments[i].image_at >= 0);
    return n;
}

lc_tensor *lc_batch_ids(const lc_batch *b) {
    int32_t *ids;
    lc_tensor *t = int_list(text_count(b), &ids);
    for (int i = 0; t && i < b->count; i++)
        for (int j = 0; j < b->segments[i].count; j++)
            if (j != b->segments[i].image_at) *ids++ = b->segments[i].ids[j];
    return t;
}

lc_tensor *lc_batch_placement(const lc_batch *b, const lc_forest *f) {
    int32_t *place;
    lc_tensor *t = int_list(lc_forest_rows(f), &place);
    int32_t *first =
        lc_alloc((size_t)(b->image_count + 1) * sizeof *first); /* of each picture's rows */
    if (!t || !first) {
        lc_free(first);
        return NULL;
    }
    int32_t text = 0, next = (int32_t)text_count(b);
    for (int i = 0; i < b->image_count; i++) {
        first[i] = next;
        next += b->images[i].rows;
    }
    for (int i = 0; i < b->count; i++) {
        const struct lc_batch_segment *s = &b->segments[i];
        int32_t *to = place + lc_forest_first(f, i);
        for (int j = 0; j < s->count; j++) {
            if (j != s->image_at) *to++ = text++;
            else
                for (int32_t r = 0; r < b->images[s->image].rows; r++) *to++ = first[s->image] + r;
        }
    }
    lc_free(first);
    return t;
}

int64_t lc_batch_last_row(const lc_batch *b, const lc_forest *f, int segment) {
    while (segment >= 0 && !b->segments[segment].rows) segment = b->segments[segment].parent;
    return segment < 0 ? -1 : lc_forest_first(f, segment) + b->segments[segment].rows - 1;
}

static int64_t scored_count(const lc_batch *b) {
    int64_t n = 0;
    for (int i = 0; i < b->count; i++) n += b->segments[i].score ? b->segments[i].count : 0;
    return n;
}

lc_tensor *lc_batch_scored(lc_batch *b) {
    int64_t scored = 0, count = 0;
    for (int i = 0; i < b->count; i++) count += b->segments[i].score;
    int32_t *first;
    lc_tensor *t = int_list(count + 1, &first);
    for (int i = 0; t && i < b->count; i++) {
        if (!b->segments[i].score) continue;
        *first++ = (int32_t)scored;
        scored += b->segments[i].count;
    }
    if (t) *first = (int32_t)scored;
    return t;
}

int lc_batch_targets(const lc_batch *b, const lc_forest *f, lc_tensor **row, lc_tensor **target) {
    int32_t *rows, *ids;
    *row = int_list(scored_count(b), &rows);
    *target = *row ? int_list(scored_count(b), &ids) : NULL;
    if (!*target) return -1;
    for (int i = 0; i < b->count; i++) {
        const struct lc_batch_segment *s = &b->segments[i];
        if (!s->score || !s->count) continue;
        int64_t before = lc_batch_last_row(b, f, s->parent);
        if (before < 0)
            return lc_fail(LC_EINVAL,
                           "segment %d: its first token has nothing before it, so it has no "
                           "probability; give it a parent with a token",
                           i + 1);
        for (int j = 0; j < s->count; j++) {
            *rows++ = (int32_t)(j ? lc_forest_first(f, i) + j - 1 : before);
            *ids++ = s->ids[j];
        }
    }
    return 0;
}
