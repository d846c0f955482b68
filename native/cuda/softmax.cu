/* softmax.cu - softmax and what a classifier needs of it, a block a row.
 *
 * A row that holds NaN or +inf, or nothing but -inf, has no softmax: all of it is NaN. */
#include "cuda/launch.cuh"

namespace {

template <typename T> LC_DEVICE float row_max(const T *x, int64_t width) {
    float most = -INFINITY;
    EACH_ROW_PACK(T, i, width) {
        const lc_pack<T> in = get_pack(x + i, width - i);
        LC_UNROLL
        for (int k = 0; k < PACK<T>; k++)
            if (i + k < width) most = fmaxf(most, to_float(in.x[k])); /* NaN is not taken */
    }
    return block_max(most);
}

/* The sum of e^(x - level). */
template <typename T> LC_DEVICE float row_exp_sum(const T *x, int64_t width, float level) {
    float sum = 0;
    EACH_ROW_PACK(T, i, width) {
        const lc_pack<T> in = get_pack(x + i, width - i);
        LC_UNROLL
        for (int k = 0; k < PACK<T>; k++)
            if (i + k < width) sum += expf(to_float(in.x[k]) - level);
    }
    return block_sum(sum);
}

/* y = f(x), element by element */
template <typename T, typename F> LC_DEVICE void each_of_row(T *y, const T *x, int64_t width, F f) {
    EACH_ROW_PACK(T, i, width) {
        lc_pack<T> in = get_pack(x + i, width - i);
        LC_UNROLL
        for (int k = 0; k < PACK<T>; k++) in.x[k] = from_float<T>(f(to_float(in.x[k])));
        put_pack(y + i, in, width - i);
    }
}

template <typename T>
__global__ void softmax(T *y, const T *x, int64_t rows, int64_t width, bool log) {
    EACH_ROW(r, rows) {
        const T *in = x + r * width;
        const float most = row_max(in, width), sum = row_exp_sum(in, width, most);
        if (log) {
            const float level = most + logf(sum);
            each_of_row(y + r * width, in, width, [level](float v) { return v - level; });
        } else {
            const float inverse = 1 / sum;
            each_of_row(y + r * width, in, width,
                        [most, inverse](float v) { return expf(v - most) * inverse; });
        }
    }
}

template <typename T>
__global__ void softmax_backward(T *dx, const T *dy, const T *y, int64_t rows, int64_t width,
                                 bool log) {
    EACH_ROW(r, rows) {
        const T *g = dy + r * width, *out = y + r * width;
        float sum = 0;
        EACH_ROW_PACK(T, i, width) {
            const lc_pack<T> a = get_pack(g + i, width - i), b = get_pack(out + i, width - i);
            LC_UNROLL
            for (int k = 0; k < PACK<T>; k++)
                if (i + k < width) sum += to_float(a.x[k]) * (log ? 1.0f : to_float(b.x[k]));
        }
        sum = block_sum(sum);
        EACH_ROW_PACK(T, i, width) {
            lc_pack<T> a = get_pack(g + i, width - i);
            const lc_pack<T> b = get_pack(out + i, width - i);
            LC_UNROLL
            for (int k = 0; k < PACK<T>; k++) {
                const float d = to_float(a.x[k]), v = to_float(b.x[k]);
                a.x[k] = from_float<T>(log ? d - expf(v) * sum : v * (d - sum));
            }
            put_pack(dx + r * width + i, a, width - i);
        }
    }
}

__global__ void pick_logp(float *logp, float *lse, const float *logits, const int32_t *target,
                          int64_t rows, int64_t width) {
    EACH_ROW(r, rows) {
        const float *x = logits + r * width;
        const float most = row_max(x, width), level = most + logf(row_exp_sum(x, width, most));
        if (threadIdx.x) continue;
        lse[r] = level;
        logp[r] = target[r] < 0 ? 0 : x[target[r]] - level;
    }
}

template <typename T>
__global__ void pick_logp_backward(T *dlogits, const float *logits, const float *g,
                                   const float *lse, const int32_t *target, int64_t rows,
                                   int64_t width) {
    EACH_ROW(r, rows) {
        const float *x = logits + r * width;
        const float scale = g ? g[r] : 1.0f, level = lse[r];
        const int64_t at = target[r];
        EACH_ROW_PACK(T, i, width) {
            lc_pack<T> y = {};
            LC_UNROLL
            for (int j = 0; j < PACK<T>; j += PACK<float>) {
                const lc_pack<float> p = get_pack(x + i + j, width - i - j);
                LC_UNROLL
                for (int k = 0; k < PACK<float>; k++) {
                    const float one = i + j + k == at ? 1.0f : 0.0f;
                    y.x[j + k] = from_float<T>(at < 0 ? 0 : scale * (one - expf(p.x[k] - level)));
                }
            }
            put_pack(dlogits + r * width + i, y, width - i);
        }
    }
}

/* NaN is never the largest; a row of nothing else gives 0. */
template <typename T> __global__ void argmax(int32_t *y, const T *x, int64_t rows, int64_t width) {
    LC_SHARED(float, tops, [WARP]);
    LC_SHARED(int32_t, places, [WARP]);
    EACH_ROW(r, rows) {
        float most = -INFINITY;
        int32_t place = 0;
        for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
            const float v = to_float(x[r * width + i]);
            if (v > most) {
                most = v;
                place = (int32_t)i;
            }
        }
        for (int step = 0; step < 2; step++) { /* within warps, then over what they found */
            for (int far = WARP / 2; far; far /= 2) {
                const float v = __shfl_xor_sync(ALL_LANES, most, far);
                const int32_t p = __shfl_xor_sync(ALL_LANES, place, far);
                if (v > most || (v == most && v > -INFINITY && p < place)) {
                    most = v;
                    place = p;
                }
            }
            if (step) break;
            __syncthreads();
            if (!lane_id()) {
                tops[warp_id()] = most;
                places[warp_id()] = place;
            }
            __syncthreads();
            const bool there = lane_id() < (int)blockDim.x / WARP;
            most = there ? tops[lane_id()] : -INFINITY;
            place = there ? places[lane_id()] : 0;
        }
        if (!threadIdx.x) y[r] = most > -INFINITY ? place : 0;
    }
}

} // namespace

extern "C" int cuda_softmax(void *y, const void *x, int dtype, int64_t rows, int64_t width,
                            bool log) {
    return with_float(dtype, [=](auto t) {
        using T = decltype(t);
        return launch_rows<T>("softmax", softmax<T>, rows, width, (T *)y, (const T *)x, rows, width,
                              log);
    });
}

extern "C" int cuda_softmax_backward(void *dx, const void *dy, const void *y, int dtype,
                                     int64_t rows, int64_t width, bool log) {
    return with_float(dtype, [=](auto t) {
        using T = decltype(t);
        return launch_rows<T>("softmax_backward", softmax_backward<T>, rows, width, (T *)dx,
                              (const T *)dy, (const T *)y, rows, width, log);
    });
}

extern "C" int cuda_pick_logp(float *logp, float *lse, const float *logits, const int32_t *target,
                              int64_t rows, int64_t width) {
    return launch_rows<float>("pick_logp", pick_logp, rows, width, logp, lse, logits, target, rows,
                              width);
}

extern "C" int cuda_pick_logp_backward(void *dlogits, int dtype, const float *logits,
                                       const float *g, const float *lse, const int32_t *target,
                                       int64_t rows, int64_t width) {
    return with_float(dtype, [=](auto t) {
        using T = decltype(t);
        return launch_rows<T>("pick_logp_backward", pick_logp_backward<T>, rows, width,
                              (T *)dlogits, logits, g, lse, target, rows, width);
    });
}

extern "C" int cuda_argmax(int32_t *y, const void *x, int dtype, int64_t rows, int64_t width) {
    return with_float(dtype, [=](auto t) {
        using T = decltype(t);
        return launch_rows<T>("argmax", argmax<T>, rows, width, y, (const T *)x, rows, width);
    });
}
