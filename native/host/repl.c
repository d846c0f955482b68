/* repl.c - the interactive session: history, completion, multi-line input; an expression prints.
 *
 * Chunks run with the JIT off: the debug hook, which is how Ctrl-C stops them, does not fire in
 * compiled loops. Native loops poll lc_interrupt themselves. */
#define _GNU_SOURCE
#include "host/host.h"

#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <luajit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef LC_HAVE_EDIT
#include <editline/readline.h>
#endif

enum { HISTORY_LINES = 2000 };

/* ---- lines ------------------------------------------------------------------------------------ */

#ifdef LC_HAVE_EDIT
static lua_State *completing;

/* Pushes the value that "a.b:c" names up to its last dot; *rest is what follows. false: no such table. */
static bool push_owner(lua_State *L, const char *word, const char **rest) {
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    for (const char *end; (end = strpbrk(word, ".:")); word = end + 1) {
        lua_pushlstring(L, word, (size_t)(end - word));
        if (!lua_istable(L, -2)) return false;
        lua_rawget(L, -2);
        lua_remove(L, -2);
    }
    *rest = word;
    return true;
}

/* lucid.complete(value) lists the names of a value: a table's string keys, a tensor's methods. */
static bool push_names(lua_State *L) {
    lua_getglobal(L, "lucid");
    if (!lua_istable(L, -1)) return false;
    lua_getfield(L, -1, "complete");
    lua_remove(L, -2);
    lua_insert(L, -2);
    return !lua_pcall(L, 1, 1, 0) && lua_istable(L, -1);
}

static char *next_match(const char *word, int state) {
    static char **list;
    static int count, at;
    lua_State *L = completing;
    if (state == 0) {
        int top = lua_gettop(L);
        const char *rest = word;
        free(list);
        list = NULL;
        count = at = 0;
        if (push_owner(L, word, &rest) && push_names(L)) {
            int names = (int)lua_objlen(L, -1);
            list = malloc((size_t)(names + 1) * sizeof *list);
            for (int i = 1; list && i <= names; i++) {
                lua_rawgeti(L, -1, i);
                const char *name = lua_tostring(L, -1);
                char *full;
                if (name && !strncmp(name, rest, strlen(rest)) &&
                    asprintf(&full, "%.*s%s", (int)(rest - word), word, name) >= 0)
                    list[count++] = full;
                lua_pop(L, 1);
            }
        }
        lua_settop(L, top);
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

static void lines_open(lua_State *L) {
    char path[PATH_MAX];
    static char name[] = "lucid", breaks[] = " \t\n\"'()[]{}=+-*/^%#~<>,;";
    completing = L;
    rl_readline_name = name;
    rl_initialize();
    rl_attempted_completion_function = matches;
    rl_basic_word_break_characters = breaks;
    rl_completion_append_character = 0;
    stifle_history(HISTORY_LINES);
    if (history_path(path, sizeof path)) read_history(path);
}

static void lines_close(void) {
    char path[PATH_MAX];
    if (history_path(path, sizeof path)) write_history(path);
}

static char *line_read(const char *prompt) { return readline(prompt); }
static void line_keep(const char *text) { add_history(text); }
#else
static void lines_open(lua_State *L) { (void)L; }
static void lines_close(void) {}
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

/* Whether the syntax error on top of the stack only says that more text is needed. */
static bool incomplete(lua_State *L) {
    size_t n;
    const char *message = lua_tolstring(L, -1, &n);
    return message && n >= 5 && !strcmp(message + n - 5, "<eof>");
}

/* Compiles text as an expression, else as a statement: 0, or the statement's error on the stack. */
static int compile(lua_State *L, const char *text) {
    const char *expression = *text == '=' ? text + 1 : text;
    lua_pushfstring(L, "return %s", expression);
    size_t n;
    const char *wrapped = lua_tolstring(L, -1, &n);
    int status = luaL_loadbuffer(L, wrapped, n, "=stdin");
    lua_remove(L, -2);
    if (!status || *text == '=') return status;
    lua_pop(L, 1);
    return luaL_loadbuffer(L, text, strlen(text), "=stdin");
}

/* jit.off(chunk, true) */
static void without_jit(lua_State *L) {
    luaJIT_setmode(L, -1, LUAJIT_MODE_ALLFUNC | LUAJIT_MODE_OFF);
}

static void show_error(lua_State *L) {
    const char *text = lua_tostring(L, -1);
    fprintf(stderr, "%s\n",
            host_signal() ? "interrupted"
            : text        ? text
                          : "an error that is not a string");
    host_interruptible(L, false);
}

static void run_chunk(lua_State *L) {
    int base = lua_gettop(L) - 1;
    without_jit(L);
    if (host_call(L, 0, LUA_MULTRET)) {
        show_error(L);
        lua_settop(L, base);
        return;
    }
    host_interruptible(L, false);
    int results = lua_gettop(L) - base;
    if (results) {
        lua_getglobal(L, "print");
        lua_insert(L, base + 1);
        if (host_call(L, results, 0)) show_error(L);
        host_interruptible(L, false);
    }
    lua_settop(L, base);
}

/* Reads lines until they make a chunk (on the stack), an error (shown), or the input ends. */
static bool read_chunk(lua_State *L, bool *ended) {
    char *text = line_read("> ");
    *ended = !text;
    if (!text || !text[strspn(text, " \t")]) {
        free(text);
        return false;
    }
    int status;
    while ((status = compile(L, text)) && incomplete(L)) {
        char *more = line_read(">> "), *both;
        if (!more) break;
        lua_pop(L, 1);
        if (asprintf(&both, "%s\n%s", text, more) < 0) both = NULL;
        free(more);
        free(text);
        if (!(text = both)) return false;
    }
    line_keep(text);
    free(text);
    if (!status) return true;
    show_error(L);
    lua_pop(L, 1);
    return false;
}

int host_repl(lua_State *L) {
    int status = host_preload(L);
    if (status) return status;
    bool terminal = isatty(STDIN_FILENO), ended = false;
    if (terminal) {
        printf("lucid on %s; Ctrl-C stops a chunk, Ctrl-D ends\n", LUAJIT_VERSION);
        lines_open(L);
    }
    while (!ended) {
        if (read_chunk(L, &ended)) run_chunk(L);
    }
    if (terminal) {
        putchar('\n');
        lines_close();
    }
    return 0;
}
