/* recompute.h - trading time for memory: a block that keeps its input alone and runs again in backward. */
#ifndef LC_RECOMPUTE_H
#define LC_RECOMPUTE_H
#include "tensor/tensor.h"

/* y = run(context, x), a fresh tensor. context is taken over and freed with free_context when the tape
 * lets go of it (at once while gradients are off). parameter: any one that run uses and that may want a
 * gradient, or NULL; the gradients of parameters are added to them directly. */
lc_tensor *lc_recompute(lc_tensor *(*run)(const void *context, lc_tensor *x), void *context,
                        void (*free_context)(void *context), lc_tensor *x, lc_tensor *parameter);

#endif
