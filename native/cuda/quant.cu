/* quant.cu - weights packed into blocks (cpu/quant.c says how), and their values again. */
#include "cuda/quant.cuh"

namespace {

template <typename From>
LC_DEVICE lc_f16 pack_4_bits(uint8_t *quants, const From *x, int64_t n, const levels &l) {
    float most = 0;
    for (int64_t i = 0; i < n; i++) most = fmaxf(most, fabsf(as_half(to_float(x[i]))));
    const float inverse = most > 0 ? 1 / most : 0;
    for (int64_t i = 0; i < 2 * HALF_BLOCK; i++) {
        const float v = i < n ? as_half(to_float(x[i])) : 0,
                    u = l.is_signed ? v * inverse : fabsf(v * inverse);
        int code = i < n && !l.is_signed && signbit(v) ? LEVELS / 2 : 0;
        for (int t = 0; i < n && t < l.thresholds; t++) code += u > l.threshold[t];
        quants[i % HALF_BLOCK] =
            (uint8_t)(i < HALF_BLOCK ? code : quants[i - HALF_BLOCK] | code << 4);
    }
    return from_float<lc_f16>(most);
}

template <typename From> LC_DEVICE lc_f16 pack_8_bits(uint8_t *quants, const From *x, int64_t n) {
    float most = 0;
    for (int64_t i = 0; i < n; i++) most = fmaxf(most, fabsf(to_float(x[i])));
    const float step = most / 127, scale = as_half(step), inverse = scale > 0 ? 1 / step : 0;
    for (int64_t i = 0; i < LC_PACKED_BLOCK; i++)
        quants[i] = (uint8_t)(128 + (i < n ? (int)roundf(to_float(x[i]) * inverse) : 0));
    return from_float<lc_f16>(step);
}

/* A thread a block. bad: not of the first element of all that is NaN or not below the limit. */
template <typename From>
__global__ void pack(uint8_t *quants, lc_f16 *scales, const From *x, int64_t count, int64_t each,
                     bool eight, levels l, float limit, unsigned long long *bad) {
    for (int64_t b = thread_number(); b * each < count; b += thread_count()) {
        const int64_t first = b * each, n = count - first < each ? count - first : each;
        uint8_t *to = quants + b * LC_PACKED_BLOCK;
        int64_t good = 0;
        while (good < n && fabsf(to_float(x[first + good])) < limit) good++;
        if (good < n) atomicMax(bad, ~(unsigned long long)(first + good));
        else scales[b] = eight ? pack_8_bits(to, x + first, n) : pack_4_bits(to, x + first, n, l);
    }
}

/* A thread so many elements, which are of one half of a block. */
enum { EXPANDED = 8 };
template <typename To>
__global__ void expand(To *y, int64_t rows, int64_t cols, int64_t y_row, const uint8_t *quants,
                       const lc_f16 *scales, bool eight, levels l) {
    const int64_t all = rows * cols, units = (all + EXPANDED - 1) / EXPANDED;
    const int shift = eight ? 5 : 6; /* of an element's number to its block's */
    for (int64_t u = thread_number(); u < units; u += thread_count()) {
        const int64_t first = u * EXPANDED, b = first >> shift, row = first / cols;
        const int64_t n = all - first < EXPANDED ? all - first : (int64_t)EXPANDED,
                      left = cols - first % cols;
        const uint8_t *q = quants + b * LC_PACKED_BLOCK + first % LC_PACKED_BLOCK;
        const bool upper = !eight && (first & HALF_BLOCK) != 0;
        const float scale = to_float(scales[b]);
        lc_pack<To> out[EXPANDED / PACK<To>];
        LC_UNROLL
        for (int i = 0; i < EXPANDED; i++) {
            const float x = eight ? value_of_8_bits(q[i], scale)
                                  : value_of_4_bits(l.level[upper ? q[i] >> 4 : q[i] & 15], scale);
            out[i / PACK<To>].x[i % PACK<To>] = from_float<To>(x);
        }
        To *to = y + row * y_row + first % cols;
        LC_UNROLL
        for (int i = 0; i < EXPANDED; i += PACK<To>)
            if (n <= left) put_pack(to + i, out[i / PACK<To>], n - i);
        for (int64_t i = 0; i < n && n > left; i++) /* they go on in the next row, or in more */
            y[(first + i) / cols * y_row + (first + i) % cols] = out[i / PACK<To>].x[i % PACK<To>];
    }
}

} // namespace

extern "C" int cuda_pack(void *packed, const void *x, int x_dtype, int64_t count,
                         enum lc_quant quant) {
    const float half_limit = 65520; /* from here on an f16 is infinite */
    const bool eight = quant == LC_Q8_0;
    const float limit = eight ? 127 * half_limit : half_limit;
    const levels l = levels_of(quant);
    uint8_t *quants = (uint8_t *)packed;
    lc_f16 *scales = (lc_f16 *)(quants + lc_packed_scales(quant, count));
    const unsigned long long none = 0;
    unsigned long long bad = none,
                       *found = (unsigned long long *)cuda_workspace_from(&none, sizeof none);
    if (!found) return -1;
    int done = with_float(x_dtype, [=](auto from) {
        using From = decltype(from);
        return launch_each("quantise", pack<From>, lc_packed_blocks(quant, count), quants, scales,
                           (const From *)x, count, lc_packed_each(quant), eight, l, limit, found);
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

extern "C" int cuda_expand(void *y, int y_dtype, int64_t rows, int64_t cols, int64_t y_row,
                           const void *packed, enum lc_quant quant) {
    const uint8_t *quants = (const uint8_t *)packed;
    const lc_f16 *scales = (const lc_f16 *)(quants + lc_packed_scales(quant, rows * cols));
    return with_float(y_dtype, [=](auto to) {
        using To = decltype(to);
        return launch_each("expand", expand<To>, ceil_div(rows * cols, EXPANDED), (To *)y, rows,
                           cols, y_row, quants, scales, quant == LC_Q8_0, levels_of(quant));
    });
}
