/* resize.c - Pillow's resampling to the bit (Resample.c of Pillow since 2.7).
 *
 * Every output place has a window of input places and integer weights of PRECISION bits that come from
 * the filter, stretched by the scale when shrinking. The horizontal pass writes 8-bit rows; the vertical
 * one reads them. A pass whose size does not change is left out. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "image/image.h"

enum { PRECISION = 32 - 8 - 2 };

/* ---- filters ------------------------------------------------------------------------------------- */

static double triangle(double x) {
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* Keys' cubic with a = -0.5 */
static double cubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

/* ---- windows ------------------------------------------------------------------------------------- */

struct windows {
    int64_t most;           /* weights a window has room for */
    int64_t *first, *count; /* [out] */
    int32_t *weight;        /* [out, most] */
};

static void windows_free(struct windows *w) {
    lc_free(w->first);
    lc_free(w->count);
    lc_free(w->weight);
}

static int windows_make(struct windows *w, int64_t in, int64_t out, int filter) {
    double (*f)(double) = filter == LC_BILINEAR ? triangle : cubic;
    double scale = (double)in / (double)out, stretch = scale < 1 ? 1 : scale;
    double support = (filter == LC_BILINEAR ? 1 : 2) * stretch;
    w->most = (int64_t)ceil(support) * 2 + 1;
    w->first = lc_alloc((size_t)out * sizeof *w->first);
    w->count = lc_alloc((size_t)out * sizeof *w->count);
    w->weight = lc_alloc_zero((size_t)(out * w->most) * sizeof *w->weight);
    double *k = lc_alloc((size_t)w->most * sizeof *k);
    if (!w->first || !w->count || !w->weight || !k) {
        lc_free(k);
        return -1;
    }
    for (int64_t i = 0; i < out; i++) {
        double centre = ((double)i + 0.5) * scale, sum = 0;
        int64_t low = (int64_t)(centre - support + 0.5), high = (int64_t)(centre + support + 0.5);
        if (low < 0) low = 0;
        if (high > in) high = in;
        for (int64_t x = low; x < high; x++)
            sum += k[x - low] = f(((double)x - centre + 0.5) / stretch);
        for (int64_t x = 0; x < high - low; x++) {
            double v = (sum != 0 ? k[x] / sum : k[x]) * (1 << PRECISION);
            w->weight[i * w->most + x] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
        }
        w->first[i] = low;
        w->count[i] = high - low;
    }
    lc_free(k);
    return 0;
}

static uint8_t clip(int32_t sum) {
    int32_t v = sum >> PRECISION;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* ---- passes ----------------------------------------------------------------------------------------- */

/* to [height, out, 3] from from [height, in, 3] */
static void horizontal(uint8_t *to, const uint8_t *from, int64_t height, int64_t in, int64_t out,
                       const struct windows *w) {
    for (int64_t y = 0; y < height; y++, from += in * 3) {
        for (int64_t x = 0; x < out; x++, to += 3) {
            const int32_t *k = w->weight + x * w->most;
            const uint8_t *p = from + w->first[x] * 3;
            int32_t sum[3] = {1 << (PRECISION - 1), 1 << (PRECISION - 1), 1 << (PRECISION - 1)};
            for (int64_t i = 0; i < w->count[x]; i++)
                for (int c = 0; c < 3; c++) sum[c] += p[3 * i + c] * k[i];
            for (int c = 0; c < 3; c++) to[c] = clip(sum[c]);
        }
    }
}

/* to [out, row] from from [in, row] */
static void vertical(uint8_t *to, const uint8_t *from, int64_t row, int64_t out,
                     const struct windows *w) {
    for (int64_t y = 0; y < out; y++, to += row) {
        const int32_t *k = w->weight + y * w->most;
        const uint8_t *p = from + w->first[y] * row;
        for (int64_t x = 0; x < row; x++) {
            int32_t sum = 1 << (PRECISION - 1);
            for (int64_t i = 0; i < w->count[y]; i++) sum += p[i * row + x] * k[i];
            to[x] = clip(sum);
        }
    }
}

static void nearest(struct lc_picture *to, const struct lc_picture *from) {
    double down = (double)from->height / (double)to->height,
           across = (double)from->width / (double)to->width;
    for (int64_t y = 0; y < to->height; y++)
        for (int64_t x = 0; x < to->width; x++) {
            int64_t v = (int64_t)(((double)y + 0.5) * down),
                    u = (int64_t)(((double)x + 0.5) * across);
            memcpy(to->rgb + (y * to->width + x) * 3, from->rgb + (v * from->width + u) * 3, 3);
        }
}

static int resample(struct lc_picture *to, const struct lc_picture *from, int filter) {
    struct windows across = {0}, down = {0};
    uint8_t *middle = NULL;
    const uint8_t *rows = from->rgb;
    int done = -1;
    if (to->width != from->width) {
        bool last = to->height == from->height;
        middle = last ? NULL : lc_alloc((size_t)(from->height * to->width * 3));
        if ((!last && !middle) || windows_make(&across, from->width, to->width, filter) < 0)
            goto end;
        horizontal(last ? to->rgb : middle, from->rgb, from->height, from->width, to->width,
                   &across);
        rows = last ? NULL : middle;
    }
    if (to->height != from->height) {
        if (windows_make(&down, from->height, to->height, filter) < 0) goto end;
        vertical(to->rgb, rows, to->width * 3, to->height, &down);
    } else if (rows) {
        memcpy(to->rgb, rows, (size_t)(to->height * to->width * 3));
    }
    done = 0;
end:
    windows_free(&across);
    windows_free(&down);
    lc_free(middle);
    return done;
}

int lc_picture_resize(struct lc_picture *to, const struct lc_picture *from, int64_t height,
                      int64_t width, int filter) {
    if (lc_picture_check("resize", height, width) < 0) return -1;
    if (filter != LC_NEAREST && filter != LC_BILINEAR && filter != LC_BICUBIC)
        return lc_fail(LC_EINVAL, "resize: there is no filter %d", filter);
    *to = (struct lc_picture){height, width, lc_alloc((size_t)(height * width * 3))};
    if (!to->rgb) return -1;
    if (filter == LC_NEAREST) nearest(to, from);
    else if (resample(to, from, filter) < 0) {
        lc_free(to->rgb);
        return -1;
    }
    return 0;
}
