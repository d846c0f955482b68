/* attention_forward.cu - o = softmax(q k^T * scale over the visible keys) v on tensor cores.
 *
 * A block is 64 m query rows of one segment and one head; a warp has 16 m of them. It walks the path
 * in steps of 64 keys with the online softmax: row maximum and row sum in f32, probabilities
 * rounded to T for the second product. Path keys are gathered, so a row's sums follow its path and
 * nothing else; a step that a row does not see multiplies its sums by 1 and adds 0.
 *
 * Shared memory: q [64 m, d], one tile each of keys and values. The values of a step arrive while
 * its scores are computed, the next keys while probabilities are and the values are multiplied. */
#include "cuda/attention.cuh"

namespace {

template <typename T, int d, int m> struct rows {
    float o[m][tile<T, d>::CHUNKS][4];
    float top[m][2], sum[m][2]; /* of rows g and g + 8; the sum is this lane's part */
};

/* Outputs and sums of a step: they follow the new maximum, then 16 keys after another become
 * probabilities and meet their values. So exponentials run beside the product of the keys before. */
template <typename T, int d, int m>
LC_DEVICE void add_values(rows<T, d, m> &r, float (&s)[m][8][4], const unsigned char *values,
                          float scale2) {
    float base[m * 2];
    LC_UNROLL
    for (int i = 0; i < m * 2; i++) {
        const int x = i / 2, half = i % 2;
        float top = r.top[x][half];
        LC_UNROLL
        for (int j = 0; j < 8; j++)
            top = fmaxf(top, fmaxf(s[x][j][half * 2], s[x][j][half * 2 + 1]));
        top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 1));
        top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, 2));
        base[i] = top == -INFINITY ? 0 : top * scale2; /* nothing seen yet */
        const float factor = fast_exp2(r.top[x][half] * scale2 - base[i]);
        r.top[x][half] = top;
        r.sum[x][half] *= factor;
        LC_UNROLL
        for (int j = 0; j < tile<T, d>::CHUNKS; j++) {
            r.o[x][j][half * 2] *= factor;
            r.o[x][j][half * 2 + 1] *= factor;
        }
    }
    LC_UNROLL
    for (int step = 0; step < KEYS / 16; step++) {
        LC_UNROLL
        for (int i = 0; i < m * 8; i++) {
            const int x = i / 8, j = step * 2 + i / 4 % 2, c = i % 4;
            s[x][j][c] = fast_exp2(s[x][j][c] * scale2 - base[x * 2 + c / 2]);
            r.sum[x][c / 2] += s[x][j][c];
        }
        add_step<T, d>(r.o, s, values, step);
    }
}

/* Divides by the sums and stores o and lse. */
template <typename T, int d, int m>
LC_DEVICE void finish(const struct attention_call &c, const rows<T, d, m> &r,
                      const struct query_work &w, const int32_t *seen, unsigned char *memory) {
    const int first = warp_id() * 16 * m, lane = lane_id();
    LC_UNROLL
    for (int x = 0; x < m; x++) {
        float factor[2];
        LC_UNROLL
        for (int half = 0; half < 2; half++) {
            const int row = first + x * 16 + half * 8 + lane / 4;
            const bool any = row < w.n && seen[row] > 0;
            float sum = r.sum[x][half];
            sum += __shfl_xor_sync(ALL_LANES, sum, 1);
            sum += __shfl_xor_sync(ALL_LANES, sum, 2);
            factor[half] = any ? 1 / sum : 0;
            if (row < w.n && lane % 4 == 0)
                c.lse[w.head * c.queries + w.q0 + row] =
                    any ? r.top[x][half] * c.scale + logf(sum) : -INFINITY;
        }
        store_rows<T, d>((T *)c.o + w.q0 * c.o_row + w.head * d, c.o_row, w.n, r.o[x], factor,
                         memory, first + x * 16);
    }
}

template <typename T, int d, int m>
__global__ void __launch_bounds__(THREADS, 2) attention_kernel(const struct attention_call c) {
    typedef tile<T, d> tile;
    LC_SHARED_DYNAMIC(memory);
    LC_SHARED(struct row_finder<KEYS>, find, [1]);
    LC_SHARED(int32_t, seen, [64 * m]); /* path keys that each row sees */
    LC_SHARED(struct query_work, work, [1]);
    unsigned char *const queries = memory, *const keys = memory + m * tile::BYTES,
                         *const values = keys + tile::BYTES;
    const struct place own = place_of(c.block_count, c.heads, c.heads_at_once);
    const struct lc_query_tile b = c.blocks[own.item];
    const int n = b.q1 - b.q0, first = warp_id() * 16 * m;
    const int32_t end = path_seen(c.ranges, &b, b.q1 - 1);
    rows<T, d, m> r;
    find_seen<m>(seen, c.ranges, &b);
    LC_UNROLL
    for (int i = 0; i < m * 2; i++) {
        r.top[i / 2][i % 2] = -INFINITY;
        r.sum[i / 2][i % 2] = 0;
    }
    LC_UNROLL
    for (int i = 0; i < m * tile::CHUNKS * 4; i++)
        r.o[i / 4 / tile::CHUNKS][i / 4 % tile::CHUNKS][i % 4] = 0;

    if (threadIdx.x == 0) *work = {own.head, b.q0, n, own.head / c.share * d};
    start_rows(find, &b);
    find_rows(find, c.ranges, 0, end);
    load_rows<T, d, 64 * m>(queries, c.q, c.q_row, own.head * d,
                            [&](int row) { return row < n ? b.q0 + row : -1; });
    __syncthreads();
    const int32_t *const own_seen = seen + first;
    load_rows<T, d, KEYS>(keys, c.k, c.k_row, work->column,
                          [&](int row) { return find->rows[0][row]; });
    cp_async_commit();
    for (int32_t at = 0; at < end; at += KEYS) {
        const int now = at / KEYS % 2;
        float s[m][8][4];
        cp_async_wait<0>();
        __syncthreads(); /* keys are here, the values before are used */
        load_rows<T, d, KEYS>(values, c.v, c.v_row, work->column,
                              [&](int row) { return find->rows[now][row]; });
        cp_async_commit();
        find_rows(find, c.ranges, at + KEYS, end);
        const bool sees = at < own_seen[16 * m - 1];
        if (sees) {
            multiply_rows<T, d>(s, queries, first, keys);
            if (at + KEYS > own_seen[0]) mask(s, own_seen, at, -INFINITY);
        }
        cp_async_wait<0>();
        __syncthreads(); /* values are here, the keys are used */
        if (at + KEYS < end)
            load_rows<T, d, KEYS>(keys, c.k, c.k_row, work->column,
                                  [&](int row) { return find->rows[!now][row]; });
        cp_async_commit();
        if (sees) add_values<T, d, m>(r, s, values, c.scale2);
    }
    cp_async_wait<0>();
    __syncthreads(); /* the queries are here even where nothing is seen */
    finish<T, d, m>(c, r, *work, seen, queries);
}

template <typename T, int d, int m> int launch_rows(const struct attention_call *c) {
    const size_t shared = (size_t)(m + 2) * tile<T, d>::BYTES;
    if (LC_CUDA(cudaFuncSetAttribute(attention_kernel<T, d, m>,
                                     cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared)) < 0)
        return -1;
    LC_LAUNCH((attention_kernel<T, d, m>), (unsigned)(c->block_count * c->heads), THREADS, shared,
              cuda_stream(), *c);
    return LC_CUDA(cudaGetLastError());
}

template <typename T, int d> int launch(const struct attention_call *c) {
    return launch_rows<T, d, 1>(c);
}
template <typename T, int d> int launch_wide(const struct attention_call *c) {
    return launch_rows<T, d, 2>(c);
}

} // namespace

int attention_forward_launch(const struct attention_call *c, int dtype, bool wide) {
    if (!c->block_count) return 0;
    return wide ? LC_HEAD_SIZES(launch_wide, c, dtype) : LC_HEAD_SIZES(launch, c, dtype);
}
