/* product.cc - matrix products by cuBLASLt; a few rows with a weight have a kernel (few_rows.cu).
 *
 * The library counts by columns: what is stored row by row is its transpose there, so C = A B is asked
 * for as C^T = B^T A^T, and nothing is moved.
 *
 * All products of a kind (a weight's shape, its dtype and transposes; see lt_kind) take one algorithm,
 * chosen at the first of them for LEVEL rows, whatever the number of rows is: the library's own advice
 * changes with it, and with it a row's bits. K is never split, but for narrow products, which would
 * leave most of the device idle, and for weight gradients, whose K is the rows: there the number of
 * splits is part of the choice, and the parts are added in f32. A shape that the choice does not fit
 * gets one of its own. Products of one weight with and without the columns of its adapter (k_most) share
 * an algorithm, and never split K: zeros behind it change no bit. */
#include "cuda/cublas.h"
#include "cuda/launchers.h"

#include <algorithm>
#include <cstdio>

namespace {

enum {
    LEVEL = 4096,   /* rows that an algorithm is chosen for */
    NARROW = 512,   /* columns up to which K may be split */
    CANDIDATES = 8, /* that are timed */
    WORKSPACE =
        64 << 20, /* most bytes of it; said outright, for advice changes with what is free */
    FASTEST_ROUNDS = 3
};

bool timing; /* see cuda_tune */

int lt_dtype(int dtype) { return dtype == LC_F32 ? LT_F32 : dtype == LC_BF16 ? LT_BF16 : LT_F16; }

int64_t dtype_size(int dtype) { return dtype == LC_F32 ? 4 : 2; }

/* ---- descriptors of one product, let go at the end of its scope --------------------------------- */

struct operation {
    const struct lt *t;
    void *desc = nullptr, *layout[3] = {}, *preference = nullptr; /* layouts of B, A, C */
    int status = 0;

    explicit operation(const struct lt *library) : t(library) {}
    operation(const operation &) = delete;
    ~operation() {
        if (desc) t->desc_destroy(desc);
        for (void *l : layout)
            if (l) t->layout_destroy(l);
        if (preference) t->prefer_destroy(preference);
    }

    void note(int s) {
        if (!status) status = s;
    }
    template <typename T> void set(int what, T value) {
        if (!status) note(t->desc_set(desc, what, &value, sizeof value));
    }
    template <typename T> void prefer(int what, T value) {
        if (!status) note(t->prefer_set(preference, what, &value, sizeof value));
    }
    /* rows and cols: as the library counts, of what is stored */
    void lay(int i, int dtype, int64_t rows, int64_t cols, int64_t ld, int64_t batch,
             int64_t stride) {
        if (status) return;
        note(t->layout_create(&layout[i], lt_dtype(dtype), uint64_t(rows), uint64_t(cols),
                              std::max(ld, rows)));
        if (status || batch == 1) return;
        const int32_t count = int32_t(batch);
        note(t->layout_set(layout[i], LT_LAYOUT_BATCH, &count, sizeof count));
        if (!status) note(t->layout_set(layout[i], LT_LAYOUT_STRIDE, &stride, sizeof stride));
    }

    void describe(const struct lc_gemm &g) {
        note(t->desc_create(&desc, LT_COMPUTE_F32, LT_F32));
        set(LT_DESC_TRANSPOSE_A, int32_t(g.b_transposed ? LT_TRANSPOSED : LT_PLAIN));
        set(LT_DESC_TRANSPOSE_B, int32_t(g.a_transposed ? LT_TRANSPOSED : LT_PLAIN));
        if (g.bias) {
            set(LT_DESC_EPILOGUE, int32_t(LT_EPILOGUE_BIAS));
            set(LT_DESC_BIAS, g.bias);
        }
        lay(0, g.b_dtype, g.b_transposed ? g.k : g.n, g.b_transposed ? g.n : g.k, g.b_row, g.batch,
            g.b_batch);
        lay(1, g.a_dtype, g.a_transposed ? g.m : g.k, g.a_transposed ? g.k : g.m, g.a_row, g.batch,
            g.a_batch);
        lay(2, g.c_dtype, g.n, g.m, g.c_row, g.batch, g.c_batch);
    }
};

/* ---- choosing --------------------------------------------------------------------------------------- */

/* Bytes that the whole of an operand is aligned to, from 2 to 16. */
int alignment(const void *p, int64_t row, int64_t batch, int dtype) {
    const uint64_t bits = uint64_t(uintptr_t(p)) | uint64_t(row * dtype_size(dtype)) |
                          uint64_t(batch * dtype_size(dtype)) | 16;
    return int(bits & -bits);
}

bool may_split(const struct lt_kind &kind) {
    return !kind.padded && (kind.a_transposed || kind.n <= NARROW);
}

struct lt_kind kind_of(const struct lc_gemm &g) {
    struct lt_kind kind = {};
    kind.m = g.a_transposed ? g.m : 0;
    kind.n = g.n;
    kind.padded = g.k_most;
    kind.k = g.a_transposed ? 0 : kind.padded ? g.k_most : g.k;
    kind.batched = g.batch > 1;
    kind.a_transposed = g.a_transposed;
    kind.b_transposed = g.b_transposed;
    kind.bias = g.bias;
    kind.a_dtype = g.a_dtype;
    kind.c_dtype = g.c_dtype;
    kind.align =
        std::min({alignment(g.a, g.m > 1 || g.a_transposed ? g.a_row : 0,
                            g.batch > 1 ? g.a_batch : 0, g.a_dtype),
                  alignment(g.b, g.b_row, g.batch > 1 ? g.b_batch : 0, g.b_dtype),
                  alignment(g.c, g.m > 1 ? g.c_row : 0, g.batch > 1 ? g.c_batch : 0, g.c_dtype)});
    return kind;
}

/* Whether a row's bits are those of any other number of rows, and sums are in f32. */
bool steady(const struct lt *t, const struct lt_kind &kind, const struct lt_algo &algo) {
    int32_t splits = 0, reduction = 0;
    size_t written;
    if (t->get(&algo, LT_ALGO_SPLITS, &splits, sizeof splits, &written) ||
        t->get(&algo, LT_ALGO_REDUCTION, &reduction, sizeof reduction, &written))
        return false;
    if (splits <= 1 && reduction == LT_REDUCE_NONE) return true;
    return may_split(kind) && reduction == LT_REDUCE_COMPUTE_TYPE;
}

/* The library's advice, the best first, without what is not steady. */
int advice(const struct lt *t, const struct lt_kind &kind, const struct lc_gemm &g,
           struct lt_candidate *out) {
    operation o(t);
    o.describe(g);
    if (!o.status) o.note(t->prefer_create(&o.preference));
    o.prefer(LT_PREFER_WORKSPACE, uint64_t(WORKSPACE));
    o.prefer(LT_PREFER_REDUCTIONS,
             uint32_t(may_split(kind) ? LT_REDUCE_COMPUTE_TYPE : LT_REDUCE_NONE));
    for (int i = 0; i < 4; i++) o.prefer(LT_PREFER_ALIGN_A + i, uint32_t(kind.align));
    struct lt_candidate all[2 * CANDIDATES];
    int found = 0, count = 0;
    if (!o.status)
        o.note(t->candidates(t->handle, o.desc, o.layout[0], o.layout[1], o.layout[2], o.layout[2],
                             o.preference, 2 * CANDIDATES, all, &found));
    if (o.status) return 0;
    for (int i = 0; i < found && count < CANDIDATES; i++)
        if (!all[i].state && all[i].workspace <= WORKSPACE && steady(t, kind, all[i].algo))
            out[count++] = all[i];
    return count;
}

/* ---- running -------------------------------------------------------------------------------------------- */

enum outcome { DONE, FAILED, UNFIT };

/* UNFIT: the algorithm is not for this shape. */
enum outcome run(const struct lt *t, const struct lc_gemm &g, const struct lt_algo &algo) {
    operation o(t);
    o.describe(g);
    struct lt_candidate need;
    if (o.status || t->check(t->handle, o.desc, o.layout[0], o.layout[1], o.layout[2], o.layout[2],
                             &algo, &need))
        return UNFIT;
    void *workspace = need.workspace ? cuda_workspace(need.workspace) : nullptr;
    if (need.workspace && !workspace) return FAILED;
    const int status = t->matmul(t->handle, o.desc, &g.alpha, g.b, o.layout[0], g.a, o.layout[1],
                                 &g.beta, g.c, o.layout[2], g.c, o.layout[2], &algo, workspace,
                                 need.workspace, cuda_stream_pointer());
    cuda_free(workspace, need.workspace);
    if (cuda_launched("gemm") < 0) return FAILED;
    if (!status) return DONE;
    cuda_host.fail(LC_ECUDA, "gemm: cuBLASLt refuses [%lld, %lld] x [%lld, %lld]: status %d",
                   (long long)g.m, (long long)g.k, (long long)g.k, (long long)g.n, status);
    return FAILED;
}

/* Milliseconds of one product, or a negative number. */
double time_of(const struct lt *t, const struct lc_gemm &g, const struct lt_algo &algo, int times) {
    if (cuda_clock_start() < 0) return -1;
    for (int i = 0; i < times; i++)
        if (run(t, g, algo) != DONE) return -1;
    const double ms = cuda_clock_stop();
    return ms < 0 ? ms : ms / times;
}

/* The first, unless another one is faster by more than near-ties differ between processes. */
int fastest(const struct lt *t, struct lc_gemm g, const struct lt_candidate *c, int count) {
    const size_t bytes =
        size_t(((g.batch - 1) * g.c_batch + (g.m - 1) * g.c_row + g.n) * dtype_size(g.c_dtype));
    g.c = cuda_workspace(bytes);
    g.beta = 0;
    if (!g.c) return 0; /* no room for a second C */
    double best[CANDIDATES];
    int times = 1;
    for (int round = 0; round <= FASTEST_ROUNDS; round++)
        for (int i = 0; i < count; i++) {
            const double ms = time_of(t, g, c[i].algo, times);
            if (round && (ms < 0 || best[i] < 0)) best[i] = -1;
            else best[i] = round > 1 ? std::min(best[i], ms) : ms; /* round 0 warms up */
            if (!round && !i) times = ms > 0 ? std::clamp(int(1 / ms), 1, 50) : 1;
        }
    cuda_free(g.c, bytes);
    int first = 0;
    for (int i = 1; i < count; i++)
        if (best[i] > 0 && best[i] < 0.97 * best[0] && (!first || best[i] < best[first])) first = i;
    return first;
}

/* Chooses for that kind: NULL when the library knows nothing. */
const struct lt_algo *choose(const struct lt *t, const struct lt_kind &kind,
                             const struct lc_gemm &g) {
    struct lc_gemm level = g;
    /* matrices of a batch lie too close for more rows */
    if (!kind.m && !kind.batched) level.m = LEVEL;
    if (!kind.k && !kind.batched) level.k = LEVEL;
    if (kind.padded) level.k = kind.k;
    struct lt_candidate found[CANDIDATES];
    const int count = advice(t, kind, level, found);
    if (!count) return nullptr;
    lt_choose(&kind, &found[timing && count > 1 ? fastest(t, g, found, count) : 0].algo);
    return lt_chosen(&kind);
}

enum outcome run_kind(const struct lt *t, const struct lt_kind &kind, const struct lc_gemm &g) {
    const struct lt_algo *algo = lt_chosen(&kind);
    if (!algo) algo = choose(t, kind, g);
    return algo ? run(t, g, *algo) : UNFIT;
}

enum outcome run_any(const struct lt *t, const struct lc_gemm &g) {
    struct lt_kind kind = kind_of(g);
    const enum outcome done = run_kind(t, kind, g);
    if (done != UNFIT) return done;
    kind.m = g.m;
    if (!kind.padded) kind.k = g.k;
    return run_kind(t, kind, g);
}

/* ---- operands that the library does not take ------------------------------------------------------ */

/* An f32 copy of an operand with its strides, and the way back. */
struct widened {
    void *p = nullptr;
    size_t bytes = 0;
    ~widened() { cuda_free(p, bytes); }
    int make(const void **data, int *dtype, int64_t count) {
        bytes = size_t(count) * sizeof(float);
        p = cuda_workspace(bytes);
        if (!p || cuda_convert(p, LC_F32, *data, *dtype, count) < 0) return -1;
        *data = p;
        *dtype = LC_F32;
        return 0;
    }
};

int64_t span(int64_t rows, int64_t cols, int64_t row, int64_t batch, int64_t step) {
    return (batch - 1) * step + (rows - 1) * row + cols;
}

bool known_dtypes(const struct lc_gemm &g) {
    const bool same = g.a_dtype == g.b_dtype;
    return g.c_dtype == LC_F32 || (same && g.c_dtype == g.a_dtype);
}

/* Makes both operands and the bias of dtypes that go together. */
int unite(struct lc_gemm *g, widened *operand, widened *bias) {
    if (g->a_dtype != g->b_dtype) {
        const int64_t rows_a = g->a_transposed ? g->k : g->m,
                      rows_b = g->b_transposed ? g->n : g->k;
        const int64_t cols_a = g->a_transposed ? g->m : g->k,
                      cols_b = g->b_transposed ? g->k : g->n;
        if (g->a_dtype != LC_F32 &&
            operand[0].make(&g->a, &g->a_dtype,
                            span(rows_a, cols_a, g->a_row, g->batch, g->a_batch)) < 0)
            return -1;
        if (g->b_dtype != LC_F32 &&
            operand[1].make(&g->b, &g->b_dtype,
                            span(rows_b, cols_b, g->b_row, g->batch, g->b_batch)) < 0)
            return -1;
    }
    if (g->bias && g->bias_dtype != g->c_dtype) return bias->make(&g->bias, &g->bias_dtype, g->n);
    return 0;
}

} // namespace

void cuda_tune(int on) { timing = on; }

int cuda_gemm(const struct lc_gemm *asked) {
    if (!asked->m || !asked->n || !asked->batch) return 0;
    if (cuda_few_rows_serve(asked)) return cuda_few_rows(asked);
    const struct lt *t = asked->k ? cuda_lt() : nullptr;
    const bool bias_fits =
        !asked->bias || asked->c_dtype == LC_F32 || asked->bias_dtype == asked->c_dtype;
    if (!t || !known_dtypes(*asked) || !bias_fits) return cuda_gemm_plain(asked);
    struct lc_gemm g = *asked;
    widened operand[2], bias;
    if (unite(&g, operand, &bias) < 0) return -1;
    const enum outcome done = run_any(t, g);
    return done == UNFIT ? cuda_gemm_plain(asked) : done == DONE ? 0 : -1;
}
