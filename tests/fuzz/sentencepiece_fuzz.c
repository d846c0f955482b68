/* sentencepiece_fuzz.c - files of SentencePiece's models; with one that opens, texts are taken to pieces. */
#include <string.h>

#include "texts.h"

void fuzz_one(const uint8_t *data, size_t n) {
    static const char *const texts[] = {"", "A dog.", " two  cats \n",
                                        "\xE2\x96\x81\xF0\x9F\x98\x80\xFF<s>"};
    fuzz_begin();
    lc_tokenizer *t = lc_tokenizer_open(fuzz_file(data, n));
    for (int i = 0; t && i < 4; i++) there_and_back(t, texts[i], strlen(texts[i]));
    if (t) lc_tokenizer_close(t);
    fuzz_end();
}
