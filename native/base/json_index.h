/* json_index.h - where the records of a large JSON array stand. */
#ifndef LC_BASE_JSON_INDEX_H
#define LC_BASE_JSON_INDEX_H
#include "lucid.h"

/* Which file it was: another inode, size or time is another file. */
struct stamp {
    int64_t inode, size, time;
};

struct entry {
    int64_t key, number, offset, length; /* number: of the record in the file, from 1 */
};

struct lc_json_index {
    char *path, *keys;
    int fd;
    struct stamp stamp;
    struct entry *entries; /* in the order of their keys */
    int64_t count, empty, records;
    size_t room;
};

/* Fills entries, count, empty and records from the open file, in one pass. */
int lc_json_scan(struct lc_json_index *x);

#endif
