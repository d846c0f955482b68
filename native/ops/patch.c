/* patch.c - a convolution whose stride is its size: every patch becomes a row, then one product. */
#include "base/error.h"
#include "ops/autograd.h"

static int patches_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *x = r->in[0], *dx = lc_tensor_like(x);
    if (!dx ||
        lc_kernels_of(x)->patches_backward(lc_data(dx), lc_data(dy), x->dtype, x->shape[0],
                                           x->shape[1], x->shape[2], x->shape[3], r->i[0]) < 0)
        return -1;
    return lc_grad_add(x, dx);
}

/* [N, C, H, W] -> [N, (H/p)(W/p), C p p] */
static lc_tensor *patches(lc_tensor *x, int64_t p) {
    x = lc_contiguous(x);
    if (!x) return NULL;
    int64_t n = x->shape[0], c = x->shape[1], h = x->shape[2], w = x->shape[3];
    lc_tensor *y = lc_tensor_make(x, x->dtype, 3, (int64_t[]){n, (h / p) * (w / p), c * p * p});
    if (!y || lc_kernels_of(x)->patches(lc_data(y), lc_data(x), x->dtype, n, c, h, w, p) < 0)
        return NULL;
    return lc_record(
        y, &(struct lc_rule){.name = "patches", .backward = patches_backward, .in = {x}, .i = {p}});
}

lc_tensor *lc_patch_embed(lc_tensor *pixels, lc_tensor *weight) {
    if (!lc_usable("patch_embed", pixels) || !lc_usable("patch_embed", weight)) return NULL;
    int64_t p = weight->ndim == 4 ? weight->shape[3] : 0;
    if (pixels->ndim != 4 || p < 1 || weight->shape[2] != p ||
        weight->shape[1] != pixels->shape[1] || pixels->shape[2] % p || pixels->shape[3] % p ||
        !lc_is_float(pixels) || pixels->dtype != weight->dtype)
        return lc_fail_null(LC_EINVAL,
                            "patch_embed: pixels are %s and weight %s; [N, C, H, W] and [D, C, p, "
                            "p] with p dividing H and W are expected",
                            lc_shape_text(pixels), lc_shape_text(weight));
    return lc_linear(patches(pixels, p),
                     lc_view(weight, 2, (int64_t[]){weight->shape[0], weight->shape[1] * p * p}));
}
