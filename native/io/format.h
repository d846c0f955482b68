/* format.h - what kind of file a checkpoint's file is, by its first bytes. */
#ifndef LC_IO_FORMAT_H
#define LC_IO_FORMAT_H
#include <stddef.h>
#include <stdint.h>

enum lc_format { LC_FORMAT_SAFETENSORS, LC_FORMAT_ZIP, LC_FORMAT_PICKLE };

/* One of them; -1 for what is known to be something else, with its name and what to do. Nothing else
 * about the file is checked. */
int lc_format_of(int fd, int64_t size, const char *path);
const char *lc_format_name(int format); /* for people */

/* Reads n bytes from a place; a file that ends before is an error. */
int lc_read_at(int fd, void *to, size_t n, int64_t from, const char *path);

#endif
