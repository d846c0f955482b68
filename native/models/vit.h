/* vit.h - vision transformers: CLIP's and EVA's towers are one graph under two sets of names. */
#ifndef LC_VIT_H
#define LC_VIT_H
#include "models/config.h"
#include "nn/layers.h"

struct lc_vit_block {
    struct lc_norm_layer norm1, norm2;
    struct lc_linear_layer q, k, v; /* CLIP */
    struct lc_linear_layer qkv;     /* EVA: the three as one; no weight: there is none */
    lc_tensor *q_bias, *v_bias;     /* EVA, where qkv has no bias: keys have none */
    struct lc_linear_layer out, fc1, fc2;
};

struct lc_vit {
    int64_t size, patch, width, mlp, layers, heads;
    int64_t run_layers; /* how many blocks the wanted feature layer needs */
    bool keep_class;    /* the class token stays */
    double eps;
    lc_tensor *(*activation)(lc_tensor *x);
    lc_tensor *patches;                 /* [W, 3, p, p] */
    lc_tensor *patch_bias;              /* [W], or NULL */
    lc_tensor *class_token;             /* W elements */
    lc_tensor *position;                /* [1 + (S/p)^2, W], or that with a 1 in front */
    lc_tensor *no_bias;                 /* W zeros, held, where keys have no bias */
    struct lc_norm_layer before, after; /* no weight: there is none. Features come before "after" */
    struct lc_vit_block *blocks;
};

/* CLIP. prefix: "vision_tower.vision_model" and the like */
int lc_vit_open(struct lc_vit *v, const struct lc_config *c, struct lc_params *p,
                const char *prefix);
/* EVA (eva.c), under LAVIS's or Hugging Face's names, whichever the weights have; prefix: with its dot. */
int lc_eva_open(struct lc_vit *v, const struct lc_config *c, struct lc_params *p,
                const char *prefix);
bool lc_eva_ignorable(const char *name);
/* Whether the sizes fit each other; the error names the folder. */
int lc_vit_check_sizes(const struct lc_vit *v, const struct lc_config *c);
void lc_vit_close(struct lc_vit *v);
int64_t lc_vit_rows(const struct lc_vit *v); /* per picture */
lc_tensor *lc_vit_forward(const struct lc_vit *v,
                          lc_tensor *pixels); /* [N, 3, S, S] -> [N, rows, W] */

/* "gelu", "quick_gelu", "silu"; NULL and the reason for another name */
lc_tensor *(*lc_activation(const char *name))(lc_tensor *x);

#endif
