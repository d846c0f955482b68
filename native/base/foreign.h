/* foreign.h - what lies in the place of a model's file, told by its first bytes. */
#ifndef LC_BASE_FOREIGN_H
#define LC_BASE_FOREIGN_H
#include <stddef.h>

/* -1 for a Git LFS pointer, a page of the web or an archive, with what to do about it; 0 for anything else.
 * start: the file's first n bytes, 512 of them or all. wanted: "weights", "a tokenizer". */
int lc_refuse_foreign(const char *path, const void *start, size_t n, const char *wanted);

#endif
