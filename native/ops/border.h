/* border.h - frozen weights with their adapters around them, so that an adapter costs no pass over activations.
 *
 *              K       R
 *         +---------+------+
 *       N |    W    | s B  |    W    weights of linears that read the same rows, one below the other
 *         +---------+------+    s B  of each its own rows and columns, zeros beside
 *       R |    A    |            A    one below the other
 *         +---------+
 *
 *   adapter on    U = X A^T into the room behind X's rows,   Y = [X, U] [W, s B]^T
 *   off           Y = X W^T, with the same bits as long as B is zero
 *   backward      V = dY (s B) into the room behind dY's,    dX = [dY, V] [W; A],  dA = V^T X,  dB = s dY^T U
 *
 * A backend says that it wants this (lc_kernels.bordered). R is the sum of the ranks, filled up to whole packs of 16
 * bytes. The weights' handles become views of their corner, so that whoever reads or writes them notices nothing.
 * Packed weights stay where they are: they are expanded into a corner for each call. */
#ifndef LC_BORDER_H
#define LC_BORDER_H
#include "ops/linears.h"

struct lc_border {
    /* [N + R, K + R] in the weights' dtype, outside of all scopes; NULL: they are packed */
    lc_tensor *whole;
    int64_t n, k, r;
    /* what the adapters had seen of changes when the borders were filled, and one more */
    uint64_t filled;
};

/* Moves the parts' weights into a border, if they are not packed. *border is NULL, and nothing is done, where the
 * backend wants none, no part has an adapter, or a weight is trained or of another dtype. -1: no memory. */
int lc_border_make(struct lc_border **border, int count, const struct lc_linear_part *part);
void lc_border_free(struct lc_border *b);

/* Whether the weights are still there and x's rows can be multiplied with them. */
bool lc_border_serves(const struct lc_border *b, const lc_tensor *x, int count,
                      const struct lc_linear_part *part);
/* *now is b with its whole there, and the adapters around the weights where they are on. What packed weights are
 * expanded into in that dtype is pending. */
int lc_border_open(struct lc_border *now, struct lc_border *b, int dtype, int count,
                   const struct lc_linear_part *part, bool on);
/* The same for a way back: whole is that of the way forward, NULL where it was not b's own. */
int lc_border_open_again(struct lc_border *now, lc_tensor *whole, int dtype, int count,
                         const struct lc_linear_part *part);

#endif
