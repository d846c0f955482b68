/* error.c - the thread's last error, and the flag that stops long loops. */
#include "base/error.h"

#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

/* Room for the names of a whole model's tensors: what is missing is listed in full. */
static _Thread_local char message[1 << 16];
static _Thread_local int code;
static atomic_int interrupted; /* a signal writes it, and every thread reads it */

const char *lc_error(void) { return message; }
int lc_error_code(void) { return code; }

void lc_error_clear(void) {
    message[0] = 0;
    code = LC_OK;
}

/* One line whatever it quotes: a hostile file's names neither break it nor command the terminal. */
static void note(int why, const char *format, va_list args) {
    vsnprintf(message, sizeof message, format, args);
    for (char *c = message; *c; c++) {
        if ((unsigned char)*c < ' ' || *c == 0x7F) *c = '?';
        if ((unsigned char)*c == 0xC2 && ((unsigned char)c[1] & 0xE0) == 0x80) c[0] = c[1] = '?';
    }
    code = why;
}

int(lc_fail)(int why, const char *format, ...) {
    va_list args;
    va_start(args, format);
    note(why, format, args);
    va_end(args);
    return -1;
}

void *(lc_fail_null)(int why, const char *format, ...) {
    va_list args;
    va_start(args, format);
    note(why, format, args);
    va_end(args);
    return NULL;
}

void lc_interrupt(int on) { interrupted = on; }
int lc_interrupted(void) { return interrupted; }

/* ---- signals that wait: the loop that held them ends at a place of its own ---- */

static volatile sig_atomic_t held, noted;

void lc_signals_hold(int on) {
    if (on) noted = 0;
    held = on;
}

int lc_signal_note(int number) {
    if (held) noted = number;
    return held;
}

int lc_signal_noted(void) { return noted; }

int lc_poll(const char *what) {
    return interrupted ? lc_fail(LC_EINTR, "%s: interrupted", what) : 0;
}

_Noreturn void lc_broken(const char *condition, const char *file, int line) {
    fprintf(stderr, "lucid: broken invariant: %s (%s:%d)\n", condition, file, line);
    abort();
}
