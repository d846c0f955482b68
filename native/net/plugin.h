/* plugin.h - the HTTP client is a table of functions. It comes from liblucid_net.so, which has one exported
 * function that fills it: the core opens it at the first use, so that start-up does not pay for libcurl. */
#ifndef LC_NET_PLUGIN_H
#define LC_NET_PLUGIN_H
#include <stddef.h>
#include <stdint.h>

#include "lucid.h"

/* What the plug-in may call: it links nothing of the core. */
struct lc_net_host {
    int (*fail)(int code, const char *format, ...);
    int (*poll)(const char *what); /* -1 once the user interrupts */
    void *(*alloc)(size_t bytes);
    void *(*realloc)(void *p, size_t bytes);
    void (*free)(void *p);
};

/* The lc_http functions of lucid.h. */
struct lc_net {
    lc_http *(*open)(const char *base, const char *ca_file);
    void (*close)(lc_http *c);
    void (*limits)(lc_http *c, double connect, double whole, double stalled, int64_t most);
    int (*key)(lc_http *c, const char *path);
    int64_t (*send)(lc_http *c, const char *path, const char *body, size_t n);
    int (*wait)(lc_http *c, double seconds);
    int64_t (*take)(lc_http *c, int *status, double *retry_after, const char **body, size_t *n,
                    const char **fault);
};

enum { LC_NET_VERSION = 1 };
typedef int lc_net_open_fn(int version, const struct lc_net_host *host, struct lc_net *out);

#endif
