/* plugin.h - a kind of tokenizer is a table of functions. SentencePiece's comes from liblucid_text.so,
 * which has one exported function that fills it: the core opens it at the first use, so that start-up
 * does not pay for a C++ library. */
#ifndef LC_TEXT_PLUGIN_H
#define LC_TEXT_PLUGIN_H
#include <stddef.h>
#include <stdint.h>

/* What the plug-in may call: it links nothing of the core. */
struct lc_text_host {
    int (*fail)(int code, const char *format, ...);
    void *(*alloc)(size_t bytes);
    size_t (*utf8_front)(const char *s, size_t n); /* how many bytes at the front are UTF-8 */
};

/* The tokenizer functions of lucid.h over an opaque vocabulary. Results that are handed out come from
 * host.alloc; name is for messages; texts are UTF-8 already. */
struct lc_text {
    void *(*open)(const char *model, size_t n, const char *name);
    void (*close)(void *p);
    int (*pieces)(const void *p);
    int (*encode)(const void *p, const char *text, size_t n, int inside, int32_t **ids,
                  size_t *count);
    int (*decode)(const void *p, const int32_t *ids, size_t count, char **text, size_t *n);
    const char *(*piece)(const void *p, int32_t id);
    int32_t (*id)(const void *p, const char *piece);
    int32_t (*special)(const void *p, int which);
    int (*train)(const char *corpus, size_t length, const char *words, int pieces, char **model,
                 size_t *n);
};

enum { LC_TEXT_VERSION = 4 };
typedef int lc_text_open_fn(int version, const struct lc_text_host *host, struct lc_text *out);

#endif
