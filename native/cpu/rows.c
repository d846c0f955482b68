/* rows.c - gathering rows by index and adding them back. */
#include "base/memory.h"
#include "cpu/cpu.h"

int cpu_take_rows(void *y, const void *x, int dtype, const int32_t *index, int64_t count,
                  int64_t width) {
    size_t bytes = (size_t)width * lc_dtype_bytes(dtype);
#pragma omp parallel for schedule(static) if (count * width > 65536)
    for (int64_t i = 0; i < count; i++)
        memcpy((unsigned char *)y + (size_t)i * bytes,
               (const unsigned char *)x + (size_t)index[i] * bytes, bytes);
    return 0;
}

/* In the order of i: rows may repeat. */
int cpu_add_rows(float *dx, const void *dy, int dtype, const float *scale, const int32_t *index,
                 int64_t count, int64_t width, int64_t rows) {
    (void)rows;
    for (int64_t i = 0; i < count; i++) {
        float *to = dx + index[i] * width;
        const float by = scale ? scale[i] : 1;
        for (int64_t at = 0; at < width; at += CPU_CHUNK) {
            float buffer[CPU_CHUNK];
            int64_t n = width - at < CPU_CHUNK ? width - at : CPU_CHUNK;
            const float *in = cpu_load(buffer, dy, dtype, i * width + at, n);
            for (int64_t j = 0; j < n; j++) to[at + j] += by * in[j];
        }
    }
    return 0;
}
