/* attention_decode.cu - attention of one query row per live leaf, on tensor cores.
 *
 * A block is a chunk item (128 path keys and the leaves that have the same rows there) and a key
 * head. The item's pairs of leaf and head are the 16 rows of the left operand, so keys and values
 * that leaves share are read once; each warp takes 32 of the keys. What a chunk adds to a pair
 * (output, maximum, sum) goes to memory, and a second kernel adds a pair's chunks in their order.
 * Chunks lie at fixed path positions: neither the number of leaves nor who shares a chunk changes
 * the bits of a row.
 *
 * Reads 2 * 128 * d numbers of keys and values an item, all asked for at once. */
#include "cuda/attention.cuh"

namespace {

/* The pairs of an item and a group. */
struct pairs {
    int32_t tile, heads_at, share, n;
};

LC_DEVICE int32_t row_of_pair(const struct attention_call &c, const struct pairs &p, int x) {
    return c.tiles[p.tile + x / p.share].q0;
}
LC_DEVICE int head_of_pair(const struct pairs &p, int x) { return p.heads_at + x % p.share; }

template <typename T, int d>
LC_DEVICE void load_pairs(const struct attention_call &c, const struct pairs &p,
                          unsigned char *to) {
    typedef tile<T, d> tile;
    for (int i = (int)threadIdx.x; i < CHUNK_PAIRS * tile::CHUNKS; i += THREADS) {
        const int x = i / tile::CHUNKS, chunk = i % tile::CHUNKS;
        const bool there = x < p.n && chunk * 8 < d;
        const T *from = (const T *)c.q;
        if (there) from += row_of_pair(c, p, x) * c.q_row + head_of_pair(p, x) * d + chunk * 8;
        cp_async(to + tile::at(x, chunk), from, there);
    }
}

/* Where chunk i of a pair is: output [d], maximum (base 2), sum. */
LC_DEVICE float *part_at(const struct attention_call &c, int64_t row, int head, int i) {
    return c.part + ((row * c.heads + head) * c.chunks + i) * (c.d + 2);
}

template <typename T, int d>
__global__ void __launch_bounds__(THREADS) attention_chunk_kernel(const struct attention_call c) {
    typedef tile<T, d> tile;
    enum { ROWS = CHUNK / WARPS, COLUMNS = ROWS / 8 }; /* keys of a warp, and fragments of them */
    LC_SHARED_DYNAMIC(memory);
    LC_SHARED(int32_t, row_of, [CHUNK]);
    LC_SHARED(float, tops, [WARPS][CHUNK_PAIRS]);
    LC_SHARED(float, totals, [WARPS][CHUNK_PAIRS]);
    unsigned char *const keys = memory, *const values = memory + 2 * tile::BYTES,
                         *const queries = memory + 4 * tile::BYTES;
    float *const outputs =
        (float *)(void *)keys; /* [WARPS][CHUNK_PAIRS][WIDTH] when keys are used */
    const struct chunk_item item = c.items[blockIdx.x / (unsigned)c.groups];
    const int group = (int)(blockIdx.x % (unsigned)c.groups), lane = lane_id(), warp = warp_id();
    const struct pairs p = {item.tile, group * c.share, c.share, item.tiles * c.share};
    const int32_t at = item.chunk * CHUNK;
    const struct lc_query_tile own = c.tiles[item.tile];
    int32_t most = 0; /* of the keys of the chunk that a pair sees */
    for (int x = 0; x < item.tiles; x++) {
        const struct lc_query_tile t = c.tiles[item.tile + x];
        most = max(most, path_seen(c.ranges, &t, t.q0) - at);
    }
    {
        struct spans_cursor cursor = {own.r0, own.r1, 0};
        const int32_t key = (int32_t)threadIdx.x;
        row_of[key] = key < most ? spans_row(c.ranges, &cursor, at + key) : -1;
    }
    load_pairs<T, d>(c, p, queries);
    __syncthreads();
    load_rows<T, d>(keys, c.k, c.k_row, group * d, CHUNK, [&](int row) { return row_of[row]; });
    cp_async_commit();
    load_rows<T, d>(values, c.v, c.v_row, group * d, CHUNK, [&](int row) { return row_of[row]; });
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads(); /* queries and keys are here */

    float s[1][COLUMNS][4], o[1][tile::CHUNKS][4];
    LC_UNROLL
    for (int i = 0; i < tile::CHUNKS * 4; i++) o[0][i / 4][i % 4] = 0;
    multiply_rows<T, d>(s, queries, 0, keys + warp * ROWS * tile::ROW_BYTES);
    LC_UNROLL
    for (int half = 0; half < 2; half++) {
        const int x = half * 8 + lane / 4;
        int32_t seen = 0;
        float top = -INFINITY, sum = 0;
        if (x < p.n) {
            const struct lc_query_tile t = c.tiles[p.tile + x / p.share];
            seen = path_seen(c.ranges, &t, t.q0) - at - warp * ROWS;
        }
        LC_UNROLL
        for (int i = 0; i < COLUMNS * 2; i++) {
            float &score = s[0][i / 2][half * 2 + i % 2];
            score = i / 2 * 8 + lane % 4 * 2 + i % 2 < seen ? score * c.scale2 : -INFINITY;
            top = fmaxf(top, score);
        }
        top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 1));
        top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 2));
        const float base = top == -INFINITY ? 0 : top;
        LC_UNROLL
        for (int i = 0; i < COLUMNS * 2; i++) {
            float &score = s[0][i / 2][half * 2 + i % 2];
            score = fast_exp2(score - base);
            sum += score;
        }
        sum += __shfl_xor_sync(ALL_LANES, sum, 1);
        sum += __shfl_xor_sync(ALL_LANES, sum, 2);
        if (lane % 4 == 0) {
            tops[warp][x] = top;
            totals[warp][x] = sum;
        }
    }
    cp_async_wait<0>();
    __syncthreads(); /* values, maxima and sums are here, the keys are used */
    add_product<T, d>(o, s, values + warp * ROWS * tile::ROW_BYTES);
    LC_UNROLL
    for (int i = 0; i < tile::CHUNKS * 4; i++) {
        const int x = i % 4 / 2 * 8 + lane / 4, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
        outputs[(warp * CHUNK_PAIRS + x) * tile::WIDTH + column] = o[0][i / 4][i % 4];
    }
    __syncthreads();
    for (int i = (int)threadIdx.x; i < p.n * d;
         i += THREADS) { /* the warps' parts, in their order */
        const int x = i / d, column = i % d;
        float *const to = part_at(c, row_of_pair(c, p, x), head_of_pair(p, x), item.chunk);
        float top = -INFINITY, sum = 0, out = 0;
        for (int w = 0; w < WARPS; w++) top = fmaxf(top, tops[w][x]);
        const float base = top == -INFINITY ? 0 : top;
        for (int w = 0; w < WARPS; w++) {
            const float factor = fast_exp2(tops[w][x] - base);
            out += outputs[(w * CHUNK_PAIRS + x) * tile::WIDTH + column] * factor;
            sum += totals[w][x] * factor;
        }
        to[column] = out;
        if (column == 0) {
            to[d] = top;
            to[d + 1] = sum;
        }
    }
}

/* One warp a pair: its chunks in their order. */
template <typename T, int d>
__global__ void __launch_bounds__(THREADS) attention_merge_kernel(const struct attention_call c) {
    const int64_t pair = (int64_t)blockIdx.x * WARPS + warp_id();
    if (pair >= (int64_t)c.tile_count * c.heads) return;
    const struct lc_query_tile t = c.tiles[pair / c.heads];
    const int head = (int)(pair % c.heads), lane = lane_id();
    const int32_t seen = path_seen(c.ranges, &t, t.q0), chunks = (seen + CHUNK - 1) / CHUNK;
    const float *const parts = part_at(c, t.q0, head, 0);
    float top = -INFINITY, sum = 0, out[(d + WARP - 1) / WARP] = {};
    for (int i = 0; i < chunks; i++) top = fmaxf(top, parts[i * (d + 2) + d]);
    const float base = top == -INFINITY ? 0 : top;
    for (int i = 0; i < chunks; i++) {
        const float *const part = parts + i * (d + 2);
        const float factor = fast_exp2(part[d] - base);
        sum += part[d + 1] * factor;
        LC_UNROLL
        for (int x = 0; x < (d + WARP - 1) / WARP; x++)
            if (x * WARP + lane < d) out[x] += part[x * WARP + lane] * factor;
    }
    const float factor = seen ? 1 / sum : 0;
    LC_UNROLL
    for (int x = 0; x < (d + WARP - 1) / WARP; x++)
        if (x * WARP + lane < d)
            ((T *)c.o)[t.q0 * c.o_row + head * d + x * WARP + lane] =
                from_float<T>(out[x] * factor + 0.0f);
    if (lane == 0) c.lse[head * c.queries + t.q0] = seen ? top * LN2 + logf(sum) : -INFINITY;
}

template <typename T, int d> int launch(const struct attention_call *c) {
    const int shared = 4 * tile<T, d>::BYTES + CHUNK_PAIRS * tile<T, d>::ROW_BYTES;
    const int64_t pairs = (int64_t)c->tile_count * c->heads;
    if (LC_CUDA(cudaFuncSetAttribute(attention_chunk_kernel<T, d>,
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, shared)) < 0)
        return -1;
    if (c->item_count)
        LC_LAUNCH((attention_chunk_kernel<T, d>), (unsigned)(c->item_count * c->groups), THREADS,
                  (size_t)shared, cuda_stream(), *c);
    if (pairs)
        LC_LAUNCH((attention_merge_kernel<T, d>), (unsigned)((pairs + WARPS - 1) / WARPS), THREADS,
                  0, cuda_stream(), *c);
    return LC_CUDA(cudaGetLastError());
}

} // namespace

int attention_decode_launch(const struct attention_call *c, int dtype) {
    return LC_HEAD_SIZES(launch, c, dtype);
}
