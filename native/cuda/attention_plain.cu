/* attention_plain.cu - attention without tensor cores, in f32 from any dtype and for any head size
 * up to 256: what f32 tensors, odd head sizes and unaligned rows get.
 *
 * A warp is one row (dk and dv: one key) and one head. Its lanes first stand for 32 keys (or
 * queries), one score each, then for features, 8 at most. Sums follow the path (or the tiles), so
 * bits do not depend on other rows. */
#include "cuda/attention.cuh"

namespace {

enum { FEATURES = 8 }; /* of a lane: features lane, lane + 32, ... */

template <typename T> LC_DEVICE float dot(const T *a, const T *b, int d) {
    float sum = 0;
    for (int i = 0; i < d; i++) sum += to_float(a[i]) * to_float(b[i]);
    return sum;
}

/* y += factor x */
template <typename T>
LC_DEVICE void add_scaled(float (&y)[FEATURES], float factor, const T *x, int d) {
    LC_UNROLL
    for (int i = 0; i < FEATURES; i++)
        if (i * WARP + lane_id() < d) y[i] += factor * to_float(x[i * WARP + lane_id()]);
}

template <typename T> LC_DEVICE void store(T *y, const float (&x)[FEATURES], float factor, int d) {
    LC_UNROLL
    for (int i = 0; i < FEATURES; i++)
        if (i * WARP + lane_id() < d) y[i * WARP + lane_id()] = from_float<T>(x[i] * factor + 0.0f);
}

template <typename T>
__global__ void __launch_bounds__(THREADS) attention_plain_kernel(const struct attention_call c) {
    const struct lc_query_tile b = c.blocks[blockIdx.x / (unsigned)c.heads];
    const int head = (int)(blockIdx.x % (unsigned)c.heads), group = head / c.share, d = c.d;
    const T *const k = (const T *)c.k + group * d, *const v = (const T *)c.v + group * d;
    for (int32_t row = b.q0 + warp_id(); row < b.q1; row += WARPS) {
        const T *const q = (const T *)c.q + row * c.q_row + head * d;
        const int32_t end = path_seen(c.ranges, &b, row);
        struct spans_cursor cursor = {b.r0, b.r1, 0};
        float top = -INFINITY, sum = 0, o[FEATURES] = {};
        for (int32_t at = 0; at < end; at += WARP) {
            const int32_t n = min(end - at, (int32_t)WARP);
            const int32_t key = lane_id() < n ? spans_row(c.ranges, &cursor, at + lane_id()) : -1;
            const float score = key < 0 ? -INFINITY : dot(q, k + key * c.k_row, d) * c.scale;
            const float before = top;
            top = fmaxf(top, warp_max(score));
            const float base = top == -INFINITY ? 0 : top, factor = expf(before - base);
            const float p = key < 0 ? 0 : expf(score - base);
            sum = sum * factor + warp_sum(p);
            LC_UNROLL
            for (int i = 0; i < FEATURES; i++) o[i] *= factor;
            for (int j = 0; j < n; j++)
                add_scaled(o, __shfl_sync(ALL_LANES, p, j),
                           v + __shfl_sync(ALL_LANES, key, j) * c.v_row, d);
        }
        store((T *)c.o + row * c.o_row + head * d, o, end ? 1 / sum : 0, d);
        if (lane_id() == 0) c.lse[head * c.queries + row] = end ? top + logf(sum) : -INFINITY;
    }
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    attention_plain_dq_kernel(const struct attention_call c) {
    const struct lc_query_tile b = c.blocks[blockIdx.x / (unsigned)c.heads];
    const int head = (int)(blockIdx.x % (unsigned)c.heads), group = head / c.share, d = c.d;
    const T *const k = (const T *)c.k + group * d, *const v = (const T *)c.v + group * d;
    for (int32_t row = b.q0 + warp_id(); row < b.q1; row += WARPS) {
        const T *const q = (const T *)c.q + row * c.q_row + head * d;
        const T *const dout = (const T *)c.dout + (row * (int64_t)c.heads + head) * d;
        const T *const o = (const T *)c.o + row * c.o_row + head * d;
        const int32_t end = path_seen(c.ranges, &b, row);
        const float lse = c.lse[head * c.queries + row];
        struct spans_cursor cursor = {b.r0, b.r1, 0};
        float delta = 0, dq[FEATURES] = {};
        for (int i = lane_id(); i < d; i += WARP) delta += to_float(dout[i]) * to_float(o[i]);
        delta = warp_sum(delta);
        for (int32_t at = 0; at < end; at += WARP) {
            const int32_t n = min(end - at, (int32_t)WARP);
            const int32_t key = lane_id() < n ? spans_row(c.ranges, &cursor, at + lane_id()) : -1;
            float ds = 0;
            if (key >= 0)
                ds = expf(dot(q, k + key * c.k_row, d) * c.scale - lse) *
                     (dot(dout, v + key * c.v_row, d) - delta);
            for (int j = 0; j < n; j++)
                add_scaled(dq, __shfl_sync(ALL_LANES, ds, j),
                           k + __shfl_sync(ALL_LANES, key, j) * c.k_row, d);
        }
        store((T *)c.dq + row * c.dq_row + head * d, dq, c.scale, d);
        if (lane_id() == 0) c.delta[head * c.queries + row] = delta;
    }
}

template <typename T>
__global__ void __launch_bounds__(THREADS)
    attention_plain_dkv_kernel(const struct attention_call c) {
    const struct key_block b = c.keys[blockIdx.x / (unsigned)c.groups];
    const int group = (int)(blockIdx.x % (unsigned)c.groups), d = c.d;
    for (int32_t key = b.k0 + warp_id(); key < b.k1; key += WARPS) {
        const T *const k = (const T *)c.k + key * c.k_row + group * d;
        const T *const v = (const T *)c.v + key * c.v_row + group * d;
        float dk[FEATURES] = {}, dv[FEATURES] = {};
        for (int head = group * c.share; head < (group + 1) * c.share; head++)
            for (int32_t t = b.t0; t < b.t1; t++) {
                const struct lc_query_tile tile = c.tiles[t];
                const int32_t found = spans_find(c.ranges, &tile, key);
                if (found < 0) continue;
                const struct lc_range range = c.ranges[found];
                for (int32_t first = tile.q0; first < tile.q1; first += WARP) {
                    const int32_t row = first + lane_id();
                    const bool sees = row < tile.q1 && key - range.k0 < spans_seen(&range, row);
                    const int64_t sum_at = head * c.queries + row;
                    float p = 0, ds = 0;
                    if (sees) {
                        const T *const q = (const T *)c.q + row * c.q_row + head * d;
                        const T *const dout =
                            (const T *)c.dout + (row * (int64_t)c.heads + head) * d;
                        p = expf(dot(q, k, d) * c.scale - c.lse[sum_at]);
                        ds = p * (dot(dout, v, d) - c.delta[sum_at]);
                    }
                    for (int j = 0; j < WARP; j++) {
                        const float p_j = __shfl_sync(ALL_LANES, p, j);
                        const float ds_j = __shfl_sync(ALL_LANES, ds, j);
                        if (!__shfl_sync(ALL_LANES, (int)sees, j)) continue;
                        add_scaled(dk, ds_j, (const T *)c.q + (first + j) * c.q_row + head * d, d);
                        add_scaled(dv, p_j,
                                   (const T *)c.dout + ((first + j) * (int64_t)c.heads + head) * d,
                                   d);
                    }
                }
            }
        const int64_t place = key * c.dk_row + group * d;
        store((T *)c.dk + place, dk, c.scale, d);
        store((T *)c.dv + place, dv, 1, d);
    }
}

template <typename T> int launch(const struct attention_call *c) {
    if (c->block_count)
        LC_LAUNCH(attention_plain_kernel<T>, (unsigned)(c->block_count * c->heads), THREADS, 0,
                  cuda_stream(), *c);
    return LC_CUDA(cudaGetLastError());
}

template <typename T> int launch_backward(const struct attention_call *c) {
    if (c->block_count)
        LC_LAUNCH(attention_plain_dq_kernel<T>, (unsigned)(c->block_count * c->heads), THREADS, 0,
                  cuda_stream(), *c);
    if (c->key_count)
        LC_LAUNCH(attention_plain_dkv_kernel<T>, (unsigned)(c->key_count * c->groups), THREADS, 0,
                  cuda_stream(), *c);
    return LC_CUDA(cudaGetLastError());
}

} // namespace

int attention_plain_launch(const struct attention_call *c, int dtype) {
    return dtype == LC_F32    ? launch<float>(c)
           : dtype == LC_BF16 ? launch<lc_bf16>(c)
                              : launch<lc_f16>(c);
}

int attention_plain_backward_launch(const struct attention_call *c, int dtype) {
    return dtype == LC_F32    ? launch_backward<float>(c)
           : dtype == LC_BF16 ? launch_backward<lc_bf16>(c)
                              : launch_backward<lc_f16>(c);
}
