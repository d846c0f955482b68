/* compose.c - which models there are: a tower, a bridge and a decoder, and how published weights name
 * them. A row more is a model more. */
#include "models/model.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

typedef int open_tower(struct lc_vit *v, const struct lc_config *c, struct lc_params *p,
                       const char *prefix);
typedef int open_bridge(struct lc_bridge *b, const struct lc_config *c, struct lc_params *p,
                        const struct lc_vit *tower, int64_t out, const char *prefix);

static const char ALONE[] = "llama"; /* model_type of a decoder's own folder */

static const struct composition {
    const char *kind;
    const char
        *type; /* model_type of config.json; "llama": the decoder's folder, the rest beside it */
    enum lc_part part; /* this part's file holds ... */
    const char *mark;  /* ... this tensor, which no row above of that type has */
    open_tower *tower;
    const char *tower_prefix;
    open_bridge *bridge;
    const char *bridge_prefix;
    const char *language, *head;
} compositions[] = {
    {"llava", "llava", LC_VISION, "vision_tower.vision_model.embeddings.class_embedding",
     lc_vit_open, "vision_tower.vision_model", lc_projector_open, "multi_modal_projector",
     "language_model.model", "language_model.lm_head"},
    /* transformers 4.52 and newer */
    {"llava", "llava", LC_VISION, "model.vision_tower.vision_model.embeddings.class_embedding",
     lc_vit_open, "model.vision_tower.vision_model", lc_projector_open,
     "model.multi_modal_projector", "model.language_model", "lm_head"},
    {"llava", "llava", LC_VISION, "model.vision_tower.embeddings.class_embedding", lc_vit_open,
     "model.vision_tower", lc_projector_open, "model.multi_modal_projector", "model.language_model",
     "lm_head"},
    /* LLaMA's folder, EVA's file, and a file of what was trained between them */
    {"minigpt4", "llama", LC_PROJECTOR, "llama_proj.weight", lc_eva_open, "", lc_join_open,
     "llama_proj", "model", "lm_head"},
    {"instructblip", "llama", LC_PROJECTOR, "llm_proj.weight", lc_eva_open, "", lc_qformer_open,
     "llm_proj", "model", "lm_head"},
    {"instructblip", "instructblip", LC_PROJECTOR, "language_projection.weight", lc_eva_open,
     "vision_model.", lc_qformer_open, "language_projection", "language_model.model",
     "language_model.lm_head"},
};
enum { COMPOSITIONS = sizeof compositions / sizeof *compositions };

/* The first row of the type whose mark is there. If none has it: of a whole model the first, whose names
 * are then reported as missing; of a language model that stands alone NULL. */
static const struct composition *recognise(const char *type, const struct lc_params *p) {
    const struct composition *first = NULL;
    for (int i = 0; i < COMPOSITIONS; i++) {
        const struct composition *row = &compositions[i];
        if (strcmp(row->type, type)) continue;
        if (lc_params_has(p, row->part, row->mark)) return row;
        if (!first) first = row;
    }
    return strcmp(type, ALONE) ? first : NULL;
}

/* Buffers that older files carry beside the weights. */
static bool buffer(const char *name) {
    return strstr(name, "rotary_emb.inv_freq") || strstr(name, "embeddings.position_ids");
}

static bool beside_eva(const char *name) { return buffer(name) || lc_eva_ignorable(name); }

static int refuse(const lc_model *m, const char *type) {
    if (!strcmp(type, ALONE))
        return lc_fail(LC_EMISSING,
                       "%s: it holds neither llama_proj.weight (MiniGPT-4) nor llm_proj.weight "
                       "(InstructBLIP); a language model needs a tower (--vision) and a bridge "
                       "(--bridge) beside it",
                       lc_params_path(&m->params, LC_PROJECTOR));
    return lc_fail(LC_EINVAL,
                   "%s/config.json: model_type is \"%s\"; llava, instructblip or llama is expected",
                   m->config.folder, type);
}

static int check_config(const struct lc_config *c, const char *type) {
    if (strcmp(type, ALONE) &&
        (!lc_json_get(c->root, "vision_config") || !lc_json_get(c->root, "text_config")))
        return lc_fail(LC_EINVAL, "%s/config.json: vision_config and text_config are expected",
                       c->folder);
    return 0;
}

int lc_compose(lc_model *m) {
    bool ok = true;
    const struct lc_config *c = &m->config;
    const char *type = lc_config_text(c, c->root, "model_type", "", &ok);
    if (!ok) return -1;
    const struct composition *row = recognise(type, &m->params);
    if (!row) return refuse(m, type);
    if (check_config(c, type) < 0) return -1;
    m->kind = row->kind;
    m->language_prefix = row->language;
    m->ignorable = row->tower == lc_eva_open ? beside_eva : buffer;
    if (row->tower(&m->vision, c, &m->params, row->tower_prefix) < 0) return -1;
    if (lc_llama_open(&m->language, c, &m->params, row->language, row->head) < 0) return -1;
    return row->bridge(&m->bridge, c, &m->params, &m->vision, m->language.width,
                       row->bridge_prefix);
}
