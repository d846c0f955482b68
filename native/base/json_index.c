/* json_index.c - the records of a large JSON array by their keys: the index is kept in a file of its
 * own, and a record is parsed only when it is asked for. */
#define _GNU_SOURCE
#include "base/json_index.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- opening ---- */

static int read_stamp(int fd, const char *path, struct stamp *s) {
    struct stat st;
    if (fstat(fd, &st) < 0) return lc_fail_errno(path, "looking");
    *s = (struct stamp){(int64_t)st.st_ino, (int64_t)st.st_size,
                        (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec};
    return 0;
}

static lc_json_index *open_index(const char *path, const char *keys) {
    lc_json_index *x = lc_alloc_zero(sizeof *x);
    if (!x) return NULL;
    x->fd = -1;
    x->path = lc_copy_text(path);
    x->keys = lc_copy_text(keys);
    if (x->path && x->keys && (x->fd = lc_open_file(path)) >= 0 &&
        read_stamp(x->fd, path, &x->stamp) == 0)
        return x;
    lc_json_index_free(x);
    return NULL;
}

void lc_json_index_free(lc_json_index *x) {
    if (!x) return;
    if (x->fd >= 0) close(x->fd);
    lc_free(x->path);
    lc_free(x->keys);
    lc_free(x->entries);
    lc_free(x);
}

lc_json_index *lc_json_index_build(const char *path, const char *keys) {
    lc_json_index *x = open_index(path, keys);
    if (x && lc_json_scan(x) == 0) return x;
    lc_json_index_free(x);
    return NULL;
}

/* ---- keeping ---- */

/* The file: a header, the entries, a sum over both. */
struct header {
    char magic[16];
    uint64_t name; /* of path and keys */
    struct stamp stamp;
    int64_t count, empty;
};
static const char MAGIC[16] = "lucid index 1\n";

/* FNV-1a, which finds what a disk or a half-finished copy does to a file. */
static uint64_t sum(uint64_t from, const void *data, size_t n) {
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++) from = (from ^ p[i]) * 1099511628211u;
    return from;
}

enum { SUM_START = 1469598103 };

static struct header header_of(const lc_json_index *x) {
    struct header h = {.stamp = x->stamp, .count = x->count, .empty = x->empty};
    memcpy(h.magic, MAGIC, sizeof h.magic);
    h.name = sum(sum(SUM_START, x->path, strlen(x->path) + 1), x->keys, strlen(x->keys));
    return h;
}

int lc_json_index_save(const lc_json_index *x, const char *file) {
    struct lc_output o;
    struct header h = header_of(x);
    size_t bytes = (size_t)x->count * sizeof *x->entries;
    uint64_t check = sum(sum(SUM_START, &h, sizeof h), x->entries, bytes);
    if (lc_output_open(&o, file) < 0) return -1;
    if (lc_output_write(&o, &h, sizeof h) == 0 && lc_output_write(&o, x->entries, bytes) == 0 &&
        lc_output_write(&o, &check, sizeof check) == 0)
        return lc_output_finish(&o);
    lc_output_drop(&o);
    return -1;
}

/* Whether the bytes of a kept index are whole and about this very file. */
static int check_kept(const lc_json_index *x, const char *file, const char *data, size_t n) {
    struct header h, own = header_of(x);
    uint64_t check;
    if (n < sizeof h + sizeof check || memcmp(data, MAGIC, sizeof MAGIC) != 0)
        return lc_fail(LC_EINVAL, "%s: this is no index", file);
    memcpy(&h, data, sizeof h);
    memcpy(&check, data + n - sizeof check, sizeof check);
    if (check != sum(SUM_START, data, n - sizeof check) ||
        (uint64_t)h.count != (n - sizeof h - sizeof check) / sizeof *x->entries)
        return lc_fail(LC_EINVAL, "%s: the index is damaged", file);
    if (h.name != own.name || memcmp(&h.stamp, &own.stamp, sizeof h.stamp) != 0)
        return lc_fail(LC_EINVAL, "%s: the index is of another file than %s now is", file, x->path);
    return 0;
}

lc_json_index *lc_json_index_load(const char *path, const char *keys, const char *file) {
    char *data = NULL;
    size_t n = 0;
    lc_json_index *x = open_index(path, keys);
    if (!x || lc_file_read(file, &data, &n) < 0 || check_kept(x, file, data, n) < 0) goto failed;
    struct header h;
    memcpy(&h, data, sizeof h);
    size_t bytes = (size_t)h.count * sizeof *x->entries;
    x->entries = lc_alloc(bytes + 1);
    if (!x->entries) goto failed;
    memcpy(x->entries, data + sizeof h, bytes);
    x->count = h.count;
    x->empty = h.empty;
    lc_free(data);
    return x;
failed:
    lc_free(data);
    lc_json_index_free(x);
    return NULL;
}

/* ---- asking ---- */

int64_t lc_json_index_count(const lc_json_index *x) { return x->count; }
int64_t lc_json_index_empty(const lc_json_index *x) { return x->empty; }

int64_t lc_json_index_find(const lc_json_index *x, int64_t key) {
    int64_t low = 0, high = x->count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (x->entries[middle].key < key) low = middle + 1;
        else high = middle;
    }
    return low < x->count && x->entries[low].key == key ? low : -1;
}

int64_t lc_json_index_number(const lc_json_index *x, int64_t row) { return x->entries[row].number; }

static char *read_range(const lc_json_index *x, const struct entry *e) {
    char *text = lc_alloc((size_t)e->length + 1);
    for (int64_t had = 0; text && had < e->length;) {
        ssize_t got = pread(x->fd, text + had, (size_t)(e->length - had), e->offset + had);
        if (got < 0 && errno == EINTR) continue;
        if (got > 0) {
            had += got;
            continue;
        }
        if (got < 0) lc_fail_errno(x->path, "reading");
        else lc_fail(LC_EIO, "%s: it is shorter than when it was indexed", x->path);
        lc_free(text);
        text = NULL;
    }
    return text;
}

lc_json *lc_json_index_record(const lc_json_index *x, int64_t row) {
    const struct entry *e = x->entries + row;
    struct stamp now;
    if (read_stamp(x->fd, x->path, &now) < 0) return NULL;
    if (memcmp(&now, &x->stamp, sizeof now) != 0)
        return lc_fail_null(LC_EIO, "%s: it has changed while it is read; start again", x->path);
    char *text = read_range(x, e), name[64];
    if (!text) return NULL;
    snprintf(name, sizeof name, "record %" PRId64, e->number);
    lc_json *v = lc_json_parse(text, (size_t)e->length, name, 0);
    lc_free(text);
    if (v) return v;
    char reason[512];
    snprintf(reason, sizeof reason, "%s", lc_error());
    return lc_fail_null(lc_error_code(), "%s: %s", x->path, reason);
}
