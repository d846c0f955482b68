/* softmax.c - softmax and what a classifier needs of it, over rows. */
#include <math.h>

#include "base/error.h"
#include "base/memory.h"
#include "cpu/cpu.h"
#include "cpu/lanes.h"

/* Largest of n; NaN when one is there. */
static float largest(const float *x, int64_t n) {
    float most = -INFINITY;
    for (int64_t i = 0; i < n; i++) most = x[i] > most || x[i] != x[i] ? x[i] : most;
    return most;
}

/* e[i] = exp(x[i] - most), their sum; e may be x or NULL (the sum alone). */
static float exponentials(float *e, const float *x, float most, int64_t n) {
    lanes sum = lanes_all(0);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        lanes v = lanes_exp(lanes_at(x + i) - lanes_all(most));
        if (e) lanes_put(e + i, v);
        sum += v;
    }
    if (i < n) {
        float a[LANES];
        for (int j = 0; j < LANES; j++) a[j] = i + j < n ? x[i + j] - most : -INFINITY;
        lanes v = lanes_exp(lanes_at(a));
        lanes_put(a, v);
        if (e) memcpy(e + i, a, (size_t)(n - i) * sizeof *e);
        sum += v;
    }
    return lanes_sum(sum);
}

static void softmax_row(float *y, const float *x, int64_t n, bool log) {
    float most = largest(x, n);
    if (!(most > -INFINITY &&
          most < INFINITY)) { /* nothing to normalise by: NaN, as exp(inf - inf) */
        for (int64_t i = 0; i < n; i++) y[i] = NAN;
        return;
    }
    if (log) {
        float level = most + logf(exponentials(NULL, x, most, n));
        for (int64_t i = 0; i < n; i++) y[i] = x[i] - level;
        return;
    }
    float inverse = 1 / exponentials(y, x, most, n);
    for (int64_t i = 0; i < n; i++) y[i] *= inverse;
}

static void softmax_row_backward(float *dx, const float *dy, const float *y, int64_t n, bool log) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += log ? dy[i] : (double)dy[i] * y[i];
    for (int64_t i = 0; i < n; i++)
        dx[i] = log ? dy[i] - expf(y[i]) * (float)sum : y[i] * (dy[i] - (float)sum);
}

int cpu_softmax(void *y, const void *x, int dtype, int64_t rows, int64_t width, bool log) {
    int failed = 0;
#pragma omp parallel reduction(| : failed) if (rows * width > 16384)
    {
        float *own = lc_alloc((size_t)(2 * width + 1) * sizeof *own);
        failed |= !own;
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            if (!own) continue;
            float *to = cpu_place(own + width, y, dtype, r * width);
            softmax_row(to, cpu_load(own, x, dtype, r * width, width), width, log);
            cpu_store(y, dtype, r * width, to, width);
        }
        lc_free(own);
    }
    return failed ? -1 : 0;
}

int cpu_softmax_backward(void *dx, const void *dy, const void *y, int dtype, int64_t rows,
                         int64_t width, bool log) {
    int failed = 0;
#pragma omp parallel reduction(| : failed) if (rows * width > 16384)
    {
        float *own = lc_alloc((size_t)(3 * width + 1) * sizeof *own);
        failed |= !own;
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            if (!own) continue;
            float *to = cpu_place(own + 2 * width, dx, dtype, r * width);
            softmax_row_backward(to, cpu_load(own, dy, dtype, r * width, width),
                                 cpu_load(own + width, y, dtype, r * width, width), width, log);
            cpu_store(dx, dtype, r * width, to, width);
        }
        lc_free(own);
    }
    return failed ? -1 : 0;
}

int cpu_pick_logp(float *logp, float *lse, const float *logits, const int32_t *target, int64_t rows,
                  int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > 16384)
    for (int64_t r = 0; r < rows; r++) {
        const float *x = logits + r * width;
        float most = largest(x, width);
        lse[r] = most + logf(exponentials(NULL, x, most, width));
        logp[r] = target[r] < 0 ? 0 : x[target[r]] - lse[r];
    }
    return 0;
}

int cpu_pick_logp_backward(float *logits, const float *g, const float *lse, const int32_t *target,
                           int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > 16384)
    for (int64_t r = 0; r < rows; r++) {
        float *x = logits + r * width;
        if (target[r] < 0) {
            memset(x, 0, (size_t)width * sizeof *x);
            continue;
        }
        exponentials(x, x, lse[r], width);
        for (int64_t i = 0; i < width; i++) x[i] *= -g[r];
        x[target[r]] += g[r];
    }
    return 0;
}

int cpu_argmax(int32_t *y, const void *x, int dtype, int64_t rows, int64_t width) {
    for (int64_t r = 0; r < rows; r++) {
        float most = -INFINITY;
        y[r] = 0;
        for (int64_t first = 0; first < width; first += CPU_CHUNK) {
            float buffer[CPU_CHUNK];
            int64_t n = width - first < CPU_CHUNK ? width - first : CPU_CHUNK;
            const float *in = cpu_load(buffer, x, dtype, r * width + first, n);
            for (int64_t i = 0; i < n; i++) {
                if (!(in[i] > most)) continue;
                most = in[i];
                y[r] = (int32_t)(first + i);
            }
        }
    }
    return 0;
}
