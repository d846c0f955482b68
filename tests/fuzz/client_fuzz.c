/* client_fuzz.c - bytes that an endpoint sends in answer to a request: headers, bodies, packings, the end in the middle. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "net/plugin.h"
#include "support.h"

#define KEY "sk-canary-0123456789"
enum { MOST = 1 << 16 };

extern lc_net_open_fn lc_net_open;

static struct lc_net net;
static lc_http *client;
static int listener;

static void open_both(void) {
    static const struct lc_net_host host = {lc_fail, lc_poll, lc_alloc, lc_realloc, lc_free};
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof a;
    char base[64];
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    fuzz_check(!bind(listener, (struct sockaddr *)&a, sizeof a) && !listen(listener, 64));
    fuzz_check(!getsockname(listener, (struct sockaddr *)&a, &size));
    snprintf(base, sizeof base, "http://127.0.0.1:%d/v1", ntohs(a.sin_port));
    setenv("OPENAI_API_KEY", KEY, 1);
    fuzz_check(lc_net_open(LC_NET_VERSION, &host, &net) == 0 && (client = net.open(base, NULL)));
    fuzz_check(net.key(client, NULL) == 1);
    net.limits(client, 2, 2, 2, MOST);
}

/* Once a request has come, the input goes out and nothing more. */
static void serve(const uint8_t *data, size_t n) {
    static int fd = -1;
    char request[4096];
    if (fd < 0) fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0 || recv(fd, request, sizeof request, MSG_DONTWAIT) < 0) return;
    (void)!send(fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
    fd = -1;
}

void fuzz_one(const uint8_t *data, size_t n) {
    if (!client) open_both();
    int status = 0;
    double after = 0;
    const char *body = NULL, *fault = NULL;
    size_t length = 0;
    int64_t number = net.send(client, "/chat/completions", "{}", 2), taken = 0;
    fuzz_check(number > 0);
    for (int turn = 0; !taken && turn < 4000; turn++) {
        fuzz_check(net.wait(client, turn < 8 ? 0 : 0.001) >= 0);
        serve(data, n);
        taken = net.take(client, &status, &after, &body, &length, &fault);
    }
    fuzz_check(taken == number);
    fuzz_check(length <= MOST && body[length] == 0 && after >= 0 && isfinite(after));
    fuzz_check(!memmem(body, length, KEY, strlen(KEY)) && !strstr(fault, KEY));
}
