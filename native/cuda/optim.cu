/* optim.cu - AdamW (Loshchilov and Hutter 2019) over all parameters of a step in one launch. */
#include "cuda/launch.cuh"

namespace {

constexpr int64_t CHUNK = 4096; /* elements of one parameter that a block takes at a time */

struct rates {
    float decay, beta1, beta2, eps, grad_scale;
    float step; /* lr / c1 */
    float root; /* 1 / sqrt(c2) */
};

struct part {
    lc_adamw_part at;
    int64_t first_chunk; /* of all parameters' */
};

/* The last part that begins at the chunk or before it. */
LC_DEVICE int part_of(const part *parts, int count, int64_t chunk) {
    int low = 0, high = count - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (parts[middle].first_chunk <= chunk) low = middle;
        else high = middle - 1;
    }
    return low;
}

template <typename T>
LC_DEVICE void round_to(void *to, int64_t i, const lc_pack<float> &x, int64_t n) {
    LC_UNROLL
    for (int k = 0; k < PACK<float>; k++)
        if (k < n) ((T *)to)[i + k] = from_float<T>(x.x[k]);
}

__global__ void adamw(const part *parts, int count, int64_t chunks, rates r) {
    const float keep = 1 - r.decay, new1 = 1 - r.beta1, new2 = 1 - r.beta2;
    EACH_ROW(chunk, chunks) {
        const part p = parts[part_of(parts, count, chunk)];
        const int64_t first = (chunk - p.first_chunk) * CHUNK;
        float *x = p.at.master ? p.at.master : (float *)p.at.parameter;
        for (int64_t i = first + (int64_t)threadIdx.x * PACK<float>;
             i < first + CHUNK && i < p.at.count; i += blockDim.x * PACK<float>) {
            const int64_t n = p.at.count - i;
            const lc_pack<float> g = get_pack(p.at.gradient + i, n);
            lc_pack<float> m = get_pack(p.at.m + i, n), v = get_pack(p.at.v + i, n),
                           w = get_pack((const float *)x + i, n);
            LC_UNROLL
            for (int k = 0; k < PACK<float>; k++) {
                const float gradient = g.x[k] * r.grad_scale;
                m.x[k] = r.beta1 * m.x[k] + new1 * gradient;
                v.x[k] = r.beta2 * v.x[k] + new2 * gradient * gradient;
                w.x[k] = w.x[k] * keep - r.step * m.x[k] / (sqrtf(v.x[k]) * r.root + r.eps);
            }
            put_pack(p.at.m + i, m, n);
            put_pack(p.at.v + i, v, n);
            put_pack(x + i, w, n);
            if (p.at.dtype == LC_BF16) round_to<lc_bf16>(p.at.parameter, i, w, n);
            if (p.at.dtype == LC_F16) round_to<lc_f16>(p.at.parameter, i, w, n);
        }
    }
}

} // namespace

extern "C" int cuda_adamw(const struct lc_adamw_part *parts, int count, float lr, float beta1,
                          float beta2, float eps, float decay, float c1, float c2,
                          float grad_scale) {
    const rates r = {lr * decay, beta1, beta2, eps, grad_scale, lr / c1, 1 / sqrtf(c2)};
    const size_t bytes = (size_t)count * sizeof(part);
    part *list = (part *)calloc((size_t)count, sizeof(part));
    if (!list) return cuda_host.fail(LC_ENOMEM, "adamw: no memory for %d parameters", count);
    int64_t chunks = 0;
    for (int i = 0; i < count; i++) {
        list[i] = {parts[i], chunks};
        chunks += ceil_div(parts[i].count, CHUNK);
    }
    part *there = (part *)cuda_workspace_from(list, bytes);
    free(list);
    if (!there) return -1;
    int done = launch_loop("adamw", adamw, chunks, THREADS, (const part *)there, count, chunks, r);
    cuda_free(there, bytes);
    return done;
}
