/* join.c - the bridge of MiniGPT-4 with Llama 2 (Zhu et al. 2023): no Q-Former, but four patches side by
 * side in one row.
 *
 *   LayerNorm(features) -> class token dropped -> four consecutive rows joined -> linear
 *
 * The published checkpoint holds the linear layer alone: the LayerNorm was never trained nor loaded, so
 * it only standardises. */
#include "models/bridge.h"
#include "models/vit.h"

#include "base/error.h"

#include <inttypes.h>

enum { JOINED = 4 };

static int64_t rows(const struct lc_bridge *b, int64_t features) {
    if (lc_bridge_tower_rows(b, features) < 0) return -1;
    return (features - 1) / JOINED;
}

static lc_tensor *forward(const struct lc_bridge *b, lc_tensor *features, int n,
                          const struct lc_picture *pictures) {
    (void)pictures;
    int64_t patches = b->tower_rows - 1;
    lc_tensor *x = lc_norm_apply(&b->norm, features);
    x = lc_slice(lc_view(x, 3, (int64_t[]){n, b->tower_rows, b->in}), 1, 1, patches);
    x = lc_view(x, 2, (int64_t[]){n * patches / JOINED, JOINED * b->in});
    return lc_linear_apply(&b->out, x, false);
}

static const struct lc_bridge_kind join = {"joined rows", rows, forward};

int lc_join_open(struct lc_bridge *b, const struct lc_config *c, struct lc_params *p,
                 const struct lc_vit *tower, int64_t out, const char *prefix) {
    *b = (struct lc_bridge){.kind = &join,
                            .in = tower->width,
                            .tower_rows = lc_vit_rows(tower),
                            .dtype = p->dtype,
                            .device = p->device};
    if ((b->tower_rows - 1) % JOINED)
        return lc_fail(LC_EINVAL,
                       "%s: the tower makes %" PRId64 " patches a picture; a multiple of %d is "
                       "needed",
                       c->folder, b->tower_rows - 1, JOINED);
    for (int i = 0; i < 2; i++) {
        b->identity[i] = lc_tensor_full(1, &b->in, p->dtype, p->device, i == 0);
        if (!b->identity[i]) return -1;
        lc_tensor_retain(b->identity[i]);
    }
    b->norm = (struct lc_norm_layer){b->identity[0], b->identity[1], 1e-5};
    b->out = lc_take_linear(p, LC_PROJECTOR, out, JOINED * b->in, true, prefix);
    return 0;
}
