/* quant.c - weights as they come back from a quantised copy of themselves: value by value what packed
 * storage would give a product, in the dtype that it computes with.
 *
 *   q8_0  ggml's: step = amax / 127; x -> round(x * (1 / step)) * f16(step), halves away from zero
 *   nf4   QLoRA's (Dettmers et al. 2023) and fp4, as bitsandbytes does them: x is rounded to f16;
 *         u = x * (1 / amax) in f32; the level is told by thresholds, of which one that is met
 *         exactly is not passed; level * amax is rounded to f16. (A GPU's 1 / amax there may be off in
 *         its last place, so that a u at a threshold falls either way.)
 *
 * amax: the largest magnitude of a block. Blocks run over the whole array and know no rows. */
#include <math.h>

#include "base/error.h"
#include "cpu/cpu.h"

enum { BLOCK_4_BIT = 64, BLOCK_8_BIT = 32, LEVELS = 16 };

/* Levels in rising order, and a threshold between each two: one level more than thresholds. */
struct levels {
    int thresholds;
    bool is_signed; /* else of magnitudes */
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
static const struct levels fp4 = {
    .thresholds = 7,
    .level = {0.0f, 5.208333333e-03f, 0.16666667f, 0.25f, 0.33333333f, 0.5f, 0.66666667f, 1.0f},
    .threshold = {0.00260417f, 0.0859375f, 0.20833333f, 0.29166667f, 0.4166667f, 0.583333f,
                  0.8333333f}};

static float largest(const float *x, int64_t n) {
    float most = 0;
#pragma omp simd reduction(max : most)
    for (int64_t i = 0; i < n; i++) most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    return most;
}

static void block_4_bit(float *x, int64_t n, const struct levels *l) {
    const float most = largest(x, n), inverse = most > 0 ? 1 / most : 0;
    int32_t rank[BLOCK_4_BIT] = {0};
    float u[BLOCK_4_BIT];
    for (int64_t i = 0; i < n; i++) u[i] = l->is_signed ? x[i] * inverse : fabsf(x[i] * inverse);
    for (int t = 0; t < l->thresholds; t++)
        for (int64_t i = 0; i < n; i++) rank[i] += u[i] > l->threshold[t];
    for (int64_t i = 0; i < n; i++) {
        float y = l->level[rank[i]] * most;
        x[i] = l->is_signed ? y : copysignf(y, x[i]);
    }
}

static void block_8_bit(float *x, int64_t n) {
    const float step = largest(x, n) / 127, scale = cpu_from_f16(cpu_to_f16(step)),
                inverse = scale > 0 ? 1 / step : 0;
    for (int64_t i = 0; i < n; i++) x[i] = roundf(x[i] * inverse) * scale;
}

static void round_to_f16(float *x, int64_t n) {
    uint16_t half[CPU_CHUNK];
    cpu_store(half, LC_F16, 0, x, n);
    cpu_load(x, half, LC_F16, 0, n);
}

static void chunk_4_bit(float *x, int64_t n, const struct levels *l) {
    round_to_f16(x, n);
    for (int64_t i = 0; i < n; i += BLOCK_4_BIT)
        block_4_bit(x + i, n - i < BLOCK_4_BIT ? n - i : BLOCK_4_BIT, l);
    round_to_f16(x, n);
}

/* n values in place, from the beginning of a block on. */
static void chunk(float *x, int64_t n, enum lc_quant quant) {
    switch (quant) {
    case LC_NF4: chunk_4_bit(x, n, &nf4); break;
    case LC_FP4: chunk_4_bit(x, n, &fp4); break;
    default:
        for (int64_t i = 0; i < n; i += BLOCK_8_BIT)
            block_8_bit(x + i, n - i < BLOCK_8_BIT ? n - i : BLOCK_8_BIT);
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

int cpu_quantise(void *y, int y_dtype, const void *x, int x_dtype, int64_t count,
                 enum lc_quant quant) {
    const float half_limit = 65520; /* from here on an f16 is infinite */
    const float limit = quant == LC_Q8_0 ? 127 * half_limit : half_limit;
    int64_t chunks = (count + CPU_CHUNK - 1) / CPU_CHUNK, bad = count;
#pragma omp parallel for schedule(static) reduction(min : bad) if (count > 16384)
    for (int64_t c = 0; c < chunks; c++) {
        float buffer[CPU_CHUNK];
        int64_t first = c * CPU_CHUNK, left = count - first,
                n = left < CPU_CHUNK ? left : CPU_CHUNK;
        float *out = cpu_place(buffer, y, y_dtype, first);
        const float *in = cpu_load(out, x, x_dtype, first, n);
        if (in != out) memcpy(out, in, (size_t)n * sizeof *out);
        int64_t good = first_beyond(out, n, limit);
        if (good < n && first + good < bad) bad = first + good;
        chunk(out, n, quant);
        cpu_store(y, y_dtype, first, out, n);
    }
    if (bad == count) return 0;
    float value;
    value = *cpu_load(&value, x, x_dtype, bad, 1);
    return lc_fail(LC_EINVAL, "quantise: element %lld is %g; magnitudes below %g can be quantised",
                   (long long)bad + 1, (double)value, (double)limit);
}
