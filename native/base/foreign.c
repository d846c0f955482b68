/* foreign.c - what lies in the place of a model's file: pages, pointers, archives. */
#include "base/foreign.h"

#include "base/error.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

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

static int refuse_page(const char *path, const char *text, size_t n, const char *wanted) {
    while (n > 0 && isspace((unsigned char)*text)) text++, n--;
    if ((n >= 9 && !strncasecmp(text, "<!doctype", 9)) ||
        (n >= 5 && !strncasecmp(text, "<html", 5)))
        return lc_fail(LC_EINVAL,
                       "%s: it is an HTML page, not %s; the download went wrong, get it again",
                       path, wanted);
    if (n >= 5 && !strncasecmp(text, "<?xml", 5))
        return lc_fail(LC_EINVAL,
                       "%s: it is an XML reply, not %s; the download went wrong, get it again",
                       path, wanted);
    return 0;
}

int lc_refuse_foreign(const char *path, const void *start, size_t n, const char *wanted) {
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (n >= (size_t)others[i].at + (size_t)others[i].length &&
            !memcmp((const char *)start + others[i].at, others[i].bytes, (size_t)others[i].length))
            return lc_fail(LC_EINVAL, "%s: %s", path, others[i].what);
    return refuse_page(path, start, n, wanted);
}
