/* image.c - pictures as u8 tensors [H, W, 3], and from there to a network's input. No gradients. */
#include "image/image.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "tensor/tensor.h"

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

/* A new tensor for a picture of that size; p borrows its pixels. */
static lc_tensor *canvas(const char *op, int64_t height, int64_t width, struct lc_picture *p) {
    if (lc_picture_check(op, height, width) < 0) return NULL;
    lc_tensor *t = lc_tensor_new(3, (int64_t[]){height, width, 3}, LC_U8, LC_HOST);
    if (t) *p = (struct lc_picture){height, width, lc_data(t)};
    return t;
}

/* ---- files ---------------------------------------------------------------------------------------- */

static lc_tensor *taken(const struct lc_picture *p) {
    return lc_tensor_wrap(3, (int64_t[]){p->height, p->width, 3}, LC_U8, p->rgb, lc_free, p->rgb);
}

lc_tensor *lc_image_decode(const void *bytes, size_t n, const char *name) {
    struct lc_picture p;
    return lc_picture_decode(&p, bytes, n, name) < 0 ? NULL : taken(&p);
}

lc_tensor *lc_image_load(const char *path) {
    struct lc_picture p;
    return lc_picture_read(&p, path) < 0 ? NULL : taken(&p);
}

lc_tensor *lc_reader_take(lc_reader *r, const char *path) {
    struct lc_picture p;
    return lc_reader_picture(r, path, &p) < 0 ? NULL : taken(&p);
}

int lc_image_save(lc_tensor *image, const char *path, int quality) {
    struct lc_picture p;
    return picture_of("save", image, &p) ? lc_picture_save(&p, path, quality) : -1;
}

int lc_image_encode(lc_tensor *image, const char *name, int quality, char **data, size_t *n) {
    struct lc_picture p;
    return picture_of("encode", image, &p) ? lc_picture_encode(&p, name, quality, data, n) : -1;
}

/* ---- transforms ----------------------------------------------------------------------------------- */

lc_tensor *lc_image_resize(lc_tensor *image, int64_t height, int64_t width, int filter) {
    struct lc_picture from, to;
    if (!picture_of("resize", image, &from)) return NULL;
    lc_tensor *t = canvas("resize", height, width, &to);
    return t && !lc_picture_resize(&to, &from, filter) ? t : NULL;
}

lc_tensor *lc_image_crop(lc_tensor *image, int64_t top, int64_t left, int64_t height,
                         int64_t width) {
    struct lc_picture from, to;
    if (!picture_of("crop", image, &from)) return NULL;
    if (top != (int32_t)top || left != (int32_t)left)
        return lc_fail_null(LC_EINVAL, "crop: a corner at row %lld, column %lld", (long long)top,
                            (long long)left);
    lc_tensor *t = canvas("crop", height, width, &to);
    if (t) lc_picture_place(&to, &from, -top, -left, (const uint8_t[3]){0, 0, 0});
    return t;
}

lc_tensor *lc_image_pad_square(lc_tensor *image, int red, int green, int blue) {
    struct lc_picture from, to;
    if (!picture_of("pad_square", image, &from)) return NULL;
    if ((red | green | blue) < 0 || red > 255 || green > 255 || blue > 255)
        return lc_fail_null(LC_EINVAL,
                            "pad_square: the colour is (%d, %d, %d); 0 to 255 is possible", red,
                            green, blue);
    int64_t side = from.height > from.width ? from.height : from.width;
    lc_tensor *t = canvas("pad_square", side, side, &to);
    if (t)
        lc_picture_place(&to, &from, (side - from.height) / 2, (side - from.width) / 2,
                         (const uint8_t[3]){(uint8_t)red, (uint8_t)green, (uint8_t)blue});
    return t;
}

lc_tensor *lc_image_mirror(lc_tensor *image) {
    struct lc_picture from, to;
    if (!picture_of("mirror", image, &from)) return NULL;
    lc_tensor *t = canvas("mirror", from.height, from.width, &to);
    if (t) lc_picture_mirror(&to, &from);
    return t;
}

lc_tensor *lc_image_normalize(lc_tensor *image, double scale, const float *mean3,
                              const float *std3) {
    struct lc_picture from;
    if (!picture_of("normalize", image, &from)) return NULL;
    lc_tensor *t = lc_tensor_new(3, (int64_t[]){3, from.height, from.width}, LC_F32, LC_HOST);
    if (t) lc_picture_normalize(lc_data(t), &from, scale, mean3, std3);
    return t;
}
