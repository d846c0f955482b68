/* config_fuzz.c - config.json, beside the weights of a tiny model and without any. */
#include "support.h"

void fuzz_one(const uint8_t *data, size_t n) {
    enum { ROOM = 1 << 20 };
    fuzz_file(data, n);
    fuzz_name("config.json");
    fuzz_link("model.safetensors", "tests/golden/llava_tiny/classic/model.safetensors");
    for (int with_weights = 0; with_weights < 2; with_weights++) {
        fuzz_begin();
        lc_memory_limit(lc_memory_used() + ROOM);
        lc_model *m = with_weights ? lc_model_open(fuzz_folder(), LC_F32, LC_HOST)
                                   : lc_model_init(fuzz_folder(), LC_F32, LC_HOST, 1);
        if (m) fuzz_check(lc_model_parameters(m) > 0 && lc_model_image_rows(m) > 0);
        else fuzz_check(*lc_error());
        lc_model_free(m);
        fuzz_end();
    }
}
