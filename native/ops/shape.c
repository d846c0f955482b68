/* shape.c - views, joins, copies, casts.
 *
 *   view        the same elements under another shape        shares storage when x is dense
 *   transpose   two dims exchanged                           always a view
 *   slice       count indices of one dim                     always a view
 *   cat         tensors one after the other along a dim
 *   contiguous  x itself when it is dense, else a dense copy
 *   to          x itself when it is on that device, else a copy there
 *   cast        x itself when it has that dtype, else a converted copy
 *   detach      the same storage, no history */
#include "base/error.h"
#include "base/memory.h"
#include "ops/autograd.h"
#include "tensor/device.h"

#include <inttypes.h>

/* dim counted from 0, or from the end when negative; -1 with the reason */
static int resolve_dim(const char *op, const lc_tensor *x, int dim) {
    int resolved = dim < 0 ? dim + x->ndim : dim;
    if (resolved < 0 || resolved >= x->ndim)
        return lc_fail(LC_EINVAL, "%s: %s has no dim %d", op, lc_shape_text(x),
                       dim < 0 ? dim : dim + 1);
    return resolved;
}

/* ---- contiguous, cast, detach ------------------------------------------------------------------- */

static int pass_backward(const struct lc_rule *r, lc_tensor *dy) {
    return lc_grad_add(r->in[0], dy);
}

static lc_tensor *copy_as(lc_tensor *x, int dtype, const char *name) {
    lc_tensor *y = lc_tensor_make(x, dtype, x->ndim, x->shape);
    if (!y || lc_tensor_copy(y, x) < 0) return NULL;
    if (!lc_is_float(x) || !lc_is_float(y)) return y;
    return lc_record(y, &(struct lc_rule){.name = name, .backward = pass_backward, .in = {x}});
}

lc_tensor *lc_contiguous(lc_tensor *x) {
    if (!lc_usable("contiguous", x)) return NULL;
    return lc_tensor_dense(x) ? x : copy_as(x, x->dtype, "contiguous");
}

lc_tensor *lc_cast(lc_tensor *x, int dtype) {
    if (!lc_usable("cast", x)) return NULL;
    return x->dtype == dtype ? x : copy_as(x, dtype, "cast");
}

static int to_backward(const struct lc_rule *r, lc_tensor *dy) {
    return lc_grad_add(r->in[0], lc_tensor_on(dy, r->in[0]->storage->device));
}

lc_tensor *lc_to(lc_tensor *x, int device) {
    if (!lc_usable("to", x)) return NULL;
    lc_tensor *y = lc_tensor_on(x, device);
    if (y == x || !y || !lc_is_float(x)) return y;
    return lc_record(y, &(struct lc_rule){.name = "to", .backward = to_backward, .in = {x}});
}

lc_tensor *lc_detach(lc_tensor *x) {
    if (!lc_usable("detach", x)) return NULL;
    return lc_tensor_alias(x, x->ndim, x->shape, x->stride, x->offset);
}

/* ---- view ------------------------------------------------------------------------------------------ */

/* Replaces one -1 and checks the count. */
static int resolve_shape(const lc_tensor *x, int ndim, const int64_t *asked, int64_t *shape) {
    if (ndim < 0 || ndim > LC_MAX_DIMS)
        return lc_fail(LC_EINVAL, "view: %d dims asked, at most %d are possible", ndim,
                       LC_MAX_DIMS);
    int64_t known = 1, count = lc_tensor_count(x);
    int open = -1;
    for (int i = 0; i < ndim; i++) {
        shape[i] = asked[i];
        if (asked[i] == -1 && open < 0) open = i;
        else if (!lc_multiply(&known, asked[i]))
            return lc_fail(LC_EINVAL, "view: dim %d of the new shape is %" PRId64, i + 1, asked[i]);
    }
    if (open >= 0 && known > 0) {
        shape[open] = count / known;
        known *= shape[open];
    }
    if (known != count || (open >= 0 && shape[open] < 0))
        return lc_fail(LC_EINVAL,
                       "view: %s has %" PRId64 " elements, which do not fill the new shape",
                       lc_shape_text(x), count);
    return 0;
}

static lc_tensor *alias_as(const lc_tensor *t, int ndim, const int64_t *shape) {
    int64_t stride[LC_MAX_DIMS], step = 1;
    for (int i = ndim - 1; i >= 0; i--) {
        stride[i] = step;
        step *= shape[i];
    }
    return lc_tensor_alias(t, ndim, shape, stride, t->offset);
}

static int view_backward(const struct lc_rule *r, lc_tensor *dy) {
    return lc_grad_add(r->in[0], alias_as(dy, r->in[0]->ndim, r->in[0]->shape));
}

lc_tensor *lc_view(lc_tensor *x, int ndim, const int64_t *shape) {
    int64_t whole[LC_MAX_DIMS];
    if (!lc_usable("view", x) || resolve_shape(x, ndim, shape, whole) < 0) return NULL;
    int before = lc_pool();
    lc_tensor *dense = lc_contiguous(x), *y = dense ? alias_as(dense, ndim, whole) : NULL;
    y = lc_record(y, &(struct lc_rule){.name = "view", .backward = view_backward, .in = {dense}});
    return lc_pool_end(before, y);
}

/* ---- transpose --------------------------------------------------------------------------------------- */

static lc_tensor *exchanged(const lc_tensor *x, int a, int b) {
    int64_t shape[LC_MAX_DIMS], stride[LC_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++) {
        int from = i == a ? b : i == b ? a : i;
        shape[i] = x->shape[from];
        stride[i] = x->stride[from];
    }
    return lc_tensor_alias(x, x->ndim, shape, stride, x->offset);
}

static int transpose_backward(const struct lc_rule *r, lc_tensor *dy) {
    return lc_grad_add(r->in[0], exchanged(dy, (int)r->i[0], (int)r->i[1]));
}

lc_tensor *lc_transpose(lc_tensor *x, int dim, int dim2) {
    if (!lc_usable("transpose", x)) return NULL;
    int a = resolve_dim("transpose", x, dim), b = a < 0 ? -1 : resolve_dim("transpose", x, dim2);
    if (b < 0) return NULL;
    return lc_record(exchanged(x, a, b), &(struct lc_rule){.name = "transpose",
                                                           .backward = transpose_backward,
                                                           .in = {x},
                                                           .i = {a, b}});
}

/* ---- slice ---------------------------------------------------------------------------------------------- */

static lc_tensor *part_of(const lc_tensor *x, int dim, int64_t first, int64_t count) {
    int64_t shape[LC_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++) shape[i] = i == dim ? count : x->shape[i];
    return lc_tensor_alias(x, x->ndim, shape, x->stride, x->offset + first * x->stride[dim]);
}

/* part += dy, part of a larger dense tensor */
static int add_to_part(lc_tensor *part, lc_tensor *dy) {
    lc_tensor *sum = lc_contiguous(part);
    if (!sum || lc_kernels_of(sum)->accumulate(lc_data(sum), sum->dtype, lc_data(dy), dy->dtype,
                                               lc_tensor_count(dy)) < 0)
        return -1;
    return sum == part ? 0 : lc_tensor_copy(part, sum);
}

/* Added in place: no tensor of zeros is made for each slice of the same x. */
static int slice_backward(const struct lc_rule *r, lc_tensor *dy) {
    int dim = (int)r->i[0];
    lc_tensor *dx = lc_grad_buffer(r->in[0]);
    lc_tensor *part = dx ? part_of(dx, dim, r->i[1], dy->shape[dim]) : NULL;
    return part ? add_to_part(part, dy) : -1;
}

lc_tensor *lc_slice(lc_tensor *x, int dim, int64_t first, int64_t count) {
    if (!lc_usable("slice", x)) return NULL;
    int d = resolve_dim("slice", x, dim);
    if (d < 0) return NULL;
    if (first < 0 || count < 0 || first > x->shape[d] || count > x->shape[d] - first)
        return lc_fail_null(LC_EINVAL,
                            "slice: %" PRId64 " of dim %d from its element %" PRId64
                            " on, but the tensor is %s",
                            count, d + 1, first + 1, lc_shape_text(x));
    return lc_record(
        part_of(x, d, first, count),
        &(struct lc_rule){.name = "slice", .backward = slice_backward, .in = {x}, .i = {d, first}});
}

/* ---- cat -------------------------------------------------------------------------------------------------- */

static int cat_backward(const struct lc_rule *r, lc_tensor *dy) {
    int dim = (int)r->i[0];
    int64_t first = 0;
    for (int i = 0; i < LC_RULE_INPUTS && r->in[i]; i++) {
        int64_t size = r->in[i]->shape[dim];
        if (lc_wants(r->in[i]) && lc_grad_add(r->in[i], part_of(dy, dim, first, size)) < 0)
            return -1;
        first += size;
    }
    return 0;
}

/* The joined shape, or -1: equal dtypes, ranks, and sizes but for dim. */
static int cat_shape(int n, lc_tensor **x, int dim, int64_t *shape) {
    for (int d = 0; d < x[0]->ndim; d++) shape[d] = x[0]->shape[d];
    for (int i = 1; i < n; i++) {
        bool fits = x[i]->dtype == x[0]->dtype && x[i]->ndim == x[0]->ndim;
        for (int d = 0; fits && d < x[0]->ndim; d++)
            fits = d == dim || x[i]->shape[d] == x[0]->shape[d];
        if (!fits || __builtin_add_overflow(shape[dim], x[i]->shape[dim], &shape[dim]))
            return lc_fail(LC_EINVAL, "cat: tensor 1 is %s but tensor %d is %s; dim %d is joined",
                           lc_shape_text(x[0]), i + 1, lc_shape_text(x[i]), dim + 1);
    }
    return 0;
}

static lc_tensor *join(int n, lc_tensor **x, int dim) {
    int64_t shape[LC_MAX_DIMS], first = 0;
    lc_tensor *y = cat_shape(n, x, dim, shape) < 0
                       ? NULL
                       : lc_tensor_make(x[0], x[0]->dtype, x[0]->ndim, shape);
    for (int i = 0; y && i < n; i++) {
        lc_tensor *part = part_of(y, dim, first, x[i]->shape[dim]);
        if (!part || lc_tensor_copy(part, x[i]) < 0) return NULL;
        first += x[i]->shape[dim];
    }
    return y;
}

/* A rule holds a few inputs: longer lists are joined in groups when they are recorded. */
static lc_tensor *join_recorded(int n, lc_tensor **x, int dim) {
    lc_tensor **group = NULL;
    if (n > LC_RULE_INPUTS) {
        int groups = (n + LC_RULE_INPUTS - 1) / LC_RULE_INPUTS;
        group = lc_alloc((size_t)groups * sizeof(lc_tensor *));
        if (!group) return NULL;
        for (int g = 0; g < groups; g++) {
            int from = g * LC_RULE_INPUTS, most = n - from;
            group[g] = join_recorded(most < LC_RULE_INPUTS ? most : LC_RULE_INPUTS, x + from, dim);
            if (!group[g]) {
                lc_free(group);
                return NULL;
            }
        }
        lc_tensor *y = join_recorded(groups, group, dim);
        lc_free(group);
        return y;
    }
    struct lc_rule rule = {.name = "cat", .backward = cat_backward, .i = {dim}};
    for (int i = 0; i < n; i++) rule.in[i] = x[i];
    return lc_record(join(n, x, dim), &rule);
}

lc_tensor *lc_cat(int n, lc_tensor **x, int dim) {
    if (n < 1) return lc_fail_null(LC_EINVAL, "cat: no tensors given");
    for (int i = 0; i < n; i++)
        if (!lc_usable("cat", x[i]) || !lc_together("cat", x[0], x[i])) return NULL;
    int d = resolve_dim("cat", x[0], dim), before = lc_pool();
    int64_t shape[LC_MAX_DIMS];
    lc_tensor *y = NULL;
    if (d >= 0 && !cat_shape(n, x, d, shape))
        y = lc_will_record(x, n) ? join_recorded(n, x, d) : join(n, x, d);
    return lc_pool_end(before, y);
}
