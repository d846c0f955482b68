/* base.c - random numbers, hashes, files, JSON. */
#include <string.h>

#include "capi.h"

static const char *at(const char *scratch, const char *name) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", scratch, name);
    return path;
}

static void files(const char *scratch) {
    char *data, hex[65], other[65], path[4096];
    size_t n;
    snprintf(path, sizeof path, "%s", at(scratch, "file"));
    MUST(lc_file_write(path, "one two", 7) == 0 && lc_file_append(path, " three", 6, 1) == 0);
    MUST(lc_file_read(path, &data, &n) == 0 && n == 13 && !memcmp(data, "one two three", 13));
    MUST(lc_sha256(data, n, hex) == 0 && lc_sha256_file(path, other) == 0 && !strcmp(hex, other));
    lc_free_bytes(data);
    char part[3];
    MUST(lc_file_read_at(path, 4, part, 3) == 0 && !memcmp(part, "two", 3));
    REFUSED(lc_file_read_at(path, 12, part, 3) < 0);
    MUST(lc_file_truncate(path, 3) == 0 && lc_file_size(path) == 3 && lc_file_kind(path) == 1);
    MUST(lc_file_mtime_ns(path) > 0 && lc_file_inode(path) > 0 && lc_disk_free(scratch) > 0);
    int lock = lc_file_lock(at(scratch, "lock"));
    MUST(lock >= 0);
    lc_file_unlock(lock);
    MUST(lc_symlink("file", at(scratch, "link")) == 0);
    MUST(lc_make_folder(at(scratch, "a/b")) == 0 && lc_file_kind(at(scratch, "a/b")) == 2);
    MUST(lc_rename(path, at(scratch, "renamed")) == 0);
    char *names = lc_folder_list(scratch);
    MUST(names && !strcmp(names, "a\nlink\nlock\nrenamed\n"));
    lc_free_bytes(names);
    REFUSED(lc_file_read(at(scratch, "nowhere"), &data, &n) < 0);
    REFUSED(lc_folder_list(at(scratch, "nowhere")) == NULL);
    static const char *const made[] = {"a/b", "a", "link", "lock", "renamed"};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++)
        MUST(lc_remove(at(scratch, made[i])) == 0);
}

static void json(const char *scratch) {
    static const char text[] =
        "{\"a\": [1, -2.5, \"\\u00e9\\u0000\", null, true], \"b\": {\"c\": 7}}";
    lc_json *root = lc_json_parse(text, sizeof text - 1, "text", 1);
    MUST(root && lc_json_type(root) == LC_JSON_OBJECT);
    size_t n;
    int64_t whole;
    const lc_json *first = lc_json_first(lc_json_get(root, "a"));
    MUST(first && lc_json_integer(first, &whole) == 0 && whole == 1);
    const lc_json *second = lc_json_next(first);
    MUST(second && lc_json_number(second) == -2.5);
    MUST(lc_json_string(lc_json_next(second), &n) && n == 3);
    MUST(!lc_json_get(root, "A") && lc_json_key(lc_json_get(root, "b"), &n) && n == 1);
    lc_json_free(root);
    REFUSED(lc_json_parse("{\"a\": 1, \"a\": 2}", 16, "text", 1) == NULL);
    REFUSED(lc_json_parse("[1,", 3, "text", 0) == NULL);

    static const char records[] = "[{\"image_id\": 3, \"x\": []},\n {\"image_id\": 1, \"x\": [2]}]";
    char path[4096], kept[4096];
    snprintf(path, sizeof path, "%s", at(scratch, "records.json"));
    snprintf(kept, sizeof kept, "%s", at(scratch, "index"));
    MUST(lc_file_write(path, records, sizeof records - 1) == 0);
    lc_json_reader *r = lc_json_open(path);
    MUST(r);
    int done = 0, count = 0;
    for (lc_json *v; (v = lc_json_read(r, &done)); count++) lc_json_free(v);
    MUST(done && count == 2 && lc_json_read_line(r) == 2);
    lc_json_close(r);
    lc_json_index *x = lc_json_index_build(path, "image_id");
    MUST(x && lc_json_index_count(x) == 2 && lc_json_index_save(x, kept) == 0);
    lc_json_index_free(x);
    MUST((x = lc_json_index_load(path, "image_id", kept)) && lc_json_index_find(x, 3) == 1);
    lc_json *v = lc_json_index_record(x, 0);
    MUST(v && lc_json_number(lc_json_get(v, "image_id")) == 1);
    lc_json_free(v);
    lc_json_index_free(x);
    MUST(lc_remove(path) == 0 && lc_remove(kept) == 0);
}

void capi_base(const char *scratch) {
    uint32_t words[4];
    lc_philox(1, 2, 3, words);
    double u = lc_uniform(1, 2, 3);
    MUST(lc_version() == LC_VERSION && lc_features()[0] && u >= 0 && u < 1);
    files(scratch);
    json(scratch);
}
