/* index.h - tensors of indices, checked before a kernel trusts them. */
#ifndef LC_INDEX_H
#define LC_INDEX_H
#include "tensor/tensor.h"

/* 0 when every element of a dense i32 tensor is in [0, limit); else -1 and the first that is not. */
int lc_check_index(const char *op, const char *what, const lc_tensor *index, int64_t limit);

#endif
