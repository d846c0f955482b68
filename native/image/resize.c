/* resize.c - Pillow's resampling to the bit.
 *
 * Every output place has a window of input places with integer weights of PRECISION bits: the filter,
 * stretched by the scale when shrinking, sampled at pixel centres and brought to sum 1. The horizontal
 * pass writes 8-bit rows; the vertical one reads them. A pass that keeps the size is left out. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/parallel.h"
#include "image/image.h"

enum { PRECISION = 32 - 8 - 2, HALF = 1 << (PRECISION - 1), CHUNK = 512 };

/* A pass that reads and writes fewer pixels is one thread's: it takes a millisecond at most, and other threads decode
 * meanwhile. */
enum { SMALL = 1 << 21 };

static int threads_for(int64_t pixels) { return pixels > SMALL ? omp_get_max_threads() : 1; }

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

/* The window of output place i; k is room for its weights before they are rounded. */
static void window(struct windows *w, int64_t i, int64_t in, double scale, int filter, double *k) {
    double (*f)(double) = filter == LC_BILINEAR ? triangle : cubic;
    double stretch = scale < 1 ? 1 : scale, support = (filter == LC_BILINEAR ? 1 : 2) * stretch;
    double centre = ((double)i + 0.5) * scale, shrink = 1 / stretch, sum = 0;
    int64_t low = (int64_t)(centre - support + 0.5), high = (int64_t)(centre + support + 0.5);
    if (low < 0) low = 0;
    if (high > in) high = in;
    for (int64_t x = 0; x < high - low; x++) {
        k[x] = f(((double)(x + low) - centre + 0.5) * shrink);
        sum += k[x];
    }
    for (int64_t x = 0; x < high - low; x++) {
        double v = (sum != 0 ? k[x] / sum : k[x]) * (1 << PRECISION);
        w->weight[i * w->most + x] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
    }
    w->first[i] = low;
    w->count[i] = high - low;
}

static int windows_make(struct windows *w, int64_t in, int64_t out, int filter) {
    double scale = (double)in / (double)out;
    w->most = (int64_t)ceil((filter == LC_BILINEAR ? 1 : 2) * (scale < 1 ? 1 : scale)) * 2 + 1;
    w->first = lc_alloc((size_t)out * sizeof *w->first);
    w->count = lc_alloc((size_t)out * sizeof *w->count);
    w->weight = lc_alloc((size_t)(out * w->most) * sizeof *w->weight);
    double *k = lc_alloc((size_t)w->most * sizeof *k);
    int done = w->first && w->count && w->weight && k ? 0 : -1;
    if (!done)
        for (int64_t i = 0; i < out; i++) window(w, i, in, scale, filter, k);
    lc_free(k);
    return done;
}

/* ---- passes ----------------------------------------------------------------------------------------
 * Sums of integers: threads and vectors cannot change them. */

static uint8_t clip(int32_t sum) {
    int32_t v = sum >> PRECISION;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

/* A column of as many rows as a register has numbers. A pixel is one: red in its lowest byte, anything in its highest. */
#if defined(__AVX512F__)
enum { ROWS = 16 };
#elif defined(__AVX2__)
enum { ROWS = 8 };
#else
enum { ROWS = 4 };
#endif
typedef uint32_t column __attribute__((vector_size(4 * ROWS)));
typedef int32_t column_sums __attribute__((vector_size(4 * ROWS)));

/* to [width] from rows of width pixels; rows behind the last one repeat it */
static void columns_of(column *to, const uint8_t *from, int64_t rows, int64_t width) {
    const uint8_t *row[ROWS];
    for (int64_t y = 0; y < ROWS; y++) row[y] = from + (y < rows ? y : rows - 1) * width * 3;
    for (int64_t x = 0; x < width - 1; x++)
        for (int64_t y = 0; y < ROWS; y++) memcpy((uint8_t *)(to + x) + 4 * y, row[y] + 3 * x, 4);
    for (int64_t y = 0; y < ROWS; y++) /* with no byte behind the picture */
        memcpy((uint8_t *)(to + width - 1) + 4 * y, row[y] + 3 * (width - 1), 3);
}

static column clipped(column_sums v) {
    v >>= PRECISION;
    return (column)(((v & (v > 0)) | (v > 255)) & 255);
}

/* to [rows, out, 3] from columns [in] */
static void across_rows(uint8_t *to, const column *from, int64_t rows, int64_t out,
                        const struct windows *w) {
    for (int64_t x = 0; x < out; x++) {
        const int32_t *k = w->weight + x * w->most;
        const column *p = from + w->first[x];
        column_sums red = (column_sums){0} + HALF, green = red, blue = red;
        for (int64_t i = 0; i < w->count[x]; i++) {
            red += (column_sums)(p[i] & 255) * k[i];
            green += (column_sums)(p[i] >> 8 & 255) * k[i];
            blue += (column_sums)(p[i] >> 16 & 255) * k[i];
        }
        const column c = clipped(red) | clipped(green) << 8 | clipped(blue) << 16;
        for (int64_t y = 0; y < rows; y++)
            memcpy(to + (y * out + x) * 3, (const uint8_t *)&c + 4 * y, 3);
    }
}

/* to [height, out, 3] from from [height, in, 3] */
static int horizontal(uint8_t *to, const uint8_t *from, int64_t height, int64_t in, int64_t out,
                      const struct windows *w) {
    const int threads = threads_for(height * (in + out));
    column *room = lc_alloc((size_t)threads * (size_t)in * sizeof *room);
    if (!room) return -1;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t y = 0; y < height; y += ROWS) {
        const int64_t rows = height - y < ROWS ? height - y : ROWS;
        column *columns = room + omp_get_thread_num() * in;
        columns_of(columns, from + y * in * 3, rows, in);
        across_rows(to + y * out * 3, columns, rows, out, w);
    }
    lc_free(room);
    return 0;
}

/* n bytes of one output row: count input rows, row bytes apart, weighted by k */
static void blend(uint8_t *to, const uint8_t *from, int64_t row, int64_t n, const int32_t *k,
                  int64_t count) {
    int32_t sum[CHUNK];
    for (int64_t x = 0; x < n; x++) sum[x] = HALF;
    for (int64_t i = 0; i < count; i++, from += row)
        for (int64_t x = 0; x < n; x++) sum[x] += from[x] * k[i];
    for (int64_t x = 0; x < n; x++) to[x] = clip(sum[x]);
}

/* to [out, row] from from [in, row] */
static void vertical(uint8_t *to, const uint8_t *from, int64_t row, int64_t in, int64_t out,
                     const struct windows *w) {
    const int threads = threads_for(row / 3 * (in + out));
    (void)threads; /* of a build without OpenMP */
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t y = 0; y < out; y++)
        for (int64_t x = 0; x < row; x += CHUNK)
            blend(to + y * row + x, from + w->first[y] * row + x, row,
                  row - x < CHUNK ? row - x : CHUNK, w->weight + y * w->most, w->count[y]);
}

/* Both passes; middle is what lies between them. */
static int resample(const struct lc_picture *to, const struct lc_picture *from, int filter) {
    struct windows across = {0}, down = {0};
    bool wide = to->width != from->width, high = to->height != from->height;
    uint8_t *middle = NULL;
    int done = -1;
    if (wide && windows_make(&across, from->width, to->width, filter) < 0) goto end;
    if (high && windows_make(&down, from->height, to->height, filter) < 0) goto end;
    if (wide && high && !(middle = lc_alloc((size_t)(from->height * to->width * 3)))) goto end;
    if (wide && horizontal(high ? middle : to->rgb, from->rgb, from->height, from->width, to->width,
                           &across) < 0)
        goto end;
    if (high)
        vertical(to->rgb, wide ? middle : from->rgb, to->width * 3, from->height, to->height,
                 &down);
    done = 0;
end:
    windows_free(&across);
    windows_free(&down);
    lc_free(middle);
    return done;
}

/* ---- nearest ---------------------------------------------------------------------------------------- */

/* Pillow walks along an axis by adding the step; the rounding of those sums is part of the result. */
static int64_t *places(int64_t in, int64_t out) {
    int64_t *at = lc_alloc((size_t)out * sizeof *at);
    double step = (double)in / (double)out, x = step * 0.5;
    for (int64_t i = 0; at && i < out; i++, x += step) at[i] = x < (double)in ? (int64_t)x : in - 1;
    return at;
}

static int nearest(const struct lc_picture *to, const struct lc_picture *from) {
    int64_t *u = places(from->width, to->width), *v = places(from->height, to->height);
    int done = u && v ? 0 : -1;
    for (int64_t y = 0; !done && y < to->height; y++)
        for (int64_t x = 0; x < to->width; x++)
            memcpy(to->rgb + (y * to->width + x) * 3, from->rgb + (v[y] * from->width + u[x]) * 3,
                   3);
    lc_free(u);
    lc_free(v);
    return done;
}

int lc_picture_resize(const struct lc_picture *to, const struct lc_picture *from, int filter) {
    if (filter != LC_NEAREST && filter != LC_BILINEAR && filter != LC_BICUBIC)
        return lc_fail(LC_EINVAL, "resize: there is no filter %d", filter);
    if (to->height == from->height && to->width == from->width) {
        memcpy(to->rgb, from->rgb, (size_t)(to->height * to->width * 3));
        return 0;
    }
    return filter == LC_NEAREST ? nearest(to, from) : resample(to, from, filter);
}
