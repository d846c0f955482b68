/* attention.cc - the device's attention kernels, emulated on the CPU, against the CPU backend.
 *
 *   attention SEED CASES [d]   random calls: forests, cross-attention, cached prefill and decoding;
 *                              d: bf16 and that head size alone
 *
 * Inputs are fresh random numbers, outputs start as NaN and lie between guards (emulate.h). The
 * reference takes the same rounded inputs in f32. Every forward call is also made for a part of the
 * batch alone, which must give the same bits. Prints one line and ends with 0, or says what differs
 * and ends with 1. */
extern "C" {
#include "kernels.h"
#include "nn/forest.h"
}
#include "cuda/common.cuh"
#include "cuda/launchers.h"

#include <time.h>
#include <vector>

static uint32_t draw(uint32_t below);

/* ---- what device.cu would give --------------------------------------------------------------- */

extern "C" {
cudaStream_t cuda_stream(void) { return NULL; }
int cuda_check(cudaError_t error, const char *op) {
    if (error) fprintf(stderr, "%s: error %d\n", op, (int)error);
    return error ? -1 : 0;
}
void *cuda_alloc(size_t bytes) { return emulate_alloc(bytes); }
void *cuda_workspace(size_t bytes) { return emulate_alloc(bytes); }
void cuda_free(void *p, size_t) { emulate_free(p); }
int cuda_upload(void *to, const void *from, size_t bytes) { return memcpy(to, from, bytes), 0; }
int cuda_clear(void *to, int byte, size_t bytes) { return memset(to, byte, bytes), 0; }
int64_t cuda_wave(const void *, int, size_t) { return 1 + (int64_t)draw(4); }
}

/* ---- chance ---------------------------------------------------------------------------------- */

static uint64_t chance;

static uint32_t draw(uint32_t below) {
    chance ^= chance << 13, chance ^= chance >> 7, chance ^= chance << 17;
    return (uint32_t)(((chance >> 32) * below) >> 32);
}
static int between(int low, int high) { return low + (int)draw((uint32_t)(high - low + 1)); }
static float normal() { /* near enough: a sum of uniform numbers */
    float x = 0;
    for (int i = 0; i < 6; i++) x += (float)draw(1 << 20) / (1 << 20) - 0.5f;
    return x * 1.4f;
}

/* ---- buffers --------------------------------------------------------------------------------- */

static size_t size_of(int dtype) { return dtype == LC_F32 ? 4 : 2; }
static float get(const void *p, int dtype, int64_t i) {
    if (dtype == LC_F32) return ((const float *)p)[i];
    return dtype == LC_BF16 ? to_float(((const lc_bf16 *)p)[i]) : to_float(((const lc_f16 *)p)[i]);
}
static void put(void *p, int dtype, int64_t i, float x) {
    if (dtype == LC_F32) ((float *)p)[i] = x;
    else if (dtype == LC_BF16) ((lc_bf16 *)p)[i] = from_float<lc_bf16>(x);
    else ((lc_f16 *)p)[i] = from_float<lc_f16>(x);
}

struct buffer { /* one array, of the device and as f32 */
    void *device;
    std::vector<float> host;
    int dtype;

    buffer(int64_t count, int type) : device(NULL), host((size_t)count, NAN), dtype(type) {
        device = emulate_alloc((size_t)count * size_of(type));
    }
    ~buffer() { emulate_free(device); }
    buffer(const buffer &) = delete;
    void operator=(const buffer &) = delete;
    void fill(float size) {
        for (size_t i = 0; i < host.size(); i++) {
            put(device, dtype, (int64_t)i, normal() * size);
            host[i] = get(device, dtype, (int64_t)i);
        }
    }
};

/* ---- calls ----------------------------------------------------------------------------------- */

struct shape {
    int dtype, heads, groups, d;
    float scale;
    int gap; /* behind each row of an output */
    int64_t q_row() const { return heads * d + gap; }
    int64_t k_row() const { return groups * d + gap; }
};

static const char *const dtype_names[] = {"f32", "bf16", "f16"};
static char about[256];
static double worst[5]; /* largest difference by tolerance: o, lse, dq, dk, dv */

[[noreturn]] static void fail(const char *what) {
    fprintf(stderr, "attention: %s: %s\n", about, what);
    exit(1);
}

/* What inputs of about 1 leave of sums that cancel: the gradient of a row with one key is 0. */
static const double SMALL = 0.3;

/* The largest share of the tolerance: roundings to the dtype, of numbers as large as the array's, the
 * head's and the number itself. Behind the `used` numbers of each row nothing is written. */
static void compare(int which, const char *name, const buffer &got, const std::vector<float> &want,
                    int width, int64_t used, int64_t step) {
    const double unit = got.dtype == LC_F32 ? 1e-5 : got.dtype == LC_BF16 ? 1.2e-2 : 1.5e-3;
    double all = 0, row = 0;
    for (float x : want)
        if (isfinite(x)) all += (double)x * x;
    all = sqrt(all / (double)(want.size() + 1));
    for (size_t i = 0; i < want.size(); i++) {
        const float x = get(got.device, got.dtype, (int64_t)i), y = want[i];
        const int64_t column = (int64_t)i % step;
        if (column >= used && !isnan(x)) fail("a number behind a row is written");
        if (column >= used) continue;
        if (column % width == 0) {
            row = 0;
            for (size_t j = i; j < i + (size_t)width; j++) row += (double)want[j] * want[j];
            row = sqrt(row / width);
        }
        if (x == y) continue;
        const double off = fabs((double)x - y) / (unit * (SMALL + all + row + fabs(y)));
        if (off > worst[which]) worst[which] = off;
        if (off <= 1 /* and no NaN */) continue;
        char text[128];
        snprintf(text, sizeof text, "%s[%zu] is %g, the CPU has %g", name, i, (double)x, (double)y);
        fail(text);
    }
}

struct outputs {
    buffer o, lse;
    outputs(const struct lc_spans *s, const struct shape &h)
        : o(s->queries * h.q_row(), h.dtype), lse(s->queries * h.heads, LC_F32) {}
};

struct inputs {
    buffer qkv; /* [rows, (heads + 2 groups) d], q of `queries` rows and k, v of `keys` */
    int64_t row, queries, keys;
    inputs(int64_t n, int64_t m, const struct shape &h)
        : qkv((n > m ? n : m) * (h.heads + 2 * h.groups) * h.d, h.dtype),
          row((h.heads + 2 * h.groups) * h.d), queries(n), keys(m) {
        qkv.fill(1.5f);
    }
};

static void forward(outputs &y, const inputs &x, const struct lc_spans *s, const struct shape &h) {
    char *q = (char *)x.qkv.device, *k = q + h.heads * h.d * size_of(h.dtype),
         *v = k + h.groups * h.d * size_of(h.dtype);
    if (cuda_attention(y.o.device, (float *)y.lse.device, q, k, v, h.dtype, s, h.heads, h.groups,
                       h.d, x.row, x.row, x.row, h.q_row(), h.scale) < 0)
        fail("the forward call failed");
    const float *host = x.qkv.host.data();
    lc_cpu_kernels.attention(y.o.host.data(), y.lse.host.data(), host, host + h.heads * h.d,
                             host + (h.heads + h.groups) * h.d, LC_F32, s, h.heads, h.groups, h.d,
                             x.row, x.row, x.row, h.q_row(), h.scale);
    compare(0, "o", y.o, y.o.host, h.d, h.heads * h.d, h.q_row());
    compare(1, "lse", y.lse, y.lse.host, 1, 1, 1);
}

struct gradients {
    buffer dq, dk, dv;
    gradients(const struct lc_spans *s, const struct shape &h)
        : dq(s->queries * h.q_row(), h.dtype), dk(s->keys * h.k_row(), h.dtype),
          dv(s->keys * h.k_row(), h.dtype) {}
};

static void backward(gradients &g, const outputs &y, const buffer &dout, const inputs &x,
                     const struct lc_spans *s, const struct shape &h) {
    char *q = (char *)x.qkv.device, *k = q + h.heads * h.d * size_of(h.dtype),
         *v = k + h.groups * h.d * size_of(h.dtype);
    if (cuda_attention_backward(g.dq.device, g.dk.device, g.dv.device, dout.device, y.o.device,
                                (const float *)y.lse.device, q, k, v, h.dtype, s, h.heads, h.groups,
                                h.d, x.row, x.row, x.row, h.q_row(), h.q_row(), h.k_row(),
                                h.scale) < 0)
        fail("the backward call failed");
    const float *host = x.qkv.host.data();
    std::vector<float> o(y.o.host.size()); /* as it was rounded: delta follows it */
    for (size_t i = 0; i < o.size(); i++) o[i] = get(y.o.device, h.dtype, (int64_t)i);
    lc_cpu_kernels.attention_backward(
        g.dq.host.data(), g.dk.host.data(), g.dv.host.data(), dout.host.data(), o.data(),
        y.lse.host.data(), host, host + h.heads * h.d, host + (h.heads + h.groups) * h.d, LC_F32, s,
        h.heads, h.groups, h.d, x.row, x.row, x.row, h.q_row(), h.q_row(), h.k_row(), h.scale);
    compare(2, "dq", g.dq, g.dq.host, h.d, h.heads * h.d, h.q_row());
    compare(3, "dk", g.dk, g.dk.host, h.d, h.groups * h.d, h.k_row());
    compare(4, "dv", g.dv, g.dv.host, h.d, h.groups * h.d, h.k_row());
}

/* ---- forests --------------------------------------------------------------------------------- */

static const int lengths[] = {1, 2, 15, 16, 17, 31, 33, 63, 64, 65, 90, 127, 128, 129, 150};

struct forest {
    std::vector<int32_t> parent, length;
    std::vector<uint8_t> bidirectional;
    int total = 0;

    void add(int above, int n, bool both) {
        parent.push_back(above);
        length.push_back(n);
        bidirectional.push_back(both);
        total += n;
    }
    /* About `most` tokens. */
    void grow(int most, int trees) {
        const int first = (int)parent.size();
        if (!draw(4)) add(-1, most, false); /* blocks of 128 rows */
        for (int i = 0; total < most && i < 12; i++) {
            const int above = i < trees ? -1 : between(first, (int)parent.size() - 1);
            const int n =
                draw(3) ? between(0, 20) : lengths[draw(sizeof lengths / sizeof *lengths)];
            add(above, n < most - total ? n : most - total, draw(5) == 0);
        }
    }
    lc_forest *make() const {
        return lc_forest_new((int)parent.size(), parent.data(), length.data(),
                             bidirectional.data());
    }
};

/* The bits of rows [0, rows) are those of another call that has them first. */
static void same_bits(const char *what, const buffer &a, const buffer &b, int64_t count) {
    if (memcmp(a.device, b.device, (size_t)count * size_of(a.dtype))) fail(what);
}

/* lse is [heads, queries]. */
static void same_lse(const buffer &a, const buffer &b, int heads, int64_t n, int64_t m) {
    for (int h = 0; h < heads; h++)
        if (memcmp((float *)a.device + h * n, (float *)b.device + h * m, (size_t)n * 4))
            fail("lse depends on other rows");
}

static void copy_rows(buffer &to, const buffer &from) {
    const size_t bytes = to.host.size() * size_of(to.dtype);
    memcpy(to.device, from.device, bytes);
    for (size_t i = 0; i < to.host.size(); i++) to.host[i] = from.host[i];
}

/* A forest, and then the same trees with more behind them and a leaf more. */
static void test_forest(const struct shape &h, int tokens) {
    struct forest few;
    few.grow(tokens, between(1, 3));
    struct forest many = few;
    many.grow(few.total + between(1, 40), 1);
    lc_forest *f = few.make(), *g = many.make();
    const struct lc_spans *s = lc_forest_spans(f), *t = lc_forest_spans(g);
    snprintf(about + strlen(about), sizeof about - strlen(about),
             ", a forest of %d segments, %d rows", (int)few.parent.size(), few.total);
    inputs y(t->queries, t->queries, h), x(s->queries, s->queries, h);
    copy_rows(x.qkv, y.qkv);
    outputs p(s, h), q(t, h);
    buffer dp(s->queries * h.heads * h.d, h.dtype), dq(t->queries * h.heads * h.d, h.dtype);
    dq.fill(1);
    copy_rows(dp, dq);
    gradients a(s, h), b(t, h);
    forward(p, x, s, h);
    forward(q, y, t, h);
    backward(a, p, dp, x, s, h);
    backward(b, q, dq, y, t, h);
    same_bits("o depends on other rows", p.o, q.o, s->queries * h.q_row());
    same_lse(p.lse, q.lse, h.heads, s->queries, t->queries);
    same_bits("dq depends on other rows", a.dq, b.dq, s->queries * h.q_row());
    same_bits("dk depends on other rows", a.dk, b.dk, s->queries * h.k_row());
    same_bits("dv depends on other rows", a.dv, b.dv, s->queries * h.k_row());
    /* a leaf more for the first tree changes no row's output */
    struct forest leaf = few;
    leaf.add(0, 7, false);
    lc_forest_release(g);
    g = leaf.make();
    t = lc_forest_spans(g);
    inputs z(t->queries, t->queries, h);
    int64_t at = 0; /* the new leaf's first row */
    at = lc_forest_first(g, (int)leaf.parent.size() - 1);
    for (int64_t i = 0; i < t->queries; i++) {
        if (i >= at && i < at + 7) continue;
        memcpy((char *)z.qkv.device + (size_t)(i * z.row) * size_of(h.dtype),
               (char *)x.qkv.device + (size_t)((i < at ? i : i - 7) * x.row) * size_of(h.dtype),
               (size_t)x.row * size_of(h.dtype));
        for (int64_t j = 0; j < z.row; j++)
            z.qkv.host[(size_t)(i * z.row + j)] =
                x.qkv.host[(size_t)((i < at ? i : i - 7) * x.row + j)];
    }
    outputs r(t, h);
    forward(r, z, t, h);
    const size_t row = (size_t)h.q_row() * size_of(h.dtype);
    if (memcmp(p.o.device, r.o.device, (size_t)at * row) ||
        memcmp((char *)p.o.device + (size_t)at * row, (char *)r.o.device + (size_t)(at + 7) * row,
               (size_t)(s->queries - at) * row))
        fail("o depends on a sibling");
    lc_forest_release(f);
    lc_forest_release(g);
}

/* ---- cross-attention ------------------------------------------------------------------------- */

static void test_cross(const struct shape &h, int tokens) {
    const int n = between(1, 4);
    std::vector<int32_t> length((size_t)n), first((size_t)n), count((size_t)n);
    int32_t at = 0;
    for (size_t i = 0; i < (size_t)n; i++) {
        length[i] = between(0, tokens / n);
        first[i] = draw(4) && i ? first[i - 1] : at;
        count[i] = between(0, 100);
        if (first[i] + count[i] > at) at = first[i] + count[i] + between(0, 3);
    }
    lc_forest *f = lc_forest_cross(n, length.data(), first.data(), count.data());
    const struct lc_spans *s = lc_forest_spans(f);
    snprintf(about + strlen(about), sizeof about - strlen(about), ", cross, %d queries, %d keys",
             (int)s->queries, (int)s->keys);
    inputs x(s->queries, s->keys, h);
    outputs y(s, h);
    buffer dout(s->queries * h.heads * h.d, h.dtype);
    gradients g(s, h);
    dout.fill(1);
    forward(y, x, s, h);
    backward(g, y, dout, x, s, h);
    lc_forest_release(f);
}

/* ---- cached keys ----------------------------------------------------------------------------- */

struct cached { /* the spans of leaves whose keys are spread over slots, as nn/cache.c makes them */
    std::vector<lc_range> ranges;
    std::vector<lc_query_tile> tiles;
    struct lc_spans spans = {};

    /* Leaf with a path of runs; its last `rows` keys are new. */
    void add(const std::vector<lc_range> &runs, int rows) {
        int length = 0, at = 0, q0 = (int)spans.queries, r0 = (int)ranges.size();
        for (const lc_range &r : runs) length += r.k1 - r.k0;
        const int old = length - rows;
        for (const lc_range &r : runs) {
            const int n = r.k1 - r.k0, before = old - at < 0 ? 0 : old - at < n ? old - at : n;
            if (before) ranges.push_back({r.k0, r.k0 + before, q0, q0 + rows, 0});
            if (before < n)
                ranges.push_back({r.k0 + before, r.k1, q0 + at + before - old, q0 + rows, 1});
            at += n;
        }
        for (int q = q0; q < q0 + rows; q += LC_TILE_ROWS)
            tiles.push_back({q, q + LC_TILE_ROWS < q0 + rows ? q + LC_TILE_ROWS : q0 + rows, r0,
                             (int)ranges.size()});
        spans.queries += rows;
        if (length > spans.longest) spans.longest = length;
        spans.ranges = ranges.data();
        spans.tiles = tiles.data();
        spans.range_count = (int)ranges.size();
        spans.tile_count = (int)tiles.size();
    }
};

static void test_cached(const struct shape &h, int tokens, bool decode) {
    const int leaves = between(1, 6), trunk = between(0, tokens);
    int slot = trunk + between(1, 5);
    struct cached many, one;
    std::vector<std::vector<lc_range>> paths;
    std::vector<int> rows;
    for (int i = 0; i < leaves; i++) {
        std::vector<lc_range> runs;
        if (trunk && draw(6)) runs.push_back({0, trunk, 0, 0, 0});
        for (int j = between(0, 5); j > 0; j--) {
            const int n = between(1, 20);
            runs.push_back({slot, slot + n, 0, 0, 0});
            slot += n + between(0, 2);
        }
        /* A single row alone would be a decoding step, whose kernel adds up by other parts of the path. */
        const int n = decode ? 1 : between(i ? 1 : 2, 90);
        runs.push_back({slot, slot + n, 0, 0, 0});
        slot += n;
        paths.push_back(runs);
        rows.push_back(n);
        many.add(runs, n);
    }
    if (decode && draw(2)) many.add({}, 1); /* a row that fills up: it sees nothing */
    many.spans.keys = slot;
    one.add(paths[0], rows[0]);
    one.spans.keys = slot;
    int32_t first[2] = {0, many.spans.tile_count}, first_one[2] = {0, one.spans.tile_count};
    many.spans.tree_first = first;
    one.spans.tree_first = first_one;
    many.spans.trees = one.spans.trees = 1;
    snprintf(about + strlen(about), sizeof about - strlen(about), ", %s, %d leaves, trunk %d",
             decode ? "decoding" : "cached", leaves, trunk);
    inputs x(many.spans.queries, slot, h);
    outputs y(&many.spans, h), z(&one.spans, h);
    forward(y, x, &many.spans, h);
    forward(z, x, &one.spans, h);
    same_bits("o depends on other leaves", z.o, y.o, rows[0] * h.q_row());
    same_lse(z.lse, y.lse, h.heads, rows[0], many.spans.queries);
}

/* ---- all of it ------------------------------------------------------------------------------- */

int main(int argc, char **argv) {
    const int seed = argc > 1 ? atoi(argv[1]) : 1, cases = argc > 2 ? atoi(argv[2]) : 20;
    const int only = argc > 3 ? atoi(argv[3]) : 0;
    static const int sizes[] = {32, 64, 88, 128};
    for (int i = 0; i < cases; i++) {
        chance = (uint64_t)(seed + i) * 0x9e3779b97f4a7c15u + 99;
        for (int j = 0; j < 8; j++) draw(2);
        emulate_seed((uint64_t)(seed + i));
        struct shape h = {};
        const bool plain = !only && draw(6) == 0;
        h.dtype = plain ? (int)draw(3) : only || draw(2) ? LC_BF16 : LC_F16;
        h.d = only ? only : plain ? between(1, 100) : sizes[draw(4)];
        h.groups = between(1, 2);
        h.heads = h.groups * between(1, draw(3) ? 2 : 5);
        h.scale = 1 / sqrtf((float)h.d);
        h.gap = (seed + i) % 2 ? 0 : (seed + i) % 16 ? 8 : 3;
        snprintf(about, sizeof about, "case %d, %s, d %d, %d heads, %d groups", seed + i,
                 dtype_names[h.dtype], h.d, h.heads, h.groups);
        const int kind = (int)draw(8), tokens = between(1, 150);
        if (kind < 4) test_forest(h, tokens);
        else if (kind < 5) test_cross(h, tokens);
        else test_cached(h, 2 * tokens, kind < 7);
    }
    emulate_check_memory("the end");
    if (emulate_now.conflicts) fail("rows of a matrix share banks of shared memory");
    printf("%d cases; of the tolerance: o %.2f, lse %.2f, dq %.2f, dk %.2f, dv %.2f\n", cases,
           worst[0], worst[1], worst[2], worst[3], worst[4]);
    return 0;
}
