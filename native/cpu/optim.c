/* optim.c - AdamW (Loshchilov and Hutter 2019) over all parameters of a step. */
#include <math.h>

#include "cpu/cpu.h"

static void adamw_chunk(float *x, float *m, float *v, const float *g, int64_t n, float lr,
                        float beta1, float beta2, float eps, float decay, float c1, float c2,
                        float grad_scale) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float gradient = g[i] * grad_scale;
        m[i] = beta1 * m[i] + (1 - beta1) * gradient;
        v[i] = beta2 * v[i] + (1 - beta2) * gradient * gradient;
        float step = m[i] / c1 / (sqrtf(v[i] / c2) + eps);
        x[i] = x[i] * (1 - lr * decay) - lr * step;
    }
}

int cpu_adamw(const struct lc_adamw_part *parts, int count, float lr, float beta1, float beta2,
              float eps, float decay, float c1, float c2, float grad_scale) {
    for (int k = 0; k < count; k++) {
        const struct lc_adamw_part *part = &parts[k];
        int64_t chunks = (part->count + CPU_CHUNK - 1) / CPU_CHUNK;
#pragma omp parallel for schedule(static) if (part->count > 32768)
        for (int64_t c = 0; c < chunks; c++) {
            float buffer[CPU_CHUNK];
            int64_t first = c * CPU_CHUNK,
                    n = part->count - first < CPU_CHUNK ? part->count - first : CPU_CHUNK;
            float *x = cpu_place(buffer, part->parameter, part->dtype, first);
            const float *now = cpu_load(buffer, part->parameter, part->dtype, first, n);
            if (now != x) memcpy(x, now, (size_t)n * sizeof *x);
            adamw_chunk(x, part->m + first, part->v + first, part->gradient + first, n, lr, beta1,
                        beta2, eps, decay, c1, c2, grad_scale);
            cpu_store(part->parameter, part->dtype, first, x, n);
        }
    }
    return 0;
}
