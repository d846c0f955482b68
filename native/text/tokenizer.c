/* tokenizer.c - tokenizers, served by liblucid_text.so, which is opened at the first use. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "text/plugin.h"

enum { MOST_MODEL = 256 << 20 }; /* bytes of a model file; LLaMA's has half a million */

struct lc_tokenizer {
    void *processor;
};

/* ---- the plug-in --------------------------------------------------------------------------------- */

static struct lc_text text;
static char trouble[512]; /* why it could not be opened */
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Beside the file that this function is in. */
static void open_plugin(void) {
    Dl_info self;
    char path[PATH_MAX] = "liblucid_text.so";
    if (dladdr((void *)(uintptr_t)open_plugin, &self) && self.dli_fname) {
        const char *slash = strrchr(self.dli_fname, '/');
        if (slash)
            snprintf(path, sizeof path, "%.*s/liblucid_text.so", (int)(slash - self.dli_fname),
                     self.dli_fname);
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        snprintf(trouble, sizeof trouble,
                 "tokenizer: this build has no SentencePiece (%s); install libsentencepiece-dev "
                 "and run make",
                 dlerror());
        return;
    }
    lc_text_open_fn *fill = (lc_text_open_fn *)(uintptr_t)dlsym(library, "lc_text_open");
    static const struct lc_text_host host = {lc_fail, lc_alloc};
    if (!fill || fill(LC_TEXT_VERSION, &host, &text) < 0)
        snprintf(trouble, sizeof trouble, "tokenizer: %.400s is of another version; run make",
                 path);
}

static int ready(void) {
    pthread_once(&once, open_plugin);
    return trouble[0] ? lc_fail(LC_EMISSING, "%s", trouble) : 0;
}

/* ---- models ---------------------------------------------------------------------------------------- */

static int read_model(const char *path, char file[PATH_MAX], char **bytes, size_t *n) {
    int folder = lc_file_kind(path) == 2;
    int length = snprintf(file, PATH_MAX, folder ? "%s/tokenizer.model" : "%s", path);
    if (length >= PATH_MAX) return lc_fail(LC_EINVAL, "%.64s...: the path is too long", path);
    if (lc_file_kind(file) != 1)
        return lc_fail(LC_EMISSING, "%s: there is no %s", path,
                       folder ? "tokenizer.model in this folder" : "such tokenizer");
    int64_t size = lc_file_size(file);
    if (size < 0) return -1;
    if (size > MOST_MODEL)
        return lc_fail(LC_EINVAL, "%s: %lld bytes are too many for a tokenizer", file,
                       (long long)size);
    return lc_file_read(file, bytes, n);
}

lc_tokenizer *lc_tokenizer_open(const char *path) {
    char file[PATH_MAX], *bytes;
    size_t n;
    if (ready() < 0 || read_model(path, file, &bytes, &n) < 0) return NULL;
    lc_tokenizer *t = lc_alloc(sizeof *t);
    if (t && !(t->processor = text.open(bytes, n, file))) {
        lc_free(t);
        t = NULL;
    }
    lc_free_bytes(bytes);
    return t;
}

void lc_tokenizer_close(lc_tokenizer *t) {
    if (!t) return;
    text.close(t->processor);
    lc_free(t);
}

int lc_tokenizer_pieces(const lc_tokenizer *t) { return text.pieces(t->processor); }
int32_t lc_tokenizer_id(lc_tokenizer *t, const char *piece) { return text.id(t->processor, piece); }

const char *lc_tokenizer_piece(lc_tokenizer *t, int32_t id) { return text.piece(t->processor, id); }

int32_t lc_tokenizer_special(lc_tokenizer *t, int which) {
    return text.special(t->processor, which);
}

/* ---- text ------------------------------------------------------------------------------------------ */

int lc_tokenizer_encode(lc_tokenizer *t, const char *s, size_t n, int32_t **ids, size_t *count) {
    return text.encode(t->processor, s, n, ids, count);
}

int lc_tokenizer_decode(lc_tokenizer *t, const int32_t *ids, size_t count, char **s, size_t *n) {
    return text.decode(t->processor, ids, count, s, n);
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
