/* SPDX-License-Identifier: MIT
 *
 * How a kernel that uses every byte once asks for what it will read.
 */
#ifndef STREAM_H
#define STREAM_H

#include <immintrin.h>

/* Asks for the line FAR bytes on into the second-level cache and for the line NEAR bytes on into
 * the first. One request for both does worse: the few fill buffers of the first level (16 on most
 * cores) are then held for the whole way to memory, and a core that also computes keeps fewer lines
 * under way than one that only reads. Addresses may lie beyond the end: a prefetch never faults. */
static inline __attribute__((always_inline)) void prefetch_stream(const void *p) {
    enum { FAR = 16384, NEAR = 1024 };
    _mm_prefetch((const char *)p + FAR, _MM_HINT_T1);
    _mm_prefetch((const char *)p + NEAR, _MM_HINT_T0);
}

#endif
