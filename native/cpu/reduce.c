/* reduce.c - sums over one dim, in an order that depends on the shape alone. */
#include "cpu/cpu.h"
#include "cpu/sums.h"

enum {
    PARALLEL = 32768, /* elements from which threads pay */
    COLUMNS = 64,     /* columns that one thread sums together */
    RUN = 64,         /* rows that are summed in f32 before they join the total */
};

/* n neighbours */
static double sum_run(const void *x, int dtype, int64_t first, int64_t n) {
    double sum = 0;
    for (int64_t at = 0; at < n; at += CPU_CHUNK) {
        float buffer[CPU_CHUNK];
        int64_t m = n - at < CPU_CHUNK ? n - at : CPU_CHUNK;
        sum += (double)row_sum(cpu_load(buffer, x, dtype, first + at, m), m);
    }
    return sum;
}

/* `columns` neighbouring columns of x [middle, inner], from element first on */
static void sum_columns(float *y, const void *x, int dtype, int64_t first, int64_t middle,
                        int64_t inner, int64_t columns, float scale) {
    double total[COLUMNS] = {0};
    for (int64_t start = 0; start < middle; start += RUN) {
        float part[COLUMNS] = {0}, buffer[COLUMNS];
        for (int64_t m = start; m < middle && m < start + RUN; m++) {
            const float *in = cpu_load(buffer, x, dtype, first + m * inner, columns);
#pragma omp simd
            for (int64_t i = 0; i < columns; i++) part[i] += in[i];
        }
        for (int64_t i = 0; i < columns; i++) total[i] += (double)part[i];
    }
    for (int64_t i = 0; i < columns; i++) y[i] = (float)(total[i] * (double)scale);
}

int cpu_sum(float *y, const void *x, int dtype, int64_t outer, int64_t middle, int64_t inner,
            float scale) {
    const int64_t work = outer * middle * inner;
    if (inner == 1) {
#pragma omp parallel for schedule(static) if (work > PARALLEL && outer > 1)
        for (int64_t o = 0; o < outer; o++)
            y[o] = (float)(sum_run(x, dtype, o * middle, middle) * (double)scale);
        return 0;
    }
    const int64_t blocks = (inner + COLUMNS - 1) / COLUMNS;
#pragma omp parallel for schedule(static) if (work > PARALLEL)
    for (int64_t b = 0; b < outer * blocks; b++) {
        int64_t o = b / blocks, column = b % blocks * COLUMNS, left = inner - column;
        sum_columns(y + o * inner + column, x, dtype, o * middle * inner + column, middle, inner,
                    left < COLUMNS ? left : COLUMNS, scale);
    }
    return 0;
}

static double squares(const float *x, int64_t count) {
    enum { BLOCKS = 64 }; /* whatever the number of threads */
    const int64_t size = (count + BLOCKS - 1) / BLOCKS;
    double partial[BLOCKS] = {0}, sum = 0;
#pragma omp parallel for schedule(static) if (count > PARALLEL)
    for (int64_t b = 0; b < BLOCKS; b++) {
        int64_t end = (b + 1) * size < count ? (b + 1) * size : count;
        for (int64_t at = b * size; at < end; at += CPU_CHUNK) {
            int64_t n = end - at < CPU_CHUNK ? end - at : CPU_CHUNK;
            partial[b] += (double)row_squares(x + at, 0, n);
        }
    }
    for (int b = 0; b < BLOCKS; b++) sum += partial[b];
    return sum;
}

int cpu_square_sum(double *sum, const struct lc_adamw_part *parts, int count) {
    *sum = 0;
    for (int i = 0; i < count; i++) *sum += squares(parts[i].gradient, parts[i].count);
    return 0;
}
