/* packed.h - packed weights (kernels.h has their layout) as the CPU's kernels read them. */
#ifndef LC_CPU_PACKED_H
#define LC_CPU_PACKED_H
#include "cpu/turn.h"

enum { CPU_LEVELS = 16 };

struct cpu_packed {
    const uint8_t *quants;
    const uint16_t *scales;
    enum lc_quant quant;
};

/* ---- quant.c ---- */
struct cpu_packed cpu_packed_at(const void *packed, enum lc_quant quant, int64_t count);
/* The level of each 4-bit code. */
const float *cpu_levels(enum lc_quant quant);
/* y[i] = element first + i, wherever blocks begin. */
void cpu_expand_run(void *y, int dtype, const struct cpu_packed *p, int64_t first, int64_t count);

/* ---- few_rows.c ---- */
/* Whether cpu_few_rows_packed takes a product, p in the place of B: as many rows as of a plain weight, or fewer where
 * it needs a copy. */
bool cpu_few_rows_serve_packed(const struct lc_gemm *g, enum lc_quant quant);
int cpu_few_rows_packed(const struct lc_gemm *g, const struct cpu_packed *p);

#ifdef LC_GEMM_PAIRS
/* Bytes are stored with 128 added to them: byte * scale + offset, the offset being q8_offset times the scale. Both products
 * are exact, for a scale has 11 digits. */
static const float q8_offset = -128;

static inline __attribute__((always_inline)) wide floats_of_8_bits(const uint8_t *quants,
                                                                   wide scale, wide offset) {
    const __m512i bytes = OP(cvtepu8_epi32)(_mm_loadu_si128((const __m128i *)quants));
    return OP(fmadd_ps)(OP(cvtepi32_ps)(bytes), scale, offset);
}

/* 32 elements of q8_0 as bf16. */
static inline __attribute__((always_inline)) wide pairs_of_8_bits(const uint8_t *quants,
                                                                  float scale, float offset) {
    const wide s = OP(set1_ps)(scale), o = OP(set1_ps)(offset);
    return (wide)OP(cvtne2ps_pbh)(floats_of_8_bits(quants + COLS, s, o),
                                  floats_of_8_bits(quants, s, o));
}

/* 64 elements of 4 bits: what the codes stand for is looked up, in whole registers. A look-up reads five bits of an
 * index, so the values are there twice, and a code needs no mask. */
static inline __attribute__((always_inline)) void pairs_of_4_bits(wide w[2], const uint8_t *quants,
                                                                  wide levels, float scale) {
    const half f16 =
        OP(cvtps_ph)(OP(mul_ps)(levels, OP(set1_ps)(scale)), _MM_FROUND_TO_NEAREST_INT);
    const __m512i values = OP(broadcast_i64x4)((__m256i)OP(cvtneps_pbh)(OP(cvtph_ps)(f16)));
    const __m512i codes = OP(cvtepu8_epi16)(_mm256_loadu_si256((const __m256i *)quants));
    w[0] = (wide)OP(permutexvar_epi16)(codes, values);
    w[1] = (wide)OP(permutexvar_epi16)(OP(srli_epi16)(codes, 4), values);
}
#endif
#endif
