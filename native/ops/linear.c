/* linear.c - the layers that multiply rows by a weight: x [..., K], weight [N, K] -> [..., N].
 *
 *   linear       y = x W^T
 *   linear_bias  y = x W^T + bias                      bias [N]
 *   linear_lora  y = x W^T + scale (x a^T) b^T         a f32 [r, K], b f32 [N, r], cast to x's dtype
 *
 * y has x's dtype; the weight may have another. Weights that want no gradient get none, and nothing is
 * computed for them. */
#include "base/error.h"
#include "ops/autograd.h"
#include "ops/product.h"
#include "tensor/device.h"

static int check(const char *op, const lc_tensor *x, const lc_tensor *weight) {
    if (!lc_is_float(x) || !lc_is_float(weight))
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

/* y = alpha x w^T + beta y + bias */
static int multiply(lc_tensor *y, const lc_tensor *x, const lc_tensor *w, double alpha, double beta,
                    const lc_tensor *bias) {
    struct lc_matrix a, b;
    return lc_matrix_rows(&a, x) < 0 || lc_matrix_of(&b, w) < 0
               ? -1
               : lc_product(y, a, lc_matrix_transposed(b), alpha, beta, bias);
}

/* dx = alpha dy w + beta dx */
static int multiply_back(lc_tensor *dx, const lc_tensor *dy, const lc_tensor *w, double alpha,
                         double beta) {
    struct lc_matrix a, b;
    return lc_matrix_rows(&a, dy) < 0 || lc_matrix_of(&b, w) < 0
               ? -1
               : lc_product(dx, a, b, alpha, beta, NULL);
}

/* The gradient of weight t, dy^T x, handed to t when it wants one. */
static int weight_gradient(lc_tensor *t, const lc_tensor *dy, const lc_tensor *x) {
    if (!lc_wants(t)) return 0;
    struct lc_matrix a, b;
    lc_tensor *dw = lc_gradient_like(t);
    if (!dw || lc_matrix_rows(&a, dy) < 0 || lc_matrix_rows(&b, x) < 0 ||
        lc_product(dw, lc_matrix_transposed(a), b, 1, 0, NULL) < 0)
        return -1;
    return lc_grad_add(t, dw);
}

/* ---- linear, linear_bias ----------------------------------------------------------------------------- */

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
    if (lc_wants(x)) {
        lc_tensor *dx = lc_gradient_like(x);
        if (!dx || multiply_back(dx, dy, weight, 1, 0) < 0 || lc_grad_add(x, dx) < 0) return -1;
    }
    return weight_gradient(weight, dy, x) < 0 ? -1 : bias_gradient(bias, dy);
}

/* bias may be NULL */
static lc_tensor *linear(lc_tensor *x, lc_tensor *weight, lc_tensor *bias) {
    int before = lc_pool();
    lc_tensor *y = rows_of(x, weight->shape[0]);
    if (y && multiply(y, x, weight, 1, 0, bias) < 0) y = NULL;
    y = lc_pool_end(before, y);
    return lc_record(
        y,
        &(struct lc_rule){.name = "linear", .backward = linear_backward, .in = {x, weight, bias}});
}

lc_tensor *lc_linear(lc_tensor *x, lc_tensor *weight) {
    if (!lc_usable("linear", x) || !lc_usable("linear", weight) || check("linear", x, weight) < 0 ||
        !lc_together("linear", x, weight))
        return NULL;
    return linear(x, weight, NULL);
}

lc_tensor *lc_linear_bias(lc_tensor *x, lc_tensor *weight, lc_tensor *bias) {
    if (!lc_usable("linear_bias", x) || !lc_usable("linear_bias", weight) ||
        !lc_usable("linear_bias", bias) || check("linear_bias", x, weight) < 0 ||
        !lc_together("linear_bias", x, weight) || !lc_together("linear_bias", x, bias))
        return NULL;
    if (!lc_is_float(bias) || bias->ndim != 1 || bias->shape[0] != weight->shape[0])
        return lc_fail_null(LC_EINVAL, "linear_bias: weight is %s but bias is %s",
                            lc_shape_text(weight), lc_shape_text(bias));
    return linear(x, weight, bias);
}

/* ---- linear_lora ----------------------------------------------------------------------------------------- */

/* t itself, or a copy in that dtype */
static lc_tensor *as(lc_tensor *t, int dtype) {
    if (t->dtype == dtype) return t;
    lc_tensor *copy = lc_tensor_make(t, dtype, t->ndim, t->shape);
    return copy && !lc_tensor_copy(copy, t) ? copy : NULL;
}

/* With h = scale x a^T [..., r] kept and dh = scale dy b:
 * dx = dy W + dh a, dW = dy^T x, da = dh^T x, db = dy^T h */
static int lora_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *x = r->in[0], *weight = r->in[1], *h = r->keep[0];
    lc_tensor *a = as(r->in[2], x->dtype), *b = as(r->in[3], x->dtype);
    lc_tensor *dh = lc_tensor_like(h);
    if (!a || !b || !dh || multiply_back(dh, dy, b, r->f[0], 0) < 0) return -1;
    if (lc_wants(x)) {
        lc_tensor *dx = lc_gradient_like(x);
        if (!dx || multiply_back(dx, dy, weight, 1, 0) < 0 || multiply_back(dx, dh, a, 1, 1) < 0 ||
            lc_grad_add(x, dx) < 0)
            return -1;
    }
    return weight_gradient(weight, dy, x) < 0 || weight_gradient(r->in[2], dh, x) < 0
               ? -1
               : weight_gradient(r->in[3], dy, h);
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
    if (!lc_usable("linear_lora", x) || !lc_usable("linear_lora", weight) ||
        !lc_usable("linear_lora", a) || !lc_usable("linear_lora", b) ||
        check_lora(x, weight, a, b) < 0 || !lc_together("linear_lora", x, weight) ||
        !lc_together("linear_lora", x, a) || !lc_together("linear_lora", x, b))
        return NULL;
    int before = lc_pool();
    lc_tensor *down = as(a, x->dtype), *up = as(b, x->dtype);
    lc_tensor *h = rows_of(x, a->shape[0]), *y = rows_of(x, weight->shape[0]);
    if (!down || !up || !h || !y || multiply(h, x, down, scale, 0, NULL) < 0 ||
        multiply(y, x, weight, 1, 0, NULL) < 0 || multiply(y, h, up, 1, 1, NULL) < 0)
        y = NULL;
    y = lc_record(y, &(struct lc_rule){.name = "linear_lora",
                                       .backward = lora_backward,
                                       .in = {x, weight, a, b},
                                       .keep = {h},
                                       .f = {scale}});
    return lc_pool_end(before, y);
}
