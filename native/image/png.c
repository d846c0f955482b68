/* png.c - PNG through libspng, as 8-bit RGB and as Pillow's convert("RGB") has it: gray and palette
 * are spread, alpha and tRNS dropped, 16-bit colours keep their high byte, and 16-bit gray is cut off
 * at 255. */
#include "base/error.h"
#include "image/image.h"

#ifdef LC_HAVE_SPNG
#include <spng.h>

#include "base/memory.h"

/* What ancillary chunks (profiles, texts) may take when unpacked. */
enum { MOST_CHUNK = 32 << 20, MOST_CHUNKS = 64 << 20 };

static void *alloc_zero(size_t count, size_t size) {
    return size && count > SIZE_MAX / size ? NULL : lc_alloc_zero(count * size);
}

/* lc_picture_decode has cleared the error: one that is there now is from our allocator. */
static int fail(const char *name, int code) {
    if (lc_error_code() == LC_ENOMEM)
        return lc_fail(LC_ENOMEM, "%s: out of memory while decoding", name);
    return lc_fail(LC_EINVAL, "%s: the PNG is damaged: %s", name, spng_strerror(code));
}

/* count samples to as many pixels */
static void spread_gray16(uint8_t *rgb, const uint16_t *gray, size_t count) {
    for (size_t i = 0; i < count; i++) {
        uint8_t v = gray[i] > 255 ? 255 : (uint8_t)gray[i];
        rgb[3 * i] = rgb[3 * i + 1] = rgb[3 * i + 2] = v;
    }
}

static int decode_gray16(uint8_t *rgb, spng_ctx *c, size_t count, const char *name) {
    uint16_t *gray = lc_alloc(count * sizeof *gray);
    if (!gray) return -1;
    int code = spng_decode_image(c, gray, count * sizeof *gray, SPNG_FMT_PNG, 0);
    if (!code) spread_gray16(rgb, gray, count);
    lc_free(gray);
    return code ? fail(name, code) : 0;
}

static int decode(struct lc_picture *p, spng_ctx *c, const uint8_t *bytes, size_t n,
                  const char *name) {
    struct spng_ihdr head;
    int code = spng_set_png_buffer(c, bytes, n);
    if (!code) code = spng_set_chunk_limits(c, MOST_CHUNK, MOST_CHUNKS);
    if (!code) code = spng_get_ihdr(c, &head);
    if (code) return fail(name, code);
    if (lc_picture_check(name, head.height, head.width) < 0) return -1;
    size_t count = (size_t)head.height * head.width;
    *p = (struct lc_picture){head.height, head.width, lc_alloc(count * 3)};
    if (!p->rgb) return -1;
    if (head.bit_depth == 16 && head.color_type == SPNG_COLOR_TYPE_GRAYSCALE)
        return decode_gray16(p->rgb, c, count, name);
    code = spng_decode_image(c, p->rgb, count * 3, SPNG_FMT_RGB8, 0);
    return code ? fail(name, code) : 0;
}

int lc_png_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name) {
    struct spng_alloc memory = {lc_alloc, lc_realloc, alloc_zero, lc_free};
    spng_ctx *c = spng_ctx_new2(&memory, 0);
    if (!c) return fail(name, SPNG_EMEM);
    int done = decode(p, c, bytes, n, name);
    spng_ctx_free(c);
    if (done < 0) {
        lc_free(p->rgb);
        p->rgb = NULL;
    }
    return done;
}
#else
int lc_png_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name) {
    (void)p, (void)bytes, (void)n;
    return lc_fail(LC_EMISSING, "%s: this build reads no PNG; install libspng-dev and run make",
                   name);
}
#endif
