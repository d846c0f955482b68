/* emulate.h - CUDA kernels on the CPU, compiled from the very same .cu sources with g++.
 *
 * A block's threads are fibers. They change places where threads wait for each other (a barrier, a
 * shuffle, a matrix instruction); who goes on is drawn from a seed, and one warp is often far ahead
 * of the others. Blocks run one after the other in random order. Shared memory starts as NaN. An
 * asynchronous copy turns its target into NaN at once and brings the bytes at the wait that covers
 * it, in random order: so both a wait that is too lax and a copy into what is still being read are
 * seen. Misuse (a barrier that not all reach, lanes at different instructions, an address out of
 * line or out of bounds) ends the program with status 3 and one line.
 *
 * For tests alone: nothing of it is in the plug-in. One launch at a time, when its turn comes
 * (emulate_stream.h). The seed is
 * LUCID_EMULATE_SEED, or what emulate_seed() is given. */
#ifndef LC_CUDA_EMULATE_H
#define LC_CUDA_EMULATE_H
#include <unistd.h>

#include "cuda/emulate_stream.h"

enum {
    EMULATE_LANES = 32,
    EMULATE_THREADS = 1024,
    EMULATE_STACK = 256 << 10,
    EMULATE_STATIC = 48 << 10,       /* what a block has without being asked for more */
    EMULATE_SHARED_MOST = 227 << 10, /* of sm_90; others are looked at when compiled */
    EMULATE_WORDS = 16               /* that a lane brings to or takes from a rendezvous */
};

struct emulate_copy {
    unsigned char *to;
    const unsigned char *from; /* NULL: zeros */
    int bytes, group;
};

enum emulate_state { EMULATE_READY, EMULATE_AT_WARP, EMULATE_AT_BLOCK, EMULATE_DONE };

struct emulate_thread {
    void *saved; /* stack pointer */
    unsigned char *stack;
    dim3 at;
    int warp, lane;
    enum emulate_state state;
    struct emulate_copy *copies; /* not yet arrived */
    int copy_count, copy_room, group;
};

union emulate_word {
    uint32_t u;
    float f;
};

/* What the lanes of a warp bring and take, twice: a lane may be one rendezvous ahead of another. */
struct emulate_warp {
    uint32_t ready; /* lanes that can go on */
    int arrived, round;
    const char *op[2];
    union emulate_word in[2][EMULATE_LANES][EMULATE_WORDS], out[2][EMULATE_LANES][EMULATE_WORDS];
    const void *row[2][EMULATE_LANES];
};

struct emulate_site { /* a shared variable of the block */
    const void *key;
    size_t offset;
};

struct emulate {
    uint64_t random;
    struct emulate_thread thread[EMULATE_THREADS];
    struct emulate_warp warp[EMULATE_THREADS / EMULATE_LANES];
    int order[EMULATE_THREADS / EMULATE_LANES]; /* of warps: the first that can goes on */
    struct emulate_thread *current;
    int threads, live, at_barrier;
    void *host; /* stack pointer of the launch */
    void (*body)(void *);
    void *arguments;
    const char *kernel;
    dim3 grid, block, block_at;
    unsigned char *fixed, *dynamic; /* shared memory */
    size_t fixed_used, dynamic_bytes;
    struct emulate_site site[64];
    int sites;
    struct {
        const void *kernel;
        size_t bytes;
    } allowed[256]; /* dynamic shared memory that kernels were given */
    int allowed_count;
    int64_t conflicts; /* ldmatrix phases whose rows share a bank */
};
inline struct emulate emulate_now;

#define threadIdx (emulate_now.current->at)
#define blockIdx (emulate_now.block_at)
#define blockDim (emulate_now.block)
#define gridDim (emulate_now.grid)

[[noreturn]] inline void emulate_fault_here(const char *what) {
    char where[256];
    const struct emulate *e = &emulate_now;
    snprintf(where, sizeof where, "%s, block %u %u %u, thread %u", e->kernel, e->block_at.x,
             e->block_at.y, e->block_at.z, e->current ? e->current->at.x : 0);
    emulate_fault(what, where);
}

/* ---- chance ---------------------------------------------------------------------------------- */

inline void emulate_seed(uint64_t seed) {
    emulate_now.random = seed * 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du;
}

inline uint32_t emulate_draw(uint32_t below) {
    uint64_t x = emulate_now.random;
    if (!x) {
        const char *seed = getenv("LUCID_EMULATE_SEED");
        emulate_seed(seed ? strtoull(seed, NULL, 10) : 1);
        x = emulate_now.random;
    }
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    emulate_now.random = x;
    return (uint32_t)(((x >> 32) * below) >> 32);
}

/* ---- fibers ---------------------------------------------------------------------------------- */

#if !defined __x86_64__ || !defined __linux__
#error "emulate.h switches stacks in x86-64 assembly; add this machine's switch beside it"
#endif
/* Saves the registers that a function must keep, and goes on where `to` was saved. */
__attribute__((naked, noinline)) static void emulate_switch(void **, void *) {
    __asm__ volatile("push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n\t"
                     "mov %rsp, (%rdi); mov %rsi, %rsp\n\t"
                     "pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp; ret");
}

/* The fiber that goes on: of the first warp in order that can, any lane. NULL: none can. */
inline struct emulate_thread *emulate_next() {
    struct emulate *e = &emulate_now;
    const int warps = e->threads / EMULATE_LANES;
    if (warps > 1 && emulate_draw(128) == 0) { /* another warp comes to the front */
        int i = (int)emulate_draw((uint32_t)warps), front = e->order[i];
        e->order[i] = e->order[0];
        e->order[0] = front;
    }
    for (int i = 0; i < warps; i++) {
        uint32_t ready = e->warp[e->order[i]].ready;
        if (!ready) continue;
        uint32_t skip = emulate_draw((uint32_t)__builtin_popcount(ready));
        while (skip--) ready &= ready - 1;
        return &e->thread[e->order[i] * EMULATE_LANES + __builtin_ctz(ready)];
    }
    return NULL;
}

inline void emulate_yield() {
    struct emulate *e = &emulate_now;
    struct emulate_thread *from = e->current, *to = emulate_next();
    if (!to && e->live)
        emulate_fault_here("no thread can go on: not all reach a barrier or a warp instruction");
    if (to == from) return;
    e->current = to;
    emulate_switch(&from->saved, to ? to->saved : e->host);
}

inline void emulate_wait(enum emulate_state state) {
    struct emulate_thread *t = emulate_now.current;
    t->state = state;
    emulate_now.warp[t->warp].ready &= ~(1u << t->lane);
}

inline void emulate_release(struct emulate_thread *t) {
    t->state = EMULATE_READY;
    emulate_now.warp[t->warp].ready |= 1u << t->lane;
}

inline void emulate_try_barrier() {
    struct emulate *e = &emulate_now;
    if (!e->at_barrier || e->at_barrier < e->live) return;
    e->at_barrier = 0;
    for (int i = 0; i < e->threads; i++)
        if (e->thread[i].state == EMULATE_AT_BLOCK) emulate_release(&e->thread[i]);
}

inline void __syncthreads() {
    emulate_wait(EMULATE_AT_BLOCK);
    emulate_now.at_barrier++;
    emulate_try_barrier();
    emulate_yield();
}

inline void emulate_run_thread() {
    struct emulate *e = &emulate_now;
    e->body(e->arguments);
    if (e->current->copy_count) emulate_fault_here("a thread ends before its copies have arrived");
    emulate_wait(EMULATE_DONE);
    e->live--;
    emulate_try_barrier();
    emulate_yield();
    abort(); /* a thread that is done never goes on */
}

/* ---- warps ----------------------------------------------------------------------------------- */

struct emulate_meeting {
    struct emulate_warp *warp;
    int round, lane;
};

inline struct emulate_meeting emulate_come(unsigned mask, const char *op) {
    struct emulate_thread *t = emulate_now.current;
    struct emulate_warp *w = &emulate_now.warp[t->warp];
    struct emulate_meeting m = {w, w->round & 1, t->lane};
    if (mask != 0xffffffffu) emulate_fault_here("a warp instruction with less than 32 lanes");
    if (w->arrived && strcmp(w->op[m.round], op))
        emulate_fault_here("lanes of a warp are at different instructions");
    w->op[m.round] = op;
    return m;
}

/* Waits for the other lanes; the last one does the work for all. */
template <typename Work> inline void emulate_meet(struct emulate_meeting *m, Work work) {
    struct emulate_warp *w = m->warp;
    if (++w->arrived == EMULATE_LANES) {
        work();
        w->arrived = 0;
        w->round++;
        struct emulate_thread *first = emulate_now.current - m->lane;
        for (int i = 0; i < EMULATE_LANES; i++)
            if (first[i].state == EMULATE_AT_WARP) emulate_release(&first[i]);
    } else emulate_wait(EMULATE_AT_WARP);
    emulate_yield();
}

inline void __syncwarp(unsigned mask = 0xffffffffu) {
    struct emulate_meeting m = emulate_come(mask, "syncwarp");
    emulate_meet(&m, [] {});
}

/* Each lane brings x and takes what lane from(lane) brought. */
template <typename T> inline T emulate_shuffle(unsigned mask, T x, int from, const char *op) {
    static_assert(sizeof(T) <= 8, "a shuffle moves 4 or 8 bytes");
    struct emulate_meeting m = emulate_come(mask, op);
    memcpy(m.warp->in[m.round][m.lane], &x, sizeof x);
    emulate_meet(&m, [] {});
    if (from >= 0 && from < EMULATE_LANES) memcpy(&x, m.warp->in[m.round][from], sizeof x);
    return x;
}
template <typename T> inline T __shfl_sync(unsigned mask, T x, int lane) {
    return emulate_shuffle(mask, x, lane & 31, "shfl");
}
template <typename T> inline T __shfl_xor_sync(unsigned mask, T x, int bits) {
    return emulate_shuffle(mask, x, emulate_now.current->lane ^ bits, "shfl_xor");
}
template <typename T> inline T __shfl_down_sync(unsigned mask, T x, unsigned n) {
    return emulate_shuffle(mask, x, emulate_now.current->lane + (int)n, "shfl_down");
}
template <typename T> inline T __shfl_up_sync(unsigned mask, T x, unsigned n) {
    return emulate_shuffle(mask, x, emulate_now.current->lane - (int)n, "shfl_up");
}
inline unsigned __ballot_sync(unsigned mask, int yes) {
    struct emulate_meeting m = emulate_come(mask, "ballot");
    m.warp->in[m.round][m.lane][0].u = yes != 0;
    emulate_meet(&m, [] {});
    unsigned all = 0;
    for (int i = 0; i < EMULATE_LANES; i++) all |= m.warp->in[m.round][i][0].u << i;
    return all;
}
inline int __any_sync(unsigned mask, int yes) { return __ballot_sync(mask, yes) != 0; }
inline int __all_sync(unsigned mask, int yes) { return __ballot_sync(mask, yes) == 0xffffffffu; }

/* c += a b; a: the lane's 8 numbers in register order, b: its 4; fragments of m16n8k16. */
inline void emulate_mma(float c[4], const float a[8], const float b[4]) {
    struct emulate_meeting m = emulate_come(0xffffffffu, "mma");
    union emulate_word(*in)[EMULATE_WORDS] = m.warp->in[m.round];
    union emulate_word(*out)[EMULATE_WORDS] = m.warp->out[m.round];
    for (int i = 0; i < 8; i++) in[m.lane][i].f = a[i];
    for (int i = 0; i < 4; i++) in[m.lane][8 + i].f = b[i];
    emulate_meet(&m, [in, out] {
        float left[16][16], right[16][8];
        for (int lane = 0; lane < EMULATE_LANES; lane++) {
            const int g = lane / 4, t = lane % 4 * 2;
            for (int i = 0; i < 8; i++) /* register i / 2: rows g, g + 8, then the upper columns */
                left[g + i / 2 % 2 * 8][t + i % 2 + i / 4 * 8] = in[lane][i].f;
            for (int i = 0; i < 4; i++) right[t + i % 2 + i / 2 * 8][g] = in[lane][8 + i].f;
        }
        for (int i = 0; i < 16; i++) {
            float sum[8] = {0};
            for (int k = 0; k < 16; k++)
                for (int j = 0; j < 8; j++) sum[j] += left[i][k] * right[k][j];
            for (int j = 0; j < 8; j++) out[i % 8 * 4 + j / 2][i / 8 * 2 + j % 2].f = sum[j];
        }
    });
    for (int i = 0; i < 4; i++) c[i] += out[m.lane][i].f;
}

inline bool emulate_is_shared(const void *p, size_t bytes) {
    const unsigned char *at = (const unsigned char *)p;
    const struct emulate *e = &emulate_now;
    return (at >= e->fixed && at + bytes <= e->fixed + e->fixed_used) ||
           (at >= e->dynamic && at + bytes <= e->dynamic + e->dynamic_bytes);
}

/* Four 8 x 8 matrices of 16-bit numbers; lane 8 m + i brings the address of row i of matrix m. */
inline void emulate_ldmatrix(uint32_t r[4], const void *row, bool trans) {
    struct emulate_meeting m = emulate_come(0xffffffffu, trans ? "ldmatrix.trans" : "ldmatrix");
    const void **rows = m.warp->row[m.round];
    union emulate_word(*out)[EMULATE_WORDS] = m.warp->out[m.round];
    if ((uintptr_t)row % 16) emulate_fault_here("ldmatrix: an address is no multiple of 16");
    if (!emulate_is_shared(row, 16)) emulate_fault_here("ldmatrix: out of shared memory");
    rows[m.lane] = row;
    emulate_meet(&m, [rows, out, trans] {
        for (int x = 0; x < 4; x++) {
            uint16_t matrix[8][8];
            unsigned banks = 0;
            for (int i = 0; i < 8; i++) {
                memcpy(matrix[i], rows[x * 8 + i], 16);
                banks |= 1u << ((uintptr_t)rows[x * 8 + i] / 16 % 8);
            }
            emulate_now.conflicts += banks != 0xff;
            for (int lane = 0; lane < EMULATE_LANES; lane++) {
                const int i = lane / 4, j = lane % 4 * 2;
                uint32_t low = trans ? matrix[j][i] : matrix[i][j];
                uint32_t high = trans ? matrix[j + 1][i] : matrix[i][j + 1];
                out[lane][x].u = low | high << 16;
            }
        }
    });
    for (int x = 0; x < 4; x++) r[x] = out[m.lane][x].u;
}

/* ---- asynchronous copies --------------------------------------------------------------------- */

/* Bytes of global memory, 4 or 16, or zeros where there are none. */
inline void emulate_cp_async(void *to, const void *from, int bytes, bool there) {
    struct emulate_thread *t = emulate_now.current;
    if ((uintptr_t)to % bytes || (there && (uintptr_t)from % bytes))
        emulate_fault_here("cp.async: an address is no multiple of the size");
    if (!emulate_is_shared(to, bytes)) emulate_fault_here("cp.async: out of shared memory");
    if (t->copy_count == t->copy_room) {
        t->copy_room = t->copy_room ? 2 * t->copy_room : 64;
        t->copies =
            (struct emulate_copy *)realloc(t->copies, (size_t)t->copy_room * sizeof *t->copies);
    }
    memset(to, 0xff, bytes);
    t->copies[t->copy_count++] = {(unsigned char *)to, there ? (const unsigned char *)from : NULL,
                                  bytes, t->group};
}
inline void emulate_cp_async_commit() { emulate_now.current->group++; }
/* All but the newest n groups arrive. */
inline void emulate_cp_async_wait(int n) {
    struct emulate_thread *t = emulate_now.current;
    for (int left = t->copy_count; left > 0; left--) { /* a random one of the first `left` */
        int i = (int)emulate_draw((uint32_t)left);
        struct emulate_copy copy = t->copies[i];
        t->copies[i] = t->copies[left - 1];
        t->copies[left - 1] = copy;
        if (copy.group >= t->group - n) continue;
        if (copy.from) memcpy(copy.to, copy.from, (size_t)copy.bytes);
        else memset(copy.to, 0, (size_t)copy.bytes);
        t->copies[left - 1] = t->copies[--t->copy_count];
    }
}

/* ---- shared memory --------------------------------------------------------------------------- */

inline void *emulate_shared(const void *key, size_t bytes) {
    struct emulate *e = &emulate_now;
    for (int i = 0; i < e->sites; i++)
        if (e->site[i].key == key) return e->fixed + e->site[i].offset;
    size_t at = emulate_up(e->fixed_used, 16);
    if (e->sites == 64 || at + bytes > EMULATE_STATIC)
        emulate_fault_here("more than 48 KiB of fixed shared memory");
    e->site[e->sites++] = {key, at};
    e->fixed_used = at + bytes;
    return e->fixed + at;
}

inline cudaError_t emulate_allow_shared(const void *kernel, size_t bytes) {
    struct emulate *e = &emulate_now;
    if (bytes > EMULATE_SHARED_MOST) return cudaErrorInvalidValue;
    int i = 0;
    while (i < e->allowed_count && e->allowed[i].kernel != kernel) i++;
    if (i == 256) emulate_fault("too many kernels with much shared memory", "cudaFuncSetAttribute");
    if (i == e->allowed_count) e->allowed_count++;
    e->allowed[i] = {kernel, bytes};
    return cudaSuccess;
}
template <typename K>
inline cudaError_t cudaFuncSetAttribute(K *kernel, cudaFuncAttribute, int bytes) {
    return emulate_allow_shared((const void *)kernel, (size_t)bytes);
}

/* ---- launches -------------------------------------------------------------------------------- */

inline void emulate_start_thread(struct emulate_thread *t, int i) {
    const dim3 block = emulate_now.block;
    const unsigned n = (unsigned)i;
    if (!t->stack) {
        void *stack = mmap(NULL, EMULATE_STACK, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stack == MAP_FAILED) emulate_fault("no memory for stacks", "launch");
        mprotect(stack, EMULATE_PAGE, PROT_NONE); /* its end */
        t->stack = (unsigned char *)stack;
    }
    void **top = (void **)(void *)(t->stack + EMULATE_STACK);
    top[-2] = (void *)emulate_run_thread; /* where the first switch returns to */
    t->saved = top - 8;                   /* six registers below it, whatever they hold */
    t->at = dim3(n % block.x, n / block.x % block.y, n / (block.x * block.y));
    t->warp = i / EMULATE_LANES;
    t->lane = i % EMULATE_LANES;
    t->copy_count = t->group = 0;
    emulate_release(t);
}

inline void emulate_run_block() {
    struct emulate *e = &emulate_now;
    const int warps = e->threads / EMULATE_LANES;
    memset(e->fixed, 0xff, EMULATE_STATIC);
    memset(e->dynamic, 0xff, e->dynamic_bytes + EMULATE_PAGE);
    e->fixed_used = 0;
    e->sites = e->at_barrier = 0;
    e->live = e->threads;
    for (int i = 0; i < warps; i++) {
        int j = (int)emulate_draw((uint32_t)i + 1);
        e->order[i] = e->order[j];
        e->order[j] = i;
        e->warp[i].ready = 0;
        e->warp[i].arrived = e->warp[i].round = 0;
    }
    for (int i = 0; i < e->threads; i++) emulate_start_thread(&e->thread[i], i);
    e->current = emulate_next();
    emulate_switch(&e->host, e->current->saved);
    for (int i = 0; i < EMULATE_PAGE; i++)
        if (e->dynamic[e->dynamic_bytes + (size_t)i] != 0xff)
            emulate_fault("a write behind dynamic shared memory", e->kernel);
}

inline void emulate_launch(const void *kernel, const char *name, dim3 grid, dim3 block,
                           size_t shared, void (*body)(void *), void *arguments) {
    struct emulate *e = &emulate_now;
    const int64_t blocks = (int64_t)grid.x * grid.y * grid.z;
    const size_t threads = (size_t)block.x * block.y * block.z;
    size_t allowed = EMULATE_STATIC;
    for (int i = 0; i < e->allowed_count; i++)
        if (e->allowed[i].kernel == kernel) allowed = e->allowed[i].bytes;
    if (blocks < 1 || blocks > INT32_MAX || grid.y > 65535 || grid.z > 65535)
        emulate_fault("a grid of no blocks, or of too many", name);
    if (threads < 1 || threads > EMULATE_THREADS || threads % EMULATE_LANES)
        emulate_fault("a block must have 32 to 1024 threads, whole warps", name);
    if (shared > allowed)
        emulate_fault("more dynamic shared memory than the kernel was allowed", name);
    if (!e->fixed) {
        e->fixed = (unsigned char *)aligned_alloc(1024, EMULATE_STATIC);
        e->dynamic =
            (unsigned char *)aligned_alloc(1024, EMULATE_SHARED_MOST + 1024 + EMULATE_PAGE);
    }
    e->threads = (int)threads;
    e->grid = grid;
    e->block = block;
    e->dynamic_bytes = shared;
    e->kernel = name;
    e->body = body;
    e->arguments = arguments;
    struct emulate_access access;
    int32_t *at = (int32_t *)malloc((size_t)blocks * sizeof *at); /* the order of the blocks */
    for (int32_t i = 0; i < blocks; i++) {
        int32_t j = (int32_t)emulate_draw((uint32_t)i + 1);
        at[i] = at[j];
        at[j] = i;
    }
    for (int64_t i = 0; i < blocks; i++) {
        const unsigned n = (unsigned)at[i];
        e->block_at = dim3(n % grid.x, n / grid.x % grid.y, n / (grid.x * grid.y));
        emulate_run_block();
    }
    free(at);
    e->current = NULL;
    emulate_check_memory(name);
}

/* The arguments become the kernel's own types once, as at a real launch. */
template <typename... P> struct emulate_call {
    void (*kernel)(P...);
    template <typename... A>
    void launch(const char *name, dim3 grid, dim3 block, size_t shared, A... arguments) {
        auto run = kernel;
        auto call = [run, arguments...] { run((P)arguments...); };
        emulate_give([=]() mutable {
            emulate_launch((const void *)run, name, grid, block, shared,
                           [](void *c) { (*(decltype(call) *)c)(); }, &call);
        });
    }
};
template <typename... P> inline struct emulate_call<P...> emulate_call_of(void (*kernel)(P...)) {
    return {kernel};
}

#endif
