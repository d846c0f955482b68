/* json.h - what the readers of records need beyond the public calls. */
#ifndef LC_BASE_JSON_H
#define LC_BASE_JSON_H
#include <stdbool.h>

#include "lucid.h"

enum { LC_JSON_DEPTH = 64 };

/* As lc_json_parse, for a piece of a larger text: line and column are those of its first byte. */
lc_json *lc_json_parse_at(const char *text, size_t n, const char *name, int strict_keys,
                          int64_t line, int64_t column);

static inline bool lc_json_space(int c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

#endif
