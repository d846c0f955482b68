/* file.c - reading, atomic writing, folders. */
#define _GNU_SOURCE
#include "base/file.h"

#include "base/error.h"
#include "base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

int lc_fail_errno(const char *path, const char *what) {
    int why = errno;
    return lc_fail(why == ENOENT   ? LC_EMISSING
                   : why == ENOMEM ? LC_ENOMEM
                                   : LC_EIO,
                   "%s: %s: %s", path, what, strerror(why));
}

/* ---- small things ---- */

/* open(), again where a signal came in between. */
static int open_surely(const char *path, int flags, mode_t mode) {
    int fd;
    do fd = open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

int lc_open_file(const char *path) {
    struct stat s;
    int fd = open_surely(path, O_RDONLY, 0);
    if (fd < 0) return lc_fail_errno(path, "opening");
    if (fstat(fd, &s) == 0 && S_ISDIR(s.st_mode)) {
        close(fd);
        return lc_fail(LC_EIO, "%s: opening: it is a folder", path);
    }
    return fd;
}

int lc_file_kind(const char *path) {
    struct stat s;
    if (stat(path, &s) < 0) return 0;
    return S_ISREG(s.st_mode) ? 1 : S_ISDIR(s.st_mode) ? 2 : 3;
}

int64_t lc_file_size(const char *path) {
    struct stat s;
    return stat(path, &s) < 0 ? lc_fail_errno(path, "looking") : (int64_t)s.st_size;
}

int64_t lc_file_mtime_ns(const char *path) {
    struct stat s;
    if (stat(path, &s) < 0) return lc_fail_errno(path, "looking");
    return (int64_t)s.st_mtim.tv_sec * 1000000000 + s.st_mtim.tv_nsec;
}

int64_t lc_file_inode(const char *path) {
    struct stat s;
    return stat(path, &s) < 0 ? lc_fail_errno(path, "looking") : (int64_t)s.st_ino;
}

/* Opens the folder that a path is in: before a rename, so that only the disk can fail after it. */
static int open_folder_of(const char *path) {
    const char *slash = strrchr(path, '/');
    size_t n = !slash ? 0 : slash == path ? 1 : (size_t)(slash - path);
    char *folder = lc_alloc(n + 2);
    if (!folder) return -1;
    memcpy(folder, n ? path : ".", n ? n : 1);
    folder[n ? n : 1] = 0;
    int fd = open_surely(folder, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) lc_fail_errno(folder, "opening the folder");
    lc_free(folder);
    return fd;
}

/* A rename is durable only once its folder is. named: the path that an error is about. */
static int rename_within(int folder, const char *from, const char *to, const char *named) {
    if (rename(from, to) < 0) return lc_fail_errno(named, "renaming");
    /* EINVAL: a file system whose folders cannot be synced. */
    if (fsync(folder) < 0 && errno != EINVAL) return lc_fail_errno(to, "syncing its folder");
    return 0;
}

/* So is a new name. */
static int sync_folder_of(const char *path) {
    int folder = open_folder_of(path), result = 0;
    if (folder < 0) return -1;
    if (fsync(folder) < 0 && errno != EINVAL) result = lc_fail_errno(path, "syncing its folder");
    close(folder);
    return result;
}

/* ---- reading ---- */

/* Reads up to n bytes: fewer only at the end of the file. */
static ssize_t read_all(int fd, char *to, size_t n) {
    size_t had = 0;
    while (had < n) {
        ssize_t got = read(fd, to + had, n - had);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (got == 0) break;
        had += (size_t)got;
    }
    return (ssize_t)had;
}

int lc_file_read(const char *path, char **data, size_t *n) {
    return lc_file_read_most(path, INT64_MAX, data, n);
}

int lc_file_read_most(const char *path, int64_t most, char **data, size_t *n) {
    struct stat s;
    int fd = lc_open_file(path);
    if (fd < 0) return -1;
    /* One byte more than the size says, so that the end of the file is seen; pipes have no size. */
    size_t had = 0, room = fstat(fd, &s) == 0 && s.st_size > 0 ? (size_t)s.st_size + 1 : 4096;
    char *text = lc_alloc(room + 1);
    while (text) {
        ssize_t got = read_all(fd, text + had, room - had);
        if (got < 0) {
            lc_fail_errno(path, "reading");
            lc_free(text);
            text = NULL;
            break;
        }
        had += (size_t)got;
        if (had < room) break;
        if ((int64_t)had > most) {
            lc_fail(LC_EINVAL, "%s: it goes on behind %" PRId64 " bytes, which is the limit", path,
                    most);
            lc_free(text);
            text = NULL;
            break;
        }
        room *= 2;
        char *larger = lc_realloc(text, room + 1);
        if (!larger) lc_free(text);
        text = larger;
    }
    close(fd);
    if (!text) return -1;
    text[had] = 0;
    *data = text;
    *n = had;
    return 0;
}

int lc_file_read_at(const char *path, int64_t offset, void *to, size_t n) {
    int fd = lc_open_file(path);
    if (fd < 0) return -1;
    ssize_t got = lseek(fd, offset, SEEK_SET) < 0 ? -1 : read_all(fd, to, n);
    int result =
        got < 0 ? lc_fail_errno(path, "reading")
        : (size_t)got < n
            ? lc_fail(LC_EIO, "%s: it ends within the %zu bytes from %" PRId64, path, n, offset)
            : 0;
    close(fd);
    return result;
}

/* ---- writing ---- */

static mode_t usual_mode = 0644;

/* umask() cannot be read without being set, so it is read before there are threads. */
__attribute__((constructor)) static void read_umask(void) {
    mode_t mask = umask(0);
    umask(mask);
    usual_mode = 0666 & ~mask;
}

static int write_all(int fd, const char *from, size_t n) {
    while (n > 0) {
        ssize_t put = write(fd, from, n < (1 << 30) ? n : 1 << 30);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return -1;
        from += put;
        n -= (size_t)put;
    }
    return 0;
}

int lc_output_open(struct lc_output *o, const char *path) {
    size_t room = strlen(path) + 32;
    *o = (struct lc_output){.path = lc_copy_text(path), .temporary = lc_alloc(room), .fd = -1};
    if (!o->path || !o->temporary) {
        lc_output_drop(o);
        return -1;
    }
    snprintf(o->temporary, room, "%s.tmp.%ld", path, (long)getpid());
    enum { FLAGS = O_WRONLY | O_CREAT | O_EXCL };
    o->fd = open_surely(o->temporary, FLAGS, 0600);
    /* What is left of a dead process that had our number. */
    if (o->fd < 0 && errno == EEXIST && unlink(o->temporary) == 0)
        o->fd = open_surely(o->temporary, FLAGS, 0600);
    if (o->fd >= 0) return 0;
    lc_fail_errno(path, "making a file beside it");
    lc_output_drop(o);
    return -1;
}

int lc_output_write(struct lc_output *o, const void *data, size_t n) {
    return write_all(o->fd, data, n) < 0 ? lc_fail_errno(o->path, "writing") : 0;
}

void lc_output_drop(struct lc_output *o) {
    int why = errno;
    if (o->fd >= 0) {
        close(o->fd);
        unlink(o->temporary);
    }
    lc_free(o->path);
    lc_free(o->temporary);
    *o = (struct lc_output){.fd = -1};
    errno = why;
}

/* Everything up to the rename; o->fd is closed. */
static int settle(struct lc_output *o) {
    struct stat old;
    mode_t mode = stat(o->path, &old) == 0 ? old.st_mode & 0777 : usual_mode;
    const char *failed = fchmod(o->fd, mode) < 0 ? "setting its mode"
                         : fsync(o->fd) < 0      ? "syncing"
                                                 : NULL;
    int result = failed ? lc_fail_errno(o->path, failed) : 0, fd = o->fd;
    o->fd = -1;
    if (close(fd) < 0 && result == 0) result = lc_fail_errno(o->path, "closing");
    return result;
}

int lc_output_finish(struct lc_output *o) {
    int folder = open_folder_of(o->path), result = settle(o);
    if (folder < 0) result = -1;
    if (result == 0) result = rename_within(folder, o->temporary, o->path, o->path);
    unlink(o->temporary); /* there only when the rename was not reached or failed */
    if (folder >= 0) close(folder);
    lc_output_drop(o);
    return result;
}

int lc_file_write(const char *path, const void *data, size_t n) {
    struct lc_output o;
    if (lc_output_open(&o, path) < 0) return -1;
    if (lc_output_write(&o, data, n) == 0) return lc_output_finish(&o);
    lc_output_drop(&o);
    return -1;
}

/* What is written in place is the file of that name and not what a link leads to. */
static int open_in_place(const char *path, int flags) {
    int fd = open_surely(path, flags | O_NOFOLLOW, 0666);
    if (fd >= 0) return fd;
    if (errno == ELOOP)
        return lc_fail(LC_EINVAL,
                       "%s: it is a symbolic link, and none is written through; take it away",
                       path);
    return lc_fail_errno(path, "opening");
}

int lc_file_append(const char *path, const void *data, size_t n, int sync) {
    struct stat before;
    int fd = open_in_place(path, O_WRONLY | O_CREAT | O_APPEND), result = 0;
    if (fd < 0) return -1;
    bool file = fstat(fd, &before) == 0 && S_ISREG(before.st_mode);
    if (write_all(fd, data, n) < 0) {
        result = lc_fail_errno(path, "writing");
        /* Half a record would spoil the next one. */
        if (file && ftruncate(fd, before.st_size) < 0) result = -1;
    } else if (sync && file) {
        if (fsync(fd) < 0) result = lc_fail_errno(path, "syncing");
        else if (before.st_size == 0) result = sync_folder_of(path);
    }
    if (close(fd) < 0 && result == 0) result = lc_fail_errno(path, "closing");
    return result;
}

int lc_file_truncate(const char *path, int64_t size) {
    int fd = open_in_place(path, O_WRONLY);
    if (fd < 0) return -1;
    int result = ftruncate(fd, size) < 0 ? lc_fail_errno(path, "cutting") : 0;
    close(fd);
    return result;
}

int lc_file_lock(const char *path) {
    int fd = open_in_place(path, O_RDWR | O_CREAT), locked;
    if (fd < 0) return -1;
    do locked = flock(fd, LOCK_EX);
    while (locked < 0 && errno == EINTR && !lc_interrupted());
    if (locked == 0) return fd;
    lc_fail_errno(path, "locking");
    close(fd);
    return -1;
}

int lc_file_lock_within(const char *path, double seconds) {
    int fd = open_in_place(path, O_RDWR | O_CREAT), locked;
    if (fd < 0) return -1;
    for (double end = lc_seconds() + seconds;;) {
        locked = flock(fd, LOCK_EX | LOCK_NB);
        if (locked == 0 || errno != EWOULDBLOCK || lc_interrupted() || lc_seconds() >= end) break;
        nanosleep(&(struct timespec){0, 10000000}, NULL);
    }
    if (locked == 0) return fd;
    if (errno == EWOULDBLOCK) lc_fail(LC_EINVAL, "%s: another process works on it", path);
    else lc_fail_errno(path, "locking");
    close(fd);
    return -1;
}

void lc_file_unlock(int lock) { close(lock); }

/* ---- folders and names ---- */

int lc_make_folder(const char *path) {
    char *part = lc_copy_text(path);
    if (!part) return -1;
    int result = *path ? 0 : lc_fail(LC_EINVAL, "a folder without a name cannot be made");
    for (char *p = part + 1; *path && result == 0; p++) {
        if (*p != '/' && *p != 0) continue;
        char c = *p;
        *p = 0;
        if (mkdir(part, 0777) < 0 && lc_file_kind(part) != 2)
            result = lc_fail_errno(part, "making the folder");
        *p = c;
        if (!c) break;
    }
    lc_free(part);
    return result;
}

char *lc_temporary_folder(void) {
    const char *place = getenv("TMPDIR");
    size_t room = strlen(place && *place ? place : "/tmp") + 32;
    char *path = lc_alloc(room);
    if (!path) return NULL;
    snprintf(path, room, "%s/lucid-XXXXXX", place && *place ? place : "/tmp");
    if (mkdtemp(path)) return path;
    lc_fail_errno(path, "making the folder");
    lc_free(path);
    return NULL;
}

int64_t lc_disk_free(const char *folder) {
    struct statvfs s;
    if (statvfs(folder, &s) < 0) return lc_fail_errno(folder, "looking");
    return (int64_t)s.f_bavail * (int64_t)s.f_frsize;
}

int lc_remove(const char *path) { return remove(path) < 0 ? lc_fail_errno(path, "removing") : 0; }

int lc_rename(const char *from, const char *to) {
    int folder = open_folder_of(to);
    if (folder < 0) return -1;
    int result = rename_within(folder, from, to, from);
    close(folder);
    return result;
}

int lc_symlink(const char *target, const char *path) {
    size_t room = strlen(path) + 32;
    int result = -1, folder = open_folder_of(path);
    char *temporary = folder < 0 ? NULL : lc_alloc(room);
    if (temporary) {
        snprintf(temporary, room, "%s.tmp.%ld", path, (long)getpid());
        unlink(temporary);
        result = symlink(target, temporary) < 0 ? lc_fail_errno(path, "linking")
                                                : rename_within(folder, temporary, path, path);
        if (result < 0) unlink(temporary);
    }
    lc_free(temporary);
    if (folder >= 0) close(folder);
    return result;
}

struct names {
    char **list;
    size_t count, room, bytes;
};

static int add_name(struct names *n, const char *path, const char *name) {
    if (strchr(name, '\n')) return lc_fail(LC_EINVAL, "%s: a name in it holds a line break", path);
    if (n->count == n->room) {
        size_t room = n->room ? 2 * n->room : 64;
        char **list = lc_realloc(n->list, room * sizeof *list);
        if (!list) return -1;
        n->list = list;
        n->room = room;
    }
    if (!(n->list[n->count] = lc_copy_text(name))) return -1;
    n->bytes += strlen(name) + 1;
    n->count++;
    return 0;
}

static int name_order(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

char *lc_folder_list(const char *path) {
    DIR *folder = opendir(path);
    if (!folder) {
        lc_fail_errno(path, "listing");
        return NULL;
    }
    struct names names = {0};
    int result = 0;
    for (errno = 0; result == 0; errno = 0) {
        struct dirent *entry = readdir(folder);
        if (!entry) {
            if (errno) result = lc_fail_errno(path, "listing");
            break;
        }
        const char *name = entry->d_name;
        if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
            result = add_name(&names, path, name);
    }
    closedir(folder);
    if (names.count) qsort(names.list, names.count, sizeof *names.list, name_order);
    char *text = result == 0 ? lc_alloc(names.bytes + 1) : NULL, *out = text;
    for (size_t i = 0; i < names.count; i++) {
        size_t n = strlen(names.list[i]);
        if (text) {
            memcpy(out, names.list[i], n);
            out[n] = '\n';
            out += n + 1;
        }
        lc_free(names.list[i]);
    }
    if (text) *out = 0;
    lc_free(names.list);
    return text;
}
