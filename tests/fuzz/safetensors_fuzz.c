/* safetensors_fuzz.c - files of safetensors. The input is the header; its length is put in front where the
 * first eight bytes are none, so that most inputs get past it. */
#include <string.h>

#include "checkpoint.h"

void fuzz_one(const uint8_t *data, size_t n) {
    look_at_checkpoint(fuzz_file(data, n), (int64_t)n);
    /* The header alone, and 64 bytes of data behind it. */
    static uint8_t whole[1 << 16];
    size_t header = n >= 8 && data[0] != '{' ? n - 8 : n;
    if (header + 8 + 64 > sizeof whole) return;
    memset(whole, 0, 8);
    for (int i = 0; i < 8; i++) whole[i] = (uint8_t)((uint64_t)header >> 8 * i);
    memcpy(whole + 8, data + (n - header), header);
    memset(whole + 8 + header, 0x3C, 64);
    look_at_checkpoint(fuzz_file(whole, 8 + header + 64), (int64_t)header + 72);
}
