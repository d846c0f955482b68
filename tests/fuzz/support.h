/* support.h - what the fuzzers share. */
#ifndef LC_FUZZ_H
#define LC_FUZZ_H
#include <stddef.h>
#include <stdint.h>

#include "lucid.h"

#pragma GCC visibility push(default)
/* A fuzzer: one input. What it finds ends the program; an error of lucid's is no finding. More than a second of the
 * processor is. */
void fuzz_one(const uint8_t *data, size_t n);

/* The path of a file in memory with these bytes, until the next call. */
const char *fuzz_file(const void *data, size_t n);
/* The same file under a name of its own, in the folder that fuzz_folder gives: "x.jsonl". */
const char *fuzz_name(const char *name);
const char *fuzz_folder(void); /* is removed at the end */
/* A file of the repository under a name in that folder. */
const char *fuzz_link(const char *name, const char *file);

/* Around what makes tensors or holds memory of lucid's: at the end all of it has to be given back. */
void fuzz_begin(void);
void fuzz_end(void);

/* What has to hold whatever the input. */
#define fuzz_check(condition) ((condition) ? (void)0 : fuzz_broken(#condition, __FILE__, __LINE__))
_Noreturn void fuzz_broken(const char *condition, const char *file, int line);
#pragma GCC visibility pop

#endif
