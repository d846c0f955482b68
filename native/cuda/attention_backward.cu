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

/* lse (base 2) and delta of a block's rows into shared memory; a warp does its own, two lanes a row.
 * Where a row sees nothing, and behind the last, lse is +inf: P = 0. */
template <typename T, int d, int m>
LC_DEVICE void find_sums(const struct attention_call &c, const struct lc_query_tile &b, int head,
                         const int32_t *seen, float2 *sums) {
    const int lane = lane_id();
    LC_UNROLL
    for (int i = 0; i < m; i++) {
        const int row = (warp_id() * m + i) * 16 + lane / 2;
        const int64_t at = b.q0 + row, place = head * c.queries + at;
        const bool there = at < b.q1;
        float delta = 0;
        if (there) {
            const T *const dout = (const T *)c.dout + (at * c.heads + head) * d;
            const T *const o = (const T *)c.o + at * c.o_row + head * d;
            LC_UNROLL
            for (int x = 0; x < d; x += 16) {
                const int own = x + lane % 2 * 8;
                if (own >= d) continue;
                const lc_pack<T> left = load_pack(dout + own), right = load_pack(o + own);
                LC_UNROLL
                for (int k = 0; k < 8; k++) delta += to_float(left.x[k]) * to_float(right.x[k]);
            }
        }
        delta += __shfl_xor_sync(ALL_LANES, delta, 1);
        if (lane % 2 == 0) {
            sums[row] = make_float2(there && seen[row] ? c.lse[place] * LOG2E : INFINITY, delta);
            if (there) c.delta[place] = delta;
        }
    }
    __syncwarp();
}

/* Scores become P and what is in ds, dout v^T, becomes dS. */
template <int m, int n>
LC_DEVICE void find_ds(float (&s)[m][n][4], float (&ds)[m][n][4], const float2 *sums,
                       float scale2) {
    LC_UNROLL
    for (int i = 0; i < m * 2; i++) {
        const float2 row = sums[i / 2 * 16 + i % 2 * 8 + lane_id() / 4];
        LC_UNROLL
        for (int j = 0; j < n; j++) LC_UNROLL
        for (int x = i % 2 * 2; x < i % 2 * 2 + 2; x++) {
            float &p = s[i / 2][j][x], &slope = ds[i / 2][j][x];
            p = fast_exp2(p * scale2 - row.x);
            slope = p * (slope - row.y);
        }
    }
}

/* ---- dq: a block is up to 64 m query rows and a head ------------------------------------------ */

template <typename T, int d, int m>
__global__ void __launch_bounds__(THREADS, 2) attention_dq_kernel(const struct attention_call c) {
    typedef tile<T, d> tile;
    enum {
        ROWS = 64 * m,
        STEP = KEYS / m, /* path keys: registers are short */
        PART = STEP * tile::ROW_BYTES
    };
    LC_SHARED_DYNAMIC(memory);
    LC_SHARED(struct row_finder<STEP>, find, [1]);
    LC_SHARED(float2, sums, [ROWS]);
    LC_SHARED(int32_t, seen, [ROWS]); /* path keys that each row sees */
    LC_SHARED(struct query_work, work, [1]);
    unsigned char *const queries = memory, *const douts = queries + m * tile::BYTES,
                         *const keys = douts + m * tile::BYTES, *const values = keys + 2 * PART;
    const struct place own = place_of(c.block_count, c.heads, c.heads_at_once);
    const struct lc_query_tile b = c.blocks[own.item];
    const int n = b.q1 - b.q0, first = warp_id() * 16 * m;
    const int32_t end = path_seen(c.ranges, &b, b.q1 - 1);
    const auto load_step = [&](int which) {
        const auto row_of = [&](int row) { return find->rows[which][row]; };
        load_rows<T, d, STEP>(keys + which * PART, c.k, c.k_row, work->column, row_of);
        load_rows<T, d, STEP>(values + which * PART, c.v, c.v_row, work->column, row_of);
    };
    const auto own_row = [&](int row) { return row < n ? b.q0 + row : -1; };
    float dq[m][tile::CHUNKS][4];

    if (threadIdx.x == 0) *work = {own.head, b.q0, n, own.head / c.share * d};
    start_rows(find, &b);
    find_rows(find, c.ranges, 0, end);
    find_rows(find, c.ranges, STEP, end);
    load_rows<T, d, ROWS>(queries, c.q, c.q_row, own.head * d, own_row);
    load_rows<T, d, ROWS>(douts, c.dout, (int64_t)c.heads * d, own.head * d, own_row);
    find_seen<m>(seen, c.ranges, &b);
    LC_UNROLL
    for (int i = 0; i < m * tile::CHUNKS * 4; i++)
        dq[i / 4 / tile::CHUNKS][i / 4 % tile::CHUNKS][i % 4] = 0;
    __syncthreads(); /* it is known which keys the rows see */
    load_step(0);
    cp_async_commit();
    find_sums<T, d, m>(c, b, own.head, seen, sums);
    const int32_t *const own_seen = seen + first;
    for (int32_t at = 0; at < end; at += STEP) {
        const int now = at / STEP % 2;
        float s[m][STEP / 8][4], ds[m][STEP / 8][4];
        cp_async_wait<0>();
        __syncthreads(); /* keys and values are here, those before are used */
        if (at + STEP < end) load_step(!now);
        cp_async_commit();
        find_rows(find, c.ranges, at + 2 * STEP, end);
        if (at >= own_seen[16 * m - 1]) continue;
        multiply_rows<T, d>(s, queries, first, keys + now * PART);
        multiply_rows<T, d>(ds, douts, first, values + now * PART);
        if (at + STEP > own_seen[0]) {
            mask(s, own_seen, at, -INFINITY);
            mask(ds, own_seen, at, 0);
        }
        find_ds(s, ds, sums + first, c.scale2);
        add_product<T, d>(dq, ds, keys + now * PART);
    }
    cp_async_wait<0>();
    __syncthreads(); /* the queries are here even where nothing is seen */
    const float factor[2] = {c.scale, c.scale};
    LC_UNROLL
    for (int x = 0; x < m; x++)
        store_rows<T, d>((T *)c.dq + work->q0 * c.dq_row + work->head * d, c.dq_row, work->n, dq[x],
                         factor, queries, first + x * 16);
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

/* Starts the copies of a step's queries, douts, lse and delta: zeros behind the last row, which add
 * nothing. */
template <typename T, int d>
LC_DEVICE void load_step(const struct attention_call &c, const struct step &s,
                         unsigned char *queries, unsigned char *douts, float (*sums)[64]) {
    const int n = s.n, q0 = s.q0, own = (int)threadIdx.x % 64;
    const auto row_of = [=](int row) { return row < n ? q0 + row : -1; };
    load_rows<T, d, 64>(queries, c.q, c.q_row, s.head * d, row_of);
    load_rows<T, d, 64>(douts, c.dout, (int64_t)c.heads * d, s.head * d, row_of);
    static_assert(THREADS == 128, "a half of the threads each");
    cp_async_number(&sums[threadIdx.x / 64][own],
                    (threadIdx.x < 64 ? c.lse : c.delta) + s.head * c.queries + q0 + own, own < n);
}

/* -inf for scores and 0 for slopes of queries that come before a key; `ahead` is of the warp's first. */
LC_DEVICE void mask_before(float (&s)[1][8][4], float (&ds)[1][8][4], int32_t ahead) {
    LC_UNROLL
    for (int i = 0; i < 32; i++) {
        const int j = i / 4, x = i % 4, query = j * 8 + lane_id() % 4 * 2 + x % 2;
        if (x / 2 * 8 + lane_id() / 4 + ahead <= query) continue;
        s[0][j][x] = -INFINITY;
        ds[0][j][x] = 0;
    }
}

template <typename T, int d>
__global__ void __launch_bounds__(THREADS, 2) attention_dkv_kernel(const struct attention_call c) {
    typedef tile<T, d> tile;
    LC_SHARED_DYNAMIC(memory);
    LC_SHARED(float, sums, [2][2][64]); /* of this step and the next: lse, delta */
    LC_SHARED(struct step, steps, [4]); /* the last, this one and the next two, by number */
    unsigned char *const keys = memory, *const values = memory + tile::BYTES,
                         *const queries = memory + 2 * tile::BYTES, /* two tiles, as of douts */
                             *const douts = memory + 4 * tile::BYTES;
    const struct place place = place_of(c.key_count, c.groups, c.groups_at_once);
    const struct key_block b = c.keys[place.item];
    const int group = place.head;
    const int n = b.k1 - b.k0, first = warp_id() * 16, lane = lane_id();
    const int32_t head_end = (group + 1) * c.share;
    const auto own_row = [&](int row) { return row < n ? b.k0 + row : -1; };
    const auto load = [&](int i) {
        if (steps[i % 4].head < head_end)
            load_step<T, d>(c, steps[i % 4], queries + i % 2 * tile::BYTES,
                            douts + i % 2 * tile::BYTES, sums[i % 2]);
        cp_async_commit();
    };
    float dk[1][tile::CHUNKS][4], dv[1][tile::CHUNKS][4];
    LC_UNROLL
    for (int j = 0; j < tile::CHUNKS; j++) LC_UNROLL
    for (int x = 0; x < 4; x++) dk[0][j][x] = dv[0][j][x] = 0;

    if (threadIdx.x == 0) {
        steps[0] = find_step(c, b, group * c.share, b.t0, head_end);
        steps[1] = find_step(c, b, steps[0].head, steps[0].t + 1, head_end);
    }
    __syncthreads();
    load_rows<T, d, 64>(keys, c.k, c.k_row, group * d, own_row);
    load_rows<T, d, 64>(values, c.v, c.v_row, group * d, own_row);
    load(0);
    for (int i = 0; steps[i % 4].head < head_end; i++) {
        const unsigned char *const own = queries + i % 2 * tile::BYTES;
        const unsigned char *const dout = douts + i % 2 * tile::BYTES;
        const int32_t ahead = first + steps[i % 4].ahead;
        float p[1][8][4], ds[1][8][4];
        cp_async_wait<0>();
        __syncthreads(); /* this step and the number of the next are here, the last is used */
        load(i + 1);
        if (threadIdx.x == 0)
            steps[(i + 2) % 4] =
                find_step(c, b, steps[(i + 1) % 4].head, steps[(i + 1) % 4].t + 1, head_end);
        multiply_rows<T, d>(p, keys, first, own);
        multiply_rows<T, d>(ds, values, first, dout);
        if (ahead + 15 > 0) mask_before(p, ds, ahead);
        LC_UNROLL
        for (int j = 0; j < 8; j++) {
            const float2 lse = *(const float2 *)&sums[i % 2][0][j * 8 + lane % 4 * 2];
            LC_UNROLL
            for (int x = 0; x < 4; x++)
                p[0][j][x] = fast_exp2(p[0][j][x] * c.scale2 - (x % 2 ? lse.y : lse.x) * LOG2E);
        }
        add_product<T, d>(dv, p, dout);
        LC_UNROLL
        for (int j = 0; j < 8; j++) {
            const float2 delta = *(const float2 *)&sums[i % 2][1][j * 8 + lane % 4 * 2];
            LC_UNROLL
            for (int x = 0; x < 4; x++)
                ds[0][j][x] = p[0][j][x] * (ds[0][j][x] - (x % 2 ? delta.y : delta.x));
        }
        add_product<T, d>(dk, ds, own);
    }
    cp_async_wait<0>();
    __syncthreads(); /* keys and values are here even where no query sees them */
    const int64_t at = b.k0 * c.dk_row + group * d;
    const float scale[2] = {c.scale, c.scale}, one[2] = {1, 1};
    store_rows<T, d>((T *)c.dk + at, c.dk_row, n, dk[0], scale, keys, first);
    store_rows<T, d>((T *)c.dv + at, c.dk_row, n, dv[0], one, values, first);
}

template <typename T, int d, int m> int launch_rows(const struct attention_call *c) {
    const int shared = 6 * tile<T, d>::BYTES;
    const cudaFuncAttribute most = cudaFuncAttributeMaxDynamicSharedMemorySize;
    if (LC_CUDA(cudaFuncSetAttribute(attention_dq_kernel<T, d, m>, most, shared)) < 0 ||
        LC_CUDA(cudaFuncSetAttribute(attention_dkv_kernel<T, d>, most, shared)) < 0)
        return -1;
    if (c->block_count)
        LC_LAUNCH((attention_dq_kernel<T, d, m>), (unsigned)(c->block_count * c->heads), THREADS,
                  (size_t)shared, cuda_stream(), *c);
    if (c->key_count)
        LC_LAUNCH((attention_dkv_kernel<T, d>), (unsigned)(c->key_count * c->groups), THREADS,
                  (size_t)shared, cuda_stream(), *c);
    return LC_CUDA(cudaGetLastError());
}

template <typename T, int d> int launch(const struct attention_call *c) {
    return launch_rows<T, d, 1>(c);
}
template <typename T, int d> int launch_wide(const struct attention_call *c) {
    return launch_rows<T, d, 2>(c);
}

} // namespace

int attention_backward_launch(const struct attention_call *c, int dtype, bool wide) {
    return wide ? LC_HEAD_SIZES(launch_wide, c, dtype) : LC_HEAD_SIZES(launch, c, dtype);
}
