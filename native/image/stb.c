/* stb.c - BMP, GIF (first frame), TGA and PSD through stb_image, and the bodies of stb_image_write. JPEG and PNG
 * are left out: they have decoders that are safe on hostile files; and PNM, of which stb reads gray pictures of 16
 * bits beyond their end. */
#include "base/error.h"
#include "image/image.h"

#ifdef LC_HAVE_STB
#include <stdbool.h>

#include "base/memory.h"

#define STB_IMAGE_IMPLEMENTATION
#define STBI_NO_JPEG
#define STBI_NO_PNG
#define STBI_NO_HDR
#define STBI_NO_PIC
#define STBI_NO_PNM
#define STBI_NO_LINEAR
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS 8192
#define STBI_MALLOC(n) lc_alloc(n)
#define STBI_REALLOC(p, n) lc_realloc(p, n)
#define STBI_FREE(p) lc_free(p)
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STBI_WRITE_NO_STDIO
#define STBIW_MALLOC(n) lc_alloc(n)
#define STBIW_REALLOC(p, n) lc_realloc(p, n)
#define STBIW_FREE(p) lc_free(p)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#pragma GCC diagnostic ignored "-Wpedantic"
#pragma GCC diagnostic ignored "-Wtype-limits"
#include <stb/stb_image.h>
#include <stb/stb_image_write.h>
#pragma GCC diagnostic pop

/* lc_picture_decode has cleared the error: one that is there now is from our allocator. */
static int fail(const char *name) {
    if (lc_error_code() == LC_ENOMEM)
        return lc_fail(LC_ENOMEM, "%s: out of memory while decoding", name);
    return lc_fail(LC_EINVAL, "%s: the picture is damaged: %s", name, stbi_failure_reason());
}

/* ---- a file that ends within its pixels ---------------------------------------------------------
 * stb takes zeros for what is missing, or what the memory held before: a black picture, or worse, without a word.
 * So it reads the file from memory, and is told that there may be more behind it: only then it asks. */

static int missed(void *user, char *data, int n) {
    (void)data, (void)n;
    *(bool *)user = true;
    return 0;
}

static void pass(void *user, int n) { (void)user, (void)n; }

static int at_end(void *user) { return (void)user, 1; }

/* [height, width, 3], or NULL. */
static uint8_t *load(const uint8_t *bytes, int n, int *width, int *height, bool *cut) {
    int channels;
    stbi__context c;
    stbi__start_mem(&c, bytes, n);
    c.io = (stbi_io_callbacks){missed, pass, at_end};
    c.io_user_data = cut;
    c.buflen = sizeof c.buffer_start;
    c.read_from_callbacks = 1;
    return stbi__load_and_postprocess_8bit(&c, width, height, &channels, 3);
}

int lc_stb_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name) {
    int width, height, channels;
    bool cut = false;
    if (n > INT_MAX) return lc_fail(LC_EINVAL, "%s: %zu bytes are too many", name, n);
    if (!stbi_info_from_memory(bytes, (int)n, &width, &height, &channels)) return fail(name);
    if (height < 0 && height > INT_MIN)
        height = -height; /* of a BMP, that begins with its top row */
    if (lc_picture_check(name, height, width) < 0) return -1;
    uint8_t *pixels = load(bytes, (int)n, &width, &height, &cut);
    if (!pixels) return fail(name);
    if (cut) {
        lc_free(pixels);
        return lc_fail(LC_EINVAL, "%s: the picture is damaged: it ends within its pixels", name);
    }
    *p = (struct lc_picture){height, width, pixels};
    return 0;
}
#else
int lc_stb_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name) {
    (void)p, (void)bytes, (void)n;
    return lc_fail(LC_EMISSING,
                   "%s: this build reads JPEG, PNG and PNM alone; install libstb-dev and run make",
                   name);
}
#endif
