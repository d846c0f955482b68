/* texts.h - what holds of every tokenizer and every text. */
#ifndef LC_FUZZ_TEXTS_H
#define LC_FUZZ_TEXTS_H
#include "base/plugin.h"
#include "support.h"
#include "text/plugin.h"
#include "text/utf8.h"

extern lc_text_open_fn lc_text_open;

/* The plug-in is a part of this program. */
void *lc_plugin(const char *file, const char *symbol, const char *use, const char *lacks,
                const char *packages) {
    (void)file, (void)symbol, (void)use, (void)lacks, (void)packages;
    return (void *)(uintptr_t)lc_text_open;
}

/* A text becomes ids that there are, and those a text that is UTF-8. */
static void there_and_back(lc_tokenizer *t, const char *text, size_t n) {
    for (int inside = 0; inside < 2; inside++) {
        int32_t *ids;
        size_t count, length;
        char *back;
        if (lc_tokenizer_encode(t, text, n, inside, &ids, &count) < 0) continue;
        for (size_t i = 0; i < count; i++) {
            fuzz_check(ids[i] >= 0 && ids[i] < lc_tokenizer_pieces(t));
            fuzz_check(lc_tokenizer_piece(t, ids[i]));
        }
        if (lc_tokenizer_decode(t, ids, count, &back, &length) == 0) {
            const char *clean;
            size_t same;
            fuzz_check(lc_utf8_clean(back, length, &clean, &same) == 0 && clean == back);
            lc_free_bytes(back);
        }
        lc_free_bytes(ids);
    }
    for (int which = 0; which < 4; which++)
        fuzz_check(lc_tokenizer_special(t, which) < lc_tokenizer_pieces(t));
}

#endif
