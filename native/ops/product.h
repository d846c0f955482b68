/* product.h - tensors as the matrices of a product. */
#ifndef LC_PRODUCT_H
#define LC_PRODUCT_H
#include "tensor/tensor.h"

/* op(X) [rows, cols], batch times. */
struct lc_matrix {
    void *data;
    int dtype;
    bool transposed; /* stored [cols, rows] */
    int64_t rows, cols, batch;
    int64_t row, step; /* elements from one stored row, and from one matrix, to the next */
    int64_t most;      /* of a right operand: lc_gemm.k_most */
};

/* The last two dims of t (rank 2 or 3), or all of t as rows of its last dim (rank 1 and more). A view
 * that no product can read is copied. -1: no memory. */
int lc_matrix_of(struct lc_matrix *m, const lc_tensor *t);
int lc_matrix_rows(struct lc_matrix *m, const lc_tensor *t);

/* The same storage, read the other way. */
struct lc_matrix lc_matrix_transposed(struct lc_matrix m);

/* Columns [first, first + cols) of a matrix that is not transposed. */
struct lc_matrix lc_matrix_columns(struct lc_matrix m, int64_t first, int64_t cols);

/* y = alpha a b + beta y, y not transposed. */
int lc_product_into(const struct lc_kernels *k, struct lc_matrix y, struct lc_matrix a,
                    struct lc_matrix b, double alpha, double beta);
/* y = x W^T, or x W where it is not transposed, + beta y. A packed W is read as it is where the backend can, else it is
 * expanded for this product alone. */
int lc_product_by_weight(struct lc_matrix y, struct lc_matrix x, lc_tensor *weight, bool transposed,
                         double beta);
/* t itself, or the values of a packed one in that dtype: pending. */
lc_tensor *lc_expanded(lc_tensor *t, int dtype);
/* y = alpha a b + beta y + bias, on the kernels of y's device; y is dense, bias [cols] or NULL. */
int lc_product(lc_tensor *y, struct lc_matrix a, struct lc_matrix b, double alpha, double beta,
               const lc_tensor *bias);

/* A tensor for the gradient of t: f32 for a leaf, which sums it, else t's dtype, with the room that t says. */
lc_tensor *lc_gradient_like(const lc_tensor *t);

/* scale left^T right, the gradient of t, is handed to t when it wants one. */
int lc_product_gradient(lc_tensor *t, struct lc_matrix left, struct lc_matrix right, double scale);

#endif
