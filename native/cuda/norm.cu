/* norm.cu - RMSNorm and LayerNorm over rows, a block each, whose threads keep what they read of a row
 * until it is written. Parameter gradients are summed over blocks of rows of a fixed number, then over
 * these blocks in order. */
#include "cuda/launch.cuh"

namespace {

enum {
    ROW_BLOCK = 64,            /* rows whose share of a parameter gradient is summed together */
    KEPT = 2,                  /* packs of a row that a thread keeps: 8 registers */
    KEPT_BACK = 2,             /* of each of three rows: 24 */
    MOST_WIDTH = INT32_MAX / 2 /* kernels count a row's elements in 32 bits */
};

/* f(k, i): this thread's pack k of a row begins at element i; k is N for all behind the first N. */
template <typename T, int N, typename F> LC_DEVICE void each_own(int width, F f) {
    const int step = (int)(blockDim.x * PACK<T>);
    int i = (int)(threadIdx.x * PACK<T>);
    LC_UNROLL
    for (int k = 0; k < N; k++, i += step)
        if (i < width) f(k, i);
    for (; i < width; i += step) f(N, i);
}

/* A row of which a thread reads its first N packs at once, and those behind (of rows of more than
 * 512 N packs) whenever they are used. What is behind the width is zero. */
template <typename T, int N> struct kept_row {
    const T *x;
    int width;
    uint4 words[N] = {};

    LC_DEVICE kept_row(const T *row, int n) : x(row), width(n) {
        each_own<T, N>(n, [this](int k, int i) {
            if (k < N) words[k] = get_words(x + i, width - i).all;
        });
    }
    LC_DEVICE lc_floats<T> at(int k, int i) const {
        return floats_of<T>(k < N ? pack_words{words[k]} : get_words(x + i, width - i));
    }
};

/* Blocks of a processor: the more rows are on their way the better, up to registers that would spill: with
 * four they do everywhere but on Hopper. */
#if defined __CUDA_ARCH__ && __CUDA_ARCH__ == 900
constexpr int MOST_PLACES = 4;
#else
constexpr int MOST_PLACES = 3;
#endif
template <typename T, bool CENTRED>
constexpr int PLACES = CENTRED         ? 2
                       : sizeof(T) > 2 ? 3
                                       : MOST_PLACES;

/* CENTRED: LayerNorm; else RMSNorm, without mean and bias */
template <typename T, bool CENTRED>
__global__ void __launch_bounds__(ROW_THREADS, (PLACES<T, CENTRED>))
    norm(T *y, float *mean, float *rstd, const T *x, const T *weight, const T *bias, int64_t rows,
         int width, int64_t y_row, float eps) {
    const float n = (float)width;
    EACH_ROW(r, rows) {
        const kept_row<T, KEPT> in(x + r * width, width);
        T *const out = y + r * y_row;
        float total = 0, square = 0;
        if (CENTRED)
            each_own<T, KEPT>(width, [&](int k, int i) {
                const lc_floats<T> v = in.at(k, i);
                LC_UNROLL
                for (int j = 0; j < PACK<T>; j++) total += v.x[j];
            });
        const float shift = CENTRED ? block_sum(total) / n : 0;
        each_own<T, KEPT>(width, [&](int k, int i) {
            const lc_floats<T> v = in.at(k, i);
            LC_UNROLL
            for (int j = 0; j < PACK<T>; j++) {
                const float d = v.x[j] - shift;
                if (!CENTRED || i + j < width) square += d * d; /* uncentred zeros add nothing */
            }
        });
        const float scale = 1 / sqrtf(block_sum(square) / n + eps);
        if (!threadIdx.x) {
            rstd[r] = scale;
            if (CENTRED) mean[r] = shift;
        }
        each_own<T, KEPT>(width, [&](int k, int i) {
            const lc_floats<T> w = get_floats(weight + i, width - i);
            lc_floats<T> v = in.at(k, i), b = {};
            if (CENTRED) b = get_floats(bias + i, width - i);
            LC_UNROLL
            for (int j = 0; j < PACK<T>; j++) {
                const float z = (v.x[j] - shift) * scale * w.x[j];
                v.x[j] = CENTRED ? z + b.x[j] : z;
            }
            put_floats(out + i, v, width - i);
        });
    }
}

/* With n = (x - shift) * scale and g = dy * w:
 *   dx = scale (g - [mean(g)] - n mean(g n)) + [more], the first bracket for LayerNorm alone.
 * What is behind a row is zero in dy, so it adds nothing to the sums. */
template <typename T, bool CENTRED>
__global__ void __launch_bounds__(ROW_THREADS, 2)
    norm_backward(T *dx, const T *dy, const T *x, const T *weight, const float *mean,
                  const float *rstd, const T *more, int64_t rows, int width, int64_t dx_row,
                  int64_t more_row) {
    EACH_ROW(r, rows) {
        const kept_row<T, KEPT_BACK> in(x + r * width, width), g(dy + r * width, width),
            m(more + r * more_row, more ? width : 0);
        T *const out = dx + r * dx_row;
        const float shift = CENTRED ? mean[r] : 0, scale = rstd[r];
        float dot = 0, total = 0;
        each_own<T, KEPT_BACK>(width, [&](int k, int i) {
            const lc_floats<T> v = in.at(k, i), d = g.at(k, i),
                               w = get_floats(weight + i, width - i);
            LC_UNROLL
            for (int j = 0; j < PACK<T>; j++) {
                const float gw = d.x[j] * w.x[j];
                dot += (v.x[j] - shift) * gw;
                if (CENTRED) total += gw;
            }
        });
        const float across = block_sum(dot) * scale / (float)width,
                    level = CENTRED ? block_sum(total) / (float)width : 0;
        each_own<T, KEPT_BACK>(width, [&](int k, int i) {
            const lc_floats<T> v = in.at(k, i), d = g.at(k, i),
                               w = get_floats(weight + i, width - i);
            lc_floats<T> z = m.at(k, i);
            LC_UNROLL
            for (int j = 0; j < PACK<T>; j++)
                z.x[j] += scale * (d.x[j] * w.x[j] - level - (v.x[j] - shift) * scale * across);
            put_floats(out + i, z, width - i);
        });
    }
}

/* dw [blocks, width] and db: the sums of dy n and dy over each block of rows; a thread a pack of
 * columns. */
template <typename T>
__global__ void parameter_parts(float *dw, float *db, const T *dy, const T *x, const float *mean,
                                const float *rstd, int64_t rows, int64_t width) {
    const int64_t blocks = (rows + ROW_BLOCK - 1) / ROW_BLOCK;
    for (int64_t i = thread_number(); i < row_packs<T>(blocks, width); i += thread_count()) {
        const row_pack at = row_pack_of<T>(i, blocks, width);
        const int64_t first = at.row * ROW_BLOCK, left = width - at.first,
                      to = at.row * width + at.first;
        float w[PACK<T>] = {}, b[PACK<T>] = {};
        for (int64_t r = first; r < rows && r < first + ROW_BLOCK; r++) {
            const lc_floats<T> g = get_floats(dy + r * width + at.first, left),
                               v = get_floats(x + r * width + at.first, left);
            const float shift = mean ? mean[r] : 0, scale = rstd[r];
            LC_UNROLL
            for (int k = 0; k < PACK<T>; k++) {
                w[k] += g.x[k] * ((v.x[k] - shift) * scale);
                b[k] += g.x[k];
            }
        }
        LC_UNROLL
        for (int k = 0; k < PACK<T>; k++) {
            if (k >= left) break;
            dw[to + k] = w[k];
            if (db) db[to + k] = b[k];
        }
    }
}

template <typename T>
int parameters_backward(float *dweight, float *dbias, const T *dy, const T *x, const float *mean,
                        const float *rstd, int64_t rows, int64_t width) {
    const int64_t blocks = ceil_div(rows, ROW_BLOCK), count = blocks * width;
    const size_t bytes = 2 * (size_t)count * sizeof(float);
    float *parts = (float *)cuda_workspace(bytes);
    if (!parts) return -1;
    int done = launch_each("norm_backward", parameter_parts<T>, row_packs<T>(blocks, width), parts,
                           dbias ? parts + count : (float *)NULL, dy, x, mean, rstd, rows, width);
    if (!done && dweight) done = cuda_sum(dweight, parts, LC_F32, 1, blocks, width, 1);
    if (!done && dbias) done = cuda_sum(dbias, parts + count, LC_F32, 1, blocks, width, 1);
    cuda_free(parts, bytes);
    return done;
}

int check_width(int64_t width) {
    if (width <= MOST_WIDTH) return 0;
    return cuda_host.fail(LC_EINVAL, "norm: rows of %lld; %d is the most on this device",
                          (long long)width, MOST_WIDTH);
}

int backward(void *dx, float *dweight, float *dbias, const void *dy, const void *x,
             const void *weight, const float *mean, const float *rstd, const void *more, int dtype,
             int64_t rows, int64_t width, int64_t dx_row, int64_t more_row) {
    if (check_width(width) < 0) return -1;
    return with_float(dtype, [=](auto t) {
        using T = decltype(t);
        int done =
            !dx ? 0
                : launch_rows<T, KEPT_BACK>(
                      "norm_backward", mean ? norm_backward<T, true> : norm_backward<T, false>,
                      rows, width, (T *)dx, (const T *)dy, (const T *)x, (const T *)weight, mean,
                      rstd, (const T *)more, rows, width, dx_row, more_row);
        if (done < 0 || (!dweight && !dbias)) return done;
        return parameters_backward(dweight, dbias, (const T *)dy, (const T *)x, mean, rstd, rows,
                                   width);
    });
}

int forward(void *y, float *mean, float *rstd, const void *x, const void *weight, const void *bias,
            int dtype, int64_t rows, int64_t width, int64_t y_row, float eps) {
    if (check_width(width) < 0) return -1;
    return with_float(dtype, [=](auto t) {
        using T = decltype(t);
        return launch_rows<T, KEPT>("norm", bias ? norm<T, true> : norm<T, false>, rows, width,
                                    (T *)y, mean, rstd, (const T *)x, (const T *)weight,
                                    (const T *)bias, rows, width, y_row, eps);
    });
}

} // namespace

extern "C" int cuda_rms_norm(void *y, float *rstd, const void *x, const void *weight, int dtype,
                             int64_t rows, int64_t width, int64_t y_row, float eps) {
    return forward(y, NULL, rstd, x, weight, NULL, dtype, rows, width, y_row, eps);
}

extern "C" int cuda_layer_norm(void *y, float *mean, float *rstd, const void *x, const void *weight,
                               const void *bias, int dtype, int64_t rows, int64_t width,
                               float eps) {
    return forward(y, mean, rstd, x, weight, bias, dtype, rows, width, width, eps);
}

extern "C" int cuda_rms_norm_backward(void *dx, float *dweight, const void *dy, const void *x,
                                      const void *weight, const float *rstd, const void *more,
                                      int dtype, int64_t rows, int64_t width, int64_t dx_row,
                                      int64_t more_row) {
    return backward(dx, dweight, NULL, dy, x, weight, NULL, rstd, more, dtype, rows, width, dx_row,
                    more_row);
}

extern "C" int cuda_layer_norm_backward(void *dx, float *dweight, float *dbias, const void *dy,
                                        const void *x, const void *weight, const float *mean,
                                        const float *rstd, int dtype, int64_t rows, int64_t width) {
    return backward(dx, dweight, dbias, dy, x, weight, mean, rstd, NULL, dtype, rows, width, width,
                    0);
}
