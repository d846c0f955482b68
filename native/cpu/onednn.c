/* onednn.c - another library's matrix products, for lucid bench to compare with. libdnnl of version 2 is opened when
 * it is asked for, and nothing else is done with it. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

/* ---- its C interface ---- */

/* Descriptors are filled by the library; these have room for those of every 2.x. */
typedef struct {
    int64_t words[128];
} memory_desc;
typedef struct {
    int64_t words[640];
} matmul_desc;
typedef struct {
    int arg;
    void *memory;
} exec_arg;
typedef struct {
    int major, minor, patch;
} version;

enum {
    CPU = 1,
    IN_ORDER = 1,
    BF16 = 2,
    F32 = 3,
    ANY_LAYOUT = 1,
    QUERY_NAME = 8,
    QUERY_WEIGHTS = 131
};
enum { SRC = 1, DST = 17, WEIGHTS = 33 };
#define ALLOCATE ((void *)-1) /* the library makes the memory itself */

static struct {
    const version *(*version)(void);
    int (*engine_create)(void **engine, int kind, size_t index);
    int (*stream_create)(void **stream, void *engine, unsigned flags);
    int (*stream_wait)(void *stream);
    int (*desc_by_strides)(memory_desc *d, int ndims, const int64_t *dims, int dtype,
                           const int64_t *strides);
    int (*desc_by_tag)(memory_desc *d, int ndims, const int64_t *dims, int dtype, int tag);
    int (*matmul_desc)(matmul_desc *d, const memory_desc *a, const memory_desc *b,
                       const memory_desc *bias, const memory_desc *c);
    int (*pd_create)(void **pd, const void *op, const void *attr, void *engine, const void *hint);
    int (*pd_query)(const void *pd, int what, int index, void *result);
    const memory_desc *(*pd_query_md)(const void *pd, int what, int index);
    int (*pd_destroy)(void *pd);
    int (*reorder_create)(void **pd, const memory_desc *from, void *from_engine,
                          const memory_desc *to, void *to_engine, const void *attr);
    int (*primitive_create)(void **p, const void *pd);
    int (*primitive_destroy)(void *p);
    int (*execute)(const void *p, void *stream, int count, const exec_arg *args);
    int (*memory_create)(void **m, const memory_desc *d, void *engine, void *data);
    int (*memory_destroy)(void *m);
    void *handle, *engine, *stream;
} dnnl;

static const struct {
    const char *name;
    void *to;
} symbols[] = {
    {"dnnl_version", &dnnl.version},
    {"dnnl_engine_create", &dnnl.engine_create},
    {"dnnl_stream_create", &dnnl.stream_create},
    {"dnnl_stream_wait", &dnnl.stream_wait},
    {"dnnl_memory_desc_init_by_strides", &dnnl.desc_by_strides},
    {"dnnl_memory_desc_init_by_tag", &dnnl.desc_by_tag},
    {"dnnl_matmul_desc_init", &dnnl.matmul_desc},
    {"dnnl_primitive_desc_create", &dnnl.pd_create},
    {"dnnl_primitive_desc_query", &dnnl.pd_query},
    {"dnnl_primitive_desc_query_md", &dnnl.pd_query_md},
    {"dnnl_primitive_desc_destroy", &dnnl.pd_destroy},
    {"dnnl_reorder_primitive_desc_create", &dnnl.reorder_create},
    {"dnnl_primitive_create", &dnnl.primitive_create},
    {"dnnl_primitive_destroy", &dnnl.primitive_destroy},
    {"dnnl_primitive_execute", &dnnl.execute},
    {"dnnl_memory_create", &dnnl.memory_create},
    {"dnnl_memory_destroy", &dnnl.memory_destroy},
};

static int open_library(void) {
    if (dnnl.stream) return 0;
    if (!dnnl.handle) dnnl.handle = dlopen("libdnnl.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!dnnl.handle)
        return lc_fail(LC_EMISSING,
                       "onednn: there is no libdnnl.so.2 to compare with (Debian: libdnnl2)");
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        void *found = dlsym(dnnl.handle, symbols[i].name);
        if (!found) return lc_fail(LC_EMISSING, "onednn: libdnnl.so.2 has no %s", symbols[i].name);
        memcpy(symbols[i].to, &found, sizeof found);
    }
    if ((!dnnl.engine && dnnl.engine_create(&dnnl.engine, CPU, 0)) ||
        dnnl.stream_create(&dnnl.stream, dnnl.engine, IN_ORDER))
        return lc_fail(LC_EMISSING, "onednn: the library has no CPU engine here");
    return 0;
}

/* ---- a product ---- */

struct lc_onednn {
    void *data[3], *memory[4], *desc, *primitive;
    exec_arg args[3];
    char name[96];
};

void lc_onednn_free(lc_onednn *p) {
    if (!p) return;
    for (int i = 0; i < 4; i++)
        if (p->memory[i]) dnnl.memory_destroy(p->memory[i]);
    if (p->primitive) dnnl.primitive_destroy(p->primitive);
    if (p->desc) dnnl.pd_destroy(p->desc);
    for (int i = 0; i < 3; i++) lc_free(p->data[i]);
    lc_free(p);
}

/* rows x cols numbers between -0.5 and 0.5, nothing that a processor has to work harder for. */
static void *numbers(int64_t rows, int64_t cols, int dtype) {
    const size_t n = (size_t)rows * (size_t)cols, size = dtype == LC_F32 ? 4 : 2;
    char *data = lc_alloc(n * size);
    uint32_t state = 1;
    for (size_t i = 0; data && i < n; i++) {
        state = state * 1664525u + 1013904223u;
        const float value = (float)(state >> 8) / (float)(1 << 24) - 0.5f;
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        const uint16_t upper = (uint16_t)(bits >> 16);
        if (dtype == LC_F32) memcpy(data + i * size, &bits, size);
        else memcpy(data + i * size, &upper, size);
    }
    return data;
}

static int describe(memory_desc *d, int64_t rows, int64_t cols, int dtype, int crossed) {
    const int64_t dims[] = {rows, cols}, strides[] = {crossed ? 1 : cols, crossed ? rows : 1};
    return dnnl.desc_by_strides(d, 2, dims, dtype == LC_F32 ? F32 : BF16, strides);
}

/* The weights in the layout that the primitive prefers: another memory beside the plain one. */
static int pack(lc_onednn *p, const memory_desc *plain) {
    const memory_desc *packed = dnnl.pd_query_md(p->desc, QUERY_WEIGHTS, 0);
    void *desc = NULL, *move = NULL;
    int failed = dnnl.memory_create(&p->memory[3], packed, dnnl.engine, ALLOCATE) ||
                 dnnl.reorder_create(&desc, plain, dnnl.engine, packed, dnnl.engine, NULL) ||
                 dnnl.primitive_create(&move, desc);
    if (!failed) {
        const exec_arg args[] = {{SRC, p->memory[1]}, {DST, p->memory[3]}};
        failed = dnnl.execute(move, dnnl.stream, 2, args) || dnnl.stream_wait(dnnl.stream);
    }
    if (move) dnnl.primitive_destroy(move);
    if (desc) dnnl.pd_destroy(desc);
    return failed;
}

static int build(lc_onednn *p, int64_t m, int64_t n, int64_t k, int dtype, int a_crossed,
                 int b_crossed, int packed) {
    memory_desc a, b, c, wanted;
    matmul_desc op;
    const int64_t weights[] = {k, n};
    if (describe(&a, m, k, dtype, a_crossed) || describe(&b, k, n, dtype, b_crossed) ||
        describe(&c, m, n, dtype, 0))
        return -1;
    wanted = b;
    if (packed && dnnl.desc_by_tag(&wanted, 2, weights, dtype == LC_F32 ? F32 : BF16, ANY_LAYOUT))
        return -1;
    if (dnnl.matmul_desc(&op, &a, &wanted, NULL, &c) ||
        dnnl.pd_create(&p->desc, &op, NULL, dnnl.engine, NULL) ||
        dnnl.primitive_create(&p->primitive, p->desc))
        return -1;
    const memory_desc *all[] = {&a, &b, &c};
    for (int i = 0; i < 3; i++)
        if (dnnl.memory_create(&p->memory[i], all[i], dnnl.engine, p->data[i])) return -1;
    if (packed && pack(p, &b)) return -1;
    p->args[0] = (exec_arg){SRC, p->memory[0]};
    p->args[1] = (exec_arg){WEIGHTS, p->memory[packed ? 3 : 1]};
    p->args[2] = (exec_arg){DST, p->memory[2]};
    const char *implementation = "";
    dnnl.pd_query(p->desc, QUERY_NAME, 0, &implementation);
    const version *v = dnnl.version();
    snprintf(p->name, sizeof p->name, "oneDNN %d.%d.%d, %s", v->major, v->minor, v->patch,
             implementation);
    return 0;
}

lc_onednn *lc_onednn_new(int64_t m, int64_t n, int64_t k, int dtype, int a_crossed, int b_crossed,
                         int packed) {
    if (dtype != LC_F32 && dtype != LC_BF16)
        return lc_fail_null(LC_EINVAL, "onednn: products are f32 or bf16");
    if (open_library() < 0) return NULL;
    lc_onednn *p = lc_alloc_zero(sizeof *p);
    if (!p) return NULL;
    p->data[0] = numbers(m, k, dtype);
    p->data[1] = numbers(k, n, dtype);
    p->data[2] = numbers(m, n, dtype);
    const int full = p->data[0] && p->data[1] && p->data[2];
    if (full && !build(p, m, n, k, dtype, a_crossed, b_crossed, packed)) return p;
    lc_onednn_free(p);
    if (full)
        lc_fail(LC_EMISSING, "onednn: it has no %s product of this kind here",
                lc_dtype_name(dtype));
    return NULL;
}

int lc_onednn_run(lc_onednn *p) {
    if (dnnl.execute(p->primitive, dnnl.stream, 3, p->args) || dnnl.stream_wait(dnnl.stream))
        return lc_fail(LC_EINVAL, "onednn: the product failed");
    return 0;
}

const char *lc_onednn_name(const lc_onednn *p) { return p->name; }
