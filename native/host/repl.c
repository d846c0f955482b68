/* repl.c - the interactive session: lines, history, completion, signals. What chunks see and what becomes
 * of them is lua/lucid/session.lua's. Input that no one types, from a file or a pipe, ends at its first
 * fault, with status 1.
 *
 * The JIT is off in a session on a terminal: the debug hook, which is how Ctrl-C stops Lua, does not
 * fire in compiled loops, those of modules included. jit.on() at the prompt turns it on again for
 * whoever prefers speed. Native loops poll lc_interrupt themselves. */
#define _GNU_SOURCE
#include "host/host.h"

#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <luajit.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef LC_HAVE_EDIT
#include <editline/readline.h>
#endif

enum { HISTORY_LINES = 2000 };

/* ---- the session's functions ------------------------------------------------------------------------ */

static const char *const SESSION = "lucid.session"; /* in the registry */

/* Calls one of them with a text: its results on the stack, or false and nothing there. */
static bool ask(lua_State *L, const char *name, const char *text, int results) {
    lua_getfield(L, LUA_REGISTRYINDEX, SESSION);
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
    lua_pushstring(L, text);
    if (!lua_pcall(L, 1, results, 0)) return true;
    lua_pop(L, 1);
    return false;
}

static int open_session(lua_State *L) {
    lua_getglobal(L, "require");
    lua_pushstring(L, SESSION);
    if (host_call(L, 1, 1)) return host_report(L);
    lua_setfield(L, LUA_REGISTRYINDEX, SESSION);
    return 0;
}

/* ---- lines ------------------------------------------------------------------------------------ */

#ifdef LC_HAVE_EDIT
static lua_State *completing;

static char *next_match(const char *word, int state) {
    static char **list;
    static int count, at;
    lua_State *L = completing;
    if (state == 0) {
        free(list);
        list = NULL;
        count = at = 0;
        if (ask(L, "completions", word, 1)) {
            int names = (int)lua_objlen(L, -1);
            list = malloc((size_t)(names + 1) * sizeof *list);
            for (int i = 1; list && i <= names; i++) {
                lua_rawgeti(L, -1, i);
                if ((list[count] = strdup(lua_tostring(L, -1)))) count++;
                lua_pop(L, 1);
            }
            lua_pop(L, 1);
        }
    }
    return at < count ? list[at++] : NULL;
}

static char **matches(const char *word, int start, int end) {
    (void)start;
    (void)end;
    return rl_completion_matches(word, next_match);
}

/* $XDG_STATE_HOME/lucid/history, with its folder */
static bool history_path(char *path, size_t size) {
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    int n = state && *state ? snprintf(path, size, "%s/lucid", state)
                            : snprintf(path, size, "%s/.local/state/lucid", home ? home : ".");
    if (n < 0 || (size_t)n + 9 > size) return false;
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0700);
        *slash = '/';
    }
    if (mkdir(path, 0700) && errno != EEXIST) return false;
    strcat(path, "/history");
    return true;
}

/* One byte of the terminal; -1: the end, or a signal. libedit's own reader tries again after one. */
static int next_byte(void) {
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    unsigned char byte;
    while (!host_signal()) {
        int ready = poll(&in, 1, 250);
        if (ready < 0 && errno != EINTR) return -1;
        if (ready > 0) return read(STDIN_FILENO, &byte, 1) == 1 ? byte : -1;
    }
    return -1;
}

/* One character of UTF-8; a byte that starts none stands for itself. */
static int next_character(FILE *unused) {
    (void)unused;
    int byte = next_byte(), more = byte >= 0xF0 ? 3 : byte >= 0xE0 ? 2 : byte >= 0xC0 ? 1 : 0;
    int value = more ? byte & (0x3F >> more) : byte;
    while (more--) {
        if ((byte = next_byte()) < 0) return -1;
        value = value << 6 | (byte & 0x3F);
    }
    return value;
}

static char history_file[PATH_MAX]; /* "": there is no place for one */

static void lines_open(lua_State *L) {
    static char name[] = "lucid", breaks[] = " \t\n\"'()[]{}=+-*/^%#~<>,;";
    completing = L;
    rl_readline_name = name;
    rl_getc_function = next_character;
    rl_initialize();
    rl_attempted_completion_function = matches;
    rl_basic_word_break_characters = breaks;
    rl_completion_append_character = 0;
    stifle_history(HISTORY_LINES);
    if (!history_path(history_file, sizeof history_file)) history_file[0] = 0;
    if (history_file[0]) read_history(history_file);
}

static char *line_read(const char *prompt) { return readline(prompt); }

/* Saved at once: a session may end by a signal. */
static void line_keep(const char *text) {
    if (!completing) return;
    add_history(text);
    if (history_file[0]) write_history(history_file);
}
#else
static void lines_open(lua_State *L) { (void)L; }
static void line_keep(const char *text) { (void)text; }

static char *line_read(const char *prompt) {
    char *line = NULL;
    size_t room = 0;
    fputs(prompt, stdout);
    fflush(stdout);
    ssize_t n = getline(&line, &room, stdin);
    if (n < 0) {
        free(line);
        return NULL;
    }
    if (n && line[n - 1] == '\n') line[n - 1] = 0;
    return line;
}
#endif

/* ---- chunks -------------------------------------------------------------------------------------- */

typedef enum { CHUNK, NOTHING, INCOMPLETE, WRONG, ENDED } answer;

/* CHUNK: it is on the stack; else the error is. */
static answer compile(lua_State *L, const char *text) {
    if (!ask(L, "compile", text, 3)) {
        lua_pushliteral(L, "the chunk could not be compiled");
        return WRONG;
    }
    bool more = lua_toboolean(L, -1);
    lua_pop(L, 1);
    if (lua_isfunction(L, -2)) {
        lua_pop(L, 1);
        return CHUNK;
    }
    lua_remove(L, -2);
    return more ? INCOMPLETE : WRONG;
}

static void show_error(lua_State *L) {
    if (host_signal()) fprintf(stderr, "interrupted\n");
    else fprintf(stderr, "%s\n", host_one_line(L));
    lua_pop(L, 1);
}

/* Calls the chunk on the stack and shows what it returns: 0, 1 when it failed, or 128 and the signal
 * that stopped it. */
static int run_chunk(lua_State *L) {
    int base = lua_gettop(L) - 1, status = 0;
    bool failed = host_call(L, 0, LUA_MULTRET) != 0;
    if (!failed) {
        int results = lua_gettop(L) - base;
        lua_getfield(L, LUA_REGISTRYINDEX, SESSION);
        lua_getfield(L, -1, "finish");
        lua_remove(L, -2);
        lua_insert(L, base + 1);
        failed = host_call(L, results, 0) != 0;
    }
    if (failed) {
        status = host_signal() ? 128 + host_signal() : 1;
        show_error(L);
    }
    host_interruptible(L, false);
    lua_settop(L, base);
    return status;
}

/* ---- the session ----------------------------------------------------------------------------------- */

/* Without a line: the end of input, or a signal; Ctrl-C only drops what was typed. */
static answer no_line(lua_State *L, int *number) {
    *number = host_signal();
    host_interruptible(L, false);
    if (*number != SIGINT) return ENDED;
    putchar('\n');
    return NOTHING;
}

/* Asks for lines until text, which is freed, compiles or is wrong. */
static answer complete_chunk(lua_State *L, char *text, int *number) {
    answer result;
    while ((result = compile(L, text)) == INCOMPLETE) {
        char *more = line_read(">> "), *both = NULL;
        if (!more && host_signal()) {
            free(text);
            lua_pop(L, 1);
            return no_line(L, number);
        }
        if (!more) break;
        lua_pop(L, 1);
        if (asprintf(&both, "%s\n%s", text, more) < 0) both = NULL;
        free(more);
        free(text);
        if (!(text = both)) return NOTHING;
    }
    line_keep(text);
    free(text);
    host_interruptible(L, false); /* a signal that only interrupted typing */
    if (result == CHUNK) return CHUNK;
    show_error(L);
    return WRONG;
}

/* The next chunk, on the stack. *number: the signal that ended the input, or 0. */
static answer read_chunk(lua_State *L, int *number) {
    char *text = line_read("> ");
    if (!text) return no_line(L, number);
    if (text[strspn(text, " \t")]) return complete_chunk(L, text, number);
    free(text);
    return NOTHING;
}

int host_repl(lua_State *L) {
    bool terminal = isatty(STDIN_FILENO);
    if (terminal) {
        luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
        host_patient();
    }
    int status = host_preload(L);
    if (!status) status = open_session(L);
    if (status) return status;
    if (terminal) {
        printf("lucid on %s; help() says what there is, Ctrl-C stops a chunk, Ctrl-D ends\n",
               LUAJIT_VERSION);
        lines_open(L);
    }
    int number = 0; /* of a signal that came while typing */
    for (answer a = NOTHING; a != ENDED;) {
        a = read_chunk(L, &number);
        status = a == CHUNK ? run_chunk(L) : number ? 128 + number : a == WRONG;
        if (status == 128 + SIGTERM || (status && !terminal)) break;
    }
    if (terminal) putchar('\n');
    return terminal && status != 128 + SIGTERM ? 0 : status;
}
