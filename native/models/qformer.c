/* qformer.c - the bridge of InstructBLIP (Dai et al. 2023): a BERT with learned queries in front of the
 * question's words.
 *
 *   x = LayerNorm([queries; words + positions])
 *   block, L times:  x = LayerNorm(x + out(attention(x)))           queries and words see each other
 *     queries:       q = LayerNorm(q + out(attention(q, picture)))  in every second block
 *                    q = LayerNorm(q + down(gelu(up(q))))           with weights of their own
 *     words:         t = LayerNorm(t + down(gelu(up(t))))
 *   rows = linear(queries of the last block)
 *
 * Many pictures are one pass without padding: packed one after the other, each its queries and then its
 * words. A forest of roots that see both ways keeps them apart, another one shows each its picture. */
#include "models/bridge.h"
#include "models/vit.h"

#include "base/error.h"
#include "base/memory.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- settings ---------------------------------------------------------------------------------- */

/* Names after the prefix of all, and those that are spelt in two ways. */
static const struct layout {
    const char *prefix, *norm, *attention;
    const char *vision_norm; /* the norm of the tower's rows, and the part it counts as */
    enum lc_part vision_part;
} hugging_face = {"qformer", "layernorm", "attention", "vision_model.post_layernorm", LC_VISION},
  lavis = {"Qformer.bert", "LayerNorm", "self", "ln_vision", LC_PROJECTOR};

struct taker {
    struct lc_qformer *f;
    struct lc_params *p;
    const struct layout *l;
    char text[256]; /* the last name made */
};

static const char *named(struct taker *t, const char *name) {
    snprintf(t->text, sizeof t->text, "%s.%s", t->l->prefix, name);
    return t->text;
}

static const char *in_block(struct taker *t, int64_t i, const char *name, const char *end) {
    snprintf(t->text, sizeof t->text, "%s.encoder.layer.%" PRId64 ".%s%s", t->l->prefix, i, name,
             end);
    return t->text;
}

static bool known_shape(const struct taker *t, const char *name, int ndim,
                        int64_t shape[LC_MAX_DIMS]) {
    return lc_params_shape(t->p, LC_PROJECTOR, name, shape) == ndim;
}

/* Sizes as the tensors have them; what they do not tell stays. */
static void read_shapes(struct taker *t) {
    struct lc_qformer *f = t->f;
    int64_t shape[LC_MAX_DIMS];
    if (known_shape(t, "query_tokens", 3, shape)) {
        f->queries = shape[1];
        f->width = shape[2];
    }
    if (known_shape(t, named(t, "embeddings.word_embeddings.weight"), 2, shape))
        f->vocabulary = shape[0];
    if (known_shape(t, named(t, "embeddings.position_embeddings.weight"), 2, shape))
        f->positions = shape[0];
    if (known_shape(t, in_block(t, 0, "intermediate_query.dense", ".weight"), 2, shape))
        f->mlp = shape[0];
    for (int64_t i = 0; known_shape(t, in_block(t, i, "output_query.dense", ".bias"), 1, shape);)
        f->layers = ++i;
}

static int check_sizes(const struct lc_qformer *f, const struct lc_config *c) {
    if (f->width < 1 || f->mlp < 1 || f->layers < 1 || f->heads < 1 || f->width % f->heads ||
        f->vocabulary < 1 || f->positions < 1 || f->queries < 1 || f->frequency < 1)
        return lc_fail(LC_EINVAL,
                       "%s/config.json: Q-Former sizes do not fit: width %" PRId64 ", %" PRId64
                       " heads, %" PRId64 " layers, %" PRId64 " queries",
                       c->folder, f->width, f->heads, f->layers, f->queries);
    return 0;
}

/* qformer_config decides where there is one; InstructBLIP's sizes are the last resort. */
static int read_config(struct taker *t, const struct lc_config *c,
                       lc_tensor *(**activation)(lc_tensor *x)) {
    bool ok = true;
    const lc_json *s = lc_json_get(c->root, "qformer_config");
    struct lc_qformer *f = t->f;
    *f = (struct lc_qformer){.width = 768,
                             .mlp = 3072,
                             .layers = 12,
                             .vocabulary = 30523,
                             .positions = 512,
                             .queries = 32};
    read_shapes(t);
    f->width = lc_config_int(c, s, "hidden_size", f->width, &ok);
    f->mlp = lc_config_int(c, s, "intermediate_size", f->mlp, &ok);
    f->layers = lc_config_layers(c, s, f->layers, &ok);
    f->heads = lc_config_int(c, s, "num_attention_heads", 12, &ok);
    f->vocabulary = lc_config_int(c, s, "vocab_size", f->vocabulary, &ok);
    f->positions = lc_config_int(c, s, "max_position_embeddings", f->positions, &ok);
    f->frequency = lc_config_int(c, s, "cross_attention_frequency", 2, &ok);
    f->queries = lc_config_int(c, c->root, "num_query_tokens", f->queries, &ok);
    f->eps = lc_config_positive(c, s, "layer_norm_eps", 1e-12, &ok);
    const char *act = lc_config_text(c, s, "hidden_act", "gelu", &ok);
    if (!ok || !(*activation = lc_activation(act))) return -1;
    return check_sizes(f, c);
}

/* ---- parameters -------------------------------------------------------------------------------- */

static struct lc_linear_layer take_linear(struct taker *t, int64_t i, int64_t n, int64_t k,
                                          const char *name, const char *end) {
    return lc_take_linear(t->p, LC_PROJECTOR, n, k, true, in_block(t, i, name, end));
}

static struct lc_norm_layer take_norm(struct taker *t, int64_t i, const char *name) {
    return lc_take_norm(t->p, LC_PROJECTOR, t->f->width, true, t->f->eps,
                        in_block(t, i, name, ".LayerNorm"));
}

/* kind: "attention" or "crossattention"; seen: the width of the rows that give keys and values */
static void take_attention(struct taker *t, struct lc_qformer_attention *a, int64_t i,
                           const char *kind, int64_t seen) {
    char name[64];
    int64_t w = t->f->width;
    snprintf(name, sizeof name, "%s.%s", kind, t->l->attention);
    a->q = take_linear(t, i, w, w, name, ".query");
    a->k = take_linear(t, i, w, seen, name, ".key");
    a->v = take_linear(t, i, w, seen, name, ".value");
    snprintf(name, sizeof name, "%s.output", kind);
    a->out = take_linear(t, i, w, w, name, ".dense");
    a->norm = take_norm(t, i, name);
}

static void take_mlp(struct taker *t, struct lc_qformer_mlp *m, int64_t i, const char *up,
                     const char *down) {
    m->up = take_linear(t, i, t->f->mlp, t->f->width, up, ".dense");
    m->down = take_linear(t, i, t->f->width, t->f->mlp, down, ".dense");
    m->norm = take_norm(t, i, down);
}

static bool looks(const struct lc_qformer *f, int64_t i) { return i % f->frequency == 0; }

static void take_embeddings(struct taker *t) {
    struct lc_qformer *f = t->f;
    int64_t w = f->width;
    f->query = lc_params_take(t->p, LC_PROJECTOR, LC_NORMAL, 3, (int64_t[]){1, f->queries, w},
                              "query_tokens");
    f->words = lc_params_take(t->p, LC_PROJECTOR, LC_NORMAL, 2, (int64_t[]){f->vocabulary, w}, "%s",
                              named(t, "embeddings.word_embeddings.weight"));
    f->places = lc_params_take(t->p, LC_PROJECTOR, LC_NORMAL, 2, (int64_t[]){f->positions, w}, "%s",
                               named(t, "embeddings.position_embeddings.weight"));
    char norm[64];
    snprintf(norm, sizeof norm, "embeddings.%s", t->l->norm);
    f->norm = lc_take_norm(t->p, LC_PROJECTOR, w, true, f->eps, named(t, norm));
}

static const struct lc_bridge_kind qformer;

int lc_qformer_open(struct lc_bridge *b, const struct lc_config *c, struct lc_params *p,
                    const struct lc_vit *tower, int64_t out, const char *prefix) {
    *b = (struct lc_bridge){.kind = &qformer,
                            .in = tower->width,
                            .tower_rows = lc_vit_rows(tower),
                            .dtype = p->dtype,
                            .device = p->device};
    struct lc_qformer *f = &b->qformer;
    struct taker t = {f, p, &hugging_face, ""};
    bool published = !lc_params_has(p, LC_PROJECTOR, "qformer.embeddings.layernorm.weight");
    if (published) t.l = &lavis;
    if (read_config(&t, c, &b->activation) < 0) return -1;
    f->blocks = lc_alloc_zero((size_t)f->layers * sizeof *f->blocks);
    if (!f->blocks) return -1;
    /* LAVIS leaves PyTorch's own eps; Hugging Face's norm is the tower's. */
    b->norm = lc_take_norm(p, t.l->vision_part, b->in, true, published ? 1e-5 : tower->eps,
                           t.l->vision_norm);
    take_embeddings(&t);
    for (int64_t i = 0; i < f->layers; i++) {
        struct lc_qformer_block *block = &f->blocks[i];
        take_attention(&t, &block->self, i, "attention", f->width);
        if (looks(f, i)) take_attention(&t, &block->cross, i, "crossattention", b->in);
        take_mlp(&t, &block->text, i, "intermediate", "output");
        take_mlp(&t, &block->query, i, "intermediate_query", "output_query");
    }
    b->out = lc_take_linear(p, LC_PROJECTOR, out, f->width, true, prefix);
    return 0;
}

void lc_qformer_close(struct lc_qformer *f) { lc_free(f->blocks); }

/* ---- one pass ---------------------------------------------------------------------------------- */

/* Where everything of n pictures is. Packed rows: each picture's queries, then its words. */
struct pass {
    const struct lc_bridge *bridge;
    int n;
    int64_t words;       /* of all pictures */
    lc_forest *together; /* over packed rows */
    lc_forest *looking;  /* queries over the tower's rows */
    lc_tensor *query_at; /* i32 [n Q]: packed rows of the queries */
    lc_tensor *word_at;  /* i32 [words]: and of the words */
    lc_tensor *packed;   /* i32 [rows]: a packed row's place among all queries, then all words */
    lc_tensor *query_of; /* i32 [n Q]: which learned query it is */
    lc_tensor *ids, *position; /* i32 [words] */
    lc_tensor *seen;           /* the tower's rows, after the norm */
};

static int32_t *list(lc_tensor **t, int64_t count) {
    *t = lc_tensor_new(1, &count, LC_I32, LC_HOST);
    return *t ? lc_data(*t) : NULL;
}

static int check_text(const struct lc_qformer *f, int picture, const struct lc_picture *given) {
    if (given->text_count > f->positions)
        return lc_fail(LC_EINVAL,
                       "project: the text of picture %d has %" PRId32
                       " tokens but the Q-Former has %" PRId64 " positions",
                       picture + 1, given->text_count, f->positions);
    for (int32_t i = 0; i < given->text_count; i++)
        if (given->text[i] < 0 || given->text[i] >= f->vocabulary)
            return lc_fail(LC_EINVAL,
                           "project: token %" PRId32 " of the text of picture %d is %" PRId32
                           " but the Q-Former's vocabulary is %" PRId64,
                           i + 1, picture + 1, given->text[i], f->vocabulary);
    return 0;
}

static int fill_lists(struct pass *s, const struct lc_picture *pictures) {
    int32_t queries = (int32_t)s->bridge->qformer.queries, row = 0, word = 0;
    int64_t all = s->n * (int64_t)queries;
    int32_t *query_at = list(&s->query_at, all), *query_of = list(&s->query_of, all),
            *word_at = list(&s->word_at, s->words), *ids = list(&s->ids, s->words),
            *position = list(&s->position, s->words), *packed = list(&s->packed, all + s->words);
    if (!query_at || !query_of || !word_at || !ids || !position || !packed) return -1;
    for (int i = 0; i < s->n; i++) {
        for (int32_t q = 0; q < queries; q++, row++) {
            query_at[i * queries + q] = row;
            query_of[i * queries + q] = q;
            packed[row] = i * queries + q;
        }
        for (int32_t j = 0; j < pictures[i].text_count; j++, row++, word++) {
            word_at[word] = row;
            ids[word] = pictures[i].text[j];
            position[word] = j;
            packed[row] = (int32_t)all + word;
        }
    }
    return 0;
}

static int make_forests(struct pass *s, const struct lc_picture *pictures) {
    size_t n = (size_t)s->n;
    int32_t *number = lc_alloc(5 * n * sizeof *number);
    uint8_t *both_ways = lc_alloc(n);
    if (number && both_ways) {
        int32_t *parent = number, *length = number + n, *queries = number + 2 * n,
                *first = number + 3 * n, *count = number + 4 * n;
        for (size_t i = 0; i < n; i++) {
            parent[i] = -1;
            both_ways[i] = 1;
            queries[i] = (int32_t)s->bridge->qformer.queries;
            length[i] = queries[i] + pictures[i].text_count;
            count[i] = (int32_t)s->bridge->tower_rows;
            first[i] = (int32_t)i * count[i];
        }
        s->together = lc_forest_new(s->n, parent, length, both_ways);
        s->looking = lc_forest_cross(s->n, queries, first, count);
    }
    lc_free(number);
    lc_free(both_ways);
    return s->together && s->looking ? 0 : -1;
}

static int plan(struct pass *s, const struct lc_picture *pictures) {
    const struct lc_bridge *b = s->bridge;
    for (int i = 0; i < s->n; i++) {
        if (check_text(&b->qformer, i, &pictures[i]) < 0) return -1;
        s->words += pictures[i].text_count;
    }
    int64_t rows = b->tower_rows > b->qformer.queries ? b->tower_rows : b->qformer.queries;
    if (s->words > INT32_MAX || rows * s->n > INT32_MAX - s->words)
        return lc_fail(LC_EINVAL, "project: %d pictures are too many at once", s->n);
    return fill_lists(s, pictures) < 0 ? -1 : make_forests(s, pictures);
}

/* LayerNorm(x + out(attention)): x asks, seen answers. */
static lc_tensor *attend(const struct lc_qformer *f, const struct lc_qformer_attention *a,
                         lc_tensor *x, lc_tensor *seen, const lc_forest *forest) {
    if (!x || !seen) return NULL;
    int64_t d = f->width / f->heads;
    int64_t mine[3] = {x->shape[0], f->heads, d}, theirs[3] = {seen->shape[0], f->heads, d};
    lc_tensor *q = lc_view(lc_linear_apply(&a->q, x, false), 3, mine);
    lc_tensor *k = lc_view(lc_linear_apply(&a->k, seen, false), 3, theirs);
    lc_tensor *v = lc_view(lc_linear_apply(&a->v, seen, false), 3, theirs);
    lc_tensor *o = lc_attention(q, k, v, forest, 1 / sqrt((double)d));
    o = lc_view(o, 2, (int64_t[]){x->shape[0], f->width});
    return lc_norm_apply(&a->norm, lc_add(x, lc_linear_apply(&a->out, o, false)));
}

static lc_tensor *feed(const struct lc_bridge *b, const struct lc_qformer_mlp *m, lc_tensor *x) {
    lc_tensor *h = b->activation(lc_linear_apply(&m->up, x, false));
    return lc_norm_apply(&m->norm, lc_add(x, lc_linear_apply(&m->down, h, false)));
}

static lc_tensor *pack(const struct pass *s, lc_tensor *queries, lc_tensor *words) {
    return s->words ? lc_rows(lc_cat(2, (lc_tensor *[]){queries, words}, 0), s->packed) : queries;
}

static lc_tensor *embed(const struct pass *s) {
    const struct lc_qformer *f = &s->bridge->qformer;
    lc_tensor *queries =
        lc_rows(lc_view(f->query, 2, (int64_t[]){f->queries, f->width}), s->query_of);
    lc_tensor *words =
        s->words ? lc_add(lc_embedding(f->words, s->ids), lc_embedding(f->places, s->position))
                 : NULL;
    return lc_norm_apply(&f->norm, pack(s, queries, words));
}

/* Packed rows in, packed rows out; of the last block only the queries are wanted. */
static lc_tensor *block_forward(const struct pass *s, int64_t i, lc_tensor *x) {
    const struct lc_qformer *f = &s->bridge->qformer;
    const struct lc_qformer_block *block = &f->blocks[i];
    x = attend(f, &block->self, x, x, s->together);
    lc_tensor *q = s->words ? lc_rows(x, s->query_at) : x;
    if (looks(f, i)) q = attend(f, &block->cross, q, s->seen, s->looking);
    q = feed(s->bridge, &block->query, q);
    if (i == f->layers - 1 || !s->words) return q;
    return pack(s, q, feed(s->bridge, &block->text, lc_rows(x, s->word_at)));
}

static lc_tensor *run(const struct pass *s) {
    int before = lc_pool();
    lc_tensor *x = embed(s);
    for (int64_t i = 0; x && i < s->bridge->qformer.layers; i++)
        x = lc_pool_turn(block_forward(s, i, x));
    return lc_pool_end(before, lc_linear_apply(&s->bridge->out, x, false));
}

static lc_tensor *forward(const struct lc_bridge *b, lc_tensor *features, int n,
                          const struct lc_picture *pictures) {
    struct pass s = {.bridge = b, .n = n};
    int before = lc_pool();
    features = lc_view(features, 2, (int64_t[]){n * b->tower_rows, b->in});
    s.seen = lc_norm_apply(&b->norm, features);
    lc_tensor *x = s.seen && !plan(&s, pictures) ? run(&s) : NULL;
    lc_forest_release(s.together);
    lc_forest_release(s.looking);
    return lc_pool_end(before, x);
}

static int64_t rows(const struct lc_bridge *b, int64_t features) {
    return lc_bridge_tower_rows(b, features) < 0 ? -1 : b->qformer.queries;
}

static const struct lc_bridge_kind qformer = {"Q-Former", rows, forward};
