/* main.c - the executable: finds the Lua files beside itself, opens LuaJIT and runs what was asked.
 *
 *   lucid                    the REPL                lucid NAME [options]     recipes/NAME.lua
 *   lucid FILE.lua [args]    a script                lucid -e 'chunk'         one chunk
 *   lucid help [NAME] | --version [--json]
 *
 * Exit status: 0 done, 1 failed, 2 usage, 130 and 143 after SIGINT and SIGTERM, 141 without a reader. */
#define _GNU_SOURCE
#include "host/host.h"

#include <errno.h>
#include <lauxlib.h>
#include <libgen.h>
#include <limits.h>
#include <lualib.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DONE = 0, FAILED = 1, USAGE = 2 };

/* ---- signals ---------------------------------------------------------------------------------- */

static lua_State *running; /* what a signal has to stop */
static struct {
    void (*interrupt)(int on);                       /* lc_interrupt */
    const char *(*mapped_name)(const void *address); /* lc_mapped_name */
    int (*note)(int number);                         /* lc_signal_note */
    void (*turn)(void);                              /* lc_comm_turn */
} core;                                              /* zeros until the library is loaded */
static volatile sig_atomic_t caught;
static volatile time_t caught_at;

static volatile sig_atomic_t stops; /* errors that the signal has raised */
static bool patient; /* what does not stop at once goes on: there is someone to decide */

enum { CLEARING = 100000, PATIENCE = 3 };

static void say(const char *text) {
    if (write(STDERR_FILENO, text, strlen(text)) < 0) return;
}

/* Who catches the first error has CLEARING instructions to close what is open. Then each one raises, so
 * that a loop around a pcall ends, too. */
static void stop_here(lua_State *L, lua_Debug *ar) {
    (void)ar;
    if (stops++ == 0) lua_sethook(L, stop_here, LUA_MASKCOUNT, CLEARING);
    else lua_sethook(L, stop_here, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
    luaL_error(L, "interrupted");
}

/* The first signal stops the chunk at its next line, call or poll; a second within 2 s the process.
 * Where the chunk holds signals the first is noted for it, and any second one stops the process.
 * A compiled loop has no such places: it ends with the process, PATIENCE seconds later. */
static void on_signal(int number) {
    time_t now = time(NULL);
    bool held = core.note && core.note(number);
    if (caught && (held || now - caught_at <= 2)) _exit(128 + number);
    caught = number;
    caught_at = now;
    if (held) return;
    if (core.interrupt) core.interrupt(1);
    if (running) {
        stops = 0;
        lua_sethook(running, stop_here, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
        if (!patient) alarm(PATIENCE);
    }
}

static void on_alarm(int number) {
    (void)number;
    say("lucid: interrupted\n");
    _exit(128 + caught);
}

/* A mapped file has become shorter and the page that was asked for is gone: nothing can go on. */
static void on_lost_page(int number, siginfo_t *info, void *context) {
    (void)context;
    const char *path = core.mapped_name ? core.mapped_name(info->si_addr) : NULL;
    if (!path) {
        signal(number, SIG_DFL); /* not ours: the instruction faults again */
        return;
    }
    say("lucid: ");
    say(path);
    say(": it became shorter while it was in use\n");
    _exit(FAILED);
}

void host_interruptible(lua_State *L, bool on) {
    running = on ? L : NULL;
    if (on) return;
    alarm(0);
    lua_sethook(L, NULL, 0, 0);
    caught = 0;
    if (core.interrupt) core.interrupt(0);
}

int host_signal(void) { return caught; }

void host_patient(void) { patient = true; }

/* native.lua hands over the addresses when it has loaded the library. */
static int set_interrupt(lua_State *L) {
    memcpy(&core, lua_topointer(L, 1), sizeof core);
    return 0;
}

/* ---- the output's end ----------------------------------------------------------------------------- */

/* What stdout still holds has to arrive: a full disk is a failure. A reader that has gone (lucid ... | head)
 * has had what it wanted: nothing is said, as where SIGPIPE ends a program. */
static void close_output(void) {
    struct pollfd reader = {.fd = STDOUT_FILENO};
    bool lost = ferror(stdout);
    errno = 0;
    if (fflush(stdout) == 0 && !lost) return;
    const char *reason = errno ? strerror(errno) : "a part was lost; is the disk full?";
    if (poll(&reader, 1, 0) == 1 && reader.revents & POLLERR) _exit(128 + SIGPIPE);
    fprintf(stderr, "lucid: writing to standard output: %s\n", reason);
    _exit(FAILED);
}

/* ---- finding the Lua files ---------------------------------------------------------------------- */

/* The folder two above the executable holds lua/ (a checkout) or share/lucid/lua (installed). */
static bool find_root(char *root, size_t size, bool *installed) {
    char exe[PATH_MAX], test[PATH_MAX + 64];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n < 0) return false;
    exe[n] = 0;
    snprintf(root, size, "%s", dirname(dirname(exe)));
    snprintf(test, sizeof test, "%s/lua/lucid/init.lua", root);
    *installed = access(test, R_OK) != 0;
    if (!*installed) return true;
    snprintf(test, sizeof test, "%s/share/lucid/lua/lucid/init.lua", root);
    return access(test, R_OK) == 0;
}

static char files_root[PATH_MAX + 16]; /* the folder of lua/ and recipes/, with a slash */

static void set_paths(lua_State *L) {
    char root[PATH_MAX];
    bool installed;
    if (!find_root(root, sizeof root, &installed)) return;
    const char *lua = installed ? "share/lucid/lua" : "lua";
    snprintf(files_root, sizeof files_root, "%s/%s", root, installed ? "share/lucid/" : "");
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "path");
    lua_pushfstring(L, "%s/%s/?.lua;%s/%s/?/init.lua;%s", root, lua, root, lua,
                    lua_tostring(L, -1));
    lua_setfield(L, -3, "path");
    lua_pop(L, 2);
}

/* ---- running --------------------------------------------------------------------------------------- */

static bool debugging(void) {
    const char *debug = getenv("LUCID_DEBUG");
    return debug && *debug && strcmp(debug, "0");
}

/* Whether a path of size bytes is of a Lua file of Lucid's own. Lua shortens long ones: "...tail". */
static bool is_own(const char *path, size_t size) {
    static const char *folders[] = {"lua/lucid/", "recipes/"};
    char copy[PATH_MAX], whole[PATH_MAX];
    bool cut = !strncmp(path, "...", 3);
    snprintf(copy, sizeof copy, "%.*s", (int)size, path);
    const char *name = cut ? copy + 3 : realpath(copy, whole);
    size_t all = strlen(files_root);
    for (size_t i = 0; name && i < sizeof folders / sizeof *folders; i++) {
        const char *at = strstr(cut ? name : name + strnlen(name, all), folders[i]);
        size_t before = at ? (size_t)(at - name) : all + 1;
        if (before <= all && (cut || before == all) &&
            !strncmp(files_root + all - before, name, before))
            return true;
    }
    return false;
}

/* "FILE:LINE: text" without the place where FILE is Lucid's own: the user did not write it. What Lua
 * itself raises there is a fault of Lucid's and keeps its place. */
static const char *without_place(const char *text) {
    static const char *bugs[] = {"attempt to ", "bad argument #", "stack overflow", "'for' "};
    const char *colon = strstr(text, ".lua:");
    if (!colon || !is_own(text, (size_t)(colon + 4 - text))) return text;
    const char *rest = colon + 5 + strspn(colon + 5, "0123456789");
    if (rest == colon + 5 || strncmp(rest, ": ", 2)) return text;
    for (size_t i = 0; i < sizeof bugs / sizeof *bugs; i++)
        if (!strncmp(rest + 2, bugs[i], strlen(bugs[i]))) return text;
    return rest + 2;
}

/* The message of an error for the user; with its place and a traceback where LUCID_DEBUG asks. A session
 * (lua/lucid/session.lua) shows the last traceback when it is asked for. */
static int explain(lua_State *L) {
    if (!lua_isstring(L, 1) && luaL_callmeta(L, 1, "__tostring")) lua_replace(L, 1);
    if (!lua_isstring(L, 1)) return 1;
    if (patient) {
        luaL_traceback(L, L, lua_tostring(L, 1), 1);
        lua_setfield(L, LUA_REGISTRYINDEX, "lucid.traceback");
    }
    if (debugging()) luaL_traceback(L, L, lua_tostring(L, 1), 1);
    else lua_pushstring(L, without_place(lua_tostring(L, 1)));
    return 1;
}

int host_call(lua_State *L, int arguments, int results) {
    int base = lua_gettop(L) - arguments;
    lua_pushcfunction(L, explain);
    lua_insert(L, base);
    host_interruptible(L, true);
    int status = lua_pcall(L, arguments, results, base);
    lua_remove(L, base);
    return status;
}

/* Pushes a text without what commands a terminal: an error quotes files. */
static void push_tame(lua_State *L, const char *text) {
    luaL_Buffer out;
    luaL_buffinit(L, &out);
    for (const char *c = text; *c; c++) {
        bool second = (unsigned char)*c == 0xC2 && ((unsigned char)c[1] & 0xE0) == 0x80;
        bool control = ((unsigned char)*c < ' ' && *c != '\n' && *c != '\t') || *c == 0x7F;
        luaL_addchar(&out, control || second ? '?' : *c);
        c += second; /* U+0080 to U+009F have two bytes */
    }
    luaL_pushresult(&out);
}

const char *host_one_line(lua_State *L) {
    int place = lua_gettop(L);
    const char *text = lua_tostring(L, place);
    if (!text) return "an error that is not a string";
    if (!debugging()) text = luaL_gsub(L, luaL_gsub(L, text, "\n\t", " "), "\n", " ");
    push_tame(L, text);
    lua_replace(L, place); /* in the place of the error */
    lua_settop(L, place);
    return lua_tostring(L, place);
}

int host_report(lua_State *L) {
    int number = host_signal();
    host_interruptible(L, false);
    if (core.turn) core.turn();
    lua_getglobal(L, "LUCID_LINE"); /* a progress line that is drawn and not ended */
    if (lua_toboolean(L, -1)) say("\n");
    lua_pop(L, 1);
    if (number) {
        fprintf(stderr, "lucid: interrupted\n");
        return 128 + number;
    }
    fprintf(stderr, "lucid: %s\n", host_one_line(L));
    return FAILED;
}

/* Sets the global arg: words from index on, arg[0] the script's name. */
static void set_arguments(lua_State *L, const char *name, int argc, char **argv, int from) {
    lua_createtable(L, argc - from, 1);
    lua_pushstring(L, name);
    lua_rawseti(L, -2, 0);
    for (int i = from; i < argc; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i - from + 1);
    }
    lua_setglobal(L, "arg");
}

static int run_file(lua_State *L, const char *path, const char *name, int argc, char **argv,
                    int from) {
    set_arguments(L, path, argc, argv, from);
    lua_pushstring(L, name);
    lua_setglobal(L, "LUCID_RECIPE");
    if (luaL_loadfile(L, path)) return host_report(L);
    int words = argc - from;
    luaL_checkstack(L, words + 4, "too many arguments");
    for (int i = from; i < argc; i++) lua_pushstring(L, argv[i]);
    return host_call(L, words, 0) ? host_report(L) : DONE;
}

/* require "lucid" as a global: the REPL's and -e's convenience. */
int host_preload(lua_State *L) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "lucid");
    if (host_call(L, 1, 1)) return host_report(L);
    lua_setglobal(L, "lucid");
    return DONE;
}

static int run_chunk(lua_State *L, int argc, char **argv) {
    if (argc < 3) {
        fprintf(stderr, "lucid: -e: a chunk is missing\n");
        return USAGE;
    }
    set_arguments(L, "-e", argc, argv, 3);
    int status = host_preload(L);
    if (status) return status;
    if (luaL_loadbuffer(L, argv[2], strlen(argv[2]), "=-e")) return host_report(L);
    return host_call(L, 0, 0) ? host_report(L) : DONE;
}

/* Calls lucid.command.NAME(word): help, version, and looking a recipe up. */
static int ask(lua_State *L, const char *function, const char *word) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "lucid.command");
    if (host_call(L, 1, 1)) return host_report(L);
    lua_getfield(L, -1, function);
    lua_remove(L, -2);
    lua_pushstring(L, word);
    return host_call(L, 1, 2) ? host_report(L) : DONE;
}

static int run_recipe(lua_State *L, int argc, char **argv) {
    int status = ask(L, "find", argv[1]);
    if (status) return status;
    if (!lua_isstring(L, -2)) {
        fprintf(stderr, "lucid: %s\n", lua_tostring(L, -1));
        return USAGE;
    }
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", lua_tostring(L, -2));
    lua_pop(L, 2);
    return run_file(L, path, argv[1], argc, argv, 2);
}

static bool is_script(const char *word) {
    size_t n = strlen(word);
    return strchr(word, '/') || (n > 4 && !strcmp(word + n - 4, ".lua"));
}

static int run(lua_State *L, int argc, char **argv) {
    if (argc < 2) return host_repl(L);
    const char *word = argv[1];
    if (!strcmp(word, "-e")) return run_chunk(L, argc, argv);
    if (!strcmp(word, "help") || !strcmp(word, "--help") || !strcmp(word, "-h")) {
        char *named[] = {argv[0], argc > 2 ? argv[2] : NULL, "--help", NULL};
        return argc > 2 ? run_recipe(L, 3, named) : ask(L, "help", NULL);
    }
    if (!strcmp(word, "--version") || !strcmp(word, "-v"))
        return ask(L, "version", argc > 2 ? argv[2] : NULL);
    if (word[0] == '-') {
        fprintf(stderr, "lucid: unknown option %s; lucid help lists the commands\n", word);
        return USAGE;
    }
    return is_script(word) ? run_file(L, word, word, argc, argv, 2) : run_recipe(L, argc, argv);
}

#ifdef LC_MALLOC_STATE
/* Sanitizer builds: every Lua block is a malloc block, so that leaks and overruns are seen. */
static void *allocate(void *unused, void *p, size_t old, size_t size) {
    (void)unused;
    (void)old;
    if (size) return realloc(p, size);
    free(p);
    return NULL;
}
#define NEW_STATE() lua_newstate(allocate, NULL)
#else
#define NEW_STATE() luaL_newstate()
#endif

int main(int argc, char **argv) {
    /* Waiting threads sleep soon: spinning ones slow everybody down where cores are shared. */
    setenv("GOMP_SPINCOUNT", "10000", 0);
    lua_State *L = NEW_STATE();
    if (!L) {
        fprintf(stderr, "lucid: LuaJIT could not start: out of memory\n");
        return FAILED;
    }
    atexit(close_output); /* os.exit ends a program, too */
    luaL_openlibs(L);
    set_paths(L);
    lua_pushcfunction(L, set_interrupt);
    lua_setglobal(L, "LUCID_ON_INTERRUPT");
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct sigaction late = {.sa_handler = on_alarm};
    sigaction(SIGALRM, &late, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow (ulimit -f) is an error of the write */
    struct sigaction lost = {.sa_sigaction = on_lost_page, .sa_flags = SA_SIGINFO};
    sigaction(SIGBUS, &lost, NULL);
    int status = run(L, argc, argv);
    lua_close(L);
    return status;
}
