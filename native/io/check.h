/* check.h - reads what opening a checkpoint does not: every byte. */
#ifndef LC_IO_CHECK_H
#define LC_IO_CHECK_H
#include <stdint.h>

/* The sums of all of a zip's entries that have one. Errors are "PATH: what". */
int lc_check_zip(int fd, int64_t size, const char *path);
/* How many numbers of a dtype ("F16", "BF16", "F32", "F64"; of others none) within these bytes are NaN or
 * infinite; -1: failed. */
int64_t lc_check_numbers(int fd, int64_t begin, int64_t bytes, const char *dtype, const char *path);

#endif
