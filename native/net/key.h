/* key.h - secrets that stand in a file, for both plug-ins: how they are read and looked at. */
#ifndef LC_NET_KEY_H
#define LC_NET_KEY_H
#include <stddef.h>
#include <sys/types.h>

#include "net/plugin.h"

enum { LC_KEY_MOST = 4096 }; /* bytes of a key */

/* The bytes of a file that its owner alone may read; -1: lc_error(). */
ssize_t lc_key_read(const struct lc_net_host *host, const char *path, char *text, size_t room);
/* The bytes without white space at the end; -1: there are none, or one that no key has. */
ssize_t lc_key_length(const struct lc_net_host *host, const char *text, size_t n, const char *from);
/* A dump of this process would hold the key: there is none from now on. */
void lc_key_guard(void);

#endif
