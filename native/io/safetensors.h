/* safetensors.h - the header of one safetensors file, checked. */
#ifndef LC_IO_SAFETENSORS_H
#define LC_IO_SAFETENSORS_H
#include <stdbool.h>

#include "lucid.h"

enum { LC_HEADER_LIMIT = 100000000 }; /* bytes, as the format's own reader has it */

struct lc_entry {
    const char *name;           /* within a header's text */
    const char *dtype;          /* the file's own word, a constant of ours */
    int64_t shape[LC_MAX_DIMS]; /* its first dims */
    int ndim, file;             /* ndim may be more than LC_MAX_DIMS: then it cannot be loaded */
    int64_t begin, bytes;       /* in the file */
};

struct lc_text_pair {
    const char *key, *value;
};

struct lc_entries {
    struct lc_entry *list;
    size_t count, room;
    struct lc_text_pair *metadata;
    size_t pairs, pair_room;
    char **texts; /* the headers, a file each */
    size_t text_count;
};

/* Appends what the file holds, whose size is given. Errors are "PATH: what". */
int lc_safetensors_read(struct lc_entries *e, int fd, int64_t size, const char *path, int file);
void lc_entries_free(struct lc_entries *e);

/* The dtype that a word of the format loads as, or -1; the word of a dtype. */
int lc_safetensors_dtype(const char *word);
const char *lc_safetensors_word(int dtype);

#endif
