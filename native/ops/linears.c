/* linears.c - see linears.h. The CPU's way is the plain one: product by product, in the order of the formula. */
#include "ops/linears.h"

#include "base/error.h"
#include "ops/autograd.h"
#include "ops/product.h"
#include "tensor/device.h"

/* One call: a tape's rule holds the same. */
struct call {
    int count;
    lc_tensor *x;
    struct lc_linear_part part[LC_LINEARS_MOST];
    int64_t first[LC_LINEARS_MOST + 1]; /* of each part's columns of y; the last: all of them */
};

static struct call call_of(lc_tensor *x, int count, const struct lc_linear_part *part) {
    struct call c = {.count = count, .x = x};
    lc_assert(count > 0 && count <= LC_LINEARS_MOST);
    for (int i = 0; i < count; i++) {
        c.part[i] = part[i];
        c.first[i + 1] = c.first[i] + part[i].weight->shape[0];
    }
    return c;
}

/* ---- the rule: in is x, the weights, then a and b of each part that has them; i[0] the parts, i[1] in bits which
 * of them have an adapter; f the scales ---- */

static struct lc_rule rule_of(const struct call *c, const char *name,
                              int (*backward)(const struct lc_rule *r, lc_tensor *dy)) {
    struct lc_rule r = {.name = name, .backward = backward, .takes_rows = true, .i = {c->count}};
    int n = 0;
    r.in[n++] = c->x;
    for (int i = 0; i < c->count; i++) r.in[n++] = c->part[i].weight;
    for (int i = 0; i < c->count; i++) {
        r.f[i] = c->part[i].scale;
        if (!c->part[i].a) continue;
        r.i[1] |= 1 << i;
        r.in[n++] = c->part[i].a;
        r.in[n++] = c->part[i].b;
    }
    return r;
}

static struct call call_again(const struct lc_rule *r) {
    struct lc_linear_part part[LC_LINEARS_MOST] = {0};
    const int count = (int)r->i[0];
    int n = 1 + count;
    for (int i = 0; i < count; i++) {
        part[i].weight = r->in[1 + i];
        part[i].scale = r->f[i];
        if (!(r->i[1] >> i & 1)) continue;
        part[i].a = r->in[n++];
        part[i].b = r->in[n++];
    }
    return call_of(r->in[0], count, part);
}

/* ---- matrices ---- */

/* [..., width] in x's dtype, contents undefined */
static lc_tensor *rows_of(const lc_tensor *x, int64_t width) {
    int64_t shape[LC_MAX_DIMS];
    for (int i = 0; i < x->ndim; i++) shape[i] = x->shape[i];
    shape[x->ndim - 1] = width;
    return lc_tensor_make(x, x->dtype, x->ndim, shape);
}

/* t itself, or a copy in that dtype */
static lc_tensor *as(lc_tensor *t, int dtype) {
    if (t->dtype == dtype) return t;
    lc_tensor *copy = lc_tensor_make(t, dtype, t->ndim, t->shape);
    return copy && !lc_tensor_copy(copy, t) ? copy : NULL;
}

/* ---- forward ---- */

/* y = x W^T, then y += (scale x a^T) b^T; *h: the bracket */
static int part_forward(struct lc_matrix y, struct lc_matrix x, const struct call *c, int i,
                        lc_tensor **h) {
    const struct lc_linear_part *p = &c->part[i];
    const struct lc_kernels *k = lc_kernels_of(c->x);
    struct lc_matrix w, a, b, u;
    if (lc_matrix_of(&w, p->weight) < 0 ||
        lc_product_into(k, y, x, lc_matrix_transposed(w), 1, 0) < 0)
        return -1;
    if (!p->a) return 0;
    lc_tensor *down = as(p->a, c->x->dtype), *up = as(p->b, c->x->dtype);
    *h = rows_of(c->x, p->a->shape[0]);
    if (!down || !up || !*h || lc_matrix_of(&a, down) < 0 || lc_matrix_of(&b, up) < 0 ||
        lc_matrix_rows(&u, *h) < 0)
        return -1;
    return lc_product_into(k, u, x, lc_matrix_transposed(a), p->scale, 0) < 0
               ? -1
               : lc_product_into(k, y, u, lc_matrix_transposed(b), 1, 1);
}

/* keep: of each part the rows between its a and b. dy rowwise.
 *   dh = scale dy b, dx = dy W + dh a, dW = dy^T x, da = dh^T x, db = dy^T h */
static int apart_backward(const struct lc_rule *r, lc_tensor *dy) {
    const struct call c = call_again(r);
    const struct lc_kernels *k = lc_kernels_of(dy);
    struct lc_matrix all, x, to = {0};
    lc_tensor *dx = lc_wants(c.x) ? lc_gradient_like(c.x) : NULL;
    if ((lc_wants(c.x) && (!dx || lc_matrix_rows(&to, dx) < 0)) || lc_matrix_rows(&all, dy) < 0 ||
        lc_matrix_rows(&x, c.x) < 0)
        return -1;
    for (int i = c.count - 1; i >= 0; i--) {
        const struct lc_linear_part *p = &c.part[i];
        const struct lc_matrix g = lc_matrix_columns(all, c.first[i], c.first[i + 1] - c.first[i]);
        const double beta = i < c.count - 1;
        struct lc_matrix w, a, b, h, dh;
        if (lc_matrix_of(&w, p->weight) < 0 || (dx && lc_product_into(k, to, g, w, 1, beta) < 0) ||
            lc_product_gradient(p->weight, g, x) < 0)
            return -1;
        if (!p->a) continue;
        lc_tensor *down = as(p->a, dy->dtype), *up = as(p->b, dy->dtype),
                  *between = lc_tensor_like(r->keep[i]);
        if (!down || !up || !between || lc_matrix_of(&a, down) < 0 || lc_matrix_of(&b, up) < 0 ||
            lc_matrix_rows(&h, r->keep[i]) < 0 || lc_matrix_rows(&dh, between) < 0 ||
            lc_product_into(k, dh, g, b, p->scale, 0) < 0 ||
            (dx && lc_product_into(k, to, dh, a, 1, 1) < 0) ||
            lc_product_gradient(p->a, dh, x) < 0 || lc_product_gradient(p->b, g, h) < 0)
            return -1;
    }
    return dx ? lc_grad_add(c.x, dx) : 0;
}

static lc_tensor *apart(const struct call *c) {
    struct lc_rule r = rule_of(c, "linear", apart_backward);
    lc_tensor *y = rows_of(c->x, c->first[c->count]);
    struct lc_matrix x, to;
    if (!y || lc_matrix_rows(&x, c->x) < 0 || lc_matrix_rows(&to, y) < 0) return NULL;
    for (int i = 0; i < c->count; i++)
        if (part_forward(lc_matrix_columns(to, c->first[i], c->first[i + 1] - c->first[i]), x, c, i,
                         &r.keep[i]) < 0)
            return NULL;
    return lc_record(y, &r);
}

lc_tensor *lc_linears(lc_tensor *x, int count, const struct lc_linear_part *part) {
    if (!lc_usable("linear", x)) return NULL;
    for (int i = 0; i < count; i++)
        if (!lc_usable("linear", part[i].weight) || !lc_together("linear", x, part[i].weight))
            return NULL;
    const struct call c = call_of(x, count, part);
    int before = lc_pool();
    return lc_pool_end(before, apart(&c));
}
