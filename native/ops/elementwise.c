/* elementwise.c - functions of one tensor, and of two that broadcast as in PyTorch: shapes are aligned
 * at the right, and a dim of size 1 repeats. Operands of different dtypes are computed in f32. */
#include "base/error.h"
#include "ops/autograd.h"

#include <string.h>

/* ---- one operand ------------------------------------------------------------------------------- */

static int unary_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *x = r->in[0], *dx = lc_tensor_like(x);
    if (!dx || lc_kernels_of(x)->unary_backward(lc_data(dx), lc_data(dy), lc_data(x), x->dtype,
                                                lc_tensor_count(x), (enum lc_unary)r->i[0], r->f[0],
                                                r->f[1]) < 0)
        return -1;
    return lc_grad_add(x, dx);
}

static lc_tensor *unary(const char *name, lc_tensor *x, enum lc_unary op, double p, double q) {
    if (!lc_usable(name, x)) return NULL;
    if (!lc_is_float(x))
        return lc_fail_null(LC_EINVAL, "%s: %s; f32, bf16 or f16 is expected", name,
                            lc_shape_text(x));
    x = lc_contiguous(x);
    lc_tensor *y = x ? lc_tensor_like(x) : NULL;
    if (!y ||
        lc_kernels_of(x)->unary(lc_data(y), lc_data(x), x->dtype, lc_tensor_count(x), op, p, q) < 0)
        return NULL;
    return lc_record(
        y, &(struct lc_rule){
               .name = name, .backward = unary_backward, .in = {x}, .f = {p, q}, .i = {op}});
}

lc_tensor *lc_scale(lc_tensor *x, double factor) { return unary("scale", x, LC_SCALE, factor, 0); }
lc_tensor *lc_shift(lc_tensor *x, double offset) { return unary("shift", x, LC_SHIFT, offset, 0); }
lc_tensor *lc_pow(lc_tensor *x, double exponent) { return unary("pow", x, LC_POW, exponent, 0); }
lc_tensor *lc_exp(lc_tensor *x) { return unary("exp", x, LC_EXP, 0, 0); }
lc_tensor *lc_log(lc_tensor *x) { return unary("log", x, LC_LOG, 0, 0); }
lc_tensor *lc_sqrt(lc_tensor *x) { return unary("sqrt", x, LC_SQRT, 0, 0); }
lc_tensor *lc_abs(lc_tensor *x) { return unary("abs", x, LC_ABS, 0, 0); }
lc_tensor *lc_relu(lc_tensor *x) { return unary("relu", x, LC_RELU, 0, 0); }
lc_tensor *lc_clamp(lc_tensor *x, double low, double high) {
    return unary("clamp", x, LC_CLAMP, low, high);
}
lc_tensor *lc_tanh(lc_tensor *x) { return unary("tanh", x, LC_TANH, 0, 0); }
lc_tensor *lc_sigmoid(lc_tensor *x) { return unary("sigmoid", x, LC_SIGMOID, 0, 0); }
lc_tensor *lc_log_sigmoid(lc_tensor *x) { return unary("log_sigmoid", x, LC_LOG_SIGMOID, 0, 0); }
lc_tensor *lc_gelu(lc_tensor *x) { return unary("gelu", x, LC_GELU, 0, 0); }
lc_tensor *lc_quick_gelu(lc_tensor *x) { return unary("quick_gelu", x, LC_QUICK_GELU, 0, 0); }
lc_tensor *lc_silu(lc_tensor *x) { return unary("silu", x, LC_SILU, 0, 0); }

/* ---- broadcasting ----------------------------------------------------------------------------------- */

/* The common shape, or -1 when there is none. */
static int common_shape(const lc_tensor *a, const lc_tensor *b, int64_t shape[LC_MAX_DIMS]) {
    int ndim = a->ndim > b->ndim ? a->ndim : b->ndim;
    for (int i = 1; i <= ndim; i++) { /* from the right */
        int64_t m = i <= a->ndim ? a->shape[a->ndim - i] : 1,
                n = i <= b->ndim ? b->shape[b->ndim - i] : 1;
        if (m != n && m != 1 && n != 1) return -1;
        shape[ndim - i] = m == 1 ? n : m;
    }
    return ndim;
}

/* x repeated to a shape, dense; x itself when it has that shape. Not recorded. */
static lc_tensor *spread(lc_tensor *x, int ndim, const int64_t *shape) {
    int64_t stride[LC_MAX_DIMS];
    for (int i = 0; i < ndim; i++) {
        int j = i - (ndim - x->ndim);
        stride[i] = j >= 0 && x->shape[j] == shape[i] ? x->stride[j] : 0;
    }
    lc_tensor *view = lc_tensor_alias(x, ndim, shape, stride, x->offset);
    if (!view || lc_tensor_dense(view)) return view;
    lc_tensor *y = lc_tensor_like(view);
    return y && !lc_kernels_of(x)->gather(lc_data(y), lc_data(view), x->dtype, ndim, shape, stride)
               ? y
               : NULL;
}

/* Gradient g of a broadcast operand summed back to the operand's shape; NULL: failed. */
static lc_tensor *gather_back(lc_tensor *g, const lc_tensor *x) {
    while (g && g->ndim > x->ndim) g = lc_sum_dim(g, 0);
    for (int i = 0; g && i < x->ndim; i++) {
        if (g->shape[i] == x->shape[i]) continue;
        int64_t shape[LC_MAX_DIMS];
        memcpy(shape, g->shape, sizeof shape);
        shape[i] = 1;
        g = lc_sum_dim(g, i);
        if (g) g = lc_view(g, x->ndim, shape);
    }
    return g;
}

/* Whether b is the trailing dims of a, so that it repeats as a whole. */
static bool trailing(const lc_tensor *a, const lc_tensor *b) {
    if (b->ndim > a->ndim) return false;
    return !memcmp(a->shape + a->ndim - b->ndim, b->shape, (size_t)b->ndim * sizeof *b->shape);
}

/* ---- two operands --------------------------------------------------------------------------------------- */

static int binary_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *a = r->in[0], *b = r->in[1];
    enum lc_binary op = (enum lc_binary)r->i[0];
    bool linear = op == LC_ADD || op == LC_SUB; /* the operands are not needed */
    lc_tensor *da = NULL, *db = NULL;
    if (linear) {
        da = dy;
        db = lc_wants(b) && op == LC_SUB ? lc_scale(dy, -1) : dy;
        if (!db) return -1;
    } else {
        lc_tensor *x = spread(a, dy->ndim, dy->shape), *z = spread(b, dy->ndim, dy->shape);
        if (!x || !z) return -1;
        if (lc_wants(a) && !(da = lc_tensor_like(dy))) return -1;
        if (lc_wants(b) && !(db = lc_tensor_like(dy))) return -1;
        if (lc_kernels_of(dy)->binary_backward(da ? lc_data(da) : NULL, db ? lc_data(db) : NULL,
                                               lc_data(dy), lc_data(x), lc_data(z), dy->dtype,
                                               lc_tensor_count(dy), op) < 0)
            return -1;
    }
    if (lc_wants(a) && lc_grad_add(a, gather_back(da, a)) < 0) return -1;
    return lc_wants(b) ? lc_grad_add(b, gather_back(db, b)) : 0;
}

static lc_tensor *binary(const char *name, lc_tensor *a, lc_tensor *b, enum lc_binary op) {
    if (!lc_usable(name, a) || !lc_usable(name, b)) return NULL;
    if (!lc_is_float(a) || !lc_is_float(b))
        return lc_fail_null(LC_EINVAL, "%s: %s and %s; f32, bf16 or f16 is expected", name,
                            lc_shape_text(a), lc_shape_text(b));
    if (a->dtype != b->dtype) {
        a = lc_cast(a, LC_F32);
        b = lc_cast(b, LC_F32);
        if (!a || !b) return NULL;
    }
    int64_t shape[LC_MAX_DIMS];
    int ndim = common_shape(a, b, shape);
    if (ndim < 0)
        return lc_fail_null(LC_EINVAL, "%s: shapes do not fit: %s and %s", name, lc_shape_text(a),
                            lc_shape_text(b));
    a = lc_contiguous(a);
    b = lc_contiguous(b);
    lc_tensor *y = a && b ? lc_tensor_make(a, a->dtype, ndim, shape) : NULL;
    if (!y) return NULL;
    int64_t count = lc_tensor_count(y), inner = trailing(y, b) ? lc_tensor_count(b) : count;
    lc_tensor *x = spread(a, ndim, shape), *z = inner == count ? spread(b, ndim, shape) : b;
    if (!x || !z) return NULL;
    if (count && lc_kernels_of(y)->binary(lc_data(y), lc_data(x), lc_data(z), y->dtype,
                                          count / inner, inner, op) < 0)
        return NULL;
    return lc_record(
        y, &(struct lc_rule){.name = name, .backward = binary_backward, .in = {a, b}, .i = {op}});
}

lc_tensor *lc_add(lc_tensor *a, lc_tensor *b) { return binary("add", a, b, LC_ADD); }
lc_tensor *lc_sub(lc_tensor *a, lc_tensor *b) { return binary("sub", a, b, LC_SUB); }
lc_tensor *lc_mul(lc_tensor *a, lc_tensor *b) { return binary("mul", a, b, LC_MUL); }
lc_tensor *lc_div(lc_tensor *a, lc_tensor *b) { return binary("div", a, b, LC_DIV); }

lc_tensor *lc_swiglu(lc_tensor *gate, lc_tensor *up) {
    if (gate && up && !lc_same_shape(gate, up))
        return lc_fail_null(LC_EINVAL, "swiglu: gate is %s but up is %s", lc_shape_text(gate),
                            lc_shape_text(up));
    return binary("swiglu", gate, up, LC_SWIGLU);
}
