/* SPDX-License-Identifier: MIT
 *
 * dev_cpu: the state of the CPU device, shared by its two files: set-up (dev_cpu.c) and the
 * execution of a step (dev_cpu_step.c).
 */
#ifndef DEV_CPU_H
#define DEV_CPU_H

#include "dev/dev_internal.h"

typedef struct cpu_buf {
    float *x;       /* [rows, width], in the arena of the device */
    size_t width;   /* floats per row */
    bool picked;    /* rows are the picked ones */
    uint32_t rows;  /* rows there is room for */
    int8_t *q;      /* [rows, ldq] int8 form, NULL until an op needs it */
    size_t ldq;     /* bytes per row of q */
    float *s;       /* scales of q, as in kern_act */
    int32_t *sum;   /* sums of q per row */
    int16_t *sum16; /* sums of q per 16 */
} cpu_buf;

typedef struct cpu_vec {
    const float *v; /* borrowed */
    size_t n;       /* elements */
} cpu_vec;

typedef struct dev_cpu {
    dev base;           /* first member: the public face */
    const kern *k;      /* borrowed */
    par_pool *pool;     /* borrowed */
    dev_shape shape;    /* as created; inv_freq is the copy below */
    double *inv_freq;   /* owned, [n_rot / 2] */
    kern_mat *mats;     /* owned list */
    size_t n_mats;      /* in use */
    cpu_vec *vecs;      /* owned list */
    size_t n_vecs;      /* in use */
    cpu_buf *bufs;      /* owned list; each owns its memory */
    size_t n_bufs;      /* in use */
    dev_op *ops;        /* the recorded list, owned */
    size_t n_ops;       /* in use */
    uint64_t op_bytes;  /* weight bytes one token reads: the measure of a step's work */
    uint8_t *pages;     /* cache: n_pages * page_bytes, owned; untouched pages cost nothing */
    size_t page_bytes;  /* all layers, KV heads, keys and values of KERN_KEYS positions */
    size_t block_bytes; /* keys (or values) of one layer and KV head in a page */
    float *partial;     /* attention states of split tokens, owned: see dev_cpu_step.c */
    float *scratch;     /* attention's working memory of all threads, owned */
    size_t scratch_at;  /* floats of one thread's share */
    size_t max_spans;   /* spans a token can have */
    float *cs, *sn;     /* [max_rows, n_rot / 2] cosines and sines of the step, owned */
    uint64_t buf_bytes; /* all buffers, for dev_memory_bytes */
} dev_cpu;

enum { CPU_SPLIT_ROWS = 8 }; /* steps of at most this many tokens share each token's attention */

/* Byte offset inside a page of the keys of (layer, head); the values follow block_bytes later. */
static inline size_t cpu_page_offset(const dev_cpu *d, uint32_t layer, uint32_t head) {
    return ((size_t)layer * d->shape.n_head_kv + head) * 2 * d->block_bytes;
}

rotor_status cpu_run(dev *base, const dev_step *step, rotor_error *err);

#endif
