/* few_rows.cu - products of a few rows of 16 bits with a weight stored [n, k], of 16 bits or packed: a decoding step.
 * It waits for the weight alone, so the weight is read once, by all of the device, many packs at a time.
 *
 * A warp makes COLS columns of all rows. A lane takes every 32nd pack of K, whatever the number of rows is,
 * so up to CUDA_FEW_ROWS rows have the same bits together as alone. */
#include "cuda/quant.cuh"

namespace {

enum {
    COLS = 2,
    AHEAD = 4,
    WARPS = 4
}; /* COLS * AHEAD packs of the weight are on their way to a lane */

/* How a weight is stored: what a lane reads of a pack, and the pack once that is there. */
template <typename T> struct plain {
    const T *w;
    int64_t row;
    using pack = lc_pack<T>;
    LC_DEVICE void begin(float *) const {}
    LC_DEVICE pack read(int64_t n, int64_t k, int64_t left) const {
        return get_pack(w + (left > 0 ? n * row + k : 0), left);
    }
    LC_DEVICE lc_pack<T> values(const pack &p, const float *) const { return p; }
};

/* All of a line's blocks are its own. */
template <typename T, bool EIGHT> struct packed {
    const uint8_t *quants;
    const lc_f16 *scales;
    int64_t row;
    levels l;
    struct pack {
        uint64_t quants; /* a byte an element, of 4 bits their lower or upper halves */
        lc_f16 scale;
        int shift;
    };
    LC_DEVICE void begin(float *level) const {
        if (EIGHT) return;
        if (threadIdx.x < LEVELS) level[threadIdx.x] = l.level[threadIdx.x];
        __syncthreads();
    }
    LC_DEVICE pack read(int64_t n, int64_t k, int64_t left) const {
        if (left <= 0) return {};
        const int64_t i = n * row + k, block = i >> (EIGHT ? 5 : 6);
        const uint8_t *at = quants + block * LC_PACKED_BLOCK + i % LC_PACKED_BLOCK;
        return {*(const uint64_t *)at, scales[block], !EIGHT && (i & HALF_BLOCK) ? 4 : 0};
    }
    LC_DEVICE lc_pack<T> values(const pack &p, const float *level) const {
        const float scale = to_float(p.scale);
        lc_pack<T> out;
        LC_UNROLL
        for (int i = 0; i < PACK<T>; i++) {
            const uint32_t q = (uint32_t)(p.quants >> (8 * i + p.shift));
            out.x[i] = from_float<T>(EIGHT ? value_of_8_bits((uint8_t)q, scale)
                                           : value_of_4_bits(level[q & (LEVELS - 1)], scale));
        }
        return out;
    }
};

template <typename T, int ROWS, typename W> __global__ void few_rows(lc_gemm g, W w) {
    LC_SHARED(float, level, [LEVELS]);
    const T *x = (const T *)g.a;
    T *y = (T *)g.c;
    w.begin(level);
    EACH_ROW(tile, (g.n + COLS * WARPS - 1) / (COLS * WARPS)) {
        const int64_t first = (tile * WARPS + warp_id()) * COLS;
        float sum[ROWS][COLS] = {};
        for (int64_t k0 = (int64_t)lane_id() * PACK<T>; k0 < g.k; k0 += AHEAD * WARP * PACK<T>) {
            typename W::pack weight[AHEAD][COLS];
            LC_UNROLL
            for (int a = 0; a < AHEAD; a++) {
                LC_UNROLL
                for (int c = 0; c < COLS; c++) {
                    const int64_t k = k0 + a * WARP * PACK<T>, left = first + c < g.n ? g.k - k : 0;
                    weight[a][c] = w.read(first + c, k, left);
                }
            }
            LC_UNROLL
            for (int a = 0; a < AHEAD; a++) {
                const int64_t k = k0 + a * WARP * PACK<T>;
                lc_pack<T> value[COLS];
                LC_UNROLL
                for (int c = 0; c < COLS; c++) value[c] = w.values(weight[a][c], level);
                LC_UNROLL
                for (int r = 0; r < ROWS; r++) {
                    const int64_t left = r < g.m ? g.k - k : 0;
                    const lc_pack<T> row = get_pack(x + (left > 0 ? r * g.a_row + k : 0), left);
                    LC_UNROLL
                    for (int c = 0; c < COLS; c++) {
                        LC_UNROLL
                        for (int i = 0; i < PACK<T>; i++)
                            sum[r][c] =
                                fmaf(to_float(row.x[i]), to_float(value[c].x[i]), sum[r][c]);
                    }
                }
            }
        }
        LC_UNROLL
        for (int r = 0; r < ROWS; r++) {
            LC_UNROLL
            for (int c = 0; c < COLS; c++) {
                const float all = g.alpha * warp_sum(sum[r][c]);
                const int64_t n = first + c, at = r * g.c_row + n;
                if (lane_id() != r * COLS + c || r >= g.m || n >= g.n) continue;
                float value = all;
                if (g.beta != 0) value += g.beta * to_float(y[at]);
                if (g.bias) value += to_float(((const T *)g.bias)[n]);
                y[at] = from_float<T>(value);
            }
        }
    }
}

template <typename T, int ROWS, typename W> int start(const struct lc_gemm &g, const W &w) {
    return launch_loop("gemm", few_rows<T, ROWS, W>, ceil_div(g.n, COLS * WARPS), WARPS * WARP, g,
                       w);
}

template <typename T, typename W> int start_any(const struct lc_gemm &g, const W &w) {
    return g.m == 1   ? start<T, 1>(g, w)
           : g.m == 2 ? start<T, 2>(g, w)
           : g.m <= 4 ? start<T, 4>(g, w)
                      : start<T, CUDA_FEW_ROWS>(g, w);
}

template <typename T> int start_plain(const struct lc_gemm &g) {
    return start_any<T>(g, plain<T>{(const T *)g.b, g.b_row});
}

template <typename T> int start_packed(const struct lc_gemm &g, enum lc_quant quant) {
    const uint8_t *quants = (const uint8_t *)g.b;
    const lc_f16 *scales = (const lc_f16 *)(quants + lc_packed_scales(quant, g.n * g.k));
    const levels &l = levels_of(quant);
    return quant == LC_Q8_0 ? start_any<T>(g, packed<T, true>{quants, scales, g.k, l})
                            : start_any<T>(g, packed<T, false>{quants, scales, g.k, l});
}

} // namespace

bool cuda_few_rows_serve(const struct lc_gemm *g) {
    return g->m <= CUDA_FEW_ROWS && g->batch == 1 && g->b_transposed && !g->a_transposed &&
           g->a_dtype != LC_F32 && g->a_dtype == g->b_dtype && g->a_dtype == g->c_dtype &&
           (!g->bias || g->bias_dtype == g->c_dtype);
}

int cuda_few_rows(const struct lc_gemm *g) {
    return g->a_dtype == LC_BF16 ? start_plain<lc_bf16>(*g) : start_plain<lc_f16>(*g);
}

int cuda_gemm_packed(const struct lc_gemm *g) {
    const enum lc_quant quant = lc_quant_of(g->b_dtype);
    struct lc_gemm expanded = *g;
    expanded.b_dtype = g->a_dtype;
    if (!cuda_few_rows_serve(&expanded) || g->k % lc_packed_each(quant) != 0) return 1;
    return g->a_dtype == LC_BF16 ? start_packed<lc_bf16>(expanded, quant)
                                 : start_packed<lc_f16>(expanded, quant);
}
