/* SPDX-License-Identifier: MIT
 *
 * dev_facts: what a device says of itself, for lists of devices and for whoever decides what runs
 * where.
 */
#ifndef DEV_FACTS_H
#define DEV_FACTS_H

#include "base/base.h"

/* What is known of a device without opening it for work. */
typedef struct dev_facts {
    char name[128];           /* "AMD Custom GPU 0405 (RADV VANGOGH)" */
    char driver[128];         /* name and version, for messages and cache keys */
    char version[48];         /* of the API it offers: "Vulkan 1.3.238", "OpenCL 3.0" */
    char missing[128];        /* why Rotor cannot use it, or "" */
    bool software;            /* runs on the CPU: used only when named */
    bool unified;             /* shares the host's memory */
    bool imports;             /* and may be given pages of the host's to read where they are */
    uint64_t heap_bytes;      /* memory there is; Vulkan: the sum of device-local heap budgets */
    uint64_t max_alloc_bytes; /* largest single allocation */
    uint64_t max_bind_bytes;  /* largest memory a kernel may see */
    uint32_t max_group;       /* invocations in a group */
    uint32_t local_bytes;     /* shared memory of a group */
    uint32_t subgroup;        /* lanes that run together; 1: one after another, 0: not known */
    bool subgroup_sums;       /* these lanes, eight or more, can add up and compare in a kernel */
    bool dot4;                /* has a packed 4 x int8 dot product */
    uint32_t matrix;   /* int8 matrices a sub-group multiplies: rows, columns, depth, lanes in
                          a byte each from the lowest on; 0: none that kernels can use */
    bool half_shaders; /* can compute in 16-bit floats */
    uint32_t units;    /* compute units; 0: not known */
} dev_facts;

#endif
