/* SPDX-License-Identifier: MIT
 *
 * Adding to a trace: of what is kept, and how it is written, trace_file.c tells.
 */
#include "base/base_internal.h"

void base_trace_add(base_trace *t, const base_trace_event *e) {
    const uint64_t n = atomic_fetch_add_explicit(&t->n, 1, memory_order_relaxed);
    t->event[n < t->keep ? n : t->keep + (n - t->keep) % (t->max - t->keep)] = *e;
}
