/* rope.c - rotary positions (Su et al. 2021), LLaMA's way: the pair (c, c + d/2) of a head is turned
 * by position * theta^(-2c/d). Rates and angles are f32, as in the reference implementations. */
#include "cpu/cpu.h"
#include "cpu/sums.h"
#include "cpu/vector_math.h"

/* a' = a cos - b sin, b' = b cos + a sin */
static void turn_head(float *y, const float *x, const float *cosine, const float *sine,
                      int64_t half) {
#pragma omp simd
    for (int64_t c = 0; c < half; c++) {
        float a = x[c], b = x[c + half];
        y[c] = a * cosine[c] - b * sine[c];
        y[c + half] = b * cosine[c] + a * sine[c];
    }
}

int cpu_rope(void *y, const void *x, int dtype, const int32_t *position, int64_t rows,
             int64_t heads, int64_t d, int64_t y_row, int64_t x_row, double theta, bool inverse) {
    const int64_t half = d / 2, width = heads * d, floats = 2 * width + d;
    float *rate = lc_alloc((size_t)half * sizeof *rate),
          *buffers = rate ? row_buffers(floats) : NULL;
    if (!buffers) {
        lc_free(rate);
        return -1;
    }
    for (int64_t c = 0; c < half; c++)
        rate[c] = (float)pow(theta, -2 * (double)c / (double)d) * (inverse ? -1.0f : 1.0f);
#pragma omp parallel for schedule(static) if (rows * width > 16384)
    for (int64_t r = 0; r < rows; r++) {
        float *own = row_buffer(buffers, floats), *cosine = own + 2 * width, *sine = cosine + half;
        const float at = (float)position[r];
#pragma omp simd
        for (int64_t c = 0; c < half; c++) vm_sincos(at * rate[c], &sine[c], &cosine[c]);
        const float *in = cpu_load(own, x, dtype, r * x_row, width);
        float *to = cpu_place(own + width, y, dtype, r * y_row);
        for (int64_t h = 0; h < heads; h++) turn_head(to + h * d, in + h * d, cosine, sine, half);
        cpu_store(y, dtype, r * y_row, to, width);
    }
    lc_free(buffers);
    lc_free(rate);
    return 0;
}

/* Row i of `rows`, of so many bytes, becomes row slot[i] of `to`. */
static void append(void *to, const void *rows, const int32_t *slot, int64_t n, size_t bytes,
                   size_t step, size_t to_step) {
    for (int64_t i = 0; i < n; i++)
        if (slot[i] >= 0)
            memcpy((unsigned char *)to + (size_t)slot[i] * to_step,
                   (const unsigned char *)rows + (size_t)i * step, bytes);
}

int cpu_rope_append(void *q, void *keys, void *values, void *k, const void *v, int dtype,
                    const int32_t *position, const int32_t *slot, int64_t rows, int64_t heads,
                    int64_t groups, int64_t d, int64_t q_row, int64_t k_row, int64_t v_row,
                    int64_t slot_row, double theta) {
    const size_t size = lc_dtype_bytes(dtype), bytes = (size_t)(groups * d) * size;
    if (cpu_rope(q, q, dtype, position, rows, heads, d, q_row, q_row, theta, false) < 0 ||
        cpu_rope(k, k, dtype, position, rows, groups, d, k_row, k_row, theta, false) < 0)
        return -1;
    append(keys, k, slot, rows, bytes, (size_t)k_row * size, (size_t)slot_row * size);
    append(values, v, slot, rows, bytes, (size_t)v_row * size, (size_t)slot_row * size);
    return 0;
}
