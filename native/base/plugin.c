/* plugin.c - finds and opens the libraries beside this one. */
#define _GNU_SOURCE
#include "base/plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

void lc_beside(char *path, size_t size, const char *file) {
    Dl_info self;
    snprintf(path, size, "%s", file);
    if (!dladdr((void *)(uintptr_t)lc_beside, &self) || !self.dli_fname) return;
    const char *slash = strrchr(self.dli_fname, '/');
    if (slash) snprintf(path, size, "%.*s/%s", (int)(slash - self.dli_fname), self.dli_fname, file);
}

/* A path with a folder is taken as it is. */
static void *open_beside(const char *file) {
    char path[PATH_MAX];
    if (strchr(file, '/')) return dlopen(file, RTLD_NOW | RTLD_LOCAL);
    lc_beside(path, sizeof path, file);
    return dlopen(path, RTLD_NOW | RTLD_LOCAL);
}

void *lc_plugin(const char *file, const char *symbol, const char *use, const char *lacks,
                const char *packages) {
    void *library = open_beside(file);
    if (!library)
        return lc_fail_null(LC_EMISSING, "%s: this build has no %s (%s); install %s and run make",
                            use, lacks, dlerror(), packages);
    void *found = dlsym(library, symbol);
    if (!found) return lc_fail_null(LC_EMISSING, "%s has no %s; run make", file, symbol);
    return found;
}
