/* group.cu - sums and broadcasts among the devices of several processes, through NCCL.
 *
 * NCCL moves the numbers and they are added here, in the order of the ranks, as dist/mpi.c does it for
 * the host: NCCL's own sums have an order that follows the number of ranks, the size, the wires between
 * the devices and the version. So a sum has the same bits on every rank, in every run, on the device as
 * on the host. A number travels as often as in a ring: to the rank that adds it up, and back.
 *
 * A process whose call fails ends what NCCL has begun on its device and reports; its own end ends the
 * others (dist/comm.c). */
#include "cuda/common.cuh"

#include <algorithm>
#include <stdio.h>
#include <time.h>

#include "cuda/launchers.h"
#include "cuda/nccl.h"

#if !defined LC_EMULATED && __has_include(<nccl.h>)
#include <nccl.h>
#define SAME(ours, theirs) static_assert((int)(ours) == (int)(theirs), #theirs)
SAME(NCCL_DONE, ncclSuccess);
SAME(NCCL_BYTES, ncclInt8);
SAME(NCCL_F32, ncclFloat32);
SAME(sizeof(struct nccl_id), sizeof(ncclUniqueId));
#endif

namespace {

/* Floats that are summed at a time. A rank's part of them is a multiple of LINE. */
#ifdef LC_EMULATED
constexpr int64_t ROOM = 1000, LINE = 4; /* small, so that tests go round and round */
#else
constexpr int64_t ROOM = 8 << 20, LINE = 32;
#endif

const struct nccl *library;
void *comm; /* NULL: not joined, or failed */
int count;  /* of ranks */

/* ---- errors ---- */

int failed(const char *op, const char *what, const char *more) {
    if (comm) library->abort(comm);
    comm = NULL;
    return cuda_host.fail(LC_ECUDA, "%s: NCCL: %s%s%s", op, what, *more ? ": " : "", more);
}

/* What a call ends with: 0, or -1 with the reason. */
int checked(const char *op, int status) {
    if (status == NCCL_DONE) return 0;
    char more[200]; /* the library's own text goes with what it is asked of */
    const char *last = library->last(comm);
    snprintf(more, sizeof more, "%s", last ? last : "");
    for (char *c = more; *c; c++)
        if (*c == '\n') *c = *(c + 1) ? ' ' : 0;
    return failed(op, library->error(status), more);
}

/* Waits for what was begun: the device, beside which NCCL may find that another process is gone. */
int wait(const char *op) {
    const struct timespec pause = {0, 20000};
    for (;;) {
        const cudaError_t error = cudaStreamQuery(cuda_stream());
        int status = NCCL_DONE;
        if (checked(op, library->state(comm, &status)) < 0 || checked(op, status) < 0) return -1;
        if (error != cudaErrorNotReady) return cuda_check(error, op);
        nanosleep(&pause, NULL);
    }
}

int usable(const char *op) {
    return comm ? 0 : cuda_host.fail(LC_ECUDA, "%s: the devices' group was left", op);
}

/* ---- sums ---- */

/* A place among the pieces, as if they lay one after another. */
struct place {
    int piece;
    int64_t at; /* in floats */
};

/* Copies the numbers from `from` on to the buffer, or back; how many there were, at most room, or -1. */
int64_t copy(const struct lc_cuda_piece *pieces, int n, struct place *from, float *buffer,
             int64_t room, bool back) {
    int64_t done = 0;
    while (from->piece < n && done < room) {
        const struct lc_cuda_piece *p = &pieces[from->piece];
        const int64_t all = (int64_t)(p->bytes / sizeof(float));
        const int64_t part = std::min(all - from->at, room - done);
        float *theirs = (float *)p->data + from->at, *ours = buffer + done;
        if (cuda_copy(back ? theirs : ours, back ? ours : theirs, (size_t)part * sizeof(float)))
            return -1;
        done += part;
        from->at += part;
        if (from->at == all) *from = {from->piece + 1, 0};
    }
    return done;
}

/* Every rank gets its part of everyone's numbers, adds them up, and gives the sums to all. */
int sum_buffer(float *ours, float *theirs, int64_t part) {
    const size_t n = (size_t)part;
    int status = library->begin();
    for (int r = 0; r < count && !status; r++) {
        status = library->send(ours + r * part, n, NCCL_F32, r, comm, cuda_stream());
        if (!status)
            status = library->receive(theirs + r * part, n, NCCL_F32, r, comm, cuda_stream());
    }
    const int ended = library->end();
    if (checked("sum", status ? status : ended) < 0) return -1;
    for (int r = 1; r < count; r++)
        if (cuda_accumulate(theirs, LC_F32, theirs + r * part, LC_F32, part) < 0) return -1;
    return checked("sum", library->all_gather(theirs, ours, n, NCCL_F32, comm, cuda_stream()));
}

int sum_with(float *buffer, int64_t room, const struct lc_cuda_piece *pieces, int n) {
    struct place next = {0, 0};
    for (;;) {
        struct place first = next;
        const int64_t there = copy(pieces, n, &next, buffer, room, false);
        if (there <= 0) return (int)there;
        const int64_t part = ((there + count - 1) / count + LINE - 1) / LINE * LINE;
        if (cuda_clear(buffer + there, 0, (size_t)(part * count - there) * sizeof(float)) < 0 ||
            sum_buffer(buffer, buffer + part * count, part) < 0 ||
            copy(pieces, n, &first, buffer, there, true) < 0)
            return -1;
    }
}

} // namespace

const char *cuda_group_open(void) {
    const char *why = "";
    static char text[32];
    int number = 0;
    library = cuda_nccl(&why);
    if (!library) return cuda_host.fail(LC_EMISSING, "%s", why), (const char *)NULL;
    library->version(&number);
    snprintf(text, sizeof text, "NCCL %d.%d.%d", number / 10000, number / 100 % 100, number % 100);
    return text;
}

int cuda_group_id(void *id) {
    return checked("joining the devices", library->new_id((struct nccl_id *)id));
}

int cuda_group_join(const void *id, int rank, int size) {
    count = size;
    const int status = library->join(&comm, size, *(const struct nccl_id *)id, rank);
    if (status) comm = NULL; /* nothing was begun that could be ended */
    return checked("joining the devices", status);
}

int cuda_group_sum(const struct lc_cuda_piece *pieces, int n) {
    int64_t all = 0;
    for (int i = 0; i < n; i++) all += (int64_t)(pieces[i].bytes / sizeof(float));
    const int64_t room = std::min(all, ROOM), most = room + count * LINE;
    if (usable("sum") < 0) return -1;
    const size_t bytes = 2 * (size_t)most * sizeof(float);
    float *buffer = (float *)cuda_workspace(bytes);
    if (!buffer) return -1;
    const int done = sum_with(buffer, room, pieces, n);
    cuda_free(buffer, bytes);
    return done < 0 ? -1 : wait("sum");
}

int cuda_group_broadcast(const struct lc_cuda_piece *pieces, int n) {
    if (usable("broadcast") < 0) return -1;
    for (int i = 0; i < n; i++)
        if (checked("broadcast", library->broadcast(pieces[i].data, pieces[i].data, pieces[i].bytes,
                                                    NCCL_BYTES, 0, comm, cuda_stream())) < 0)
            return -1;
    return wait("broadcast");
}
