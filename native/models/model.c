/* model.c - opening a folder, and the passes over a batch that everything else is made of. */
#include "models/model.h"

#include "base/error.h"
#include "base/memory.h"
#include "tensor/device.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- opening ---------------------------------------------------------------------------------- */

/* The folder's weights, and files of their own for tower and bridge where they are named. */
static int open_sources(struct lc_params *p, const char *folder, const char *vision,
                        const char *bridge) {
    if (lc_params_source(p, LC_LANGUAGE, folder) < 0) return -1;
    if (vision && lc_params_source(p, LC_VISION, vision) < 0) return -1;
    return bridge ? lc_params_source(p, LC_PROJECTOR, bridge) : 0;
}

struct origin {
    bool from_file;
    const char *vision, *bridge; /* or NULL */
    int quant;
    uint64_t seed;
};

static lc_model *open_model(const char *folder, int dtype, int device, struct origin from) {
    if (dtype != LC_F32 && dtype != LC_BF16 && dtype != LC_F16)
        return lc_fail_null(LC_EINVAL, "model: dtype %s; f32, bf16 or f16 is possible",
                            lc_dtype_name(dtype) ? lc_dtype_name(dtype) : "?");
    if (from.quant < LC_PLAIN || from.quant >= LC_QUANTS)
        return lc_fail_null(LC_EINVAL, "model: there is no kind %d of quantised weights",
                            from.quant);
    lc_model *m = lc_alloc_zero(sizeof *m);
    if (!m) return NULL;
    m->params = (struct lc_params){
        .seed = from.seed, .dtype = dtype, .device = device, .quant = from.quant};
    int recording = lc_grad_mode(0), tag = lc_device_tag(LC_FOR_WEIGHTS), opened = -1;
    lc_scope_outside(1);
    if (lc_config_open(&m->config, folder) < 0) goto end;
    if (from.from_file && open_sources(&m->params, folder, from.vision, from.bridge) < 0) goto end;
    if (lc_compose(m) < 0) goto end;
    opened = lc_params_finish(&m->params, m->ignorable);
end:
    lc_scope_outside(0);
    lc_device_tag(tag);
    lc_grad_mode(recording);
    if (!opened) return m;
    lc_model_free(m);
    return NULL;
}

lc_model *lc_model_open(const char *folder, int dtype, int device) {
    return open_model(folder, dtype, device, (struct origin){.from_file = true});
}

static const char *given(const char *path) { return path && *path ? path : NULL; }

lc_model *lc_model_open_parts(const char *folder, const char *vision, const char *bridge, int dtype,
                              int device, int quant) {
    return open_model(
        folder, dtype, device,
        (struct origin){
            .from_file = true, .vision = given(vision), .bridge = given(bridge), .quant = quant});
}

lc_model *lc_model_init(const char *folder, int dtype, int device, uint64_t seed) {
    return open_model(folder, dtype, device, (struct origin){.seed = seed});
}

void lc_model_free(lc_model *m) {
    if (!m) return;
    lc_vit_close(&m->vision);
    lc_bridge_close(&m->bridge);
    lc_llama_close(&m->language);
    lc_params_free(&m->params);
    lc_config_close(&m->config);
    lc_free(m);
}

/* ---- parameters ----------------------------------------------------------------------------------- */

int lc_model_parameters(const lc_model *m) { return m->params.count; }
const char *lc_model_parameter_name(const lc_model *m, int i) { return m->params.list[i].name; }
const char *lc_model_parameter_part(const lc_model *m, int i) {
    return lc_part_names[m->params.list[i].part];
}
lc_tensor *lc_model_parameter(const lc_model *m, int i) { return m->params.list[i].tensor; }
int lc_model_shortened(const lc_model *m) { return m->params.shortened; }

int lc_model_train(lc_model *m, const char *part, int on) {
    for (int which = 0; which < LC_PARTS; which++) {
        if (strcmp(part, lc_part_names[which])) continue;
        if (on && which == LC_LANGUAGE && m->params.quant != LC_PLAIN)
            return lc_fail(LC_EINVAL, "train: the language model is quantised and stays as it is; "
                                      "train an adapter on it");
        for (int i = 0; i < m->params.count; i++)
            if ((int)m->params.list[i].part == which &&
                lc_tensor_requires_grad(m->params.list[i].tensor, on) < 0)
                return -1;
        return 0;
    }
    return lc_fail(LC_EINVAL,
                   "train: there is no part \"%s\" (vision, projector, language, adapter)", part);
}

int lc_model_lora(lc_model *m, int rank, double alpha, const char *targets, uint64_t seed) {
    int recording = lc_grad_mode(0), tag = lc_device_tag(LC_FOR_ADAPTER);
    lc_scope_outside(1);
    int done =
        lc_llama_adapt(&m->language, &m->params, m->language_prefix, rank, alpha, targets, seed);
    lc_scope_outside(0);
    lc_device_tag(tag);
    lc_grad_mode(recording);
    return done;
}

int lc_model_recompute(lc_model *m, int on) {
    m->recompute = on != 0;
    return 0;
}

const char *lc_model_kind(const lc_model *m) { return m->kind; }
int64_t lc_model_image_rows(const lc_model *m) {
    return m->bridge.kind->rows(&m->bridge, lc_vit_rows(&m->vision));
}
int64_t lc_model_image_size(const lc_model *m) { return m->vision.size; }
int64_t lc_model_max_positions(const lc_model *m) { return m->language.max_positions; }
lc_tensor *lc_model_word_embeddings(lc_model *m) { return m->language.embedding; }

/* A value of config.json by dotted path, as text: "text_config.vocab_size". */
const char *lc_model_info(const lc_model *m, const char *key) {
    static _Thread_local char text[64];
    const lc_json *v = m->config.root;
    char name[128];
    for (const char *at = key; v && *at; at += *at == '.') {
        size_t length = strcspn(at, ".");
        snprintf(name, sizeof name, "%.*s", (int)length, at);
        v = lc_json_type(v) == LC_JSON_OBJECT ? lc_json_get(v, name) : NULL;
        at += length;
    }
    if (!v) return NULL;
    size_t n;
    int64_t whole;
    switch (lc_json_type(v)) {
    case LC_JSON_STRING: return lc_json_string(v, &n);
    case LC_JSON_TRUE: return "true";
    case LC_JSON_FALSE: return "false";
    case LC_JSON_NUMBER:
        if (!lc_json_integer(v, &whole)) snprintf(text, sizeof text, "%" PRId64, whole);
        else snprintf(text, sizeof text, "%.17g", lc_json_number(v));
        return text;
    default: return NULL;
    }
}

/* ---- pictures --------------------------------------------------------------------------------------- */

lc_tensor *lc_model_vision(lc_model *m, lc_tensor *pixels) {
    return lc_vit_forward(&m->vision, pixels);
}

lc_tensor *lc_model_project(lc_model *m, lc_tensor *features) {
    return lc_bridge_forward(&m->bridge, 1, &(struct lc_picture){.features = features});
}

lc_tensor *lc_model_bridge(lc_model *m, lc_tensor *features, const int32_t *text, int count) {
    return lc_bridge_forward(&m->bridge, 1, &(struct lc_picture){features, text, count});
}

int lc_batch_picture(lc_batch *b, const lc_model *m, lc_tensor *features, const int32_t *text,
                     int count) {
    if (!lc_usable("batch picture", features)) return -1;
    int64_t rows = features->ndim == 2 ? m->bridge.kind->rows(&m->bridge, features->shape[0])
                                       : lc_fail(LC_EINVAL,
                                                 "batch picture: features are %s, [rows, width] is "
                                                 "expected",
                                                 lc_shape_text(features));
    return rows < 0 ? -1 : lc_batch_add_picture(b, features, rows, text, count);
}

/* ---- passes over a batch -------------------------------------------------------------------------------- */

int lc_model_check_length(const lc_model *m, const lc_batch *b, const lc_forest *f, int64_t more) {
    for (int i = 0; i < b->count; i++) {
        int64_t end = lc_forest_position(f, i) + b->segments[i].rows + more;
        if (end > m->language.max_positions)
            return lc_fail(LC_EINVAL,
                           "segment %d: its path is %" PRId64
                           " tokens long but the model has %" PRId64 " positions",
                           i + 1, end, m->language.max_positions);
        for (int j = 0; j < b->segments[i].count; j++) {
            int32_t id = b->segments[i].ids[j];
            if (j != b->segments[i].image_at && (id < 0 || id >= m->language.vocabulary))
                return lc_fail(LC_EINVAL,
                               "segment %d: token %d has id %" PRId32
                               " but the vocabulary is %" PRId64,
                               i + 1, j + 1, id, m->language.vocabulary);
        }
    }
    return 0;
}

/* The bridge's rows of all pictures. */
static lc_tensor *picture_rows(const lc_model *m, const lc_batch *b) {
    struct lc_picture *list = lc_alloc((size_t)b->image_count * sizeof *list);
    int64_t rows = 0;
    for (int i = 0; list && i < b->image_count; i++) {
        const struct lc_batch_image *image = &b->images[i];
        list[i] = (struct lc_picture){image->features, image->text, image->text_count};
        rows += image->rows;
    }
    lc_tensor *x = list ? lc_bridge_forward(&m->bridge, b->image_count, list) : NULL;
    lc_free(list);
    if (x && x->shape[0] != rows)
        return lc_fail_null(LC_EINVAL,
                            "batch: its pictures take %" PRId64
                            " rows but the bridge makes %" PRId64
                            "; add them with lc_batch_picture",
                            rows, x->shape[0]);
    return x;
}

lc_tensor *lc_model_embed(const lc_model *m, const lc_batch *b, const lc_forest *f) {
    lc_tensor *ids = lc_batch_ids(b);
    lc_tensor *words = ids ? lc_embedding(m->language.embedding, ids) : NULL;
    if (!words) return NULL;
    lc_tensor *all = words;
    if (b->image_count) {
        lc_tensor *rows = picture_rows(m, b);
        if (!rows) return NULL;
        all = lc_cat(2, (lc_tensor *[]){words, rows}, 0);
    }
    lc_tensor *place = lc_batch_placement(b, f);
    return place ? lc_rows(all, place) : NULL;
}

lc_tensor *lc_model_head(const lc_model *m, lc_tensor *rows) {
    lc_tensor *logits = lc_linear(lc_norm_apply(&m->language.norm, rows), m->language.head);
    return logits && logits->dtype != LC_F32 ? lc_cast(logits, LC_F32) : logits;
}

/* The residual stream over the whole batch, and its forest (the caller's to release). */
static lc_tensor *stream_of(lc_model *m, lc_batch *b, int adapters, lc_forest **forest) {
    *forest = lc_batch_forest(b);
    if (!*forest || lc_model_check_length(m, b, *forest, 0) < 0) return NULL;
    struct lc_llama_pass pass = {.forest = *forest,
                                 .position = lc_forest_positions(*forest, m->params.device),
                                 .adapters = adapters != 0,
                                 .recompute = m->recompute};
    return pass.position ? lc_llama_forward(&m->language, lc_model_embed(m, b, *forest), &pass)
                         : NULL;
}

lc_tensor *lc_model_logits(lc_model *m, lc_batch *b, int adapters) {
    int before = lc_pool();
    lc_forest *forest;
    lc_tensor *x = stream_of(m, b, adapters, &forest);
    lc_tensor *logits = x ? lc_model_head(m, x) : NULL;
    lc_forest_release(forest);
    return lc_pool_end(before, logits);
}

lc_tensor *lc_model_token_logps(lc_model *m, lc_batch *b, int adapters) {
    int before = lc_pool();
    lc_forest *forest;
    lc_tensor *row, *target, *logps = NULL, *x = stream_of(m, b, adapters, &forest);
    if (x && !lc_batch_targets(b, forest, &row, &target)) {
        lc_tensor *hidden = lc_norm_apply(&m->language.norm, lc_rows(x, row));
        int64_t n = lc_tensor_count(row);
        lc_tensor *place = lc_tensor_new(1, &n, LC_I32, LC_HOST);
        if (place) { /* the gathered rows, one after the other */
            for (int64_t i = 0; i < n; i++) ((int32_t *)lc_data(place))[i] = (int32_t)i;
            logps = lc_token_logps(hidden, m->language.head, place, target);
            if (logps && b->wants_log_squares) {
                lc_tensor_release(b->log_squares);
                b->log_squares = lc_token_log_squares(hidden, m->language.head, place);
                logps = lc_tensor_retain(b->log_squares) ? logps : NULL;
            }
        }
    }
    lc_forest_release(forest);
    return lc_pool_end(before, logps);
}
