/* host.h - between main.c and repl.c. */
#ifndef LC_HOST_H
#define LC_HOST_H
#include <lua.h>
#include <stdbool.h>

/* Protected call that Ctrl-C can stop; LuaJIT's status. */
int host_call(lua_State *L, int arguments, int results);
/* off: forgets a signal that was seen. */
void host_interruptible(lua_State *L, bool on);
void host_patient(void);        /* what a signal does not stop is not ended either */
int host_signal(void);          /* the number of the signal that was seen, or 0 */
int host_preload(lua_State *L); /* the global lucid; an exit status */
int host_report(lua_State *L);  /* says the error on the stack; an exit status */
/* The error on the stack as one line, unless LUCID_DEBUG asks for more; it holds while the error does. */
const char *host_one_line(lua_State *L);
int host_repl(lua_State *L); /* until the end of input; an exit status */

#endif
