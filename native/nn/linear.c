/* linear.c - a linear layer with an optional LoRA adapter (Hu et al. 2021): y = x W^T + s (x A^T) B^T.
 * A starts uniform in +-1/sqrt(K), as PEFT's kaiming_uniform(a = sqrt 5) does, and B at zero, so that
 * a new adapter changes nothing. Both are f32 whatever the base. */
#include "nn/layers.h"

#include "base/error.h"
#include "ops/border.h"

#include <math.h>
#include <stdio.h>

lc_tensor *lc_linear_apply(const struct lc_linear_layer *l, lc_tensor *x, bool adapter) {
    if (adapter && l->a) {
        lc_tensor *y = lc_linear_lora(x, l->weight, l->a, l->b, l->scale);
        return l->bias ? lc_add(y, l->bias) : y;
    }
    return l->bias ? lc_linear_bias(x, l->weight, l->bias) : lc_linear(x, l->weight);
}

/* ---- groups ---- */

static void parts_of(const struct lc_group *g, bool adapter,
                     struct lc_linear_part part[LC_LINEARS_MOST]) {
    for (int i = 0; i < g->count; i++) {
        const struct lc_linear_layer *l = g->layer[i];
        lc_assert(!l->bias);
        part[i] = adapter ? (struct lc_linear_part){l->weight, l->a, l->b, l->scale}
                          : (struct lc_linear_part){.weight = l->weight};
    }
}

lc_tensor *lc_group_apply(const struct lc_group *g, lc_tensor *x, bool adapter) {
    struct lc_linear_part part[LC_LINEARS_MOST];
    parts_of(g, adapter, part);
    return lc_linears(x, g->count, part, g->border);
}

lc_tensor *lc_group_onto(const struct lc_group *g, lc_tensor *to, lc_tensor *x, bool adapter) {
    struct lc_linear_part part[LC_LINEARS_MOST];
    parts_of(g, adapter, part);
    return lc_linears_onto(to, x, g->count, part, g->border);
}

int64_t lc_group_room(const struct lc_group *g, bool adapter) {
    return adapter && g->border ? g->border->r : 0;
}

int lc_group_settle(struct lc_group *g) {
    struct lc_linear_part part[LC_LINEARS_MOST];
    parts_of(g, true, part);
    return lc_border_make(&g->border, g->count, part);
}

void lc_group_close(struct lc_group *g) {
    lc_border_free(g->border);
    g->border = NULL;
}

/* ---- layers ---- */

struct lc_linear_layer lc_take_linear(struct lc_params *p, enum lc_part part, int64_t n, int64_t k,
                                      bool has_bias, const char *name) {
    struct lc_linear_layer l = {0};
    l.weight = lc_params_take(p, part, LC_FAN_IN, 2, (int64_t[]){n, k}, "%s.weight", name);
    if (has_bias) l.bias = lc_params_take(p, part, LC_ZEROS, 1, &n, "%s.bias", name);
    return l;
}

/* The random stream is the number of parameters so far: every layer has its own. */
int lc_linear_adapt(struct lc_linear_layer *l, struct lc_params *p, const char *name, int rank,
                    double alpha, uint64_t seed) {
    lc_assert(rank > 0 && !l->a);
    int64_t n = l->weight->shape[0], k = l->weight->shape[1];
    double bound = 1 / sqrt((double)k);
    char full[256];
    int before = lc_pool(), done = -1;
    lc_tensor *a =
        lc_tensor_rand(2, (int64_t[]){rank, k}, LC_F32, p->device, seed, (uint64_t)p->count);
    a = a ? lc_shift(lc_scale(a, 2 * bound), -bound) : NULL;
    lc_tensor *b = lc_tensor_full(2, (int64_t[]){n, rank}, LC_F32, p->device, 0);
    if (!a || !b) goto end;
    snprintf(full, sizeof full, "%s.lora_A.weight", name);
    if (lc_tensor_requires_grad(a, 1) < 0 || lc_params_add(p, LC_ADAPTER, full, a) < 0) goto end;
    snprintf(full, sizeof full, "%s.lora_B.weight", name);
    if (lc_tensor_requires_grad(b, 1) < 0 || lc_params_add(p, LC_ADAPTER, full, b) < 0) goto end;
    l->a = a;
    l->b = b;
    l->scale = alpha / rank;
    done = 0;
end:
    lc_pool_end(before, NULL);
    return done;
}
