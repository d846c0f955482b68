/* product.c - tensors as the matrices of a product. */
#include "ops/product.h"

#include "base/error.h"
#include "ops/autograd.h"

/* Whether rows of `cols` elements that lie `row` apart, with `step` from one element to the next, are
 * stored as a kernel reads them. */
static bool readable(int64_t rows, int64_t cols, int64_t row, int64_t step) {
    return (step == 1 || cols <= 1) && (row >= cols || rows <= 1);
}

static lc_tensor *dense_copy(const lc_tensor *t) {
    lc_tensor *copy = lc_tensor_like(t);
    return copy && !lc_tensor_copy(copy, t) ? copy : NULL;
}

int lc_matrix_of(struct lc_matrix *m, const lc_tensor *t) {
    const int r = t->ndim - 2, c = t->ndim - 1;
    const int64_t rows = t->shape[r], cols = t->shape[c];
    bool plain = readable(rows, cols, t->stride[r], t->stride[c]);
    if (!plain && !readable(cols, rows, t->stride[c], t->stride[r])) {
        t = dense_copy(t);
        if (!t) return -1;
        plain = true;
    }
    *m = (struct lc_matrix){.data = lc_data(t),
                            .dtype = t->dtype,
                            .transposed = !plain,
                            .rows = rows,
                            .cols = cols,
                            .batch = t->ndim == 3 ? t->shape[0] : 1,
                            .row = plain ? t->stride[r] : t->stride[c],
                            .step = t->ndim == 3 ? t->stride[0] : 0};
    return 0;
}

int lc_matrix_rows(struct lc_matrix *m, const lc_tensor *t) {
    if (t->ndim == 2) return lc_matrix_of(m, t);
    if (!lc_tensor_dense(t)) t = dense_copy(t);
    if (!t) return -1;
    int64_t cols = lc_tensor_width(t);
    *m = (struct lc_matrix){.data = lc_data(t),
                            .dtype = t->dtype,
                            .rows = lc_tensor_rows(t),
                            .cols = cols,
                            .batch = 1,
                            .row = cols};
    return 0;
}

struct lc_matrix lc_matrix_transposed(struct lc_matrix m) {
    int64_t rows = m.rows;
    m.rows = m.cols;
    m.cols = rows;
    m.transposed = !m.transposed;
    return m;
}

struct lc_matrix lc_matrix_columns(struct lc_matrix m, int64_t first, int64_t cols) {
    lc_assert(!m.transposed);
    m.data = (char *)m.data + (size_t)first * lc_dtype_bytes(m.dtype);
    m.cols = cols;
    return m;
}

static struct lc_gemm gemm_of(struct lc_matrix y, struct lc_matrix a, struct lc_matrix b,
                              double alpha, double beta) {
    return (struct lc_gemm){.m = a.rows,
                            .n = b.cols,
                            .k = a.cols,
                            .batch = a.batch,
                            .a = a.data,
                            .b = b.data,
                            .c = y.data,
                            .bias_dtype = LC_F32,
                            .a_dtype = a.dtype,
                            .b_dtype = b.dtype,
                            .c_dtype = y.dtype,
                            .a_transposed = a.transposed,
                            .b_transposed = b.transposed,
                            .a_row = a.row,
                            .b_row = b.row,
                            .c_row = y.row,
                            .a_batch = a.step,
                            .b_batch = b.step,
                            .c_batch = y.step,
                            .alpha = (float)alpha,
                            .beta = (float)beta,
                            .k_most = b.most};
}

int lc_product_into(const struct lc_kernels *k, struct lc_matrix y, struct lc_matrix a,
                    struct lc_matrix b, double alpha, double beta) {
    const struct lc_gemm g = gemm_of(y, a, b, alpha, beta);
    return k->gemm(&g);
}

lc_tensor *lc_expanded(lc_tensor *t, int dtype) {
    return lc_is_packed(t) ? lc_expand(t, dtype) : t;
}

static struct lc_matrix turned(struct lc_matrix m, bool transposed) {
    return transposed ? lc_matrix_transposed(m) : m;
}

/* 1: the backend has no product for it. */
static int product_by_packed(struct lc_matrix y, struct lc_matrix x, const lc_tensor *weight,
                             bool transposed, double beta) {
    const struct lc_kernels *k = lc_kernels_of(weight);
    struct lc_matrix w;
    if (!k->gemm_packed) return 1;
    if (lc_matrix_of(&w, weight) < 0) return -1;
    const struct lc_gemm g = gemm_of(y, x, turned(w, transposed), 1, beta);
    return k->gemm_packed(&g);
}

int lc_product_by_weight(struct lc_matrix y, struct lc_matrix x, lc_tensor *weight, bool transposed,
                         double beta) {
    struct lc_matrix w;
    int before = lc_pool(),
        done = lc_is_packed(weight) ? product_by_packed(y, x, weight, transposed, beta) : 1;
    if (done == 1) {
        lc_tensor *whole = lc_expanded(weight, x.dtype);
        done = whole && !lc_matrix_of(&w, whole)
                   ? lc_product_into(lc_kernels_of(weight), y, x, turned(w, transposed), 1, beta)
                   : -1;
    }
    lc_pool_end(before, NULL);
    return done;
}

int lc_product(lc_tensor *y, struct lc_matrix a, struct lc_matrix b, double alpha, double beta,
               const lc_tensor *bias) {
    const lc_tensor *dense = bias && !lc_tensor_dense(bias) ? dense_copy(bias) : bias;
    if (bias && !dense) return -1;
    struct lc_gemm g = gemm_of(
        (struct lc_matrix){
            .data = lc_data(y), .dtype = y->dtype, .row = b.cols, .step = a.rows * b.cols},
        a, b, alpha, beta);
    if (dense) {
        g.bias = lc_data(dense);
        g.bias_dtype = dense->dtype;
    }
    return lc_kernels_of(y)->gemm(&g);
}

int lc_product_gradient(lc_tensor *t, struct lc_matrix left, struct lc_matrix right, double scale) {
    if (!lc_wants(t)) return 0;
    lc_tensor *dt = lc_gradient_like(t);
    if (!dt || lc_product(dt, lc_matrix_transposed(left), right, scale, 0, NULL) < 0) return -1;
    return lc_grad_add(t, dt);
}

lc_tensor *lc_gradient_like(const lc_tensor *t) {
    if (!t->node) return lc_tensor_make(t, LC_F32, t->ndim, t->shape);
    return lc_tensor_roomy(t, t->dtype, t->ndim, t->shape, t->grad_room);
}
