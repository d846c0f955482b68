/* rows.cu - rows taken and put by index, and added back in the order of the index. */
#include "cuda/launch.cuh"

namespace {

template <typename T, bool PUT>
__global__ void move_rows(T *y, const T *x, const int32_t *index, int64_t count, int64_t width,
                          int64_t x_row) {
    EACH_ROW(r, count) {
        T *to = y + (PUT ? (int64_t)index[r] : r) * width;
        const T *from = x + (PUT ? r : (int64_t)index[r]) * x_row;
        EACH_ROW_PACK(T, i, width) put_pack(to + i, get_pack(from + i, width - i), width - i);
    }
}

/* The block of a row's first use adds all of its uses, in their order: dx rows that repeat have one
 * writer. */
template <typename T>
__global__ void add_rows(float *dx, const T *dy, const float *scale, const int32_t *index,
                         int64_t count, int64_t width) {
    LC_SHARED(int32_t, same, [THREADS]);
    EACH_ROW(first, count) {
        const int32_t row = index[first];
        float *to = dx + (int64_t)row * width;
        bool earlier = false;
        for (int64_t start = 0; start < count && !earlier; start += blockDim.x) {
            const int64_t mine = start + threadIdx.x;
            __syncthreads();
            same[threadIdx.x] = mine < count && index[mine] == row;
            __syncthreads();
            for (int64_t i = start; i < count && i < start + blockDim.x; i++) {
                if (!same[i - start]) continue;
                earlier = i < first;
                if (earlier) break;
                const T *from = dy + i * width;
                const float by = scale ? scale[i] : 1.0f;
                for (int64_t c = threadIdx.x; c < width; c += blockDim.x)
                    to[c] += by * to_float(from[c]);
            }
        }
    }
}

template <bool PUT>
int move(const char *op, void *y, const void *x, int dtype, const int32_t *index, int64_t count,
         int64_t width, int64_t x_row) {
    return with_size(dtype, [=](auto t) {
        using T = decltype(t);
        return launch_rows<T>(op, move_rows<T, PUT>, count, width, (T *)y, (const T *)x, index,
                              count, width, x_row);
    });
}

} // namespace

extern "C" int cuda_take_rows(void *y, const void *x, int dtype, const int32_t *index,
                              int64_t count, int64_t width) {
    return move<false>("take_rows", y, x, dtype, index, count, width, width);
}

extern "C" int cuda_put_rows(void *y, const void *x, int dtype, const int32_t *index, int64_t count,
                             int64_t width, int64_t x_row) {
    return move<true>("put_rows", y, x, dtype, index, count, width, x_row);
}

extern "C" int cuda_add_rows(float *dx, const void *dy, int dtype, const float *scale,
                             const int32_t *index, int64_t count, int64_t width, int64_t rows) {
    (void)rows;
    return with_float(dtype, [=](auto t) {
        using T = decltype(t);
        return launch_loop("add_rows", add_rows<T>, count, THREADS, dx, (const T *)dy, scale, index,
                           count, width);
    });
}
