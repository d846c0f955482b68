/* llama.h - the LLaMA decoder. */
#ifndef LC_LLAMA_H
#define LC_LLAMA_H
#include "models/config.h"
#include "nn/layers.h"

struct lc_cache;

struct lc_llama_block {
    struct lc_norm_layer attention_norm, mlp_norm;
    struct lc_linear_layer q, k, v, o, gate, up, down;
    struct lc_group qkv, o_alone, gate_up, down_alone; /* those that read the same rows */
};

struct lc_llama {
    int64_t width, mlp, layers, heads, groups, head_size, vocabulary, max_positions;
    double eps, theta;
    bool tied;            /* the head is the embedding table */
    lc_tensor *embedding; /* [V, D] */
    lc_tensor *head;      /* [V, D] */
    struct lc_norm_layer norm;
    struct lc_llama_block *blocks;
};

/* What one pass over packed rows works with. */
struct lc_llama_pass {
    lc_forest *forest;      /* who sees whom */
    lc_tensor *position;    /* i32 [rows] */
    struct lc_cache *cache; /* its planned pass, in place of forest and positions; NULL: none */
    bool adapters, recompute;
};

/* prefix: "language_model.model"; head: "language_model.lm_head" */
int lc_llama_open(struct lc_llama *m, const struct lc_config *c, struct lc_params *p,
                  const char *prefix, const char *head);
void lc_llama_close(struct lc_llama *m);
/* targets: "q_proj,v_proj"; names become PREFIX.layers.N.self_attn.q_proj.lora_A.weight */
int lc_llama_adapt(struct lc_llama *m, struct lc_params *p, const char *prefix, int rank,
                   double alpha, const char *targets, uint64_t seed);
/* x [rows, D] -> the residual stream after the last block [rows, D], before the final norm */
lc_tensor *lc_llama_forward(const struct lc_llama *m, lc_tensor *x,
                            const struct lc_llama_pass *pass);

#endif
