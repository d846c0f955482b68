/* platform.c - the clock, and what this build was made with. */
#define _POSIX_C_SOURCE 200809L
#include "lucid.h"

#include <time.h>

int lc_version(void) { return LC_VERSION; }

double lc_seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
