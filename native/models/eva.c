/* eva.c - the names and settings of EVA ViT-g/14 (Fang et al. 2022), the tower of BLIP-2, MiniGPT-4 and
 * InstructBLIP. The graph is vit.c's, with these differences from CLIP: one matrix for queries, keys and
 * values, whose keys have no bias; a bias after the patch convolution; no norm before the first block;
 * exact GELU; the last block's residual stream is the output, class token included. */
#include "models/vit.h"

#include "base/error.h"
#include "base/memory.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* The file of EVA's own authors has a 40th block and a head; what uses the tower stops before them. */
enum { EVA_LAYERS = 39 };

/* Names after a prefix. */
static const struct layout {
    const char *class_token, *position, *patches, *blocks;
    const char *norm1, *norm2, *qkv, *q_bias, *v_bias, *out;
    bool whole_bias; /* one bias for all three, the keys' third of it zero when it was converted */
} hugging_face = {"embeddings.class_embedding",
                  "embeddings.position_embedding",
                  "embeddings.patch_embedding",
                  "encoder.layers",
                  "layer_norm1",
                  "layer_norm2",
                  "self_attn.qkv",
                  "self_attn.q_bias",
                  "self_attn.v_bias",
                  "self_attn.projection",
                  true},
  lavis = {"cls_token", "pos_embed",   "patch_embed.proj", "blocks",    "norm1", "norm2",
           "attn.qkv",  "attn.q_bias", "attn.v_bias",      "attn.proj", false};

struct names {
    const struct layout *l;
    const char *prefix; /* with its dot, or "" */
    char text[256];     /* the last one made */
};

static const char *named(struct names *n, const char *name) {
    snprintf(n->text, sizeof n->text, "%s%s", n->prefix, name);
    return n->text;
}

static const char *in_block(struct names *n, int64_t i, const char *name) {
    snprintf(n->text, sizeof n->text, "%s%s.%" PRId64 ".%s", n->prefix, n->l->blocks, i, name);
    return n->text;
}

static bool known_shape(const struct lc_params *p, const char *name, const char *end, int ndim,
                        int64_t shape[LC_MAX_DIMS]) {
    char full[300];
    snprintf(full, sizeof full, "%s%s", name, end);
    return lc_params_shape(p, LC_VISION, full, shape) == ndim;
}

/* Sizes as the tensors have them; what they do not tell stays. */
static void read_shapes(struct lc_vit *v, struct names *n, const struct lc_params *p) {
    int64_t shape[LC_MAX_DIMS];
    if (known_shape(p, named(n, n->l->patches), ".weight", 4, shape)) {
        v->width = shape[0];
        v->patch = shape[3];
    }
    if (known_shape(p, in_block(n, 0, "mlp.fc1"), ".weight", 2, shape)) v->mlp = shape[0];
    if (known_shape(p, named(n, n->l->position), "", 3, shape) && shape[1] > 1)
        v->size = v->patch * llround(sqrt((double)(shape[1] - 1)));
    for (int64_t i = 0; i < EVA_LAYERS; i++) {
        if (!known_shape(p, in_block(n, i, n->l->norm1), ".weight", 1, shape)) break;
        v->layers = i + 1;
    }
}

/* vision_config decides where there is one; the published tower's sizes are the last resort. */
static int read_config(struct lc_vit *v, const struct lc_config *c, struct names *n,
                       const struct lc_params *p) {
    bool ok = true;
    const lc_json *s = lc_json_get(c->root, "vision_config");
    v->width = 1408;
    v->mlp = 6144;
    v->layers = EVA_LAYERS;
    v->size = 224;
    v->patch = 14;
    read_shapes(v, n, p);
    const char *type = lc_config_text(c, s, "model_type", "instructblip_vision_model", &ok);
    v->width = lc_config_int(c, s, "hidden_size", v->width, &ok);
    v->mlp = lc_config_int(c, s, "intermediate_size", v->mlp, &ok);
    v->layers = lc_config_layers(c, s, v->layers, &ok);
    v->heads = lc_config_int(c, s, "num_attention_heads", 16, &ok);
    v->size = lc_config_int(c, s, "image_size", v->size, &ok);
    v->patch = lc_config_int(c, s, "patch_size", v->patch, &ok);
    v->eps = lc_config_positive(c, s, "layer_norm_eps", 1e-6, &ok);
    const char *act = lc_config_text(c, s, "hidden_act", "gelu", &ok);
    bool bias = lc_config_flag(c, s, "qkv_bias", true, &ok);
    if (!ok) return -1;
    if (strcmp(type, "instructblip_vision_model"))
        return lc_fail(LC_EINVAL,
                       "%s/config.json: the vision tower is a %s; instructblip_vision_model is "
                       "expected",
                       c->folder, type);
    if (!bias)
        return lc_fail(LC_EINVAL, "%s/config.json: qkv_bias false is not supported", c->folder);
    v->run_layers = v->layers;
    v->keep_class = true;
    v->activation = lc_activation(act);
    return v->activation ? lc_vit_check_sizes(v, c) : -1;
}

static void take_block(struct lc_vit *v, struct names *n, struct lc_params *p, int64_t i) {
    const struct layout *l = n->l;
    struct lc_vit_block *b = &v->blocks[i];
    struct {
        const char *suffix;
        struct lc_linear_layer *layer;
        int64_t n, k;
    } linear[] = {{l->qkv, &b->qkv, 3 * v->width, v->width},
                  {l->out, &b->out, v->width, v->width},
                  {"mlp.fc1", &b->fc1, v->mlp, v->width},
                  {"mlp.fc2", &b->fc2, v->width, v->mlp}};
    bool whole = l->whole_bias;
    if (lc_params_loaded(p, LC_VISION))
        whole = whole && !lc_params_has(p, LC_VISION, in_block(n, i, l->q_bias));
    for (size_t j = 0; j < sizeof linear / sizeof *linear; j++)
        *linear[j].layer = lc_take_linear(p, LC_VISION, linear[j].n, linear[j].k, j || whole,
                                          in_block(n, i, linear[j].suffix));
    if (!whole) {
        b->q_bias =
            lc_params_take(p, LC_VISION, LC_ZEROS, 1, &v->width, "%s", in_block(n, i, l->q_bias));
        b->v_bias =
            lc_params_take(p, LC_VISION, LC_ZEROS, 1, &v->width, "%s", in_block(n, i, l->v_bias));
    }
    b->norm1 = lc_take_norm(p, LC_VISION, v->width, true, v->eps, in_block(n, i, l->norm1));
    b->norm2 = lc_take_norm(p, LC_VISION, v->width, true, v->eps, in_block(n, i, l->norm2));
}

int lc_eva_open(struct lc_vit *v, const struct lc_config *c, struct lc_params *p,
                const char *prefix) {
    struct names n = {&hugging_face, prefix, ""};
    *v = (struct lc_vit){0};
    if (!lc_params_has(p, LC_VISION, named(&n, n.l->class_token))) n.l = &lavis;
    if (read_config(v, c, &n, p) < 0) return -1;
    v->blocks = lc_alloc_zero((size_t)v->layers * sizeof *v->blocks);
    v->no_bias = lc_tensor_full(1, &v->width, p->dtype, p->device, 0);
    if (v->no_bias) lc_tensor_retain(v->no_bias);
    if (!v->blocks || !v->no_bias) return -1;
    int64_t grid = v->size / v->patch, w = v->width;
    v->patches = lc_params_take(p, LC_VISION, LC_FAN_IN, 4, (int64_t[]){w, 3, v->patch, v->patch},
                                "%s.weight", named(&n, n.l->patches));
    v->patch_bias =
        lc_params_take(p, LC_VISION, LC_ZEROS, 1, &w, "%s.bias", named(&n, n.l->patches));
    v->class_token = lc_params_take(p, LC_VISION, LC_NORMAL, 3, (int64_t[]){1, 1, w}, "%s",
                                    named(&n, n.l->class_token));
    v->position = lc_params_take(p, LC_VISION, LC_FAN_IN, 3, (int64_t[]){1, grid * grid + 1, w},
                                 "%s", named(&n, n.l->position));
    for (int64_t i = 0; i < v->layers; i++) take_block(v, &n, p, i);
    return 0;
}

bool lc_eva_ignorable(const char *name) {
    static const char *const heads[] = {"head.", "norm.", "fc_norm."};
    int64_t block;
    if (sscanf(name, "blocks.%" SCNd64 ".", &block) == 1) return block >= EVA_LAYERS;
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (!strncmp(name, heads[i], strlen(heads[i]))) return true;
    return false;
}
