/* torchfile_fuzz.c - files of torch.save as they are: zips, and pickles one after another. */
#include "checkpoint.h"

void fuzz_one(const uint8_t *data, size_t n) { look_at_checkpoint(fuzz_file(data, n), (int64_t)n); }
