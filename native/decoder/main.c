/* main.c - lucid-decode: decodes the pictures that another process does not trust (image/sandbox.c starts it), in a
 * process that can do nothing else. Its one word is the address space that decoding may take. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "decoder/confine.h"
#include "image/decoder.h"

static bool read_all(void *data, size_t n) {
    for (size_t done = 0; done < n;) {
        ssize_t now = read(LC_DECODER_SOCKET, (char *)data + done, n - done);
        if (now <= 0) return false;
        done += (size_t)now;
    }
    return true;
}

static bool write_all(const void *data, size_t n) {
    for (size_t done = 0; done < n;) {
        ssize_t now = write(LC_DECODER_SOCKET, (const char *)data + done, n - done);
        if (now <= 0) return false;
        done += (size_t)now;
    }
    return true;
}

/* A decoder that hangs ends also where nobody is left to end it. */
static void set_timer(int64_t seconds) {
    const struct itimerval timer = {.it_value.tv_sec = seconds};
    setitimer(ITIMER_REAL, &timer, NULL);
}

/* The file has no name here; what is put in its place stands before the reason, as a name would. */
static void explain(struct lc_decode_answer *a, const char *name) {
    const char *reason = lc_error();
    size_t before = strlen(name);
    if (!strncmp(reason, name, before) && !strncmp(reason + before, ": ", 2)) reason += before + 2;
    a->code = lc_error_code();
    snprintf(a->reason, sizeof a->reason, "%s", reason);
}

static void decode(struct lc_decode_answer *a, const struct lc_decode_request *r,
                   unsigned char *shared) {
    struct lc_picture p;
    char name[sizeof r->suffix + 8];
    snprintf(name, sizeof name, "picture%s", r->suffix);
    lc_image_limits(r->most.bytes, r->most.side, r->most.pixels);
    if (lc_picture_decode_here(&p, shared, (size_t)r->bytes, name) < 0) {
        explain(a, name);
        return;
    }
    memcpy(shared + r->pixels_at, p.rgb, (size_t)(3 * p.height * p.width));
    a->height = (int32_t)p.height;
    a->width = (int32_t)p.width;
    lc_free(p.rgb);
}

int main(int argc, char **argv) {
    struct stat memory;
    void *shared = MAP_FAILED;
    if (argc == 2 && !fstat(LC_DECODER_MEMORY, &memory) && S_ISREG(memory.st_mode) &&
        memory.st_size > 0)
        shared = mmap(NULL, (size_t)memory.st_size, PROT_READ | PROT_WRITE, MAP_SHARED,
                      LC_DECODER_MEMORY, 0);
    if (shared == MAP_FAILED) {
        fprintf(stderr, "lucid-decode: lucid starts this program, to decode pictures in\n");
        return 2;
    }
    struct lc_decode_answer greeting = {0};
    greeting.code = lc_confine(memory.st_size + atoll(argv[1]));
    if (!write_all(&greeting, sizeof greeting)) return 1;
    struct lc_decode_request r;
    while (read_all(&r, sizeof r)) {
        struct lc_decode_answer a = {0};
        set_timer(r.seconds);
        decode(&a, &r, shared);
        set_timer(0);
        if (!write_all(&a, sizeof a)) break;
    }
    _exit(0); /* a library's last words would be system calls */
}
