/* checkpoint.c - what a folder or a file holds, and its tensors, mapped. */
#define _GNU_SOURCE
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/memory.h"
#include "io/check.h"
#include "io/format.h"
#include "io/mmap.h"
#include "io/safetensors.h"
#include "io/torchfile.h"
#include "tensor/tensor.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct file {
    char *path;
    int fd;
    int64_t size;
    int format;
    struct lc_mapping *mapping; /* NULL until a tensor of it is asked for */
};

struct lc_checkpoint {
    struct lc_entries entries; /* by name */
    struct file *files;
    int count;
};

/* ---- files ---- */

/* path is taken over, whatever happens. */
static int add_file(lc_checkpoint *c, char *path) {
    struct file *files = path ? lc_realloc(c->files, (size_t)(c->count + 1) * sizeof *files) : NULL;
    struct stat s;
    if (!files) {
        lc_free(path);
        return -1;
    }
    c->files = files;
    struct file *f = &files[c->count++];
    *f = (struct file){.path = path, .fd = -1};
    /* Opening a pipe would wait for its writer. */
    if (lc_file_kind(path) == 3) return lc_fail(LC_EINVAL, "%s: it is no regular file", path);
    if ((f->fd = lc_open_file(path)) < 0) return -1;
    if (fstat(f->fd, &s) < 0) return lc_fail_errno(path, "looking");
    f->size = (int64_t)s.st_size;
    if ((f->format = lc_format_of(f->fd, f->size, path)) < 0) return -1;
    if (f->format == LC_FORMAT_SAFETENSORS)
        return lc_safetensors_read(&c->entries, f->fd, f->size, path, c->count - 1);
    return lc_torchfile_read(&c->entries, f->fd, f->size, f->format, path, c->count - 1);
}

static char *join(const char *folder, const char *name) {
    size_t room = strlen(folder) + strlen(name) + 2;
    char *path = lc_alloc(room);
    if (path) snprintf(path, room, "%s/%s", folder, name);
    return path;
}

static int name_order(const void *a, const void *b) {
    const struct lc_entry *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : x->file - y->file;
}

/* ---- index ---- */

/* One name of the weight_map and the file that holds it. */
struct place {
    const char *name;
    int file;
};

struct index {
    const char *path;
    lc_json *root; /* holds the names */
    struct place *list;
    size_t count;
    char *wrong; /* what does not fit: names with words, or NULL */
    size_t wrong_length, wrong_room;
};

static int place_order(const void *a, const void *b) {
    return strcmp(((const struct place *)a)->name, ((const struct place *)b)->name);
}

static int complain(struct index *x, const char *name, const char *what) {
    size_t n = strlen(name) + strlen(what) + 3;
    if (x->wrong_length + n > x->wrong_room) {
        size_t room = 2 * (x->wrong_length + n);
        char *text = lc_realloc(x->wrong, room);
        if (!text) return -1;
        x->wrong = text;
        x->wrong_room = room;
    }
    x->wrong_length += (size_t)snprintf(x->wrong + x->wrong_length, n, "%s%s%s",
                                        x->wrong_length ? ", " : "", name, what);
    return 0;
}

/* A shard lies beside the index and nowhere else. */
static bool plain_name(const char *name, size_t n) {
    return n > 0 && n < 256 && strlen(name) == n && !strchr(name, '/') && !strchr(name, '\\') &&
           !strstr(name, "..") && name[0] != '.';
}

static int shard(lc_checkpoint *c, const char *folder, const char *name) {
    for (int i = 0; i < c->count; i++)
        if (!strcmp(strrchr(c->files[i].path, '/') + 1, name)) return i;
    char *path = join(folder, name);
    if (path && lc_file_kind(path) == 0) {
        lc_fail(LC_EMISSING, "%s: the index names this file, but it is not there; get it, too",
                path);
        lc_free(path);
        return -1;
    }
    return add_file(c, path) < 0 ? -1 : c->count - 1;
}

static int read_places(struct index *x, lc_checkpoint *c, const char *folder) {
    const lc_json *map = lc_json_get(x->root, "weight_map");
    size_t room = 0, n;
    if (!map || lc_json_type(map) != LC_JSON_OBJECT)
        return lc_fail(LC_EINVAL, "%s: it has no weight_map", x->path);
    for (const lc_json *v = lc_json_first(map); v; v = lc_json_next(v)) room++;
    x->list = lc_alloc(room * sizeof *x->list);
    if (!x->list) return -1;
    for (const lc_json *v = lc_json_first(map); v; v = lc_json_next(v)) {
        const char *name = lc_json_key(v, &n), *file = lc_json_string(v, &n);
        if (!file || !plain_name(file, n))
            return lc_fail(LC_EINVAL,
                           "%s: %.200s: '%.200s' is no file beside the index; get the index again",
                           x->path, name, file ? file : "");
        int at = shard(c, folder, file);
        if (at < 0) return -1;
        x->list[x->count++] = (struct place){name, at};
    }
    if (x->count > 1) qsort(x->list, x->count, sizeof *x->list, place_order);
    return 0;
}

/* Every name of the index is in its file, and the files hold nothing else. */
static int compare(struct index *x, const lc_checkpoint *c) {
    const struct lc_entries *e = &c->entries;
    size_t i = 0, k = 0;
    while (i < x->count || k < e->count) {
        int result = 0, order = i == x->count   ? 1
                                : k == e->count ? -1
                                                : strcmp(x->list[i].name, e->list[k].name);
        if (order == 0) order = x->list[i].file - e->list[k].file;
        if (order < 0) result = complain(x, x->list[i++].name, " (missing)");
        else if (order > 0) result = complain(x, e->list[k++].name, " (not in the index)");
        else i++, k++;
        if (result < 0) return -1;
    }
    if (!x->wrong) return 0;
    return lc_fail(LC_EINVAL, "%s: the index does not fit its files: %s", x->path, x->wrong);
}

/* A page or a pointer in the place of the index is named as such, not as faulty JSON. */
static int check_text(const char *path) {
    struct stat s;
    int fd = lc_open_file(path);
    if (fd < 0) return -1;
    int format = fstat(fd, &s) < 0 ? lc_fail_errno(path, "looking")
                                   : lc_format_of(fd, (int64_t)s.st_size, path);
    close(fd);
    if (format <= LC_FORMAT_SAFETENSORS) return format;
    return lc_fail(LC_EINVAL, "%s: it holds tensors, not an index; get it again", path);
}

static int open_index(lc_checkpoint *c, const char *folder, const char *path) {
    struct index x = {.path = path};
    char *text = NULL;
    size_t n;
    int result = -1;
    if (check_text(path) == 0 && lc_file_read_most(path, LC_JSON_WHOLE, &text, &n) == 0)
        x.root = lc_json_parse(text, n, path, 1);
    if (x.root) result = read_places(&x, c, folder);
    if (result == 0 && c->entries.count > 1)
        qsort(c->entries.list, c->entries.count, sizeof *c->entries.list, name_order);
    if (result == 0) result = compare(&x, c);
    lc_json_free(x.root);
    lc_free(x.list);
    lc_free(x.wrong);
    lc_free(text);
    return result;
}

/* ---- opening ---- */

static bool ends_with(const char *name, size_t n, const char *suffix) {
    size_t m = strlen(suffix);
    return n >= m && !memcmp(name + n - m, suffix, m);
}

/* Says what a folder holds instead of weights: the first names of it. */
static int no_weights(const char *folder) {
    enum { SHOWN = 12 };
    char held[1024] = "";
    size_t used = 0, count = 0;
    bool weights = false;
    char *names = lc_folder_list(folder);
    if (!names) return -1;
    for (char *name = names, *end; (end = strchr(name, '\n')); name = end + 1, count++) {
        size_t n = (size_t)(end - name);
        weights |= ends_with(name, n, ".bin") || ends_with(name, n, ".pth") ||
                   ends_with(name, n, ".pt") || ends_with(name, n, ".safetensors");
        if (count < SHOWN)
            used += (size_t)snprintf(held + used, sizeof held - used, "%s%.*s", count ? ", " : "",
                                     n < 60 ? (int)n : 60, name);
    }
    lc_free_bytes(names);
    if (count > SHOWN) snprintf(held + used, sizeof held - used, " and %zu more", count - SHOWN);
    return lc_fail(LC_EMISSING,
                   "%s: no model.safetensors, pytorch_model.bin or index of their parts, and no "
                   "adapter_model.safetensors or adapter_model.bin; it holds %s%s",
                   folder, count ? held : "nothing",
                   weights ? "; one of its files alone is read when its own path is given" : "");
}

/* What a folder's weights are called, the first that is there; a safetensors file goes before a pickle. */
static int open_folder(lc_checkpoint *c, const char *folder) {
    static const struct {
        const char *name;
        bool index;
    } names[] = {
        {"model.safetensors", false},         {"model.safetensors.index.json", true},
        {"pytorch_model.bin", false},         {"pytorch_model.bin.index.json", true},
        {"adapter_model.safetensors", false}, {"adapter_model.bin", false},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *path = join(folder, names[i].name);
        if (!path) return -1;
        if (lc_file_kind(path) != 1) {
            lc_free(path);
            continue;
        }
        if (!names[i].index) return add_file(c, path);
        int result = open_index(c, folder, path);
        lc_free(path);
        return result;
    }
    return no_weights(folder);
}

lc_checkpoint *lc_checkpoint_open(const char *path) {
    lc_checkpoint *c = lc_alloc_zero(sizeof *c);
    if (!c) return NULL;
    int result = lc_file_kind(path) == 2 ? open_folder(c, path) : add_file(c, lc_copy_text(path));
    if (result < 0) {
        lc_checkpoint_close(c);
        return NULL;
    }
    if (c->entries.count > 1)
        qsort(c->entries.list, c->entries.count, sizeof *c->entries.list, name_order);
    return c;
}

void lc_checkpoint_close(lc_checkpoint *c) {
    if (!c) return;
    for (int i = 0; i < c->count; i++) {
        if (c->files[i].fd >= 0) close(c->files[i].fd);
        lc_map_release(c->files[i].mapping);
        lc_free(c->files[i].path);
    }
    lc_entries_free(&c->entries);
    lc_free(c->files);
    lc_free(c);
}

/* ---- looking ---- */

int lc_checkpoint_count(const lc_checkpoint *c) { return (int)c->entries.count; }

static const struct lc_entry *entry(const lc_checkpoint *c, int i) {
    if (i >= 0 && (size_t)i < c->entries.count) return &c->entries.list[i];
    return lc_fail_null(LC_EINVAL, "checkpoint: there is no tensor %d of %zu", i, c->entries.count);
}

const char *lc_checkpoint_name(const lc_checkpoint *c, int i) {
    const struct lc_entry *e = entry(c, i);
    return e ? e->name : NULL;
}

const char *lc_checkpoint_dtype(const lc_checkpoint *c, int i) {
    const struct lc_entry *e = entry(c, i);
    return e ? e->dtype : NULL;
}

int lc_checkpoint_shape(const lc_checkpoint *c, int i, int64_t *shape5) {
    const struct lc_entry *e = entry(c, i);
    if (!e) return -1;
    memcpy(shape5, e->shape, sizeof e->shape);
    return e->ndim;
}

int64_t lc_checkpoint_bytes(const lc_checkpoint *c, int i) {
    const struct lc_entry *e = entry(c, i);
    return e ? e->bytes : -1;
}

const char *lc_checkpoint_file(const lc_checkpoint *c, int i) {
    const struct lc_entry *e = entry(c, i);
    return e ? c->files[e->file].path : NULL;
}

const char *lc_checkpoint_format(const lc_checkpoint *c, int i) {
    const struct lc_entry *e = entry(c, i);
    return e ? lc_format_name(c->files[e->file].format) : NULL;
}

int lc_checkpoint_check(lc_checkpoint *c) {
    for (int i = 0; i < c->count; i++) {
        const struct file *f = &c->files[i];
        if (f->format == LC_FORMAT_ZIP && lc_check_zip(f->fd, f->size, f->path) < 0) return -1;
    }
    return 0;
}

int64_t lc_checkpoint_nonfinite(lc_checkpoint *c, int i) {
    const struct lc_entry *e = entry(c, i);
    if (!e) return -1;
    const struct file *f = &c->files[e->file];
    return lc_check_numbers(f->fd, e->begin, e->span, e->dtype, f->path);
}

const char *lc_checkpoint_metadata(const lc_checkpoint *c, const char *key) {
    for (size_t i = 0; i < c->entries.pairs; i++)
        if (!strcmp(c->entries.metadata[i].key, key)) return c->entries.metadata[i].value;
    return NULL;
}

/* ---- tensors ---- */

/* For what does not stand where its dtype needs it. */
static lc_tensor *copied(const struct file *f, const struct lc_entry *e, int dtype) {
    lc_tensor *t = lc_tensor_new(e->ndim, e->shape, dtype, LC_HOST);
    if (!t || lc_read_at(f->fd, lc_data(t), (size_t)e->bytes, e->begin, f->path) < 0) return NULL;
    return t;
}

/* Elements end to end of what has strides in the file: transposed, or a part of something. */
static lc_tensor *gathered(const struct file *f, const struct lc_entry *e, int dtype) {
    lc_tensor *t = lc_tensor_new(e->ndim, e->shape, dtype, LC_HOST);
    if (!t) return NULL;
    const char *from = f->mapping->data + e->begin;
    char *to = lc_data(t);
    size_t width = lc_dtype_bytes(dtype);
    int64_t at[LC_MAX_DIMS] = {0}, place = 0;
    for (int64_t i = 0, n = lc_tensor_count(t); i < n; i++, to += width) {
        memcpy(to, from + place * (int64_t)width, width);
        for (int d = e->ndim - 1; d >= 0; d--) {
            place += e->stride[d];
            if (++at[d] < e->shape[d]) break;
            place -= at[d] * e->stride[d];
            at[d] = 0;
        }
    }
    return t;
}

static int still_whole(const struct file *f) {
    struct stat s;
    if (fstat(f->fd, &s) < 0) return lc_fail_errno(f->path, "looking");
    if (s.st_size < f->size)
        return lc_fail(LC_EIO,
                       "%s: it became shorter while it was open: %" PRId64 " bytes then, %" PRId64
                       " now",
                       f->path, f->size, (int64_t)s.st_size);
    return 0;
}

lc_tensor *lc_checkpoint_tensor(lc_checkpoint *c, const char *name) {
    struct lc_entry key = {.name = name, .file = -1};
    size_t low = 0, high = c->entries.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (name_order(&key, &c->entries.list[middle]) > 0) low = middle + 1;
        else high = middle;
    }
    const struct lc_entry *e = low < c->entries.count ? &c->entries.list[low] : NULL;
    if (!e || strcmp(e->name, name) != 0)
        return lc_fail_null(LC_EMISSING, "%s: there is no tensor %s",
                            c->count ? c->files[0].path : "checkpoint", name);
    struct file *f = &c->files[e->file];
    int dtype = lc_word_dtype(e->dtype);
    if (dtype < 0)
        return lc_fail_null(LC_EINVAL, "%s: %s is %s; F32, F16, BF16, I32 and U8 are loaded",
                            f->path, name, e->dtype);
    if (e->ndim > LC_MAX_DIMS)
        return lc_fail_null(LC_EINVAL, "%s: %s has %d dims, at most %d are possible", f->path, name,
                            e->ndim, LC_MAX_DIMS);
    if (still_whole(f) < 0) return NULL;
    bool aligned = e->begin % (int64_t)lc_dtype_bytes(dtype) == 0;
    if (e->bytes == 0 || (!e->stride && !aligned)) return copied(f, e, dtype);
    if (!f->mapping && !(f->mapping = lc_map(f->fd, (size_t)f->size, f->path))) return NULL;
    if (e->stride) return gathered(f, e, dtype);
    f->mapping->holders++;
    return lc_tensor_wrap(e->ndim, e->shape, dtype, f->mapping->data + e->begin, lc_map_release,
                          f->mapping);
}

void lc_checkpoint_forget(lc_checkpoint *c, int i) {
    const struct lc_entry *e = entry(c, i);
    const struct lc_mapping *m = e ? c->files[e->file].mapping : NULL;
    if (m && !e->stride) lc_map_forget(m, (size_t)e->begin, (size_t)e->bytes);
}
