/* matmul.c - y = a b, for a [M, K] and b [K, N], or [B, M, K] and [B, K, N]. Views are read in place. */
#include "base/error.h"
#include "ops/autograd.h"
#include "ops/product.h"
#include "tensor/device.h"

/* da = dy b^T, db = a^T dy */
static int matmul_backward(const struct lc_rule *r, lc_tensor *dy) {
    struct lc_matrix a, b, d;
    if (lc_matrix_of(&a, r->in[0]) < 0 || lc_matrix_of(&b, r->in[1]) < 0 ||
        lc_matrix_of(&d, dy) < 0)
        return -1;
    if (lc_wants(r->in[0])) {
        lc_tensor *da = lc_gradient_like(r->in[0]);
        if (!da || lc_product(da, d, lc_matrix_transposed(b), 1, 0, NULL) < 0 ||
            lc_grad_add(r->in[0], da) < 0)
            return -1;
    }
    if (lc_wants(r->in[1])) {
        lc_tensor *db = lc_gradient_like(r->in[1]);
        if (!db || lc_product(db, lc_matrix_transposed(a), d, 1, 0, NULL) < 0 ||
            lc_grad_add(r->in[1], db) < 0)
            return -1;
    }
    return 0;
}

static int check(const lc_tensor *a, const lc_tensor *b) {
    const int rank = a->ndim;
    if (rank != b->ndim || rank < 2 || rank > 3)
        return lc_fail(LC_EINVAL,
                       "matmul: a is %s and b %s; both need 2 dims, or both 3 (a batch first)",
                       lc_shape_text(a), lc_shape_text(b));
    if (!lc_is_float(a) || a->dtype != b->dtype)
        return lc_fail(LC_EINVAL, "matmul: a is %s and b %s; cast them to one float dtype",
                       lc_shape_text(a), lc_shape_text(b));
    if (a->shape[rank - 1] != b->shape[rank - 2])
        return lc_fail(LC_EINVAL, "matmul: inner dimensions differ: a is %s, b is %s",
                       lc_shape_text(a), lc_shape_text(b));
    if (rank == 3 && a->shape[0] != b->shape[0])
        return lc_fail(LC_EINVAL, "matmul: batches differ: a is %s, b is %s", lc_shape_text(a),
                       lc_shape_text(b));
    return 0;
}

lc_tensor *lc_matmul(lc_tensor *a, lc_tensor *b) {
    if (!lc_usable("matmul", a) || !lc_usable("matmul", b) || check(a, b) < 0 ||
        !lc_together("matmul", a, b))
        return NULL;
    int64_t shape[3];
    for (int i = 0; i < a->ndim; i++) shape[i] = a->shape[i];
    shape[a->ndim - 1] = b->shape[a->ndim - 1];
    int before = lc_pool();
    struct lc_matrix x, w;
    lc_tensor *y = lc_tensor_make(a, a->dtype, a->ndim, shape);
    if (y &&
        (lc_matrix_of(&x, a) < 0 || lc_matrix_of(&w, b) < 0 || lc_product(y, x, w, 1, 0, NULL) < 0))
        y = NULL;
    y = lc_pool_end(before, y);
    return lc_record(
        y, &(struct lc_rule){.name = "matmul", .backward = matmul_backward, .in = {a, b}});
}
