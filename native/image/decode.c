/* decode.c - one door for all pictures: size limits first, then the decoder that the bytes ask for. */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "image/image.h"

static int64_t max_bytes = 32 << 20, max_side = 8192, max_pixels = 40000000;

void lc_image_limits(int64_t bytes, int64_t side, int64_t pixels) {
    if (bytes > 0) max_bytes = bytes;
    if (side > 0) max_side = side;
    if (pixels > 0) max_pixels = pixels;
}

int lc_picture_check(const char *name, int64_t height, int64_t width) {
    if (height < 1 || width < 1)
        return lc_fail(LC_EINVAL, "%s: the picture is %" PRId64 " x %" PRId64, name, width, height);
    if (height > max_side || width > max_side || height * width > max_pixels)
        return lc_fail(LC_EINVAL,
                       "%s: the picture is %" PRId64 " x %" PRId64 "; the limit is %" PRId64
                       " a side and %" PRId64 " pixels",
                       name, width, height, max_side, max_pixels);
    return 0;
}

int lc_picture_decode(struct lc_picture *p, const void *bytes, size_t n, const char *name) {
    const uint8_t *b = bytes;
    *p = (struct lc_picture){0};
    if (!n) return lc_fail(LC_EINVAL, "%s: the file is empty", name);
    if (n > (size_t)max_bytes)
        return lc_fail(LC_EINVAL, "%s: %zu bytes; the limit for pictures is %" PRId64, name, n,
                       max_bytes);
    if (n >= 3 && b[0] == 0xFF && b[1] == 0xD8 && b[2] == 0xFF)
        return lc_jpeg_decode(p, b, n, name);
    if (n >= 8 && !memcmp(b, "\x89PNG\r\n\x1a\n", 8)) return lc_png_decode(p, b, n, name);
    return lc_stb_decode(p, b, n, name);
}
