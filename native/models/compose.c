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

#define MM_PROJECTOR "model.mm_projector.0.weight" /* of LLaVA's own bridge */
static const char ALONE[] = "llama";               /* model_type of a decoder's own folder */

/* ---- what files hold beside the parameters ---------------------------------------------------- */

/* Buffers that older files carry beside the weights. */
static bool buffer(const char *name) {
    return strstr(name, "rotary_emb.inv_freq") || strstr(name, "embeddings.position_ids");
}

static bool beside_eva(const char *name) { return buffer(name) || lc_eva_ignorable(name); }

/* CLIP's file holds the tower of texts, too; LLaVA's may hold a copy of the tower named by --vision. */
static bool beside_clip(const char *name) {
    static const char *const begins[] = {"text_model.", "text_projection.", "visual_projection.",
                                         "logit_scale", "model.vision_tower."};
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        if (!strncmp(name, begins[i], strlen(begins[i]))) return true;
    return buffer(name);
}

/* ---- the table ---------------------------------------------------------------------------------- */

static const struct composition {
    const char *kind;
    const char
        *type; /* model_type of config.json; "llama": the decoder's folder, the rest beside it */
    bool sections; /* config.json has vision_config and text_config */
    /* Tensors that the tower's and the bridge's files hold and that no row above of that type has in
     * both places; NULL: the other one tells. */
    const char *tower_mark, *bridge_mark;
    open_tower *tower;
    const char *tower_prefix;
    open_bridge *bridge;
    const char *bridge_prefix;
    const char *language, *head;
    bool (*ignorable)(const char *name);
} compositions[] = {
    {"llava", "llava", true, "vision_tower.vision_model.embeddings.class_embedding", NULL,
     lc_vit_open, "vision_tower.vision_model", lc_projector_open, "multi_modal_projector",
     "language_model.model", "language_model.lm_head", buffer},
    /* transformers 4.52 and newer */
    {"llava", "llava", true, "model.vision_tower.vision_model.embeddings.class_embedding", NULL,
     lc_vit_open, "model.vision_tower.vision_model", lc_projector_open,
     "model.multi_modal_projector", "model.language_model", "lm_head", buffer},
    {"llava", "llava", true, "model.vision_tower.embeddings.class_embedding", NULL, lc_vit_open,
     "model.vision_tower", lc_projector_open, "model.multi_modal_projector", "model.language_model",
     "lm_head", buffer},
    /* what transformers 5 writes of a model that it made itself */
    {"llava", "llava", true, "vision_tower.embeddings.class_embedding", NULL, lc_vit_open,
     "vision_tower", lc_projector_open, "multi_modal_projector", "language_model.model",
     "language_model.lm_head", buffer},
    /* LLaVA's own folder and CLIP's; or LLaVA's with the tower in it */
    {"llava", "llava", false, "vision_model.embeddings.class_embedding", MM_PROJECTOR, lc_vit_open,
     "vision_model", lc_mm_projector_open, "model.mm_projector", "model", "lm_head", beside_clip},
    {"llava", "llava", false,
     "model.vision_tower.vision_tower.vision_model.embeddings.class_embedding", MM_PROJECTOR,
     lc_vit_open, "model.vision_tower.vision_tower.vision_model", lc_mm_projector_open,
     "model.mm_projector", "model", "lm_head", beside_clip},
    /* LLaMA's folder, CLIP's, and the projector of LLaVA's first stage */
    {"llava", "llama", false, "vision_model.embeddings.class_embedding", MM_PROJECTOR, lc_vit_open,
     "vision_model", lc_mm_projector_open, "model.mm_projector", "model", "lm_head", beside_clip},
    /* LLaMA's folder, EVA's file, and a file of what was trained between them */
    {"minigpt4", "llama", false, NULL, "llama_proj.weight", lc_eva_open, "", lc_join_open,
     "llama_proj", "model", "lm_head", beside_eva},
    {"instructblip", "llama", false, NULL, "llm_proj.weight", lc_eva_open, "", lc_qformer_open,
     "llm_proj", "model", "lm_head", beside_eva},
    {"instructblip", "instructblip", true, NULL, "language_projection.weight", lc_eva_open,
     "vision_model.", lc_qformer_open, "language_projection", "language_model.model",
     "language_model.lm_head", beside_eva},
};
enum { COMPOSITIONS = sizeof compositions / sizeof *compositions };

static bool marked(const struct lc_params *p, enum lc_part part, const char *mark) {
    return !mark || lc_params_has(p, part, mark);
}

/* The first row of the type whose marks are there. If none has them: of a whole model the first, whose
 * names are then reported as missing; NULL where a part is missing that stands in a file of its own. */
static const struct composition *recognise(const char *type, const struct lc_params *p) {
    const struct composition *first = NULL;
    for (int i = 0; i < COMPOSITIONS; i++) {
        const struct composition *row = &compositions[i];
        if (strcmp(row->type, type)) continue;
        if (marked(p, LC_VISION, row->tower_mark) && marked(p, LC_PROJECTOR, row->bridge_mark))
            return row;
        if (!first) first = row;
    }
    return strcmp(type, ALONE) && !lc_params_has(p, LC_PROJECTOR, MM_PROJECTOR) ? first : NULL;
}

static int refuse(const lc_model *m, const char *type) {
    const struct lc_params *p = &m->params;
    if (lc_params_has(p, LC_PROJECTOR, MM_PROJECTOR))
        return lc_fail(LC_EMISSING,
                       "%s: it holds no vision_model.embeddings.class_embedding; LLaVA's tower has "
                       "files of its own: give --vision, the folder of "
                       "openai/clip-vit-large-patch14-336 or what mm_vision_tower in config.json "
                       "names",
                       lc_params_path(p, LC_VISION));
    if (!strcmp(type, ALONE))
        return lc_fail(LC_EMISSING,
                       "%s: it holds neither llama_proj.weight (MiniGPT-4) nor llm_proj.weight "
                       "(InstructBLIP) nor " MM_PROJECTOR " (LLaVA); a language model needs a "
                       "tower (--vision) and a bridge (--bridge) beside it",
                       lc_params_path(p, LC_PROJECTOR));
    return lc_fail(LC_EINVAL,
                   "%s/config.json: model_type is \"%s\"; llava, instructblip or llama is expected",
                   m->config.folder, type);
}

/* Of a model in parts EVA's tower is a file of its own; without it every one of its names would be missing. */
static int check_tower(const lc_model *m, const struct composition *row) {
    const struct lc_params *p = &m->params;
    if (row->sections || row->tower != lc_eva_open || lc_params_separate(p, LC_VISION) ||
        lc_params_has(p, LC_VISION, "cls_token"))
        return 0;
    return lc_fail(LC_EMISSING,
                   "%s: it holds no cls_token; EVA's tower has a file of its own: give --vision, "
                   "eva_vit_g.pth",
                   lc_params_path(p, LC_VISION));
}

static int check_sections(const struct lc_config *c) {
    if (lc_json_get(c->root, "vision_config") && lc_json_get(c->root, "text_config")) return 0;
    return lc_fail(LC_EINVAL, "%s/config.json: vision_config and text_config are expected",
                   c->folder);
}

/* What bitsandbytes and others pack is not read. */
static int refuse_packed(const struct lc_config *c) {
    const lc_json *packed = lc_json_get(c->root, "quantization_config");
    if (!packed || lc_json_type(packed) == LC_JSON_NULL) return 0;
    return lc_fail(LC_EINVAL,
                   "%s/config.json: the weights are stored quantised (quantization_config); give "
                   "the folder that they were made from",
                   c->folder);
}

int lc_compose(lc_model *m) {
    bool ok = true;
    const struct lc_config *c = &m->config;
    if (refuse_packed(c) < 0) return -1;
    const char *type = lc_config_text(c, c->root, "model_type", "", &ok);
    if (!ok) return -1;
    if (!strcmp(type, "llava_llama")) type = "llava"; /* what LLaVA itself writes since 1.2 */
    const struct composition *row = recognise(type, &m->params);
    if (!row) return refuse(m, type);
    if (row->sections && check_sections(c) < 0) return -1;
    if (check_tower(m, row) < 0) return -1;
    m->kind = row->kind;
    m->language_prefix = row->language;
    m->ignorable = row->ignorable;
    if (row->tower(&m->vision, c, &m->params, row->tower_prefix) < 0) return -1;
    if (lc_llama_open(&m->language, c, &m->params, row->language, row->head) < 0) return -1;
    return row->bridge(&m->bridge, c, &m->params, &m->vision, m->language.width,
                       row->bridge_prefix);
}
