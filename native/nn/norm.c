/* norm.c - RMSNorm and LayerNorm layers. */
#include "nn/layers.h"

lc_tensor *lc_norm_apply(const struct lc_norm_layer *n, lc_tensor *x) {
    return n->bias ? lc_layer_norm(x, n->weight, n->bias, n->eps)
                   : lc_rms_norm(x, n->weight, n->eps);
}

struct lc_norm_layer lc_take_norm(struct lc_params *p, enum lc_part part, int64_t width,
                                  bool has_bias, double eps, const char *name) {
    struct lc_norm_layer n = {.eps = eps};
    n.weight = lc_params_take(p, part, LC_ONES, 1, &width, "%s.weight", name);
    if (has_bias) n.bias = lc_params_take(p, part, LC_ZEROS, 1, &width, "%s.bias", name);
    return n;
}
