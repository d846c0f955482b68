/* plugin.h - the HTTP client and the HTTP server are tables of functions. They come from liblucid_net.so (libcurl)
 * and liblucid_server.so (libmicrohttpd), which have one exported function each that fills them: the core opens
 * them at the first use, so that start-up pays for neither. */
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

/* The lc_server functions of lucid.h. */
struct lc_listen {
    lc_server *(*make)(const char *address, int port);
    void (*free)(lc_server *s);
    void (*limits)(lc_server *s, int64_t body, int requests, int connections, double head,
                   double whole, double stalled);
    int (*key)(lc_server *s, const char *path);
    int (*name)(lc_server *s, const char *name);
    int (*start)(lc_server *s);
    int (*wait)(lc_server *s, double seconds);
    int64_t (*take)(lc_server *s, const char **method, const char **path, const char **body,
                    size_t *n);
    int64_t (*left)(lc_server *s);
    int (*header)(lc_server *s, int64_t number, const char *name, const char *value);
    int (*answer)(lc_server *s, int64_t number, int status, const char *type, const void *body,
                  size_t n);
    int (*begin)(lc_server *s, int64_t number, const char *type);
    int64_t (*write)(lc_server *s, int64_t number, const void *data, size_t n);
    int (*end)(lc_server *s, int64_t number);
    void (*drain)(lc_server *s);
    int64_t (*count)(lc_server *s, const char *what);
};

enum { LC_NET_VERSION = 2 };
typedef int lc_net_open_fn(int version, const struct lc_net_host *host, struct lc_net *out);
typedef int lc_listen_open_fn(int version, const struct lc_net_host *host, struct lc_listen *out);

#endif
