/* reduce.c - sums and means, over everything or one dim; argmax; sums of runs. Results are f32 sums
 * rounded once to the input's dtype. */
#include "base/error.h"
#include "tensor/device.h"
#include "ops/autograd.h"

#include <inttypes.h>
#include <string.h>

/* dx[outer, middle, inner] = dy[outer, inner] * scale, for every place of the middle */
static int sum_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *x = r->in[0];
    int64_t stride[LC_MAX_DIMS];
    int dim = (int)r->i[0];
    for (int i = 0; i < x->ndim; i++)
        stride[i] = dim < 0 || i == dim ? 0 : dy->stride[i - (i > dim)];
    lc_tensor *scaled = r->f[0] == 1 ? dy : lc_scale(dy, r->f[0]);
    return scaled
               ? lc_grad_add(x, lc_tensor_alias(scaled, x->ndim, x->shape, stride, scaled->offset))
               : -1;
}

/* dim -1: over everything */
static lc_tensor *reduce(const char *name, lc_tensor *x, int dim, bool mean) {
    if (!lc_usable(name, x)) return NULL;
    if (!lc_is_float(x))
        return lc_fail_null(LC_EINVAL, "%s: %s; f32, bf16 or f16 is expected", name,
                            lc_shape_text(x));
    x = lc_contiguous(x);
    if (!x) return NULL;
    int64_t shape[LC_MAX_DIMS], outer = 1, inner = 1,
                                middle = dim < 0 ? lc_tensor_count(x) : x->shape[dim];
    int ndim = 0;
    for (int i = 0; dim >= 0 && i < x->ndim; i++) {
        if (i < dim) outer *= x->shape[i];
        if (i > dim) inner *= x->shape[i];
        if (i != dim) shape[ndim++] = x->shape[i];
    }
    double scale = mean ? 1 / (double)middle : 1;
    lc_tensor *y = lc_tensor_make(x, LC_F32, ndim, shape);
    if (!y || lc_kernels_of(x)->sum(lc_data(y), lc_data(x), x->dtype, outer, middle, inner,
                                    (float)scale) < 0)
        return NULL;
    if (x->dtype != LC_F32) y = lc_cast(y, x->dtype);
    return lc_record(
        y, &(struct lc_rule){
               .name = name, .backward = sum_backward, .in = {x}, .f = {scale}, .i = {dim}});
}

static lc_tensor *reduce_dim(const char *name, lc_tensor *x, int dim, bool mean) {
    if (!lc_usable(name, x)) return NULL;
    int d = dim < 0 ? dim + x->ndim : dim;
    if (d < 0 || d >= x->ndim)
        return lc_fail_null(LC_EINVAL, "%s: %s has no dim %d", name, lc_shape_text(x),
                            dim < 0 ? dim : dim + 1);
    return reduce(name, x, d, mean);
}

lc_tensor *lc_sum(lc_tensor *x) { return reduce("sum", x, -1, false); }
lc_tensor *lc_mean(lc_tensor *x) { return reduce("mean", x, -1, true); }
lc_tensor *lc_sum_dim(lc_tensor *x, int dim) { return reduce_dim("sum", x, dim, false); }
lc_tensor *lc_mean_dim(lc_tensor *x, int dim) { return reduce_dim("mean", x, dim, true); }

lc_tensor *lc_argmax(lc_tensor *x) {
    if (!lc_usable("argmax", x)) return NULL;
    if (!lc_is_float(x) || x->ndim < 1 || !lc_tensor_width(x))
        return lc_fail_null(LC_EINVAL,
                            "argmax: %s; floats with a last dim of 1 or more are expected",
                            lc_shape_text(x));
    x = lc_contiguous(x);
    lc_tensor *y = x ? lc_tensor_make(x, LC_I32, x->ndim - 1, x->shape) : NULL;
    return y && !lc_kernels_of(x)->argmax(lc_data(y), lc_data(x), x->dtype, lc_tensor_rows(x),
                                          lc_tensor_width(x))
               ? y
               : NULL;
}

/* ---- sums of runs ---------------------------------------------------------------------------------- */

static int segment_sum_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *x = r->in[0], *dx = lc_tensor_zero_like(x, LC_F32);
    const int32_t *first = lc_data(r->keep[0]), *last = first + dy->shape[0];
    const int64_t n = *last - *first; /* values of some segment */
    lc_tensor *owner = dx ? lc_tensor_new(1, &n, LC_I32, LC_HOST) : NULL;
    if (!owner) return -1;
    for (int32_t s = 0; s < dy->shape[0]; s++)
        for (int32_t i = first[s]; i < first[s + 1]; i++)
            ((int32_t *)lc_data(owner))[i - *first] = s;
    owner = lc_tensor_on(owner, x->storage->device);
    if (!owner || lc_kernels_of(x)->take_rows((float *)lc_data(dx) + *first, lc_data(dy), LC_F32,
                                              lc_data(owner), n, 1) < 0)
        return -1;
    return lc_grad_add(x, dx);
}

lc_tensor *lc_segment_sum(lc_tensor *x, lc_tensor *first) {
    if (!lc_usable("segment_sum", x) || !lc_usable("segment_sum", first)) return NULL;
    if (x->ndim != 1 || x->dtype != LC_F32 || first->ndim != 1 || first->dtype != LC_I32 ||
        first->shape[0] < 1)
        return lc_fail_null(
            LC_EINVAL, "segment_sum: x is %s and first %s; f32 [n] and i32 [S + 1] are expected",
            lc_shape_text(x), lc_shape_text(first));
    x = lc_contiguous(x);
    first = lc_tensor_on(lc_contiguous(first), LC_HOST);
    if (!x || !first) return NULL;
    const int32_t *at = lc_data(first);
    int64_t segments = first->shape[0] - 1;
    for (int64_t s = 0; s < segments; s++)
        if (at[s] < 0 || at[s + 1] < at[s] || at[s + 1] > x->shape[0])
            return lc_fail_null(LC_EINVAL,
                                "segment_sum: segment %" PRId64 " is [%" PRId32 ", %" PRId32
                                ") of %" PRId64 " values",
                                s + 1, at[s], at[s + 1], x->shape[0]);
    lc_tensor *y = lc_tensor_make(x, LC_F32, 1, &segments);
    for (int64_t s = 0; y && s < segments; s++)
        if (lc_kernels_of(x)->sum((float *)lc_data(y) + s, (const float *)lc_data(x) + at[s],
                                  LC_F32, 1, at[s + 1] - at[s], 1, 1) < 0)
            return NULL;
    return lc_record(y, &(struct lc_rule){.name = "segment_sum",
                                          .backward = segment_sum_backward,
                                          .in = {x},
                                          .keep = {first}});
}
