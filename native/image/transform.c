/* transform.c - crops, borders, and bytes to the numbers of a network's input. */
#include <string.h>

#include "image/image.h"

static void fill(const struct lc_picture *to, const uint8_t colour[3]) {
    for (int64_t i = 0; i < to->height * to->width; i++) memcpy(to->rgb + 3 * i, colour, 3);
}

/* [low, high): places of an axis of to that from covers when it begins at place first */
static void overlap(int64_t to, int64_t from, int64_t first, int64_t *low, int64_t *high) {
    *low = first > 0 ? first : 0;
    *high = from < to - first ? first + from : to;
}

void lc_picture_place(const struct lc_picture *to, const struct lc_picture *from, int64_t top,
                      int64_t left, const uint8_t colour[3]) {
    int64_t y0, y1, x0, x1;
    overlap(to->height, from->height, top, &y0, &y1);
    overlap(to->width, from->width, left, &x0, &x1);
    if (y0 > 0 || x0 > 0 || y1 < to->height || x1 < to->width) fill(to, colour);
    if (x0 >= x1) return;
    for (int64_t y = y0; y < y1; y++)
        memcpy(to->rgb + (y * to->width + x0) * 3,
               from->rgb + ((y - top) * from->width + x0 - left) * 3, (size_t)(x1 - x0) * 3);
}

void lc_picture_mirror(const struct lc_picture *to, const struct lc_picture *from) {
    for (int64_t y = 0; y < from->height; y++)
        for (int64_t x = 0; x < from->width; x++)
            memcpy(to->rgb + (y * to->width + x) * 3,
                   from->rgb + ((y + 1) * from->width - 1 - x) * 3, 3);
}

/* In the steps of transformers: the product in double, rounded to float, then float arithmetic. */
void lc_picture_normalize(float *planes, const struct lc_picture *from, double scale,
                          const float mean[3], const float std[3]) {
    const int64_t n = from->height * from->width;
    float level[3][256]; /* every byte's value, once */
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) level[c][v] = ((float)(v * scale) - mean[c]) / std[c];
    for (int64_t i = 0; i < n; i++)
        for (int c = 0; c < 3; c++) planes[c * n + i] = level[c][from->rgb[3 * i + c]];
}
