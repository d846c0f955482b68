/* param.c - taking parameters by name. A model asks for everything it needs; whatever is missing,
 * misshapen or left over is reported in one error that lists the names. */
#include "nn/param.h"

#include "base/error.h"
#include "base/memory.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *const lc_part_names[LC_PARTS] = {"vision", "projector", "language", "adapter"};

enum { NAME_LENGTH = 256 };

/* ---- the list -------------------------------------------------------------------------------- */

int lc_params_add(struct lc_params *p, enum lc_part part, const char *name, lc_tensor *t) {
    if (!t) return -1;
    if (p->count == p->room) {
        int room = p->room ? 2 * p->room : 64;
        struct lc_param *list = lc_realloc(p->list, (size_t)room * sizeof *list);
        if (!list) return -1;
        p->list = list;
        p->room = room;
    }
    char *copy = lc_copy_text(name);
    if (!copy) return -1;
    p->list[p->count++] = (struct lc_param){copy, lc_tensor_retain(t), part};
    return 0;
}

lc_tensor *lc_params_find(const struct lc_params *p, const char *name) {
    for (int i = 0; i < p->count; i++)
        if (!strcmp(p->list[i].name, name)) return p->list[i].tensor;
    return NULL;
}

void lc_params_free(struct lc_params *p) {
    for (int i = 0; i < p->count; i++) {
        lc_free(p->list[i].name);
        lc_tensor_release(p->list[i].tensor);
    }
    lc_free(p->list);
    lc_free(p->wrong);
    lc_checkpoint_close(p->file);
    *p = (struct lc_params){0};
}

/* ---- taking ------------------------------------------------------------------------------------ */

static void complain(struct lc_params *p, const char *name, const char *what) {
    size_t more = strlen(name) + strlen(what) + 4;
    char *text = lc_realloc(p->wrong, p->wrong_length + more);
    if (!text) return;
    p->wrong = text;
    p->wrong_length += (size_t)snprintf(text + p->wrong_length, more, "%s%s%s",
                                        p->wrong_length ? ", " : "", name, what);
}

static int index_of(const lc_checkpoint *c, const char *name) {
    int low = 0, high = lc_checkpoint_count(c) - 1; /* names are sorted */
    while (low <= high) {
        int middle = (low + high) / 2, order = strcmp(name, lc_checkpoint_name(c, middle));
        if (!order) return middle;
        if (order < 0) high = middle - 1;
        else low = middle + 1;
    }
    return -1;
}

bool lc_params_has(const struct lc_params *p, const char *name) {
    return !p->file || index_of(p->file, name) >= 0;
}

static lc_tensor *from_file(struct lc_params *p, const char *name, int ndim, const int64_t *shape) {
    if (index_of(p->file, name) < 0) {
        complain(p, name, " (missing)");
        return NULL;
    }
    lc_tensor *t = lc_checkpoint_tensor(p->file, name);
    if (!t) {
        complain(p, name, " (unreadable: ");
        complain(p, lc_error(), ")");
        return NULL;
    }
    if (t->ndim != ndim || memcmp(t->shape, shape, (size_t)ndim * sizeof *shape)) {
        char what[160];
        int used = snprintf(what, sizeof what, " (%s, expected [", lc_shape_text(t));
        for (int i = 0; i < ndim; i++)
            used += snprintf(what + used, sizeof what - (size_t)used, i ? ", %lld" : "%lld",
                             (long long)shape[i]);
        snprintf(what + used, sizeof what - (size_t)used, "])");
        complain(p, name, what);
        return NULL;
    }
    if (t->dtype == p->dtype) return t;
    lc_tensor *cast = lc_tensor_make(t, p->dtype, ndim, shape);
    return cast && !lc_tensor_copy(cast, t) ? cast : NULL;
}

/* A stream of its own for every name, so that adding a parameter changes no other. */
static uint64_t stream_of(const char *name) {
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *name; name++) h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return h;
}

static lc_tensor *made_new(struct lc_params *p, const char *name, enum lc_init init, int ndim,
                           const int64_t *shape) {
    if (init == LC_ZEROS || init == LC_ONES)
        return lc_tensor_full(ndim, shape, p->dtype, p->device, init == LC_ONES);
    lc_tensor *t = lc_tensor_randn(ndim, shape, LC_F32, p->device, p->seed, stream_of(name));
    if (t && init == LC_FAN_IN) {
        int64_t inputs = 1;
        for (int i = 1; i < ndim; i++) inputs *= shape[i];
        t = lc_scale(t, 1 / sqrt((double)inputs));
    }
    return p->dtype == LC_F32 ? t : lc_cast(t, p->dtype);
}

lc_tensor *lc_params_take(struct lc_params *p, enum lc_part part, enum lc_init init, int ndim,
                          const int64_t *shape, const char *format, ...) {
    char name[NAME_LENGTH];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    int before = lc_pool();
    lc_tensor *t = p->file ? from_file(p, name, ndim, shape) : made_new(p, name, init, ndim, shape);
    if (t && lc_params_add(p, part, name, t) < 0) t = NULL;
    lc_pool_end(before, NULL);
    return t;
}

int lc_params_finish(struct lc_params *p, const char *folder, bool (*ignorable)(const char *name)) {
    if (p->file && lc_checkpoint_count(p->file) != p->count) {
        for (int i = 0; i < lc_checkpoint_count(p->file); i++) {
            const char *name = lc_checkpoint_name(p->file, i);
            if (!lc_params_find(p, name) && !ignorable(name))
                complain(p, name, " (not part of this model)");
        }
    }
    if (!p->wrong) return 0;
    return lc_fail(LC_EINVAL, "%s: the weights do not fit config.json: %s", folder, p->wrong);
}
