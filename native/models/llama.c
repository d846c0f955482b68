/* llama.c - the LLaMA decoder (Touvron et al. 2023), full or grouped heads.
 *
 *   block, L times:  n = RMSNorm(x);  x += o(attention(rope(q(n)), rope(k(n)), v(n)))
 *                    n = RMSNorm(x);  x += down(silu(gate(n)) * up(n))
 *   logits = head(RMSNorm(x))                      no biases anywhere
 *
 * Any of the seven linears may carry an adapter. */
#include "models/llama.h"

#include "base/error.h"
#include "base/memory.h"
#include "nn/cache.h"
#include "nn/recompute.h"
#include "ops/attention.h"
#include "ops/roomy.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- configuration ----------------------------------------------------------------------------- */

/* What would change the mathematics and is not built in is refused by name. */
static int refuse_unknown(const struct lc_config *c, const lc_json *s) {
    bool ok = true;
    /* At the root it is the whole model's, which compose.c has looked at. */
    const char *type = s == c->root ? "llama" : lc_config_text(c, s, "model_type", "llama", &ok);
    const char *act = lc_config_text(c, s, "hidden_act", "silu", &ok);
    bool attention_bias = lc_config_flag(c, s, "attention_bias", false, &ok);
    bool bias = lc_config_flag(c, s, "mlp_bias", false, &ok) || attention_bias;
    if (!ok) return -1;
    if (strcmp(type, "llama"))
        return lc_fail(LC_EINVAL, "%s/config.json: the language model is a %s; llama is expected",
                       c->folder, type);
    if (strcmp(act, "silu"))
        return lc_fail(LC_EINVAL, "%s/config.json: hidden_act \"%s\"; silu is expected", c->folder,
                       act);
    if (bias)
        return lc_fail(LC_EINVAL, "%s/config.json: attention_bias and mlp_bias are not supported",
                       c->folder);
    const lc_json *scaling = lc_json_get(s, "rope_scaling");
    if (scaling && lc_json_type(scaling) != LC_JSON_NULL)
        return lc_fail(LC_EINVAL, "%s/config.json: rope_scaling is not supported; it must be null",
                       c->folder);
    const lc_json *rope = lc_json_get(s, "rope_parameters");
    const char *kind = lc_config_text(c, rope, "rope_type", "default", &ok);
    if (!ok) return -1;
    if (strcmp(kind, "default"))
        return lc_fail(LC_EINVAL, "%s/config.json: rope_type \"%s\" is not supported", c->folder,
                       kind);
    return 0;
}

static int read_config(struct lc_llama *m, const struct lc_config *c) {
    bool ok = true;
    const lc_json *s = lc_json_get(c->root, "text_config");
    if (!s) s = c->root; /* a language model on its own */
    if (refuse_unknown(c, s) < 0) return -1;
    m->width = lc_config_int(c, s, "hidden_size", 4096, &ok);
    m->mlp = lc_config_int(c, s, "intermediate_size", 11008, &ok);
    m->layers = lc_config_layers(c, s, 32, &ok);
    m->heads = lc_config_int(c, s, "num_attention_heads", 32, &ok);
    m->groups = lc_config_int(c, s, "num_key_value_heads", m->heads, &ok);
    m->head_size = lc_config_int(c, s, "head_dim", m->heads > 0 ? m->width / m->heads : 0, &ok);
    m->vocabulary = lc_config_int(c, s, "vocab_size", 32000, &ok);
    m->max_positions = lc_config_int(c, s, "max_position_embeddings", 2048, &ok);
    m->eps = lc_config_positive(c, s, "rms_norm_eps", 1e-6, &ok);
    m->theta = lc_config_number(c, s, "rope_theta", 10000, &ok);
    m->theta =
        lc_config_positive(c, lc_json_get(s, "rope_parameters"), "rope_theta", m->theta, &ok);
    m->tied = lc_config_flag(c, s, "tie_word_embeddings", false, &ok);
    if (!ok) return -1;
    if (m->width < 1 || m->mlp < 1 || m->layers < 1 || m->heads < 1 || m->groups < 1 ||
        m->vocabulary < 1 || m->head_size < 2 || m->head_size % 2 || m->head_size > 256 ||
        m->heads % m->groups)
        return lc_fail(LC_EINVAL,
                       "%s/config.json: language sizes do not fit: width %" PRId64 ", %" PRId64
                       " heads of %" PRId64 ", %" PRId64 " key heads",
                       c->folder, m->width, m->heads, m->head_size, m->groups);
    return 0;
}

/* ---- parameters --------------------------------------------------------------------------------- */

enum { LINEARS = 7, GROUPS = 4 };
struct named_linear {
    const char *group, *name; /* "self_attn", "q_proj" */
    struct lc_linear_layer *layer;
    int64_t n, k;
};

static void linears_of(const struct lc_llama *m, struct lc_llama_block *b,
                       struct named_linear out[LINEARS]) {
    int64_t full = m->heads * m->head_size, kv = m->groups * m->head_size;
    struct named_linear list[LINEARS] = {{"self_attn", "q_proj", &b->q, full, m->width},
                                         {"self_attn", "k_proj", &b->k, kv, m->width},
                                         {"self_attn", "v_proj", &b->v, kv, m->width},
                                         {"self_attn", "o_proj", &b->o, m->width, full},
                                         {"mlp", "gate_proj", &b->gate, m->mlp, m->width},
                                         {"mlp", "up_proj", &b->up, m->mlp, m->width},
                                         {"mlp", "down_proj", &b->down, m->width, m->mlp}};
    memcpy(out, list, sizeof list);
}

int lc_llama_open(struct lc_llama *m, const struct lc_config *c, struct lc_params *p,
                  const char *prefix, const char *head) {
    char name[256];
    *m = (struct lc_llama){0};
    if (read_config(m, c) < 0) return -1;
    m->blocks = lc_alloc_zero((size_t)m->layers * sizeof *m->blocks);
    if (!m->blocks) return -1;
    int64_t table[2] = {m->vocabulary, m->width};
    m->embedding =
        lc_params_take(p, LC_LANGUAGE, LC_NORMAL, 2, table, "%s.embed_tokens.weight", prefix);
    for (int64_t i = 0; i < m->layers; i++) {
        struct lc_llama_block *b = &m->blocks[i];
        struct named_linear list[LINEARS];
        linears_of(m, b, list);
        for (int j = 0; j < LINEARS; j++) {
            snprintf(name, sizeof name, "%s.layers.%" PRId64 ".%s.%s.weight", prefix, i,
                     list[j].group, list[j].name);
            list[j].layer->weight =
                lc_params_take_quantised(p, LC_LANGUAGE, (int64_t[]){list[j].n, list[j].k}, name);
        }
        b->qkv = (struct lc_group){3, {&b->q, &b->k, &b->v}, NULL};
        b->o_alone = (struct lc_group){1, {&b->o}, NULL};
        b->gate_up = (struct lc_group){2, {&b->gate, &b->up}, NULL};
        b->down_alone = (struct lc_group){1, {&b->down}, NULL};
        snprintf(name, sizeof name, "%s.layers.%" PRId64 ".input_layernorm", prefix, i);
        b->attention_norm = lc_take_norm(p, LC_LANGUAGE, m->width, false, m->eps, name);
        snprintf(name, sizeof name, "%s.layers.%" PRId64 ".post_attention_layernorm", prefix, i);
        b->mlp_norm = lc_take_norm(p, LC_LANGUAGE, m->width, false, m->eps, name);
    }
    snprintf(name, sizeof name, "%s.norm", prefix);
    m->norm = lc_take_norm(p, LC_LANGUAGE, m->width, false, m->eps, name);
    snprintf(name, sizeof name, "%s.weight", head);
    bool shared =
        m->tied && (!lc_params_loaded(p, LC_LANGUAGE) || !lc_params_has(p, LC_LANGUAGE, name));
    m->head =
        shared ? m->embedding : lc_params_take(p, LC_LANGUAGE, LC_FAN_IN, 2, table, "%s", name);
    return 0;
}

static void each_group(struct lc_llama_block *b, struct lc_group *list[GROUPS]) {
    struct lc_group *const all[GROUPS] = {&b->qkv, &b->o_alone, &b->gate_up, &b->down_alone};
    memcpy(list, all, sizeof all);
}

void lc_llama_close(struct lc_llama *m) {
    struct lc_group *group[GROUPS];
    for (int64_t i = 0; m->blocks && i < m->layers; i++) {
        each_group(&m->blocks[i], group);
        for (int j = 0; j < GROUPS; j++) lc_group_close(group[j]);
    }
    lc_free(m->blocks);
}

/* Whether a comma-separated list holds a name; *matched counts the list's own names once each. */
static bool listed(const char *list, const char *name) {
    size_t n = strlen(name);
    for (const char *at = list; *at; at += *at == ',') {
        size_t length = strcspn(at, ",");
        if (length == n && !memcmp(at, name, n)) return true;
        at += length;
    }
    return false;
}

static int check_targets(const struct lc_llama *m, const char *targets) {
    struct named_linear list[LINEARS];
    linears_of(m, &m->blocks[0], list);
    char name[64];
    for (const char *at = targets; *at; at += *at == ',') {
        size_t length = strcspn(at, ",");
        snprintf(name, sizeof name, "%.*s", (int)length, at);
        bool known = false;
        for (int j = 0; j < LINEARS; j++) known |= !strcmp(list[j].name, name);
        if (!known)
            return lc_fail(LC_EINVAL,
                           "lora: \"%s\" is not a linear layer of a block (q_proj k_proj v_proj "
                           "o_proj gate_proj up_proj down_proj)",
                           name);
        at += length;
    }
    return *targets ? 0 : lc_fail(LC_EINVAL, "lora: no target layers");
}

int lc_llama_adapt(struct lc_llama *m, struct lc_params *p, const char *prefix, int rank,
                   double alpha, const char *targets, uint64_t seed) {
    char name[256];
    if (rank < 1 || rank > 4096)
        return lc_fail(LC_EINVAL, "lora: rank %d; 1 to 4096 is possible", rank);
    if (check_targets(m, targets) < 0) return -1;
    for (int64_t i = 0; i < m->layers; i++) {
        struct named_linear list[LINEARS];
        linears_of(m, &m->blocks[i], list);
        for (int j = 0; j < LINEARS; j++) {
            if (!listed(targets, list[j].name)) continue;
            if (list[j].layer->a)
                return lc_fail(LC_EINVAL, "lora: the model already has an adapter");
            snprintf(name, sizeof name, "%s.layers.%" PRId64 ".%s.%s", prefix, i, list[j].group,
                     list[j].name);
            if (lc_linear_adapt(list[j].layer, p, name, rank, alpha, seed) < 0) return -1;
        }
        struct lc_group *group[GROUPS];
        each_group(&m->blocks[i], group);
        for (int j = 0; j < GROUPS; j++)
            if (lc_group_settle(group[j]) < 0) return -1;
    }
    return 0;
}

/* ---- forward ---------------------------------------------------------------------------------------- */

/* One block over one pass's rows. A copy that the tape keeps holds its forest and positions. */
struct block_call {
    const struct lc_llama *m;
    int64_t layer;
    struct lc_llama_pass pass;
};

/* n [rows, D], normalised -> [rows, heads * d] */
static lc_tensor *attend(const struct block_call *call, lc_tensor *n) {
    const struct lc_llama *m = call->m;
    const struct lc_llama_pass *pass = &call->pass;
    const struct lc_llama_block *b = &m->blocks[call->layer];
    lc_tensor *qkv = lc_group_apply(&b->qkv, n, pass->adapters), *x[3];
    const double scale = 1 / sqrt((double)m->head_size);
    const int64_t room = lc_group_room(&b->o_alone, pass->adapters);
    if (!pass->cache)
        return lc_packed_attention(
            &(struct lc_packed){qkv, m->heads, m->groups, pass->position, m->theta}, pass->forest,
            scale, room);
    if (lc_packed_split(qkv, m->heads, m->groups, x) < 0) return NULL;
    return lc_cache_attention(pass->cache, (int)call->layer, x[0], x[1], x[2], m->theta, scale,
                              room);
}

/* Normalises rows for a group of linears. */
static lc_tensor *norm_for(const struct lc_group *g, const struct lc_norm_layer *norm, lc_tensor *x,
                           bool on) {
    return lc_rms_norm_roomy(x, norm->weight, norm->eps, lc_group_room(g, on));
}

/* The stream x with what a group makes of h. Where keys are cached no gradient is wanted, and the product adds to the
 * stream itself. */
static lc_tensor *joined(const struct block_call *call, lc_tensor *x, const struct lc_group *g,
                         lc_tensor *h) {
    const bool on = call->pass.adapters;
    return call->pass.cache ? lc_group_onto(g, x, h, on) : lc_add(x, lc_group_apply(g, h, on));
}

static lc_tensor *block_forward(const void *context, lc_tensor *x) {
    const struct block_call *call = context;
    const struct lc_llama_block *b = &call->m->blocks[call->layer];
    bool on = call->pass.adapters;
    lc_tensor *n = norm_for(&b->qkv, &b->attention_norm, x, on);
    x = joined(call, x, &b->o_alone, attend(call, n));
    n = norm_for(&b->gate_up, &b->mlp_norm, x, on);
    lc_tensor *h = lc_group_apply(&b->gate_up, n, on);
    h = lc_swiglu_packed(h, lc_group_room(&b->down_alone, on));
    return joined(call, x, &b->down_alone, h);
}

static void free_call(void *context) {
    struct block_call *call = context;
    lc_forest_release(call->pass.forest);
    lc_tensor_release(call->pass.position);
    lc_free(call);
}

static lc_tensor *block_again(const struct block_call *call, lc_tensor *x) {
    struct block_call *kept = lc_alloc(sizeof *kept);
    if (!kept) return NULL;
    *kept = *call;
    lc_forest_retain(kept->pass.forest);
    lc_tensor_retain(kept->pass.position);
    struct named_linear list[LINEARS];
    linears_of(call->m, &call->m->blocks[call->layer], list);
    lc_tensor *trained = NULL;
    for (int i = 0; i < LINEARS && !trained; i++) {
        const struct lc_linear_layer *l = list[i].layer;
        trained = l->a ? l->a : l->weight->requires_grad ? l->weight : NULL;
    }
    return lc_recompute(block_forward, kept, free_call, x, trained);
}

lc_tensor *lc_llama_forward(const struct lc_llama *m, lc_tensor *x,
                            const struct lc_llama_pass *pass) {
    int before = lc_pool();
    for (int64_t i = 0; x && i < m->layers; i++) {
        struct block_call call = {m, i, *pass};
        x = lc_pool_turn(pass->recompute ? block_again(&call, x) : block_forward(&call, x));
        if (x && lc_poll("forward") < 0) x = NULL;
    }
    return lc_pool_end(before, x);
}
