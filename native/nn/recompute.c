/* recompute.c - activation recomputation (Chen et al. 2016, "Training deep nets with sublinear memory cost"). */
#include "nn/recompute.h"

#include "base/memory.h"
#include "ops/autograd.h"

struct again {
    lc_tensor *(*run)(const void *context, lc_tensor *x);
    void *context;
    void (*free_context)(void *context);
};

static void free_again(void *own) {
    struct again *a = own;
    a->free_context(a->context);
    lc_free(a);
}

static int recompute_backward(const struct lc_rule *r, lc_tensor *dy) {
    const struct again *a = r->own;
    lc_tensor *x = lc_detach(r->in[0]);
    if (!x || lc_tensor_requires_grad(x, lc_wants(r->in[0])) < 0) return -1;
    lc_grad_mode(1);
    lc_tensor *y = a->run(a->context, x);
    int done = y && lc_wants(y) ? lc_backward_from(y, dy) : y ? 0 : -1;
    lc_grad_mode(0);
    return !done && x->grad ? lc_grad_add(r->in[0], x->grad) : done;
}

lc_tensor *lc_recompute(lc_tensor *(*run)(const void *context, lc_tensor *x), void *context,
                        void (*free_context)(void *context), lc_tensor *x, lc_tensor *parameter) {
    struct again *a = lc_alloc(sizeof *a);
    if (!a) {
        free_context(context);
        return NULL;
    }
    *a = (struct again){run, context, free_context};
    int recording = lc_grad_mode(0), before = lc_pool();
    lc_tensor *y = lc_pool_end(before, run(context, x));
    lc_grad_mode(recording);
    return lc_record(y, &(struct lc_rule){.name = "recompute",
                                          .backward = recompute_backward,
                                          .in = {x, parameter},
                                          .own = a,
                                          .free_own = free_again});
}
