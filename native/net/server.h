/* server.h - what the parts of the HTTP server share: server.c (the caller's side), exchange.c (the side of
 * libmicrohttpd's thread) and gate.c (who is let in).
 *
 * A request belongs to the reading thread until it is whole, waits in the queue, is taken by the caller and
 * answered. It goes when both sides are done with it: the connection (connection = NULL) and the caller (held). */
#ifndef LC_NET_SERVER_H
#define LC_NET_SERVER_H
#include <microhttpd.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "net/plugin.h"

struct bytes {
    char *data;
    size_t n, room;
};

struct header {
    struct header *next;
    char *name, *value;
};

enum stage { LC_READING, LC_QUEUED, LC_TAKEN, LC_ANSWERED };

struct request {
    struct request *next, *previous; /* of all */
    lc_server *server;
    int64_t number; /* in the order of arrival, from 1 */
    struct MHD_Connection *connection;
    struct client *client;
    enum stage stage;
    char *method, *path;
    struct bytes body;
    const char *refusal; /* the gate's reason; the body is read and dropped */
    int refusal_status;
    bool held;      /* by the caller, who has taken it and not ended it */
    bool suspended; /* libmicrohttpd does not look at it */
    bool gone;      /* its client is */
    bool counted;   /* among the requests that the limit is for */

    int status; /* of the answer */
    char *type;
    struct header *headers;
    struct bytes out; /* what is to be sent, from sent on */
    size_t sent;
    bool streamed, ended;
};

/* A connection. deadline: when a whole request has to be there (0: one is). */
struct client {
    struct client *next, *previous;
    int fd;
    double deadline;
};

struct name {
    struct name *next;
    char *text;
};

struct lc_server {
    struct MHD_Daemon *daemon;
    pthread_mutex_t lock;
    pthread_cond_t news;
    char *address;
    int port;
    bool loopback, draining;
    char *key;
    struct name *names;
    int64_t body_most;
    int requests_most, connections_most;
    double head_seconds, body_seconds, stalled;
    struct request *requests;
    struct client *clients;
    int64_t numbers, refused;
    int queued, counted;
};

extern struct lc_net_host lc_server_host;

double lc_server_now(void);
char *lc_server_copy(const char *text);
int lc_server_append(struct bytes *b, const void *data, size_t n);

/* gate.c: 0, or the status of a refusal, with *reason. */
int lc_server_gate(const lc_server *s, struct MHD_Connection *c, const char *path,
                   const char *method, const char *version, const char **reason);

/* exchange.c: libmicrohttpd's calls. */
enum MHD_Result lc_server_on_request(void *user, struct MHD_Connection *c, const char *path,
                                     const char *method, const char *version, const char *data,
                                     size_t *size, void **own);
void lc_server_on_end(void *user, struct MHD_Connection *c, void **own,
                      enum MHD_RequestTerminationCode why);
void lc_server_on_connection(void *user, struct MHD_Connection *c, void **own,
                             enum MHD_ConnectionNotificationCode what);
/* Under the lock: libmicrohttpd is to look at the request again; what nobody needs any more is freed. */
void lc_server_wake(struct request *r);
void lc_server_drop(lc_server *s, struct request *r);

#endif
