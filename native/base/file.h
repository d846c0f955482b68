/* file.h - files that are whole or not there, and errors that name the path. */
#ifndef LC_BASE_FILE_H
#define LC_BASE_FILE_H
#include "lucid.h"

/* "PATH: what: strerror(errno)", -1; LC_EMISSING when there is no such file. */
int lc_fail_errno(const char *path, const char *what);

/* Opens a file for reading; a folder is an error. */
int lc_open_file(const char *path);

/* lc_file_read of what may be no file but a pipe or a device without end: more than most bytes is an error. */
int lc_file_read_most(const char *path, int64_t most, char **data, size_t *n);

/* A file that is being written: it stands beside its place as PATH.tmp.PID, readable by its owner
 * alone, until lc_output_finish moves it there. */
struct lc_output {
    char *path, *temporary;
    int fd;
};
int lc_output_open(struct lc_output *o, const char *path);
int lc_output_write(struct lc_output *o, const void *data, size_t n);
int lc_output_finish(
    struct lc_output *o); /* drops it whatever happens; the old file stays on error */
void lc_output_drop(struct lc_output *o);

#endif
