/* plugin.c - finds and opens the libraries beside this one. */
#define _GNU_SOURCE
#include "base/plugin.h"

#include <dlfcn.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

/* Beside the file that this function is in; a path with a folder is taken as it is. */
static void *open_beside(const char *file) {
    if (strchr(file, '/')) return dlopen(file, RTLD_NOW | RTLD_LOCAL);
    Dl_info self;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", file);
    if (dladdr((void *)(uintptr_t)open_beside, &self) && self.dli_fname) {
        const char *slash = strrchr(self.dli_fname, '/');
        if (slash)
            snprintf(path, sizeof path, "%.*s/%s", (int)(slash - self.dli_fname), self.dli_fname,
                     file);
    }
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
