/* cublas_open.cc - finding cuBLASLt. LUCID_CUBLASLT names another library than the usual ones. */
#include "cuda/cublas.h"

#include <cstdio>
#include <cstdlib>

#include "cuda/library.h"

#ifndef LC_HAVE_CUDA /* where there is no toolkit the emulation alone is built */
#define LC_HAVE_CUDA "0"
#endif

namespace {

bool open_all(struct lt *t, char *why, size_t room) {
    char file[32];
    std::snprintf(file, sizeof file, "libcublasLt.so.%d", std::atoi(LC_HAVE_CUDA));
    void *l = cuda_library(file, "LUCID_CUBLASLT", why, room);
#ifdef LC_EMULATED
    const auto attend = l ? (lt_attend_fn *)dlsym(l, "cublasLt_attend") : nullptr;
    if (attend) attend(cuda_block_of, cuda_give_work);
#endif
    if (!l || !cuda_symbol(l, "cublasLtGetVersion", &t->version, why, room) ||
        !cuda_symbol(l, "cublasLtCreate", &t->create, why, room) ||
        !cuda_symbol(l, "cublasLtMatmulDescCreate", &t->desc_create, why, room) ||
        !cuda_symbol(l, "cublasLtMatmulDescSetAttribute", &t->desc_set, why, room) ||
        !cuda_symbol(l, "cublasLtMatmulDescDestroy", &t->desc_destroy, why, room) ||
        !cuda_symbol(l, "cublasLtMatrixLayoutCreate", &t->layout_create, why, room) ||
        !cuda_symbol(l, "cublasLtMatrixLayoutSetAttribute", &t->layout_set, why, room) ||
        !cuda_symbol(l, "cublasLtMatrixLayoutDestroy", &t->layout_destroy, why, room) ||
        !cuda_symbol(l, "cublasLtMatmulPreferenceCreate", &t->prefer_create, why, room) ||
        !cuda_symbol(l, "cublasLtMatmulPreferenceSetAttribute", &t->prefer_set, why, room) ||
        !cuda_symbol(l, "cublasLtMatmulPreferenceDestroy", &t->prefer_destroy, why, room) ||
        !cuda_symbol(l, "cublasLtMatmulAlgoGetHeuristic", &t->candidates, why, room) ||
        !cuda_symbol(l, "cublasLtMatmulAlgoCheck", &t->check, why, room) ||
        !cuda_symbol(l, "cublasLtMatmulAlgoConfigGetAttribute", &t->get, why, room) ||
        !cuda_symbol(l, "cublasLtMatmul", &t->matmul, why, room))
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
