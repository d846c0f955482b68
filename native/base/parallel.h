/* parallel.h - OpenMP's calls; in a build without it (OPENMP= make) there is one thread. */
#ifndef LC_BASE_PARALLEL_H
#define LC_BASE_PARALLEL_H

#ifdef _OPENMP
#include <omp.h>
#else
static inline int omp_get_thread_num(void) { return 0; }
static inline int omp_get_max_threads(void) { return 1; }
static inline int omp_get_num_procs(void) { return 1; }
static inline int omp_in_parallel(void) { return 0; }
static inline void omp_set_num_threads(int n) { (void)n; }
#endif

#endif
