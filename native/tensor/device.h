/* device.h - tensors of one device, and what memory is held for. */
#ifndef LC_TENSOR_DEVICE_H
#define LC_TENSOR_DEVICE_H
#include "cuda/plugin.h"
#include "tensor/tensor.h"

const struct lc_kernels *lc_kernels_at(int device);

/* What is allocated on a device from now on is held for that; the tag before. */
int lc_device_tag(int tag);

/* Whether b (NULL is legal) is where a is; else the reason, in the op's name. */
bool lc_together(const char *op, const lc_tensor *a, const lc_tensor *b);

/* t itself where it is on the device, else a dense copy there; pending, not recorded. */
lc_tensor *lc_tensor_on(lc_tensor *t, int device);

#endif
