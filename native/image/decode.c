/* decode.c - one door for all pictures: limits first, then the decoder that the bytes ask for. */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "image/image.h"

static struct lc_picture_limits most = {32 << 20, 8192, 40000000};

void lc_image_limits(int64_t bytes, int64_t side, int64_t pixels) {
    if (bytes > 0) most.bytes = bytes;
    if (side > 0) most.side = side;
    if (pixels > 0) most.pixels = pixels;
}

struct lc_picture_limits lc_picture_limits(void) {
    return most;
}

int lc_picture_check_bytes(const char *name, int64_t bytes) {
    if (bytes <= most.bytes) return 0;
    return lc_fail(LC_EINVAL,
                   "%s: %" PRId64 " bytes; the limit for a picture file is %" PRId64
                   ", --max-picture or lc_image_limits raises it",
                   name, bytes, most.bytes);
}

int lc_picture_check(const char *name, int64_t height, int64_t width) {
    if (height < 1 || width < 1)
        return lc_fail(LC_EINVAL, "%s: a picture of %" PRId64 " x %" PRId64 " pixels", name, width,
                       height);
    if (height > most.side || width > most.side || height > most.pixels / width)
        return lc_fail(LC_EINVAL,
                       "%s: a picture of %" PRId64 " x %" PRId64 " pixels; the limits are %" PRId64
                       " a side and %" PRId64
                       " in all, --max-side, --max-pixels or lc_image_limits raise them",
                       name, width, height, most.side, most.pixels);
    return 0;
}

/* What people save under a picture's name by accident. */
static const char *mistake(const uint8_t *b, size_t n) {
    static const struct {
        const char *start, *is;
    } known[] = {{"<", " (it looks like a web page)"},
                 {"version https://git-lfs", " (it is a Git LFS pointer: run git lfs pull)"},
                 {"\x1f\x8b", " (it is gzip data)"},
                 {"PK\x03\x04", " (it is a zip archive)"}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        size_t length = strlen(known[i].start);
        if (n >= length && !memcmp(b, known[i].start, length)) return known[i].is;
    }
    return "";
}

/* TGA has no signature: there the name decides. */
static int is_for_stb(const uint8_t *b, size_t n, const char *name) {
    static const char *const start[] = {"BM", "GIF87a", "GIF89a", "8BPS"};
    for (size_t i = 0; i < sizeof start / sizeof *start; i++)
        if (n >= strlen(start[i]) && !memcmp(b, start[i], strlen(start[i]))) return 1;
    size_t length = strlen(name);
    return length > 4 && !strcmp(name + length - 4, ".tga");
}

int lc_picture_decode_here(struct lc_picture *p, const void *bytes, size_t n, const char *name) {
    const uint8_t *b = bytes;
    *p = (struct lc_picture){0};
    lc_error_clear();
    if (!n) return lc_fail(LC_EINVAL, "%s: the file is empty", name);
    if (n > INT64_MAX || lc_picture_check_bytes(name, (int64_t)n) < 0) return -1;
    if (n >= 2 && b[0] == 0xFF && b[1] == 0xD8) return lc_jpeg_decode(p, b, n, name);
    if (n >= 4 && !memcmp(b, "\x89PNG", 4)) return lc_png_decode(p, b, n, name);
    if (n >= 2 && b[0] == 'P' && (b[1] == '5' || b[1] == '6')) return lc_pnm_decode(p, b, n, name);
    if (is_for_stb(b, n, name)) return lc_stb_decode(p, b, n, name);
    return lc_fail(LC_EINVAL, "%s: not a picture: no JPEG, PNG, BMP, GIF, PNM or PSD begins so%s",
                   name, mistake(b, n));
}
