/* model.h - a vision-language model: a tower, a bridge and a decoder, and the names of their weights. */
#ifndef LC_MODEL_H
#define LC_MODEL_H
#include "models/batch.h"
#include "models/bridge.h"
#include "models/llama.h"
#include "models/vit.h"

struct lc_model {
    struct lc_config config;
    struct lc_params params;
    const char *kind; /* "llava", "minigpt4" ... */
    struct lc_vit vision;
    struct lc_bridge bridge;
    struct lc_llama language;
    const char *language_prefix; /* of the decoder's tensor names; adapters are named after it */
    bool (*ignorable)(const char *name); /* what its files may hold beside the parameters */
    bool recompute;
};

/* compose.c: finds out which model this is, reads config.json's parts and takes all weights. */
int lc_compose(lc_model *m);

/* Input rows of a batch, packed: word embeddings with the pictures' projected rows in their places. */
lc_tensor *lc_model_embed(const lc_model *m, const lc_batch *b, const lc_forest *f);
/* Logits f32 [n, V] of the given rows [n, D] of the residual stream. */
lc_tensor *lc_model_head(const lc_model *m, lc_tensor *rows);
/* Refuses a forest that is deeper than the model's positions. */
int lc_model_check_length(const lc_model *m, const lc_batch *b, const lc_forest *f, int64_t more);

#endif
