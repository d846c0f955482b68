/* rope.cu - rotary positions: the pair (c, c + d/2) of a head is turned by position * theta^(-2c/d). Rates
 * and angles are f32, as on the CPU; the rates are computed on the host and kept on the device.
 *
 * A pass over cached keys turns queries and keys and stores keys and values in one launch: a decoding step
 * has little else to do for them. */
#include "cuda/launch.cuh"

namespace {

enum { TABLES = 8, HALF_MOST = 4096, HEAD_THREADS = 64 };

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

/* y's pair c of a head at x, turned. */
template <typename T>
LC_DEVICE void turn_pair(T *y, const T *x, float at, float rate, int64_t c, int64_t half) {
    float sine, cosine;
    turn(at * rate, &sine, &cosine);
    const float a = to_float(x[c]), b = to_float(x[c + half]);
    y[c] = from_float<T>(a * cosine - b * sine);
    y[c + half] = from_float<T>(b * cosine + a * sine);
}

/* A thread a pair; y may be x. */
template <typename T>
__global__ void rope(T *y, const T *x, const int32_t *position, const float *rate, int64_t rows,
                     int64_t heads, int64_t half, int64_t y_row, int64_t x_row, float sign) {
    EACH_ROW(r, rows) {
        const float at = (float)position[r];
        for (int64_t i = threadIdx.x; i < heads * half; i += blockDim.x) {
            const int64_t c = i % half, head = i / half * 2 * half;
            turn_pair(y + r * y_row + head, x + r * x_row + head, at, rate[c] * sign, c, half);
        }
    }
}

/* A block a head of a row: the queries' first, then the keys' with their values. */
template <typename T>
__global__ void rope_append(T *q, T *keys, T *values, const T *k, const T *v,
                            const int32_t *position, const int32_t *slot, const float *rate,
                            int64_t rows, int64_t heads, int64_t groups, int64_t half,
                            int64_t q_row, int64_t k_row, int64_t v_row) {
    EACH_ROW(i, rows * (heads + groups)) {
        const int64_t r = i / (heads + groups), head = i % (heads + groups), group = head - heads,
                      d = 2 * half;
        const float at = (float)position[r];
        if (group >= 0 && slot[r] < 0) continue;
        T *const own = q + r * q_row + head * d;
        const T *const key = k + r * k_row + group * d, *const value = v + r * v_row + group * d;
        const int64_t to = group < 0 ? 0 : ((int64_t)slot[r] * groups + group) * d;
        for (int64_t c = threadIdx.x; c < half; c += blockDim.x) {
            if (group < 0) {
                turn_pair(own, own, at, rate[c], c, half);
                continue;
            }
            turn_pair(keys + to, key, at, rate[c], c, half);
            values[to + c] = value[c];
            values[to + c + half] = value[c + half];
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

extern "C" int cuda_rope_append(void *q, void *keys, void *values, void *k, const void *v,
                                int dtype, const int32_t *position, const int32_t *slot,
                                int64_t rows, int64_t heads, int64_t groups, int64_t d,
                                int64_t q_row, int64_t k_row, int64_t v_row, double theta) {
    if (!rows || !d) return 0;
    const float *rate = rates_of(d / 2, theta);
    if (!rate) return -1;
    return with_float(dtype, [=](auto t) {
        using T = decltype(t);
        return launch_loop("rope_append", rope_append<T>, rows * (heads + groups), HEAD_THREADS,
                           (T *)q, (T *)keys, (T *)values, (const T *)k, (const T *)v, position,
                           slot, rate, rows, heads, groups, d / 2, q_row, k_row, v_row);
    });
}
