/* tensors.c - ops with their gradients, attention over a forest, scopes, AdamW, safetensors. */
#include <string.h>

#include "capi.h"

enum { ROWS = 6, HEADS = 2, WIDTH = 8 };

static lc_tensor *random_of(int ndim, const int64_t *shape, uint64_t stream) {
    return capi_own(lc_tensor_randn(ndim, shape, LC_F32, LC_HOST, 1, stream));
}

/* The sum of a block's output: projections, attention over two leaves of one trunk, a norm and a gate. */
static lc_tensor *block(lc_tensor *x, lc_tensor *w, lc_tensor *norm, const lc_forest *f) {
    const int64_t heads[] = {ROWS, HEADS, WIDTH / HEADS}, flat[] = {ROWS, WIDTH};
    lc_tensor *h = lc_rms_norm(x, norm, 1e-5), *q = lc_view(lc_linear(h, w), 3, heads);
    q = lc_rope(q, lc_forest_positions(f, LC_HOST), 10000);
    lc_tensor *y = lc_view(lc_attention(q, q, q, f, 0.5), 2, flat);
    return lc_sum(lc_swiglu(lc_add(x, y), lc_gelu(h)));
}

static void gradients(void) {
    const int64_t shape[] = {ROWS, WIDTH}, square[] = {WIDTH, WIDTH};
    lc_tensor *x = random_of(2, shape, 1), *w = random_of(2, square, 2),
              *norm = random_of(1, square, 3);
    const int32_t parent[] = {-1, 0, 0}, length[] = {2, 2, 2};
    lc_forest *f = lc_forest_new(3, parent, length, NULL);
    MUST(f && lc_forest_rows(f) == ROWS && lc_forest_position(f, 2) == 2);
    MUST(lc_tensor_requires_grad(w, 1) == 0 && lc_tensor_requires_grad(norm, 1) == 0);
    MUST(lc_scope_begin() == 0);
    lc_tensor *loss = capi_own(block(x, w, norm, f));
    MUST(lc_backward(loss) == 0 && lc_tensor_grad(w) && lc_tensor_grad(norm));
    lc_tensor_release(loss);
    MUST(lc_scope_end() == 0);
    REFUSED(lc_scope_end() < 0);
    REFUSED(lc_matmul(x, x) == NULL && lc_error_code() == LC_EINVAL);
    lc_tensor_zero_grad(w);
    lc_tensor *all[] = {x, w, norm};
    for (int i = 0; i < 3; i++) lc_tensor_release(all[i]);
    lc_forest_release(f);
}

static void step_and_save(const char *scratch) {
    const int64_t shape[] = {3, 4};
    char path[4096];
    snprintf(path, sizeof path, "%s/w.safetensors", scratch);
    lc_tensor *w = random_of(2, shape, 4);
    lc_adamw *o = lc_adamw_new(0.9, 0.999, 1e-8, 0.01);
    MUST(o && lc_tensor_requires_grad(w, 1) == 0 && lc_adamw_add(o, w, "w") == 0);
    lc_tensor *loss = capi_own(lc_mean(lc_pow(w, 2)));
    MUST(lc_backward(loss) == 0 && lc_adamw_grad_norm(o) > 0 && lc_adamw_step(o, 0.1, 1) == 0);
    lc_tensor_release(loss);
    lc_writer *out = lc_writer_new(path);
    MUST(out && lc_writer_metadata(out, "format", "pt") == 0 && lc_writer_add(out, "w", w) == 0);
    MUST(lc_adamw_save(o, out) == 0 && lc_writer_finish(out) == 0);
    lc_checkpoint *c = lc_checkpoint_open(path);
    MUST(c && lc_checkpoint_count(c) == 4 && !strcmp(lc_checkpoint_metadata(c, "format"), "pt"));
    MUST(lc_checkpoint_check(c) == 0 && lc_checkpoint_nonfinite(c, 0) == 0);
    lc_tensor *read = capi_own(lc_checkpoint_tensor(c, "w"));
    float a[12], b[12];
    MUST(lc_tensor_read_f32(read, a, 12) == 0 && lc_tensor_read_f32(w, b, 12) == 0 &&
         !memcmp(a, b, sizeof a));
    lc_tensor_release(read);
    REFUSED(lc_checkpoint_tensor(c, "none") == NULL);
    MUST(lc_adamw_load(o, c) == 0 && lc_adamw_steps(o) == 1);
    lc_checkpoint_close(c);
    lc_adamw_free(o);
    lc_tensor_release(w);
    REFUSED(lc_checkpoint_open(scratch) == NULL);
    MUST(lc_remove(path) == 0);
}

static void dtypes(void) {
    const int64_t shape[] = {2, 64};
    lc_tensor *x = random_of(2, shape, 5);
    for (int dtype = LC_F32; dtype <= LC_F16; dtype++) {
        lc_tensor *y = capi_own(lc_softmax(lc_cast(lc_transpose(x, 0, 1), dtype)));
        lc_tensor_release(y);
    }
    for (int quant = LC_Q8_0; quant < LC_QUANTS; quant++) {
        lc_tensor *y = capi_own(lc_quantise(x, quant, LC_F32));
        lc_tensor_release(y);
    }
    lc_tensor *pair[] = {x, x};
    lc_tensor *y = capi_own(lc_argmax(lc_cat(2, pair, 0)));
    MUST(lc_tensor_count(y) == 4);
    lc_tensor_release(y);
    lc_tensor_release(x);
    lc_memory_fail_at(1);
    REFUSED(lc_tensor_full(2, shape, LC_F32, LC_HOST, 1) == NULL && lc_error_code() == LC_ENOMEM);
}

void capi_tensors(const char *scratch) {
    gradients();
    step_and_save(scratch);
    dtypes();
}
