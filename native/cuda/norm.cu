/* norm.cu - RMSNorm and LayerNorm over rows, a block each. Parameter gradients are summed over blocks of
 * rows of a fixed number, then over these blocks in order. */
#include "cuda/launch.cuh"

namespace {

enum { ROW_BLOCK = 64 }; /* rows whose share of a parameter gradient is summed together */

/* The sum of f(x) over a row, for every thread of its block. */
template <typename T, typename F> LC_DEVICE float row_sum(const T *x, int64_t width, F f) {
    float sum = 0;
    EACH_ROW_PACK(T, i, width) {
        const lc_pack<T> in = get_pack(x + i, width - i);
        LC_UNROLL
        for (int k = 0; k < PACK<T>; k++)
            if (i + k < width) sum += f(to_float(in.x[k]));
    }
    return block_sum(sum);
}

/* bias NULL: RMSNorm, without a mean */
template <typename T>
__global__ void norm(T *y, float *mean, float *rstd, const T *x, const T *weight, const T *bias,
                     int64_t rows, int64_t width, int64_t y_row, float eps) {
    EACH_ROW(r, rows) {
        const T *in = x + r * width;
        const float n = (float)width;
        const float shift = bias ? row_sum(in, width, [](float v) { return v; }) / n : 0;
        const float square =
            row_sum(in, width, [shift](float v) { return (v - shift) * (v - shift); });
        const float scale = 1 / sqrtf(square / n + eps);
        if (!threadIdx.x) {
            rstd[r] = scale;
            if (bias) mean[r] = shift;
        }
        EACH_ROW_PACK(T, i, width) {
            lc_pack<T> v = get_pack(in + i, width - i), w = get_pack(weight + i, width - i),
                       b = bias ? get_pack(bias + i, width - i) : lc_pack<T>{};
            LC_UNROLL
            for (int k = 0; k < PACK<T>; k++) {
                float z = (to_float(v.x[k]) - shift) * scale * to_float(w.x[k]);
                v.x[k] = from_float<T>(bias ? z + to_float(b.x[k]) : z);
            }
            put_pack(y + r * y_row + i, v, width - i);
        }
    }
}

/* With n = (x - shift) * scale and g = dy * w:
 *   dx = scale (g - [mean(g)] - n mean(g n)) + [more], the first bracket for LayerNorm alone. */
template <typename T>
__global__ void norm_backward(T *dx, const T *dy, const T *x, const T *weight, const float *mean,
                              const float *rstd, const T *more, int64_t rows, int64_t width,
                              int64_t dx_row, int64_t more_row) {
    EACH_ROW(r, rows) {
        const T *in = x + r * width, *g = dy + r * width;
        const float shift = mean ? mean[r] : 0, scale = rstd[r];
        float dot = 0, total = 0;
        EACH_ROW_PACK(T, i, width) {
            const lc_pack<T> v = get_pack(in + i, width - i), d = get_pack(g + i, width - i),
                             w = get_pack(weight + i, width - i);
            LC_UNROLL
            for (int k = 0; k < PACK<T>; k++) {
                const float gw = to_float(d.x[k]) * to_float(w.x[k]);
                if (i + k >= width) continue;
                dot += (to_float(v.x[k]) - shift) * gw;
                total += gw;
            }
        }
        const float across = block_sum(dot) * scale / (float)width,
                    level = mean ? block_sum(total) / (float)width : 0;
        EACH_ROW_PACK(T, i, width) {
            const lc_pack<T> v = get_pack(in + i, width - i), w = get_pack(weight + i, width - i);
            lc_pack<T> d = get_pack(g + i, width - i),
                       m = more ? get_pack(more + r * more_row + i, width - i) : lc_pack<T>{};
            LC_UNROLL
            for (int k = 0; k < PACK<T>; k++) {
                const float gw = to_float(d.x[k]) * to_float(w.x[k]);
                d.x[k] = from_float<T>(
                    scale * (gw - level - (to_float(v.x[k]) - shift) * scale * across) +
                    to_float(m.x[k]));
            }
            put_pack(dx + r * dx_row + i, d, width - i);
        }
    }
}

/* dw [blocks, width] and db: the sums of dy n and dy over each block of rows; a thread a column. */
template <typename T>
__global__ void parameter_parts(float *dw, float *db, const T *dy, const T *x, const float *mean,
                                const float *rstd, int64_t rows, int64_t width) {
    const int64_t blocks = (rows + ROW_BLOCK - 1) / ROW_BLOCK;
    for (int64_t i = thread_number(); i < blocks * width; i += thread_count()) {
        const int64_t first = i / width * ROW_BLOCK, column = i % width;
        float w = 0, b = 0;
        for (int64_t r = first; r < rows && r < first + ROW_BLOCK; r++) {
            const float g = to_float(dy[r * width + column]);
            w += g * ((to_float(x[r * width + column]) - (mean ? mean[r] : 0)) * rstd[r]);
            b += g;
        }
        dw[i] = w;
        if (db) db[i] = b;
    }
}

template <typename T>
int parameters_backward(float *dweight, float *dbias, const T *dy, const T *x, const float *mean,
                        const float *rstd, int64_t rows, int64_t width) {
    const int64_t blocks = ceil_div(rows, ROW_BLOCK), count = blocks * width;
    const size_t bytes = 2 * (size_t)count * sizeof(float);
    float *parts = (float *)cuda_workspace(bytes);
    if (!parts) return -1;
    int done = launch_each("norm_backward", parameter_parts<T>, count, parts,
                           dbias ? parts + count : (float *)NULL, dy, x, mean, rstd, rows, width);
    if (!done && dweight) done = cuda_sum(dweight, parts, LC_F32, 1, blocks, width, 1);
    if (!done && dbias) done = cuda_sum(dbias, parts + count, LC_F32, 1, blocks, width, 1);
    cuda_free(parts, bytes);
    return done;
}

int backward(void *dx, float *dweight, float *dbias, const void *dy, const void *x,
             const void *weight, const float *mean, const float *rstd, const void *more, int dtype,
             int64_t rows, int64_t width, int64_t dx_row, int64_t more_row) {
    return with_float(dtype, [=](auto t) {
        using T = decltype(t);
        int done = !dx ? 0
                       : launch_rows<T>("norm_backward", norm_backward<T>, rows, width, (T *)dx,
                                        (const T *)dy, (const T *)x, (const T *)weight, mean, rstd,
                                        (const T *)more, rows, width, dx_row, more_row);
        if (done < 0 || (!dweight && !dbias)) return done;
        return parameters_backward(dweight, dbias, (const T *)dy, (const T *)x, mean, rstd, rows,
                                   width);
    });
}

int forward(void *y, float *mean, float *rstd, const void *x, const void *weight, const void *bias,
            int dtype, int64_t rows, int64_t width, int64_t y_row, float eps) {
    return with_float(dtype, [=](auto t) {
        using T = decltype(t);
        return launch_rows<T>("norm", norm<T>, rows, width, (T *)y, mean, rstd, (const T *)x,
                              (const T *)weight, (const T *)bias, rows, width, y_row, eps);
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
