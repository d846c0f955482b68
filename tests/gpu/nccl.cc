/* nccl.cc - a library with NCCL's entry points that moves numbers by MPI: it is opened instead of the real one
 * where the CPU plays the devices of several processes.
 *
 * Every call is checked before it is done: the stream, dtypes, ranks, each operand whole inside one block
 * of the device's memory, nothing that is received over what is sent or received beside it, and that what
 * one rank sends is as long as what the other expects.
 *
 *   LUCID_NCCL_LOG=FILE     a line is added for each call: rank, call, elements
 *   LUCID_NCCL_PLANT=FAULT  what is asked is changed first, as if the caller had erred: see plant()
 *   LUCID_NCCL_FAIL="CALL RANK N"   that rank's N-th call of the name fails, as where a wire is cut */
#define OMPI_SKIP_MPICXX
#include <mpi.h>

#include "cuda/nccl.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#define EXPORTED extern "C" __attribute__((visibility("default")))

namespace {

constexpr int SYSTEM_ERROR = 2, INVALID = 5;
constexpr char MARK[] = "lucid's recording library";

struct transfer {
    char *p;
    size_t bytes;
    int peer;
    bool sent;
    std::vector<char> copy;
};

bool (*block_of)(const void *, const char **, size_t *);
void (*now)(std::function<void()>); /* after what the stream was given before */
void *work_stream;
MPI_Comm world; /* what the communicator's handle points to */
int own, count, groups;
std::vector<transfer> group;
std::string last;

int refuse(const std::string &what) {
    last = what;
    return INVALID;
}

/* ---- faults ---- */

bool planted(const char *fault) {
    const char *asked = std::getenv("LUCID_NCCL_PLANT");
    return asked && !std::strcmp(asked, fault);
}

/* What a faulty caller could have asked for. */
void plant(const char *call, char **p, size_t *n, int *peer, void **stream) {
    const bool receives = !std::strcmp(call, "receive");
    if (planted("past the end")) *p += 4;
    if (planted("short") && own == 1) --*n;
    if (planted("a default stream")) *stream = nullptr;
    if (planted("another rank") && peer) *peer = (*peer + 1) % count;
    if (planted("one place") && receives) *p -= *peer * (int)(*n * 4);
    if (planted("no such rank") && peer) ++*peer;
}

bool fails(const char *call) {
    static int calls;
    char name[32];
    int rank, nth;
    const char *asked = std::getenv("LUCID_NCCL_FAIL");
    if (!asked || std::sscanf(asked, "%31s %d %d", name, &rank, &nth) != 3) return false;
    if (rank != own || std::strcmp(name, call) || ++calls != nth) return false;
    last = "the wire is cut";
    return true;
}

void record(const char *call, size_t n) {
    const char *path = std::getenv("LUCID_NCCL_LOG");
    FILE *f = path ? std::fopen(path, "a") : nullptr;
    if (!f) return;
    std::fprintf(f, "%d %s %zu\n", own, call, n);
    std::fclose(f);
}

/* ---- checks ---- */

size_t size_of(int dtype) { return dtype == NCCL_F32 ? 4 : 1; }

int check_inside(const char *call, const char *p, size_t bytes, int dtype) {
    const char *first;
    size_t room;
    if (dtype != NCCL_F32 && dtype != NCCL_BYTES) return refuse(std::string(call) + ": a dtype");
    if (!block_of || !block_of(p, &first, &room) || p + bytes > first + room)
        return refuse(std::string(call) + ": " + std::to_string(bytes) +
                      " bytes are not inside a block");
    return (uintptr_t)p % size_of(dtype) ? refuse(std::string(call) + ": alignment") : NCCL_DONE;
}

/* What every call begins with. */
int check(const char *call, const void *comm, void *stream, size_t n) {
    record(call, n);
    if (fails(call)) return SYSTEM_ERROR;
    if (comm != &world) return refuse(std::string(call) + ": there is no such communicator");
    if (stream != work_stream) return refuse(std::string(call) + ": not on the stream of the rest");
    return NCCL_DONE;
}

bool overlap(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    return a < b + b_bytes && b < a + a_bytes;
}

/* ---- moving ---- */

std::vector<char> take(const void *p, size_t bytes) {
    std::vector<char> copy(bytes);
    now([&] { std::memcpy(copy.data(), p, bytes); });
    return copy;
}

void put(void *p, const std::vector<char> &copy) {
    now([&] { std::memcpy(p, copy.data(), copy.size()); });
}

int add(const char *call, const void *pointer, size_t n, int dtype, int peer, void *comm,
        void *stream, bool sent) {
    char *p = (char *)(uintptr_t)pointer;
    plant(call, &p, &n, &peer, &stream);
    int status = check(call, comm, stream, n);
    if (!status) status = check_inside(call, p, n * size_of(dtype), dtype);
    if (status) return status;
    if (!groups)
        return refuse(std::string(call) + ": outside a group, where it would wait for ever");
    if (peer < 0 || peer >= count) return refuse(std::string(call) + ": there is no such rank");
    for (const transfer &t : group)
        if ((!sent || !t.sent) && overlap(p, n * size_of(dtype), t.p, t.bytes))
            return refuse(std::string(call) + ": over what is received or sent beside it");
    group.push_back({p, n * size_of(dtype), peer, sent, std::vector<char>(n * size_of(dtype))});
    if (sent) group.back().copy = take(p, n * size_of(dtype));
    return NCCL_DONE;
}

/* Everyone's lengths first: what does not go together is refused on all ranks, and none waits. */
int check_lengths() {
    std::vector<int64_t> mine(2 * (size_t)count), all(mine.size() * (size_t)count);
    for (const transfer &t : group)
        mine[(size_t)(t.sent ? t.peer : count + t.peer)] += (int64_t)t.bytes;
    MPI_Allgather(mine.data(), 2 * count, MPI_INT64_T, all.data(), 2 * count, MPI_INT64_T, world);
    for (int from = 0; from < count; from++)
        for (int to = 0; to < count; to++)
            if (all[(size_t)(from * 2 * count + to)] !=
                all[(size_t)(to * 2 * count + count + from)])
                return refuse("a rank sends what another one does not expect");
    return NCCL_DONE;
}

/* The same of a call that all ranks make. */
int check_alike(const char *call, size_t n) {
    int64_t ends[2] = {(int64_t)n, -(int64_t)n};
    MPI_Allreduce(MPI_IN_PLACE, ends, 2, MPI_INT64_T, MPI_MIN, world);
    return ends[0] == -ends[1] ? NCCL_DONE : refuse(std::string(call) + ": lengths differ");
}

} // namespace

/* ---- the entry points ------------------------------------------------------------------------------ */

EXPORTED nccl_attend_fn nccl_attend;
void nccl_attend(bool (*f)(const void *, const char **, size_t *),
                 void (*work)(std::function<void()>), void *stream) {
    block_of = f;
    now = work;
    work_stream = stream;
}

EXPORTED int ncclGetVersion(int *number) {
    *number = 20000;
    return NCCL_DONE;
}
EXPORTED const char *ncclGetErrorString(int status) {
    return status == SYSTEM_ERROR ? "unhandled system error" : "invalid usage";
}
EXPORTED const char *ncclGetLastError(void *) { return last.c_str(); }

EXPORTED int ncclGetUniqueId(nccl_id *id) {
    std::memset(id->bytes, 7, sizeof id->bytes);
    std::memcpy(id->bytes, MARK, sizeof MARK);
    return NCCL_DONE;
}

EXPORTED int ncclCommInitRank(void **comm, int size, nccl_id id, int rank) {
    nccl_id made;
    ncclGetUniqueId(&made);
    MPI_Comm_dup(MPI_COMM_WORLD, &world);
    MPI_Comm_rank(world, &own);
    MPI_Comm_size(world, &count);
    record("join", (size_t)size);
    if (fails("join")) return SYSTEM_ERROR;
    if (rank != own || size != count) return refuse("join: not the ranks of the job");
    if (std::memcmp(&made, &id, sizeof id)) return refuse("join: not the id that was made");
    *comm = &world;
    return NCCL_DONE;
}

EXPORTED int ncclGroupStart(void) {
    groups++;
    return NCCL_DONE;
}

EXPORTED int ncclGroupEnd(void) {
    if (groups != 1) return refuse("a group ends that was not begun, or that is in another");
    groups = 0;
    const int status = check_lengths();
    std::vector<MPI_Request> requests;
    for (transfer &t : group) {
        if (status) break;
        requests.emplace_back();
        if (t.sent)
            MPI_Isend(t.copy.data(), (int)t.bytes, MPI_BYTE, t.peer, 0, world, &requests.back());
        else MPI_Irecv(t.copy.data(), (int)t.bytes, MPI_BYTE, t.peer, 0, world, &requests.back());
    }
    MPI_Waitall((int)requests.size(), requests.data(), MPI_STATUSES_IGNORE);
    for (const transfer &t : group)
        if (!t.sent && !status) put(t.p, t.copy);
    group.clear();
    return status;
}

EXPORTED int ncclSend(const void *p, size_t n, int dtype, int peer, void *comm, void *stream) {
    return add("send", p, n, dtype, peer, comm, stream, true);
}
EXPORTED int ncclRecv(void *p, size_t n, int dtype, int peer, void *comm, void *stream) {
    return add("receive", p, n, dtype, peer, comm, stream, false);
}

EXPORTED int ncclAllGather(const void *from, void *to, size_t n, int dtype, void *comm,
                           void *stream) {
    char *all = (char *)to;
    plant("all_gather", &all, &n, nullptr, &stream);
    const size_t bytes = n * size_of(dtype), every = bytes * (size_t)count;
    int status = check("all_gather", comm, stream, n);
    if (!status) status = check_inside("all_gather", (const char *)from, bytes, dtype);
    if (!status) status = check_inside("all_gather", all, every, dtype);
    if (!status && from != all + (size_t)own * bytes &&
        overlap((const char *)from, bytes, all, every))
        status = refuse("all_gather: a rank's own numbers are elsewhere in the result");
    if (!status) status = check_alike("all_gather", n);
    if (status) return status;
    const std::vector<char> sent = take(from, bytes);
    std::vector<char> got(every);
    MPI_Allgather(sent.data(), (int)bytes, MPI_BYTE, got.data(), (int)bytes, MPI_BYTE, world);
    put(all, got);
    return NCCL_DONE;
}

EXPORTED int ncclBroadcast(const void *from, void *to, size_t n, int dtype, int root, void *comm,
                           void *stream) {
    char *p = (char *)to;
    plant("broadcast", &p, &n, &root, &stream);
    int status = check("broadcast", comm, stream, n);
    if (!status) status = check_inside("broadcast", p, n * size_of(dtype), dtype);
    if (!status && from != to && own == root) status = refuse("broadcast: not in place");
    if (!status && root) status = refuse("broadcast: not from rank 0");
    if (!status) status = check_alike("broadcast", n);
    if (status) return status;
    std::vector<char> copy = take(p, n * size_of(dtype));
    MPI_Bcast(copy.data(), (int)copy.size(), MPI_BYTE, root, world);
    put(p, copy);
    return NCCL_DONE;
}

EXPORTED int ncclCommGetAsyncError(void *comm, int *status) {
    *status = comm == &world && fails("state") ? SYSTEM_ERROR : (int)NCCL_DONE;
    return NCCL_DONE;
}
EXPORTED int ncclCommAbort(void *) {
    record("abort", 0);
    return NCCL_DONE;
}
