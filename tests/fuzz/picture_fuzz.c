/* picture_fuzz.c - pictures through the decoders, and what comes out through the resizer. */
#include <string.h>

#include "base/memory.h"
#include "image/image.h"
#include "support.h"

enum { SIDE = 24 };

void fuzz_one(const uint8_t *data, size_t n) {
    static const char *const names[] = {"x.png", "x.tga"}; /* a TGA is known by its name alone */
    static uint8_t small[SIDE * SIDE * 3];
    fuzz_begin();
    lc_image_limits(1 << 20, 2048, 1 << 18);
    for (int i = 0; i < 2; i++) {
        struct lc_picture p;
        if (lc_picture_decode(&p, data, n, names[i]) < 0) {
            fuzz_check(*lc_error());
            continue;
        }
        fuzz_check(p.height > 0 && p.width > 0 && p.height * p.width <= 1 << 18);
        struct lc_picture to = {SIDE, SIDE, small};
        uint8_t last = p.rgb[3 * p.height * p.width - 1];
        fuzz_check(p.height * p.width > 1 << 14 || lc_picture_resize(&to, &p, last % 2) == 0);
        lc_free(p.rgb);
        break;
    }
    fuzz_end();
}
