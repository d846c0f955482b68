/* patch.cu - pictures as columns of patches: a convolution whose stride is its size is a product. */
#include "cuda/launch.cuh"

namespace {

struct picture {
    int64_t n, c, h, w, p;
};

/* The pixel of an element of the columns [n, h/p, w/p, c, p, p]. */
LC_DEVICE int64_t pixel_of(const picture &s, int64_t i) {
    const int64_t x = i % s.p, y = i / s.p % s.p, channel = i / (s.p * s.p) % s.c,
                  patch = i / (s.p * s.p * s.c);
    const int64_t px = patch % (s.w / s.p), py = patch / (s.w / s.p) % (s.h / s.p),
                  n = patch / ((s.w / s.p) * (s.h / s.p));
    return ((n * s.c + channel) * s.h + py * s.p + y) * s.w + px * s.p + x;
}

template <typename T, bool BACK>
__global__ void patches(T *to, const T *from, int64_t count, picture s) {
    for (int64_t i = thread_number(); i < count; i += thread_count()) {
        if (BACK) to[pixel_of(s, i)] = from[i];
        else to[i] = from[pixel_of(s, i)];
    }
}

template <bool BACK> int move(void *to, const void *from, int dtype, picture s) {
    return with_size(dtype, [=](auto t) {
        using T = decltype(t);
        const int64_t count = s.n * s.c * s.h * s.w;
        return launch_each("patches", patches<T, BACK>, count, (T *)to, (const T *)from, count, s);
    });
}

} // namespace

extern "C" int cuda_patches(void *columns, const void *pixels, int dtype, int64_t n, int64_t c,
                            int64_t h, int64_t w, int64_t p) {
    return move<false>(columns, pixels, dtype, picture{n, c, h, w, p});
}

extern "C" int cuda_patches_backward(void *dpixels, const void *dcolumns, int dtype, int64_t n,
                                     int64_t c, int64_t h, int64_t w, int64_t p) {
    return move<true>(dpixels, dcolumns, dtype, picture{n, c, h, w, p});
}
