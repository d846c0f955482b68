/* vector_math.h - exp, log, erf ... of floats without branches.
 *
 * Each function is a chain of exactly rounded steps and selections, so a compiler may run it on any
 * number of lanes and every lane, and a scalar remainder, gets the same bits. Polynomials are
 * Chebyshev fits made for these intervals. Largest error, in units in the last place of the result,
 * against libm in double over the whole range: exp 1, log 1, log1p (of [0, 1]) 1.5, erf
 * 1.5, tanh 1.5, log_sigmoid 2, sigmoid 2.5; sin and cos 1e-7 absolute for |x| < 2^17.
 * NaN gives NaN; infinities give the limits. */
#ifndef LC_VECTOR_MATH_H
#define LC_VECTOR_MATH_H
#include <math.h>
#include <stdint.h>
#include <string.h>

#define VM_MAGIC 0x1.8p23f /* adding it rounds to an integer, which sits in the low bits */

static inline uint32_t vm_bits(float x) {
    uint32_t i;
    memcpy(&i, &x, sizeof i);
    return i;
}

static inline float vm_float(uint32_t bits) {
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline float vm_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

/* x = n ln 2 + r, |r| <= ln 2 / 2: e^x = 2^n e^r. 2^n goes in by halves, for results that are
 * subnormal or infinite. */
static inline float vm_exp(float x) {
    x = x > 89.0f ? 89.0f : x;
    x = x < -104.0f ? -104.0f : x;
    float shifted = vm_fma(x, 0x1.715476p+0f, VM_MAGIC), n = shifted - VM_MAGIC;
    float r = vm_fma(n, -0x1.62e4p-1f, x);
    r = vm_fma(n, -0x1.7f7d1cp-20f, r);
    float p = 0x1.a12670p-13f;
    p = vm_fma(p, r, 0x1.6d44d2p-10f);
    p = vm_fma(p, r, 0x1.1110e0p-7f);
    p = vm_fma(p, r, 0x1.5554e8p-5f);
    p = vm_fma(p, r, 0x1.555556p-3f);
    p = vm_fma(p, r, 0.5f);
    p = vm_fma(p, r * r, r) + 1.0f;
    int32_t whole = (int32_t)(vm_bits(shifted) - vm_bits(VM_MAGIC)), half = whole >> 1;
    return p * vm_float((uint32_t)(half + 127) << 23) *
           vm_float((uint32_t)(whole - half + 127) << 23);
}

/* x = 2^e m, m in [sqrt(1/2), sqrt 2): log x = e ln 2 + log m. */
static inline float vm_log(float x) {
    int small = x < 0x1p-126f;
    float scaled = small ? x * 0x1p23f : x;
    uint32_t bits = vm_bits(scaled);
    int32_t e = (int32_t)(bits - 0x3F3504F3u) >> 23; /* 0x3F3504F3: sqrt(1/2) */
    float f = vm_float(bits - ((uint32_t)e << 23)) - 1.0f;
    float n = (float)e - (small ? 23.0f : 0.0f), square = f * f;
    float p = 0x1.1d8ea6p-4f;
    p = vm_fma(p, f, -0x1.d635bcp-4f);
    p = vm_fma(p, f, 0x1.dea282p-4f);
    p = vm_fma(p, f, -0x1.fcf4c6p-4f);
    p = vm_fma(p, f, 0x1.23d21ap-3f);
    p = vm_fma(p, f, -0x1.555b4ap-3f);
    p = vm_fma(p, f, 0x1.999d5ap-3f);
    p = vm_fma(p, f, -0x1.fffffcp-3f);
    p = vm_fma(p, f, 0x1.555554p-2f);
    float y = vm_fma(p * f, square, n * 0x1.7f7d1cp-20f);
    y = vm_fma(-0.5f, square, y) + f;
    y = vm_fma(n, 0x1.62e4p-1f, y);
    y = x > 0 ? y : x == 0 ? -INFINITY : NAN;
    return x == INFINITY ? x : y;
}

/* log(1 + x) for x in [0, 1]: the rounding of 1 + x is put right to first order. */
static inline float vm_log1p(float x) {
    float u = 1.0f + x;
    return vm_log(u) + (x - (u - 1.0f)) / u;
}

/* Near 0 a polynomial in x^2; beyond, 1 - e^q with q a fit of log erfc. */
static inline float vm_erf(float x) {
    float a = fabsf(x), t = a * a;
    float near = 0x1.65bfc0p-14f;
    near = vm_fma(near, t, -0x1.acd92ap-11f);
    near = vm_fma(near, t, 0x1.551070p-8f);
    near = vm_fma(near, t, -0x1.b815ccp-6f);
    near = vm_fma(near, t, 0x1.ce2e5cp-4f);
    near = vm_fma(near, t, -0x1.812744p-2f);
    near = vm_fma(near, t, 0x1.06eba8p-3f);
    float b = a > 3.95f ? 3.95f : a;
    float q = 0x1.baf842p-20f;
    q = vm_fma(q, b, -0x1.84232ep-15f);
    q = vm_fma(q, b, 0x1.399cfap-11f);
    q = vm_fma(q, b, -0x1.383486p-8f);
    q = vm_fma(q, b, 0x1.b0fa28p-6f);
    q = vm_fma(q, b, -0x1.c2e112p-4f);
    q = vm_fma(q, b, -0x1.4380d0p-1f);
    q = vm_fma(q, b, -0x1.2155cep+0f);
    q = vm_fma(q, b, 0x1.48bfc2p-12f);
    float far = copysignf(1.0f - vm_exp(q), x);
    far = a >= 3.95f ? copysignf(1.0f, x) : far;
    return a > 0.875f ? far : vm_fma(near, x, x);
}

static inline float vm_sigmoid(float x) { return 1.0f / (1.0f + vm_exp(-x)); }

/* log sigmoid(x) = min(x, 0) - log(1 + e^-|x|) */
static inline float vm_log_sigmoid(float x) {
    return (x > 0 ? 0 : x) - vm_log1p(vm_exp(-fabsf(x)));
}

static inline float vm_tanh(float x) {
    float a = fabsf(x), t = x * x;
    float near = 0x1.36bdb2p-9f;
    near = vm_fma(near, t, -0x1.1394cap-7f);
    near = vm_fma(near, t, 0x1.64fad8p-6f);
    near = vm_fma(near, t, -0x1.ba0d94p-5f);
    near = vm_fma(near, t, 0x1.1110f6p-3f);
    near = vm_fma(near, t, -0x1.555556p-2f);
    float far = copysignf(1.0f - 2.0f / (vm_exp(2.0f * a) + 1.0f), x);
    return a > 0.6f ? far : vm_fma(near * t, x, x);
}

/* x = n pi/2 + r, |r| <= pi/4; pi/2 in three parts. */
static inline void vm_sincos(float x, float *sine, float *cosine) {
    float shifted = vm_fma(x, 0x1.45f306p-1f, VM_MAGIC), n = shifted - VM_MAGIC;
    float r = vm_fma(n, -0x1.921fb4p+0f, x);
    r = vm_fma(n, -0x1.4442d0p-24f, r);
    r = vm_fma(n, -0x1.84698ap-48f, r);
    float t = r * r;
    float s = 0x1.6dbb5cp-19f;
    s = vm_fma(s, t, -0x1.a013a0p-13f);
    s = vm_fma(s, t, 0x1.11110ep-7f);
    s = vm_fma(s, t, -0x1.555556p-3f);
    s = vm_fma(s * t, r, r);
    float c = -0x1.252284p-22f;
    c = vm_fma(c, t, 0x1.a015bep-16f);
    c = vm_fma(c, t, -0x1.6c16c0p-10f);
    c = vm_fma(c, t, 0x1.555556p-5f);
    c = vm_fma(c, t, -0.5f);
    c = vm_fma(c, t, 1.0f);
    uint32_t quarter = vm_bits(shifted);
    float first = quarter & 1 ? c : s, second = quarter & 1 ? s : c;
    *sine = vm_float(vm_bits(first) ^ (quarter & 2) << 30);
    *cosine = vm_float(vm_bits(second) ^ ((quarter + 1) & 2) << 30);
}

#endif
