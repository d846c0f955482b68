/* param.c - taking parameters by name. A model asks for everything it needs; whatever is missing,
 * misshapen or left over is reported in one error that lists the names. */
#include "nn/param.h"

#include "base/error.h"
#include "base/memory.h"
#include "tensor/device.h"

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

uint64_t lc_params_state(const struct lc_params *p) {
    enum { PRIME = 16777619 };
    uint64_t state = (uint64_t)p->count;
    for (int i = 0; i < p->count; i++) {
        const struct lc_storage *s = p->list[i].tensor->storage;
        state = (state * PRIME + (uintptr_t)s->data) * PRIME + s->changes;
    }
    return state;
}

void lc_params_free(struct lc_params *p) {
    for (int i = 0; i < p->count; i++) {
        lc_free(p->list[i].name);
        lc_tensor_release(p->list[i].tensor);
    }
    lc_free(p->list);
    for (int i = 0; i < p->source_count; i++) {
        lc_checkpoint_close(p->sources[i].file);
        lc_free(p->sources[i].path);
        lc_free(p->sources[i].wrong);
    }
    *p = (struct lc_params){0};
}

/* ---- sources ----------------------------------------------------------------------------------- */

/* What stands before a model's own names in the file of a training run: the entry of the weights beside the
 * optimizer's, the wrapper of a run on several devices, or both. */
static const char *const roots[] = {"model.module.", "module.", "model."};
enum { ROOT_LENGTH = sizeof "model.module." };

static bool begins(const char *name, const char *with) {
    return strncmp(name, with, strlen(with)) == 0;
}

static const char *root_of(const lc_checkpoint *c) {
    for (size_t r = 0; r < sizeof roots / sizeof *roots; r++)
        for (int i = 0; i < lc_checkpoint_count(c); i++)
            if (begins(lc_checkpoint_name(c, i), roots[r])) return roots[r];
    return "";
}

int lc_params_source(struct lc_params *p, enum lc_part part, const char *path) {
    lc_assert(p->source_count < LC_PARTS);
    struct lc_source *s = &p->sources[p->source_count];
    *s = (struct lc_source){.file = lc_checkpoint_open(path)};
    if (!s->file) return -1;
    s->root = p->source_count ? root_of(s->file) : ""; /* a decoder's own names begin alike */
    p->source_of[part] = p->source_count++;            /* from here on lc_params_free closes it */
    s->path = lc_copy_text(path);
    return s->path ? 0 : -1;
}

static const struct lc_source *source(const struct lc_params *p, enum lc_part part) {
    return p->source_count ? &p->sources[p->source_of[part]] : NULL;
}

bool lc_params_loaded(const struct lc_params *p, enum lc_part part) { return source(p, part); }

bool lc_params_separate(const struct lc_params *p, enum lc_part part) {
    return p->source_of[part] != 0;
}

const char *lc_params_path(const struct lc_params *p, enum lc_part part) {
    return p->source_count ? p->sources[p->source_of[part]].path : "?";
}

/* ---- taking ------------------------------------------------------------------------------------ */

static void complain(struct lc_source *s, const char *name, const char *what) {
    size_t more = strlen(name) + strlen(what) + 4;
    char *text = lc_realloc(s->wrong, s->wrong_length + more);
    if (!text) return;
    s->wrong = text;
    s->wrong_length += (size_t)snprintf(text + s->wrong_length, more, "%s%s%s",
                                        s->wrong_length ? ", " : "", name, what);
}

struct full_name {
    char text[NAME_LENGTH + ROOT_LENGTH];
};

/* LLaVA's projector has the root in its own name, where it is no run's. */
static struct full_name in_file(const struct lc_source *s, const char *name) {
    struct full_name full;
    snprintf(full.text, sizeof full.text, "%s%s", begins(name, s->root) ? "" : s->root, name);
    return full;
}

static int index_of(const struct lc_source *s, const char *name) {
    struct full_name full = in_file(s, name);
    int low = 0, high = lc_checkpoint_count(s->file) - 1; /* names are sorted */
    while (low <= high) {
        int middle = (low + high) / 2;
        int order = strcmp(full.text, lc_checkpoint_name(s->file, middle));
        if (!order) return middle;
        if (order < 0) high = middle - 1;
        else low = middle + 1;
    }
    return -1;
}

bool lc_params_has(const struct lc_params *p, enum lc_part part, const char *name) {
    const struct lc_source *s = source(p, part);
    return !s || index_of(s, name) >= 0;
}

int lc_params_shape(const struct lc_params *p, enum lc_part part, const char *name,
                    int64_t shape[LC_MAX_DIMS]) {
    const struct lc_source *s = source(p, part);
    int at = s ? index_of(s, name) : -1;
    return at < 0 ? -1 : lc_checkpoint_shape(s->file, at, shape);
}

static void complain_of_shape(struct lc_source *s, const char *name, const lc_tensor *t, int ndim,
                              const int64_t *shape) {
    char what[400];
    int used = snprintf(what, sizeof what, " (%s, expected [", lc_shape_text(t));
    for (int i = 0; i < ndim; i++)
        used += snprintf(what + used, sizeof what - (size_t)used, i ? ", %lld" : "%lld",
                         (long long)shape[i]);
    snprintf(what + used, sizeof what - (size_t)used, "])");
    complain(s, name, what);
}

/* name (why: what lc_error says) */
static void complain_of_error(struct lc_source *s, const char *name, const char *why) {
    char what[512];
    snprintf(what, sizeof what, " (%s: %s)", why, lc_error());
    complain(s, name, what);
}

/* The file's numbers in the model's dtype, or packed. */
static lc_tensor *converted(struct lc_params *p, lc_tensor *t, int quant) {
    return quant == LC_PLAIN ? lc_cast(t, p->dtype) : lc_pack_weight(t, quant);
}

static lc_tensor *from_file(struct lc_params *p, struct lc_source *s, const char *name, int ndim,
                            const int64_t *shape, int quant) {
    struct full_name full = in_file(s, name);
    if (index_of(s, name) < 0) {
        complain(s, full.text, " (missing)");
        return NULL;
    }
    lc_tensor *t = lc_checkpoint_tensor(s->file, full.text);
    if (!t && lc_error_code() == LC_ENOMEM) return NULL;
    if (!t) {
        complain_of_error(s, full.text, "unreadable");
        return NULL;
    }
    if (t->ndim != ndim || memcmp(t->shape, shape, (size_t)ndim * sizeof *shape)) {
        complain_of_shape(s, full.text, t, ndim, shape);
        return NULL;
    }
    if (t->dtype == p->dtype && quant == LC_PLAIN && p->device == LC_HOST) return t;
    lc_tensor *there = lc_tensor_on(t, p->device), *own = there ? converted(p, there, quant) : NULL;
    if (!own) {
        if (lc_error_code() != LC_ENOMEM) complain_of_error(s, full.text, "it cannot be converted");
        return NULL;
    }
    if (t->dtype == LC_F16 && own->dtype == LC_BF16 && quant == LC_PLAIN) p->shortened++;
    lc_checkpoint_forget(s->file, index_of(s, name)); /* else a model is in memory twice */
    return own;
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

static lc_tensor *take(struct lc_params *p, enum lc_part part, enum lc_init init, int ndim,
                       const int64_t *shape, const char *name, int quant) {
    if (p->out_of_memory) return NULL;
    int before = lc_pool();
    struct lc_source *s = p->source_count ? &p->sources[p->source_of[part]] : NULL;
    lc_error_clear();
    lc_tensor *t =
        s ? from_file(p, s, name, ndim, shape, quant) : made_new(p, name, init, ndim, shape);
    if (t && lc_params_add(p, part, name, t) < 0) t = NULL;
    if (!t) p->failed = true;
    if (!t && lc_error_code() == LC_ENOMEM) p->out_of_memory = true;
    lc_pool_end(before, NULL);
    return t;
}

lc_tensor *lc_params_take(struct lc_params *p, enum lc_part part, enum lc_init init, int ndim,
                          const int64_t *shape, const char *format, ...) {
    char name[NAME_LENGTH];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return take(p, part, init, ndim, shape, name, LC_PLAIN);
}

lc_tensor *lc_params_take_quantised(struct lc_params *p, enum lc_part part, const int64_t shape[2],
                                    const char *name) {
    return take(p, part, LC_FAN_IN, 2, shape, name, p->quant);
}

/* Whether the name is among the complaints already. */
static bool complained(const struct lc_source *s, const char *name) {
    size_t n = strlen(name);
    for (const char *at = s->wrong; at && (at = strstr(at, name)); at += n)
        if ((at == s->wrong || at[-1] == ' ') && at[n] == ' ') return true;
    return false;
}

/* Everything that is wrong with one source, or NULL; what is left over is among it. */
static const char *faults(struct lc_params *p, struct lc_source *s,
                          bool (*ignorable)(const char *name)) {
    for (int i = 0; i < lc_checkpoint_count(s->file); i++) {
        const char *full = lc_checkpoint_name(s->file, i), *name = full + strlen(s->root);
        if (begins(full, s->root) && !lc_params_find(p, name) && !lc_params_find(p, full) &&
            !ignorable(name) && !complained(s, full))
            complain(s, full, " (not part of this model)");
    }
    return s->wrong;
}

int lc_params_finish(struct lc_params *p, bool (*ignorable)(const char *name)) {
    char *all = NULL;
    size_t length = 0;
    if (p->out_of_memory) return -1;
    for (int i = 0; i < p->source_count; i++) {
        const char *list = faults(p, &p->sources[i], ignorable);
        if (!list) continue;
        p->failed = true;
        size_t more = strlen(p->sources[i].path) + strlen(list) + 64;
        char *text = lc_realloc(all, length + more);
        if (!text) {
            lc_free(all);
            return -1;
        }
        all = text;
        length += (size_t)snprintf(all + length, more, "%s%s: the weights do not fit %s: %s",
                                   length ? "; " : "", p->sources[i].path,
                                   p->source_count > 1 ? "the model" : "config.json", list);
    }
    if (all) lc_fail(LC_EINVAL, "%s", all);
    lc_free(all);
    return p->failed ? -1 : 0;
}
