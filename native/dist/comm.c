/* comm.c - the processes of a job: sums, broadcasts and small messages among them. Where no job was
 * joined there is one process, and every call is done as soon as it is made. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/plugin.h"
#include "dist/plugin.h"
#include "tensor/device.h"
#include "tensor/tensor.h"

static struct lc_comm comm; /* zeros until a job is joined */
static int own, count = 1, local = 1;

/* ---- joining ------------------------------------------------------------------------------------- */

static int open_plugin(struct lc_comm *out) {
    lc_comm_open_fn *fill = (lc_comm_open_fn *)(uintptr_t)lc_plugin(
        "liblucid_mpi.so", "lc_comm_open", "several processes", "MPI",
        "libopenmpi-dev and openmpi-bin");
    static const struct lc_comm_host host = {lc_fail, lc_alloc, lc_free};
    if (!fill) return -1;
    if (fill(LC_COMM_VERSION, &host, out) < 0)
        return lc_fail(LC_EMISSING, "liblucid_mpi.so is of another version; run make");
    return 0;
}

/* A process that ends well waits for the others' end; one that fails ends them, too: they would wait
 * for it for ever. */
static void at_exit(int status, void *unused) {
    (void)unused;
    if (status) comm.abort(status);
    else comm.leave();
}

int lc_comm_join(void) {
    if (comm.join) return 0;
    struct lc_comm c;
    if (open_plugin(&c) < 0 || c.join(&own, &count, &local) < 0) return -1;
    comm = c;
    on_exit(at_exit, NULL);
    return 0;
}

int lc_comm_rank(void) { return own; }
int lc_comm_size(void) { return count; }
int lc_comm_local(void) { return local; }

/* Processes of a job mostly fail alike. Each waits for those before it, whose abort is its own end. */
void lc_comm_turn(void) {
    const char *word = getenv("OMPI_COMM_WORLD_RANK");
    int rank = comm.join ? own : word ? atoi(word) : 0;
    struct timespec pause = {rank < 0 ? 0 : rank < 5 ? 2 * rank : 10, 0};
    if (nanosleep(&pause, NULL) < 0)
        sleep(5); /* mpirun ends the job: its second signal comes soon */
}

/* ---- together ------------------------------------------------------------------------------------ */

/* Calls change(bytes of t on the host, elements, bytes) and brings what is new there back to t. NULL: there is one
 * process, and what lies on a device is not waited for. */
static int in_place(const char *call, lc_tensor *t, int dtype,
                    int (*change)(void *data, int64_t n, size_t bytes)) {
    if (!lc_usable(call, t)) return -1;
    if (t->dtype != dtype || !lc_tensor_dense(t))
        return lc_fail(LC_EINVAL, "%s: %s; a dense tensor of %s is expected", call,
                       lc_shape_text(t), lc_dtype_name(dtype));
    if (!change) return 0;
    int before = lc_pool();
    lc_tensor *host = lc_tensor_on(t, LC_HOST);
    const int64_t n = lc_tensor_count(t);
    int done = host ? change(lc_data(host), n, (size_t)n * lc_dtype_bytes(dtype)) : -1;
    if (!done && host != t) done = lc_tensor_copy(t, host);
    lc_tensor_changed(t);
    lc_pool_end(before, NULL);
    return done;
}

static int sum_bytes(void *data, int64_t n, size_t bytes) {
    (void)bytes;
    return comm.sum(data, n);
}

static int broadcast_bytes(void *data, int64_t n, size_t bytes) {
    (void)n;
    return comm.broadcast(data, bytes);
}

int lc_comm_sum(lc_tensor *t) { return in_place("sum", t, LC_F32, comm.sum ? sum_bytes : NULL); }

int lc_comm_broadcast(lc_tensor *t) {
    return t ? in_place("broadcast", t, t->dtype, comm.broadcast ? broadcast_bytes : NULL) : -1;
}

int lc_comm_barrier(void) { return comm.barrier ? comm.barrier() : 0; }

int64_t lc_comm_take(void) {
    if (comm.take) return comm.take();
    return lc_fail(LC_EINVAL, "take: there is one process; it needs no numbers");
}

char *lc_comm_gather(const char *data, size_t n, int64_t *lengths) {
    char *all;
    if (comm.gather) return comm.gather(data, (int64_t)n, lengths, &all) < 0 ? NULL : all;
    all = lc_alloc(n + 1);
    if (!all) return NULL;
    memcpy(all, data, n);
    all[n] = 0;
    lengths[0] = (int64_t)n;
    return all;
}
