/* norm.c - RMSNorm and LayerNorm over rows. Sums go through lanes in a fixed order; parameter
 * gradients are summed over blocks of rows whose size does not depend on the number of threads. */
#include <math.h>

#include "base/error.h"
#include "base/memory.h"
#include "cpu/cpu.h"
#include "cpu/lanes.h"

enum { ROW_BLOCK = 64 }; /* rows whose share of a parameter gradient is summed together */

/* sum of (x[i] - shift)^2 when y is NULL, else of (x[i] - shift) * y[i] */
static float dot(const float *x, float shift, const float *y, int64_t n) {
    lanes sum = lanes_all(0);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        lanes a = lanes_at(x + i) - lanes_all(shift);
        sum = lanes_fma(a, y ? lanes_at(y + i) : a, sum);
    }
    if (i < n) {
        float a[LANES] = {0}, b[LANES] = {0};
        for (int64_t j = i; j < n; j++) {
            a[j - i] = x[j] - shift;
            b[j - i] = y ? y[j] : a[j - i];
        }
        sum = lanes_fma(lanes_at(a), lanes_at(b), sum);
    }
    return lanes_sum(sum);
}

static float total(const float *x, int64_t n) {
    lanes sum = lanes_all(0);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) sum += lanes_at(x + i);
    float tail[LANES] = {0};
    memcpy(tail, x + i, (size_t)(n - i) * sizeof *x);
    return lanes_sum(sum + lanes_at(tail));
}

/* A thread's row buffers: count rows of width floats. */
static float *row_buffers(int64_t count, int64_t width) {
    return lc_alloc((size_t)(count * width + 1) * sizeof(float));
}

/* ---- forward ------------------------------------------------------------------------------------- */

/* bias NULL: RMSNorm, mean unused */
static int norm(void *y, float *mean, float *rstd, const void *x, const void *weight,
                const void *bias, int dtype, int64_t rows, int64_t width, float eps) {
    float *shared = row_buffers(2, width);
    if (!shared) return -1;
    const float *w = cpu_load(shared, weight, dtype, 0, width);
    const float *b = bias ? cpu_load(shared + width, bias, dtype, 0, width) : NULL;
    int failed = 0;
#pragma omp parallel reduction(| : failed) if (rows * width > 16384)
    {
        float *own = row_buffers(2, width);
        failed |= !own;
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            if (!own) continue;
            const float *in = cpu_load(own, x, dtype, r * width, width);
            float *to = cpu_place(own + width, y, dtype, r * width);
            float shift = b ? total(in, width) / (float)width : 0;
            float scale = 1 / sqrtf(dot(in, shift, NULL, width) / (float)width + eps);
            if (b) {
                for (int64_t i = 0; i < width; i++)
                    to[i] = __builtin_fmaf((in[i] - shift) * scale, w[i], b[i]);
                mean[r] = shift;
            } else {
                for (int64_t i = 0; i < width; i++) to[i] = in[i] * scale * w[i];
            }
            rstd[r] = scale;
            cpu_store(y, dtype, r * width, to, width);
        }
        lc_free(own);
    }
    lc_free(shared);
    return failed ? -1 : 0;
}

int cpu_rms_norm(void *y, float *rstd, const void *x, const void *weight, int dtype, int64_t rows,
                 int64_t width, float eps) {
    return norm(y, NULL, rstd, x, weight, NULL, dtype, rows, width, eps);
}

int cpu_layer_norm(void *y, float *mean, float *rstd, const void *x, const void *weight,
                   const void *bias, int dtype, int64_t rows, int64_t width, float eps) {
    return norm(y, mean, rstd, x, weight, bias, dtype, rows, width, eps);
}

/* ---- backward -------------------------------------------------------------------------------------- */

/* One row: with n = (x - shift) * scale and g = dy * w,
 *   dx = scale (g - [mean(g)] - n mean(g n)), the bracket for LayerNorm alone. */
static void row_backward(float *dx, const float *g, const float *x, float shift, float scale,
                         int64_t width, bool centred) {
    float across = dot(x, shift, g, width) * scale / (float)width,
          level = centred ? total(g, width) / (float)width : 0;
    for (int64_t i = 0; i < width; i++)
        dx[i] = scale * (g[i] - level - (x[i] - shift) * scale * across);
}

static int norm_backward(void *dx, float *dweight, float *dbias, const void *dy, const void *x,
                         const void *weight, const float *mean, const float *rstd, int dtype,
                         int64_t rows, int64_t width) {
    int64_t blocks = (rows + ROW_BLOCK - 1) / ROW_BLOCK, sums = dweight || dbias ? blocks : 0;
    float *shared =
        row_buffers(1 + 2 * sums, width); /* the weight, then a dweight and a dbias a block */
    if (!shared) return -1;
    const float *w = cpu_load(shared, weight, dtype, 0, width);
    float *partial = shared + width;
    int failed = 0;
#pragma omp parallel reduction(| : failed) if (rows * width > 16384)
    {
        float *own = row_buffers(4, width);
        failed |= !own;
#pragma omp for schedule(static)
        for (int64_t block = 0; block < blocks; block++) {
            if (!own) continue;
            float *dw = partial + 2 * block * width, *db = dw + width;
            if (sums) memset(dw, 0, (size_t)(2 * width) * sizeof *dw);
            for (int64_t r = block * ROW_BLOCK; r < rows && r < (block + 1) * ROW_BLOCK; r++) {
                const float *in = cpu_load(own, x, dtype, r * width, width),
                            *g = cpu_load(own + width, dy, dtype, r * width, width);
                float shift = mean ? mean[r] : 0, scale = rstd[r], *gw = own + 2 * width;
                for (int64_t i = 0; sums && i < width; i++) {
                    dw[i] = __builtin_fmaf(g[i], (in[i] - shift) * scale, dw[i]);
                    db[i] += g[i];
                }
                if (!dx) continue;
                for (int64_t i = 0; i < width; i++) gw[i] = g[i] * w[i];
                float *to = cpu_place(own + 3 * width, dx, dtype, r * width);
                row_backward(to, gw, in, shift, scale, width, mean != NULL);
                cpu_store(dx, dtype, r * width, to, width);
            }
        }
        lc_free(own);
    }
    if (dweight) memset(dweight, 0, (size_t)width * sizeof *dweight);
    if (dbias) memset(dbias, 0, (size_t)width * sizeof *dbias);
    for (int64_t block = 0; block < sums; block++) {
        const float *dw = partial + 2 * block * width, *db = dw + width;
        for (int64_t i = 0; dweight && i < width; i++) dweight[i] += dw[i];
        for (int64_t i = 0; dbias && i < width; i++) dbias[i] += db[i];
    }
    lc_free(shared);
    return failed ? -1 : 0;
}

int cpu_rms_norm_backward(void *dx, float *dweight, const void *dy, const void *x,
                          const void *weight, const float *rstd, int dtype, int64_t rows,
                          int64_t width) {
    return norm_backward(dx, dweight, NULL, dy, x, weight, NULL, rstd, dtype, rows, width);
}

int cpu_layer_norm_backward(void *dx, float *dweight, float *dbias, const void *dy, const void *x,
                            const void *weight, const float *mean, const float *rstd, int dtype,
                            int64_t rows, int64_t width) {
    return norm_backward(dx, dweight, dbias, dy, x, weight, mean, rstd, dtype, rows, width);
}
