/* tensor.h - tensors as the ops see them: a strided view of counted storage.
 *
 * Reference counts are plain ints: a tensor belongs to one thread. */
#ifndef LC_TENSOR_H
#define LC_TENSOR_H
#include <stdbool.h>

#include "kernels.h"

struct lc_scope;
struct lc_node; /* ops/autograd.h: how the tensor was made */

struct lc_storage {
    void *data; /* NULL once its scope has freed it */
    size_t bytes;
    int device, holders;
    uint64_t changes;       /* how often what it holds was overwritten: lc_tensor_changed */
    struct lc_scope *scope; /* the scope that frees it at the latest, or NULL */
    struct lc_storage *previous, *next; /* among the scope's storages */
    void (*close)(
        void *owner); /* for storage owned elsewhere (a mapped file): called instead of free */
    void *owner;
};

struct lc_tensor {
    int32_t dtype, ndim, holders, requires_grad;
    int64_t shape[LC_MAX_DIMS], stride[LC_MAX_DIMS]; /* strides in elements */
    int64_t offset;                                  /* of element 0, in elements */
    int64_t room;      /* elements behind each row (of the last dim) that are this tensor's alone */
    bool lodged;       /* in another tensor's storage: see lc_tensor_lodge */
    int64_t grad_room; /* room that its gradient should have: see lc_tensor_roomy */
    struct lc_storage *storage;
    struct lc_node *node; /* NULL for leaves and while gradients are off */
    lc_tensor *grad;      /* of a leaf; f32, outside all scopes */
};

/* ---- making (results are pending: see lucid.h) ---- */
lc_tensor *
lc_tensor_like(const lc_tensor *t); /* same shape, dtype, device; dense, contents undefined */
lc_tensor *lc_tensor_make(const lc_tensor *like, int dtype, int ndim,
                          const int64_t *shape); /* on like's device */
lc_tensor *lc_tensor_zero_like(const lc_tensor *t, int dtype);
/* A packed tensor on like's device: its kernels fill it, and nobody else looks inside. */
lc_tensor *lc_tensor_packed(const lc_tensor *like, enum lc_quant quant, int ndim,
                            const int64_t *shape);
lc_tensor *lc_tensor_alias(const lc_tensor *t, int ndim, const int64_t *shape,
                           const int64_t *stride, int64_t offset); /* shares storage */
/* [..., w] whose rows have `room` elements behind each that an op may fill: bordered products (ops/border.h)
 * want columns of their own beside their operands. */
lc_tensor *lc_tensor_roomy(const lc_tensor *like, int dtype, int ndim, const int64_t *shape,
                           int64_t room);
/* t becomes a view of `whole`, rows `row` apart from element `offset` on, and its values move there. A leaf that is
 * to be trained moves out again (lc_tensor_requires_grad): optimizers walk through dense ones. */
int lc_tensor_lodge(lc_tensor *t, lc_tensor *whole, int64_t offset, int64_t row);
int lc_tensor_move_out(lc_tensor *t);
/* Wraps bytes that someone else owns; close(owner) runs when the last holder goes. */
lc_tensor *lc_tensor_wrap(int ndim, const int64_t *shape, int dtype, const void *data,
                          void (*close)(void *), void *owner);

/* ---- looking ---- */
int64_t lc_tensor_rows(const lc_tensor *t);  /* product of all dims but the last; 1 for rank 0 */
int64_t lc_tensor_width(const lc_tensor *t); /* the last dim; 1 for rank 0 */
bool lc_tensor_dense(const lc_tensor *t);    /* row-major without gaps */
bool lc_tensor_rowwise(
    const lc_tensor *t); /* rows are dense and equally far apart: see lc_tensor_row */
int64_t
lc_tensor_row(const lc_tensor *t); /* elements from one row of a rowwise tensor to the next */
bool lc_same_shape(const lc_tensor *a, const lc_tensor *b);
const char *
lc_shape_text(const lc_tensor *t); /* "f32 [4, 8]"; one of 8 rotating buffers of this thread */
static inline bool lc_is_float(const lc_tensor *t) { return t->dtype <= LC_F16; }
static inline bool lc_is_packed(const lc_tensor *t) { return t->dtype > LC_U8; }

/* Whoever overwrites a tensor that existed before says so, for those who keep something made of it. */
static inline void lc_tensor_changed(lc_tensor *t) { t->storage->changes++; }

/* First byte of a dense or strided tensor. The storage must be alive: see lc_usable. */
void *lc_data(const lc_tensor *t);

/* What every op asks first: not NULL (then false without a word), storage alive and not packed (else the reason). */
bool lc_usable(const char *op, const lc_tensor *t);
/* The same for those who do not look at elements, or take packed ones. */
bool lc_alive(const char *op, const lc_tensor *t);

/* The kernels of the tensor's device. */
const struct lc_kernels *lc_kernels_of(const lc_tensor *t);

/* ---- pools: what C code makes on the way and does not return ----
 * mark = lc_pool(); ...; return lc_pool_end(mark, result): lets every pending tensor made since go,
 * but for the result, which stays pending in the outer pool. The tape holds what backward needs. */
int lc_pool(void);
lc_tensor *lc_pool_end(int mark, lc_tensor *result); /* result may be NULL */
/* Lets everything in the open pool go but x: what a loop over layers calls after each. */
lc_tensor *lc_pool_turn(lc_tensor *x);

#endif
