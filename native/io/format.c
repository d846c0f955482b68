/* format.c - tells files of weights from what lies in their place: pages, pointers, archives. */
#define _GNU_SOURCE
#include "io/format.h"

#include "base/error.h"
#include "base/file.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
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

/* What other files begin with, and what whoever finds one here should do. */
static const struct {
    int at, length;
    const char *bytes, *what;
} others[] = {
    {0, 23, "version https://git-lfs",
     "it is a Git LFS pointer, not the file itself; git lfs pull gets it"},
    {257, 5, "ustar",
     "it is a tar archive, which PyTorch wrote before 0.4 and whose loading could run code; unpack "
     "it "
     "if it is a download, else save the weights anew with torch.save"},
    {0, 2, "\x1f\x8b", "it is compressed with gzip; unpack it first"},
    {0, 6,
     "\xfd"
     "7zXZ\0",
     "it is compressed with xz; unpack it first"},
    {0, 4, "\x28\xb5\x2f\xfd", "it is compressed with zstd; unpack it first"},
    {0, 6, "7z\xbc\xaf\x27\x1c", "it is a 7z archive; unpack it first"},
    {0, 4, "GGUF", "it is a GGUF file of llama.cpp; the model's own weights are needed"},
    {0, 8, "\x89HDF\r\n\x1a\n", "it is an HDF5 file (TensorFlow); PyTorch's weights are needed"},
    {0, 4, "PK\5\6", "it is an empty zip; the file was not written to its end, get it again"},
};

static int refuse_page(const char *path, const char *text, size_t n) {
    while (n > 0 && isspace((unsigned char)*text)) text++, n--;
    if ((n >= 9 && !strncasecmp(text, "<!doctype", 9)) ||
        (n >= 5 && !strncasecmp(text, "<html", 5)))
        return lc_fail(LC_EINVAL,
                       "%s: it is an HTML page, not weights; the download went wrong, get it again",
                       path);
    if (n >= 5 && !strncasecmp(text, "<?xml", 5))
        return lc_fail(LC_EINVAL,
                       "%s: it is an XML reply, not weights; the download went wrong, get it again",
                       path);
    return 0;
}

int lc_format_of(int fd, int64_t size, const char *path) {
    unsigned char start[512] = {0};
    size_t n = size < (int64_t)sizeof start ? (size_t)size : sizeof start;
    if (n == 0) return lc_fail(LC_EINVAL, "%s: it has 0 bytes; get it again", path);
    if (lc_read_at(fd, start, n, 0, path) < 0) return -1;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!memcmp(start + others[i].at, others[i].bytes, (size_t)others[i].length))
            return lc_fail(LC_EINVAL, "%s: %s", path, others[i].what);
    if (refuse_page(path, (const char *)start, n) < 0) return -1;
    if (!memcmp(start, "PK\3\4", 4)) return LC_FORMAT_ZIP;
    /* PROTO and its number; a safetensors header begins behind 8 bytes. */
    if (start[0] == 0x80 && start[1] <= 5 && start[8] != '{') return LC_FORMAT_PICKLE;
    return LC_FORMAT_SAFETENSORS;
}

const char *lc_format_name(int format) {
    static const char *const names[] = {"safetensors", "PyTorch zip", "PyTorch before 1.6"};
    return names[format];
}
