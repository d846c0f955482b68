/* forest_fuzz.c - trees of segments: those that are built have the places that the definition gives. */
#include <string.h>

#include "support.h"

enum { MOST = 64 };

static int32_t parent[MOST], length[MOST], first[MOST], keys[MOST];
static uint8_t both[MOST];

/* Numbers of a byte: mostly small ones, some of the kind that overflows. */
static int32_t number_of(uint8_t b) {
    return b < 240 ? (int32_t)b - 1 : b < 248 ? INT32_MAX - (b - 240) : INT32_MIN + (b - 248);
}

static void look_at(lc_forest *f, int n) {
    int64_t rows = 0;
    for (int i = 0; i < n; i++) {
        int64_t at = lc_forest_first(f, i), position = 0;
        for (int p = parent[i]; p >= 0; p = parent[p]) position += length[p];
        fuzz_check(lc_forest_position(f, i) == position);
        fuzz_check(at >= 0 && at + length[i] <= lc_forest_rows(f));
        rows += length[i];
    }
    fuzz_check(rows == lc_forest_rows(f));
}

void fuzz_one(const uint8_t *data, size_t size) {
    int n = 0;
    for (; n < MOST && size >= 5; n++, data += 5, size -= 5) {
        parent[n] = number_of(data[0]);
        length[n] = data[1] < 240 ? data[1] : number_of(data[1]);
        both[n] = data[2] & 1;
        first[n] = number_of(data[3]);
        keys[n] = number_of(data[4]);
    }
    fuzz_begin();
    lc_memory_limit(lc_memory_used() + (8 << 20));
    lc_forest *f = lc_forest_new(n, parent, length, size ? both : NULL);
    if (f) look_at(f, n);
    if (f && lc_forest_rows(f) < 1 << 12) fuzz_check(lc_forest_positions(f, LC_HOST));
    lc_forest_release(f);
    lc_forest_release(lc_forest_cross(n, length, first, keys));
    fuzz_end();
}
