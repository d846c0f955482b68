/* optim.c - AdamW (Loshchilov and Hutter 2019) over all parameters of a step. */
#include <math.h>

#include "cpu/cpu.h"

struct rates {
    float decay, beta1, beta2, eps, grad_scale;
    float step; /* lr / c1 */
    float root; /* 1 / sqrt(c2) */
};

/* The rates are passed by value: read through a pointer, they might be what is written, and no vectors would come of it. */
static void adamw_chunk(float *x, float *m, float *v, const float *g, int64_t n, struct rates r) {
    const float keep = 1 - r.decay, new1 = 1 - r.beta1, new2 = 1 - r.beta2;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        float gradient = g[i] * r.grad_scale;
        m[i] = r.beta1 * m[i] + new1 * gradient;
        v[i] = r.beta2 * v[i] + new2 * gradient * gradient;
        x[i] = x[i] * keep - r.step * m[i] / (sqrtf(v[i]) * r.root + r.eps);
    }
}

int cpu_adamw(const struct lc_adamw_part *parts, int count, float lr, float beta1, float beta2,
              float eps, float decay, float c1, float c2, float grad_scale) {
    const struct rates rates = {.decay = lr * decay,
                                .beta1 = beta1,
                                .beta2 = beta2,
                                .eps = eps,
                                .grad_scale = grad_scale,
                                .step = lr / c1,
                                .root = 1 / sqrtf(c2)};
    for (int k = 0; k < count; k++) {
        const struct lc_adamw_part *part = &parts[k];
        float *weights = part->master ? part->master : part->parameter;
        int64_t chunks = (part->count + CPU_CHUNK - 1) / CPU_CHUNK;
#pragma omp parallel for schedule(static) if (part->count > 16384)
        for (int64_t c = 0; c < chunks; c++) {
            int64_t first = c * CPU_CHUNK, left = part->count - first,
                    n = left < CPU_CHUNK ? left : CPU_CHUNK;
            adamw_chunk(weights + first, part->m + first, part->v + first, part->gradient + first,
                        n, rates);
            cpu_store(part->parameter, part->dtype, first, weights + first, n);
        }
    }
    return 0;
}
