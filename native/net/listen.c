/* listen.c - the HTTP server as the core sees it: liblucid_server.so does the work. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/plugin.h"
#include "net/plugin.h"

static struct lc_listen server;
static char trouble[512]; /* why it could not be opened */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void open_plugin(void) {
    lc_listen_open_fn *fill = (lc_listen_open_fn *)(uintptr_t)lc_plugin(
        "liblucid_server.so", "lc_listen_open", "serve", "HTTP server", "libmicrohttpd-dev");
    static const struct lc_net_host host = {lc_fail, lc_poll, lc_alloc, lc_realloc, lc_free};
    if (!fill) snprintf(trouble, sizeof trouble, "%s", lc_error());
    else if (fill(LC_NET_VERSION, &host, &server) < 0)
        snprintf(trouble, sizeof trouble, "liblucid_server.so is of another version; run make");
}

lc_server *lc_server_new(const char *address, int port) {
    pthread_once(&once, open_plugin);
    if (trouble[0]) return lc_fail_null(LC_EMISSING, "%s", trouble);
    return server.make(address, port);
}

void lc_server_free(lc_server *s) {
    if (s) server.free(s);
}

void lc_server_limits(lc_server *s, int64_t body, int requests, int connections, double head,
                      double whole, double stalled) {
    server.limits(s, body, requests, connections, head, whole, stalled);
}

int lc_server_key(lc_server *s, const char *path) { return server.key(s, path); }

int lc_server_name(lc_server *s, const char *name) { return server.name(s, name); }

int lc_server_start(lc_server *s) { return server.start(s); }

int lc_server_wait(lc_server *s, double seconds) { return server.wait(s, seconds); }

int64_t lc_server_take(lc_server *s, const char **method, const char **path, const char **body,
                       size_t *n) {
    return server.take(s, method, path, body, n);
}

int64_t lc_server_left(lc_server *s) { return server.left(s); }

int lc_server_header(lc_server *s, int64_t number, const char *name, const char *value) {
    return server.header(s, number, name, value);
}

int lc_server_answer(lc_server *s, int64_t number, int status, const char *type, const void *body,
                     size_t n) {
    return server.answer(s, number, status, type, body, n);
}

int lc_server_begin(lc_server *s, int64_t number, const char *type) {
    return server.begin(s, number, type);
}

int64_t lc_server_write(lc_server *s, int64_t number, const void *data, size_t n) {
    return server.write(s, number, data, n);
}

int lc_server_end(lc_server *s, int64_t number) { return server.end(s, number); }

void lc_server_drain(lc_server *s) { server.drain(s); }

int64_t lc_server_count(lc_server *s, const char *what) { return server.count(s, what); }
