/* nccl.h - what is used of NCCL. The library is opened at run time, so nothing links it and the emulation is
 * built without its header; group.cu compares these numbers with that header's. */
#ifndef LC_CUDA_NCCL_H
#define LC_CUDA_NCCL_H
#include "cuda/device.h"

enum { NCCL_DONE = 0, NCCL_BYTES = 0, NCCL_F32 = 7 }; /* a status; dtypes */

struct nccl_id {
    char bytes[LC_CUDA_ID_BYTES];
};

/* Every call but error and last returns NCCL_DONE or a status. */
struct nccl {
    int (*version)(int *number); /* 22809: 2.28.9 */
    const char *(*error)(int status);
    const char *(*last)(void *comm); /* what the library has to say of its last failure */
    int (*new_id)(struct nccl_id *id);
    int (*join)(void **comm, int size, struct nccl_id id, int rank);
    int (*begin)(void); /* what is sent and received up to end goes on at the same time */
    int (*end)(void);
    int (*send)(const void *from, size_t count, int dtype, int to, void *comm, void *stream);
    int (*receive)(void *to, size_t count, int dtype, int from, void *comm, void *stream);
    /* Every rank's count numbers, in the order of the ranks, to all. */
    int (*all_gather)(const void *own, void *all, size_t count, int dtype, void *comm,
                      void *stream);
    int (*broadcast)(const void *from, void *to, size_t count, int dtype, int root, void *comm,
                     void *stream);
    int (*state)(void *comm, int *status); /* of what was begun */
    int (*abort)(void *comm);              /* ends what was begun, here; others wait for it */
};

/* The library, opened at the first call; NULL with the reason, which stays. */
const struct nccl *cuda_nccl(const char **why);

#ifdef LC_EMULATED
/* nccl_attend, of the library that plays NCCL: how it finds whose memory it is given, does its work there, and
 * on which stream it must work. */
typedef void nccl_attend_fn(bool (*block_of)(const void *, const char **, size_t *),
                            void (*now)(std::function<void()>), void *stream);
#endif

#endif
