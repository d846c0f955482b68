/* projector.c - two linear layers with exact GELU between: linear_2(gelu(linear_1(x))). */
#include "models/projector.h"

#include "models/vit.h"

#include <stdio.h>

int lc_projector_open(struct lc_projector *b, const struct lc_config *c, struct lc_params *p,
                      int64_t in, int64_t out, const char *prefix) {
    char name[256];
    bool ok = true;
    const char *act = lc_config_text(c, c->root, "projector_hidden_act", "gelu", &ok);
    bool bias = lc_config_flag(c, c->root, "multimodal_projector_bias", true, &ok);
    if (!ok || !(b->activation = lc_activation(act))) return -1;
    snprintf(name, sizeof name, "%s.linear_1", prefix);
    b->first = lc_take_linear(p, LC_PROJECTOR, out, in, bias, name);
    snprintf(name, sizeof name, "%s.linear_2", prefix);
    b->second = lc_take_linear(p, LC_PROJECTOR, out, out, bias, name);
    return 0;
}

lc_tensor *lc_projector_forward(const struct lc_projector *b, lc_tensor *features) {
    return lc_linear_apply(&b->second, b->activation(lc_linear_apply(&b->first, features, false)),
                           false);
}
