/* staging.cu - uploads without a wait: what the host has goes through a ring of pinned memory, from which the
 * device takes it when its turn comes. The host waits only where it is a whole ring ahead. */
#include "cuda/common.cuh"
#include "cuda/device.h"

#include <string.h>

namespace {

#ifdef LC_EMULATED
enum { SLOT = 64 << 10 }; /* tests go round */
#else
enum { SLOT = 4 << 20 }; /* bytes: a picture, or the ids and lists of many steps */
#endif
enum { SLOTS = 3, STEP = 16 };

struct slot {
    char *memory;
    cudaEvent_t taken; /* all of it, when it was full */
    bool full;
};
slot ring[SLOTS];
int at;      /* the slot that is being filled */
size_t used; /* of it */

int open_ring(void) {
    for (slot &s : ring) {
        if (s.memory) continue;
        if (LC_CUDA(cudaEventCreateWithFlags(&s.taken, cudaEventDisableTiming)) < 0 ||
            LC_CUDA(cudaHostAlloc((void **)&s.memory, SLOT, cudaHostAllocDefault)) < 0)
            return -1;
    }
    return 0;
}

int next_slot(void) {
    if (LC_CUDA(cudaEventRecord(ring[at].taken, cuda_stream())) < 0) return -1;
    ring[at].full = true;
    at = (at + 1) % SLOTS;
    used = 0;
    if (!ring[at].full) return 0;
    ring[at].full = false;
    return cuda_wait_for(ring[at].taken);
}

} // namespace

extern "C" int cuda_upload(void *dst, const void *src, size_t bytes) {
    if (!bytes) return 0;
    if (cuda_is_recording()) return cuda_host.fail(LC_ECUDA, "upload: it cannot be recorded");
    if (open_ring() < 0) return -1;
    for (size_t done = 0, n; done < bytes; done += n) {
        if (used == SLOT && next_slot() < 0) return -1;
        n = bytes - done < SLOT - used ? bytes - done : SLOT - used;
        char *const own = ring[at].memory + used;
        memcpy(own, (const char *)src + done, n);
        if (LC_CUDA(cudaMemcpyAsync((char *)dst + done, own, n, cudaMemcpyHostToDevice,
                                    cuda_stream())) < 0)
            return -1;
        used += (n + STEP - 1) / STEP * STEP;
    }
    return 0;
}
