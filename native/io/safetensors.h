/* safetensors.h - the header of one safetensors file, checked. */
#ifndef LC_IO_SAFETENSORS_H
#define LC_IO_SAFETENSORS_H
#include "io/entries.h"

enum { LC_HEADER_LIMIT = 100000000 }; /* bytes, as the format's own reader has it */

/* Appends what the file holds, whose size is given. Errors are "PATH: what". */
int lc_safetensors_read(struct lc_entries *e, int fd, int64_t size, const char *path, int file);

#endif
