/* attention.cu - forest attention: which kernels serve a call, and their lists of work on the device.
 *
 * bf16 and f16 with a head size of 32, 64, 88 or 128 and rows at multiples of 16 bytes run on tensor
 * cores, others plainly. The lists that were made of numbered spans are kept, for all layers and
 * passes of a batch: they go to the device once. */
#include "cuda/attention.cuh"
#include "cuda/device.h"

#include <stdlib.h>
#include <string.h>

namespace {

/* ---- lists on the device --------------------------------------------------------------------- */

enum kind { NARROW, WIDE, DECODE, BACKWARD, BACKWARD_WIDE };

struct lists {
    uint64_t number; /* of the spans; 0: not kept */
    enum kind kind;
    int64_t share; /* decoding: heads of a group */
    void *memory;
    size_t bytes, tiles_at, blocks_at, keys_at, items_at;
    int64_t block_count, key_count, item_count;
};

enum { KEPT = 16 };
struct lists kept[KEPT]; /* by age, the newest first */

size_t up(size_t bytes) { return (bytes + 15) / 16 * 16; }

int make_lists(struct spans_lists *made, const struct lc_spans *s, enum kind kind, int64_t share) {
    if (kind == DECODE) return spans_make_items(made, s, share);
    const bool wide = kind == WIDE || kind == BACKWARD_WIDE;
    if (spans_make_blocks(made, s, wide ? 128 : LC_TILE_ROWS) < 0) return -1;
    return kind == BACKWARD || kind == BACKWARD_WIDE ? spans_make_keys(made, s) : 0;
}

int upload_lists(struct lists *l, const struct spans_lists *made, const struct lc_spans *s) {
    const struct {
        const void *from;
        size_t bytes;
        size_t *at;
    } parts[] = {{s->tiles, (size_t)s->tile_count * sizeof *s->tiles, &l->tiles_at},
                 {made->blocks, (size_t)made->block_count * sizeof *made->blocks, &l->blocks_at},
                 {made->keys, (size_t)made->key_count * sizeof *made->keys, &l->keys_at},
                 {made->items, (size_t)made->item_count * sizeof *made->items, &l->items_at}};
    const size_t ranges = (size_t)s->range_count * sizeof *s->ranges;
    l->bytes = up(ranges);
    for (auto &part : parts) {
        *part.at = l->bytes;
        l->bytes += up(part.bytes);
    }
    if (!l->bytes) return 0;
    char *all = (char *)malloc(l->bytes);
    if (!all) return LC_CUDA(cudaErrorMemoryAllocation);
    memset(all, 0, l->bytes);
    if (ranges) memcpy(all, s->ranges, ranges);
    for (auto &part : parts)
        if (part.bytes) memcpy(all + *part.at, part.from, part.bytes);
    l->memory = cuda_alloc(l->bytes);
    const int done = l->memory ? cuda_upload(l->memory, all, l->bytes) : -1;
    free(all);
    return done;
}

void drop(struct lists *l) {
    if (l->memory) cuda_free(l->memory, l->bytes);
    memset(l, 0, sizeof *l);
}

/* The lists of a call; those of spans without a number are the caller's to drop. */
int find_lists(struct lists *out, const struct lc_spans *s, enum kind kind, int64_t share) {
    for (int i = 0; s->number && i < KEPT; i++)
        if (kept[i].number == s->number && kept[i].kind == kind && kept[i].share == share) {
            *out = kept[i];
            memmove(kept + 1, kept, (size_t)i * sizeof *kept);
            kept[0] = *out;
            return 0;
        }
    struct spans_lists made = {};
    struct lists l = {};
    l.number = s->number;
    l.kind = kind;
    l.share = share;
    int done = make_lists(&made, s, kind, share);
    if (done < 0) done = LC_CUDA(cudaErrorMemoryAllocation);
    else done = upload_lists(&l, &made, s);
    l.block_count = made.block_count;
    l.key_count = made.key_count;
    l.item_count = made.item_count;
    spans_free(&made);
    if (done < 0) {
        drop(&l);
        return -1;
    }
    if (l.number) {
        drop(&kept[KEPT - 1]);
        memmove(kept + 1, kept, (KEPT - 1) * sizeof *kept);
        kept[0] = l;
    }
    *out = l;
    return 0;
}

void use_lists(struct attention_call *c, const struct lists *l) {
    const char *memory = (const char *)l->memory;
    c->ranges = (const struct lc_range *)(const void *)memory;
    c->tiles = (const struct lc_query_tile *)(const void *)(memory + l->tiles_at);
    c->blocks = (const struct lc_query_tile *)(const void *)(memory + l->blocks_at);
    c->keys = (const struct key_block *)(const void *)(memory + l->keys_at);
    c->block_count = (int32_t)l->block_count;
    c->key_count = (int32_t)l->key_count;
}

/* ---- decoding -------------------------------------------------------------------------------- */

/* What decoding steps share, for good: the step that launches read, and memory between chunks. */
struct {
    uint64_t number; /* whose lists the step has, of groups of so many heads; 0: unknown */
    int64_t share;
    struct decode_step own, *there;
    size_t part_bytes, arrived_bytes;
} decoding;

/* At least that many bytes at *p; what was there is lost, and 1 says that they are new. */
int widen(void **p, size_t *bytes, size_t wanted) {
    if (wanted <= *bytes) return 0;
    cuda_free(*p, *bytes);
    *bytes = 0;
    *p = cuda_workspace(wanted);
    if (!*p) return -1;
    *bytes = wanted;
    return 1;
}

/* Makes the step that launches read that of a call. */
int set_step(struct attention_call *c, const struct lists *l, const struct lc_spans *s) {
    struct decode_step *const own = &decoding.own;
    const int32_t chunks = spans_chunks(s->longest);
    const size_t part = (size_t)(c->queries * c->heads * chunks * (c->d + 2)) * sizeof *own->part,
                 arrived = (size_t)(c->queries * c->groups) * sizeof *own->arrived;
    const int wider = widen((void **)&own->part, &decoding.part_bytes, part),
              more = widen((void **)&own->arrived, &decoding.arrived_bytes, arrived);
    if (wider < 0 || more < 0) return -1;
    if (more && cuda_clear(own->arrived, 0, decoding.arrived_bytes) < 0) return -1;
    if (!decoding.there) decoding.there = (struct decode_step *)cuda_workspace(sizeof *own);
    if (!decoding.there) return -1;
    c->step = decoding.there;
    /* lists that were dropped and made again lie elsewhere */
    if (l->number && l->number == decoding.number && l->share == decoding.share &&
        own->ranges == c->ranges && !wider && !more && own->chunks == chunks)
        return 0;
    own->ranges = c->ranges, own->tiles = c->tiles;
    own->items = (const struct chunk_item *)(const void *)((const char *)l->memory + l->items_at);
    own->item_count = (int32_t)l->item_count, own->chunks = chunks;
    decoding.number = 0;
    if (cuda_upload(decoding.there, own, sizeof *own) < 0) return -1;
    decoding.number = l->number;
    decoding.share = l->share;
    return 0;
}

/* ---- which kernels --------------------------------------------------------------------------- */

/* Whether tensor cores know the dtype and the head size. */
bool known_size(int dtype, int64_t d) {
    return dtype != LC_F32 && (d == 32 || d == 64 || d == 88 || d == 128);
}

bool aligned(const void *p) { return (uintptr_t)p % 16 == 0; }

/* Whether tensor cores serve the call. */
bool fits(const struct attention_call *c, int dtype) {
    const int64_t rows = c->q_row | c->k_row | c->v_row | c->o_row | c->dq_row | c->dk_row;
    return known_size(dtype, c->d) && rows % 8 == 0 && rows <= INT32_MAX && aligned(c->q) &&
           aligned(c->k) && aligned(c->v) && aligned(c->o) && aligned(c->dout) && aligned(c->dq) &&
           aligned(c->dk) && aligned(c->dv) && c->scale > 0;
}

/* Bytes that blocks read again and again while others do, so that L2 keeps them; few in tests, which
 * then see heads taken one after another. */
#ifdef __CUDACC__
enum { L2_PART = 8 << 20 };
#else
enum { L2_PART = 16 << 10 };
#endif

/* How many of n heads or groups are worked on at once, where each reads that many rows of two arrays. */
int32_t at_once(const struct attention_call *c, int64_t rows, int32_t n) {
    const int64_t fit = L2_PART / (2 * rows * c->d * 2 + 1);
    return fit < 1 ? 1 : fit < n ? (int32_t)fit : n;
}

/* What reads the same keys and values is taken together: the heads of a group; the tiles of queries. */
void set_order(struct attention_call *c, const struct lc_spans *s) {
    c->heads_at_once = c->share * at_once(c, s->keys, c->groups);
    c->groups_at_once = at_once(c, s->queries * c->share, c->groups);
}

/* Whether every tile is one row that sees cached keys: decoding. A forest by itself has as many keys as
 * queries; its rows keep the forward's bits even where all its segments have one token. */
bool single_rows(const struct lc_spans *s) {
    if (s->keys <= s->queries) return false;
    for (int32_t i = 0; i < s->tile_count; i++)
        if (s->tiles[i].q1 - s->tiles[i].q0 > 1) return false;
    return true;
}

/* Whether blocks of 128 rows would be filled: at least half of all rows would lie in such. */
bool is_wide(const struct lc_spans *s) {
    int64_t rows = 0;
    for (int32_t i = 0; i + 1 < s->tile_count; i++) {
        const struct lc_query_tile *t = &s->tiles[i];
        if (t[1].q0 == t->q1 && t[1].r0 == t->r0 && t[1].r1 == t->r1) rows += t[1].q1 - t->q0, i++;
    }
    return rows * 2 > s->queries;
}

} // namespace

extern "C" int cuda_attention(void *o, float *lse, const void *q, const void *k, const void *v,
                              int dtype, const struct lc_spans *spans, int64_t heads,
                              int64_t groups, int64_t d, int64_t q_row, int64_t k_row,
                              int64_t v_row, int64_t o_row, float scale) {
    struct attention_call c = {};
    struct lists l;
    c.o = o, c.lse = lse, c.q = q, c.k = k, c.v = v;
    c.q_row = q_row, c.k_row = k_row, c.v_row = v_row, c.o_row = o_row;
    c.queries = spans->queries;
    c.tile_count = spans->tile_count;
    c.heads = (int32_t)heads, c.groups = (int32_t)groups, c.share = (int32_t)(heads / groups);
    c.d = (int32_t)d;
    c.scale = scale, c.scale2 = scale * LOG2E;
    const bool tensor = fits(&c, dtype);
    const bool decode = tensor && c.share <= CHUNK_PAIRS && single_rows(spans);
    const enum kind kind = decode ? DECODE : tensor && is_wide(spans) ? WIDE : NARROW;
    if (find_lists(&l, spans, kind, decode ? c.share : 0) < 0) return -1;
    use_lists(&c, &l);
    set_order(&c, spans);
    int done;
    if (decode) done = set_step(&c, &l, spans) < 0 ? -1 : attention_decode_launch(&c, dtype);
    else if (tensor) done = attention_forward_launch(&c, dtype, kind == WIDE);
    else done = attention_plain_launch(&c, dtype);
    if (!l.number) drop(&l);
    return done;
}

extern "C" int cuda_attention_prepare(const struct lc_spans *spans, int dtype, int64_t heads,
                                      int64_t groups, int64_t d) {
    struct attention_call c = {};
    struct lists l;
    c.queries = spans->queries;
    c.heads = (int32_t)heads, c.groups = (int32_t)groups, c.share = (int32_t)(heads / groups);
    c.d = (int32_t)d;
    /* other kernels are launched with the addresses of their lists */
    if (!known_size(dtype, d) || c.share > CHUNK_PAIRS || !single_rows(spans)) return 1;
    if (find_lists(&l, spans, DECODE, c.share) < 0) return -1;
    use_lists(&c, &l);
    return set_step(&c, &l, spans);
}

extern "C" int cuda_attention_backward(void *dq, void *dk, void *dv, const void *dout,
                                       const void *o, const float *lse, const void *q,
                                       const void *k, const void *v, int dtype,
                                       const struct lc_spans *spans, int64_t heads, int64_t groups,
                                       int64_t d, int64_t q_row, int64_t k_row, int64_t v_row,
                                       int64_t o_row, int64_t dq_row, int64_t dk_row, float scale) {
    struct attention_call c = {};
    struct lists l;
    c.o = (void *)(uintptr_t)o, c.lse = (float *)(uintptr_t)lse; /* read here */
    c.dout = dout, c.dq = dq, c.dk = dk, c.dv = dv;
    c.q = q, c.k = k, c.v = v;
    c.q_row = q_row, c.k_row = k_row, c.v_row = v_row, c.o_row = o_row;
    c.dq_row = dq_row, c.dk_row = dk_row;
    c.queries = spans->queries;
    c.tile_count = spans->tile_count;
    c.heads = (int32_t)heads, c.groups = (int32_t)groups, c.share = (int32_t)(heads / groups);
    c.d = (int32_t)d;
    c.scale = scale, c.scale2 = scale * LOG2E;
    const bool tensor = fits(&c, dtype), wide = tensor && is_wide(spans);
    if (find_lists(&l, spans, wide ? BACKWARD_WIDE : BACKWARD, 0) < 0) return -1;
    use_lists(&c, &l);
    set_order(&c, spans);
    const size_t bytes = (size_t)(c.queries * heads) * sizeof *c.delta;
    c.delta = bytes ? (float *)cuda_alloc(bytes) : NULL;
    int done = -1;
    if (!bytes || c.delta)
        done = tensor ? attention_backward_launch(&c, dtype, wide)
                      : attention_plain_backward_launch(&c, dtype);
    if (c.delta) cuda_free(c.delta, bytes);
    if (!l.number) drop(&l);
    return done;
}
