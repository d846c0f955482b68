/* sum.c - how fast memory is read: the sum of mapped files, each thread its own part, a cache line a
 * load. Eight sums side by side, so that nothing but memory is waited for. */
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef uint64_t line __attribute__((vector_size(64)));
enum { SIDE = 8 };

void *bench_map(const char *path, size_t *bytes) {
    struct stat s;
    int fd = open(path, O_RDONLY);
    if (fd < 0 || fstat(fd, &s) < 0) return NULL;
    *bytes = (size_t)s.st_size;
    void *data = mmap(NULL, *bytes, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    return data == MAP_FAILED ? NULL : data;
}

uint64_t bench_sum(const void *data, size_t bytes, int threads) {
    const line *p = data;
    const int64_t groups = (int64_t)(bytes / sizeof *p / SIDE);
    uint64_t total = 0;
#pragma omp parallel num_threads(threads) reduction(+ : total)
    {
        line sum[SIDE] = {0};
#pragma omp for schedule(static)
        for (int64_t i = 0; i < groups; i++)
            for (int j = 0; j < SIDE; j++) sum[j] += p[i * SIDE + j];
        for (int j = 0; j < SIDE; j++)
            for (int k = 0; k < 8; k++) total += sum[j][k];
    }
    return total;
}
