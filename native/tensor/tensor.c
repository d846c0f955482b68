/* tensor.c - handles and storage.
 *
 * Invariants: a handle holds its storage; a storage knows how many handles hold it; a new handle
 * is pending (one holder: the pool) until adopted. Nothing here is recorded on the tape. */
#include "tensor/tensor.h"

#include "base/error.h"
#include "base/memory.h"
#include "tensor/device.h"
#include "tensor/node.h"
#include "tensor/scope.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* ---- dtypes and shapes --------------------------------------------------------------------- */

static const struct {
    const char *name;
    size_t bytes;
} dtypes[LC_DTYPES] = {{"f32", 4}, {"bf16", 2}, {"f16", 2}, {"i32", 4},
                       {"u8", 1},  {"q8_0", 0}, {"nf4", 0}, {"fp4", 0}};

static bool is_dtype(int dtype) { return dtype >= 0 && dtype < LC_DTYPES; }
const char *lc_dtype_name(int dtype) { return is_dtype(dtype) ? dtypes[dtype].name : NULL; }
size_t lc_dtype_bytes(int dtype) { return is_dtype(dtype) ? dtypes[dtype].bytes : 0; }

const char *lc_shape_text(const lc_tensor *t) {
    static _Thread_local char texts[8][160];
    static _Thread_local int turn;
    char *text = texts[turn = (turn + 1) % 8];
    int used = snprintf(text, sizeof texts[0], "%s [", lc_dtype_name(t->dtype));
    for (int i = 0; i < t->ndim; i++)
        used += snprintf(text + used, sizeof texts[0] - (size_t)used, i ? ", %" PRId64 : "%" PRId64,
                         t->shape[i]);
    used += snprintf(text + used, sizeof texts[0] - (size_t)used, "]");
    if (t->storage->device != LC_HOST)
        snprintf(text + used, sizeof texts[0] - (size_t)used, " on cuda:%d", t->storage->device);
    return text;
}

int lc_tensor_ndim(const lc_tensor *t) { return t->ndim; }
int lc_tensor_dtype(const lc_tensor *t) { return t->dtype; }
int lc_tensor_device(const lc_tensor *t) { return t->storage->device; }
int lc_tensor_alive(const lc_tensor *t) { return t->storage->data != NULL; }

int64_t lc_tensor_size(const lc_tensor *t, int i) {
    if (i < 0) i += t->ndim;
    if (i < 0 || i >= t->ndim)
        return lc_fail(LC_EINVAL, "size: no such dim of %s", lc_shape_text(t));
    return t->shape[i];
}

int64_t lc_tensor_count(const lc_tensor *t) {
    int64_t count = 1;
    for (int i = 0; i < t->ndim; i++) count *= t->shape[i];
    return count;
}

int64_t lc_tensor_bytes(const lc_tensor *t) {
    const enum lc_quant quant = lc_quant_of(t->dtype);
    const int64_t count = lc_tensor_count(t);
    return quant == LC_PLAIN ? count * (int64_t)dtypes[t->dtype].bytes
                             : lc_packed_bytes(quant, count);
}

int64_t lc_tensor_width(const lc_tensor *t) { return t->ndim ? t->shape[t->ndim - 1] : 1; }

int64_t lc_tensor_rows(const lc_tensor *t) {
    int64_t rows = 1;
    for (int i = 0; i + 1 < t->ndim; i++) rows *= t->shape[i];
    return rows;
}

bool lc_tensor_dense(const lc_tensor *t) {
    int64_t expected = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        if (t->shape[i] != 1 && t->stride[i] != expected)
            return t->shape[i] == 0 || lc_tensor_count(t) == 0;
        expected *= t->shape[i];
    }
    return true;
}

/* All dims but the last go on behind one another, as those of a dense tensor with longer rows would. */
bool lc_tensor_rowwise(const lc_tensor *t) {
    if (t->ndim < 2) return lc_tensor_dense(t);
    if (lc_tensor_width(t) > 1 && t->stride[t->ndim - 1] != 1) return false;
    for (int i = t->ndim - 3; i >= 0; i--)
        if (t->shape[i] > 1 && t->stride[i] != t->stride[i + 1] * t->shape[i + 1]) return false;
    return true;
}

int64_t lc_tensor_row(const lc_tensor *t) {
    return t->ndim < 2 ? lc_tensor_width(t) : t->stride[t->ndim - 2];
}

bool lc_same_shape(const lc_tensor *a, const lc_tensor *b) {
    return a->ndim == b->ndim && !memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof a->shape[0]);
}

static void dense_strides(lc_tensor *t) {
    int64_t step = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        t->stride[i] = step;
        step *= t->shape[i];
    }
}

void *lc_data(const lc_tensor *t) {
    return (unsigned char *)t->storage->data + (size_t)t->offset * dtypes[t->dtype].bytes;
}

bool lc_alive(const char *op, const lc_tensor *t) {
    if (!t) return false;
    if (t->storage->data) return true;
    lc_fail(LC_EINVAL,
            "%s: this %s was released at the end of its scope; call :keep() inside the scope, or "
            "return it from there",
            op, lc_shape_text(t));
    return false;
}

bool lc_usable(const char *op, const lc_tensor *t) {
    if (!lc_alive(op, t)) return false;
    if (!lc_is_packed(t)) return true;
    lc_fail(LC_EINVAL, "%s: %s is a packed weight, which linear layers alone can read; expand it",
            op, lc_shape_text(t));
    return false;
}

bool lc_together(const char *op, const lc_tensor *a, const lc_tensor *b) {
    if (!a || !b || a->storage->device == b->storage->device) return true;
    lc_fail(LC_EINVAL, "%s: %s%s and %s%s are on different devices; move one with :to", op,
            lc_shape_text(a), a->storage->device == LC_HOST ? " on the cpu" : "", lc_shape_text(b),
            b->storage->device == LC_HOST ? " on the cpu" : "");
    return false;
}

/* ---- pending handles ------------------------------------------------------------------------- */

static _Thread_local struct {
    lc_tensor **list;
    int count, room, mark; /* mark: the open pool's first */
} pending;

static int make_room(void) {
    if (pending.count < pending.room) return 0;
    int room = pending.room ? 2 * pending.room : 64;
    lc_tensor **list = lc_realloc(pending.list, (size_t)room * sizeof *list);
    if (!list) return -1;
    pending.list = list;
    pending.room = room;
    return 0;
}

static void let_go(int down_to) {
    while (pending.count > down_to) lc_tensor_release(pending.list[--pending.count]);
    if (!pending.count && pending.room > 64) { /* nothing pending: give a large list back */
        lc_free(pending.list);
        pending.list = NULL;
        pending.room = 0;
    }
}

int lc_pool(void) {
    int before = pending.mark;
    pending.mark = pending.count;
    return before;
}

lc_tensor *lc_pool_turn(lc_tensor *x) {
    lc_tensor_retain(x);
    let_go(pending.mark);
    if (x && make_room() < 0) {
        lc_tensor_release(x);
        return NULL;
    }
    if (x) pending.list[pending.count++] = x;
    return x;
}

lc_tensor *lc_pool_end(int before, lc_tensor *result) {
    result = lc_pool_turn(result);
    pending.mark = before;
    return result;
}

lc_tensor *lc_tensor_adopt(lc_tensor *t) {
    if (t) lc_tensor_retain(t);
    let_go(pending.mark);
    return t;
}

/* ---- making ------------------------------------------------------------------------------------ */

void lc_storage_free_data(struct lc_storage *s) {
    if (!s->data) return;
    if (s->close) s->close(s->owner);
    else lc_kernels_at(s->device)->free(s->data, s->bytes);
    s->data = NULL;
}

static void release_storage(struct lc_storage *s) {
    if (--s->holders > 0) return;
    lc_scope_unlink(s);
    lc_storage_free_data(s);
    lc_free(s);
}

/* A pending handle over storage, which it takes over (also when it fails). */
static lc_tensor *new_handle(struct lc_storage *s, int dtype, int ndim, const int64_t *shape) {
    lc_tensor *t = make_room() < 0 ? NULL : lc_alloc(sizeof *t);
    if (!t) {
        release_storage(s);
        return NULL;
    }
    *t = (lc_tensor){.dtype = dtype, .ndim = ndim, .holders = 1, .storage = s};
    for (int i = 0; i < ndim; i++) t->shape[i] = shape[i];
    dense_strides(t);
    pending.list[pending.count++] = t;
    return t;
}

static int checked_bytes(int ndim, const int64_t *shape, int dtype, int64_t *bytes) {
    if (!is_dtype(dtype)) return lc_fail(LC_EINVAL, "tensor: there is no dtype %d", dtype);
    if (lc_quant_of(dtype) != LC_PLAIN)
        return lc_fail(LC_EINVAL, "tensor: %s is not made but packed, from a weight of floats",
                       dtypes[dtype].name);
    if (ndim < 0 || ndim > LC_MAX_DIMS)
        return lc_fail(LC_EINVAL, "tensor: %d dims asked, at most %d are possible", ndim,
                       LC_MAX_DIMS);
    *bytes = (int64_t)dtypes[dtype].bytes;
    bool empty = false;
    for (int i = 0; i < ndim; i++) {
        if (shape[i] < 0)
            return lc_fail(LC_EINVAL, "tensor: dim %d has size %" PRId64, i + 1, shape[i]);
        empty |= shape[i] == 0;
        if (!lc_multiply(bytes, shape[i] ? shape[i] : 1)) /* strides of an empty one must fit too */
            return lc_fail(LC_ENOMEM, "tensor: the size overflows 63 bits");
    }
    if (empty) *bytes = 0;
    return 0;
}

static lc_tensor *on_new_storage(int64_t bytes, int ndim, const int64_t *shape, int dtype,
                                 int device) {
    if (lc_device_start(device) < 0) return NULL;
    struct lc_storage *s = lc_alloc(sizeof *s);
    if (!s) return NULL;
    *s = (struct lc_storage){.bytes = (size_t)bytes, .device = device, .holders = 1};
    s->data = lc_kernels_at(device)->alloc(s->bytes);
    if (!s->data) {
        lc_free(s);
        return NULL;
    }
    lc_scope_birth(s);
    return new_handle(s, dtype, ndim, shape);
}

lc_tensor *lc_tensor_new(int ndim, const int64_t *shape, int dtype, int device) {
    int64_t bytes;
    return checked_bytes(ndim, shape, dtype, &bytes) < 0
               ? NULL
               : on_new_storage(bytes, ndim, shape, dtype, device);
}

lc_tensor *lc_tensor_packed(const lc_tensor *like, enum lc_quant quant, int ndim,
                            const int64_t *shape) {
    int64_t count = 1;
    for (int i = 0; i < ndim; i++) count *= shape[i];
    return on_new_storage(lc_packed_bytes(quant, count), ndim, shape, LC_U8 + (int)quant,
                          like->storage->device);
}

lc_tensor *lc_tensor_wrap(int ndim, const int64_t *shape, int dtype, const void *data,
                          void (*close)(void *), void *owner) {
    int64_t bytes;
    struct lc_storage *s =
        checked_bytes(ndim, shape, dtype, &bytes) < 0 ? NULL : lc_alloc(sizeof *s);
    if (!s) {
        close(owner);
        return NULL;
    }
    *s = (struct lc_storage){.data = (void *)(uintptr_t)data,
                             .bytes = (size_t)bytes,
                             .device = LC_HOST,
                             .holders = 1,
                             .close = close,
                             .owner = owner};
    lc_scope_birth(s);
    return new_handle(s, dtype, ndim, shape);
}

lc_tensor *lc_tensor_make(const lc_tensor *like, int dtype, int ndim, const int64_t *shape) {
    return lc_tensor_new(ndim, shape, dtype, like->storage->device);
}

lc_tensor *lc_tensor_like(const lc_tensor *t) {
    return lc_tensor_make(t, t->dtype, t->ndim, t->shape);
}

lc_tensor *lc_tensor_roomy(const lc_tensor *like, int dtype, int ndim, const int64_t *shape,
                           int64_t room) {
    if (!room || !ndim) return lc_tensor_make(like, dtype, ndim, shape);
    int64_t whole[LC_MAX_DIMS];
    memcpy(whole, shape, (size_t)ndim * sizeof *whole);
    whole[ndim - 1] += room;
    lc_tensor *t = lc_tensor_make(like, dtype, ndim, whole);
    if (!t) return NULL;
    t->shape[ndim - 1] -= room;
    t->room = room;
    return t;
}

lc_tensor *lc_tensor_zero_like(const lc_tensor *t, int dtype) {
    lc_tensor *z = lc_tensor_make(t, dtype, t->ndim, t->shape);
    if (z && lc_kernels_of(z)->fill(lc_data(z), dtype, lc_tensor_count(z), 0) < 0) return NULL;
    return z;
}

lc_tensor *lc_tensor_full(int ndim, const int64_t *shape, int dtype, int device, double value) {
    lc_tensor *t = lc_tensor_new(ndim, shape, dtype, device);
    if (t && lc_kernels_of(t)->fill(lc_data(t), dtype, lc_tensor_count(t), value) < 0) return NULL;
    return t;
}

lc_tensor *lc_tensor_randn(int ndim, const int64_t *shape, int dtype, int device, uint64_t seed,
                           uint64_t stream) {
    lc_tensor *t = lc_tensor_new(ndim, shape, dtype, device);
    if (t && lc_kernels_of(t)->randn(lc_data(t), dtype, lc_tensor_count(t), seed, stream) < 0)
        return NULL;
    return t;
}

lc_tensor *lc_tensor_rand(int ndim, const int64_t *shape, int dtype, int device, uint64_t seed,
                          uint64_t stream) {
    lc_tensor *t = lc_tensor_new(ndim, shape, dtype, device);
    if (t && lc_kernels_of(t)->rand(lc_data(t), dtype, lc_tensor_count(t), seed, stream) < 0)
        return NULL;
    return t;
}

lc_tensor *lc_tensor_alias(const lc_tensor *t, int ndim, const int64_t *shape,
                           const int64_t *stride, int64_t offset) {
    t->storage->holders++;
    lc_tensor *view = new_handle(t->storage, t->dtype, ndim, shape);
    if (!view) return NULL;
    view->offset = offset;
    for (int i = 0; i < ndim; i++) view->stride[i] = stride[i];
    return view;
}

/* t's values, copied to `place`, are t's from now on. */
static int move_to(lc_tensor *t, lc_tensor *place) {
    if (!place || lc_tensor_copy(place, t) < 0) return -1;
    struct lc_storage *before = t->storage;
    t->storage = place->storage;
    t->storage->holders++;
    t->offset = place->offset;
    memcpy(t->stride, place->stride, sizeof t->stride);
    release_storage(before);
    return 0;
}

int lc_tensor_lodge(lc_tensor *t, lc_tensor *whole, int64_t offset, int64_t row) {
    lc_assert(t->ndim == 2 && t->dtype == whole->dtype);
    if (move_to(t, lc_tensor_alias(whole, 2, t->shape, (int64_t[]){row, 1}, offset)) < 0) return -1;
    t->lodged = true;
    return 0;
}

int lc_tensor_move_out(lc_tensor *t) {
    lc_scope_outside(1);
    int before = lc_pool(), done = move_to(t, lc_tensor_like(t));
    lc_pool_end(before, NULL);
    lc_scope_outside(0);
    if (!done) t->lodged = false;
    return done;
}

/* ---- holders ------------------------------------------------------------------------------------ */

lc_tensor *lc_tensor_retain(lc_tensor *t) {
    if (t) t->holders++;
    return t;
}

void lc_tensor_release(lc_tensor *t) {
    if (!t || --t->holders > 0) return;
    if (t->node) t->node->free(t->node);
    lc_tensor_release(t->grad);
    release_storage(t->storage);
    lc_free(t);
}

/* ---- values --------------------------------------------------------------------------------------- */

/* A dense tensor of src's values in dtype; src itself when it is that. */
static const lc_tensor *dense_as(const lc_tensor *src, int dtype) {
    if (src->dtype == dtype && lc_tensor_dense(src)) return src;
    lc_tensor *copy = lc_tensor_make(src, dtype, src->ndim, src->shape);
    return copy && !lc_tensor_copy(copy, src) ? copy : NULL;
}

/* Between the host and a device: in the destination's dtype or the source's, whichever is smaller. */
static int copy_across(lc_tensor *dst, const lc_tensor *src) {
    bool shrinks = dtypes[dst->dtype].bytes < dtypes[src->dtype].bytes;
    src = dense_as(src, shrinks ? dst->dtype : src->dtype);
    lc_tensor *to = dst;
    if (src && (!lc_tensor_dense(dst) || dst->dtype != src->dtype))
        to = lc_tensor_make(dst, src->dtype, dst->ndim, dst->shape);
    if (!src || !to) return -1;
    size_t bytes = (size_t)lc_tensor_count(to) * dtypes[to->dtype].bytes;
    int done = to->storage->device == LC_HOST
                   ? lc_kernels_of(src)->download(lc_data(to), lc_data(src), bytes)
                   : lc_kernels_of(to)->upload(lc_data(to), lc_data(src), bytes);
    return done < 0 || to == dst ? done : lc_tensor_copy(dst, to);
}

/* One pass where one side is dense and the dtypes agree, or both are dense; else by a dense copy. */
static int copy(lc_tensor *dst, const lc_tensor *src) {
    if (dst->storage->device != src->storage->device) return copy_across(dst, src);
    const struct lc_kernels *k = lc_kernels_of(dst);
    bool to_dense = lc_tensor_dense(dst), from_dense = lc_tensor_dense(src),
         same = dst->dtype == src->dtype;
    if (to_dense && from_dense)
        return k->convert(lc_data(dst), dst->dtype, lc_data(src), src->dtype, lc_tensor_count(dst));
    if (to_dense && same)
        return k->gather(lc_data(dst), lc_data(src), src->dtype, src->ndim, src->shape,
                         src->stride);
    if (from_dense && same)
        return k->scatter(lc_data(dst), lc_data(src), dst->dtype, dst->ndim, dst->shape,
                          dst->stride);
    const lc_tensor *between = dense_as(src, from_dense ? dst->dtype : src->dtype);
    return between ? copy(dst, between) : -1;
}

int lc_tensor_copy(lc_tensor *dst, const lc_tensor *src) {
    if (!lc_usable("copy", dst) || !lc_usable("copy", src)) return -1;
    if (!lc_same_shape(dst, src))
        return lc_fail(LC_EINVAL, "copy: the source is %s but the destination is %s",
                       lc_shape_text(src), lc_shape_text(dst));
    int before = lc_pool(), done = copy(dst, src);
    lc_pool_end(before, NULL);
    lc_tensor_changed(dst);
    return done;
}

lc_tensor *lc_tensor_on(lc_tensor *t, int device) {
    if (!t || t->storage->device == device) return t;
    lc_tensor *there = lc_tensor_new(t->ndim, t->shape, t->dtype, device);
    return there && !lc_tensor_copy(there, t) ? there : NULL;
}

/* Copies t as dtype into host memory, count elements. */
static int read_as(const lc_tensor *t, int dtype, void *dst) {
    const struct lc_kernels *k = lc_kernels_of(t);
    if (t->dtype == dtype && lc_tensor_dense(t))
        return k->download(dst, lc_data(t), (size_t)lc_tensor_count(t) * dtypes[dtype].bytes);
    int before = lc_pool(), done = -1;
    lc_tensor *copy = lc_tensor_make(t, dtype, t->ndim, t->shape);
    if (copy && !lc_tensor_copy(copy, t))
        done = k->download(dst, lc_data(copy), (size_t)lc_tensor_count(t) * dtypes[dtype].bytes);
    lc_pool_end(before, NULL);
    return done;
}

/* Copies host memory of dtype into t. */
static int write_as(lc_tensor *t, int dtype, const void *src) {
    const struct lc_kernels *k = lc_kernels_of(t);
    lc_tensor_changed(t);
    if (t->dtype == dtype && lc_tensor_dense(t))
        return k->upload(lc_data(t), src, (size_t)lc_tensor_count(t) * dtypes[dtype].bytes);
    int before = lc_pool(), done = -1;
    lc_tensor *copy = lc_tensor_make(t, dtype, t->ndim, t->shape);
    if (copy && !k->upload(lc_data(copy), src, (size_t)lc_tensor_count(t) * dtypes[dtype].bytes))
        done = lc_tensor_copy(t, copy);
    lc_pool_end(before, NULL);
    return done;
}

static int wrong_size(const char *op, const lc_tensor *t, int64_t given, const char *unit) {
    return lc_fail(LC_EINVAL, "%s: %s does not have %" PRId64 " %s", op, lc_shape_text(t), given,
                   unit);
}

int lc_tensor_read(const lc_tensor *t, void *dst, size_t nbytes) {
    if (!lc_usable("read", t)) return -1;
    if (nbytes != (size_t)lc_tensor_count(t) * dtypes[t->dtype].bytes)
        return wrong_size("read", t, (int64_t)nbytes, "bytes");
    return read_as(t, t->dtype, dst);
}

int lc_tensor_read_f32(const lc_tensor *t, float *dst, int64_t count) {
    if (!lc_usable("read", t)) return -1;
    if (count != lc_tensor_count(t)) return wrong_size("read", t, count, "elements");
    return read_as(t, LC_F32, dst);
}

int lc_tensor_write(lc_tensor *t, const void *src, size_t nbytes) {
    if (!lc_usable("write", t)) return -1;
    if (nbytes != (size_t)lc_tensor_count(t) * dtypes[t->dtype].bytes)
        return wrong_size("write", t, (int64_t)nbytes, "bytes");
    return write_as(t, t->dtype, src);
}

int lc_tensor_write_f32(lc_tensor *t, const float *src, int64_t count) {
    if (!lc_usable("write", t)) return -1;
    if (count != lc_tensor_count(t)) return wrong_size("write", t, count, "elements");
    return write_as(t, LC_F32, src);
}
