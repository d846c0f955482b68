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
 * K is cut into blocks. Of each a thread packs all rows of A that are its own (pack.h), and then
 * panel after panel of B, whose lines the tiles of the panel before have fetched. A panel, or a chain of it,
 * stays in the first-level cache while the rows of A stream by. Sums wait between chains and blocks of K where
 * the next one finds them side by side, not in C, whose rows lie far apart: those of one panel of B, or of many
 * where there are several blocks.
 *
 * Why not oneDNN: it chooses blocks by the number of rows, so that without AVX-512 a row's last bits
 * change with its batch: at K = 1024 with 32 rows instead of 1312, nine elements of ten.
 * (tests/bench/gemm.lua and lucid bench measure both.) */
#include "base/error.h"
#include "cpu/cpu.h"
#include "cpu/pack.h"
#include "cpu/tile.h"

/* Up to WHOLE_K steps are one block of K: that no sum waits gains more than the cache loses. More are cut into equal
 * ones of at most BLOCK_K, which leave the first-level cache some room. Those of pairs have PACK_PAIRS. */
enum { WHOLE_K = 384, BLOCK_K = 224 };

enum {
    MOST_ROWS = 600,  /* packed of A together: a tower's 577; more leave the second-level cache */
    MOST_COLS = 2048, /* whose sums wait together */
    SHARED_WORK =
        1 << 20, /* multiplications: a batch of fewer is divided by products, not inside them */
};
_Static_assert((int)WHOLE_K <= (int)PACK_PAIRS, "what packing has room for");

static inline int64_t parts(int64_t count, int64_t size) { return (count + size - 1) / size; }
static inline int64_t lines_up(int64_t floats) { return parts(floats, PACK_BEYOND) * PACK_BEYOND; }

/* ---- one product --------------------------------------------------------------------------------------- */

struct product {
    const struct lc_gemm *g;
    bool pairs;
    int64_t steps;   /* of K: its elements, or pairs in whole lines */
    int64_t block_k; /* steps of a block */
    int64_t chains;  /* of a block */
    struct operand a, b;
    unsigned char *c;
    bool pack_a, pack_b; /* else it is read where it is */
};

/* A thread's memory: a block of A and a panel of B, and the sums that wait between chains and blocks of K, in panels of
 * TILE_COLS columns with the rows of each side by side. */
struct own {
    float *all, *a, *b, *sums; /* all NULL: the system has none */
};

/* What a thread works on. */
struct block {
    int64_t row, rows, col, cols; /* rows [row, row + rows) and columns [col, col + cols) of C */
    int64_t k, depth;             /* steps [k, k + depth) */
    struct panels a, b;
};

/* Whether K is one block: no sums wait for another. */
static inline bool one_block(const struct product *p) { return p->steps <= p->block_k; }

/* Element (line, k) of an f32 operand. */
static const float *element(const struct operand *x, int64_t line, int64_t k) {
    return (const float *)x->data + (x->crossed ? k * x->row + line : line * x->row + k);
}

static void finish(const struct product *p, const float *sum, int64_t i, int rows, int64_t j,
                   int64_t cols) {
    const bool blend = p->g->beta != 0 && !cpu_gemm_starts_from_c(p->g);
    for (int r = 0; r < rows; r++, sum += TILE_COLS)
        cpu_gemm_finish_row(p->g, p->c, blend, sum, i + r, j, cols);
}

/* Whether finished sums are what C gets, so that a tile may write them. */
static bool plain(const struct lc_gemm *g) {
    return g->c_dtype == LC_F32 && g->alpha == 1 && !g->bias &&
           (g->beta == 0 || cpu_gemm_starts_from_c(g));
}

/* The first or last chain of the tile of C at (i, j), rows x cols, whose sums do not only wait: t as for the others. */
static void run_end(const struct product *p, struct tile *t, int64_t i, int rows, int64_t j,
                    int64_t cols, bool first, bool last) {
    float *c = (float *)p->c + i * p->g->c_row + j, sum[TILE_ROWS * TILE_COLS];
    const bool whole = cols % LANES == 0;
    if (first) {
        t->from = NULL;
        if (cpu_gemm_starts_from_c(p->g)) {
            t->from = whole ? c : sum;
            t->from_row = whole ? p->g->c_row : TILE_COLS;
            for (int r = 0; !whole && r < rows; r++)
                memcpy(sum + r * TILE_COLS, c + r * p->g->c_row, (size_t)cols * sizeof *sum);
        }
    }
    if (last && whole && plain(p->g)) {
        t->out = c;
        t->out_row = p->g->c_row;
    } else if (last) {
        t->out = sum;
    }
    cpu_tile(t, p->pairs, rows, cols);
    if (t->out == sum) finish(p, sum, i, rows, j, cols);
}

/* What a tile of the panel at column j fetches of the next panel: as many steps of a line as a chain has, line by line.
 * So memory is read while others multiply, and packing finds its lines in a cache. */
static const float *ahead_of(const struct product *p, const struct block *b, int64_t j,
                             int64_t tile) {
    const int64_t line = j + TILE_COLS + tile / p->chains,
                  k = b->k + tile % p->chains * (b->depth / p->chains);
    const int64_t end = cpu_at_most(b->col + b->cols, j + 2 * TILE_COLS);
    return line < end ? (const float *)(const void *)(p->b.data + line * p->b.row_size) + k : NULL;
}

/* The tiles of a panel of columns, chain by chain. */
static void run_panel(const struct product *p, const struct own *own, const struct block *b,
                      int64_t j) {
    const int64_t cols = cpu_at_most(b->col + b->cols - j, TILE_COLS);
    float *sums = own->sums + (one_block(p) ? 0 : (j - b->col) * b->rows);
    struct tile t = {.depth = b->depth / p->chains};
    t.a_row = p->pack_a || p->a.crossed ? 1 : p->a.row;
    t.a_k = p->pack_a ? TILE_ROWS : p->a.crossed ? p->a.row : 1;
    t.b_k = p->pack_b ? TILE_COLS : p->b.row;
    for (int64_t chain = 0, tile = 0; chain < p->chains; chain++) {
        const bool first = b->k == 0 && chain == 0,
                   last = b->k + b->depth >= p->steps && chain + 1 == p->chains;
        t.b = p->pack_b ? b->b.floats + chain * b->b.chain : element(&p->b, j, b->k);
        for (int64_t i = 0; i < b->rows; tile++) {
            const int rows = cpu_tile_rows(b->rows - i);
            t.a = p->pack_a ? b->a.floats + i / TILE_ROWS * b->a.panel + chain * b->a.chain +
                                  i % TILE_ROWS /* lower tiles share the last panel */
                            : element(&p->a, b->row + i, b->k);
            t.from = t.out = sums + i * TILE_COLS;
            t.from_row = t.out_row = TILE_COLS;
            t.ahead = p->b.fetched ? ahead_of(p, b, j, tile) : NULL;
            if (first || last) run_end(p, &t, b->row + i, rows, j, cols, first, last);
            else cpu_tile(&t, p->pairs, rows, cols);
            i += rows;
        }
    }
}

/* Panels of a block of K for so many lines. */
static struct panels panels_of(const struct product *p, float *floats, int width, int64_t lines,
                               int64_t depth) {
    const int64_t panel = width * depth / p->chains;
    return (struct panels){.floats = floats,
                           .width = width,
                           .panel = panel,
                           .chain = parts(lines, width) * panel + PACK_BEYOND};
}

static void run_block(const struct product *p, const struct own *own, struct block *b) {
    b->a = panels_of(p, own->a, TILE_ROWS, b->rows, b->depth);
    b->b = panels_of(p, own->b, TILE_COLS, TILE_COLS, b->depth);
    if (p->pack_a) cpu_pack(&b->a, &p->a, b->row, b->rows, b->k, b->depth);
    for (int64_t j = b->col; j < b->col + b->cols; j += TILE_COLS) {
        if (p->pack_b)
            cpu_pack(&b->b, &p->b, j, cpu_at_most(b->col + b->cols - j, TILE_COLS), b->k, b->depth);
        run_panel(p, own, b, j);
    }
}

/* The size of equal parts, at most so many each, in whole units. */
static int64_t part_of(int64_t count, int64_t most, int64_t unit) {
    return parts(parts(count, parts(count, most)), unit) * unit;
}

/* Rows [row, end_row) by columns [col, end_col) of C, by one thread. */
static void run_part(const struct product *p, const struct own *own, int64_t row, int64_t end_row,
                     int64_t col, int64_t end_col) {
    if (row >= end_row || col >= end_col) return;
    const int64_t high = part_of(end_row - row, MOST_ROWS, TILE_ROWS),
                  wide =
                      part_of(end_col - col, one_block(p) ? end_col - col : MOST_COLS, TILE_COLS);
    struct block b;
    for (b.col = col; b.col < end_col; b.col += wide) {
        b.cols = cpu_at_most(end_col - b.col, wide);
        for (b.row = row; b.row < end_row; b.row += high) {
            b.rows = cpu_at_most(end_row - b.row, high);
            for (b.k = 0; b.k < p->steps || b.k == 0; b.k += p->block_k) {
                b.depth = cpu_at_most(p->steps - b.k, p->block_k);
                run_block(p, own, &b);
            }
        }
    }
}

/* The steps of a block of K. */
static int64_t block_of(const struct product *p) {
    if (p->pairs) return PACK_PAIRS;
    return p->steps <= WHOLE_K ? WHOLE_K : part_of(p->steps, BLOCK_K, LANES);
}

/* No more of it than this product can want. */
static struct own take_own(const struct product *p) {
    const int64_t depth = cpu_at_most(p->steps, p->block_k),
                  rows = parts(cpu_at_most(p->g->m, MOST_ROWS), TILE_ROWS) * TILE_ROWS,
                  cols = one_block(p)
                             ? TILE_COLS
                             : parts(cpu_at_most(p->g->n, MOST_COLS), TILE_COLS) * TILE_COLS;
    const int64_t beyond = p->chains * PACK_BEYOND;
    const int64_t a = p->pack_a ? lines_up(rows * depth + beyond) : 0,
                  b = p->pack_b ? lines_up(TILE_COLS * depth + beyond) : 0,
                  sums = p->chains > 1 || !one_block(p) ? rows * cols : 0;
    float *all = cpu_scratch((size_t)(a + b + sums) * sizeof *all);
    return (struct own){.all = all, .a = all, .b = all + a, .sums = all + a + b};
}

/* How many of the threads stand side by side over the columns, the others over the rows: what gives
 * the busiest the least to do. In cycles a step of k, about: 6 a tile, 3 and 12 to pack a panel, of B anew for each block
 * of rows. */
static int64_t threads_across(int64_t row_panels, int64_t col_panels, int64_t threads) {
    int64_t best = 1, least = INT64_MAX;
    for (int64_t across = 1; across <= threads; across++) {
        if (threads % across) continue;
        const int64_t high = parts(row_panels, threads / across), wide = parts(col_panels, across);
        const int64_t cost =
            6 * high * wide + 3 * high + 12 * wide * parts(high * TILE_ROWS, MOST_ROWS);
        if (cost < least) {
            least = cost;
            best = across;
        }
    }
    return best;
}

/* Each thread packs for itself and waits for none: with few panels to pack twice that costs less
 * than a barrier for every block, and far less when a thread has lost its core to other work. -1: no memory. */
static int run_product(const struct product *p, int threads) {
    const int64_t row_panels = parts(p->g->m, TILE_ROWS), col_panels = parts(p->g->n, TILE_COLS);
    const int64_t across = threads_across(row_panels, col_panels, threads);
    const int64_t down = threads / across;
    int bad = 0;
#pragma omp parallel for schedule(static) num_threads(threads) reduction(+ : bad) if (threads > 1)
    for (int64_t t = 0; t < threads; t++) {
        const int64_t row = t / across, col = t % across;
        const struct own own = take_own(p);
        if (own.all)
            run_part(p, &own, row * row_panels / down * TILE_ROWS,
                     cpu_at_most((row + 1) * row_panels / down * TILE_ROWS, p->g->m),
                     col * col_panels / across * TILE_COLS,
                     cpu_at_most((col + 1) * col_panels / across * TILE_COLS, p->g->n));
        bad += !own.all;
    }
    return bad ? -1 : 0;
}

/* ---- the kernel ------------------------------------------------------------------------------------------ */

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

/* Tiles fetch the lines of B that come next where lines are what is stored, a step takes as much of one as a float, and
 * there are tiles for half of them or more. */
static bool fetches_b(const struct product *p) {
    const bool floats = p->b.dtype == LC_F32 || p->pairs;
    return p->pack_b && !p->b.crossed && floats && p->g->m >= TILE_COLS / 2 * TILE_ROWS;
}

/* Product i of the batch. */
static int run_one(const struct lc_gemm *g, int64_t i, int threads) {
    struct product p = {
        .g = g, .pairs = cpu_gemm_pairs(g), .pack_a = packs_a(g), .pack_b = packs_b(g)};
    p.a = operand(g, true, i);
    p.b = operand(g, false, i);
    p.b.fetched = fetches_b(&p);
    p.steps = steps(g);
    p.block_k = block_of(&p);
    p.chains = p.pairs ? LANES : 1;
    p.c = (unsigned char *)g->c + i * g->c_batch * (int64_t)lc_dtype_bytes(g->c_dtype);
    return run_product(&p, threads);
}

int cpu_gemm(const struct lc_gemm *g) {
    if (!g->m || !g->n || !g->batch) return 0;
    if (cpu_few_rows_serve(g)) return cpu_few_rows(g);
    const double work = (double)g->m * (double)g->n * (double)g->k;
    const bool many = g->batch > 1 && work < SHARED_WORK;
    const int threads = cpu_gemm_threads(work * (many ? (double)g->batch : 1));
    int bad = 0;
    if (many) {
#pragma omp parallel for schedule(static) num_threads(threads) reduction(+ : bad)
        for (int64_t i = 0; i < g->batch; i++) bad += run_one(g, i, 1) < 0;
    } else {
        for (int64_t i = 0; i < g->batch; i++) bad += run_one(g, i, threads) < 0;
    }
    return bad ? lc_fail(LC_ENOMEM, "matmul: the system refused memory to pack in") : 0;
}
