/* json.h - what the readers of records need beyond the public calls. */
#ifndef LC_BASE_JSON_H
#define LC_BASE_JSON_H
#include <stdbool.h>

#include "lucid.h"

enum {
    LC_JSON_DEPTH = 64,
    LC_JSON_WHOLE = 256 << 20
}; /* bytes of a file that is read whole, at most */

/* Bytes that are read at a time. Fuzzers have few, so that records end and begin anywhere in a piece. */
#ifdef LC_FUZZING
#define LC_JSON_PIECE(bytes) 16
#else
#define LC_JSON_PIECE(bytes) (bytes)
#endif

/* As lc_json_parse, for a piece of a larger text: line and column are those of its first byte. */
lc_json *lc_json_parse_at(const char *text, size_t n, const char *name, int strict_keys,
                          int64_t line, int64_t column);

/* Finds where a value ends without looking into it: step by step over its bytes, from {0}. */
struct lc_json_extent {
    int depth;
    bool in_string, escaped, scalar;
};
/* 1: the value ended before this byte (a scalar), 2: with it, 0: goes on, -1: nests too deep. */
int lc_json_step(struct lc_json_extent *e, char c);

static inline bool lc_json_space(int c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

#endif
