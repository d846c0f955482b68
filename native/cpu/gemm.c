/* gemm.c - matrix products by packed panels and a register tile.
 *
 * Every element of C is one chain: acc = fma(a[i, k], b[k, j], acc) with k ascending, in f32 whatever
 * the storage, then alpha, beta and bias (the plain loops round a b first). Blocks, edges, transposes
 * and threads only decide who runs a chain and when, never its order. So a row has the same bits alone
 * and among others, at any place, and with any number of threads, forward and backward.
 *
 * Products of pairs of bf16 (AVX512_BF16) have a chain of its own for each place of a cache line, so that
 * few_rows.c can read a weight line by line: K is cut into blocks of CPU_GEMM_LINES cache lines, LANES pairs
 * each; chain l of a block starts from 0 and takes pair l of every line, k ascending; the chains are added
 * up in f32, one by one and block by block.
 *
 * A is cut into panels of TILE_ROWS rows, B into panels of TILE_COLS columns, K into blocks of BLOCK_K:
 * a panel of B stays in the first-level cache while a block of A streams from the second. A packed
 * panel is f32, so packing is also where dtypes and transposes are settled; pairs stay pairs, those of a
 * chain side by side.
 *
 * Why not oneDNN: it chooses blocks by the number of rows, so that without AVX-512 a row's last bits
 * change with its batch: at K = 1024 with 32 rows instead of 1312, nine elements of ten. In f32 it is as
 * fast as this with AVX2, and with AVX-512 up to a seventh faster (tests/bench/gemm.lua measures both). */
#include <omp.h>
#include <stdatomic.h>

#include "base/error.h"
#include "base/memory.h"
#include "cpu/cpu.h"
#include "cpu/gemm.h"

/* BLOCK_ROWS of A (a multiple of TILE_ROWS), BLOCK_COLS of B and BLOCK_K steps are worked on at a time. */
#if !defined(LC_GEMM_LOOP) && defined(__AVX512F__)
enum { TILE_ROWS = 12, BLOCK_ROWS = 192, BLOCK_COLS = 1024, BLOCK_K = 208 };
#elif !defined(LC_GEMM_LOOP) && defined(__AVX2__) && defined(__FMA__)
enum { TILE_ROWS = 6, BLOCK_ROWS = 96, BLOCK_COLS = 512, BLOCK_K = 256 };
#else
enum { TILE_ROWS = 4, BLOCK_ROWS = 96, BLOCK_COLS = 512, BLOCK_K = 256 };
#endif
/* The same for pairs, and how much that makes to pack. */
#ifdef LC_GEMM_PAIRS
enum {
    PAIR_COLS = 512,
    PAIR_K = CPU_GEMM_LINES * LANES,
    PACK_K = PAIR_K + LANES,
    PACK_B = PAIR_COLS * PACK_K
};
#else
enum { PAIR_COLS = BLOCK_COLS, PAIR_K = BLOCK_K, PACK_K = BLOCK_K, PACK_B = BLOCK_COLS * BLOCK_K };
#endif
enum {
    TILE_COLS = CPU_GEMM_COLS,
    GROUP = 8,             /* lines that are packed together */
    SIDE_BY_SIDE = 4,      /* panels that are packed together where steps are stored in order */
    CACHE_LINE = 64,       /* bytes */
    STEPS_AHEAD = 8,       /* steps that are fetched while one is packed */
    LONE_WORK = 1 << 18,   /* multiplications that are not worth waking another thread for */
    SHARED_WORK = 1 << 20, /* ... and a batch of fewer is divided by products, not inside them */
    COMMON_PANELS = 8      /* threads that pack in memory that is there from the start */
};

static inline int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }

/* ---- the register tile ----------------------------------------------------------------------------- */

struct tile {
    const float *a, *b;
    int64_t a_row, a_k; /* element (i, k) of A is a[i * a_row + k * a_k] */
    int64_t b_k;        /* element (k, j) of B is b[k * b_k + j] */
    int64_t depth;      /* steps of k */
    float *out;         /* element (i, j) of the sums is out[i * out_row + j] */
    int64_t out_row;
    bool
        resume; /* the sums go on from what is in out, not from 0; chains of pairs are added to it */
};

/* left += x * y, right += x * z in every lane. As instructions, because gcc left to itself moves and
 * spills the sums of a tile: half of the speed. */
static inline void add_products(lanes *left, lanes *right, const float *x, lanes y, lanes z) {
#ifndef LC_GEMM_LOOP
    lanes wide;
    __asm__("vbroadcastss %3, %2\n\tvfmadd231ps %4, %2, %0\n\tvfmadd231ps %5, %2, %1"
            : "+v"(*left), "+v"(*right), "=&v"(wide)
            : "m"(*x), "v"(y), "v"(z));
#else
    *left += *x * y;
    *right += *x * z;
#endif
}

/* sum += x * y in every lane */
static inline void add_product(lanes *sum, const float *x, lanes y) {
#ifndef LC_GEMM_LOOP
    lanes wide;
    __asm__("vbroadcastss %2, %1\n\tvfmadd231ps %3, %1, %0"
            : "+v"(*sum), "=&v"(wide)
            : "m"(*x), "v"(y));
#else
    *sum += *x * y;
#endif
}

#ifdef LC_GEMM_PAIRS
/* The same where each float holds two bf16 of consecutive k: two products a lane, added in their order. */
static inline void add_pairs(lanes *left, lanes *right, const float *x, lanes y, lanes z) {
    lanes wide;
    __asm__("vbroadcastss %3, %2\n\tvdpbf16ps %4, %2, %0\n\tvdpbf16ps %5, %2, %1"
            : "+v"(*left), "+v"(*right), "=&v"(wide)
            : "m"(*x), "v"(y), "v"(z));
}

static inline void add_pair(lanes *sum, const float *x, lanes y) {
    lanes wide;
    __asm__("vbroadcastss %2, %1\n\tvdpbf16ps %3, %1, %0"
            : "+v"(*sum), "=&v"(wide)
            : "m"(*x), "v"(y));
}
#endif

static inline lanes begin(const struct tile *t, int row, int col) {
    if (t->resume) return lanes_at(t->out + row * t->out_row + col);
    __builtin_prefetch(t->out + row * t->out_row + col, 1);
    return (lanes){0};
}

/* The sums have names, not an array, so that they are registers whatever the compiler unrolls. */
#define ROWS_1(X) X(0)
#define ROWS_2(X) ROWS_1(X) X(1)
#define ROWS_4(X) ROWS_2(X) X(2) X(3)
#define ROWS_6(X) ROWS_4(X) X(4) X(5)
#define ROWS_12(X) ROWS_6(X) X(6) X(7) X(8) X(9) X(10) X(11)

#if !defined(LC_GEMM_LOOP) && defined(__AVX512F__)
#define ROWS_ALL ROWS_12
#elif !defined(LC_GEMM_LOOP)
#define ROWS_ALL ROWS_6
#else
#define ROWS_ALL ROWS_4
#endif

/* A chain of pairs starts from 0 and is added at its end. */
static inline lanes begin_pairs(const struct tile *t, int row, int col) {
    __builtin_prefetch(t->out + row * t->out_row + col, 1);
    return (lanes){0};
}

static inline void end(const struct tile *t, int row, int col, lanes sum) {
    lanes_put(t->out + row * t->out_row + col, sum);
}

static inline void end_pairs(const struct tile *t, int row, int col, lanes sum) {
    float *out = t->out + row * t->out_row + col;
    if (t->resume) sum += lanes_at(out);
    lanes_put(out, sum);
}

#define BEGIN(i) lanes left##i = begin(t, i, 0), right##i = begin(t, i, LANES);
#define BEGIN_PAIRS(i) lanes left##i = begin_pairs(t, i, 0), right##i = begin_pairs(t, i, LANES);
#define ROW(i) add_products(&left##i, &right##i, a + (i)*a_row, y, z);
#define ROW_PAIRS(i) add_pairs(&left##i, &right##i, a + (i)*a_row, y, z);
#define END(i) end(t, i, 0, left##i), end(t, i, LANES, right##i);
#define END_PAIRS(i) end_pairs(t, i, 0, left##i), end_pairs(t, i, LANES, right##i);
#define STEP(ROWS, ADD)                                                                            \
    y = lanes_at(b);                                                                               \
    z = lanes_at(b + LANES);                                                                       \
    ROWS(ADD) a += a_k;                                                                            \
    b += b_k;

/* A tile of TILE_COLS columns; the strides are constants, or fields of t. */
#define DEFINE_TILE(name, ROWS, KIND, A_ROW, A_K, B_K)                                             \
    static void name(const struct tile *t) {                                                       \
        const float *a = t->a, *b = t->b;                                                          \
        const int64_t a_row = A_ROW, a_k = A_K, b_k = B_K;                                         \
        lanes y, z;                                                                                \
        ROWS(BEGIN##KIND)                                                                          \
        for (int64_t k = t->depth / 4; k > 0; k--) {                                               \
            STEP(ROWS, ROW##KIND)                                                                  \
            STEP(ROWS, ROW##KIND) STEP(ROWS, ROW##KIND) STEP(ROWS, ROW##KIND)                      \
        }                                                                                          \
        for (int64_t k = t->depth % 4; k > 0; k--) {                                               \
            STEP(ROWS, ROW##KIND)                                                                  \
        }                                                                                          \
        ROWS(END##KIND)                                                                            \
    }

#define BEGIN_HALF(i) lanes left##i = begin(t, i, 0);
#define BEGIN_PAIRS_HALF(i) lanes left##i = begin_pairs(t, i, 0);
#define ROW_HALF(i) add_product(&left##i, a + (i)*a_row, y);
#define ROW_PAIRS_HALF(i) add_pair(&left##i, a + (i)*a_row, y);
#define END_HALF(i) end(t, i, 0, left##i);
#define END_PAIRS_HALF(i) end_pairs(t, i, 0, left##i);

/* A tile of LANES columns. */
#define DEFINE_HALF_TILE(name, ROWS, KIND)                                                         \
    static void name(const struct tile *t) {                                                       \
        const float *a = t->a, *b = t->b;                                                          \
        const int64_t a_row = t->a_row, a_k = t->a_k, b_k = t->b_k;                                \
        ROWS(BEGIN##KIND##_HALF)                                                                   \
        for (int64_t k = t->depth; k > 0; k--, a += a_k, b += b_k) {                               \
            const lanes y = lanes_at(b);                                                           \
            ROWS(ROW##KIND##_HALF)                                                                 \
        }                                                                                          \
        ROWS(END##KIND##_HALF)                                                                     \
    }

/* name[0]: tiles of TILE_COLS columns, name[1]: of LANES; of all rows, 4, 2 and 1 */
#define DEFINE_TILES(name, KIND)                                                                   \
    DEFINE_TILE(name##_packed, ROWS_ALL, KIND, 1, TILE_ROWS, TILE_COLS)                            \
    DEFINE_TILE(name##_all, ROWS_ALL, KIND, t->a_row, t->a_k, t->b_k)                              \
    DEFINE_TILE(name##_4, ROWS_4, KIND, t->a_row, t->a_k, t->b_k)                                  \
    DEFINE_TILE(name##_2, ROWS_2, KIND, t->a_row, t->a_k, t->b_k)                                  \
    DEFINE_TILE(name##_1, ROWS_1, KIND, t->a_row, t->a_k, t->b_k)                                  \
    DEFINE_HALF_TILE(name##_half_all, ROWS_ALL, KIND)                                              \
    DEFINE_HALF_TILE(name##_half_4, ROWS_4, KIND)                                                  \
    DEFINE_HALF_TILE(name##_half_2, ROWS_2, KIND)                                                  \
    DEFINE_HALF_TILE(name##_half_1, ROWS_1, KIND)                                                  \
    static const struct tiles name = {                                                             \
        name##_packed,                                                                             \
        {{name##_all, name##_4, name##_2, name##_1},                                               \
         {name##_half_all, name##_half_4, name##_half_2, name##_half_1}}};

struct tiles {
    void (*packed)(const struct tile *t); /* all rows and columns of packed panels */
    void (*by_size[2][4])(
        const struct tile *t); /* TILE_COLS or LANES columns; TILE_ROWS, 4, 2, 1 rows */
};

DEFINE_TILES(tile, )
#ifdef LC_GEMM_PAIRS
DEFINE_TILES(tile_pairs, _PAIRS)
#endif

/* The tallest tile that these rows fill. */
static int height(int64_t rows) {
    return rows >= TILE_ROWS ? TILE_ROWS : rows >= 4 ? 4 : rows >= 2 ? 2 : 1;
}

/* rows is a height(), cols at most TILE_COLS: all of a half or of both are computed */
static void run_tile(const struct tiles *tiles, const struct tile *t, int rows, int64_t cols) {
    if (rows == TILE_ROWS && cols > LANES && t->a_row == 1 && t->a_k == TILE_ROWS &&
        t->b_k == TILE_COLS)
        tiles->packed(t);
    else
        tiles->by_size[cols <= LANES][rows == TILE_ROWS ? 0 : rows == 4 ? 1 : rows == 2 ? 2 : 3](t);
}

/* ---- packing ----------------------------------------------------------------------------------------- */

struct operand { /* A [m, k] or B^T [n, k]: lines of steps */
    const unsigned char *data;
    int dtype;
    bool crossed;     /* stored [k, lines], else [lines, k] */
    bool pairs;       /* bf16 whose steps are two of k, side by side in the place of a float */
    int64_t row;      /* elements from one stored row to the next */
    int64_t row_size; /* and bytes */
    int64_t k;        /* elements of a line */
};

/* Element (line, k) of an f32 operand. */
static const float *element(const struct operand *x, int64_t line, int64_t k) {
    return (const float *)x->data + (x->crossed ? k * x->row + line : line * x->row + k);
}

/* From one chain of a block of pairs to the next, in steps: one is left free, since chains that begin a power
 * of two apart would push each other out of the cache. */
static int64_t chain_step(int64_t depth) { return depth / LANES + 1; }

/* Where step s of a block is in its panel: pairs stand chain by chain. */
static int64_t place(const struct operand *x, int64_t s, int64_t depth) {
    return x->pairs ? s % LANES * chain_step(depth) + s / LANES : s;
}

/* Steps that a panel of a block has room for. */
static int64_t room(const struct operand *x, int64_t depth) {
    return x->pairs ? LANES * chain_step(depth) : depth;
}

/* dst[place(s) * width + l] = row[l][s] for 8 lines, 8 steps at a time; returns the steps done. Writes 8
 * lanes a step, so where width is less the later steps must be written afterwards, in their order. */
static int64_t transpose_group(float *dst, int width, const struct operand *x,
                               const float *const *row, int64_t depth) {
    int64_t s = 0;
#ifndef LC_GEMM_LOOP
    for (; s + 8 <= depth; s += 8) {
        __m256 q[8], p[8];
        for (int i = 0; i < 4; i++) { /* 4x4 blocks: lines i and i + 4 side by side */
            q[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(row[i] + s)),
                                        _mm_loadu_ps(row[i + 4] + s), 1);
            q[i + 4] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(row[i] + s + 4)),
                                            _mm_loadu_ps(row[i + 4] + s + 4), 1);
        }
        for (int i = 0; i < 8; i += 4) {
            __m256 a = _mm256_unpacklo_ps(q[i], q[i + 1]), b = _mm256_unpackhi_ps(q[i], q[i + 1]);
            __m256 c = _mm256_unpacklo_ps(q[i + 2], q[i + 3]),
                   d = _mm256_unpackhi_ps(q[i + 2], q[i + 3]);
            p[i] = _mm256_shuffle_ps(a, c, 0x44);
            p[i + 1] = _mm256_shuffle_ps(a, c, 0xEE);
            p[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
            p[i + 3] = _mm256_shuffle_ps(b, d, 0xEE);
        }
        float *to = dst + place(x, s, depth) * width;
        const int64_t step = (x->pairs ? chain_step(depth) : 1) * width;
        for (int i = 0; i < 8; i++) _mm256_storeu_ps(to + i * step, p[i]);
    }
#else
    (void)dst, (void)width, (void)x, (void)row, (void)depth;
#endif
    return s;
}

/* Steps [k, k + depth) of a line that is stored in one piece. */
static const float *line_steps(float *buffer, const struct operand *x, int64_t line, int64_t k,
                               int64_t depth) {
    const unsigned char *row = x->data + line * x->row_size;
    if (!x->pairs) return cpu_gemm_floats(buffer, row, x->dtype, k, depth);
    const int64_t bytes = 4 * depth, stored = 2 * (x->k - 2 * k);
    if (bytes <= stored) return (const float *)(const void *)(row + 4 * k);
    memset(buffer, 0, (size_t)bytes);
    return memcpy(buffer, row + 4 * k, (size_t)stored);
}

/* What the next panel packs of a line comes near meanwhile. */
static void fetch_line(const struct operand *x, int64_t line, int64_t k, int64_t depth) {
    const int64_t size = x->pairs ? 4 : (int64_t)lc_dtype_bytes(x->dtype);
    const unsigned char *from = x->data + line * x->row_size + k * size;
    for (int64_t at = 0; at < depth * size; at += CACHE_LINE) __builtin_prefetch(from + at);
}

/* Lines stored one after the other. Groups go from the last to the first because a group may write
 * beyond its panel's width, into lanes that belong to the first group of the next step. */
static void pack_lines(float *dst, int width, const struct operand *x, int64_t line, int64_t count,
                       int64_t k, int64_t depth) {
    float buffer[GROUP][PACK_K];
    for (int64_t first = (count - 1) / GROUP * GROUP; first >= 0; first -= GROUP) {
        const int64_t lines = at_most(count - first, GROUP);
        const float *row[GROUP];
        for (int64_t l = 0; l < GROUP; l++) { /* beyond the last line the last again: never used */
            const int64_t from = line + first + at_most(l, lines - 1);
            row[l] = line_steps(buffer[l], x, from, k, depth);
            fetch_line(x, from + width, k, depth);
        }
        for (int64_t s = transpose_group(dst + first, width, x, row, depth); s < depth; s++)
            for (int64_t l = 0; l < lines; l++) dst[s * width + first + l] = row[l][s];
    }
}

/* n floats of a panel's step; constant sizes are copied in line, and a later step's fetched meanwhile. */
static inline void copy_step(float *dst, const float *src, int64_t n, int64_t ahead) {
    __builtin_prefetch((const char *)src + ahead);
    if (n == TILE_COLS) {
        __builtin_prefetch((const char *)(src + LANES) + ahead);
        memcpy(dst, src, TILE_COLS * sizeof *dst);
    } else if (n == TILE_ROWS) {
        memcpy(dst, src, TILE_ROWS * sizeof *dst);
    } else {
        memcpy(dst, src, (size_t)n * sizeof *dst);
    }
}

/* Steps stored one after the other: the panels of lines [line, line + lines), a step at a time. */
static void pack_steps(float *dst, int width, const struct operand *x, int64_t line, int64_t lines,
                       int64_t k, int64_t depth) {
    for (int64_t s = 0; s < depth; s++, dst += width) {
        const unsigned char *row = x->data + (k + s) * x->row_size;
        for (int64_t l = 0; l < lines; l += width) {
            float *to = dst + l * depth;
            const int64_t count = at_most(lines - l, width), from = line + l;
            if (x->dtype == LC_F32)
                copy_step(to, (const float *)row + from, count, STEPS_AHEAD * x->row_size);
            else cpu_load(to, row, x->dtype, from, count);
        }
    }
}

/* Pairs of steps stored one after the other. */
static void pack_step_pairs(float *dst, int width, const struct operand *x, int64_t line,
                            int64_t count, int64_t k, int64_t depth) {
    for (int64_t s = 0; s < depth; s++) {
        const int64_t at = 2 * (k + s); /* of the first of the two */
        const uint16_t *first = (const uint16_t *)(x->data + at * x->row_size) + line;
        const uint16_t *second = first + x->row;
        float *to = dst + place(x, s, depth) * width;
        for (int64_t l = 0; l < count; l++) {
            const uint32_t pair =
                (at < x->k ? first[l] : 0u) | (at + 1 < x->k ? (uint32_t)second[l] << 16 : 0u);
            memcpy(to + l, &pair, sizeof pair);
        }
    }
}

/* ---- one product --------------------------------------------------------------------------------------- */

struct product {
    const struct lc_gemm *g;
    const struct tiles *tiles;
    int64_t steps;               /* of K: its elements, or pairs in whole lines */
    int64_t block_k, block_cols; /* steps and columns of a block */
    int64_t chains;              /* of a block */
    struct operand a, b;
    unsigned char *c;
    /* Where chains wait between blocks of K, those of column j at j * sums_col: C itself, or scratch, panels
     * of TILE_COLS columns with the rows of each side by side. */
    float *sums;
    int64_t sums_row, sums_col; /* floats */
    bool sums_are_c;
    bool pack_a, pack_b; /* else it is read where it is */
};

struct panels { /* where one thread packs a block */
    _Alignas(64) float b[PACK_B];
    _Alignas(64) float a[BLOCK_ROWS * PACK_K + 64]; /* packing may write a little beyond */
};

/* What one thread works on at a time. */
struct block {
    int64_t i, rows, j, cols; /* rows [i, i + rows) and columns [j, j + cols) of C */
    int64_t k, depth;         /* steps [k, k + depth) */
    int64_t chain, length;    /* the chain that is run, and its steps: depth, or a part of them */
    bool first, last;         /* of all chains */
    float *a_panels, *b_panels;
};

/* Whether C can hold the sums before they are finished. */
static bool sums_are_c(const struct lc_gemm *g) {
    return g->c_dtype == LC_F32 && (g->beta == 0 || cpu_gemm_starts_from_c(g));
}

/* Whether such sums are the result. */
static bool plain(const struct lc_gemm *g) { return g->alpha == 1 && !g->bias; }

static void finish(const struct product *p, const float *sum, int64_t i, int rows, int64_t j,
                   int64_t cols) {
    const bool blend = !p->sums_are_c && p->g->beta != 0;
    for (int r = 0; r < rows; r++, sum += TILE_COLS)
        if (cols == TILE_COLS) cpu_gemm_finish_row(p->g, p->c, blend, sum, i + r, j, TILE_COLS);
        else cpu_gemm_finish_row(p->g, p->c, blend, sum, i + r, j, cols);
}

/* The tile of C at (i, j), rows x cols; t says where its A and B are. */
static void place_tile(const struct product *p, const struct block *b, struct tile *t, int64_t i,
                       int rows, int64_t j, int64_t cols) {
    float *home = p->sums ? p->sums + i * p->sums_row + j * p->sums_col : NULL; /* its sums */
    if (cols % LANES == 0 && (!b->last || (p->sums_are_c && plain(p->g)))) {
        t->out = home;
        t->out_row = p->sums_row;
        run_tile(p->tiles, t, rows, cols);
        return;
    }
    float sum[TILE_ROWS * TILE_COLS];
    if (t->resume)
        for (int r = 0; r < rows; r++)
            memcpy(sum + r * TILE_COLS, home + r * p->sums_row, (size_t)cols * sizeof *sum);
    t->out = sum;
    t->out_row = TILE_COLS;
    run_tile(p->tiles, t, rows, cols);
    if (b->last) {
        finish(p, sum, i, rows, j, cols);
        return;
    }
    for (int r = 0; r < rows; r++)
        memcpy(home + r * p->sums_row, sum + r * TILE_COLS, (size_t)cols * sizeof *sum);
}

/* The tiles of a block whose panels are packed, one chain of it. */
static void run_block(const struct product *p, const struct block *b) {
    struct tile t = {.depth = b->length, .resume = !b->first || cpu_gemm_starts_from_c(p->g)};
    const int64_t panel = room(&p->b, b->depth), chain = b->chain * chain_step(b->depth);
    t.a_row = p->pack_a || p->a.crossed ? 1 : p->a.row;
    t.a_k = p->pack_a ? TILE_ROWS : p->a.crossed ? p->a.row : 1;
    t.b_k = p->pack_b ? TILE_COLS : p->b.row;
    for (int64_t j = 0; j < b->cols; j += TILE_COLS) {
        t.b = p->pack_b ? b->b_panels + j * panel + chain * TILE_COLS
                        : element(&p->b, b->j + j, b->k);
        for (int64_t i = 0; i < b->rows;) {
            const int rows = height(b->rows - i);
            /* lower tiles at the end share the last panel */
            t.a = p->pack_a ? b->a_panels + i / TILE_ROWS * TILE_ROWS * panel + chain * TILE_ROWS +
                                  i % TILE_ROWS
                            : element(&p->a, b->i + i, b->k);
            place_tile(p, b, &t, b->i + i, rows, b->j + j, at_most(b->cols - j, TILE_COLS));
            i += rows;
        }
    }
}

/* Lines [line, line + lines) in panels of width lines, one after the other: in panel p element
 * (p * width + l, k + s) of x is at [place(s) * width + l]; lanes beyond the last line are undefined. */
static void pack_block(float *dst, int width, const struct operand *x, int64_t line, int64_t lines,
                       int64_t k, int64_t depth) {
    const bool steps_in_order = x->crossed && !x->pairs;
    const int64_t step = steps_in_order ? SIDE_BY_SIDE * width : width;
    for (int64_t l = 0; l < lines; l += step) {
        const int64_t count = at_most(lines - l, step);
        float *to = dst + l * room(x, depth);
        if (steps_in_order) pack_steps(to, width, x, line + l, count, k, depth);
        else if (x->crossed) pack_step_pairs(to, width, x, line + l, count, k, depth);
        else pack_lines(to, width, x, line + l, count, k, depth);
    }
}

/* Rows [i, end) by columns [j, end_col) of C, by one thread. */
static void run_part(const struct product *p, struct panels *own, int64_t i, int64_t end, int64_t j,
                     int64_t end_col) {
    const int64_t first_row = i, steps = p->steps;
    struct block b = {.a_panels = own->a, .b_panels = own->b};
    for (b.j = j; b.j < end_col; b.j += p->block_cols) {
        b.cols = at_most(end_col - b.j, p->block_cols);
        for (b.k = 0; b.k < steps || b.k == 0; b.k += p->block_k) {
            b.depth = at_most(steps - b.k, p->block_k);
            b.length = b.depth / p->chains;
            if (p->pack_b) pack_block(b.b_panels, TILE_COLS, &p->b, b.j, b.cols, b.k, b.depth);
            for (b.i = first_row; b.i < end; b.i += BLOCK_ROWS) {
                b.rows = at_most(end - b.i, BLOCK_ROWS);
                if (p->pack_a) pack_block(b.a_panels, TILE_ROWS, &p->a, b.i, b.rows, b.k, b.depth);
                for (b.chain = 0; b.chain < p->chains; b.chain++) {
                    b.first = b.k == 0 && b.chain == 0;
                    b.last = b.k + p->block_k >= steps && b.chain + 1 == p->chains;
                    run_block(p, &b);
                }
            }
        }
    }
}

/* How many of the threads stand side by side over the columns, the others over the rows: what gives
 * the busiest the least to do. In cycles a step of k, about: 6 a tile, 3 and 12 to pack a panel. */
static int64_t threads_across(int64_t row_panels, int64_t col_panels, int64_t threads) {
    int64_t best = 1, least = INT64_MAX;
    for (int64_t across = 1; across <= threads; across++) {
        if (threads % across) continue;
        const int64_t high = parts(row_panels, threads / across), wide = parts(col_panels, across);
        const int64_t cost = 6 * high * wide + 3 * high + 12 * wide;
        if (cost < least) {
            least = cost;
            best = across;
        }
    }
    return best;
}

/* Each thread packs for itself and waits for none: with few panels to pack twice that costs less
 * than a barrier for every block, and far less when a thread has lost its core to other work. */
static void run_product(const struct product *p, struct panels *panels, int threads) {
    const int64_t row_panels = parts(p->g->m, TILE_ROWS), col_panels = parts(p->g->n, TILE_COLS);
    const int64_t across = threads_across(row_panels, col_panels, threads);
    const int64_t down = threads / across;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t t = 0; t < threads; t++) {
        const int64_t row = t / across, col = t % across;
        run_part(p, panels + t, row * row_panels / down * TILE_ROWS,
                 at_most((row + 1) * row_panels / down * TILE_ROWS, p->g->m),
                 col * col_panels / across * TILE_COLS,
                 at_most((col + 1) * col_panels / across * TILE_COLS, p->g->n));
    }
}

/* ---- the kernel ------------------------------------------------------------------------------------------ */

static const struct tiles *tiles_for(const struct lc_gemm *g) {
#ifdef LC_GEMM_PAIRS
    if (cpu_gemm_pairs(g)) return &tile_pairs;
#else
    (void)g;
#endif
    return &tile;
}

static int64_t steps(const struct lc_gemm *g) {
    return cpu_gemm_pairs(g) ? parts(g->k, 2 * LANES) * LANES : g->k;
}

static struct operand operand(const struct lc_gemm *g, bool is_a, int64_t i) {
    const int dtype = is_a ? g->a_dtype : g->b_dtype;
    const int64_t size = (int64_t)lc_dtype_bytes(dtype), row = is_a ? g->a_row : g->b_row;
    const unsigned char *data = is_a ? g->a : g->b;
    return (struct operand){.data = data + i * (is_a ? g->a_batch : g->b_batch) * size,
                            .dtype = dtype,
                            .crossed = is_a ? g->a_transposed : !g->b_transposed,
                            .pairs = cpu_gemm_pairs(g),
                            .row = row,
                            .row_size = row * size,
                            .k = g->k};
}

/* Packing A pays when each of its panels meets several panels of B. */
static bool packs_a(const struct lc_gemm *g) { return g->a_dtype != LC_F32 || g->n > TILE_COLS; }

/* Packing B pays when each of its panels meets several of A; a tail of columns has to be packed. */
static bool packs_b(const struct lc_gemm *g) {
    return g->b_dtype != LC_F32 || g->b_transposed || g->n % LANES || g->m > 2 * TILE_ROWS;
}

/* Where threads pack. Most calls find this array free: a step of training makes thousands of them, and
 * fresh pages would cost more than the small products. A call that does not, or has more threads,
 * allocates. */
static struct panels common_panels[COMMON_PANELS];
static atomic_flag common_taken = ATOMIC_FLAG_INIT;

static struct panels *take_panels(int threads) {
    if (threads <= COMMON_PANELS && !atomic_flag_test_and_set(&common_taken)) return common_panels;
    return lc_alloc((size_t)threads * sizeof(struct panels));
}

static void leave_panels(struct panels *panels) {
    if (panels == common_panels) atomic_flag_clear(&common_taken);
    else lc_free(panels);
}

/* Product i of the batch; sums: floats of scratch, or NULL where C serves. */
static void run_one(const struct lc_gemm *g, int64_t i, struct panels *panels, float *sums,
                    int threads) {
    struct product p = {.g = g, .pack_a = packs_a(g), .pack_b = packs_b(g)};
    p.a = operand(g, true, i);
    p.b = operand(g, false, i);
    p.steps = steps(g);
    p.block_k = p.b.pairs ? PAIR_K : BLOCK_K;
    p.block_cols = p.b.pairs ? PAIR_COLS : BLOCK_COLS;
    p.chains = p.b.pairs ? LANES : 1;
    p.tiles = tiles_for(g);
    p.c = (unsigned char *)g->c + i * g->c_batch * (int64_t)lc_dtype_bytes(g->c_dtype);
    p.sums_are_c = sums_are_c(g);
    p.sums = p.sums_are_c ? (float *)p.c : sums;
    p.sums_row = p.sums_are_c ? g->c_row : TILE_COLS;
    p.sums_col = p.sums_are_c ? 1 : g->m;
    run_product(&p, panels, threads);
}

int cpu_gemm(const struct lc_gemm *g) {
    if (!g->m || !g->n || !g->batch) return 0;
    if (cpu_few_rows_serve(g)) return cpu_few_rows(g);
    const double work = (double)g->m * (double)g->n * (double)g->k;
    const bool many = g->batch > 1 && work < SHARED_WORK;
    const int threads =
        work * (many ? (double)g->batch : 1) < LONE_WORK ? 1 : omp_get_max_threads();
    const bool one_block = !cpu_gemm_pairs(g) && steps(g) <= BLOCK_K;
    const int64_t waiting =
        sums_are_c(g) || one_block ? 0 : parts(g->n, TILE_COLS) * TILE_COLS * g->m;
    float *sums =
        waiting ? lc_alloc((size_t)(waiting * (many ? threads : 1)) * sizeof *sums) : NULL;
    struct panels *panels = waiting && !sums ? NULL : take_panels(threads);
    if (panels && many) {
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int64_t i = 0; i < g->batch; i++) {
            const int self = omp_get_thread_num();
            run_one(g, i, panels + self, waiting ? sums + self * waiting : NULL, 1);
        }
    } else if (panels) {
        for (int64_t i = 0; i < g->batch; i++) run_one(g, i, panels, sums, threads);
    }
    if (panels) leave_panels(panels);
    lc_free(sums);
    return panels ? 0 : -1;
}
