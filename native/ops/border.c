/* border.c - see border.h. */
#include "ops/border.h"

#include "base/error.h"
#include "base/memory.h"
#include "ops/autograd.h"
#include "tensor/device.h"
#include "tensor/scope.h"

enum { PACK_BYTES = 16 };

/* ---- making ---- */

static bool wanted(int count, const struct lc_linear_part *part) {
    const lc_tensor *first = part[0].weight;
    bool adapter = false;
    for (int i = 0; i < count; i++) {
        const lc_tensor *w = part[i].weight;
        if (lc_wants(w) || w->dtype != first->dtype || w->shape[1] != first->shape[1]) return false;
        adapter |= part[i].a != NULL;
    }
    return adapter && lc_kernels_of(first)->bordered;
}

/* A border without its whole. Packed weights may be expanded to elements of two bytes. */
static struct lc_border border_of(int count, const struct lc_linear_part *part) {
    const lc_tensor *first = part[0].weight;
    const int64_t pack =
        PACK_BYTES / (lc_is_packed(first) ? 2 : (int64_t)lc_dtype_bytes(first->dtype));
    struct lc_border b = {.k = first->shape[1]};
    for (int i = 0; i < count; i++) {
        b.n += part[i].weight->shape[0];
        b.r += part[i].a ? part[i].a->shape[0] : 0;
    }
    b.r = (b.r + pack - 1) / pack * pack;
    return b;
}

/* The parts' weights move into a new whole. */
static int lodge(struct lc_border *b, int count, const struct lc_linear_part *part) {
    const int64_t row = b->k + b->r;
    lc_scope_outside(1);
    int before = lc_pool(), tag = lc_device_tag(LC_FOR_WEIGHTS);
    b->whole =
        lc_tensor_retain(lc_tensor_full(2, (int64_t[]){b->n + b->r, row}, part[0].weight->dtype,
                                        part[0].weight->storage->device, 0));
    lc_device_tag(tag);
    int done = b->whole ? 0 : -1;
    int64_t first = 0;
    for (int i = 0; i < count && !done; first += part[i++].weight->shape[0])
        done = lc_tensor_lodge(part[i].weight, b->whole, first * row, row);
    lc_pool_end(before, NULL);
    lc_scope_outside(0);
    return done;
}

int lc_border_make(struct lc_border **border, int count, const struct lc_linear_part *part) {
    *border = NULL;
    if (!wanted(count, part)) return 0;
    struct lc_border *b = lc_alloc_zero(sizeof *b);
    if (!b) return -1;
    *b = border_of(count, part);
    const int done = lc_is_packed(part[0].weight) ? 0 : lodge(b, count, part);
    if (done < 0) lc_border_free(b);
    else *border = b;
    return done;
}

void lc_border_free(struct lc_border *b) {
    if (!b) return;
    lc_tensor_release(b->whole);
    lc_free(b);
}

/* ---- using ---- */

bool lc_border_serves(const struct lc_border *b, const lc_tensor *x, int count,
                      const struct lc_linear_part *part) {
    if (!b || !lc_tensor_rowwise(x) || (b->whole && x->dtype != b->whole->dtype)) return false;
    for (int i = 0; i < count; i++)
        if (b->whole ? part[i].weight->storage != b->whole->storage : !lc_is_packed(part[i].weight))
            return false;
    return true;
}

/* Writes the adapters around the weights, where they have changed since. */
static int fill(struct lc_border *b, int count, const struct lc_linear_part *part) {
    struct lc_block block[2 * LC_LINEARS_MOST];
    const int64_t row = b->k + b->r, size = (int64_t)lc_dtype_bytes(b->whole->dtype);
    char *const to = lc_data(b->whole);
    uint64_t changes = 1;
    int n = 0;
    for (int i = 0; i < count; i++)
        if (part[i].a) changes += part[i].a->storage->changes + part[i].b->storage->changes;
    if (changes == b->filled) return 0;
    int64_t y = 0, u = 0; /* the part's first row, and its first column of the border */
    for (int i = 0; i < count; y += part[i++].weight->shape[0]) {
        if (!part[i].a) continue;
        const int64_t rank = part[i].a->shape[0];
        block[n++] = (struct lc_block){.to = to + (b->n + u) * row * size,
                                       .from = lc_data(part[i].a),
                                       .rows = rank,
                                       .cols = b->k,
                                       .to_row = row,
                                       .scale = 1};
        block[n++] = (struct lc_block){.to = to + (y * row + b->k + u) * size,
                                       .from = lc_data(part[i].b),
                                       .rows = part[i].b->shape[0],
                                       .cols = rank,
                                       .to_row = row,
                                       .scale = (float)part[i].scale};
        u += rank;
    }
    if (lc_kernels_of(b->whole)->put_blocks(block, n, b->whole->dtype) < 0) return -1;
    b->filled = changes;
    return 0;
}

static int expand(struct lc_border *b, int dtype, int count, const struct lc_linear_part *part) {
    const int64_t row = b->k + b->r;
    const int tag = lc_device_tag(LC_FOR_WORKSPACE);
    b->whole =
        lc_tensor_full(2, (int64_t[]){b->n + b->r, row}, dtype, part[0].weight->storage->device, 0);
    lc_device_tag(tag);
    char *to = b->whole ? lc_data(b->whole) : NULL;
    for (int i = 0; to && i < count; i++) {
        const lc_tensor *w = part[i].weight;
        const int64_t rows = w->shape[0];
        if (lc_kernels_of(w)->expand(to, dtype, rows, b->k, row, lc_data(w), lc_quant_of(w->dtype)))
            return -1;
        to += rows * row * (int64_t)lc_dtype_bytes(dtype);
    }
    return to ? 0 : -1;
}

int lc_border_open(struct lc_border *now, struct lc_border *b, int dtype, int count,
                   const struct lc_linear_part *part, bool on) {
    *now = *b;
    if (b->whole) return on ? fill(b, count, part) : 0;
    return expand(now, dtype, count, part) < 0 || (on && fill(now, count, part) < 0) ? -1 : 0;
}

int lc_border_open_again(struct lc_border *now, lc_tensor *whole, int dtype, int count,
                         const struct lc_linear_part *part) {
    struct lc_border b = border_of(count, part);
    b.whole = whole;
    return lc_border_open(now, &b, dtype, count, part, !whole);
}
