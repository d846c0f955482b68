/* confined.c - confines itself as the decoder of pictures does, then tries the one thing that its word names. What is
 * allowed ends with 0, what fails with 1, and what the filter forbids by SIGSYS. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "decoder/confine.h"

enum { SPACE = 256 << 20 };

static bool try(const char *what) {
    char byte = 0;
    if (!strcmp(what, "nothing")) return true;
    if (!strcmp(what, "read")) return read(0, &byte, 1) >= 0;
    if (!strcmp(what, "write")) return write(0, &byte, 0) >= 0;
    if (!strcmp(what, "memory")) return malloc(64 << 20) != NULL;
    if (!strcmp(what, "much memory")) return malloc(SPACE) != NULL;
    if (!strcmp(what, "open")) return open("/dev/null", O_RDONLY) >= 0;
    if (!strcmp(what, "read another")) return read(1, &byte, 1) >= 0;
    if (!strcmp(what, "write another")) return write(2, &byte, 1) >= 0;
    if (!strcmp(what, "socket")) return socket(AF_INET, SOCK_STREAM, 0) >= 0;
    if (!strcmp(what, "fork")) return fork() >= 0;
    if (!strcmp(what, "execute")) return execl("/bin/true", "true", (char *)NULL) == 0;
    if (!strcmp(what, "kill")) return kill(getppid(), 0) == 0;
    if (!strcmp(what, "sleep")) return nanosleep(&(struct timespec){0}, NULL) == 0;
    if (!strcmp(what, "map code"))
        return mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
               MAP_FAILED;
    if (!strcmp(what, "map a file"))
        return mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 0, 0) != MAP_FAILED;
    if (!strcmp(what, "make code")) {
        void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        return mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0;
    }
#ifdef __x86_64__
    if (!strcmp(what, "old calls")) { /* 32-bit getpid */
        long id;
        __asm__ volatile("int $0x80" : "=a"(id) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
        return id > 0;
    }
#endif
    fprintf(stderr, "confined: there is nothing that is called %s\n", what);
    return false;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "";
    if (!lc_confine(SPACE)) _exit(3); /* this kernel has no filter */
    _exit(try(what) ? 0 : 1);
}
