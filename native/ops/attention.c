/* attention.c - softmax(q k^T * scale) v over the keys that a forest lets each row see.
 *
 * q [Tq, H, d], k and v [Tk, G, d], H a multiple of G. Rows may be strided (slices of one packed
 * projection, a cache); heads and features are dense. Kept for backward: o and lse [H, Tq] f32.
 *
 * The packed form has q, k and v in one tensor of rows, and so their gradients. */
#include "ops/attention.h"

#include "base/error.h"
#include "ops/autograd.h"
#include "ops/product.h"
#include "tensor/device.h"

#include <inttypes.h>

enum { LC_HEAD_MAX = 256 };

lc_tensor *lc_heads_dense(lc_tensor *x) {
    bool features = x->shape[2] == 1 || x->stride[2] == 1;
    bool heads = x->shape[1] == 1 || x->stride[1] == x->shape[2];
    return features && heads ? x : lc_contiguous(x);
}

static int check(const lc_tensor *q, const lc_tensor *k, const lc_tensor *v,
                 const struct lc_spans *spans) {
    if (q->ndim != 3 || k->ndim != 3 || !lc_same_shape(k, v))
        return lc_fail(LC_EINVAL,
                       "attention: q is %s, k %s, v %s; [rows, heads, d] is needed, k and v alike",
                       lc_shape_text(q), lc_shape_text(k), lc_shape_text(v));
    if (!lc_is_float(q) || q->dtype != k->dtype || q->dtype != v->dtype)
        return lc_fail(LC_EINVAL, "attention: q is %s, k %s, v %s; one float dtype is needed",
                       lc_shape_text(q), lc_shape_text(k), lc_shape_text(v));
    int64_t heads = q->shape[1], groups = k->shape[1], d = q->shape[2];
    if (d != k->shape[2] || d < 1 || d > LC_HEAD_MAX)
        return lc_fail(LC_EINVAL, "attention: q is %s but k %s; head sizes must agree, 1 to %d",
                       lc_shape_text(q), lc_shape_text(k), LC_HEAD_MAX);
    if (groups < 1 || heads < 1 || heads % groups)
        return lc_fail(LC_EINVAL,
                       "attention: %" PRId64 " query heads over %" PRId64
                       " key heads; a multiple is needed",
                       heads, groups);
    if (q->shape[0] != spans->queries || k->shape[0] < spans->keys)
        return lc_fail(LC_EINVAL,
                       "attention: q is %s and k %s, but the forest has %" PRId64
                       " rows that see %" PRId64 " keys",
                       lc_shape_text(q), lc_shape_text(k), spans->queries, spans->keys);
    return 0;
}

/* o [Tq, H, d] or [Tq, H d], whose rows may lie apart; gives lse [H, Tq], or NULL. */
static lc_tensor *forward(lc_tensor *o, lc_tensor *q, lc_tensor *k, lc_tensor *v,
                          const struct lc_spans *spans, double scale) {
    q = lc_heads_dense(q);
    k = lc_heads_dense(k);
    v = lc_heads_dense(v);
    if (!o || !q || !k || !v) return NULL;
    lc_tensor *lse = lc_tensor_make(q, LC_F32, 2, (int64_t[]){q->shape[1], q->shape[0]});
    if (!lse || lc_kernels_of(q)->attention(lc_data(o), lc_data(lse), lc_data(q), lc_data(k),
                                            lc_data(v), q->dtype, spans, q->shape[1], k->shape[1],
                                            q->shape[2], q->stride[0], k->stride[0], v->stride[0],
                                            o->stride[0], (float)scale) < 0)
        return NULL;
    return lse;
}

static bool fits(lc_tensor *q, lc_tensor *k, lc_tensor *v, const struct lc_spans *spans) {
    return !check(q, k, v, spans) && lc_together("attention", q, k) &&
           lc_together("attention", q, v);
}

/* ---- backward -------------------------------------------------------------------------------- */

/* keep: o and lse; q, k, v and their gradients as views whose rows may lie apart */
static int backward_rows(const struct lc_rule *r, lc_tensor *dy, lc_tensor *const x[3],
                         lc_tensor *const dx[3]) {
    const struct lc_spans *spans = lc_forest_spans(r->own);
    const lc_tensor *q = x[0], *k = x[1], *v = x[2], *o = r->keep[0];
    if (!q || !k || !v || !dx[0] || !dx[1] || !dx[2]) return -1;
    return lc_kernels_of(q)->attention_backward(
        lc_data(dx[0]), lc_data(dx[1]), lc_data(dx[2]), lc_data(dy), lc_data(o),
        lc_data(r->keep[1]), lc_data(q), lc_data(k), lc_data(v), q->dtype, spans, q->shape[1],
        k->shape[1], q->shape[2], q->stride[0], k->stride[0], v->stride[0], o->stride[0],
        dx[0]->stride[0], dx[1]->stride[0], (float)r->f[0]);
}

/* A gradient for x whose first rows the kernel writes; the others saw no query. */
static lc_tensor *gradient_of(const lc_tensor *x, int64_t rows) {
    return x->shape[0] == rows ? lc_tensor_like(x) : lc_tensor_zero_like(x, x->dtype);
}

static int backward(const struct lc_rule *r, lc_tensor *dy) {
    const int64_t keys = lc_forest_spans(r->own)->keys;
    lc_tensor *x[3], *dx[3];
    for (int i = 0; i < 3; i++) {
        x[i] = lc_heads_dense(r->in[i]);
        dx[i] = !x[i] ? NULL : i ? gradient_of(x[i], keys) : lc_tensor_like(x[i]);
    }
    if (backward_rows(r, dy, x, dx) < 0) return -1;
    for (int i = 0; i < 3; i++)
        if (lc_wants(r->in[i]) && lc_grad_add(r->in[i], dx[i]) < 0) return -1;
    return 0;
}

/* ---- packed ---------------------------------------------------------------------------------- */

/* Heads [first, first + heads) of rows of heads of d elements. */
static lc_tensor *heads_of(const lc_tensor *x, int64_t first, int64_t heads, int64_t d) {
    return lc_tensor_alias(x, 3, (int64_t[]){x->shape[0], heads, d},
                           (int64_t[]){lc_tensor_row(x), d, 1}, x->offset + first * d);
}

static void split(const lc_tensor *x, int64_t heads, int64_t groups, int64_t d,
                  lc_tensor *part[3]) {
    part[0] = heads_of(x, 0, heads, d);
    part[1] = heads_of(x, heads, groups, d);
    part[2] = heads_of(x, heads + groups, groups, d);
}

/* Queries and keys, where they lie. */
static int turn(const lc_tensor *x, int64_t heads, int64_t d, const lc_tensor *position,
                double theta, bool inverse) {
    const int64_t row = lc_tensor_row(x);
    return lc_kernels_of(x)->rope(lc_data(x), lc_data(x), x->dtype, lc_data(position), x->shape[0],
                                  heads, d, row, row, theta, inverse);
}

int lc_packed_split(lc_tensor *qkv, int64_t heads, int64_t groups, lc_tensor *part[3]) {
    if (!lc_usable("attention", qkv)) return -1;
    const int64_t all = heads + 2 * groups, d = lc_tensor_width(qkv) / all;
    if (qkv->ndim != 2 || qkv->shape[1] != all * d || d % 2)
        return lc_fail(LC_EINVAL,
                       "attention: the packed rows are %s, for %" PRId64 " query heads and %" PRId64
                       " key heads",
                       lc_shape_text(qkv), heads, groups);
    split(qkv, heads, groups, d, part);
    return part[0] && part[1] && part[2] ? 0 : -1;
}

static int turn_packed(const struct lc_packed *p, int64_t d) {
    if (!lc_usable("attention", p->position) || !lc_together("attention", p->qkv, p->position))
        return -1;
    if (p->position->dtype != LC_I32 || lc_tensor_count(p->position) != p->qkv->shape[0])
        return lc_fail(LC_EINVAL, "attention: the packed rows are %s and their positions %s",
                       lc_shape_text(p->qkv), lc_shape_text(p->position));
    return turn(p->qkv, p->heads + p->groups, d, p->position, p->theta, false);
}

/* in: qkv, turned; keep: o, lse, position; f: scale, theta; i: heads, groups, d */
static int packed_backward(const struct lc_rule *r, lc_tensor *dy) {
    const int64_t heads = r->i[0], groups = r->i[1], d = r->i[2];
    lc_tensor *qkv = r->in[0], *dqkv = lc_gradient_like(qkv), *x[3], *dx[3];
    if (!dqkv) return -1;
    split(qkv, heads, groups, d, x);
    split(dqkv, heads, groups, d, dx);
    if (backward_rows(r, dy, x, dx) < 0 ||
        turn(dqkv, heads + groups, d, r->keep[2], r->f[1], true) < 0)
        return -1;
    return lc_grad_add(qkv, dqkv);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void release_forest(void *forest) { lc_forest_release(forest); }

static void *held(const lc_forest *forest) {
    return lc_forest_retain((lc_forest *)(uintptr_t)forest);
}

lc_tensor *lc_attention(lc_tensor *q, lc_tensor *k, lc_tensor *v, const lc_forest *forest,
                        double scale) {
    if (!lc_usable("attention", q) || !lc_usable("attention", k) || !lc_usable("attention", v))
        return NULL;
    if (!forest) return lc_fail_null(LC_EINVAL, "attention: there is no forest");
    const struct lc_spans *spans = lc_forest_spans(forest);
    if (!fits(q, k, v, spans)) return NULL;
    lc_tensor *o = lc_tensor_like(q), *lse = forward(o, q, k, v, spans, scale);
    lc_tensor *kept = lse ? lc_detach(o) : NULL; /* the rule of o cannot hold o itself */
    if (!kept) return NULL;
    return lc_record(o, &(struct lc_rule){.name = "attention",
                                          .backward = backward,
                                          .in = {q, k, v},
                                          .keep = {kept, lse},
                                          .f = {scale},
                                          .own = held(forest),
                                          .free_own = release_forest});
}

/* [Tq, H d] for q [Tq, H, d], contents undefined */
static lc_tensor *rows_for(const lc_tensor *q, int64_t room) {
    return lc_tensor_roomy(q, q->dtype, 2, (int64_t[]){q->shape[0], q->shape[1] * q->shape[2]},
                           room);
}

lc_tensor *lc_packed_attention(const struct lc_packed *p, const lc_forest *forest, double scale,
                               int64_t room) {
    lc_tensor *x[3];
    int before = lc_pool();
    const struct lc_spans *spans = lc_forest_spans(forest);
    if (lc_packed_split(p->qkv, p->heads, p->groups, x) < 0 || !fits(x[0], x[1], x[2], spans) ||
        turn_packed(p, x[0]->shape[2]) < 0)
        return lc_pool_end(before, NULL);
    lc_tensor *o = rows_for(x[0], room), *lse = forward(o, x[0], x[1], x[2], spans, scale);
    lc_tensor *kept = lse ? lc_detach(o) : NULL;
    if (kept)
        o = lc_record(o, &(struct lc_rule){.name = "attention",
                                           .backward = packed_backward,
                                           .in = {p->qkv},
                                           .keep = {kept, lse, p->position},
                                           .f = {scale, p->theta},
                                           .i = {p->heads, p->groups, x[0]->shape[2]},
                                           .own = held(forest),
                                           .free_own = release_forest});
    return lc_pool_end(before, kept ? o : NULL);
}

lc_tensor *lc_attention_spans(lc_tensor *q, lc_tensor *k, lc_tensor *v,
                              const struct lc_spans *spans, double scale, int64_t room) {
    if (!lc_usable("attention", q) || !lc_usable("attention", k) || !lc_usable("attention", v) ||
        !fits(q, k, v, spans))
        return NULL;
    if (lc_will_record((lc_tensor *[]){q, k, v}, 3))
        return lc_fail_null(LC_EINVAL, "attention: cached keys have no gradients; use no_grad");
    lc_tensor *o = rows_for(q, room);
    return forward(o, q, k, v, spans, scale) ? o : NULL;
}
