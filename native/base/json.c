/* json.c - a strict scanner (RFC 8259) that builds cJSON's tree.
 *
 * cJSON's own parser takes texts that are no JSON (trailing bytes, bad escapes, control characters,
 * numbers such as 01), ends strings at \u0000 and keeps integers as doubles. So the scanner decodes
 * and the nodes alone are cJSON's. Three of their fields carry what the struct has no place for:
 *   valueint      the length of the member's key
 *   valuedouble   of a string: its length
 *   valuestring   of an integer beyond 2^53: its digits */
#include "base/json.h"

#include "base/error.h"
#include "base/foreign.h"
#include "base/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef LC_HAVE_CJSON
#include <cjson/cJSON.h>
#include <malloc.h>

struct member {
    cJSON *item;
    const char *at; /* where its key stands in the text */
};

struct scan {
    const char *text, *at, *end, *name;
    int64_t line, column; /* of text[0] */
    bool strict_keys;
    int depth;
    struct member *members; /* of all objects that are open, the innermost last */
    size_t count, room;
};

/* ---- memory: nodes are counted like every other byte ---- */

static void *counted_alloc(size_t bytes) {
    void *p = malloc(bytes);
    if (!p) return lc_fail_null(LC_ENOMEM, "out of memory: the system refused %zu bytes", bytes);
    if (lc_memory_charge((int64_t)malloc_usable_size(p)) == 0) return p;
    free(p);
    return NULL;
}

static void counted_free(void *p) {
    if (p) lc_memory_discharge((int64_t)malloc_usable_size(p));
    free(p);
}

__attribute__((constructor)) static void count_nodes(void) {
    cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = counted_alloc, .free_fn = counted_free});
}

/* ---- errors ---- */

/* Lines and columns (in characters, from 1) are counted only once something is wrong. */
__attribute__((format(printf, 3, 4))) static void *refuse(const struct scan *s, const char *at,
                                                          const char *format, ...) {
    char what[256];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    int64_t line = s->line, column = s->column;
    for (const char *p = s->text; p < at; p++) {
        if (*p == '\n') line++, column = 1;
        else if (((unsigned char)*p & 0xC0) != 0x80) column++;
    }
    return lc_fail_null(LC_EINVAL, "%s:%" PRId64 ":%" PRId64 ": %s", s->name, line, column, what);
}

static void *unexpected(const struct scan *s, const char *wanted) {
    if (s->at >= s->end) return refuse(s, s->end, "the text ends where %s is expected", wanted);
    unsigned char c = (unsigned char)*s->at;
    if (c > ' ' && c < 0x7F) return refuse(s, s->at, "'%c' stands where %s is expected", c, wanted);
    return refuse(s, s->at, "byte 0x%02X stands where %s is expected", c, wanted);
}

/* ---- strings ---- */

/* The length of the UTF-8 sequence at p (overlong forms and surrogates are none), or 0. */
static int sequence(const unsigned char *p, const unsigned char *end) {
    unsigned char c = p[0];
    int n = c < 0x80 ? 1 : c < 0xC2 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF5 ? 4 : 0;
    if (n == 0 || end - p < n) return 0;
    for (int i = 1; i < n; i++)
        if ((p[i] & 0xC0) != 0x80) return 0;
    if ((c == 0xE0 && p[1] < 0xA0) || (c == 0xED && p[1] > 0x9F)) return 0;
    if ((c == 0xF0 && p[1] < 0x90) || (c == 0xF4 && p[1] > 0x8F)) return 0;
    return n;
}

static int hex4(const char *p, const char *end) {
    int value = 0;
    if (end - p < 4) return -1;
    for (int i = 0; i < 4; i++) {
        int c = (unsigned char)p[i], lower = c | 0x20;
        if (c >= '0' && c <= '9') value = value * 16 + (c - '0');
        else if (lower >= 'a' && lower <= 'f') value = value * 16 + (lower - 'a' + 10);
        else return -1;
    }
    return value;
}

static char *put_utf8(char *out, uint32_t c) {
    if (c < 0x80) {
        *out++ = (char)c;
        return out;
    }
    int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint32_t lead[] = {0, 0xC0, 0xE0, 0xF0};
    *out++ = (char)(lead[more] | c >> 6 * more);
    while (more-- > 0) *out++ = (char)(0x80 | (c >> 6 * more & 0x3F));
    return out;
}

/* s->at stands on the u of a \u escape; goes behind it, and behind its second half. */
static char *unicode_escape(struct scan *s, char *out) {
    const char *start = s->at - 1;
    int c = hex4(s->at + 1, s->end);
    if (c < 0) return refuse(s, start, "\\u without four hex digits");
    s->at += 5;
    if (c >= 0xDC00 && c <= 0xDFFF) return refuse(s, start, "\\u%04X is half a character", c);
    if (c < 0xD800 || c > 0xDBFF) return put_utf8(out, (uint32_t)c);
    int low =
        s->end - s->at >= 6 && s->at[0] == '\\' && s->at[1] == 'u' ? hex4(s->at + 2, s->end) : -1;
    if (low < 0xDC00 || low > 0xDFFF) return refuse(s, start, "\\u%04X is half a character", c);
    s->at += 6;
    return put_utf8(out, 0x10000 + (((uint32_t)c & 0x3FF) << 10) + ((uint32_t)low & 0x3FF));
}

static char *escape(struct scan *s, char *out) {
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (++s->at >= s->end) return refuse(s, s->end, "the text ends within a string");
    if (*s->at == 'u') return unicode_escape(s, out);
    const char *found = *s->at ? strchr(from, *s->at) : NULL;
    if (!found) return refuse(s, s->at - 1, "there is no such escape in a string");
    s->at++;
    *out++ = to[found - from];
    return out;
}

/* The raw bytes up to the closing quote: no less than the decoded ones. */
static ptrdiff_t raw_length(const struct scan *s) {
    const char *p = s->at;
    while (p < s->end && *p != '"') p += *p == '\\' ? 2 : 1;
    return (p < s->end ? p : s->end) - s->at;
}

/* s->at stands behind the opening quote; goes behind the closing one. */
static char *scan_string(struct scan *s, size_t *length) {
    const char *opening = s->at - 1;
    char *text = cJSON_malloc((size_t)raw_length(s) + 1), *out = text;
    while (out) {
        if (s->at >= s->end) {
            out = refuse(s, opening, "this string has no end");
            break;
        }
        unsigned char c = (unsigned char)*s->at;
        if (c == '"') break;
        if (c == '\\') {
            out = escape(s, out);
            continue;
        }
        if (c < 0x20) {
            out = refuse(s, s->at, "control character 0x%02X within a string", c);
            break;
        }
        int n = sequence((const unsigned char *)s->at, (const unsigned char *)s->end);
        if (n == 0) {
            out = refuse(s, s->at, "byte 0x%02X is not UTF-8", c);
            break;
        }
        while (n-- > 0) *out++ = *s->at++;
    }
    if (!out) {
        cJSON_free(text);
        return NULL;
    }
    s->at++;
    *out = 0;
    *length = (size_t)(out - text);
    return text;
}

/* ---- numbers ---- */

static bool digits(struct scan *s) {
    const char *from = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9') s->at++;
    return s->at > from;
}

/* Goes behind the number; 1: an integer, 0: another number, -1: refused. */
static int number_grammar(struct scan *s) {
    int integer = 1;
    if (s->at < s->end && *s->at == '-') s->at++;
    const char *first = s->at;
    if (!digits(s)) return unexpected(s, "a digit"), -1;
    if (*first == '0' && s->at - first > 1) return refuse(s, first, "a number begins with 0"), -1;
    if (s->at < s->end && *s->at == '.') {
        integer = 0;
        s->at++;
        if (!digits(s)) return unexpected(s, "a digit"), -1;
    }
    if (s->at < s->end && (*s->at | 0x20) == 'e') {
        integer = 0;
        s->at++;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-')) s->at++;
        if (!digits(s)) return unexpected(s, "a digit"), -1;
    }
    return integer;
}

/* Whether an integer of 2^53 or more is kept whole: as one of 64 bits, or by a double that is just it. */
static bool survives(const char *text, double value) {
    errno = 0;
    (void)strtoll(text, NULL, 10);
    if (!errno) return true;
    char exact[320]; /* a double has 309 digits at most */
    snprintf(exact, sizeof exact, "%.0f", value);
    return !strcmp(exact, text);
}

static cJSON *scan_number(struct scan *s) {
    const char *from = s->at;
    int integer = number_grammar(s);
    if (integer < 0) return NULL;
    size_t n = (size_t)(s->at - from);
    char few[64], *text = n < sizeof few ? few : cJSON_malloc(n + 1);
    if (!text) return NULL;
    memcpy(text, from, n);
    text[n] = 0;
    double value = strtod(text, NULL);
    bool finite = value - value == 0, large = integer && (value >= 0x1p53 || value <= -0x1p53);
    cJSON *item;
    if (!finite) item = refuse(s, from, "the number is beyond what a double holds");
    else if (large && !survives(text, value))
        item = refuse(s, from,
                      "%.40s would lose digits: it is beyond 64 bits; write it as a string", text);
    else item = cJSON_CreateNull();
    if (item) {
        item->type = cJSON_Number;
        item->valuedouble = value;
        if (large) {
            item->valuestring = cJSON_malloc(n + 1);
            if (item->valuestring) memcpy(item->valuestring, text, n + 1);
            else {
                cJSON_Delete(item);
                item = NULL;
            }
        }
    }
    if (text != few) cJSON_free(text);
    return item;
}

/* ---- values ---- */

static void skip_space(struct scan *s) {
    while (s->at < s->end && lc_json_space(*s->at)) s->at++;
}

static cJSON *scan_value(struct scan *s);

static cJSON *scan_word(struct scan *s, const char *word, int type) {
    size_t n = strlen(word);
    if ((size_t)(s->end - s->at) < n || memcmp(s->at, word, n) != 0)
        return unexpected(s, "a value");
    s->at += n;
    cJSON *item = cJSON_CreateNull();
    if (item) item->type = type;
    return item;
}

static cJSON *string_item(struct scan *s) {
    size_t n;
    s->at++;
    char *text = scan_string(s, &n);
    cJSON *item = text ? cJSON_CreateNull() : NULL;
    if (!item) {
        cJSON_free(text);
        return NULL;
    }
    item->type = cJSON_String;
    item->valuestring = text;
    item->valuedouble = (double)n;
    return item;
}

static int note_member(struct scan *s, cJSON *item, const char *at) {
    if (s->count == s->room) {
        size_t room = s->room ? 2 * s->room : 32;
        void *more = lc_realloc(s->members, room * sizeof *s->members);
        if (!more) return -1;
        s->members = more;
        s->room = room;
    }
    s->members[s->count++] = (struct member){item, at};
    return 0;
}

static int key_order(const cJSON *a, const cJSON *b) {
    if (a->valueint != b->valueint) return a->valueint < b->valueint ? -1 : 1;
    return memcmp(a->string, b->string, (size_t)a->valueint);
}

static int member_order(const void *x, const void *y) {
    const struct member *a = x, *b = y;
    int order = key_order(a->item, b->item);
    return order ? order : a->at < b->at ? -1 : 1;
}

static _Thread_local int64_t repeated;

/* Of members with one key the last stays, or they are an error. */
static int check_keys(struct scan *s, cJSON *object, size_t first) {
    size_t n = s->count - first;
    if (n == 0) return 0;
    struct member *m = s->members + first;
    if (n > 1) qsort(m, n, sizeof *m, member_order);
    for (size_t i = 0; i + 1 < n; i++) {
        if (key_order(m[i].item, m[i + 1].item) != 0) continue;
        if (s->strict_keys) {
            refuse(s, m[i + 1].at, "the key \"%.100s\" stands twice in one object",
                   m[i].item->string);
            return -1;
        }
        cJSON_Delete(cJSON_DetachItemViaPointer(object, m[i].item));
        repeated++;
    }
    s->count = first;
    return 0;
}

static cJSON *scan_member(struct scan *s) {
    size_t n;
    skip_space(s);
    if (s->at >= s->end || *s->at != '"') return unexpected(s, "a key in double quotes");
    const char *at = s->at++;
    char *key = scan_string(s, &n);
    if (!key) return NULL;
    if (n > INT_MAX) {
        cJSON_free(key);
        return refuse(s, at, "the key is too long");
    }
    skip_space(s);
    cJSON *item = NULL;
    if (s->at < s->end && *s->at == ':') {
        s->at++;
        item = scan_value(s);
    } else unexpected(s, "':'");
    if (!item) {
        cJSON_free(key);
        return NULL;
    }
    item->string = key;
    item->valueint = (int)n;
    if (note_member(s, item, at) == 0) return item;
    cJSON_Delete(item);
    return NULL;
}

/* The elements or members; s->at goes behind the closing bracket. */
static int scan_items(struct scan *s, cJSON *whole, char closing) {
    bool object = closing == '}';
    skip_space(s);
    if (s->at < s->end && *s->at == closing) return s->at++, 0;
    for (;;) {
        cJSON *item = object ? scan_member(s) : scan_value(s);
        if (!item) return -1;
        cJSON_AddItemToArray(whole, item);
        skip_space(s);
        if (s->at < s->end && *s->at == closing) return s->at++, 0;
        if (s->at >= s->end || *s->at != ',')
            return unexpected(s, object ? "',' or '}'" : "',' or ']'"), -1;
        s->at++;
    }
}

static cJSON *scan_whole(struct scan *s, char closing) {
    if (s->depth == LC_JSON_DEPTH)
        return refuse(s, s->at, "lists and objects nest deeper than %d", LC_JSON_DEPTH);
    size_t first = s->count;
    cJSON *whole = closing == '}' ? cJSON_CreateObject() : cJSON_CreateArray();
    if (!whole) return NULL;
    s->depth++;
    s->at++;
    if (scan_items(s, whole, closing) < 0 || (closing == '}' && check_keys(s, whole, first) < 0)) {
        cJSON_Delete(whole);
        return NULL;
    }
    s->depth--;
    return whole;
}

static cJSON *scan_value(struct scan *s) {
    skip_space(s);
    switch (s->at < s->end ? *s->at : 0) {
    case '{': return scan_whole(s, '}');
    case '[': return scan_whole(s, ']');
    case '"': return string_item(s);
    case 't': return scan_word(s, "true", cJSON_True);
    case 'f': return scan_word(s, "false", cJSON_False);
    case 'n': return scan_word(s, "null", cJSON_NULL);
    case '-':
    case '0':
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
    case '7':
    case '8':
    case '9': return scan_number(s);
    default: return unexpected(s, "a value");
    }
}

lc_json *lc_json_parse_at(const char *text, size_t n, const char *name, int strict_keys,
                          int64_t line, int64_t column) {
    struct scan s = {.text = text,
                     .at = text,
                     .end = text + n,
                     .name = name ? name : "json",
                     .line = line,
                     .column = column,
                     .strict_keys = strict_keys != 0};
    if (line == 1 && column == 1 && n >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0)
        s.text = s.at = text + 3;
    skip_space(&s);
    const char *start = s.at;
    cJSON *root = scan_value(&s);
    if (!root && s.at == start) lc_refuse_foreign(s.name, text, n, "JSON");
    skip_space(&s);
    if (root && s.at < s.end) {
        cJSON_Delete(root);
        root = unexpected(&s, "the end of the text");
    }
    lc_free(s.members);
    return (lc_json *)root;
}

void lc_json_free(lc_json *root) { cJSON_Delete((cJSON *)root); }

int64_t lc_json_repeated(void) {
    int64_t count = repeated;
    repeated = 0;
    return count;
}

/* ---- looking ---- */

static const cJSON *node(const lc_json *v) { return (const cJSON *)v; }

int lc_json_type(const lc_json *v) {
    switch (node(v)->type & 0xFF) {
    case cJSON_False: return LC_JSON_FALSE;
    case cJSON_True: return LC_JSON_TRUE;
    case cJSON_Number: return LC_JSON_NUMBER;
    case cJSON_String: return LC_JSON_STRING;
    case cJSON_Array: return LC_JSON_ARRAY;
    case cJSON_Object: return LC_JSON_OBJECT;
    default: return LC_JSON_NULL;
    }
}

double lc_json_number(const lc_json *v) {
    return lc_json_type(v) == LC_JSON_NUMBER ? node(v)->valuedouble : 0;
}

int lc_json_integer(const lc_json *v, int64_t *out) {
    if (lc_json_type(v) != LC_JSON_NUMBER) return lc_fail(LC_EINVAL, "json: this is no number");
    double value = node(v)->valuedouble;
    if (node(v)->valuestring) {
        errno = 0;
        long long whole = strtoll(node(v)->valuestring, NULL, 10);
        if (errno) return lc_fail(LC_EINVAL, "json: %.40s is beyond 64 bits", node(v)->valuestring);
        *out = whole;
        return 0;
    }
    /* 2.0 and 1e3 are integers, too; beyond 2^53 only digits are. */
    if (!(value > -0x1p53 && value < 0x1p53) || value != (double)(int64_t)value)
        return lc_fail(LC_EINVAL, "json: %.17g is no integer of 64 bits", value);
    *out = (int64_t)value;
    return 0;
}

const char *lc_json_string(const lc_json *v, size_t *n) {
    bool text = lc_json_type(v) == LC_JSON_STRING;
    *n = text ? (size_t)node(v)->valuedouble : 0;
    return text ? node(v)->valuestring : NULL;
}

const char *lc_json_key(const lc_json *v, size_t *n) {
    *n = node(v)->string ? (size_t)node(v)->valueint : 0;
    return node(v)->string;
}

const lc_json *lc_json_first(const lc_json *v) { return (const lc_json *)node(v)->child; }
const lc_json *lc_json_next(const lc_json *v) { return (const lc_json *)node(v)->next; }

const lc_json *lc_json_get(const lc_json *object, const char *key) {
    size_t n = strlen(key);
    if (!object || lc_json_type(object) != LC_JSON_OBJECT) return NULL;
    for (const cJSON *m = node(object)->child; m; m = m->next)
        if ((size_t)m->valueint == n && memcmp(m->string, key, n) == 0) return (const lc_json *)m;
    return NULL;
}

#else /* without cJSON no text parses, so nothing below is ever given a value */

lc_json *lc_json_parse_at(const char *text, size_t n, const char *name, int strict_keys,
                          int64_t line, int64_t column) {
    (void)text, (void)n, (void)strict_keys, (void)line, (void)column;
    return lc_fail_null(LC_EMISSING, "%s: this build has no cJSON; install it and build again",
                        name ? name : "json");
}

void lc_json_free(lc_json *root) { (void)root; }
int64_t lc_json_repeated(void) { return 0; }
int lc_json_type(const lc_json *v) { return (void)v, LC_JSON_NULL; }
double lc_json_number(const lc_json *v) { return (void)v, 0; }
int lc_json_integer(const lc_json *v, int64_t *out) { return (void)v, (void)out, -1; }
const char *lc_json_string(const lc_json *v, size_t *n) { return (void)v, *n = 0, NULL; }
const char *lc_json_key(const lc_json *v, size_t *n) { return (void)v, *n = 0, NULL; }
const lc_json *lc_json_first(const lc_json *v) { return (void)v, NULL; }
const lc_json *lc_json_next(const lc_json *v) { return (void)v, NULL; }
const lc_json *lc_json_get(const lc_json *object, const char *key) {
    return (void)object, (void)key, NULL;
}

#endif

lc_json *lc_json_parse(const char *text, size_t n, const char *name, int strict_keys) {
    return lc_json_parse_at(text, n, name, strict_keys, 1, 1);
}
