/* reduce.c - sums over one dim in a fixed order. */
#include "base/error.h"
#include "base/memory.h"
#include "cpu/cpu.h"
#include "cpu/lanes.h"

enum { SUM_BLOCK = 4096 }; /* elements that one partial sum covers */

/* n neighbours, by lanes and blocks */
static double sum_run(const void *x, int dtype, int64_t first, int64_t n) {
    double sum = 0;
    for (int64_t at = 0; at < n; at += CPU_CHUNK) {
        float buffer[CPU_CHUNK], tail[LANES] = {0};
        int64_t m = n - at < CPU_CHUNK ? n - at : CPU_CHUNK, i = 0;
        const float *in = cpu_load(buffer, x, dtype, first + at, m);
        lanes part = lanes_all(0);
        for (; i + LANES <= m; i += LANES) part += lanes_at(in + i);
        memcpy(tail, in + i, (size_t)(m - i) * sizeof *in);
        sum += lanes_sum(part + lanes_at(tail));
    }
    return sum;
}

static int sum_rows(float *y, const void *x, int dtype, int64_t first, int64_t middle,
                    int64_t inner, float scale) {
    int64_t blocks = (middle + 255) / 256;
    double *partial = lc_alloc_zero((size_t)(blocks * inner + 1) * sizeof *partial);
    if (!partial) return -1;
#pragma omp parallel for schedule(static) if (middle * inner > 65536)
    for (int64_t b = 0; b < blocks; b++) {
        double *to = partial + b * inner;
        for (int64_t m = b * 256; m < middle && m < (b + 1) * 256; m++) {
            for (int64_t at = 0; at < inner; at += CPU_CHUNK) {
                float buffer[CPU_CHUNK];
                int64_t n = inner - at < CPU_CHUNK ? inner - at : CPU_CHUNK;
                const float *in = cpu_load(buffer, x, dtype, first + m * inner + at, n);
                for (int64_t i = 0; i < n; i++) to[at + i] += in[i];
            }
        }
    }
    for (int64_t i = 0; i < inner; i++) {
        double sum = 0;
        for (int64_t b = 0; b < blocks; b++) sum += partial[b * inner + i];
        y[i] = (float)(sum * scale);
    }
    lc_free(partial);
    return 0;
}

int cpu_sum(float *y, const void *x, int dtype, int64_t outer, int64_t middle, int64_t inner,
            float scale) {
    for (int64_t o = 0; o < outer; o++) {
        if (inner == 1) y[o] = (float)(sum_run(x, dtype, o * middle, middle) * scale);
        else if (sum_rows(y + o * inner, x, dtype, o * middle * inner, middle, inner, scale) < 0)
            return -1;
    }
    return 0;
}

int cpu_square_sum(double *sum, const float *x, int64_t count) {
    int64_t blocks = (count + SUM_BLOCK - 1) / SUM_BLOCK;
    double *partial = lc_alloc((size_t)(blocks + 1) * sizeof *partial);
    if (!partial) return -1;
#pragma omp parallel for schedule(static) if (count > 65536)
    for (int64_t b = 0; b < blocks; b++) {
        double s = 0;
        for (int64_t i = b * SUM_BLOCK; i < count && i < (b + 1) * SUM_BLOCK; i++)
            s += (double)x[i] * x[i];
        partial[b] = s;
    }
    *sum = 0;
    for (int64_t b = 0; b < blocks; b++) *sum += partial[b];
    lc_free(partial);
    return 0;
}
