/* net.c - the HTTP client as the core sees it: liblucid_net.so does the work. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/plugin.h"
#include "net/plugin.h"

static struct lc_net net;
static char trouble[512]; /* why it could not be opened */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void open_plugin(void) {
    lc_net_open_fn *fill = (lc_net_open_fn *)(uintptr_t)lc_plugin(
        "liblucid_net.so", "lc_net_open", "http", "HTTP client", "libcurl4-openssl-dev");
    static const struct lc_net_host host = {lc_fail, lc_poll, lc_alloc, lc_realloc, lc_free};
    if (!fill) snprintf(trouble, sizeof trouble, "%s", lc_error());
    else if (fill(LC_NET_VERSION, &host, &net) < 0)
        snprintf(trouble, sizeof trouble, "liblucid_net.so is of another version; run make");
}

lc_http *lc_http_open(const char *base, const char *ca_file) {
    pthread_once(&once, open_plugin);
    if (trouble[0]) return lc_fail_null(LC_EMISSING, "%s", trouble);
    return net.open(base, ca_file);
}

void lc_http_close(lc_http *c) {
    if (c) net.close(c);
}

void lc_http_limits(lc_http *c, double connect, double whole, double stalled, int64_t most) {
    net.limits(c, connect, whole, stalled, most);
}

int lc_http_key(lc_http *c, const char *path) { return net.key(c, path); }

int64_t lc_http_send(lc_http *c, const char *path, const char *body, size_t n) {
    return net.send(c, path, body, n);
}

int lc_http_wait(lc_http *c, double seconds) { return net.wait(c, seconds); }

int64_t lc_http_take(lc_http *c, int *status, double *retry_after, const char **body, size_t *n,
                     const char **fault) {
    return net.take(c, status, retry_after, body, n, fault);
}
