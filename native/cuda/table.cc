/* table.cc - the device's row of the kernel table, and the one function that the core looks for. */
#include "cuda/cublas.h"
#include "cuda/launchers.h"

#include <string.h>

static int start(int device) {
    const int64_t bytes = cuda_start(device);
    if (bytes < 0) return -1;
    cuda_memory_start(bytes);
    return 0;
}

extern "C" __attribute__((visibility("default"))) lc_cuda_open_fn lc_cuda_open;

int lc_cuda_open(const char *hash, const struct lc_cuda_host *host, struct lc_cuda *out) {
    if (strcmp(hash, LC_KERNELS_HASH)) return -1;
    cuda_host = *host;
    memset(out, 0, sizeof *out);
    struct lc_kernels *k = &out->kernels;
    k->name = "cuda";
    k->fast_dtype = LC_BF16;
    k->bordered = true;
    k->alloc = cuda_alloc;
    k->free = cuda_free;
    k->upload = cuda_upload;
    k->download = cuda_download;
    k->fill = cuda_fill;
    k->convert = cuda_convert;
    k->gather = cuda_gather;
    k->scatter = cuda_scatter;
    k->put_rows = cuda_put_rows;
    k->put_blocks = cuda_put_blocks;
    k->randn = cuda_randn;
    k->rand = cuda_rand;
    k->gemm = cuda_gemm;
    k->gemm_packed = cuda_gemm_packed;
    k->attention = cuda_attention;
    k->attention_backward = cuda_attention_backward;
    k->unary = cuda_unary;
    k->unary_backward = cuda_unary_backward;
    k->binary = cuda_binary;
    k->binary_backward = cuda_binary_backward;
    k->swiglu = cuda_swiglu;
    k->swiglu_backward = cuda_swiglu_backward;
    k->accumulate = cuda_accumulate;
    k->rms_norm = cuda_rms_norm;
    k->rms_norm_backward = cuda_rms_norm_backward;
    k->layer_norm = cuda_layer_norm;
    k->layer_norm_backward = cuda_layer_norm_backward;
    k->softmax = cuda_softmax;
    k->softmax_backward = cuda_softmax_backward;
    k->pick_logp = cuda_pick_logp;
    k->pick_logp_backward = cuda_pick_logp_backward;
    k->argmax = cuda_argmax;
    k->pack = cuda_pack;
    k->expand = cuda_expand;
    k->sum = cuda_sum;
    k->take_rows = cuda_take_rows;
    k->add_rows = cuda_add_rows;
    k->rope = cuda_rope;
    k->rope_append = cuda_rope_append;
    k->patches = cuda_patches;
    k->patches_backward = cuda_patches_backward;
    k->adamw = cuda_adamw;
    k->square_sum = cuda_square_sum;
    out->devices = cuda_devices;
    out->start = start;
    out->identity = cuda_identity;
    out->describe = cuda_describe;
    out->pin = cuda_pin;
    out->group = {cuda_group_open, cuda_group_id, cuda_group_join, cuda_group_sum,
                  cuda_group_broadcast};
    out->memory = cuda_memory_read;
    out->budget = cuda_memory_budget;
    out->choices = cuda_choices;
    out->choose = cuda_choose;
    out->tune = cuda_tune;
    out->record = cuda_record;
    out->recorded = cuda_recorded;
    out->replay = cuda_replay;
    out->forget = cuda_forget;
    out->prepare = cuda_attention_prepare;
    out->count = cuda_count;
    return 0;
}
