/* turn.h - products of a few rows with lines that are stored one after the other, such as the columns of a
 * weight [n, k] or the keys of a cache: COLS lines are read a cache line each, turned in registers so that
 * a register holds one step of COLS lines, and multiplied at once. A line's sum is one chain of fma, its
 * steps ascending. */
#ifndef LC_CPU_TURN_H
#define LC_CPU_TURN_H
#include "cpu/gemm.h"

#if !defined(LC_GEMM_LOOP) && defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define LC_TURN 1
#include <immintrin.h>
#include <string.h>

#ifdef __AVX512F__
typedef __m512 wide;
typedef __m256i half;
#define OP(name) _mm512_##name
enum { COLS = 16 };
#else
typedef __m256 wide;
typedef __m128i half;
#define OP(name) _mm256_##name
enum { COLS = 8 };
#endif

enum {
    LINE = 64,              /* bytes of a line that are read together */
    PARTS = LINE / COLS / 4 /* registers that they take */
};

enum kind { WITH_F32, WITH_F16, WITH_BF16 };

/* Blocks of 4 x 4 elements of 32 bits turned, each in its place: r[i][b + j] = r[j][b + i]. */
static inline __attribute__((always_inline)) void turn_blocks(wide r[4]) {
    const wide a = OP(unpacklo_ps)(r[0], r[1]), b = OP(unpackhi_ps)(r[0], r[1]),
               c = OP(unpacklo_ps)(r[2], r[3]), d = OP(unpackhi_ps)(r[2], r[3]);
    r[0] = OP(shuffle_ps)(a, c, 0x44);
    r[1] = OP(shuffle_ps)(a, c, 0xEE);
    r[2] = OP(shuffle_ps)(b, d, 0x44);
    r[3] = OP(shuffle_ps)(b, d, 0xEE);
}

/* r[i][j] = r[j][i], elements of 32 bits */
static inline __attribute__((always_inline)) void turn(wide r[COLS]) {
    wide u[COLS];
    for (int i = 0; i < COLS; i++) u[i] = r[i];
    for (int i = 0; i < COLS; i += 4) turn_blocks(u + i);
#ifdef __AVX512F__
    for (int i = 0; i < 4; i++) { /* and now their places */
        wide a = _mm512_shuffle_f32x4(u[i], u[i + 4], 0x88),
             b = _mm512_shuffle_f32x4(u[i], u[i + 4], 0xDD),
             c = _mm512_shuffle_f32x4(u[i + 8], u[i + 12], 0x88),
             d = _mm512_shuffle_f32x4(u[i + 8], u[i + 12], 0xDD);
        r[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        r[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(a, c, 0xDD);
        r[i + 12] = _mm512_shuffle_f32x4(b, d, 0xDD);
    }
#else
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(u[i], u[i + 4], 0x31);
    }
#endif
}

/* The left operand: rows of A. */
struct left {
    const float *a;
    int64_t stride;
};

/* acc[r] += a[r][s] * w: one step of COLS columns */
static inline __attribute__((always_inline)) void step(wide *acc, const struct left *x, int rows,
                                                       int64_t s, wide w) {
    for (int r = 0; r < rows; r++)
        acc[r] = OP(fmadd_ps)(OP(set1_ps)(x->a[r * x->stride + s]), w, acc[r]);
}

/* A register's worth of a line as f32, or pairs of bf16 as they are. */
static inline __attribute__((always_inline)) wide load(enum kind kind, const unsigned char *b,
                                                       int part) {
    if (kind != WITH_F16) return OP(loadu_ps)((const float *)b + part * COLS);
    half h;
    memcpy(&h, b + (size_t)part * sizeof h, sizeof h);
    return OP(cvtph_ps)(h);
}

/* Steps [s, limit) of one cache line of COLS lines; x->a is at the first of them. */
static inline __attribute__((always_inline)) void multiply_line(enum kind kind, wide *acc,
                                                                const unsigned char *const *b,
                                                                int64_t at, const struct left *x,
                                                                int rows, int limit) {
    const int parts = kind == WITH_F16 ? 2 * PARTS : PARTS;
    const int each = kind == WITH_BF16 ? 2 * COLS : COLS;
    for (int part = 0; part < parts; part++) {
        wide w[COLS];
        if (part * each >= limit) return;
        for (int i = 0; i < COLS; i++) w[i] = load(kind, b[i] + at, part);
        turn(w);
        for (int i = 0; i < COLS; i++) {
            const int s = part * each + (kind == WITH_BF16 ? 2 * i : i);
            if (s >= limit) return;
            if (kind == WITH_BF16) { /* a register holds pairs of steps: they are parted */
                const lanes_bits pair = (lanes_bits)w[i];
                step(acc, x, rows, s, (wide)(pair << 16));
                if (s + 1 >= limit) return;
                step(acc, x, rows, s + 1, (wide)(pair & 0xFFFF0000u));
            } else {
                step(acc, x, rows, s, w[i]);
            }
        }
    }
}

/* Steps of a cache line. */
static inline __attribute__((always_inline)) int line_steps(enum kind kind) {
    return kind == WITH_F32 ? LINE / 4 : LINE / 2;
}

/* The last steps, which do not fill a cache line: read from a copy, so that nothing is read beyond. */
static inline __attribute__((always_inline)) void
multiply_rest(enum kind kind, wide *acc, const unsigned char *const *b, int64_t at,
              const struct left *x, int rows, int steps, int64_t bytes) {
    unsigned char copy[COLS][LINE] = {{0}};
    const unsigned char *line[COLS];
    for (int i = 0; i < COLS; i++) line[i] = memcpy(copy[i], b[i] + at, (size_t)bytes);
    multiply_line(kind, acc, line, 0, x, rows, steps);
}

#endif
#endif
