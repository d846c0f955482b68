/* rope.cu - rotary positions: the pair (c, c + d/2) of a head is turned by position * theta^(-2c/d). Rates
 * and angles are f32, as on the CPU; the rates are computed on the host and kept on the device.
 *
 * A pass over cached keys turns queries and keys and stores keys and values in one launch: a decoding step
 * has little else to do for them. */
#include "cuda/launch.cuh"

namespace {

enum {
    TABLES = 8,
    HALF_MOST = 4096,
    TURNED = 4,       /* heads of a row that a thread turns by the same angles */
    TURN_THREADS = 64 /* of a block: a decoding step has few rows for many processors */
};

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

/* What a thread turns: a pack of either half, from pair c on, of TURNED heads of a row or what is left
 * of them. They have the same angles, and all of them are on their way while these are found. */
template <typename T> struct head_packs {
    int heads, half, c; /* heads: that are left */
    pack_words low[TURNED] = {}, high[TURNED] = {};

    LC_DEVICE void read(const T *head) {
        LC_UNROLL
        for (int h = 0; h < TURNED; h++) {
            if (h >= heads) break;
            low[h] = get_words(head + 2 * h * half + c, half - c);
            high[h] = get_words(head + (2 * h + 1) * half + c, half - c);
        }
    }
    LC_DEVICE void write(T *head) const {
        LC_UNROLL
        for (int h = 0; h < TURNED; h++) {
            if (h >= heads) break;
            put_words(head + 2 * h * half + c, low[h], half - c);
            put_words(head + (2 * h + 1) * half + c, high[h], half - c);
        }
    }
    LC_DEVICE void turn_by(const float *rate, float at) {
        float sine[PACK<T>], cosine[PACK<T>];
        LC_UNROLL
        for (int j = 0; j < PACK<T>; j += PACK<float>) {
            const lc_pack<float> rates = get_pack(rate + c + j, half - c - j);
            LC_UNROLL
            for (int k = 0; k < PACK<float>; k++)
                turn(at * rates.x[k], &sine[j + k], &cosine[j + k]);
        }
        LC_UNROLL
        for (int h = 0; h < TURNED; h++) {
            lc_floats<T> a = floats_of<T>(low[h]), b = floats_of<T>(high[h]);
            LC_UNROLL
            for (int k = 0; k < PACK<T>; k++) {
                const float u = a.x[k], v = b.x[k];
                a.x[k] = u * cosine[k] - v * sine[k];
                b.x[k] = v * cosine[k] + u * sine[k];
            }
            low[h] = words_of(a);
            high[h] = words_of(b);
        }
    }
};

/* y may be x; sign -1 turns back. */
template <typename T>
__global__ void __launch_bounds__(TURN_THREADS, 10)
    rope(T *y, const T *x, const int32_t *position, const float *rate, int64_t rows, int64_t heads,
         int64_t half, int64_t y_row, int64_t x_row, float sign) {
    const int64_t sets = (heads + TURNED - 1) / TURNED, all = rows * sets;
    for (int64_t i = thread_number(); i < row_packs<T>(all, half); i += thread_count()) {
        const row_pack at = row_pack_of<T>(i, all, half);
        const int64_t r = quotient(at.row, sets, all), first = (at.row - r * sets) * TURNED;
        head_packs<T> p = {(int)(heads - first), (int)half, (int)at.first};
        p.read(x + r * x_row + first * 2 * half);
        p.turn_by(rate, sign * (float)position[r]);
        p.write(y + r * y_row + first * 2 * half);
    }
}

/* A row's queries, then its keys, then its values, which are not turned. */
template <typename T>
__global__ void __launch_bounds__(TURN_THREADS, 10)
    rope_append(T *q, T *keys, T *values, const T *k, const T *v, const int32_t *position,
                const int32_t *slot, const float *rate, int64_t rows, int64_t heads, int64_t groups,
                int64_t half, int64_t q_row, int64_t k_row, int64_t v_row, int64_t slot_row) {
    const int64_t of_q = (heads + TURNED - 1) / TURNED, of_k = (groups + TURNED - 1) / TURNED,
                  sets = of_q + 2 * of_k, all = rows * sets;
    for (int64_t i = thread_number(); i < row_packs<T>(all, half); i += thread_count()) {
        const row_pack at = row_pack_of<T>(i, all, half);
        const int64_t r = quotient(at.row, sets, all), set = at.row - r * sets;
        const bool query = set < of_q, value = set >= of_q + of_k;
        const int64_t before = query ? 0 : of_q + (value ? of_k : 0),
                      first = TURNED * (set - before), row = query ? 0 : slot[r];
        const T *from = query ? q + r * q_row : value ? v + r * v_row : k + r * k_row;
        T *to = query ? q + r * q_row : (value ? values : keys) + row * slot_row;
        head_packs<T> p = {(int)((query ? heads : groups) - first), (int)half, (int)at.first};
        p.read(from + first * 2 * half);
        if (!value) p.turn_by(rate, (float)position[r]);
        if (row >= 0) p.write(to + first * 2 * half);
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
        const int64_t packs = row_packs<T>(rows * ceil_div(heads, TURNED), d / 2);
        return launch_loop("rope", rope<T>, ceil_div(packs, TURN_THREADS), TURN_THREADS, (T *)y,
                           (const T *)x, position, rate, rows, heads, d / 2, y_row, x_row,
                           inverse ? -1.0f : 1.0f);
    });
}

extern "C" int cuda_rope_append(void *q, void *keys, void *values, void *k, const void *v,
                                int dtype, const int32_t *position, const int32_t *slot,
                                int64_t rows, int64_t heads, int64_t groups, int64_t d,
                                int64_t q_row, int64_t k_row, int64_t v_row, int64_t slot_row,
                                double theta) {
    if (!rows || !d) return 0;
    const float *rate = rates_of(d / 2, theta);
    if (!rate) return -1;
    return with_float(dtype, [=](auto t) {
        using T = decltype(t);
        const int64_t sets = ceil_div(heads, TURNED) + 2 * ceil_div(groups, TURNED),
                      packs = row_packs<T>(rows * sets, d / 2);
        return launch_loop("rope_append", rope_append<T>, ceil_div(packs, TURN_THREADS),
                           TURN_THREADS, (T *)q, (T *)keys, (T *)values, (const T *)k, (const T *)v,
                           position, slot, rate, rows, heads, groups, d / 2, q_row, k_row, v_row,
                           slot_row);
    });
}
