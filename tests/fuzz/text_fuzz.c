/* text_fuzz.c - texts through two tokenizers that are right. */
#include "texts.h"

void fuzz_one(const uint8_t *data, size_t n) {
    static lc_tokenizer *pieces, *words;
    if (!pieces) {
        pieces = lc_tokenizer_open("tests/golden/tokenizer/tokenizer.model");
        words = lc_tokenizer_open("tests/golden/tokenizer/lines/vocab.txt");
        fuzz_check(pieces && words);
    }
    fuzz_begin();
    there_and_back(pieces, (const char *)data, n);
    there_and_back(words, (const char *)data, n);
    fuzz_end();
}
