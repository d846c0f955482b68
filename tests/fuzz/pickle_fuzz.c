/* pickle_fuzz.c - pickles in a zip whose sums and places are right: else no mutation would reach the machine. */
#include <string.h>

#include "io/zip.h"
#include "checkpoint.h"

enum { STORAGE = 256, MOST = 1 << 16 };

static uint8_t file[2 * MOST], *end;

static void put(uint64_t value, int bytes) {
    while (bytes-- > 0) *end++ = (uint8_t)value, value >>= 8;
}

static void put_bytes(const void *from, size_t n) {
    memcpy(end, from, n);
    end += n;
}

struct part {
    const char *name;
    const void *data;
    size_t n, header;
};

/* What a local header and a line of the directory have in common. */
static void put_common(const struct part *p) {
    put(0, 2); /* flags */
    put(0, 2); /* stored */
    put(0, 4); /* time */
    put(lc_zip_sum(0, p->data, p->n), 4);
    put(p->n, 4);
    put(p->n, 4);
    put(strlen(p->name), 2);
    put(0, 2);
}

static void put_zip(struct part *parts, int count) {
    end = file;
    for (struct part *p = parts; p < parts + count; p++) {
        p->header = (size_t)(end - file);
        put(0x04034B50, 4);
        put(20, 2);
        put_common(p);
        put_bytes(p->name, strlen(p->name));
        put_bytes(p->data, p->n);
    }
    const uint8_t *directory = end;
    for (struct part *p = parts; p < parts + count; p++) {
        put(0x02014B50, 4);
        put(20, 2);
        put(20, 2);
        put_common(p);
        put(0, 10); /* comment, disk, attributes */
        put(p->header, 4);
        put_bytes(p->name, strlen(p->name));
    }
    size_t length = (size_t)(end - directory);
    put(0x06054B50, 4);
    put(0, 4);
    put((uint64_t)count, 2);
    put((uint64_t)count, 2);
    put(length, 4);
    put((uint64_t)(directory - file), 4);
    put(0, 2);
}

void fuzz_one(const uint8_t *data, size_t n) {
    static const uint8_t storage[STORAGE] = {0, 0, 0x80, 0x3F, 1, 2, 3, 4};
    if (n > MOST) return;
    struct part parts[] = {{"a/data.pkl", data, n, 0},
                           {"a/version", "3\n", 2, 0},
                           {"a/data/0", storage, STORAGE, 0},
                           {"a/data/1", storage, STORAGE, 0}};
    put_zip(parts, 4);
    look_at_checkpoint(fuzz_file(file, (size_t)(end - file)), end - file);
}
