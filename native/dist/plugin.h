/* plugin.h - the processes of a job speak through a table of functions. MPI's comes from liblucid_mpi.so,
 * which has one exported function that fills it: the core opens it when a job is joined, so that no
 * other program pays for MPI. */
#ifndef LC_DIST_PLUGIN_H
#define LC_DIST_PLUGIN_H
#include <stddef.h>
#include <stdint.h>

/* What the plug-in may call: it links nothing of the core. */
struct lc_comm_host {
    int (*fail)(int code, const char *format, ...);
    void *(*alloc)(size_t bytes);
    void (*free)(void *p);
};

/* Every call but the first, the last and take is made by all processes, in the same order. */
struct lc_comm {
    /* local: processes on this machine; place: which of them this one is, from 0 */
    int (*join)(int *rank, int *size, int *local, int *place);
    int (*sum)(float *x, int64_t n); /* in place */
    int (*broadcast)(void *data, size_t bytes);
    int (*barrier)(void);
    /* lengths[r] is the length of rank r's bytes; all of them lie one after another in *all. */
    int (*gather)(const void *data, int64_t n, int64_t *lengths, char **all);
    int64_t (*take)(void); /* the next number, from 0, of a row that all share; -1: failed */
    void (*leave)(void);
    void (*abort)(int status);
};

enum { LC_COMM_VERSION = 3 };
typedef int lc_comm_open_fn(int version, const struct lc_comm_host *host, struct lc_comm *out);

#endif
