/* entries.h - what the files of a checkpoint hold, tensor by tensor, whatever their format. */
#ifndef LC_IO_ENTRIES_H
#define LC_IO_ENTRIES_H
#include <stdbool.h>
#include <stddef.h>

#include "lucid.h"

enum { LC_MOST_NAME = 512 }; /* bytes of a tensor's name */

struct lc_entry {
    const char *name;           /* within a text of the entries */
    const char *dtype;          /* the file's own word, a constant of ours */
    int64_t shape[LC_MAX_DIMS]; /* its first dims */
    int ndim, file;             /* ndim may be more than LC_MAX_DIMS: then it cannot be loaded */
    int64_t begin, bytes;       /* in the file; bytes: of the tensor, its elements end to end */
    const int64_t *stride;      /* in elements, LC_MAX_DIMS of them; NULL: end to end */
    int64_t span;               /* bytes in the file from the first element to behind the last */
};

struct lc_text_pair {
    const char *key, *value;
};

struct lc_entries {
    struct lc_entry *list;
    size_t count, room;
    struct lc_text_pair *metadata;
    size_t pairs, pair_room;
    char **texts; /* blocks of memory that the names lie in */
    size_t text_count;
    char *rest; /* of the last block: what lc_entries_keep has not given out */
    size_t left;
};

/* A block of n bytes and a zero byte behind them, which lives as long as the entries. */
char *lc_entries_text(struct lc_entries *e, size_t n);
/* Few bytes of a shared block, aligned for anything. */
void *lc_entries_keep(struct lc_entries *e, size_t n);
/* Room for so many more entries in all. */
int lc_entries_reserve(struct lc_entries *e, size_t more);
/* -1 for what is no name of a tensor: empty, too long, or with a control character. */
int lc_check_name(const char *name, const char *path);
/* Sorts those from the first one by name; refuses two of one name, and what is no name. */
int lc_entries_check_names(struct lc_entries *e, size_t first, const char *path);
void lc_entries_free(struct lc_entries *e);

/* A dtype by the word that safetensors has for it: its index, or -1. */
int lc_word_find(const char *word);
const char *lc_word_text(int index);
int lc_word_bits(int index);
/* The dtype that a word loads as, or -1; the word of a dtype. */
int lc_word_dtype(const char *word);
const char *lc_word_of(int dtype);

#endif
