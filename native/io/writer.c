/* writer.c - safetensors files: tensors by name, the data aligned to 8 bytes, all or nothing. Tensors are
 * held until the file is written; of one that is only declared the bytes come later, so that a file may be
 * larger than memory. */
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "io/entries.h"
#include "io/safetensors.h"
#include "tensor/tensor.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct item {
    char *name;
    lc_tensor *tensor; /* NULL: declared, and put later */
    int64_t shape[LC_MAX_DIMS];
    int ndim, dtype;
};

struct pair {
    char *key, *value;
};

struct lc_writer {
    char *path;
    struct item *items;
    struct pair *pairs;
    size_t count, room, pair_count;
    struct lc_output output;
    bool open; /* the header is written, and the first items up to next */
    size_t next;
};

lc_writer *lc_writer_new(const char *path) {
    lc_writer *w = lc_alloc_zero(sizeof *w);
    if (!w) return NULL;
    w->path = lc_copy_text(path);
    if (w->path) return w;
    lc_free(w);
    return NULL;
}

void lc_writer_drop(lc_writer *w) {
    if (!w) return;
    if (w->open) lc_output_drop(&w->output);
    for (size_t i = 0; i < w->count; i++) {
        lc_free(w->items[i].name);
        lc_tensor_release(w->items[i].tensor);
    }
    for (size_t i = 0; i < w->pair_count; i++) {
        lc_free(w->pairs[i].key);
        lc_free(w->pairs[i].value);
    }
    lc_free(w->items);
    lc_free(w->pairs);
    lc_free(w->path);
    lc_free(w);
}

int lc_writer_metadata(lc_writer *w, const char *key, const char *value) {
    struct pair *pairs = lc_realloc(w->pairs, (w->pair_count + 1) * sizeof *pairs);
    if (!pairs) return -1;
    w->pairs = pairs;
    struct pair pair = {lc_copy_text(key), lc_copy_text(value)};
    if (!pair.key || !pair.value) {
        lc_free(pair.key);
        lc_free(pair.value);
        return -1;
    }
    pairs[w->pair_count++] = pair;
    return 0;
}

static int add(lc_writer *w, struct item item) {
    if (w->open) return lc_fail(LC_EINVAL, "%s: %s comes behind the header", w->path, item.name);
    if (lc_check_name(item.name, w->path) < 0) return -1;
    if (!strcmp(item.name, "__metadata__"))
        return lc_fail(LC_EINVAL, "%s: no tensor may be named __metadata__", w->path);
    if (w->count == w->room) {
        size_t room = w->room ? 2 * w->room : 64;
        void *items = lc_realloc(w->items, room * sizeof *w->items);
        if (!items) return -1;
        w->items = items;
        w->room = room;
    }
    if (!(item.name = lc_copy_text(item.name))) return -1;
    if (item.tensor) lc_tensor_retain(item.tensor);
    w->items[w->count++] = item;
    return 0;
}

int lc_writer_add(lc_writer *w, const char *name, lc_tensor *t) {
    if (!t) return lc_fail(LC_EINVAL, "%s: %s: there is no tensor", w->path, name);
    if (!lc_usable("writer", t)) return -1;
    struct item item = {(char *)name, t, .ndim = t->ndim, .dtype = t->dtype};
    memcpy(item.shape, t->shape, sizeof item.shape);
    return add(w, item);
}

int lc_writer_declare(lc_writer *w, const char *name, int ndim, const int64_t *shape, int dtype) {
    struct item item = {.name = (char *)name, .ndim = ndim, .dtype = dtype};
    if (ndim < 0 || ndim > LC_MAX_DIMS || !lc_dtype_name(dtype))
        return lc_fail(LC_EINVAL, "%s: %s: there is no such tensor", w->path, name);
    for (int i = 0; i < ndim; i++) item.shape[i] = shape[i];
    return add(w, item);
}

/* ---- header ---- */

struct text {
    char *data; /* NULL once memory has failed */
    size_t n, room;
};

static void put(struct text *t, const char *from, size_t n) {
    if (t->data && t->n + n > t->room) {
        size_t room = 2 * (t->n + n);
        char *data = lc_realloc(t->data, room);
        if (!data) lc_free(t->data);
        t->data = data;
        t->room = room;
    }
    if (!t->data) return;
    memcpy(t->data + t->n, from, n);
    t->n += n;
}

static void put_word(struct text *t, const char *word) { put(t, word, strlen(word)); }

static void put_number(struct text *t, int64_t v) {
    char digits[24];
    put(t, digits, (size_t)snprintf(digits, sizeof digits, "%" PRId64, v));
}

static void put_string(struct text *t, const char *s) {
    put(t, "\"", 1);
    for (; *s; s++) {
        char code[8];
        if (*s == '"' || *s == '\\') {
            put(t, "\\", 1);
            put(t, s, 1);
        } else if ((unsigned char)*s < 0x20)
            put(t, code, (size_t)snprintf(code, sizeof code, "\\u%04x", (unsigned char)*s));
        else put(t, s, 1);
    }
    put(t, "\"", 1);
}

static size_t bytes_of(const struct item *item) {
    size_t n = lc_dtype_bytes(item->dtype);
    for (int i = 0; i < item->ndim; i++) n *= (size_t)item->shape[i];
    return n;
}

static void put_entry(struct text *t, const struct item *item, int64_t begin) {
    put_string(t, item->name);
    put_word(t, ":{\"dtype\":\"");
    put_word(t, lc_word_of(item->dtype));
    put_word(t, "\",\"shape\":[");
    for (int i = 0; i < item->ndim; i++) {
        if (i) put(t, ",", 1);
        put_number(t, item->shape[i]);
    }
    put_word(t, "],\"data_offsets\":[");
    put_number(t, begin);
    put(t, ",", 1);
    put_number(t, begin + (int64_t)bytes_of(item));
    put_word(t, "]}");
}

static void put_metadata(struct text *t, const lc_writer *w) {
    put_word(t, "\"__metadata__\":{");
    for (size_t i = 0; i < w->pair_count; i++) {
        if (i) put(t, ",", 1);
        put_string(t, w->pairs[i].key);
        put(t, ":", 1);
        put_string(t, w->pairs[i].value);
    }
    put(t, "}", 1);
}

/* The length and the header, as they stand in the file. */
static struct text header(const lc_writer *w) {
    struct text t = {.data = lc_alloc(4096), .room = 4096};
    int64_t begin = 0;
    put(&t, "\0\0\0\0\0\0\0\0{", 9);
    if (w->pair_count) put_metadata(&t, w);
    for (size_t i = 0; i < w->count; i++) {
        if (i || w->pair_count) put(&t, ",", 1);
        put_entry(&t, &w->items[i], begin);
        begin += (int64_t)bytes_of(&w->items[i]);
    }
    put(&t, "}", 1);
    while (t.data && t.n % 8) put(&t, " ", 1);
    for (int i = 0; t.data && i < 8; i++) t.data[i] = (char)((t.n - 8) >> 8 * i);
    return t;
}

/* ---- the file ---- */

static int item_order(const void *a, const void *b) {
    return strcmp(((const struct item *)a)->name, ((const struct item *)b)->name);
}

static int check(lc_writer *w) {
    if (w->count > 1) qsort(w->items, w->count, sizeof *w->items, item_order);
    for (size_t i = 0; i < w->count; i++) {
        if (i && !strcmp(w->items[i - 1].name, w->items[i].name))
            return lc_fail(LC_EINVAL, "%s: the name %s was added twice", w->path, w->items[i].name);
        if (w->items[i].tensor && !lc_usable(w->items[i].name, w->items[i].tensor)) return -1;
    }
    return 0;
}

static int write_tensor(lc_writer *w, size_t n, const lc_tensor *t) {
    if (lc_poll("writer") < 0) return -1;
    w->next++;
    if (n == 0) return 0;
    if (lc_tensor_device(t) == LC_HOST && lc_tensor_dense(t))
        return lc_output_write(&w->output, lc_data(t), n);
    void *rows = lc_alloc(n);
    int result =
        rows && lc_tensor_read(t, rows, n) == 0 ? lc_output_write(&w->output, rows, n) : -1;
    lc_free(rows);
    return result;
}

/* Opens the file and writes its header, unless that is done; then the tensors at hand that come next. */
static int write_held(lc_writer *w) {
    if (!w->open) {
        if (check(w) < 0) return -1;
        struct text head = header(w);
        if (!head.data) return -1;
        int result = head.n - 8 > LC_HEADER_LIMIT
                         ? lc_fail(LC_EINVAL, "%s: its header would be too long", w->path)
                         : lc_output_open(&w->output, w->path);
        w->open = result == 0;
        if (w->open) result = lc_output_write(&w->output, head.data, head.n);
        lc_free(head.data);
        if (result < 0) return -1;
    }
    while (w->next < w->count && w->items[w->next].tensor) {
        const struct item *item = &w->items[w->next];
        if (write_tensor(w, bytes_of(item), item->tensor) < 0) return -1;
    }
    return 0;
}

int lc_writer_put(lc_writer *w, const char *name, const lc_tensor *t) {
    if (!t || !lc_usable("writer", t) || write_held(w) < 0) return -1;
    const struct item *item = w->next < w->count ? &w->items[w->next] : NULL;
    if (!item || strcmp(item->name, name))
        return lc_fail(LC_EINVAL, "%s: %s is put where %s comes", w->path, name,
                       item ? item->name : "the end");
    if (t->dtype != item->dtype || t->ndim != item->ndim ||
        memcmp(t->shape, item->shape, (size_t)t->ndim * sizeof *t->shape))
        return lc_fail(LC_EINVAL, "%s: %s is %s, not what was declared", w->path, name,
                       lc_shape_text(t));
    return write_tensor(w, bytes_of(item), t);
}

int lc_writer_finish(lc_writer *w) {
    int result = write_held(w);
    if (result == 0 && w->next < w->count)
        result =
            lc_fail(LC_EINVAL, "%s: %s was declared but not put", w->path, w->items[w->next].name);
    if (result == 0) {
        result = lc_output_finish(&w->output);
        w->open = false;
    }
    lc_writer_drop(w);
    return result;
}
