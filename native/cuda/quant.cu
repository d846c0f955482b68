/* quant.cu - weights as they come back from a quantised copy of themselves (cpu/quant.c says how): a
 * thread a block of consecutive elements. */
#include "cuda/launch.cuh"

namespace {

enum { BLOCK_4_BIT = 64, BLOCK_8_BIT = 32, LEVELS = 16 };

struct levels {
    int thresholds;
    bool is_signed; /* else of magnitudes */
    float level[LEVELS], threshold[LEVELS - 1];
};

const levels nf4 = {
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

const levels fp4 = {
    7,
    false,
    {0.0f, 5.208333333e-03f, 0.16666667f, 0.25f, 0.33333333f, 0.5f, 0.66666667f, 1.0f},
    {0.00260417f, 0.0859375f, 0.20833333f, 0.29166667f, 0.4166667f, 0.583333f, 0.8333333f}};

LC_DEVICE float as_half(float x) { return to_float(from_float<lc_f16>(x)); }

template <typename To, typename From>
LC_DEVICE void block_4_bit(To *y, const From *x, int64_t n, const levels &l) {
    float most = 0;
    for (int64_t i = 0; i < n; i++) most = fmaxf(most, fabsf(as_half(to_float(x[i]))));
    const float inverse = most > 0 ? 1 / most : 0;
    for (int64_t i = 0; i < n; i++) {
        const float v = as_half(to_float(x[i])), u = l.is_signed ? v * inverse : fabsf(v * inverse);
        int rank = 0;
        for (int t = 0; t < l.thresholds; t++) rank += u > l.threshold[t];
        const float back = l.level[rank] * most;
        y[i] = from_float<To>(as_half(l.is_signed ? back : copysignf(back, v)));
    }
}

template <typename To, typename From> LC_DEVICE void block_8_bit(To *y, const From *x, int64_t n) {
    float most = 0;
    for (int64_t i = 0; i < n; i++) most = fmaxf(most, fabsf(to_float(x[i])));
    const float step = most / 127, scale = as_half(step), inverse = scale > 0 ? 1 / step : 0;
    for (int64_t i = 0; i < n; i++) y[i] = from_float<To>(roundf(to_float(x[i]) * inverse) * scale);
}

/* bad: not of the first element of all that is NaN or not below the limit. */
template <typename To, typename From>
__global__ void quantise(To *y, const From *x, int64_t count, bool eight, levels l, float limit,
                         unsigned long long *bad) {
    const int64_t size = eight ? BLOCK_8_BIT : BLOCK_4_BIT;
    for (int64_t first = thread_number() * size; first < count; first += thread_count() * size) {
        const int64_t n = count - first < size ? count - first : size;
        int64_t good = 0;
        while (good < n && fabsf(to_float(x[first + good])) < limit) good++;
        if (good < n) atomicMax(bad, ~(unsigned long long)(first + good));
        else if (eight) block_8_bit(y + first, x + first, n);
        else block_4_bit(y + first, x + first, n, l);
    }
}

} // namespace

extern "C" int cuda_quantise(void *y, int y_dtype, const void *x, int x_dtype, int64_t count,
                             enum lc_quant quant) {
    const float half_limit = 65520; /* from here on an f16 is infinite */
    const bool eight = quant == LC_Q8_0;
    const float limit = eight ? 127 * half_limit : half_limit;
    const levels l = quant == LC_FP4 ? fp4 : nf4;
    const unsigned long long none = 0;
    unsigned long long bad = none,
                       *found = (unsigned long long *)cuda_workspace_from(&none, sizeof none);
    if (!found) return -1;
    int done = with_float(y_dtype, [=](auto to) {
        return with_float(x_dtype, [=](auto from) {
            using To = decltype(to);
            using From = decltype(from);
            return launch_each("quantise", quantise<To, From>,
                               ceil_div(count, eight ? BLOCK_8_BIT : BLOCK_4_BIT), (To *)y,
                               (const From *)x, count, eight, l, limit, found);
        });
    });
    if (!done) done = cuda_download(&bad, found, sizeof bad);
    bad = ~bad;
    float value = 0, *wide = (float *)found; /* the number itself, in what held its place */
    if (!done && ~bad != none) {
        const char *at = (const char *)x + bad * dtype_bytes(x_dtype);
        done = cuda_convert(wide, LC_F32, at, x_dtype, 1);
        if (!done) done = cuda_download(&value, wide, sizeof value);
    }
    cuda_free(found, sizeof none);
    if (done < 0 || ~bad == none) return done;
    return cuda_host.fail(LC_EINVAL,
                          "quantise: element %lld is %g; magnitudes below %g can be quantised",
                          (long long)bad + 1, (double)value, (double)limit);
}
