/* attention.c - softmax(q k^T * scale) v over the keys that a forest lets each row see.
 *
 * q [Tq, H, d], k and v [Tk, G, d], H a multiple of G. Rows may be strided (slices of one packed
 * projection, a cache); heads and features are dense. Kept for backward: o and lse [H, Tq] f32. */
#include "ops/attention.h"

#include "base/error.h"
#include "ops/autograd.h"
#include "tensor/device.h"

#include <inttypes.h>

enum { LC_HEAD_MAX = 256 };

/* x itself where only its rows are strided, else a dense copy. */
static lc_tensor *heads_dense(lc_tensor *x) {
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

/* o, and lse [H, Tq]. */
static lc_tensor *forward(lc_tensor *q, lc_tensor *k, lc_tensor *v, const struct lc_spans *spans,
                          double scale, lc_tensor **lse) {
    if (check(q, k, v, spans) < 0 || !lc_together("attention", q, k) ||
        !lc_together("attention", q, v))
        return NULL;
    q = heads_dense(q);
    k = heads_dense(k);
    v = heads_dense(v);
    if (!q || !k || !v) return NULL;
    lc_tensor *o = lc_tensor_like(q);
    *lse = lc_tensor_make(q, LC_F32, 2, (int64_t[]){q->shape[1], q->shape[0]});
    if (!o || !*lse) return NULL;
    int done = lc_kernels_of(q)->attention(
        lc_data(o), lc_data(*lse), lc_data(q), lc_data(k), lc_data(v), q->dtype, spans, q->shape[1],
        k->shape[1], q->shape[2], q->stride[0], k->stride[0], v->stride[0], (float)scale);
    return done < 0 ? NULL : o;
}

/* ---- backward -------------------------------------------------------------------------------- */

/* A gradient for x whose first rows the kernel writes; the others saw no query. */
static lc_tensor *gradient_of(const lc_tensor *x, int64_t rows) {
    return x->shape[0] == rows ? lc_tensor_like(x) : lc_tensor_zero_like(x, x->dtype);
}

static int backward(const struct lc_rule *r, lc_tensor *dy) {
    const struct lc_spans *spans = lc_forest_spans(r->own);
    lc_tensor *q = heads_dense(r->in[0]), *k = heads_dense(r->in[1]), *v = heads_dense(r->in[2]);
    if (!q || !k || !v) return -1;
    lc_tensor *dq = lc_tensor_like(q), *dk = gradient_of(k, spans->keys),
              *dv = gradient_of(v, spans->keys);
    if (!dq || !dk || !dv) return -1;
    if (lc_kernels_of(q)->attention_backward(
            lc_data(dq), lc_data(dk), lc_data(dv), lc_data(dy), lc_data(r->keep[0]),
            lc_data(r->keep[1]), lc_data(q), lc_data(k), lc_data(v), q->dtype, spans, q->shape[1],
            k->shape[1], q->shape[2], q->stride[0], k->stride[0], v->stride[0], (float)r->f[0]) < 0)
        return -1;
    lc_tensor *gradient[] = {dq, dk, dv};
    for (int i = 0; i < 3; i++)
        if (lc_wants(r->in[i]) && lc_grad_add(r->in[i], gradient[i]) < 0) return -1;
    return 0;
}

/* ---- public ---------------------------------------------------------------------------------- */

static void release_forest(void *forest) { lc_forest_release(forest); }

lc_tensor *lc_attention(lc_tensor *q, lc_tensor *k, lc_tensor *v, const lc_forest *forest,
                        double scale) {
    if (!lc_usable("attention", q) || !lc_usable("attention", k) || !lc_usable("attention", v))
        return NULL;
    if (!forest) return lc_fail_null(LC_EINVAL, "attention: there is no forest");
    lc_tensor *lse = NULL, *o = forward(q, k, v, lc_forest_spans(forest), scale, &lse);
    lc_tensor *kept = o ? lc_detach(o) : NULL; /* the rule of o cannot hold o itself */
    if (!kept) return NULL;
    return lc_record(o, &(struct lc_rule){.name = "attention",
                                          .backward = backward,
                                          .in = {q, k, v},
                                          .keep = {kept, lse},
                                          .f = {scale},
                                          .own = lc_forest_retain((lc_forest *)(uintptr_t)forest),
                                          .free_own = release_forest});
}

lc_tensor *lc_attention_spans(lc_tensor *q, lc_tensor *k, lc_tensor *v,
                              const struct lc_spans *spans, double scale) {
    if (!lc_usable("attention", q) || !lc_usable("attention", k) || !lc_usable("attention", v))
        return NULL;
    if (lc_will_record((lc_tensor *[]){q, k, v}, 3))
        return lc_fail_null(LC_EINVAL, "attention: cached keys have no gradients; use no_grad");
    lc_tensor *lse = NULL;
    return forward(q, k, v, spans, scale, &lse);
}
