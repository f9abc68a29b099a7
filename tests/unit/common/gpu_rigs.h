/* SPDX-License-Identifier: MIT
 *
 * gpu_rigs: every device of every compute API of the build that can be used, software devices too,
 * for tests of gpu.h. One list for the program.
 */
#ifndef GPU_RIGS_H
#define GPU_RIGS_H

#include "dev/gpu/gpu.h"

typedef struct gpu_rig {
    const gpu_api *api; /* which */
    size_t index;       /* its device */
    gpu_facts facts;    /* of it */
    gpu *g;             /* opened by gpu_rigs_open, else NULL */
} gpu_rig;

/* Finds them and says which; or opens them, too. For cmocka's set-up and tear-down of a group. */
int gpu_rigs_find(void **state);
int gpu_rigs_open(void **state);
int gpu_rigs_close(void **state);

/* fn for one after another; false when there is none. Opened ones must hold no memory afterwards.
 */
bool gpu_rigs_each(void (*fn)(const gpu_rig *r));

/* A test of that name which does so, or is skipped. */
#define GPU_RIGS_TEST(name, fn)                                                                    \
    static void name(void **state) {                                                               \
        (void)state;                                                                               \
        if (!gpu_rigs_each(fn)) skip();                                                            \
    }

#endif
