/* image.h - pictures as bytes: RGB, 8 bits a channel, row by row. Floor 0: no tensors. */
#ifndef LC_IMAGE_H
#define LC_IMAGE_H
#include <stddef.h>
#include <stdint.h>

struct lc_picture {
    int64_t height, width;
    uint8_t *rgb; /* [height, width, 3]; lc_free */
};

/* The limits that every decoder asks before it allocates pixels; -1 and the reason beyond them. */
int lc_picture_check(const char *name, int64_t height, int64_t width);

/* Decodes by what the bytes begin with. name is for messages. The pixels are those of Pillow's
 * convert("RGB"): alpha is dropped, not composited; EXIF orientation is ignored. */
int lc_picture_decode(struct lc_picture *p, const void *bytes, size_t n, const char *name);
int lc_jpeg_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name);
int lc_png_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name);
int lc_stb_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name);

/* Encodes by the suffix of the path: .png, .jpg, .jpeg, .bmp; the file is complete or absent. */
int lc_picture_save(const struct lc_picture *p, const char *path, int quality);

/* Pillow's resize: separable, support scaled when shrinking, 8-bit fixed point, horizontal first. */
int lc_picture_resize(struct lc_picture *to, const struct lc_picture *from, int64_t height,
                      int64_t width, int filter);

#endif
