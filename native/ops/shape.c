/* shape.c - views and copies that only move elements: view, transpose, slice, cat, contiguous, cast,
 * detach, rows. Views share storage; their backward is the opposite view of the gradient. */
#include "base/error.h"
#include "base/memory.h"
#include "ops/autograd.h"

#include <inttypes.h>
#include <string.h>

/* dim counted from the end when negative; -1 and the reason when there is none */
static int real_dim(const char *op, const lc_tensor *x, int dim) {
    int d = dim < 0 ? dim + x->ndim : dim;
    if (d >= 0 && d < x->ndim) return d;
    return lc_fail(LC_EINVAL, "%s: %s has no dim %d", op, lc_shape_text(x),
                   dim < 0 ? dim : dim + 1);
}

/* ---- contiguous, detach, cast ------------------------------------------------------------------ */

static int contiguous_backward(const struct lc_rule *r, lc_tensor *dy) {
    return lc_grad_add(r->in[0], dy);
}

lc_tensor *lc_contiguous(lc_tensor *x) {
    if (!lc_usable("contiguous", x)) return NULL;
    if (lc_tensor_dense(x)) return x;
    lc_tensor *y = lc_tensor_like(x);
    if (!y || lc_kernels_of(x)->gather(lc_data(y), lc_data(x), x->dtype, x->ndim, x->shape,
                                       x->stride) < 0)
        return NULL;
    return lc_record(
        y, &(struct lc_rule){.name = "contiguous", .backward = contiguous_backward, .in = {x}});
}

lc_tensor *lc_detach(lc_tensor *x) {
    if (!lc_usable("detach", x)) return NULL;
    return lc_tensor_alias(x, x->ndim, x->shape, x->stride, x->offset);
}

lc_tensor *lc_cast(lc_tensor *x, int dtype) {
    if (!lc_usable("cast", x)) return NULL;
    if (!lc_dtype_name(dtype)) return lc_fail_null(LC_EINVAL, "cast: there is no dtype %d", dtype);
    if (x->dtype == dtype) return x;
    lc_tensor *y = lc_tensor_make(x, dtype, x->ndim, x->shape);
    if (!y || lc_tensor_copy(y, x) < 0) return NULL;
    if (!lc_is_float(x) || !lc_is_float(y)) return y;
    return lc_record(y,
                     &(struct lc_rule){.name = "cast", .backward = contiguous_backward, .in = {x}});
}

/* ---- view ------------------------------------------------------------------------------------------ */

static int view_backward(const struct lc_rule *r, lc_tensor *dy) {
    return lc_grad_add(r->in[0], lc_view(dy, r->in[0]->ndim, r->in[0]->shape));
}

lc_tensor *lc_view(lc_tensor *x, int ndim, const int64_t *shape) {
    if (!lc_usable("view", x)) return NULL;
    if (ndim < 0 || ndim > LC_MAX_DIMS)
        return lc_fail_null(LC_EINVAL, "view: %d dims asked, at most %d are possible", ndim,
                            LC_MAX_DIMS);
    int64_t full[LC_MAX_DIMS], stride[LC_MAX_DIMS], known = 1, count = lc_tensor_count(x);
    int open = -1;
    for (int i = 0; i < ndim; i++) {
        full[i] = shape[i];
        if (shape[i] == -1 && open < 0) open = i;
        else if (!lc_multiply(&known, shape[i]))
            return lc_fail_null(LC_EINVAL, "view: dim %d has size %" PRId64, i + 1, shape[i]);
    }
    if (open >= 0) full[open] = known ? count / known : 0;
    if (open >= 0 ? known * full[open] != count : known != count)
        return lc_fail_null(LC_EINVAL,
                            "view: %s has %" PRId64 " elements, not a multiple of %" PRId64,
                            lc_shape_text(x), count, known);
    lc_tensor *dense = lc_contiguous(x);
    if (!dense) return NULL;
    int64_t step = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        stride[i] = step;
        step *= full[i];
    }
    lc_tensor *y = lc_tensor_alias(dense, ndim, full, stride, dense->offset);
    return lc_record(y,
                     &(struct lc_rule){.name = "view", .backward = view_backward, .in = {dense}});
}

/* ---- transpose, slice: strided views ------------------------------------------------------------------ */

static int transpose_backward(const struct lc_rule *r, lc_tensor *dy) {
    return lc_grad_add(r->in[0], lc_transpose(dy, (int)r->i[0], (int)r->i[1]));
}

lc_tensor *lc_transpose(lc_tensor *x, int dim, int dim2) {
    if (!lc_usable("transpose", x)) return NULL;
    int a = real_dim("transpose", x, dim), b = a < 0 ? -1 : real_dim("transpose", x, dim2);
    if (b < 0) return NULL;
    int64_t shape[LC_MAX_DIMS], stride[LC_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++) {
        int from = i == a ? b : i == b ? a : i;
        shape[i] = x->shape[from];
        stride[i] = x->stride[from];
    }
    lc_tensor *y = lc_tensor_alias(x, x->ndim, shape, stride, x->offset);
    return lc_record(
        y, &(struct lc_rule){
               .name = "transpose", .backward = transpose_backward, .in = {x}, .i = {a, b}});
}

static int slice_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *x = r->in[0], *dx = lc_tensor_zero_like(x, dy->dtype);
    lc_tensor *part = dx ? lc_slice(dx, (int)r->i[0], r->i[1], dy->shape[r->i[0]]) : NULL;
    return part && !lc_tensor_copy(part, dy) ? lc_grad_add(x, dx) : -1;
}

lc_tensor *lc_slice(lc_tensor *x, int dim, int64_t first, int64_t count) {
    if (!lc_usable("slice", x)) return NULL;
    int d = real_dim("slice", x, dim);
    if (d < 0) return NULL;
    if (first < 0 || count < 0 || first > x->shape[d] || count > x->shape[d] - first)
        return lc_fail_null(LC_EINVAL,
                            "slice: %" PRId64 " elements from place %" PRId64 " of dim %d of %s",
                            count, first + 1, d + 1, lc_shape_text(x));
    int64_t shape[LC_MAX_DIMS];
    memcpy(shape, x->shape, sizeof shape);
    shape[d] = count;
    lc_tensor *y = lc_tensor_alias(x, x->ndim, shape, x->stride, x->offset + first * x->stride[d]);
    return lc_record(
        y,
        &(struct lc_rule){.name = "slice", .backward = slice_backward, .in = {x}, .i = {d, first}});
}

/* ---- cat --------------------------------------------------------------------------------------------------- */

/* A pointer list as the inputs of a chain: cat of many is a rule of its own over at most
 * LC_RULE_INPUTS tensors, applied level by level. */
static int cat_backward(const struct lc_rule *r, lc_tensor *dy) {
    int64_t first = 0, d = r->i[0];
    for (int i = 0; i < LC_RULE_INPUTS && r->in[i]; i++) {
        int64_t count = r->in[i]->shape[d];
        if (lc_wants(r->in[i]) &&
            lc_grad_add(r->in[i], lc_contiguous(lc_slice(dy, (int)d, first, count))) < 0)
            return -1;
        first += count;
    }
    return 0;
}

static lc_tensor *cat_few(int n, lc_tensor *const *x, int d) {
    int64_t shape[LC_MAX_DIMS], first = 0;
    memcpy(shape, x[0]->shape, sizeof shape);
    for (int i = 1; i < n; i++) shape[d] += x[i]->shape[d];
    lc_tensor *y = lc_tensor_make(x[0], x[0]->dtype, x[0]->ndim, shape);
    struct lc_rule rule = {.name = "cat", .backward = cat_backward, .i = {d}};
    for (int i = 0; y && i < n; i++) {
        int64_t part_shape[LC_MAX_DIMS];
        memcpy(part_shape, shape, sizeof shape);
        part_shape[d] = x[i]->shape[d];
        lc_tensor *part = lc_tensor_alias(y, y->ndim, part_shape, y->stride, first * y->stride[d]);
        if (!part || lc_tensor_copy(part, x[i]) < 0) return NULL;
        first += x[i]->shape[d];
        if (n <= LC_RULE_INPUTS) rule.in[i] = x[i];
    }
    return lc_record(y, &rule);
}

lc_tensor *lc_cat(int n, lc_tensor **x, int dim) {
    if (n < 1) return lc_fail_null(LC_EINVAL, "cat: no tensors");
    for (int i = 0; i < n; i++)
        if (!lc_usable("cat", x[i])) return NULL;
    int d = real_dim("cat", x[0], dim);
    if (d < 0) return NULL;
    for (int i = 1; i < n; i++) {
        bool fits = x[i]->ndim == x[0]->ndim && x[i]->dtype == x[0]->dtype;
        for (int j = 0; fits && j < x[0]->ndim; j++)
            fits = j == d || x[i]->shape[j] == x[0]->shape[j];
        if (!fits)
            return lc_fail_null(
                LC_EINVAL,
                "cat: tensor 1 is %s but tensor %d is %s; they may differ in dim %d alone",
                lc_shape_text(x[0]), i + 1, lc_shape_text(x[i]), d + 1);
    }
    if (n <= LC_RULE_INPUTS || !lc_will_record(x, n)) return cat_few(n, x, d);
    lc_tensor *y = x[0];
    for (int at = 1; y && at < n;) { /* a chain; long lists that want gradients are rare */
        lc_tensor *part[LC_RULE_INPUTS] = {y};
        int k = 1;
        while (k < LC_RULE_INPUTS && at < n) part[k++] = x[at++];
        y = cat_few(k, part, d);
    }
    return y;
}

/* ---- rows ----------------------------------------------------------------------------------------------------- */

static int rows_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *x = r->in[0], *index = r->keep[0], *dx = lc_tensor_zero_like(x, LC_F32);
    int64_t rows = x->shape[0], width = rows ? lc_tensor_count(x) / rows : 0;
    if (!dx || lc_kernels_of(x)->add_rows(lc_data(dx), lc_data(dy), dy->dtype, lc_data(index),
                                          lc_tensor_count(index), width, rows) < 0)
        return -1;
    return lc_grad_add(x, dx);
}

lc_tensor *lc_rows(lc_tensor *x, lc_tensor *index) {
    if (!lc_usable("rows", x) || !lc_usable("rows", index)) return NULL;
    if (x->ndim < 1 || index->ndim != 1 || index->dtype != LC_I32)
        return lc_fail_null(LC_EINVAL, "rows: x is %s and index %s; index must be i32 [n]",
                            lc_shape_text(x), lc_shape_text(index));
    x = lc_contiguous(x);
    index = lc_contiguous(index);
    if (!x || !index) return NULL;
    const int32_t *at = lc_data(index);
    int64_t n = index->shape[0], rows = x->shape[0], shape[LC_MAX_DIMS],
            width = rows ? lc_tensor_count(x) / rows : 0;
    for (int64_t i = 0; i < n; i++)
        if (at[i] < 0 || at[i] >= rows)
            return lc_fail_null(
                LC_EINVAL, "rows: index %" PRId64 " is %" PRId32 " but there are %" PRId64 " rows",
                i + 1, at[i], rows);
    memcpy(shape, x->shape, sizeof shape);
    shape[0] = n;
    lc_tensor *y = lc_tensor_make(x, x->dtype, x->ndim, shape);
    if (!y || lc_kernels_of(x)->take_rows(lc_data(y), lc_data(x), x->dtype, at, n, width) < 0)
        return NULL;
    return lc_record(y, &(struct lc_rule){
                            .name = "rows", .backward = rows_backward, .in = {x}, .keep = {index}});
}
