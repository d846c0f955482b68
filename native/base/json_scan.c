/* json_scan.c - one fast pass over a large JSON array that finds where its records stand.
 *
 * It checks that the file is one array of objects with a comma between each two and nothing behind
 * it; that brackets close in pairs and nest no deeper than 64; that strings end and hold no control
 * characters; that outside strings stand only bytes which JSON has there; that every record has its
 * key, an integer, and no two have the same. What is within a record otherwise (grammar, escapes,
 * UTF-8, numbers) is checked by the parser, when the record is asked for. */
#define _GNU_SOURCE
#include "base/error.h"
#include "base/file.h"
#include "base/foreign.h"
#include "base/json.h"
#include "base/json_index.h"
#include "base/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PIECE = LC_JSON_PIECE(1 << 20), LIMIT = 256 << 20 };

/* A piece of the file: data[at) is looked at next, data[0] is byte `base` of the file. */
struct window {
    const char *path;
    char *data;
    size_t begin, at, end, room; /* bytes from `begin`, the record at hand, are kept */
    int64_t base;
    int fd;
    bool ended;
};

/* ---- errors ---- */

/* Lines and columns are counted only once something is wrong: then the file is read again. */
static int refuse(const struct window *w, int64_t offset, const char *what) {
    int64_t line = 1, column = 1;
    char *piece = lc_alloc(PIECE);
    if (!piece) return -1;
    for (int64_t at = 0; at < offset;) {
        int64_t want = offset - at < PIECE ? offset - at : PIECE;
        ssize_t got = pread(w->fd, piece, (size_t)want, at);
        if (got <= 0) break;
        at += got;
        for (ssize_t i = 0; i < got; i++) {
            if (piece[i] == '\n') line++, column = 1;
            else if (((unsigned char)piece[i] & 0xC0) != 0x80) column++;
        }
    }
    lc_free(piece);
    return lc_fail(LC_EINVAL, "%s:%" PRId64 ":%" PRId64 ": %s", w->path, line, column, what);
}

static int refuse_here(const struct window *w, const char *what) {
    return refuse(w, w->base + (int64_t)w->at, what);
}

/* ---- bytes ---- */

/* More bytes behind data[end); 1: there are some, 0: the file is at its end. */
static int more(struct window *w) {
    if (w->ended) return 0;
    if (lc_poll("json index") < 0) return -1;
    memmove(w->data, w->data + w->begin, w->end - w->begin);
    w->base += (int64_t)w->begin;
    w->at -= w->begin;
    w->end -= w->begin;
    w->begin = 0;
    if (w->room - w->end < PIECE) {
        if (w->end >= LIMIT)
            return refuse(w, w->base, "the record that begins here is longer than 256 MiB");
        char *data = lc_realloc(w->data, w->room * 2);
        if (!data) return -1;
        w->data = data;
        w->room *= 2;
    }
    ssize_t got;
    do got = read(w->fd, w->data + w->end, w->room - w->end);
    while (got < 0 && errno == EINTR);
    if (got < 0) return lc_fail_errno(w->path, "reading");
    w->end += (size_t)got;
    w->ended = got == 0;
    return got > 0;
}

/* The next byte that is no white space, -1 or, at the end of the file, 0; nothing before it is kept. */
static int peek(struct window *w) {
    for (;;) {
        while (w->at < w->end && lc_json_space(w->data[w->at])) w->at++;
        w->begin = w->at;
        if (w->at < w->end) return (unsigned char)w->data[w->at];
        int got = more(w);
        if (got <= 0) return got;
    }
}

/* ---- the extent of a record ---- */

/* What is to be done at a byte; nothing, at most of them. */
enum { PASS, QUOTE, ESCAPE, OPEN, CLOSE, WRONG };
static unsigned char outside[256], inside[256];

__attribute__((constructor)) static void fill_tables(void) {
    static const char plain[] = " \t\n\r,:-+.0123456789abcdeflnrstuE";
    memset(outside, WRONG, sizeof outside);
    for (const char *p = plain; *p; p++) outside[(unsigned char)*p] = PASS;
    outside['"'] = inside['"'] = QUOTE;
    outside['{'] = outside['['] = OPEN;
    outside['}'] = outside[']'] = CLOSE;
    memset(inside, WRONG, 0x20);
    inside['\\'] = ESCAPE;
}

/* The brackets that are open: a bit each, the innermost last; 1 for an object. */
struct nesting {
    uint64_t objects;
    int depth;
};

static const char *step(struct nesting *n, char c, int what) {
    if (what == OPEN) {
        /* The array of the records is a level, too. */
        if (++n->depth >= LC_JSON_DEPTH) return "lists and objects nest deeper than 64";
        n->objects = n->objects << 1 | (c == '{');
        return NULL;
    }
    if ((n->objects & 1) != (c == '}')) return "this bracket closes one of the other kind";
    n->objects >>= 1;
    n->depth--;
    return NULL;
}

/* w->at stands on the record's '{' and goes behind its '}'. */
static int pass_record(struct window *w) {
    struct nesting open = {0};
    const unsigned char *table = outside;
    bool escaped = false;
    do {
        const unsigned char *p = (const unsigned char *)w->data + w->at;
        const unsigned char *end = (const unsigned char *)w->data + w->end;
        if (escaped && p < end) p++, escaped = false;
        while (p < end) {
            int what = table[*p];
            if (what == PASS) {
                p++;
                continue;
            }
            const char *wrong = what == WRONG && table == inside ? "a control character in a string"
                                : what == WRONG ? "this byte cannot stand outside strings"
                                                : NULL;
            if (what == QUOTE) table = table == inside ? outside : inside;
            else if (what == ESCAPE) escaped = p + 1 == end, p += !escaped;
            else if (!wrong) wrong = step(&open, (char)*p, what);
            if (wrong) {
                w->at = (size_t)(p - (const unsigned char *)w->data);
                return refuse_here(w, wrong);
            }
            p++;
            if (open.depth == 0) {
                w->at = (size_t)(p - (const unsigned char *)w->data);
                return 0;
            }
        }
        w->at = w->end;
        int got = more(w);
        if (got < 0) return -1;
    } while (!w->ended);
    return refuse(w, w->base + (int64_t)w->begin, "the file ends within this record");
}

/* ---- the key of a record: its brackets and strings are in order, the rest may be anything ---- */

static const char *skip_space(const char *p, const char *end) {
    while (p < end && lc_json_space(*p)) p++;
    return p;
}

static const char *skip_value(const char *p, const char *end) {
    struct lc_json_extent e = {0};
    for (; p < end; p++) {
        int how = lc_json_step(&e, *p);
        if (how != 0) return how == 2 ? p + 1 : p;
    }
    return end;
}

/* The value of a member of the object at p, or NULL. */
static const char *member(const char *p, const char *end, const char *name, size_t n) {
    while (p < end && (*p == '{' || *p == ',')) {
        p = skip_space(p + 1, end);
        if (p == end || *p != '"') return NULL;
        const char *key = p + 1;
        p = skip_space(skip_value(p, end), end);
        bool found = (size_t)(end - key) > n && memcmp(key, name, n) == 0 && key[n] == '"';
        if (p == end || *p != ':') return NULL;
        p = skip_space(p + 1, end);
        if (found) return p < end ? p : NULL;
        p = skip_space(skip_value(p, end), end);
    }
    return NULL;
}

/* An integer, also one in quotes. */
static bool integer_at(const char *p, const char *end, int64_t *value) {
    bool quoted = p < end && *p == '"', negative = false;
    if (quoted) p++;
    if (p < end && *p == '-') negative = true, p++;
    const char *first = p;
    int64_t v = 0;
    for (; p < end && *p >= '0' && *p <= '9' && p - first < 16; p++) v = v * 10 + (*p - '0');
    *value = negative ? -v : v;
    if (p == first || p - first == 16 || p == end) return false;
    return quoted ? *p == '"' : lc_json_space(*p) || *p == ',' || *p == '}';
}

/* Follows "regions/image_id": a list on the way stands for its first element. 1: there it is, 0:
 * the list is empty, -1: the record has no such key, which is said. */
static int key_of(const struct lc_json_index *x, const char *p, const char *end, int64_t *key) {
    const char *name = x->keys;
    size_t n;
    for (;; name += n + 1) {
        n = strcspn(name, "/");
        const char *value = member(p, end, name, n);
        if (!value)
            return lc_fail(LC_EINVAL, "%s: record %" PRId64 " has no '%.*s'", x->path, x->records,
                           (int)n, name);
        p = value;
        if (!name[n]) break;
        if (*p != '[')
            return lc_fail(LC_EINVAL, "%s: record %" PRId64 ": its '%.*s' is no list", x->path,
                           x->records, (int)n, name);
        p = skip_space(p + 1, end);
        if (p < end && *p == ']') return 0;
    }
    if (integer_at(p, end, key)) return 1;
    return lc_fail(LC_EINVAL, "%s: record %" PRId64 ": its '%s' is no whole number", x->path,
                   x->records, name);
}

/* ---- building ---- */

static int add(struct lc_json_index *x, struct entry e) {
    if ((size_t)x->count == x->room) {
        size_t room = x->room ? 2 * x->room : 1024;
        struct entry *entries = lc_realloc(x->entries, room * sizeof *entries);
        if (!entries) return -1;
        x->entries = entries;
        x->room = room;
    }
    x->entries[x->count++] = e;
    return 0;
}

static int note_record(struct lc_json_index *x, const struct window *w) {
    int64_t key = 0;
    int there = key_of(x, w->data + w->begin, w->data + w->at, &key);
    if (there == 0) x->empty++;
    if (there <= 0) return there;
    return add(x, (struct entry){key, x->records, w->base + (int64_t)w->begin,
                                 (int64_t)(w->at - w->begin)});
}

static int entry_order(const void *p, const void *q) {
    const struct entry *a = p, *b = q;
    if (a->key != b->key) return a->key < b->key ? -1 : 1;
    return a->number < b->number ? -1 : 1;
}

static int sort(struct lc_json_index *x) {
    if (x->count) qsort(x->entries, (size_t)x->count, sizeof *x->entries, entry_order);
    const char *slash = strrchr(x->keys, '/'), *name = slash ? slash + 1 : x->keys;
    for (int64_t i = 1; i < x->count; i++) {
        const struct entry *a = x->entries + i - 1, *b = x->entries + i;
        if (a->key == b->key)
            return lc_fail(LC_EINVAL,
                           "%s: record %" PRId64 ": its '%s' is that of record %" PRId64
                           ", too: %" PRId64,
                           x->path, b->number, name, a->number, b->key);
    }
    return 0;
}

static int skip_mark(struct window *w) {
    int got;
    do got = more(w);
    while (got > 0 && w->end < 3);
    if (got >= 0 && w->end >= 3 && memcmp(w->data, "\xEF\xBB\xBF", 3) == 0) w->begin = w->at = 3;
    return got < 0 ? -1 : 0;
}

/* peek, without taking the end of the file or a NUL for a byte: both are refused. */
static int expect(struct window *w, const char *what) {
    int c = peek(w);
    if (c == 0) return refuse_here(w, what);
    return c;
}

static int scan_file(struct lc_json_index *x, struct window *w) {
    if (skip_mark(w) < 0) return -1;
    int c = expect(w, "the '[' of a list of records is expected here");
    if (c > 0 && c != '[' && lc_refuse_foreign(w->path, w->data, w->end, "JSON") < 0) return -1;
    if (c > 0 && c != '[') return refuse_here(w, "the '[' of a list of records is expected here");
    if (c < 0) return -1;
    w->at++;
    c = expect(w, "the file ends within its records");
    for (bool first = true; c > 0 && (c != ']' || !first); first = false) {
        if (c != '{') return refuse_here(w, "the '{' of a record is expected here");
        if (pass_record(w) < 0) return -1;
        x->records++;
        if (note_record(x, w) < 0) return -1;
        c = expect(w, "the file ends within its records");
        if (c == ']' || c < 0) break;
        if (c != ',') return refuse_here(w, "',' or ']' is expected here");
        w->at++;
        c = expect(w, "the file ends within its records");
    }
    if (c < 0) return -1;
    w->at++;
    if (peek(w) < 0) return -1;
    return w->at < w->end ? refuse_here(w, "nothing may follow the end of the records") : sort(x);
}

int lc_json_scan(struct lc_json_index *x) {
    struct window w = {
        .path = x->path, .fd = x->fd, .room = 2 * PIECE, .data = lc_alloc(2 * PIECE)};
    int result = w.data ? scan_file(x, &w) : -1;
    lc_free(w.data);
    return result;
}
