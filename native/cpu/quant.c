/* quant.c - weights packed into blocks (kernels.h has the layout), and their values again.
 *
 *   q8_0  ggml's: step = amax / 127; q = round(x * (1 / step)), halves away from zero; scale = f16(step)
 *   nf4   QLoRA's (Dettmers et al. 2023) and fp4, as bitsandbytes does them: x is rounded to f16;
 *         u = x * (1 / amax) in f32; the level is told by thresholds, of which one that is met
 *         exactly is not passed; scale = amax, which is an f16. (A GPU's 1 / amax there may be off in
 *         its last place, so that a u at a threshold falls either way.)
 *
 * amax: the largest magnitude of a block. A code of fp4 is the level of the magnitude, and 8 where x has a sign. */
#include <math.h>

#include "base/error.h"
#include "cpu/cpu.h"
#include "cpu/packed.h"

enum { BLOCK_4_BIT = 64, BLOCK_8_BIT = 32, LEVELS = CPU_LEVELS };

/* Levels by their codes, the first ones in rising order with a threshold between each two. */
struct levels {
    int thresholds;
    bool is_signed; /* else there are as many of magnitudes, and then their negatives */
    float level[LEVELS], threshold[LEVELS - 1];
};

/* 16 quantiles of the normal distribution, scaled to [-1, 1], and their midpoints. */
static const struct levels nf4 = {
    .thresholds = 15,
    .is_signed = true,
    .level = {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
              -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
              0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f,
              0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f,
              1.0f},
    .threshold = {-0.8480964004993439f, -0.6106329262256622f, -0.4599952697753906f,
                  -0.33967943489551544f, -0.23460740596055984f, -0.13791173323988914f,
                  -0.045525018125772476f, 0.03979014977812767f, 0.1202552504837513f,
                  0.2035212516784668f, 0.2920137718319893f, 0.3893125355243683f,
                  0.5016634166240692f, 0.6427869200706482f, 0.8614784181118011f}};

/* 0, 1/16, 2, 3, 4, 6, 8 and 12, all over 12. The thresholds are bitsandbytes' literals, which are not
 * always the midpoints' nearest floats. */
static const struct levels fp4 = {.thresholds = 7,
                                  .level = {0.0f, 5.208333333e-03f, 0.16666667f, 0.25f, 0.33333333f,
                                            0.5f, 0.66666667f, 1.0f, -0.0f, -5.208333333e-03f,
                                            -0.16666667f, -0.25f, -0.33333333f, -0.5f, -0.66666667f,
                                            -1.0f},
                                  .threshold = {0.00260417f, 0.0859375f, 0.20833333f, 0.29166667f,
                                                0.4166667f, 0.583333f, 0.8333333f}};

static float largest(const float *x, int64_t n) {
    float most = 0;
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

/* n numbers of a block, all halves: its quants, and the scale. */
static uint16_t pack_4_bits(uint8_t *quants, const float *x, int64_t n, const struct levels *l) {
    const float most = largest(x, n), inverse = most > 0 ? 1 / most : 0;
    int32_t code[BLOCK_4_BIT] = {0};
    float u[BLOCK_4_BIT];
    for (int64_t i = 0; i < n; i++) u[i] = l->is_signed ? x[i] * inverse : fabsf(x[i] * inverse);
    for (int t = 0; t < l->thresholds; t++)
        for (int64_t i = 0; i < n; i++) code[i] += u[i] > l->threshold[t];
    for (int64_t i = 0; i < n && !l->is_signed; i++) code[i] |= signbit(x[i]) ? LEVELS / 2 : 0;
    for (int i = 0; i < LC_PACKED_BLOCK; i++)
        quants[i] = (uint8_t)(code[i] | code[i + LC_PACKED_BLOCK] << 4);
    return cpu_to_f16(most);
}

static uint16_t pack_8_bits(uint8_t *quants, const float *x, int64_t n) {
    const float step = largest(x, n) / 127;
    const uint16_t scale = cpu_to_f16(step);
    const float inverse = scale > 0 ? 1 / step : 0;
    for (int64_t i = 0; i < n; i++) quants[i] = (uint8_t)(128 + (int)roundf(x[i] * inverse));
    for (int64_t i = n; i < BLOCK_8_BIT; i++) quants[i] = 128;
    return scale;
}

static void round_to_f16(float *x, int64_t n) {
    uint16_t halves[CPU_CHUNK];
    cpu_store(halves, LC_F16, 0, x, n);
    cpu_load(x, halves, LC_F16, 0, n);
}

static const struct levels *levels_of(enum lc_quant quant) { return quant == LC_FP4 ? &fp4 : &nf4; }

const float *cpu_levels(enum lc_quant quant) { return levels_of(quant)->level; }

/* Numbers of a chunk of blocks, x in place. */
static void pack_chunk(uint8_t *quants, uint16_t *scales, float *x, int64_t n,
                       enum lc_quant quant) {
    const int64_t each = lc_packed_each(quant);
    if (quant != LC_Q8_0) round_to_f16(x, n);
    for (int64_t i = 0; i < n; i += each, quants += LC_PACKED_BLOCK) {
        const int64_t count = n - i < each ? n - i : each;
        *scales++ = quant == LC_Q8_0 ? pack_8_bits(quants, x + i, count)
                                     : pack_4_bits(quants, x + i, count, levels_of(quant));
    }
}

/* The first of n values that is NaN or not below the limit; n: there is none. */
static int64_t first_beyond(const float *x, int64_t n, float limit) {
    int64_t good = 0, i = 0;
    for (int64_t j = 0; j < n; j++) good += fabsf(x[j]) < limit;
    if (good == n) return n;
    while (fabsf(x[i]) < limit) i++;
    return i;
}

int cpu_pack_weight(void *packed, const void *x, int x_dtype, int64_t count, enum lc_quant quant) {
    const float half_limit = 65520; /* from here on an f16 is infinite */
    const float limit = quant == LC_Q8_0 ? 127 * half_limit : half_limit;
    const int64_t each = lc_packed_each(quant);
    int64_t chunks = (count + CPU_CHUNK - 1) / CPU_CHUNK, bad = count;
    uint8_t *quants = packed;
    uint16_t *scales = (uint16_t *)(quants + lc_packed_scales(quant, count));
#pragma omp parallel for schedule(static) reduction(min : bad) if (count > 16384)
    for (int64_t c = 0; c < chunks; c++) {
        float buffer[CPU_CHUNK];
        int64_t first = c * CPU_CHUNK, left = count - first,
                n = left < CPU_CHUNK ? left : CPU_CHUNK;
        const float *in = cpu_load(buffer, x, x_dtype, first, n);
        if (in != buffer) memcpy(buffer, in, (size_t)n * sizeof *buffer);
        int64_t good = first_beyond(buffer, n, limit);
        if (good == n)
            pack_chunk(quants + first / each * LC_PACKED_BLOCK, scales + first / each, buffer, n,
                       quant);
        else if (first + good < bad) bad = first + good;
    }
    if (bad == count) return 0;
    float value;
    value = *cpu_load(&value, x, x_dtype, bad, 1);
    return lc_fail(LC_EINVAL, "quantise: element %lld is %g; magnitudes below %g can be quantised",
                   (long long)bad + 1, (double)value, (double)limit);
}

/* ---- the values again ------------------------------------------------------------------------------- */

struct cpu_packed cpu_packed_at(const void *packed, enum lc_quant quant, int64_t count) {
    const uint8_t *quants = packed;
    return (struct cpu_packed){quants, (const uint16_t *)(quants + lc_packed_scales(quant, count)),
                               quant};
}

/* What cpu_to_bf16 does with numbers, in a way that compilers turn into vectors. */
static inline uint16_t bf16_of_number(float f) {
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (uint16_t)((bits + 0x7FFFu + (bits >> 16 & 1)) >> 16);
}

static void f32_of_8_bits(float *restrict y, const uint8_t *restrict quants, float scale) {
    for (int i = 0; i < BLOCK_8_BIT; i++) y[i] = (float)(quants[i] - 128) * scale;
}

static void bf16_of_8_bits(uint16_t *restrict y, const uint8_t *restrict quants, float scale) {
    for (int i = 0; i < BLOCK_8_BIT; i++) y[i] = bf16_of_number((float)(quants[i] - 128) * scale);
}

static void expand_8_bits(void *y, int dtype, const uint8_t *quants, float scale) {
    float x[BLOCK_8_BIT];
    if (dtype == LC_BF16) bf16_of_8_bits(y, quants, scale);
    else if (dtype == LC_F32) f32_of_8_bits(y, quants, scale);
    else {
        f32_of_8_bits(x, quants, scale);
        cpu_store(y, dtype, 0, x, BLOCK_8_BIT);
    }
}

#ifdef LC_TURN
/* What each code stands for, as an f16 or a bf16. */
static inline void values_of(uint16_t value[LEVELS], const float *level, float scale, int dtype) {
    const __m256 s = _mm256_set1_ps(scale);
    for (int i = 0; i < LEVELS; i += 8) {
        const __m128i h = _mm256_cvtps_ph(_mm256_mul_ps(_mm256_loadu_ps(level + i), s), 0);
        float x[8];
        _mm_storeu_si128((__m128i *)(value + i), h);
        _mm256_storeu_ps(x, _mm256_cvtph_ps(h));
        for (int j = 0; j < 8 && dtype == LC_BF16; j++) value[i + j] = bf16_of_number(x[j]);
    }
}

/* 16 at a time, their lower and their upper bytes apart. */
static inline void look_up(uint16_t *y, const uint8_t *quants, const uint16_t value[LEVELS]) {
    const __m128i *v = (const __m128i *)value, a = _mm_loadu_si128(v), b = _mm_loadu_si128(v + 1);
    const __m128i byte = _mm_set1_epi16(0xFF), nibble = _mm_set1_epi8(15);
    const __m128i low = _mm_packus_epi16(_mm_and_si128(a, byte), _mm_and_si128(b, byte)),
                  high = _mm_packus_epi16(_mm_srli_epi16(a, 8), _mm_srli_epi16(b, 8));
    for (int i = 0; i < BLOCK_4_BIT; i += 16) {
        const __m128i two = _mm_loadu_si128((const __m128i *)(quants + i % LC_PACKED_BLOCK));
        const __m128i code =
            _mm_and_si128(i < LC_PACKED_BLOCK ? two : _mm_srli_epi16(two, 4), nibble);
        const __m128i l = _mm_shuffle_epi8(low, code), h = _mm_shuffle_epi8(high, code);
        _mm_storeu_si128((__m128i *)(y + i), _mm_unpacklo_epi8(l, h));
        _mm_storeu_si128((__m128i *)(y + i + 8), _mm_unpackhi_epi8(l, h));
    }
}

static inline void to_floats(float *y, const uint16_t *x, int n) {
    for (int i = 0; i < n; i += 8)
        _mm256_storeu_ps(y + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x + i))));
}

static inline float scale_of(uint16_t x) { return _cvtsh_ss(x); }
#else
static inline void values_of(uint16_t value[LEVELS], const float *level, float scale, int dtype) {
    for (int i = 0; i < LEVELS; i++) {
        const uint16_t half = cpu_to_f16(level[i] * scale);
        value[i] = dtype == LC_BF16 ? cpu_to_bf16(cpu_from_f16(half)) : half;
    }
}

static inline void look_up(uint16_t *y, const uint8_t *quants, const uint16_t value[LEVELS]) {
    for (int i = 0; i < LC_PACKED_BLOCK; i++) {
        y[i] = value[quants[i] & 15];
        y[i + LC_PACKED_BLOCK] = value[quants[i] >> 4];
    }
}

static inline void to_floats(float *y, const uint16_t *x, int n) { cpu_load(y, x, LC_F16, 0, n); }
static inline float scale_of(uint16_t x) { return cpu_from_f16(x); }
#endif

static void expand_4_bits(void *y, int dtype, const uint8_t *quants, float scale,
                          const float *level) {
    uint16_t value[LEVELS], wide_later[BLOCK_4_BIT];
    values_of(value, level, scale, dtype);
    look_up(dtype == LC_F32 ? wide_later : y, quants, value);
    if (dtype == LC_F32) to_floats(y, wide_later, BLOCK_4_BIT);
}

#ifdef LC_GEMM_PAIRS
/* A block as bf16, by what multiplies it (few_rows.c). */
static inline void pairs_of_block(uint16_t *y, enum lc_quant quant, const uint8_t *quants,
                                  float scale) {
    wide w[2];
    if (quant == LC_Q8_0) w[0] = pairs_of_8_bits(quants, scale, q8_offset * scale);
    else pairs_of_4_bits(w, quants, OP(loadu_ps)(cpu_levels(quant)), scale);
    OP(storeu_ps)(y, w[0]);
    if (quant != LC_Q8_0) OP(storeu_ps)(y + LINE / 2, w[1]);
}
#endif

static void expand_block(void *y, int dtype, const struct cpu_packed *p, int64_t block) {
    const uint8_t *quants = p->quants + block * LC_PACKED_BLOCK;
    const float scale = scale_of(p->scales[block]);
#ifdef LC_GEMM_PAIRS
    if (dtype == LC_BF16) {
        pairs_of_block(y, p->quant, quants, scale);
        return;
    }
#endif
    if (p->quant == LC_Q8_0) expand_8_bits(y, dtype, quants, scale);
    else expand_4_bits(y, dtype, quants, scale, cpu_levels(p->quant));
}

void cpu_expand_run(void *y, int dtype, const struct cpu_packed *p, int64_t first, int64_t count) {
    const int64_t each = lc_packed_each(p->quant), size = (int64_t)lc_dtype_bytes(dtype);
    char *to = y, whole[BLOCK_4_BIT * sizeof(float)];
    int64_t block = first / each, before = first % each, left = count;
    for (int64_t n; left > 0; left -= n, to += n * size, before = 0) {
        n = left < each - before ? left : each - before;
        expand_block(n == each ? to : whole, dtype, p, block++);
        if (n < each) memcpy(to, whole + before * size, (size_t)(n * size));
    }
}

int cpu_expand(void *y, int y_dtype, int64_t rows, int64_t cols, int64_t y_row, const void *packed,
               enum lc_quant quant) {
    const struct cpu_packed p = cpu_packed_at(packed, quant, rows * cols);
    const bool dense = y_row == cols; /* then cut where it suits */
    const int64_t all = rows * cols, run = dense ? CPU_CHUNK : cols, step = dense ? run : y_row,
                  runs = dense ? (all + run - 1) / run : rows;
    const int64_t size = (int64_t)lc_dtype_bytes(y_dtype);
#pragma omp parallel for schedule(static) if (all > 16384)
    for (int64_t r = 0; r < runs; r++)
        cpu_expand_run((char *)y + r * step * size, y_dtype, &p, r * run,
                       all - r * run < run ? all - r * run : run);
    return 0;
}
