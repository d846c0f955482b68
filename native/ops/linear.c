/* linear.c - the layers that multiply rows by a weight: x [..., K], weight [N, K] -> [..., N].
 *
 *   linear       y = x W^T
 *   linear_bias  y = x W^T + bias                      bias [N]
 *   linear_lora  y = x W^T + scale (x a^T) b^T         a f32 [r, K], b f32 [N, r], cast to x's dtype
 *
 * y has x's dtype; the weight may have another, or be packed. Weights that want no gradient get none, and nothing is
 * computed for them. */
#include "base/error.h"
#include "ops/autograd.h"
#include "ops/linears.h"
#include "ops/product.h"
#include "tensor/device.h"

static int check(const char *op, const lc_tensor *x, const lc_tensor *weight) {
    if (!lc_is_float(x) || (!lc_is_float(weight) && !lc_is_packed(weight)))
        return lc_fail(LC_EINVAL, "%s: x is %s and weight %s; both must be floats", op,
                       lc_shape_text(x), lc_shape_text(weight));
    if (x->ndim < 1 || weight->ndim != 2 || lc_tensor_width(x) != weight->shape[1])
        return lc_fail(LC_EINVAL, "%s: x is %s but weight is %s; x [..., K] needs a weight [N, K]",
                       op, lc_shape_text(x), lc_shape_text(weight));
    return 0;
}

/* [..., width] in x's dtype, contents undefined */
static lc_tensor *rows_of(const lc_tensor *x, int64_t width) {
    int64_t shape[LC_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++) shape[i] = x->shape[i];
    shape[x->ndim - 1] = width;
    return lc_tensor_make(x, x->dtype, x->ndim, shape);
}

static int bias_gradient(lc_tensor *bias, const lc_tensor *dy) {
    if (!lc_wants(bias)) return 0;
    lc_tensor *g = lc_tensor_make(bias, LC_F32, 1, bias->shape);
    if (!g || lc_kernels_of(dy)->sum(lc_data(g), lc_data(dy), dy->dtype, 1, lc_tensor_rows(dy),
                                     lc_tensor_width(dy), 1) < 0)
        return -1;
    return lc_grad_add(bias, g);
}

/* dx = dy W, dW = dy^T x, dbias = sum of dy's rows */
static int linear_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *x = r->in[0], *weight = r->in[1], *bias = r->in[2];
    struct lc_matrix g, rows, w;
    if (lc_matrix_rows(&g, dy) < 0 || lc_matrix_rows(&rows, x) < 0) return -1;
    if (lc_wants(x)) {
        lc_tensor *dx = lc_gradient_like(x), *whole = lc_expanded(weight, x->dtype);
        if (!dx || !whole || lc_matrix_of(&w, whole) < 0 || lc_product(dx, g, w, 1, 0, NULL) < 0 ||
            lc_grad_add(x, dx) < 0)
            return -1;
    }
    return lc_product_gradient(weight, g, rows, 1) < 0 ? -1 : bias_gradient(bias, dy);
}

/* y = x w^T + bias */
static lc_tensor *with_bias(lc_tensor *x, lc_tensor *weight, lc_tensor *bias) {
    struct lc_matrix rows, w;
    lc_tensor *y = rows_of(x, weight->shape[0]), *whole = lc_expanded(weight, x->dtype);
    if (!y || !whole || lc_matrix_rows(&rows, x) < 0 || lc_matrix_of(&w, whole) < 0 ||
        lc_product(y, rows, lc_matrix_transposed(w), 1, 0, bias) < 0)
        return NULL;
    return lc_record(
        y,
        &(struct lc_rule){.name = "linear", .backward = linear_backward, .in = {x, weight, bias}});
}

lc_tensor *lc_linear(lc_tensor *x, lc_tensor *weight) {
    if (!lc_usable("linear", x) || !lc_alive("linear", weight) || check("linear", x, weight) < 0 ||
        !lc_together("linear", x, weight))
        return NULL;
    return lc_linears(x, 1, &(struct lc_linear_part){.weight = weight}, NULL);
}

lc_tensor *lc_linear_bias(lc_tensor *x, lc_tensor *weight, lc_tensor *bias) {
    if (!lc_usable("linear_bias", x) || !lc_alive("linear_bias", weight) ||
        !lc_usable("linear_bias", bias) || check("linear_bias", x, weight) < 0 ||
        !lc_together("linear_bias", x, weight) || !lc_together("linear_bias", x, bias))
        return NULL;
    if (!lc_is_float(bias) || bias->ndim != 1 || bias->shape[0] != weight->shape[0])
        return lc_fail_null(LC_EINVAL, "linear_bias: weight is %s but bias is %s",
                            lc_shape_text(weight), lc_shape_text(bias));
    int before = lc_pool();
    return lc_pool_end(before, with_bias(x, weight, bias));
}

static int check_lora(const lc_tensor *x, const lc_tensor *weight, const lc_tensor *a,
                      const lc_tensor *b) {
    if (check("linear_lora", x, weight) < 0) return -1;
    if (a->dtype != LC_F32 || b->dtype != LC_F32 || a->ndim != 2 || b->ndim != 2 ||
        a->shape[1] != weight->shape[1] || b->shape[0] != weight->shape[0] ||
        a->shape[0] != b->shape[1])
        return lc_fail(LC_EINVAL,
                       "linear_lora: weight %s needs a f32 [r, %lld] and b f32 [%lld, r], but a is "
                       "%s and b is %s",
                       lc_shape_text(weight), (long long)weight->shape[1],
                       (long long)weight->shape[0], lc_shape_text(a), lc_shape_text(b));
    return 0;
}

lc_tensor *lc_linear_lora(lc_tensor *x, lc_tensor *weight, lc_tensor *a, lc_tensor *b,
                          double scale) {
    if (!lc_usable("linear_lora", x) || !lc_alive("linear_lora", weight) ||
        !lc_usable("linear_lora", a) || !lc_usable("linear_lora", b) ||
        check_lora(x, weight, a, b) < 0 || !lc_together("linear_lora", x, weight) ||
        !lc_together("linear_lora", x, a) || !lc_together("linear_lora", x, b))
        return NULL;
    return lc_linears(x, 1, &(struct lc_linear_part){weight, a, b, scale}, NULL);
}
