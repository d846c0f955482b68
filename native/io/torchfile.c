/* torchfile.c - from a pickle of tensors to their places in the file.
 *
 * A tensor is a call of _rebuild_tensor_v2 there, with a storage, an offset, sizes and strides; a
 * storage is a key, and its bytes stand elsewhere: in the zip's entry data/KEY, or, before PyTorch 1.6,
 * one after the other behind the pickles. So several tensors may look at one storage. The list of what
 * else may be called is below; a call of it makes nothing here. */
#include "io/torchfile.h"

#include "base/error.h"
#include "base/memory.h"
#include "io/format.h"
#include "io/pickle.h"
#include "io/zip.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { NOTHING, TENSOR, TENSOR_OF_TYPE, PARAMETER, OF_CLASS, STORAGE, DTYPE };
enum { MOST_DEPTH = 64, MOST_VISITS = 1 << 18, MOST_ITEMS = 1 << 24, MOST_DIMS = 64 };

static const struct lc_pickle_name names[] = {
    {"torch._utils", "_rebuild_tensor_v2", TENSOR},
    {"torch._utils", "_rebuild_tensor", TENSOR},
    {"torch._utils", "_rebuild_tensor_v3", TENSOR_OF_TYPE},
    {"torch._utils", "_rebuild_parameter", PARAMETER},
    {"torch._utils", "_rebuild_parameter_with_state", PARAMETER},
    {"torch._tensor", "_rebuild_from_type_v2", OF_CLASS},
    {"collections", "OrderedDict", LC_PICKLE_MAKES_DICT},
    {"collections", "defaultdict", LC_PICKLE_MAKES_DICT},
    {"collections", "Counter", LC_PICKLE_MAKES_DICT},
    {"builtins", "dict", LC_PICKLE_MAKES_DICT},
    {"__builtin__", "dict", LC_PICKLE_MAKES_DICT},
    {"torch", "FloatStorage", STORAGE},
    {"torch", "HalfStorage", STORAGE},
    {"torch", "BFloat16Storage", STORAGE},
    {"torch", "DoubleStorage", STORAGE},
    {"torch", "LongStorage", STORAGE},
    {"torch", "IntStorage", STORAGE},
    {"torch", "ShortStorage", STORAGE},
    {"torch", "CharStorage", STORAGE},
    {"torch", "ByteStorage", STORAGE},
    {"torch", "BoolStorage", STORAGE},
    {"torch", "ComplexFloatStorage", STORAGE},
    {"torch", "UntypedStorage", STORAGE},
    {"torch.storage", "UntypedStorage", STORAGE},
    {"torch", "float32", DTYPE},
    {"torch", "float16", DTYPE},
    {"torch", "bfloat16", DTYPE},
    {"torch", "float64", DTYPE},
    {"torch", "int64", DTYPE},
    {"torch", "int32", DTYPE},
    {"torch", "int16", DTYPE},
    {"torch", "int8", DTYPE},
    {"torch", "uint8", DTYPE},
    {"torch", "bool", DTYPE},
    {"torch", "uint16", DTYPE},
    {"torch", "uint32", DTYPE},
    {"torch", "uint64", DTYPE},
    {"torch", "float8_e4m3fn", DTYPE},
    {"torch", "float8_e5m2", DTYPE},
    {"torch", "Tensor", NOTHING},
    {"torch.nn.parameter", "Parameter", NOTHING},
    {"torch", "Size", NOTHING},
    {"torch", "device", NOTHING},
    {"torch.serialization", "_get_layout", NOTHING},
    /* what stands beside weights in training's own files: options, numbers of NumPy */
    {"argparse", "Namespace", NOTHING},
    {"builtins", "set", NOTHING},
    {"__builtin__", "set", NOTHING},
    {"builtins", "complex", NOTHING},
    {"builtins", "bytearray", NOTHING},
    {"_codecs", "encode", NOTHING},
    {"numpy", "dtype", NOTHING},
    {"numpy", "ndarray", NOTHING},
    {"numpy.core.multiarray", "scalar", NOTHING},
    {"numpy.core.multiarray", "_reconstruct", NOTHING},
    {"numpy._core.multiarray", "scalar", NOTHING},
    {"numpy._core.multiarray", "_reconstruct", NOTHING},
    {NULL, NULL, 0},
};

static const struct {
    const char *name, *word;
} types[] = {
    {"FloatStorage", "F32"},
    {"float32", "F32"},
    {"HalfStorage", "F16"},
    {"float16", "F16"},
    {"bfloat16", "BF16"},
    {"BFloat16Storage", "BF16"},
    {"DoubleStorage", "F64"},
    {"float64", "F64"},
    {"LongStorage", "I64"},
    {"int64", "I64"},
    {"int32", "I32"},
    {"IntStorage", "I32"},
    {"ShortStorage", "I16"},
    {"int16", "I16"},
    {"CharStorage", "I8"},
    {"int8", "I8"},
    {"uint8", "U8"},
    {"ByteStorage", "U8"},
    {"BoolStorage", "BOOL"},
    {"bool", "BOOL"},
    {"ComplexFloatStorage", "C64"},
    {"uint16", "U16"},
    {"uint32", "U32"},
    {"uint64", "U64"},
    {"float8_e4m3fn", "F8_E4M3"},
    {"float8_e5m2", "F8_E5M2"},
    {"UntypedStorage", "U8"},
};

/* A key and where its bytes are. */
struct storage {
    const char *key;
    size_t length;
    int64_t begin, bytes;
};

struct loader {
    struct lc_entries *entries;
    const char *path;
    int fd, file;
    int64_t size;
    struct lc_pickle pickle;
    struct storage *storages; /* by key */
    size_t count;
    char name[LC_MOST_NAME + 1]; /* of the value that is being looked at */
    size_t visits, items; /* values that were walked into; those that containers among them hold */
};

static int refuse(const struct loader *l, const char *what) {
    return lc_fail(LC_EINVAL, "%s: %.200s: %s", l->path, *l->name ? l->name : "its pickle", what);
}

/* ---- storages ---- */

static int key_order(const void *a, const void *b) {
    const struct storage *x = a, *y = b;
    size_t n = x->length < y->length ? x->length : y->length;
    int order = n ? memcmp(x->key, y->key, n) : 0;
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

static const struct storage *find_storage(const struct loader *l, const char *key, size_t n) {
    struct storage wanted = {.key = key, .length = n};
    return l->count ? bsearch(&wanted, l->storages, l->count, sizeof wanted, key_order) : NULL;
}

/* The place in lc_word_text of what a global of the list stands for, or -1. */
static int word_of(const struct lc_pickle_value *v, int role) {
    if (v->kind != LC_PICKLE_NAME || names[v->name].role != role) return -1;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(types[i].name, names[v->name].name)) return lc_word_find(types[i].word);
    return -1;
}

/* What ("storage", FloatStorage, "0", "cpu", 24) says, with its sixth item in the oldest files: a view
 * (key, offset, size) of that storage, or None. */
struct reference {
    const char *key;
    size_t length;
    int word;
    int64_t elements, offset;
};

static int read_reference(const struct loader *l, const struct lc_pickle_value *v,
                          struct reference *r) {
    const struct lc_pickle *p = &l->pickle;
    if (v->kind != LC_PICKLE_PERSISTENT) return refuse(l, "its storage is none");
    const struct lc_pickle_value *t = lc_pickle_at(p, v->inner);
    if (t->kind != LC_PICKLE_TUPLE || t->count < 5 || t->count > 6 ||
        !lc_pickle_is_text(lc_pickle_item(p, t, 0), "storage"))
        return refuse(l, "its storage is none");
    const struct lc_pickle_value *key = lc_pickle_item(p, t, 2), *n = lc_pickle_item(p, t, 4);
    const struct lc_pickle_value *view = t->count == 6 ? lc_pickle_item(p, t, 5) : NULL;
    *r = (struct reference){.word = word_of(lc_pickle_item(p, t, 1), STORAGE)};
    if (r->word < 0) return refuse(l, "its storage has a type that is none");
    if (key->kind != LC_PICKLE_TEXT) return refuse(l, "its storage has no key");
    if (n->kind != LC_PICKLE_INT || n->integer < 0) return refuse(l, "its storage has no size");
    r->key = key->text;
    r->length = key->count;
    r->elements = n->integer;
    if (!view || view->kind == LC_PICKLE_NONE) return 0;
    const struct lc_pickle_value *offset =
        view->kind == LC_PICKLE_TUPLE && view->count == 3 ? lc_pickle_item(p, view, 1) : NULL;
    if (!offset || offset->kind != LC_PICKLE_INT || offset->integer < 0)
        return refuse(l, "its storage is a view that is none");
    r->offset = offset->integer;
    return 0;
}

static int bytes_of(const struct loader *l, int64_t elements, int word, int64_t *bytes) {
    *bytes = elements;
    return lc_multiply(bytes, lc_word_bits(word) / 8) ? 0 : refuse(l, "its size overflows 63 bits");
}

/* ---- tensors ---- */

/* Sizes and strides, and what follows from them. */
struct view {
    int ndim;
    int64_t size[MOST_DIMS], stride[MOST_DIMS];
    int64_t count, last; /* elements; the place of the last one, counted from the first */
    bool plain;          /* the elements stand end to end */
};

static int read_numbers(const struct loader *l, const struct lc_pickle_value *v, int64_t *list,
                        int *n) {
    if (v->kind == LC_PICKLE_CALL && names[v->name].role == NOTHING) { /* torch.Size((2, 3)) */
        const struct lc_pickle_value *a = lc_pickle_at(&l->pickle, v->inner);
        if (a->count == 1) v = lc_pickle_item(&l->pickle, a, 0);
    }
    if (v->kind != LC_PICKLE_TUPLE && v->kind != LC_PICKLE_LIST)
        return refuse(l, "its sizes or strides are no list");
    if (v->count > MOST_DIMS) return refuse(l, "it has more than 64 dims");
    *n = (int)v->count;
    for (uint32_t i = 0; i < v->count; i++) {
        const struct lc_pickle_value *x = lc_pickle_item(&l->pickle, v, i);
        if (x->kind != LC_PICKLE_INT || x->integer < 0)
            return refuse(l, "its sizes or strides hold what is no size");
        list[i] = x->integer;
    }
    return 0;
}

static int measure(const struct loader *l, struct view *v) {
    v->count = 1;
    v->last = 0;
    v->plain = true;
    for (int i = 0; i < v->ndim; i++)
        if (v->size[i] == 0) return v->count = 0, 0;
    for (int i = v->ndim - 1; i >= 0; i--) {
        int64_t reach = v->size[i] - 1;
        if (v->size[i] != 1 && v->stride[i] != v->count) v->plain = false;
        if (!lc_multiply(&reach, v->stride[i]) || !lc_multiply(&v->count, v->size[i]) ||
            __builtin_add_overflow(v->last, reach, &v->last))
            return refuse(l, "its size overflows 63 bits");
    }
    return 0;
}

/* The tensor's bytes are within its storage's, and those within the file. */
static int place(struct loader *l, struct lc_entry *e, const struct reference *r, int word,
                 int64_t offset, const struct view *v) {
    const struct storage *s = find_storage(l, r->key, r->length);
    int width = lc_word_bits(word) / 8;
    int64_t storage_bytes, from, behind;
    if (!s) {
        char key[40];
        lc_pickle_show(key, sizeof key, r->key, r->length);
        return lc_fail(LC_EINVAL, "%s: %.200s: its storage '%s' is not in the file; get it again",
                       l->path, l->name, key);
    }
    if (bytes_of(l, r->elements, r->word, &storage_bytes) < 0) return -1;
    if (storage_bytes != s->bytes)
        return lc_fail(LC_EINVAL,
                       "%s: %.200s: its storage has %" PRId64 " bytes in the file, not %" PRId64,
                       l->path, l->name, s->bytes, storage_bytes);
    e->begin = s->begin;
    if (v->count == 0) return 0;
    if (__builtin_add_overflow(offset, r->offset, &from) ||
        __builtin_add_overflow(from, v->last, &behind) || behind >= s->bytes / width)
        return refuse(l, "it reaches beyond its storage");
    if (v->count > s->bytes / width)
        return refuse(l, "it repeats elements of its storage; save a contiguous() copy");
    e->begin += from * width;
    e->bytes = v->count * width;
    e->span = (v->last + 1) * width;
    return 0;
}

static int add(struct loader *l, const struct reference *r, int word, int64_t offset,
               const struct view *v) {
    struct lc_entry e = {.dtype = lc_word_text(word), .ndim = v->ndim, .file = l->file};
    size_t n = strlen(l->name) + 1;
    for (int i = 0; i < v->ndim && i < LC_MAX_DIMS; i++) e.shape[i] = v->size[i];
    if (place(l, &e, r, word, offset, v) < 0) return -1;
    if (!v->plain && v->ndim <= LC_MAX_DIMS) {
        int64_t *stride = lc_entries_keep(l->entries, sizeof(int64_t[LC_MAX_DIMS]));
        if (!stride) return -1;
        memcpy(stride, v->stride, sizeof(int64_t[LC_MAX_DIMS]));
        e.stride = stride;
    }
    char *name = lc_entries_keep(l->entries, n);
    if (!name || lc_entries_reserve(l->entries, 1) < 0) return -1;
    memcpy(name, l->name, n);
    e.name = name;
    l->entries->list[l->entries->count++] = e;
    return 0;
}

/* _rebuild_tensor_v2(storage, offset, size, stride, ...); _v3 has the dtype as its seventh. */
static int add_tensor(struct loader *l, const struct lc_pickle_value *a, int role) {
    const struct lc_pickle *p = &l->pickle;
    struct reference r;
    struct view v = {0};
    int strides = 0;
    if (*l->name == 0) strcpy(l->name, "tensor"); /* torch.save of one tensor alone */
    if (a->count < (role == TENSOR ? 4u : 7u)) return refuse(l, "it is made of too little");
    const struct lc_pickle_value *offset = lc_pickle_item(p, a, 1);
    if (read_reference(l, lc_pickle_item(p, a, 0), &r) < 0) return -1;
    if (offset->kind != LC_PICKLE_INT || offset->integer < 0)
        return refuse(l, "its offset is no size");
    if (read_numbers(l, lc_pickle_item(p, a, 2), v.size, &v.ndim) < 0 ||
        read_numbers(l, lc_pickle_item(p, a, 3), v.stride, &strides) < 0)
        return -1;
    if (v.ndim != strides) return refuse(l, "it has not as many strides as sizes");
    int word = role == TENSOR ? r.word : word_of(lc_pickle_item(p, a, 6), DTYPE);
    if (word < 0) return refuse(l, "its dtype is none");
    return measure(l, &v) < 0 ? -1 : add(l, &r, word, offset->integer, &v);
}

/* ---- walking ---- */

static int walk(struct loader *l, const struct lc_pickle_value *v, int depth);

/* Walks into an item whose name is that of its container, a dot and the key. */
static int walk_item(struct loader *l, const struct lc_pickle_value *v, const char *key, size_t n,
                     int depth) {
    size_t had = strlen(l->name), dot = had > 0;
    if (n == 0 || n > LC_MOST_NAME - had - dot || had + dot > LC_MOST_NAME)
        return refuse(l, "a key that is empty or too long");
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)key[i] < ' ') return refuse(l, "a key with a control character");
    if (dot) l->name[had] = '.';
    memcpy(l->name + had + dot, key, n);
    l->name[had + dot + n] = 0;
    int result = walk(l, v, depth + 1);
    if (result == 0) l->name[had] = 0;
    return result;
}

/* Whether there may be tensors below: the keys of other values are of no interest. */
static bool may_hold(const struct lc_pickle_value *v) {
    switch (v->kind) {
    case LC_PICKLE_LIST:
    case LC_PICKLE_TUPLE:
    case LC_PICKLE_DICT: return v->count > 0;
    case LC_PICKLE_CALL: return names[v->name].role != NOTHING;
    default: return false;
    }
}

static int walk_number(struct loader *l, const struct lc_pickle_value *v, int64_t i, int depth) {
    char key[24];
    int n = snprintf(key, sizeof key, "%" PRId64, i);
    return walk_item(l, v, key, (size_t)n, depth);
}

/* A short pickle may hold one long list very often. */
static int count_items(struct loader *l, const struct lc_pickle_value *v) {
    l->items += v->count;
    if (l->items <= MOST_ITEMS) return 0;
    return refuse(l, "its lists and dictionaries hold more than 16777216 values together");
}

static int walk_dict(struct loader *l, const struct lc_pickle_value *v, int depth) {
    if (count_items(l, v) < 0) return -1;
    for (uint32_t i = 0; i + 1 < v->count; i += 2) {
        const struct lc_pickle_value *key = lc_pickle_item(&l->pickle, v, i);
        const struct lc_pickle_value *item = lc_pickle_item(&l->pickle, v, i + 1);
        int result = 0;
        if (!may_hold(item)) continue;
        if (key->kind == LC_PICKLE_TEXT) result = walk_item(l, item, key->text, key->count, depth);
        else if (key->kind == LC_PICKLE_INT) result = walk_number(l, item, key->integer, depth);
        else result = refuse(l, "a key that is neither text nor a number");
        if (result < 0) return -1;
    }
    return 0;
}

static int walk_list(struct loader *l, const struct lc_pickle_value *v, int depth) {
    if (count_items(l, v) < 0) return -1;
    for (uint32_t i = 0; i < v->count; i++) {
        const struct lc_pickle_value *item = lc_pickle_item(&l->pickle, v, i);
        if (may_hold(item) && walk_number(l, item, i, depth) < 0) return -1;
    }
    return 0;
}

/* _rebuild_from_type_v2(function, class, arguments, state): a tensor with attributes. */
static int walk_class(struct loader *l, const struct lc_pickle_value *a) {
    const struct lc_pickle *p = &l->pickle;
    const struct lc_pickle_value *f = a->count >= 3 ? lc_pickle_item(p, a, 0) : NULL;
    const struct lc_pickle_value *inner = a->count >= 3 ? lc_pickle_item(p, a, 2) : NULL;
    int role = f && f->kind == LC_PICKLE_NAME ? names[f->name].role : NOTHING;
    if ((role != TENSOR && role != TENSOR_OF_TYPE) || inner->kind != LC_PICKLE_TUPLE)
        return refuse(l, "an object that is no plain tensor");
    return add_tensor(l, inner, role);
}

static int walk_call(struct loader *l, const struct lc_pickle_value *v, int depth) {
    const struct lc_pickle_value *a = lc_pickle_at(&l->pickle, v->inner);
    int role = names[v->name].role;
    switch (role) {
    case TENSOR:
    case TENSOR_OF_TYPE: return add_tensor(l, a, role);
    case PARAMETER:
        if (a->count < 1) return refuse(l, "a parameter without its tensor");
        return walk(l, lc_pickle_item(&l->pickle, a, 0), depth + 1);
    case OF_CLASS: return walk_class(l, a);
    case NOTHING: return 0;
    default: return refuse(l, "a call of what is no function");
    }
}

/* Values may refer to each other in circles, and share what they hold: depth and steps are counted. */
static int walk(struct loader *l, const struct lc_pickle_value *v, int depth) {
    if (depth > MOST_DEPTH) return refuse(l, "it nests deeper than 64");
    if (++l->visits > MOST_VISITS) return refuse(l, "it has more than 262144 places for tensors");
    switch (v->kind) {
    case LC_PICKLE_DICT: return walk_dict(l, v, depth);
    case LC_PICKLE_LIST:
    case LC_PICKLE_TUPLE: return walk_list(l, v, depth);
    case LC_PICKLE_CALL: return walk_call(l, v, depth);
    default: return 0;
    }
}

static int walk_all(struct loader *l) {
    size_t first = l->entries->count;
    if (l->count > 1) qsort(l->storages, l->count, sizeof *l->storages, key_order);
    for (size_t i = 1; i < l->count; i++)
        if (key_order(l->storages + i - 1, l->storages + i) == 0)
            return refuse(l, "two storages have one key");
    if (walk(l, lc_pickle_at(&l->pickle, l->pickle.root), 0) < 0) return -1;
    if (l->entries->count == first)
        return lc_fail(LC_EINVAL, "%s: it is a file of PyTorch, but there is no tensor in it",
                       l->path);
    return lc_entries_check_names(l->entries, first, l->path);
}

/* ---- the zip format ---- */

/* NAME/data.pkl, for whatever name: the archive's. */
static const struct lc_zip_entry *find_pickle(const struct lc_zip *z, const char *path) {
    const struct lc_zip_entry *found = NULL;
    for (size_t i = 0; i < z->count; i++) {
        const char *slash = strchr(z->list[i].name, '/');
        if (!slash || slash == z->list[i].name || strcmp(slash, "/data.pkl") != 0) continue;
        if (found)
            return lc_fail_null(LC_EINVAL, "%s: there are two pickles in it, %.100s and %.100s",
                                path, found->name, z->list[i].name);
        found = &z->list[i];
    }
    if (!found)
        return lc_fail_null(
            LC_EINVAL,
            "%s: it is a zip, but not one of torch.save: no NAME/data.pkl is in it; "
            "if it is a download, unpack it",
            path);
    return found;
}

/* The entries NAME/data/KEY, all of them stored as they are. */
static int list_entries(struct loader *l, const struct lc_zip *z, const char *prefix, size_t n) {
    static const char data[] = "/data/";
    enum { DATA = sizeof data - 1 };
    l->storages = lc_alloc((z->count + 1) * sizeof *l->storages);
    if (!l->storages) return -1;
    for (size_t i = 0; i < z->count; i++) {
        const struct lc_zip_entry *e = &z->list[i];
        if (strncmp(e->name, prefix, n) != 0 || strncmp(e->name + n, data, DATA) != 0) continue;
        if (lc_zip_check_stored(e, l->path) < 0) return -1;
        const char *key = e->name + n + DATA;
        l->storages[l->count++] = (struct storage){key, strlen(key), e->begin, e->bytes};
    }
    return 0;
}

/* NAME/byteorder, which older files lack: they are little endian. */
static int check_order(const struct loader *l, const struct lc_zip *z, const char *prefix,
                       size_t n) {
    static const char word[] = "/byteorder";
    char *name = lc_alloc(n + sizeof word), *text = NULL;
    if (!name) return -1;
    memcpy(name, prefix, n);
    memcpy(name + n, word, sizeof word);
    const struct lc_zip_entry *e = lc_zip_find(z, name);
    int result = 0;
    if (e && !(text = lc_zip_load(e, l->fd, 64, l->path))) result = -1;
    else if (e && strcmp(text, "little") != 0)
        result = lc_fail(LC_EINVAL,
                         "%s: its numbers are %.20s endian; save it on a little-endian machine",
                         l->path, strcmp(text, "big") ? "of unknown order, not little" : "big");
    lc_free(name);
    lc_free(text);
    return result;
}

static int read_zip(struct loader *l) {
    struct lc_zip z;
    char *text = NULL;
    if (lc_zip_read(&z, l->fd, l->size, l->path) < 0) return -1;
    const struct lc_zip_entry *e = find_pickle(&z, l->path);
    size_t n = e ? strcspn(e->name, "/") : 0;
    int result = -1;
    if (e && check_order(l, &z, e->name, n) == 0 && list_entries(l, &z, e->name, n) == 0 &&
        (text = lc_zip_load(e, l->fd, LC_PICKLE_BYTES, l->path)) &&
        lc_pickle_read(&l->pickle, text, (size_t)e->bytes, l->path, names) == 0)
        result = walk_all(l);
    lc_pickle_free(&l->pickle);
    lc_free(text);
    lc_zip_free(&z);
    return result;
}

/* ---- the format before 1.6 ---- */

static int check_magic(const struct loader *l, const struct lc_pickle *p) {
    static const char magic[] = "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
    const struct lc_pickle_value *v = lc_pickle_at(p, p->root);
    if (v->kind == LC_PICKLE_LONG && v->count == sizeof magic - 1 &&
        !memcmp(v->text, magic, sizeof magic - 1))
        return 0;
    return lc_fail(LC_EINVAL, "%s: it is a pickle of Python, but not one of torch.save", l->path);
}

static int check_protocol(const struct loader *l, const struct lc_pickle *p) {
    const struct lc_pickle_value *v = lc_pickle_at(p, p->root);
    if (v->kind == LC_PICKLE_INT && v->integer == 1001) return 0;
    return lc_fail(LC_EINVAL, "%s: its version is not 1001, the only one there was", l->path);
}

static int check_system(const struct loader *l, const struct lc_pickle *p) {
    const struct lc_pickle_value *v = lc_pickle_at(p, p->root);
    for (uint32_t i = 0; v->kind == LC_PICKLE_DICT && i + 1 < v->count; i += 2)
        if (lc_pickle_is_text(lc_pickle_item(p, v, i), "little_endian") &&
            lc_pickle_item(p, v, i + 1)->integer == 0)
            return lc_fail(LC_EINVAL,
                           "%s: its numbers are big endian; save it on a little-endian machine",
                           l->path);
    return 0;
}

/* A storage as some tensor refers to it: how wide its elements are. */
struct use {
    struct storage storage; /* its key alone */
    int64_t elements, bytes;
};

static int use_order(const void *a, const void *b) {
    return key_order(&((const struct use *)a)->storage, &((const struct use *)b)->storage);
}

/* Every reference to a storage, by key. */
static int list_uses(const struct loader *l, struct use **list, size_t *n) {
    *list = lc_alloc((l->pickle.count + 1) * sizeof **list);
    if (!*list) return -1;
    for (size_t i = 0; i < l->pickle.count; i++) {
        struct reference r;
        if (l->pickle.values[i].kind != LC_PICKLE_PERSISTENT) continue;
        if (read_reference(l, &l->pickle.values[i], &r) < 0) return -1;
        struct use *u = &(*list)[(*n)++];
        *u = (struct use){.storage = {.key = r.key, .length = r.length}, .elements = r.elements};
        if (bytes_of(l, r.elements, r.word, &u->bytes) < 0) return -1;
    }
    if (*n > 1) qsort(*list, *n, sizeof **list, use_order);
    return 0;
}

/* Behind the pickles, in the order of the keys: the number of elements in 8 bytes, then those. */
static int find_storages(struct loader *l, const struct lc_pickle *keys, int64_t at,
                         const struct use *uses, size_t n) {
    const struct lc_pickle_value *list = lc_pickle_at(keys, keys->root);
    if (list->kind != LC_PICKLE_LIST) return refuse(l, "the list of its storages is none");
    l->storages = lc_alloc(((size_t)list->count + 1) * sizeof *l->storages);
    if (!l->storages) return -1;
    for (uint32_t i = 0; i < list->count; i++) {
        const struct lc_pickle_value *key = lc_pickle_item(keys, list, i);
        unsigned char head[8];
        if (key->kind != LC_PICKLE_TEXT) return refuse(l, "a storage has no key");
        struct use wanted = {.storage = {.key = key->text, .length = key->count}};
        const struct use *u = n ? bsearch(&wanted, uses, n, sizeof *uses, use_order) : NULL;
        if (!u) return refuse(l, "it lists a storage that no tensor has");
        if (lc_read_at(l->fd, head, sizeof head, at, l->path) < 0) return -1;
        uint64_t elements = 0;
        for (int k = 7; k >= 0; k--) elements = elements << 8 | head[k];
        at += 8;
        if (elements != (uint64_t)u->elements)
            return refuse(l, "a storage has another size than its tensors say");
        if (u->bytes > l->size - at)
            return lc_fail(LC_EINVAL,
                           "%s: it ends within a storage: %" PRId64 " bytes are missing; get it "
                           "again",
                           l->path, u->bytes - (l->size - at));
        wanted.storage.begin = at;
        wanted.storage.bytes = u->bytes;
        l->storages[l->count++] = wanted.storage;
        at += u->bytes;
    }
    return 0;
}

/* The three pickles before the tensors': a number, a version, what machine it was. */
static int read_head(const struct loader *l, const char **at, const char *end) {
    static int (*const checks[])(const struct loader *, const struct lc_pickle *) = {
        check_magic, check_protocol, check_system};
    for (int i = 0; i < 3; i++) {
        struct lc_pickle p;
        if (lc_pickle_read(&p, *at, (size_t)(end - *at), l->path, names) < 0) return -1;
        int result = checks[i](l, &p);
        *at = p.end;
        lc_pickle_free(&p);
        if (result < 0) return -1;
    }
    return 0;
}

static int read_legacy(struct loader *l) {
    size_t n = l->size < LC_PICKLE_BYTES ? (size_t)l->size : LC_PICKLE_BYTES, count = 0;
    char *text = lc_alloc(n + 1);
    const char *at = text, *end = text + n;
    struct lc_pickle keys = {0};
    struct use *uses = NULL;
    int result = text ? lc_read_at(l->fd, text, n, 0, l->path) : -1;
    if (result == 0) result = read_head(l, &at, end);
    if (result == 0) result = lc_pickle_read(&l->pickle, at, (size_t)(end - at), l->path, names);
    if (result == 0) at = l->pickle.end;
    if (result == 0) result = lc_pickle_read(&keys, at, (size_t)(end - at), l->path, names);
    if (result == 0) result = list_uses(l, &uses, &count);
    if (result == 0) result = find_storages(l, &keys, keys.end - text, uses, count);
    if (result == 0) result = walk_all(l);
    lc_pickle_free(&keys);
    lc_pickle_free(&l->pickle);
    lc_free(uses);
    lc_free(text);
    return result;
}

int lc_torchfile_read(struct lc_entries *e, int fd, int64_t size, int format, const char *path,
                      int file) {
    struct loader *l = lc_alloc_zero(sizeof *l);
    if (!l) return -1;
    *l = (struct loader){.entries = e, .path = path, .fd = fd, .file = file, .size = size};
    int result = format == LC_FORMAT_ZIP ? read_zip(l) : read_legacy(l);
    lc_free(l->storages);
    lc_free(l);
    return result;
}
