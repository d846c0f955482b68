/* product.c - tensors as the matrices of a product. */
#include "ops/product.h"

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

int lc_product(lc_tensor *y, struct lc_matrix a, struct lc_matrix b, double alpha, double beta,
               const lc_tensor *bias) {
    lc_tensor *dense = bias && !lc_tensor_dense(bias) ? dense_copy(bias) : NULL;
    if (bias && !lc_tensor_dense(bias) && !dense) return -1;
    if (dense) bias = dense;
    struct lc_gemm g = {.m = a.rows,
                        .n = b.cols,
                        .k = a.cols,
                        .batch = a.batch,
                        .a = a.data,
                        .b = b.data,
                        .c = lc_data(y),
                        .bias = bias ? lc_data(bias) : NULL,
                        .a_dtype = a.dtype,
                        .b_dtype = b.dtype,
                        .c_dtype = y->dtype,
                        .bias_dtype = bias ? bias->dtype : LC_F32,
                        .a_transposed = a.transposed,
                        .b_transposed = b.transposed,
                        .a_row = a.row,
                        .b_row = b.row,
                        .c_row = b.cols,
                        .a_batch = a.step,
                        .b_batch = b.step,
                        .c_batch = a.rows * b.cols,
                        .alpha = (float)alpha,
                        .beta = (float)beta};
    return lc_kernels_of(y)->gemm(&g);
}

lc_tensor *lc_gradient_like(const lc_tensor *t) {
    return lc_tensor_make(t, t->node ? t->dtype : LC_F32, t->ndim, t->shape);
}
