/* jpeg.c - JPEG through libjpeg-turbo with the settings that Pillow uses: its pixels to the bit.
 * What was lost cannot be told from what is there, so a warning about lost data is an error. */
#include "base/error.h"
#include "image/image.h"

#ifdef LC_HAVE_JPEG
#include <stdio.h>

#include <jpeglib.h>
#include <jerror.h>
#include <setjmp.h>
#include <stdbool.h>
#include <string.h>

#include "base/memory.h"

/* A progressive file keeps its coefficients, 2 bytes each, and may go over the picture as often as it
 * likes: real ones make about ten scans. */
enum { MOST_MEMORY = 384 << 20, MOST_SCANS = 100 };

struct reader {
    struct jpeg_decompress_struct c;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf back;
    const char *name;
    uint8_t *pixels, *row; /* row: of a CMYK picture */
};

static struct reader *reader_of(j_common_ptr c) { return c->client_data; }

/* ---- errors ------------------------------------------------------------------------------------- */

static void on_error(j_common_ptr c) {
    struct reader *r = reader_of(c);
    char text[JMSG_LENGTH_MAX];
    c->err->format_message(c, text);
    if (c->err->msg_code == JERR_NO_BACKING_STORE || c->err->msg_code == JERR_OUT_OF_MEMORY)
        lc_fail(LC_ENOMEM, "%s: decoding this JPEG takes more than %d MiB", r->name,
                MOST_MEMORY >> 20);
    else lc_fail(LC_EINVAL, "%s: the JPEG is damaged: %s", r->name, text);
    longjmp(r->back, 1);
}

/* level -1: a warning. These say that bytes were superfluous or a header odd; no pixel is lost. */
static void on_message(j_common_ptr c, int level) {
    int code = c->err->msg_code;
    if (level >= 0 || code == JWRN_EXTRANEOUS_DATA || code == JWRN_ADOBE_XFORM ||
        code == JWRN_JFIF_MAJOR || code == JWRN_NOT_SEQUENTIAL)
        return;
    on_error(c);
}

static void on_progress(j_common_ptr c) {
    struct reader *r = reader_of(c);
    int stop = lc_poll(r->name);
    if (!stop && r->c.input_scan_number > MOST_SCANS)
        stop = lc_fail(LC_EINVAL, "%s: the JPEG has more than %d scans", r->name, MOST_SCANS);
    if (stop) longjmp(r->back, 1);
}

/* ---- pixels ------------------------------------------------------------------------------------- */

/* Pillow takes every four-channel JPEG for Adobe's, which stores 255 - ink. */
static void cmyk_to_rgb(uint8_t *rgb, const uint8_t *cmyk, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        int black = cmyk[4 * i + 3];
        for (int k = 0; k < 3; k++) {
            int product = (255 - cmyk[4 * i + k]) * black + 128; /* / 255, rounded: */
            int level = black - (((product >> 8) + product) >> 8);
            rgb[3 * i + k] = (uint8_t)(level < 0 ? 0 : level);
        }
    }
}

static void read_rows(struct reader *r) {
    while (r->c.output_scanline < r->c.output_height) {
        uint8_t *to = r->pixels + (size_t)r->c.output_scanline * r->c.output_width * 3;
        JSAMPROW line = r->row ? r->row : to;
        jpeg_read_scanlines(&r->c, &line, 1);
        if (r->row) cmyk_to_rgb(to, r->row, r->c.output_width);
    }
}

/* The header's colours decide what libjpeg is asked for: RGB, or CMYK for four channels. */
static int begin(struct reader *r) {
    bool four = r->c.num_components == 4;
    if (r->c.num_components == 2 || r->c.num_components > 4)
        return lc_fail(LC_EINVAL, "%s: a JPEG of %d channels", r->name, r->c.num_components);
    if (lc_picture_check(r->name, r->c.image_height, r->c.image_width) < 0) return -1;
    r->c.out_color_space = four ? JCS_CMYK : JCS_RGB;
    r->c.mem->max_memory_to_use = MOST_MEMORY;
    r->pixels = lc_alloc((size_t)r->c.image_height * r->c.image_width * 3);
    if (four) r->row = lc_alloc((size_t)r->c.image_width * 4);
    return r->pixels && (r->row || !four) ? 0 : -1;
}

/* libjpeg's errors come back to the setjmp: nothing of this frame is used after it. */
static int decode(struct reader *r, const uint8_t *bytes, size_t n) {
    if (setjmp(r->back)) return -1;
    jpeg_create_decompress(&r->c);
    r->c.client_data = r;
    r->c.progress = &r->progress;
    jpeg_mem_src(&r->c, bytes, n);
    jpeg_read_header(&r->c, TRUE);
    if (begin(r) < 0) return -1;
    jpeg_start_decompress(&r->c);
    read_rows(r);
    jpeg_finish_decompress(&r->c); /* a file without its end is truncated */
    return 0;
}

int lc_jpeg_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name) {
    struct reader r;
    memset(&r, 0, sizeof r);
    r.name = name;
    r.c.err = jpeg_std_error(&r.errors);
    r.c.client_data = &r;
    r.errors.error_exit = on_error;
    r.errors.emit_message = on_message;
    r.progress.progress_monitor = on_progress;
    int done = decode(&r, bytes, n);
    if (done < 0) lc_free(r.pixels);
    else *p = (struct lc_picture){r.c.output_height, r.c.output_width, r.pixels};
    lc_free(r.row);
    jpeg_destroy_decompress(&r.c);
    return done;
}
#else
int lc_jpeg_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name) {
    (void)p, (void)bytes, (void)n;
    return lc_fail(LC_EMISSING, "%s: this build reads no JPEG; install libjpeg-dev and run make",
                   name);
}
#endif
