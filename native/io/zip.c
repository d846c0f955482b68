/* zip.c - reads a zip's central directory and holds every local header against it: what one reader
 * takes from the one and another from the other must be the same. */
#include "io/zip.h"

#include "base/error.h"
#include "base/memory.h"
#include "io/format.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    END = 22,
    LOCATOR = 20,
    END64 = 56,
    CENTRAL = 46,
    LOCAL = 30,
    MOST_DIRECTORY = 64 << 20,
    ENCRYPTED = 1,
    SIZES_BEHIND = 8, /* flag: sizes and sum follow the bytes, the local header has zeros */
};

struct zip {
    struct lc_zip *out;
    const char *path;
    int fd;
    int64_t size, directory, directory_bytes;
    uint64_t count;
};

static uint64_t number(const char *p, int bytes) {
    uint64_t n = 0;
    for (int i = bytes - 1; i >= 0; i--) n = n << 8 | (unsigned char)p[i];
    return n;
}

static int refuse(const struct zip *z, const char *what) {
    return lc_fail(LC_EINVAL, "%s: its zip directory: %s", z->path, what);
}

static int refuse_entry(const struct zip *z, const char *name, const char *what) {
    return lc_fail(LC_EINVAL, "%s: its zip entry '%.200s': %s", z->path, name, what);
}

/* ---- where the directory is ---- */

/* The end record, whose comment reaches to the end of the file, in the last n bytes. */
static const char *find_end(const char *tail, size_t n) {
    for (size_t at = n < END ? 0 : n - END + 1; at-- > 0;)
        if (!memcmp(tail + at, "PK\5\6", 4) && number(tail + at + 20, 2) == n - at - END)
            return tail + at;
    return NULL;
}

/* The end record of large files stands before the plain one, with a pointer to it in between. */
static int read_end64(struct zip *z, int64_t end, const char *plain, bool *large) {
    char locator[LOCATOR], record[END64];
    *large = false;
    if (end < LOCATOR) return 0;
    if (lc_read_at(z->fd, locator, LOCATOR, end - LOCATOR, z->path) < 0) return -1;
    if (memcmp(locator, "PK\6\7", 4)) return 0;
    uint64_t at = number(locator + 8, 8);
    if (at > (uint64_t)end || (uint64_t)end - at != LOCATOR + END64)
        return refuse(z, "its zip64 end stands elsewhere than it says");
    if (lc_read_at(z->fd, record, END64, (int64_t)at, z->path) < 0) return -1;
    if (memcmp(record, "PK\6\6", 4)) return refuse(z, "its zip64 end is none");
    uint64_t bytes = number(record + 40, 8), from = number(record + 48, 8);
    z->count = number(record + 32, 8);
    uint64_t few = number(plain + 10, 2), small = number(plain + 12, 4),
             low = number(plain + 16, 4);
    if ((few != 0xFFFF && few != z->count) || (small != 0xFFFFFFFF && small != bytes) ||
        (low != 0xFFFFFFFF && low != from))
        return refuse(z, "its two ends disagree");
    if (bytes > at || from != at - bytes) return refuse(z, "it does not end where its end begins");
    z->directory = (int64_t)from;
    z->directory_bytes = (int64_t)bytes;
    *large = true;
    return 0;
}

static int find_directory(struct zip *z) {
    enum { MOST_TAIL = END + 0xFFFF };
    size_t n = z->size < MOST_TAIL ? (size_t)z->size : MOST_TAIL;
    char *tail = lc_alloc(n + 1);
    if (!tail) return -1;
    int result = lc_read_at(z->fd, tail, n, z->size - (int64_t)n, z->path);
    const char *end = result < 0 ? NULL : find_end(tail, n);
    bool large = false;
    if (result == 0 && !end)
        result = lc_fail(LC_EINVAL,
                         "%s: it begins as a zip but has no directory at its end; it was not "
                         "written or not downloaded to its end, get it again",
                         z->path);
    int64_t place = end ? z->size - (int64_t)n + (end - tail) : 0;
    if (result == 0) result = read_end64(z, place, end, &large);
    if (result == 0 && !large) {
        uint64_t bytes = number(end + 12, 4), from = number(end + 16, 4);
        z->count = number(end + 10, 2);
        z->directory = (int64_t)from;
        z->directory_bytes = (int64_t)bytes;
        if (from + bytes != (uint64_t)place)
            result = refuse(z, "it does not end where its end begins");
    }
    lc_free(tail);
    if (result == 0 && z->directory_bytes > MOST_DIRECTORY)
        result = refuse(z, "it is longer than 64 MiB");
    return result;
}

/* ---- entries ---- */

/* Sizes of four bytes that do not suffice are in the extra field 1, in this order. */
static int read_large(const struct zip *z, struct lc_zip_entry *e, const char *record,
                      const char *extra, size_t n, uint64_t *packed) {
    uint64_t values[3] = {number(record + 24, 4), number(record + 20, 4), number(record + 42, 4)};
    const char *at = NULL;
    size_t left = 0;
    for (size_t i = 0; i + 4 <= n;) {
        size_t length = number(extra + i + 2, 2);
        if (length > n - i - 4) return refuse_entry(z, e->name, "its extra field is cut");
        if (number(extra + i, 2) == 1) at = extra + i + 4, left = length;
        i += 4 + length;
    }
    for (int i = 0; i < 3; i++) {
        if (values[i] != 0xFFFFFFFF) continue;
        if (left < 8) return refuse_entry(z, e->name, "its large sizes are missing");
        values[i] = number(at, 8);
        at += 8, left -= 8;
    }
    if (values[0] > INT64_MAX || values[2] > INT64_MAX)
        return refuse_entry(z, e->name, "its sizes are impossible");
    e->bytes = (int64_t)values[0];
    e->header = (int64_t)values[2];
    *packed = values[1];
    return 0;
}

/* The local header says the same; its own extra field may be longer, to align the bytes. */
static int check_local(const struct zip *z, struct lc_zip_entry *e, uint64_t packed) {
    char local[LOCAL], *name;
    size_t length = strlen(e->name);
    if (e->header > z->directory - LOCAL) return refuse_entry(z, e->name, "it is not in the file");
    if (lc_read_at(z->fd, local, LOCAL, e->header, z->path) < 0) return -1;
    if (memcmp(local, "PK\3\4", 4) || number(local + 6, 2) != e->flags ||
        number(local + 8, 2) != e->method || number(local + 26, 2) != length)
        return refuse_entry(z, e->name, "its own header and the directory disagree");
    uint64_t small = number(local + 18, 4);
    if (small != packed && small != 0xFFFFFFFF && !(small == 0 && (e->flags & SIZES_BEHIND)))
        return refuse_entry(z, e->name, "its own header and the directory disagree on its size");
    e->begin = e->header + LOCAL + (int64_t)length + (int64_t)number(local + 28, 2);
    if (e->begin > z->directory || packed > (uint64_t)(z->directory - e->begin))
        return refuse_entry(z, e->name, "it reaches beyond the file's end or into the directory");
    if (!(name = lc_alloc(length + 1))) return -1;
    int result = lc_read_at(z->fd, name, length, e->header + LOCAL, z->path);
    if (result == 0 && memcmp(name, e->name, length) != 0)
        result = refuse_entry(z, e->name, "its own header has another name");
    lc_free(name);
    return result;
}

/* One record of the directory; what of it was taken is added to at. */
static int read_entry(struct zip *z, const char *text, size_t n, size_t *at, char **names) {
    struct lc_zip_entry *e = &z->out->list[z->out->count];
    const char *record = text + *at;
    size_t left = n - *at;
    uint64_t packed = 0;
    if (left < CENTRAL || memcmp(record, "PK\1\2", 4)) return refuse(z, "it is cut or damaged");
    size_t length = number(record + 28, 2), extra = number(record + 30, 2);
    size_t whole = CENTRAL + length + extra + number(record + 32, 2);
    if (whole > left) return refuse(z, "it is cut or damaged");
    char *name = *names;
    memcpy(name, record + CENTRAL, length);
    name[length] = 0;
    *names += length + 1;
    *e = (struct lc_zip_entry){.name = name,
                               .flags = (uint16_t)number(record + 8, 2),
                               .method = (uint16_t)number(record + 10, 2),
                               .crc = (uint32_t)number(record + 16, 4)};
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)name[i] < ' ') return refuse(z, "a name with a control character");
    if (number(record + 34, 2) != 0 && number(record + 34, 2) != 0xFFFF)
        return refuse_entry(z, name, "it is on another disk");
    if (read_large(z, e, record, record + CENTRAL + length, extra, &packed) < 0) return -1;
    if (e->method == 0 && !(e->flags & ENCRYPTED) && packed != (uint64_t)e->bytes)
        return refuse_entry(z, name, "it is stored as it is, but with two sizes");
    if (check_local(z, e, packed) < 0) return -1;
    z->out->count++;
    *at += whole;
    return 0;
}

static int place_order(const void *a, const void *b) {
    const struct lc_zip_entry *x = a, *y = b;
    return x->header < y->header ? -1 : x->header > y->header;
}

static int name_order(const void *a, const void *b) {
    return strcmp(((const struct lc_zip_entry *)a)->name, ((const struct lc_zip_entry *)b)->name);
}

static int check_entries(const struct zip *z) {
    struct lc_zip_entry *list = z->out->list;
    size_t n = z->out->count;
    if (n > 1) qsort(list, n, sizeof *list, place_order);
    for (size_t i = 1; i < n; i++)
        if (list[i - 1].begin + (list[i - 1].method ? 0 : list[i - 1].bytes) > list[i].header)
            return refuse_entry(z, list[i].name, "it overlaps another one");
    if (n > 1) qsort(list, n, sizeof *list, name_order);
    for (size_t i = 1; i < n; i++)
        if (name_order(list + i - 1, list + i) == 0)
            return refuse_entry(z, list[i].name, "there are two of this name");
    return 0;
}

static int read_directory(struct zip *z) {
    size_t n = (size_t)z->directory_bytes, at = 0;
    if (z->count != 0 ? z->count > n / CENTRAL : n != 0)
        return refuse(z, "it has fewer entries than it says");
    char *text = lc_alloc(n + 1), *names = lc_alloc(n + (size_t)z->count + 1);
    z->out->list = lc_alloc(((size_t)z->count + 1) * sizeof *z->out->list);
    z->out->names = names;
    int result = text && names && z->out->list ? 0 : -1;
    if (result == 0) result = lc_read_at(z->fd, text, n, z->directory, z->path);
    for (uint64_t i = 0; result == 0 && i < z->count; i++)
        result = read_entry(z, text, n, &at, &names);
    if (result == 0 && at != n) result = refuse(z, "it has more entries than it says");
    lc_free(text);
    return result == 0 ? check_entries(z) : -1;
}

int lc_zip_read(struct lc_zip *out, int fd, int64_t size, const char *path) {
    struct zip z = {.out = out, .path = path, .fd = fd, .size = size};
    *out = (struct lc_zip){0};
    if (find_directory(&z) == 0 && read_directory(&z) == 0) return 0;
    lc_zip_free(out);
    return -1;
}

void lc_zip_free(struct lc_zip *z) {
    lc_free(z->list);
    lc_free(z->names);
    *z = (struct lc_zip){0};
}

const struct lc_zip_entry *lc_zip_find(const struct lc_zip *z, const char *name) {
    struct lc_zip_entry key = {.name = name};
    return z->count ? bsearch(&key, z->list, z->count, sizeof key, name_order) : NULL;
}

/* ---- bytes ---- */

int lc_zip_check_stored(const struct lc_zip_entry *e, const char *path) {
    if (e->flags & ENCRYPTED)
        return lc_fail(LC_EINVAL, "%s: its zip entry '%.200s' is encrypted; PyTorch writes no such",
                       path, e->name);
    if (e->method != 0)
        return lc_fail(
            LC_EINVAL,
            "%s: its zip entry '%.200s' is compressed, which PyTorch never does; the file "
            "was packed anew, get the original",
            path, e->name);
    return 0;
}

/* What a byte adds to the sum when k others follow it, so that eight are taken in one step. */
static uint32_t table[8][256];

static void fill_table(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t c = byte;
        for (int bit = 0; bit < 8; bit++) c = c >> 1 ^ (c & 1 ? 0xEDB88320 : 0);
        table[0][byte] = c;
    }
    for (int k = 1; k < 8; k++)
        for (int byte = 0; byte < 256; byte++)
            table[k][byte] = table[0][table[k - 1][byte] & 255] ^ table[k - 1][byte] >> 8;
}

uint32_t lc_zip_sum(uint32_t sum, const char *data, size_t n) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, fill_table);
    uint32_t c = ~sum;
    for (; n >= 8; n -= 8, data += 8) {
        uint64_t v;
        memcpy(&v, data, sizeof v);
        v ^= c;
        c = 0;
        for (int k = 0; k < 8; k++) c ^= table[7 - k][v >> 8 * k & 255];
    }
    for (size_t i = 0; i < n; i++) c = table[0][(c ^ (unsigned char)data[i]) & 255] ^ c >> 8;
    return ~c;
}

char *lc_zip_load(const struct lc_zip_entry *e, int fd, int64_t most, const char *path) {
    if (lc_zip_check_stored(e, path) < 0) return NULL;
    if (e->bytes > most)
        return lc_fail_null(LC_EINVAL,
                            "%s: its zip entry '%.200s' has %" PRId64 " bytes; at most %" PRId64
                            " are possible",
                            path, e->name, e->bytes, most);
    size_t n = (size_t)e->bytes;
    char *data = lc_alloc(n + 1);
    if (!data) return NULL;
    data[n] = 0;
    if (lc_read_at(fd, data, n, e->begin, path) == 0) {
        /* PyTorch may be told to write no sums: it writes zeros then. */
        if (e->crc == 0 || lc_zip_sum(0, data, n) == e->crc) return data;
        lc_fail(LC_EINVAL, "%s: its zip entry '%.200s' is damaged (its sum is wrong); get it again",
                path, e->name);
    }
    lc_free(data);
    return NULL;
}
