/* pickle.h - what a pickle says, as a tree of values. Nothing that it names is called. */
#ifndef LC_IO_PICKLE_H
#define LC_IO_PICKLE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LC_PICKLE_BYTES = 64 << 20 }; /* of one pickle, at most */

enum lc_pickle_kind {
    LC_PICKLE_NONE,
    LC_PICKLE_BOOL,  /* integer */
    LC_PICKLE_INT,   /* integer */
    LC_PICKLE_LONG,  /* more than 63 bits: count bytes of text, little endian; 0 of decimal ones */
    LC_PICKLE_FLOAT, /* its value is of no use to anybody */
    LC_PICKLE_TEXT,  /* count bytes of text, within the pickle */
    LC_PICKLE_BYTE_TEXT,  /* the same, for bytes that are no str */
    LC_PICKLE_LIST,       /* count items */
    LC_PICKLE_TUPLE,      /* count items */
    LC_PICKLE_SET,        /* count items */
    LC_PICKLE_DICT,       /* count items: key, value, key, value ... */
    LC_PICKLE_NAME,       /* a global: name is its place in the list of allowed ones */
    LC_PICKLE_CALL,       /* of the global with that name; inner: the tuple of arguments */
    LC_PICKLE_PERSISTENT, /* inner: what stands for an object outside */
};

struct lc_pickle_value {
    uint8_t kind;
    int16_t name;
    uint32_t count, room; /* room: of items */
    union {
        int64_t integer;
        const char *text;
        uint32_t *items;
        uint32_t inner;
    };
};

/* A global that may be named. Calls of a dict make an LC_PICKLE_DICT; any other stays as it is. */
struct lc_pickle_name {
    const char *module, *name;
    int role; /* the caller's own, or LC_PICKLE_MAKES_DICT */
};
enum { LC_PICKLE_MAKES_DICT = -1 };

struct lc_pickle {
    struct lc_pickle_value *values;
    size_t count, room;
    uint32_t root;
    const char *end; /* behind the pickle */
};

/* Reads the pickle that text begins with; names ends with a NULL module. Errors are "PATH: what". The
 * texts of the values stay where they are in text. */
int lc_pickle_read(struct lc_pickle *p, const char *text, size_t n, const char *path,
                   const struct lc_pickle_name *names);
void lc_pickle_free(struct lc_pickle *p);

/* The i-th value; of a container, the value of its item i. */
static inline const struct lc_pickle_value *lc_pickle_at(const struct lc_pickle *p, uint32_t i) {
    return &p->values[i];
}
static inline const struct lc_pickle_value *
lc_pickle_item(const struct lc_pickle *p, const struct lc_pickle_value *v, uint32_t i) {
    return &p->values[v->items[i]];
}
/* For messages: as much of a text as there is room for, '?' for what a terminal cannot show. */
void lc_pickle_show(char *to, size_t room, const char *text, size_t n);
bool lc_pickle_is_text(const struct lc_pickle_value *v, const char *text);

#endif
