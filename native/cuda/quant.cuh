/* quant.cuh - what packed weights (kernels.h has their layout) and their kernels share: levels, and a value of one code. */
#ifndef LC_CUDA_QUANT_CUH
#define LC_CUDA_QUANT_CUH
#include "cuda/launch.cuh"

enum { HALF_BLOCK = LC_PACKED_BLOCK, LEVELS = 16 };

struct levels {
    int thresholds;
    bool is_signed; /* else there are as many of magnitudes, and then their negatives */
    float level[LEVELS], threshold[LEVELS - 1];
};

static const levels nf4 = {
    15,
    true,
    {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
     -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
     0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f,
     0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1.0f},
    {-0.8480964004993439f, -0.6106329262256622f, -0.4599952697753906f, -0.33967943489551544f,
     -0.23460740596055984f, -0.13791173323988914f, -0.045525018125772476f, 0.03979014977812767f,
     0.1202552504837513f, 0.2035212516784668f, 0.2920137718319893f, 0.3893125355243683f,
     0.5016634166240692f, 0.6427869200706482f, 0.8614784181118011f}};

static const levels fp4 = {
    7,
    false,
    {0.0f, 5.208333333e-03f, 0.16666667f, 0.25f, 0.33333333f, 0.5f, 0.66666667f, 1.0f, -0.0f,
     -5.208333333e-03f, -0.16666667f, -0.25f, -0.33333333f, -0.5f, -0.66666667f, -1.0f},
    {0.00260417f, 0.0859375f, 0.20833333f, 0.29166667f, 0.4166667f, 0.583333f, 0.8333333f}};

LC_DEVICE float as_half(float x) { return to_float(from_float<lc_f16>(x)); }

inline const levels &levels_of(enum lc_quant quant) { return quant == LC_FP4 ? fp4 : nf4; }

LC_DEVICE float value_of_8_bits(uint8_t q, float scale) { return (float)(q - 128) * scale; }
LC_DEVICE float value_of_4_bits(float level, float scale) { return as_half(level * scale); }

#endif
