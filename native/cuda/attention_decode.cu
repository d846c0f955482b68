/* attention_decode.cu - attention of one query row per live leaf, on tensor cores.
 *
 * A block is a chunk item (128 path keys and the leaves that have the same rows there) and a key
 * head. The item's pairs of leaf and head are the 16 rows of the left operand, so keys and values
 * that leaves share are read once; each warp takes 32 of the keys. What a chunk adds to a pair
 * (output, maximum, sum) goes to memory. Who brings the last of a row's chunks, which a counter of
 * whole numbers tells, adds them all in their order and leaves the counter at 0 for the next launch.
 * Chunks lie at fixed path positions: neither the number of leaves nor who shares a chunk nor who
 * comes last changes the bits of a row.
 *
 * What differs from step to step is read from the device's memory, and the grid is as large as the
 * device: a launch that was recorded serves a step of any length.
 *
 * Reads 2 * 128 * d numbers of keys and values an item, all asked for at once. */
#include "cuda/attention.cuh"
#include "cuda/device.h"

namespace {

/* The pairs of an item and a group. */
struct pairs {
    int32_t tile, heads_at, share, n;
};

LC_DEVICE int32_t row_of_pair(const struct decode_step &step, const struct pairs &p, int x) {
    return step.tiles[p.tile + x / p.share].q0;
}
LC_DEVICE int head_of_pair(const struct pairs &p, int x) { return p.heads_at + x % p.share; }

template <typename T, int d>
LC_DEVICE void load_pairs(const struct attention_call &c, const struct decode_step &step,
                          const struct pairs &p, unsigned char *to) {
    typedef tile<T, d> tile;
    for (int i = (int)threadIdx.x; i < CHUNK_PAIRS * tile::CHUNKS; i += THREADS) {
        const int x = i / tile::CHUNKS, chunk = i % tile::CHUNKS;
        const bool there = x < p.n && chunk * 8 < d;
        const T *from = (const T *)c.q;
        if (there) from += row_of_pair(step, p, x) * c.q_row + head_of_pair(p, x) * d + chunk * 8;
        cp_async(to + tile::at(x, chunk), from, there);
    }
}

/* Where chunk i of a pair is: output [d], maximum (base 2), sum. */
LC_DEVICE float *part_at(const struct attention_call &c, const struct decode_step &step,
                         int64_t row, int head, int i) {
    return step.part + ((row * c.heads + head) * step.chunks + i) * (c.d + 2);
}

/* One warp: what a pair's chunks, of which there are more than none, add up to. Other blocks have
 * written them, so they are read past this processor's own cache. */
template <typename T, int d>
LC_DEVICE void merge(const struct attention_call &c, const struct decode_step &step, int64_t row,
                     int head, int32_t seen) {
    enum { EACH = (d + WARP - 1) / WARP };
    const int lane = lane_id(), chunks = spans_chunks(seen);
    const float *const parts = part_at(c, step, row, head, 0);
    float top = -INFINITY, sum = 0, out[EACH] = {};
    for (int i = 0; i < chunks; i++) top = fmaxf(top, __ldcg(parts + i * (d + 2) + d));
    const float base = top == -INFINITY ? 0 : top;
    for (int i = 0; i < chunks; i++) {
        const float *const part = parts + i * (d + 2);
        const float factor = fast_exp2(__ldcg(part + d) - base);
        sum += __ldcg(part + d + 1) * factor;
        LC_UNROLL
        for (int x = 0; x < EACH; x++)
            if (x * WARP + lane < d) out[x] += __ldcg(part + x * WARP + lane) * factor;
    }
    const float factor = seen ? 1 / sum : 0;
    LC_UNROLL
    for (int x = 0; x < EACH; x++)
        if (x * WARP + lane < d)
            ((T *)c.o)[row * c.o_row + head * d + x * WARP + lane] =
                from_float<T>(out[x] * factor + 0.0f);
    if (lane == 0) c.lse[head * c.queries + row] = seen ? top * LN2 + logf(sum) : -INFINITY;
}

/* One item of a group. */
template <typename T, int d>
LC_DEVICE void attend_chunk(const struct attention_call &c, const struct decode_step &step,
                            const struct chunk_item &item, int group, unsigned char *memory) {
    typedef tile<T, d> tile;
    enum { ROWS = CHUNK / WARPS, COLUMNS = ROWS / 8 }; /* keys of a warp, and fragments of them */
    LC_SHARED(int32_t, row_of, [CHUNK]);
    LC_SHARED(float, tops, [WARPS][CHUNK_PAIRS]);
    LC_SHARED(float, totals, [WARPS][CHUNK_PAIRS]);
    LC_SHARED(int32_t, complete, [CHUNK_PAIRS]); /* keys that a row sees; -1: chunks are to come */
    unsigned char *const keys = memory, *const values = memory + 2 * tile::BYTES,
                         *const queries = memory + 4 * tile::BYTES;
    float *const outputs =
        (float *)(void *)keys; /* [WARPS][CHUNK_PAIRS][WIDTH] when keys are used */
    const int lane = lane_id(), warp = warp_id();
    const struct pairs p = {item.tile, group * c.share, c.share, item.tiles * c.share};
    const int32_t at = item.chunk * CHUNK;
    const struct lc_query_tile own = step.tiles[item.tile];
    int32_t most = 0; /* of the keys of the chunk that a pair sees */
    for (int x = 0; x < item.tiles; x++) {
        const struct lc_query_tile t = step.tiles[item.tile + x];
        most = max(most, path_seen(step.ranges, &t, t.q0) - at);
    }
    {
        struct spans_cursor cursor = {own.r0, own.r1, 0};
        const int32_t key = (int32_t)threadIdx.x;
        row_of[key] = key < most ? spans_row(step.ranges, &cursor, at + key) : -1;
    }
    load_pairs<T, d>(c, step, p, queries);
    __syncthreads();
    load_rows<T, d, CHUNK>(keys, c.k, c.k_row, group * d, [&](int row) { return row_of[row]; });
    cp_async_commit();
    load_rows<T, d, CHUNK>(values, c.v, c.v_row, group * d, [&](int row) { return row_of[row]; });
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
            const struct lc_query_tile t = step.tiles[p.tile + x / p.share];
            seen = path_seen(step.ranges, &t, t.q0) - at - warp * ROWS;
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
        float *const to = part_at(c, step, row_of_pair(step, p, x), head_of_pair(p, x), item.chunk);
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
    __threadfence();
    __syncthreads(); /* this chunk is in memory */
    if ((int)threadIdx.x < item.tiles) {
        const struct lc_query_tile t = step.tiles[item.tile + (int)threadIdx.x];
        const int32_t seen = path_seen(step.ranges, &t, t.q0);
        int32_t *const arrived = step.arrived + (int64_t)t.q0 * c.groups + group;
        const bool last = atomicAdd(arrived, 1) == spans_chunks(seen) - 1;
        if (last) *arrived = 0;
        __threadfence();
        complete[threadIdx.x] = last ? seen : -1;
    }
    __syncthreads(); /* it is known which rows are complete */
    for (int x = warp; x < p.n; x += WARPS) {
        const int32_t seen = complete[x / p.share];
        if (seen >= 0) merge<T, d>(c, step, row_of_pair(step, p, x), head_of_pair(p, x), seen);
    }
}

template <typename T, int d>
__global__ void __launch_bounds__(THREADS, 3)
    attention_chunk_kernel(const struct attention_call c) {
    LC_SHARED_DYNAMIC(memory);
    const struct decode_step &step = *c.step; /* registers are short: read when needed */
    for (int32_t i = (int32_t)blockIdx.x; i < step.item_count * c.groups; i += (int32_t)gridDim.x)
        attend_chunk<T, d>(c, step, step.items[i / c.groups], i % c.groups, memory);
}

template <typename T, int d> int launch(const struct attention_call *c) {
    const int shared = 4 * tile<T, d>::BYTES + CHUNK_PAIRS * tile<T, d>::ROW_BYTES;
    if (LC_CUDA(cudaFuncSetAttribute(attention_chunk_kernel<T, d>,
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, shared)) < 0)
        return -1;
    const int64_t wave =
        cuda_wave((const void *)attention_chunk_kernel<T, d>, THREADS, (size_t)shared);
    LC_LAUNCH((attention_chunk_kernel<T, d>), (unsigned)wave, THREADS, (size_t)shared,
              cuda_stream(), *c);
    return LC_CUDA(cudaGetLastError());
}

} // namespace

int attention_decode_launch(const struct attention_call *c, int dtype) {
    return LC_HEAD_SIZES(launch, c, dtype);
}
