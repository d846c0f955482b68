/* projector.h - LLaVA-1.5's bridge: from the tower's width to the language model's. */
#ifndef LC_PROJECTOR_H
#define LC_PROJECTOR_H
#include "models/config.h"
#include "nn/layers.h"

struct lc_projector {
    struct lc_linear_layer first, second;
    lc_tensor *(*activation)(lc_tensor *x);
};

/* prefix: "multi_modal_projector" and the like */
int lc_projector_open(struct lc_projector *b, const struct lc_config *c, struct lc_params *p,
                      int64_t in, int64_t out, const char *prefix);
lc_tensor *lc_projector_forward(const struct lc_projector *b,
                                lc_tensor *features); /* [rows, W] -> [rows, D] */

#endif
