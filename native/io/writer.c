/* writer.c - safetensors files: tensors by name, the data aligned to 8 bytes, all or nothing. */
#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "io/safetensors.h"
#include "tensor/tensor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct item {
    char *name;
    lc_tensor *tensor;
};

struct pair {
    char *key, *value;
};

struct lc_writer {
    char *path;
    struct item *items;
    struct pair *pairs;
    size_t count, room, pair_count;
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

int lc_writer_add(lc_writer *w, const char *name, lc_tensor *t) {
    if (!t) return lc_fail(LC_EINVAL, "%s: %s: there is no tensor", w->path, name);
    if (!lc_usable("writer", t)) return -1;
    if (!strcmp(name, "__metadata__"))
        return lc_fail(LC_EINVAL, "%s: no tensor may be named __metadata__", w->path);
    if (w->count == w->room) {
        size_t room = w->room ? 2 * w->room : 64;
        void *items = lc_realloc(w->items, room * sizeof *w->items);
        if (!items) return -1;
        w->items = items;
        w->room = room;
    }
    char *copy = lc_copy_text(name);
    if (!copy) return -1;
    w->items[w->count++] = (struct item){copy, lc_tensor_retain(t)};
    return 0;
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

static size_t bytes_of(const lc_tensor *t) {
    return (size_t)lc_tensor_count(t) * lc_dtype_bytes(t->dtype);
}

static void put_entry(struct text *t, const struct item *item, int64_t begin) {
    put_string(t, item->name);
    put_word(t, ":{\"dtype\":\"");
    put_word(t, lc_word_of(item->tensor->dtype));
    put_word(t, "\",\"shape\":[");
    for (int i = 0; i < item->tensor->ndim; i++) {
        if (i) put(t, ",", 1);
        put_number(t, item->tensor->shape[i]);
    }
    put_word(t, "],\"data_offsets\":[");
    put_number(t, begin);
    put(t, ",", 1);
    put_number(t, begin + (int64_t)bytes_of(item->tensor));
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
        begin += (int64_t)bytes_of(w->items[i].tensor);
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
        if (!lc_usable(w->items[i].name, w->items[i].tensor)) return -1;
    }
    return 0;
}

static int write_tensor(struct lc_output *o, const lc_tensor *t) {
    size_t n = bytes_of(t);
    if (lc_poll("writer") < 0) return -1;
    if (n == 0) return 0;
    if (lc_tensor_device(t) == LC_HOST && lc_tensor_dense(t))
        return lc_output_write(o, lc_data(t), n);
    void *rows = lc_alloc(n);
    int result = rows && lc_tensor_read(t, rows, n) == 0 ? lc_output_write(o, rows, n) : -1;
    lc_free(rows);
    return result;
}

static int write_file(struct lc_output *o, const lc_writer *w) {
    struct text head = header(w);
    if (!head.data) return -1;
    int result = head.n - 8 > LC_HEADER_LIMIT
                     ? lc_fail(LC_EINVAL, "%s: its header would be too long", w->path)
                     : lc_output_write(o, head.data, head.n);
    lc_free(head.data);
    for (size_t i = 0; i < w->count && result == 0; i++)
        result = write_tensor(o, w->items[i].tensor);
    return result;
}

int lc_writer_finish(lc_writer *w) {
    struct lc_output o;
    int result = check(w);
    if (result == 0) result = lc_output_open(&o, w->path);
    if (result == 0) {
        result = write_file(&o, w);
        if (result == 0) result = lc_output_finish(&o);
        else lc_output_drop(&o);
    }
    lc_writer_drop(w);
    return result;
}
