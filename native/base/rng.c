/* rng.c - Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
 * A number is a pure function of (seed, stream, index): threads, order and restarts change nothing. */
#include "lucid.h"

static void round_once(uint32_t *c, const uint32_t *k) {
    uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
    uint32_t x = (uint32_t)(b >> 32) ^ c[1] ^ k[0], y = (uint32_t)(a >> 32) ^ c[3] ^ k[1];
    c[0] = x;
    c[1] = (uint32_t)b;
    c[2] = y;
    c[3] = (uint32_t)a;
}

void lc_philox(uint64_t seed, uint64_t stream, uint64_t index, uint32_t *out4) {
    uint32_t c[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)stream,
                     (uint32_t)(stream >> 32)};
    uint32_t k[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    for (int i = 0; i < 10; i++) {
        round_once(c, k);
        k[0] += 0x9E3779B9u;
        k[1] += 0xBB67AE85u;
    }
    for (int i = 0; i < 4; i++) out4[i] = c[i];
}

double lc_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t word[4];
    lc_philox(seed, stream, index, word);
    uint64_t bits = ((uint64_t)word[0] << 32 | word[1]) >> 11;
    return (double)bits * 0x1p-53;
}
