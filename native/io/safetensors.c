/* safetensors.c - reads a header: 8 bytes of length, JSON, then the tensors' bytes end to end. What
 * the header says is checked against the file before any of it is believed.
 *
 * A hostile header may be 100 MB of tiny values, whose tree would take gigabytes. So its members are
 * parsed one at a time, and their names stay where they stood, decoded in place. */
#define _GNU_SOURCE
#include "io/safetensors.h"

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "io/format.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---- one tensor of the header ---- */

struct header {
    struct lc_entries *entries;
    const char *path;
    int64_t data, size; /* where the tensors' bytes begin; of the file */
    int file;
    bool metadata; /* was there */
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
    e->span = e->bytes;
    return 0;
}

/* As many entries as a header of n bytes can have. */
static int reserve_entries(struct lc_entries *all, size_t n) {
    enum { SHORTEST = sizeof "\"\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,0]}" - 1 };
    return lc_entries_reserve(all, n / SHORTEST + 1);
}

static int read_entry(struct header *h, const lc_json *v, const char *name) {
    lc_assert(h->entries->count < h->entries->room);
    struct lc_entry *e = &h->entries->list[h->entries->count];
    *e = (struct lc_entry){.name = name, .file = h->file};
    if (lc_json_type(v) != LC_JSON_OBJECT) return refuse(h, name, "it is no object");
    const lc_json *dtype = lc_json_get(v, "dtype");
    size_t n;
    const char *word = dtype ? lc_json_string(dtype, &n) : NULL;
    if (!word || strlen(word) != n) return refuse(h, name, "it has no dtype");
    int known = lc_word_find(word);
    if (known < 0)
        return lc_fail(LC_EINVAL, "%s: %.200s: there is no dtype '%.40s'", h->path, name, word);
    e->dtype = lc_word_text(known);
    if (size_of(h, e, lc_json_get(v, "shape"), lc_word_bits(known)) < 0) return -1;
    if (read_range(h, e, lc_json_get(v, "data_offsets")) < 0) return -1;
    h->entries->count++;
    return 0;
}

/* ---- members, one at a time ---- */

struct piece { /* of the header's text */
    char *at, *end;
    int64_t line, column;
};

typedef int member_reader(struct header *h, char *key, struct piece value);

static int wanted(const struct header *h, const struct piece *p, const char *what) {
    return lc_fail(LC_EINVAL, "%s:%" PRId64 ":%" PRId64 ": %s is expected here", h->path, p->line,
                   p->column, what);
}

static void advance(struct piece *p, const char *to) {
    for (; p->at < to; p->at++) {
        if (*p->at == '\n') p->line++, p->column = 1;
        else if (((unsigned char)*p->at & 0xC0) != 0x80) p->column++;
    }
}

/* Behind white space; the byte that is there, or 0. */
static int next_byte(struct piece *p) {
    char *to = p->at;
    while (to < p->end && lc_json_space(*to)) to++;
    advance(p, to);
    return p->at < p->end ? (unsigned char)*p->at : 0;
}

/* The value that p begins with, which p goes behind; its text is not yet looked into. */
static int take_value(const struct header *h, struct piece *p, struct piece *value) {
    struct lc_json_extent e = {0};
    char *to = p->at;
    for (int how = 0; to < p->end && how == 0; to += how != 1) {
        how = lc_json_step(&e, *to);
        if (how < 0)
            return lc_fail(LC_EINVAL, "%s: its header nests deeper than %d", h->path,
                           LC_JSON_DEPTH);
    }
    *value = *p;
    value->end = to;
    advance(p, to);
    return 0;
}

static lc_json *parse(const struct header *h, struct piece p) {
    return lc_json_parse_at(p.at, (size_t)(p.end - p.at), h->path, 1, p.line, p.column);
}

/* The text of a string, decoded where it stands: the quotes leave room for its end. */
static char *decode(const struct header *h, struct piece p, const char *what) {
    lc_json *v = parse(h, p);
    if (!v) return NULL;
    size_t n;
    const char *text = lc_json_string(v, &n);
    if (text && strlen(text) == n) memcpy(p.at, text, n + 1);
    else wanted(h, &p, what);
    bool good = text && strlen(text) == n;
    lc_json_free(v);
    return good ? p.at : NULL;
}

/* Calls read for every member of the object that p holds. */
static int read_members(struct header *h, struct piece *p, member_reader *read) {
    struct piece key, value;
    if (next_byte(p) != '{') return wanted(h, p, "'{'");
    advance(p, p->at + 1);
    for (bool first = true;; first = false) {
        int c = next_byte(p);
        if (c == '}') break;
        if (!first) {
            if (c != ',') return wanted(h, p, "',' or '}'");
            advance(p, p->at + 1);
            c = next_byte(p);
        }
        if (c != '"') return wanted(h, p, "a key in double quotes");
        if (take_value(h, p, &key) < 0) return -1;
        if (next_byte(p) != ':') return wanted(h, p, "':'");
        advance(p, p->at + 1);
        next_byte(p);
        if (take_value(h, p, &value) < 0) return -1;
        char *name = decode(h, key, "a name without a zero byte");
        if (!name || read(h, name, value) < 0) return -1;
    }
    advance(p, p->at + 1);
    next_byte(p);
    return p->at == p->end ? 0 : wanted(h, p, "the end of the header");
}

static int read_metadata_pair(struct header *h, char *key, struct piece value) {
    enum { MOST = 1 << 16 };
    struct lc_entries *all = h->entries;
    if (all->pairs >= MOST) return refuse(h, "__metadata__", "it holds more than 65536 texts");
    if (*value.at != '"') return refuse(h, "__metadata__", "it holds what is no text");
    char *text = decode(h, value, "a text without a zero byte");
    if (!text) return -1;
    if (all->pairs == all->pair_room) {
        size_t room = all->pair_room ? 2 * all->pair_room : 16;
        void *list = lc_realloc(all->metadata, room * sizeof *all->metadata);
        if (!list) return -1;
        all->metadata = list;
        all->pair_room = room;
    }
    all->metadata[all->pairs++] = (struct lc_text_pair){key, text};
    return 0;
}

static int pair_order(const void *a, const void *b) {
    return strcmp(((const struct lc_text_pair *)a)->key, ((const struct lc_text_pair *)b)->key);
}

static int read_metadata(struct header *h, struct piece value) {
    size_t first = h->entries->pairs;
    if (h->metadata) return refuse(h, "__metadata__", "this key stands twice");
    h->metadata = true;
    if (*value.at != '{') return refuse(h, "__metadata__", "it is no object");
    if (read_members(h, &value, read_metadata_pair) < 0) return -1;
    size_t n = h->entries->pairs - first;
    if (n == 0) return 0;
    struct lc_text_pair *list = h->entries->metadata + first;
    if (n > 1) qsort(list, n, sizeof *list, pair_order);
    for (size_t i = 1; i < n; i++)
        if (pair_order(list + i - 1, list + i) == 0)
            return refuse(h, list[i].key, "this key of __metadata__ stands twice");
    return 0;
}

static int read_member(struct header *h, char *key, struct piece value) {
    enum { LONGEST = 1 << 16 };
    if (!strcmp(key, "__metadata__")) return read_metadata(h, value);
    if (value.end - value.at > LONGEST)
        return refuse(h, key, "its entry is longer than that of any tensor");
    lc_json *v = parse(h, value);
    int result = v ? read_entry(h, v, key) : -1;
    lc_json_free(v);
    return result;
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

static int parse_header(struct header *h, char *text, size_t n) {
    size_t first = h->entries->count;
    struct piece whole = {text, text + n, 1, 1};
    if (n == 0 || text[0] != '{')
        return lc_fail(LC_EINVAL, "%s: its header does not begin with '{'", h->path);
    if (reserve_entries(h->entries, n) < 0 || read_members(h, &whole, read_member) < 0) return -1;
    if (lc_entries_check_names(h->entries, first, h->path) < 0) return -1;
    return check_contiguous(h, first);
}

int lc_safetensors_read(struct lc_entries *e, int fd, int64_t size, const char *path, int file) {
    char start[8];
    if (size < 8)
        return lc_fail(LC_EINVAL, "%s: it has %" PRId64 " bytes: too short for safetensors", path,
                       size);
    if (lc_read_at(fd, start, sizeof start, 0, path) < 0) return -1;
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | (unsigned char)start[i];
    if (length > LC_HEADER_LIMIT)
        return lc_fail(LC_EINVAL, "%s: its header would have %" PRIu64 " bytes; at most %d may be",
                       path, length, LC_HEADER_LIMIT);
    if ((int64_t)length > size - 8)
        return lc_fail(LC_EINVAL,
                       "%s: its header of %" PRIu64 " bytes ends behind the file's %" PRId64, path,
                       length, size);
    char *text = lc_entries_text(e, (size_t)length);
    if (!text) return -1;
    struct header h = {
        .entries = e, .path = path, .data = 8 + (int64_t)length, .size = size, .file = file};
    if (lc_read_at(fd, text, (size_t)length, 8, path) < 0) return -1;
    return parse_header(&h, text, (size_t)length);
}
