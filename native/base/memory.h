/* memory.h - every native byte is counted, can be limited, and can be made to fail. */
#ifndef LC_BASE_MEMORY_H
#define LC_BASE_MEMORY_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 64-byte aligned; NULL with LC_ENOMEM and the size in lc_error(). Size 0 is legal. */
void *lc_alloc(size_t bytes);
void *lc_alloc_zero(size_t bytes);
void *lc_realloc(void *p, size_t bytes);
void lc_free(void *p); /* NULL is legal */
char *lc_copy_text(const char *text);

/* Counts bytes that lc_alloc did not hand out (mapped files are not counted, device memory is). */
int lc_memory_charge(int64_t bytes); /* -1: beyond the limit */
void lc_memory_discharge(int64_t bytes);

/* product *= factor, false on overflow of 63 bits or a negative factor: the one size check. */
bool lc_multiply(int64_t *product, int64_t factor);

#endif
