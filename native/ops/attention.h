/* attention.h - attention as a decoder's block asks for it: its rows packed, its result with room behind each
 * row (lc_tensor_roomy), its keys perhaps cached. */
#ifndef LC_ATTENTION_H
#define LC_ATTENTION_H
#include "tensor/tensor.h"

/* x [T, H, d] itself where only its rows are strided, else a dense copy. */
lc_tensor *lc_heads_dense(lc_tensor *x);

/* q, k and v of a row side by side, [T, (heads + 2 groups) d], as one projection gives them. The queries and keys
 * are turned by their positions (rope.c) where they lie: the tensor is this call's to use up. */
struct lc_packed {
    lc_tensor *qkv;
    int64_t heads, groups;
    lc_tensor *position; /* i32 [T] */
    double theta;
};

/* -> [T, heads d]; every row sees what the forest says, of the same rows. */
lc_tensor *lc_packed_attention(const struct lc_packed *p, const lc_forest *forest, double scale,
                               int64_t room);

/* Gives q [T, heads, d], k and v [T, groups, d] as views, not turned: for keys that go into a cache first. */
int lc_packed_split(lc_tensor *qkv, int64_t heads, int64_t groups, lc_tensor *part[3]);

/* q [Tq, H, d], k and v [slots, G, d] -> [Tq, H d]; spans are only read during the call, so nothing is recorded: an
 * error while gradients are on and an input wants one. */
lc_tensor *lc_attention_spans(lc_tensor *q, lc_tensor *k, lc_tensor *v,
                              const struct lc_spans *spans, double scale, int64_t room);

#endif
