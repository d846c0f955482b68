/* http.c - a server and a client of it: whole answers, streams, one that leaves. */
#include <string.h>

#include "capi.h"

enum { ROUNDS = 20, PATIENCE = 20 };

static const char request[] = "{\"ask\": 1}", reply[] = "{\"answer\": 2}";

/* Answers what has come: whole, or piece by piece. */
static void serve(lc_server *s) {
    const char *method, *path, *body;
    size_t n;
    int64_t number;
    while ((number = lc_server_take(s, &method, &path, &body, &n))) {
        MUST(!strcmp(method, "POST") && !strcmp(path, "/v1/ask") && n == sizeof request - 1);
        if (number % 2) {
            MUST(lc_server_header(s, number, "X-Walk", "1") == 0);
            MUST(lc_server_answer(s, number, 200, "application/json", reply, sizeof reply - 1) ==
                 0);
        } else {
            MUST(lc_server_begin(s, number, "application/json") == 0);
            MUST(lc_server_write(s, number, reply, 5) >= 0);
            MUST(lc_server_write(s, number, reply + 5, sizeof reply - 6) >= 0);
            MUST(lc_server_end(s, number) == 0);
        }
    }
    while (lc_server_left(s)) {}
}

static void exchange(lc_server *s, lc_http *c) {
    int status, waiting = 0, taken = 0;
    double after, last = lc_seconds() + PATIENCE;
    const char *body, *fault;
    size_t n;
    for (int i = 0; i < ROUNDS; i++, waiting++)
        MUST(lc_http_send(c, "/ask", request, sizeof request - 1) == i + 1);
    while (taken < waiting && lc_seconds() < last) {
        MUST(lc_http_wait(c, 0.01) >= 0 && lc_server_wait(s, 0.01) >= 0);
        serve(s);
        while (lc_http_take(c, &status, &after, &body, &n, &fault)) {
            MUST(status == 200 && n == sizeof reply - 1 && !memcmp(body, reply, n));
            taken++;
        }
    }
    MUST(taken == waiting);
}

void capi_http(void) {
    char base[64];
    lc_server *s = lc_server_new("127.0.0.1", 0);
    MUST(s);
    int port = lc_server_start(s);
    MUST(port > 0);
    snprintf(base, sizeof base, "http://127.0.0.1:%d/v1", port);
    lc_http *c = lc_http_open(base, NULL);
    MUST(c);
    exchange(s, c);
    MUST(lc_http_send(c, "/ask", request, sizeof request - 1) > 0 && lc_http_wait(c, 0.1) >= 0);
    lc_http_close(c); /* with a request in flight */
    lc_server_drain(s);
    MUST(lc_server_count(s, "connections") >= 0);
    REFUSED(lc_server_count(s, "birds") < 0);
    lc_server_free(s);
    s = lc_server_new("0.0.0.0", 0);
    MUST(s);
    REFUSED(lc_server_start(s) < 0); /* open to others without a key */
    lc_server_free(s);
    REFUSED(lc_http_open("ftp://127.0.0.1", NULL) == NULL);
}
