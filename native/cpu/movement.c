/* movement.c - filling, converting, strided copies, random numbers. */
#include <math.h>
#ifdef __F16C__
#include <immintrin.h>
#endif

#include "base/error.h"
#include "cpu/cpu.h"

/* ---- 16-bit floats ------------------------------------------------------------------------------ */

float cpu_from_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, magnitude = h & 0x7FFF, bits;
    if (magnitude < 0x400) { /* zero and subnormals: magnitude * 2^-24 */
        float f = (float)magnitude * 0x1p-24f;
        return sign ? -f : f;
    }
    bits = sign |
           (magnitude >= 0x7C00 ? 0x7F800000u | magnitude << 13 : (magnitude << 13) + 0x38000000u);
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Round to nearest, ties to even. */
uint16_t cpu_to_f16(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000u) return (uint16_t)(sign | 0x7E00);  /* NaN */
    if (magnitude >= 0x477FF000u) return (uint16_t)(sign | 0x7C00); /* 65520 and more: infinity */
    if (magnitude < 0x38800000u) { /* subnormal: let the addition round at 2^-24 */
        float small = (f < 0 ? -f : f) + 0.5f;
        memcpy(&bits, &small, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3F000000u));
    }
    uint32_t rounded = magnitude + 0xFFF + (magnitude >> 13 & 1) - 0x38000000u;
    return (uint16_t)(sign | rounded >> 13);
}

#ifdef __F16C__
/* By the CPU's instructions, 8 at a time; the tail passes through a whole vector. */
static void floats_from_f16(float *dst, const uint16_t *src, int64_t n) {
    for (; n >= 8; n -= 8, src += 8, dst += 8)
        _mm256_storeu_ps(dst, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)src)));
    uint16_t in[8] = {0};
    float out[8];
    memcpy(in, src, (size_t)n * sizeof *in);
    _mm256_storeu_ps(out, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)in)));
    memcpy(dst, out, (size_t)n * sizeof *out);
}

static void floats_to_f16(uint16_t *dst, const float *src, int64_t n) {
    for (; n >= 8; n -= 8, src += 8, dst += 8)
        _mm_storeu_si128((__m128i *)dst, _mm256_cvtps_ph(_mm256_loadu_ps(src), 0));
    float in[8] = {0};
    uint16_t out[8];
    memcpy(in, src, (size_t)n * sizeof *in);
    _mm_storeu_si128((__m128i *)out, _mm256_cvtps_ph(_mm256_loadu_ps(in), 0));
    memcpy(dst, out, (size_t)n * sizeof *out);
}
#else
static void floats_from_f16(float *dst, const uint16_t *src, int64_t n) {
    for (int64_t i = 0; i < n; i++) dst[i] = cpu_from_f16(src[i]);
}

static void floats_to_f16(uint16_t *dst, const float *src, int64_t n) {
    for (int64_t i = 0; i < n; i++) dst[i] = cpu_to_f16(src[i]);
}
#endif

static void to_floats(float *dst, const void *src, int dtype, int64_t n) {
    switch (dtype) {
    case LC_F32: memcpy(dst, src, (size_t)n * sizeof *dst); break;
    case LC_BF16:
        for (int64_t i = 0; i < n; i++) dst[i] = cpu_from_bf16(((const uint16_t *)src)[i]);
        break;
    case LC_F16: floats_from_f16(dst, src, n); break;
    case LC_I32:
        for (int64_t i = 0; i < n; i++) dst[i] = (float)((const int32_t *)src)[i];
        break;
    default:
        for (int64_t i = 0; i < n; i++) dst[i] = ((const uint8_t *)src)[i];
    }
}

static float clamp(float x, float low, float high) {
    return x >= low ? (x <= high ? x : high) : low;
}

/* Integers saturate; NaN becomes the lowest. */
static void from_floats(void *dst, int dtype, const float *src, int64_t n) {
    switch (dtype) {
    case LC_F32: memcpy(dst, src, (size_t)n * sizeof *src); break;
    case LC_BF16:
        for (int64_t i = 0; i < n; i++) ((uint16_t *)dst)[i] = cpu_to_bf16(src[i]);
        break;
    case LC_F16: floats_to_f16(dst, src, n); break;
    case LC_I32:
        for (int64_t i = 0; i < n; i++)
            ((int32_t *)dst)[i] = (int32_t)clamp(src[i], -0x1p31f, 0x1.fffffep30f);
        break;
    default:
        for (int64_t i = 0; i < n; i++) ((uint8_t *)dst)[i] = (uint8_t)clamp(src[i], 0, 255);
    }
}

static const unsigned char *at(const void *p, int dtype, int64_t i) {
    return (const unsigned char *)p + (size_t)i * lc_dtype_bytes(dtype);
}

const float *cpu_load(float *buffer, const void *src, int dtype, int64_t first, int64_t n) {
    if (dtype == LC_F32) return (const float *)src + first;
    to_floats(buffer, at(src, dtype, first), dtype, n);
    return buffer;
}

float *cpu_place(float *buffer, void *dst, int dtype, int64_t first) {
    return dtype == LC_F32 ? (float *)dst + first : buffer;
}

void cpu_store(void *dst, int dtype, int64_t first, const float *src, int64_t n) {
    if (dtype != LC_F32)
        from_floats((unsigned char *)dst + (size_t)first * lc_dtype_bytes(dtype), dtype, src, n);
}

/* ---- fill and convert ------------------------------------------------------------------------------ */

static int64_t chunks(int64_t count) { return (count + CPU_CHUNK - 1) / CPU_CHUNK; }
static int64_t chunk_length(int64_t count, int64_t c) {
    return count - c * CPU_CHUNK < CPU_CHUNK ? count - c * CPU_CHUNK : CPU_CHUNK;
}

int cpu_fill(void *dst, int dtype, int64_t count, double value) {
    if (dtype == LC_I32) { /* a float would lose the low bits */
        const int32_t whole = (int32_t)(value >= -0x1p31 ? fmin(value, 0x1.fffffffcp30) : -0x1p31);
        for (int64_t i = 0; i < count; i++) ((int32_t *)dst)[i] = whole;
        return 0;
    }
    float pattern[CPU_CHUNK];
    for (int64_t i = 0; i < CPU_CHUNK && i < count; i++) pattern[i] = (float)value;
    for (int64_t c = 0; c < chunks(count); c++)
        from_floats((unsigned char *)dst + (size_t)c * CPU_CHUNK * lc_dtype_bytes(dtype), dtype,
                    pattern, chunk_length(count, c));
    return 0;
}

int cpu_convert(void *dst, int dst_dtype, const void *src, int src_dtype, int64_t count) {
    if (dst_dtype == src_dtype)
        return cpu_copy(dst, src, (size_t)count * lc_dtype_bytes(dst_dtype));
#pragma omp parallel for schedule(static) if (count > 65536)
    for (int64_t c = 0; c < chunks(count); c++) {
        float buffer[CPU_CHUNK];
        int64_t n = chunk_length(count, c);
        const float *x = cpu_load(buffer, src, src_dtype, c * CPU_CHUNK, n);
        from_floats((unsigned char *)dst + (size_t)c * CPU_CHUNK * lc_dtype_bytes(dst_dtype),
                    dst_dtype, x, n);
    }
    return 0;
}

/* ---- strided copies ----------------------------------------------------------------------------------- */

static void copy_run(unsigned char *dst, const unsigned char *src, size_t size, int64_t n,
                     int64_t dst_step, int64_t src_step) {
    if (dst_step == 1 && src_step == 1) {
        memcpy(dst, src, (size_t)n * size);
        return;
    }
    int64_t d = dst_step * (int64_t)size, s = src_step * (int64_t)size;
    if (size == 4)
        for (int64_t i = 0; i < n; i++) memcpy(dst + i * d, src + i * s, 4);
    else
        for (int64_t i = 0; i < n; i++) memcpy(dst + i * d, src + i * s, size);
}

/* Copies between a dense array and a strided one; scatter says which side is strided. */
static int strided(void *dst, const void *src, int dtype, int ndim, const int64_t *shape,
                   const int64_t *stride, bool scatter) {
    size_t size = lc_dtype_bytes(dtype);
    int64_t inner = ndim ? shape[ndim - 1] : 1, step = ndim ? stride[ndim - 1] : 1, outer = 1;
    for (int i = 0; i + 1 < ndim; i++) outer *= shape[i];
    if (!inner) return 0;
#pragma omp parallel for schedule(static) if (outer * inner > 65536)
    for (int64_t o = 0; o < outer; o++) {
        int64_t rest = o, offset = 0;
        for (int i = ndim - 2; i >= 0; i--) {
            offset += rest % shape[i] * stride[i];
            rest /= shape[i];
        }
        int64_t dense = o * inner * (int64_t)size, far = offset * (int64_t)size;
        if (scatter)
            copy_run((unsigned char *)dst + far, (const unsigned char *)src + dense, size, inner,
                     step, 1);
        else
            copy_run((unsigned char *)dst + dense, (const unsigned char *)src + far, size, inner, 1,
                     step);
    }
    return 0;
}

int cpu_gather(void *dst, const void *src, int dtype, int ndim, const int64_t *shape,
               const int64_t *stride) {
    return strided(dst, src, dtype, ndim, shape, stride, false);
}

int cpu_scatter(void *dst, const void *src, int dtype, int ndim, const int64_t *shape,
                const int64_t *stride) {
    return strided(dst, src, dtype, ndim, shape, stride, true);
}

int cpu_put_rows(void *y, const void *x, int dtype, const int32_t *index, int64_t count,
                 int64_t width, int64_t x_row) {
    size_t size = lc_dtype_bytes(dtype), bytes = (size_t)width * size;
    for (int64_t i = 0; i < count; i++)
        memcpy((unsigned char *)y + (size_t)index[i] * bytes,
               (const unsigned char *)x + (size_t)(i * x_row) * size, bytes);
    return 0;
}

int cpu_put_blocks(const struct lc_block *block, int count, int dtype) {
    for (const struct lc_block *b = block; b < block + count; b++)
        for (int64_t i = 0; i < b->rows; i++)
            for (int64_t j = 0, n; j < b->cols; j += n) {
                float buffer[CPU_CHUNK];
                n = b->cols - j < CPU_CHUNK ? b->cols - j : CPU_CHUNK;
                float *x = cpu_place(buffer, b->to, dtype, i * b->to_row + j);
                for (int64_t c = 0; c < n; c++) x[c] = b->scale * b->from[i * b->cols + j + c];
                cpu_store(b->to, dtype, i * b->to_row + j, x, n);
            }
    return 0;
}

/* ---- random numbers ------------------------------------------------------------------------------------- */

/* Four numbers an index; normal ones by Box and Muller, with a uniform that is never 0. */
static int random_fill(void *dst, int dtype, int64_t count, uint64_t seed, uint64_t stream,
                       bool normal) {
#pragma omp parallel for schedule(static) if (count > 16384)
    for (int64_t c = 0; c < chunks(count); c++) {
        float buffer[CPU_CHUNK];
        int64_t n = chunk_length(count, c);
        for (int64_t i = 0; i < n; i += 4) {
            uint32_t word[4];
            lc_philox(seed, stream, (uint64_t)(c * CPU_CHUNK + i) / 4, word);
            for (int j = 0; j < 4; j += 2) {
                if (normal) {
                    double radius = sqrt(-2 * log(((double)word[j] + 0.5) * 0x1p-32)),
                           angle = 6.283185307179586 * word[j + 1] * 0x1p-32;
                    buffer[i + j] = (float)(radius * cos(angle));
                    buffer[i + j + 1] = (float)(radius * sin(angle));
                } else {
                    buffer[i + j] = (float)(word[j] >> 8) * 0x1p-24f;
                    buffer[i + j + 1] = (float)(word[j + 1] >> 8) * 0x1p-24f;
                }
            }
        }
        from_floats((unsigned char *)dst + (size_t)c * CPU_CHUNK * lc_dtype_bytes(dtype), dtype,
                    buffer, n);
    }
    return 0;
}

int cpu_randn(void *dst, int dtype, int64_t count, uint64_t seed, uint64_t stream) {
    return random_fill(dst, dtype, count, seed, stream, true);
}

int cpu_rand(void *dst, int dtype, int64_t count, uint64_t seed, uint64_t stream) {
    return random_fill(dst, dtype, count, seed, stream, false);
}
