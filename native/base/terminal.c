/* terminal.c - what is asked of the terminal itself: whether there is one, how large it is, what it
 * answers to a question. */
#define _DEFAULT_SOURCE
#include "lucid.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

int lc_is_terminal(int stream) { return isatty(stream); }

int lc_terminal_size(int stream, int *columns, int *rows) {
    struct winsize size;
    if (ioctl(stream, TIOCGWINSZ, &size) < 0 || !size.ws_col || !size.ws_row) return -1;
    *columns = size.ws_col;
    *rows = size.ws_row;
    return 0;
}

/* Reads up to and with the byte `end`; what was typed ahead is in the answer, too. */
static size_t read_answer(int fd, char end, double seconds, char *answer, size_t room) {
    struct pollfd in = {.fd = fd, .events = POLLIN};
    double until = lc_seconds() + seconds;
    size_t n = 0;
    while (n < room) {
        double left = until - lc_seconds();
        if (left <= 0 || poll(&in, 1, (int)(1000 * left) + 1) <= 0) return 0;
        if (read(fd, answer + n, 1) != 1) return 0;
        if (answer[n++] == end) return n;
    }
    return 0;
}

int64_t lc_terminal_ask(const char *question, size_t n, char end, double seconds, char *answer,
                        size_t room) {
    int fd = open("/dev/tty", O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) return 0;
    struct termios before, raw;
    size_t got = 0;
    /* A job in the background would be stopped by this. */
    if (tcgetpgrp(fd) == getpgrp() && !tcgetattr(fd, &before)) {
        raw = before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        raw.c_cc[VMIN] = 1;
        raw.c_cc[VTIME] = 0;
        tcsetattr(fd, TCSANOW, &raw);
        if (write(fd, question, n) == (ssize_t)n) got = read_answer(fd, end, seconds, answer, room);
        tcsetattr(fd, TCSANOW, &before);
    }
    close(fd);
    return (int64_t)got;
}
