/* json_fuzz.c - texts through the JSON parser. */
#include "support.h"

enum { DEPTH = 64 };

static void walk(const lc_json *v, int depth) {
    size_t n;
    int64_t integer;
    fuzz_check(depth <= DEPTH);
    int type = lc_json_type(v);
    if (type == LC_JSON_STRING) fuzz_check(lc_json_string(v, &n)[n] == 0);
    else fuzz_check(!lc_json_string(v, &n));
    if (type == LC_JSON_NUMBER && lc_json_integer(v, &integer) == 0) {
        double difference = lc_json_number(v) - (double)integer;
        fuzz_check(difference == 0);
    }
    if (type != LC_JSON_ARRAY && type != LC_JSON_OBJECT) return;
    for (const lc_json *e = lc_json_first(v); e; e = lc_json_next(e)) {
        const char *key = lc_json_key(e, &n);
        fuzz_check(!key == (type == LC_JSON_ARRAY));
        if (key) fuzz_check(key[n] == 0);
        walk(e, depth + 1);
    }
}

void fuzz_one(const uint8_t *data, size_t n) {
    fuzz_begin();
    lc_json_repeated();
    lc_json *loose = lc_json_parse((const char *)data, n, "text", 0);
    int64_t repeated = lc_json_repeated();
    lc_json *strict = lc_json_parse((const char *)data, n, "text", 1);
    if (loose) walk(loose, 0);
    if (strict) walk(strict, 0);
    fuzz_check(!strict == (!loose || repeated > 0));
    lc_json_free(loose);
    lc_json_free(strict);
    fuzz_end();
}
