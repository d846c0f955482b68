/* generate.c - answers that grow from the ends of a batch's prompts.
 *
 * The prompts are run once as a forest and their keys stay in the cache, shared by every leaf below
 * them. Each step then runs one row a live leaf: it sees its path's cached keys and its own. A leaf's
 * numbers depend on its own path alone, so answers do not change with the company they are made in.
 *
 * One round is: feed what was chosen (once, for all live leaves), read the logits, choose. step does
 * all three; a search over several continuations calls best, then ends, forks and chooses itself. */
#include "models/generator.h"

#include "base/error.h"
#include "base/memory.h"
#include "models/step.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_ROOM = 32 }; /* slots a leaf before the cache grows */

void lc_generator_free(lc_generator *g) {
    if (!g) return;
    lc_tensor_release(g->logits);
    lc_steps_free(g->steps);
    lc_cache_free(g->cache);
    for (int i = 0; g->leaves && i < g->count; i++) {
        lc_free(g->leaves[i].seen);
        lc_free(g->leaves[i].ids);
    }
    lc_free(g->leaves);
    lc_free(g->ends);
    lc_free(g);
}

static bool grows(const struct leaf *l) { return l->live && !l->resting; }

static bool has_new(const struct leaf *l) { return l->next >= 0 || l->ids; }

int lc_generator_leaves(const lc_generator *g) { return g->count; }

int lc_generator_check_leaf(const lc_generator *g, int leaf) {
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
    if (lc_generator_check_leaf(g, leaf) < 0) return -1;
    g->leaves[leaf].stream = stream;
    return 0;
}

/* All ids are of the vocabulary. */
int lc_generator_check_ids(const lc_generator *g, const int32_t *ids, int64_t n) {
    int64_t vocabulary = g->model->language.vocabulary;
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocabulary)
            return lc_fail(LC_EINVAL, "generate: id %d of a vocabulary of %" PRId64, ids[i],
                           vocabulary);
    return 0;
}

int lc_generator_seen(lc_generator *g, int leaf, const int32_t *ids, int64_t n) {
    if (lc_generator_check_leaf(g, leaf) < 0 || lc_generator_check_ids(g, ids, n) < 0) return -1;
    return see(&g->leaves[leaf], ids, n);
}

int lc_generator_least(lc_generator *g, int leaf, int64_t least) {
    if (lc_generator_check_leaf(g, leaf) < 0) return -1;
    g->leaves[leaf].least = least;
    return 0;
}

int64_t lc_generator_room(const lc_generator *g, int leaf) {
    if (lc_generator_check_leaf(g, leaf) < 0) return -1;
    const struct leaf *l = &g->leaves[leaf];
    int64_t more = g->most - l->made, fit = g->model->language.max_positions - l->position;
    if (!l->live || more < 0 || fit < 0) return 0;
    return more < fit ? more : fit;
}

int lc_generator_end(lc_generator *g, int leaf) {
    if (lc_generator_check_leaf(g, leaf) < 0) return -1;
    struct leaf *l = &g->leaves[leaf];
    if (!l->live) return 0;
    l->live = l->resting = false;
    l->row = l->next = -1;
    lc_free(l->ids);
    l->ids = NULL;
    return lc_cache_drop(g->cache, l->path);
}

int lc_generator_spare_leaf(lc_generator *g) {
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
    if (lc_generator_check_leaf(g, leaf) < 0) return -1;
    if (!g->leaves[leaf].live || g->leaves[leaf].ids)
        return lc_fail(LC_EINVAL, "generate: leaf %d %s and cannot fork", leaf + 1,
                       g->leaves[leaf].live ? "has ids that have not run" : "has ended");
    int copy = lc_generator_spare_leaf(g);
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
    if (lc_generator_check_leaf(g, leaf) < 0) return -1;
    struct leaf *l = &g->leaves[leaf];
    if (!l->live || has_new(l) || l->row < 0)
        return lc_fail(LC_EINVAL, "generate: leaf %d %s", leaf + 1,
                       l->live ? "has its next token already" : "has ended");
    if (lc_generator_check_ids(g, &id, 1) < 0) return -1;
    if (lc_generator_room(g, leaf) < 1)
        return lc_fail(LC_EINVAL, "generate: leaf %d has no room for another token", leaf + 1);
    if (see(l, &id, 1) < 0) return -1;
    l->next = id;
    l->made++;
    l->position++;
    return 0;
}

/* ---- settings ---------------------------------------------------------------------------------- */

static int set_sampling(struct lc_sampling *to, double temperature, int64_t top_k, double top_p,
                        uint64_t seed) {
    if (!(temperature >= 0))
        return lc_fail(LC_EINVAL, "generate: temperature is %g; 0 (greedy) or more", temperature);
    if (top_k < 0) return lc_fail(LC_EINVAL, "generate: top_k is %" PRId64 "; 0: all", top_k);
    if (!(top_p > 0 && top_p <= 1))
        return lc_fail(LC_EINVAL, "generate: top_p is %g; above 0 and at most 1", top_p);
    *to = (struct lc_sampling){temperature, top_p, top_k, seed};
    return 0;
}

int lc_generator_sampling(lc_generator *g, double temperature, int64_t top_k, double top_p,
                          uint64_t seed) {
    if (set_sampling(&g->sampling, temperature, top_k, top_p, seed) < 0) return -1;
    for (int i = 0; i < g->count; i++) g->leaves[i].sampling = g->sampling;
    return 0;
}

int lc_generator_leaf_sampling(lc_generator *g, int leaf, double temperature, int64_t top_k,
                               double top_p, uint64_t seed) {
    if (lc_generator_check_leaf(g, leaf) < 0) return -1;
    return set_sampling(&g->leaves[leaf].sampling, temperature, top_k, top_p, seed);
}

int lc_generator_penalty(lc_generator *g, double repetition) {
    if (!(repetition > 0 && repetition < INFINITY))
        return lc_fail(LC_EINVAL, "generate: repetition penalty is %g; above 0, 1: none",
                       repetition);
    g->penalty = repetition;
    return 0;
}

int lc_generator_ends(lc_generator *g, const int32_t *ids, int64_t n) {
    if (n < 0 || lc_generator_check_ids(g, ids, n) < 0) return -1;
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

lc_tensor *lc_generator_rows(lc_generator *g, lc_tensor *x) {
    const struct lc_llama_pass pass = {.cache = g->cache, .adapters = g->adapters};
    return lc_llama_forward(&g->model->language, x, &pass);
}

/* Logits of the planned pass's rows that last names. */
static lc_tensor *run_pass(lc_generator *g, lc_tensor *x, lc_tensor *last) {
    x = lc_generator_rows(g, x);
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
                          .sampling = g->sampling,
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
    for (int i = 0; b && i < b->count; i++) {
        rows += b->segments[i].rows;
        g->count += b->segments[i].score;
    }
    g->model = m;
    g->words = m->language.vocabulary;
    g->most = max_new_tokens;
    g->adapters = adapters != 0;
    g->sampling.top_p = g->penalty = 1;
    g->room = g->count + 1;
    g->leaves = lc_alloc_zero((size_t)g->room * sizeof *g->leaves);
    const struct lc_llama *l = &m->language;
    int64_t room = max_new_tokens < FIRST_ROOM ? max_new_tokens : FIRST_ROOM;
    int64_t slots = b ? rows + g->count * room : FIRST_ROOM;
    int recording = lc_grad_mode(0);
    if (g->leaves)
        g->cache = lc_cache_new((int)l->layers, slots, l->groups, l->head_size, m->params.dtype,
                                m->params.device);
    if (g->cache) g->steps = lc_steps_new(m, g->cache, g->adapters);
    bool ready = g->steps && (!b || !prefill(g, b));
    lc_grad_mode(recording);
    if (ready) return g;
    lc_generator_free(g);
    return NULL;
}

/* The rows of a pass: of each leaf that grows, what is new; path, count: [leaves]; last: [leaves], of each the last. */
static void list_rows(const lc_generator *g, int32_t *ids, int32_t *path, int32_t *count,
                      int32_t *last) {
    int32_t row = 0;
    for (int i = 0, k = 0; i < g->count; i++) {
        const struct leaf *l = &g->leaves[i];
        if (!grows(l)) continue;
        path[k] = l->path;
        count[k] = l->ids ? l->id_count : 1;
        memcpy(ids + row, l->ids ? l->ids : &l->next, (size_t)count[k] * sizeof *ids);
        row += count[k];
        last[k++] = row - 1;
    }
}

static void note_run(lc_generator *g) {
    int64_t row = 0;
    for (int i = 0; i < g->count; i++) {
        struct leaf *l = &g->leaves[i];
        l->row = -1;
        if (!grows(l)) continue;
        lc_free(l->ids);
        l->ids = NULL;
        l->next = -1;
        l->row = row++;
    }
}

/* Runs the listed rows, of which some leaves have more than one. */
static lc_tensor *run_rows(lc_generator *g, lc_tensor *ids, int n, const int32_t *path,
                           const int32_t *count, lc_tensor *last) {
    if (lc_cache_reserve(g->cache, lc_tensor_count(ids)) < 0 ||
        lc_cache_extend(g->cache, n, path, count, 0) < 0)
        return NULL;
    lc_tensor *x = lc_embedding(g->model->language.embedding, ids);
    return x ? run_pass(g, x, last) : NULL;
}

/* Runs what is new of the leaves that grow; the logits are theirs then. */
static int advance(lc_generator *g) {
    int before = lc_pool(), done = -1;
    int64_t n = 0, rows = 0;
    for (int i = 0; i < g->count; i++) {
        if (!grows(&g->leaves[i])) continue;
        n++;
        rows += g->leaves[i].ids ? g->leaves[i].id_count : 1;
    }
    int32_t *path = lc_alloc((size_t)(n + 1) * 2 * sizeof *path);
    lc_tensor *ids = lc_tensor_new(1, &rows, LC_I32, LC_HOST);
    lc_tensor *last = lc_tensor_new(1, &n, LC_I32, LC_HOST);
    if (path && ids && last) {
        list_rows(g, lc_data(ids), path, path + n, lc_data(last));
        lc_tensor_release(g->logits); /* a step may write over them */
        g->logits = NULL;
        done = keep_logits(g, rows > n ? run_rows(g, ids, (int)n, path, path + n, last)
                                       : lc_steps_run(g->steps, (int)n, path, lc_data(ids)));
    }
    lc_pool_end(before, NULL);
    lc_free(path);
    if (!done) note_run(g);
    return done;
}

/* Runs n more ids of the one live leaf; the logits are those of the last. */
static int run_ids(lc_generator *g, struct leaf *l, const int32_t *ids, int64_t n) {
    int before = lc_pool(), done = -1;
    int64_t one = 1;
    int32_t count = (int32_t)n;
    lc_tensor *rows = lc_tensor_new(1, &n, LC_I32, LC_HOST);
    lc_tensor *last = lc_tensor_new(1, &one, LC_I32, LC_HOST);
    if (rows && last) {
        memcpy(lc_data(rows), ids, (size_t)n * sizeof *ids);
        *(int32_t *)lc_data(last) = count - 1;
        done = keep_logits(g, run_rows(g, rows, 1, &l->path, &count, last));
    }
    lc_pool_end(before, NULL);
    return done;
}

int lc_generator_continue(lc_generator *g, int leaf, const int32_t *ids, int64_t n) {
    if (lc_generator_check_leaf(g, leaf) < 0 || lc_generator_check_ids(g, ids, n) < 0) return -1;
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

/* Brings the logits up to date: all leaves that grow have chosen, or none. Their number. */
static int catch_up(lc_generator *g) {
    int live = 0, chosen = 0;
    for (int i = 0; i < g->count; i++) {
        live += grows(&g->leaves[i]);
        chosen += grows(&g->leaves[i]) && has_new(&g->leaves[i]);
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

/* The first of the greatest. The device waits for it between two steps: lanes look at every LANES-th number, which
 * compilers make vectors of. */
static int32_t greatest(const float *x, int64_t n) {
    enum { LANES = 16 };
    float top[LANES], most = x[0];
    int64_t i = 0;
    for (int j = 0; j < LANES; j++) top[j] = x[0];
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) top[j] = x[i + j] > top[j] ? x[i + j] : top[j];
    for (; i < n; i++) most = x[i] > most ? x[i] : most;
    for (int j = 0; j < LANES; j++) most = top[j] > most ? top[j] : most;
    for (i = 0; i < n; i++)
        if (x[i] == most) return (int32_t)i;
    return 0; /* the first is no number */
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
static int64_t cut(const struct lc_sampling *s, struct candidate *list, int64_t n) {
    int64_t kept = n, few = 0;
    if (s->top_k > 0 && s->top_k < n)
        for (kept = s->top_k; kept < n && list[kept].x == list[s->top_k - 1].x;) kept++;
    double most = list[0].x, whole = 0, sum = 0;
    for (int64_t i = 0; i < kept; i++) {
        list[i].x = exp((list[i].x - most) / s->temperature);
        whole += list[i].x;
    }
    while (few < kept && (few == 0 || sum < s->top_p * whole)) sum += list[few++].x;
    return s->top_p < 1 ? few : kept;
}

/* A token of softmax(x / temperature), cut to what top_k and top_p leave. */
static int32_t sample(const struct lc_sampling *s, const float *x, int64_t n, double u,
                      struct candidate *list) {
    for (int64_t i = 0; i < n; i++) list[i] = (struct candidate){x[i], (int32_t)i};
    qsort(list, (size_t)n, sizeof *list, likelier);
    int64_t kept = cut(s, list, n);
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
        if (!grows(&g->leaves[i])) continue;
        if (!lc_generator_room(g, i) && lc_generator_end(g, i) < 0) return -1;
        live += g->leaves[i].live;
    }
    if (!live || (live = catch_up(g)) < 0) return live;
    int64_t n = g->model->language.vocabulary;
    struct workspace w = {0};
    int done = new_workspace(g, &w);
    for (int i = 0; !done && i < g->count; i++) {
        struct leaf *l = &g->leaves[i];
        if (!grows(l)) continue;
        const float *x = w.logits + l->row * n;
        memcpy(w.own, x, (size_t)n * sizeof *x);
        adjust(g, l, w.own, w.marked);
        tokens[i] = l->sampling.temperature > 0
                        ? sample(&l->sampling, w.own, n,
                                 lc_uniform(l->sampling.seed, l->stream, (uint64_t)l->made), w.list)
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
        if (!grows(l)) {
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

int lc_generator_likeliest(lc_generator *g, int leaf, int k, int32_t *ids, float *logps) {
    int64_t n = g->model->language.vocabulary;
    if (lc_generator_check_leaf(g, leaf) < 0) return -1;
    int64_t row = g->leaves[leaf].row;
    if (row < 0 || k < 1 || k > n)
        return lc_fail(LC_EINVAL, "generate: the %d likeliest of leaf %d, which %s", k, leaf + 1,
                       row < 0 ? "has chosen nothing yet" : "has a smaller vocabulary");
    int before = lc_pool(), done = -1;
    float *x = lc_alloc((size_t)n * sizeof *x);
    lc_tensor *own = x ? lc_slice(g->logits, 0, row, 1) : NULL;
    if (own && !(done = lc_tensor_read_f32(own, x, n))) {
        double norm = log_sum_exp(x, n);
        keep_best(x, n, k, ids, logps);
        for (int i = 0; i < k; i++) logps[i] = (float)(logps[i] - norm);
    }
    lc_pool_end(before, NULL);
    lc_free(x);
    return done;
}
