/* softmax.c - softmax and log-softmax over the last dim. */
#include "base/error.h"
#include "ops/autograd.h"

static int softmax_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *x = r->in[0], *y = r->keep[0], *dx = lc_tensor_like(x);
    if (!dx ||
        lc_kernels_of(x)->softmax_backward(lc_data(dx), lc_data(dy), lc_data(y), x->dtype,
                                           lc_tensor_rows(x), lc_tensor_width(x), r->i[0] != 0) < 0)
        return -1;
    return lc_grad_add(x, dx);
}

static lc_tensor *softmax(const char *name, lc_tensor *x, bool log) {
    if (!lc_usable(name, x)) return NULL;
    if (!lc_is_float(x) || x->ndim < 1)
        return lc_fail_null(LC_EINVAL, "%s: %s; floats with a last dim are expected", name,
                            lc_shape_text(x));
    x = lc_contiguous(x);
    lc_tensor *y = x ? lc_tensor_like(x) : NULL;
    if (!y || lc_kernels_of(x)->softmax(lc_data(y), lc_data(x), x->dtype, lc_tensor_rows(x),
                                        lc_tensor_width(x), log) < 0)
        return NULL;
    lc_tensor *kept = lc_detach(y); /* the rule of y cannot hold y itself */
    if (!kept) return NULL;
    return lc_record(
        y, &(struct lc_rule){
               .name = name, .backward = softmax_backward, .in = {x}, .keep = {kept}, .i = {log}});
}

lc_tensor *lc_softmax(lc_tensor *x) { return softmax("softmax", x, false); }
lc_tensor *lc_log_softmax(lc_tensor *x) { return softmax("log_softmax", x, true); }
