/* support.c - libFuzzer's door, and files that inputs stand in. Memory holds them: a disk would be the slowest part. */
#define _GNU_SOURCE
#include "support.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

void fuzz_broken(const char *condition, const char *file, int line) {
    fprintf(stderr, "%s:%d: this does not hold: %s\n", file, line, condition);
    abort();
}

/* Of all threads. Other programs do not count, as they do for libFuzzer's own limit. */
static double processor_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static bool warm; /* the first input also opens what all of them use */
    double before = processor_seconds();
    fuzz_one(data, n);
    fuzz_check(!warm || processor_seconds() - before < 1);
    warm = true;
    return 0;
}

static char input[64]; /* the path of the file in memory */

const char *fuzz_file(const void *data, size_t n) {
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("input", MFD_CLOEXEC);
        snprintf(input, sizeof input, "/proc/self/fd/%d", fd);
    }
    fuzz_check(ftruncate(fd, 0) == 0 && pwrite(fd, data, n, 0) == (ssize_t)n);
    return input;
}

static char folder[PATH_MAX / 2], names[8][PATH_MAX];
static int count;

static void remove_folder(void) {
    while (count > 0) unlink(names[--count]);
    rmdir(folder);
}

const char *fuzz_folder(void) {
    if (!folder[0]) {
        const char *place = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%s/lucid-fuzz-XXXXXX", place && *place ? place : "/tmp");
        fuzz_check(mkdtemp(folder));
        atexit(remove_folder);
    }
    return folder;
}

static const char *link_to(const char *target, const char *name) {
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    for (int i = 0; i < count; i++)
        if (!strcmp(names[i], path)) return names[i];
    fuzz_check(count < (int)(sizeof names / sizeof *names));
    fuzz_check(symlink(target, path) == 0);
    return strcpy(names[count++], path);
}

const char *fuzz_name(const char *name) { return link_to(input, name); }

const char *fuzz_link(const char *name, const char *file) {
    char whole[PATH_MAX];
    fuzz_check(realpath(file, whole));
    return link_to(whole, name);
}
