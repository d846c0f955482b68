/* gemm.cu - matrix products of any dtypes, strides and sizes, on the plain cores: for machines
 * without cuBLASLt, for the emulation, and for shapes that no library takes (product.cc has the rest).
 *
 * A block makes a tile of C; each element is one sum over k in rising order, so a row's bits depend on
 * that row alone. */
#include "cuda/cublas.h"
#include "cuda/launch.cuh"

#if !defined LC_EMULATED && __has_include(<cublasLt.h>)
#include <cublasLt.h>
#define SAME(ours, theirs) static_assert((int)(ours) == (int)(theirs), #theirs)
SAME(LT_F32, CUDA_R_32F);
SAME(LT_F16, CUDA_R_16F);
SAME(LT_BF16, CUDA_R_16BF);
SAME(LT_COMPUTE_F32, CUBLAS_COMPUTE_32F);
SAME(LT_PLAIN, CUBLAS_OP_N);
SAME(LT_TRANSPOSED, CUBLAS_OP_T);
SAME(LT_DESC_TRANSPOSE_A, CUBLASLT_MATMUL_DESC_TRANSA);
SAME(LT_DESC_TRANSPOSE_B, CUBLASLT_MATMUL_DESC_TRANSB);
SAME(LT_DESC_EPILOGUE, CUBLASLT_MATMUL_DESC_EPILOGUE);
SAME(LT_DESC_BIAS, CUBLASLT_MATMUL_DESC_BIAS_POINTER);
SAME(LT_EPILOGUE_BIAS, CUBLASLT_EPILOGUE_BIAS);
SAME(LT_LAYOUT_BATCH, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT);
SAME(LT_LAYOUT_STRIDE, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET);
SAME(LT_PREFER_WORKSPACE, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
SAME(LT_PREFER_REDUCTIONS, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
SAME(LT_PREFER_ALIGN_A, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
SAME(LT_PREFER_ALIGN_A + 3, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
SAME(LT_ALGO_SPLITS, CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
SAME(LT_ALGO_REDUCTION, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME);
SAME(LT_REDUCE_NONE, CUBLASLT_REDUCTION_SCHEME_NONE);
SAME(LT_REDUCE_COMPUTE_TYPE, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
SAME(sizeof(lt_algo), sizeof(cublasLtMatmulAlgo_t));
SAME(sizeof(lt_candidate), sizeof(cublasLtMatmulHeuristicResult_t));
SAME(offsetof(lt_candidate, state), offsetof(cublasLtMatmulHeuristicResult_t, state));
#endif

namespace {

enum { TILE = 64, DEPTH = 16, EACH = 4, SIDE = TILE / EACH }; /* SIDE x SIDE threads, EACH x EACH */

struct operand {
    const void *data;
    int dtype;
    int64_t line, step; /* from one row of A (column of B) to the next, and along k */
    int64_t batch;
};

LC_DEVICE float read(const operand &x, int64_t at) {
    switch (x.dtype) {
    case LC_F32: return ((const float *)x.data)[at];
    case LC_BF16: return to_float(((const lc_bf16 *)x.data)[at]);
    default: return to_float(((const lc_f16 *)x.data)[at]);
    }
}

LC_DEVICE void write(void *c, int dtype, int64_t at, float x) {
    switch (dtype) {
    case LC_F32: ((float *)c)[at] = x; break;
    case LC_BF16: ((lc_bf16 *)c)[at] = from_float<lc_bf16>(x); break;
    default: ((lc_f16 *)c)[at] = from_float<lc_f16>(x);
    }
}

/* to[k][line] = x[first + line, k0 + k], zeros beyond the edges; neighbours in memory by neighbours. */
LC_DEVICE void read_tile(float (*to)[TILE + 1], const operand &x, int64_t b, int64_t first,
                         int64_t lines, int64_t k0, int64_t depth) {
    for (int i = (int)threadIdx.x; i < TILE * DEPTH; i += (int)blockDim.x) {
        const int k = x.step == 1 ? i % DEPTH : i / TILE, line = x.step == 1 ? i / DEPTH : i % TILE;
        const bool there = first + line < lines && k0 + k < depth;
        to[k][line] =
            there ? read(x, b * x.batch + (first + line) * x.line + (k0 + k) * x.step) : 0.0f;
    }
}

__global__ void gemm(lc_gemm g, operand a, operand b, int64_t tiles_m, int64_t tiles_n) {
    LC_SHARED(float, left, [DEPTH][TILE + 1]);
    LC_SHARED(float, right, [DEPTH][TILE + 1]);
    const int tx = (int)threadIdx.x % SIDE, ty = (int)threadIdx.x / SIDE;
    EACH_ROW(tile, g.batch * tiles_m * tiles_n) {
        const int64_t n0 = tile % tiles_n * TILE, m0 = tile / tiles_n % tiles_m * TILE,
                      batch = tile / tiles_n / tiles_m;
        float sum[EACH][EACH] = {};
        for (int64_t k0 = 0; k0 < g.k; k0 += DEPTH) {
            __syncthreads();
            read_tile(left, a, batch, m0, g.m, k0, g.k);
            read_tile(right, b, batch, n0, g.n, k0, g.k);
            __syncthreads();
            for (int k = 0; k < DEPTH; k++) {
                float u[EACH], v[EACH];
                LC_UNROLL
                for (int i = 0; i < EACH; i++) {
                    u[i] = left[k][ty + i * SIDE];
                    v[i] = right[k][tx + i * SIDE];
                }
                LC_UNROLL
                for (int i = 0; i < EACH; i++) {
                    LC_UNROLL
                    for (int j = 0; j < EACH; j++) sum[i][j] += u[i] * v[j];
                }
            }
        }
        LC_UNROLL
        for (int i = 0; i < EACH; i++) {
            LC_UNROLL
            for (int j = 0; j < EACH; j++) {
                const int64_t m = m0 + ty + i * SIDE, n = n0 + tx + j * SIDE;
                if (m >= g.m || n >= g.n) continue;
                const int64_t at = batch * g.c_batch + m * g.c_row + n;
                const operand old = {g.c, g.c_dtype, 0, 0, 0},
                              bias = {g.bias, g.bias_dtype, 0, 0, 0};
                float y = g.alpha * sum[i][j];
                if (g.beta != 0) y += g.beta * read(old, at);
                if (g.bias) y += read(bias, n);
                write(g.c, g.c_dtype, at, y);
            }
        }
    }
}

} // namespace

extern "C" int cuda_gemm_plain(const struct lc_gemm *g) {
    const operand a = {g->a, g->a_dtype, g->a_transposed ? 1 : g->a_row,
                       g->a_transposed ? g->a_row : 1, g->a_batch};
    const operand b = {g->b, g->b_dtype, g->b_transposed ? g->b_row : 1,
                       g->b_transposed ? 1 : g->b_row, g->b_batch};
    const int64_t tiles_m = ceil_div(g->m, TILE), tiles_n = ceil_div(g->n, TILE);
    return launch_loop("gemm", gemm, g->batch * tiles_m * tiles_n, SIDE * SIDE, *g, a, b, tiles_m,
                       tiles_n);
}
