/* param.h - a model's named parameters, taken from a checkpoint or made new. */
#ifndef LC_PARAM_H
#define LC_PARAM_H
#include "tensor/tensor.h"

enum lc_part { LC_VISION, LC_PROJECTOR, LC_LANGUAGE, LC_ADAPTER, LC_PARTS };
extern const char *const lc_part_names[LC_PARTS];

/* How a new parameter begins. */
enum lc_init { LC_ZEROS, LC_ONES, LC_NORMAL, LC_FAN_IN }; /* FAN_IN: normal, std 1 / sqrt(inputs) */

struct lc_param {
    char *name;        /* the checkpoint's own */
    lc_tensor *tensor; /* held, outside all scopes */
    enum lc_part part;
};

/* A file or folder of weights. Several parts may share one. */
struct lc_source {
    lc_checkpoint *file;
    const char *
        root; /* its weights' names begin with this, asked for with it or without; the rest is passed over */
    char *path;
    char *wrong; /* what was missing or misshapen, one after the other */
    size_t wrong_length;
};

struct lc_params {
    struct lc_source sources[LC_PARTS]; /* none: new weights from seed */
    int source_count;
    int source_of[LC_PARTS]; /* which of them a part is taken from */
    uint64_t seed;
    int dtype, device;
    int quant; /* how lc_params_take_quantised quantises what it reads; LC_PLAIN: not at all */
    struct lc_param *list;
    int count, room;
    int shortened;      /* were f16 in their file and are bf16 here: three bits of mantissa fewer */
    bool failed;        /* one could not be had, for whatever reason */
    bool out_of_memory; /* that was it: lc_error() says so, and no more are asked for */
};

/* Opens the weights at path and takes a part from there; those of the first source carry all parts
 * that have none of their own. Later sources may be a training run's checkpoint, whose weights are under
 * "model." beside the optimizer's. */
int lc_params_source(struct lc_params *p, enum lc_part part, const char *path);

/* The parameter of that name and shape, borrowed; NULL when it is missing or misshapen, which
 * lc_params_finish reports for all of them at once. */
lc_tensor *lc_params_take(struct lc_params *p, enum lc_part part, enum lc_init init, int ndim,
                          const int64_t *shape, const char *format, ...)
    __attribute__((format(printf, 6, 7)));
/* The same for a weight [n, k] of a linear layer, which is packed where the model's weights are: from the file's own
 * numbers and not from a cast of them. */
lc_tensor *lc_params_take_quantised(struct lc_params *p, enum lc_part part, const int64_t shape[2],
                                    const char *name);
/* Adds one made elsewhere (an adapter's). */
int lc_params_add(struct lc_params *p, enum lc_part part, const char *name, lc_tensor *t);
lc_tensor *lc_params_find(const struct lc_params *p, const char *name);
/* Another number once one of them was written, has moved or was added. */
uint64_t lc_params_state(const struct lc_params *p);
/* Whether the part is taken from a file. */
bool lc_params_loaded(const struct lc_params *p, enum lc_part part);
/* Whether it is taken from another file than the first source's. */
bool lc_params_separate(const struct lc_params *p, enum lc_part part);
const char *lc_params_path(const struct lc_params *p, enum lc_part part); /* "?" without a file */
/* Whether the part's file holds that name; true without a file. */
bool lc_params_has(const struct lc_params *p, enum lc_part part, const char *name);
/* The shape that the part's file gives the tensor: its ndim, or -1 when there is none. */
int lc_params_shape(const struct lc_params *p, enum lc_part part, const char *name,
                    int64_t shape[LC_MAX_DIMS]);
/* -1 and every name that was missing, misshapen, or is left over and not ignorable. */
int lc_params_finish(struct lc_params *p, bool (*ignorable)(const char *name));
void lc_params_free(struct lc_params *p);

#endif
