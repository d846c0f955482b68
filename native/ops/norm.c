/* norm.c - RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba et al. 2016) over the last dim. */
#include "base/error.h"
#include "ops/autograd.h"
#include "ops/product.h"
#include "ops/roomy.h"
#include "tensor/device.h"

static bool fits(const char *op, const lc_tensor *x, const lc_tensor *w) {
    if (lc_is_float(x) && w->dtype == x->dtype && x->ndim >= 1 && w->ndim == 1 &&
        w->shape[0] == lc_tensor_width(x))
        return true;
    lc_fail(LC_EINVAL, "%s: x is %s but the parameter is %s; x [..., D] needs [D] of its dtype", op,
            lc_shape_text(x), lc_shape_text(w));
    return false;
}

/* f32 [rows], kept for backward */
static lc_tensor *row_numbers(const lc_tensor *x) {
    int64_t rows = lc_tensor_rows(x);
    return lc_tensor_make(x, LC_F32, 1, &rows);
}

/* in: x, weight, [bias]; keep: rstd, [mean]. RMSNorm adds what x's gradient is so far in the same pass: in a
 * residual stream that is the gradient of all that comes behind. */
static int norm_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *x = r->in[0], *w = r->in[1], *b = r->in[2], *dx = NULL, *dw = NULL, *db = NULL;
    if (lc_wants(x) && !(dx = lc_tensor_roomy(x, x->dtype, x->ndim, x->shape, x->grad_room)))
        return -1;
    const lc_tensor *more = dx && !b ? lc_grad_so_far(x) : NULL;
    if (lc_wants(w) && !(dw = lc_tensor_make(w, LC_F32, 1, w->shape))) return -1;
    if (lc_wants(b) && !(db = lc_tensor_make(b, LC_F32, 1, b->shape))) return -1;
    const struct lc_kernels *k = lc_kernels_of(x);
    void *to = dx ? lc_data(dx) : NULL;
    float *to_w = dw ? lc_data(dw) : NULL, *to_b = db ? lc_data(db) : NULL;
    int64_t rows = lc_tensor_rows(x), width = lc_tensor_width(x);
    int done =
        b ? k->layer_norm_backward(to, to_w, to_b, lc_data(dy), lc_data(x), lc_data(w),
                                   lc_data(r->keep[1]), lc_data(r->keep[0]), x->dtype, rows, width)
          : k->rms_norm_backward(to, to_w, lc_data(dy), lc_data(x), lc_data(w), lc_data(r->keep[0]),
                                 more ? lc_data(more) : NULL, x->dtype, rows, width,
                                 dx ? lc_tensor_row(dx) : 0, more ? lc_tensor_row(more) : 0);
    if (more && !done) lc_grad_forget(x);
    if (done < 0 || (dx && lc_grad_add(x, dx) < 0) || (dw && lc_grad_add(w, dw) < 0)) return -1;
    return db ? lc_grad_add(b, db) : 0;
}

lc_tensor *lc_rms_norm_roomy(lc_tensor *x, lc_tensor *weight, double eps, int64_t room) {
    if (!lc_usable("rms_norm", x) || !lc_usable("rms_norm", weight) ||
        !fits("rms_norm", x, weight) || !lc_together("rms_norm", x, weight))
        return NULL;
    x = lc_contiguous(x);
    weight = lc_contiguous(weight);
    lc_tensor *y = x && weight ? lc_tensor_roomy(x, x->dtype, x->ndim, x->shape, room) : NULL;
    lc_tensor *rstd = y ? row_numbers(x) : NULL;
    if (!rstd || lc_kernels_of(x)->rms_norm(lc_data(y), lc_data(rstd), lc_data(x), lc_data(weight),
                                            x->dtype, lc_tensor_rows(x), lc_tensor_width(x),
                                            lc_tensor_row(y), (float)eps) < 0)
        return NULL;
    return lc_record(
        y, &(struct lc_rule){
               .name = "rms_norm", .backward = norm_backward, .in = {x, weight}, .keep = {rstd}});
}

lc_tensor *lc_rms_norm(lc_tensor *x, lc_tensor *weight, double eps) {
    return lc_rms_norm_roomy(x, weight, eps, 0);
}

lc_tensor *lc_layer_norm(lc_tensor *x, lc_tensor *weight, lc_tensor *bias, double eps) {
    if (!lc_usable("layer_norm", x) || !lc_usable("layer_norm", weight) ||
        !lc_usable("layer_norm", bias))
        return NULL;
    if (!fits("layer_norm", x, weight) || !fits("layer_norm", x, bias) ||
        !lc_together("layer_norm", x, weight) || !lc_together("layer_norm", x, bias))
        return NULL;
    x = lc_contiguous(x);
    weight = lc_contiguous(weight);
    bias = lc_contiguous(bias);
    lc_tensor *y = x && weight && bias ? lc_tensor_like(x) : NULL;
    lc_tensor *rstd = y ? row_numbers(x) : NULL, *mean = rstd ? row_numbers(x) : NULL;
    if (!mean ||
        lc_kernels_of(x)->layer_norm(lc_data(y), lc_data(mean), lc_data(rstd), lc_data(x),
                                     lc_data(weight), lc_data(bias), x->dtype, lc_tensor_rows(x),
                                     lc_tensor_width(x), (float)eps) < 0)
        return NULL;
    return lc_record(y, &(struct lc_rule){.name = "layer_norm",
                                          .backward = norm_backward,
                                          .in = {x, weight, bias},
                                          .keep = {rstd, mean}});
}
