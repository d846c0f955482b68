/* mmap.h - files in memory, for as long as a tensor looks at them. */
#ifndef LC_IO_MMAP_H
#define LC_IO_MMAP_H
#include <stddef.h>

struct lc_mapping {
    char *data;
    size_t bytes;
    int holders;
    char *path;
    struct lc_mapping *next; /* among all that there are */
};

/* The whole file, or NULL. Writing to it (training in place) changes private copies of its pages and
 * never the file. */
struct lc_mapping *lc_map(int fd, size_t bytes, const char *path);
/* The whole pages among these bytes leave memory; whoever reads them again gets the file's contents.
 * For what nobody has written to. */
void lc_map_forget(const struct lc_mapping *m, size_t begin, size_t bytes);
void lc_map_release(void *mapping); /* as lc_tensor_wrap's close; NULL is legal */

#endif
