/* table.c - the CPU's row of the kernel table. */
#include "cpu/cpu.h"
#include "cpu/gemm.h"

const struct lc_kernels lc_cpu_kernels = {
    .name = "cpu",
#ifdef LC_GEMM_PAIRS
    .fast_dtype = LC_BF16,
#else
    .fast_dtype = LC_F32,
#endif
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
    .unary = cpu_unary,
    .unary_backward = cpu_unary_backward,
    .binary = cpu_binary,
    .binary_backward = cpu_binary_backward,
    .accumulate = cpu_accumulate,
    .rms_norm = cpu_rms_norm,
    .rms_norm_backward = cpu_rms_norm_backward,
    .layer_norm = cpu_layer_norm,
    .layer_norm_backward = cpu_layer_norm_backward,
    .softmax = cpu_softmax,
    .softmax_backward = cpu_softmax_backward,
    .pick_logp = cpu_pick_logp,
    .pick_logp_backward = cpu_pick_logp_backward,
    .argmax = cpu_argmax,
    .quantise = cpu_quantise,
    .sum = cpu_sum,
    .take_rows = cpu_take_rows,
    .add_rows = cpu_add_rows,
    .rope = cpu_rope,
    .patches = cpu_patches,
    .patches_backward = cpu_patches_backward,
    .adamw = cpu_adamw,
    .square_sum = cpu_square_sum,
};
