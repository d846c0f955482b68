/* cublas.h - what is used of cuBLASLt. The library is opened at run time, so nothing links it and the
 * emulation is built without its header; gemm.cu compares these numbers with that header's. */
#ifndef LC_CUDA_CUBLAS_H
#define LC_CUDA_CUBLAS_H
#include "cuda/device.h"

enum {
    LT_F32 = 0, /* dtypes */
    LT_F16 = 2,
    LT_BF16 = 14,
    LT_COMPUTE_F32 = 68,
    LT_PLAIN = 0, /* operands as they are stored */
    LT_TRANSPOSED = 1,
    LT_DESC_TRANSPOSE_A = 3, /* of a product */
    LT_DESC_TRANSPOSE_B = 4,
    LT_DESC_EPILOGUE = 7,
    LT_DESC_BIAS = 8,
    LT_EPILOGUE_BIAS = 4,
    LT_LAYOUT_BATCH = 5, /* of a matrix */
    LT_LAYOUT_STRIDE = 6,
    LT_PREFER_WORKSPACE = 1, /* of a search */
    LT_PREFER_REDUCTIONS = 3,
    LT_PREFER_ALIGN_A = 5, /* B, C and D follow */
    LT_ALGO_SPLITS = 2,    /* of an algorithm */
    LT_ALGO_REDUCTION = 3,
    LT_REDUCE_NONE = 0,
    LT_REDUCE_COMPUTE_TYPE = 2
};

struct lt_algo {
    uint64_t word[8];
};
struct lt_candidate {
    struct lt_algo algo;
    size_t workspace;
    int state; /* 0: usable */
    float waves;
    int reserved[4];
};

/* Handles and descriptors are pointers; every call but version returns 0 or a status. Matrices are
 * column-major. */
struct lt {
    size_t (*version)(void);
    int (*create)(void **handle);
    int (*desc_create)(void **desc, int compute, int scale_dtype);
    int (*desc_set)(void *desc, int what, const void *value, size_t bytes);
    int (*desc_destroy)(void *desc);
    int (*layout_create)(void **layout, int dtype, uint64_t rows, uint64_t cols, int64_t ld);
    int (*layout_set)(void *layout, int what, const void *value, size_t bytes);
    int (*layout_destroy)(void *layout);
    int (*prefer_create)(void **preference);
    int (*prefer_set)(void *preference, int what, const void *value, size_t bytes);
    int (*prefer_destroy)(void *preference);
    int (*candidates)(void *handle, void *desc, void *a, void *b, void *c, void *d,
                      void *preference, int most, struct lt_candidate *out, int *count);
    int (*check)(void *handle, void *desc, void *a, void *b, void *c, void *d,
                 const struct lt_algo *algo, struct lt_candidate *out);
    int (*get)(const struct lt_algo *algo, int what, void *value, size_t bytes, size_t *written);
    int (*matmul)(void *handle, void *desc, const void *alpha, const void *a, void *a_layout,
                  const void *b, void *b_layout, const void *beta, const void *c, void *c_layout,
                  void *d, void *d_layout, const struct lt_algo *algo, void *workspace,
                  size_t workspace_bytes, void *stream);
    void *handle;
};

/* The library, opened at the first call; NULL where it is not there, which is said once. */
const struct lt *cuda_lt(void);

#ifdef LC_EMULATED
/* cublasLt_attend, of the library that plays cuBLASLt: how it finds whose memory it is given, and gives the
 * stream its work. */
typedef void lt_attend_fn(bool (*block_of)(const void *, const char **, size_t *),
                          void (*give)(std::function<void()>));
#endif

/* ---- choice.cc: one algorithm for all products of a kind ---- */

/* What products must have in common to share an algorithm. 0: any. */
struct lt_kind {
    int64_t m, n, k;
    bool batched, a_transposed, b_transposed, bias;
    bool padded;          /* k is the most of several: lc_gemm.k_most */
    int a_dtype, c_dtype; /* B's is A's */
    int align;            /* bytes that all operands are aligned to, at most 16 */
};

/* The algorithm of that kind, or NULL: none is chosen yet. */
const struct lt_algo *lt_chosen(const struct lt_kind *kind);
void lt_choose(const struct lt_kind *kind, const struct lt_algo *algo);

/* All choices as text for a later process, which stays until the next call; and back. Lines of another
 * device or library are passed over. The number of choices taken, or -1: the text is broken. */
const char *cuda_choices(void);
int cuda_choose(const char *text);

#endif
