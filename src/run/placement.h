/* SPDX-License-Identifier: MIT
 *
 * placement: which part of a model a device takes. A pure sum: what each part needs in the device's
 * own form of it, against the memory there is. What does not fit stays with the CPU, in this order:
 * the table of the embedding (a step reads a few rows of it, which cost nothing to bring), the
 * head with the last norm, then layers from the last one on.
 */
#ifndef RUN_PLACEMENT_H
#define RUN_PLACEMENT_H

#include "dev/dev.h"

/* Bytes that parts of a model need on a device. */
typedef struct run_needs {
    uint32_t n_layer;      /* layers */
    const uint64_t *layer; /* [n_layer] weights of each */
    uint64_t cache;        /* keys and values of a layer */
    uint64_t table;        /* embedding */
    uint64_t head;         /* with the last norm and the logits */
    uint64_t work;         /* buffers of a step */
    uint64_t largest;      /* single memory that cannot be cut into pieces */
    bool shared;           /* the head is the table: once is enough for both */
    bool imported;         /* the device reads the table in the model's memory: it takes none */
} run_needs;

typedef struct run_place {
    bool table;       /* the device embeds … */
    bool imports;     /* … and is expected to read the table where it is */
    uint32_t n_layer; /* layers [0, n_layer) are the device's; 0: nothing is */
    bool head;        /* so are all others and the head */
    uint64_t bytes;   /* it needs for that */
} run_place;

/* What of its heap a device is given; 0: it does not say how much memory it has. */
uint64_t run_budget(const dev_facts *f);
/* As much as fits. most: layers at most; the whole model is not taken when it has more. facts NULL
 * or without a heap: as much as most allows. */
run_place run_place_model(const run_needs *n, uint32_t most, const dev_facts *facts);

#endif
