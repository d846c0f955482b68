/* gemm.cc - the device's matrix products, emulated on the CPU, against the CPU backend.
 *
 *   gemm PLUGIN SEED CASES     random products: sizes, transposes, dtypes, strides, batches, scales, bias
 *
 * Every product is also made of some of its rows alone, which must give the same bits, unless A is
 * stored transposed or few rows have another kernel (CUDA_FEW_ROWS); and with zeros behind the terms of its sums, which
 * must change no bit where the product says so (k_most). What lies between the rows and behind the matrices must stay as it was. With
 * LUCID_CUBLASLT the products go through that library (cublaslt.cc), else through the plain kernel.
 * Prints one line and ends with 0, or says what differs and ends with 1. */
#include "cuda/launchers.h"

#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <vector>

static struct lc_cuda device;

/* ---- what the core would give ---- */

extern "C" size_t lc_dtype_bytes(int dtype) { return dtype == LC_F32 ? 4 : 2; }
extern "C" const char *lc_dtype_name(int) { return ""; }
static int fail(int, const char *format, ...) {
    va_list args;
    va_start(args, format);
    std::vfprintf(stderr, format, args);
    std::fputc('\n', stderr);
    va_end(args);
    return -1;
}
static int charge(int64_t) { return 0; }
static void discharge(int64_t) {}
static enum lc_memory_tag tag(void) { return LC_FOR_ACTIVATIONS; }

[[noreturn]] static void stop(const char *what, const lc_gemm &g) {
    std::fprintf(stderr,
                 "gemm: %s: m %lld, n %lld, k %lld, batch %lld, dtypes %d %d %d, transposed %d %d, "
                 "alpha %g, beta %g, bias %d\n",
                 what, (long long)g.m, (long long)g.n, (long long)g.k, (long long)g.batch,
                 g.a_dtype, g.b_dtype, g.c_dtype, g.a_transposed, g.b_transposed, (double)g.alpha,
                 (double)g.beta, g.bias != nullptr);
    std::exit(1);
}

/* ---- chance ---- */

static uint64_t chance;

static int between(int low, int high) {
    chance ^= chance << 13, chance ^= chance >> 7, chance ^= chance << 17;
    return low + (int)(((chance >> 32) * (uint64_t)(high - low + 1)) >> 32);
}
static int size() {
    static const int odd[] = {1, 2, 3, 7, 8, 16, 17, 31, 32, 33, 48, 63, 64, 65, 72};
    return odd[between(0, (int)(sizeof odd / sizeof *odd) - 1)];
}

/* ---- arrays, on the host and on the device ---- */

struct array {
    int dtype;
    std::vector<unsigned char> host;
    void *there = nullptr;

    array(int of, int64_t count) : dtype(of), host((size_t)count * lc_dtype_bytes(of)) {
        std::vector<float> x((size_t)count);
        for (float &v : x) v = (float)between(-1000, 1000) / 500;
        lc_cpu_kernels.convert(host.data(), dtype, x.data(), LC_F32, count);
        there = device.kernels.alloc(host.size());
        if (!there || device.kernels.upload(there, host.data(), host.size()) < 0) std::exit(1);
    }
    array(const array &) = delete;
    ~array() { device.kernels.free(there, host.size()); }
    std::vector<unsigned char> back() const {
        std::vector<unsigned char> copy(host.size());
        if (device.kernels.download(copy.data(), there, copy.size()) < 0) std::exit(1);
        return copy;
    }
    std::vector<float> floats(const std::vector<unsigned char> &bytes) const {
        std::vector<float> x(bytes.size() / lc_dtype_bytes(dtype));
        lc_cpu_kernels.convert(x.data(), LC_F32, bytes.data(), dtype, (int64_t)x.size());
        return x;
    }
};

/* ---- a case ---- */

static void one_case() {
    static const int dtypes[] = {LC_F32, LC_BF16, LC_F16};
    lc_gemm g = {};
    g.m = size(), g.n = size(), g.k = size();
    g.batch = between(0, 2) ? 1 : between(2, 3);
    g.a_transposed = between(0, 1), g.b_transposed = between(0, 1);
    g.a_dtype = dtypes[between(0, 2)];
    g.b_dtype = between(0, 4) ? g.a_dtype : dtypes[between(0, 2)];
    g.c_dtype = between(0, 2) ? g.a_dtype : dtypes[between(0, 2)];
    g.bias_dtype = between(0, 2) ? g.c_dtype : LC_F32;
    const int64_t rows_a = g.a_transposed ? g.k : g.m, cols_a = g.a_transposed ? g.m : g.k;
    const int64_t rows_b = g.b_transposed ? g.n : g.k, cols_b = g.b_transposed ? g.k : g.n;
    const int gap = between(0, 1) ? 0 : between(1, 9);
    g.a_row = cols_a + gap, g.b_row = cols_b + (between(0, 1) ? gap : 0), g.c_row = g.n + gap;
    if (rows_a == 1) g.a_row = between(0, 1) ? g.a_row : 0;
    g.a_batch = rows_a * (cols_a + gap) + between(0, 3);
    g.b_batch = between(0, 2) ? rows_b * g.b_row : 0;
    g.c_batch = g.m * g.c_row + gap;
    g.alpha = between(0, 1) ? 1.0f : 0.375f;
    g.beta = between(0, 2) ? 0.0f : between(0, 1) ? 1.0f : -0.5f;
    const auto end = [&](int64_t rows, int64_t cols, int64_t row, int64_t step) {
        return (g.batch - 1) * step + (rows - 1) * row + cols;
    };
    const int64_t first = between(0, 1) ? 0 : between(1, 8); /* elements before each matrix */
    array a(g.a_dtype, first + end(rows_a, cols_a, g.a_row, g.a_batch));
    array b(g.b_dtype, first + end(rows_b, cols_b, g.b_row, g.b_batch));
    array c(g.c_dtype, first + end(g.m, g.n, g.c_row, g.c_batch));
    array bias(g.bias_dtype, g.n);
    const bool biased = !between(0, 2);
    const auto place = [&](lc_gemm *to, bool there) {
        const auto at = [&](array &x) {
            return (char *)(there ? x.there : x.host.data()) +
                   (size_t)first * lc_dtype_bytes(x.dtype);
        };
        to->a = at(a), to->b = at(b), to->c = at(c);
        to->bias = !biased ? nullptr : there ? bias.there : bias.host.data();
    };
    lc_gemm here = g;
    const std::vector<unsigned char> before = c.host;
    place(&g, true);
    place(&here, false);
    if (device.kernels.gemm(&g) < 0) stop("it fails", g);
    if (lc_cpu_kernels.gemm(&here) < 0) stop("the CPU fails", g);

    /* A difference of the sum's order, and one rounding of the output. */
    const std::vector<unsigned char> got = c.back();
    const std::vector<float> y = c.floats(got), wanted = c.floats(c.host), old = c.floats(before);
    const double least = g.c_dtype == LC_F32 ? 0 : g.c_dtype == LC_BF16 ? 1.0 / 128 : 1.0 / 1024;
    for (size_t i = 0; i < y.size(); i++) {
        const int64_t at = (int64_t)i - first, inner = at < 0 ? -1 : at % g.c_batch;
        const bool written = at >= 0 && inner / g.c_row < g.m && inner % g.c_row < g.n;
        const double bound = least * std::fabs((double)wanted[i]) + 2e-5 * (double)g.k;
        if (!written && std::memcmp(&y[i], &old[i], sizeof y[i])) stop("it writes beside C", g);
        if (written && !(std::fabs((double)y[i] - (double)wanted[i]) <= bound))
            stop("it differs from the CPU", g);
    }

    /* Some of its rows alone. */
    if (g.a_transposed || g.m < 2) return;
    const bool sixteen = g.a_dtype != LC_F32 && g.m > CUDA_FEW_ROWS;
    const int64_t skip = between(0, (int)g.m - 1), rows = between(1, (int)(g.m - skip));
    if (sixteen && rows <= CUDA_FEW_ROWS) return;
    const size_t c_size = lc_dtype_bytes(g.c_dtype);
    if (device.kernels.upload(c.there, before.data(), before.size()) < 0) std::exit(1);
    lc_gemm some = g;
    some.m = rows;
    some.a = (const char *)g.a + (size_t)(skip * g.a_row) * lc_dtype_bytes(g.a_dtype);
    some.c = (char *)g.c + (size_t)(skip * g.c_row) * c_size;
    if (device.kernels.gemm(&some) < 0) stop("some of its rows fail", g);
    const std::vector<unsigned char> part = c.back();
    for (int64_t batch = 0; batch < g.batch; batch++)
        for (int64_t r = skip; r < skip + rows; r++) {
            const size_t at = (size_t)(first + batch * g.c_batch + r * g.c_row) * c_size;
            if (std::memcmp(&part[at], &got[at], (size_t)g.n * c_size))
                stop("a row's bits depend on the number of rows", g);
        }
}

/* Y = [X, U] [W, 0]^T has the bits of Y = X W^T, whichever is made first. */
static void padded_case() {
    static const int dtypes[] = {LC_F32, LC_BF16, LC_F16};
    lc_gemm g = {};
    g.m = size(), g.n = size(), g.batch = 1;
    const int64_t k = size(), most = k + size();
    g.b_transposed = true;
    g.a_dtype = g.b_dtype = g.c_dtype = dtypes[between(0, 2)];
    g.a_row = g.b_row = g.k_most = most;
    g.c_row = g.n;
    g.alpha = 1;
    array x(g.a_dtype, g.m * most), w(g.a_dtype, g.n * most), y(g.a_dtype, g.m * g.n);
    const size_t bytes = lc_dtype_bytes(g.a_dtype);
    for (int64_t i = 0; i < g.n; i++)
        std::memset(&w.host[(size_t)(i * most + k) * bytes], 0, (size_t)(most - k) * bytes);
    if (device.kernels.upload(w.there, w.host.data(), w.host.size()) < 0) std::exit(1);
    g.a = x.there, g.b = w.there, g.c = y.there;
    std::vector<unsigned char> got[2];
    const int first = between(0, 1);
    for (int turn : {first, 1 - first}) {
        g.k = turn ? most : k;
        if (device.kernels.gemm(&g) < 0) stop("it fails", g);
        got[turn] = y.back();
    }
    if (got[0] != got[1]) stop("zeros behind its terms change it", g);
}

int main(int argc, char **argv) {
    if (argc != 4) return std::fprintf(stderr, "usage: gemm PLUGIN SEED CASES\n"), 2;
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!library) return std::fprintf(stderr, "%s\n", dlerror()), 2;
    const auto open = (lc_cuda_open_fn *)dlsym(library, "lc_cuda_open");
    const lc_cuda_host host = {fail, charge, discharge, tag};
    if (!open || open(LC_KERNELS_HASH, &host, &device) < 0 || device.start(0) < 0) return 2;
    chance = std::strtoull(argv[2], nullptr, 10) * 0x9e3779b97f4a7c15u + 1;
    const int cases = std::atoi(argv[3]);
    for (int i = 0; i < cases; i++) {
        one_case();
        if (i % 4 == 0) padded_case();
    }
    std::printf("%d products agree\n", cases);
    return 0;
}
