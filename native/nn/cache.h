/* cache.h - keys and values of earlier tokens, kept a layer each in slots [slots, groups, d].
 *
 * A leaf is a growing sequence: the list of the slots of its path. Leaves share the slots of what
 * they have in common; a slot is free again when no leaf has it. A pass is planned first (prefill
 * or extend: which rows are new, where they go, what they see), then run layer by layer:
 *
 *   lc_cache_prefill(c, forest, n, segments)            leaves 0 .. n-1 at the ends of the prompts
 *   ... each layer: o = lc_cache_attention(c, layer, q, k, v, theta, scale) ...
 *   loop: lc_cache_extend(c, n, leaves, NULL, 0)        one new row a leaf, in that order
 *         ... each layer: o = lc_cache_attention(...) ...
 *
 * A row gets the same bits as in one forward pass over its whole path. */
#ifndef LC_CACHE_H
#define LC_CACHE_H
#include "tensor/tensor.h"

struct lc_cache;

/* Storage belongs to no scope. NULL: no memory, or a size that is not possible. */
struct lc_cache *lc_cache_new(int layers, int64_t slots, int64_t groups, int64_t d, int dtype,
                              int device);
void lc_cache_free(struct lc_cache *c); /* NULL is legal */
/* Sees to it that so many slots are free: the storage grows by half of itself or more, and what is in
 * it is copied once. -1: no memory, and nothing has changed but that some layers are larger. */
int lc_cache_reserve(struct lc_cache *c, int64_t free);

/* Plans a pass over a forest's packed rows. For each of n segments one new leaf that sees the
 * segment's whole path; in a new cache they are leaves 0 .. n-1. Slots that no leaf sees are free again
 * after the pass. -1: too few slots in a row. */
int lc_cache_prefill(struct lc_cache *c, const lc_forest *f, int n, const int32_t *segments);

/* Plans a pass that adds count[i] rows (NULL: one each) to leaf[i], packed in that order; a leaf
 * may stand there once. Behind them `fill` rows that are nobody's: they see nothing and are kept nowhere.
 * -1: too few free slots, and nothing has changed. */
int lc_cache_extend(struct lc_cache *c, int n, const int32_t *leaf, const int32_t *count, int fill);

/* A new leaf that sees nothing yet. Its number, or -1. */
int lc_cache_root(struct lc_cache *c);
/* A new leaf that sees what this one sees; nothing is copied. Its number, or -1. */
int lc_cache_fork(struct lc_cache *c, int leaf);
/* The leaf is done; its number may come again. */
int lc_cache_drop(struct lc_cache *c, int leaf);

int64_t lc_cache_length(const struct lc_cache *c,
                        int leaf); /* tokens it sees = its next position */
int64_t lc_cache_free_slots(const struct lc_cache *c);

/* A pass of one row a leaf that was recorded (tensor/device.h) can be replayed for the planned one as long as
 * the storage is the same; prepare is called before, with the number of query heads. 1: it cannot be recorded. */
int64_t lc_cache_storage(const struct lc_cache *c);
int lc_cache_prepare(const struct lc_cache *c, int64_t heads);
/* Turns q [rows, H, d] and k [rows, G, d] to the planned rows' positions (lc_rope), in place; stores k and
 * v in the layer; then attends with q. */
lc_tensor *lc_cache_attention(struct lc_cache *c, int layer, lc_tensor *q, lc_tensor *k,
                              lc_tensor *v, double theta, double scale, int64_t room);

#endif
