/* quant.c - weights that are stored packed, and the values that they give back. Not recorded: what is quantised is
 * frozen. */
#include "base/error.h"
#include "ops/product.h"
#include "tensor/device.h"

/* x as it is stored, in x's shape; NULL with the reason. */
static lc_tensor *packed(const char *op, lc_tensor *x, int quant) {
    if (quant <= LC_PLAIN || quant >= LC_QUANTS)
        return lc_fail_null(LC_EINVAL, "%s: there is no kind %d", op, quant);
    const enum lc_quant kind = (enum lc_quant)quant;
    x = lc_contiguous(x);
    lc_tensor *p = x ? lc_tensor_packed(x, kind, x->ndim, x->shape) : NULL;
    return p && lc_kernels_of(x)->pack(lc_data(p), lc_data(x), x->dtype, lc_tensor_count(x), kind) <
                       0
               ? NULL
               : p;
}

static lc_tensor *expanded(const lc_tensor *p, int dtype) {
    const int64_t rows = lc_tensor_rows(p), cols = lc_tensor_width(p);
    lc_tensor *y = lc_tensor_make(p, dtype, p->ndim, p->shape);
    return y && lc_kernels_of(p)->expand(lc_data(y), dtype, rows, cols, cols, lc_data(p),
                                         lc_quant_of(p->dtype)) < 0
               ? NULL
               : y;
}

static int check_dtypes(const char *op, const lc_tensor *x, bool fits, int dtype) {
    if (fits && dtype >= LC_F32 && dtype <= LC_F16) return 0;
    return lc_fail(LC_EINVAL, "%s: %s to %s; f32, bf16 or f16 is expected", op, lc_shape_text(x),
                   lc_dtype_name(dtype) ? lc_dtype_name(dtype) : "?");
}

lc_tensor *lc_quantise(lc_tensor *x, int quant, int dtype) {
    if (!lc_usable("quantise", x) || check_dtypes("quantise", x, lc_is_float(x), dtype) < 0)
        return NULL;
    int before = lc_pool();
    lc_tensor *p = packed("quantise", x, quant);
    return lc_pool_end(before, p ? expanded(p, dtype) : NULL);
}

lc_tensor *lc_pack_weight(lc_tensor *x, int quant) {
    if (!lc_usable("pack_weight", x)) return NULL;
    if (!lc_is_float(x) || x->ndim != 2)
        return lc_fail_null(LC_EINVAL, "pack_weight: %s; a weight [N, K] of floats is expected",
                            lc_shape_text(x));
    int before = lc_pool();
    return lc_pool_end(before, packed("pack_weight", x, quant));
}

lc_tensor *lc_expand(lc_tensor *p, int dtype) {
    if (!lc_alive("expand", p)) return NULL;
    if (!lc_is_packed(p))
        return lc_fail_null(LC_EINVAL, "expand: %s is not packed", lc_shape_text(p));
    return check_dtypes("expand", p, true, dtype) < 0 ? NULL : expanded(p, dtype);
}
