/* model.h - a vision-language model: a tower, a bridge and a decoder, and the names of their weights. */
#ifndef LC_MODEL_H
#define LC_MODEL_H
#include "models/batch.h"
#include "models/llama.h"
#include "models/projector.h"
#include "models/vit.h"

struct lc_model {
    struct lc_config config;
    struct lc_params params;
    struct lc_vit vision;
    struct lc_projector projector;
    struct lc_llama language;
    const char *language_prefix; /* of the decoder's tensor names; adapters are named after it */
    bool recompute;
};

/* llava.c: reads config.json's parts and takes all weights, in either of the layouts that carry them. */
int lc_llava_open(lc_model *m);
bool lc_llava_ignorable(const char *name);

/* Input rows of a batch, packed: word embeddings with the pictures' projected rows in their places. */
lc_tensor *lc_model_embed(const lc_model *m, const lc_batch *b, const lc_forest *f);
/* Logits f32 [n, V] of the given rows [n, D] of the residual stream. */
lc_tensor *lc_model_head(const lc_model *m, lc_tensor *rows);
/* Refuses a forest that is deeper than the model's positions. */
int lc_model_check_length(const lc_model *m, const lc_batch *b, const lc_forest *f, int64_t more);

#endif
