/* pack.c - see pack.h. Packing is also where dtypes and transposes are settled. */
#include "cpu/pack.h"

#include <string.h>

#include "cpu/turn.h"

enum {
    GROUP = LANES,    /* lines that are packed together */
    SIDE_BY_SIDE = 4, /* panels that are packed together where steps are stored in order */
    STEPS_AHEAD = 8,  /* steps that are fetched while one is packed */
    MOST_STEPS = PACK_PAIRS
};

/* Where step s is in its panel. */
static inline int64_t place(const struct panels *to, const struct operand *x, int64_t s) {
    return x->pairs ? s % LANES * to->chain + s / LANES * to->width : s * to->width;
}

/* ---- lines stored one after the other ---- */

/* dst[place(s) + l] = row[l][s] for GROUP lines, GROUP steps at a time; returns the steps done. Writes GROUP floats
 * a step, so where a panel is less wide the later steps must be written afterwards, in their order. The lines that
 * come next are fetched meanwhile unless they are already: so many short pieces the processor does not foresee. */
static int64_t turn_group(float *dst, const struct panels *panels, const struct operand *x,
                          const float *const *row, int64_t depth) {
    int64_t s = 0;
#ifdef LC_TURN
    const int64_t step = x->pairs ? panels->chain : panels->width;
    for (; s + COLS <= depth; s += COLS) {
        wide r[COLS];
        for (int i = 0; i < COLS; i++) {
            if (!x->fetched) __builtin_prefetch((const char *)(row[i] + s) + GROUP * x->row_size);
            r[i] = OP(loadu_ps)(row[i] + s);
        }
        turn(r);
        float *to = dst + place(panels, x, s);
        for (int i = 0; i < COLS; i++) OP(storeu_ps)(to + i * step, r[i]);
    }
#else
    (void)dst, (void)panels, (void)x, (void)row, (void)depth;
#endif
    return s;
}

/* Steps [k, k + depth) of a line that is stored in one piece. */
static const float *steps_of(float *buffer, const struct operand *x, int64_t line, int64_t k,
                             int64_t depth) {
    const unsigned char *row = x->data + line * x->row_size;
    if (!x->pairs) return cpu_gemm_floats(buffer, row, x->dtype, k, depth);
    const int64_t bytes = 4 * depth, stored = 2 * (x->k - 2 * k);
    if (bytes <= stored) return (const float *)(const void *)(row + 4 * k);
    memset(buffer, 0, (size_t)bytes);
    return memcpy(buffer, row + 4 * k, (size_t)stored);
}

/* One panel. */
static void pack_lines(float *dst, const struct panels *panels, const struct operand *x,
                       int64_t line, int64_t count, int64_t k, int64_t depth) {
    float buffer[GROUP][MOST_STEPS];
    for (int64_t first = 0; first < count; first += GROUP) {
        const int64_t lines = cpu_at_most(count - first, GROUP);
        const float *row[GROUP];
        for (int64_t l = 0; l < GROUP; l++) /* beyond the last line the last again: never used */
            row[l] = steps_of(buffer[l], x, line + first + cpu_at_most(l, lines - 1), k, depth);
        for (int64_t s = turn_group(dst + first, panels, x, row, depth); s < depth; s++)
            for (int64_t l = 0; l < lines; l++) dst[place(panels, x, s) + first + l] = row[l][s];
    }
}

/* ---- steps stored one after the other: several panels, a step at a time ---- */

/* n floats of a panel's step; a later step's are fetched meanwhile. */
static inline __attribute__((always_inline)) void copy_step(float *dst, const float *src, int64_t n,
                                                            int64_t ahead) {
    for (int64_t l = 0; l < n; l += CPU_CACHE_LINE / (int64_t)sizeof *src)
        __builtin_prefetch((const char *)(src + l) + ahead);
    memcpy(dst, src, (size_t)n * sizeof *dst);
}

static void pack_steps(float *dst, const struct panels *panels, const struct operand *x,
                       int64_t line, int64_t lines, int64_t k, int64_t depth) {
    const int64_t width = panels->width, ahead = STEPS_AHEAD * x->row_size;
    for (int64_t s = 0; s < depth; s++, dst += width) {
        const unsigned char *row = x->data + (k + s) * x->row_size;
        float *to = dst;
        for (int64_t l = 0; l < lines; l += width, to += panels->panel) {
            const int64_t count = cpu_at_most(lines - l, width);
            const float *from = (const float *)row + line + l;
            if (x->dtype != LC_F32) cpu_load(to, row, x->dtype, line + l, count);
            else if (count == CPU_GEMM_COLS) copy_step(to, from, CPU_GEMM_COLS, ahead);
            else copy_step(to, from, count, ahead);
        }
    }
}

/* n pairs: an element of the first row and that of the second side by side */
static inline __attribute__((always_inline)) void pair_up(float *to, const uint16_t *first,
                                                          const uint16_t *second, int64_t n) {
    for (int64_t l = 0; l < n; l++) {
        const uint32_t pair = first[l] | (uint32_t)second[l] << 16;
        memcpy(to + l, &pair, sizeof pair);
    }
}

static void pack_step_pairs(float *dst, const struct panels *panels, const struct operand *x,
                            int64_t line, int64_t lines, int64_t k, int64_t depth) {
    static const uint16_t zeros[CPU_GEMM_COLS];
    for (int64_t s = 0; s < depth; s++) {
        const int64_t at = 2 * (k + s); /* of the first of the two */
        float *to = dst + place(panels, x, s);
        for (int64_t l = 0; l < lines; l += panels->width, to += panels->panel) {
            const int64_t count = cpu_at_most(lines - l, panels->width);
            const uint16_t *first = (const uint16_t *)(x->data + at * x->row_size) + line + l,
                           *second = first + x->row;
            __builtin_prefetch((const char *)first + STEPS_AHEAD * x->row_size);
            __builtin_prefetch((const char *)second + STEPS_AHEAD * x->row_size);
            if (at >= x->k) first = zeros;
            if (at + 1 >= x->k) second = zeros;
            if (count == CPU_GEMM_COLS) pair_up(to, first, second, CPU_GEMM_COLS);
            else pair_up(to, first, second, count);
        }
    }
}

void cpu_pack(const struct panels *to, const struct operand *x, int64_t line, int64_t lines,
              int64_t k, int64_t depth) {
    const int64_t together = x->crossed ? SIDE_BY_SIDE * to->width : to->width;
    for (int64_t l = 0; l < lines; l += together) {
        const int64_t count = cpu_at_most(lines - l, together);
        float *dst = to->floats + l / to->width * to->panel;
        if (!x->crossed) pack_lines(dst, to, x, line + l, count, k, depth);
        else if (x->pairs) pack_step_pairs(dst, to, x, line + l, count, k, depth);
        else pack_steps(dst, to, x, line + l, count, k, depth);
    }
}
