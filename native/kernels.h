/* kernels.h - what a backend is: one function pointer per kernel, formula and shapes above each.
 *
 * The CPU row (cpu/table.c) is the specification; another backend fills the same table and is
 * compared with it. Kernels know raw pointers, sizes and dtypes, never tensors. Destination first.
 * Arrays are row-major and dense unless a stride is passed (strides count elements). Sums run in
 * f32 or better whatever the storage. A row's result depends on that row alone: not on the other
 * rows, their number, its place, or the number of threads. Kernels return 0, or -1 with lc_error().
 *
 * Floors 1 to 5 may include this file. */
/* clang-format off */
#ifndef LC_KERNELS_H
#define LC_KERNELS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lucid.h"

/* ---- forest records (built by nn/forest.c and nn/cache.c, shared by the backends) ------------------
 *
 * The packed axis is in depth-first preorder, so a subtree is one contiguous span. The keys a query
 * tile sees are its ranges one after the other, in the order of the path: *path keys*. Row i sees the
 * first lc_tile_seen(i) of them, so no mask exists. A kernel cuts the path into chunks at multiples of
 * a constant, counted along the path: then a row's result depends on its ancestors alone, wherever
 * their rows are stored. */
struct lc_range {          /* key j in [k0, k1) is visible to query i iff q_lo + step * (j - k0) <= i < q_hi */
    int32_t k0, k1, q_lo, q_hi;
    int32_t step;          /* 1 causal: a segment's own keys; 0: ancestors, bidirectional, cross, cached */
};
enum { LC_TILE_ROWS = 64 };
struct lc_query_tile {     /* query rows [q0, q1), at most LC_TILE_ROWS of ONE segment, from its first row on */
    int32_t q0, q1, r0, r1;    /* ranges[r0, r1) in the order of the path; none: these rows see nothing */
};
struct lc_spans {          /* the whole mask of one attention call */
    const struct lc_range *ranges;
    const struct lc_query_tile *tiles;     /* every query row is in one tile */
    const int32_t *tree_first;             /* [trees + 1] first tile of each tree; backward: no key is in two trees */
    int32_t range_count, tile_count, trees;
    int64_t queries, keys;                 /* rows on either axis that are spoken of */
    int64_t longest;                       /* most keys that any row sees */
    uint64_t number;                       /* of these spans in this process, from 1: a backend may keep what it made of them */
};

const struct lc_spans *lc_forest_spans(const lc_forest *f);    /* borrowed; nn/forest.c */

/* How many keys of a range, from its first, query row i sees. */
static inline int32_t lc_range_seen(const struct lc_range *r, int32_t i) {
    if (i < r->q_lo || i >= r->q_hi) return 0;
    int32_t all = r->k1 - r->k0, causal = i - r->q_lo + 1;
    return r->step && causal < all ? causal : all;
}

/* How many of the tile's path keys row i of the tile sees; never falls as i grows. */
static inline int64_t lc_tile_seen(const struct lc_spans *s, const struct lc_query_tile *t, int32_t i) {
    int64_t seen = 0;
    for (int32_t r = t->r0; r < t->r1; r++) seen += lc_range_seen(&s->ranges[r], i);
    return seen;
}

/* ---- packed weights --------------------------------------------------------------------------------------
 *
 * Blocks of consecutive elements of a weight [n, k]; they know no rows, and the last one may be shorter. First the
 * quants, 32 bytes a block, then from a whole cache line on the scales, an f16 a block: two plain streams.
 *
 *   q8_0      32 elements: byte i is q[i] + 128, q from -127 to 127            x = q scale
 *   nf4, fp4  64 elements: byte i is q[i] and, in the upper half, q[i + 32]    x = f16(level[q] scale) */
enum { LC_PACKED_BLOCK = 32 }; /* bytes of quants */
static inline int64_t lc_packed_each(enum lc_quant quant) { return quant == LC_Q8_0 ? 32 : 64; } /* elements of a block */
static inline int64_t lc_packed_blocks(enum lc_quant quant, int64_t count) {
    return (count + lc_packed_each(quant) - 1) / lc_packed_each(quant);
}
/* Where the scales of so many elements begin, and what all of it takes. */
static inline int64_t lc_packed_scales(enum lc_quant quant, int64_t count) {
    return (lc_packed_blocks(quant, count) * LC_PACKED_BLOCK + 63) / 64 * 64;
}
static inline int64_t lc_packed_bytes(enum lc_quant quant, int64_t count) {
    return lc_packed_scales(quant, count) + 2 * lc_packed_blocks(quant, count);
}
static inline enum lc_quant lc_quant_of(int dtype) { return dtype > LC_U8 ? (enum lc_quant)(dtype - LC_U8) : LC_PLAIN; }

/* ---- matrix product ---------------------------------------------------------------------------------- */
struct lc_gemm {           /* C[b] = alpha * op(A[b]) op(B[b]) + beta * C[b] + bias, for b < batch */
    int64_t m, n, k, batch;
    const void *a, *b;
    void *c;
    const void *bias;      /* [n] in bias_dtype, or NULL */
    int a_dtype, b_dtype, c_dtype, bias_dtype;     /* f32, bf16, f16 */
    bool a_transposed;     /* A is stored [k, m], else [m, k] */
    bool b_transposed;     /* B is stored [n, k], else [k, n]; linear layers: true */
    int64_t a_row, b_row, c_row;                   /* elements from one stored row to the next */
    int64_t a_batch, b_batch, c_batch;             /* ... and from one matrix to the next */
    float alpha, beta;
    int64_t k_most;        /* not 0: every row has the bits that it would have with zeros behind its k terms, up to so many */
};

enum lc_unary { LC_SCALE, LC_SHIFT, LC_POW, LC_EXP, LC_LOG, LC_SQRT, LC_ABS, LC_RELU, LC_CLAMP, LC_TANH,
                LC_SIGMOID, LC_LOG_SIGMOID, LC_GELU, LC_QUICK_GELU, LC_SILU };
enum lc_binary { LC_ADD, LC_SUB, LC_MUL, LC_DIV };

struct lc_block {          /* to[i, j] = scale * from[i, j]: dense f32 [rows, cols] into rows that lie to_row apart */
    void *to;
    const float *from;
    int64_t rows, cols, to_row;
    float scale;
};
enum { LC_BLOCKS_MOST = 8 };   /* of one call */

struct lc_adamw_part {     /* one parameter of an AdamW step; m, v and gradient are f32 */
    void *parameter;
    int dtype;
    float *master;         /* of a 16-bit parameter, which is rounded from it; NULL: the parameter is f32 */
    float *m, *v;
    const float *gradient;
    int64_t count;
};

struct lc_kernels {
    const char *name;      /* "cpu" */
    int fast_dtype;        /* what it multiplies fastest: LC_BF16 or LC_F32 */
    bool bordered;         /* it wants adapters around their weights: one product with longer rows in place of two (ops/border.h) */

    /* ---- memory; the CPU row is malloc and memcpy ---- */
    void *(*alloc)(size_t bytes);
    void (*free)(void *p, size_t bytes);
    int (*upload)(void *dst, const void *src, size_t bytes);       /* host -> backend */
    int (*download)(void *dst, const void *src, size_t bytes);     /* backend -> host */

    /* ---- movement ---- */
    /* dst[i] = value, count elements */
    int (*fill)(void *dst, int dtype, int64_t count, double value);
    /* dst[i] = src[i], any pair of dtypes */
    int (*convert)(void *dst, int dst_dtype, const void *src, int src_dtype, int64_t count);
    /* strided gather to a dense array: dst is dense row-major of shape[ndim]; elements of any size */
    int (*gather)(void *dst, const void *src, int dtype, int ndim, const int64_t *shape, const int64_t *stride);
    /* the other way: dst strided, src dense */
    int (*scatter)(void *dst, const void *src, int dtype, int ndim, const int64_t *shape, const int64_t *stride);
    /* at most LC_BLOCKS_MOST blocks, rounded to dtype */
    int (*put_blocks)(const struct lc_block *block, int count, int dtype);
    /* normal (or uniform on [0, 1)) numbers: Philox(seed, stream, i / 4) */
    int (*randn)(void *dst, int dtype, int64_t count, uint64_t seed, uint64_t stream);
    int (*rand)(void *dst, int dtype, int64_t count, uint64_t seed, uint64_t stream);

    /* ---- elementwise ---- */
    /* y = f(x); p and q are the op's two numbers (factor, offset, exponent, low and high) */
    int (*unary)(void *y, const void *x, int dtype, int64_t count, enum lc_unary op, double p, double q);
    /* dx = f'(x) dy */
    int (*unary_backward)(void *dx, const void *dy, const void *x, int dtype, int64_t count, enum lc_unary op, double p, double q);
    /* y = f(a, b), a [outer, inner], b [inner] repeated over outer (outer = 1: the same shape) */
    int (*binary)(void *y, const void *a, const void *b, int dtype, int64_t outer, int64_t inner, enum lc_binary op);
    /* da and db [outer, inner] (either may be NULL); b [inner] repeats as in binary, its gradient is not summed */
    int (*binary_backward)(void *da, void *db, const void *dy, const void *a, const void *b, int dtype, int64_t outer, int64_t inner, enum lc_binary op);
    /* y = silu(gate) up, [rows, width]: rows of gate and up lie x_row apart, those of y y_row */
    int (*swiglu)(void *y, const void *gate, const void *up, int dtype, int64_t rows, int64_t width, int64_t y_row, int64_t x_row);
    /* dgate and dup, rows dx_row apart; dy is dense */
    int (*swiglu_backward)(void *dgate, void *dup, const void *dy, const void *gate, const void *up, int dtype, int64_t rows, int64_t width,
                           int64_t dx_row, int64_t x_row);
    /* y += x, any pair of float dtypes; added in f32 */
    int (*accumulate)(void *y, int y_dtype, const void *x, int x_dtype, int64_t count);

    /* ---- matrix product ---- */
    int (*gemm)(const struct lc_gemm *g);
    /* the same with a packed weight, dense, b_dtype being its dtype: with the bits that gemm has where b is expanded to a_dtype;
     * 1: nothing is done, expand it. NULL: it has to be expanded always */
    int (*gemm_packed)(const struct lc_gemm *g);

    /* ---- norms: x [rows, width], weight and bias [width] in x's dtype; f32 statistics ---- */
    /* y = weight * x / sqrt(mean(x^2) + eps), its rows y_row apart; rstd [rows] f32 is kept */
    int (*rms_norm)(void *y, float *rstd, const void *x, const void *weight, int dtype, int64_t rows, int64_t width, int64_t y_row, float eps);
    /* dx + more, rows dx_row and more_row apart (more may be NULL), and dweight f32 [width] (either may be NULL) */
    int (*rms_norm_backward)(void *dx, float *dweight, const void *dy, const void *x, const void *weight, const float *rstd, const void *more,
                             int dtype, int64_t rows, int64_t width, int64_t dx_row, int64_t more_row);
    /* y = weight * (x - mean) / sqrt(var + eps) + bias; mean and rstd [rows] f32 are kept */
    int (*layer_norm)(void *y, float *mean, float *rstd, const void *x, const void *weight, const void *bias, int dtype, int64_t rows, int64_t width, float eps);
    int (*layer_norm_backward)(void *dx, float *dweight, float *dbias, const void *dy, const void *x, const void *weight, const float *mean, const float *rstd, int dtype, int64_t rows, int64_t width);

    /* ---- softmax over rows; y in x's dtype ---- */
    int (*softmax)(void *y, const void *x, int dtype, int64_t rows, int64_t width, bool log);
    /* dx from the output y: softmax y (dy - sum dy y); log: dy - exp(y) sum dy */
    int (*softmax_backward)(void *dx, const void *dy, const void *y, int dtype, int64_t rows, int64_t width, bool log);
    /* logits f32 [rows, width], target [rows] (or < 0: skip, 0): logp[i] = logits[i, target] - logsumexp; lse f32 [rows] is kept */
    int (*pick_logp)(float *logp, float *lse, const float *logits, const int32_t *target, int64_t rows, int64_t width);
    /* dlogits[i, :] = g[i] * (1[target] - exp(logits[i, :] - lse[i])), zeros where target < 0; g NULL: 1; f32 may be in place */
    int (*pick_logp_backward)(void *dlogits, int dtype, const float *logits, const float *g, const float *lse, const int32_t *target, int64_t rows, int64_t width);
    /* index of the first largest of each row */
    int (*argmax)(int32_t *y, const void *x, int dtype, int64_t rows, int64_t width);

    /* ---- packed weights ---- */
    /* count elements; -1 where a number fits no block */
    int (*pack)(void *packed, const void *x, int x_dtype, int64_t count, enum lc_quant quant);
    /* y [rows, cols], rows y_row apart, in any float dtype */
    int (*expand)(void *y, int y_dtype, int64_t rows, int64_t cols, int64_t y_row, const void *packed, enum lc_quant quant);

    /* ---- reductions ---- */
    /* x [outer, middle, inner] -> y f32 [outer, inner], sums over middle in a fixed order, times scale */
    int (*sum)(float *y, const void *x, int dtype, int64_t outer, int64_t middle, int64_t inner, float scale);

    /* ---- rows ---- */
    /* y[i, :] = x[index[i], :], elements of any dtype; indices are already checked */
    int (*take_rows)(void *y, const void *x, int dtype, const int32_t *index, int64_t count, int64_t width);
    /* y[index[i], :] = x[i, :], rows of x x_row apart; indices are already checked and all different */
    int (*put_rows)(void *y, const void *x, int dtype, const int32_t *index, int64_t count, int64_t width, int64_t x_row);
    /* dx[index[i], :] += scale[i] * dy[i, :], in the order of i; dx f32 [rows, width]; scale NULL: 1 */
    int (*add_rows)(float *dx, const void *dy, int dtype, const float *scale, const int32_t *index, int64_t count, int64_t width, int64_t rows);

    /* ---- rope: x [rows, heads, d]; halves rotated: pairs (c, c + d/2), angle = position * theta^(-2c/d) ---- */
    /* rows y_row and x_row apart; y may be x; inverse: the other direction (the backward) */
    int (*rope)(void *y, const void *x, int dtype, const int32_t *position, int64_t rows, int64_t heads, int64_t d, int64_t y_row, int64_t x_row,
                double theta, bool inverse);

    /* a pass over cached keys: q is turned in place; k [rows, groups, d], turned, (rows of q, k and v q_row, k_row and v_row apart) and v become row slot[i] of keys and values,
     * whose rows are slot_row apart (slot < 0: of neither), and k is then used up; slots are all different */
    int (*rope_append)(void *q, void *keys, void *values, void *k, const void *v, int dtype, const int32_t *position,
                       const int32_t *slot, int64_t rows, int64_t heads, int64_t groups, int64_t d, int64_t q_row, int64_t k_row,
                       int64_t v_row, int64_t slot_row, double theta);

    /* ---- patches: pixels [n, c, h, w] -> columns [n * (h/p) * (w/p), c * p * p] in the weight's order ---- */
    int (*patches)(void *columns, const void *pixels, int dtype, int64_t n, int64_t c, int64_t h, int64_t w, int64_t p);
    int (*patches_backward)(void *dpixels, const void *dcolumns, int dtype, int64_t n, int64_t c, int64_t h, int64_t w, int64_t p);

    /* ---- forest attention: q and o [queries, heads, d], k and v [keys, groups, d], each with a row stride ---- */
    /* o = softmax(q k^T * scale over the visible keys) v; lse f32 [heads, queries] is kept (-inf, and o = 0, where nothing is seen) */
    int (*attention)(void *o, float *lse, const void *q, const void *k, const void *v, int dtype, const struct lc_spans *spans,
                     int64_t heads, int64_t groups, int64_t d, int64_t q_row, int64_t k_row, int64_t v_row, int64_t o_row, float scale);
    /* dq [queries, heads, d], rows dq_row apart, dk and dv [spans->keys, groups, d], rows dk_row apart, all written (zeros where nothing
     * is seen); dout is dense */
    int (*attention_backward)(void *dq, void *dk, void *dv, const void *dout, const void *o, const float *lse, const void *q, const void *k,
                              const void *v, int dtype, const struct lc_spans *spans, int64_t heads, int64_t groups, int64_t d,
                              int64_t q_row, int64_t k_row, int64_t v_row, int64_t o_row, int64_t dq_row, int64_t dk_row, float scale);

    /* ---- optimizer ---- */
    /* AdamW, decoupled decay (Loshchilov and Hutter 2019), bias-corrected by c1 = 1 - beta1^t and c2 = 1 - beta2^t */
    int (*adamw)(const struct lc_adamw_part *parts, int count, float lr, float beta1, float beta2, float eps, float decay, float c1, float c2, float grad_scale);
    /* sum of squares of all gradients, fixed order, in double; of the parts only gradient and count are read */
    int (*square_sum)(double *sum, const struct lc_adamw_part *parts, int count);
};

extern const struct lc_kernels lc_cpu_kernels;

#endif
