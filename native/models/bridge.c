/* bridge.c - what all bridges share: checking pictures and putting them one after the other. */
#include "models/bridge.h"

#include "base/error.h"
#include "base/memory.h"

#include <inttypes.h>

void lc_bridge_close(struct lc_bridge *b) {
    for (int i = 0; i < 2; i++) lc_tensor_release(b->identity[i]);
    lc_qformer_close(&b->qformer);
}

int lc_bridge_tower_rows(const struct lc_bridge *b, int64_t features) {
    if (features == b->tower_rows) return 0;
    return lc_fail(LC_EINVAL,
                   "project: a picture has %" PRId64
                   " rows of features but the tower makes %" PRId64,
                   features, b->tower_rows);
}

static int check_picture(const struct lc_bridge *b, const lc_tensor *features) {
    if (!lc_usable("project", features)) return -1;
    if (features->ndim < 1 || lc_tensor_width(features) != b->in)
        return lc_fail(LC_EINVAL, "project: features are %s but the tower's width is %" PRId64,
                       lc_shape_text(features), b->in);
    return b->kind->rows(b, lc_tensor_count(features) / b->in) < 0 ? -1 : 0;
}

lc_tensor *lc_bridge_forward(const struct lc_bridge *b, int n, const struct lc_picture *pictures) {
    int before = lc_pool();
    lc_tensor **features = lc_alloc((size_t)n * sizeof(lc_tensor *)), *all = NULL;
    for (int i = 0; features && i < n; i++) {
        if (check_picture(b, pictures[i].features) < 0) goto end;
        features[i] = lc_cast(lc_to(pictures[i].features, b->device), b->dtype);
        if (!features[i]) goto end;
    }
    if (features) all = n == 1 ? features[0] : lc_cat(n, features, 0);
    if (all) all = b->kind->forward(b, all, n, pictures);
end:
    lc_free(features);
    return lc_pool_end(before, all);
}
