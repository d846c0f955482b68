/* trunk.c - answers that join and leave while others grow.
 *
 * A trunk is a leaf that rests: what many prompts begin with, a picture above all. A prompt joins by forking it,
 * which copies nothing, and by the ids that follow, which run in the next pass beside the rows of those that grow
 * already. Each row depends on its own path alone, so nobody's answer changes by the company. */
#include "models/generator.h"

#include "base/error.h"
#include "base/memory.h"

#include <inttypes.h>
#include <string.h>

/* Runs the batch's rows into a new leaf of the cache. */
static int run_rows(lc_generator *g, const lc_batch *b, int path, int32_t rows) {
    int before = lc_pool(), done = -1;
    lc_forest *forest = lc_batch_forest(b);
    if (forest && !lc_model_check_length(g->model, b, forest, 0) &&
        !lc_cache_reserve(g->cache, rows) && !lc_cache_extend(g->cache, 1, &path, &rows, 0))
        done = lc_generator_rows(g, lc_model_embed(g->model, b, forest)) ? 0 : -1;
    lc_pool_end(before, NULL);
    lc_forest_release(forest);
    return done;
}

int lc_generator_trunk(lc_generator *g, lc_batch *b) {
    if (b->count != 1 || b->segments[0].rows < 1)
        return lc_fail(LC_EINVAL, "generate: a trunk is one segment of tokens; %d were given",
                       b->count);
    int leaf = lc_generator_spare_leaf(g);
    int path = leaf < 0 ? -1 : lc_cache_root(g->cache);
    if (path < 0) return -1;
    int32_t rows = b->segments[0].rows;
    int recording = lc_grad_mode(0), done = run_rows(g, b, path, rows);
    lc_grad_mode(recording);
    if (done < 0) {
        lc_cache_drop(g->cache, path);
        return -1;
    }
    struct leaf *l = &g->leaves[leaf], kept = *l;
    *l = (struct leaf){.next = -1,
                       .path = path,
                       .position = rows,
                       .row = -1,
                       .sampling = g->sampling,
                       .seen = kept.seen,
                       .seen_room = kept.seen_room,
                       .live = true,
                       .resting = true};
    return leaf;
}

int lc_generator_join(lc_generator *g, int trunk, const int32_t *ids, int64_t n) {
    if (lc_generator_check_leaf(g, trunk) < 0 || lc_generator_check_ids(g, ids, n) < 0) return -1;
    int64_t most = g->model->language.max_positions, position = g->leaves[trunk].position + n;
    if (n < 1 || position > most)
        return lc_fail(LC_EINVAL,
                       "generate: the prompt has %" PRId64 " positions; the model has %" PRId64
                       ", and one at least follows the trunk",
                       position, most);
    int32_t *own = lc_alloc((size_t)n * sizeof *own);
    int leaf = own ? lc_generator_fork(g, trunk) : -1;
    if (leaf < 0) {
        lc_free(own);
        return -1;
    }
    memcpy(own, ids, (size_t)n * sizeof *own);
    struct leaf *l = &g->leaves[leaf];
    l->ids = own;
    l->id_count = (int32_t)n;
    l->position = position;
    l->made = 0;
    l->next = l->row = -1;
    l->sampling = g->sampling;
    l->resting = false;
    return leaf;
}

int lc_generator_rest(lc_generator *g, int leaf, int on) {
    if (lc_generator_check_leaf(g, leaf) < 0) return -1;
    struct leaf *l = &g->leaves[leaf];
    if (!l->live || (l->next < 0 && !l->ids))
        return lc_fail(LC_EINVAL, "generate: leaf %d %s; it cannot rest", leaf + 1,
                       l->live ? "has no next token" : "has ended");
    l->resting = on != 0;
    return 0;
}

int64_t lc_generator_row_bytes(const lc_generator *g) {
    const struct lc_llama *l = &g->model->language;
    return 2 * l->layers * l->groups * l->head_size *
           (int64_t)lc_dtype_bytes(g->model->params.dtype);
}
