/* key.c - reads a key's file; no error quotes what stands in it. */
#define _GNU_SOURCE
#include "net/key.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

ssize_t lc_key_read(const struct lc_net_host *host, const char *path, char *text, size_t room) {
    struct stat s;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return host->fail(LC_EMISSING, "%s: opening: %s", path, strerror(errno));
    ssize_t n = -1;
    if (fstat(fd, &s) < 0 || !S_ISREG(s.st_mode))
        host->fail(LC_EINVAL, "%s: a file that holds the key is expected", path);
    else if (s.st_mode & 077)
        host->fail(LC_EINVAL, "%s: others may read this key; chmod 600 makes it its owner's alone",
                   path);
    else if (s.st_size > (off_t)room)
        host->fail(LC_EINVAL, "%s: longer than a key, which has up to %zu bytes", path, room);
    else if ((n = read(fd, text, room)) < 0)
        host->fail(LC_EIO, "%s: reading: %s", path, strerror(errno));
    close(fd);
    return n;
}

ssize_t lc_key_length(const struct lc_net_host *host, const char *text, size_t n,
                      const char *from) {
    while (n && strchr(" \t\r\n", text[n - 1])) n--;
    if (!n) return host->fail(LC_EINVAL, "%s: it holds no key", from);
    for (size_t i = 0; i < n; i++)
        if (text[i] <= ' ' || text[i] >= 0x7F)
            return host->fail(LC_EINVAL, "%s: byte %zu is one that no key has", from, i + 1);
    return (ssize_t)n;
}

void lc_key_guard(void) {
    struct rlimit core;
    if (getrlimit(RLIMIT_CORE, &core) < 0) return;
    core.rlim_cur = 0;
    setrlimit(RLIMIT_CORE, &core);
}
