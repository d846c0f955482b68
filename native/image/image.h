/* image.h - pictures as bytes: RGB, 8 bits a channel, row by row. Floor 0: no tensors. */
#ifndef LC_IMAGE_H
#define LC_IMAGE_H
#include <stddef.h>
#include <stdint.h>

#include "lucid.h"

struct lc_picture {
    int64_t height, width;
    uint8_t *rgb; /* [height, width, 3]; lc_free, where the picture owns its pixels */
};

/* ---- decode.c and the formats ----
 * Limits are asked before memory is: -1 and the reason beyond them. name is for messages. */
struct lc_picture_limits {
    int64_t bytes, side, pixels;
};
struct lc_picture_limits lc_picture_limits(void);
int lc_picture_check_bytes(const char *name, int64_t bytes);
int lc_picture_check(const char *name, int64_t height, int64_t width);

/* Decodes by what the bytes begin with. The pixels are those of Pillow's convert("RGB"): alpha is
 * dropped, not composited; EXIF orientation is ignored. p owns nothing when it fails. */
int lc_picture_decode_here(struct lc_picture *p, const void *bytes, size_t n, const char *name);
int lc_jpeg_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name);
int lc_png_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name);
int lc_pnm_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name);
int lc_stb_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name);

/* ---- sandbox.c ----
 * The same, in a process of its own where lc_image_sandbox says so. */
int lc_picture_decode(struct lc_picture *p, const void *bytes, size_t n, const char *name);
int lc_picture_read(struct lc_picture *p, const char *path);

/* ---- reader.c ----
 * Waits for a picture that was asked for, reading others meanwhile, or reads it; p owns its pixels. */
int lc_reader_picture(lc_reader *r, const char *path, struct lc_picture *p);

/* ---- encode.c ----
 * Writes by the suffix of the path: .png, .jpg, .jpeg, .bmp; the file is complete or absent. */
int lc_picture_save(const struct lc_picture *p, const char *path, int quality);
/* The same into memory, which lc_free_bytes takes; path is for its suffix and for messages. */
int lc_picture_encode(const struct lc_picture *p, const char *path, int quality, char **data,
                      size_t *n);

/* ---- resize.c ----
 * Pillow's resize to the bit; to->height and to->width say the size, to->rgb has room for it. */
int lc_picture_resize(const struct lc_picture *to, const struct lc_picture *from, int filter);

/* ---- transform.c ----
 * from on a canvas of one colour, its top left corner at (top, left), which may lie outside. */
void lc_picture_place(const struct lc_picture *to, const struct lc_picture *from, int64_t top,
                      int64_t left, const uint8_t colour[3]);
/* Left to right; to has the size of from. */
void lc_picture_mirror(const struct lc_picture *to, const struct lc_picture *from);
/* (value * scale - mean) / std of every channel: planes [3, height, width]. */
void lc_picture_normalize(float *planes, const struct lc_picture *from, double scale,
                          const float mean[3], const float std[3]);

#endif
