/* step.c - decoding steps, plainly or as replays of recordings. */
#include "models/step.h"

#include "base/memory.h"
#include "nn/cache.h"
#include "ops/index.h"
#include "tensor/device.h"

#include <string.h>

static const int sizes[] = {1, 4, 8, 16, 32, 64};
enum { SIZES = sizeof sizes / sizeof *sizes };

struct step {
    lc_tensor *ids;    /* i32 [rows], held; of the rows that fill up: 0 */
    lc_tensor *logits; /* the recording's, held */
    void *recording;   /* NULL: none */
    int64_t storage;   /* of the cache, that it works on */
    uint64_t weights;  /* their state when it ran plainly */
    bool ran;          /* once, plainly */
};

struct lc_steps {
    const lc_model *model;
    struct lc_cache *cache;
    bool adapters;
    bool plain; /* nothing can be recorded */
    struct step step[SIZES];
};

struct lc_steps *lc_steps_new(const lc_model *m, struct lc_cache *cache, bool adapters) {
    struct lc_steps *s = lc_alloc_zero(sizeof *s);
    if (!s) return NULL;
    /* attention in f32 reads its lists by addresses that a recording would keep */
    const bool plain = m->params.device == LC_HOST || m->params.dtype == LC_F32;
    *s = (struct lc_steps){.model = m, .cache = cache, .adapters = adapters, .plain = plain};
    return s;
}

/* The logits are freed before the recording, whose memory they are. */
static void forget(struct step *t) {
    lc_tensor_release(t->logits);
    lc_device_forget(t->recording);
    t->logits = NULL;
    t->recording = NULL;
}

void lc_steps_free(struct lc_steps *s) {
    if (!s) return;
    for (int i = 0; i < SIZES; i++) {
        forget(&s->step[i]);
        lc_tensor_release(s->step[i].ids);
    }
    lc_free(s);
}

/* Which of the sizes a step of n rows is filled up to; NULL: it is run as it is. */
static struct step *step_of(struct lc_steps *s, int n, int *rows) {
    *rows = n;
    for (int i = 0; i < SIZES && !s->plain; i++)
        if (n <= sizes[i]) {
            *rows = sizes[i];
            return &s->step[i];
        }
    return NULL;
}

/* A tensor that is held and outside of scopes. */
static lc_tensor *new_ids(const struct lc_steps *s, int64_t rows) {
    int before = lc_pool();
    lc_scope_outside(1);
    lc_tensor *t = lc_tensor_retain(lc_tensor_new(1, &rows, LC_I32, s->model->params.device));
    lc_scope_outside(0);
    lc_pool_end(before, NULL);
    return t;
}

static int write_ids(lc_tensor *t, int n, const int32_t *ids) {
    const size_t rows = (size_t)t->shape[0];
    int32_t *all = lc_alloc_zero(rows * sizeof *all);
    if (!all) return -1;
    memcpy(all, ids, (size_t)n * sizeof *ids);
    const int done = lc_tensor_write(t, all, rows * sizeof *all);
    lc_free(all);
    return done;
}

/* The planned pass, as ops. */
static lc_tensor *forward(const struct lc_steps *s, lc_tensor *ids) {
    const struct lc_llama_pass pass = {.cache = s->cache, .adapters = s->adapters};
    lc_tensor *x = lc_known_rows(s->model->language.embedding, ids);
    x = lc_llama_forward(&s->model->language, x, &pass);
    return x ? lc_model_head(s->model, x) : NULL;
}

/* Records the planned pass; 1: it cannot be recorded. */
static int record(struct lc_steps *s, struct step *t) {
    const int refused = lc_device_record(s->model->params.device);
    if (refused) return refused;
    int before = lc_pool();
    lc_tensor *logits = forward(s, t->ids);
    if (logits && lc_tensor_keep(logits) == 0) t->logits = lc_tensor_retain(logits);
    lc_pool_end(before, NULL);
    t->recording = lc_device_recorded();
    t->storage = lc_cache_storage(s->cache);
    if (t->logits) return 0;
    forget(t);
    return 1;
}

/* The planned pass by replaying what was recorded of it, now or earlier; 1: there is nothing to replay. */
static int replay(struct lc_steps *s, struct step *t) {
    const uint64_t weights = lc_params_state(&s->model->params);
    /* a plain step follows what was done to weights: borders are filled, nothing is where it was */
    if (t->weights != weights) t->ran = false;
    t->weights = weights;
    if (t->recording && (!t->ran || t->storage != lc_cache_storage(s->cache))) forget(t);
    int done = lc_cache_prepare(s->cache, s->model->language.heads);
    if (!done && !t->recording) {
        if (!t->ran) return 1;
        done = record(s, t);
    }
    if (!done) done = lc_device_replay(t->recording);
    if (done == 1) { /* it will not be otherwise the next time */
        forget(t);
        s->plain = true;
    }
    return done;
}

lc_tensor *lc_steps_run(struct lc_steps *s, int n, const int32_t *path, const int32_t *ids) {
    int before = lc_pool(), rows, done = 1;
    struct step *t = step_of(s, n, &rows);
    lc_tensor *own = t ? t->ids : NULL, *logits = NULL;
    if (!own) own = new_ids(s, rows);
    if (t) t->ids = own;
    if (!own || write_ids(own, n, ids) < 0 || lc_cache_reserve(s->cache, n) < 0 ||
        lc_cache_extend(s->cache, n, path, NULL, rows - n) < 0)
        goto end;
    if (t) done = replay(s, t);
    if (done == 1) logits = forward(s, own);
    else if (!done) logits = lc_view(t->logits, 2, t->logits->shape);
    if (t) t->ran = true;
end:
    if (!t) lc_tensor_release(own);
    return lc_pool_end(before, logits);
}
