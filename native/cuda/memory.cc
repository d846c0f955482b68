/* memory.cc - memory of the device: few large segments, cut into blocks on demand.
 *
 * A block is the best fit among the free ones and is joined with its free neighbours when it is let
 * go, so the same sequence of calls gives the same addresses. A segment goes back to the device only
 * when another one is needed and there is no room for it.
 *
 * While launches are recorded (recording.cu) blocks come from a heap of the recording's own: its
 * segments are blocks of the device's heap, and nobody else has them as long as it may be replayed. */
#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <set>

#include "cuda/device.h"

namespace {

constexpr size_t ALIGN = 512;
constexpr size_t SEGMENT_STEP = 2u << 20;
#ifdef LC_EMULATED
constexpr size_t SEGMENT = SEGMENT_STEP;
#else
constexpr size_t SEGMENT = 256u << 20;
#endif

struct block {
    size_t bytes;   /* what it takes, a multiple of ALIGN */
    size_t payload; /* what was asked; 0: it is free */
    lc_memory_tag tag;
    bool first; /* of its segment */
};

} // namespace

struct cuda_heap {
    std::map<char *, block> blocks;                  /* all of them, by address */
    std::set<std::pair<size_t, char *>> free_blocks; /* by size, then address */
};

namespace {

cuda_heap device; /* counted in now */
std::set<cuda_heap *> of_recordings;
cuda_heap *current = &device; /* that blocks are taken from */
lc_cuda_memory now;
int64_t available; /* when the device was started */

const char *const tag_names[LC_MEMORY_TAGS] = {"activations",   "weights",   "the adapter",
                                               "the optimizer", "gradients", "keys and values",
                                               "workspaces"};

using place = std::map<char *, block>::iterator;

size_t rounded(size_t bytes, size_t step) { return (bytes + step - 1) / step * step; }

/* ---- segments ---- */

void *take(cuda_heap &heap, size_t payload, lc_memory_tag tag);

place add_segment(cuda_heap &heap, size_t bytes) {
    char *p = nullptr;
    if (&heap != &device) p = (char *)take(device, bytes, LC_FOR_WORKSPACE);
    else if (int64_t(bytes) <= now.budget - now.reserved) p = (char *)cuda_take(bytes);
    if (!p) return heap.blocks.end();
    if (&heap == &device) now.reserved += int64_t(bytes);
    heap.free_blocks.insert({bytes, p});
    return heap.blocks.insert({p, block{bytes, 0, LC_FOR_ACTIVATIONS, true}}).first;
}

/* Gives the segments that hold nothing back to the device. */
void drop_segments() {
    for (place at = device.blocks.begin(); at != device.blocks.end();) {
        place next = std::next(at);
        bool whole = at->second.first && (next == device.blocks.end() || next->second.first);
        if (whole && !at->second.payload) {
            device.free_blocks.erase({at->second.bytes, at->first});
            cuda_give(at->first);
            now.reserved -= int64_t(at->second.bytes);
            device.blocks.erase(at);
        }
        at = next;
    }
}

/* A free block of that many bytes at least, or end(). */
place find(cuda_heap &heap, size_t bytes) {
    auto fit = heap.free_blocks.lower_bound({bytes, nullptr});
    if (fit != heap.free_blocks.end()) return heap.blocks.find(fit->second);
    size_t least = rounded(bytes, SEGMENT_STEP);
    if (&heap != &device) return add_segment(heap, least);
    place at = add_segment(heap, std::max(least, SEGMENT));
    if (at == heap.blocks.end()) at = add_segment(heap, least);
    if (at != heap.blocks.end() || current != &device) return at; /* giving back waits */
    drop_segments();
    return add_segment(heap, least);
}

constexpr int POISON = 0xFF; /* floats of all ones are NaN */

/* ---- guards: where the CPU plays the device, what lies around a block is watched ---- */

#ifdef LC_EMULATED
constexpr size_t GUARD = ALIGN;
constexpr int GUARD_BYTE = 0xA5;

void poison(char *p, size_t bytes, size_t payload) {
    cuda_clear(p, GUARD_BYTE, bytes);
    cuda_clear(p + GUARD, POISON, payload);
}

void check_guards(const char *p, const block &b) {
    cuda_give_work([=] {
        for (size_t i = 0; i < b.bytes; i++)
            if ((i < GUARD || i >= GUARD + b.payload) && p[i] != char(GUARD_BYTE)) {
                std::fprintf(stderr, "lucid: byte %td of a block of %zu bytes was written\n",
                             ptrdiff_t(i) - ptrdiff_t(GUARD), b.payload);
                std::abort();
            }
    });
}
#else
constexpr size_t GUARD = 0;
/* With LUCID_POISON in the environment blocks start as NaN here, too: a kernel that leaves a hole is seen. */
void poison(char *p, size_t, size_t payload) {
    static const bool wanted = std::getenv("LUCID_POISON") != nullptr;
    if (wanted) cuda_clear(p, POISON, payload);
}
void check_guards(const char *, const block &) {}
#endif

/* ---- blocks ---- */

int out_of_memory(size_t bytes) {
    lc_cuda_memory m;
    cuda_memory_read(&m);
    char held[512] = "";
    size_t used = 0;
    for (int t = 0; t < LC_MEMORY_TAGS; t++)
        if (m.tagged[t] && used < sizeof held)
            used +=
                size_t(std::snprintf(held + used, sizeof held - used, "%s%s %.1f MB",
                                     used ? ", " : ": ", tag_names[t], double(m.tagged[t]) / 1e6));
    return cuda_host.fail(LC_ENOMEM,
                          "out of device memory: %.1f MB asked, %.1f of %.1f MB held%s; the "
                          "largest free block has %.1f MB; a smaller --batch or --recompute on "
                          "needs less",
                          double(bytes) / 1e6, double(m.held) / 1e6, double(m.budget) / 1e6, held,
                          double(m.largest_free) / 1e6);
}

void count(const block &b, int64_t sign) {
    now.held += sign * int64_t(b.bytes);
    now.tagged[b.tag] += sign * int64_t(b.bytes);
    now.peak = std::max(now.peak, now.held);
}

void join_with_next(cuda_heap &heap, place at) {
    place next = std::next(at);
    if (next == heap.blocks.end() || next->second.first || next->second.payload) return;
    heap.free_blocks.erase({next->second.bytes, next->first});
    at->second.bytes += next->second.bytes;
    heap.blocks.erase(next);
}

void *take(cuda_heap &heap, size_t payload, lc_memory_tag tag) {
    const bool counted = &heap == &device;
    size_t bytes = rounded(std::max<size_t>(payload, 1), ALIGN) + 2 * GUARD;
    if (counted && cuda_host.charge(int64_t(payload)) < 0) return nullptr;
    place at = payload > size_t(INT64_MAX) / 2 ? heap.blocks.end() : find(heap, bytes);
    if (at == heap.blocks.end()) {
        if (counted) cuda_host.discharge(int64_t(payload));
        out_of_memory(payload);
        return nullptr;
    }
    block &b = at->second;
    heap.free_blocks.erase({b.bytes, at->first});
    if (b.bytes > bytes) {
        char *rest = at->first + bytes;
        heap.free_blocks.insert({b.bytes - bytes, rest});
        heap.blocks.insert({rest, block{b.bytes - bytes, 0, LC_FOR_ACTIVATIONS, false}});
        b.bytes = bytes;
    }
    b.payload = std::max<size_t>(payload, 1);
    b.tag = tag;
    if (counted) count(b, 1);
    poison(at->first, b.bytes, b.payload);
    return at->first + GUARD;
}

/* The block that begins at p, or in which p lies, is of this heap. */
cuda_heap &heap_of(const char *p) {
    for (cuda_heap *heap : of_recordings) {
        place at = heap->blocks.upper_bound((char *)(uintptr_t)p);
        if (at == heap->blocks.begin()) continue;
        --at;
        if (p < at->first + at->second.bytes) return *heap;
    }
    return device;
}

} // namespace

void *cuda_alloc(size_t bytes) { return take(*current, bytes, cuda_host.tag()); }
void *cuda_workspace(size_t bytes) { return take(*current, bytes, LC_FOR_WORKSPACE); }

void *cuda_workspace_from(const void *src, size_t bytes) {
    void *p = cuda_workspace(bytes);
    if (!p || cuda_upload(p, src, bytes) == 0) return p;
    cuda_free(p, bytes);
    return nullptr;
}

void cuda_free(void *p, size_t bytes) {
    if (!p) return;
    cuda_heap &heap = heap_of((char *)p);
    place at = heap.blocks.find((char *)p - GUARD);
    /* what was recorded may be to come */
    if (&heap == &device || &heap == current) check_guards(at->first, at->second);
    if (&heap == &device) {
        count(at->second, -1);
        cuda_host.discharge(int64_t(bytes));
    }
    at->second.payload = 0;
    join_with_next(heap, at);
    if (!at->second.first && !std::prev(at)->second.payload) {
        --at;
        heap.free_blocks.erase({at->second.bytes, at->first});
        join_with_next(heap, at);
    }
    heap.free_blocks.insert({at->second.bytes, at->first});
}

/* ---- heaps of recordings ---- */

struct cuda_heap *cuda_heap_open(void) {
    return current = *of_recordings.insert(new cuda_heap).first;
}

void cuda_heap_leave(void) { current = &device; }

void cuda_heap_close(struct cuda_heap *heap) {
    std::map<char *, size_t> segments;
    for (const auto &[p, b] : heap->blocks)
        if (b.first) segments[p] = 0;
    for (const auto &[p, b] : heap->blocks) std::prev(segments.upper_bound(p))->second += b.bytes;
    of_recordings.erase(heap);
    delete heap;
    for (const auto &[p, bytes] : segments) {
        poison(p - GUARD, rounded(bytes, ALIGN) + 2 * GUARD, bytes); /* if it was never done */
        cuda_free(p, bytes);
    }
}

#ifdef LC_EMULATED
bool cuda_block_of(const void *p, const char **first, size_t *bytes) {
    cuda_heap &heap = heap_of((const char *)p);
    place at = heap.blocks.upper_bound((char *)(uintptr_t)p);
    if (at == heap.blocks.begin()) return false;
    --at;
    *first = at->first + GUARD;
    *bytes = at->second.payload;
    return *bytes && p >= *first && p < *first + *bytes;
}
#endif

void cuda_memory_start(int64_t bytes) {
    available = bytes;
    now = lc_cuda_memory{};
    now.budget = bytes;
}

void cuda_memory_budget(int64_t bytes) {
    now.budget = bytes > 0 ? std::min(bytes, available) : available;
    if (now.reserved > now.budget) drop_segments();
}

void cuda_memory_read(struct lc_cuda_memory *out) {
    *out = now;
    out->largest_free =
        device.free_blocks.empty() ? 0 : int64_t(device.free_blocks.rbegin()->first);
}
