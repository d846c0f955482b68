/* projector.c - LLaVA-1.5's bridge: two linear layers with exact GELU between, row by row. */
#include "models/bridge.h"
#include "models/vit.h"

#include <stdio.h>

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

int lc_projector_open(struct lc_bridge *b, const struct lc_config *c, struct lc_params *p,
                      const struct lc_vit *tower, int64_t out, const char *prefix) {
    char name[256];
    bool ok = true;
    const char *act = lc_config_text(c, c->root, "projector_hidden_act", "gelu", &ok);
    bool bias = lc_config_flag(c, c->root, "multimodal_projector_bias", true, &ok);
    *b = (struct lc_bridge){.kind = &projector, .in = tower->width, .dtype = p->dtype};
    if (!ok || !(b->activation = lc_activation(act))) return -1;
    snprintf(name, sizeof name, "%s.linear_1", prefix);
    b->first = lc_take_linear(p, LC_PROJECTOR, out, b->in, bias, name);
    snprintf(name, sizeof name, "%s.linear_2", prefix);
    b->out = lc_take_linear(p, LC_PROJECTOR, out, out, bias, name);
    return 0;
}
