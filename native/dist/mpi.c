/* mpi.c - the processes of a job through MPI. Data moves by MPI and is summed here, in the order of the
 * ranks: MPI_Allreduce may choose another order with every size and every number of processes. */
#include <mpi.h>

#include <limits.h>
#include <string.h>

#include "dist/plugin.h"
#include "lucid.h"

enum { SLICE = 1 << 18 }; /* most floats that a rank adds up at a time */

static struct lc_comm_host host;
static int own, count;       /* this rank, all ranks */
static float *ours, *theirs; /* [count][SLICE] each: what is sent, what came */
static MPI_Win tickets;      /* over one number of rank 0's: the next that is taken */

static int fail(const char *what, int code) {
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    MPI_Error_string(code, text, &n);
    return host.fail(LC_EIO, "%s: MPI: %s", what, text);
}

static int join(int *rank, int *size, int *local, int *place) {
    int level, code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level);
    if (code) return fail("join", code);
    MPI_Comm_rank(MPI_COMM_WORLD, &own);
    MPI_Comm_size(MPI_COMM_WORLD, &count);
    MPI_Comm machine;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
    MPI_Comm_size(machine, local);
    MPI_Comm_rank(machine, place);
    MPI_Comm_free(&machine);
    int64_t *next;
    code = MPI_Win_allocate(own ? 0 : sizeof *next, sizeof *next, MPI_INFO_NULL, MPI_COMM_WORLD,
                            (void *)&next, &tickets);
    if (code) return fail("join", code);
    if (!own) *next = 0;
    MPI_Win_lock_all(MPI_MODE_NOCHECK, tickets);
    MPI_Win_sync(tickets);
    MPI_Barrier(MPI_COMM_WORLD);
    *rank = own;
    *size = count;
    return 0;
}

/* Every rank gets its slice of everyone's numbers, adds them up, and gives the sums to all: each number
 * is added once, by one rank, in one order. */
static int sum_chunk(float *x, int n) {
    int slice = (n + count - 1) / count;
    memcpy(ours, x, (size_t)n * sizeof *x);
    memset(ours + n, 0, ((size_t)slice * (size_t)count - (size_t)n) * sizeof *x);
    int code = MPI_Alltoall(ours, slice, MPI_FLOAT, theirs, slice, MPI_FLOAT, MPI_COMM_WORLD);
    if (code) return fail("sum", code);
    for (int rank = 1; rank < count; rank++)
        for (int i = 0; i < slice; i++)
            theirs[i] += theirs[(size_t)rank * (size_t)slice + (size_t)i];
    code = MPI_Allgather(theirs, slice, MPI_FLOAT, ours, slice, MPI_FLOAT, MPI_COMM_WORLD);
    if (code) return fail("sum", code);
    memcpy(x, ours, (size_t)n * sizeof *x);
    return 0;
}

static int sum(float *x, int64_t n) {
    int64_t room = (int64_t)SLICE * count;
    if (room > INT_MAX) room = INT_MAX / count * count;
    if (!ours) ours = host.alloc((size_t)room * sizeof *ours);
    if (ours && !theirs) theirs = host.alloc((size_t)room * sizeof *theirs);
    if (!ours || !theirs) return -1;
    for (int64_t at = 0; at < n; at += room)
        if (sum_chunk(x + at, (int)(n - at < room ? n - at : room)) < 0) return -1;
    return 0;
}

static int broadcast(void *data, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        size_t part = bytes - at < INT_MAX ? bytes - at : INT_MAX;
        int code = MPI_Bcast((char *)data + at, (int)part, MPI_BYTE, 0, MPI_COMM_WORLD);
        if (code) return fail("broadcast", code);
        at += part;
    }
    return 0;
}

static int barrier(void) {
    int code = MPI_Barrier(MPI_COMM_WORLD);
    return code ? fail("barrier", code) : 0;
}

/* Everyone's lengths are known: the same ranks fail for the same reason. */
static int gather_known(const void *data, const int64_t *lengths, int *parts, char **all) {
    int64_t total = 0;
    for (int r = 0; r < count; r++) {
        parts[r] = (int)lengths[r];
        parts[count + r] = (int)total;
        total += lengths[r];
        if (total > INT_MAX) return host.fail(LC_EINVAL, "gather: more than 2 GiB are too many");
    }
    *all = host.alloc((size_t)total + 1);
    if (!*all) return -1;
    (*all)[total] = 0;
    int code = MPI_Allgatherv(data, parts[own], MPI_BYTE, *all, parts, parts + count, MPI_BYTE,
                              MPI_COMM_WORLD);
    if (!code) return 0;
    host.free(*all);
    return fail("gather", code);
}

static int gather(const void *data, int64_t n, int64_t *lengths, char **all) {
    int code = MPI_Allgather(&n, 1, MPI_INT64_T, lengths, 1, MPI_INT64_T, MPI_COMM_WORLD);
    if (code) return fail("gather", code);
    int *parts = host.alloc(2 * (size_t)count * sizeof *parts);
    if (!parts) return -1;
    int done = gather_known(data, lengths, parts, all);
    host.free(parts);
    return done;
}

/* No rank waits for another: who takes does not disturb who computes. */
static int64_t take(void) {
    const int64_t one = 1;
    int64_t number = -1;
    int code = MPI_Fetch_and_op(&one, &number, MPI_INT64_T, 0, 0, MPI_SUM, tickets);
    if (!code) code = MPI_Win_flush(0, tickets);
    return code ? fail("take", code) : number;
}

static void leave(void) {
    MPI_Win_unlock_all(tickets);
    MPI_Win_free(&tickets);
    host.free(ours);
    host.free(theirs);
    ours = theirs = NULL;
    MPI_Finalize();
}

static void abort_job(int status) { MPI_Abort(MPI_COMM_WORLD, status); }

__attribute__((visibility("default"))) lc_comm_open_fn lc_comm_open;

int lc_comm_open(int version, const struct lc_comm_host *from, struct lc_comm *out) {
    if (version != LC_COMM_VERSION) return -1;
    host = *from;
    *out = (struct lc_comm){join, sum, broadcast, barrier, gather, take, leave, abort_job};
    return 0;
}
