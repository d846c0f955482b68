/* roomy.h - ops whose rows have room behind them (lc_tensor_roomy), for a product that wants columns of its own
 * beside its operand (linears.h). room 0: the result is dense. */
#ifndef LC_ROOMY_H
#define LC_ROOMY_H
#include "tensor/tensor.h"

lc_tensor *lc_rms_norm_roomy(lc_tensor *x, lc_tensor *weight, double eps, int64_t room);

/* x [T, 2 F], gate and up side by side -> silu(gate) up [T, F] */
lc_tensor *lc_swiglu_packed(lc_tensor *x, int64_t room);

#endif
