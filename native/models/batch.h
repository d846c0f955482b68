/* batch.h - a model's input: a forest of token segments with pictures in it. */
#ifndef LC_BATCH_H
#define LC_BATCH_H
#include "tensor/tensor.h"

struct lc_batch_segment {
    int32_t parent; /* -1: a root */
    int32_t *ids;
    int32_t count;    /* ids, the picture's one included */
    int32_t image;    /* index of its picture, or -1 */
    int32_t image_at; /* where LC_IMAGE_TOKEN stands among the ids, or -1 */
    int32_t rows;     /* token rows: the picture's rows stand for its one id */
    bool score;
};

struct lc_batch_image {
    lc_tensor *features; /* held; [tower's rows, W] */
    int32_t rows;        /* of the language model, after the bridge */
    int32_t *text;       /* what the bridge reads with it */
    int32_t text_count;
};

struct lc_batch {
    struct lc_batch_segment *segments;
    int count, room;
    struct lc_batch_image *images;
    int image_count, image_room;
    bool wants_log_squares;
    lc_tensor *log_squares; /* held; what the last pass found */
};

/* Holds features, copies text; the picture's index. */
int lc_batch_add_picture(lc_batch *b, lc_tensor *features, int64_t rows, const int32_t *text,
                         int count);

lc_forest *lc_batch_forest(const lc_batch *b);
/* Packed row of each token row, and what stands there: index [rows] into embeddings of all text ids
 * followed by the rows of all pictures. ids: the text ids in that order. */
lc_tensor *lc_batch_ids(const lc_batch *b);                           /* i32 [text ids] */
lc_tensor *lc_batch_placement(const lc_batch *b, const lc_forest *f); /* i32 [rows] */
/* The scored tokens, segments in the caller's order: the packed row that predicts each, and its id. */
int lc_batch_targets(const lc_batch *b, const lc_forest *f, lc_tensor **row, lc_tensor **target);
/* The packed row of a segment's last token, or of its nearest ancestor that has one; -1: none. */
int64_t lc_batch_last_row(const lc_batch *b, const lc_forest *f, int segment);

#endif
