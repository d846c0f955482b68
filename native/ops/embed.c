/* embed.c - rows of a table by index: x [R, ...], index i32 [n] -> [n, ...]. Repeats are legal; their
 * gradients add up in the order of the index. */
#include "base/error.h"
#include "ops/autograd.h"
#include "ops/index.h"

#include <string.h>

static int64_t row_width(const lc_tensor *x) {
    int64_t width = 1;
    for (int i = 1; i < x->ndim; i++) width *= x->shape[i];
    return width;
}

/* Added in place: no table of zeros is made for each use of the table. */
static int take_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *x = r->in[0], *index = r->keep[0], *dx = lc_grad_sum(x);
    if (!dx || lc_kernels_of(x)->add_rows(lc_data(dx), lc_data(dy), dy->dtype, NULL, lc_data(index),
                                          lc_tensor_count(index), row_width(x), x->shape[0]) < 0)
        return -1;
    return lc_grad_summed(x, dx);
}

/* index of any rank: its dims replace the first of x */
static lc_tensor *take(const char *op, lc_tensor *x, lc_tensor *index) {
    int64_t shape[LC_MAX_DIMS];
    int ndim = index->ndim + x->ndim - 1;
    memcpy(shape, index->shape, (size_t)index->ndim * sizeof *shape);
    memcpy(shape + index->ndim, x->shape + 1, (size_t)(x->ndim - 1) * sizeof *shape);
    x = lc_contiguous(x);
    index = x ? lc_index_on(op, "index", index, x->shape[0], x) : NULL;
    lc_tensor *y = !index ? NULL : lc_tensor_make(x, x->dtype, ndim, shape);
    if (!y || lc_kernels_of(x)->take_rows(lc_data(y), lc_data(x), x->dtype, lc_data(index),
                                          lc_tensor_count(index), row_width(x)) < 0)
        return NULL;
    return lc_record(
        y, &(struct lc_rule){.name = op, .backward = take_backward, .in = {x}, .keep = {index}});
}

lc_tensor *lc_known_rows(lc_tensor *x, lc_tensor *index) {
    lc_tensor *y = lc_tensor_make(x, x->dtype, 2, (int64_t[]){index->shape[0], row_width(x)});
    if (!y || lc_kernels_of(x)->take_rows(lc_data(y), lc_data(x), x->dtype, lc_data(index),
                                          index->shape[0], row_width(x)) < 0)
        return NULL;
    return y;
}

lc_tensor *lc_rows(lc_tensor *x, lc_tensor *index) {
    if (!lc_usable("rows", x) || !lc_usable("rows", index)) return NULL;
    if (x->ndim < 1 || index->ndim != 1 || index->dtype != LC_I32)
        return lc_fail_null(LC_EINVAL,
                            "rows: x is %s and index %s; [R, ...] and i32 [n] are expected",
                            lc_shape_text(x), lc_shape_text(index));
    return take("rows", x, index);
}

lc_tensor *lc_embedding(lc_tensor *weight, lc_tensor *ids) {
    if (!lc_usable("embedding", weight) || !lc_usable("embedding", ids)) return NULL;
    if (!lc_is_float(weight) || weight->ndim != 2 || ids->dtype != LC_I32 ||
        ids->ndim >= LC_MAX_DIMS)
        return lc_fail_null(
            LC_EINVAL, "embedding: the table is %s and ids are %s; [V, D] and i32 are expected",
            lc_shape_text(weight), lc_shape_text(ids));
    return take("embedding", weight, ids);
}
