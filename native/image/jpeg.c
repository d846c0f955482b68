/* jpeg.c - JPEG through libjpeg-turbo with the settings that Pillow uses: its pixels to the bit.
 * A warning (truncated or corrupt data) is an error: half a picture is not a picture. */
#include "base/error.h"
#include "image/image.h"

#ifdef LC_HAVE_JPEG
#include <stdio.h>

#include <jpeglib.h>
#include <setjmp.h>
#include <string.h>

#include "base/memory.h"

struct failure {
    struct jpeg_error_mgr base;
    jmp_buf back;
    char text[JMSG_LENGTH_MAX];
};

static void give_up(j_common_ptr c) {
    struct failure *f = (struct failure *)c->err;
    c->err->format_message(c, f->text);
    longjmp(f->back, 1);
}

/* level -1: a warning */
static void on_message(j_common_ptr c, int level) {
    if (level < 0) give_up(c);
}

/* CMYK as Pillow's convert: Adobe files store inverted values. */
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, int64_t n, bool inverted) {
    for (int64_t i = 0; i < n; i++) {
        int black = inverted ? cmyk[4 * i + 3] : 255 - cmyk[4 * i + 3];
        for (int c = 0; c < 3; c++) {
            int ink = inverted ? 255 - cmyk[4 * i + c] : cmyk[4 * i + c];
            int v = ink * black + 128; /* rounded division by 255 */
            int product = ((v >> 8) + v) >> 8;
            int level = black - product;
            rgb[3 * i + c] = (uint8_t)(level < 0 ? 0 : level);
        }
    }
}

static void read_rows(struct jpeg_decompress_struct *c, struct lc_picture *p, uint8_t *row) {
    while (c->output_scanline < c->output_height) {
        uint8_t *to = p->rgb + (size_t)c->output_scanline * (size_t)p->width * 3;
        JSAMPROW line = row ? row : to;
        jpeg_read_scanlines(c, &line, 1);
        if (row) cmyk_to_rgb(to, row, p->width, c->saw_Adobe_marker);
    }
}

int lc_jpeg_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name) {
    struct jpeg_decompress_struct c;
    struct failure f;
    uint8_t *volatile row = NULL;
    uint8_t *volatile pixels = NULL;
    memset(&c, 0, sizeof c);
    c.err = jpeg_std_error(&f.base);
    f.base.error_exit = give_up;
    f.base.emit_message = on_message;
    if (setjmp(f.back)) {
        jpeg_destroy_decompress(&c);
        lc_free(row);
        lc_free(pixels);
        p->rgb = NULL;
        return lc_fail(LC_EINVAL, "%s: not a whole JPEG: %s", name, f.text);
    }
    jpeg_create_decompress(&c);
    jpeg_mem_src(&c, bytes, n);
    jpeg_read_header(&c, TRUE);
    bool four = c.jpeg_color_space == JCS_CMYK || c.jpeg_color_space == JCS_YCCK;
    c.out_color_space = four ? JCS_CMYK : JCS_RGB;
    int done = lc_picture_check(name, c.image_height, c.image_width);
    if (!done) {
        p->height = c.image_height;
        p->width = c.image_width;
        pixels = lc_alloc((size_t)p->height * (size_t)p->width * 3);
        row = four ? lc_alloc((size_t)p->width * 4) : NULL;
        p->rgb = pixels;
        done = pixels && (row || !four) ? 0 : -1;
    }
    if (!done) {
        jpeg_start_decompress(&c);
        read_rows(&c, p, row);
        jpeg_finish_decompress(&c);
    }
    jpeg_destroy_decompress(&c);
    lc_free(row);
    if (done < 0) {
        lc_free(pixels);
        p->rgb = NULL;
    }
    return done;
}
#else
int lc_jpeg_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name) {
    (void)p;
    (void)bytes;
    (void)n;
    return lc_fail(LC_EMISSING, "%s: this build reads no JPEG; install libjpeg-dev and run make",
                   name);
}
#endif
