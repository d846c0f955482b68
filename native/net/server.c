/* server.c - the HTTP server as its caller drives it: requests are taken, answered, written to.
 *
 * libmicrohttpd's one thread owns the sockets. A connection that waits for an answer is suspended there, so
 * whether its client is still present is looked at here, in wait, and so are deadlines: libmicrohttpd's own
 * timeout begins anew with every byte. */
#define _GNU_SOURCE
#include "net/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "net/key.h"

enum { HEAD_BYTES = 32 << 10, LOOKED_AT = 256 }; /* clients together */

struct lc_net_host lc_server_host;
#define host lc_server_host

double lc_server_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

char *lc_server_copy(const char *text) {
    size_t n = strlen(text) + 1;
    char *copy = host.alloc(n);
    return copy ? memcpy(copy, text, n) : NULL;
}

int lc_server_append(struct bytes *b, const void *data, size_t n) {
    if (b->n + n > b->room) {
        size_t room = 2 * (b->n + n) + 256;
        char *more = host.realloc(b->data, room);
        if (!more) return -1;
        b->data = more;
        b->room = room;
    }
    if (n) memcpy(b->data + b->n, data, n);
    b->n += n;
    return 0;
}

/* ---- opening ------------------------------------------------------------------------------------ */

static void server_free(lc_server *s);

static lc_server *server_new(const char *address, int port) {
    lc_server *s = host.alloc(sizeof *s);
    if (!s) return NULL;
    *s = (lc_server){.port = port,
                     .body_most = 16 << 20,
                     .requests_most = 128,
                     .connections_most = 256,
                     .head_seconds = 10,
                     .body_seconds = 30,
                     .stalled = 30};
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->news, &clock);
    pthread_condattr_destroy(&clock);
    s->address = lc_server_copy(!strcmp(address, "localhost") ? "127.0.0.1" : address);
    if (s->address) return s;
    server_free(s);
    return NULL;
}

static void server_limits(lc_server *s, int64_t body, int requests, int connections, double head,
                          double whole, double stalled) {
    s->body_most = body;
    s->requests_most = requests;
    s->connections_most = connections;
    s->head_seconds = head;
    s->body_seconds = whole;
    s->stalled = stalled;
}

static int server_key(lc_server *s, const char *path) {
    char text[LC_KEY_MOST];
    ssize_t read = lc_key_read(&host, path, text, sizeof text);
    ssize_t n = read < 0 ? -1 : lc_key_length(&host, text, (size_t)read, path);
    if (n >= 0 && !s->key && (s->key = host.alloc((size_t)n + 1))) {
        memcpy(s->key, text, (size_t)n);
        s->key[n] = 0;
        lc_key_guard();
    }
    explicit_bzero(text, sizeof text);
    return n < 0 || !s->key ? -1 : 0;
}

static int server_name(lc_server *s, const char *text) {
    struct name *n = host.alloc(sizeof *n);
    if (!n) return -1;
    *n = (struct name){s->names, lc_server_copy(text)};
    if (!n->text) {
        host.free(n);
        return -1;
    }
    s->names = n;
    return 0;
}

union socket_address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

static int read_address(lc_server *s, union socket_address *a) {
    *a =
        (union socket_address){.v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)s->port)}};
    if (inet_pton(AF_INET, s->address, &a->v4.sin_addr) == 1) {
        s->loopback = ntohl(a->v4.sin_addr.s_addr) >> 24 == 127;
        return 0;
    }
    *a = (union socket_address){
        .v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)s->port)}};
    if (inet_pton(AF_INET6, s->address, &a->v6.sin6_addr) != 1)
        return host.fail(LC_EINVAL,
                         "serve: '%s' is no address of this machine; 127.0.0.1, 0.0.0.0 and ::1 "
                         "are such",
                         s->address);
    s->loopback = IN6_IS_ADDR_LOOPBACK(&a->v6.sin6_addr);
    return 0;
}

/* Signals are the caller's thread's. MHD_OPTION_LISTENING_ADDRESS_REUSE would let two servers share a port. */
static struct MHD_Daemon *start_daemon(lc_server *s, union socket_address *a) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
                     (a->any.sa_family == AF_INET6 ? MHD_USE_IPv6 : 0);
    struct MHD_Daemon *daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, lc_server_on_request, s, MHD_OPTION_SOCK_ADDR, &a->any,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)s->connections_most,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEAD_BYTES, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)(s->stalled + 0.999), MHD_OPTION_NOTIFY_COMPLETED, lc_server_on_end, s,
        MHD_OPTION_NOTIFY_CONNECTION, lc_server_on_connection, s, MHD_OPTION_STRICT_FOR_CLIENT, 1,
        MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return daemon;
}

static int server_start(lc_server *s) {
    union socket_address a;
    if (read_address(s, &a) < 0) return -1;
    if (!s->loopback && !s->key)
        return host.fail(LC_EINVAL,
                         "serve: %s is open to other machines, so a key is needed: "
                         "--api-key-file FILE",
                         s->address);
    errno = 0;
    s->daemon = start_daemon(s, &a);
    if (!s->daemon)
        return host.fail(LC_EIO,
                         "serve: %s:%d cannot be listened on%s%s; --port 0 takes a free one",
                         s->address, s->port, errno ? ": " : "", errno ? strerror(errno) : "");
    return MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT)->port;
}

/* ---- waiting ------------------------------------------------------------------------------------ */

/* Under the lock: clients that have gone while their request waits for its answer. */
static void look_for_left(lc_server *s) {
    struct pollfd fds[LOOKED_AT];
    struct request *of[LOOKED_AT];
    for (struct request *r = s->requests; r;) {
        nfds_t n = 0;
        for (; r && n < LOOKED_AT; r = r->next)
            if (r->suspended && !r->gone) {
                of[n] = r;
                fds[n++] = (struct pollfd){.fd = r->client->fd, .events = POLLRDHUP};
            }
        if (poll(fds, n, 0) <= 0) continue;
        for (nfds_t i = 0; i < n; i++)
            if (fds[i].revents & (POLLRDHUP | POLLHUP | POLLERR)) {
                of[i]->gone = true;
                lc_server_wake(of[i]);
            }
    }
}

static void end_late(lc_server *s) {
    double now = lc_server_now();
    for (struct client *c = s->clients; c; c = c->next)
        if (c->deadline > 0 && c->deadline < now) {
            shutdown(c->fd, SHUT_RDWR);
            c->deadline = 0;
        }
}

static int news_of(const lc_server *s) {
    int n = s->queued;
    for (const struct request *r = s->requests; r; r = r->next) n += r->held && r->gone;
    return n;
}

static int server_wait(lc_server *s, double seconds) {
    int news = -1;
    for (double end = lc_server_now() + seconds;;) {
        if (host.poll("serve") < 0) return -1;
        pthread_mutex_lock(&s->lock);
        look_for_left(s);
        end_late(s);
        news = news_of(s);
        double left = end - lc_server_now();
        if (!news && left > 0) {
            double until = lc_server_now() + (left < 0.1 ? left : 0.1);
            struct timespec t = {.tv_sec = (time_t)until,
                                 .tv_nsec = (long)(1e9 * (until - (double)(time_t)until))};
            pthread_cond_timedwait(&s->news, &s->lock, &t);
            news = news_of(s);
        }
        pthread_mutex_unlock(&s->lock);
        if (news || left <= 0) return news;
    }
}

/* ---- requests ----------------------------------------------------------------------------------- */

static int64_t server_take(lc_server *s, const char **method, const char **path, const char **body,
                           size_t *n) {
    struct request *first = NULL;
    pthread_mutex_lock(&s->lock);
    for (struct request *r = s->requests; r; r = r->next)
        if (r->stage == LC_QUEUED && !r->gone && (!first || r->number < first->number)) first = r;
    if (first) {
        first->stage = LC_TAKEN;
        first->held = true;
        s->queued--;
        *method = first->method;
        *path = first->path;
        *body = first->body.data ? first->body.data : "";
        *n = first->body.n;
    }
    pthread_mutex_unlock(&s->lock);
    return first ? first->number : 0;
}

/* The caller's request, with the lock held; NULL without: it is not its any more. */
static struct request *lock_request(lc_server *s, int64_t number) {
    pthread_mutex_lock(&s->lock);
    for (struct request *r = s->requests; r; r = r->next)
        if (r->number == number && r->held) return r;
    pthread_mutex_unlock(&s->lock);
    host.fail(LC_EINVAL, "serve: request %lld is not there to be answered", (long long)number);
    return NULL;
}

static int64_t server_left(lc_server *s) {
    int64_t number = 0;
    pthread_mutex_lock(&s->lock);
    for (struct request *r = s->requests; r && !number; r = r->next)
        if (r->held && r->gone) {
            number = r->number;
            r->held = false;
            lc_server_drop(s, r);
            break;
        }
    pthread_mutex_unlock(&s->lock);
    return number;
}

static int server_header(lc_server *s, int64_t number, const char *name, const char *value) {
    struct request *r = lock_request(s, number);
    if (!r) return -1;
    struct header *h = host.alloc(sizeof *h);
    if (h) {
        *h = (struct header){r->headers, lc_server_copy(name), lc_server_copy(value)};
        r->headers = h;
    }
    int done = h && h->name && h->value ? 0 : -1;
    pthread_mutex_unlock(&s->lock);
    return done;
}

static int begin_answer(struct request *r, int status, const char *type, const void *data,
                        size_t n) {
    if (!(r->type = lc_server_copy(type)) || lc_server_append(&r->out, data, n) < 0) return -1;
    r->status = status;
    r->stage = LC_ANSWERED;
    host.free(r->body.data); /* not needed any more, and it may be large */
    r->body = (struct bytes){0};
    return 0;
}

/* Under the lock: the caller is done with it. */
static void let_go(lc_server *s, struct request *r) {
    r->ended = true;
    r->held = false;
    if (r->connection) lc_server_wake(r);
    else lc_server_drop(s, r);
}

static int server_answer(lc_server *s, int64_t number, int status, const char *type,
                         const void *body, size_t n) {
    struct request *r = lock_request(s, number);
    if (!r) return -1;
    int done = begin_answer(r, status, type, body, n);
    if (!done) let_go(s, r);
    pthread_mutex_unlock(&s->lock);
    return done;
}

static int server_begin(lc_server *s, int64_t number, const char *type) {
    struct request *r = lock_request(s, number);
    if (!r) return -1;
    r->streamed = true;
    int done = begin_answer(r, 200, type, "", 0);
    if (!done && r->connection) lc_server_wake(r);
    pthread_mutex_unlock(&s->lock);
    return done;
}

static int64_t server_write(lc_server *s, int64_t number, const void *data, size_t n) {
    struct request *r = lock_request(s, number);
    if (!r) return -1;
    int64_t waiting = -1;
    if (r->sent) { /* what has been sent makes room */
        memmove(r->out.data, r->out.data + r->sent, r->out.n - r->sent);
        r->out.n -= r->sent;
        r->sent = 0;
    }
    if (r->gone) waiting = 0;
    else if (lc_server_append(&r->out, data, n) == 0) waiting = (int64_t)r->out.n;
    if (waiting > 0) lc_server_wake(r);
    pthread_mutex_unlock(&s->lock);
    return waiting;
}

static int server_end(lc_server *s, int64_t number) {
    struct request *r = lock_request(s, number);
    if (!r) return -1;
    let_go(s, r);
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static void server_drain(lc_server *s) {
    pthread_mutex_lock(&s->lock);
    s->draining = true;
    pthread_mutex_unlock(&s->lock);
}

static int64_t server_count(lc_server *s, const char *what) {
    int64_t n = -1;
    pthread_mutex_lock(&s->lock);
    if (!strcmp(what, "refused")) n = s->refused;
    else if (!strcmp(what, "unsent")) {
        n = 0;
        for (const struct request *r = s->requests; r; r = r->next) n += r->connection != NULL;
    } else if (!strcmp(what, "connections")) {
        n = 0;
        for (const struct client *c = s->clients; c; c = c->next) n++;
    }
    pthread_mutex_unlock(&s->lock);
    return n >= 0 ? n : host.fail(LC_EINVAL, "serve: nothing is counted as '%s'", what);
}

/* ---- the end ------------------------------------------------------------------------------------ */

/* A suspended connection would be left open. */
static void wake_all(lc_server *s) {
    pthread_mutex_lock(&s->lock);
    for (struct request *r = s->requests; r; r = r->next) {
        r->gone = true;
        lc_server_wake(r);
    }
    pthread_mutex_unlock(&s->lock);
}

static void server_free(lc_server *s) {
    if (s->daemon) {
        MHD_quiesce_daemon(s->daemon);
        wake_all(s);
        MHD_stop_daemon(s->daemon);
    }
    while (s->requests) {
        s->requests->held = false;
        lc_server_drop(s, s->requests);
    }
    while (s->names) {
        struct name *n = s->names;
        s->names = n->next;
        host.free(n->text);
        host.free(n);
    }
    if (s->key) explicit_bzero(s->key, strlen(s->key));
    host.free(s->key);
    host.free(s->address);
    pthread_cond_destroy(&s->news);
    pthread_mutex_destroy(&s->lock);
    host.free(s);
}

/* ---- the plug-in ---------------------------------------------------------------------------------- */

__attribute__((visibility("default"))) lc_listen_open_fn lc_listen_open;

int lc_listen_open(int version, const struct lc_net_host *from, struct lc_listen *out) {
    if (version != LC_NET_VERSION) return -1;
    host = *from;
    *out = (struct lc_listen){server_new,   server_free,   server_limits, server_key,
                              server_name,  server_start,  server_wait,   server_take,
                              server_left,  server_header, server_answer, server_begin,
                              server_write, server_end,    server_drain,  server_count};
    return 0;
}
