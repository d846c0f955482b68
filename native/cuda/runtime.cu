/* runtime.cu - the device itself: starting it, its stream, raw memory, copies, and errors.
 *
 * After an error that the device cannot recover from every call fails with the op that was found to
 * have it; nothing more is asked of the driver. */
#include "cuda/common.cuh"

#include <stdio.h>
#include <map>
#include <time.h>
#include <utility>

#include "cuda/device.h"

struct lc_cuda_host cuda_host;

namespace {

enum { RESERVE = 512 << 20 }; /* bytes that are left to the driver and to others */

cudaStream_t stream;
char name[320], identity[40], broken[256];
int64_t waits; /* of the host for the device */

} // namespace

/* ---- errors ---- */

cudaStream_t cuda_stream(void) { return stream; }

int cuda_check(cudaError_t error, const char *op) {
    if (broken[0]) return cuda_host.fail(LC_ECUDA, "%s: %s", op, broken);
    if (error == cudaSuccess) return 0;
    if (error == cudaErrorMemoryAllocation) {
        cudaGetLastError(); /* or the next launch would be blamed for it */
        return cuda_host.fail(LC_ENOMEM, "%s: out of memory", op);
    }
    snprintf(broken, sizeof broken, "the device failed in or before %s: %s", op,
             cudaGetErrorString(error));
    return cuda_host.fail(LC_ECUDA, "%s", broken);
}

int cuda_launched(const char *op) { return cuda_check(cudaGetLastError(), op); }

/* ---- starting ---- */

#ifdef LC_EMULATED
static int64_t describe(int device) {
    snprintf(name, sizeof name, "emulated by the CPU");
    if (getenv("LUCID_EMULATE_DEVICES")) snprintf(identity, sizeof identity, "emulated %d", device);
    emulate_close();
    return (int64_t)4 << 30;
}

void cuda_give_work(std::function<void()> work) { emulate_give(std::move(work)); }

void cuda_work_now(std::function<void()> work) {
    emulate_give(std::move(work));
    emulate_catch_up(emulate_given);
}

int64_t cuda_wave(const void *, int, size_t) {
    return 3;
} /* few blocks: loops over the grid turn */
#else
static int64_t describe(int device) {
    cudaDeviceProp p;
    size_t left, all;
    if (cuda_check(cudaGetDeviceProperties(&p, device), "start") < 0 ||
        cuda_check(cudaSetDevice(device), "start") < 0 ||
        cuda_check(cudaMemGetInfo(&left, &all), "start") < 0)
        return -1;
    if (p.major < 8)
        return cuda_host.fail(LC_ECUDA,
                              "cuda:%d: %s has compute capability %d.%d; 8.0 is the least; use "
                              "--device cpu",
                              device, p.name, p.major, p.minor);
    snprintf(name, sizeof name, "%s, %.0f GB, sm_%d%d", p.name, (double)all / 1e9, p.major,
             p.minor);
    for (int i = 0; i < 16; i++)
        snprintf(identity + 2 * i, sizeof identity - 2 * (size_t)i, "%02x",
                 (unsigned char)p.uuid.bytes[i]);
    return left > RESERVE ? (int64_t)(left - RESERVE) : 0;
}

int64_t cuda_wave(const void *kernel, int threads, size_t shared) {
    static std::map<std::pair<const void *, int>, int64_t> known;
    int64_t &wave = known[{kernel, threads}];
    if (wave) return wave;
    int device = 0, blocks = 0, processors = 0;
    cudaGetDevice(&device);
    cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device);
    cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, shared);
    wave = (int64_t)blocks * processors;
    return wave > 0 ? wave : (wave = 1);
}
#endif

int cuda_devices(void) {
    int devices = 0;
    return cudaGetDeviceCount(&devices) == cudaSuccess ? devices : 0;
}

int64_t cuda_start(int device) {
    int devices = 0;
    const cudaError_t error = cudaGetDeviceCount(&devices);
    if (error != cudaSuccess || devices < 1)
        return cuda_host.fail(LC_ECUDA, "cuda:%d: %s; use --device cpu", device,
                              error == cudaErrorInsufficientDriver
                                  ? "there is no NVIDIA driver, or it is older than this build's "
                                    "CUDA"
                                  : "there is no GPU");
    if (device >= devices)
        return cuda_host.fail(LC_ECUDA,
                              "cuda:%d: there is no such device; there %s %d, from cuda:0", device,
                              devices == 1 ? "is" : "are", devices);
    const int64_t bytes = describe(device);
    if (bytes < 0) return -1;
    return cuda_check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "start") < 0
               ? -1
               : bytes;
}

const char *cuda_describe(void) { return name; }
const char *cuda_identity(void) { return identity; }

/* ---- time ---- */

void *cuda_stream_pointer(void) { return stream; }

#ifdef LC_EMULATED
static timespec clock_started;

int cuda_clock_start(void) {
    cudaStreamSynchronize(stream);
    return clock_gettime(CLOCK_MONOTONIC, &clock_started);
}

double cuda_clock_stop(void) {
    timespec now;
    cudaStreamSynchronize(stream);
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - clock_started.tv_sec) * 1e3 +
           (double)(now.tv_nsec - clock_started.tv_nsec) / 1e6;
}
#else
static cudaEvent_t clock_event[2];

int cuda_clock_start(void) {
    for (cudaEvent_t &e : clock_event)
        if (!e && cuda_check(cudaEventCreate(&e), "clock") < 0) return -1;
    return cuda_check(cudaEventRecord(clock_event[0], stream), "clock");
}

double cuda_clock_stop(void) {
    float ms = 0;
    if (cuda_check(cudaEventRecord(clock_event[1], stream), "clock") < 0 ||
        cuda_check(cudaEventSynchronize(clock_event[1]), "clock") < 0 ||
        cuda_check(cudaEventElapsedTime(&ms, clock_event[0], clock_event[1]), "clock") < 0)
        return -1;
    return (double)ms;
}
#endif

/* ---- memory ---- */

void *cuda_take(size_t bytes) {
    void *p = NULL;
    if (broken[0] || cudaMalloc(&p, bytes) != cudaSuccess) {
        cudaGetLastError(); /* out of memory is no fault of the device's */
        return NULL;
    }
    return p;
}

void cuda_give(void *p) {
    if (broken[0]) return;
    waits++; /* cudaFree does */
    cudaFree(p);
}

void *cuda_pin(size_t bytes) {
    void *p = NULL;
    return cuda_check(cudaHostAlloc(&p, bytes, cudaHostAllocDefault), "pin") < 0 ? NULL : p;
}

/* ---- copies: of the host's memory, which may be used again on return ---- */

int64_t cuda_waits(void) { return waits; }

int cuda_wait_for(cudaEvent_t event) {
    if (cudaEventQuery(event) == cudaSuccess) return 0;
    cudaGetLastError(); /* that it was not there yet is no fault */
    waits++;
    return cuda_check(cudaEventSynchronize(event), "wait");
}

int cuda_download(void *dst, const void *src, size_t bytes) {
    if (!bytes) return 0;
    if (cuda_is_recording()) return cuda_host.fail(LC_ECUDA, "download: it cannot be recorded");
    if (cuda_check(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToHost, stream), "download") <
        0)
        return -1;
    waits++;
    return cuda_check(cudaStreamSynchronize(stream), "download");
}

int cuda_copy(void *dst, const void *src, size_t bytes) {
    if (!bytes || dst == src) return 0;
    return cuda_check(cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, stream), "copy");
}

int cuda_clear(void *dst, int byte, size_t bytes) {
    return cuda_check(cudaMemsetAsync(dst, byte, bytes, stream), "clear");
}
