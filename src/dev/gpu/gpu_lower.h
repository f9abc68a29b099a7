/* SPDX-License-Identifier: MIT
 *
 * gpu_lower: what the files that turn ops into dispatches share (dev_gpu_lower.c has the list, the
 * rows and attention; dev_gpu_products.c products; dev_gpu_experts.c mixtures). Each lower_* takes
 * the op it is called for, and as many of those behind it as its dispatch does too; it returns the
 * first op that is left.
 */
#ifndef GPU_LOWER_H
#define GPU_LOWER_H

#include "dev/gpu/dev_gpu.h"

typedef struct lower {
    dev_gpu *d;        /* device */
    uint32_t rows;     /* bucket */
    uint32_t picked;   /* bucket; 0: picked ops are left out */
    gpu_layout at;     /* of the step */
    gpu_dispatch *out; /* list being written, owned */
    size_t n, room;    /* in use; allocated */
    size_t early;      /* an op that an earlier dispatch has done, or SIZE_MAX */
    rotor_status st;   /* first failure; later words do nothing */
    rotor_error *err;  /* its message */
} lower;

/* What a dispatch is made of, besides its parameters. */
typedef struct work {
    const char *name;             /* kernel */
    uint32_t spec[GPU_MAX_SPECS]; /* its constants, LX first */
    uint32_t n_spec;              /* how many */
    uint32_t x, y, z;             /* grid */
    uint32_t n_binds;             /* memories */
    gpu_mem *bind[GPU_MAX_BINDS]; /* which; NULL: not used by this form of the kernel */
    bool beside;                  /* need not wait for the dispatch before */
} work;

void gpu_emit(lower *l, const work *w, const void *params, size_t params_bytes);

static inline uint32_t gpu_ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }
static inline dev_rows gpu_rows_kind(const dev_op *op) {
    return op->picked ? DEV_PICKED : op->slots ? DEV_SLOTS : DEV_TOKENS;
}
uint32_t gpu_rows_of(const lower *l, dev_rows kind); /* in the grid */
uint32_t gpu_count_of(dev_rows kind);                /* where the step has their number */

bool gpu_takes_int8(const dev_gpu *d, uint32_t type); /* a product with weights of this type */
/* Whether b, as it is before op `from`, is read as floats from there on, perhaps by the caller. */
bool gpu_float_live(const dev_gpu *d, size_t from, dev_buf b);

/* dev_gpu_products.c */
size_t gpu_lower_product(lower *l, size_t i);
/* "mv_block" and so on for a type, of the first letter given: 'm', or 'x' for experts. */
const char *gpu_product_name(gpu_type type, bool few, bool experts);

/* dev_gpu_experts.c */
size_t gpu_lower_route(lower *l, size_t i);
size_t gpu_lower_experts(lower *l, size_t i);
size_t gpu_lower_mix(lower *l, size_t i);

#endif
