/* elementwise.c - functions of one tensor, and of two that broadcast as in PyTorch: shapes are aligned
 * at the right, and a dim of size 1 repeats. Operands of different dtypes are computed in f32. */
#include "base/error.h"
#include "ops/autograd.h"
#include "ops/roomy.h"
#include "tensor/device.h"

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

/* Elements of b that repeat as a whole to fill a shape: all of b when it is the trailing dims of the
 * shape (a bias, a scalar, the same shape), else 0. */
static int64_t period(const lc_tensor *b, int ndim, const int64_t *shape) {
    int first = 0; /* of the dims that are not a leading 1 */
    while (first < b->ndim && b->shape[first] == 1) first++;
    int left = b->ndim - first;
    bool trailing = !memcmp(shape + ndim - left, b->shape + first, (size_t)left * sizeof *shape);
    return trailing ? lc_tensor_count(b) : 0;
}

/* ---- two operands --------------------------------------------------------------------------------------- */

/* What a kernel reads: a with the result's shape, b whole or as its period. */
struct operands {
    lc_tensor *a, *b;
    int64_t outer, inner;
};

static int spread_operands(struct operands *o, lc_tensor *a, lc_tensor *b, int ndim,
                           const int64_t *shape) {
    o->inner = period(b, ndim, shape);
    o->a = spread(a, ndim, shape);
    o->b = o->inner ? lc_contiguous(b) : spread(b, ndim, shape);
    if (!o->a || !o->b) return -1;
    int64_t count = lc_tensor_count(o->a);
    if (!o->inner) o->inner = count;
    o->outer = o->inner ? count / o->inner : 0;
    return 0;
}

/* Of a sum or a difference: the operands are not needed, and dy itself is handed on. */
static int linear_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *a = r->in[0], *b = r->in[1];
    if (lc_wants(a) && lc_grad_add(a, gather_back(dy, a)) < 0) return -1;
    if (!lc_wants(b)) return 0;
    lc_tensor *db = gather_back(dy, b);
    return lc_grad_add(b, r->i[0] == LC_SUB ? lc_scale(db, -1) : db);
}

static int binary_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *a = r->in[0], *b = r->in[1], *da = NULL, *db = NULL;
    struct operands o;
    if (spread_operands(&o, a, b, dy->ndim, dy->shape) < 0) return -1;
    if (lc_wants(a) && !(da = lc_tensor_like(dy))) return -1;
    if (lc_wants(b) && !(db = lc_tensor_like(dy))) return -1;
    if (lc_kernels_of(dy)->binary_backward(da ? lc_data(da) : NULL, db ? lc_data(db) : NULL,
                                           lc_data(dy), lc_data(o.a), lc_data(o.b), dy->dtype,
                                           o.outer, o.inner, (enum lc_binary)r->i[0]) < 0)
        return -1;
    if (da && lc_grad_add(a, gather_back(da, a)) < 0) return -1;
    return db ? lc_grad_add(b, gather_back(db, b)) : 0;
}

/* Whether both can be used: floats on one device; else the reason is said. */
static bool floats(const char *name, const lc_tensor *a, const lc_tensor *b) {
    if (!lc_usable(name, a) || !lc_usable(name, b)) return false;
    if (lc_is_float(a) && lc_is_float(b)) return lc_together(name, a, b);
    lc_fail(LC_EINVAL, "%s: %s and %s; f32, bf16 or f16 is expected", name, lc_shape_text(a),
            lc_shape_text(b));
    return false;
}

static lc_tensor *compute(const char *name, lc_tensor *a, lc_tensor *b, enum lc_binary op) {
    int64_t shape[LC_MAX_DIMS];
    int ndim = common_shape(a, b, shape);
    if (ndim < 0)
        return lc_fail_null(LC_EINVAL, "%s: shapes do not fit: %s and %s", name, lc_shape_text(a),
                            lc_shape_text(b));
    if (a->dtype != b->dtype) {
        a = lc_cast(a, LC_F32);
        b = lc_cast(b, LC_F32);
    }
    struct operands o;
    lc_tensor *y = a && b ? lc_tensor_make(a, a->dtype, ndim, shape) : NULL;
    if (!y || spread_operands(&o, a, b, ndim, shape) < 0 ||
        lc_kernels_of(y)->binary(lc_data(y), lc_data(o.a), lc_data(o.b), y->dtype, o.outer, o.inner,
                                 op) < 0)
        return NULL;
    bool linear = op == LC_ADD || op == LC_SUB;
    if (linear)
        y->grad_room = a->grad_room > b->grad_room ? a->grad_room : b->grad_room; /* it is theirs */
    return lc_record(y, &(struct lc_rule){.name = name,
                                          .backward = linear ? linear_backward : binary_backward,
                                          .takes_rows = linear,
                                          .in = {a, b},
                                          .i = {op}});
}

static lc_tensor *binary(const char *name, lc_tensor *a, lc_tensor *b, enum lc_binary op) {
    if (!floats(name, a, b)) return NULL;
    int before = lc_pool();
    return lc_pool_end(before, compute(name, a, b, op));
}

lc_tensor *lc_add(lc_tensor *a, lc_tensor *b) { return binary("add", a, b, LC_ADD); }
lc_tensor *lc_sub(lc_tensor *a, lc_tensor *b) { return binary("sub", a, b, LC_SUB); }
lc_tensor *lc_mul(lc_tensor *a, lc_tensor *b) { return binary("mul", a, b, LC_MUL); }
lc_tensor *lc_div(lc_tensor *a, lc_tensor *b) { return binary("div", a, b, LC_DIV); }

/* ---- swiglu --------------------------------------------------------------------------------------------- */

/* [rows, width] of gate and up, rows `row` apart; their gradients, rows `dx_row` apart */
static int swiglu_backward(lc_tensor *dy, const lc_tensor *like, void *gate, void *up, int64_t row,
                           void *dgate, void *dup, int64_t dx_row) {
    return lc_kernels_of(dy)->swiglu_backward(dgate, dup, lc_data(dy), gate, up, like->dtype,
                                              lc_tensor_rows(dy), lc_tensor_width(dy), dx_row, row);
}

static int pair_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *gate = r->in[0], *up = r->in[1], *dgate = lc_tensor_like(gate),
              *dup = lc_tensor_like(up);
    const int64_t width = lc_tensor_width(dy);
    if (!dgate || !dup ||
        swiglu_backward(dy, gate, lc_data(gate), lc_data(up), width, lc_data(dgate), lc_data(dup),
                        width) < 0)
        return -1;
    return lc_grad_add(gate, dgate) < 0 ? -1 : lc_grad_add(up, dup);
}

lc_tensor *lc_swiglu(lc_tensor *gate, lc_tensor *up) {
    if (!floats("swiglu", gate, up)) return NULL;
    if (!lc_same_shape(gate, up))
        return lc_fail_null(LC_EINVAL, "swiglu: gate is %s but up is %s", lc_shape_text(gate),
                            lc_shape_text(up));
    int before = lc_pool();
    const bool same = gate->dtype == up->dtype;
    gate = lc_contiguous(same ? gate : lc_cast(gate, LC_F32));
    up = lc_contiguous(same ? up : lc_cast(up, LC_F32));
    lc_tensor *y = gate && up ? lc_tensor_like(gate) : NULL;
    const int64_t width = y ? lc_tensor_width(y) : 0;
    if (y && lc_kernels_of(y)->swiglu(lc_data(y), lc_data(gate), lc_data(up), y->dtype,
                                      lc_tensor_rows(y), width, width, width) < 0)
        y = NULL;
    y = lc_record(y,
                  &(struct lc_rule){.name = "swiglu", .backward = pair_backward, .in = {gate, up}});
    return lc_pool_end(before, y);
}

/* Where the second half of x's rows begins. */
static void *second_half(const lc_tensor *x) {
    return (char *)lc_data(x) + (size_t)(lc_tensor_width(x) / 2) * lc_dtype_bytes(x->dtype);
}

static int packed_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *x = r->in[0], *dx = lc_tensor_roomy(x, x->dtype, x->ndim, x->shape, x->grad_room);
    if (!dx || swiglu_backward(dy, x, lc_data(x), second_half(x), lc_tensor_row(x), lc_data(dx),
                               second_half(dx), lc_tensor_row(dx)) < 0)
        return -1;
    return lc_grad_add(x, dx);
}

lc_tensor *lc_swiglu_packed(lc_tensor *x, int64_t room) {
    if (!lc_usable("swiglu", x)) return NULL;
    lc_assert(lc_is_float(x) && x->ndim == 2 && x->shape[1] % 2 == 0 && lc_tensor_rowwise(x));
    const int64_t shape[] = {x->shape[0], x->shape[1] / 2};
    lc_tensor *y = lc_tensor_roomy(x, x->dtype, 2, shape, room);
    if (!y || lc_kernels_of(y)->swiglu(lc_data(y), lc_data(x), second_half(x), y->dtype, shape[0],
                                       shape[1], lc_tensor_row(y), lc_tensor_row(x)) < 0)
        return NULL;
    return lc_record(y,
                     &(struct lc_rule){.name = "swiglu", .backward = packed_backward, .in = {x}});
}
