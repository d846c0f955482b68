/* sandbox.h - decoding in a process of its own that can do nothing else, so that a fault of a decoder is one refused
 * picture. */
#ifndef LC_IMAGE_SANDBOX_H
#define LC_IMAGE_SANDBOX_H
#include <pthread.h>
#include <sys/types.h>

#include "image/image.h"

/* One such process, started at the first picture and again where it has ended; zeros but for the lock at first. */
struct lc_sandbox {
    pthread_mutex_t lock;
    pid_t pid; /* 0: there is none */
    int socket;
    unsigned char *shared; /* the file's bytes, and from file_room on the pixels */
    size_t file_room, room;
};

/* What lc_picture_decode and lc_picture_read do, with this process: where lc_image_sandbox has not asked for it they
 * decode here. */
int lc_sandbox_decode(struct lc_sandbox *s, struct lc_picture *p, const void *bytes, size_t n,
                      const char *name);
int lc_sandbox_read(struct lc_sandbox *s, struct lc_picture *p, const char *path);
void lc_sandbox_end(struct lc_sandbox *s);

#endif
