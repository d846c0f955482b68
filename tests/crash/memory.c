/* memory.c - a machine without memory, for tests alone (LD_PRELOAD): every block of the core comes from aligned_alloc.
 *
 * faults_watch() begins to count them by call stack: the frames within liblucid.so, as offsets, so that a stack has the
 * same hash in every process. faults_arm() makes one fail, or all from that on. */
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unwind.h>

#define PUBLIC __attribute__((visibility("default")))

enum { STACKS = 1 << 14 };

static struct stack {
    uint64_t hash;
    long count;
} stacks[STACKS];
static struct {
    bool watched;
    uintptr_t base, end; /* of the core */
    uint64_t hash;       /* of the stack that fails */
    long occurrence, failed;
    bool lasting;
    size_t again; /* bytes of the block that failed: the core asks for it once more */
} memory;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int find_core(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size, (void)unused;
    const char *name = strrchr(info->dlpi_name, '/');
    if (!name || strcmp(name, "/liblucid.so") != 0) return 0;
    memory.base = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t end = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
        if (info->dlpi_phdr[i].p_type == PT_LOAD && end > memory.end) memory.end = end;
    }
    return 1;
}

/* Goes from the innermost frame of the core to its outermost, and not into what called it: code that LuaJIT has made
 * cannot be gone through. */
static _Unwind_Reason_Code add_frame(struct _Unwind_Context *context, void *hash) {
    uintptr_t at = _Unwind_GetIP(context);
    uint64_t *h = hash;
    if (at < memory.base || at >= memory.end) return *h ? _URC_END_OF_STACK : _URC_NO_REASON;
    *h = ((*h ? *h : 14695981039346656037u) ^ (at - memory.base)) * 1099511628211u;
    return _URC_NO_REASON;
}

/* 0: it is not the core that asks. */
static uint64_t hash_of_stack(void) {
    uint64_t hash = 0;
    _Unwind_Backtrace(add_frame, &hash);
    return hash;
}

static struct stack *find(uint64_t hash) {
    size_t at = hash % STACKS;
    while (stacks[at].hash && stacks[at].hash != hash) at = (at + 1) % STACKS;
    stacks[at].hash = hash;
    return &stacks[at];
}

/* Whether this block is to be refused. */
static bool refuses(size_t bytes) {
    uint64_t hash = hash_of_stack();
    if (!hash) return false;
    pthread_mutex_lock(&lock);
    bool retried = memory.again == bytes && bytes > 0, refused = retried;
    memory.again = 0;
    long count = retried ? 0 : ++find(hash)->count;
    if (hash == memory.hash &&
        (count == memory.occurrence || (memory.lasting && count > memory.occurrence))) {
        memory.again = bytes;
        memory.failed++;
        refused = true;
    }
    pthread_mutex_unlock(&lock);
    return refused;
}

PUBLIC void *aligned_alloc(size_t alignment, size_t bytes) {
    void *p = NULL;
    if (memory.watched && refuses(bytes)) return NULL;
    return posix_memalign(&p, alignment, bytes) == 0 ? p : NULL;
}

PUBLIC void faults_watch(void) {
    dl_iterate_phdr(find_core, NULL);
    memory.watched = true;
}

/* The occurrence-th block of a stack fails, and with lasting all that follow. */
PUBLIC void faults_arm(uint64_t hash, long occurrence, int lasting) {
    memory.hash = hash;
    memory.lasting = lasting;
    memory.occurrence = occurrence;
}

PUBLIC void faults_rest(void) { memory.watched = false; }
PUBLIC long faults_failed(void) { return memory.failed; }

/* The i-th place of the table: a stack and how many blocks it asked for; 0: there is none in it. */
PUBLIC int faults_places(void) { return STACKS; }
PUBLIC long faults_place(int i, uint64_t *hash) {
    *hash = stacks[i].hash;
    return stacks[i].count;
}
