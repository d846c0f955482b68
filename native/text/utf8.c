/* utf8.c - reading and writing UTF-8. */
#include "text/utf8.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"

/* How many bytes a character has that begins with this one; 0: none does. */
static size_t length_of(unsigned char first) {
    if (first < 0x80) return 1;
    if (first < 0xC2 || first > 0xF4) return 0;
    return first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

/* Whether c may be the second byte: no overlong forms, no surrogates, nothing beyond U+10FFFF. */
static int second_fits(unsigned char first, unsigned char c) {
    unsigned char low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    unsigned char high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    return c >= low && c <= high;
}

size_t lc_utf8_read(const char *s, size_t n, int32_t *character) {
    const unsigned char *b = (const unsigned char *)s;
    size_t length = length_of(b[0]), i = 1;
    *character = length == 1 ? b[0] : LC_UTF8_BAD;
    if (length < 2) return 1;
    int32_t value = b[0] & (0xFF >> (length + 1));
    for (; i < length; i++) {
        if (i >= n || (i == 1 ? !second_fits(b[0], b[1]) : (b[i] & 0xC0) != 0x80)) return i;
        value = value << 6 | (b[i] & 0x3F);
    }
    *character = value;
    return length;
}

size_t lc_utf8_write(int32_t c, char *to) {
    static const unsigned char mark[] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    if (length == 1) {
        to[0] = (char)c;
        return 1;
    }
    for (size_t i = length - 1; i > 0; i--, c >>= 6) to[i] = (char)(0x80 | (c & 0x3F));
    to[0] = (char)(mark[length] | c);
    return length;
}

/* A well-formed U+FFFD is 3 bytes long and no fault. */
size_t lc_utf8_front(const char *s, size_t n) {
    size_t at = 0;
    int32_t c;
    while (at < n) {
        size_t length = lc_utf8_read(s + at, n - at, &c);
        if (c == LC_UTF8_BAD && (length != 3 || memcmp(s + at, "\xEF\xBF\xBD", 3) != 0)) break;
        at += length;
    }
    return at;
}

int lc_utf8_clean(const char *s, size_t n, const char **out, size_t *length) {
    size_t at = lc_utf8_front(s, n), to = at;
    *out = s;
    *length = n;
    if (at == n) return 0;
    int64_t most = 3; /* a bad byte becomes the 3 bytes of U+FFFD */
    if (!lc_multiply(&most, (int64_t)n))
        return lc_fail(LC_EINVAL, "encode: %zu bytes are too many", n);
    char *copy = lc_alloc((size_t)most);
    if (!copy) return -1;
    memcpy(copy, s, at);
    while (at < n) {
        int32_t c;
        at += lc_utf8_read(s + at, n - at, &c);
        to += lc_utf8_write(c, copy + to);
    }
    *out = copy;
    *length = to;
    return 0;
}
