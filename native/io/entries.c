/* entries.c - the list of a checkpoint's tensors, and the words for their dtypes. */
#include "io/entries.h"

#include "base/error.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

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

int lc_word_find(const char *word) {
    for (int i = 0; i < WORDS; i++)
        if (!strcmp(words[i].word, word)) return i;
    return -1;
}

const char *lc_word_text(int index) { return words[index].word; }
int lc_word_bits(int index) { return words[index].bits; }

int lc_word_dtype(const char *word) {
    int i = lc_word_find(word);
    return i < 0 ? -1 : words[i].dtype;
}

const char *lc_word_of(int dtype) {
    for (int i = 0; i < WORDS; i++)
        if (words[i].dtype == dtype) return words[i].word;
    return NULL;
}

/* ---- memory ---- */

char *lc_entries_text(struct lc_entries *e, size_t n) {
    char **texts = lc_realloc(e->texts, (e->text_count + 1) * sizeof *texts);
    if (!texts) return NULL;
    e->texts = texts;
    char *text = lc_alloc(n + 1);
    if (!text) return NULL;
    text[n] = 0;
    return texts[e->text_count++] = text;
}

void *lc_entries_keep(struct lc_entries *e, size_t n) {
    enum { BLOCK = 1 << 16, STEP = 8 };
    n = (n + STEP - 1) / STEP * STEP;
    if (n > e->left) {
        size_t room = n > BLOCK ? n : BLOCK;
        char *block = lc_entries_text(e, room);
        if (!block) return NULL;
        e->rest = block;
        e->left = room;
    }
    char *given = e->rest;
    e->rest += n;
    e->left -= n;
    return given;
}

int lc_entries_reserve(struct lc_entries *e, size_t more) {
    if (e->room - e->count >= more) return 0;
    size_t room = e->count + more;
    if (room < 2 * e->count) room = 2 * e->count;
    void *list = lc_realloc(e->list, room * sizeof *e->list);
    if (!list) return -1;
    e->list = list;
    e->room = room;
    return 0;
}

void lc_entries_free(struct lc_entries *e) {
    for (size_t i = 0; i < e->text_count; i++) lc_free(e->texts[i]);
    lc_free(e->texts);
    lc_free(e->list);
    lc_free(e->metadata);
    *e = (struct lc_entries){0};
}

/* ---- names ---- */

static int name_order(const void *a, const void *b) {
    return strcmp(((const struct lc_entry *)a)->name, ((const struct lc_entry *)b)->name);
}

int lc_check_name(const char *name, const char *path) {
    size_t n = strlen(name);
    if (n == 0 || n > LC_MOST_NAME)
        return lc_fail(LC_EINVAL, "%s: %.40s...: a tensor's name is empty or too long", path, name);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7F)
            return lc_fail(LC_EINVAL, "%s: %s: a tensor's name has a control character", path,
                           name);
    return 0;
}

int lc_entries_check_names(struct lc_entries *e, size_t first, const char *path) {
    struct lc_entry *list = e->list + first;
    size_t n = e->count - first;
    for (size_t i = 0; i < n; i++)
        if (lc_check_name(list[i].name, path) < 0) return -1;
    if (n > 1) qsort(list, n, sizeof *list, name_order);
    for (size_t i = 1; i < n; i++)
        if (name_order(list + i - 1, list + i) == 0)
            return lc_fail(LC_EINVAL, "%s: %.200s: this name stands twice", path, list[i].name);
    return 0;
}
