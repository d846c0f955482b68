/* patch.c - pictures as columns of patches: a convolution whose stride is its size is a product. */
#include "cpu/cpu.h"

/* Calls copy for each run of p neighbours: where it lies in the picture and in the columns. */
#define EACH_RUN(copy)                                                                             \
    for (int64_t i = 0; i < n; i++)                                                                \
        for (int64_t py = 0; py < h / p; py++)                                                     \
            for (int64_t px = 0; px < w / p; px++)                                                 \
                for (int64_t channel = 0; channel < c; channel++)                                  \
                    for (int64_t row = 0; row < p; row++) {                                        \
                        int64_t pixel = ((i * c + channel) * h + py * p + row) * w + px * p;       \
                        int64_t column =                                                           \
                            (((i * (h / p) + py) * (w / p) + px) * c + channel) * p * p + row * p; \
                        copy;                                                                      \
                    }

int cpu_patches(void *columns, const void *pixels, int dtype, int64_t n, int64_t c, int64_t h,
                int64_t w, int64_t p) {
    size_t size = lc_dtype_bytes(dtype);
    EACH_RUN(memcpy((unsigned char *)columns + (size_t)column * size,
                    (const unsigned char *)pixels + (size_t)pixel * size, (size_t)p * size))
    return 0;
}

int cpu_patches_backward(void *dpixels, const void *dcolumns, int dtype, int64_t n, int64_t c,
                         int64_t h, int64_t w, int64_t p) {
    size_t size = lc_dtype_bytes(dtype);
    EACH_RUN(memcpy((unsigned char *)dpixels + (size_t)pixel * size,
                    (const unsigned char *)dcolumns + (size_t)column * size, (size_t)p * size))
    return 0;
}
