/* client.c - many HTTP requests in flight to one endpoint, on one libcurl multi handle that its caller pulls.
 *
 * A transfer is either in flight (list c->flying) or it has arrived (queue c->arrived, in the order of
 * arrival). The one that was taken last (c->taken) holds the bytes that the caller looks at.
 *
 * The key is read here, goes into one header, and comes back in nothing: answers are blotted, and no error
 * quotes what was sent. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <curl/curl.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "net/key.h"

enum { SECRET = 12 }; /* bytes from which a key is a secret */

struct transfer {
    lc_http *client;
    struct transfer *next, *previous;
    int64_t number;
    CURL *easy;
    char *sent, *body; /* body: [length], a NUL behind it */
    size_t length, room;
    int large, status;
    double retry_after;
    char fault[CURL_ERROR_SIZE + 64];
};

struct lc_http {
    CURLM *multi;
    struct curl_slist *headers;
    char *base, *key, *ca_file;
    int loopback, plain; /* this machine; not over TLS */
    double connect, whole, stalled;
    int64_t most, numbers;
    struct transfer *flying, *arrived, *last, *taken;
    int waiting; /* in the queue */
};

static struct lc_net_host host;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static char *copy_bytes(const char *data, size_t n) {
    char *copy = host.alloc(n + 1);
    if (!copy) return NULL;
    memcpy(copy, data, n);
    copy[n] = 0;
    return copy;
}

static void forget(char *secret) {
    if (secret) explicit_bzero(secret, strlen(secret));
    host.free(secret);
}

/* ---- the endpoint ----------------------------------------------------------------------------------- */

/* 127.0.0.1.example is no address of this machine, but a name of anybody's. */
static int is_loopback(const char *name) {
    unsigned char address[4];
    return !strcmp(name, "localhost") || !strcmp(name, "[::1]") ||
           (inet_pton(AF_INET, name, address) == 1 && address[0] == 127);
}

/* What the address may be: nothing of it is quoted, a password may stand in it. */
static int look_at(lc_http *c, CURLU *url) {
    char *part = NULL;
    if (curl_url_set(url, CURLUPART_URL, c->base, 0))
        return host.fail(LC_EINVAL, "http: the endpoint is no URL; https://HOST/v1 is expected");
    if (!curl_url_get(url, CURLUPART_USER, &part, 0) ||
        !curl_url_get(url, CURLUPART_QUERY, &part, 0) ||
        !curl_url_get(url, CURLUPART_FRAGMENT, &part, 0)) {
        curl_free(part);
        return host.fail(LC_EINVAL, "http: the endpoint holds a name, a query or a fragment; "
                                    "https://HOST/v1 is expected");
    }
    if (curl_url_get(url, CURLUPART_SCHEME, &part, 0))
        return host.fail(LC_ENOMEM, "http: out of memory");
    int known = !strcmp(part, "https") || !strcmp(part, "http");
    c->plain = strcmp(part, "https") != 0;
    curl_free(part);
    if (!known)
        return host.fail(LC_EINVAL, "http: the endpoint begins with neither https nor http");
    if (curl_url_get(url, CURLUPART_HOST, &part, 0))
        return host.fail(LC_EINVAL, "http: the endpoint has no host");
    c->loopback = is_loopback(part);
    curl_free(part);
    return 0;
}

static int add_header(lc_http *c, const char *line) {
    struct curl_slist *longer = curl_slist_append(c->headers, line);
    if (!longer) return host.fail(LC_ENOMEM, "http: out of memory");
    c->headers = longer;
    return 0;
}

static int prepare(lc_http *c, const char *base, const char *ca_file) {
    size_t n = strlen(base);
    while (n && base[n - 1] == '/') n--;
    if (!(c->base = copy_bytes(base, n)) ||
        (ca_file && !(c->ca_file = copy_bytes(ca_file, strlen(ca_file)))))
        return -1;
    CURLU *url = curl_url();
    int good = url ? look_at(c, url) : host.fail(LC_ENOMEM, "http: out of memory");
    curl_url_cleanup(url);
    if (good < 0) return -1;
    if (!(c->multi = curl_multi_init())) return host.fail(LC_ENOMEM, "http: out of memory");
    return add_header(c, "Content-Type: application/json") < 0 ||
                   add_header(c, "Accept: application/json") < 0 || add_header(c, "Expect:") < 0
               ? -1
               : 0;
}

static void client_close(lc_http *c);

static lc_http *client_open(const char *base, const char *ca_file) {
    lc_http *c = host.alloc(sizeof *c);
    if (!c) return NULL;
    *c = (lc_http){.connect = 15, .whole = 300, .stalled = 120, .most = 4 << 20};
    if (prepare(c, base, ca_file) == 0) return c;
    client_close(c);
    return NULL;
}

static void client_limits(lc_http *c, double connect, double whole, double stalled, int64_t most) {
    c->connect = connect;
    c->whole = whole;
    c->stalled = stalled;
    c->most = most;
}

/* ---- the key ---------------------------------------------------------------------------------------- */

static int use_key(lc_http *c, const char *text, size_t size, const char *from) {
    ssize_t length = lc_key_length(&host, text, size, from);
    if (length < 0) return -1;
    size_t n = (size_t)length;
    if (c->plain && !c->loopback)
        return host.fail(LC_EINVAL, "http: a key is not sent over plain http to another machine; "
                                    "use https, or give no key");
    static const char name[] = "Authorization: Bearer ";
    char *line = host.alloc(sizeof name + n);
    if (!line || !(c->key = copy_bytes(text, n))) {
        host.free(line);
        return -1;
    }
    memcpy(line, name, sizeof name - 1);
    memcpy(line + sizeof name - 1, text, n);
    line[sizeof name - 1 + n] = 0;
    int added = add_header(c, line);
    forget(line);
    lc_key_guard();
    return added < 0 ? -1 : 1;
}

static int client_key(lc_http *c, const char *path) {
    if (c->key) return host.fail(LC_EINVAL, "http: the client has its key already");
    if (!path) {
        const char *text = getenv("OPENAI_API_KEY");
        return text && *text ? use_key(c, text, strlen(text), "OPENAI_API_KEY") : 0;
    }
    char text[LC_KEY_MOST];
    ssize_t n = lc_key_read(&host, path, text, sizeof text);
    int used = n < 0 ? -1 : use_key(c, text, (size_t)n, path);
    explicit_bzero(text, sizeof text);
    return used;
}

/* How many bytes at `at` stand for c: itself, or what JSON may write for it; 0: they do not. */
static size_t stands_for(char c, const char *at, const char *end) {
    char code[8];
    if (end - at < 2 || *at != '\\') return at < end && *at == c;
    if (at[1] == c && strchr("\"\\/", c)) return 2;
    snprintf(code, sizeof code, "\\u%04x", (unsigned char)c);
    if (end - at >= 6 && !strncasecmp(at, code, 6)) return 6;
    return *at == c;
}

static size_t key_at(const char *key, const char *at, const char *end) {
    const char *from = at;
    for (; *key; key++) {
        size_t n = stands_for(*key, at, end);
        if (!n) return 0;
        at += n;
    }
    return (size_t)(at - from);
}

/* A server that quotes the key does not bring it into files. */
static void blot(const char *key, char *text, size_t n) {
    if (!text || !key || strlen(key) < SECRET) return;
    for (char *at = text, *end = text + n; at < end;) {
        size_t length = *at == *key || *at == '\\' ? key_at(key, at, end) : 0;
        memset(at, '*', length);
        at += length ? length : 1;
    }
}

/* ---- transfers -------------------------------------------------------------------------------------- */

static void drop(struct transfer *t) {
    if (!t) return;
    curl_easy_cleanup(t->easy);
    host.free(t->sent);
    host.free(t->body);
    host.free(t);
}

static size_t on_body(char *data, size_t one, size_t n, void *user) {
    struct transfer *t = user;
    n *= one;
    if ((int64_t)(t->length + n) > t->client->most) {
        t->large = 1;
        return 0;
    }
    if (t->length + n + 1 > t->room) {
        size_t room = 2 * (t->length + n) + 1024;
        char *body = host.realloc(t->body, room);
        if (!body) return 0;
        t->body = body;
        t->room = room;
    }
    memcpy(t->body + t->length, data, n);
    t->length += n;
    t->body[t->length] = 0;
    return n;
}

static long milliseconds(double seconds) { return seconds > 0 ? (long)(1e3 * seconds) + 1 : 0; }

static int set_up(struct transfer *t, const char *url, size_t n) {
    lc_http *c = t->client;
    CURL *e = t->easy = curl_easy_init();
    if (!e) return host.fail(LC_ENOMEM, "http: out of memory");
    CURLcode bad = CURLE_OK;
    /* clang-format off */
#define SET(option, value) do { CURLcode r_ = curl_easy_setopt(e, option, value); if (r_) bad = r_; } while (0)
    SET(CURLOPT_URL, url);
    SET(CURLOPT_PRIVATE, t);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (c->ca_file) SET(CURLOPT_CAINFO, c->ca_file);
    if (c->loopback) SET(CURLOPT_PROXY, "");
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_CONNECTTIMEOUT_MS, milliseconds(c->connect));
    SET(CURLOPT_TIMEOUT_MS, milliseconds(c->whole));
    SET(CURLOPT_LOW_SPEED_LIMIT, 1L);
    SET(CURLOPT_LOW_SPEED_TIME, (long)(c->stalled + 0.999));
    SET(CURLOPT_HTTPHEADER, c->headers);
    SET(CURLOPT_USERAGENT, "lucid");
    SET(CURLOPT_ACCEPT_ENCODING, ""); /* what libcurl unpacks; some proxies pack unasked */
    SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n);
    SET(CURLOPT_POSTFIELDS, t->sent);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_ERRORBUFFER, t->fault);
#undef SET
    /* clang-format on */
    if (bad) return host.fail(LC_EINVAL, "http: %s", curl_easy_strerror(bad));
    return 0;
}

static int start(struct transfer *t, const char *path, const char *body, size_t n) {
    lc_http *c = t->client;
    size_t base = strlen(c->base), rest = strlen(path);
    char *url = host.alloc(base + rest + 1);
    if (!url) return -1;
    memcpy(url, c->base, base);
    memcpy(url + base, path, rest + 1);
    int done = (t->sent = copy_bytes(body, n)) ? set_up(t, url, n) : -1;
    host.free(url);
    if (done < 0) return -1;
    CURLMcode code = curl_multi_add_handle(c->multi, t->easy);
    return code ? host.fail(LC_EINVAL, "http: %s", curl_multi_strerror(code)) : 0;
}

static int64_t client_send(lc_http *c, const char *path, const char *body, size_t n) {
    struct transfer *t = host.alloc(sizeof *t);
    if (!t) return -1;
    *t = (struct transfer){.client = c, .number = ++c->numbers};
    if (start(t, path, body, n) < 0) {
        drop(t);
        return -1;
    }
    t->next = c->flying;
    if (t->next) t->next->previous = t;
    c->flying = t;
    return t->number;
}

/* ---- arrivals --------------------------------------------------------------------------------------- */

/* Faults that another try meets again. */
static int lasting(CURLcode code) {
    return code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
           code == CURLE_SSL_CERTPROBLEM || code == CURLE_SSL_ISSUER_ERROR ||
           code == CURLE_SSL_CIPHER || code == CURLE_URL_MALFORMAT || code == CURLE_NOT_BUILT_IN;
}

static void note_end(struct transfer *t, CURLcode code) {
    long status = 0;
    curl_off_t after = 0;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &after);
    t->status = code ? lasting(code) ? -1 : 0 : (int)status;
    t->retry_after =
        after > 0 ? (double)after : 0; /* before 8.12 a date that has passed is negative */
    if (t->large)
        snprintf(t->fault, sizeof t->fault, "the answer is larger than %lld bytes",
                 (long long)t->client->most);
    else if (code && !t->fault[0])
        snprintf(t->fault, sizeof t->fault, "%s", curl_easy_strerror(code));
    if (!code) t->fault[0] = 0;
    blot(t->client->key, t->body, t->length);
}

static void arrive(lc_http *c, struct transfer *t) {
    if (t->previous) t->previous->next = t->next;
    else c->flying = t->next;
    if (t->next) t->next->previous = t->previous;
    t->next = t->previous = NULL;
    if (c->last) c->last->next = t;
    else c->arrived = t;
    c->last = t;
    c->waiting++;
}

static int collect(lc_http *c) {
    int running, left;
    CURLMcode code = curl_multi_perform(c->multi, &running);
    if (code) return host.fail(LC_EIO, "http: %s", curl_multi_strerror(code));
    for (CURLMsg *m; (m = curl_multi_info_read(c->multi, &left)) != NULL;) {
        struct transfer *t = NULL;
        CURLcode result = m->data.result; /* m is gone once its handle is removed */
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t);
        curl_multi_remove_handle(c->multi, t->easy);
        note_end(t, result);
        arrive(c, t);
    }
    return 0;
}

/* In slices, so that Ctrl-C is heard. */
static int client_wait(lc_http *c, double seconds) {
    for (double end = now() + seconds;;) {
        if (host.poll("http") < 0 || collect(c) < 0) return -1;
        double left = end - now();
        if (c->waiting || left <= 0) return c->waiting;
        long slice = milliseconds(left < 0.1 ? left : 0.1);
        CURLMcode code = curl_multi_poll(c->multi, NULL, 0, (int)slice, NULL);
        if (code) return host.fail(LC_EIO, "http: %s", curl_multi_strerror(code));
    }
}

static int64_t client_take(lc_http *c, int *status, double *retry_after, const char **body,
                           size_t *n, const char **fault) {
    drop(c->taken);
    struct transfer *t = c->taken = c->arrived;
    if (!t) return 0;
    c->arrived = t->next;
    if (!c->arrived) c->last = NULL;
    c->waiting--;
    *status = t->status;
    *retry_after = t->retry_after;
    *body = t->body ? t->body : "";
    *n = t->length;
    *fault = t->fault;
    return t->number;
}

static void drop_all(lc_http *c, struct transfer *t, int flying) {
    while (t) {
        struct transfer *next = t->next;
        if (flying) curl_multi_remove_handle(c->multi, t->easy);
        drop(t);
        t = next;
    }
}

static void client_close(lc_http *c) {
    drop_all(c, c->flying, 1);
    drop_all(c, c->arrived, 0);
    drop(c->taken);
    curl_multi_cleanup(c->multi);
    for (struct curl_slist *h = c->headers; h; h = h->next)
        explicit_bzero(h->data, strlen(h->data));
    curl_slist_free_all(c->headers);
    forget(c->key);
    host.free(c->base);
    host.free(c->ca_file);
    host.free(c);
}

/* ---- the plug-in ------------------------------------------------------------------------------------ */

__attribute__((visibility("default"))) lc_net_open_fn lc_net_open;

int lc_net_open(int version, const struct lc_net_host *from, struct lc_net *out) {
    if (version != LC_NET_VERSION || curl_global_init(CURL_GLOBAL_DEFAULT)) return -1;
    host = *from;
    *out = (struct lc_net){client_open, client_close, client_limits, client_key,
                           client_send, client_wait,  client_take};
    return 0;
}
