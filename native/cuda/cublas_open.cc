/* cublas_open.cc - finding cuBLASLt. LUCID_CUBLASLT names another library than the usual ones; in the
 * emulation, where a real one has no device, it is the only way. */
#include "cuda/cublas.h"

#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>

namespace {

/* Where the library may be: as the system finds it, and beside the usual toolkit. */
void *open_library(char *why, size_t room) {
    const char *asked = std::getenv("LUCID_CUBLASLT");
    void *library = nullptr;
    if (asked && *asked) library = dlopen(asked, RTLD_NOW | RTLD_LOCAL);
#ifdef LC_EMULATED
    else return nullptr;
#else
    else {
        const int major = std::atoi(LC_HAVE_CUDA);
        const char *const places[] = {"", "/usr/local/cuda/lib64/",
                                      "/usr/local/cuda/targets/x86_64-linux/lib/"};
        for (const char *place : places) {
            char path[128];
            std::snprintf(path, sizeof path, "%slibcublasLt.so.%d", place, major);
            if (!library) library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        }
    }
#endif
    if (!library) std::snprintf(why, room, "%s", dlerror());
    return library;
}

template <typename F>
bool find(void *library, const char *name, F **function, char *why, size_t room) {
    *function = reinterpret_cast<F *>(dlsym(library, name));
    if (!*function) std::snprintf(why, room, "it has no %s", name);
    return *function;
}

bool open_all(struct lt *t, char *why, size_t room) {
    void *l = open_library(why, room);
#ifdef LC_EMULATED
    const auto attend = l ? (lt_attend_fn *)dlsym(l, "cublasLt_attend") : nullptr;
    if (attend) attend(cuda_block_of, cuda_give_work);
#endif
    if (!l || !find(l, "cublasLtGetVersion", &t->version, why, room) ||
        !find(l, "cublasLtCreate", &t->create, why, room) ||
        !find(l, "cublasLtMatmulDescCreate", &t->desc_create, why, room) ||
        !find(l, "cublasLtMatmulDescSetAttribute", &t->desc_set, why, room) ||
        !find(l, "cublasLtMatmulDescDestroy", &t->desc_destroy, why, room) ||
        !find(l, "cublasLtMatrixLayoutCreate", &t->layout_create, why, room) ||
        !find(l, "cublasLtMatrixLayoutSetAttribute", &t->layout_set, why, room) ||
        !find(l, "cublasLtMatrixLayoutDestroy", &t->layout_destroy, why, room) ||
        !find(l, "cublasLtMatmulPreferenceCreate", &t->prefer_create, why, room) ||
        !find(l, "cublasLtMatmulPreferenceSetAttribute", &t->prefer_set, why, room) ||
        !find(l, "cublasLtMatmulPreferenceDestroy", &t->prefer_destroy, why, room) ||
        !find(l, "cublasLtMatmulAlgoGetHeuristic", &t->candidates, why, room) ||
        !find(l, "cublasLtMatmulAlgoCheck", &t->check, why, room) ||
        !find(l, "cublasLtMatmulAlgoConfigGetAttribute", &t->get, why, room) ||
        !find(l, "cublasLtMatmul", &t->matmul, why, room))
        return false;
    const int status = t->create(&t->handle);
    if (status) std::snprintf(why, room, "it does not start: status %d", status);
    return !status;
}

} // namespace

const struct lt *cuda_lt(void) {
    static struct lt library;
    static bool tried, there;
    if (tried) return there ? &library : nullptr;
    tried = true;
    char why[256] = "";
    there = open_all(&library, why, sizeof why);
    if (!there && why[0])
        std::fprintf(stderr,
                     "lucid: no cuBLASLt (%s); plain kernels multiply matrices, which is slow\n",
                     why);
    return there ? &library : nullptr;
}
