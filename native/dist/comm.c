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
static int own, count = 1, local = 1, place;

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
    if (open_plugin(&c) < 0 || c.join(&own, &count, &local, &place) < 0) return -1;
    comm = c;
    on_exit(at_exit, NULL);
    return 0;
}

int lc_comm_rank(void) { return own; }
int lc_comm_size(void) { return count; }
int lc_comm_local(void) { return local; }
int lc_comm_place(void) { return place; }

/* Processes of a job mostly fail alike. Each waits for those before it, whose abort is its own end. */
void lc_comm_turn(void) {
    const char *word = getenv("OMPI_COMM_WORLD_RANK");
    int rank = comm.join ? own : word ? atoi(word) : 0;
    struct timespec pause = {rank < 0 ? 0 : rank < 5 ? 2 * rank : 10, 0};
    if (nanosleep(&pause, NULL) < 0)
        sleep(5); /* mpirun ends the job: its second signal comes soon */
}

/* ---- together ------------------------------------------------------------------------------------ */

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

/* ---- tensors --------------------------------------------------------------------------------------- */

enum { PART = 64 << 20 }; /* most bytes of a device's memory that pass the host at a time */

/* Why a process cannot use NCCL, of the first that cannot; 0: all can. -1: that is not known. */
static int without_nccl(char *why, size_t room) {
    const char *own_why = lc_device_plugin()->group.open() ? "" : lc_error();
    int64_t *lengths = lc_alloc((size_t)count * sizeof *lengths);
    char *all = lengths ? lc_comm_gather(own_why, strlen(own_why), lengths) : NULL;
    int rank = 0;
    while (all && rank < count && !lengths[rank]) rank++;
    const bool some = all && rank < count;
    if (some) snprintf(why, room, "%.*s, process %d", (int)lengths[rank], all, rank);
    lc_free(lengths);
    lc_free(all);
    return !all ? -1 : some;
}

/* Joins the processes' devices at the first call: 1, or 0 where they have no NCCL, which the first says. */
static int joined(void) {
    static int state = -1;
    if (state >= 0) return state;
    char id[LC_CUDA_ID_BYTES] = {0}, why[320];
    const struct lc_cuda_group *group = &lc_device_plugin()->group;
    const int lacks = without_nccl(why, sizeof why);
    if (lacks < 0) return -1;
    if (lacks) {
        if (!own)
            fprintf(stderr,
                    "lucid: no NCCL (%s); sums go through the host's memory and MPI, which is "
                    "slow; install libnccl2, or give its file as LUCID_NCCL\n",
                    why);
        return state = 0;
    }
    if ((!own && group->id(id) < 0) || comm.broadcast(id, sizeof id) < 0 ||
        group->join(id, own, count) < 0)
        return -1;
    return state = 1;
}

/* What all processes do to their tensors: to bytes on the host, and to pieces of a device's memory. */
struct change {
    const char *call;
    int (*host)(void *data, size_t bytes);
    int (*device)(const struct lc_cuda_piece *pieces, int n);
};

static int sum_bytes(void *data, size_t bytes) {
    return comm.sum(data, (int64_t)(bytes / sizeof(float)));
}

/* A part's download waits until the part before has left the pinned memory. */
static int over_host(const struct change *change, const struct lc_cuda_piece *p) {
    static char *part;
    const struct lc_cuda *cuda = lc_device_plugin();
    if (!part && !(part = cuda->pin(PART))) return -1;
    for (size_t at = 0, n; at < p->bytes; at += n) {
        n = p->bytes - at < PART ? p->bytes - at : PART;
        char *there = (char *)p->data + at;
        if (cuda->kernels.download(part, there, n) < 0 || change->host(part, n) < 0 ||
            cuda->kernels.upload(there, part, n) < 0)
            return -1;
    }
    return 0;
}

static int each(const struct change *change, const struct lc_cuda_piece *pieces, int n,
                int device) {
    const int group = device == LC_HOST ? 0 : joined();
    if (group < 0) return -1;
    if (group) return change->device(pieces, n);
    for (int i = 0; i < n; i++) {
        const struct lc_cuda_piece *p = &pieces[i];
        if ((device == LC_HOST ? change->host(p->data, p->bytes) : over_host(change, p)) < 0)
            return -1;
    }
    return 0;
}

/* dtype -1: any. */
static int together(const struct change *change, lc_tensor *const *list, int n, int dtype) {
    for (int i = 0; i < n; i++) {
        const lc_tensor *t = list[i];
        if (!lc_usable(change->call, t) || !lc_together(change->call, t, list[0])) return -1;
        if ((dtype >= 0 && t->dtype != dtype) || !lc_tensor_dense(t))
            return lc_fail(LC_EINVAL, "%s: %s; a dense tensor%s%s is expected", change->call,
                           lc_shape_text(t), dtype < 0 ? "" : " of ",
                           dtype < 0 ? "" : lc_dtype_name(dtype));
    }
    if (!comm.join || !n) return 0;
    struct lc_cuda_piece *pieces = lc_alloc((size_t)n * sizeof *pieces);
    if (!pieces) return -1;
    for (int i = 0; i < n; i++)
        pieces[i] = (struct lc_cuda_piece){lc_data(list[i]), (size_t)lc_tensor_count(list[i]) *
                                                                 lc_dtype_bytes(list[i]->dtype)};
    const int done = each(change, pieces, n, lc_tensor_device(list[0]));
    for (int i = 0; i < n; i++) lc_tensor_changed(list[i]);
    lc_free(pieces);
    return done;
}

int lc_comm_sum(lc_tensor *const *list, int n) {
    const struct change sum = {"sum", sum_bytes, lc_device_plugin()->group.sum};
    return together(&sum, list, n, LC_F32);
}

int lc_comm_broadcast(lc_tensor *const *list, int n) {
    const struct change broadcast = {"broadcast", comm.broadcast,
                                     lc_device_plugin()->group.broadcast};
    return together(&broadcast, list, n, -1);
}
