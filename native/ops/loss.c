/* loss.c - log-probabilities of tokens, cross-entropy and DPO. */
#include "base/error.h"
#include "ops/autograd.h"
#include "ops/index.h"
#include "tensor/device.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* Rows whose logits exist at a time: a device needs more to be busy. */
enum { CHUNK_ROWS = 256, DEVICE_CHUNK_ROWS = 1024 };

/* ---- token_logps ----------------------------------------------------------------------------------
 *
 * Each output is one number of one row, so the gradient of row i is g[i] times what the forward pass can
 * already know: slope[i, :] = (1[target] - softmax) head. While gradients are on it is made right after the
 * logits, which are then gone: two products with the head for a step, not three. Only a head that is itself
 * trained computes them again. */

/* The shapes a chunk works with. */
struct chunk {
    lc_tensor *hidden, *logits; /* [n, D] in the model's dtype, f32 [n, V] */
    int64_t first, n, most;
};

/* Gathers a chunk's hidden rows and computes their logits. */
static int chunk_logits(struct chunk *c, const lc_tensor *hidden, const lc_tensor *head,
                        const lc_tensor *row) {
    if (lc_poll("token_logps") < 0) return -1;
    int64_t d = head->shape[1], v = head->shape[0];
    const struct lc_kernels *k = lc_kernels_of(hidden);
    const int32_t *index = (const int32_t *)lc_data(row) + c->first;
    if (k->take_rows(lc_data(c->hidden), lc_data(hidden), hidden->dtype, index, c->n, d) < 0)
        return -1;
    return k->gemm(&(struct lc_gemm){.m = c->n,
                                     .n = v,
                                     .k = d,
                                     .batch = 1,
                                     .a = lc_data(c->hidden),
                                     .b = lc_data(head),
                                     .c = lc_data(c->logits),
                                     .a_dtype = hidden->dtype,
                                     .b_dtype = head->dtype,
                                     .c_dtype = LC_F32,
                                     .b_transposed = true,
                                     .a_row = d,
                                     .b_row = d,
                                     .c_row = v,
                                     .alpha = 1});
}

static bool chunk_new(struct chunk *c, const lc_tensor *hidden, const lc_tensor *head,
                      int64_t rows) {
    c->most = hidden->storage->device == LC_HOST ? CHUNK_ROWS : DEVICE_CHUNK_ROWS;
    int64_t n = rows < c->most ? rows : c->most;
    c->hidden = lc_tensor_make(hidden, hidden->dtype, 2, (int64_t[]){n, head->shape[1]});
    c->logits =
        c->hidden ? lc_tensor_make(hidden, LC_F32, 2, (int64_t[]){n, head->shape[0]}) : NULL;
    return c->logits != NULL;
}

/* The rows of a chunk's slopes, in hidden's dtype: the logits of the last chunk_logits, less their picks,
 * times the head. rest: [n, V] in the head's dtype, the logits themselves where that is f32. */
static int chunk_slopes(const struct chunk *c, lc_tensor *slope, lc_tensor *rest,
                        const lc_tensor *head, const float *lse, const int32_t *target) {
    const struct lc_kernels *k = lc_kernels_of(head);
    int64_t d = head->shape[1], v = head->shape[0];
    if (k->pick_logp_backward(lc_data(rest), rest->dtype, lc_data(c->logits), NULL, lse + c->first,
                              target + c->first, c->n, v) < 0)
        return -1;
    return k->gemm(&(struct lc_gemm){.m = c->n,
                                     .n = d,
                                     .k = v,
                                     .batch = 1,
                                     .a = lc_data(rest),
                                     .b = lc_data(head),
                                     .c = (unsigned char *)lc_data(slope) +
                                          (size_t)(c->first * d) * lc_dtype_bytes(slope->dtype),
                                     .a_dtype = rest->dtype,
                                     .b_dtype = head->dtype,
                                     .c_dtype = slope->dtype,
                                     .a_row = v,
                                     .b_row = d,
                                     .c_row = d,
                                     .alpha = 1});
}

/* in: hidden; keep: row, slope. */
static int token_logps_slopes(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *hidden = r->in[0], *row = r->keep[0], *slope = r->keep[1],
              *dhidden = lc_grad_sum(hidden);
    if (!dhidden || lc_kernels_of(hidden)->add_rows(lc_data(dhidden), lc_data(slope), slope->dtype,
                                                    lc_data(dy), lc_data(row), row->shape[0],
                                                    hidden->shape[1], hidden->shape[0]) < 0)
        return -1;
    return lc_grad_summed(hidden, dhidden);
}

/* in: hidden, head; keep: row, target, lse. Logits are computed again, chunk by chunk. */
static int token_logps_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *hidden = r->in[0], *head = r->in[1], *row = r->keep[0], *target = r->keep[1],
              *lse = r->keep[2];
    int64_t rows = row->shape[0], d = head->shape[1], v = head->shape[0];
    const struct lc_kernels *k = lc_kernels_of(hidden);
    struct chunk c = {0};
    lc_tensor *dhidden = NULL, *dhead = NULL, *part = NULL;
    if (!chunk_new(&c, hidden, head, rows)) return -1;
    if (lc_wants(hidden) && (!(dhidden = lc_grad_sum(hidden)) ||
                             !(part = lc_tensor_make(hidden, LC_F32, 2, c.hidden->shape))))
        return -1;
    if (lc_wants(head) && !(dhead = lc_grad_sum(head))) return -1;
    for (c.first = 0; c.first < rows; c.first += c.most) {
        c.n = rows - c.first < c.most ? rows - c.first : c.most;
        if (chunk_logits(&c, hidden, head, row) < 0) return -1;
        const float *g = (const float *)lc_data(dy) + c.first,
                    *norm = (const float *)lc_data(lse) + c.first;
        if (k->pick_logp_backward(lc_data(c.logits), LC_F32, lc_data(c.logits), g, norm,
                                  (const int32_t *)lc_data(target) + c.first, c.n, v) < 0)
            return -1;
        if (dhidden &&
            (k->gemm(&(struct lc_gemm){.m = c.n,
                                       .n = d,
                                       .k = v,
                                       .batch = 1,
                                       .a = lc_data(c.logits),
                                       .b = lc_data(head),
                                       .c = lc_data(part),
                                       .a_dtype = LC_F32,
                                       .b_dtype = head->dtype,
                                       .c_dtype = LC_F32,
                                       .a_row = v,
                                       .b_row = d,
                                       .c_row = d,
                                       .alpha = 1}) < 0 ||
             k->add_rows(lc_data(dhidden), lc_data(part), LC_F32, NULL,
                         (const int32_t *)lc_data(row) + c.first, c.n, d, hidden->shape[0]) < 0))
            return -1;
        if (dhead && k->gemm(&(struct lc_gemm){.m = v,
                                               .n = d,
                                               .k = c.n,
                                               .batch = 1,
                                               .a = lc_data(c.logits),
                                               .b = lc_data(c.hidden),
                                               .c = lc_data(dhead),
                                               .a_dtype = LC_F32,
                                               .b_dtype = hidden->dtype,
                                               .c_dtype = LC_F32,
                                               .a_transposed = true,
                                               .a_row = v,
                                               .b_row = d,
                                               .c_row = d,
                                               .alpha = 1,
                                               .beta = 1}) < 0)
            return -1;
    }
    if (dhidden && lc_grad_summed(hidden, dhidden) < 0) return -1;
    return dhead ? lc_grad_summed(head, dhead) : 0;
}

lc_tensor *lc_token_logps(lc_tensor *hidden, lc_tensor *head, lc_tensor *row, lc_tensor *target) {
    if (!lc_usable("token_logps", hidden) || !lc_usable("token_logps", head) ||
        !lc_usable("token_logps", row) || !lc_usable("token_logps", target))
        return NULL;
    if (!lc_is_float(hidden) || !lc_is_float(head) || hidden->ndim != 2 || head->ndim != 2 ||
        hidden->shape[1] != head->shape[1])
        return lc_fail_null(LC_EINVAL,
                            "token_logps: hidden is %s and head %s; [T, D] and [V, D] are expected",
                            lc_shape_text(hidden), lc_shape_text(head));
    if (row->dtype != LC_I32 || row->ndim != 1 || target->dtype != LC_I32 || target->ndim != 1 ||
        row->shape[0] != target->shape[0])
        return lc_fail_null(LC_EINVAL,
                            "token_logps: rows are %s and targets %s; i32 [n] each is expected",
                            lc_shape_text(row), lc_shape_text(target));
    hidden = lc_contiguous(hidden);
    head = lc_contiguous(head);
    if (!hidden || !head || !lc_together("token_logps", hidden, head)) return NULL;
    row = lc_index_on("token_logps", "row", row, hidden->shape[0], hidden);
    target = row ? lc_index_on("token_logps", "target", target, head->shape[0], hidden) : NULL;
    if (!target) return NULL;
    int64_t rows = row->shape[0];
    struct chunk c = {0};
    lc_tensor *y = lc_tensor_make(hidden, LC_F32, 1, &rows),
              *lse = y ? lc_tensor_make(hidden, LC_F32, 1, &rows) : NULL;
    if (!lse || !chunk_new(&c, hidden, head, rows)) return NULL;
    const bool sloped = lc_will_record(&hidden, 1) && !lc_wants(head);
    lc_tensor *slope = NULL, *rest = c.logits;
    if (sloped &&
        (!(slope = lc_tensor_make(hidden, hidden->dtype, 2, (int64_t[]){rows, head->shape[1]})) ||
         (head->dtype != LC_F32 &&
          !(rest = lc_tensor_make(head, head->dtype, 2, c.logits->shape)))))
        return NULL;
    for (c.first = 0; c.first < rows; c.first += c.most) {
        c.n = rows - c.first < c.most ? rows - c.first : c.most;
        if (chunk_logits(&c, hidden, head, row) < 0) return NULL;
        if (lc_kernels_of(hidden)->pick_logp(
                (float *)lc_data(y) + c.first, (float *)lc_data(lse) + c.first, lc_data(c.logits),
                (const int32_t *)lc_data(target) + c.first, c.n, head->shape[0]) < 0 ||
            (sloped && chunk_slopes(&c, slope, rest, head, lc_data(lse), lc_data(target)) < 0))
            return NULL;
    }
    if (sloped)
        return lc_record(y, &(struct lc_rule){.name = "token_logps",
                                              .backward = token_logps_slopes,
                                              .in = {hidden},
                                              .keep = {row, slope}});
    return lc_record(y, &(struct lc_rule){.name = "token_logps",
                                          .backward = token_logps_backward,
                                          .in = {hidden, head},
                                          .keep = {row, target, lse}});
}

/* ---- token_log_squares ---------------------------------------------------------------------------- */

/* log sum p^2 = logsumexp(2 logits) - 2 logsumexp(logits) */
lc_tensor *lc_token_log_squares(lc_tensor *hidden, lc_tensor *head, lc_tensor *row) {
    if (!lc_usable("token_log_squares", hidden) || !lc_usable("token_log_squares", head) ||
        !lc_usable("token_log_squares", row))
        return NULL;
    if (!lc_is_float(hidden) || !lc_is_float(head) || hidden->ndim != 2 || head->ndim != 2 ||
        hidden->shape[1] != head->shape[1] || row->dtype != LC_I32 || row->ndim != 1)
        return lc_fail_null(LC_EINVAL,
                            "token_log_squares: hidden is %s, head %s and rows %s; [T, D], [V, D] "
                            "and i32 [n] are expected",
                            lc_shape_text(hidden), lc_shape_text(head), lc_shape_text(row));
    hidden = lc_contiguous(hidden);
    head = lc_contiguous(head);
    if (!hidden || !head || !lc_together("token_log_squares", hidden, head)) return NULL;
    row = lc_index_on("token_log_squares", "row", row, hidden->shape[0], hidden);
    if (!row) return NULL;
    int64_t rows = row->shape[0], width = head->shape[0];
    const struct lc_kernels *k = lc_kernels_of(hidden);
    struct chunk c = {0};
    lc_tensor *y = lc_tensor_make(hidden, LC_F32, 1, &rows),
              *lse = y ? lc_tensor_make(hidden, LC_F32, 1, &rows) : NULL,
              *none = lse ? lc_tensor_make(hidden, LC_F32, 1, &rows) : NULL,
              *skip = none ? lc_tensor_make(hidden, LC_I32, 1, &rows) : NULL;
    if (!skip || !chunk_new(&c, hidden, head, rows) || k->fill(lc_data(skip), LC_I32, rows, -1) < 0)
        return NULL;
    for (c.first = 0; c.first < rows; c.first += c.most) {
        c.n = rows - c.first < c.most ? rows - c.first : c.most;
        float *logits = lc_data(c.logits), *unused = (float *)lc_data(none) + c.first;
        const int32_t *skipped = (const int32_t *)lc_data(skip) + c.first;
        if (chunk_logits(&c, hidden, head, row) < 0 ||
            k->pick_logp(unused, (float *)lc_data(lse) + c.first, logits, skipped, c.n, width) <
                0 ||
            k->unary(logits, logits, LC_F32, c.n * width, LC_SCALE, 2, 0) < 0 ||
            k->pick_logp(unused, (float *)lc_data(y) + c.first, logits, skipped, c.n, width) < 0)
            return NULL;
    }
    if (k->unary(lc_data(lse), lc_data(lse), LC_F32, rows, LC_SCALE, -2, 0) < 0 ||
        k->accumulate(lc_data(y), LC_F32, lc_data(lse), LC_F32, rows) < 0)
        return NULL;
    return y;
}

/* ---- cross_entropy -------------------------------------------------------------------------------------- */

static int cross_entropy_backward(const struct lc_rule *r, lc_tensor *dy) {
    lc_tensor *logits = r->in[0], *target = r->keep[0], *lse = r->keep[1];
    int64_t rows = logits->shape[0];
    lc_tensor *dx = lc_tensor_make(logits, LC_F32, 2, logits->shape),
              *g = lc_tensor_make(logits, LC_F32, 1, &rows);
    if (!dx || !g || lc_tensor_copy(dx, logits) < 0) return -1;
    float loss;
    if (lc_tensor_read_f32(dy, &loss, 1) < 0) return -1;
    const struct lc_kernels *k = lc_kernels_of(logits);
    if (k->fill(lc_data(g), LC_F32, rows, -loss * r->f[0]) < 0) return -1;
    if (k->pick_logp_backward(lc_data(dx), LC_F32, lc_data(dx), lc_data(g), lc_data(lse),
                              lc_data(target), rows, logits->shape[1]) < 0)
        return -1;
    return lc_grad_add(logits, dx);
}

lc_tensor *lc_cross_entropy(lc_tensor *logits, lc_tensor *targets) {
    if (!lc_usable("cross_entropy", logits) || !lc_usable("cross_entropy", targets)) return NULL;
    if (!lc_is_float(logits) || logits->ndim != 2 || targets->dtype != LC_I32 ||
        targets->ndim != 1 || targets->shape[0] != logits->shape[0])
        return lc_fail_null(
            LC_EINVAL,
            "cross_entropy: logits are %s and targets %s; [N, V] and i32 [N] are expected",
            lc_shape_text(logits), lc_shape_text(targets));
    logits = lc_contiguous(logits);
    targets = lc_contiguous(targets);
    lc_tensor *x = logits && logits->dtype != LC_F32 ? lc_cast(logits, LC_F32) : logits;
    if (!x || !targets) return NULL;
    int64_t rows = x->shape[0], counted = 0;
    const lc_tensor *host = lc_tensor_on(targets, LC_HOST);
    const int32_t *at = host ? lc_data(host) : NULL;
    targets = lc_tensor_on(targets, x->storage->device);
    if (!host || !targets) return NULL;
    for (int64_t i = 0; i < rows; i++) {
        if (at[i] != -100 && (at[i] < 0 || at[i] >= x->shape[1]))
            return lc_fail_null(LC_EINVAL,
                                "cross_entropy: target %" PRId64 " is %" PRId32 "; 0 to %" PRId64
                                ", or -100 to skip, is possible",
                                i + 1, at[i], x->shape[1] - 1);
        counted += at[i] >= 0;
    }
    double scale = counted ? 1 / (double)counted : 0; /* nothing counted: a loss of 0 */
    lc_tensor *logp = lc_tensor_make(x, LC_F32, 1, &rows),
              *lse = logp ? lc_tensor_make(x, LC_F32, 1, &rows) : NULL;
    lc_tensor *y = lse ? lc_tensor_make(x, LC_F32, 0, NULL) : NULL;
    if (!y || lc_kernels_of(x)->pick_logp(lc_data(logp), lc_data(lse), lc_data(x), lc_data(targets),
                                          rows, x->shape[1]) < 0)
        return NULL;
    if (lc_kernels_of(x)->sum(lc_data(y), lc_data(logp), LC_F32, 1, rows, 1, (float)-scale) < 0)
        return NULL;
    return lc_record(y, &(struct lc_rule){.name = "cross_entropy",
                                          .backward = cross_entropy_backward,
                                          .in = {x},
                                          .keep = {targets, lse},
                                          .f = {scale}});
}

/* ---- dpo_loss ---------------------------------------------------------------------------------------------- */

/* h = beta ((pc - pr) - (rc - rr)); loss = mean softplus(-h); d loss / d h = -sigmoid(-h) / N */
static double margin_of(lc_tensor *const in[4], int64_t i, double beta) {
    double v[4];
    for (int j = 0; j < 4; j++) v[j] = ((const float *)lc_data(in[j]))[i];
    return beta * ((v[0] - v[1]) - (v[2] - v[3]));
}

/* The four operands on the host: N is small, and the loss is read there in any case. */
static int on_host(lc_tensor *const in[4], lc_tensor *host[4]) {
    for (int j = 0; j < 4; j++)
        if (!(host[j] = lc_tensor_on(in[j], LC_HOST))) return -1;
    return 0;
}

static double softplus(double x) { return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x)); }

static int dpo_backward(const struct lc_rule *r, lc_tensor *dy) {
    static const double sign[4] = {-1, 1, 1, -1};
    float loss;
    lc_tensor *host[4];
    if (lc_tensor_read_f32(dy, &loss, 1) < 0 || on_host(r->in, host) < 0) return -1;
    int64_t n = r->in[0]->shape[0];
    for (int j = 0; j < 4; j++) {
        if (!lc_wants(r->in[j])) continue;
        lc_tensor *g = lc_tensor_like(host[j]);
        if (!g) return -1;
        for (int64_t i = 0; i < n; i++)
            ((float *)lc_data(g))[i] = (float)(sign[j] * loss * r->f[0] / (double)n /
                                               (1 + exp(margin_of(host, i, r->f[0]))));
        if (lc_grad_add(r->in[j], lc_tensor_on(g, r->in[j]->storage->device)) < 0) return -1;
    }
    return 0;
}

lc_tensor *lc_dpo_loss(lc_tensor *policy_chosen, lc_tensor *policy_rejected,
                       lc_tensor *reference_chosen, lc_tensor *reference_rejected, double beta) {
    lc_tensor *in[4] = {policy_chosen, policy_rejected, reference_chosen, reference_rejected};
    struct lc_rule rule = {.name = "dpo_loss", .backward = dpo_backward, .f = {beta}};
    for (int j = 0; j < 4; j++) {
        if (!lc_usable("dpo_loss", in[j])) return NULL;
        if (in[j]->dtype != LC_F32 || in[j]->ndim != 1 || in[j]->shape[0] != in[0]->shape[0] ||
            !in[0]->shape[0])
            return lc_fail_null(
                LC_EINVAL,
                "dpo_loss: argument %d is %s; four times f32 [N], N at least 1, is expected", j + 1,
                lc_shape_text(in[j]));
        rule.in[j] = lc_contiguous(in[j]);
        if (!rule.in[j] || !lc_together("dpo_loss", in[0], in[j])) return NULL;
    }
    lc_tensor *host[4];
    if (on_host(rule.in, host) < 0) return NULL;
    double sum = 0;
    int64_t n = in[0]->shape[0];
    for (int64_t i = 0; i < n; i++) sum += softplus(-margin_of(host, i, beta));
    return lc_record(lc_tensor_full(0, NULL, LC_F32, in[0]->storage->device, sum / (double)n),
                     &rule);
}
