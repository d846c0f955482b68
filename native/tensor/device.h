/* device.h - tensors of one device, and what memory is held for. */
#ifndef LC_TENSOR_DEVICE_H
#define LC_TENSOR_DEVICE_H
#include "cuda/plugin.h"
#include "tensor/tensor.h"

const struct lc_kernels *lc_kernels_at(int device);

/* The table of the device that was started. */
const struct lc_cuda *lc_device_plugin(void);

/* What is allocated on a device from now on is held for that; the tag before. */
int lc_device_tag(int tag);

/* ---- recordings ----
 * What a device is launched to do between record and recorded is not done but recorded, with the memory that it
 * works on; replay does it, again and again. Inputs lie in memory that was there before, and the keys of attention
 * are those of the spans that were prepared last. What was allocated meanwhile is the recording's, and is freed before
 * it is forgotten. On the host nothing can be recorded. */
int lc_device_record(int device);       /* 1: nothing is recorded there */
void *lc_device_recorded(void);         /* what was recorded; replay tells whether it is anything */
int lc_device_replay(void *recording);  /* 1: something was asked for that cannot be recorded */
void lc_device_forget(void *recording); /* NULL is legal */
/* For the next replay, and before recording: 1: attention over such spans cannot be recorded. */
int lc_device_prepare(int device, const struct lc_spans *spans, int dtype, int64_t heads,
                      int64_t groups, int64_t d);

/* Whether b (NULL is legal) is where a is; else the reason, in the op's name. */
bool lc_together(const char *op, const lc_tensor *a, const lc_tensor *b);

/* t itself where it is on the device, else a dense copy there; pending, not recorded. */
lc_tensor *lc_tensor_on(lc_tensor *t, int device);

#endif
