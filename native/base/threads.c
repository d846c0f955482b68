/* threads.c - how many threads the CPU's kernels use. No result depends on it. */
#include "lucid.h"

#include <unistd.h>

#include "base/parallel.h"

void lc_threads(int n) { omp_set_num_threads(n > 0 ? n : omp_get_num_procs()); }
int lc_threads_used(void) { return omp_get_max_threads(); }
int lc_cores(void) { return (int)sysconf(_SC_NPROCESSORS_ONLN); }
