/* utf8.h - bytes as characters, also where they are none. */
#ifndef LC_TEXT_UTF8_H
#define LC_TEXT_UTF8_H
#include <stddef.h>
#include <stdint.h>

enum { LC_UTF8_BAD = 0xFFFD, LC_UTF8_LONGEST = 4 };

/* The character that s begins with, and how many of the n > 0 bytes it takes. What is no UTF-8 is
 * U+FFFD: as many bytes as begin some character, at least one (Python's decode(errors="replace")). */
size_t lc_utf8_read(const char *s, size_t n, int32_t *character);

/* Writes a character, at most LC_UTF8_LONGEST bytes, and returns how many. */
size_t lc_utf8_write(int32_t character, char *to);

/* How many bytes at the front are UTF-8. */
size_t lc_utf8_front(const char *s, size_t n);

/* *out is s itself when all of it is UTF-8; else a copy with U+FFFD, which lc_free takes. */
int lc_utf8_clean(const char *s, size_t n, const char **out, size_t *length);

#endif
