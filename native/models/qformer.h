/* qformer.h - the parameters of a Q-Former. */
#ifndef LC_QFORMER_H
#define LC_QFORMER_H
#include "nn/layers.h"

struct lc_qformer_attention {
    struct lc_linear_layer q, k, v, out; /* cross-attention: no weights where there is none */
    struct lc_norm_layer norm;
};

struct lc_qformer_mlp {
    struct lc_linear_layer up, down;
    struct lc_norm_layer norm;
};

struct lc_qformer_block {
    struct lc_qformer_attention self, cross;
    struct lc_qformer_mlp text, query;
};

struct lc_qformer {
    int64_t width, mlp, layers, heads, vocabulary, positions, queries;
    int64_t frequency; /* every so many blocks look at the picture, the first one included */
    double eps;
    lc_tensor *words, *places; /* [V, W], [P, W] */
    lc_tensor *query;          /* [1, Q, W] */
    struct lc_norm_layer norm; /* of the embeddings */
    struct lc_qformer_block *blocks;
};

void lc_qformer_close(struct lc_qformer *f);

#endif
