/* few_rows.cu - products of a few rows of 16 bits with a weight stored [n, k], of 16 bits or packed: a decoding step.
 * It waits for the weight alone, so the weight is read once, by all of the device, many packs at a time. Tensor cores
 * take a lane's packs as they are: two of the weight cost two products, where 16 numbers times 8 rows would cost 128.
 *
 * A block makes COLUMNS columns of all rows, and its warps share K: SPAN terms at a time, TERMS of them each. What
 * they make is added in their order. The rows are the CUDA_FEW_ROWS columns of the right operand, filled or not, so
 * they have the same bits together as alone. */
#include "cuda/quant.cuh"

namespace {

enum {
    WARPS = 8,
    BLOCK = WARPS * WARP,
    COLUMNS = 16,
    AHEAD = 4,            /* steps whose packs, two of the weight, are on their way to a lane */
    STEP = 32,            /* terms: the packs of four lanes */
    TERMS = AHEAD * STEP, /* that lie together: both halves of blocks of 4 bits */
    SPAN = WARPS * TERMS,
    BLOCKS = 3 /* of a processor: 96 KiB are on their way to it, where 32 a microsecond would do */
};

/* How a weight is stored: where a column lies, what a lane reads of a pack (of a whole one, or of what is left of
 * its column), and the pack once that is there. */
template <typename T> struct plain {
    const T *w;
    int64_t row;
    bool whole; /* packs are in line, and a warp's TERMS are all there */
    using line = const T *;
    using pack = pack_words;
    LC_DEVICE void begin(float *) const {}
    LC_DEVICE line of(int64_t n) const { return w + n * row; }
    LC_DEVICE pack read(line l, int k) const { return load_words_once(l + k); }
    LC_DEVICE pack read(line l, int k, int left) const {
        return words_of(get_pack(l + (left > 0 ? k : 0), left));
    }
    LC_DEVICE pack_words values(const pack &p, const float *) const { return p; }
};

/* All of a line's blocks are its own. */
template <typename T, bool EIGHT> struct packed {
    enum { EACH = EIGHT ? 32 : 64 }; /* elements of a block */
    const uint8_t *quants;
    const lc_f16 *scales;
    int64_t row; /* elements */
    bool whole;
    levels l;
    using line = uint32_t; /* its first block: registers are short */
    struct pack {
        uint64_t quants; /* a byte an element, of 4 bits their lower or upper halves */
        lc_f16 scale;
        int shift;
    };
    LC_DEVICE void begin(float *level) const {
        if (EIGHT) return;
        if (threadIdx.x < LEVELS) level[threadIdx.x] = l.level[threadIdx.x];
        __syncthreads();
    }
    LC_DEVICE line of(int64_t n) const { return (line)(n * (row / EACH)); }
    LC_DEVICE pack read(line l, int k) const {
        const int64_t block = l + (uint32_t)k / EACH;
        const uint8_t *at = quants + block * LC_PACKED_BLOCK + k % LC_PACKED_BLOCK;
        return {*(const uint64_t *)at, scales[block], !EIGHT && (k & HALF_BLOCK) ? 4 : 0};
    }
    LC_DEVICE pack read(line l, int k, int left) const {
        if (left > 0) return read(l, k);
        return {};
    }
    LC_DEVICE pack_words values(const pack &p, const float *level) const {
        const float scale = to_float(p.scale);
        pack_words out;
        LC_UNROLL
        for (int i = 0; i < 4; i++) {
            float value[2];
            LC_UNROLL
            for (int j = 0; j < 2; j++) {
                const uint32_t q = (uint32_t)(p.quants >> (8 * (2 * i + j) + p.shift));
                value[j] = EIGHT ? value_of_8_bits((uint8_t)q, scale)
                                 : value_of_4_bits(level[q & (LEVELS - 1)], scale);
            }
            out.word[i] = pack_two<T>(value[0], value[1]);
        }
        return out;
    }
};

/* A step: two products, of the packs of columns `lane / 4` and 8 behind it and of row `lane / 4`. */
template <typename T>
LC_DEVICE void multiply(float (&sum)[4], const pack_words &upper, const pack_words &lower,
                        const pack_words &row) {
    LC_UNROLL
    for (int i = 0; i < 4; i += 2) {
        const uint32_t left[4] = {upper.word[i], lower.word[i], upper.word[i + 1],
                                  lower.word[i + 1]};
        mma<T>(sum, left, row.word[i], row.word[i + 1]);
    }
}

template <typename T, typename W>
__global__ void __launch_bounds__(BLOCK, BLOCKS) few_rows(lc_gemm g, W w) {
    LC_SHARED(float, level, [LEVELS]);
    LC_SHARED(float, part, [2][WARPS][CUDA_FEW_ROWS][COLUMNS]);
    const int k = (int)g.k, group = lane_id() / 4, pair = lane_id() % 4 * 2; /* as mma() counts */
    const int64_t tiles = (g.n + COLUMNS - 1) / COLUMNS;
    const int first = warp_id() * TERMS;
    /* columns and rows that are none have the last one's numbers: they are not stored */
    const T *const x = (const T *)g.a + min((int64_t)group, g.m - 1) * g.a_row + pair * 4;
    typename W::line above, below;
    typename W::pack upper[AHEAD], lower[AHEAD];
    const auto begin = [&](int64_t tile) {
        const int64_t n = tile * COLUMNS + group;
        above = w.of(min(n, g.n - 1));
        below = w.of(min(n + 8, g.n - 1));
    };
    const auto ask = [&](int a, int at) {
        upper[a] = w.read(above, at + a * STEP + pair * 4);
        lower[a] = w.read(below, at + a * STEP + pair * 4);
    };
    w.begin(level);
    begin(blockIdx.x);
    if (w.whole && first < k) {
        LC_UNROLL
        for (int a = 0; a < AHEAD; a++) ask(a, first);
    }
    int turn = 0;
    EACH_ROW(tile, tiles) {
        float sum[4] = {};
        if (w.whole) {
            for (int at = first; at < k; at += SPAN) {
                /* what is asked for in place of what is used: it lies behind it, or is the next tile's */
                const bool last = at + SPAN >= k, more = !last || tile + gridDim.x < tiles;
                const int next = last ? first : at + SPAN;
                if (last && more) begin(tile + gridDim.x);
                LC_UNROLL
                for (int a = 0; a < AHEAD; a++) {
                    multiply<T>(sum, w.values(upper[a], level), w.values(lower[a], level),
                                load_words(x + at + a * STEP));
                    if (more) ask(a, next);
                }
            }
        } else {
            begin(tile);
            for (int at = first; at < k; at += SPAN) {
                LC_UNROLL_BY(1)
                for (int i = at; i < k && i < at + TERMS; i += STEP) { /* whatever is there */
                    const int mine = i + pair * 4, left = k - mine;
                    multiply<T>(sum, w.values(w.read(above, mine, left), level),
                                w.values(w.read(below, mine, left), level),
                                words_of(get_pack(x + (left > 0 ? i : 0), left)));
                }
            }
        }
        LC_UNROLL
        for (int i = 0; i < 4; i++) part[turn][warp_id()][pair + i % 2][group + i / 2 * 8] = sum[i];
        __syncthreads(); /* the parts are here, and those of the tile before are used */
        const int r = (int)threadIdx.x / COLUMNS, c = (int)threadIdx.x % COLUMNS;
        const int64_t column = tile * COLUMNS + c;
        float all = 0;
        LC_UNROLL
        for (int i = 0; r < g.m && i < WARPS; i++) all += part[turn][i][r][c];
        turn = 1 - turn;
        if (r >= g.m || column >= g.n) continue;
        T *const y = (T *)g.c + r * g.c_row + column;
        float value = g.alpha * all;
        if (g.beta != 0) value += g.beta * to_float(*y);
        if (g.bias) value += to_float(((const T *)g.bias)[column]);
        *y = from_float<T>(value);
    }
}

/* As many blocks as run at a time, or fewer that make as many tiles each. */
template <typename T, typename W> int start(const struct lc_gemm &g, const W &w) {
    const int64_t tiles = ceil_div(g.n, COLUMNS),
                  each = ceil_div(tiles, cuda_wave((const void *)few_rows<T, W>, BLOCK, 0));
    return launch("gemm", few_rows<T, W>, ceil_div(tiles, each), BLOCK, g, w);
}

bool in_line(const void *p, int64_t row) { return (uintptr_t)p % 16 == 0 && row % 8 == 0; }

template <typename T> int start_plain(const struct lc_gemm &g) {
    const bool whole = in_line(g.a, g.a_row) && in_line(g.b, g.b_row) && g.k % TERMS == 0;
    return start<T>(g, plain<T>{(const T *)g.b, g.b_row, whole});
}

template <typename T> int start_packed(const struct lc_gemm &g, enum lc_quant quant) {
    const uint8_t *quants = (const uint8_t *)g.b;
    const lc_f16 *scales = (const lc_f16 *)(quants + lc_packed_scales(quant, g.n * g.k));
    const levels &l = levels_of(quant);
    const bool whole = in_line(g.a, g.a_row) && g.k % TERMS == 0;
    return quant == LC_Q8_0 ? start<T>(g, packed<T, true>{quants, scales, g.k, whole, l})
                            : start<T>(g, packed<T, false>{quants, scales, g.k, whole, l});
}

} // namespace

bool cuda_few_rows_serve(const struct lc_gemm *g) {
    return g->m <= CUDA_FEW_ROWS && g->k < INT32_MAX / 2 && g->batch == 1 && g->b_transposed &&
           !g->a_transposed && g->a_dtype != LC_F32 && g->a_dtype == g->b_dtype &&
           g->a_dtype == g->c_dtype && (!g->bias || g->bias_dtype == g->c_dtype);
}

int cuda_few_rows(const struct lc_gemm *g) {
    return g->a_dtype == LC_BF16 ? start_plain<lc_bf16>(*g) : start_plain<lc_f16>(*g);
}

int cuda_gemm_packed(const struct lc_gemm *g) {
    const enum lc_quant quant = lc_quant_of(g->b_dtype);
    struct lc_gemm expanded = *g;
    expanded.b_dtype = g->a_dtype;
    if (!g->m || !g->n) return 0;
    if (!cuda_few_rows_serve(&expanded) || g->k % lc_packed_each(quant) != 0) return 1;
    return g->a_dtype == LC_BF16 ? start_packed<lc_bf16>(expanded, quant)
                                 : start_packed<lc_f16>(expanded, quant);
}
