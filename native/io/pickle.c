/* pickle.c - a machine for pickle's instructions, protocols 0 to 5, that executes nothing.
 *
 * A pickle is a program: GLOBAL names any function of Python, REDUCE calls it. Here a name must be in
 * the caller's list, else the file is refused with it, and a call is kept as a value, not made. Every
 * instruction takes at least a byte and makes at most one value, so the memory follows the pickle's
 * length; what is made twice is counted. Values refer to each other by number, and may do so in
 * circles: nothing here walks along them. */
#include "io/pickle.h"

#include "base/error.h"
#include "base/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 1 << 20, MOST_MARKS = 256 }; /* values, on the stack, remembered, copied */

struct numbers { /* a list of values' numbers, or of heights */
    uint32_t *list;
    size_t count, room;
};

struct machine {
    struct lc_pickle *out;
    const char *path, *start, *at, *end;
    const struct lc_pickle_name *names;
    struct numbers stack, marks, memo; /* memo: number + 1, or 0 */
    size_t remembered, copied;
    bool stopped;
};

static int refuse(const struct machine *m, const char *what) {
    lc_fail(LC_EINVAL, "%s: its pickle at byte %td: %s", m->path, m->at - m->start, what);
    return -1; /* said here, so that the compiler sees it */
}

/* ---- lists ---- */

static int push(struct numbers *n, uint32_t value) {
    if (n->count == n->room) {
        size_t room = n->room ? 2 * n->room : 64;
        uint32_t *list = lc_realloc(n->list, room * sizeof *list);
        if (!list) return -1;
        n->list = list;
        n->room = room;
    }
    n->list[n->count++] = value;
    return 0;
}

static int push_value(struct machine *m, uint32_t value) {
    if (m->stack.count >= MOST) return refuse(m, "its stack holds more than a million values");
    return push(&m->stack, value);
}

/* Where the open mark begins, or 0. */
static size_t ground(const struct machine *m) {
    return m->marks.count ? m->marks.list[m->marks.count - 1] : 0;
}

static int pop(struct machine *m, uint32_t *value) {
    if (m->stack.count <= ground(m)) return refuse(m, "a value is missing on the stack");
    *value = m->stack.list[--m->stack.count];
    return 0;
}

/* The value that stays on top. */
static int top(struct machine *m, uint32_t *value) {
    if (m->stack.count <= ground(m)) return refuse(m, "a value is missing on the stack");
    *value = m->stack.list[m->stack.count - 1];
    return 0;
}

/* Takes what stands above the mark; it remains readable until the next push. */
static int pop_mark(struct machine *m, const uint32_t **items, size_t *n) {
    if (!m->marks.count) return refuse(m, "a mark is missing on the stack");
    size_t from = m->marks.list[--m->marks.count];
    *n = m->stack.count - from;
    *items = m->stack.list ? m->stack.list + from : NULL;
    m->stack.count = from;
    return 0;
}

/* ---- values ---- */

static struct lc_pickle_value *value_at(struct machine *m, uint32_t i) {
    return &m->out->values[i];
}

static int new_value(struct machine *m, struct lc_pickle_value v, uint32_t *number) {
    struct lc_pickle *p = m->out;
    if (p->count >= MOST) return refuse(m, "it makes more than a million values");
    if (p->count == p->room) {
        size_t room = p->room ? 2 * p->room : 256;
        void *list = lc_realloc(p->values, room * sizeof *p->values);
        if (!list) return -1;
        p->values = list;
        p->room = room;
    }
    *number = (uint32_t)p->count;
    p->values[p->count++] = v;
    return 0;
}

static int make(struct machine *m, struct lc_pickle_value v) {
    uint32_t number;
    return new_value(m, v, &number) < 0 ? -1 : push_value(m, number);
}

static int make_integer(struct machine *m, int kind, int64_t integer) {
    return make(m, (struct lc_pickle_value){.kind = (uint8_t)kind, .integer = integer});
}

static int make_text(struct machine *m, int kind, const char *text, size_t n) {
    return make(
        m, (struct lc_pickle_value){.kind = (uint8_t)kind, .text = text, .count = (uint32_t)n});
}

static int append(struct machine *m, uint32_t container, const uint32_t *items, size_t n) {
    struct lc_pickle_value *v = value_at(m, container);
    if (n > MOST || v->count + n > MOST)
        return refuse(m, "a list holds more than a million values");
    if (v->count + n > v->room) {
        size_t room = v->room ? 2 * (size_t)v->room : 4;
        if (room < v->count + n) room = v->count + n;
        uint32_t *list = lc_realloc(v->items, room * sizeof *list);
        if (!list) return -1;
        v->items = list;
        v->room = (uint32_t)room;
    }
    if (n) memcpy(v->items + v->count, items, n * sizeof *items);
    v->count += (uint32_t)n;
    return 0;
}

static int make_container(struct machine *m, int kind, const uint32_t *items, size_t n) {
    uint32_t number;
    struct lc_pickle_value v = {.kind = (uint8_t)kind};
    if (new_value(m, v, &number) < 0 || append(m, number, items, n) < 0) return -1;
    return push_value(m, number);
}

/* ---- bytes of the pickle ---- */

static int take(struct machine *m, uint64_t n, const char **text) {
    if (n > (uint64_t)(m->end - m->at)) return refuse(m, "the file ends within it");
    *text = m->at;
    m->at += n;
    return 0;
}

static int take_number(struct machine *m, int bytes, uint64_t *number) {
    const char *text;
    if (take(m, (uint64_t)bytes, &text) < 0) return -1;
    *number = 0;
    for (int i = bytes - 1; i >= 0; i--) *number = *number << 8 | (unsigned char)text[i];
    return 0;
}

/* Up to the end of the line, which is left out. */
static int take_line(struct machine *m, const char **text, size_t *n) {
    const char *end = m->at < m->end ? memchr(m->at, '\n', (size_t)(m->end - m->at)) : NULL;
    if (!end) return refuse(m, "the file ends within a line of it");
    *text = m->at;
    *n = (size_t)(end - m->at);
    m->at = end + 1;
    return 0;
}

static int take_text(struct machine *m, int kind, int bytes) {
    uint64_t n;
    const char *text;
    if (take_number(m, bytes, &n) < 0 || take(m, n, &text) < 0) return -1;
    return make_text(m, kind, text, (size_t)n);
}

/* A line of digits with a sign; one that has more than 63 bits is no failure. */
static int take_decimal(struct machine *m, bool *fits, int64_t *number) {
    const char *text;
    size_t n;
    if (take_line(m, &text, &n) < 0) return -1;
    if (n > 0 && text[n - 1] == 'L') n--;
    size_t i = n > 0 && (text[0] == '-' || text[0] == '+');
    if (i == n) return refuse(m, "a number without digits");
    *fits = true;
    *number = 0;
    for (; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') return refuse(m, "a number with what is no digit");
        *fits = *fits && !__builtin_mul_overflow(*number, 10, number) &&
                !__builtin_add_overflow(*number, text[i] - '0', number);
    }
    if (*fits && text[0] == '-') *number = -*number;
    return 0;
}

static int do_decimal(struct machine *m, bool boolean) {
    bool fits;
    int64_t number;
    const char *line = m->at;
    if (take_decimal(m, &fits, &number) < 0) return -1;
    if (!fits) return make_text(m, LC_PICKLE_LONG, line, 0);
    /* Protocol 0 writes False and True as 00 and 01. */
    if (boolean && m->at - line == 3 && line[0] == '0')
        return make_integer(m, LC_PICKLE_BOOL, number != 0);
    return make_integer(m, LC_PICKLE_INT, number);
}

/* An integer of n bytes, little endian, signed. */
static int do_long(struct machine *m, int length_bytes) {
    uint64_t n, number = 0;
    const char *text;
    if (take_number(m, length_bytes, &n) < 0 || take(m, n, &text) < 0) return -1;
    if (n > 8) return make_text(m, LC_PICKLE_LONG, text, (size_t)n);
    if (n > 0 && ((unsigned char)text[n - 1] & 0x80)) number = UINT64_MAX;
    for (size_t i = (size_t)n; i-- > 0;) number = number << 8 | (unsigned char)text[i];
    return make_integer(m, LC_PICKLE_INT, (int64_t)number);
}

static int do_small_integer(struct machine *m, int bytes) {
    uint64_t number;
    if (take_number(m, bytes, &number) < 0) return -1;
    return make_integer(m, LC_PICKLE_INT, bytes == 4 ? (int32_t)(uint32_t)number : (int64_t)number);
}

/* Text of a line: in quotes for STRING, plain for UNICODE. Escapes stay as they are: no name has any. */
static int do_line_text(struct machine *m, bool quoted) {
    const char *text;
    size_t n;
    if (take_line(m, &text, &n) < 0) return -1;
    if (quoted) {
        if (n < 2 || (text[0] != '\'' && text[0] != '"') || text[n - 1] != text[0])
            return refuse(m, "a string without its quotes");
        text++, n -= 2;
    }
    return make_text(m, LC_PICKLE_TEXT, text, n);
}

static int do_float(struct machine *m, bool binary) {
    const char *text = NULL;
    size_t n = 0;
    if ((binary ? take(m, 8, &text) : take_line(m, &text, &n)) < 0) return -1;
    return make_integer(m, LC_PICKLE_FLOAT, 0);
}

/* ---- the memo ---- */

static int memo_put(struct machine *m, uint64_t place) {
    uint32_t value;
    if (top(m, &value) < 0) return -1;
    if (place >= MOST) return refuse(m, "it remembers at a place beyond a million");
    while (m->memo.count <= place)
        if (push(&m->memo, 0) < 0) return -1;
    if (!m->memo.list[place]) m->remembered++;
    m->memo.list[place] = value + 1;
    return 0;
}

static int memo_get(struct machine *m, uint64_t place) {
    if (place >= m->memo.count || !m->memo.list[place])
        return refuse(m, "it asks for what was not remembered");
    return push_value(m, m->memo.list[place] - 1);
}

static int memo_line(struct machine *m, int (*act)(struct machine *m, uint64_t place)) {
    bool fits;
    int64_t place;
    if (take_decimal(m, &fits, &place) < 0) return -1;
    return !fits || place < 0 ? refuse(m, "a place that is none") : act(m, (uint64_t)place);
}

static int memo_binary(struct machine *m, int bytes,
                       int (*act)(struct machine *m, uint64_t place)) {
    uint64_t place;
    return take_number(m, bytes, &place) < 0 ? -1 : act(m, place);
}

/* ---- containers ---- */

static int need(struct machine *m, uint32_t value, int kind, const char *what) {
    return value_at(m, value)->kind == kind ? 0 : refuse(m, what);
}

static int do_append(struct machine *m) {
    uint32_t item, list;
    if (pop(m, &item) < 0 || top(m, &list) < 0) return -1;
    if (need(m, list, LC_PICKLE_LIST, "it appends to what is no list") < 0) return -1;
    return append(m, list, &item, 1);
}

static int do_extend(struct machine *m, int kind, const char *what) {
    const uint32_t *items;
    size_t n;
    uint32_t container;
    if (pop_mark(m, &items, &n) < 0 || top(m, &container) < 0) return -1;
    if (need(m, container, kind, what) < 0) return -1;
    if (kind == LC_PICKLE_DICT && n % 2) return refuse(m, "a key without its value");
    return append(m, container, items, n);
}

static int do_set_item(struct machine *m) {
    uint32_t pair[2], dict;
    if (pop(m, &pair[1]) < 0 || pop(m, &pair[0]) < 0 || top(m, &dict) < 0) return -1;
    if (need(m, dict, LC_PICKLE_DICT, "it sets an item of what is no dict") < 0) return -1;
    return append(m, dict, pair, 2);
}

static int do_container(struct machine *m, int kind) {
    const uint32_t *items;
    size_t n;
    if (pop_mark(m, &items, &n) < 0) return -1;
    if (kind == LC_PICKLE_DICT && n % 2) return refuse(m, "a key without its value");
    return make_container(m, kind, items, n);
}

static int do_small_tuple(struct machine *m, int n) {
    uint32_t items[3];
    for (int i = n - 1; i >= 0; i--)
        if (pop(m, &items[i]) < 0) return -1;
    return make_container(m, LC_PICKLE_TUPLE, items, (size_t)n);
}

/* ---- globals and calls ---- */

static bool equal(const char *text, size_t n, const char *word) {
    return strlen(word) == n && !memcmp(text, word, n);
}

void lc_pickle_show(char *to, size_t room, const char *text, size_t n) {
    size_t i = 0;
    for (; i < n && i + 1 < room; i++) to[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    to[i] = 0;
}

static int make_name(struct machine *m, const char *module, size_t n, const char *name, size_t k) {
    for (int16_t i = 0; m->names[i].module; i++)
        if (equal(module, n, m->names[i].module) && equal(name, k, m->names[i].name))
            return make(m, (struct lc_pickle_value){.kind = LC_PICKLE_NAME, .name = i});
    char left[80], right[80];
    lc_pickle_show(left, sizeof left, module, n);
    lc_pickle_show(right, sizeof right, name, k);
    return lc_fail(
        LC_EINVAL,
        "%s: its pickle asks for %s.%s, which no tensor needs; nothing of it was run (a file of "
        "trusted origin: save its state_dict() alone)",
        m->path, left, right);
}

static int do_global(struct machine *m) {
    const char *module, *name;
    size_t n, k;
    if (take_line(m, &module, &n) < 0 || take_line(m, &name, &k) < 0) return -1;
    return make_name(m, module, n, name, k);
}

static int do_stack_global(struct machine *m) {
    uint32_t name, module;
    if (pop(m, &name) < 0 || pop(m, &module) < 0) return -1;
    const struct lc_pickle_value *a = value_at(m, module), *b = value_at(m, name);
    if (a->kind != LC_PICKLE_TEXT || b->kind != LC_PICKLE_TEXT)
        return refuse(m, "a global whose name is no text");
    return make_name(m, a->text, a->count, b->text, b->count);
}

/* INST: the class is named here and its arguments stand above the mark. */
static int do_instance(struct machine *m) {
    const uint32_t *items;
    size_t n;
    if (do_global(m) < 0 || pop_mark(m, &items, &n) < 0) return -1;
    return refuse(m, "an object of protocol 0, which no tensor is");
}

/* What dict(pairs) and dict(dict) hold; a first argument that is a class makes an empty one. */
static int fill_dict(struct machine *m, uint32_t dict, uint32_t arguments) {
    const struct lc_pickle_value *a = value_at(m, arguments);
    if (a->count == 0) return 0;
    const struct lc_pickle_value *first = value_at(m, a->items[0]);
    if (first->kind == LC_PICKLE_DICT) return append(m, dict, first->items, first->count);
    if (first->kind != LC_PICKLE_LIST) return 0;
    for (uint32_t i = 0; i < first->count; i++) {
        const struct lc_pickle_value *pair = value_at(m, first->items[i]);
        if ((pair->kind != LC_PICKLE_LIST && pair->kind != LC_PICKLE_TUPLE) || pair->count != 2)
            return refuse(m, "a dict of what are no pairs");
        if (append(m, dict, pair->items, 2) < 0) return -1;
    }
    return 0;
}

/* Calls copy what they hold, and one list may be copied often: what was copied counts as made. */
static int charge(struct machine *m, uint32_t arguments) {
    const struct lc_pickle_value *a = value_at(m, arguments);
    size_t n = a->count ? value_at(m, a->items[0])->count : 0;
    if (n > MOST - m->copied) return refuse(m, "it copies more than a million values");
    m->copied += n;
    return 0;
}

static int do_call(struct machine *m) {
    uint32_t arguments, callee, dict;
    if (pop(m, &arguments) < 0 || pop(m, &callee) < 0) return -1;
    if (need(m, arguments, LC_PICKLE_TUPLE, "a call whose arguments are no tuple") < 0) return -1;
    if (need(m, callee, LC_PICKLE_NAME, "a call of what is no name") < 0) return -1;
    int16_t name = value_at(m, callee)->name;
    if (m->names[name].role != LC_PICKLE_MAKES_DICT)
        return make(
            m, (struct lc_pickle_value){.kind = LC_PICKLE_CALL, .name = name, .inner = arguments});
    if (new_value(m, (struct lc_pickle_value){.kind = LC_PICKLE_DICT}, &dict) < 0) return -1;
    if (charge(m, arguments) < 0) return -1;
    if (fill_dict(m, dict, arguments) < 0) return -1;
    return push_value(m, dict);
}

/* The attributes that BUILD would set say nothing about tensors. */
static int do_build(struct machine *m) {
    uint32_t state, object;
    if (pop(m, &state) < 0 || top(m, &object) < 0) return -1;
    int kind = value_at(m, object)->kind;
    if (kind == LC_PICKLE_CALL || kind == LC_PICKLE_DICT) return 0;
    return refuse(m, "it sets attributes of what is no object");
}

static int do_persistent(struct machine *m) {
    uint32_t id;
    if (pop(m, &id) < 0) return -1;
    return make(m, (struct lc_pickle_value){.kind = LC_PICKLE_PERSISTENT, .inner = id});
}

/* ---- the machine ---- */

static int do_protocol(struct machine *m) {
    uint64_t version;
    if (take_number(m, 1, &version) < 0) return -1;
    return version <= 5 ? 0 : refuse(m, "its protocol is younger than 5");
}

/* A frame says how many bytes follow, for those who read ahead. */
static int do_frame(struct machine *m) {
    uint64_t n;
    if (take_number(m, 8, &n) < 0) return -1;
    return n <= (uint64_t)(m->end - m->at) ? 0 : refuse(m, "the file ends within a frame of it");
}

static int do_mark(struct machine *m) {
    if (m->marks.count >= MOST_MARKS) return refuse(m, "it nests deeper than 256");
    return push(&m->marks, (uint32_t)m->stack.count);
}

/* POP drops a mark when that is what stands on top. */
static int do_pop(struct machine *m) {
    uint32_t value;
    if (m->marks.count && m->stack.count == ground(m)) return m->marks.count--, 0;
    return pop(m, &value);
}

static int do_pop_mark(struct machine *m) {
    const uint32_t *items;
    size_t n;
    return pop_mark(m, &items, &n);
}

static int do_duplicate(struct machine *m) {
    uint32_t value;
    return top(m, &value) < 0 ? -1 : push_value(m, value);
}

static int do_stop(struct machine *m) {
    if (pop(m, &m->out->root) < 0) return -1;
    if (m->stack.count || m->marks.count) return refuse(m, "it stops with values left over");
    m->stopped = true;
    return 0;
}

static int unknown(const struct machine *m, int code) {
    if (code == 0x82 || code == 0x83 || code == 0x84)
        return refuse(m, "a global by number (EXT), which cannot be checked");
    return lc_fail(LC_EINVAL, "%s: its pickle at byte %td: no instruction is 0x%02X here", m->path,
                   m->at - m->start - 1, code);
}

/* Instructions that make one plain value. */
static int step_value(struct machine *m, int code) {
    switch (code) {
    case 'N': return make_integer(m, LC_PICKLE_NONE, 0);
    case 0x88: return make_integer(m, LC_PICKLE_BOOL, 1);
    case 0x89: return make_integer(m, LC_PICKLE_BOOL, 0);
    case 'I': return do_decimal(m, true);
    case 'L': return do_decimal(m, false);
    case 'J': return do_small_integer(m, 4);
    case 'K': return do_small_integer(m, 1);
    case 'M': return do_small_integer(m, 2);
    case 0x8A: return do_long(m, 1);
    case 0x8B: return do_long(m, 4);
    case 'F': return do_float(m, false);
    case 'G': return do_float(m, true);
    case 'S': return do_line_text(m, true);
    case 'V': return do_line_text(m, false);
    case 'T': return take_text(m, LC_PICKLE_TEXT, 4);
    case 'U': return take_text(m, LC_PICKLE_TEXT, 1);
    case 'X': return take_text(m, LC_PICKLE_TEXT, 4);
    case 0x8C: return take_text(m, LC_PICKLE_TEXT, 1);
    case 0x8D: return take_text(m, LC_PICKLE_TEXT, 8);
    case 'B': return take_text(m, LC_PICKLE_BYTE_TEXT, 4);
    case 'C': return take_text(m, LC_PICKLE_BYTE_TEXT, 1);
    case 0x8E:
    case 0x96: return take_text(m, LC_PICKLE_BYTE_TEXT, 8);
    default: return unknown(m, code);
    }
}

static int step_container(struct machine *m, int code) {
    switch (code) {
    case ']': return make_container(m, LC_PICKLE_LIST, NULL, 0);
    case ')': return make_container(m, LC_PICKLE_TUPLE, NULL, 0);
    case '}': return make_container(m, LC_PICKLE_DICT, NULL, 0);
    case 0x8F: return make_container(m, LC_PICKLE_SET, NULL, 0);
    case 'l': return do_container(m, LC_PICKLE_LIST);
    case 't': return do_container(m, LC_PICKLE_TUPLE);
    case 'd': return do_container(m, LC_PICKLE_DICT);
    case 0x91: return do_container(m, LC_PICKLE_SET);
    case 0x85:
    case 0x86:
    case 0x87: return do_small_tuple(m, code - 0x84);
    case 'a': return do_append(m);
    case 'e': return do_extend(m, LC_PICKLE_LIST, "it appends to what is no list");
    case 0x90: return do_extend(m, LC_PICKLE_SET, "it adds to what is no set");
    case 's': return do_set_item(m);
    case 'u': return do_extend(m, LC_PICKLE_DICT, "it sets items of what is no dict");
    default: return step_value(m, code);
    }
}

static int step(struct machine *m) {
    int code = (unsigned char)*m->at++;
    switch (code) {
    case 0x80: return do_protocol(m);
    case 0x95: return do_frame(m);
    case '.': return do_stop(m);
    case '(': return do_mark(m);
    case '0': return do_pop(m);
    case '1': return do_pop_mark(m);
    case '2': return do_duplicate(m);
    case 'p': return memo_line(m, memo_put);
    case 'q': return memo_binary(m, 1, memo_put);
    case 'r': return memo_binary(m, 4, memo_put);
    case 0x94: return memo_put(m, m->remembered);
    case 'g': return memo_line(m, memo_get);
    case 'h': return memo_binary(m, 1, memo_get);
    case 'j': return memo_binary(m, 4, memo_get);
    case 'c': return do_global(m);
    case 0x93: return do_stack_global(m);
    case 'R':
    case 0x81: return do_call(m);
    case 'b': return do_build(m);
    case 'i': return do_instance(m);
    case 'Q': return do_persistent(m);
    default: return step_container(m, code);
    }
}

int lc_pickle_read(struct lc_pickle *p, const char *text, size_t n, const char *path,
                   const struct lc_pickle_name *names) {
    bool cut = n > LC_PICKLE_BYTES;
    struct machine m = {.out = p,
                        .path = path,
                        .start = text,
                        .at = text,
                        .end = text + (cut ? LC_PICKLE_BYTES : n),
                        .names = names};
    int result = 0;
    *p = (struct lc_pickle){0};
    while (result == 0 && !m.stopped) {
        if (m.at == m.end)
            result = refuse(&m, cut ? "it is longer than 64 MiB" : "the file ends within it");
        else result = step(&m);
    }
    p->end = m.at;
    lc_free(m.stack.list);
    lc_free(m.marks.list);
    lc_free(m.memo.list);
    if (result < 0) lc_pickle_free(p);
    return result;
}

void lc_pickle_free(struct lc_pickle *p) {
    for (size_t i = 0; i < p->count; i++) {
        int kind = p->values[i].kind;
        if (kind >= LC_PICKLE_LIST && kind <= LC_PICKLE_DICT) lc_free(p->values[i].items);
    }
    lc_free(p->values);
    *p = (struct lc_pickle){0};
}

bool lc_pickle_is_text(const struct lc_pickle_value *v, const char *text) {
    return v->kind == LC_PICKLE_TEXT && equal(v->text, v->count, text);
}
