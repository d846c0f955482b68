/* llava.c - LLaVA-1.5 (Liu et al. 2023): CLIP tower -> two-layer MLP -> LLaMA.
 *
 *   pixels -> tower, features of one of its layers -> projector -> rows that stand for the <image> token
 *
 * A Hugging Face folder carries the weights under one of two sets of names; which one is seen from
 * the projector's. */
#include "models/model.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

static const struct layout {
    const char *vision, *projector, *language, *head;
} layouts[] = {
    {"vision_tower.vision_model", "multi_modal_projector", "language_model.model",
     "language_model.lm_head"},
    /* transformers 4.52 and newer */
    {"model.vision_tower.vision_model", "model.multi_modal_projector", "model.language_model",
     "lm_head"},
    {"model.vision_tower", "model.multi_modal_projector", "model.language_model", "lm_head"},
};

static const struct layout *recognise(const struct lc_params *p) {
    char name[256];
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++) {
        const struct layout *l = &layouts[i];
        snprintf(name, sizeof name, "%s.embeddings.class_embedding", l->vision);
        if (lc_params_has(p, name)) return l;
    }
    return &layouts[0]; /* its names are then reported as missing */
}

/* Buffers that older files carry beside the weights. */
bool lc_llava_ignorable(const char *name) {
    return strstr(name, "rotary_emb.inv_freq") || strstr(name, "embeddings.position_ids");
}

static int check_config(const struct lc_config *c) {
    bool ok = true;
    const char *type = lc_config_text(c, c->root, "model_type", "", &ok);
    if (!ok) return -1;
    if (strcmp(type, "llava"))
        return lc_fail(LC_EINVAL, "%s/config.json: model_type is \"%s\"; \"llava\" is expected",
                       c->folder, type);
    if (!lc_json_get(c->root, "vision_config") || !lc_json_get(c->root, "text_config"))
        return lc_fail(LC_EINVAL, "%s/config.json: vision_config and text_config are expected",
                       c->folder);
    return 0;
}

int lc_llava_open(lc_model *m) {
    if (check_config(&m->config) < 0) return -1;
    const struct layout *l = recognise(&m->params);
    m->language_prefix = l->language;
    if (lc_vit_open(&m->vision, &m->config, &m->params, l->vision) < 0) return -1;
    if (lc_llama_open(&m->language, &m->config, &m->params, l->language, l->head) < 0) return -1;
    return lc_projector_open(&m->projector, &m->config, &m->params, m->vision.width,
                             m->language.width, l->projector);
}
