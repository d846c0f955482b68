/* few_pairs.h - lines of a weight multiplied with a few rows, where the CPU multiplies pairs of bf16; a packed line is
 * expanded in registers.
 *
 * Line by line, from end to end, memory is read in one piece; part of K by part, what the rows have of it stays in the
 * first-level cache. The rows lie interleaved, a cache line of each in turn. Chains are those of gemm.c. */
#ifndef LC_CPU_FEW_PAIRS_H
#define LC_CPU_FEW_PAIRS_H
#include "cpu/packed.h"
#include "cpu/turn.h"

enum {
    SPAN = 16,     /* columns at a time: with more lines at once memory is slower */
    MOST_PAIRS = 8 /* rows where pairs are multiplied */
};

#ifdef LC_GEMM_PAIRS

enum {
    BLOCK_K = CPU_GEMM_LINES * 2 * COLS, /* elements of a line that are one block of K */
    PART_K = BLOCK_K / 4,                /* of so many, all rows stay in the first-level cache */
    MOST_BY_LINE = 16384, /* elements of one or two rows; else they go part by part */
    LINES_TOGETHER = 4,   /* at most: their sums and what is added to them take registers */
    TOGETHER = 8,         /* cache lines of a lone plain line that are read before any is used */
    AHEAD = 8192,         /* bytes that a lone line asks for ahead: as fast as a plain sum */
    SCALED = LC_PACKED_BLOCK / 2 /* bytes of quants to a byte of scales */
};

/* A line of the weight as whole cache lines, wherever it begins: each is put together from two neighbours, the
 * end of one and the start of the next. Where it begins with a cache line all comes from the next, and the one
 * before is read for nothing, which is no slower. */
struct source {
    const unsigned char *at; /* whole cache lines */
    wide before;             /* the one at `at` */
    __m512i pick;            /* elements of two neighbours */
};

/* What is read of the first and the last cache line beyond the weight shares a page with it, or is what every
 * block of memory and every file of weights has before its data. */
__attribute__((no_sanitize("address"))) static inline wide whole_line(const unsigned char *p) {
    return *(const wide *)p;
}

static inline __attribute__((always_inline)) struct source source_at(const unsigned char *b) {
    static const uint16_t count[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                       11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                       22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
    const uintptr_t past = ((uintptr_t)b - 1) % LINE + 1;
    return (struct source){
        .at = b - past,
        .before = whole_line(b - past),
        .pick = OP(add_epi16)(OP(loadu_si512)(count), OP(set1_epi16)((short)(past / 2)))};
}

/* Line i from where s stands, all of it there. */
static inline __attribute__((always_inline)) wide line_of(struct source *s, int i) {
    const wide next = whole_line(s->at + (i + 1) * LINE), before = s->before;
    s->before = next;
    return (wide)OP(permutex2var_epi16)((__m512i)before, s->pick, (__m512i)next);
}

/* acc[l][r] += x[r] * w[l] */
static inline __attribute__((always_inline)) void
add_lines(int lines, wide acc[][MOST_PAIRS], const float *x, int rows, const wide *w, int step) {
    for (int r = 0; r < rows; r++) {
        const __m512i row = OP(loadu_si512)(x + r * COLS);
        for (int l = 0; l < lines; l++)
            acc[l][r] = OP(dpbf16_ps)(acc[l][r], (__m512bh)row, (__m512bh)w[l * step]);
    }
}

/* How a weight is stored. */
enum stored { PLAIN, EIGHT_BITS, FOUR_BITS };

/* Bytes of so many elements, all of whole blocks. */
static inline __attribute__((always_inline)) int64_t stored_bytes(enum stored how, int64_t count) {
    return how == PLAIN ? 2 * count : how == EIGHT_BITS ? count : count / 2;
}

/* What is asked for while lines are read side by side: with byte i of the l-th of them it is at + stride * i + apart * l,
 * and with a scale the one so many bytes behind it. */
struct ahead {
    const unsigned char *at;
    int64_t stride, apart, scales;
};

static inline __attribute__((always_inline)) const unsigned char *
line_at(enum stored how, const struct lc_gemm *g, const struct cpu_packed *p, int64_t j) {
    const unsigned char *start = how == PLAIN ? g->b : p->quants;
    return start + j * stored_bytes(how, g->b_row);
}

/* While lines from j on are read from end to end, being at element k: the lines behind them, one after the other, for
 * memory is fastest in one piece. */
static inline __attribute__((always_inline)) struct ahead ahead_of_lines(enum stored how, int lines,
                                                                         const struct lc_gemm *g,
                                                                         const struct cpu_packed *p,
                                                                         int64_t j, int64_t k) {
    const int64_t row = stored_bytes(how, g->b_row), at = stored_bytes(how, k);
    const unsigned char *line = line_at(how, g, p, j);
    if (how == PLAIN) return (struct ahead){line + at + AHEAD, 1, row, 0};
    return (struct ahead){line + lines * (row + at), lines, LC_PACKED_BLOCK, lines * row / SCALED};
}

/* While a part from k on is read of each of a span's lines, being at line j: the next part, or the next span's first. */
static inline __attribute__((always_inline)) struct ahead ahead_of_parts(enum stored how,
                                                                         const struct lc_gemm *g,
                                                                         const struct cpu_packed *p,
                                                                         int64_t j, int64_t k) {
    const int64_t row = stored_bytes(how, g->b_row), at = stored_bytes(how, k),
                  next = k + PART_K < g->k ? stored_bytes(how, k + PART_K) : SPAN * row;
    return (struct ahead){line_at(how, g, p, j) + next, 1, row, (next - at) / SCALED};
}

/* acc[l][r]: the chains of a block of K, one to a lane, go on over [0, bytes) of plain lines, of line l from b[l] on. */
static inline __attribute__((always_inline)) void multiply_plain(int lines, wide acc[][MOST_PAIRS],
                                                                 const unsigned char *const *b,
                                                                 int64_t bytes, struct ahead ahead,
                                                                 const float *x, int rows) {
    const int together = lines == 1 ? TOGETHER : TOGETHER / 4; /* beside the sums of eight rows */
    struct source s[LINES_TOGETHER];
    for (int l = 0; l < lines; l++) s[l] = source_at(b[l]);
    int64_t at = 0;
    /* unrolled wholly, each load would stand alone, and the processor see no stride to fetch ahead by */
#pragma GCC unroll 1
    for (; at + together * LINE <= bytes; at += together * LINE, x += together * rows * COLS) {
        wide w[LINES_TOGETHER][TOGETHER];
        for (int l = 0; l < lines; l++) {
            for (int i = 0; i < together; i++)
                _mm_prefetch((const char *)ahead.at + at + i * LINE + l * ahead.apart, _MM_HINT_T0);
            for (int i = 0; i < together; i++) w[l][i] = line_of(&s[l], i);
            s[l].at += together * LINE;
        }
        for (int i = 0; i < together; i++)
            add_lines(lines, acc, x + i * rows * COLS, rows, &w[0][i], TOGETHER);
    }
    for (; at < bytes; at += LINE, x += rows * COLS) {
        const int64_t left = bytes - at;
        const __mmask32 there = left < LINE ? ~0u >> (LINE - left) / 2 : ~0u;
        wide w[LINES_TOGETHER];
        for (int l = 0; l < lines; l++) w[l] = (wide)OP(maskz_loadu_epi16)(there, b[l] + at);
        add_lines(lines, acc, x, rows, w, 1);
    }
}

/* The same over so many blocks of packed lines, of line l from block[l] on. */
static inline __attribute__((always_inline)) void
multiply_packed(enum stored how, int lines, wide acc[][MOST_PAIRS], const struct cpu_packed *p,
                const int64_t *block, int64_t blocks, struct ahead ahead, const float *x,
                int rows) {
    enum { MOST_BLOCKS = BLOCK_K / 32 };
    const int registers = how == EIGHT_BITS ? 1 : 2; /* of a block, once it is expanded */
    const wide levels = how == FOUR_BITS ? OP(loadu_ps)(cpu_levels(p->quant)) : OP(setzero_ps)();
    const uint8_t *quants[LINES_TOGETHER];
    float scale[LINES_TOGETHER][MOST_BLOCKS], offset[LINES_TOGETHER][MOST_BLOCKS];
    for (int l = 0; l < lines; l++) {
        const uint16_t *scales = p->scales + block[l];
        quants[l] = p->quants + block[l] * LC_PACKED_BLOCK;
        for (int64_t b = 0; b < blocks; b += COLS) {
            const int64_t left = blocks - b;
            const __mmask16 there = left < COLS ? (__mmask16)(0xFFFFu >> (COLS - left)) : 0xFFFF;
            const wide s = OP(cvtph_ps)(_mm256_maskz_loadu_epi16(there, scales + b));
            OP(storeu_ps)(scale[l] + b, s);
            OP(storeu_ps)(offset[l] + b, OP(mul_ps)(s, OP(set1_ps)(q8_offset)));
            _mm_prefetch((const char *)(scales + b) + ahead.scales, _MM_HINT_T0);
        }
    }
#pragma GCC unroll 1
    for (int64_t b = 0; b < blocks; b++, x += registers * rows * COLS) {
        const int64_t at = b * LC_PACKED_BLOCK;
        wide w[LINES_TOGETHER][2];
        for (int l = 0; l < lines; l++) {
            const uint8_t *q = quants[l] + at;
            const int64_t next = at * ahead.stride + l * ahead.apart;
            if (next % LINE == 0) _mm_prefetch((const char *)ahead.at + next, _MM_HINT_T0);
            if (how == EIGHT_BITS) w[l][0] = pairs_of_8_bits(q, scale[l][b], offset[l][b]);
            else pairs_of_4_bits(w[l], q, levels, scale[l][b]);
        }
        for (int i = 0; i < registers; i++)
            add_lines(lines, acc, x + i * rows * COLS, rows, &w[0][i], 2);
    }
}

/* acc[l][r]: the chains go on over elements [k, k + most) of columns j, j + 1, ..., or over those that there are. */
static inline __attribute__((always_inline)) void
multiply_stored(enum stored how, int lines, wide acc[][MOST_PAIRS], const struct lc_gemm *g,
                const struct cpu_packed *p, int64_t j, int64_t k, int64_t most, struct ahead ahead,
                const float *x, int rows) {
    const int64_t count = cpu_at_most(g->k - k, most), each = how == EIGHT_BITS ? 32 : 64;
    const unsigned char *b[LINES_TOGETHER];
    int64_t block[LINES_TOGETHER];
    for (int l = 0; l < lines; l++) {
        if (how == PLAIN) b[l] = line_at(how, g, p, j + l) + stored_bytes(how, k);
        else block[l] = ((j + l) * g->k + k) / each;
    }
    if (how == PLAIN) multiply_plain(lines, acc, b, stored_bytes(how, count), ahead, x, rows);
    else multiply_packed(how, lines, acc, p, block, count / each, ahead, x, rows);
}

/* total[i] += the chains of chains[i], one by one, for four at once. */
static inline __attribute__((always_inline)) __m128 add_chains(__m128 total, wide chains[4]) {
    turn_blocks(chains);
    for (int i = 0; i < 4; i++) total = _mm_add_ps(total, _mm512_extractf32x4_ps(chains[i], 0));
    for (int i = 0; i < 4; i++) total = _mm_add_ps(total, _mm512_extractf32x4_ps(chains[i], 1));
    for (int i = 0; i < 4; i++) total = _mm_add_ps(total, _mm512_extractf32x4_ps(chains[i], 2));
    for (int i = 0; i < 4; i++) total = _mm_add_ps(total, _mm512_extractf32x4_ps(chains[i], 3));
    return total;
}

static inline __attribute__((always_inline)) void multiply_lines(enum stored how, int lines,
                                                                 int rows, const struct lc_gemm *g,
                                                                 const struct cpu_packed *p,
                                                                 const float *x, float sum[][SPAN],
                                                                 int64_t j, int64_t c) {
    float first[4] = {0}; /* row r of line l at l * rows + r */
    for (int i = 0; i < lines * rows; i++) first[i] = sum[i % rows][c + i / rows];
    __m128 total = _mm_loadu_ps(first);
    for (int64_t k = 0; k < g->k; k += BLOCK_K, x += rows * BLOCK_K / 2) {
        wide acc[LINES_TOGETHER][MOST_PAIRS], chains[4];
        for (int i = 0; i < lines * rows; i++) acc[i / rows][i % rows] = OP(setzero_ps)();
        multiply_stored(how, lines, acc, g, p, j + c, k, BLOCK_K,
                        ahead_of_lines(how, lines, g, p, j + c, k), x, rows);
        for (int i = 0; i < 4; i++)
            chains[i] = i < lines * rows ? acc[i / rows][i % rows] : OP(setzero_ps)();
        total = add_chains(total, chains);
    }
    _mm_storeu_ps(first, total);
    for (int i = 0; i < lines * rows; i++) sum[i % rows][c + i / rows] = first[i];
}

/* sum[r][c] += the products of columns [j, j + count), line by line: memory is fastest so. */
static inline __attribute__((always_inline)) void
multiply_by_line(enum stored how, int rows, const struct lc_gemm *g, const struct cpu_packed *p,
                 const float *x, float sum[][SPAN], int64_t j, int64_t count) {
    /* a chain waits for its sum longer than for what is added; a plain line waits for memory as long anyway */
    const int together = how == PLAIN ? 1 : LINES_TOGETHER / rows;
    int64_t c = 0;
    for (; c + together <= count; c += together)
        multiply_lines(how, together, rows, g, p, x, sum, j, c);
    for (; c < count; c++) multiply_lines(how, 1, rows, g, p, x, sum, j, c);
}

/* chain[r][c + l]: the chains of line l, from column j + c on, begin or go on at element k. */
static inline __attribute__((always_inline)) void
chains_of(enum stored how, int lines, float chain[][SPAN][COLS], int64_t c, const struct lc_gemm *g,
          const struct cpu_packed *p, int64_t j, int64_t k, const float *x, int rows) {
    wide acc[LINES_TOGETHER][MOST_PAIRS];
    for (int l = 0; l < lines; l++)
        for (int r = 0; r < rows; r++)
            acc[l][r] = k % BLOCK_K ? OP(loadu_ps)(chain[r][c + l]) : OP(setzero_ps)();
    multiply_stored(how, lines, acc, g, p, j + c, k, PART_K, ahead_of_parts(how, g, p, j + c, k), x,
                    rows);
    for (int l = 0; l < lines; l++)
        for (int r = 0; r < rows; r++) OP(storeu_ps)(chain[r][c + l], acc[l][r]);
}

/* sum[r] += what the chains of all columns come to: they are turned, so that all add up theirs at once. */
static inline __attribute__((always_inline)) void add_turned(float *sum, float chain[SPAN][COLS]) {
    wide w[COLS], total = OP(loadu_ps)(sum);
    for (int c = 0; c < SPAN; c++) w[c] = OP(loadu_ps)(chain[c]);
    turn(w);
    for (int l = 0; l < COLS; l++) total = OP(add_ps)(total, w[l]);
    OP(storeu_ps)(sum, total);
}

/* As multiply_by_line, a part of a block at a time, while what the rows have of it is in the first-level cache; two lines
 * side by side, so that there are twice the chains. */
static inline __attribute__((always_inline)) void
multiply_by_part(enum stored how, int rows, const struct lc_gemm *g, const struct cpu_packed *p,
                 const float *x, float sum[][SPAN], int64_t j, int64_t count) {
    float chain[MOST_PAIRS][SPAN][COLS];
    if (count < SPAN) memset(chain, 0, sizeof chain);
    for (int64_t k = 0, next; k < g->k; k = next, x += rows * PART_K / 2) {
        int64_t done = 0;
        next = k + PART_K;
        for (; done + 2 <= count; done += 2) chains_of(how, 2, chain, done, g, p, j, k, x, rows);
        for (; done < count; done++) chains_of(how, 1, chain, done, g, p, j, k, x, rows);
        if (next % BLOCK_K == 0 || next >= g->k)
            for (int r = 0; r < rows; r++) add_turned(sum[r], chain[r]);
    }
}

#endif
#endif
