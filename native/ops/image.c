/* image.c - pictures as u8 tensors [H, W, 3], and from there to a network's input. No gradients. */
#include "image/image.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "tensor/tensor.h"

/* The tensor takes the pixels over. */
static lc_tensor *wrap(struct lc_picture *p) {
    return lc_tensor_wrap(3, (int64_t[]){p->height, p->width, 3}, LC_U8, p->rgb, lc_free, p->rgb);
}

/* A dense u8 [H, W, 3] as a picture that borrows its pixels. */
static bool picture_of(const char *op, lc_tensor *t, struct lc_picture *p) {
    if (!lc_usable(op, t)) return false;
    if (t->dtype != LC_U8 || t->ndim != 3 || t->shape[2] != 3 || !t->shape[0] || !t->shape[1]) {
        lc_fail(LC_EINVAL, "%s: %s is not a picture; u8 [H, W, 3] is expected", op,
                lc_shape_text(t));
        return false;
    }
    lc_tensor *dense = lc_contiguous(t);
    if (!dense) return false;
    *p = (struct lc_picture){t->shape[0], t->shape[1], lc_data(dense)};
    return true;
}

lc_tensor *lc_image_decode(const void *bytes, size_t n, const char *name) {
    struct lc_picture p;
    return lc_picture_decode(&p, bytes, n, name) < 0 ? NULL : wrap(&p);
}

lc_tensor *lc_image_load(const char *path) {
    char *bytes;
    size_t n;
    if (lc_file_read(path, &bytes, &n) < 0) return NULL;
    lc_tensor *t = lc_image_decode(bytes, n, path);
    lc_free_bytes(bytes);
    return t;
}

int lc_image_save(lc_tensor *image, const char *path, int quality) {
    struct lc_picture p;
    return picture_of("save", image, &p) ? lc_picture_save(&p, path, quality) : -1;
}

lc_tensor *lc_image_resize(lc_tensor *image, int64_t height, int64_t width, int filter) {
    struct lc_picture from, to;
    if (!picture_of("resize", image, &from)) return NULL;
    return lc_picture_resize(&to, &from, height, width, filter) < 0 ? NULL : wrap(&to);
}

/* from placed into a canvas of one colour, its top left corner at (top, left), which may lie outside */
static lc_tensor *place(const struct lc_picture *from, int64_t height, int64_t width, int64_t top,
                        int64_t left, const uint8_t colour[3]) {
    if (lc_picture_check("crop", height, width) < 0) return NULL;
    lc_tensor *t = lc_tensor_new(3, (int64_t[]){height, width, 3}, LC_U8, LC_HOST);
    if (!t) return NULL;
    uint8_t *to = lc_data(t);
    for (int64_t i = 0; i < height * width; i++) memcpy(to + 3 * i, colour, 3);
    int64_t x0 = left > 0 ? left : 0, x1 = left + from->width < width ? left + from->width : width;
    for (int64_t y = top > 0 ? top : 0; y < height && y < top + from->height; y++)
        if (x1 > x0)
            memcpy(to + (y * width + x0) * 3, from->rgb + ((y - top) * from->width + x0 - left) * 3,
                   (size_t)(x1 - x0) * 3);
    return t;
}

lc_tensor *lc_image_crop(lc_tensor *image, int64_t top, int64_t left, int64_t height,
                         int64_t width) {
    struct lc_picture from;
    if (!picture_of("crop", image, &from)) return NULL;
    return place(&from, height, width, -top, -left, (const uint8_t[3]){0, 0, 0});
}

lc_tensor *lc_image_pad_square(lc_tensor *image, int red, int green, int blue) {
    struct lc_picture from;
    if (!picture_of("pad_square", image, &from)) return NULL;
    if (red < 0 || red > 255 || green < 0 || green > 255 || blue < 0 || blue > 255)
        return lc_fail_null(LC_EINVAL,
                            "pad_square: the colour is (%d, %d, %d); 0 to 255 is possible", red,
                            green, blue);
    int64_t side = from.height > from.width ? from.height : from.width;
    const uint8_t colour[3] = {(uint8_t)red, (uint8_t)green, (uint8_t)blue};
    return place(&from, side, side, (side - from.height) / 2, (side - from.width) / 2, colour);
}

lc_tensor *lc_image_normalize(lc_tensor *image, double scale, const float *mean3,
                              const float *std3) {
    struct lc_picture from;
    if (!picture_of("normalize", image, &from)) return NULL;
    lc_tensor *t = lc_tensor_new(3, (int64_t[]){3, from.height, from.width}, LC_F32, LC_HOST);
    if (!t) return NULL;
    float *to = lc_data(t);
    for (int c = 0; c < 3; c++) {
        float level[256]; /* every byte's value, once */
        for (int v = 0; v < 256; v++) level[v] = ((float)(v * scale) - mean3[c]) / std3[c];
        for (int64_t i = 0; i < from.height * from.width; i++) *to++ = level[from.rgb[3 * i + c]];
    }
    return t;
}
