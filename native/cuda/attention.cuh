/* attention.cuh - what the attention kernels share: a call, tiles of rows in shared memory, and
 * products of such tiles.
 *
 * A tile has 64 rows (or more) of one head, d numbers each, in 16-byte chunks. Chunks are placed so
 * that the eight rows of an ldmatrix phase lie in different banks: whole lines of 128 bytes are
 * mixed by XOR with the row, other sizes have an odd number of chunks to a row. Head sizes are
 * filled up to a multiple of 16 with zeros, in shared memory only (88: to 96). */
#ifndef LC_CUDA_ATTENTION_CUH
#define LC_CUDA_ATTENTION_CUH
#include "cuda/common.cuh"
#include "cuda/spans.h"

enum {
    THREADS = 128, /* of a block: 4 warps, each with 16 rows of the left operand or a multiple */
    WARPS = THREADS / WARP,
    KEYS = 64 /* path keys of a step */
};

/* What a decoding launch reads of its step when it begins. */
struct decode_step {
    const struct lc_range *ranges;
    const struct lc_query_tile *tiles;
    const struct chunk_item *items;
    float *part;      /* [queries, heads, chunks, d + 2]: what a chunk adds to a pair */
    int32_t *arrived; /* [queries, groups] chunks of a row that are done; 0 between launches */
    int32_t item_count, chunks; /* chunks: of the longest row */
};

/* One call; all pointers are the device's. Strides count elements. */
struct attention_call {
    const struct lc_range *ranges;
    const struct lc_query_tile *tiles, *blocks;
    const struct key_block *keys;
    const struct decode_step *step; /* decoding, in place of the lists above */
    const void *q, *k, *v, *dout;
    void *o; /* read by the backward */
    void *dq, *dk, *dv;
    float *lse, *delta; /* [heads, queries] */
    int64_t q_row, k_row, v_row, o_row, dq_row, dk_row, queries;
    int32_t block_count, key_count, tile_count;
    int32_t heads, groups, share, d;
    float scale, scale2; /* scale2: in base 2 */
};

/* Starts a kernel for each head size; -1 with lc_error. `dtype` LC_BF16 or LC_F16, d 32, 64, 88, 128. */
int attention_forward_launch(const struct attention_call *c, int dtype, bool wide);
int attention_backward_launch(const struct attention_call *c, int dtype);
int attention_decode_launch(const struct attention_call *c, int dtype);
/* Any dtype, any d up to 256. */
int attention_plain_launch(const struct attention_call *c, int dtype);
int attention_plain_backward_launch(const struct attention_call *c, int dtype);

/* Runs launch<T, d>(c) for the dtype and head size of the call; a test may define it as one of them. */
#ifndef LC_HEAD_SIZES
#define LC_HEAD_SIZES(launch, c, dtype)                                                            \
    ((dtype) == LC_BF16 ? LC_HEAD_SIZE(launch, lc_bf16, c) : LC_HEAD_SIZE(launch, lc_f16, c))
#endif
#define LC_HEAD_SIZE(launch, T, c)                                                                 \
    ((c)->d == 32   ? launch<T, 32>(c)                                                             \
     : (c)->d == 64 ? launch<T, 64>(c)                                                             \
     : (c)->d == 88 ? launch<T, 88>(c)                                                             \
                    : launch<T, 128>(c))

#define LOG2E 1.4426950408889634f
#define LN2 0.6931471805599453f

/* ---- tiles in shared memory ------------------------------------------------------------------ */

template <typename T, int d> struct tile {
    enum {
        WIDTH = (d + 15) / 16 * 16,
        CHUNKS = WIDTH / 8,
        PITCH = CHUNKS == 4 || CHUNKS % 8 == 0 ? CHUNKS : CHUNKS | 1, /* chunks to a row */
        ROW_BYTES = PITCH * 16,
        BYTES = 64 * ROW_BYTES
    };
    static LC_DEVICE int at(int row, int chunk) { /* in bytes */
        const int mixed = CHUNKS == 4       ? chunk ^ (row >> 1 & 3)
                          : CHUNKS % 8 == 0 ? chunk ^ (row & 7)
                                            : chunk;
        return row * ROW_BYTES + mixed * 16;
    }
};

/* Starts the copy of n rows; row i is from + row_of(i) * stride + column, or zeros where row_of(i) < 0. */
template <typename T, int d, typename F>
LC_DEVICE void load_rows(unsigned char *to, const void *from, int64_t stride, int column, int n,
                         F row_of) {
    typedef tile<T, d> tile;
    LC_UNROLL_BY(2) /* registers are short */
    for (int i = (int)threadIdx.x; i < n * tile::CHUNKS; i += THREADS) {
        const int row = i / tile::CHUNKS, chunk = i % tile::CHUNKS;
        const int32_t at = row_of(row);
        const bool there = at >= 0 && chunk * 8 < d;
        const T *place = (const T *)from + (there ? at * stride + (column + chunk * 8) : 0);
        cp_async(to + tile::at(row, chunk), place, there);
    }
}

/* A fragment of 16 rows and 16 columns as the left operand. */
template <typename T, int d>
LC_DEVICE void left_fragment(uint32_t (&a)[4], const unsigned char *rows, int row, int step) {
    const int lane = lane_id();
    ldmatrix(a, rows + tile<T, d>::at(row + lane % 16, step * 2 + lane / 16));
}

/* s [16 m, 8 n] = rows [16 m, d] others^T, others [8 n, d]. A fragment of the others, once loaded,
 * serves all m. */
template <typename T, int d, int m, int n>
LC_DEVICE void multiply_rows(float (&s)[m][n][4], const unsigned char *rows, int row,
                             const unsigned char *others) {
    const int lane = lane_id();
    LC_UNROLL
    for (int i = 0; i < m * n * 4; i++) s[i / 4 / n][i / 4 % n][i % 4] = 0;
    LC_UNROLL_BY(2)
    for (int step = 0; step < tile<T, d>::WIDTH / 16; step++) {
        uint32_t a[m][4];
        LC_UNROLL
        for (int i = 0; i < m; i++) left_fragment<T, d>(a[i], rows, row + i * 16, step);
        LC_UNROLL
        for (int j = 0; j < n; j += 2) {
            uint32_t b[4];
            ldmatrix(b, others + tile<T, d>::at((j + lane / 16) * 8 + lane % 8,
                                                step * 2 + lane / 8 % 2));
            LC_UNROLL
            for (int i = 0; i < m; i++) {
                mma<T>(s[i][j], a[i], b[0], b[1]);
                mma<T>(s[i][j + 1], a[i], b[2], b[3]);
            }
        }
    }
}

/* o [16 m, d] += s [16 m, 8 n] rows [8 n, d] */
template <typename T, int d, int m, int n>
LC_DEVICE void add_product(float (&o)[m][tile<T, d>::CHUNKS][4], const float (&s)[m][n][4],
                           const unsigned char *rows) {
    const int lane = lane_id();
    LC_UNROLL
    for (int step = 0; step < n / 2; step++) {
        uint32_t a[m][4]; /* s as the left operand */
        LC_UNROLL
        for (int i = 0; i < m; i++) LC_UNROLL
        for (int x = 0; x < 4; x++) {
            const float *two = &s[i][2 * step + x / 2][x % 2 * 2];
            a[i][x] = pack_two<T>(two[0], two[1]);
        }
        LC_UNROLL
        for (int j = 0; j < tile<T, d>::CHUNKS; j += 2) {
            uint32_t b[4];
            ldmatrix_trans(b, rows + tile<T, d>::at(step * 16 + lane % 16, j + lane / 16));
            LC_UNROLL
            for (int i = 0; i < m; i++) {
                mma<T>(o[i][j], a[i], b[0], b[1]);
                mma<T>(o[i][j + 1], a[i], b[2], b[3]);
            }
        }
    }
}

/* Stores a warp's 16 rows, times factor[0] (rows g) and factor[1] (rows g + 8), as far as row n of
 * `to`, through the 16 rows of shared memory at `rows` that this warp alone uses. */
template <typename T, int d>
LC_DEVICE void store_rows(T *to, int64_t stride, int n, const float (&o)[tile<T, d>::CHUNKS][4],
                          const float (&factor)[2], unsigned char *rows, int row) {
    typedef tile<T, d> tile;
    const int lane = lane_id();
    __syncwarp();
    LC_UNROLL
    for (int j = 0; j < tile::CHUNKS; j++) LC_UNROLL
    for (int half = 0; half < 2; half++) {
        /* adding 0 makes a -0 of underflow +0 */
        const uint32_t two = pack_two<T>(o[j][2 * half] * factor[half] + 0.0f,
                                         o[j][2 * half + 1] * factor[half] + 0.0f);
        *(uint32_t *)(rows + tile::at(row + half * 8 + lane / 4, j) + lane % 4 * 4) = two;
    }
    __syncwarp();
    for (int i = lane; i < 16 * (d / 8); i += WARP) {
        const int x = i / (d / 8), chunk = i % (d / 8);
        if (row + x < n)
            store_pack(to + (row + x) * stride + chunk * 8,
                       load_pack((const T *)(rows + tile::at(row + x, chunk))));
    }
}

/* ---- what rows see --------------------------------------------------------------------------- */

/* How many path keys row i of a block sees. */
LC_DEVICE int32_t path_seen(const struct lc_range *ranges, const struct lc_query_tile *b,
                            int32_t i) {
    int32_t seen = 0;
    for (int32_t r = b->r0; r < b->r1; r++) seen += spans_seen(&ranges[r], i);
    return seen;
}

/* Finds the rows of 64 path keys at a time: threads below KEYS keep a place on the path each, in shared
 * memory, for registers are short. */
struct row_finder {
    int32_t rows[2][KEYS]; /* of this step and the next; -1 behind the end */
    struct spans_cursor cursor[KEYS];
};

LC_DEVICE void start_rows(struct row_finder *f, const struct lc_query_tile *b) {
    if (threadIdx.x < KEYS) f->cursor[threadIdx.x] = {b->r0, b->r1, 0};
}

/* Path keys [at, at + KEYS), of which those below `end` exist. */
LC_DEVICE void find_rows(struct row_finder *f, const struct lc_range *ranges, int32_t at,
                         int32_t end) {
    if (threadIdx.x >= KEYS) return;
    const int32_t own = at + (int32_t)threadIdx.x;
    f->rows[at / KEYS % 2][threadIdx.x] =
        own < end ? spans_row(ranges, &f->cursor[threadIdx.x], own) : -1;
}

#endif
