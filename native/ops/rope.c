/* rope.c - rotary positions; the backward turns the other way. */
#include "base/error.h"
#include "ops/autograd.h"
#include "tensor/device.h"

/* x and y are dense. */
static int turn(lc_tensor *y, const lc_tensor *x, const lc_tensor *position, double theta,
                bool inverse) {
    const int64_t row = x->shape[1] * x->shape[2];
    return lc_kernels_of(x)->rope(lc_data(y), lc_data(x), x->dtype, lc_data(position), x->shape[0],
                                  x->shape[1], x->shape[2], row, row, theta, inverse);
}

static int rope_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *dx = lc_tensor_like(dy);
    return dx && !turn(dx, dy, r->keep[0], r->f[0], true) ? lc_grad_add(r->in[0], dx) : -1;
}

lc_tensor *lc_rope(lc_tensor *x, lc_tensor *position, double theta) {
    if (!lc_usable("rope", x) || !lc_usable("rope", position)) return NULL;
    if (!lc_is_float(x) || x->ndim != 3 || x->shape[2] % 2 || position->dtype != LC_I32 ||
        position->ndim != 1 || position->shape[0] != x->shape[0])
        return lc_fail_null(
            LC_EINVAL, "rope: x is %s and position %s; [T, H, even d] and i32 [T] are expected",
            lc_shape_text(x), lc_shape_text(position));
    x = lc_contiguous(x);
    position = lc_contiguous(position);
    if (!lc_together("rope", x, position)) return NULL;
    lc_tensor *y = x && position ? lc_tensor_like(x) : NULL;
    if (!y || turn(y, x, position, theta, false) < 0) return NULL;
    return lc_record(y, &(struct lc_rule){.name = "rope",
                                          .backward = rope_backward,
                                          .in = {x},
                                          .keep = {position},
                                          .f = {theta}});
}
