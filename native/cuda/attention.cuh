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
    int32_t heads_at_once, groups_at_once; /* see place_of() */
    float scale, scale2;                   /* scale2: in base 2 */
};

/* Starts a kernel for each head size; -1 with lc_error. `dtype` LC_BF16 or LC_F16, d 32, 64, 88, 128. */
int attention_forward_launch(const struct attention_call *c, int dtype, bool wide);
int attention_backward_launch(const struct attention_call *c, int dtype, bool wide);
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
        MIXED = CHUNKS == 4 || CHUNKS == 8 || CHUNKS == 16,
        PITCH = MIXED ? CHUNKS : CHUNKS | 1, /* chunks to a row */
        ROW_BYTES = PITCH * 16,
        BYTES = 64 * ROW_BYTES
    };
    static LC_DEVICE int at(int row, int chunk) { /* in bytes */
        const int mix = !MIXED ? 0 : CHUNKS == 4 ? row >> 1 & 3 : row & 7;
        return row * ROW_BYTES + (chunk ^ mix) * 16;
    }
    /* From a place in chunk 0 or 1 to the one an even number of chunks further on: one instruction. */
    static LC_DEVICE int further(int place, int chunks) {
        return MIXED ? place ^ chunks * 16 : place + chunks * 16;
    }
};

/* Starts the copy of n rows; row i is from + row_of(i) * stride + column, or zeros where row_of(i) < 0.
 * An address is one multiplication of 32-bit numbers: fits() looks at the stride. */
template <typename T, int d, int n, typename F>
LC_DEVICE void load_rows(unsigned char *to, const void *from, int64_t stride, int column,
                         F row_of) {
    typedef tile<T, d> tile;
    enum {
        COLUMNS = THREADS % tile::CHUNKS ? tile::CHUNKS / 3 : tile::CHUNKS,
        APART = THREADS / COLUMNS,
        EACH = n / APART
    };
    static_assert(THREADS % COLUMNS == 0 && n % APART == 0, "a thread keeps to its rows");
    const uint32_t row_bytes = (uint32_t)stride * (uint32_t)sizeof(T);
    const int first = (int)threadIdx.x / COLUMNS, column_of = (int)threadIdx.x % COLUMNS;
    int32_t at[EACH]; /* all are read before a copy, which the compiler moves nothing across */
    LC_UNROLL
    for (int i = 0; i < EACH; i++) at[i] = row_of(first + i * APART);
    LC_UNROLL
    for (int chunk = 0; chunk < tile::CHUNKS; chunk += COLUMNS) {
        const int own = chunk + column_of;
        const char *const place = (const char *)((const T *)from + column + own * 8);
        LC_UNROLL
        for (int i = 0; i < EACH; i++)
            cp_async(to + tile::at(first + i * APART, own),
                     place + (uint64_t)(uint32_t)max(at[i], 0) * row_bytes,
                     at[i] >= 0 && own * 8 < d);
    }
}

/* s [16 m, 8 n] = rows [16 m, d] others^T, others [8 n, d]. A fragment of the others, once loaded,
 * serves all m. `row`, the first of the rows, is a multiple of 16. */
template <typename T, int d, int m, int n>
LC_DEVICE void multiply_rows(float (&s)[m][n][4], const unsigned char *rows, int row,
                             const unsigned char *others) {
    typedef tile<T, d> tile;
    const int lane = lane_id();
    const int left = tile::at(row + lane % 16, lane / 16);
    const int right = tile::at(lane / 16 * 8 + lane % 8, lane / 8 % 2);
    LC_UNROLL
    for (int i = 0; i < m * n * 4; i++) s[i / 4 / n][i / 4 % n][i % 4] = 0;
    LC_UNROLL
    for (int step = 0; step < tile::WIDTH / 16; step++) {
        uint32_t a[m][4];
        LC_UNROLL
        for (int i = 0; i < m; i++)
            ldmatrix(a[i], rows + tile::further(left, step * 2) + i * 16 * tile::ROW_BYTES);
        LC_UNROLL
        for (int j = 0; j < n; j += 2) {
            uint32_t b[4];
            ldmatrix(b, others + tile::further(right, step * 2) + j * 8 * tile::ROW_BYTES);
            LC_UNROLL
            for (int i = 0; i < m; i++) {
                mma<T>(s[i][j], a[i], b[0], b[1]);
                mma<T>(s[i][j + 1], a[i], b[2], b[3]);
            }
        }
    }
}

/* o [16 m, d] += columns [16 step, 16 step + 16) of s times those rows of `rows` */
template <typename T, int d, int m, int n>
LC_DEVICE void add_step(float (&o)[m][tile<T, d>::CHUNKS][4], const float (&s)[m][n][4],
                        const unsigned char *rows, int step) {
    typedef tile<T, d> tile;
    const int lane = lane_id(), right = tile::at(lane % 16, lane / 16);
    uint32_t a[m][4]; /* s as the left operand */
    LC_UNROLL
    for (int i = 0; i < m; i++) LC_UNROLL
    for (int x = 0; x < 4; x++) {
        const float *two = &s[i][2 * step + x / 2][x % 2 * 2];
        a[i][x] = pack_two<T>(two[0], two[1]);
    }
    LC_UNROLL
    for (int j = 0; j < tile::CHUNKS; j += 2) {
        uint32_t b[4];
        ldmatrix_trans(b, rows + tile::further(right, j) + step * 16 * tile::ROW_BYTES);
        LC_UNROLL
        for (int i = 0; i < m; i++) {
            mma<T>(o[i][j], a[i], b[0], b[1]);
            mma<T>(o[i][j + 1], a[i], b[2], b[3]);
        }
    }
}

/* o [16 m, d] += s [16 m, 8 n] rows [8 n, d] */
template <typename T, int d, int m, int n>
LC_DEVICE void add_product(float (&o)[m][tile<T, d>::CHUNKS][4], const float (&s)[m][n][4],
                           const unsigned char *rows) {
    LC_UNROLL
    for (int step = 0; step < n / 2; step++) add_step<T, d>(o, s, rows, step);
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

/* ---- order of work --------------------------------------------------------------------------- */

/* Which of `count` items, and which head (or group), a block has. Blocks start in their order: a few
 * heads at a time, as many as fit into L2 with what their blocks read, all items for these, the
 * longest first. */
struct place {
    int item, head;
};

LC_DEVICE struct place place_of(int count, int heads, int at_once) {
    const int block = (int)blockIdx.x, first = block / (count * at_once) * at_once;
    const int rest = block - first * count, own = min(at_once, heads - first);
    return {rest / own, first + rest % own};
}

/* ---- what rows see --------------------------------------------------------------------------- */

/* What a block of query rows works on, in shared memory: kept through a walk it would cost registers. */
struct query_work {
    int32_t head, q0, n;
    int32_t column; /* where its group begins in rows of keys and values */
};

/* How many path keys row i of a block sees. */
LC_DEVICE int32_t path_seen(const struct lc_range *ranges, const struct lc_query_tile *b,
                            int32_t i) {
    int32_t seen = 0;
    for (int32_t r = b->r0; r < b->r1; r++) seen += spans_seen(&ranges[r], i);
    return seen;
}

/* How many path keys each of a block's rows sees; a warp has 16 m of them, and what it has behind the
 * last is as that. So those of its first and last row are what all of them and any of them see. */
template <int m>
LC_DEVICE void find_seen(int32_t *seen, const struct lc_range *ranges,
                         const struct lc_query_tile *b) {
    const int row = (int)threadIdx.x, n = b->q1 - b->q0;
    if (row >= 64 * m) return;
    seen[row] = row / (16 * m) * (16 * m) < n ? path_seen(ranges, b, b->q0 + min(row, n - 1)) : 0;
}

/* -inf, or another number, for the path keys from `at` on that a row does not see. */
template <int m, int n>
LC_DEVICE void mask(float (&s)[m][n][4], const int32_t *seen, int32_t at, float hidden) {
    LC_UNROLL
    for (int i = 0; i < m * 2; i++) {
        const int32_t last = seen[i / 2 * 16 + i % 2 * 8 + lane_id() / 4] - at - lane_id() % 4 * 2;
        LC_UNROLL
        for (int j = 0; j < n * 2; j++)
            if (j / 2 * 8 + j % 2 >= last) s[i / 2][j / 2][i % 2 * 2 + j % 2] = hidden;
    }
}

/* Finds the rows of n path keys at a time: threads below n keep a place on the path each, in shared
 * memory, for registers are short. */
template <int n> struct row_finder {
    int32_t rows[2][n]; /* of this step and the next; -1 behind the end */
    struct spans_cursor cursor[n];
};

template <int n> LC_DEVICE void start_rows(struct row_finder<n> *f, const struct lc_query_tile *b) {
    if (threadIdx.x < n) f->cursor[threadIdx.x] = {b->r0, b->r1, 0};
}

/* Path keys [at, at + n), of which those below `end` exist. */
template <int n>
LC_DEVICE void find_rows(struct row_finder<n> *f, const struct lc_range *ranges, int32_t at,
                         int32_t end) {
    if (threadIdx.x >= n) return;
    const int32_t own = at + (int32_t)threadIdx.x;
    f->rows[at / n % 2][threadIdx.x] =
        own < end ? spans_row(ranges, &f->cursor[threadIdx.x], own) : -1;
}

#endif
