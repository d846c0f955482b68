/* exchange.c - one request and its answer, as libmicrohttpd's thread sees them.
 *
 * The thread reads the request, puts it into the queue and lays the connection aside (suspends it) until the
 * caller has something to send. Whatever both threads touch is touched under the server's lock. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/server.h"

enum { PIECE = 16 << 10, READ_ON = 4 }; /* a refused body is read up to READ_ON times the limit */

/* ---- requests ----------------------------------------------------------------------------------- */

static void free_request(struct request *r) {
    while (r->headers) {
        struct header *h = r->headers;
        r->headers = h->next;
        lc_server_host.free(h->name);
        lc_server_host.free(h->value);
        lc_server_host.free(h);
    }
    lc_server_host.free(r->method);
    lc_server_host.free(r->path);
    lc_server_host.free(r->body.data);
    lc_server_host.free(r->type);
    lc_server_host.free(r->out.data);
    lc_server_host.free(r);
}

void lc_server_drop(lc_server *s, struct request *r) {
    if (r->connection || r->held) return;
    if (r->previous) r->previous->next = r->next;
    else s->requests = r->next;
    if (r->next) r->next->previous = r->previous;
    free_request(r);
}

void lc_server_wake(struct request *r) {
    if (!r->suspended) return;
    r->suspended = false;
    MHD_resume_connection(r->connection);
}

static struct client *client_of(struct MHD_Connection *c) {
    return MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

static struct request *new_request(lc_server *s, struct MHD_Connection *c, const char *path,
                                   const char *method, const char *version) {
    struct request *r = lc_server_host.alloc(sizeof *r);
    if (!r) return NULL;
    *r = (struct request){.server = s, .connection = c, .client = client_of(c)};
    r->method = lc_server_copy(method);
    r->path = lc_server_copy(path);
    if (!r->client || !r->method || !r->path) {
        free_request(r);
        return NULL;
    }
    r->number = ++s->numbers;
    r->refusal_status = lc_server_gate(s, c, path, method, version, &r->refusal);
    r->counted = !r->refusal_status && !strcmp(method, "POST");
    s->counted += r->counted;
    s->refused += r->refusal_status != 0;
    r->next = s->requests;
    if (r->next) r->next->previous = r;
    s->requests = r;
    return r;
}

/* A piece of the body; -1: enough has been read. */
static int take_body(lc_server *s, struct request *r, const char *data, size_t n) {
    int64_t most = s->body_most;
    if (!r->refusal && (int64_t)(r->body.n + n) > most) {
        r->refusal_status = 413;
        r->refusal = "the body is larger than this server takes (--max-body)";
        s->refused++;
        lc_server_host.free(r->body.data);
        r->body = (struct bytes){.n = r->body.n};
    }
    if (!r->refusal) return lc_server_append(&r->body, data, n);
    r->body.n += n;
    return (int64_t)r->body.n > READ_ON * most ? -1 : 0;
}

/* ---- answers ------------------------------------------------------------------------------------ */

static enum MHD_Result queue(struct request *r, int status, struct MHD_Response *response) {
    if (!response) return MHD_NO;
    for (const struct header *h = r->headers; h; h = h->next)
        MHD_add_response_header(response, h->name, h->value);
    if (r->type) MHD_add_response_header(response, "Content-Type", r->type);
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    MHD_add_response_header(response, "Cache-Control", "no-store");
    enum MHD_Result queued = MHD_queue_response(r->connection, (unsigned)status, response);
    MHD_destroy_response(response);
    return queued;
}

static const char *kind_of(int status) {
    return status == 401   ? "authentication_error"
           : status == 429 ? "rate_limit_error"
           : status >= 500 ? "server_error"
                           : "invalid_request_error";
}

/* An error object as OpenAI's clients read it; the reasons are this program's own words. */
static enum MHD_Result refuse(struct request *r) {
    char text[512];
    int n = snprintf(text, sizeof text,
                     "{\"error\": {\"message\": \"%s\", \"type\": \"%s\", \"param\": null, "
                     "\"code\": null}}",
                     r->refusal, kind_of(r->refusal_status));
    struct MHD_Response *response =
        MHD_create_response_from_buffer((size_t)n, text, MHD_RESPMEM_MUST_COPY);
    if (!response) return MHD_NO;
    MHD_add_response_header(response, "Content-Type", "application/json");
    if (r->refusal_status == 400) MHD_add_response_header(response, "Connection", "close");
    if (r->refusal_status == 401) MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (r->refusal_status == 429 || r->refusal_status == 503)
        MHD_add_response_header(response, "Retry-After", "1");
    return queue(r, r->refusal_status, response);
}

/* libmicrohttpd asks for the next bytes of a stream. */
static ssize_t read_out(void *user, uint64_t position, char *to, size_t room) {
    (void)position;
    struct request *r = user;
    lc_server *s = r->server;
    pthread_mutex_lock(&s->lock);
    size_t left = r->out.n - r->sent;
    ssize_t n = (ssize_t)(left < room ? left : room);
    if (n > 0) {
        memcpy(to, r->out.data + r->sent, (size_t)n);
        r->sent += (size_t)n;
        if (r->sent == r->out.n) r->sent = r->out.n = 0;
    } else if (r->gone) {
        n = MHD_CONTENT_READER_END_WITH_ERROR;
    } else if (r->ended) {
        n = MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        r->suspended = true;
        MHD_suspend_connection(r->connection);
    }
    pthread_mutex_unlock(&s->lock);
    return n;
}

/* Without the lock: libmicrohttpd holds its own one of a response while read_out takes ours. What is read here of an
 * answered request does not change any more. */
static enum MHD_Result answer(struct request *r) {
    if (r->streamed)
        return queue(r, r->status,
                     MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, PIECE, read_out, r, NULL));
    return queue(r, r->status,
                 MHD_create_response_from_buffer(r->out.n, r->out.data, MHD_RESPMEM_MUST_COPY));
}

/* ---- libmicrohttpd's calls ------------------------------------------------------------------------- */

/* A body that is not going to be read to its end, by what its head says; of a faulty head none is: where it ends is
 * in doubt, and so is what follows it. */
static bool not_read(const lc_server *s, struct MHD_Connection *c, const struct request *r) {
    if (!r->refusal || r->refusal_status == 400) return r->refusal != NULL;
    const char *length = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Content-Length");
    return length && strtoll(length, NULL, 10) > READ_ON * s->body_most;
}

/* The head of a request is there. */
static enum MHD_Result begin(lc_server *s, struct MHD_Connection *c, const char *path,
                             const char *method, const char *version, void **own) {
    struct request *r = new_request(s, c, path, method, version);
    *own = r;
    if (!r) return MHD_NO;
    r->client->deadline = lc_server_now() + s->body_seconds;
    return not_read(s, c, r) ? refuse(r) : MHD_YES;
}

/* The whole request is there, and not answered. */
static enum MHD_Result go_on(lc_server *s, struct request *r) {
    if (r->gone) return MHD_NO;
    r->client->deadline = 0;
    if (r->refusal) return refuse(r);
    if (r->stage == LC_READING) {
        r->stage = LC_QUEUED;
        s->queued++;
        pthread_cond_signal(&s->news);
    }
    r->suspended = true;
    MHD_suspend_connection(r->connection);
    return MHD_YES;
}

enum MHD_Result lc_server_on_request(void *user, struct MHD_Connection *c, const char *path,
                                     const char *method, const char *version, const char *data,
                                     size_t *size, void **own) {
    lc_server *s = user;
    enum MHD_Result done = MHD_YES;
    struct request *r = *own;
    pthread_mutex_lock(&s->lock);
    bool ready = r && !*size && !r->gone && !r->refusal && r->stage == LC_ANSWERED;
    if (!r) {
        done = begin(s, c, path, method, version, own);
    } else if (ready) {
        r->client->deadline = 0;
    } else if (*size) {
        if (take_body(s, r, data, *size) < 0) done = MHD_NO;
        *size = 0;
    } else {
        done = go_on(s, r);
    }
    pthread_mutex_unlock(&s->lock);
    return ready ? answer(r) : done;
}

void lc_server_on_end(void *user, struct MHD_Connection *c, void **own,
                      enum MHD_RequestTerminationCode why) {
    (void)c;
    (void)why;
    lc_server *s = user;
    struct request *r = *own;
    if (!r) return;
    pthread_mutex_lock(&s->lock);
    r->client->deadline = lc_server_now() + s->head_seconds;
    r->client = NULL;
    r->connection = NULL;
    r->gone = true;
    s->queued -= r->stage == LC_QUEUED;
    s->counted -= r->counted;
    r->counted = false;
    if (r->held) pthread_cond_signal(&s->news);
    lc_server_drop(s, r);
    *own = NULL;
    pthread_mutex_unlock(&s->lock);
}

void lc_server_on_connection(void *user, struct MHD_Connection *c, void **own,
                             enum MHD_ConnectionNotificationCode what) {
    lc_server *s = user;
    struct client *l = *own;
    pthread_mutex_lock(&s->lock);
    if (what == MHD_CONNECTION_NOTIFY_STARTED && (l = lc_server_host.alloc(sizeof *l))) {
        *l = (struct client){
            .next = s->clients,
            .fd = MHD_get_connection_info(c, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd,
            .deadline = lc_server_now() + s->head_seconds};
        if (l->next) l->next->previous = l;
        s->clients = l;
        *own = l;
    } else if (what == MHD_CONNECTION_NOTIFY_CLOSED && l) {
        if (l->previous) l->previous->next = l->next;
        else s->clients = l->next;
        if (l->next) l->next->previous = l->previous;
        lc_server_host.free(l);
        *own = NULL;
    }
    pthread_mutex_unlock(&s->lock);
}
