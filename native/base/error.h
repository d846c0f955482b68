/* error.h - one reason for the last failure on this thread, written where it is found. */
#ifndef LC_BASE_ERROR_H
#define LC_BASE_ERROR_H
#include "lucid.h"

/* Writes the reason and returns -1, or NULL: `return lc_fail(LC_EINVAL, "slice: ...", ...)`. */
int lc_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
void *lc_fail_null(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

#ifdef __clang_analyzer__ /* it does not look into other files */
#define lc_fail(...) ((lc_fail)(__VA_ARGS__), -1)
#define lc_fail_null(...) ((lc_fail_null)(__VA_ARGS__), NULL)
#endif

/* -1 with LC_EINTR once lc_interrupt(1) was called: long loops poll it. */
int lc_poll(const char *what);

/* For our own broken invariants only, never for bad input. */
#define lc_assert(condition) ((condition) ? (void)0 : lc_broken(#condition, __FILE__, __LINE__))
_Noreturn void lc_broken(const char *condition, const char *file, int line);

#endif
