/* cublaslt.cc - a library with cuBLASLt's entry points that computes on the CPU: it is opened instead of
 * the real one where the CPU plays the device.
 *
 * Every product is checked before it is computed: shapes that go together, leading dimensions, dtypes,
 * alignment, each operand whole inside one block of the device's memory, a workspace of the size that
 * the algorithm needs. As in the real library the advice depends on the number of rows, algorithms
 * differ in the order of their sums and with it in bits, some advice is bad (sums in the output's
 * dtype, or too much workspace), and an algorithm may not fit a shape.
 *
 *   LUCID_CUBLASLT_LOG=FILE     a line is added for each product: m n k batch dtype algorithm splits
 *   LUCID_CUBLASLT_SLOW=1       algorithm 4 takes its time
 *   LUCID_CUBLASLT_PLANT=FAULT  what is asked is changed first, as if the caller had erred: see plant() */
#include "cuda/cublas.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <time.h>
#include <vector>

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

enum { OK = 0, INVALID = 7, UNSUPPORTED = 15 };
enum word { ID, SPLITS, REDUCTION, ALIGN, MAGIC };
constexpr uint64_t MARK = 0x6c7563696421;

struct desc {
    int transpose_a, transpose_b, epilogue;
    const void *bias;
};
struct layout {
    int dtype;
    int64_t rows, cols, ld, stride;
    int32_t batch;
};
struct preference {
    uint64_t workspace;
    uint32_t reductions, align[4];
};

bool (*block_of)(const void *, const char **, size_t *);
void (*give)(std::function<void()>); /* the stream's work */

int refuse(const char *what) {
    std::fprintf(stderr, "cublaslt: %s\n", what);
    return INVALID;
}

/* ---- numbers ---- */

size_t size_of(int dtype) { return dtype == LT_F32 ? 4 : 2; }

float get(const void *p, int dtype, int64_t i) {
    if (dtype == LT_F32) return ((const float *)p)[i];
    const uint16_t bits = ((const uint16_t *)p)[i];
    if (dtype == LT_F16) {
        _Float16 h;
        std::memcpy(&h, &bits, 2);
        return (float)h;
    }
    const uint32_t wide = (uint32_t)bits << 16;
    float x;
    std::memcpy(&x, &wide, 4);
    return x;
}

void put(void *p, int dtype, int64_t i, float x) {
    if (dtype == LT_F32) {
        ((float *)p)[i] = x;
    } else if (dtype == LT_F16) {
        const _Float16 h = (_Float16)x;
        std::memcpy((char *)p + 2 * i, &h, 2);
    } else {
        uint32_t bits;
        std::memcpy(&bits, &x, 4);
        if (x == x) bits += 0x7fff + (bits >> 16 & 1);
        ((uint16_t *)p)[i] = (uint16_t)(bits >> 16 | (x != x));
    }
}

/* ---- checks ---- */

int64_t span(const layout &l) { return (l.batch - 1) * l.stride + (l.cols - 1) * l.ld + l.rows; }

int check_inside(const char *name, const void *p, size_t bytes, size_t align) {
    const char *first;
    size_t room;
    char text[160];
    if (!block_of || !block_of(p, &first, &room) || (const char *)p + bytes > first + room) {
        std::snprintf(text, sizeof text, "%s: %zu bytes are not inside a block", name, bytes);
        return refuse(text);
    }
    if ((uintptr_t)p % align) {
        std::snprintf(text, sizeof text, "%s is not aligned to %zu bytes", name, align);
        return refuse(text);
    }
    return OK;
}

struct sizes {
    int64_t m, n, k; /* as the library counts: D is [m, n] */
};

/* Shapes and dtypes; 0, or the status. */
int measure(const desc &o, const layout &a, const layout &b, const layout &d, sizes *s) {
    for (const layout *l : {&a, &b, &d})
        if (l->rows < 1 || l->cols < 1 || l->ld < l->rows || l->batch != d.batch)
            return refuse("a leading dimension is less than the rows, or batches differ");
    s->m = o.transpose_a ? a.cols : a.rows;
    s->n = o.transpose_b ? b.rows : b.cols;
    s->k = o.transpose_a ? a.rows : a.cols;
    if ((o.transpose_b ? b.cols : b.rows) != s->k || d.rows != s->m || d.cols != s->n)
        return refuse("the matrices' shapes do not go together");
    if (a.dtype != b.dtype || (d.dtype != LT_F32 && d.dtype != a.dtype))
        return refuse("there is no product of these dtypes");
    const bool apart = d.stride >= (s->n - 1) * d.ld + s->m,
               beside = d.stride >= s->m && (d.batch - 1) * d.stride + s->m <= d.ld;
    if (d.batch > 1 && !apart && !beside) return refuse("the matrices of the output overlap");
    return OK;
}

size_t workspace_of(const lt_algo &algo, const sizes &s, int batch) {
    if (algo.word[SPLITS] > 1) return size_t(s.m * s.n * batch) * algo.word[SPLITS] * 4;
    return algo.word[ID] == 2 ? 1024 : 0;
}

/* Algorithm 4 wants even numbers of output features. */
bool fits(const lt_algo &algo, const sizes &s) { return algo.word[ID] != 4 || s.m % 2 == 0; }

bool planted(const char *fault) {
    const char *asked = std::getenv("LUCID_CUBLASLT_PLANT");
    return asked && !std::strcmp(asked, fault);
}

/* What a faulty caller could have asked for. */
void plant(desc *o, const void **a, layout *la, const void **b, layout *lb, layout *ld,
           float *beta) {
    if (planted("transpose a")) o->transpose_a = !o->transpose_a;
    if (planted("transpose b")) o->transpose_b = !o->transpose_b;
    if (planted("ld a")) la->ld++;
    if (planted("ld b")) lb->ld++;
    if (planted("ld d")) ld->ld++;
    if (planted("short ld")) lb->ld = lb->rows - 1;
    if (planted("past the end")) *b = (const char *)*b + size_of(lb->dtype);
    if (planted("stride a")) la->stride++;
    if (planted("bias")) o->bias = o->bias ? (const char *)o->bias + 4 : o->bias;
    if (planted("beta")) *beta = *beta != 0 ? 0.0f : 1.0f;
    if (planted("swap")) {
        std::swap(*a, *b);
        std::swap(*la, *lb);
        std::swap(o->transpose_a, o->transpose_b);
    }
}

/* ---- products ---- */

/* Sums of CHUNK products each, added in order: other chunks, other bits. */
float dot(const desc &o, const void *a, const layout &la, const void *b, const layout &lb,
          int64_t batch, int64_t i, int64_t j, int64_t from, int64_t to, int64_t chunk) {
    const int64_t a0 = batch * la.stride, b0 = batch * lb.stride;
    float sum = 0;
    for (int64_t k0 = from; k0 < to; k0 += chunk) {
        float part = 0;
        for (int64_t k = k0; k < std::min(k0 + chunk, to); k++)
            part += get(a, la.dtype, a0 + (o.transpose_a ? i * la.ld + k : k * la.ld + i)) *
                    get(b, lb.dtype, b0 + (o.transpose_b ? k * lb.ld + j : j * lb.ld + k));
        sum += part;
    }
    return sum;
}

void compute(const desc &o, float alpha, const void *a, const layout &la, const void *b,
             const layout &lb, float beta, void *d, const layout &ld, const sizes &s,
             const lt_algo &algo) {
    const int64_t splits = std::max<int64_t>(1, (int64_t)algo.word[SPLITS]);
    const int64_t each = (s.k + splits - 1) / splits, chunk = 3 + 4 * (int64_t)algo.word[ID];
    for (int64_t batch = 0; batch < ld.batch; batch++)
        for (int64_t j = 0; j < s.n; j++)
            for (int64_t i = 0; i < s.m; i++) {
                float sum = 0;
                for (int64_t k = 0; k < s.k; k += each)
                    sum += dot(o, a, la, b, lb, batch, i, j, k, std::min(k + each, s.k), chunk);
                const int64_t at = batch * ld.stride + j * ld.ld + i;
                float y = alpha * sum;
                if (beta != 0) y += beta * get(d, ld.dtype, at);
                if (o.epilogue == LT_EPILOGUE_BIAS) y += get(o.bias, ld.dtype, i);
                put(d, ld.dtype, at, y);
            }
}

void record(const sizes &s, const layout &la, const layout &ld, const lt_algo &algo) {
    const char *path = std::getenv("LUCID_CUBLASLT_LOG");
    FILE *f = path ? std::fopen(path, "a") : nullptr;
    if (!f) return;
    std::fprintf(f, "%lld %lld %lld %d %d %llu %llu\n", (long long)s.n, (long long)s.m,
                 (long long)s.k, ld.batch, la.dtype, (unsigned long long)algo.word[ID],
                 (unsigned long long)algo.word[SPLITS]);
    std::fclose(f);
}

} // namespace

/* ---- the entry points ------------------------------------------------------------------------------ */

EXPORTED lt_attend_fn cublasLt_attend;
void cublasLt_attend(bool (*f)(const void *, const char **, size_t *),
                     void (*to)(std::function<void()>)) {
    block_of = f;
    give = to;
}
EXPORTED size_t cublasLtGetVersion(void) { return 1; }
EXPORTED int cublasLtCreate(void **handle) {
    static int one;
    *handle = &one;
    return OK;
}

EXPORTED int cublasLtMatmulDescCreate(void **out, int compute, int scale) {
    if (compute != LT_COMPUTE_F32 || scale != LT_F32) return refuse("sums are not in f32");
    *out = new desc{};
    return OK;
}
EXPORTED int cublasLtMatmulDescSetAttribute(void *of, int what, const void *value, size_t bytes) {
    desc *d = (desc *)of;
    void *to = what == LT_DESC_TRANSPOSE_A   ? &d->transpose_a
               : what == LT_DESC_TRANSPOSE_B ? &d->transpose_b
               : what == LT_DESC_EPILOGUE    ? &d->epilogue
               : what == LT_DESC_BIAS        ? (void *)&d->bias
                                             : nullptr;
    if (!to || bytes != (what == LT_DESC_BIAS ? sizeof(void *) : 4)) return refuse("an attribute");
    std::memcpy(to, value, bytes);
    return OK;
}
EXPORTED int cublasLtMatmulDescDestroy(void *d) {
    delete (desc *)d;
    return OK;
}

EXPORTED int cublasLtMatrixLayoutCreate(void **out, int dtype, uint64_t rows, uint64_t cols,
                                        int64_t ld) {
    *out = new layout{dtype, (int64_t)rows, (int64_t)cols, ld, 0, 1};
    return OK;
}
EXPORTED int cublasLtMatrixLayoutSetAttribute(void *of, int what, const void *value, size_t bytes) {
    layout *l = (layout *)of;
    if (what == LT_LAYOUT_BATCH && bytes == 4) std::memcpy(&l->batch, value, bytes);
    else if (what == LT_LAYOUT_STRIDE && bytes == 8) std::memcpy(&l->stride, value, bytes);
    else return refuse("an attribute");
    return OK;
}
EXPORTED int cublasLtMatrixLayoutDestroy(void *l) {
    delete (layout *)l;
    return OK;
}

EXPORTED int cublasLtMatmulPreferenceCreate(void **out) {
    *out = new preference{0, 7, {256, 256, 256, 256}};
    return OK;
}
EXPORTED int cublasLtMatmulPreferenceSetAttribute(void *of, int what, const void *value,
                                                  size_t bytes) {
    preference *p = (preference *)of;
    const int align = what - LT_PREFER_ALIGN_A;
    if (what == LT_PREFER_WORKSPACE && bytes == 8) std::memcpy(&p->workspace, value, bytes);
    else if (what == LT_PREFER_REDUCTIONS && bytes == 4) std::memcpy(&p->reductions, value, bytes);
    else if (align >= 0 && align < 4 && bytes == 4) std::memcpy(&p->align[align], value, bytes);
    else return refuse("an attribute");
    return OK;
}
EXPORTED int cublasLtMatmulPreferenceDestroy(void *p) {
    delete (preference *)p;
    return OK;
}

EXPORTED int cublasLtMatmulAlgoGetHeuristic(void *, void *op, void *a, void *b, void *, void *d,
                                            void *prefer, int most, lt_candidate *out, int *count) {
    sizes s;
    const preference &p = *(const preference *)prefer;
    const int status = measure(*(desc *)op, *(layout *)a, *(layout *)b, *(layout *)d, &s);
    if (status) return status;
    std::vector<lt_candidate> all;
    const auto add = [&](uint64_t id, uint64_t splits, uint64_t reduction) {
        lt_candidate c = {};
        c.algo.word[ID] = id;
        c.algo.word[SPLITS] = splits;
        c.algo.word[REDUCTION] = reduction;
        c.algo.word[ALIGN] = *std::min_element(p.align, p.align + 4);
        c.algo.word[MAGIC] = MARK;
        c.workspace = workspace_of(c.algo, s, ((layout *)d)->batch);
        if (fits(c.algo, s)) all.push_back(c);
    };
    add(9, 4, 4); /* sums in the output's dtype */
    if (p.reductions & LT_REDUCE_COMPUTE_TYPE) add(5, 4, LT_REDUCE_COMPUTE_TYPE);
    add(8, 1, 0);
    all.back().workspace = p.workspace + 1;
    add(7, 1, 0);
    all.back().state = UNSUPPORTED;
    const uint64_t first = s.n < 16 ? 1 : s.n < 1000 ? 2 : 3; /* rows change what is best */
    for (uint64_t i = 0; i < 4; i++) add(1 + (first + i) % 4, 1, 0);
    *count = (int)std::min(all.size(), (size_t)most);
    std::copy_n(all.begin(), *count, out);
    return OK;
}

EXPORTED int cublasLtMatmulAlgoConfigGetAttribute(const lt_algo *algo, int what, void *value,
                                                  size_t bytes, size_t *written) {
    const int32_t x = (int32_t)algo->word[what == LT_ALGO_SPLITS ? SPLITS : REDUCTION];
    if ((what != LT_ALGO_SPLITS && what != LT_ALGO_REDUCTION) || bytes != 4)
        return refuse("an attribute");
    std::memcpy(value, &x, bytes);
    *written = bytes;
    return OK;
}

EXPORTED int cublasLtMatmulAlgoCheck(void *, void *op, void *a, void *b, void *, void *d,
                                     const lt_algo *algo, lt_candidate *out) {
    sizes s;
    const int status = measure(*(desc *)op, *(layout *)a, *(layout *)b, *(layout *)d, &s);
    if (status) return status;
    if (algo->word[MAGIC] != MARK) return refuse("the algorithm is none of mine");
    if (!fits(*algo, s)) return UNSUPPORTED;
    *out = {};
    out->algo = *algo;
    out->workspace = workspace_of(*algo, s, ((layout *)d)->batch);
    return OK;
}

EXPORTED int cublasLtMatmul(void *, void *op, const void *alpha, const void *a, void *a_layout,
                            const void *b, void *b_layout, const void *beta, const void *c,
                            void *c_layout, void *d, void *d_layout, const lt_algo *algo,
                            void *workspace, size_t workspace_bytes, void *) {
    desc o = *(desc *)op;
    layout la = *(layout *)a_layout, lb = *(layout *)b_layout, ld = *(layout *)d_layout;
    float by = *(const float *)beta;
    if (c != d || c_layout != d_layout) return refuse("C is not D");
    plant(&o, &a, &la, &b, &lb, &ld, &by);
    sizes s;
    int status = measure(o, la, lb, ld, &s);
    lt_algo used = *algo;
    if (planted("an algorithm by rows")) used.word[ID] = 1 + (uint64_t)s.n % 4;
    const size_t align = algo->word[ALIGN];
    if (status) return status;
    if (algo->word[MAGIC] != MARK || !fits(*algo, s)) return refuse("the algorithm does not fit");
    if ((status = check_inside("A", a, (size_t)span(la) * size_of(la.dtype), align)) ||
        (status = check_inside("B", b, (size_t)span(lb) * size_of(lb.dtype), align)) ||
        (status = check_inside("D", d, (size_t)span(ld) * size_of(ld.dtype), align)))
        return status;
    if (o.epilogue == LT_EPILOGUE_BIAS &&
        (status = check_inside("bias", o.bias, (size_t)s.m * size_of(ld.dtype), 2)))
        return status;
    for (const layout *l : {&la, &lb, &ld}) {
        const size_t size = size_of(l->dtype);
        if ((l->cols > 1 && (size_t)l->ld * size % align) ||
            (l->batch > 1 && (size_t)l->stride * size % align))
            return refuse("a stride is not aligned as the algorithm was told");
    }
    const size_t need = workspace_of(*algo, s, ld.batch);
    if (workspace_bytes < need) return refuse("the workspace is too small");
    if (need && (status = check_inside("workspace", workspace, need, 16))) return status;
    record(s, la, ld, *algo);
    const bool slow = algo->word[ID] == 4 && std::getenv("LUCID_CUBLASLT_SLOW");
    const float factor = *(const float *)alpha;
    give([=] {
        const timespec nap = {0, 2000000};
        if (slow) nanosleep(&nap, nullptr);
        if (need) std::memset(workspace, 0xff, need);
        compute(o, factor, a, la, b, lb, by, d, ld, s, used);
    });
    return OK;
}
