/* library.h - libraries of CUDA's that are opened when they are first needed, so nothing links them. */
#ifndef LC_CUDA_LIBRARY_H
#define LC_CUDA_LIBRARY_H
#include <cstddef>
#include <cstdio>
#include <dlfcn.h>

/* The library `file`, as the system finds it or beside the usual toolkit; NULL, and in why the reason. The
 * environment's `variable` names another file; in the emulation, where a real library has no device, it is
 * the only way: NULL without a reason where nothing is named. */
void *cuda_library(const char *file, const char *variable, char *why, size_t room);

template <typename F>
bool cuda_symbol(void *library, const char *name, F **function, char *why, size_t room) {
    *function = reinterpret_cast<F *>(dlsym(library, name));
    if (!*function) std::snprintf(why, room, "it has no %s", name);
    return *function;
}

#endif
