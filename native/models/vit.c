/* vit.c - vision transformers: the graph, and the names and settings of CLIP's (Radford et al. 2021).
 *
 *   pixels -> patches (convolution) -> class token in front -> + learned positions -> LayerNorm (CLIP)
 *   block, L times:  x += out(attention(LayerNorm(x)))       bidirectional over one picture's tokens
 *                    x += fc2(act(fc1(LayerNorm(x))))
 *   features: the residual stream after the wanted block, before any last norm; the class token is
 *   dropped unless the select strategy is "full". */
#include "models/vit.h"

#include "base/error.h"
#include "base/memory.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

lc_tensor *(*lc_activation(const char *name))(lc_tensor *x) {
    if (!strcmp(name, "gelu")) return lc_gelu;
    if (!strcmp(name, "quick_gelu")) return lc_quick_gelu;
    if (!strcmp(name, "silu")) return lc_silu;
    lc_fail(LC_EINVAL, "config.json: the activation \"%s\" is not known (gelu, quick_gelu, silu)",
            name);
    return NULL;
}

static int64_t patch_count(const struct lc_vit *v) {
    return (v->size / v->patch) * (v->size / v->patch);
}
int64_t lc_vit_rows(const struct lc_vit *v) { return patch_count(v) + v->keep_class; }

int lc_vit_check_sizes(const struct lc_vit *v, const struct lc_config *c) {
    if (v->width < 1 || v->mlp < 1 || v->layers < 1 || v->heads < 1 || v->patch < 1 ||
        v->size < v->patch || v->width % v->heads || v->size % v->patch)
        return lc_fail(LC_EINVAL,
                       "%s/config.json: vision sizes do not fit: width %" PRId64 ", %" PRId64
                       " heads, image %" PRId64 ", patch %" PRId64,
                       c->folder, v->width, v->heads, v->size, v->patch);
    return 0;
}

/* ---- settings ---------------------------------------------------------------------------------- */

static bool known_shape(const struct lc_params *p, const char *prefix, const char *name, int ndim,
                        int64_t shape[LC_MAX_DIMS]) {
    char full[256];
    snprintf(full, sizeof full, "%s.%s", prefix, name);
    return lc_params_shape(p, LC_VISION, full, shape) == ndim;
}

/* Sizes as the tensors have them; what they do not tell stays. */
static void read_shapes(struct lc_vit *v, const struct lc_params *p, const char *prefix) {
    char norm[64];
    int64_t shape[LC_MAX_DIMS];
    if (known_shape(p, prefix, "embeddings.patch_embedding.weight", 4, shape)) {
        v->width = shape[0];
        v->patch = shape[3];
    }
    if (known_shape(p, prefix, "encoder.layers.0.mlp.fc1.weight", 2, shape)) v->mlp = shape[0];
    if (known_shape(p, prefix, "embeddings.position_embedding.weight", 2, shape) && shape[0] > 1)
        v->size = v->patch * llround(sqrt((double)(shape[0] - 1)));
    for (int64_t i = 0;; i++) {
        snprintf(norm, sizeof norm, "encoder.layers.%" PRId64 ".layer_norm1.weight", i);
        if (!known_shape(p, prefix, norm, 1, shape)) break;
        v->layers = i + 1;
    }
}

/* s: CLIP's vision_config, or NULL: the tensors tell the sizes, and CLIP's heads are 64 wide. */
static int read_sizes(struct lc_vit *v, const struct lc_config *c, const lc_json *s) {
    bool ok = true;
    const char *type = lc_config_text(c, s, "model_type", "clip_vision_model", &ok);
    v->width = lc_config_int(c, s, "hidden_size", v->width, &ok);
    v->mlp = lc_config_int(c, s, "intermediate_size", v->mlp, &ok);
    v->layers = lc_config_layers(c, s, v->layers, &ok);
    v->heads = lc_config_int(c, s, "num_attention_heads", v->width / 64, &ok);
    v->size = lc_config_int(c, s, "image_size", v->size, &ok);
    v->patch = lc_config_int(c, s, "patch_size", v->patch, &ok);
    v->eps = lc_config_positive(c, s, "layer_norm_eps", 1e-5, &ok);
    const char *act = lc_config_text(c, s, "hidden_act", "quick_gelu", &ok);
    if (!ok) return -1;
    if (strcmp(type, "clip_vision_model"))
        return lc_fail(LC_EINVAL,
                       "%s/config.json: the vision tower is a %s; clip_vision_model is expected",
                       c->folder, type);
    v->activation = lc_activation(act);
    return v->activation ? lc_vit_check_sizes(v, c) : -1;
}

/* The settings of a tower that has files of its own stand beside them: CLIP's or its vision model's. */
static int read_sizes_beside(struct lc_vit *v, const struct lc_params *p) {
    char folder[4096], path[4200];
    struct lc_config c;
    const char *weights = lc_params_path(p, LC_VISION), *slash = strrchr(weights, '/');
    size_t n = lc_file_kind(weights) == 2 ? strlen(weights) : slash ? (size_t)(slash - weights) : 0;
    snprintf(folder, sizeof folder, "%.*s", n ? (int)n : 1, n ? weights : ".");
    snprintf(path, sizeof path, "%s/config.json", folder);
    if (lc_file_kind(path) != 1) return read_sizes(v, &(struct lc_config){.folder = folder}, NULL);
    if (lc_config_open(&c, folder) < 0) return -1;
    const lc_json *section = lc_json_get(c.root, "vision_config");
    int done = read_sizes(v, &c, section ? section : c.root);
    lc_config_close(&c);
    return done;
}

/* Hugging Face's keys and LLaVA's own say the same. */
static int read_features(struct lc_vit *v, const struct lc_config *c) {
    bool ok = true;
    const char *key = lc_json_get(c->root, "mm_vision_select_layer") ? "mm_vision_select_layer"
                                                                     : "vision_feature_layer";
    int64_t layer = lc_config_int(c, c->root, key, -2, &ok);
    const char *select = lc_config_text(c, c->root, "mm_vision_select_feature", "patch", &ok);
    select = lc_config_text(c, c->root, "vision_feature_select_strategy", select, &ok);
    if (!ok) return -1;
    /* hidden_states has layers + 1 entries; entry 0 is what enters the first block. */
    v->run_layers = layer < 0 ? v->layers + 1 + layer : layer;
    if (v->run_layers < 0 || v->run_layers > v->layers)
        return lc_fail(LC_EINVAL, "%s/config.json: %s %" PRId64 " of %" PRId64 " layers", c->folder,
                       key, layer, v->layers);
    v->keep_class = !strcmp(select, "full") || !strcmp(select, "cls_patch");
    if (v->keep_class || !strcmp(select, "default") || !strcmp(select, "patch")) return 0;
    return lc_fail(LC_EINVAL,
                   "%s/config.json: \"%s\" is no known choice of vision features (default, full, "
                   "patch, cls_patch)",
                   c->folder, select);
}

static int read_config(struct lc_vit *v, const struct lc_config *c, const struct lc_params *p,
                       const char *prefix) {
    const lc_json *s = lc_json_get(c->root, "vision_config");
    v->width = 1024;
    v->mlp = 4096;
    v->layers = 24;
    v->size = 336;
    v->patch = 14;
    if (!s) read_shapes(v, p, prefix);
    int done =
        s || !lc_params_separate(p, LC_VISION) ? read_sizes(v, c, s) : read_sizes_beside(v, p);
    return done < 0 ? -1 : read_features(v, c);
}

/* ---- parameters --------------------------------------------------------------------------------- */

static void take_block(struct lc_vit_block *b, const struct lc_vit *v, struct lc_params *p,
                       const char *prefix, int64_t i) {
    char name[256];
    struct {
        const char *suffix;
        struct lc_linear_layer *layer;
        int64_t n, k;
    } linear[] = {{"self_attn.q_proj", &b->q, v->width, v->width},
                  {"self_attn.k_proj", &b->k, v->width, v->width},
                  {"self_attn.v_proj", &b->v, v->width, v->width},
                  {"self_attn.out_proj", &b->out, v->width, v->width},
                  {"mlp.fc1", &b->fc1, v->mlp, v->width},
                  {"mlp.fc2", &b->fc2, v->width, v->mlp}};
    for (size_t j = 0; j < sizeof linear / sizeof *linear; j++) {
        snprintf(name, sizeof name, "%s.encoder.layers.%" PRId64 ".%s", prefix, i,
                 linear[j].suffix);
        *linear[j].layer = lc_take_linear(p, LC_VISION, linear[j].n, linear[j].k, true, name);
    }
    snprintf(name, sizeof name, "%s.encoder.layers.%" PRId64 ".layer_norm1", prefix, i);
    b->norm1 = lc_take_norm(p, LC_VISION, v->width, true, v->eps, name);
    snprintf(name, sizeof name, "%s.encoder.layers.%" PRId64 ".layer_norm2", prefix, i);
    b->norm2 = lc_take_norm(p, LC_VISION, v->width, true, v->eps, name);
}

int lc_vit_open(struct lc_vit *v, const struct lc_config *c, struct lc_params *p,
                const char *prefix) {
    char name[256];
    *v = (struct lc_vit){0};
    if (read_config(v, c, p, prefix) < 0) return -1;
    v->blocks = lc_alloc_zero((size_t)v->layers * sizeof *v->blocks);
    if (!v->blocks) return -1;
    v->patches =
        lc_params_take(p, LC_VISION, LC_FAN_IN, 4, (int64_t[]){v->width, 3, v->patch, v->patch},
                       "%s.embeddings.patch_embedding.weight", prefix);
    v->class_token = lc_params_take(p, LC_VISION, LC_NORMAL, 1, &v->width,
                                    "%s.embeddings.class_embedding", prefix);
    v->position =
        lc_params_take(p, LC_VISION, LC_FAN_IN, 2, (int64_t[]){patch_count(v) + 1, v->width},
                       "%s.embeddings.position_embedding.weight", prefix);
    snprintf(name, sizeof name, "%s.pre_layrnorm", prefix); /* misspelt in every published file */
    v->before = lc_take_norm(p, LC_VISION, v->width, true, v->eps, name);
    snprintf(name, sizeof name, "%s.post_layernorm", prefix);
    v->after = lc_take_norm(p, LC_VISION, v->width, true, v->eps, name);
    for (int64_t i = 0; i < v->layers; i++) take_block(&v->blocks[i], v, p, prefix, i);
    return 0;
}

void lc_vit_close(struct lc_vit *v) {
    lc_free(v->blocks);
    lc_tensor_release(v->no_bias);
}

/* ---- forward ----------------------------------------------------------------------------------- */

static lc_tensor *heads_of(lc_tensor *x, int64_t rows, int64_t heads, int64_t d) {
    return lc_view(x, 3, (int64_t[]){rows, heads, d});
}

/* EVA's projection: all heads of queries, keys and values side by side, sliced without copies. */
static bool project_fused(const struct lc_vit *v, const struct lc_vit_block *b, lc_tensor *n,
                          lc_tensor *out[3]) {
    int64_t rows = n ? n->shape[0] : 0, d = v->width / v->heads;
    lc_tensor *bias =
        b->qkv.bias ? b->qkv.bias : lc_cat(3, (lc_tensor *[]){b->q_bias, v->no_bias, b->v_bias}, 0);
    lc_tensor *all = heads_of(lc_linear_bias(n, b->qkv.weight, bias), rows, 3 * v->heads, d);
    for (int i = 0; i < 3; i++) out[i] = lc_slice(all, 1, i * v->heads, v->heads);
    return out[2] != NULL;
}

static bool project(const struct lc_vit *v, const struct lc_vit_block *b, lc_tensor *n,
                    lc_tensor *out[3]) {
    if (b->qkv.weight) return project_fused(v, b, n, out);
    const struct lc_linear_layer *layer[3] = {&b->q, &b->k, &b->v};
    int64_t rows = n ? n->shape[0] : 0;
    for (int i = 0; i < 3; i++)
        out[i] = heads_of(lc_linear_apply(layer[i], n, false), rows, v->heads, v->width / v->heads);
    return out[2] != NULL;
}

static lc_tensor *block_forward(const struct lc_vit *v, const struct lc_vit_block *b, lc_tensor *x,
                                const lc_forest *forest) {
    int64_t rows = lc_forest_rows(forest), d = v->width / v->heads;
    lc_tensor *qkv[3], *n = lc_norm_apply(&b->norm1, x);
    if (!project(v, b, n, qkv)) return NULL;
    lc_tensor *o = lc_attention(qkv[0], qkv[1], qkv[2], forest, 1 / sqrt((double)d));
    o = lc_view(o, 2, (int64_t[]){rows, v->width});
    x = lc_add(x, lc_linear_apply(&b->out, o, false));
    n = lc_norm_apply(&b->norm2, x);
    return lc_add(
        x, lc_linear_apply(&b->fc2, v->activation(lc_linear_apply(&b->fc1, n, false)), false));
}

/* A class token in front of every picture's patches: [N, P, W] -> [N * (1 + P), W], positions added. */
static lc_tensor *embed(const struct lc_vit *v, lc_tensor *pixels) {
    if (!pixels) return NULL;
    int64_t n = pixels->shape[0], tokens = patch_count(v) + 1, width = v->width;
    lc_tensor *first = lc_tensor_full(1, &n, LC_I32, LC_HOST, 0);
    lc_tensor *class_rows = lc_rows(lc_view(v->class_token, 2, (int64_t[]){1, width}), first);
    lc_tensor *patches = lc_patch_embed(pixels, v->patches);
    if (v->patch_bias) patches = lc_add(patches, v->patch_bias);
    lc_tensor *parts[2] = {lc_view(class_rows, 3, (int64_t[]){n, 1, width}), patches};
    lc_tensor *x = lc_add(lc_cat(2, parts, 1), v->position);
    x = lc_view(x, 2, (int64_t[]){n * tokens, width});
    return v->before.weight ? lc_norm_apply(&v->before, x) : x;
}

lc_tensor *lc_vit_forward(const struct lc_vit *v, lc_tensor *pixels) {
    if (!lc_usable("vision", pixels)) return NULL;
    if (pixels->ndim != 4 || pixels->shape[1] != 3 || pixels->shape[2] != v->size ||
        pixels->shape[3] != v->size)
        return lc_fail_null(
            LC_EINVAL, "vision: pixels are %s but the tower takes [N, 3, %" PRId64 ", %" PRId64 "]",
            lc_shape_text(pixels), v->size, v->size);
    int64_t n = pixels->shape[0], tokens = patch_count(v) + 1;
    int32_t *length = lc_alloc(2 * (size_t)(n ? n : 1) * sizeof *length);
    uint8_t *both_ways = lc_alloc((size_t)(n ? n : 1));
    lc_forest *forest = NULL;
    lc_tensor *x = NULL;
    int before = lc_pool();
    if (!length || !both_ways) goto end;
    int32_t *parent = length + n;
    for (int64_t i = 0; i < n; i++) {
        length[i] = (int32_t)tokens;
        parent[i] = -1;
        both_ways[i] = 1;
    }
    forest = lc_forest_new((int)n, parent, length, both_ways);
    if (!forest) goto end;
    pixels = lc_to(pixels, v->patches->storage->device);
    x = embed(v, lc_cast(pixels, v->patches->dtype));
    for (int64_t i = 0; x && i < v->run_layers; i++)
        x = lc_pool_turn(block_forward(v, &v->blocks[i], x, forest));
    x = lc_view(x, 3, (int64_t[]){n, tokens, v->width});
    if (!v->keep_class) x = lc_contiguous(lc_slice(x, 1, 1, tokens - 1));
end:
    x = lc_pool_end(before, x);
    lc_forest_release(forest);
    lc_free(length);
    lc_free(both_ways);
    return x;
}
