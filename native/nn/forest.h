/* forest.h - segments on a packed axis, and the spans that say which token sees which. */
#ifndef LC_FOREST_H
#define LC_FOREST_H
#include "kernels.h"

struct lc_segment { /* under the caller's number */
    int32_t parent; /* -1: a root */
    int32_t length;
    int32_t first;    /* its first packed row */
    int32_t position; /* of its first token: the length of its ancestors */
    bool bidirectional;
};

struct lc_forest {
    int holders, segments;
    struct lc_segment *segment; /* [segments] */
    int32_t *order;             /* [segments] which segment is packed k-th */
    int64_t rows;
    struct lc_spans spans; /* its arrays are the forest's */
    struct lc_range *ranges;
    struct lc_query_tile *tiles;
    int32_t *tree_first;
};

/* The next number for spans that are ready. */
uint64_t lc_spans_number(void);

/* position[rows] of every packed row */
void lc_forest_fill_positions(const lc_forest *f, int32_t *position);

#endif
