/* confine.h - takes from a process what decoding a picture does not need. */
#ifndef LC_DECODER_CONFINE_H
#define LC_DECODER_CONFINE_H
#include <stdbool.h>
#include <stdint.h>

/* From here on: no more than that address space, no descriptor but 0, no file, no process, no socket. Where the kernel
 * filters system calls (true), any other than reading and writing 0, taking and giving back memory, a timer and
 * leaving ends the process; else (false) the limits alone hold. */
bool lc_confine(int64_t address_space);

#endif
