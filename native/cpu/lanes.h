/* lanes.h - short vectors of floats, for loops that the compiler must neither reorder nor leave
 * scalar. Lanes never mix but in lanes_sum, whose order is fixed. */
#ifndef LC_LANES_H
#define LC_LANES_H
#include <stdint.h>

#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX2__) && defined(__FMA__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t lanes_int __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t lanes_bits __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint16_t lanes_halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

static inline int64_t lanes_up(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

static inline lanes lanes_all(float x) { return x - (lanes){0}; }
static inline lanes lanes_at(const float *p) { return *(const lanes *)p; }
static inline void lanes_put(float *p, lanes x) { *(lanes *)p = x; }

/* a * b + c, rounded once. */
static inline lanes lanes_fma(lanes a, lanes b, lanes c) {
#if defined(__AVX512F__)
    return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__) && defined(__FMA__)
    return _mm256_fmadd_ps(a, b, c);
#else
    for (int i = 0; i < LANES; i++) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
#endif
}

/* condition ? a : b, lane by lane; condition is what a comparison gives. */
static inline lanes lanes_pick(lanes_int condition, lanes a, lanes b) {
    return (lanes)((condition & (lanes_int)a) | (~condition & (lanes_int)b));
}

static inline lanes lanes_at_bf16(const uint16_t *p) {
    return (lanes)(__builtin_convertvector(*(const lanes_halves *)p, lanes_bits) << 16);
}

/* Rounded as by cpu_to_bf16. */
static inline void lanes_put_bf16(uint16_t *p, lanes x) {
    const lanes_bits bits = (lanes_bits)x;
    const lanes nan = (lanes)(bits >> 16 | 0x40),
                number = (lanes)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
    *(lanes_halves *)p =
        __builtin_convertvector((lanes_bits)lanes_pick(x != x, nan, number), lanes_halves);
}

static inline float lanes_sum(lanes x) {
    float a[LANES];
    lanes_put(a, x);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) a[i] += a[i + half];
    return a[0];
}

/* e^x to within 1.5 units in the last place for x <= 88.3; 0 below -87.3 (where results would be
 * subnormal). x = n ln 2 + r, |r| <= ln 2 / 2; e^r by a polynomial, 2^n through the exponent. */
static inline lanes lanes_exp(lanes x) {
    const lanes magic = lanes_all(0x1.8p23f); /* adding it rounds to an integer */
    lanes shifted = lanes_fma(x, lanes_all(0x1.715476p+0f), magic), n = shifted - magic;
    lanes r = lanes_fma(n, lanes_all(-0x1.62e4p-1f), x);
    r = lanes_fma(n, lanes_all(-0x1.7f7d1cp-20f), r);
    lanes p = lanes_all(0x1.6850e4p-10f);
    p = lanes_fma(p, r, lanes_all(0x1.123bccp-7f));
    p = lanes_fma(p, r, lanes_all(0x1.555b98p-5f));
    p = lanes_fma(p, r, lanes_all(0x1.55548ep-3f));
    p = lanes_fma(p, r, lanes_all(0x1.fffff8p-2f));
    p = lanes_fma(p, r, lanes_all(1));
    p = lanes_fma(p, r, lanes_all(1));
    lanes y = (lanes)((lanes_bits)p + ((lanes_bits)shifted << 23));
    return lanes_pick(x < lanes_all(-87.3f), lanes_all(0), y);
}

#endif
