/* summary.c - what a tensor's values are like, for whoever looks at it. */
#include "tensor/tensor.h"

#include <math.h>

enum { CHUNK = 4096 }; /* elements looked at together */

struct summary {
    double least, greatest, sum;
    int64_t finite, nan, infinite;
};

static void take(struct summary *s, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        if (isnan(x[i])) {
            s->nan++;
        } else if (isinf(x[i])) {
            s->infinite++;
        } else {
            s->least = fmin(s->least, x[i]);
            s->greatest = fmax(s->greatest, x[i]);
            s->sum += x[i];
            s->finite++;
        }
    }
}

/* Walks through a dense tensor of the host. */
static int walk(struct summary *s, const lc_tensor *t) {
    float chunk[CHUNK];
    const char *data = lc_data(t);
    size_t bytes = lc_dtype_bytes(t->dtype);
    int64_t count = lc_tensor_count(t);
    for (int64_t at = 0; at < count; at += CHUNK) {
        int64_t n = count - at < CHUNK ? count - at : CHUNK;
        if (lc_kernels_of(t)->convert(chunk, LC_F32, data + (size_t)at * bytes, t->dtype, n) < 0)
            return -1;
        take(s, chunk, n);
    }
    return 0;
}

int lc_tensor_summary(const lc_tensor *t, double *out5) {
    if (!lc_usable("summary", t)) return -1;
    struct summary s = {.least = INFINITY, .greatest = -INFINITY};
    int before = lc_pool(), done = -1;
    if (t->storage->device == LC_HOST && lc_tensor_dense(t)) {
        done = walk(&s, t);
    } else {
        lc_tensor *copy = lc_tensor_new(t->ndim, t->shape, t->dtype, LC_HOST);
        if (copy && !lc_tensor_copy(copy, t)) done = walk(&s, copy);
    }
    lc_pool_end(before, NULL);
    if (done < 0) return -1;
    out5[0] = s.finite ? s.least : NAN;
    out5[1] = s.finite ? s.greatest : NAN;
    out5[2] = s.finite ? s.sum / (double)s.finite : NAN;
    out5[3] = (double)s.nan;
    out5[4] = (double)s.infinite;
    return 0;
}
