/* embed.c - rows of a table by id. */
#include "base/error.h"
#include "ops/autograd.h"

#include <string.h>

lc_tensor *lc_embedding(lc_tensor *weight, lc_tensor *ids) {
    if (!lc_usable("embedding", weight) || !lc_usable("embedding", ids)) return NULL;
    if (weight->ndim != 2 || ids->dtype != LC_I32 || ids->ndim >= LC_MAX_DIMS)
        return lc_fail_null(
            LC_EINVAL, "embedding: the table is %s and ids are %s; [V, D] and i32 are expected",
            lc_shape_text(weight), lc_shape_text(ids));
    int64_t count = lc_tensor_count(ids), shape[LC_MAX_DIMS];
    memcpy(shape, ids->shape, sizeof shape);
    shape[ids->ndim] = weight->shape[1];
    return lc_view(lc_rows(weight, lc_view(ids, 1, &count)), ids->ndim + 1, shape);
}
