/* check.c - sums and numbers, a mebibyte at a time. */
#include "io/check.h"

#include "base/error.h"
#include "base/memory.h"
#include "io/format.h"
#include "io/zip.h"

#include <string.h>

enum { PIECE = 1 << 20 };

/* Calls see for pieces of a file's part, each of PIECE bytes but the last. */
static int each_piece(int fd, int64_t begin, int64_t bytes, const char *path,
                      void (*see)(void *state, const char *data, size_t n), void *state) {
    char *data = lc_alloc(PIECE);
    int result = data ? 0 : -1;
    while (result == 0 && bytes > 0) {
        size_t n = bytes < PIECE ? (size_t)bytes : PIECE;
        result = lc_poll("check") < 0 ? -1 : lc_read_at(fd, data, n, begin, path);
        if (result == 0) see(state, data, n);
        begin += (int64_t)n;
        bytes -= (int64_t)n;
    }
    lc_free(data);
    return result;
}

/* ---- sums ---- */

static void add_sum(void *state, const char *data, size_t n) {
    uint32_t *sum = state;
    *sum = lc_zip_sum(*sum, data, n);
}

int lc_check_zip(int fd, int64_t size, const char *path) {
    struct lc_zip z;
    int result = lc_zip_read(&z, fd, size, path);
    if (result < 0) return -1;
    for (size_t i = 0; result == 0 && i < z.count; i++) {
        const struct lc_zip_entry *e = &z.list[i];
        uint32_t sum = 0;
        if (e->crc == 0 || e->method != 0) continue;
        result = each_piece(fd, e->begin, e->bytes, path, add_sum, &sum);
        if (result == 0 && sum != e->crc)
            result = lc_fail(
                LC_EINVAL, "%s: its zip entry '%.200s' is damaged (its sum is wrong); get it again",
                path, e->name);
    }
    lc_zip_free(&z);
    return result;
}

/* ---- numbers ---- */

/* What is not finite has an exponent of ones. */
struct numbers {
    uint64_t exponent;
    int64_t found;
};

#define COUNT(type)                                                                                \
    for (size_t i = 0; i < n / sizeof(type); i++) {                                                \
        type v;                                                                                    \
        memcpy(&v, data + i * sizeof v, sizeof v);                                                 \
        found += (v & exponent) == exponent;                                                       \
    }

static void count16(void *state, const char *data, size_t n) {
    struct numbers *s = state;
    uint16_t exponent = (uint16_t)s->exponent;
    int64_t found = 0;
    COUNT(uint16_t)
    s->found += found;
}

static void count32(void *state, const char *data, size_t n) {
    struct numbers *s = state;
    uint32_t exponent = (uint32_t)s->exponent;
    int64_t found = 0;
    COUNT(uint32_t)
    s->found += found;
}

static void count64(void *state, const char *data, size_t n) {
    struct numbers *s = state;
    uint64_t exponent = s->exponent;
    int64_t found = 0;
    COUNT(uint64_t)
    s->found += found;
}
#undef COUNT

int64_t lc_check_numbers(int fd, int64_t begin, int64_t bytes, const char *dtype,
                         const char *path) {
    static const struct {
        const char *dtype;
        void (*count)(void *state, const char *data, size_t n);
        uint64_t exponent;
    } kinds[] = {{"F16", count16, 0x7C00},
                 {"BF16", count16, 0x7F80},
                 {"F32", count32, 0x7F800000},
                 {"F64", count64, 0x7FF0000000000000}};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct numbers s = {kinds[i].exponent, 0};
        if (strcmp(kinds[i].dtype, dtype) != 0) continue;
        return each_piece(fd, begin, bytes, path, kinds[i].count, &s) < 0 ? -1 : s.found;
    }
    return 0;
}
