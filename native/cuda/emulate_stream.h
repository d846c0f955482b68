/* emulate_stream.h - CUDA's host calls on host memory: copies, one stream, events, and recordings.
 *
 * Beside a closed memory (emulate_close) the device is as late as it may be: what the stream is given
 * is done when the host waits for it. So a host that reads a result without waiting, or changes memory
 * that a copy still has to read, is seen. Pageable memory is copied at once, as the runtime does it;
 * memory from cudaHostAlloc is read when its turn comes. While a recording is made nothing is done,
 * and a wait or a copy of the host's memory is refused. */
#ifndef LC_CUDA_EMULATE_STREAM_H
#define LC_CUDA_EMULATE_STREAM_H
#include <deque>
#include <functional>
#include <vector>

#include "cuda/emulate_runtime.h"

enum cudaError_t {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorInsufficientDriver = 35,
    cudaErrorNoDevice = 100,
    cudaErrorNotReady = 600,
    cudaErrorStreamCaptureUnsupported = 900,
    cudaErrorStreamCaptureInvalidated = 901
};
enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeRelaxed = 2 };
enum { cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2, cudaHostAllocDefault = 0 };

typedef std::function<void()> emulate_work;
typedef std::vector<emulate_work> *cudaGraph_t;
typedef std::vector<emulate_work> *cudaGraphExec_t;
struct emulate_event {
    uint64_t at; /* work that was given to the stream before it */
};
typedef struct emulate_event *cudaEvent_t;
typedef struct emulate_stream *cudaStream_t;

/* ---- the stream ------------------------------------------------------------------------------ */

enum { EMULATE_LATE = 4096 }; /* pieces of work that may wait */
inline std::deque<emulate_work> emulate_waiting;
inline uint64_t emulate_given, emulate_done;
inline cudaGraph_t emulate_recording; /* being made */
inline bool emulate_refused;          /* something was asked for that cannot be recorded */

/* Does what was given before `at`. */
inline void emulate_catch_up(uint64_t at) {
    if (emulate_done >= at) return;
    struct emulate_access access;
    while (emulate_done < at) {
        const emulate_work work = std::move(emulate_waiting.front());
        emulate_waiting.pop_front();
        emulate_done++;
        work();
    }
}

inline void emulate_give(emulate_work work) {
    if (emulate_recording) {
        emulate_recording->push_back(std::move(work));
        return;
    }
    emulate_waiting.push_back(std::move(work));
    emulate_given++;
    if (!emulate_closed || emulate_waiting.size() > EMULATE_LATE) emulate_catch_up(emulate_given);
}

/* The host waits for what was given before `at`. */
inline cudaError_t emulate_wait_for(uint64_t at) {
    if (emulate_recording) {
        emulate_refused = true;
        return cudaErrorStreamCaptureUnsupported;
    }
    emulate_catch_up(at);
    return cudaSuccess;
}

/* ---- memory and copies ----------------------------------------------------------------------- */

struct emulate_pinned {
    unsigned char *first;
    size_t bytes;
};
inline std::vector<emulate_pinned> emulate_pinned_list;
inline bool emulate_is_pinned(const void *p) {
    for (const emulate_pinned &m : emulate_pinned_list)
        if ((const unsigned char *)p >= m.first && (const unsigned char *)p < m.first + m.bytes)
            return true;
    return false;
}

inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaPeekAtLastError() { return cudaSuccess; }
inline const char *cudaGetErrorString(cudaError_t e) { return e ? "emulated error" : "no error"; }
inline const char *cudaGetErrorName(cudaError_t e) { return e ? "cudaError" : "cudaSuccess"; }
inline cudaError_t cudaMalloc(void **p, size_t bytes) {
    *p = emulate_alloc(bytes);
    return *p ? cudaSuccess : cudaErrorMemoryAllocation;
}
template <typename T> inline cudaError_t cudaMalloc(T **p, size_t bytes) {
    return cudaMalloc((void **)p, bytes);
}
inline cudaError_t cudaFree(void *p) {
    const cudaError_t error = emulate_wait_for(emulate_given);
    if (!error) emulate_free(p);
    return error;
}
inline cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned) {
    *p = malloc(bytes);
    if (!*p) return cudaErrorMemoryAllocation;
    emulate_pinned_list.push_back({(unsigned char *)*p, bytes});
    return cudaSuccess;
}
inline cudaError_t cudaMallocHost(void **p, size_t bytes) { return cudaHostAlloc(p, bytes, 0); }

inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                                   cudaStream_t = NULL) {
    const bool host = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToHost;
    if (emulate_recording && host) {
        emulate_refused = true;
        return cudaErrorStreamCaptureUnsupported;
    }
    if (kind == cudaMemcpyHostToDevice && !emulate_is_pinned(from)) {
        const unsigned char *first = (const unsigned char *)from;
        const std::vector<unsigned char> copy(first, first + bytes);
        emulate_give([=] { memcpy(to, copy.data(), bytes); });
    } else {
        emulate_give([=] { memmove(to, from, bytes); });
    }
    return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t = NULL) {
    emulate_give([=] { memset(to, value, bytes); });
    return cudaSuccess;
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* A stream is an address that no one looks at, and not that of the default one. */
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned) {
    return *s = (cudaStream_t)malloc(1), *s ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return emulate_wait_for(emulate_given); }
inline cudaError_t cudaStreamQuery(cudaStream_t) { return emulate_wait_for(emulate_given); }
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) {
    *e = new emulate_event{0};
    return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t = NULL) {
    return e->at = emulate_given, cudaSuccess;
}
inline cudaError_t cudaEventQuery(cudaEvent_t e) {
    return emulate_done >= e->at ? cudaSuccess : cudaErrorNotReady;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t e) { return emulate_wait_for(e->at); }

/* ---- recordings ------------------------------------------------------------------------------ */

inline cudaError_t cudaStreamBeginCapture(cudaStream_t, cudaStreamCaptureMode) {
    if (emulate_recording) return cudaErrorStreamCaptureUnsupported;
    emulate_recording = new std::vector<emulate_work>;
    emulate_refused = false;
    return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t, cudaGraph_t *graph) {
    *graph = emulate_recording;
    emulate_recording = NULL;
    if (!emulate_refused) return cudaSuccess;
    delete *graph;
    *graph = NULL;
    return cudaErrorStreamCaptureInvalidated;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t *to, cudaGraph_t graph, uint64_t = 0) {
    *to = new std::vector<emulate_work>(*graph);
    return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t) {
    for (const emulate_work &work : *graph) emulate_give(work);
    return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    delete graph;
    return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph) { return cudaGraphDestroy(graph); }

/* ---- devices --------------------------------------------------------------------------------- */

inline cudaError_t cudaGetDeviceCount(int *n) {
    const char *asked = getenv("LUCID_EMULATE_DEVICES");
    return *n = asked ? atoi(asked) : 1, cudaSuccess;
}
inline cudaError_t cudaGetDevice(int *device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }

#endif
