/* bridge.h - from the rows of a vision tower to token rows of the language model. Three kinds:
 * LLaVA's two linear layers (projector.c), MiniGPT-4's joined rows (join.c) and the Q-Former of
 * InstructBLIP (qformer.c), which reads the question, too. */
#ifndef LC_BRIDGE_H
#define LC_BRIDGE_H
#include "models/config.h"
#include "models/qformer.h"
#include "nn/layers.h"

struct lc_vit;
struct lc_bridge;

/* What a bridge is given of one picture. */
struct lc_picture {
    lc_tensor *features; /* [rows, W] of the tower */
    const int32_t *text; /* the question, in the bridge's own vocabulary */
    int32_t text_count;
};

struct lc_bridge_kind {
    const char *name;
    /* Token rows that a picture with so many rows of features becomes; -1: it cannot. */
    int64_t (*rows)(const struct lc_bridge *b, int64_t features);
    /* features: those of all pictures, one after the other -> [rows of all pictures, D] */
    lc_tensor *(*forward)(const struct lc_bridge *b, lc_tensor *features, int n,
                          const struct lc_picture *pictures);
};

struct lc_bridge {
    const struct lc_bridge_kind *kind;
    int64_t in, tower_rows; /* width and rows of the tower's features */
    int dtype, device;
    struct lc_norm_layer norm;         /* of the tower's rows; no weight: there is none */
    lc_tensor *identity[2];            /* held: ones and zeros, where the norm has no weights */
    struct lc_linear_layer first, out; /* out: the last layer, into the language model */
    lc_tensor *(*activation)(lc_tensor *x);
    struct lc_qformer qformer;
};

/* Each takes its weights; out: the language model's width; prefix: of the last layers' names. */
int lc_projector_open(struct lc_bridge *b, const struct lc_config *c, struct lc_params *p,
                      const struct lc_vit *tower, int64_t out, const char *prefix);
/* The same under LLaVA's own names: PREFIX.0 and PREFIX.2. */
int lc_mm_projector_open(struct lc_bridge *b, const struct lc_config *c, struct lc_params *p,
                         const struct lc_vit *tower, int64_t out, const char *prefix);
int lc_join_open(struct lc_bridge *b, const struct lc_config *c, struct lc_params *p,
                 const struct lc_vit *tower, int64_t out, const char *prefix);
int lc_qformer_open(struct lc_bridge *b, const struct lc_config *c, struct lc_params *p,
                    const struct lc_vit *tower, int64_t out, const char *prefix);
void lc_bridge_close(struct lc_bridge *b);
/* 0 where a picture has as many rows of features as the tower makes, else -1 and the reason. */
int lc_bridge_tower_rows(const struct lc_bridge *b, int64_t features);

/* [rows of all pictures, D], pictures one after the other */
lc_tensor *lc_bridge_forward(const struct lc_bridge *b, int n, const struct lc_picture *pictures);

#endif
