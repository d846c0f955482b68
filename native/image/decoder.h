/* decoder.h - what a process that decodes pictures (native/decoder) and the one that started it tell each other.
 *
 * Over a socket: a greeting of the decoder, then a request, an answer, a request, an answer. In memory that both see:
 * the file's bytes at its begin, and the pixels [height, width, 3] from pixels_at on. */
#ifndef LC_IMAGE_DECODER_H
#define LC_IMAGE_DECODER_H
#include "image/image.h"

enum { LC_DECODER_SOCKET = 0, LC_DECODER_MEMORY = 1 }; /* the decoder's descriptors */

struct lc_decode_request {
    int64_t bytes, pixels_at;
    int64_t seconds; /* the decoder ends itself after them */
    struct lc_picture_limits most;
    char suffix[8]; /* of the file's name, on which the format may depend */
};

struct lc_decode_answer {
    int32_t code, height,
        width;        /* 0, or the error's; of the greeting: whether system calls are filtered */
    char reason[500]; /* of an error, without the file's name */
};

#endif
