/* projector.c - LLaVA-1.5's bridge: two linear layers with exact GELU between, row by row. */
#include "models/bridge.h"
#include "models/vit.h"

#include "base/error.h"

#include <stdio.h>
#include <string.h>

static int64_t rows(const struct lc_bridge *b, int64_t features) {
    (void)b;
    return features;
}

static lc_tensor *forward(const struct lc_bridge *b, lc_tensor *features, int n,
                          const struct lc_picture *pictures) {
    (void)n, (void)pictures;
    return lc_linear_apply(&b->out, b->activation(lc_linear_apply(&b->first, features, false)),
                           false);
}

static const struct lc_bridge_kind projector = {"projector", rows, forward};

static void take(struct lc_bridge *b, struct lc_params *p, const struct lc_vit *tower, int64_t out,
                 bool bias, const char *prefix, const char *first, const char *last) {
    char name[256];
    b->kind = &projector;
    b->in = tower->width;
    b->dtype = p->dtype;
    b->device = p->device;
    snprintf(name, sizeof name, "%s.%s", prefix, first);
    b->first = lc_take_linear(p, LC_PROJECTOR, out, b->in, bias, name);
    snprintf(name, sizeof name, "%s.%s", prefix, last);
    b->out = lc_take_linear(p, LC_PROJECTOR, out, out, bias, name);
}

int lc_projector_open(struct lc_bridge *b, const struct lc_config *c, struct lc_params *p,
                      const struct lc_vit *tower, int64_t out, const char *prefix) {
    bool ok = true;
    const char *act = lc_config_text(c, c->root, "projector_hidden_act", "gelu", &ok);
    bool bias = lc_config_flag(c, c->root, "multimodal_projector_bias", true, &ok);
    *b = (struct lc_bridge){0};
    if (!ok || !(b->activation = lc_activation(act))) return -1;
    take(b, p, tower, out, bias, prefix, "linear_1", "linear_2");
    return 0;
}

int lc_mm_projector_open(struct lc_bridge *b, const struct lc_config *c, struct lc_params *p,
                         const struct lc_vit *tower, int64_t out, const char *prefix) {
    static const char wanted[] = "mlp2x_gelu"; /* LLaMA's own folder names none */
    bool ok = true;
    const char *type = lc_config_text(c, c->root, "mm_projector_type", wanted, &ok);
    bool marks = lc_config_flag(c, c->root, "mm_use_im_start_end", false, &ok);
    *b = (struct lc_bridge){.activation = lc_gelu};
    if (!ok) return -1;
    if (strcmp(type, wanted))
        return lc_fail(LC_EINVAL, "%s/config.json: mm_projector_type \"%s\"; %s is expected",
                       c->folder, type, wanted);
    if (marks)
        return lc_fail(LC_EINVAL, "%s/config.json: mm_use_im_start_end is not supported",
                       c->folder);
    take(b, p, tower, out, true, prefix, "0", "2");
    return 0;
}
