/* sums.h - what kernels over rows share: sums, products and maxima of a row by lanes in a fixed
 * order with a padded tail, and buffers for the threads of a loop over rows. */
#ifndef LC_SUMS_H
#define LC_SUMS_H
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "base/parallel.h"
#include "cpu/lanes.h"

/* n < LANES elements, filled up with pad */
static inline lanes lanes_tail(const float *x, int64_t n, float pad) {
    float a[LANES];
    for (int i = 0; i < LANES; i++) a[i] = pad;
    memcpy(a, x, (size_t)n * sizeof *x);
    return lanes_at(a);
}

/* sum of x[i] */
static inline float row_sum(const float *x, int64_t n) {
    lanes even = lanes_all(0), odd = lanes_all(0);
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        even += lanes_at(x + i);
        odd += lanes_at(x + i + LANES);
    }
    if (i + LANES <= n) {
        even += lanes_at(x + i);
        i += LANES;
    }
    if (i < n) odd += lanes_tail(x + i, n - i, 0);
    return lanes_sum(even + odd);
}

/* sum of (x[i] - shift) * y[i] */
static inline float row_dot(const float *x, float shift, const float *y, int64_t n) {
    lanes even = lanes_all(0), odd = lanes_all(0), s = lanes_all(shift);
    int64_t i = 0;
    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        even = lanes_fma(lanes_at(x + i) - s, lanes_at(y + i), even);
        odd = lanes_fma(lanes_at(x + i + LANES) - s, lanes_at(y + i + LANES), odd);
    }
    if (i + LANES <= n) {
        even = lanes_fma(lanes_at(x + i) - s, lanes_at(y + i), even);
        i += LANES;
    }
    if (i < n)
        odd = lanes_fma(lanes_tail(x + i, n - i, shift) - s, lanes_tail(y + i, n - i, 0), odd);
    return lanes_sum(even + odd);
}

/* sum of (x[i] - shift)^2 */
static inline float row_squares(const float *x, float shift, int64_t n) {
    lanes sum = lanes_all(0), s = lanes_all(shift);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        lanes d = lanes_at(x + i) - s;
        sum = lanes_fma(d, d, sum);
    }
    if (i < n) {
        lanes d = lanes_tail(x + i, n - i, shift) - s;
        sum = lanes_fma(d, d, sum);
    }
    return lanes_sum(sum);
}

/* The largest that is not NaN; -inf when there is none. */
static inline float row_max(const float *x, int64_t n) {
    lanes most = lanes_all(-INFINITY);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        lanes v = lanes_at(x + i);
        most = lanes_pick(v > most, v, most);
    }
    if (i < n) {
        lanes v = lanes_tail(x + i, n - i, -INFINITY);
        most = lanes_pick(v > most, v, most);
    }
    float a[LANES], m = -INFINITY;
    lanes_put(a, most);
    for (int l = 0; l < LANES; l++) m = a[l] > m ? a[l] : m;
    return m;
}

/* ---- buffers of a parallel loop ----
 * They are made before the loop, by the thread that can report a failure:
 *   float *buffers = row_buffers(floats);  ... in the loop: float *own = row_buffer(buffers, floats); */
static inline int64_t row_buffer_step(int64_t floats) { return (floats + 15) / 16 * 16; }

static inline float *row_buffers(int64_t floats) {
    int64_t bytes = (int64_t)sizeof(float) * omp_get_max_threads();
    if (!lc_multiply(&bytes, row_buffer_step(floats))) bytes = INT64_MAX;
    return lc_alloc((size_t)bytes);
}

static inline float *row_buffer(float *buffers, int64_t floats) {
    return buffers + omp_get_thread_num() * row_buffer_step(floats);
}

#endif
