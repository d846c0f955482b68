/* safetensors.c - reads a header: 8 bytes of length, JSON, then the tensors' bytes end to end. What
 * the header says is checked against the file before any of it is believed. */
#define _GNU_SOURCE
#include "io/safetensors.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---- dtypes ---- */

static const struct {
    const char *word;
    int bits, dtype;
} words[] = {
    {"F32", 32, LC_F32}, {"F16", 16, LC_F16}, {"BF16", 16, LC_BF16}, {"I32", 32, LC_I32},
    {"U8", 8, LC_U8},    {"F64", 64, -1},     {"I64", 64, -1},       {"U64", 64, -1},
    {"U32", 32, -1},     {"I16", 16, -1},     {"U16", 16, -1},       {"I8", 8, -1},
    {"BOOL", 8, -1},     {"F8_E4M3", 8, -1},  {"F8_E5M2", 8, -1},    {"F8_E8M0", 8, -1},
    {"F6_E2M3", 6, -1},  {"F6_E3M2", 6, -1},  {"F4", 4, -1},         {"C64", 64, -1},
};
enum { WORDS = sizeof words / sizeof *words };

int lc_safetensors_dtype(const char *word) {
    for (int i = 0; i < WORDS; i++)
        if (!strcmp(words[i].word, word)) return words[i].dtype;
    return -1;
}

const char *lc_safetensors_word(int dtype) {
    for (int i = 0; i < WORDS; i++)
        if (words[i].dtype == dtype) return words[i].word;
    return NULL;
}

/* ---- one tensor of the header ---- */

struct header {
    struct lc_entries *entries;
    const char *path;
    int64_t data, size; /* where the tensors' bytes begin; of the file */
    int file;
};

static int refuse(const struct header *h, const char *name, const char *what) {
    return lc_fail(LC_EINVAL, "%s: %.200s: %s", h->path, name, what);
}

/* bits / 8 * the product of the shape, every step checked. */
static int size_of(const struct header *h, struct lc_entry *e, const lc_json *shape, int bits) {
    int64_t total = bits;
    if (!shape || lc_json_type(shape) != LC_JSON_ARRAY)
        return refuse(h, e->name, "its shape is no list");
    bool empty = false;
    for (const lc_json *v = lc_json_first(shape); v; v = lc_json_next(v)) {
        int64_t dim;
        if (lc_json_integer(v, &dim) < 0 || dim < 0)
            return refuse(h, e->name, "its shape holds what is no size");
        if (e->ndim < LC_MAX_DIMS) e->shape[e->ndim] = dim;
        e->ndim++;
        empty |= dim == 0;
        if (!lc_multiply(&total, dim ? dim : 1))
            return refuse(h, e->name, "its size overflows 63 bits");
    }
    if (empty) total = 0;
    if (total % 8) return refuse(h, e->name, "it does not end at a whole byte");
    e->bytes = total / 8;
    return 0;
}

static int read_range(const struct header *h, struct lc_entry *e, const lc_json *range) {
    int64_t end;
    const lc_json *first =
        range && lc_json_type(range) == LC_JSON_ARRAY ? lc_json_first(range) : NULL;
    const lc_json *second = first ? lc_json_next(first) : NULL;
    if (!second || lc_json_next(second) || lc_json_integer(first, &e->begin) < 0 ||
        lc_json_integer(second, &end) < 0)
        return refuse(h, e->name, "its data_offsets are not two integers");
    if (e->begin < 0 || end < e->begin || end > h->size - h->data)
        return lc_fail(LC_EINVAL,
                       "%s: %.200s: its data_offsets %" PRId64 ", %" PRId64
                       " are not within the file's %" PRId64 " bytes of data",
                       h->path, e->name, e->begin, end, h->size - h->data);
    if (end - e->begin != e->bytes)
        return lc_fail(LC_EINVAL,
                       "%s: %.200s: its shape and dtype take %" PRId64
                       " bytes but its data_offsets hold %" PRId64,
                       h->path, e->name, e->bytes, end - e->begin);
    e->begin += h->data;
    return 0;
}

static struct lc_entry *new_entry(struct lc_entries *all) {
    if (all->count == all->room) {
        size_t room = all->room ? 2 * all->room : 64;
        void *list = lc_realloc(all->list, room * sizeof *all->list);
        if (!list) return NULL;
        all->list = list;
        all->room = room;
    }
    struct lc_entry *e = &all->list[all->count];
    *e = (struct lc_entry){0};
    return e;
}

static int read_entry(const struct header *h, const lc_json *v, const char *name) {
    struct lc_entry *e = new_entry(h->entries);
    if (!e || !(e->name = lc_copy_text(name))) return -1;
    h->entries->count++; /* from here on it is freed with the others */
    e->file = h->file;
    if (lc_json_type(v) != LC_JSON_OBJECT) return refuse(h, name, "it is no object");
    const lc_json *dtype = lc_json_get(v, "dtype");
    size_t n;
    const char *word = dtype ? lc_json_string(dtype, &n) : NULL;
    if (!word) return refuse(h, name, "it has no dtype");
    int bits = 0;
    for (int i = 0; i < WORDS; i++) {
        if (strcmp(words[i].word, word) != 0) continue;
        e->dtype = words[i].word;
        bits = words[i].bits;
    }
    if (!bits)
        return lc_fail(LC_EINVAL, "%s: %.200s: there is no dtype '%.40s'", h->path, name, word);
    if (size_of(h, e, lc_json_get(v, "shape"), bits) < 0) return -1;
    return read_range(h, e, lc_json_get(v, "data_offsets"));
}

static int read_metadata(const struct header *h, const lc_json *v) {
    struct lc_entries *all = h->entries;
    if (lc_json_type(v) != LC_JSON_OBJECT) return refuse(h, "__metadata__", "it is no object");
    for (const lc_json *m = lc_json_first(v); m; m = lc_json_next(m)) {
        size_t n;
        const char *key = lc_json_key(m, &n), *value = lc_json_string(m, &n);
        if (!value) return refuse(h, "__metadata__", "it holds what is no text");
        if (all->pairs == all->pair_room) {
            size_t room = all->pair_room ? 2 * all->pair_room : 16;
            void *list = lc_realloc(all->metadata, room * sizeof *all->metadata);
            if (!list) return -1;
            all->metadata = list;
            all->pair_room = room;
        }
        struct lc_pair *pair = &all->metadata[all->pairs++];
        *pair = (struct lc_pair){lc_copy_text(key), lc_copy_text(value)};
        if (!pair->key || !pair->value) return -1;
    }
    return 0;
}

/* ---- the whole header ---- */

static int offset_order(const void *a, const void *b) {
    const struct lc_entry *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* No hole and no overlap: bytes that no tensor owns could be a second file. */
static int check_contiguous(const struct header *h, size_t first) {
    struct lc_entry *list = h->entries->list + first;
    size_t n = h->entries->count - first;
    int64_t at = h->data;
    if (n > 1) qsort(list, n, sizeof *list, offset_order);
    for (size_t i = 0; i < n; i++) {
        if (list[i].begin != at)
            return refuse(h, list[i].name,
                          list[i].begin < at ? "its bytes overlap those of another tensor"
                                             : "there is a hole before its bytes");
        at += list[i].bytes;
    }
    if (at != h->size)
        return lc_fail(LC_EINVAL, "%s: %" PRId64 " bytes follow the last tensor", h->path,
                       h->size - at);
    return 0;
}

static int read_json(const struct header *h, const lc_json *root) {
    size_t first = h->entries->count, n;
    for (const lc_json *v = lc_json_first(root); v; v = lc_json_next(v)) {
        const char *name = lc_json_key(v, &n);
        if (strlen(name) != n) return refuse(h, name, "its name holds a zero byte");
        int result = strcmp(name, "__metadata__") ? read_entry(h, v, name) : read_metadata(h, v);
        if (result < 0) return -1;
    }
    return check_contiguous(h, first);
}

static int read_at(int fd, char *to, size_t n, int64_t from, const char *path) {
    while (n > 0) {
        ssize_t got = pread(fd, to, n, from);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return lc_fail_errno(path, "reading");
        if (got == 0) return lc_fail(LC_EIO, "%s: it ends within its header", path);
        to += got;
        from += got;
        n -= (size_t)got;
    }
    return 0;
}

/* What is no safetensors file at all is told by its first bytes. */
static int name_other_format(const char *path, const char *text, size_t n) {
    static const char pointer[] = "version https://git-lfs";
    if (n >= sizeof pointer - 1 && !memcmp(text, pointer, sizeof pointer - 1))
        return lc_fail(LC_EINVAL,
                       "%s: it is a Git LFS pointer, not the file itself; git lfs pull gets it",
                       path);
    if (n >= 4 && !memcmp(text, "PK\3\4", 4))
        return lc_fail(LC_EINVAL, "%s: it is a zip (PyTorch's format?), not safetensors", path);
    while (n > 0 && isspace((unsigned char)*text)) text++, n--;
    if ((n >= 9 && !strncasecmp(text, "<!doctype", 9)) ||
        (n >= 5 && !strncasecmp(text, "<html", 5)))
        return lc_fail(LC_EINVAL,
                       "%s: it is an HTML page, not safetensors; the download went wrong", path);
    return 0;
}

static int parse_header(struct header *h, char *text, size_t n) {
    if (n == 0 || text[0] != '{')
        return lc_fail(LC_EINVAL, "%s: its header does not begin with '{'", h->path);
    lc_json *root = lc_json_parse(text, n, h->path, 1);
    int result = root ? read_json(h, root) : -1;
    lc_json_free(root);
    return result;
}

int lc_safetensors_read(struct lc_entries *e, int fd, int64_t size, const char *path, int file) {
    char start[64] = {0};
    size_t n = size < (int64_t)sizeof start ? (size_t)size : sizeof start;
    if (read_at(fd, start, n, 0, path) < 0 || name_other_format(path, start, n) < 0) return -1;
    if (size < 8)
        return lc_fail(LC_EINVAL, "%s: it has %" PRId64 " bytes: too short for safetensors", path,
                       size);
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | (unsigned char)start[i];
    if (length > LC_HEADER_LIMIT)
        return lc_fail(LC_EINVAL, "%s: its header would have %" PRIu64 " bytes; at most %d may be",
                       path, length, LC_HEADER_LIMIT);
    if ((int64_t)length > size - 8)
        return lc_fail(LC_EINVAL,
                       "%s: its header of %" PRIu64 " bytes ends behind the file's %" PRId64, path,
                       length, size);
    char *text = lc_alloc((size_t)length + 1);
    if (!text) return -1;
    struct header h = {
        .entries = e, .path = path, .data = 8 + (int64_t)length, .size = size, .file = file};
    int result = read_at(fd, text, (size_t)length, 8, path);
    if (result == 0) result = parse_header(&h, text, (size_t)length);
    lc_free(text);
    return result;
}

void lc_entries_free(struct lc_entries *e) {
    for (size_t i = 0; i < e->count; i++) lc_free(e->list[i].name);
    for (size_t i = 0; i < e->pairs; i++) {
        lc_free(e->metadata[i].key);
        lc_free(e->metadata[i].value);
    }
    lc_free(e->list);
    lc_free(e->metadata);
    *e = (struct lc_entries){0};
}
