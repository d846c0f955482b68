/* pnm.c - PGM and PPM (P5, P6), as Pillow reads them: samples up to 65535; of a colour picture they are brought
 * to 255 by rounding to the nearest, halves to even; of a gray one beyond 255 to 65535, then cut off at 255. */
#include <ctype.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "image/image.h"

enum { MOST_DIGITS = 9, MOST_SAMPLE = 65535 };

struct text {
    const uint8_t *at, *end;
};

static bool is_space(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static void skip_comment(struct text *t) {
    while (t->at < t->end && *t->at != '\n' && *t->at != '\r') t->at++;
    if (t->at < t->end) t->at++;
}

/* The number that comes next, and the one white space behind it; -1: there is none, or too long a one. */
static int32_t number(struct text *t) {
    int32_t value = 0;
    int digits = 0;
    while (t->at < t->end) {
        uint8_t c = *t->at++;
        if (c == '#') skip_comment(t);
        else if (isdigit(c) && digits++ < MOST_DIGITS) value = 10 * value + (c - '0');
        else if (!is_space(c)) return -1;
        else if (digits) return value;
    }
    return -1;
}

/* What a sample is where the largest is most; out: what the largest becomes. */
static uint8_t scaled(uint32_t v, uint32_t most, double out) {
    double value = rint(v / (double)most * out);
    return value > 255 ? 255 : (uint8_t)value;
}

static void read_samples(struct lc_picture *p, const uint8_t *from, uint32_t most, int channels) {
    double out = channels == 1 && most > 255 ? MOST_SAMPLE : 255;
    int wide = most > 255;
    int64_t count = p->height * p->width;
    for (int64_t i = 0; i < count * 3; i++) {
        const uint8_t *at = from + (channels == 1 ? i / 3 : i) * (1 + wide);
        p->rgb[i] = scaled(wide ? (uint32_t)at[0] << 8 | at[1] : at[0], most, out);
    }
}

int lc_pnm_decode(struct lc_picture *p, const uint8_t *bytes, size_t n, const char *name) {
    struct text t = {bytes + 2, bytes + n};
    int32_t width = number(&t), height = number(&t), most = number(&t);
    int channels = bytes[1] == '6' ? 3 : 1;
    if (n < 3 || !is_space(bytes[2]) || width < 0 || height < 0 || most < 1 || most > MOST_SAMPLE)
        return lc_fail(LC_EINVAL, "%s: the picture is damaged: its head holds no size", name);
    if (lc_picture_check(name, height, width) < 0) return -1;
    int64_t need = (int64_t)width * height * channels * (most > 255 ? 2 : 1);
    if (t.end - t.at < need)
        return lc_fail(LC_EINVAL, "%s: the picture is damaged: it ends within its pixels", name);
    *p = (struct lc_picture){height, width, lc_alloc((size_t)width * (size_t)height * 3)};
    if (!p->rgb) return -1;
    read_samples(p, t.at, (uint32_t)most, channels);
    return 0;
}
