/* index.c - tensors of indices. */
#include "ops/index.h"

#include "base/error.h"

#include <inttypes.h>

int lc_check_index(const char *op, const char *what, const lc_tensor *index, int64_t limit) {
    if (!index) return -1;
    const int32_t *at = lc_data(index);
    const int64_t n = lc_tensor_count(index);
    for (int64_t i = 0; i < n; i++)
        if (at[i] < 0 || at[i] >= limit)
            return lc_fail(LC_EINVAL,
                           "%s: %s %" PRId64 " is %" PRId32 ", but it must be from 0 to %" PRId64,
                           op, what, i + 1, at[i], limit - 1);
    return 0;
}
