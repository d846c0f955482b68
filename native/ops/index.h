/* index.h - tensors of indices, checked before a kernel trusts them. */
#ifndef LC_INDEX_H
#define LC_INDEX_H
#include "tensor/tensor.h"

/* A dense i32 tensor where like is, once every element is known to be in [0, limit); NULL: the first
 * that is not. Indices are made on the host: those of a device are read back for the check. */
lc_tensor *lc_index_on(const char *op, const char *what, lc_tensor *index, int64_t limit,
                       const lc_tensor *like);

/* lc_rows of indices that are known to be in range and lie where x is: nothing is read back, nothing recorded on the tape. */
lc_tensor *lc_known_rows(lc_tensor *x, lc_tensor *index);

#endif
