/* autograd.c - recording, and the walk backwards.
 *
 * Every recorded tensor has a node with a number from a counter that only grows, so an input's
 * number is smaller than its output's: visiting nodes from the largest number down is a reverse
 * topological order, and the same one in every run. backward consumes the tape: a node lets its
 * inputs and kept tensors go as soon as it has run. */
#include "ops/autograd.h"

#include "base/error.h"
#include "base/memory.h"
#include "ops/product.h"
#include "tensor/device.h"
#include "tensor/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct node {
    struct lc_node base;
    struct lc_rule rule;
    uint64_t number;
    lc_tensor *grad; /* of the output, while a backward runs */
    bool own_grad;   /* grad may be added to in place */
    bool consumed, visited;
};

static _Thread_local int no_grad; /* recording is off while it is not 0 */
static _Thread_local uint64_t numbers;

static struct node *node_of(const lc_tensor *t) { return (struct node *)t->node; }

int lc_grad_mode(int on) {
    int before = !no_grad;
    no_grad = !on;
    return before;
}

bool lc_will_record(lc_tensor *const *in, int n) {
    if (no_grad) return false;
    for (int i = 0; i < n; i++)
        if (lc_wants(in[i])) return true;
    return false;
}

static void let_go(struct lc_rule *r) {
    for (int i = 0; i < LC_RULE_INPUTS; i++) lc_tensor_release(r->in[i]);
    for (int i = 0; i < LC_RULE_KEPT; i++) lc_tensor_release(r->keep[i]);
    if (r->own) r->free_own(r->own);
    memset(r->in, 0, sizeof r->in);
    memset(r->keep, 0, sizeof r->keep);
    r->own = NULL;
}

/* A long chain of nodes must not recurse once a node: the nodes that are freed on the way wait in a list. */
static void free_node(struct lc_node *n) {
    static _Thread_local struct node *waiting;
    static _Thread_local bool draining;
    struct node *node = (struct node *)n;
    node->grad = (lc_tensor *)waiting; /* reused as the link */
    waiting = node;
    if (draining) return;
    draining = true;
    while (waiting) {
        node = waiting;
        waiting = (struct node *)node->grad;
        let_go(&node->rule);
        lc_free(node);
    }
    draining = false;
}

lc_tensor *lc_record(lc_tensor *y, const struct lc_rule *rule) {
    int inputs = 0;
    while (inputs < LC_RULE_INPUTS && rule->in[inputs]) inputs++;
    struct node *n = y && lc_will_record(rule->in, inputs) ? lc_alloc(sizeof *n) : NULL;
    if (!n) {
        bool plain = y && !lc_will_record(rule->in, inputs);
        if (rule->own) rule->free_own(rule->own);
        return plain ? y : NULL;
    }
    *n = (struct node){.base = {free_node}, .rule = *rule, .number = ++numbers};
    for (int i = 0; i < inputs; i++) lc_tensor_retain(n->rule.in[i]);
    for (int i = 0; i < LC_RULE_KEPT; i++) lc_tensor_retain(n->rule.keep[i]);
    y->node = &n->base;
    return y;
}

/* ---- gradients of leaves -------------------------------------------------------------------------- */

int lc_tensor_requires_grad(lc_tensor *t, int on) {
    if (!lc_alive("requires_grad", t)) return -1;
    if (t->node)
        return lc_fail(LC_EINVAL, "requires_grad: %s is the result of an op, not a leaf",
                       lc_shape_text(t));
    if (on && !lc_is_float(t))
        return lc_fail(LC_EINVAL, "requires_grad: %s has no gradients", lc_shape_text(t));
    if (on && t->lodged && lc_tensor_move_out(t) < 0) return -1;
    t->requires_grad = on != 0;
    return 0;
}

int lc_grad_stack(lc_tensor *const *t, int n, lc_tensor **stack) {
    const lc_tensor *first = t[0]->grad;
    int64_t rows = 0, width = t[0]->shape[1];
    bool fresh = true, joined = true;
    *stack = NULL;
    for (int i = 0; i < n; i++) {
        const lc_tensor *g = t[i]->grad;
        if (t[i]->node || !t[i]->requires_grad || t[i]->ndim != 2 || t[i]->shape[1] != width)
            return 0;
        fresh &= !g;
        joined &=
            first && g && g->storage == first->storage && g->offset == first->offset + rows * width;
        rows += t[i]->shape[0];
    }
    const int64_t shape[] = {rows, width}, stride[] = {width, 1};
    if (joined) *stack = lc_tensor_alias(first, 2, shape, stride, first->offset);
    if (joined || !fresh) return joined && !*stack ? -1 : 0;
    lc_scope_outside(1);
    int before = lc_device_tag(LC_FOR_GRADIENTS);
    lc_tensor *all = lc_tensor_make(t[0], LC_F32, 2, shape);
    lc_device_tag(before);
    lc_scope_outside(0);
    for (int64_t i = 0, at = 0; all && i < n; at += t[i++]->shape[0]) {
        t[i]->grad = lc_tensor_retain(lc_tensor_alias(all, 2, t[i]->shape, stride, at * width));
        if (!t[i]->grad) return -1;
    }
    *stack = all;
    return all ? 1 : -1;
}

int lc_tensor_wants_grad(const lc_tensor *t) { return lc_wants(t); }
lc_tensor *lc_tensor_grad(lc_tensor *t) { return t->grad; }

void lc_tensor_zero_grad(lc_tensor *t) {
    lc_tensor_release(t->grad);
    t->grad = NULL;
}

/* An f32 copy, held, that belongs to no scope. */
static lc_tensor *outside_copy(const lc_tensor *g) {
    if (!g) return NULL;
    lc_scope_outside(1);
    int before = lc_device_tag(LC_FOR_GRADIENTS);
    lc_tensor *copy = lc_tensor_make(g, LC_F32, g->ndim, g->shape);
    lc_device_tag(before);
    lc_scope_outside(0);
    return copy && !lc_tensor_copy(copy, g) ? lc_tensor_retain(copy) : NULL;
}

int lc_tensor_set_grad(lc_tensor *t, lc_tensor *g) {
    if (!lc_usable("set_grad", t) || !lc_usable("set_grad", g)) return -1;
    if (!lc_same_shape(t, g))
        return lc_fail(LC_EINVAL, "set_grad: the tensor is %s but the gradient %s",
                       lc_shape_text(t), lc_shape_text(g));
    lc_tensor *copy = outside_copy(lc_tensor_on(g, t->storage->device));
    if (!copy) return -1;
    lc_tensor_zero_grad(t);
    t->grad = copy;
    return 0;
}

/* y += x; y is dense and ours. */
static int accumulate(lc_tensor *y, lc_tensor *x) {
    x = lc_contiguous(x);
    if (!x) return -1;
    return lc_kernels_of(y)->accumulate(lc_data(y), y->dtype, lc_data(x), x->dtype,
                                        lc_tensor_count(y));
}

/* Makes the gradient of a node's output its own, so that it may be added to in place. */
static int own_grad(lc_tensor *t, struct node *n) {
    if (n->own_grad) return 0;
    lc_tensor *sum = lc_tensor_make(t, n->grad->dtype, t->ndim, t->shape);
    if (!sum || lc_tensor_copy(sum, n->grad) < 0) return -1;
    lc_tensor_release(n->grad);
    n->grad = lc_tensor_retain(sum);
    n->own_grad = true;
    return 0;
}

int lc_grad_add(lc_tensor *t, lc_tensor *g) {
    if (!g) return -1;
    if (!lc_wants(t)) return 0;
    lc_assert(lc_same_shape(t, g));
    if (!t->node) {
        if (t->grad) return accumulate(t->grad, g);
        t->grad = outside_copy(g);
        return t->grad ? 0 : -1;
    }
    struct node *n = node_of(t);
    if (!n->grad) {
        if (g->dtype != t->dtype) { /* a rule gets dy in its output's dtype */
            lc_tensor *cast = lc_gradient_like(t);
            if (!cast || lc_tensor_copy(cast, g) < 0) return -1;
            g = cast;
        }
        n->grad = lc_tensor_retain(g);
        n->own_grad = false;
        return 0;
    }
    return own_grad(t, n) < 0 ? -1 : accumulate(n->grad, g);
}

lc_tensor *lc_grad_so_far(const lc_tensor *t) {
    lc_tensor *g = t->node ? node_of(t)->grad : NULL;
    return g && lc_tensor_rowwise(g) ? g : NULL;
}

void lc_grad_forget(lc_tensor *t) {
    struct node *n = node_of(t);
    lc_tensor_release(n->grad);
    n->grad = NULL;
}

lc_tensor *lc_grad_buffer(lc_tensor *t) {
    lc_assert(lc_wants(t));
    if (!t->node) {
        if (t->grad) return t->grad;
        lc_scope_outside(1);
        int before = lc_device_tag(LC_FOR_GRADIENTS);
        t->grad = lc_tensor_retain(lc_tensor_zero_like(t, LC_F32));
        lc_device_tag(before);
        lc_scope_outside(0);
        return t->grad;
    }
    struct node *n = node_of(t);
    if (n->grad) return own_grad(t, n) < 0 ? NULL : n->grad;
    n->grad = lc_tensor_retain(lc_tensor_zero_like(t, t->dtype));
    n->own_grad = n->grad != NULL;
    return n->grad;
}

/* Whether lc_grad_buffer gives f32. */
static bool sums_in_place(const lc_tensor *t) { return !t->node || t->dtype == LC_F32; }

lc_tensor *lc_grad_sum(lc_tensor *t) {
    return sums_in_place(t) ? lc_grad_buffer(t) : lc_tensor_zero_like(t, LC_F32);
}

int lc_grad_summed(lc_tensor *t, lc_tensor *sum) {
    return sums_in_place(t) ? 0 : lc_grad_add(t, sum);
}

/* ---- the walk ---------------------------------------------------------------------------------------- */

struct walk {
    lc_tensor **list; /* held; every tensor here has a node */
    int64_t count, room;
};

static int visit(struct walk *w, lc_tensor *t) {
    struct node *n = t->node ? node_of(t) : NULL;
    if (!n || n->visited) return 0;
    if (n->consumed)
        return lc_fail(
            LC_EINVAL,
            "backward: the tape through %s is already consumed; run the forward pass again",
            n->rule.name);
    if (w->count == w->room) {
        int64_t room = w->room ? 2 * w->room : 256;
        lc_tensor **list = lc_realloc(w->list, (size_t)room * sizeof *list);
        if (!list) return -1;
        w->list = list;
        w->room = room;
    }
    n->visited = true;
    w->list[w->count++] = lc_tensor_retain(t);
    return 0;
}

static int newest_first(const void *a, const void *b) {
    uint64_t x = node_of(*(lc_tensor *const *)a)->number,
             y = node_of(*(lc_tensor *const *)b)->number;
    return (x < y) - (x > y);
}

/* The tape belongs to the scope it was recorded in: -1 when that scope has freed what a rule needs. */
static int check_alive(const struct lc_rule *r) {
    char name[64];
    snprintf(name, sizeof name, "backward of %s", r->name);
    for (int i = 0; i < LC_RULE_INPUTS && r->in[i]; i++)
        if (!lc_alive(name, r->in[i])) return -1;
    for (int i = 0; i < LC_RULE_KEPT && r->keep[i]; i++)
        if (!lc_alive(name, r->keep[i])) return -1;
    return 0;
}

static int run(struct node *n) {
    if (!n->grad) return 0; /* nothing flowed here */
    if (lc_poll("backward") < 0 || check_alive(&n->rule) < 0) return -1;
    int before = lc_pool();
    bool rows = n->rule.takes_rows && lc_tensor_rowwise(n->grad);
    lc_tensor *dy = rows ? n->grad : lc_contiguous(n->grad);
    int done = dy ? n->rule.backward(&n->rule, dy) : -1;
    lc_pool_end(before, NULL);
    return done;
}

int lc_backward_from(lc_tensor *y, lc_tensor *dy) {
    if (!lc_usable("backward", y) || !lc_usable("backward", dy)) return -1;
    if (!lc_same_shape(y, dy))
        return lc_fail(LC_EINVAL, "backward: the result is %s but its gradient %s",
                       lc_shape_text(y), lc_shape_text(dy));
    if (!lc_together("backward", y, dy)) return -1;
    if (!lc_wants(y))
        return lc_fail(LC_EINVAL, "backward: nothing that made this %s requires a gradient",
                       lc_shape_text(y));
    if (!y->node) return lc_grad_add(y, dy);
    struct walk w = {0};
    int recording = lc_grad_mode(0), done = visit(&w, y);
    for (int64_t i = 0; !done && i < w.count; i++) { /* breadth first; the list is the queue */
        struct lc_rule *r = &node_of(w.list[i])->rule;
        for (int j = 0; !done && j < LC_RULE_INPUTS && r->in[j]; j++) done = visit(&w, r->in[j]);
    }
    if (!done) {
        qsort(w.list, (size_t)w.count, sizeof *w.list, newest_first);
        done = lc_grad_add(y, dy);
    }
    for (int64_t i = 0; i < w.count; i++) {
        struct node *n = node_of(w.list[i]);
        if (!done) done = run(n);
        lc_tensor_release(n->grad);
        n->grad = NULL;
        n->visited = false;
        n->consumed = true;
        let_go(&n->rule); /* the list still holds the inputs that have yet to run */
        lc_tensor_release(w.list[i]);
    }
    lc_free(w.list);
    lc_grad_mode(recording);
    return done;
}

int lc_backward(lc_tensor *loss) {
    if (!lc_usable("backward", loss)) return -1;
    if (lc_tensor_count(loss) != 1)
        return lc_fail(LC_EINVAL,
                       "backward: a loss has one element, this is %s; sum it, or call backward "
                       "with its gradient",
                       lc_shape_text(loss));
    int before = lc_pool();
    lc_tensor *one = lc_tensor_full(loss->ndim, loss->shape, LC_F32, loss->storage->device, 1);
    int done = one ? lc_backward_from(loss, one) : -1;
    lc_pool_end(before, NULL);
    return done;
}
