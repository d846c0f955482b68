/* pictures.c - reading here, ahead and apart; transforms; writing. */
#include <string.h>

#include "capi.h"

enum { AHEAD = 8 };

static void transform(lc_tensor *t, const char *out) {
    static const float mean[] = {0.5F, 0.4F, 0.3F}, deviation[] = {0.2F, 0.2F, 0.3F};
    for (int filter = LC_NEAREST; filter <= LC_BICUBIC; filter++)
        lc_tensor_release(capi_own(lc_image_resize(t, 20, 30, filter)));
    lc_tensor_release(capi_own(lc_image_normalize(
        lc_image_pad_square(lc_image_crop(t, -2, 3, 9, 20), 1, 2, 3), 1 / 255.0, mean, deviation)));
    lc_tensor_release(capi_own(lc_image_mirror(t)));
    MUST(lc_image_save(t, out, 90) == 0);
}

static void read_ahead(const char *path, const char *broken) {
    lc_reader *r = lc_reader_new();
    MUST(r);
    for (int i = 0; i < AHEAD; i++) MUST(lc_reader_ask(r, i % 2 ? path : broken) == 0);
    for (int i = 0; i < AHEAD / 2; i++) lc_tensor_release(capi_own(lc_reader_take(r, path)));
    REFUSED(lc_reader_take(r, broken) == NULL);
    lc_reader_clear(r);
    MUST(lc_reader_ask(r, path) == 0);
    lc_reader_free(r);
}

static void read_all(const char *path, const char *broken) {
    lc_tensor *t = capi_own(lc_image_load(path));
    char *bytes;
    size_t n;
    MUST(lc_file_read(path, &bytes, &n) == 0);
    lc_tensor_release(capi_own(lc_image_decode(bytes, n, "bytes")));
    for (size_t cut = 0; cut < n; cut += 1 + n / 16)
        REFUSED(lc_image_decode(bytes, cut, "bytes") == NULL);
    MUST(lc_file_write(broken, bytes, n / 2) == 0);
    lc_free_bytes(bytes);
    read_ahead(path, broken);
    lc_tensor_release(t);
}

void capi_pictures(const char *folder, const char *scratch) {
    char path[4096], broken[4096], out[4096];
    snprintf(path, sizeof path, "%s/1.png", folder);
    snprintf(broken, sizeof broken, "%s/broken.png", scratch);
    snprintf(out, sizeof out, "%s/out.jpg", scratch);
    lc_tensor *t = capi_own(lc_image_load(path));
    transform(t, out);
    lc_tensor_release(t);
    MUST(lc_image_sandbox(0) == 0);
    read_all(path, broken);
    MUST(lc_image_sandbox(60) >= 0);
    read_all(path, broken);
    read_all(out, broken);
    MUST(lc_image_sandbox(0) == 0);
    MUST(lc_remove(broken) == 0 && lc_remove(out) == 0);
}
