/* choice.cc - which algorithm multiplies matrices of a kind, once and for all: a row's bits must not
 * depend on how many rows there are, nor on what a timing said in another process. */
#include "cuda/cublas.h"

#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <map>
#include <string>
#include <tuple>

namespace {

bool operator<(const lt_kind &a, const lt_kind &b) {
    const auto all = [](const lt_kind &x) {
        return std::make_tuple(x.m, x.n, x.k, x.batched, x.a_transposed, x.b_transposed, x.bias,
                               x.padded, x.a_dtype, x.c_dtype, x.align);
    };
    return all(a) < all(b);
}
struct before {
    bool operator()(const lt_kind &a, const lt_kind &b) const { return a < b; }
};

std::map<lt_kind, lt_algo, before> chosen;

/* What algorithms belong to. */
std::string origin() {
    const struct lt *t = cuda_lt();
    return "cuBLASLt " + std::to_string(t ? t->version() : 0) + " on " + cuda_describe();
}

/* A line of choices(); false: it is none. */
bool read_line(const char *line, lt_kind *k, lt_algo *a) {
    int flags = 0;
    uint64_t *w = a->word;
    const int got =
        std::sscanf(line,
                    "%" SCNd64 " %" SCNd64 " %" SCNd64 " %d %d %d %d : %" SCNx64 " %" SCNx64
                    " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64 " %" SCNx64,
                    &k->m, &k->n, &k->k, &flags, &k->a_dtype, &k->c_dtype, &k->align, w, w + 1,
                    w + 2, w + 3, w + 4, w + 5, w + 6, w + 7);
    k->batched = flags & 1;
    k->a_transposed = flags & 2;
    k->b_transposed = flags & 4;
    k->bias = flags & 8;
    k->padded = flags & 16;
    return got == 15;
}

} // namespace

const struct lt_algo *lt_chosen(const struct lt_kind *kind) {
    const auto at = chosen.find(*kind);
    return at == chosen.end() ? nullptr : &at->second;
}

void lt_choose(const struct lt_kind *kind, const struct lt_algo *algo) { chosen[*kind] = *algo; }

const char *cuda_choices(void) {
    static std::string text;
    text = chosen.empty() ? "" : origin() + "\n";
    for (const auto &[k, a] : chosen) {
        char line[320];
        const uint64_t *w = a.word;
        std::snprintf(
            line, sizeof line,
            "%" PRId64 " %" PRId64 " %" PRId64 " %d %d %d %d : %" PRIx64 " %" PRIx64 " %" PRIx64
            " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 " %" PRIx64 "\n",
            k.m, k.n, k.k,
            k.batched | k.a_transposed << 1 | k.b_transposed << 2 | k.bias << 3 | k.padded << 4,
            k.a_dtype, k.c_dtype, k.align, w[0], w[1], w[2], w[3], w[4], w[5], w[6], w[7]);
        text += line;
    }
    return text.c_str();
}

int cuda_choose(const char *text) {
    const std::string head = origin() + "\n";
    if (std::strncmp(text, head.c_str(), head.size())) return 0;
    int taken = 0;
    for (const char *line = text + head.size(); *line; taken++) {
        lt_kind kind{};
        lt_algo algo;
        const char *end = std::strchr(line, '\n');
        if (!end || !read_line(line, &kind, &algo))
            return cuda_host.fail(LC_EINVAL, "the algorithms of matrix products: line %d is broken",
                                  taken + 2);
        chosen[kind] = algo;
        line = end + 1;
    }
    return taken;
}
