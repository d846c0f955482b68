/* png.c - PNG through libspng, as 8-bit RGB. Alpha and tRNS are dropped; 16-bit samples keep their
 * high byte; gray and palette are spread. */
#include "base/error.h"
#include "image/image.h"

#ifdef LC_HAVE_SPNG
#include <spng.h>

#include "base/memory.h"

/* The bytes that one decoded picture needs; decoding is refused beyond the pixel limit before this. */
static int decode(struct lc_picture *p, spng_ctx *c, const uint8_t *bytes, size_t n,
                  const char *name) {
    struct spng_ihdr head;
    size_t size;
    int code = spng_set_png_buffer(c, bytes, n);
    if (!code) code = spng_get_ihdr(c, &head);
    if (code) return lc_fail(LC_EINVAL, "%s: not a whole PNG: %s", name, spng_strerror(code));
    if (lc_picture_check(name, head.height, head.width) < 0) return -1;
    p->height = head.height;
    p->width = head.width;
    code = spng_decoded_image_size(c, SPNG_FMT_RGB8, &size);
    if (code) return lc_fail(LC_EINVAL, "%s: not a whole PNG: %s", name, spng_strerror(code));
    lc_assert(size == (size_t)p->height * (size_t)p->width * 3);
    p->rgb = lc_alloc(size);
    if (!p->rgb) return -1;
    code = spng_decode_image(c, p->rgb, size, SPNG_FMT_RGB8, 0);
    if (!code) return 0;
    lc_free(p->rgb);
    p->rgb = NULL;
    return lc_fail(LC_EINVAL, "%s: not a whole PNG: %s", name, spng_strerror(code));
}

int lc_png_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name) {
    spng_ctx *c = spng_ctx_new(0);
    if (!c) return lc_fail(LC_ENOMEM, "%s: out of memory", name);
    int done = decode(p, c, bytes, n, name);
    spng_ctx_free(c);
    return done;
}
#else
int lc_png_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name) {
    (void)p;
    (void)bytes;
    (void)n;
    return lc_fail(LC_EMISSING, "%s: this build reads no PNG; install libspng-dev and run make",
                   name);
}
#endif
