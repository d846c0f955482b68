/* wordpiece_fuzz.c - word lists, which are also the text that is taken to their pieces. */
#include "texts.h"

void fuzz_one(const uint8_t *data, size_t n) {
    fuzz_begin();
    fuzz_file(data, n);
    lc_tokenizer *t = lc_tokenizer_open(fuzz_name("vocab.txt"));
    if (t) {
        there_and_back(t, (const char *)data, n);
        lc_tokenizer_close(t);
    }
    fuzz_end();
}
