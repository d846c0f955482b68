/* lua.c - the fuzzers that are written in Lua: NAME runs tests/fuzz/NAME_fuzz.lua, which returns a function of one
 * input. An error that leaves it is a finding. The lines that were run are told to libFuzzer as coverage. */
#define _GNU_SOURCE
#include <errno.h>
#include <lauxlib.h>
#include <libgen.h>
#include <limits.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support.h"

enum { LINES = 1 << 15 };
__attribute__((section("__libfuzzer_extra_counters"), used)) static uint8_t lines[LINES];

static lua_State *L;

static void on_line(lua_State *state, lua_Debug *at) {
    lua_getinfo(state, "S", at);
    uint32_t hash = (uint32_t)at->currentline * 2654435761u;
    for (const char *p = at->short_src; *p; p++) hash = (hash ^ (uint8_t)*p) * 16777619u;
    uint8_t *count = &lines[hash % LINES];
    if (*count < UINT8_MAX) ++*count;
}

/* Memory of malloc, in which the sanitizer sees what holds what. */
static void *reallocate(void *user, void *p, size_t before, size_t size) {
    (void)user, (void)before;
    if (size) return realloc(p, size);
    free(p);
    return NULL;
}

static void end(void) { lua_close(L); }

static void must(int status) {
    if (status) fprintf(stderr, "%s\n", lua_tostring(L, -1));
    fuzz_check(status == 0);
}

static void open_script(void) {
    char exe[PATH_MAX], library[PATH_MAX + 32], script[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    fuzz_check(n > 0);
    exe[n] = 0;
    snprintf(script, sizeof script, "tests/fuzz/%s_fuzz.lua", program_invocation_short_name);
    snprintf(library, sizeof library, "%s/liblucid.so", dirname(dirname(exe)));
    setenv("LUCID_LIB", library, 0);
    L = lua_newstate(reallocate, NULL);
    luaL_openlibs(L);
    must(luaL_dostring(L, "package.path = './?.lua;lua/?.lua;lua/?/init.lua'"));
    luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF); /* compiled code calls no hook */
    must(luaL_loadfile(L, script) || lua_pcall(L, 0, 1, 0));
    lua_setfield(L, LUA_REGISTRYINDEX, "input");
    lua_sethook(L, on_line, LUA_MASKLINE, 0);
    atexit(end);
}

void fuzz_one(const uint8_t *data, size_t n) {
    if (!L) open_script();
    lua_getfield(L, LUA_REGISTRYINDEX, "input");
    lua_pushlstring(L, (const char *)data, n);
    must(lua_pcall(L, 1, 0, 0));
}
