/* table.c - the CPU's row of the kernel table. */
#include "cpu/cpu.h"

const struct lc_kernels lc_cpu_kernels = {
    .name = "cpu",
    .alloc = cpu_alloc,
    .free = cpu_free,
    .upload = cpu_copy,
    .download = cpu_copy,
    .fill = cpu_fill,
    .convert = cpu_convert,
    .gather = cpu_gather,
    .scatter = cpu_scatter,
    .put_rows = cpu_put_rows,
    .randn = cpu_randn,
    .rand = cpu_rand,
    .gemm = cpu_gemm,
    .attention = cpu_attention,
    .attention_backward = cpu_attention_backward,
};
