/* json_reader.c - one record at a time: the elements of an array, the members of an object, JSON
 * lines, values one after another, or the elements of a list that is a member of the file's object.
 * Only the record at hand is in memory. */
#define _GNU_SOURCE
#include "base/json.h"

#include "base/error.h"
#include "base/file.h"
#include "base/foreign.h"
#include "base/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { PIECE = LC_JSON_PIECE(1 << 16), LIMIT = 256 << 20 };
enum layout { VALUES, ARRAY, OBJECT };

struct lc_json_reader {
    char *path, *data, *key;
    size_t at, end, room, key_length;  /* data[at .. end) is read and not yet used */
    int64_t line, column, record_line; /* of data[at]; of the last record */
    int fd;
    enum layout layout;
    bool finished, started, ended; /* ended: the file has no more bytes */
    bool within;                   /* a member's list: what follows it is not looked at */
};

int lc_json_step(struct lc_json_extent *e, char c) {
    if (e->in_string) {
        if (e->escaped) e->escaped = false;
        else if (c == '\\') e->escaped = true;
        else if (c == '"') {
            e->in_string = false;
            return e->depth == 0 ? 2 : 0;
        }
        return 0;
    }
    if (e->scalar) return lc_json_space(c) || strchr(",]}[{\":", c) ? 1 : 0;
    switch (c) {
    case '"': e->in_string = true; return 0;
    case '[':
    case '{': return ++e->depth > LC_JSON_DEPTH ? -1 : 0;
    case ']':
    case '}': return --e->depth <= 0 ? 2 : 0;
    default: e->scalar = e->depth == 0; return 0;
    }
}

/* ---- bytes ---- */

static int refuse(lc_json_reader *r, const char *what) {
    r->finished = true;
    return lc_fail(LC_EINVAL, "%s:%" PRId64 ":%" PRId64 ": %s", r->path, r->line, r->column, what);
}

/* More bytes behind data[end); 1: there are some, 0: the file is at its end. */
static int more(lc_json_reader *r) {
    if (r->ended) return 0;
    if (r->at > 0) {
        memmove(r->data, r->data + r->at, r->end - r->at);
        r->end -= r->at;
        r->at = 0;
    }
    if (r->room - r->end < PIECE) {
        if (r->end >= LIMIT) return refuse(r, "the record that begins here is longer than 256 MiB");
        size_t room = r->room * 2;
        char *data = lc_realloc(r->data, room);
        if (!data) return -1;
        r->data = data;
        r->room = room;
    }
    ssize_t got;
    do got = read(r->fd, r->data + r->end, r->room - r->end);
    while (got < 0 && errno == EINTR);
    if (got < 0) return lc_fail_errno(r->path, "reading");
    r->end += (size_t)got;
    r->ended = got == 0;
    return got > 0;
}

static void advance(lc_json_reader *r, size_t n) {
    for (const char *p = r->data + r->at, *end = p + n; p < end; p++) {
        if (*p == '\n') r->line++, r->column = 1;
        else if (((unsigned char)*p & 0xC0) != 0x80) r->column++;
    }
    r->at += n;
}

/* The next byte that is no white space, not yet used; 0 at the end (and for a NUL), -1. */
static int peek(lc_json_reader *r) {
    for (;;) {
        while (r->at < r->end) {
            if (!lc_json_space(r->data[r->at])) return (unsigned char)r->data[r->at];
            advance(r, 1);
        }
        int got = more(r);
        if (got <= 0) return got;
    }
}

/* The length of the value at data[at), which is then wholly there; 0 when the file ends first. */
static int64_t value_length(lc_json_reader *r) {
    struct lc_json_extent e = {0};
    for (size_t n = 0;; n++) {
        if (r->at + n == r->end) {
            int got = more(r);
            if (got < 0) return -1;
            if (got == 0) return (int64_t)n;
        }
        int how = lc_json_step(&e, r->data[r->at + n]);
        if (how < 0) return refuse(r, "lists and objects nest deeper than 64");
        if (how > 0) return (int64_t)(how == 2 ? n + 1 : n ? n : 1);
    }
}

/* ---- opening ---- */

/* Whether the first value, an object, is all there is: then its members are the records. */
static int single(lc_json_reader *r) {
    const char *suffix = strrchr(r->path, '.');
    if (suffix && (!strcasecmp(suffix, ".jsonl") || !strcasecmp(suffix, ".ndjson"))) return 0;
    struct lc_json_extent e = {0};
    bool whole = false;
    int result = 1;
    char *piece = lc_alloc(PIECE);
    if (!piece) return -1;
    for (int64_t from = lseek(r->fd, 0, SEEK_CUR) - (int64_t)(r->end - r->at); result == 1;) {
        ssize_t got = pread(r->fd, piece, PIECE, from);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) result = lc_fail_errno(r->path, "reading");
        if (got <= 0) break;
        from += got;
        for (ssize_t i = 0; i < got && result == 1; i++) {
            if (!whole) {
                int how = lc_json_step(&e, piece[i]);
                if (how < 0) result = refuse(r, "lists and objects nest deeper than 64");
                whole = how > 0;
            } else if (!lc_json_space(piece[i])) result = 0;
        }
    }
    lc_free(piece);
    return result;
}

static int begin(lc_json_reader *r) {
    int got;
    do got = more(r);
    while (got > 0 && r->end < 3);
    if (got < 0) return -1;
    if (lc_refuse_foreign(r->path, r->data, r->end, "JSON") < 0) return -1;
    if (r->end >= 3 && memcmp(r->data, "\xEF\xBB\xBF", 3) == 0) r->at = 3;
    int c = peek(r);
    if (c == '{') {
        int alone = r->within ? 1 : single(r);
        if (alone < 0) return -1;
        if (alone) r->layout = OBJECT;
    } else if (c == '[') r->layout = ARRAY;
    if (r->layout != VALUES) advance(r, 1);
    return c < 0 ? -1 : 0;
}

static lc_json_reader *open_reader(const char *path, bool within) {
    lc_json_reader *r = lc_alloc_zero(sizeof *r);
    if (!r) return NULL;
    *r = (lc_json_reader){.fd = -1, .room = 2 * PIECE, .line = 1, .column = 1, .within = within};
    r->path = lc_copy_text(path);
    r->data = lc_alloc(r->room);
    if (r->path && r->data && (r->fd = lc_open_file(path)) >= 0 && begin(r) == 0) return r;
    lc_json_close(r);
    return NULL;
}

lc_json_reader *lc_json_open(const char *path) { return open_reader(path, false); }

void lc_json_close(lc_json_reader *r) {
    if (!r) return;
    if (r->fd >= 0) close(r->fd);
    lc_free(r->path);
    lc_free(r->data);
    lc_free(r->key);
    lc_free(r);
}

/* ---- records ---- */

static lc_json *parse_value(lc_json_reader *r) {
    r->record_line = r->line;
    int64_t n = value_length(r);
    if (n < 0) return NULL;
    lc_json *v = lc_json_parse_at(r->data + r->at, (size_t)n, r->path, 0, r->line, r->column);
    if (v) advance(r, (size_t)n);
    return v;
}

static int read_key(lc_json_reader *r) {
    int c = peek(r);
    if (c < 0) return -1;
    if (c != '"') return refuse(r, "a key in double quotes is expected here");
    int64_t line = r->line;
    lc_json *key = parse_value(r);
    if (!key) return -1;
    size_t n;
    const char *text = lc_json_string(key, &n);
    lc_free(r->key);
    r->key = lc_alloc(n + 1);
    if (r->key) memcpy(r->key, text, n + 1);
    r->key_length = n;
    lc_json_free(key);
    if (!r->key || (c = peek(r)) < 0) return -1;
    if (c != ':') return refuse(r, "':' is expected here");
    advance(r, 1);
    c = peek(r);
    r->record_line = line;
    return c < 0 ? -1 : 0;
}

/* Goes to where the next record begins; 0 when there is none. */
static int next_record(lc_json_reader *r) {
    int c = peek(r), closing = r->layout == ARRAY ? ']' : '}';
    if (c < 0) return -1;
    if (r->layout == VALUES) return r->at < r->end;
    if (c == closing) {
        advance(r, 1);
        if (r->within && r->layout == ARRAY) return 0;
        c = peek(r);
        if (c < 0) return -1;
        return r->at < r->end ? refuse(r, "nothing may follow the end of the records") : 0;
    }
    if (r->started) {
        if (c != ',')
            return refuse(r, c ? "',' or the end of the records is expected here"
                               : "the file ends within its records");
        advance(r, 1);
        if (peek(r) < 0) return -1;
    } else if (r->at == r->end) return refuse(r, "the file ends within its records");
    if (r->layout == OBJECT && read_key(r) < 0) return -1;
    return 1;
}

/* Passes over the value that begins here, however long it is. */
static int skip_value(lc_json_reader *r) {
    struct lc_json_extent e = {0};
    for (bool begun = false;; begun = true) {
        if (r->at == r->end) {
            int got = more(r);
            if (got < 0) return -1;
            if (got == 0) return 0;
        }
        int how = lc_json_step(&e, r->data[r->at]);
        if (how < 0) return refuse(r, "lists and objects nest deeper than 64");
        if (how != 1 || !begun) advance(r, 1);
        if (how > 0) return 0;
    }
}

/* Goes to the elements of the list with this key in the file's object. */
static int enter(lc_json_reader *r, const char *member) {
    if (r->layout != OBJECT) return refuse(r, "an object is expected here");
    for (;; r->started = true) {
        int there = next_record(r);
        if (there < 0) return -1;
        if (there == 0)
            return lc_fail(LC_EINVAL, "%s: there is no list '%s' in it", r->path, member);
        if (r->key_length == strlen(member) && memcmp(r->key, member, r->key_length) == 0) break;
        if (skip_value(r) < 0) return -1;
    }
    if (peek(r) != '[') return lc_fail(LC_EINVAL, "%s: its '%s' is no list", r->path, member);
    advance(r, 1);
    r->layout = ARRAY;
    r->started = false;
    return 0;
}

lc_json_reader *lc_json_open_list(const char *path, const char *member) {
    lc_json_reader *r = open_reader(path, true);
    if (!r || enter(r, member) == 0) return r;
    lc_json_close(r);
    return NULL;
}

lc_json *lc_json_read(lc_json_reader *r, int *done) {
    *done = 0;
    int there = r->finished ? 0 : next_record(r);
    lc_json *v = NULL;
    if (there > 0) {
        int64_t key_line = r->record_line;
        v = parse_value(r);
        if (r->layout == OBJECT) r->record_line = key_line;
    }
    r->started = true;
    if (!v) r->finished = true;
    *done = there == 0;
    return v;
}

const char *lc_json_read_key(lc_json_reader *r, size_t *n) {
    *n = r->layout == OBJECT ? r->key_length : 0;
    return r->layout == OBJECT ? r->key : NULL;
}

int64_t lc_json_read_line(lc_json_reader *r) { return r->record_line; }
