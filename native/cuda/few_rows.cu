/* few_rows.cu - products of a few rows with a weight stored [n, k], both of 16 bits: a decoding step. It
 * waits for the weight alone, so the weight is read once, by all of the device, many packs at a time.
 *
 * A warp makes COLS columns of all rows. A lane takes every 32nd pack of K, whatever the number of rows is,
 * so up to CUDA_FEW_ROWS rows have the same bits together as alone. */
#include "cuda/launch.cuh"

namespace {

enum {
    COLS = 2,
    AHEAD = 4,
    WARPS = 4
}; /* COLS * AHEAD packs of the weight are on their way to a lane */

template <typename T, int ROWS> __global__ void few_rows(lc_gemm g) {
    const T *x = (const T *)g.a, *w = (const T *)g.b;
    T *y = (T *)g.c;
    EACH_ROW(tile, (g.n + COLS * WARPS - 1) / (COLS * WARPS)) {
        const int64_t first = (tile * WARPS + warp_id()) * COLS;
        float sum[ROWS][COLS] = {};
        for (int64_t k0 = (int64_t)lane_id() * PACK<T>; k0 < g.k; k0 += AHEAD * WARP * PACK<T>) {
            lc_pack<T> weight[AHEAD][COLS];
            LC_UNROLL
            for (int a = 0; a < AHEAD; a++) {
                LC_UNROLL
                for (int c = 0; c < COLS; c++) {
                    const int64_t k = k0 + a * WARP * PACK<T>, left = first + c < g.n ? g.k - k : 0;
                    weight[a][c] = get_pack(w + (left > 0 ? (first + c) * g.b_row + k : 0), left);
                }
            }
            LC_UNROLL
            for (int a = 0; a < AHEAD; a++) {
                const int64_t k = k0 + a * WARP * PACK<T>;
                LC_UNROLL
                for (int r = 0; r < ROWS; r++) {
                    const int64_t left = r < g.m ? g.k - k : 0;
                    const lc_pack<T> row = get_pack(x + (left > 0 ? r * g.a_row + k : 0), left);
                    LC_UNROLL
                    for (int c = 0; c < COLS; c++) {
                        LC_UNROLL
                        for (int i = 0; i < PACK<T>; i++)
                            sum[r][c] =
                                fmaf(to_float(row.x[i]), to_float(weight[a][c].x[i]), sum[r][c]);
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

template <typename T, int ROWS> int start(const struct lc_gemm &g) {
    return launch_loop("gemm", few_rows<T, ROWS>, ceil_div(g.n, COLS * WARPS), WARPS * WARP, g);
}

template <typename T> int start_any(const struct lc_gemm &g) {
    return g.m == 1   ? start<T, 1>(g)
           : g.m == 2 ? start<T, 2>(g)
           : g.m <= 4 ? start<T, 4>(g)
                      : start<T, CUDA_FEW_ROWS>(g);
}

} // namespace

bool cuda_few_rows_serve(const struct lc_gemm *g) {
    return g->m <= CUDA_FEW_ROWS && g->batch == 1 && g->b_transposed && !g->a_transposed &&
           g->a_dtype != LC_F32 && g->a_dtype == g->b_dtype && g->a_dtype == g->c_dtype &&
           (!g->bias || g->bias_dtype == g->c_dtype);
}

int cuda_few_rows(const struct lc_gemm *g) {
    return g->a_dtype == LC_BF16 ? start_any<lc_bf16>(*g) : start_any<lc_f16>(*g);
}
