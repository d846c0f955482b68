/* index.c - tensors of indices. */
#include "ops/index.h"

#include "base/error.h"
#include "tensor/device.h"

#include <inttypes.h>

static int check(const char *op, const char *what, const lc_tensor *index, int64_t limit) {
    const int32_t *at = lc_data(index);
    const int64_t n = lc_tensor_count(index);
    for (int64_t i = 0; i < n; i++)
        if (at[i] < 0 || at[i] >= limit)
            return lc_fail(LC_EINVAL,
                           "%s: %s %" PRId64 " is %" PRId32 ", but it must be from 0 to %" PRId64,
                           op, what, i + 1, at[i], limit - 1);
    return 0;
}

lc_tensor *lc_index_on(const char *op, const char *what, lc_tensor *index, int64_t limit,
                       const lc_tensor *like) {
    index = lc_contiguous(index);
    const lc_tensor *host = lc_tensor_on(index, LC_HOST);
    if (!host || check(op, what, host, limit) < 0) return NULL;
    return lc_tensor_on(index, like->storage->device);
}
