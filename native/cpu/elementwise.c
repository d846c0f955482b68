/* elementwise.c - functions of one or two elements and their derivatives.
 *
 * Everything works on chunks of floats; 16-bit tensors pass through buffers. The loops have no
 * branches and no calls (pow alone calls the C library), so a compiler runs them on vectors, and a
 * remainder gets the same bits: vector_math.h says why. */
#include <math.h>

#include "cpu/cpu.h"
#include "cpu/vector_math.h"

enum { PARALLEL = 16384 }; /* elements from which threads pay */

static int64_t chunk_count(int64_t count) { return (count + CPU_CHUNK - 1) / CPU_CHUNK; }

static int64_t chunk_size(int64_t count, int64_t c) {
    int64_t left = count - c * CPU_CHUNK;
    return left < CPU_CHUNK ? left : CPU_CHUNK;
}

/* ---- one operand ------------------------------------------------------------------------------- */

#define SQRT_HALF 0x1.6a09e6p-1f /* sqrt(1/2) */
#define DENSITY_0 0x1.988454p-2f /* 1 / sqrt(2 pi) */
#define QUICK 1.702f             /* of quick_gelu */

static inline float normal_cdf(float x) { return 0.5f * (1.0f + vm_erf(x * SQRT_HALF)); }

static inline float gelu_slope(float x) {
    return vm_fma(x * DENSITY_0, vm_exp(-0.5f * x * x), normal_cdf(x));
}

/* d/dx of x sigmoid(k x), from s = sigmoid(k x) */
static inline float swish_slope(float x, float k, float s) {
    return s * vm_fma(k * x, 1.0f - s, 1.0f);
}

static inline float tanh_slope(float t) { return 1.0f - t * t; }

#define EACH(to, expression)                                                                       \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                          \
        const float v = x[i];                                                                      \
        (to)[i] = (expression);                                                                    \
    }                                                                                              \
    break

#define PAIR(to, expression)                                                                       \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) { (to)[i] = (expression); }                \
    break

static void unary_chunk(float *y, const float *x, int64_t n, enum lc_unary op, float p, float q) {
    switch (op) {
    case LC_SCALE: EACH(y, v * p);
    case LC_SHIFT: EACH(y, v + p);
    case LC_POW:
        for (int64_t i = 0; i < n; i++) y[i] = powf(x[i], p);
        break;
    case LC_EXP: EACH(y, vm_exp(v));
    case LC_LOG: EACH(y, vm_log(v));
    case LC_SQRT: EACH(y, sqrtf(v));
    case LC_ABS: EACH(y, fabsf(v));
    case LC_RELU: EACH(y, v < 0 ? 0 : v);
    case LC_CLAMP: EACH(y, v < p ? p : v > q ? q : v);
    case LC_TANH: EACH(y, vm_tanh(v));
    case LC_SIGMOID: EACH(y, vm_sigmoid(v));
    case LC_LOG_SIGMOID: EACH(y, vm_log_sigmoid(v));
    case LC_GELU: EACH(y, v * normal_cdf(v));
    case LC_QUICK_GELU: EACH(y, v * vm_sigmoid(QUICK * v));
    case LC_SILU: EACH(y, v * vm_sigmoid(v));
    }
}

static void unary_backward_chunk(float *dx, const float *dy, const float *x, int64_t n,
                                 enum lc_unary op, float p, float q) {
    switch (op) {
    case LC_SCALE: PAIR(dx, dy[i] * p);
    case LC_SHIFT: PAIR(dx, dy[i]);
    case LC_POW:
        for (int64_t i = 0; i < n; i++) dx[i] = p == 0 ? 0 : dy[i] * p * powf(x[i], p - 1);
        break;
    case LC_EXP: EACH(dx, dy[i] * vm_exp(v));
    case LC_LOG: EACH(dx, dy[i] / v);
    case LC_SQRT: EACH(dx, 0.5f * dy[i] / sqrtf(v));
    case LC_ABS: EACH(dx, v > 0 ? dy[i] : v < 0 ? -dy[i] : 0);
    case LC_RELU: EACH(dx, v > 0 ? dy[i] : 0);
    case LC_CLAMP: EACH(dx, v >= p && v <= q ? dy[i] : 0);
    case LC_TANH: EACH(dx, dy[i] * tanh_slope(vm_tanh(v)));
    case LC_SIGMOID: EACH(dx, dy[i] * vm_sigmoid(v) * vm_sigmoid(-v));
    case LC_LOG_SIGMOID: EACH(dx, dy[i] * vm_sigmoid(-v));
    case LC_GELU: EACH(dx, dy[i] * gelu_slope(v));
    case LC_QUICK_GELU: EACH(dx, dy[i] * swish_slope(v, QUICK, vm_sigmoid(QUICK * v)));
    case LC_SILU: EACH(dx, dy[i] * swish_slope(v, 1, vm_sigmoid(v)));
    }
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

/* ---- two operands ------------------------------------------------------------------------------ */

static void binary_chunk(float *y, const float *a, const float *b, int64_t n, enum lc_binary op) {
    switch (op) {
    case LC_ADD: PAIR(y, a[i] + b[i]);
    case LC_SUB: PAIR(y, a[i] - b[i]);
    case LC_MUL: PAIR(y, a[i] * b[i]);
    case LC_DIV: PAIR(y, a[i] / b[i]);
    }
}

static void da_chunk(float *da, const float *dy, const float *b, int64_t n, enum lc_binary op) {
    switch (op) {
    case LC_ADD:
    case LC_SUB: PAIR(da, dy[i]);
    case LC_MUL: PAIR(da, dy[i] * b[i]);
    case LC_DIV: PAIR(da, dy[i] / b[i]);
    }
}

static void db_chunk(float *db, const float *dy, const float *a, const float *b, int64_t n,
                     enum lc_binary op) {
    switch (op) {
    case LC_ADD: PAIR(db, dy[i]);
    case LC_SUB: PAIR(db, -dy[i]);
    case LC_MUL: PAIR(db, dy[i] * a[i]);
    case LC_DIV: PAIR(db, -dy[i] / b[i] * (a[i] / b[i]));
    }
}

/* Elements first to first + n of b [period] repeated for ever. */
static const float *load_repeated(float *buffer, const void *b, int dtype, int64_t period,
                                  int64_t first, int64_t n) {
    int64_t at = first % period;
    if (at + n <= period) return cpu_load(buffer, b, dtype, at, n);
    int64_t whole = period < n ? period : n, head = period - at < whole ? period - at : whole;
    const float *x = cpu_load(buffer, b, dtype, at, head);
    if (x != buffer) memcpy(buffer, x, (size_t)head * sizeof *x);
    x = cpu_load(buffer + head, b, dtype, 0, whole - head);
    if (x != buffer + head) memcpy(buffer + head, x, (size_t)(whole - head) * sizeof *x);
    for (int64_t filled = whole; filled < n;) { /* whole periods, doubled */
        int64_t more = filled < n - filled ? filled : n - filled;
        memcpy(buffer + filled, buffer, (size_t)more * sizeof *x);
        filled += more;
    }
    return buffer;
}

int cpu_binary(void *y, const void *a, const void *b, int dtype, int64_t outer, int64_t inner,
               enum lc_binary op) {
    const int64_t count = outer * inner;
#pragma omp parallel for schedule(static) if (count > PARALLEL)
    for (int64_t c = 0; c < chunk_count(count); c++) {
        float a_in[CPU_CHUNK], b_in[CPU_CHUNK], out[CPU_CHUNK];
        int64_t first = c * CPU_CHUNK, n = chunk_size(count, c);
        float *to = cpu_place(out, y, dtype, first);
        binary_chunk(to, cpu_load(a_in, a, dtype, first, n),
                     load_repeated(b_in, b, dtype, inner, first, n), n, op);
        cpu_store(y, dtype, first, to, n);
    }
    return 0;
}

int cpu_binary_backward(void *da, void *db, const void *dy, const void *a, const void *b, int dtype,
                        int64_t outer, int64_t inner, enum lc_binary op) {
    const int64_t count = outer * inner;
#pragma omp parallel for schedule(static) if (count > PARALLEL)
    for (int64_t c = 0; c < chunk_count(count); c++) {
        float dy_in[CPU_CHUNK], a_in[CPU_CHUNK], b_in[CPU_CHUNK], out[CPU_CHUNK];
        int64_t first = c * CPU_CHUNK, n = chunk_size(count, c);
        const float *g = cpu_load(dy_in, dy, dtype, first, n),
                    *u = cpu_load(a_in, a, dtype, first, n),
                    *v = load_repeated(b_in, b, dtype, inner, first, n);
        if (da) {
            float *to = cpu_place(out, da, dtype, first);
            da_chunk(to, g, v, n, op);
            cpu_store(da, dtype, first, to, n);
        }
        if (db) {
            float *to = cpu_place(out, db, dtype, first);
            db_chunk(to, g, u, v, n, op);
            cpu_store(db, dtype, first, to, n);
        }
    }
    return 0;
}

/* ---- swiglu --------------------------------------------------------------------------------------- */

/* Rows are cut into chunks, all of one size but a row's last. */
struct row_chunk {
    int64_t row, first, n;
};
static struct row_chunk row_chunk(int64_t width, int64_t i) {
    const int64_t each = chunk_count(width), c = i % each;
    return (struct row_chunk){i / each, c * CPU_CHUNK, chunk_size(width, c)};
}

int cpu_swiglu(void *y, const void *gate, const void *up, int dtype, int64_t rows, int64_t width,
               int64_t y_row, int64_t x_row) {
    const int64_t chunks = rows * chunk_count(width);
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL)
    for (int64_t i = 0; i < chunks; i++) {
        float gate_in[CPU_CHUNK], up_in[CPU_CHUNK], out[CPU_CHUNK];
        const struct row_chunk c = row_chunk(width, i);
        const int64_t at = c.row * x_row + c.first, to_at = c.row * y_row + c.first;
        const float *g = cpu_load(gate_in, gate, dtype, at, c.n),
                    *u = cpu_load(up_in, up, dtype, at, c.n);
        float *to = cpu_place(out, y, dtype, to_at);
#pragma omp simd
        for (int64_t j = 0; j < c.n; j++) to[j] = g[j] * vm_sigmoid(g[j]) * u[j];
        cpu_store(y, dtype, to_at, to, c.n);
    }
    return 0;
}

int cpu_swiglu_backward(void *dgate, void *dup, const void *dy, const void *gate, const void *up,
                        int dtype, int64_t rows, int64_t width, int64_t dx_row, int64_t x_row) {
    const int64_t chunks = rows * chunk_count(width);
#pragma omp parallel for schedule(static) if (rows * width > PARALLEL)
    for (int64_t i = 0; i < chunks; i++) {
        float dy_in[CPU_CHUNK], gate_in[CPU_CHUNK], up_in[CPU_CHUNK], out[CPU_CHUNK];
        const struct row_chunk c = row_chunk(width, i);
        const int64_t at = c.row * x_row + c.first, to_at = c.row * dx_row + c.first;
        const float *d = cpu_load(dy_in, dy, dtype, c.row * width + c.first, c.n),
                    *g = cpu_load(gate_in, gate, dtype, at, c.n),
                    *u = cpu_load(up_in, up, dtype, at, c.n);
        float *to = cpu_place(out, dgate, dtype, to_at);
#pragma omp simd
        for (int64_t j = 0; j < c.n; j++)
            to[j] = d[j] * u[j] * swish_slope(g[j], 1, vm_sigmoid(g[j]));
        cpu_store(dgate, dtype, to_at, to, c.n);
        to = cpu_place(out, dup, dtype, to_at);
#pragma omp simd
        for (int64_t j = 0; j < c.n; j++) to[j] = d[j] * g[j] * vm_sigmoid(g[j]);
        cpu_store(dup, dtype, to_at, to, c.n);
    }
    return 0;
}

int cpu_accumulate(void *y, int y_dtype, const void *x, int x_dtype, int64_t count) {
#pragma omp parallel for schedule(static) if (count > PARALLEL)
    for (int64_t c = 0; c < chunk_count(count); c++) {
        float y_in[CPU_CHUNK], x_in[CPU_CHUNK], out[CPU_CHUNK];
        int64_t first = c * CPU_CHUNK, n = chunk_size(count, c);
        float *to = cpu_place(out, y, y_dtype, first);
        binary_chunk(to, cpu_load(y_in, y, y_dtype, first, n), cpu_load(x_in, x, x_dtype, first, n),
                     n, LC_ADD);
        cpu_store(y, y_dtype, first, to, n);
    }
    return 0;
}
