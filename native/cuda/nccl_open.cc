/* nccl_open.cc - finding NCCL. LUCID_NCCL names another library than the usual one. */
#include "cuda/nccl.h"

#include "cuda/library.h"

namespace {

bool open_all(struct nccl *n, char *why, size_t room) {
    void *l = cuda_library("libnccl.so.2", "LUCID_NCCL", why, room);
#ifdef LC_EMULATED
    const auto attend = l ? (nccl_attend_fn *)dlsym(l, "nccl_attend") : nullptr;
    if (attend) attend(cuda_block_of, cuda_work_now, cuda_stream_pointer());
    if (!l && !*why) std::snprintf(why, room, "LUCID_NCCL names no library");
#endif
    return l && cuda_symbol(l, "ncclGetVersion", &n->version, why, room) &&
           cuda_symbol(l, "ncclGetErrorString", &n->error, why, room) &&
           cuda_symbol(l, "ncclGetLastError", &n->last, why, room) &&
           cuda_symbol(l, "ncclGetUniqueId", &n->new_id, why, room) &&
           cuda_symbol(l, "ncclCommInitRank", &n->join, why, room) &&
           cuda_symbol(l, "ncclGroupStart", &n->begin, why, room) &&
           cuda_symbol(l, "ncclGroupEnd", &n->end, why, room) &&
           cuda_symbol(l, "ncclSend", &n->send, why, room) &&
           cuda_symbol(l, "ncclRecv", &n->receive, why, room) &&
           cuda_symbol(l, "ncclAllGather", &n->all_gather, why, room) &&
           cuda_symbol(l, "ncclBroadcast", &n->broadcast, why, room) &&
           cuda_symbol(l, "ncclCommGetAsyncError", &n->state, why, room) &&
           cuda_symbol(l, "ncclCommAbort", &n->abort, why, room);
}

} // namespace

const struct nccl *cuda_nccl(const char **why) {
    static struct nccl library;
    static char reason[256];
    static bool tried, there;
    if (!tried) there = open_all(&library, reason, sizeof reason);
    tried = true;
    *why = reason;
    return there ? &library : nullptr;
}
