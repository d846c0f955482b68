/* wordpiece.c - the tokenizer of bert-base-uncased, from its vocab.txt: text becomes lower-case words
 * without accents, a word the longest pieces from left to right. The tables of Unicode are utf8proc's. */
#include "text/wordpiece.h"

#include "base/error.h"

#ifdef LC_HAVE_UTF8PROC
#include <limits.h>
#include <string.h>
#include <utf8proc.h>

#include "base/memory.h"
#include "text/utf8.h"

enum {
    MOST_PIECES = 1 << 24,
    LONGEST_WORD = 100, /* characters; a longer one is unknown */
};

struct wordpiece {
    char *bytes;    /* the pieces, each ended by a NUL */
    char **pieces;  /* by id, into bytes */
    int32_t *table; /* open addressing: ids, -1 where it is empty */
    uint32_t mask;  /* the table's size less 1 */
    int32_t count;
    size_t longest; /* bytes of the longest piece */
};

/* ---- the vocabulary ------------------------------------------------------------------------------ */

static uint32_t hash(const char *s, size_t n) {
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)s[i]) * 16777619u;
    return h;
}

/* Where the piece stands in the table, or the empty place where it would. */
static uint32_t place(const struct wordpiece *w, const char *s, size_t n) {
    uint32_t at = hash(s, n) & w->mask;
    while (w->table[at] >= 0) {
        const char *piece = w->pieces[w->table[at]];
        if (strncmp(piece, s, n) == 0 && piece[n] == 0) break;
        at = (at + 1) & w->mask;
    }
    return at;
}

static int32_t find(const struct wordpiece *w, const char *s, size_t n) {
    return n > w->longest ? -1 : w->table[place(w, s, n)];
}

/* Lines end with "\n", "\r" or "\r\n". */
static size_t line_end(const char *s, size_t n, size_t at) {
    while (at < n && s[at] != '\n' && s[at] != '\r') at++;
    return at;
}

static size_t next_line(const char *s, size_t n, size_t end) {
    return end + (end + 1 < n && s[end] == '\r' && s[end + 1] == '\n' ? 2 : 1);
}

static int64_t count_lines(const char *s, size_t n) {
    int64_t count = 0;
    for (size_t at = 0; at < n; at = next_line(s, n, line_end(s, n, at))) count++;
    return count;
}

static int allocate(struct wordpiece *w, int64_t count, size_t n) {
    uint32_t size = 16;
    while (size < 2 * count) size *= 2;
    w->mask = size - 1;
    w->count = (int32_t)count;
    w->bytes = lc_alloc(n + 1);
    w->pieces = w->bytes ? lc_alloc((size_t)count * sizeof *w->pieces) : NULL;
    w->table = w->pieces ? lc_alloc(size * sizeof *w->table) : NULL;
    if (!w->table) return -1;
    memset(w->table, 0xFF, size * sizeof *w->table);
    return 0;
}

/* A line is a piece, and its number the id; of equal lines the last one counts. */
static void fill(struct wordpiece *w, const char *s, size_t n) {
    char *to = w->bytes;
    int32_t id = 0;
    for (size_t at = 0, end; at < n; at = next_line(s, n, end), id++) {
        end = line_end(s, n, at);
        size_t length = end - at;
        w->pieces[id] = to;
        memcpy(to, s + at, length);
        to[length] = 0;
        to += length + 1;
        if (length > w->longest) w->longest = length;
        w->table[place(w, w->pieces[id], length)] = id;
    }
}

/* What is no vocabulary is refused before anything is made of it. */
static int64_t check(const char *s, size_t n, const char *name) {
    const char *clean;
    size_t length;
    int64_t count = count_lines(s, n);
    if (memchr(s, 0, n)) return lc_fail(LC_EINVAL, "%s: no vocabulary: a NUL byte in a text", name);
    if (count > MOST_PIECES)
        return lc_fail(LC_EINVAL, "%s: %lld lines are too many for a vocabulary", name,
                       (long long)count);
    if (lc_utf8_clean(s, n, &clean, &length) < 0) return -1;
    if (clean == s) return count;
    lc_free((void *)(uintptr_t)clean);
    return lc_fail(LC_EINVAL, "%s: no vocabulary: it is not UTF-8", name);
}

static void close_vocabulary(void *p) {
    struct wordpiece *w = p;
    lc_free(w->table);
    lc_free(w->pieces);
    lc_free(w->bytes);
    lc_free(w);
}

static int32_t id_of(const void *p, const char *piece) { return find(p, piece, strlen(piece)); }

static void *open_vocabulary(const char *s, size_t n, const char *name) {
    int64_t count = check(s, n, name);
    struct wordpiece *w = count < 0 ? NULL : lc_alloc_zero(sizeof *w);
    if (!w) return NULL;
    if (allocate(w, count, n) == 0) {
        fill(w, s, n);
        if (id_of(w, "[UNK]") >= 0) return w;
        lc_fail(LC_EINVAL, "%s: no WordPiece vocabulary: there is no [UNK] among its %lld lines",
                name, (long long)count);
    }
    close_vocabulary(w);
    return NULL;
}

static int pieces(const void *p) { return ((const struct wordpiece *)p)->count; }

static const char *piece(const void *p, int32_t id) {
    const struct wordpiece *w = p;
    if (id >= 0 && id < w->count) return w->pieces[id];
    return lc_fail_null(LC_EINVAL, "piece: there is no id %d; 0 to %d is possible", (int)id,
                        w->count - 1);
}

static int32_t special(const void *p, int which) {
    static const char *const names[] = {"[UNK]", "[CLS]", "[SEP]", "[PAD]"};
    return which >= 0 && which < 4 ? id_of(p, names[which]) : -1;
}

/* ---- text to words ------------------------------------------------------------------------------- */

static int is_chinese(int32_t c) {
    return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
           (c >= 0x20000 && c <= 0x2A6DF) || (c >= 0x2A700 && c <= 0x2B73F) ||
           (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B820 && c <= 0x2CEAF) ||
           (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

/* Control, format, private, unassigned; bytes that are no UTF-8, too. */
static int is_dropped(int32_t c) {
    utf8proc_category_t k = utf8proc_category(c);
    return c == LC_UTF8_BAD || k == UTF8PROC_CATEGORY_CN || k == UTF8PROC_CATEGORY_CC ||
           k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_CS || k == UTF8PROC_CATEGORY_CO;
}

static int is_space(int32_t c) {
    utf8proc_category_t k = utf8proc_category(c);
    return c == '\t' || c == '\n' || c == '\r' || k == UTF8PROC_CATEGORY_ZS ||
           k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP;
}

/* All of ASCII that is no letter, digit or control character, and Unicode's own. */
static int is_punctuation(int32_t c) {
    utf8proc_category_t k = utf8proc_category(c);
    if ((c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) ||
        (c >= 123 && c <= 126))
        return 1;
    return k >= UTF8PROC_CATEGORY_PC && k <= UTF8PROC_CATEGORY_PO;
}

/* The text in lower case without control characters, spaces around Chinese characters. to has room for
 * 2 n bytes: 2 become at most 3, 3 at most 5, 4 at most 6. */
static size_t clean(const char *s, size_t n, char *to) {
    size_t length = 0;
    for (size_t at = 0; at < n;) {
        int32_t c;
        at += lc_utf8_read(s + at, n - at, &c);
        int chinese = is_chinese(c);
        if (is_space(c)) {
            to[length++] = ' ';
        } else if (!is_dropped(c)) {
            if (chinese) to[length++] = ' ';
            length += lc_utf8_write(utf8proc_tolower(c), to + length);
            if (chinese) to[length++] = ' ';
        }
    }
    return length;
}

/* The characters that those of the text fall apart into; without room for them only their number. */
static int64_t parts_of(const char *s, size_t n, int32_t *to, int64_t room) {
    int64_t count = 0;
    int unused = 0;
    for (size_t at = 0; at < n;) {
        int32_t c;
        at += lc_utf8_read(s + at, n - at, &c);
        count += utf8proc_decompose_char(c, to ? to + count : NULL, to ? room - count : 0,
                                         UTF8PROC_DECOMPOSE | UTF8PROC_STABLE, &unused);
    }
    return count;
}

static int class_of(int32_t c) { return utf8proc_get_property(c)->combining_class; }

/* Marks in a row by their class, those of one class as they come. */
static void sort_marks(int32_t *c, int64_t n, int32_t *sorted) {
    int64_t first[UINT8_MAX + 2] = {0};
    for (int64_t i = 0; i < n; i++) first[class_of(c[i]) + 1]++;
    for (int k = 1; k <= UINT8_MAX; k++) first[k] += first[k - 1];
    for (int64_t i = 0; i < n; i++) sorted[first[class_of(c[i])]++] = c[i];
    memcpy(c, sorted, (size_t)n * sizeof *c);
}

/* Letters and their accents apart, in Unicode's order (NFD). lc_free takes the characters. utf8proc's own
 * sort of them takes minutes for a megabyte of accents. */
static int64_t decompose(const char *s, size_t n, int32_t **to) {
    int64_t count = parts_of(s, n, NULL, 0);
    size_t bytes = (size_t)count * sizeof **to;
    int32_t *sorted = lc_alloc(bytes);
    *to = sorted ? lc_alloc(bytes) : NULL;
    if (*to) parts_of(s, n, *to, count);
    for (int64_t i = 0, from; *to && i < count; i++) {
        for (from = i; i < count && class_of((*to)[i]) > 0; i++) continue;
        if (i - from > 1) sort_marks(*to + from, i - from, sorted);
    }
    lc_free(sorted);
    return *to ? count : -1;
}

/* How many characters the text has for words; -1 failed. lc_free takes *to. */
static int64_t characters_of(const char *s, size_t n, int32_t **to) {
    int64_t most = 2;
    if (!lc_multiply(&most, (int64_t)n))
        return lc_fail(LC_EINVAL, "encode: %zu bytes are too many", n);
    char *text = lc_alloc((size_t)most);
    if (!text) return -1;
    int64_t count = decompose(text, clean(s, n, text), to);
    lc_free(text);
    return count;
}

/* ---- words to pieces ----------------------------------------------------------------------------- */

struct run {
    const struct wordpiece *w;
    int32_t *ids; /* room for one a character */
    size_t count;
    size_t length;                                 /* characters of the word so far */
    char word[2 + LONGEST_WORD * LC_UTF8_LONGEST]; /* "##", then they */
    unsigned short at[LONGEST_WORD + 1];           /* where each begins in word */
};

static void add(struct run *r, int32_t c) {
    if (r->length < LONGEST_WORD) {
        size_t from = r->at[r->length];
        r->at[r->length + 1] = (unsigned short)(from + lc_utf8_write(c, r->word + from));
    }
    r->length++;
}

/* The longest piece that the word from that character on begins with; *end is where it ends. Behind the
 * word's begin a piece is written with "##", which is put over what was matched before. */
static int32_t longest(struct run *r, size_t from, size_t *end) {
    char *s = r->word + r->at[from];
    if (from > 0) memcpy(s -= 2, "##", 2);
    for (*end = r->length; *end > from; --*end) {
        int32_t id = find(r->w, s, (size_t)(r->word + r->at[*end] - s));
        if (id >= 0) return id;
    }
    return -1;
}

/* Ends the word. One that cannot be put together is unknown as a whole. */
static void finish(struct run *r) {
    size_t first = r->count, from = 0;
    int32_t id = r->length > LONGEST_WORD ? -1 : 0;
    while (id >= 0 && from < r->length) r->ids[r->count++] = id = longest(r, from, &from);
    if (id < 0) {
        r->count = first;
        r->ids[r->count++] = id_of(r->w, "[UNK]");
    }
    r->length = 0;
}

static void encode_characters(struct run *r, const int32_t *c, size_t n) {
    r->at[0] = 2;
    for (size_t i = 0; i < n; i++) {
        int mark = is_punctuation(c[i]), ends = mark || is_space(c[i]);
        if (utf8proc_category(c[i]) == UTF8PROC_CATEGORY_MN) continue;
        if (ends && r->length > 0) finish(r);
        if (mark || !ends) add(r, c[i]);
        if (mark) finish(r);
    }
    if (r->length > 0) finish(r);
}

static int encode(const void *p, const char *s, size_t n, int inside, int32_t **ids,
                  size_t *count) {
    int32_t *characters = NULL;
    int64_t length = characters_of(s, n, &characters);
    (void)inside;
    if (length < 0) return -1;
    struct run r = {.w = p, .ids = lc_alloc((size_t)length * sizeof *r.ids)};
    if (r.ids) encode_characters(&r, characters, (size_t)length);
    lc_free(characters);
    *ids = r.ids;
    *count = r.count;
    return r.ids ? 0 : -1;
}

/* ---- ids to text --------------------------------------------------------------------------------- */

/* A piece's text behind others: a space stands before it unless it goes on with a word. */
static size_t put(const char *piece_text, int first, char *to) {
    int goes_on = !first && strncmp(piece_text, "##", 2) == 0;
    const char *from = piece_text + (goes_on ? 2 : 0);
    size_t space = !first && !goes_on, n = strlen(from);
    if (to && space) to[0] = ' ';
    if (to) memcpy(to + space, from, n);
    return space + n;
}

static int decode(const void *p, const int32_t *ids, size_t count, char **text, size_t *n) {
    const struct wordpiece *w = p;
    size_t most = 0, length = 0;
    for (size_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= w->count)
            return lc_fail(LC_EINVAL, "decode: id %zu is %d; 0 to %d is possible", i + 1,
                           (int)ids[i], w->count - 1);
        most += put(w->pieces[ids[i]], i == 0, NULL);
    }
    *text = lc_alloc(most + 1);
    if (!*text) return -1;
    for (size_t i = 0; i < count; i++) length += put(w->pieces[ids[i]], i == 0, *text + length);
    (*text)[length] = 0;
    *n = length;
    return 0;
}

const struct lc_text lc_wordpiece = {
    .open = open_vocabulary,
    .close = close_vocabulary,
    .pieces = pieces,
    .encode = encode,
    .decode = decode,
    .piece = piece,
    .id = id_of,
    .special = special,
};
#else
static void *open_vocabulary(const char *s, size_t n, const char *name) {
    (void)s;
    (void)n;
    return lc_fail_null(LC_EMISSING,
                        "%s: this build has no utf8proc, which BERT's tokenizer needs; install "
                        "libutf8proc-dev and run make",
                        name);
}

const struct lc_text lc_wordpiece = {.open = open_vocabulary};
#endif
