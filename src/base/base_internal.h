/* SPDX-License-Identifier: MIT
 *
 * base_internal: what base's own files share. No other room includes this.
 */
#ifndef BASE_INTERNAL_H
#define BASE_INTERNAL_H

#include "base/base.h"

#include <stdatomic.h>

/* True exactly once, when the event armed by base_fault_after() is reached. */
bool mem_fault_now(void);

/* Zeroed pages on a 64-byte border (2 MB border when large); freed with os_pages_free. */
void *os_pages_alloc(size_t bytes);
void os_pages_free(void *p);

/* Refuses the calling process and all that it starts sockets and other processes' memory; with
 * processes_too, also new processes. For use between fork and exec; false: there is no way here. */
bool os_deny_network(bool processes_too);

/* What trace.c adds to and trace_file.c writes. */
struct base_trace {
    base_out out;            /* the file to be */
    base_trace_event *event; /* [max], owned */
    size_t max, keep;        /* room; of which for the first */
    uint64_t begin_ns;       /* time 0 of the file */
    atomic_ullong n;         /* events added */
};

#endif
