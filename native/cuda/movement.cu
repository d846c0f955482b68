/* movement.cu - filling, converting, strided copies. */
#include "cuda/launch.cuh"

/* ---- fill and convert ---- */

namespace {

template <typename T> LC_DEVICE T value_of(float value) { return from_float<T>(value); }
template <typename T> LC_DEVICE T value_of(int32_t value) { return value; }

template <typename T, typename V> __global__ void fill(T *dst, int64_t count, V value) {
    lc_pack<T> pack;
    LC_UNROLL
    for (int k = 0; k < PACK<T>; k++) pack.x[k] = value_of<T>(value);
    EACH_PACK(T, i, count) put_pack(dst + i, pack, count - i);
}

template <typename To, typename From>
__global__ void convert(To *dst, const From *src, int64_t count) {
    /* as many elements a turn as both sides' packs have */
    constexpr int64_t step = PACK < To >> PACK<From> ? PACK<To> : PACK<From>;
    for (int64_t i = thread_number() * step; i < count; i += thread_count() * step) {
        From from[step];
        LC_UNROLL
        for (int64_t j = 0; j < step; j += PACK<From>) {
            lc_pack<From> in = get_pack(src + i + j, count - i - j);
            LC_UNROLL
            for (int k = 0; k < PACK<From>; k++) from[j + k] = in.x[k];
        }
        LC_UNROLL
        for (int64_t j = 0; j < step; j += PACK<To>) {
            lc_pack<To> out;
            LC_UNROLL
            for (int k = 0; k < PACK<To>; k++) out.x[k] = from_float<To>(to_float(from[j + k]));
            put_pack(dst + i + j, out, count - i - j);
        }
    }
}

} // namespace

extern "C" int cuda_fill(void *dst, int dtype, int64_t count, double value) {
    if (dtype == LC_I32) { /* a float would lose the low bits */
        int32_t whole = value < -2147483648.0 ? INT32_MIN : (int32_t)fmin(value, 2147483647.0);
        return launch_packs<int32_t>("fill", fill<int32_t, int32_t>, count, (int32_t *)dst, count,
                                     whole);
    }
    return with_any(dtype, [=](auto t) {
        using T = decltype(t);
        return launch_packs<T>("fill", fill<T, float>, count, (T *)dst, count, (float)value);
    });
}

extern "C" int cuda_convert(void *dst, int dst_dtype, const void *src, int src_dtype,
                            int64_t count) {
    if (dst_dtype == src_dtype) return cuda_copy(dst, src, (size_t)count * dtype_bytes(dst_dtype));
    return with_any(dst_dtype, [=](auto to) {
        return with_any(src_dtype, [=](auto from) {
            using To = decltype(to);
            using From = decltype(from);
            return launch_packs<uint8_t>("convert", convert<To, From>, count, (To *)dst,
                                         (const From *)src, count);
        });
    });
}

/* ---- strided copies ---- */

namespace {

struct strides { /* the innermost dim first */
    int ndim;
    int64_t shape[LC_MAX_DIMS], stride[LC_MAX_DIMS];
};

/* Without dims of one element, and with dims joined where one goes on behind the other. */
strides simplest(int ndim, const int64_t *shape, const int64_t *stride) {
    strides s = {1, {1}, {1}};
    for (int i = ndim - 1, last = -1; i >= 0; i--) {
        if (shape[i] == 1) continue;
        if (last >= 0 && stride[i] == s.shape[last] * s.stride[last]) {
            s.shape[last] *= shape[i];
            continue;
        }
        last++;
        s.shape[last] = shape[i];
        s.stride[last] = stride[i];
        s.ndim = last + 1;
    }
    return s;
}

/* Where dense element i lies on the strided side. */
template <typename I> LC_DEVICE int64_t far_of(const strides &s, I i) {
    int64_t at = 0;
    LC_UNROLL
    for (int d = 0; d < LC_MAX_DIMS; d++) {
        if (d >= s.ndim) continue;
        const I size = (I)s.shape[d];
        at += (int64_t)(i % size) * s.stride[d];
        i /= size;
    }
    return at;
}

/* I: an unsigned type that counts all elements. */
template <typename T, typename I, bool SCATTER>
__global__ void strided(T *dst, const T *src, int64_t count, strides s) {
    const int64_t inner = s.shape[0];
    const bool dense = s.stride[0] == 1;
    EACH_PACK(T, i, count) {
        const int64_t n = count - i;
        int64_t far = far_of(s, (I)i);
        if (dense && (int64_t)((I)i % (I)inner) + PACK<T> <= inner) {
            if (SCATTER) put_pack(dst + far, get_pack(src + i, n), n);
            else put_pack(dst + i, get_pack(src + far, n), n);
            continue;
        }
        for (int64_t k = 0; k < PACK<T> && k < n; k++) {
            far = far_of(s, (I)(i + k));
            if (SCATTER) dst[far] = src[i + k];
            else dst[i + k] = src[far];
        }
    }
}

template <bool SCATTER>
int copy_strided(const char *op, void *dst, const void *src, int dtype, int ndim,
                 const int64_t *shape, const int64_t *stride) {
    int64_t count = 1;
    for (int i = 0; i < ndim; i++) count *= shape[i];
    if (!count) return 0;
    const strides s = simplest(ndim, shape, stride);
    return with_size(dtype, [=](auto t) {
        using T = decltype(t);
        if (count < INT32_MAX)
            return launch_packs<T>(op, strided<T, uint32_t, SCATTER>, count, (T *)dst,
                                   (const T *)src, count, s);
        return launch_packs<T>(op, strided<T, uint64_t, SCATTER>, count, (T *)dst, (const T *)src,
                               count, s);
    });
}

} // namespace

namespace {

struct block_list {
    lc_block block[LC_BLOCKS_MOST];
};

/* A thread an element: the blocks' rows are short or begin anywhere. */
template <typename T> __global__ void put_blocks(block_list list, int64_t all) {
    for (int64_t i = thread_number(); i < all; i += thread_count()) {
        int64_t at = i;
        int b = 0;
        for (; at >= list.block[b].rows * list.block[b].cols; b++)
            at -= list.block[b].rows * list.block[b].cols;
        const lc_block &own = list.block[b];
        const int64_t row = at / own.cols, column = at - row * own.cols;
        ((T *)own.to)[row * own.to_row + column] = from_float<T>(own.scale * own.from[at]);
    }
}

} // namespace

extern "C" int cuda_put_blocks(const struct lc_block *block, int count, int dtype) {
    block_list list = {};
    int64_t all = 0;
    for (int i = 0; i < count; i++) {
        list.block[i] = block[i];
        all += block[i].rows * block[i].cols;
    }
    return with_float(dtype, [=](auto t) {
        return launch_each("put_blocks", put_blocks<decltype(t)>, all, list, all);
    });
}

extern "C" int cuda_gather(void *dst, const void *src, int dtype, int ndim, const int64_t *shape,
                           const int64_t *stride) {
    return copy_strided<false>("gather", dst, src, dtype, ndim, shape, stride);
}

extern "C" int cuda_scatter(void *dst, const void *src, int dtype, int ndim, const int64_t *shape,
                            const int64_t *stride) {
    return copy_strided<true>("scatter", dst, src, dtype, ndim, shape, stride);
}
