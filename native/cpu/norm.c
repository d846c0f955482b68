/* norm.c - RMSNorm and LayerNorm over rows. Sums go through lanes in a fixed order; parameter
 * gradients are summed over blocks of rows whose size does not depend on the number of threads. */
#include "cpu/cpu.h"
#include "cpu/sums.h"

enum {
    ROW_BLOCK = 64,   /* rows whose share of a parameter gradient is summed together */
    PARALLEL = 16384, /* elements from which threads pay */
};

/* ---- forward ------------------------------------------------------------------------------------- */

static void norm_row(float *y, const float *x, const float *w, const float *b, float shift,
                     float scale, int64_t n) {
    if (!b) {
#pragma omp simd
        for (int64_t i = 0; i < n; i++) y[i] = x[i] * scale * w[i];
        return;
    }
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = __builtin_fmaf((x[i] - shift) * scale, w[i], b[i]);
}

/* bias NULL: RMSNorm, mean unused */
static int norm(void *y, float *mean, float *rstd, const void *x, const void *weight,
                const void *bias, int dtype, int64_t rows, int64_t width, int64_t y_row,
                float eps) {
    float *shared = lc_alloc((size_t)(2 * width) * sizeof *shared);
    float *buffers = shared ? row_buffers(2 * width) : NULL;
    if (!buffers) {
        lc_free(shared);
        return -1;
    }
    const float *w = cpu_load(shared, weight, dtype, 0, width);
    const float *b = bias ? cpu_load(shared + width, bias, dtype, 0, width) : NULL;
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL)
    for (int64_t r = 0; r < rows; r++) {
        float *own = row_buffer(buffers, 2 * width);
        const float *in = cpu_load(own, x, dtype, r * width, width);
        float *to = cpu_place(own + width, y, dtype, r * y_row);
        float shift = b ? row_sum(in, width) / (float)width : 0;
        rstd[r] = 1 / sqrtf(row_squares(in, shift, width) / (float)width + eps);
        if (b) mean[r] = shift;
        norm_row(to, in, w, b, shift, rstd[r], width);
        cpu_store(y, dtype, r * y_row, to, width);
    }
    lc_free(buffers);
    lc_free(shared);
    return 0;
}

int cpu_rms_norm(void *y, float *rstd, const void *x, const void *weight, int dtype, int64_t rows,
                 int64_t width, int64_t y_row, float eps) {
    return norm(y, NULL, rstd, x, weight, NULL, dtype, rows, width, y_row, eps);
}

int cpu_layer_norm(void *y, float *mean, float *rstd, const void *x, const void *weight,
                   const void *bias, int dtype, int64_t rows, int64_t width, float eps) {
    return norm(y, mean, rstd, x, weight, bias, dtype, rows, width, width, eps);
}

/* ---- backward -------------------------------------------------------------------------------------- */

/* One row: with n = (x - shift) * scale and g = dy * w,
 *   dx = scale (g - [mean(g)] - n mean(g n)), the bracket for LayerNorm alone. */
static void row_backward(float *dx, const float *g, const float *x, float shift, float scale,
                         int64_t width, bool centred) {
    float across = row_dot(x, shift, g, width) * scale / (float)width,
          level = centred ? row_sum(g, width) / (float)width : 0;
#pragma omp simd
    for (int64_t i = 0; i < width; i++)
        dx[i] = scale * (g[i] - level - (x[i] - shift) * scale * across);
}

static void add_row(float *y, const float *x, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] += x[i];
}

/* dw += g n, db += g; db may be NULL */
static void parameters_backward(float *dw, float *db, const float *g, const float *x, float shift,
                                float scale, int64_t n) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dw[i] = __builtin_fmaf(g[i], (x[i] - shift) * scale, dw[i]);
    if (db) add_row(db, g, n);
}

/* dst = sum of parts [count] that lie step apart */
static void sum_parts(float *dst, const float *parts, int64_t count, int64_t step, int64_t n) {
    memset(dst, 0, (size_t)n * sizeof *dst);
    for (int64_t k = 0; k < count; k++)
        for (int64_t i = 0; i < n; i++) dst[i] += parts[k * step + i];
}

/* more NULL: dx alone */
static int norm_backward(void *dx, float *dweight, float *dbias, const void *dy, const void *x,
                         const void *weight, const float *mean, const float *rstd, const void *more,
                         int dtype, int64_t rows, int64_t width, int64_t dx_row, int64_t more_row) {
    const int64_t blocks = (rows + ROW_BLOCK - 1) / ROW_BLOCK, sums = dweight || dbias ? blocks : 0;
    /* the weight, then a dweight and a dbias a block */
    float *shared = lc_alloc((size_t)((1 + 2 * sums) * width) * sizeof *shared);
    float *buffers = shared ? row_buffers(5 * width) : NULL;
    if (!buffers) {
        lc_free(shared);
        return -1;
    }
    const float *w = cpu_load(shared, weight, dtype, 0, width);
    float *parts = shared + width;
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL)
    for (int64_t block = 0; block < blocks; block++) {
        float *own = row_buffer(buffers, 5 * width), *gw = own + 2 * width;
        float *dw = sums ? parts + 2 * block * width : NULL;
        if (dw) memset(dw, 0, (size_t)(2 * width) * sizeof *dw);
        for (int64_t r = block * ROW_BLOCK; r < rows && r < (block + 1) * ROW_BLOCK; r++) {
            const float *in = cpu_load(own, x, dtype, r * width, width),
                        *g = cpu_load(own + width, dy, dtype, r * width, width);
            float shift = mean ? mean[r] : 0;
            if (dw)
                parameters_backward(dw, dbias ? dw + width : NULL, g, in, shift, rstd[r], width);
            if (!dx) continue;
#pragma omp simd
            for (int64_t i = 0; i < width; i++) gw[i] = g[i] * w[i];
            float *to = cpu_place(own + 3 * width, dx, dtype, r * dx_row);
            row_backward(to, gw, in, shift, rstd[r], width, mean != NULL);
            if (more)
                add_row(to, cpu_load(own + 4 * width, more, dtype, r * more_row, width), width);
            cpu_store(dx, dtype, r * dx_row, to, width);
        }
    }
    if (dweight) sum_parts(dweight, parts, sums, 2 * width, width);
    if (dbias) sum_parts(dbias, parts + width, sums, 2 * width, width);
    lc_free(buffers);
    lc_free(shared);
    return 0;
}

int cpu_rms_norm_backward(void *dx, float *dweight, const void *dy, const void *x,
                          const void *weight, const float *rstd, const void *more, int dtype,
                          int64_t rows, int64_t width, int64_t dx_row, int64_t more_row) {
    return norm_backward(dx, dweight, NULL, dy, x, weight, NULL, rstd, more, dtype, rows, width,
                         dx_row, more_row);
}

int cpu_layer_norm_backward(void *dx, float *dweight, float *dbias, const void *dy, const void *x,
                            const void *weight, const float *mean, const float *rstd, int dtype,
                            int64_t rows, int64_t width) {
    return norm_backward(dx, dweight, dbias, dy, x, weight, mean, rstd, NULL, dtype, rows, width,
                         width, 0);
}
