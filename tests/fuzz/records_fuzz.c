/* records_fuzz.c - files of records: lists, objects, JSON lines, a list within an object, and the index of a list. */
#include "support.h"

/* Reads to the end or to the first error: how many, -1 where there is an error. */
static int64_t read_all(lc_json_reader *r) {
    int64_t count = 0, line = 0;
    int done = 0;
    for (lc_json *v; r && (v = lc_json_read(r, &done)); count++) {
        size_t n;
        lc_json_read_key(r, &n);
        fuzz_check(lc_json_read_line(r) >= line);
        line = lc_json_read_line(r);
        lc_json_free(v);
    }
    lc_json_close(r);
    return done ? count : -1;
}

static int64_t children(const lc_json *v) {
    int64_t count = 0;
    for (const lc_json *e = lc_json_first(v); e; e = lc_json_next(e)) count++;
    return count;
}

static void index_of(const char *path, const char *keys) {
    lc_json_index *x = lc_json_index_build(path, keys);
    if (!x) return;
    for (int64_t row = 0; row < lc_json_index_count(x); row++) {
        fuzz_check(lc_json_index_number(x, row) >= 1);
        lc_json_free(lc_json_index_record(x, row));
    }
    fuzz_check(lc_json_index_find(x, INT64_MIN) == -1);
    lc_json_index_free(x);
}

void fuzz_one(const uint8_t *data, size_t n) {
    fuzz_begin();
    const char *path = fuzz_file(data, n), *lines = fuzz_name("x.jsonl");
    int64_t records = read_all(lc_json_open(path));
    read_all(lc_json_open(lines));
    read_all(lc_json_open_list(path, "annotations"));
    index_of(path, "image_id");
    index_of(path, "regions/image_id");
    /* A list that is JSON as a whole has the same records one by one. */
    lc_json *whole = lc_json_parse((const char *)data, n, "text", 0);
    if (whole && lc_json_type(whole) == LC_JSON_ARRAY) fuzz_check(records == children(whole));
    lc_json_free(whole);
    fuzz_end();
}
