/* autograd.h - the define-by-run tape.
 *
 * An op ends in `return lc_record(y, &(struct lc_rule){...})`. While gradients are on and an input
 * wants one, the rule is copied behind y: it holds the inputs and what is kept for backward. The
 * backward of the rule computes what each input needs and hands it over with lc_grad_add. An op
 * that keeps its own output keeps lc_detach(y), else y would hold itself. */
#ifndef LC_AUTOGRAD_H
#define LC_AUTOGRAD_H
#include "tensor/tensor.h"

enum { LC_RULE_INPUTS = 10, LC_RULE_KEPT = 4 };

struct lc_rule {
    const char *name;
    int (*backward)(const struct lc_rule *r, lc_tensor *dy); /* dy: dense, y's shape and dtype */
    bool takes_rows;               /* dy need not be dense, but rowwise (lc_tensor_rowwise) */
    lc_tensor *in[LC_RULE_INPUTS]; /* what gradients may flow to; NULL ends the list */
    lc_tensor *keep[LC_RULE_KEPT];
    double f[3]; /* numbers the rule needs */
    int64_t i[12];
    void *own; /* freed with free_own */
    void (*free_own)(void *own);
};

/* y, or NULL when y is NULL or there is no memory. own is freed in every case. */
lc_tensor *lc_record(lc_tensor *y, const struct lc_rule *rule);

/* Whether an op with these inputs will be recorded: what is only for backward need not be made else. */
bool lc_will_record(lc_tensor *const *in, int n);

/* Whether backward has to compute a gradient for t. */
static inline bool lc_wants(const lc_tensor *t) { return t && (t->node || t->requires_grad); }

/* Adds g to the gradient of t. g has t's shape, in t's dtype or f32, and is not used by the caller
 * afterwards. NULL g (already reported) gives -1. */
int lc_grad_add(lc_tensor *t, lc_tensor *g);

/* What the gradient of the result t is so far, rowwise in t's dtype, for a rule that adds it to its own share in
 * one pass; it then forgets it and hands over the sum. NULL: nothing yet, or t is a leaf. */
lc_tensor *lc_grad_so_far(const lc_tensor *t);
void lc_grad_forget(lc_tensor *t);

/* The gradients of n leaves [rows, width] as one f32 matrix, one below the other, for a product that makes them all.
 * 1: they are new, and the caller has to write them; 0: it has to add to them, or *stack is NULL and they lie apart;
 * -1: no memory. */
int lc_grad_stack(lc_tensor *const *t, int n, lc_tensor **stack);

/* The gradient of t itself, for backwards that add to a part of it: dense, f32 for a leaf, else t's
 * dtype, zeros at first. Borrowed; NULL: no memory. t must want a gradient. */
lc_tensor *lc_grad_buffer(lc_tensor *t);

/* The same for backwards that need f32: add to what lc_grad_sum gives, then call lc_grad_summed. */
lc_tensor *lc_grad_sum(lc_tensor *t);
int lc_grad_summed(lc_tensor *t, lc_tensor *sum);

#endif
