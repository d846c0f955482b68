/* plugin.h - the CUDA backend lies in liblucid_cuda.so, which has one exported function that fills the
 * table below: the core opens it when a device is first asked for, so that one build runs with and
 * without a GPU. Nothing links the driver. */
#ifndef LC_CUDA_PLUGIN_H
#define LC_CUDA_PLUGIN_H
#ifdef __cplusplus
extern "C" {
#include "kernels.h"
}
#else
#include "kernels.h"
#endif

/* What device memory is held for. */
enum lc_memory_tag {
    LC_FOR_ACTIVATIONS, /* whatever has no tag of its own */
    LC_FOR_WEIGHTS,
    LC_FOR_ADAPTER,
    LC_FOR_OPTIMIZER,
    LC_FOR_GRADIENTS,
    LC_FOR_CACHE, /* keys and values of generation */
    LC_FOR_WORKSPACE,
    LC_MEMORY_TAGS
};

/* What the plug-in may call: it links nothing of the core. */
struct lc_cuda_host {
    int (*fail)(int code, const char *format, ...);
    int (*charge)(int64_t bytes); /* counts device memory; -1: beyond the limit */
    void (*discharge)(int64_t bytes);
    enum lc_memory_tag (*tag)(void); /* of what is allocated now */
};

struct lc_cuda_memory {
    int64_t budget;               /* most bytes that are taken of the device */
    int64_t reserved, held, peak; /* taken of it; of these in use, now and at most */
    int64_t largest_free;         /* the largest block that is reserved and not in use */
    int64_t tagged[LC_MEMORY_TAGS];
};

/* A piece of the device's memory. */
struct lc_cuda_piece {
    void *data;
    size_t bytes;
};

enum { LC_CUDA_ID_BYTES = 128 };

/* The devices of several processes, one each, through NCCL. What open and id find wrong is a process's
 * own; every other call is made by all, in the same order. */
struct lc_cuda_group {
    const char *(*open)(void); /* "NCCL 2.28.9"; NULL: there is none, with the reason */
    int (*id)(void *id);       /* LC_CUDA_ID_BYTES that a new group is joined by, made by rank 0 */
    int (*join)(const void *id, int rank, int size);
    int (*sum)(const struct lc_cuda_piece *pieces, int n); /* f32, in place, in the ranks' order */
    int (*broadcast)(const struct lc_cuda_piece *pieces, int n); /* rank 0's, in place */
};

struct lc_cuda {
    struct lc_kernels kernels;
    int (*devices)(void);          /* of devices, as this process sees them; 0: start says why */
    int (*start)(int device);      /* once; -1: no driver, no such device, too old a one */
    const char *(*identity)(void); /* no two devices have the same; "": processes may share it */
    void *(*pin)(size_t bytes);    /* memory of the host that the device copies from and to fast */
    struct lc_cuda_group group;
    const char *(*describe)(void);
    void (*memory)(struct lc_cuda_memory *out);
    void (*budget)(int64_t bytes); /* 0: what is free when the device is started, less a reserve */
    /* How matrices of a kind are multiplied, which a run keeps: see lc_device_choices in lucid.h. */
    const char *(*choices)(void);
    int (*choose)(const char *text);
    void (*tune)(int on);
    /* Launches that are recorded once and done again: see tensor/device.h. */
    int (*record)(void);
    void *(*recorded)(void);
    int (*replay)(void *recording);
    void (*forget)(void *recording);
    int (*prepare)(const struct lc_spans *spans, int dtype, int64_t heads, int64_t groups,
                   int64_t d);
    int64_t (*count)(
        const char *what); /* see lc_device_count in lucid.h; -1: nothing is known of it */
};

/* hash: of kernels.h and this file as the core was built with them. -1: the plug-in's are others. */
typedef int lc_cuda_open_fn(const char *hash, const struct lc_cuda_host *host, struct lc_cuda *out);

#endif
