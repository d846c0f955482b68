/* zip.h - the directory of a zip file, checked. Nothing is unpacked: entries are read where they are. */
#ifndef LC_IO_ZIP_H
#define LC_IO_ZIP_H
#include <stddef.h>
#include <stdint.h>

struct lc_zip_entry {
    const char *name; /* ended by a zero byte, and without one in it */
    int64_t header, begin, bytes;
    uint32_t crc;
    uint16_t method, flags;
};

struct lc_zip {
    struct lc_zip_entry *list; /* by name */
    size_t count;
    char *names;
};

/* Errors are "PATH: what". Entries do not overlap, and none has the name of another one. */
int lc_zip_read(struct lc_zip *z, int fd, int64_t size, const char *path);
void lc_zip_free(struct lc_zip *z);
const struct lc_zip_entry *lc_zip_find(const struct lc_zip *z, const char *name);

/* Whether its bytes stand in the file as they are: neither packed nor encrypted. */
int lc_zip_check_stored(const struct lc_zip_entry *e, const char *path);
/* The bytes of a small entry, checked by its sum when it has one, with a zero byte behind them;
 * lc_free. */
char *lc_zip_load(const struct lc_zip_entry *e, int fd, int64_t most, const char *path);
/* CRC-32 as zip has it, of what was summed before (0: nothing) and of these bytes. */
uint32_t lc_zip_sum(uint32_t sum, const char *data, size_t n);

#endif
