/* format.c - tells the kinds of files of weights apart. */
#define _GNU_SOURCE
#include "io/format.h"

#include "base/error.h"
#include "base/file.h"
#include "base/foreign.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int lc_read_at(int fd, void *to, size_t n, int64_t from, const char *path) {
    char *at = to;
    while (n > 0) {
        ssize_t got = pread(fd, at, n, from);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return lc_fail_errno(path, "reading");
        if (got == 0) return lc_fail(LC_EIO, "%s: it ends while it is read", path);
        at += got;
        from += got;
        n -= (size_t)got;
    }
    return 0;
}

int lc_format_of(int fd, int64_t size, const char *path) {
    unsigned char start[512] = {0};
    size_t n = size < (int64_t)sizeof start ? (size_t)size : sizeof start;
    if (n == 0) return lc_fail(LC_EINVAL, "%s: it has 0 bytes; get it again", path);
    if (lc_read_at(fd, start, n, 0, path) < 0) return -1;
    if (lc_refuse_foreign(path, start, n, "weights") < 0) return -1;
    if (!memcmp(start, "PK\3\4", 4)) return LC_FORMAT_ZIP;
    /* PROTO and its number; a safetensors header begins behind 8 bytes. */
    if (start[0] == 0x80 && start[1] <= 5 && start[8] != '{') return LC_FORMAT_PICKLE;
    return LC_FORMAT_SAFETENSORS;
}

const char *lc_format_name(int format) {
    static const char *const names[] = {"safetensors", "PyTorch zip", "PyTorch before 1.6"};
    return names[format];
}
