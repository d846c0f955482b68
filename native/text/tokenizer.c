/* tokenizer.c - tokenizers of both kinds: SentencePiece's, served by liblucid_text.so, which is opened
 * at the first use, and BERT's. */
#define _GNU_SOURCE
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/foreign.h"
#include "base/memory.h"
#include "base/plugin.h"
#include "text/plugin.h"
#include "text/utf8.h"
#include "text/wordpiece.h"

enum { MOST_MODEL = 256 << 20 }; /* bytes of a model file; LLaMA's has half a million */

struct lc_tokenizer {
    const struct lc_text *kind;
    void *vocabulary;
};

/* ---- the plug-in --------------------------------------------------------------------------------- */

static struct lc_text text;
static char trouble[512]; /* why it could not be opened */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void open_plugin(void) {
    lc_text_open_fn *fill = (lc_text_open_fn *)(uintptr_t)lc_plugin(
        "liblucid_text.so", "lc_text_open", "tokenizer", "SentencePiece", "libsentencepiece-dev");
    static const struct lc_text_host host = {lc_fail, lc_alloc, lc_utf8_front};
    if (!fill) snprintf(trouble, sizeof trouble, "%s", lc_error());
    else if (fill(LC_TEXT_VERSION, &host, &text) < 0)
        snprintf(trouble, sizeof trouble,
                 "tokenizer: liblucid_text.so is of another version; run make");
}

static int ready(void) {
    pthread_once(&once, open_plugin);
    return trouble[0] ? lc_fail(LC_EMISSING, "%s", trouble) : 0;
}

/* ---- models ---------------------------------------------------------------------------------------- */

/* A folder stands for its tokenizer.model or else its vocab.txt. */
static int find_model(const char *path, char file[PATH_MAX]) {
    static const char *const names[] = {"%s/tokenizer.model", "%s/vocab.txt"};
    int folder = lc_file_kind(path) == 2;
    for (int i = 0; i < (folder ? 2 : 1); i++) {
        if (snprintf(file, PATH_MAX, folder ? names[i] : "%s", path) >= PATH_MAX)
            return lc_fail(LC_EINVAL, "%.64s...: the path is too long", path);
        if (lc_file_kind(file) == 1) return 0;
    }
    return lc_fail(LC_EMISSING, "%s: there is no %s", path,
                   folder ? "tokenizer.model in this folder, and no vocab.txt" : "such tokenizer");
}

static int read_model(const char *file, char **bytes, size_t *n) {
    int64_t size = lc_file_size(file);
    if (size < 0) return -1;
    if (size > MOST_MODEL)
        return lc_fail(LC_EINVAL, "%s: %lld bytes are too many for a tokenizer", file,
                       (long long)size);
    if (lc_file_read(file, bytes, n) < 0) return -1;
    if (lc_refuse_foreign(file, *bytes, *n, "a tokenizer") == 0) return 0;
    lc_free_bytes(*bytes);
    return -1;
}

static int is_word_list(const char *file) {
    size_t n = strlen(file);
    return n >= 4 && strcmp(file + n - 4, ".txt") == 0;
}

lc_tokenizer *lc_tokenizer_open(const char *path) {
    char file[PATH_MAX], *bytes;
    size_t n;
    if (find_model(path, file) < 0) return NULL;
    const struct lc_text *kind = is_word_list(file) ? &lc_wordpiece : &text;
    if ((kind == &text && ready() < 0) || read_model(file, &bytes, &n) < 0) return NULL;
    lc_tokenizer *t = lc_alloc(sizeof *t);
    if (t) *t = (lc_tokenizer){kind, kind->open(bytes, n, file)};
    if (t && !t->vocabulary) {
        lc_free(t);
        t = NULL;
    }
    lc_free_bytes(bytes);
    return t;
}

void lc_tokenizer_close(lc_tokenizer *t) {
    if (!t) return;
    t->kind->close(t->vocabulary);
    lc_free(t);
}

int lc_tokenizer_is_wordpiece(const lc_tokenizer *t) { return t->kind == &lc_wordpiece; }
int lc_tokenizer_pieces(const lc_tokenizer *t) { return t->kind->pieces(t->vocabulary); }

int32_t lc_tokenizer_id(lc_tokenizer *t, const char *piece) {
    return t->kind->id(t->vocabulary, piece);
}

const char *lc_tokenizer_piece(lc_tokenizer *t, int32_t id) {
    return t->kind->piece(t->vocabulary, id);
}

int32_t lc_tokenizer_special(lc_tokenizer *t, int which) {
    return t->kind->special(t->vocabulary, which);
}

/* ---- text ------------------------------------------------------------------------------------------ */

int lc_tokenizer_encode(lc_tokenizer *t, const char *s, size_t n, int inside, int32_t **ids,
                        size_t *count) {
    const char *clean;
    size_t length;
    if (lc_utf8_clean(s, n, &clean, &length) < 0) return -1;
    int done = t->kind->encode(t->vocabulary, clean, length, inside, ids, count);
    if (clean != s) lc_free((void *)(uintptr_t)clean);
    return done;
}

int lc_tokenizer_decode(lc_tokenizer *t, const int32_t *ids, size_t count, char **s, size_t *n) {
    return t->kind->decode(t->vocabulary, ids, count, s, n);
}

/* ---- training -------------------------------------------------------------------------------------- */

int lc_tokenizer_train(const char *corpus_path, const char *model_path, int pieces,
                       const char *words) {
    char *corpus, *model;
    size_t length, n;
    if (ready() < 0 || lc_file_read(corpus_path, &corpus, &length) < 0) return -1;
    int done = text.train(corpus, length, words, pieces, &model, &n);
    lc_free_bytes(corpus);
    if (done < 0) return -1;
    done = lc_file_write(model_path, model, n);
    lc_free(model);
    return done;
}
