/* linears.c - see linears.h. The plain way multiplies part by part, in the order of the formula: the CPU's, and that
 * of weights that lie apart. The other one is border.h's. */
#include "ops/linears.h"

#include "base/error.h"
#include "ops/autograd.h"
#include "ops/border.h"
#include "ops/product.h"
#include "tensor/device.h"

/* One call: a tape's rule holds the same. */
struct call {
    int count;
    lc_tensor *x;
    lc_tensor *onto; /* what y is added to in place; NULL: y is new */
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

/* ---- part by part ---- */

/* y = x W^T or y += x W^T, then y += (scale x a^T) b^T; *h: the bracket */
static int part_forward(struct lc_matrix y, struct lc_matrix x, const struct call *c, int i,
                        lc_tensor **h) {
    const struct lc_linear_part *p = &c->part[i];
    const struct lc_kernels *k = lc_kernels_of(c->x);
    struct lc_matrix a, b, u;
    if (lc_product_by_weight(y, x, p->weight, true, c->onto != NULL) < 0) return -1;
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
        struct lc_matrix a, b, h, dh;
        if ((dx && lc_product_by_weight(to, g, p->weight, false, beta) < 0) ||
            lc_product_gradient(p->weight, g, x, 1) < 0)
            return -1;
        if (!p->a) continue;
        lc_tensor *down = as(p->a, dy->dtype), *up = as(p->b, dy->dtype),
                  *between = lc_tensor_like(r->keep[i]);
        if (!down || !up || !between || lc_matrix_of(&a, down) < 0 || lc_matrix_of(&b, up) < 0 ||
            lc_matrix_rows(&h, r->keep[i]) < 0 || lc_matrix_rows(&dh, between) < 0 ||
            lc_product_into(k, dh, g, b, p->scale, 0) < 0 ||
            (dx && lc_product_into(k, to, dh, a, 1, 1) < 0) ||
            lc_product_gradient(p->a, dh, x, 1) < 0 || lc_product_gradient(p->b, g, h, 1) < 0)
            return -1;
    }
    return dx ? lc_grad_add(c.x, dx) : 0;
}

static lc_tensor *apart(const struct call *c) {
    struct lc_rule r = rule_of(c, "linear", apart_backward);
    lc_tensor *y = c->onto ? c->onto : rows_of(c->x, c->first[c->count]);
    struct lc_matrix x, to;
    if (!y || lc_matrix_rows(&x, c->x) < 0 || lc_matrix_rows(&to, y) < 0) return NULL;
    for (int i = 0; i < c->count; i++)
        if (part_forward(lc_matrix_columns(to, c->first[i], c->first[i + 1] - c->first[i]), x, c, i,
                         &r.keep[i]) < 0)
            return NULL;
    return c->onto ? y : lc_record(y, &r);
}

/* ---- in a border ---- */

/* The border's matrices, and the rows with what is behind them. */
static struct lc_matrix corner(const struct lc_border *b, int64_t row, int64_t rows, int64_t column,
                               int64_t cols) {
    const int64_t step = b->k + b->r;
    return (struct lc_matrix){.data =
                                  (char *)lc_data(b->whole) +
                                  (size_t)(row * step + column) * lc_dtype_bytes(b->whole->dtype),
                              .dtype = b->whole->dtype,
                              .rows = rows,
                              .cols = cols,
                              .batch = 1,
                              .row = step};
}

static struct lc_matrix rows_with_room(const lc_tensor *t, int64_t first, int64_t cols) {
    const struct lc_matrix m = {.data = lc_data(t),
                                .dtype = t->dtype,
                                .rows = lc_tensor_rows(t),
                                .cols = cols,
                                .batch = 1,
                                .row = lc_tensor_row(t)};
    return lc_matrix_columns(m, first, cols);
}

/* t itself where its rows have that room, else a copy of it. */
static lc_tensor *with_room(lc_tensor *t, int64_t room) {
    if (t->room >= room && lc_tensor_rowwise(t)) return t;
    lc_tensor *copy = lc_tensor_roomy(t, t->dtype, t->ndim, t->shape, room);
    return copy && !lc_tensor_copy(copy, t) ? copy : NULL;
}

/* Adapters of one size and scale, which strided products make together: their number, else 0. */
static int alike(const struct call *c) {
    const struct lc_linear_part *p = c->part;
    for (int i = 0; i < c->count; i++)
        if (!p[i].a || p[i].a->shape[0] != p->a->shape[0] ||
            p[i].weight->shape[0] != p->weight->shape[0] || p[i].scale != p->scale)
            return 0;
    return c->count;
}

/* V = dY (s B): of adapters alike each from its own columns of dY, else from all, most of them times zeros. */
static int make_v(const struct call *c, const struct lc_border *b, const lc_tensor *dy) {
    struct lc_matrix g = rows_with_room(dy, 0, b->n), sb = corner(b, 0, b->n, b->k, b->r),
                     v = rows_with_room(dy, b->n, b->r);
    const int n = alike(c);
    const int64_t rank = n ? c->part->a->shape[0] : 0;
    if (n && n * rank == b->r) {
        g.batch = sb.batch = v.batch = n;
        g.step = g.cols = sb.rows = b->n / n;
        v.step = v.cols = sb.cols = rank;
        sb.step = sb.rows * sb.row + rank;
    }
    return lc_product_into(lc_kernels_of(dy), v, g, sb, 1, 0);
}

/* Tensors a or b of all parts that have an adapter; their number. */
static int adapters_of(const struct call *c, bool second, lc_tensor *list[LC_LINEARS_MOST]) {
    int n = 0;
    for (int i = 0; i < c->count; i++)
        if (c->part[i].a) list[n++] = second ? c->part[i].b : c->part[i].a;
    return n;
}

/* dA = V^T X, of all parts together */
static int a_gradients(const struct call *c, struct lc_matrix v, struct lc_matrix x) {
    lc_tensor *list[LC_LINEARS_MOST], *all;
    const int n = adapters_of(c, false, list), fresh = lc_grad_stack(list, n, &all);
    if (fresh < 0) return -1;
    if (all) {
        const struct lc_matrix to = {.data = lc_data(all), .dtype = LC_F32, .row = x.cols};
        v.cols = all->shape[0];
        return lc_product_into(lc_kernels_of(all), to, lc_matrix_transposed(v), x, 1, !fresh);
    }
    for (int64_t i = 0, at = 0; i < n; at += list[i++]->shape[0])
        if (lc_product_gradient(list[i], lc_matrix_columns(v, at, list[i]->shape[0]), x, 1) < 0)
            return -1;
    return 0;
}

/* dB = s dY^T U, of adapters alike together */
static int b_gradients(const struct call *c, struct lc_matrix g, struct lc_matrix u) {
    lc_tensor *list[LC_LINEARS_MOST], *all = NULL;
    const int n = alike(c),
              fresh = n && adapters_of(c, true, list) ? lc_grad_stack(list, n, &all) : 0;
    if (fresh < 0) return -1;
    if (all) {
        struct lc_matrix to = {.data = lc_data(all), .dtype = LC_F32, .row = all->shape[1]};
        g.batch = u.batch = n;
        g.step = g.cols = list[0]->shape[0];
        u.step = u.cols = all->shape[1];
        to.step = g.cols * u.cols;
        return lc_product_into(lc_kernels_of(all), to, lc_matrix_transposed(g), u, c->part->scale,
                               !fresh);
    }
    for (int64_t i = 0, at = 0; i < c->count; i++) {
        const struct lc_linear_part *p = &c->part[i];
        if (!p->a) continue;
        const struct lc_matrix own = lc_matrix_columns(g, c->first[i], p->weight->shape[0]);
        if (lc_product_gradient(p->b, own, lc_matrix_columns(u, at, p->a->shape[0]), p->scale) < 0)
            return -1;
        at += p->a->shape[0];
    }
    return 0;
}

/* keep: X with U behind its rows, and the border's whole where it stays */
static int bordered_backward(const struct lc_rule *r, lc_tensor *dy) {
    const struct call c = call_again(r);
    const lc_tensor *xu = r->keep[0];
    const int64_t n = c.first[c.count], k = lc_tensor_width(xu);
    struct lc_border b;
    if (lc_border_open_again(&b, r->keep[1], dy->dtype, c.count, c.part) < 0) return -1;
    const lc_tensor *g = with_room(dy, b.r);
    if (!g || make_v(&c, &b, g) < 0) return -1;
    if (lc_wants(c.x)) {
        lc_tensor *dx = lc_gradient_like(c.x);
        struct lc_matrix to;
        if (!dx || lc_matrix_rows(&to, dx) < 0 ||
            lc_product_into(lc_kernels_of(dx), to, rows_with_room(g, 0, n + b.r),
                            corner(&b, 0, n + b.r, 0, k), 1, 0) < 0 ||
            lc_grad_add(c.x, dx) < 0)
            return -1;
    }
    if (a_gradients(&c, rows_with_room(g, n, b.r), rows_with_room(xu, 0, k)) < 0) return -1;
    return b_gradients(&c, rows_with_room(g, 0, n), rows_with_room(xu, k, b.r));
}

static lc_tensor *bordered(const struct call *c, struct lc_border *border) {
    const struct lc_kernels *kernels = lc_kernels_of(c->x);
    lc_tensor *list[LC_LINEARS_MOST], *x = c->x, *y = c->onto ? c->onto : rows_of(x, border->n);
    const bool on = adapters_of(c, false, list) > 0;
    struct lc_border now, *b = &now;
    if (lc_border_open(b, border, x->dtype, c->count, c->part, on) < 0) return NULL;
    const int64_t all = b->k + b->r;
    if (on && !(x = with_room(x, b->r))) return NULL;
    if (on && lc_product_into(kernels, rows_with_room(x, b->k, b->r), rows_with_room(x, 0, b->k),
                              lc_matrix_transposed(corner(b, b->n, b->r, 0, b->k)), 1, 0) < 0)
        return NULL;
    x->room = on ? 0 : x->room; /* it is taken */
    const int64_t terms = on ? all : b->k;
    struct lc_matrix to, w = corner(b, 0, b->n, 0, terms);
    w.most = all;
    if (!y || lc_matrix_rows(&to, y) < 0 ||
        lc_product_into(kernels, to, rows_with_room(x, 0, terms), lc_matrix_transposed(w), 1,
                        c->onto != NULL) < 0)
        return NULL;
    if (c->onto) return y;
    struct lc_rule r = rule_of(c, "linear", on ? bordered_backward : apart_backward);
    if (on) {
        y->grad_room = b->r;
        r.keep[0] = x;
        r.keep[1] = border->whole; /* of packed weights none: they are expanded again */
    }
    return lc_record(y, &r);
}

static lc_tensor *linears(lc_tensor *onto, lc_tensor *x, int count,
                          const struct lc_linear_part *part, struct lc_border *border) {
    if (!lc_usable("linear", x)) return NULL;
    for (int i = 0; i < count; i++)
        if (!lc_alive("linear", part[i].weight) || !lc_together("linear", x, part[i].weight))
            return NULL;
    struct call c = call_of(x, count, part);
    c.onto = onto;
    const bool whole = lc_border_serves(border, x, count, part);
    int before = lc_pool();
    return lc_pool_end(before, whole ? bordered(&c, border) : apart(&c));
}

lc_tensor *lc_linears(lc_tensor *x, int count, const struct lc_linear_part *part,
                      struct lc_border *border) {
    return linears(NULL, x, count, part, border);
}

lc_tensor *lc_linears_onto(lc_tensor *to, lc_tensor *x, int count,
                           const struct lc_linear_part *part, struct lc_border *border) {
    if (!lc_usable("linear", to) || !lc_usable("linear", x)) return NULL;
    lc_assert(lc_tensor_dense(to) && to->dtype == x->dtype && !lc_wants(to));
    lc_tensor_changed(to);
    return linears(to, x, count, part, border);
}
