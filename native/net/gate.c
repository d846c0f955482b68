/* gate.c - who is let in, from a request's head alone, before a byte of its body is read.
 *
 * A page in the user's browser can send requests to this machine, too, and a name of its own can lead here
 * (DNS rebinding). So Host has to be this machine's name, a listed one or - where the server is open to others,
 * who need a key - any address; Origin, where there is one, has to be Host's; and a POST has to be JSON, which
 * a page of another origin cannot send unasked.
 *
 * What is no HTTP does not come here: libmicrohttpd refuses it with HTML of its own, which no option changes. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "net/server.h"

enum { MOST_FIELDS = 100, MOST_HOST = 255 };

static const char *header(struct MHD_Connection *c, const char *name) {
    return MHD_lookup_connection_value(c, MHD_HEADER_KIND, name);
}

/* The name of "name", "name:port", "[::1]:port"; false: it is none of these. */
static bool split_host(const char *text, char name[MOST_HOST + 1]) {
    size_t n = *text == '[' ? strcspn(text, "]") + 1 : strcspn(text, ":");
    if (!n || n > MOST_HOST || n > strlen(text)) return false;
    const char *rest = text + n;
    if (*rest && (*rest != ':' || strlen(rest) > 6 || rest[1 + strspn(rest + 1, "0123456789")]))
        return false;
    memcpy(name, text, n);
    name[n] = 0;
    return true;
}

static bool is_address(const char *name) {
    unsigned char binary[sizeof(struct in6_addr)];
    char inner[MOST_HOST + 1];
    if (*name != '[') return inet_pton(AF_INET, name, binary) == 1;
    size_t n = strlen(name) - 2;
    memcpy(inner, name + 1, n);
    inner[n] = 0;
    return inet_pton(AF_INET6, inner, binary) == 1;
}

static bool known_host(const lc_server *s, const char *host) {
    char name[MOST_HOST + 1];
    if (!host || !split_host(host, name)) return false;
    if (!strcasecmp(name, "localhost") || !strcmp(name, "127.0.0.1") || !strcmp(name, "[::1]"))
        return true;
    if (!s->loopback && is_address(name)) return true;
    for (const struct name *n = s->names; n; n = n->next)
        if (!strcasecmp(name, n->text)) return true;
    return false;
}

static bool same_origin(const char *origin, const char *host) {
    const char *rest = strstr(origin, "://");
    if (!rest || (strncmp(origin, "http://", 7) && strncmp(origin, "https://", 8))) return false;
    return !strcasecmp(rest + 3, host);
}

/* In a time that depends on the sent text's length alone. */
static bool same_key(const char *key, const char *sent) {
    size_t n = strlen(sent), length = strlen(key);
    unsigned different = n != length;
    for (size_t i = 0; i < n; i++)
        different |= (unsigned char)sent[i] ^ (unsigned char)key[i < length ? i : length];
    return !different;
}

static bool has_key(const lc_server *s, struct MHD_Connection *c) {
    const char *sent = header(c, "Authorization");
    return sent && !strncasecmp(sent, "Bearer ", 7) && same_key(s->key, sent + 7);
}

/* The page and the sign of life need no key; what the page asks for does. */
static bool is_open(const char *path, const char *method) {
    return strcmp(method, "POST") && (!strcmp(path, "/") || !strcmp(path, "/healthz"));
}

static bool is_json(const char *type) {
    static const char json[] = "application/json";
    size_t n = sizeof json - 1;
    return type && !strncasecmp(type, json, n) && (!type[n] || strchr("; \t", type[n]));
}

static int refuse(int status, const char **reason, const char *text) {
    *reason = text;
    return status;
}

/* What is looked at here: where it is there twice, somebody in front may believe the other one. */
static const char *const once[] = {
    "Host",           "Origin",           "Authorization", "Content-Type", "Content-Encoding",
    "Content-Length", "Transfer-Encoding"};
enum { ONCE = sizeof once / sizeof *once, LENGTH = ONCE - 2, CODING = ONCE - 1 };

/* What a proxy might read otherwise, so that the two would not agree where a request ends. */
struct fields {
    int count[ONCE];
    bool odd, other_coding; /* a malformed name or value; not "chunked" */
};

static bool is_name(const char *name) {
    size_t n = strcspn(name, " \t\"(),/:;<=>?@[\\]{}");
    return n && !name[n];
}

static bool is_value(const char *value, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (((unsigned char)value[i] < ' ' && value[i] != '\t') || value[i] == 0x7F) return false;
    return true;
}

/* libmicrohttpd appends a field's second line, which is out of use, to its name: none goes on behind these. */
static enum MHD_Result look_at_field(void *user, enum MHD_ValueKind kind, const char *name,
                                     size_t n, const char *value, size_t length) {
    (void)kind, (void)n;
    struct fields *f = user;
    f->odd |= !is_name(name) || !is_value(value, length);
    for (int i = 0; i < ONCE; i++) {
        size_t known = strlen(once[i]);
        if (strncasecmp(name, once[i], known)) continue;
        f->odd |= i >= LENGTH && name[known];
        f->count[i] += !name[known];
        f->other_coding |= i == CODING && strcasecmp(value, "chunked");
    }
    return MHD_YES;
}

static int check_fields(struct MHD_Connection *c, const char *version, const char **reason) {
    struct fields f = {0};
    if (MHD_get_connection_values_n(c, MHD_HEADER_KIND, look_at_field, &f) > MOST_FIELDS)
        return refuse(431, reason, "the request has more than 100 header fields");
    if (f.odd) return refuse(400, reason, "a header field's name or value is malformed");
    for (int i = 0; i < ONCE; i++)
        if (f.count[i] > 1)
            return refuse(400, reason, "a header field that may stand once stands there twice");
    if (f.count[LENGTH] && f.count[CODING])
        return refuse(400, reason,
                      "the request has a Content-Length and a Transfer-Encoding; send one");
    if (f.other_coding || (f.count[CODING] && strcmp(version, MHD_HTTP_VERSION_1_1)))
        return refuse(400, reason, "the body has a Transfer-Encoding other than chunked");
    return 0;
}

static bool has_body(struct MHD_Connection *c) {
    const char *length = header(c, "Content-Length");
    return header(c, "Transfer-Encoding") || (length && strtoll(length, NULL, 10) != 0);
}

static int check_body(const lc_server *s, struct MHD_Connection *c, const char **reason) {
    const char *length = header(c, "Content-Length");
    if (header(c, "Content-Encoding"))
        return refuse(415, reason, "the body is packed (Content-Encoding); send it as it is");
    if (!is_json(header(c, "Content-Type")))
        return refuse(415, reason,
                      "the body's type is not JSON; send Content-Type: application/json");
    if (length && strtoll(length, NULL, 10) > s->body_most)
        return refuse(413, reason, "the body is larger than this server takes (--max-body)");
    if (s->draining) return refuse(503, reason, "the server is shutting down");
    if (s->counted >= s->requests_most)
        return refuse(429, reason, "the server has as many requests as it takes; try again");
    return 0;
}

int lc_server_gate(const lc_server *s, struct MHD_Connection *c, const char *path,
                   const char *method, const char *version, const char **reason) {
    const char *host = header(c, "Host"), *origin = header(c, "Origin");
    int faulty = check_fields(c, version, reason);
    if (faulty) return faulty;
    if (!*path) return refuse(400, reason, "the request's path begins with a NUL");
    if (!known_host(s, host))
        return refuse(
            403, reason,
            "Host is none of this server's names; use 127.0.0.1 or list it (--allow-host)");
    if (origin && !same_origin(origin, host))
        return refuse(403, reason, "the request comes from a page of another origin");
    if (s->key && !is_open(path, method) && !has_key(s, c))
        return refuse(401, reason, "a key is needed: Authorization: Bearer KEY");
    if (!strcmp(method, "POST")) return check_body(s, c, reason);
    return has_body(c) ? refuse(400, reason, "only a POST has a body here") : 0;
}
