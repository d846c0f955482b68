/* elementwise.cu - functions of one or two elements and their derivatives, computed in f32. */
#include "cuda/launch.cuh"

namespace {

constexpr float SQRT_HALF = 0.70710678f, DENSITY_0 = 0.39894228f /* 1 / sqrt(2 pi) */,
                QUICK = 1.702f /* of quick_gelu */;

LC_DEVICE float sigmoid(float x) { return fast_inverse(1.0f + expf(-x)); }
LC_DEVICE float normal_cdf(float x) { return 0.5f * (1.0f + erff(x * SQRT_HALF)); }
LC_DEVICE float log_sigmoid(float x) { return (x > 0 ? 0.0f : x) - log1pf(expf(-fabsf(x))); }
LC_DEVICE float gelu_slope(float x) { return normal_cdf(x) + x * DENSITY_0 * expf(-0.5f * x * x); }
/* d/dx of x sigmoid(k x) */
LC_DEVICE float swish_slope(float x, float k) {
    const float s = sigmoid(k * x);
    return s * (1.0f + k * x * (1.0f - s));
}

/* ---- one operand ---- */

template <int OP> LC_DEVICE float value(float x, float p, float q) {
    switch (OP) {
    case LC_SCALE: return x * p;
    case LC_SHIFT: return x + p;
    case LC_POW: return powf(x, p);
    case LC_EXP: return expf(x);
    case LC_LOG: return logf(x);
    case LC_SQRT: return sqrtf(x);
    case LC_ABS: return fabsf(x);
    case LC_RELU: return x < 0 ? 0 : x;
    case LC_CLAMP: return x < p ? p : x > q ? q : x;
    case LC_TANH: return tanhf(x);
    case LC_SIGMOID: return sigmoid(x);
    case LC_LOG_SIGMOID: return log_sigmoid(x);
    case LC_GELU: return x * normal_cdf(x);
    case LC_QUICK_GELU: return x * sigmoid(QUICK * x);
    default: return x * sigmoid(x);
    }
}

template <int OP> LC_DEVICE float slope(float dy, float x, float p, float q) {
    switch (OP) {
    case LC_SCALE: return dy * p;
    case LC_SHIFT: return dy;
    case LC_POW: return p == 0 ? 0 : dy * p * powf(x, p - 1);
    case LC_EXP: return dy * expf(x);
    case LC_LOG: return dy / x;
    case LC_SQRT: return 0.5f * dy / sqrtf(x);
    case LC_ABS: return x > 0 ? dy : x < 0 ? -dy : 0;
    case LC_RELU: return x > 0 ? dy : 0;
    case LC_CLAMP: return x >= p && x <= q ? dy : 0;
    case LC_TANH: {
        const float t = tanhf(x);
        return dy * (1.0f - t * t);
    }
    case LC_SIGMOID: return dy * sigmoid(x) * sigmoid(-x);
    case LC_LOG_SIGMOID: return dy * sigmoid(-x);
    case LC_GELU: return dy * gelu_slope(x);
    case LC_QUICK_GELU: return dy * swish_slope(x, QUICK);
    default: return dy * swish_slope(x, 1);
    }
}

template <typename T, int OP>
__global__ void unary(T *y, const T *x, int64_t count, float p, float q) {
    EACH_PACK(T, i, count) {
        lc_pack<T> a = get_pack(x + i, count - i);
        LC_UNROLL
        for (int k = 0; k < PACK<T>; k++) a.x[k] = from_float<T>(value<OP>(to_float(a.x[k]), p, q));
        put_pack(y + i, a, count - i);
    }
}

template <typename T, int OP>
__global__ void unary_backward(T *dx, const T *dy, const T *x, int64_t count, float p, float q) {
    EACH_PACK(T, i, count) {
        lc_pack<T> a = get_pack(x + i, count - i), g = get_pack(dy + i, count - i);
        LC_UNROLL
        for (int k = 0; k < PACK<T>; k++)
            g.x[k] = from_float<T>(slope<OP>(to_float(g.x[k]), to_float(a.x[k]), p, q));
        put_pack(dx + i, g, count - i);
    }
}

/* ---- two operands ---- */

template <int OP> LC_DEVICE float value(float a, float b) {
    switch (OP) {
    case LC_ADD: return a + b;
    case LC_SUB: return a - b;
    case LC_MUL: return a * b;
    default: return a / b;
    }
}

template <int OP> LC_DEVICE float slope_of_a(float dy, float b) {
    switch (OP) {
    case LC_ADD:
    case LC_SUB: return dy;
    case LC_MUL: return dy * b;
    default: return dy / b;
    }
}

template <int OP> LC_DEVICE float slope_of_b(float dy, float a, float b) {
    switch (OP) {
    case LC_ADD: return dy;
    case LC_SUB: return -dy;
    case LC_MUL: return dy * a;
    default: return -dy / b * (a / b);
    }
}

/* Elements i, i + 1 ... of b [period] repeated for ever. */
template <typename T>
LC_DEVICE lc_pack<T> get_repeated(const T *b, int64_t period, int64_t i, int64_t count) {
    if (count == period) return get_pack(b + i, count - i);
    const int64_t at = i - quotient(i, period, count) * period;
    if (at + PACK<T> <= period) return get_pack(b + at, PACK<T>);
    lc_pack<T> pack = {};
    for (int64_t k = 0, from = at; k < PACK<T> && i + k < count; k++, from++) {
        if (from == period) from = 0;
        pack.x[k] = b[from];
    }
    return pack;
}

template <typename T, int OP>
__global__ void binary(T *y, const T *a, const T *b, int64_t count, int64_t inner) {
    EACH_PACK(T, i, count) {
        lc_pack<T> u = get_pack(a + i, count - i), v = get_repeated(b, inner, i, count);
        LC_UNROLL
        for (int k = 0; k < PACK<T>; k++)
            u.x[k] = from_float<T>(value<OP>(to_float(u.x[k]), to_float(v.x[k])));
        put_pack(y + i, u, count - i);
    }
}

template <typename T, int OP>
__global__ void binary_backward(T *da, T *db, const T *dy, const T *a, const T *b, int64_t count,
                                int64_t inner) {
    EACH_PACK(T, i, count) {
        const lc_pack<T> g = get_pack(dy + i, count - i), u = get_pack(a + i, count - i),
                         v = get_repeated(b, inner, i, count);
        lc_pack<T> out;
        if (da) {
            LC_UNROLL
            for (int k = 0; k < PACK<T>; k++)
                out.x[k] = from_float<T>(slope_of_a<OP>(to_float(g.x[k]), to_float(v.x[k])));
            put_pack(da + i, out, count - i);
        }
        if (db) {
            LC_UNROLL
            for (int k = 0; k < PACK<T>; k++)
                out.x[k] = from_float<T>(
                    slope_of_b<OP>(to_float(g.x[k]), to_float(u.x[k]), to_float(v.x[k])));
            put_pack(db + i, out, count - i);
        }
    }
}

/* ---- swiglu: rows of packs, which lie apart ---- */

template <typename T>
__global__ void swiglu(T *y, const T *gate, const T *up, int64_t rows, int64_t width, int64_t y_row,
                       int64_t x_row) {
    for (int64_t i = thread_number(); i < row_packs<T>(rows, width); i += thread_count()) {
        const row_pack at = row_pack_of<T>(i, rows, width);
        const int64_t left = width - at.first, from = at.row * x_row + at.first;
        lc_floats<T> g = get_floats(gate + from, left), u = get_floats(up + from, left);
        LC_UNROLL
        for (int k = 0; k < PACK<T>; k++) g.x[k] = g.x[k] * sigmoid(g.x[k]) * u.x[k];
        put_floats(y + at.row * y_row + at.first, g, left);
    }
}

template <typename T>
__global__ void swiglu_backward(T *dgate, T *dup, const T *dy, const T *gate, const T *up,
                                int64_t rows, int64_t width, int64_t dx_row, int64_t x_row) {
    for (int64_t i = thread_number(); i < row_packs<T>(rows, width); i += thread_count()) {
        const row_pack at = row_pack_of<T>(i, rows, width);
        const int64_t left = width - at.first, from = at.row * x_row + at.first,
                      to = at.row * dx_row + at.first;
        lc_floats<T> g = get_floats(gate + from, left), u = get_floats(up + from, left);
        const lc_floats<T> d = get_floats(dy + at.row * width + at.first, left);
        LC_UNROLL
        for (int k = 0; k < PACK<T>; k++) {
            const float x = g.x[k];
            g.x[k] = d.x[k] * u.x[k] * swish_slope(x, 1);
            u.x[k] = d.x[k] * x * sigmoid(x);
        }
        put_floats(dgate + to, g, left);
        put_floats(dup + to, u, left);
    }
}

/* As many elements a turn as a pack of X has: y is f32 where x is of 16 bits, and the other way. */
template <typename Y, typename X> __global__ void accumulate(Y *y, const X *x, int64_t count) {
    constexpr int64_t step = PACK < X >> PACK<Y> ? PACK<X> : PACK<Y>;
    for (int64_t i = thread_number() * step; i < count; i += thread_count() * step) {
        float more[step];
        LC_UNROLL
        for (int64_t j = 0; j < step; j += PACK<X>) {
            const lc_pack<X> in = get_pack(x + i + j, count - i - j);
            LC_UNROLL
            for (int k = 0; k < PACK<X>; k++) more[j + k] = to_float(in.x[k]);
        }
        LC_UNROLL
        for (int64_t j = 0; j < step; j += PACK<Y>) {
            lc_pack<Y> sum = get_pack(y + i + j, count - i - j);
            LC_UNROLL
            for (int k = 0; k < PACK<Y>; k++)
                sum.x[k] = from_float<Y>(to_float(sum.x[k]) + more[j + k]);
            put_pack(y + i + j, sum, count - i - j);
        }
    }
}

/* ---- from a number to a template's ---- */

template <int OP> struct number { static constexpr int value = OP; };

template <typename F> int with_unary(enum lc_unary op, F f) {
    switch (op) {
    case LC_SCALE: return f(number<LC_SCALE>());
    case LC_SHIFT: return f(number<LC_SHIFT>());
    case LC_POW: return f(number<LC_POW>());
    case LC_EXP: return f(number<LC_EXP>());
    case LC_LOG: return f(number<LC_LOG>());
    case LC_SQRT: return f(number<LC_SQRT>());
    case LC_ABS: return f(number<LC_ABS>());
    case LC_RELU: return f(number<LC_RELU>());
    case LC_CLAMP: return f(number<LC_CLAMP>());
    case LC_TANH: return f(number<LC_TANH>());
    case LC_SIGMOID: return f(number<LC_SIGMOID>());
    case LC_LOG_SIGMOID: return f(number<LC_LOG_SIGMOID>());
    case LC_GELU: return f(number<LC_GELU>());
    case LC_QUICK_GELU: return f(number<LC_QUICK_GELU>());
    default: return f(number<LC_SILU>());
    }
}

template <typename F> int with_binary(enum lc_binary op, F f) {
    switch (op) {
    case LC_ADD: return f(number<LC_ADD>());
    case LC_SUB: return f(number<LC_SUB>());
    case LC_MUL: return f(number<LC_MUL>());
    default: return f(number<LC_DIV>());
    }
}

} // namespace

extern "C" int cuda_unary(void *y, const void *x, int dtype, int64_t count, enum lc_unary op,
                          double p, double q) {
    return with_float(dtype, [=](auto t) {
        return with_unary(op, [=](auto o) {
            using T = decltype(t);
            return launch_packs<T>("unary", unary<T, decltype(o)::value>, count, (T *)y,
                                   (const T *)x, count, (float)p, (float)q);
        });
    });
}

extern "C" int cuda_unary_backward(void *dx, const void *dy, const void *x, int dtype,
                                   int64_t count, enum lc_unary op, double p, double q) {
    return with_float(dtype, [=](auto t) {
        return with_unary(op, [=](auto o) {
            using T = decltype(t);
            return launch_packs<T>("unary_backward", unary_backward<T, decltype(o)::value>, count,
                                   (T *)dx, (const T *)dy, (const T *)x, count, (float)p, (float)q);
        });
    });
}

extern "C" int cuda_binary(void *y, const void *a, const void *b, int dtype, int64_t outer,
                           int64_t inner, enum lc_binary op) {
    return with_float(dtype, [=](auto t) {
        return with_binary(op, [=](auto o) {
            using T = decltype(t);
            return launch_packs<T>("binary", binary<T, decltype(o)::value>, outer * inner, (T *)y,
                                   (const T *)a, (const T *)b, outer * inner, inner);
        });
    });
}

extern "C" int cuda_binary_backward(void *da, void *db, const void *dy, const void *a,
                                    const void *b, int dtype, int64_t outer, int64_t inner,
                                    enum lc_binary op) {
    return with_float(dtype, [=](auto t) {
        return with_binary(op, [=](auto o) {
            using T = decltype(t);
            return launch_packs<T>("binary_backward", binary_backward<T, decltype(o)::value>,
                                   outer * inner, (T *)da, (T *)db, (const T *)dy, (const T *)a,
                                   (const T *)b, outer * inner, inner);
        });
    });
}

extern "C" int cuda_swiglu(void *y, const void *gate, const void *up, int dtype, int64_t rows,
                           int64_t width, int64_t y_row, int64_t x_row) {
    return with_float(dtype, [=](auto t) {
        using T = decltype(t);
        return launch_each("swiglu", swiglu<T>, row_packs<T>(rows, width), (T *)y, (const T *)gate,
                           (const T *)up, rows, width, y_row, x_row);
    });
}

extern "C" int cuda_swiglu_backward(void *dgate, void *dup, const void *dy, const void *gate,
                                    const void *up, int dtype, int64_t rows, int64_t width,
                                    int64_t dx_row, int64_t x_row) {
    return with_float(dtype, [=](auto t) {
        using T = decltype(t);
        return launch_each("swiglu_backward", swiglu_backward<T>, row_packs<T>(rows, width),
                           (T *)dgate, (T *)dup, (const T *)dy, (const T *)gate, (const T *)up,
                           rows, width, dx_row, x_row);
    });
}

extern "C" int cuda_accumulate(void *y, int y_dtype, const void *x, int x_dtype, int64_t count) {
    return with_float(y_dtype, [=](auto to) {
        return with_float(x_dtype, [=](auto from) {
            using Y = decltype(to);
            using X = decltype(from);
            return launch_packs<lc_bf16>("accumulate", accumulate<Y, X>, count, (Y *)y,
                                         (const X *)x, count);
        });
    });
}
