/* plugin.h - libraries that are opened at the first use, so that start-up does not pay for them. */
#ifndef LC_BASE_PLUGIN_H
#define LC_BASE_PLUGIN_H
#include <stddef.h>

/* The function SYMBOL of the library FILE, which stands beside this one where it names no folder; NULL with a reason that begins with use ("tokenizer")
 * and names what the build lacks and the packages to install. The library stays open. */
void *lc_plugin(const char *file, const char *symbol, const char *use, const char *lacks,
                const char *packages);

/* The path of a file that stands beside this library. */
void lc_beside(char *path, size_t size, const char *file);

#endif
