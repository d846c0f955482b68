/* device.c - which table of kernels serves a device. CUDA's is filled by a plug-in that is opened when a
 * device is first asked for; a process uses one device beside the host. */
#include "tensor/device.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/plugin.h"
#include "cuda/plugin.h"
#include "tensor/tensor.h"

static struct lc_cuda cuda;
static bool opened;
static int started = LC_HOST; /* the device that cuda serves */
static _Thread_local enum lc_memory_tag tag;

const struct lc_kernels *lc_kernels_at(int device) {
    return device == LC_HOST ? &lc_cpu_kernels : &cuda.kernels;
}

const struct lc_kernels *lc_kernels_of(const lc_tensor *t) {
    return lc_kernels_at(t->storage->device);
}

int lc_fast_dtype(int device) { return lc_kernels_at(device)->fast_dtype; }

/* ---- the plug-in ----------------------------------------------------------------------------- */

static enum lc_memory_tag current_tag(void) { return tag; }

/* LUCID_CUDA names another plug-in than the one beside this library. */
static int open_plugin(void) {
    const char *asked = getenv("LUCID_CUDA");
    lc_cuda_open_fn *fill = (lc_cuda_open_fn *)(uintptr_t)lc_plugin(
        asked && *asked ? asked : "liblucid_cuda.so", "lc_cuda_open", "cuda", "CUDA backend",
        "CUDA 12 or newer");
    static const struct lc_cuda_host host = {lc_fail, lc_memory_charge, lc_memory_discharge,
                                             current_tag};
    if (!fill) return -1;
    if (fill(LC_KERNELS_HASH, &host, &cuda) < 0)
        return lc_fail(LC_EMISSING, "cuda: the plug-in is of another version; run make");
    opened = true;
    return 0;
}

int lc_device_nth(int nth) {
    if (!opened && open_plugin() < 0) return 0;
    return nth < cuda.devices() ? nth : 0;
}

int lc_device_start(int device) {
    if (device == LC_HOST || device == started) return 0;
    if (device < 0) return lc_fail(LC_EINVAL, "there is no device %d", device);
    if (started != LC_HOST)
        return lc_fail(LC_EINVAL, "cuda:%d: this process uses cuda:%d; one device is possible",
                       device, started);
    if ((!opened && open_plugin() < 0) || cuda.start(device) < 0) return -1;
    started = device;
    return 0;
}

int lc_device_started(void) { return started; }
const char *lc_device_identity(void) { return started == LC_HOST ? "" : cuda.identity(); }
const struct lc_cuda *lc_device_plugin(void) { return &cuda; }
const char *lc_device_name(int device) {
    return device == LC_HOST || device != started ? "cpu" : cuda.describe();
}

/* ---- memory ---------------------------------------------------------------------------------- */

static const char *const tag_names[LC_MEMORY_TAGS] = {
    "activations", "weights", "adapter", "optimizer", "gradients", "cache", "workspace"};

int lc_device_tag(int next) {
    int before = tag;
    tag = (enum lc_memory_tag)next;
    return before;
}

void lc_device_budget(int64_t bytes) {
    if (started != LC_HOST) cuda.budget(bytes);
}

const char *lc_device_choices(void) { return started == LC_HOST ? "" : cuda.choices(); }

int lc_device_choose(const char *text) { return started == LC_HOST ? 0 : cuda.choose(text); }

void lc_device_tune(int on) {
    if (started != LC_HOST) cuda.tune(on);
}

int lc_device_record(int device) { return device == LC_HOST ? 1 : cuda.record(); }
void *lc_device_recorded(void) { return cuda.recorded(); }
int lc_device_replay(void *recording) { return cuda.replay(recording); }
void lc_device_forget(void *recording) {
    if (recording) cuda.forget(recording);
}

int lc_device_prepare(int device, const struct lc_spans *spans, int dtype, int64_t heads,
                      int64_t groups, int64_t d) {
    return device == LC_HOST ? 1 : cuda.prepare(spans, dtype, heads, groups, d);
}

int64_t lc_device_count(const char *what) {
    const int64_t n = started == LC_HOST ? 0 : cuda.count(what);
    return n >= 0 ? n : lc_fail(LC_EINVAL, "device: there is no count of \"%s\"", what);
}

int64_t lc_device_memory(const char *what) {
    struct lc_cuda_memory m = {0};
    if (started != LC_HOST) cuda.memory(&m);
    const struct {
        const char *name;
        int64_t bytes;
    } totals[] = {{"held", m.held},
                  {"peak", m.peak},
                  {"reserved", m.reserved},
                  {"budget", m.budget},
                  {"largest free", m.largest_free}};
    for (size_t i = 0; i < sizeof totals / sizeof *totals; i++)
        if (!strcmp(what, totals[i].name)) return totals[i].bytes;
    for (int t = 0; t < LC_MEMORY_TAGS; t++)
        if (!strcmp(what, tag_names[t])) return m.tagged[t];
    return lc_fail(LC_EINVAL, "device memory: nothing is known of \"%s\"", what);
}
