/* linears.h - linear layers that read the same rows, side by side: y [..., N1 + N2 + ...] of x [..., K].
 *
 *   y_i = x W_i^T + scale_i (x a_i^T) b_i^T       W_i [N_i, K], a_i f32 [r_i, K], b_i f32 [N_i, r_i]
 *
 * What reads a part of y reads it by its row stride. */
#ifndef LC_LINEARS_H
#define LC_LINEARS_H
#include "tensor/tensor.h"

enum { LC_LINEARS_MOST = 3 };

struct lc_linear_part {
    lc_tensor *weight, *a, *b; /* a and b NULL: no adapter, or it is off */
    double scale;
};

struct lc_border;

/* Arguments are not checked against each other: the caller's layers fit. border: of these weights, or NULL. It takes
 * the room behind x's rows; x that has none is copied first. */
lc_tensor *lc_linears(lc_tensor *x, int count, const struct lc_linear_part *part,
                      struct lc_border *border);
/* The same, added to `to` in place, without a tape: no gradient may be wanted. It returns `to`. */
lc_tensor *lc_linears_onto(lc_tensor *to, lc_tensor *x, int count,
                           const struct lc_linear_part *part, struct lc_border *border);

#endif
