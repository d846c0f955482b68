/* reduce.cu - sums over one dim, in an order that depends on the shape alone: parts of a fixed length
 * first, then the parts in order, until there is one. */
#include "cuda/launch.cuh"

namespace {

constexpr int64_t RUN = 8192, /* neighbours that a block sums */
    COLUMN = 64,              /* rows that a thread sums of its column */
    SQUARES = 16384;          /* elements of a block whose squares are summed */

/* x [outer, middle] -> y [outer, parts] */
template <typename T>
__global__ void sum_runs(float *y, const T *x, int64_t outer, int64_t middle, int64_t parts,
                         float scale) {
    EACH_ROW(part, outer * parts) {
        const int64_t first = part % parts * RUN, left = middle - first,
                      n = left < RUN ? left : RUN;
        const T *in = x + part / parts * middle + first;
        float sum = 0;
        EACH_ROW_PACK(T, i, n) {
            const lc_pack<T> v = get_pack(in + i, n - i);
            LC_UNROLL
            for (int k = 0; k < PACK<T>; k++) sum += i + k < n ? to_float(v.x[k]) : 0;
        }
        sum = block_sum(sum);
        if (!threadIdx.x) y[part] = sum * scale;
    }
}

/* x [outer, middle, inner] -> y [outer, parts, inner] */
template <typename T>
__global__ void sum_columns(float *y, const T *x, int64_t outer, int64_t middle, int64_t inner,
                            int64_t parts, float scale) {
    for (int64_t i = thread_number(); i < outer * parts * inner; i += thread_count()) {
        const int64_t column = i % inner, part = i / inner % parts, o = i / inner / parts;
        const int64_t first = part * COLUMN;
        float sum = 0;
        for (int64_t m = first; m < middle && m < first + COLUMN; m++)
            sum += to_float(x[(o * middle + m) * inner + column]);
        y[i] = sum * scale;
    }
}

/* Parts of a step; 1 is the last one's. */
int64_t parts_of(int64_t middle, int64_t inner) {
    const int64_t parts = ceil_div(middle, inner == 1 ? RUN : COLUMN);
    return parts < 1 ? 1 : parts;
}

template <typename T>
int sum_once(float *y, const T *x, int64_t outer, int64_t middle, int64_t inner, int64_t parts,
             float scale) {
    if (inner == 1)
        return launch_loop("sum", sum_runs<T>, outer * parts, THREADS, y, x, outer, middle, parts,
                           scale);
    return launch_each("sum", sum_columns<T>, outer * parts * inner, y, x, outer, middle, inner,
                       parts, scale);
}

template <typename T>
int sum(float *y, const T *x, int64_t outer, int64_t middle, int64_t inner, float scale) {
    const int64_t parts = parts_of(middle, inner);
    if (parts == 1) return sum_once(y, x, outer, middle, inner, 1, scale);
    const size_t bytes = (size_t)(outer * parts * inner) * sizeof(float);
    float *between = (float *)cuda_workspace(bytes);
    if (!between) return -1;
    int done = sum_once(between, x, outer, middle, inner, parts, 1);
    if (!done) done = sum(y, (const float *)between, outer, parts, inner, scale);
    cuda_free(between, bytes);
    return done;
}

/* A block's share of sum of x^2, in double. */
__global__ void squares(double *parts, const float *x, int64_t count) {
    EACH_ROW(part, (count + SQUARES - 1) / SQUARES) {
        const int64_t first = part * SQUARES, left = count - first,
                      n = left < SQUARES ? left : SQUARES;
        double sum = 0;
        EACH_ROW_PACK(float, i, n) {
            const lc_pack<float> v = get_pack(x + first + i, n - i);
            LC_UNROLL
            for (int k = 0; k < PACK<float>; k++) sum += (double)v.x[k] * (double)v.x[k];
        }
        sum = block_sum(sum);
        if (!threadIdx.x) parts[part] = sum;
    }
}

/* One block. */
__global__ void add_doubles(double *y, const double *parts, int64_t count) {
    double sum = 0;
    for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += parts[i];
    sum = block_sum(sum);
    if (!threadIdx.x) *y = sum;
}

} // namespace

extern "C" int cuda_sum(float *y, const void *x, int dtype, int64_t outer, int64_t middle,
                        int64_t inner, float scale) {
    return with_float(dtype, [=](auto t) {
        using T = decltype(t);
        return sum(y, (const T *)x, outer, middle, inner, scale);
    });
}

extern "C" int cuda_square_sum(double *sum, const struct lc_adamw_part *parts, int count) {
    int64_t blocks = 0;
    for (int i = 0; i < count; i++) blocks += ceil_div(parts[i].count, SQUARES);
    const size_t bytes = (size_t)(blocks + 1) * sizeof(double);
    double *all = (double *)cuda_workspace(bytes), *to = all + 1;
    int done = all ? 0 : -1;
    for (int i = 0; !done && i < count; i++) {
        const int64_t own = ceil_div(parts[i].count, SQUARES);
        done =
            launch_loop("square_sum", squares, own, THREADS, to, parts[i].gradient, parts[i].count);
        to += own;
    }
    if (!done)
        done =
            launch("square_sum", add_doubles, 1, THREADS, all, (const double *)(all + 1), blocks);
    if (!done) done = cuda_download(sum, all, sizeof *sum);
    cuda_free(all, bytes);
    return done;
}
