/* device.h - what the launchers share: errors, memory of the device, and the size of a grid.
 *
 * One stream runs everything in order, so freed memory may be used again at once. */
#ifndef LC_CUDA_DEVICE_H
#define LC_CUDA_DEVICE_H
#include "cuda/plugin.h"

#ifdef __cplusplus
extern "C" {
#endif

extern struct lc_cuda_host cuda_host;

/* ---- runtime.cu ---- */

/* Bytes that may be taken of the device, or -1 with the reason. */
int64_t cuda_start(int device);
const char *cuda_describe(void);
int cuda_devices(void);
const char *cuda_identity(void);
void *cuda_pin(size_t bytes);  /* until the process ends; NULL with the reason */
void *cuda_take(size_t bytes); /* raw memory of the device; NULL: there is none */
void cuda_give(void *p);
int cuda_download(void *dst, const void *src, size_t bytes);
int cuda_copy(void *dst, const void *src, size_t bytes); /* within the device */
int cuda_clear(void *dst, int byte, size_t bytes);
/* What every launcher ends with: 0, or -1 with the op's name when it could not be started. */
int cuda_launched(const char *op);
void *cuda_stream_pointer(void); /* the stream, for a library that is given it */
/* Time on the device from start to stop, in milliseconds; negative: the device failed. */
int cuda_clock_start(void);
double cuda_clock_stop(void);
/* Blocks of a kernel that run at a time on the whole device: the most of one whose blocks go round.
 * shared: bytes of dynamic shared memory. */
int64_t cuda_wave(const void *kernel, int threads, size_t shared);

int64_t cuda_waits(void); /* how often the host has waited for the device */

/* ---- staging.cu ---- */

int cuda_upload(void *dst, const void *src, size_t bytes); /* src may be used again on return */

/* ---- recording.cu ---- */

/* From now on launches are recorded and not done. 1: LUCID_GRAPHS=off, or one is being recorded. */
int cuda_record(void);
bool cuda_is_recording(void);
/* Ends that. A recording is returned in any case, but only replaying it tells whether it is one. */
void *cuda_recorded(void);
int cuda_replay(void *recording);  /* 1: something was asked for that cannot be recorded */
void cuda_forget(void *recording); /* and what was allocated meanwhile, which is free by then */
int64_t cuda_count(const char *what);

/* ---- group.cu ---- */

const char *cuda_group_open(void);
int cuda_group_id(void *id);
int cuda_group_join(const void *id, int rank, int size);
int cuda_group_sum(const struct lc_cuda_piece *pieces, int n);
int cuda_group_broadcast(const struct lc_cuda_piece *pieces, int n);

/* ---- memory.cc ---- */

void cuda_memory_start(int64_t available);
void cuda_memory_budget(int64_t bytes);
void cuda_memory_read(struct lc_cuda_memory *out);
void *cuda_alloc(size_t bytes);
void cuda_free(void *p, size_t bytes);
/* For a launcher's own use; free it with cuda_free as soon as the work is launched. */
void *cuda_workspace(size_t bytes);
/* The same, filled from the host. */
void *cuda_workspace_from(const void *src, size_t bytes);
/* The heap that blocks are taken from until cuda_heap_leave(). They are freed before it is closed. */
struct cuda_heap *cuda_heap_open(void);
void cuda_heap_leave(void);
void cuda_heap_close(struct cuda_heap *heap);
#ifdef LC_EMULATED
/* Whether p is in a block that is in use, and which. */
bool cuda_block_of(const void *p, const char **first, size_t *bytes);
#endif

#ifdef __cplusplus
}
#endif

#if defined LC_EMULATED && defined __cplusplus
#include <functional>
/* The stream does this when its turn comes: for a library that plays one of the device's; runtime.cu */
void cuda_give_work(std::function<void()> work);
void cuda_work_now(std::function<void()> work); /* and all that was given to the stream before */
#endif
#endif
