/* launchers.h - the device's kernels (kernels.h has their formulas), launched on its stream. */
#ifndef LC_CUDA_LAUNCHERS_H
#define LC_CUDA_LAUNCHERS_H
#include "cuda/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- movement.cu ---- */
int cuda_fill(void *dst, int dtype, int64_t count, double value);
int cuda_convert(void *dst, int dst_dtype, const void *src, int src_dtype, int64_t count);
int cuda_gather(void *dst, const void *src, int dtype, int ndim, const int64_t *shape,
                const int64_t *stride);
int cuda_scatter(void *dst, const void *src, int dtype, int ndim, const int64_t *shape,
                 const int64_t *stride);
int cuda_put_rows(void *y, const void *x, int dtype, const int32_t *index, int64_t count,
                  int64_t width, int64_t x_row);
int cuda_put_blocks(const struct lc_block *block, int count, int dtype);
int cuda_randn(void *dst, int dtype, int64_t count, uint64_t seed, uint64_t stream);
int cuda_rand(void *dst, int dtype, int64_t count, uint64_t seed, uint64_t stream);

/* ---- product.cc ---- */
int cuda_gemm(const struct lc_gemm *g);
/* Whether algorithms that are chosen from now on are timed; else the library's first advice is taken. */
void cuda_tune(int on);

/* ---- few_rows.cu ---- */
enum { CUDA_FEW_ROWS = 8 };
/* Whether cuda_few_rows takes this product: few rows, a weight stored [n, k], all of one 16-bit dtype. */
bool cuda_few_rows_serve(const struct lc_gemm *g);
int cuda_few_rows(const struct lc_gemm *g);
/* The same of a packed weight, and lc_kernels.gemm_packed: 1: not these sizes. */
int cuda_gemm_packed(const struct lc_gemm *g);

/* ---- gemm.cu ---- */
int cuda_gemm_plain(const struct lc_gemm *g);

/* ---- attention.cu ---- */
int cuda_attention(void *o, float *lse, const void *q, const void *k, const void *v, int dtype,
                   const struct lc_spans *spans, int64_t heads, int64_t groups, int64_t d,
                   int64_t q_row, int64_t k_row, int64_t v_row, int64_t o_row, float scale);
/* Makes ready what a recorded call over these spans reads. 1: no recording serves such calls. */
int cuda_attention_prepare(const struct lc_spans *spans, int dtype, int64_t heads, int64_t groups,
                           int64_t d);
int cuda_attention_backward(void *dq, void *dk, void *dv, const void *dout, const void *o,
                            const float *lse, const void *q, const void *k, const void *v,
                            int dtype, const struct lc_spans *spans, int64_t heads, int64_t groups,
                            int64_t d, int64_t q_row, int64_t k_row, int64_t v_row, int64_t o_row,
                            int64_t dq_row, int64_t dk_row, float scale);

/* ---- elementwise.cu ---- */
int cuda_unary(void *y, const void *x, int dtype, int64_t count, enum lc_unary op, double p,
               double q);
int cuda_unary_backward(void *dx, const void *dy, const void *x, int dtype, int64_t count,
                        enum lc_unary op, double p, double q);
int cuda_binary(void *y, const void *a, const void *b, int dtype, int64_t outer, int64_t inner,
                enum lc_binary op);
int cuda_binary_backward(void *da, void *db, const void *dy, const void *a, const void *b,
                         int dtype, int64_t outer, int64_t inner, enum lc_binary op);
int cuda_swiglu(void *y, const void *gate, const void *up, int dtype, int64_t rows, int64_t width,
                int64_t y_row, int64_t x_row);
int cuda_swiglu_backward(void *dgate, void *dup, const void *dy, const void *gate, const void *up,
                         int dtype, int64_t rows, int64_t width, int64_t dx_row, int64_t x_row);
int cuda_accumulate(void *y, int y_dtype, const void *x, int x_dtype, int64_t count);

/* ---- norm.cu ---- */
int cuda_rms_norm(void *y, float *rstd, const void *x, const void *weight, int dtype, int64_t rows,
                  int64_t width, int64_t y_row, float eps);
int cuda_rms_norm_backward(void *dx, float *dweight, const void *dy, const void *x,
                           const void *weight, const float *rstd, const void *more, int dtype,
                           int64_t rows, int64_t width, int64_t dx_row, int64_t more_row);
int cuda_layer_norm(void *y, float *mean, float *rstd, const void *x, const void *weight,
                    const void *bias, int dtype, int64_t rows, int64_t width, float eps);
int cuda_layer_norm_backward(void *dx, float *dweight, float *dbias, const void *dy, const void *x,
                             const void *weight, const float *mean, const float *rstd, int dtype,
                             int64_t rows, int64_t width);

/* ---- softmax.cu ---- */
int cuda_softmax(void *y, const void *x, int dtype, int64_t rows, int64_t width, bool log);
int cuda_softmax_backward(void *dx, const void *dy, const void *y, int dtype, int64_t rows,
                          int64_t width, bool log);
int cuda_pick_logp(float *logp, float *lse, const float *logits, const int32_t *target,
                   int64_t rows, int64_t width);
int cuda_pick_logp_backward(void *dlogits, int dtype, const float *logits, const float *g,
                            const float *lse, const int32_t *target, int64_t rows, int64_t width);
int cuda_argmax(int32_t *y, const void *x, int dtype, int64_t rows, int64_t width);

/* ---- quant.cu ---- */
int cuda_pack(void *packed, const void *x, int x_dtype, int64_t count, enum lc_quant quant);
int cuda_expand(void *y, int y_dtype, int64_t rows, int64_t cols, int64_t y_row, const void *packed,
                enum lc_quant quant);

/* ---- reduce.cu ---- */
int cuda_sum(float *y, const void *x, int dtype, int64_t outer, int64_t middle, int64_t inner,
             float scale);
int cuda_square_sum(double *sum, const struct lc_adamw_part *parts, int count);

/* ---- rows.cu ---- */
int cuda_take_rows(void *y, const void *x, int dtype, const int32_t *index, int64_t count,
                   int64_t width);
int cuda_add_rows(float *dx, const void *dy, int dtype, const float *scale, const int32_t *index,
                  int64_t count, int64_t width, int64_t rows);

/* ---- rope.cu ---- */
int cuda_rope(void *y, const void *x, int dtype, const int32_t *position, int64_t rows,
              int64_t heads, int64_t d, int64_t y_row, int64_t x_row, double theta, bool inverse);
int cuda_rope_append(void *q, void *keys, void *values, void *k, const void *v, int dtype,
                     const int32_t *position, const int32_t *slot, int64_t rows, int64_t heads,
                     int64_t groups, int64_t d, int64_t q_row, int64_t k_row, int64_t v_row,
                     int64_t slot_row, double theta);

/* ---- patch.cu ---- */
int cuda_patches(void *columns, const void *pixels, int dtype, int64_t n, int64_t c, int64_t h,
                 int64_t w, int64_t p);
int cuda_patches_backward(void *dpixels, const void *dcolumns, int dtype, int64_t n, int64_t c,
                          int64_t h, int64_t w, int64_t p);

/* ---- optim.cu ---- */
int cuda_adamw(const struct lc_adamw_part *parts, int count, float lr, float beta1, float beta2,
               float eps, float decay, float c1, float c2, float grad_scale);

#ifdef __cplusplus
}
#endif
#endif
