/* attention.h - attention over spans that are not a forest's: cached keys. */
#ifndef LC_ATTENTION_H
#define LC_ATTENTION_H
#include "tensor/tensor.h"

/* q [Tq, H, d], k and v [slots, G, d] -> [Tq, H, d]; spans are only read during the call, so
 * nothing is recorded: an error while gradients are on and an input wants one. */
lc_tensor *lc_attention_spans(lc_tensor *q, lc_tensor *k, lc_tensor *v,
                              const struct lc_spans *spans, double scale);

#endif
