/* bandwidth.c - how fast memory is read and copied: each thread has its own part. What lucid bench compares kernels
 * with. */
#include <string.h>

#include "base/error.h"
#include "tensor/tensor.h"

typedef uint64_t line __attribute__((vector_size(64))); /* of the cache */
enum { SIDE = 8 }; /* sums beside each other, so that nothing but memory is waited for */

static int64_t bytes_of(const lc_tensor *t) {
    return lc_tensor_count(t) * (int64_t)lc_dtype_bytes(t->dtype);
}

static bool usable(const char *what, const lc_tensor *t) {
    if (!lc_usable(what, t)) return false;
    if (t->storage->device == LC_HOST && lc_tensor_dense(t)) return true;
    lc_fail(LC_EINVAL, "%s: a dense tensor of the host is expected, not %s", what,
            lc_shape_text(t));
    return false;
}

int lc_bandwidth_read(const lc_tensor *t, uint64_t *sum) {
    if (!usable("bandwidth_read", t)) return -1;
    const char *data = lc_data(t);
    const int64_t groups = bytes_of(t) / (int64_t)(SIDE * sizeof(line));
    uint64_t total = 0;
#pragma omp parallel reduction(+ : total)
    {
        line part[SIDE] = {0};
#pragma omp for schedule(static)
        for (int64_t i = 0; i < groups; i++) {
            line now[SIDE];
            memcpy(now, data + i * (int64_t)sizeof now, sizeof now);
            for (int j = 0; j < SIDE; j++) part[j] += now[j];
        }
        for (int j = 0; j < SIDE; j++)
            for (int k = 0; k < 8; k++) total += part[j][k];
    }
    *sum = total;
    return 0;
}

int lc_bandwidth_copy(lc_tensor *dst, const lc_tensor *src) {
    if (!usable("bandwidth_copy", dst) || !usable("bandwidth_copy", src)) return -1;
    const int64_t bytes = bytes_of(src);
    if (bytes != bytes_of(dst))
        return lc_fail(LC_EINVAL, "bandwidth_copy: %s has not the bytes of %s", lc_shape_text(dst),
                       lc_shape_text(src));
    char *to = lc_data(dst);
    const char *from = lc_data(src);
    enum { PIECE = 1 << 16 };
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < bytes; i += PIECE)
        memcpy(to + i, from + i, (size_t)(bytes - i < PIECE ? bytes - i : PIECE));
    return 0;
}
