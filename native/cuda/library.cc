/* library.cc - where CUDA's libraries may be. */
#include "cuda/library.h"

#include <cstdlib>

void *cuda_library(const char *file, const char *variable, char *why, size_t room) {
    const char *asked = std::getenv(variable);
    void *library = nullptr;
    if (asked && *asked) library = dlopen(asked, RTLD_NOW | RTLD_LOCAL);
#ifdef LC_EMULATED
    else return (void)file, nullptr;
#else
    else {
        const char *const places[] = {"", "/usr/local/cuda/lib64/", "/usr/local/cuda/lib/",
                                      "/usr/local/cuda/targets/x86_64-linux/lib/"};
        for (const char *place : places) {
            char path[128];
            std::snprintf(path, sizeof path, "%s%s", place, file);
            if (!library) library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        }
    }
#endif
    if (!library) std::snprintf(why, room, "%s", dlerror());
    return library;
}
