/* random.cu - Philox4x32-10 (base/rng.c), four numbers an index. */
#include "cuda/launch.cuh"

namespace {

LC_DEVICE void turn(uint32_t (&c)[4], uint32_t k0, uint32_t k1) {
    const uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
    const uint32_t x = (uint32_t)(b >> 32) ^ c[1] ^ k0, y = (uint32_t)(a >> 32) ^ c[3] ^ k1;
    c[0] = x;
    c[1] = (uint32_t)b;
    c[2] = y;
    c[3] = (uint32_t)a;
}

LC_DEVICE void philox(uint64_t seed, uint64_t stream, uint64_t index, uint32_t (&c)[4]) {
    c[0] = (uint32_t)index;
    c[1] = (uint32_t)(index >> 32);
    c[2] = (uint32_t)stream;
    c[3] = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int i = 0; i < 10; i++) {
        turn(c, k0, k1);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/* Box and Muller's, with a uniform that is never 0. In doubles, as on the CPU: these are made once. */
LC_DEVICE void normal_pair(uint32_t u, uint32_t v, float *pair) {
    const double radius = sqrt(-2 * log(((double)u + 0.5) * (1.0 / 4294967296.0)));
    double sine, cosine;
    sincospi((double)v * (1.0 / 2147483648.0), &sine, &cosine);
    pair[0] = (float)(radius * cosine);
    pair[1] = (float)(radius * sine);
}

template <typename T, bool NORMAL>
__global__ void random_numbers(T *dst, int64_t count, uint64_t seed, uint64_t stream) {
    for (int64_t i = thread_number() * 4; i < count; i += thread_count() * 4) {
        uint32_t word[4];
        float x[4];
        philox(seed, stream, (uint64_t)i / 4, word);
        for (int j = 0; j < 4; j += 2) {
            if (NORMAL) {
                normal_pair(word[j], word[j + 1], x + j);
            } else {
                x[j] = (float)(word[j] >> 8) * (1.0f / 16777216);
                x[j + 1] = (float)(word[j + 1] >> 8) * (1.0f / 16777216);
            }
        }
        for (int k = 0; k < 4 && i + k < count; k++) dst[i + k] = from_float<T>(x[k]);
    }
}

template <bool NORMAL>
int make(const char *op, void *dst, int dtype, int64_t count, uint64_t seed, uint64_t stream) {
    return with_any(dtype, [=](auto t) {
        using T = decltype(t);
        return launch_each(op, random_numbers<T, NORMAL>, ceil_div(count, 4), (T *)dst, count, seed,
                           stream);
    });
}

} // namespace

extern "C" int cuda_randn(void *dst, int dtype, int64_t count, uint64_t seed, uint64_t stream) {
    return make<true>("randn", dst, dtype, count, seed, stream);
}

extern "C" int cuda_rand(void *dst, int dtype, int64_t count, uint64_t seed, uint64_t stream) {
    return make<false>("rand", dst, dtype, count, seed, stream);
}
