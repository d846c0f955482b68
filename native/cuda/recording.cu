/* recording.cu - launches that are recorded once and then done again and again: CUDA graphs, for decoding steps,
 * whose launches are short.
 *
 * What was recorded works on the same memory each time: recorded launches have a heap of their own, which the
 * recording keeps. A copy from or to the host and a wait cannot be recorded, for what they would copy is gone
 * when it is done again; whoever asks for one meanwhile is refused, and the recording is none. */
#include "cuda/common.cuh"
#include "cuda/device.h"

#include <stdlib.h>
#include <string.h>

namespace {

struct recording {
    cudaGraphExec_t graph; /* NULL: what was asked for cannot be recorded */
    struct cuda_heap *heap;
};
struct recording *being_made;
int64_t recordings, replays;

} // namespace

extern "C" bool cuda_is_recording(void) { return being_made != NULL; }

extern "C" int cuda_record(void) {
    const char *asked = getenv("LUCID_GRAPHS");
    if (being_made || (asked && !strcmp(asked, "off"))) return 1;
    /* relaxed: the heap may ask the device for a segment */
    if (LC_CUDA(cudaStreamBeginCapture(cuda_stream(), cudaStreamCaptureModeRelaxed)) < 0) return -1;
    being_made = new recording{NULL, cuda_heap_open()};
    return 0;
}

extern "C" void *cuda_recorded(void) {
    struct recording *const r = being_made;
    cudaGraph_t graph = NULL;
    being_made = NULL;
    cuda_heap_leave();
    if (cudaStreamEndCapture(cuda_stream(), &graph) != cudaSuccess ||
        cudaGraphInstantiate(&r->graph, graph, 0) != cudaSuccess) {
        r->graph = NULL;
        cudaGetLastError(); /* nothing was done, so nothing is broken */
    }
    if (graph) cudaGraphDestroy(graph);
    recordings += r->graph != NULL;
    return r;
}

extern "C" int cuda_replay(void *recording) {
    const struct recording *const r = (const struct recording *)recording;
    if (!r->graph) return 1;
    replays++;
    return LC_CUDA(cudaGraphLaunch(r->graph, cuda_stream()));
}

extern "C" void cuda_forget(void *recording) {
    struct recording *const r = (struct recording *)recording;
    if (!r) return;
    if (r->graph) cudaGraphExecDestroy(r->graph);
    cuda_heap_close(r->heap);
    delete r;
}

extern "C" int64_t cuda_count(const char *what) {
    return !strcmp(what, "waits")        ? cuda_waits()
           : !strcmp(what, "recordings") ? recordings
           : !strcmp(what, "replays")    ? replays
                                         : -1;
}
