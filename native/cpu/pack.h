/* pack.h - operands of a product as panels: a few lines side by side, step by step, in f32 or in pairs of bf16. */
#ifndef LC_CPU_PACK_H
#define LC_CPU_PACK_H
#include "cpu/gemm.h"

struct operand { /* A [m, k] or B^T [n, k]: lines of steps */
    const unsigned char *data;
    int dtype;
    bool crossed;     /* stored [k, lines], else [lines, k] */
    bool pairs;       /* bf16 whose steps are two of k, side by side in the place of a float */
    int64_t row;      /* elements from one stored row to the next */
    int64_t row_size; /* and bytes */
    int64_t k;        /* elements of a line */
    bool fetched;     /* tiles have fetched what is packed, of all panels but the first */
};

enum {
    CPU_CACHE_LINE = 64,                 /* bytes */
    PACK_PAIRS = CPU_GEMM_LINES * LANES, /* steps of a block of pairs */
    PACK_BEYOND = LANES                  /* floats that may be written behind a chain */
};

/* Where line l of step s goes: to floats[l / width * panel + s * width + l % width]; of pairs, chain by chain, to
 * floats[l / width * panel + s % LANES * chain + s / LANES * width + l % width]. */
struct panels {
    float *floats;
    int width; /* lines of a panel */
    int64_t panel,
        chain; /* floats from one to the next; behind the last of a chain PACK_BEYOND are free */
};

/* Lines [line, line + lines) of steps [k, k + depth). What a panel has beyond the last line is undefined. */
void cpu_pack(const struct panels *to, const struct operand *x, int64_t line, int64_t lines,
              int64_t k, int64_t depth);

#endif
