/* encode.c - pictures to files: PNG, JPEG and BMP through stb_image_write, in memory first. */
#define _POSIX_C_SOURCE 200809L
#include "base/error.h"
#include "image/image.h"

#ifdef LC_HAVE_STB
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include <stb/stb_image_write.h>

#include "base/memory.h"

struct sink {
    uint8_t *bytes;
    size_t n, room;
    bool failed;
};

static void collect(void *context, void *data, int size) {
    struct sink *s = context;
    size_t more = (size_t)size;
    if (!s->failed && s->n + more > s->room) {
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

static int encode(struct sink *s, const struct lc_picture *p, const char *path, int quality) {
    int w = (int)p->width, h = (int)p->height;
    const char *dot = strrchr(path, '.'), *suffix = dot ? dot : "";
    if (!strcasecmp(suffix, ".png"))
        return stbi_write_png_to_func(collect, s, w, h, 3, p->rgb, 3 * w);
    if (!strcasecmp(suffix, ".jpg") || !strcasecmp(suffix, ".jpeg"))
        return stbi_write_jpg_to_func(collect, s, w, h, 3, p->rgb, quality);
    if (!strcasecmp(suffix, ".bmp")) return stbi_write_bmp_to_func(collect, s, w, h, 3, p->rgb);
    return lc_fail(LC_EINVAL, "%s: a picture is saved as .png, .jpg or .bmp", path);
}

int lc_picture_encode(const struct lc_picture *p, const char *path, int quality, char **data,
                      size_t *n) {
    struct sink s = {0};
    if (quality < 1 || quality > 100)
        return lc_fail(LC_EINVAL, "%s: quality %d; 1 to 100 is possible", path, quality);
    if (lc_picture_check(path, p->height, p->width) < 0) return -1;
    int done = encode(&s, p, path, quality);
    if (done >= 0 && (!done || s.failed))
        done = lc_fail(LC_ENOMEM, "%s: out of memory while encoding", path);
    if (done < 0) {
        lc_free(s.bytes);
        return -1;
    }
    *data = (char *)s.bytes;
    *n = s.n;
    return 0;
}
#else
int lc_picture_encode(const struct lc_picture *p, const char *path, int quality, char **data,
                      size_t *n) {
    (void)p, (void)quality, (void)data, (void)n;
    return lc_fail(LC_EMISSING,
                   "%s: this build writes no pictures; install libstb-dev and run make", path);
}
#endif

int lc_picture_save(const struct lc_picture *p, const char *path, int quality) {
    char *data;
    size_t n;
    if (lc_picture_encode(p, path, quality, &data, &n) < 0) return -1;
    int done = lc_file_write(path, data, n);
    lc_free_bytes(data);
    return done;
}
