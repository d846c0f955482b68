/* checkpoint.h - everything that can be asked of a checkpoint's file, for the fuzzers of its formats. */
#ifndef LC_FUZZ_CHECKPOINT_H
#define LC_FUZZ_CHECKPOINT_H
#include "support.h"

/* size: of the file. */
static inline void look_at_checkpoint(const char *path, int64_t size) {
    enum { MOST_BYTES = 1 << 16, MOST_TENSORS = 64 };
    fuzz_begin();
    lc_checkpoint *c = lc_checkpoint_open(path);
    if (!c) fuzz_check(*lc_error());
    else {
        lc_checkpoint_check(c);
        lc_checkpoint_metadata(c, "format");
    }
    for (int i = 0; c && i < lc_checkpoint_count(c) && i < MOST_TENSORS; i++) {
        static float values[MOST_BYTES];
        int64_t shape[LC_MAX_DIMS], bytes = lc_checkpoint_bytes(c, i);
        fuzz_check(lc_checkpoint_name(c, i) && lc_checkpoint_dtype(c, i));
        fuzz_check(bytes >= 0 && lc_checkpoint_shape(c, i, shape) >= 0);
        if (bytes > MOST_BYTES)
            continue; /* it may be larger than the file: a row that is repeated */
        lc_checkpoint_nonfinite(c, i);
        lc_tensor *t = lc_checkpoint_tensor(c, lc_checkpoint_name(c, i));
        if (t) {
            fuzz_check(lc_tensor_count(t) <= bytes && (bytes == 0 || size > 0));
            fuzz_check(lc_tensor_read_f32(t, values, lc_tensor_count(t)) == 0);
        }
        lc_tensor_adopt(NULL);
        lc_checkpoint_forget(c, i);
    }
    lc_checkpoint_close(c);
    fuzz_end();
}

#endif
