/* generate.c - answers that grow from the ends of a batch's prompts.
 *
 * The prompts are run once as a forest and their keys stay in the cache, shared by every leaf below
 * them. Each step then runs one row a live leaf: it sees its path's cached keys and its own. A leaf's
 * numbers depend on its own path alone, so answers do not change with the company they are made in. */
#include "base/error.h"
#include "base/memory.h"
#include "models/model.h"
#include "nn/cache.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

struct leaf {
    int32_t next;     /* the token to feed in the next step; -1: none chosen yet */
    int32_t made;     /* tokens chosen so far */
    int64_t position; /* of the next token */
    uint64_t stream;  /* of its random numbers */
    bool live;
};

struct lc_generator {
    lc_model *model;
    struct lc_cache *cache;
    struct leaf *leaves;
    int count, most; /* leaves; tokens each may make */
    bool adapters;
    lc_tensor *logits; /* f32 [count, V]: of each leaf's next token; held, outside scopes */
};

void lc_generator_free(lc_generator *g) {
    if (!g) return;
    lc_cache_free(g->cache);
    lc_tensor_release(g->logits);
    lc_free(g->leaves);
    lc_free(g);
}

int lc_generator_leaves(const lc_generator *g) { return g->count; }

static int check_leaf(const lc_generator *g, int leaf) {
    if (leaf >= 0 && leaf < g->count) return 0;
    return lc_fail(LC_EINVAL, "generate: there is no leaf %d of %d", leaf + 1, g->count);
}

int lc_generator_stream(lc_generator *g, int leaf, uint64_t stream) {
    if (check_leaf(g, leaf) < 0) return -1;
    g->leaves[leaf].stream = stream;
    return 0;
}

int lc_generator_end(lc_generator *g, int leaf) {
    if (check_leaf(g, leaf) < 0) return -1;
    if (!g->leaves[leaf].live) return 0;
    g->leaves[leaf].live = false;
    return lc_cache_drop(g->cache, leaf);
}

/* ---- passes ------------------------------------------------------------------------------------ */

/* Logits of the planned pass's rows; last (or NULL: all) says which of them are wanted. */
static lc_tensor *run_pass(lc_generator *g, lc_tensor *x, lc_forest *forest, lc_tensor *last) {
    struct lc_llama_pass pass = {.forest = forest,
                                 .position = lc_cache_positions(g->cache),
                                 .cache = g->cache,
                                 .adapters = g->adapters};
    x = pass.position ? lc_llama_forward(&g->model->language, x, &pass) : NULL;
    return x ? lc_model_head(g->model, last ? lc_rows(x, last) : x) : NULL;
}

/* Keeps what the next choice is made from. */
static int keep_logits(lc_generator *g, lc_tensor *logits) {
    if (!logits || lc_tensor_keep(logits) < 0) return -1;
    lc_tensor_release(g->logits);
    g->logits = lc_tensor_retain(logits);
    return 0;
}

static int prefill(lc_generator *g, const lc_batch *b) {
    int before = lc_pool(), done = -1;
    int64_t n = g->count;
    int32_t *segments = lc_alloc((size_t)(n + 1) * sizeof *segments);
    lc_forest *forest = lc_batch_forest(b);
    lc_tensor *last = lc_tensor_new(1, &n, LC_I32, LC_HOST);
    if (!segments || !forest || !last || lc_model_check_length(g->model, b, forest, 0) < 0)
        goto end;
    int32_t *row = lc_data(last);
    for (int i = 0, leaf = 0; i < b->count; i++) {
        if (!b->segments[i].score) continue;
        int64_t at = lc_batch_last_row(b, forest, i);
        if (at < 0) {
            lc_fail(LC_EINVAL, "generate: segment %d has no token to continue from", i + 1);
            goto end;
        }
        segments[leaf] = i;
        row[leaf] = (int32_t)at;
        g->leaves[leaf] = (struct leaf){-1, 0, lc_forest_position(forest, i) + b->segments[i].rows,
                                        (uint64_t)leaf, true};
        leaf++;
    }
    if (lc_cache_prefill(g->cache, forest, g->count, segments) < 0) goto end;
    done = keep_logits(g, run_pass(g, lc_model_embed(g->model, b, forest), forest, last));
end:
    lc_pool_end(before, NULL);
    lc_forest_release(forest);
    lc_free(segments);
    return done;
}

lc_generator *lc_generator_new(lc_model *m, lc_batch *b, int max_new_tokens, int adapters) {
    if (max_new_tokens < 1)
        return lc_fail_null(LC_EINVAL, "generate: max_new_tokens is %d; at least 1",
                            max_new_tokens);
    lc_generator *g = lc_alloc_zero(sizeof *g);
    if (!g) return NULL;
    int64_t rows = 0;
    for (int i = 0; i < b->count; i++) {
        rows += b->segments[i].rows;
        g->count += b->segments[i].score;
    }
    g->model = m;
    g->most = max_new_tokens;
    g->adapters = adapters != 0;
    g->leaves = lc_alloc_zero((size_t)(g->count + 1) * sizeof *g->leaves);
    const struct lc_llama *l = &m->language;
    int64_t room = l->max_positions < max_new_tokens ? l->max_positions : max_new_tokens;
    int recording = lc_grad_mode(0);
    if (g->leaves)
        g->cache = lc_cache_new((int)l->layers, rows + g->count * room, l->groups, l->head_size,
                                m->params.dtype, m->params.device);
    bool ready = g->cache && !prefill(g, b);
    lc_grad_mode(recording);
    if (ready) return g;
    lc_generator_free(g);
    return NULL;
}

/* Runs the chosen tokens of the live leaves; the logits are theirs then, in order. */
static int advance(lc_generator *g) {
    int before = lc_pool(), done = -1;
    int64_t n = 0;
    for (int i = 0; i < g->count; i++) n += g->leaves[i].live;
    int32_t *leaf = lc_alloc((size_t)(n + 1) * sizeof *leaf);
    lc_tensor *ids = lc_tensor_new(1, &n, LC_I32, LC_HOST);
    if (!leaf || !ids) goto end;
    for (int i = 0, k = 0; i < g->count; i++) {
        if (!g->leaves[i].live) continue;
        ((int32_t *)lc_data(ids))[k] = g->leaves[i].next;
        leaf[k++] = i;
    }
    if (lc_cache_extend(g->cache, (int)n, leaf, NULL) < 0) goto end;
    lc_tensor *x = lc_embedding(g->model->language.embedding, ids);
    done = x ? keep_logits(g, run_pass(g, x, NULL, NULL)) : -1;
end:
    lc_pool_end(before, NULL);
    lc_free(leaf);
    return done;
}

/* ---- choosing ------------------------------------------------------------------------------------ */

static int32_t greatest(const float *x, int64_t n) {
    int32_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = (int32_t)i;
    return best;
}

static double log_sum_exp(const float *x, int64_t n, double scale) {
    double most = x[greatest(x, n)], sum = 0;
    for (int64_t i = 0; i < n; i++) sum += exp((x[i] - most) * scale);
    return most * scale + log(sum);
}

struct candidate {
    double p;
    int32_t id;
};

static int likelier(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    return x->p != y->p ? (x->p < y->p) - (x->p > y->p) : (x->id > y->id) - (x->id < y->id);
}

/* A token of softmax(x / temperature), cut to the smallest set of likeliest tokens that holds top_p. */
static int32_t sample(const float *x, int64_t n, double temperature, double top_p, double u,
                      struct candidate *list) {
    double norm = log_sum_exp(x, n, 1 / temperature), whole = 0, sum = 0;
    for (int64_t i = 0; i < n; i++)
        list[i] = (struct candidate){exp(x[i] / temperature - norm), (int32_t)i};
    qsort(list, (size_t)n, sizeof *list, likelier);
    int64_t kept = 0;
    while (kept < n && (kept == 0 || whole < top_p)) whole += list[kept++].p;
    for (int64_t i = 0; i < kept; i++) {
        sum += list[i].p;
        if (u * whole < sum) return list[i].id;
    }
    return list[kept - 1].id;
}

int lc_generator_step(lc_generator *g, double temperature, double top_p, uint64_t seed,
                      int32_t *tokens, float *logps) {
    if (!(temperature >= 0))
        return lc_fail(LC_EINVAL, "generate: temperature is %g; 0 (greedy) or more", temperature);
    if (!(top_p > 0 && top_p <= 1))
        return lc_fail(LC_EINVAL, "generate: top_p is %g; above 0 and at most 1", top_p);
    int64_t most = g->model->language.max_positions, vocabulary = g->model->language.vocabulary;
    bool started = false;
    int live = 0;
    for (int i = 0; i < g->count; i++) {
        struct leaf *l = &g->leaves[i];
        if (l->live && (l->made >= g->most || l->position >= most) && lc_generator_end(g, i) < 0)
            return -1;
        live += l->live;
        started |= l->live && l->next >= 0;
    }
    for (int i = 0; i < g->count; i++) tokens[i] = -1;
    if (!live) return 0;
    int recording = lc_grad_mode(0), done = started ? advance(g) : 0;
    lc_grad_mode(recording);
    if (done < 0 || lc_poll("generate") < 0) return -1;
    int64_t rows = g->logits->shape[0], row = 0;
    float *x = lc_alloc((size_t)(rows * vocabulary) * sizeof *x);
    struct candidate *list = temperature > 0 ? lc_alloc((size_t)vocabulary * sizeof *list) : NULL;
    if (!x || (temperature > 0 && !list) || lc_tensor_read_f32(g->logits, x, rows * vocabulary) < 0)
        live = -1;
    for (int i = 0; live > 0 && i < g->count; i++) {
        struct leaf *l = &g->leaves[i];
        if (!l->live) {
            row += !started; /* the prompts' logits have a row for every leaf */
            continue;
        }
        const float *own = x + row++ * vocabulary;
        double u = temperature > 0 ? lc_uniform(seed, l->stream, (uint64_t)l->made) : 0;
        l->next = temperature > 0 ? sample(own, vocabulary, temperature, top_p, u, list)
                                  : greatest(own, vocabulary);
        tokens[i] = l->next;
        if (logps) logps[i] = (float)(own[l->next] - log_sum_exp(own, vocabulary, 1));
        l->made++;
        l->position++;
    }
    lc_free(x);
    lc_free(list);
    return live;
}
