/* files.c - a disk that fails, or that is watched, for tests alone (LD_PRELOAD): the calls that read and change files below
 * a folder. faults_files() begins to count them, and to write each into a log; faults_fail() makes one fail.
 *
 * A line of the log is "CALL PATH", behind it " TARGET" for rename and symlink, " OFFSET BYTES" for write with so many bytes
 * after the line, " SIZE" for truncate; "create" and "open" are told apart. Paths are below the folder and hold no spaces. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))
#define REAL(name) (__extension__(__typeof__(&name)) dlsym(RTLD_NEXT, #name))

enum { FILES = 1024, PATH = 512 };

static struct {
    char root[PATH];
    int log;                 /* -1: none */
    char names[FILES][PATH]; /* of open files below root; "": another */
    const char *calls;       /* those that may fail, between spaces */
    int why;                 /* an errno; 0: half of the bytes */
    bool lasting;
    long at, met;
} files = {.log = -1};

/* What a path is called below the folder; NULL: it is not there, or nothing is watched. */
static const char *below(const char *path) {
    size_t n = strlen(files.root);
    return n && path && strncmp(path, files.root, n) == 0 ? path + n : NULL;
}

static const char *name_of(int fd) {
    return files.root[0] && fd >= 0 && fd < FILES && files.names[fd][0] ? files.names[fd] : NULL;
}

/* Whether this call fails. */
static bool fails(const char *call) {
    char word[32];
    snprintf(word, sizeof word, " %s ", call);
    if (!files.calls || !strstr(files.calls, word)) return false;
    files.met++;
    if (files.at == 0 || files.met < files.at || (files.met > files.at && !files.lasting))
        return false;
    errno = files.why;
    return true;
}

static void note(const void *data, size_t n, const char *format, ...) {
    if (files.log < 0) return;
    char line[3 * PATH];
    va_list rest;
    va_start(rest, format);
    int length = vsnprintf(line, sizeof line, format, rest);
    va_end(rest);
    if (REAL(write)(files.log, line, (size_t)length) < 0 || REAL(write)(files.log, data, n) < 0)
        perror("files.c: the log");
}

/* ---- what tests call ---- */

/* root: "" ends it. */
PUBLIC void faults_files(const char *root, const char *log) {
    snprintf(files.root, PATH, "%s", root);
    files.log = log ? REAL(open)(log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600) : -1;
}

/* The at-th of these calls fails, and with lasting all that follow; 0: none. */
PUBLIC void faults_fail(const char *calls, int why, long at, int lasting) {
    files.calls = calls;
    files.why = why;
    files.at = at;
    files.lasting = lasting;
}

/* How many there were. */
PUBLIC long faults_met(void) { return files.met; }

/* ---- the calls ---- */

PUBLIC int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    struct stat s;
    const char *name = below(path);
    bool folder = flags & O_DIRECTORY, makes = flags & O_CREAT && name && stat(path, &s) < 0;
    if (name && fails(makes ? "create" : "open")) return -1;
    int fd = REAL(open)(path, flags, mode);
    if (fd < 0 || fd >= FILES) return fd;
    snprintf(files.names[fd], PATH, "%s", name ? *name ? name : "/" : "");
    if (name && makes) note("", 0, "create %s\n", name);
    if (name && !makes && !folder && flags & O_TRUNC) note("", 0, "truncate %s 0\n", name);
    return fd;
}

PUBLIC int close(int fd) {
    const char *name = name_of(fd);
    bool failed = name && fails("close");
    if (fd >= 0 && fd < FILES) files.names[fd][0] = 0;
    int why = errno, result = REAL(close)(fd);
    if (failed) errno = why;
    return failed ? -1 : result;
}

/* How many bytes a call that fails by half moves; 0: it fails. */
static size_t half(size_t n) { return files.why == 0 ? n / 2 + (n == 1) : 0; }

PUBLIC ssize_t read(int fd, void *to, size_t n) {
    if (name_of(fd) && n > 0 && fails("read") && !(n = half(n))) return -1;
    return REAL(read)(fd, to, n);
}

PUBLIC ssize_t pread(int fd, void *to, size_t n, off_t at) {
    if (name_of(fd) && n > 0 && fails("read") && !(n = half(n))) return -1;
    return REAL(pread)(fd, to, n, at);
}

PUBLIC ssize_t write(int fd, const void *from, size_t n) {
    const char *name = name_of(fd);
    if (!name) return REAL(write)(fd, from, n);
    if (n > 0 && fails("write") && !(n = half(n))) return -1;
    struct stat s;
    long at = fcntl(fd, F_GETFL) & O_APPEND && fstat(fd, &s) == 0 ? (long)s.st_size
                                                                  : (long)lseek(fd, 0, SEEK_CUR);
    ssize_t put = REAL(write)(fd, from, n);
    if (put > 0) note(from, (size_t)put, "write %s %ld %zd\n", name, at, put);
    return put;
}

PUBLIC int fsync(int fd) {
    const char *name = name_of(fd);
    if (name && fails("fsync")) return -1;
    int result = REAL(fsync)(fd);
    if (name && result == 0) note("", 0, "fsync %s\n", name);
    return result;
}

PUBLIC int ftruncate(int fd, off_t size) {
    const char *name = name_of(fd);
    if (name && fails("truncate")) return -1;
    int result = REAL(ftruncate)(fd, size);
    if (name && result == 0) note("", 0, "truncate %s %ld\n", name, (long)size);
    return result;
}

PUBLIC int truncate(const char *path, off_t size) {
    const char *name = below(path);
    if (name && fails("truncate")) return -1;
    int result = REAL(truncate)(path, size);
    if (name && result == 0) note("", 0, "truncate %s %ld\n", name, (long)size);
    return result;
}

PUBLIC int rename(const char *from, const char *to) {
    const char *name = below(from), *target = below(to);
    if (name && fails("rename")) return -1;
    int result = REAL(rename)(from, to);
    if (name && target && result == 0) note("", 0, "rename %s %s\n", name, target);
    return result;
}

PUBLIC int symlink(const char *target, const char *path) {
    const char *name = below(path);
    if (name && fails("symlink")) return -1;
    int result = REAL(symlink)(target, path);
    if (name && result == 0) note("", 0, "symlink %s %s\n", name, target);
    return result;
}

PUBLIC int mkdir(const char *path, mode_t mode) {
    const char *name = below(path);
    if (name && fails("mkdir")) return -1;
    int result = REAL(mkdir)(path, mode);
    if (name && result == 0) note("", 0, "mkdir %s\n", *name ? name : "/");
    return result;
}

PUBLIC int unlink(const char *path) {
    const char *name = below(path);
    if (name && fails("remove")) return -1;
    int result = REAL(unlink)(path);
    if (name && result == 0) note("", 0, "remove %s\n", name);
    return result;
}

PUBLIC int remove(const char *path) {
    const char *name = below(path);
    if (name && fails("remove")) return -1;
    int result = REAL(remove)(path);
    if (name && result == 0) note("", 0, "remove %s\n", name);
    return result;
}
