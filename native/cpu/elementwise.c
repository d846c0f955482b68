/* elementwise.c - functions of one or two elements and their derivatives. The functions of hot loops
 * are computed in lanes; the others call the C library an element at a time. */
#include <math.h>

#include "base/error.h"
#include "cpu/cpu.h"
#include "cpu/lanes.h"

enum { PARALLEL = 32768 }; /* elements from which threads pay */

static int64_t chunk_count(int64_t count) { return (count + CPU_CHUNK - 1) / CPU_CHUNK; }

static int64_t chunk_size(int64_t count, int64_t c) {
    int64_t left = count - c * CPU_CHUNK;
    return left < CPU_CHUNK ? left : CPU_CHUNK;
}

/* ---- one element ------------------------------------------------------------------------------- */

static float softplus(float x) { return x > 0 ? x + log1pf(expf(-x)) : log1pf(expf(x)); }
static float sigmoid(float x) { return x >= 0 ? 1 / (1 + expf(-x)) : expf(x) / (1 + expf(x)); }

static float value(enum lc_unary op, float x, float p, float q) {
    switch (op) {
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
    case LC_LOG_SIGMOID: return -softplus(-x);
    case LC_GELU: return 0.5f * x * (1 + erff(x * 0.70710678f));
    case LC_QUICK_GELU: return x * sigmoid(1.702f * x);
    case LC_SILU: return x * sigmoid(x);
    }
    return NAN;
}

static float derivative(enum lc_unary op, float x, float p, float q) {
    float s;
    switch (op) {
    case LC_SCALE: return p;
    case LC_SHIFT: return 1;
    case LC_POW: return p * powf(x, p - 1);
    case LC_EXP: return expf(x);
    case LC_LOG: return 1 / x;
    case LC_SQRT: return 0.5f / sqrtf(x);
    case LC_ABS: return (float)((x > 0) - (x < 0));
    case LC_RELU: return x > 0;
    case LC_CLAMP: return x >= p && x <= q;
    case LC_TANH: return s = tanhf(x), 1 - s * s;
    case LC_SIGMOID: return s = sigmoid(x), s * (1 - s);
    case LC_LOG_SIGMOID: return sigmoid(-x);
    case LC_GELU: return 0.5f * (1 + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
    case LC_QUICK_GELU: return s = sigmoid(1.702f * x), s * (1 + 1.702f * x * (1 - s));
    case LC_SILU: return s = sigmoid(x), s * (1 + x * (1 - s));
    }
    return NAN;
}

/* ---- lanes ----------------------------------------------------------------------------------------- */

/* exp saturates beyond +-87, where 1 / (1 + exp) is 0 or 1 in f32 anyway. */
static inline lanes lanes_sigmoid(lanes x) {
    lanes e = lanes_exp(lanes_pick(x < lanes_all(-87), lanes_all(87),
                                   lanes_pick(x > lanes_all(87), lanes_all(-87), -x)));
    lanes y = lanes_all(1) / (lanes_all(1) + e);
    return lanes_pick(x == x, y, x); /* NaN passes */
}

static inline bool in_lanes(enum lc_unary op) {
    return op == LC_SCALE || op == LC_SHIFT || op == LC_RELU || op == LC_SIGMOID ||
           op == LC_QUICK_GELU || op == LC_SILU;
}

static inline lanes lanes_value(enum lc_unary op, lanes x, float p) {
    switch (op) {
    case LC_SCALE: return x * lanes_all(p);
    case LC_SHIFT: return x + lanes_all(p);
    case LC_RELU: return lanes_pick(x < lanes_all(0), lanes_all(0), x);
    case LC_SIGMOID: return lanes_sigmoid(x);
    case LC_QUICK_GELU: return x * lanes_sigmoid(lanes_all(1.702f) * x);
    default: return x * lanes_sigmoid(x);
    }
}

static inline lanes lanes_derivative(enum lc_unary op, lanes x, float p) {
    lanes s, one = lanes_all(1);
    switch (op) {
    case LC_SCALE: return lanes_all(p);
    case LC_SHIFT: return one;
    case LC_RELU: return lanes_pick(x > lanes_all(0), one, lanes_all(0));
    case LC_SIGMOID: return s = lanes_sigmoid(x), s * (one - s);
    case LC_QUICK_GELU:
        return s = lanes_sigmoid(lanes_all(1.702f) * x),
               s * (one + lanes_all(1.702f) * x * (one - s));
    default: return s = lanes_sigmoid(x), s * (one + x * (one - s));
    }
}

/* The last lanes of a chunk are filled up with zeros. */
static inline lanes lanes_some(const float *x, int64_t n) {
    float a[LANES] = {0};
    memcpy(a, x, (size_t)n * sizeof *x);
    return lanes_at(a);
}

static inline void lanes_put_some(float *y, lanes v, int64_t n) {
    float a[LANES];
    lanes_put(a, v);
    memcpy(y, a, (size_t)n * sizeof *y);
}

#define EACH_LANES(n, y, expression_full, expression_some)                                         \
    do {                                                                                           \
        int64_t i = 0;                                                                             \
        for (; i + LANES <= (n); i += LANES) lanes_put((y) + i, expression_full);                  \
        if (i < (n)) lanes_put_some((y) + i, expression_some, (n)-i);                              \
    } while (0)

static void unary_chunk(float *y, const float *x, int64_t n, enum lc_unary op, float p, float q) {
    if (!in_lanes(op)) {
        for (int64_t i = 0; i < n; i++) y[i] = value(op, x[i], p, q);
        return;
    }
    EACH_LANES(n, y, lanes_value(op, lanes_at(x + i), p),
               lanes_value(op, lanes_some(x + i, n - i), p));
}

static void unary_backward_chunk(float *dx, const float *dy, const float *x, int64_t n,
                                 enum lc_unary op, float p, float q) {
    if (!in_lanes(op)) {
        for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * derivative(op, x[i], p, q);
        return;
    }
    EACH_LANES(n, dx, lanes_at(dy + i) * lanes_derivative(op, lanes_at(x + i), p),
               lanes_some(dy + i, n - i) * lanes_derivative(op, lanes_some(x + i, n - i), p));
}

int cpu_unary(void *y, const void *x, int dtype, int64_t count, enum lc_unary op, double p,
              double q) {
#pragma omp parallel for schedule(static) if (count > PARALLEL)
    for (int64_t c = 0; c < chunk_count(count); c++) {
        float in[CPU_CHUNK], out[CPU_CHUNK];
        int64_t first = c * CPU_CHUNK, n = chunk_size(count, c);
        float *to = cpu_place(out, y, dtype, first);
        unary_chunk(to, cpu_load(in, x, dtype, first, n), n, op, (float)p, (float)q);
        cpu_store(y, dtype, first, to, n);
    }
    return 0;
}

int cpu_unary_backward(void *dx, const void *dy, const void *x, int dtype, int64_t count,
                       enum lc_unary op, double p, double q) {
#pragma omp parallel for schedule(static) if (count > PARALLEL)
    for (int64_t c = 0; c < chunk_count(count); c++) {
        float in[CPU_CHUNK], gradient[CPU_CHUNK], out[CPU_CHUNK];
        int64_t first = c * CPU_CHUNK, n = chunk_size(count, c);
        float *to = cpu_place(out, dx, dtype, first);
        unary_backward_chunk(to, cpu_load(gradient, dy, dtype, first, n),
                             cpu_load(in, x, dtype, first, n), n, op, (float)p, (float)q);
        cpu_store(dx, dtype, first, to, n);
    }
    return 0;
}

/* ---- two elements -------------------------------------------------------------------------------------- */

static inline lanes lanes_binary(enum lc_binary op, lanes a, lanes b) {
    switch (op) {
    case LC_ADD: return a + b;
    case LC_SUB: return a - b;
    case LC_MUL: return a * b;
    case LC_DIV: return a / b;
    default: return a * lanes_sigmoid(a) * b;
    }
}

static inline lanes lanes_da(enum lc_binary op, lanes dy, lanes a, lanes b) {
    lanes s, one = lanes_all(1);
    switch (op) {
    case LC_ADD:
    case LC_SUB: return dy;
    case LC_MUL: return dy * b;
    case LC_DIV: return dy / b;
    default: return s = lanes_sigmoid(a), dy * b * s * (one + a * (one - s));
    }
}

static inline lanes lanes_db(enum lc_binary op, lanes dy, lanes a, lanes b) {
    switch (op) {
    case LC_ADD: return dy;
    case LC_SUB: return -dy;
    case LC_MUL: return dy * a;
    case LC_DIV: return -dy * a / (b * b);
    default: return dy * a * lanes_sigmoid(a);
    }
}

static void binary_chunk(float *y, const float *a, const float *b, int64_t n, enum lc_binary op) {
    EACH_LANES(n, y, lanes_binary(op, lanes_at(a + i), lanes_at(b + i)),
               lanes_binary(op, lanes_some(a + i, n - i), lanes_some(b + i, n - i)));
}

/* Rows of b's length at a time, or chunks of one long row. */
int cpu_binary(void *y, const void *a, const void *b, int dtype, int64_t outer, int64_t inner,
               enum lc_binary op) {
    int64_t chunks = chunk_count(inner);
#pragma omp parallel for schedule(static) if (outer * inner > PARALLEL)
    for (int64_t c = 0; c < outer * chunks; c++) {
        float x[CPU_CHUNK], z[CPU_CHUNK], out[CPU_CHUNK];
        int64_t column = c % chunks * CPU_CHUNK, first = c / chunks * inner + column,
                n = chunk_size(inner, c % chunks);
        float *to = cpu_place(out, y, dtype, first);
        binary_chunk(to, cpu_load(x, a, dtype, first, n), cpu_load(z, b, dtype, column, n), n, op);
        cpu_store(y, dtype, first, to, n);
    }
    return 0;
}

int cpu_binary_backward(void *da, void *db, const void *dy, const void *a, const void *b, int dtype,
                        int64_t count, enum lc_binary op) {
#pragma omp parallel for schedule(static) if (count > PARALLEL)
    for (int64_t c = 0; c < chunk_count(count); c++) {
        float g_in[CPU_CHUNK], a_in[CPU_CHUNK], b_in[CPU_CHUNK], out[CPU_CHUNK];
        int64_t first = c * CPU_CHUNK, n = chunk_size(count, c);
        const float *g = cpu_load(g_in, dy, dtype, first, n),
                    *x = cpu_load(a_in, a, dtype, first, n),
                    *z = cpu_load(b_in, b, dtype, first, n);
        if (da) {
            float *to = cpu_place(out, da, dtype, first);
            EACH_LANES(n, to, lanes_da(op, lanes_at(g + i), lanes_at(x + i), lanes_at(z + i)),
                       lanes_da(op, lanes_some(g + i, n - i), lanes_some(x + i, n - i),
                                lanes_some(z + i, n - i)));
            cpu_store(da, dtype, first, to, n);
        }
        if (db) {
            float *to = cpu_place(out, db, dtype, first);
            EACH_LANES(n, to, lanes_db(op, lanes_at(g + i), lanes_at(x + i), lanes_at(z + i)),
                       lanes_db(op, lanes_some(g + i, n - i), lanes_some(x + i, n - i),
                                lanes_some(z + i, n - i)));
            cpu_store(db, dtype, first, to, n);
        }
    }
    return 0;
}

int cpu_accumulate(void *y, int y_dtype, const void *x, int x_dtype, int64_t count) {
#pragma omp parallel for schedule(static) if (count > PARALLEL)
    for (int64_t c = 0; c < chunk_count(count); c++) {
        float a_in[CPU_CHUNK], b_in[CPU_CHUNK], out[CPU_CHUNK];
        int64_t first = c * CPU_CHUNK, n = chunk_size(count, c);
        float *to = cpu_place(out, y, y_dtype, first);
        binary_chunk(to, cpu_load(a_in, y, y_dtype, first, n), cpu_load(b_in, x, x_dtype, first, n),
                     n, LC_ADD);
        cpu_store(y, y_dtype, first, to, n);
    }
    return 0;
}
