/* main.c - a walk through the C API without Lua, so that analysers see every byte: capi FOLDER, of which files.lua writes
 * what it needs. It is gone twice; ends with 0 where every station gave what it must, and the second time left nothing. */
#include <inttypes.h>

#include "capi.h"

static void walk(const char *folder) {
    char *scratch = lc_temporary_folder();
    MUST(scratch);
    capi_base(scratch);
    capi_tensors(scratch);
    capi_pictures(folder, scratch);
    capi_model(folder, scratch);
    capi_http();
    MUST(lc_remove(scratch) == 0);
    lc_free_bytes(scratch);
}

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: capi FOLDER\n");
        return 2;
    }
    lc_threads(2);
    walk(argv[1]);
    int64_t held = lc_memory_used(); /* what is kept as long as the process lives */
    walk(argv[1]);
    if (lc_memory_used() != held) {
        fprintf(stderr, "capi: %" PRId64 " bytes are left\n", lc_memory_used() - held);
        return 1;
    }
    puts("capi: done");
    return 0;
}
