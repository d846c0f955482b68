/* capi.h - what the stations of the walk share: a call that must succeed, and one that must be refused. */
#ifndef CAPI_H
#define CAPI_H
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "lucid.h"

static inline void capi_check(bool done, const char *what, const char *file, int line) {
    if (done) return;
    fprintf(stderr, "capi: %s:%d: %s: %s\n", file, line, what, lc_error());
    exit(1);
}

#define MUST(call) capi_check(call, #call, __FILE__, __LINE__)
/* -1 or NULL, with a reason. */
#define REFUSED(failed) MUST((failed) && lc_error()[0] && (lc_error_clear(), true))

/* Takes over the last tensor made, as Lua does: the caller releases it. */
static inline lc_tensor *capi_own(lc_tensor *t) {
    MUST(t);
    return lc_tensor_adopt(t);
}

/* The stations. folder: of a model with new weights, a picture and tokenizer; scratch: an empty one. */
void capi_base(const char *scratch);
void capi_tensors(const char *scratch);
void capi_pictures(const char *folder, const char *scratch);
void capi_model(const char *folder, const char *scratch);
void capi_http(void);

#endif
