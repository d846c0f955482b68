/* attention_backward.cu - dq, dk and dv on tensor cores, from q, k, v, o, dout and lse.
 *
 * Two kernels and no sums in memory: dq walks the path of a block of queries as the forward does,
 * dk and dv walk the queries that see a block of keys. Both compute P = exp(score - lse) again, and
 * dS = P (dout v^T - delta), delta = rowsum(dout o), which the first kernel leaves for the second.
 *
 * A key's sums take the tiles of 64 queries in order, for each head of its group: they depend on the
 * rows that see the key, not on which keys share the block. */
#include "cuda/attention.cuh"

namespace {

/* delta of a block's rows into shared memory, zeros behind the last; a warp does its own 16. */
template <typename T, int d>
LC_DEVICE void find_deltas(const struct attention_call &c, const struct lc_query_tile &b, int head,
                           float *delta) {
    for (int i = 0; i < 16; i++) {
        const int row = warp_id() * 16 + i;
        float sum = 0;
        if (b.q0 + row < b.q1) {
            const T *const dout = (const T *)c.dout + ((b.q0 + row) * (int64_t)c.heads + head) * d;
            const T *const o = (const T *)c.o + (b.q0 + row) * c.o_row + head * d;
            for (int x = lane_id(); x < d; x += WARP) sum += to_float(dout[x]) * to_float(o[x]);
        }
        sum = warp_sum(sum);
        if (lane_id() == 0) {
            delta[row] = sum;
            if (b.q0 + row < b.q1) c.delta[head * c.queries + b.q0 + row] = sum;
        }
    }
    __syncwarp();
}

/* ---- dq: a block is up to 64 query rows and a head ------------------------------------------- */

template <typename T, int d>
__global__ void __launch_bounds__(THREADS, 2) attention_dq_kernel(const struct attention_call c) {
    typedef tile<T, d> tile;
    LC_SHARED_DYNAMIC(memory);
    LC_SHARED(struct row_finder, find, [1]);
    LC_SHARED(float, deltas, [64]);
    unsigned char *const queries = memory, *const douts = memory + tile::BYTES,
                         *const values = memory + 2 * tile::BYTES,
                         *const keys = memory + 3 * tile::BYTES; /* two tiles */
    const struct lc_query_tile b = c.blocks[blockIdx.x / (unsigned)c.heads];
    const int head = (int)(blockIdx.x % (unsigned)c.heads), group = head / c.share;
    const int n = b.q1 - b.q0, first = warp_id() * 16, lane = lane_id();
    const int32_t end = path_seen(c.ranges, &b, b.q1 - 1);
    float dq[1][tile::CHUNKS][4], lse2[2], delta[2];
    int32_t seen[2], warp_end = 0;

    start_rows(find, &b);
    find_rows(find, c.ranges, 0, end);
    load_rows<T, d>(queries, c.q, c.q_row, head * d, 64,
                    [&](int row) { return row < n ? b.q0 + row : -1; });
    load_rows<T, d>(douts, c.dout, (int64_t)c.heads * d, head * d, 64,
                    [&](int row) { return row < n ? b.q0 + row : -1; });
    find_deltas<T, d>(c, b, head, deltas);
    LC_UNROLL
    for (int half = 0; half < 2; half++) {
        const int row = first + half * 8 + lane / 4;
        lse2[half] = row < n ? c.lse[head * c.queries + b.q0 + row] * LOG2E : 0;
        delta[half] = deltas[row];
        seen[half] = row < n ? path_seen(c.ranges, &b, b.q0 + row) : 0;
    }
    if (first < n) warp_end = path_seen(c.ranges, &b, b.q0 + min(first + 16, n) - 1);
    LC_UNROLL
    for (int j = 0; j < tile::CHUNKS; j++)
        dq[0][j][0] = dq[0][j][1] = dq[0][j][2] = dq[0][j][3] = 0;
    __syncthreads();
    load_rows<T, d>(keys, c.k, c.k_row, group * d, KEYS,
                    [&](int row) { return find->rows[0][row]; });
    load_rows<T, d>(values, c.v, c.v_row, group * d, KEYS,
                    [&](int row) { return find->rows[0][row]; });
    find_rows(find, c.ranges, KEYS, end);
    cp_async_commit();
    for (int32_t at = 0; at < end; at += KEYS) {
        const int now = at / KEYS % 2;
        unsigned char *const own = keys + now * tile::BYTES, *const next =
                                                                 keys + !now * tile::BYTES;
        float s[1][8][4], ds[1][8][4];
        cp_async_wait<0>();
        __syncthreads(); /* keys and values are here, the keys before are used */
        if (at + KEYS < end)
            load_rows<T, d>(next, c.k, c.k_row, group * d, KEYS,
                            [&](int row) { return find->rows[!now][row]; });
        if (at < warp_end) {
            multiply_rows<T, d>(s, queries, first, own);
            multiply_rows<T, d>(ds, douts, first, values);
            LC_UNROLL
            for (int i = 0; i < 32; i++) {
                const int j = i / 4, x = i % 4, half = x / 2;
                const bool sees = at + j * 8 + lane % 4 * 2 + x % 2 < seen[half];
                const float p = sees ? fast_exp2(s[0][j][x] * c.scale2 - lse2[half]) : 0;
                ds[0][j][x] = sees ? p * (ds[0][j][x] - delta[half]) : 0;
            }
        }
        __syncthreads(); /* the values are used */
        if (at + KEYS < end)
            load_rows<T, d>(values, c.v, c.v_row, group * d, KEYS,
                            [&](int row) { return find->rows[!now][row]; });
        cp_async_commit();
        find_rows(find, c.ranges, at + 2 * KEYS, end);
        if (at < warp_end) add_product<T, d>(dq, ds, own);
    }
    cp_async_wait<0>();
    __syncthreads();
    const float factor[2] = {c.scale, c.scale};
    store_rows<T, d>((T *)c.dq + b.q0 * c.dq_row + head * d, c.dq_row, n, dq[0], factor, queries,
                     first);
}

/* ---- dk and dv: a block is up to 64 keys and a group ----------------------------------------- */

/* One step of the walk: a head of the group and a tile that sees the keys. */
struct step {
    int32_t head, t; /* head = end of the group: there are no more */
    int32_t q0, n;   /* the tile's rows */
    int32_t
        ahead; /* causal: key k0 + x is seen from row x + ahead of the tile on; else far below */
};

/* The first step from (head, t) on. */
LC_DEVICE struct step find_step(const struct attention_call &c, const struct key_block &b,
                                int32_t head, int32_t t, int32_t head_end) {
    for (; head < head_end; head++, t = b.t0)
        for (; t < b.t1; t++) {
            const struct lc_query_tile q = c.tiles[t];
            const int32_t r = spans_find(c.ranges, &q, b.k0);
            if (r < 0) continue;
            const int32_t ahead = spans_ahead(&c.ranges[r], &q, b.k0);
            if (ahead < q.q1 - q.q0) return {head, t, q.q0, q.q1 - q.q0, ahead};
        }
    return {head_end, 0, 0, 0, 0};
}

template <typename T, int d>
LC_DEVICE void load_queries(const struct attention_call &c, const struct step &s,
                            unsigned char *to) {
    const int n = s.n, q0 = s.q0;
    load_rows<T, d>(to, c.q, c.q_row, s.head * d, 64,
                    [=](int row) { return row < n ? q0 + row : -1; });
}

template <typename T, int d>
LC_DEVICE void load_douts(const struct attention_call &c, const struct step &s, unsigned char *to) {
    const int n = s.n, q0 = s.q0;
    load_rows<T, d>(to, c.dout, (int64_t)c.heads * d, s.head * d, 64,
                    [=](int row) { return row < n ? q0 + row : -1; });
}

/* lse (base 2) and delta of a step's rows: threads below 64; P = 0 behind the last row. */
LC_DEVICE void load_sums(const struct attention_call &c, const struct step &s, float (*to)[64]) {
    const int row = (int)threadIdx.x;
    if (row >= 64) return;
    const int64_t at = s.head * c.queries + s.q0 + row;
    to[0][row] = row < s.n ? c.lse[at] * LOG2E : INFINITY;
    to[1][row] = row < s.n ? c.delta[at] : 0;
}

template <typename T, int d>
__global__ void __launch_bounds__(THREADS, 2) attention_dkv_kernel(const struct attention_call c) {
    typedef tile<T, d> tile;
    LC_SHARED_DYNAMIC(memory);
    LC_SHARED(float, sums, [2][2][64]); /* of this step and the next: lse, delta */
    LC_SHARED(struct step, steps, [2]); /* this one and the next; thread 0 finds them */
    unsigned char *const keys = memory, *const values = memory + tile::BYTES,
                         *const douts = memory + 2 * tile::BYTES,
                         *const queries = memory + 3 * tile::BYTES; /* two tiles */
    const struct key_block b = c.keys[blockIdx.x / (unsigned)c.groups];
    const int group = (int)(blockIdx.x % (unsigned)c.groups);
    const int n = b.k1 - b.k0, first = warp_id() * 16, lane = lane_id();
    const int32_t head_end = (group + 1) * c.share;
    float dk[1][tile::CHUNKS][4], dv[1][tile::CHUNKS][4];
    LC_UNROLL
    for (int j = 0; j < tile::CHUNKS; j++) LC_UNROLL
    for (int x = 0; x < 4; x++) dk[0][j][x] = dv[0][j][x] = 0;

    if (threadIdx.x == 0) {
        steps[0] = find_step(c, b, group * c.share, b.t0, head_end);
        steps[1] = find_step(c, b, steps[0].head, steps[0].t + 1, head_end);
    }
    __syncthreads();
    load_rows<T, d>(keys, c.k, c.k_row, group * d, 64,
                    [&](int row) { return row < n ? b.k0 + row : -1; });
    load_rows<T, d>(values, c.v, c.v_row, group * d, 64,
                    [&](int row) { return row < n ? b.k0 + row : -1; });
    if (steps[0].head < head_end) {
        load_queries<T, d>(c, steps[0], queries);
        load_douts<T, d>(c, steps[0], douts);
        load_sums(c, steps[0], sums[0]);
    }
    cp_async_commit();
    bool more = steps[0].head < head_end;
    for (int now = 0; more; now = !now) {
        unsigned char *const own = queries + now * tile::BYTES;
        float p[1][8][4], ds[1][8][4];
        cp_async_wait<0>();
        __syncthreads(); /* queries, douts, sums and the next step are here, those before used */
        const int32_t ahead = steps[now].ahead;
        more = steps[!now].head < head_end;
        if (more) {
            load_queries<T, d>(c, steps[!now], queries + !now * tile::BYTES);
            load_sums(c, steps[!now], sums[!now]);
        }
        multiply_rows<T, d>(p, keys, first, own);
        LC_UNROLL
        for (int i = 0; i < 32; i++) {
            const int j = i / 4, x = i % 4, query = j * 8 + lane % 4 * 2 + x % 2;
            const bool sees = first + x / 2 * 8 + lane / 4 + ahead <= query;
            p[0][j][x] = sees ? fast_exp2(p[0][j][x] * c.scale2 - sums[now][0][query]) : 0;
        }
        add_product<T, d>(dv, p, douts);
        multiply_rows<T, d>(ds, values, first, douts);
        LC_UNROLL
        for (int i = 0; i < 32; i++) {
            const int j = i / 4, x = i % 4, query = j * 8 + lane % 4 * 2 + x % 2;
            ds[0][j][x] = p[0][j][x] * (ds[0][j][x] - sums[now][1][query]);
        }
        __syncthreads(); /* the douts and this step are used */
        if (more) load_douts<T, d>(c, steps[!now], douts);
        cp_async_commit();
        if (more && threadIdx.x == 0)
            steps[now] = find_step(c, b, steps[!now].head, steps[!now].t + 1, head_end);
        add_product<T, d>(dk, ds, own);
    }
    cp_async_wait<0>();
    __syncthreads(); /* keys and values are here even where no query sees them */
    const int64_t at = b.k0 * c.dk_row + group * d;
    const float scale[2] = {c.scale, c.scale}, one[2] = {1, 1};
    store_rows<T, d>((T *)c.dk + at, c.dk_row, n, dk[0], scale, keys, first);
    store_rows<T, d>((T *)c.dv + at, c.dk_row, n, dv[0], one, values, first);
}

template <typename T, int d> int launch(const struct attention_call *c) {
    const int shared = 5 * tile<T, d>::BYTES;
    const cudaFuncAttribute most = cudaFuncAttributeMaxDynamicSharedMemorySize;
    if (LC_CUDA(cudaFuncSetAttribute(attention_dq_kernel<T, d>, most, shared)) < 0 ||
        LC_CUDA(cudaFuncSetAttribute(attention_dkv_kernel<T, d>, most, shared)) < 0)
        return -1;
    if (c->block_count)
        LC_LAUNCH((attention_dq_kernel<T, d>), (unsigned)(c->block_count * c->heads), THREADS,
                  (size_t)shared, cuda_stream(), *c);
    if (c->key_count)
        LC_LAUNCH((attention_dkv_kernel<T, d>), (unsigned)(c->key_count * c->groups), THREADS,
                  (size_t)shared, cuda_stream(), *c);
    return LC_CUDA(cudaGetLastError());
}

} // namespace

int attention_backward_launch(const struct attention_call *c, int dtype) {
    return LC_HEAD_SIZES(launch, c, dtype);
}
