/* confine.c - limits first, then a filter of system calls: what is not listed kills. */
#define _GNU_SOURCE
#include "decoder/confine.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

/* A sanitizer's shadow takes terabytes of addresses. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SHADOWED = 1 };
#else
enum { SHADOWED = 0 };
#endif

static void limit(int resource, rlim_t most) {
    const struct rlimit both = {most, most};
    setrlimit(resource, &both);
}

#ifdef ARCHITECTURE
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
/* The next skip instructions are for this value alone, or for what has one of these bits. */
#define WHERE(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip)
#define WHERE_BITS(bits, skip) BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, skip)
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define KILL BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS)
#define CALL(name) WHERE(SYS_##name, 1), ALLOW
/* Of an argument the lower half is loaded: these are ints, and the machines little-endian. */
#define CALL_ON_SOCKET(name) WHERE(SYS_##name, 4), LOAD(args[0]), WHERE(0, 1), ALLOW, KILL

static const struct sock_filter filter[] = {
    LOAD(arch),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0),
    KILL,
    LOAD(nr),
    CALL_ON_SOCKET(read),
    CALL_ON_SOCKET(write),
    /* Memory without a file behind it, and never code. */
    WHERE(SYS_mmap, 7),
    LOAD(args[2]),
    WHERE_BITS(PROT_EXEC, 1),
    KILL,
    LOAD(args[3]),
    WHERE_BITS(MAP_ANONYMOUS, 1),
    ALLOW,
    KILL,
    WHERE(SYS_mprotect, 4),
    LOAD(args[2]),
    WHERE_BITS(PROT_EXEC, 1),
    KILL,
    ALLOW,
    CALL(munmap),
    CALL(mremap),
    CALL(madvise),
    CALL(brk),
    CALL(futex),
    CALL(setitimer),
    CALL(clock_gettime),
    CALL(getrandom), /* malloc guards its lists with it */
    CALL(restart_syscall),
#ifdef __SANITIZE_ADDRESS__
    CALL(sigaltstack), /* asked for before what does not return */
#endif
    CALL(rt_sigreturn),
    CALL(exit),
    CALL(exit_group),
    KILL,
};

static bool filter_calls(void) {
    const struct sock_fprog program = {sizeof filter / sizeof *filter,
                                       (struct sock_filter *)(uintptr_t)filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}
#else
static bool filter_calls(void) { return false; }
#endif

bool lc_confine(int64_t address_space) {
    syscall(SYS_close_range, 1U, ~0U,
            0U); /* what the program that started this one has left open */
    if (!SHADOWED) limit(RLIMIT_AS, (rlim_t)address_space);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_FSIZE, 0);
    limit(RLIMIT_NPROC, 0);
    limit(RLIMIT_NOFILE, 1);
    return filter_calls();
}
