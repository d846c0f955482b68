/* generate.c - answers that grow from the ends of a batch's prompts.
 *
 * The prompts are run once as a forest and their keys stay in the cache, shared by every leaf below
 * them. Each step then runs one row a live leaf: it sees its path's cached keys and its own. A leaf's
 * numbers depend on its own path alone, so answers do not change with the company they are made in.
 *
 * One round is: feed what was chosen (once, for all live leaves), read the logits, choose. step does
 * all three; a search over several continuations calls best, then ends, forks and chooses itself. */
#include "base/error.h"
#include "base/memory.h"
#include "models/model.h"
#include "models/step.h"
#include "nn/cache.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_ROOM = 32 }; /* slots a leaf before the cache grows */

struct leaf {
    int32_t next;     /* the token to feed in the next step; -1: none chosen yet */
    int32_t made;     /* tokens chosen so far */
    int64_t least;    /* tokens before an answer may end */
    int32_t path;     /* its number in the cache; -1: not known there */
    int64_t position; /* of the next token */
    int64_t row;      /* of the logits, its own */
    uint64_t stream;  /* of its random numbers */
    int32_t *seen;    /* ids that a repetition penalty counts: the caller's and its own */
    int64_t seen_count, seen_room;
    bool live;
};

struct lc_generator {
    lc_model *model;
    struct lc_cache *cache;
    struct lc_steps *steps;
    struct leaf *leaves;
    int count, room, most; /* leaves; space for leaves; tokens each may make */
    bool adapters;
    lc_tensor *logits; /* f32 [rows, V]: of each leaf's next token; held, outside scopes */

    double temperature, top_p, penalty;
    int64_t top_k; /* 0: all */
    uint64_t seed;
    int64_t words; /* ids that may be chosen, from 0 on */
    int32_t *ends; /* ids that end an answer */
    int64_t end_count;
};

void lc_generator_free(lc_generator *g) {
    if (!g) return;
    lc_tensor_release(g->logits);
    lc_steps_free(g->steps);
    lc_cache_free(g->cache);
    for (int i = 0; g->leaves && i < g->count; i++) lc_free(g->leaves[i].seen);
    lc_free(g->leaves);
    lc_free(g->ends);
    lc_free(g);
}

int lc_generator_leaves(const lc_generator *g) { return g->count; }

static int check_leaf(const lc_generator *g, int leaf) {
    if (leaf >= 0 && leaf < g->count) return 0;
    return lc_fail(LC_EINVAL, "generate: there is no leaf %d of %d", leaf + 1, g->count);
}

/* Adds ids to those that a repetition penalty counts. */
static int see(struct leaf *l, const int32_t *ids, int64_t n) {
    if (l->seen_count + n > l->seen_room) {
        int64_t room = 2 * (l->seen_count + n) + 16;
        int32_t *seen = lc_realloc(l->seen, (size_t)room * sizeof *seen);
        if (!seen) return -1;
        l->seen = seen;
        l->seen_room = room;
    }
    if (n > 0) memcpy(l->seen + l->seen_count, ids, (size_t)n * sizeof *ids);
    l->seen_count += n;
    return 0;
}

int lc_generator_stream(lc_generator *g, int leaf, uint64_t stream) {
    if (check_leaf(g, leaf) < 0) return -1;
    g->leaves[leaf].stream = stream;
    return 0;
}

/* All ids are of the vocabulary. */
static int check_ids(const lc_generator *g, const int32_t *ids, int64_t n) {
    int64_t vocabulary = g->model->language.vocabulary;
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocabulary)
            return lc_fail(LC_EINVAL, "generate: id %d of a vocabulary of %" PRId64, ids[i],
                           vocabulary);
    return 0;
}

int lc_generator_seen(lc_generator *g, int leaf, const int32_t *ids, int64_t n) {
    if (check_leaf(g, leaf) < 0 || check_ids(g, ids, n) < 0) return -1;
    return see(&g->leaves[leaf], ids, n);
}

int lc_generator_least(lc_generator *g, int leaf, int64_t least) {
    if (check_leaf(g, leaf) < 0) return -1;
    g->leaves[leaf].least = least;
    return 0;
}

int64_t lc_generator_room(const lc_generator *g, int leaf) {
    if (check_leaf(g, leaf) < 0) return -1;
    const struct leaf *l = &g->leaves[leaf];
    int64_t more = g->most - l->made, fit = g->model->language.max_positions - l->position;
    if (!l->live || more < 0 || fit < 0) return 0;
    return more < fit ? more : fit;
}

int lc_generator_end(lc_generator *g, int leaf) {
    if (check_leaf(g, leaf) < 0) return -1;
    struct leaf *l = &g->leaves[leaf];
    if (!l->live) return 0;
    l->live = false;
    l->row = l->next = -1;
    return lc_cache_drop(g->cache, l->path);
}

/* The number of a leaf that is not in use, with nothing seen. */
static int spare_leaf(lc_generator *g) {
    for (int i = 0; i < g->count; i++)
        if (!g->leaves[i].live) return i;
    if (g->count == g->room) {
        int room = 2 * g->room + 4;
        struct leaf *leaves = lc_realloc(g->leaves, (size_t)room * sizeof *leaves);
        if (!leaves) return -1;
        g->leaves = leaves;
        g->room = room;
    }
    g->leaves[g->count] = (struct leaf){0};
    return g->count++;
}

int lc_generator_fork(lc_generator *g, int leaf) {
    if (check_leaf(g, leaf) < 0) return -1;
    if (!g->leaves[leaf].live)
        return lc_fail(LC_EINVAL, "generate: leaf %d has ended and cannot fork", leaf + 1);
    int copy = spare_leaf(g);
    if (copy < 0) return -1;
    const struct leaf *old = &g->leaves[leaf]; /* the list may have moved */
    struct leaf *l = &g->leaves[copy];
    l->seen_count = 0;
    if (see(l, old->seen, old->seen_count) < 0) return -1;
    int path = lc_cache_fork(g->cache, old->path);
    if (path < 0) return -1;
    struct leaf kept = *l;
    *l = *old;
    l->path = path;
    l->seen = kept.seen;
    l->seen_room = kept.seen_room;
    return copy;
}

int lc_generator_choose(lc_generator *g, int leaf, int32_t id) {
    if (check_leaf(g, leaf) < 0) return -1;
    struct leaf *l = &g->leaves[leaf];
    if (!l->live || l->next >= 0 || l->row < 0)
        return lc_fail(LC_EINVAL, "generate: leaf %d %s", leaf + 1,
                       l->live ? "has its next token already" : "has ended");
    if (check_ids(g, &id, 1) < 0) return -1;
    if (lc_generator_room(g, leaf) < 1)
        return lc_fail(LC_EINVAL, "generate: leaf %d has no room for another token", leaf + 1);
    if (see(l, &id, 1) < 0) return -1;
    l->next = id;
    l->made++;
    l->position++;
    return 0;
}

/* ---- settings ---------------------------------------------------------------------------------- */

int lc_generator_sampling(lc_generator *g, double temperature, int64_t top_k, double top_p,
                          uint64_t seed) {
    if (!(temperature >= 0))
        return lc_fail(LC_EINVAL, "generate: temperature is %g; 0 (greedy) or more", temperature);
    if (top_k < 0) return lc_fail(LC_EINVAL, "generate: top_k is %" PRId64 "; 0: all", top_k);
    if (!(top_p > 0 && top_p <= 1))
        return lc_fail(LC_EINVAL, "generate: top_p is %g; above 0 and at most 1", top_p);
    g->temperature = temperature;
    g->top_k = top_k;
    g->top_p = top_p;
    g->seed = seed;
    return 0;
}

int lc_generator_penalty(lc_generator *g, double repetition) {
    if (!(repetition > 0 && repetition < INFINITY))
        return lc_fail(LC_EINVAL, "generate: repetition penalty is %g; above 0, 1: none",
                       repetition);
    g->penalty = repetition;
    return 0;
}

int lc_generator_ends(lc_generator *g, const int32_t *ids, int64_t n) {
    if (n < 0 || check_ids(g, ids, n) < 0) return -1;
    int32_t *ends = lc_alloc((size_t)n * sizeof *ends);
    if (!ends) return -1;
    if (n) memcpy(ends, ids, (size_t)n * sizeof *ends);
    lc_free(g->ends);
    g->ends = ends;
    g->end_count = n;
    return 0;
}

int lc_generator_words(lc_generator *g, int64_t n) {
    int64_t vocabulary = g->model->language.vocabulary;
    if (n < 1 || n > vocabulary)
        return lc_fail(LC_EINVAL, "generate: %" PRId64 " words of a vocabulary of %" PRId64, n,
                       vocabulary);
    g->words = n;
    return 0;
}

/* ---- passes ------------------------------------------------------------------------------------ */

/* Logits of the planned pass's rows that last names. */
static lc_tensor *run_pass(lc_generator *g, lc_tensor *x, lc_tensor *last) {
    const struct lc_llama_pass pass = {.cache = g->cache, .adapters = g->adapters};
    x = lc_llama_forward(&g->model->language, x, &pass);
    return x ? lc_model_head(g->model, lc_rows(x, last)) : NULL;
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
        g->leaves[leaf] =
            (struct leaf){.next = -1,
                          .path = leaf,
                          .position = lc_forest_position(forest, i) + b->segments[i].rows,
                          .row = leaf,
                          .stream = (uint64_t)leaf,
                          .live = true};
        leaf++;
    }
    if (lc_cache_prefill(g->cache, forest, g->count, segments) < 0) goto end;
    done = keep_logits(g, run_pass(g, lc_model_embed(g->model, b, forest), last));
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
    g->words = m->language.vocabulary;
    g->most = max_new_tokens;
    g->adapters = adapters != 0;
    g->temperature = 0;
    g->top_p = g->penalty = 1;
    g->room = g->count + 1;
    g->leaves = lc_alloc_zero((size_t)g->room * sizeof *g->leaves);
    const struct lc_llama *l = &m->language;
    int64_t room = max_new_tokens < FIRST_ROOM ? max_new_tokens : FIRST_ROOM;
    int recording = lc_grad_mode(0);
    if (g->leaves)
        g->cache = lc_cache_new((int)l->layers, rows + g->count * room, l->groups, l->head_size,
                                m->params.dtype, m->params.device);
    if (g->cache) g->steps = lc_steps_new(m, g->cache, g->adapters);
    bool ready = g->steps && !prefill(g, b);
    lc_grad_mode(recording);
    if (ready) return g;
    lc_generator_free(g);
    return NULL;
}

/* Runs the chosen tokens of the live leaves; the logits are theirs then. */
static int advance(lc_generator *g) {
    int before = lc_pool(), n = 0, done = -1;
    int32_t *path = lc_alloc(2 * ((size_t)g->count + 1) * sizeof *path), *ids = path + g->count;
    for (int i = 0; path && i < g->count; i++) {
        if (!g->leaves[i].live) continue;
        ids[n] = g->leaves[i].next;
        path[n++] = g->leaves[i].path;
    }
    lc_tensor_release(g->logits); /* a step may write over them */
    g->logits = NULL;
    if (path) done = keep_logits(g, lc_steps_run(g->steps, n, path, ids));
    lc_pool_end(before, NULL);
    lc_free(path);
    int64_t row = 0;
    for (int i = 0; !done && i < g->count; i++) {
        if (!g->leaves[i].live) continue;
        g->leaves[i].next = -1;
        g->leaves[i].row = row++;
    }
    return done;
}

/* Runs n more ids of the one live leaf; the logits are those of the last. */
static int run_ids(lc_generator *g, struct leaf *l, const int32_t *ids, int64_t n) {
    int before = lc_pool(), done = -1;
    int64_t one = 1;
    int32_t count = (int32_t)n;
    lc_tensor *rows = lc_tensor_new(1, &n, LC_I32, LC_HOST), *x = NULL;
    lc_tensor *last = lc_tensor_new(1, &one, LC_I32, LC_HOST);
    if (rows && last && !lc_cache_reserve(g->cache, n) &&
        !lc_cache_extend(g->cache, 1, &l->path, &count, 0)) {
        memcpy(lc_data(rows), ids, (size_t)n * sizeof *ids);
        *(int32_t *)lc_data(last) = count - 1;
        x = lc_embedding(g->model->language.embedding, rows);
        done = x ? keep_logits(g, run_pass(g, x, last)) : -1;
    }
    lc_pool_end(before, NULL);
    return done;
}

int lc_generator_continue(lc_generator *g, int leaf, const int32_t *ids, int64_t n) {
    if (check_leaf(g, leaf) < 0 || check_ids(g, ids, n) < 0) return -1;
    struct leaf *l = &g->leaves[leaf];
    int live = 0;
    for (int i = 0; i < g->count; i++) live += g->leaves[i].live;
    if (!l->live || live > 1)
        return lc_fail(LC_EINVAL, "generate: leaf %d %s; the only live one can continue", leaf + 1,
                       l->live ? "is not alone" : "has ended");
    int64_t position = l->position - (l->next >= 0) + n, most = g->model->language.max_positions;
    if (n < 1 || position > most)
        return lc_fail(LC_EINVAL,
                       "generate: %" PRId64 " more ids make %" PRId64
                       " positions; at least 1, and the model has %" PRId64,
                       n, position, most);
    int recording = lc_grad_mode(0), done = run_ids(g, l, ids, n);
    lc_grad_mode(recording);
    if (done < 0) return -1;
    l->next = -1;
    l->position = position;
    l->made = 0;
    l->row = 0;
    l->seen_count = 0;
    return 0;
}

/* Brings the logits up to date: all live leaves have chosen, or none. The number of live leaves. */
static int catch_up(lc_generator *g) {
    int live = 0, chosen = 0;
    for (int i = 0; i < g->count; i++) {
        live += g->leaves[i].live;
        chosen += g->leaves[i].live && g->leaves[i].next >= 0;
    }
    if (chosen && chosen < live)
        return lc_fail(LC_EINVAL, "generate: %d of %d live leaves have no next token",
                       live - chosen, live);
    if (!chosen) return live;
    int recording = lc_grad_mode(0), done = advance(g);
    lc_grad_mode(recording);
    return done < 0 || lc_poll("generate") < 0 ? -1 : live;
}

/* ---- choosing ------------------------------------------------------------------------------------ */

static int32_t greatest(const float *x, int64_t n) {
    int32_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = (int32_t)i;
    return best;
}

static double log_sum_exp(const float *x, int64_t n) {
    double most = x[greatest(x, n)], sum = 0;
    for (int64_t i = 0; i < n; i++) sum += exp(x[i] - most);
    return most + log(sum);
}

struct candidate {
    double x;
    int32_t id;
};

static int likelier(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    return x->x != y->x ? (x->x < y->x) - (x->x > y->x) : (x->id > y->id) - (x->id < y->id);
}

/* What choices are made with. */
struct workspace {
    float *logits;          /* every row's */
    float *own;             /* [V], of the leaf at hand */
    struct candidate *list; /* [V] */
    unsigned char *marked;  /* [V], all 0 between uses */
};

static void free_workspace(struct workspace *w) {
    lc_free(w->logits);
    lc_free(w->own);
    lc_free(w->list);
    lc_free(w->marked);
}

static int new_workspace(lc_generator *g, struct workspace *w) {
    int64_t vocabulary = g->model->language.vocabulary, rows = 0, all;
    for (int i = 0; i < g->count; i++)
        if (g->leaves[i].live && g->leaves[i].row >= rows) rows = g->leaves[i].row + 1;
    all = rows * vocabulary;
    w->logits = lc_alloc((size_t)all * sizeof *w->logits);
    w->own = lc_alloc((size_t)vocabulary * sizeof *w->own);
    w->list = lc_alloc((size_t)vocabulary * sizeof *w->list);
    w->marked = lc_alloc_zero((size_t)vocabulary);
    if (!w->logits || !w->own || !w->list || !w->marked) return -1;
    int before = lc_pool(); /* rows behind these fill up a step */
    lc_tensor *own = lc_slice(g->logits, 0, 0, rows);
    int done = own ? lc_tensor_read_f32(own, w->logits, all) : -1;
    lc_pool_end(before, NULL);
    return done;
}

/* The repetition penalty, each id once: what is above 0 is divided, what is below is multiplied;
 * then what is no word, and what ends an answer, while it may not come. */
static void adjust(const lc_generator *g, const struct leaf *l, float *x, unsigned char *marked) {
    if (g->penalty != 1) {
        float penalty = (float)g->penalty;
        for (int64_t i = 0; i < l->seen_count; i++) {
            int32_t id = l->seen[i];
            if (marked[id]) continue;
            marked[id] = 1;
            x[id] = x[id] < 0 ? x[id] * penalty : x[id] / penalty;
        }
        for (int64_t i = 0; i < l->seen_count; i++) marked[l->seen[i]] = 0;
    }
    for (int64_t i = g->words; i < g->model->language.vocabulary; i++) x[i] = -INFINITY;
    for (int64_t i = 0; l->made < l->least && i < g->end_count; i++) x[g->ends[i]] = -INFINITY;
}

/* How many of the sorted candidates stay: top_k, with all that equal the last of them; then the
 * fewest that hold top_p of what is left. list[i].x becomes a probability, not normalised. */
static int64_t cut(const lc_generator *g, struct candidate *list, int64_t n) {
    int64_t kept = n, few = 0;
    if (g->top_k > 0 && g->top_k < n)
        for (kept = g->top_k; kept < n && list[kept].x == list[g->top_k - 1].x;) kept++;
    double most = list[0].x, whole = 0, sum = 0;
    for (int64_t i = 0; i < kept; i++) {
        list[i].x = exp((list[i].x - most) / g->temperature);
        whole += list[i].x;
    }
    while (few < kept && (few == 0 || sum < g->top_p * whole)) sum += list[few++].x;
    return g->top_p < 1 ? few : kept;
}

/* A token of softmax(x / temperature), cut to what top_k and top_p leave. */
static int32_t sample(const lc_generator *g, const float *x, int64_t n, double u,
                      struct candidate *list) {
    for (int64_t i = 0; i < n; i++) list[i] = (struct candidate){x[i], (int32_t)i};
    qsort(list, (size_t)n, sizeof *list, likelier);
    int64_t kept = cut(g, list, n);
    double whole = 0, sum = 0;
    for (int64_t i = 0; i < kept; i++) whole += list[i].x;
    for (int64_t i = 0; i < kept; i++) {
        sum += list[i].x;
        if (u * whole < sum) return list[i].id;
    }
    return list[kept - 1].id;
}

int lc_generator_step(lc_generator *g, int32_t *tokens, float *logps) {
    int live = 0;
    for (int i = 0; i < g->count; i++) {
        tokens[i] = -1;
        if (g->leaves[i].live && !lc_generator_room(g, i) && lc_generator_end(g, i) < 0) return -1;
        live += g->leaves[i].live;
    }
    if (!live || (live = catch_up(g)) < 0) return live;
    int64_t n = g->model->language.vocabulary;
    struct workspace w = {0};
    int done = new_workspace(g, &w);
    for (int i = 0; !done && i < g->count; i++) {
        struct leaf *l = &g->leaves[i];
        if (!l->live) continue;
        const float *x = w.logits + l->row * n;
        memcpy(w.own, x, (size_t)n * sizeof *x);
        adjust(g, l, w.own, w.marked);
        tokens[i] =
            g->temperature > 0
                ? sample(g, w.own, n, lc_uniform(g->seed, l->stream, (uint64_t)l->made), w.list)
                : greatest(w.own, n);
        if (logps) logps[i] = (float)(x[tokens[i]] - log_sum_exp(x, n));
        done = lc_generator_choose(g, i, tokens[i]);
    }
    free_workspace(&w);
    return done < 0 ? -1 : live;
}

/* The k greatest of x, best first, equals in the order of their ids. */
static void keep_best(const float *x, int64_t n, int k, int32_t *ids, float *values) {
    int kept = 0;
    for (int64_t i = 0; i < n; i++) {
        if (kept == k && !(x[i] > values[k - 1])) continue;
        int at = kept < k ? kept++ : k - 1;
        for (; at > 0 && x[i] > values[at - 1]; at--) {
            ids[at] = ids[at - 1];
            values[at] = values[at - 1];
        }
        ids[at] = (int32_t)i;
        values[at] = x[i];
    }
}

int lc_generator_best(lc_generator *g, int k, int32_t *ids, float *logps) {
    int64_t n = g->model->language.vocabulary;
    if (k < 1 || k > n)
        return lc_fail(LC_EINVAL, "generate: the %d best of a vocabulary of %" PRId64, k, n);
    int live = catch_up(g);
    if (live <= 0) return live;
    struct workspace w = {0};
    int done = new_workspace(g, &w);
    for (int i = 0; !done && i < g->count; i++) {
        const struct leaf *l = &g->leaves[i];
        if (!l->live) {
            for (int j = 0; j < k; j++) ids[(int64_t)i * k + j] = -1;
            continue;
        }
        const float *x = w.logits + l->row * n;
        double norm = log_sum_exp(x, n);
        for (int64_t j = 0; j < n; j++) w.own[j] = (float)(x[j] - norm);
        adjust(g, l, w.own, w.marked);
        keep_best(w.own, n, k, ids + (int64_t)i * k, logps + (int64_t)i * k);
    }
    free_workspace(&w);
    return done < 0 ? -1 : live;
}
