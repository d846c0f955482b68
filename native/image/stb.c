/* stb.c - BMP, GIF (first frame), TGA, PNM and PSD through stb_image; writing through stb_image_write.
 * JPEG and PNG are not compiled in: the packaged version is not safe on hostile JPEG files. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "image/image.h"

#ifdef LC_HAVE_STB
#define STB_IMAGE_IMPLEMENTATION
#define STBI_NO_JPEG
#define STBI_NO_PNG
#define STBI_NO_HDR
#define STBI_NO_PIC
#define STBI_NO_LINEAR
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS 65536
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

int lc_stb_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name) {
    int width, height, channels;
    if (!stbi_info_from_memory(bytes, (int)n, &width, &height, &channels))
        return lc_fail(LC_EINVAL,
                       "%s: not a picture that can be read (JPEG, PNG, BMP, GIF, TGA, PNM, PSD)",
                       name);
    if (lc_picture_check(name, height, width) < 0) return -1;
    uint8_t *pixels = stbi_load_from_memory(bytes, (int)n, &width, &height, &channels, 3);
    if (!pixels)
        return lc_fail(LC_EINVAL, "%s: the picture is damaged: %s", name, stbi_failure_reason());
    *p = (struct lc_picture){height, width, pixels};
    return 0;
}

/* ---- writing ------------------------------------------------------------------------------------ */

struct sink {
    uint8_t *bytes;
    size_t n, room;
    bool failed;
};

static void collect(void *context, void *data, int size) {
    struct sink *s = context;
    size_t more = (size_t)size;
    if (s->n + more > s->room && !s->failed) {
        size_t room = 2 * (s->n + more);
        uint8_t *bytes = lc_realloc(s->bytes, room);
        s->failed = !bytes;
        if (bytes) {
            s->bytes = bytes;
            s->room = room;
        }
    }
    if (s->failed) return;
    memcpy(s->bytes + s->n, data, more);
    s->n += more;
}

static bool ends_in(const char *path, const char *suffix) {
    size_t n = strlen(path), m = strlen(suffix);
    return n > m && !strcmp(path + n - m, suffix);
}

int lc_picture_save(const struct lc_picture *p, const char *path, int quality) {
    struct sink s = {0};
    int w = (int)p->width, h = (int)p->height, ok;
    if (quality < 1 || quality > 100)
        return lc_fail(LC_EINVAL, "%s: quality %d; 1 to 100 is possible", path, quality);
    if (ends_in(path, ".png")) ok = stbi_write_png_to_func(collect, &s, w, h, 3, p->rgb, 3 * w);
    else if (ends_in(path, ".jpg") || ends_in(path, ".jpeg"))
        ok = stbi_write_jpg_to_func(collect, &s, w, h, 3, p->rgb, quality);
    else if (ends_in(path, ".bmp")) ok = stbi_write_bmp_to_func(collect, &s, w, h, 3, p->rgb);
    else return lc_fail(LC_EINVAL, "%s: a picture is saved as .png, .jpg or .bmp", path);
    int done = ok && !s.failed ? lc_file_write(path, s.bytes, s.n)
                               : lc_fail(LC_ENOMEM, "%s: the picture could not be encoded", path);
    lc_free(s.bytes);
    return done;
}
#else
int lc_stb_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name) {
    (void)p;
    (void)bytes;
    (void)n;
    return lc_fail(LC_EMISSING,
                   "%s: this build reads JPEG and PNG alone; install libstb-dev and run make",
                   name);
}

int lc_picture_save(const struct lc_picture *p, const char *path, int quality) {
    (void)p;
    (void)quality;
    return lc_fail(LC_EMISSING,
                   "%s: this build writes no pictures; install libstb-dev and run make", path);
}
#endif
