/* layers.h - the layers that every network here is made of. Parameters are borrowed from lc_params. */
#ifndef LC_LAYERS_H
#define LC_LAYERS_H
#include "nn/param.h"
#include "ops/linears.h"

/* y = x W^T + b, plus scale * (x A^T) B^T while the adapter is on. */
struct lc_linear_layer {
    lc_tensor *weight; /* [N, K] */
    lc_tensor *bias;   /* [N], or NULL: there is none */
    lc_tensor *a, *b;  /* f32 [r, K] and [N, r], or NULL: no adapter */
    double scale;
};
lc_tensor *lc_linear_apply(const struct lc_linear_layer *l, lc_tensor *x, bool adapter);
/* Attaches a new adapter of that name; rank 0 removes nothing and is an error of ours. */
int lc_linear_adapt(struct lc_linear_layer *l, struct lc_params *p, const char *name, int rank,
                    double alpha, uint64_t seed);

/* Layers that read the same rows, none with a bias: their outputs side by side, [rows, N1 + N2 + ...]. */
struct lc_group {
    int count;
    struct lc_linear_layer *layer[LC_LINEARS_MOST];
    struct lc_border *border; /* NULL: the weights lie apart */
};
lc_tensor *lc_group_apply(const struct lc_group *g, lc_tensor *x, bool adapter);
/* The same, added to `to` in place: see lc_linears_onto. */
lc_tensor *lc_group_onto(const struct lc_group *g, lc_tensor *to, lc_tensor *x, bool adapter);
/* What the rows that it reads should have behind them: see lc_tensor_roomy. */
int64_t lc_group_room(const struct lc_group *g, bool adapter);
/* Once the layers have their adapters: weights and adapters go where the backend wants them. */
int lc_group_settle(struct lc_group *g);
void lc_group_close(struct lc_group *g);

struct lc_norm_layer {
    lc_tensor *weight, *bias; /* [D]; no bias: RMSNorm */
    double eps;
};
lc_tensor *lc_norm_apply(const struct lc_norm_layer *n, lc_tensor *x);

/* Takes NAME.weight [n, k] and, where has_bias, NAME.bias [n]. */
struct lc_linear_layer lc_take_linear(struct lc_params *p, enum lc_part part, int64_t n, int64_t k,
                                      bool has_bias, const char *name);
struct lc_norm_layer lc_take_norm(struct lc_params *p, enum lc_part part, int64_t width,
                                  bool has_bias, double eps, const char *name);

#endif
