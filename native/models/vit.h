/* vit.h - the vision tower of CLIP. */
#ifndef LC_VIT_H
#define LC_VIT_H
#include "models/config.h"
#include "nn/layers.h"

struct lc_vit_block {
    struct lc_norm_layer norm1, norm2;
    struct lc_linear_layer q, k, v, out, fc1, fc2;
};

struct lc_vit {
    int64_t size, patch, width, mlp, layers, heads;
    int64_t run_layers; /* how many blocks the wanted feature layer needs */
    bool keep_class;    /* "full": the class token stays */
    double eps;
    lc_tensor *(*activation)(lc_tensor *x);
    lc_tensor *patches;                 /* [W, 3, p, p] */
    lc_tensor *class_token;             /* [W] */
    lc_tensor *position;                /* [1 + (S/p)^2, W] */
    struct lc_norm_layer before, after; /* after is not used: features are taken before it */
    struct lc_vit_block *blocks;
};

/* prefix: "vision_tower.vision_model" and the like */
int lc_vit_open(struct lc_vit *v, const struct lc_config *c, struct lc_params *p,
                const char *prefix);
void lc_vit_close(struct lc_vit *v);
int64_t lc_vit_rows(const struct lc_vit *v); /* per picture */
lc_tensor *lc_vit_forward(const struct lc_vit *v,
                          lc_tensor *pixels); /* [N, 3, S, S] -> [N, rows, W] */

/* "gelu", "quick_gelu", "silu"; NULL and the reason for another name */
lc_tensor *(*lc_activation(const char *name))(lc_tensor *x);

#endif
