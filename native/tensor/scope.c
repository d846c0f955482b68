/* scope.c - scopes free storage at a known point.
 *
 * A scope is a list of the storages born in it. Closing it frees their data, whoever still holds
 * a handle; the struct lives until its last holder goes, so that a late use finds NULL and says so.
 * The stack of scopes is per thread. */
#include "tensor/scope.h"

#include "base/error.h"
#include "base/memory.h"

struct lc_scope {
    struct lc_scope *outer;
    struct lc_storage *first;
};

static _Thread_local struct lc_scope *innermost;
static _Thread_local int outside; /* > 0: births belong to no scope */

int lc_scope_begin(void) {
    struct lc_scope *s = lc_alloc(sizeof *s);
    if (!s) return -1;
    *s = (struct lc_scope){.outer = innermost};
    innermost = s;
    return 0;
}

int lc_scope_depth(void) {
    int depth = 0;
    for (struct lc_scope *s = innermost; s; s = s->outer) depth++;
    return depth;
}

int lc_scope_outside(int on) {
    if (!on && !outside) return lc_fail(LC_EINVAL, "scope_outside: off before it was on");
    outside += on ? 1 : -1;
    return 0;
}

static void link_into(struct lc_scope *scope, struct lc_storage *s) {
    s->scope = scope;
    s->previous = NULL;
    s->next = scope->first;
    if (s->next) s->next->previous = s;
    scope->first = s;
}

void lc_scope_birth(struct lc_storage *s) {
    if (innermost && !outside) link_into(innermost, s);
}

void lc_scope_unlink(struct lc_storage *s) {
    if (!s->scope) return;
    if (s->previous) s->previous->next = s->next;
    else s->scope->first = s->next;
    if (s->next) s->next->previous = s->previous;
    s->scope = NULL;
    s->previous = s->next = NULL;
}

int lc_scope_end(void) {
    struct lc_scope *s = innermost;
    if (!s) return lc_fail(LC_EINVAL, "scope: none is open");
    while (s->first) {
        struct lc_storage *dead = s->first;
        lc_scope_unlink(dead);
        lc_storage_free_data(dead);
    }
    innermost = s->outer;
    lc_free(s);
    return 0;
}

int lc_tensor_keep(lc_tensor *t) {
    if (!lc_alive("keep", t)) return -1;
    lc_scope_unlink(t->storage);
    return 0;
}

int lc_tensor_leave(lc_tensor *t) {
    if (!lc_alive("leave", t)) return -1;
    struct lc_scope *here = t->storage->scope;
    if (!here || here != innermost) return 0;
    lc_scope_unlink(t->storage);
    if (here->outer) link_into(here->outer, t->storage);
    return 0;
}
