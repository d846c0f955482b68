/* rope.c - rotary positions (Su et al. 2021), LLaMA's way: the pair (c, c + d/2) of a head is turned
 * by position * theta^(-2c/d). Angles are computed in double. */
#include <math.h>

#include "base/memory.h"
#include "cpu/cpu.h"

int cpu_rope(void *y, const void *x, int dtype, const int32_t *position, int64_t rows,
             int64_t heads, int64_t d, double theta, bool inverse) {
    int64_t half = d / 2, width = heads * d;
    float *table = lc_alloc((size_t)(rows * d + 1) * sizeof *table); /* cos and sin of each row */
    double *rate = lc_alloc((size_t)(half + 1) * sizeof *rate);
    int failed = !table || !rate;
    for (int64_t c = 0; !failed && c < half; c++)
        rate[c] = pow(theta, -2.0 * (double)c / (double)d);
#pragma omp parallel reduction(| : failed) if (rows * width > 16384)
    {
        float *own = lc_alloc((size_t)(2 * width + 1) * sizeof *own);
        failed |= !own;
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; r++) {
            if (failed) continue;
            float *cosine = table + r * d, *sine = cosine + half;
            for (int64_t c = 0; c < half; c++) {
                double angle = position[r] * rate[c];
                cosine[c] = (float)cos(angle);
                sine[c] = (float)(inverse ? -sin(angle) : sin(angle));
            }
            const float *in = cpu_load(own, x, dtype, r * width, width);
            float *to = cpu_place(own + width, y, dtype, r * width);
            for (int64_t h = 0; h < heads; h++) {
                const float *a = in + h * d, *b = a + half;
                float *u = to + h * d, *v = u + half;
                for (int64_t c = 0; c < half; c++) {
                    float first = a[c] * cosine[c] - b[c] * sine[c],
                          second = b[c] * cosine[c] + a[c] * sine[c];
                    u[c] = first;
                    v[c] = second;
                }
            }
            cpu_store(y, dtype, r * width, to, width);
        }
        lc_free(own);
    }
    lc_free(table);
    lc_free(rate);
    return failed ? -1 : 0;
}
