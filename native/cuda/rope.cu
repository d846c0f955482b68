/* rope.cu - rotary positions: the pair (c, c + d/2) of a head is turned by position * theta^(-2c/d). Rates
 * and angles are f32, as on the CPU; the rates are computed on the host and kept on the device. */
#include "cuda/launch.cuh"

namespace {

enum { TABLES = 8, HALF_MOST = 4096 };

struct table {
    int64_t half;
    double theta;
    float *rates; /* [half], on the device for good */
};
table tables[TABLES];
int next_table;

const float *rates_of(int64_t half, double theta) {
    for (const table &t : tables)
        if (t.rates && t.half == half && t.theta == theta) return t.rates;
    static float rate[HALF_MOST];
    if (half > HALF_MOST) {
        cuda_host.fail(LC_EINVAL, "rope: heads of %lld; %d is the most on this device",
                       (long long)(2 * half), 2 * HALF_MOST);
        return NULL;
    }
    for (int64_t c = 0; c < half; c++)
        rate[c] = (float)pow(theta, -2 * (double)c / (double)(2 * half));
    table *t = &tables[next_table];
    cuda_free(t->rates, (size_t)t->half * sizeof *rate);
    *t = {half, theta, (float *)cuda_workspace_from(rate, (size_t)half * sizeof *rate)};
    next_table = (next_table + 1) % TABLES;
    return t->rates;
}

/* Whole turns are taken off first, 2 pi in two parts: the functions of large angles would need local
 * memory, and those of multiples of pi need none. */
LC_DEVICE void turn(float angle, float *sine, float *cosine) {
    const float turns = rintf(angle * 0.15915494f);
    float rest = fmaf(turns, -6.283185482f, angle);
    rest = fmaf(turns, 1.748455531e-07f, rest);
    sincospif(rest * 0.318309886f, sine, cosine);
}

/* A thread a pair; y may be x. */
template <typename T>
__global__ void rope(T *y, const T *x, const int32_t *position, const float *rate, int64_t rows,
                     int64_t heads, int64_t half, int64_t y_row, int64_t x_row, float sign) {
    EACH_ROW(r, rows) {
        const float at = (float)position[r];
        for (int64_t i = threadIdx.x; i < heads * half; i += blockDim.x) {
            const int64_t c = i % half, first = i / half * 2 * half + c;
            const T *from = x + r * x_row + first;
            T *to = y + r * y_row + first;
            float sine, cosine;
            turn(at * (rate[c] * sign), &sine, &cosine);
            const float a = to_float(from[0]), b = to_float(from[half]);
            to[0] = from_float<T>(a * cosine - b * sine);
            to[half] = from_float<T>(b * cosine + a * sine);
        }
    }
}

} // namespace

extern "C" int cuda_rope(void *y, const void *x, int dtype, const int32_t *position, int64_t rows,
                         int64_t heads, int64_t d, int64_t y_row, int64_t x_row, double theta,
                         bool inverse) {
    if (!rows || !heads || !d) return 0;
    const float *rate = rates_of(d / 2, theta);
    if (!rate) return -1;
    return with_float(dtype, [=](auto t) {
        using T = decltype(t);
        return launch_loop("rope", rope<T>, rows, THREADS, (T *)y, (const T *)x, position, rate,
                           rows, heads, d / 2, y_row, x_row, inverse ? -1.0f : 1.0f);
    });
}
