/* server_fuzz.c - bytes that a client sends, to a server with a key and to one without: heads, bodies, several
 * requests behind one another. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "net/plugin.h"
#include "support.h"

extern lc_listen_open_fn lc_listen_open;

#define KEY "sk-canary-0123456789"
enum { MOST = 1 << 14 };
static struct lc_listen net;
static lc_server *open_one, *keyed_one, *server; /* server: whose turn it is */

static lc_server *start(const char *key_file) {
    static const struct lc_net_host host = {lc_fail, lc_poll, lc_alloc, lc_realloc, lc_free};
    fuzz_check(lc_listen_open(LC_NET_VERSION, &host, &net) == 0);
    lc_server *s = net.make("127.0.0.1", 0);
    fuzz_check(s);
    net.limits(s, MOST, 8, 64, 10, 10, 10);
    if (key_file) fuzz_check(net.key(s, key_file) == 0);
    return s;
}

static const char *key_file(void) {
    static char path[4096];
    snprintf(path, sizeof path, "%s/key", fuzz_folder());
    fuzz_check(lc_file_write(path, KEY, sizeof KEY - 1) == 0 && chmod(path, 0600) == 0);
    return path;
}

/* Answers what is there to be answered, every other request piece by piece. */
static void answer(void) {
    const char *method, *path, *body;
    size_t n;
    int64_t number;
    fuzz_check(net.wait(server, 0) >= 0);
    while ((number = net.take(server, &method, &path, &body, &n)) > 0) {
        fuzz_check(*path && *method && n <= MOST);
        if (number % 2) {
            fuzz_check(net.answer(server, number, 200, "application/json", "{}", 2) == 0);
            continue;
        }
        fuzz_check(net.begin(server, number, "text/event-stream") == 0);
        net.write(server, number, "data: x\n\n", 9);
        fuzz_check(net.end(server, number) == 0);
    }
    while (net.left(server) > 0) {}
}

static struct sockaddr_in listening(lc_server *s) {
    int port = net.start(s);
    fuzz_check(port > 0);
    return (struct sockaddr_in){.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

void fuzz_one(const uint8_t *data, size_t n) {
    static struct sockaddr_in open_at, keyed_at;
    if (!open_one) {
        open_one = start(NULL);
        keyed_one = start(key_file());
        fuzz_check(lc_remove(key_file()) == 0);
        open_at = listening(open_one);
        keyed_at = listening(keyed_one);
    }
    bool keyed = n % 4 < 2;
    server = keyed ? keyed_one : open_one;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fuzz_check(!connect(fd, (struct sockaddr *)(keyed ? &keyed_at : &open_at), sizeof open_at));
    (void)!send(fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    /* Half of the clients close their side at once, the others when nothing comes for a millisecond; one that
     * has not sent a whole head would be waited for. */
    if (n % 2) shutdown(fd, SHUT_WR);
    char reply[4096];
    for (int quiet = 0; quiet < 3; quiet++) {
        answer();
        if (poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 1) > 0) {
            ssize_t got = recv(fd, reply, sizeof reply, MSG_DONTWAIT);
            if (got <= 0) break;
            fuzz_check(!memmem(reply, (size_t)got, KEY, strlen(KEY)));
            quiet = -1;
        } else shutdown(fd, SHUT_WR);
    }
    struct linger at_once = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
}
