/* softmax.c - softmax and what a classifier needs of it, over rows.
 *
 * A row that holds NaN or +inf, or nothing but -inf, has no softmax: all of it is NaN, as in
 * PyTorch. */
#include "cpu/cpu.h"
#include "cpu/sums.h"

enum { PARALLEL = 16384 }; /* elements from which threads pay */

/* e[i] = exp(x[i] - level), and their sum; e may be x, or NULL for the sum alone. */
static float exponentials(float *e, const float *x, float level, int64_t n) {
    lanes sum = lanes_all(0), shift = lanes_all(level);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        lanes v = lanes_exp(lanes_at(x + i) - shift);
        if (e) lanes_put(e + i, v);
        sum += v;
    }
    if (i < n) {
        float a[LANES];
        lanes v = lanes_exp(lanes_tail(x + i, n - i, -INFINITY) - shift);
        lanes_put(a, v);
        if (e) memcpy(e + i, a, (size_t)(n - i) * sizeof *e);
        for (int j = 0; j < LANES; j++) a[j] = i + j < n ? a[j] : 0;
        sum += lanes_at(a);
    }
    return lanes_sum(sum);
}

static float log_sum_exp(const float *x, int64_t n) {
    float most = row_max(x, n);
    return most + logf(exponentials(NULL, x, most, n));
}

static void softmax_row(float *y, const float *x, int64_t n, bool log) {
    if (log) {
        float level = log_sum_exp(x, n);
#pragma omp simd
        for (int64_t i = 0; i < n; i++) y[i] = x[i] - level;
        return;
    }
    float inverse = 1 / exponentials(y, x, row_max(x, n), n);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] *= inverse;
}

static void softmax_row_backward(float *dx, const float *dy, const float *y, int64_t n, bool log) {
    if (log) {
        float sum = row_sum(dy, n);
        exponentials(dx, y, 0, n);
#pragma omp simd
        for (int64_t i = 0; i < n; i++) dx[i] = dy[i] - dx[i] * sum;
        return;
    }
    float sum = row_dot(dy, 0, y, n);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dx[i] = y[i] * (dy[i] - sum);
}

int cpu_softmax(void *y, const void *x, int dtype, int64_t rows, int64_t width, bool log) {
    float *buffers = row_buffers(2 * width);
    if (!buffers) return -1;
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL)
    for (int64_t r = 0; r < rows; r++) {
        float *own = row_buffer(buffers, 2 * width);
        float *to = cpu_place(own + width, y, dtype, r * width);
        softmax_row(to, cpu_load(own, x, dtype, r * width, width), width, log);
        cpu_store(y, dtype, r * width, to, width);
    }
    lc_free(buffers);
    return 0;
}

int cpu_softmax_backward(void *dx, const void *dy, const void *y, int dtype, int64_t rows,
                         int64_t width, bool log) {
    float *buffers = row_buffers(3 * width);
    if (!buffers) return -1;
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL)
    for (int64_t r = 0; r < rows; r++) {
        float *own = row_buffer(buffers, 3 * width);
        float *to = cpu_place(own + 2 * width, dx, dtype, r * width);
        softmax_row_backward(to, cpu_load(own, dy, dtype, r * width, width),
                             cpu_load(own + width, y, dtype, r * width, width), width, log);
        cpu_store(dx, dtype, r * width, to, width);
    }
    lc_free(buffers);
    return 0;
}

int cpu_pick_logp(float *logp, float *lse, const float *logits, const int32_t *target, int64_t rows,
                  int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL)
    for (int64_t r = 0; r < rows; r++) {
        const float *x = logits + r * width;
        lse[r] = log_sum_exp(x, width);
        logp[r] = target[r] < 0 ? 0 : x[target[r]] - lse[r];
    }
    return 0;
}

int cpu_pick_logp_backward(void *dlogits, int dtype, const float *logits, const float *g,
                           const float *lse, const int32_t *target, int64_t rows, int64_t width) {
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL)
    for (int64_t r = 0; r < rows; r++) {
        const float scale = target[r] < 0 ? 0 : g ? g[r] : 1;
        for (int64_t first = 0; first < width; first += CPU_CHUNK) {
            const int64_t n = width - first < CPU_CHUNK ? width - first : CPU_CHUNK;
            const int64_t at = r * width + first, picked = target[r] - first;
            float buffer[CPU_CHUNK], *y = cpu_place(buffer, dlogits, dtype, at);
            if (target[r] < 0) {
                memset(y, 0, (size_t)n * sizeof *y);
            } else {
                exponentials(y, logits + at, lse[r], n);
#pragma omp simd
                for (int64_t i = 0; i < n; i++) y[i] *= -scale;
                if (picked >= 0 && picked < n) y[picked] += scale;
            }
            cpu_store(dlogits, dtype, at, y, n);
        }
    }
    return 0;
}

/* NaN is never the largest; a row of nothing else gives 0. */
int cpu_argmax(int32_t *y, const void *x, int dtype, int64_t rows, int64_t width) {
    for (int64_t r = 0; r < rows; r++) {
        float most = -INFINITY;
        y[r] = 0;
        for (int64_t first = 0; first < width; first += CPU_CHUNK) {
            float buffer[CPU_CHUNK];
            int64_t n = width - first < CPU_CHUNK ? width - first : CPU_CHUNK;
            const float *in = cpu_load(buffer, x, dtype, r * width + first, n);
            float here = row_max(in, n);
            if (!(here > most)) continue;
            int64_t i = 0;
            while (in[i] != here) i++;
            most = here;
            y[r] = (int32_t)(first + i);
        }
    }
    return 0;
}
