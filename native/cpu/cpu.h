/* cpu.h - the CPU's kernels (kernels.h has their formulas) and what they share. */
#ifndef LC_CPU_H
#define LC_CPU_H
#include <string.h>

#include "kernels.h"

/* ---- memory.c ---- */
void *cpu_alloc(size_t bytes);
void cpu_free(void *p, size_t bytes);
int cpu_copy(void *dst, const void *src, size_t bytes);

/* ---- movement.c ---- */
int cpu_fill(void *dst, int dtype, int64_t count, double value);
int cpu_convert(void *dst, int dst_dtype, const void *src, int src_dtype, int64_t count);
int cpu_gather(void *dst, const void *src, int dtype, int ndim, const int64_t *shape,
               const int64_t *stride);
int cpu_scatter(void *dst, const void *src, int dtype, int ndim, const int64_t *shape,
                const int64_t *stride);
int cpu_put_rows(void *y, const void *x, int dtype, const int32_t *index, int64_t count,
                 int64_t width, int64_t x_row);
int cpu_put_blocks(const struct lc_block *block, int count, int dtype);
int cpu_randn(void *dst, int dtype, int64_t count, uint64_t seed, uint64_t stream);
int cpu_rand(void *dst, int dtype, int64_t count, uint64_t seed, uint64_t stream);

/* ---- gemm.c ---- */
int cpu_gemm(const struct lc_gemm *g);

/* ---- attention.c ---- */
int cpu_attention(void *o, float *lse, const void *q, const void *k, const void *v, int dtype,
                  const struct lc_spans *spans, int64_t heads, int64_t groups, int64_t d,
                  int64_t q_row, int64_t k_row, int64_t v_row, int64_t o_row, float scale);
int cpu_attention_backward(void *dq, void *dk, void *dv, const void *dout, const void *o,
                           const float *lse, const void *q, const void *k, const void *v, int dtype,
                           const struct lc_spans *spans, int64_t heads, int64_t groups, int64_t d,
                           int64_t q_row, int64_t k_row, int64_t v_row, int64_t o_row,
                           int64_t dq_row, int64_t dk_row, float scale);

/* ---- elementwise.c ---- */
int cpu_unary(void *y, const void *x, int dtype, int64_t count, enum lc_unary op, double p,
              double q);
int cpu_unary_backward(void *dx, const void *dy, const void *x, int dtype, int64_t count,
                       enum lc_unary op, double p, double q);
int cpu_binary(void *y, const void *a, const void *b, int dtype, int64_t outer, int64_t inner,
               enum lc_binary op);
int cpu_binary_backward(void *da, void *db, const void *dy, const void *a, const void *b, int dtype,
                        int64_t outer, int64_t inner, enum lc_binary op);
int cpu_swiglu(void *y, const void *gate, const void *up, int dtype, int64_t rows, int64_t width,
               int64_t y_row, int64_t x_row);
int cpu_swiglu_backward(void *dgate, void *dup, const void *dy, const void *gate, const void *up,
                        int dtype, int64_t rows, int64_t width, int64_t dx_row, int64_t x_row);
int cpu_accumulate(void *y, int y_dtype, const void *x, int x_dtype, int64_t count);

/* ---- norm.c ---- */
int cpu_rms_norm(void *y, float *rstd, const void *x, const void *weight, int dtype, int64_t rows,
                 int64_t width, int64_t y_row, float eps);
int cpu_rms_norm_backward(void *dx, float *dweight, const void *dy, const void *x,
                          const void *weight, const float *rstd, const void *more, int dtype,
                          int64_t rows, int64_t width, int64_t dx_row, int64_t more_row);
int cpu_layer_norm(void *y, float *mean, float *rstd, const void *x, const void *weight,
                   const void *bias, int dtype, int64_t rows, int64_t width, float eps);
int cpu_layer_norm_backward(void *dx, float *dweight, float *dbias, const void *dy, const void *x,
                            const void *weight, const float *mean, const float *rstd, int dtype,
                            int64_t rows, int64_t width);

/* ---- softmax.c ---- */
int cpu_softmax(void *y, const void *x, int dtype, int64_t rows, int64_t width, bool log);
int cpu_softmax_backward(void *dx, const void *dy, const void *y, int dtype, int64_t rows,
                         int64_t width, bool log);
int cpu_pick_logp(float *logp, float *lse, const float *logits, const int32_t *target, int64_t rows,
                  int64_t width);
int cpu_pick_logp_backward(void *dlogits, int dtype, const float *logits, const float *g,
                           const float *lse, const int32_t *target, int64_t rows, int64_t width);
int cpu_argmax(int32_t *y, const void *x, int dtype, int64_t rows, int64_t width);

/* ---- quant.c ---- */
int cpu_pack_weight(void *packed, const void *x, int x_dtype, int64_t count, enum lc_quant quant);
int cpu_expand(void *y, int y_dtype, int64_t rows, int64_t cols, int64_t y_row, const void *packed,
               enum lc_quant quant);

/* ---- gemm_packed.c ---- */
int cpu_gemm_packed(const struct lc_gemm *g);

/* ---- reduce.c ---- */
int cpu_sum(float *y, const void *x, int dtype, int64_t outer, int64_t middle, int64_t inner,
            float scale);
int cpu_square_sum(double *sum, const struct lc_adamw_part *parts, int count);

/* ---- rows.c ---- */
int cpu_take_rows(void *y, const void *x, int dtype, const int32_t *index, int64_t count,
                  int64_t width);
int cpu_add_rows(float *dx, const void *dy, int dtype, const float *scale, const int32_t *index,
                 int64_t count, int64_t width, int64_t rows);

/* ---- rope.c ---- */
int cpu_rope(void *y, const void *x, int dtype, const int32_t *position, int64_t rows,
             int64_t heads, int64_t d, int64_t y_row, int64_t x_row, double theta, bool inverse);
int cpu_rope_append(void *q, void *keys, void *values, void *k, const void *v, int dtype,
                    const int32_t *position, const int32_t *slot, int64_t rows, int64_t heads,
                    int64_t groups, int64_t d, int64_t q_row, int64_t k_row, int64_t v_row,
                    int64_t slot_row, double theta);

/* ---- patch.c ---- */
int cpu_patches(void *columns, const void *pixels, int dtype, int64_t n, int64_t c, int64_t h,
                int64_t w, int64_t p);
int cpu_patches_backward(void *dpixels, const void *dcolumns, int dtype, int64_t n, int64_t c,
                         int64_t h, int64_t w, int64_t p);

/* ---- optim.c ---- */
int cpu_adamw(const struct lc_adamw_part *parts, int count, float lr, float beta1, float beta2,
              float eps, float decay, float c1, float c2, float grad_scale);

/* ---- scratch.c ---- */
/* At least so many bytes of this thread's own, 64-byte aligned, contents undefined; what an earlier call gave is gone.
 * NULL without a message: the system has none. */
void *cpu_scratch(size_t bytes);

/* ---- 16-bit floats ----
 * Kernels compute in f32. Rows of another dtype pass through a buffer of CHUNK floats:
 *   const float *x = cpu_load(buffer, src, dtype, first, n);       no copy when dtype is f32 */
enum { CPU_CHUNK = 1024 };

static inline float cpu_from_bf16(uint16_t h) {
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Round to nearest, ties to even; NaN stays NaN. */
static inline uint16_t cpu_to_bf16(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint32_t rounded = bits + 0x7FFFu + (bits >> 16 & 1);
    return (uint16_t)((bits & 0x7FFFFFFFu) > 0x7F800000u ? bits >> 16 | 0x40 : rounded >> 16);
}

float cpu_from_f16(uint16_t h);
uint16_t cpu_to_f16(float f);

/* n elements of src from index first, as floats: src itself, or buffer filled. */
const float *cpu_load(float *buffer, const void *src, int dtype, int64_t first, int64_t n);
/* where to compute n floats that go to dst: dst itself, or buffer; then cpu_store. */
float *cpu_place(float *buffer, void *dst, int dtype, int64_t first);
void cpu_store(void *dst, int dtype, int64_t first, const float *src,
               int64_t n); /* no-op when in place */

#endif
