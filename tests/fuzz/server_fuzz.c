/* server_fuzz.c - bytes that a client sends: heads, bodies, several requests behind one another. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "net/plugin.h"
#include "support.h"

extern lc_listen_open_fn lc_listen_open;

enum { MOST = 1 << 14 };
static struct lc_listen net;
static lc_server *server;
static struct sockaddr_in address;

static void start(void) {
    static const struct lc_net_host host = {lc_fail, lc_poll, lc_alloc, lc_realloc, lc_free};
    fuzz_check(lc_listen_open(LC_NET_VERSION, &host, &net) == 0);
    fuzz_check((server = net.make("127.0.0.1", 0)));
    net.limits(server, MOST, 8, 64, 10, 10, 10);
    int port = net.start(server);
    fuzz_check(port > 0);
    address = (struct sockaddr_in){.sin_family = AF_INET,
                                   .sin_port = htons((uint16_t)port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!server) start();
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    fuzz_check(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    (void)!send(fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT);
    /* Half of the clients close their side at once, the others when nothing comes for a millisecond; one that
     * has not sent a whole head would be waited for. */
    if (n % 2) shutdown(fd, SHUT_WR);
    char reply[4096];
    for (int quiet = 0; quiet < 3; quiet++) {
        answer();
        if (poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 1) > 0) {
            if (recv(fd, reply, sizeof reply, MSG_DONTWAIT) <= 0) break;
            quiet = -1;
        } else shutdown(fd, SHUT_WR);
    }
    struct linger at_once = {1, 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    close(fd);
    return 0;
}
