/* quant.c - weights as a quantised copy gives them back. Not recorded: what is quantised is frozen. */
#include "base/error.h"
#include "tensor/tensor.h"

lc_tensor *lc_quantise(lc_tensor *x, int quant, int dtype) {
    if (!lc_usable("quantise", x)) return NULL;
    if (!lc_is_float(x) || dtype < LC_F32 || dtype > LC_F16)
        return lc_fail_null(LC_EINVAL, "quantise: %s to %s; f32, bf16 or f16 is expected",
                            lc_shape_text(x), lc_dtype_name(dtype) ? lc_dtype_name(dtype) : "?");
    if (quant <= LC_PLAIN || quant >= LC_QUANTS)
        return lc_fail_null(LC_EINVAL, "quantise: there is no kind %d", quant);
    x = lc_contiguous(x);
    lc_tensor *y = x ? lc_tensor_make(x, dtype, x->ndim, x->shape) : NULL;
    if (!y || lc_kernels_of(x)->quantise(lc_data(y), dtype, lc_data(x), x->dtype,
                                         lc_tensor_count(x), (enum lc_quant)quant) < 0)
        return NULL;
    return y;
}
