/* SPDX-License-Identifier: MIT
 *
 * check_kernels: every kernel of every compute API and device found, against kern/c.
 *
 * A checker holds an opened device, remembers the kernels it compiled (compiling is what takes the
 * time) and counts verdicts. A case puts its operands into fresh memories, runs one dispatch and
 * compares: floats by their distance from the reference in units of the reference row's length,
 * integers exactly, and that nothing beside the result has changed. One thread.
 */
#ifndef CHECK_KERNELS_H
#define CHECK_KERNELS_H

#include "dev/gpu/gpu.h"
#include "dev/gpu/gpu_kernels.h"
#include "dev/gpu/gpu_pack.h"
#include "kern/kern.h"

enum { MAX_CACHED = 512, MAX_MEMS = 16, MAX_SPEC = 6 };

#define BOUND 3e-4f /* relative distance of a row of results */

typedef struct cached {
    const gpu_source *src;   /* what */
    uint32_t spec[MAX_SPEC]; /* compiled with */
    gpu_kernel *kernel;      /* the result */
} cached;

typedef struct checker {
    const gpu_api *api;              /* under test */
    gpu *g;                          /* device under test */
    kern ref;                        /* kern/c */
    base_rng rng;                    /* seeded once a device */
    bool all;                        /* the long set */
    unsigned without;                /* GPU_WITH_...: what kernels are not compiled with */
    bool reducing;                   /* only families whose kernels use sub-groups */
    bool bent;                       /* self-test: references are spoiled, everything must fail */
    const char *only;                /* family to check; NULL: all */
    cached kernels[MAX_CACHED];      /* compiled so far */
    size_t n_kernels;                /* entries in use */
    gpu_mem *mem[MAX_MEMS];          /* of the current case */
    size_t n_mem;                    /* entries in use */
    unsigned long n_checks, n_wrong; /* verdicts */
    double worst;                    /* largest distance seen in this family */
} checker;

/* One dispatch. params: the struct of gpu_kernels.h. */
typedef struct launch {
    const char *name;        /* kernel */
    uint32_t lx;             /* invocations of a group */
    uint32_t spec[MAX_SPEC]; /* constants 1 ... */
    uint32_t groups[3];      /* grid */
    const void *params;      /* words */
    size_t n_params;         /* how many */
    gpu_mem *bind[8];        /* memories */
    uint32_t n_binds;        /* how many */
} launch;

gpu_mem *put(checker *c, const void *data, size_t n_bytes); /* a memory with these bytes */
void get(checker *c, gpu_mem *m, void *dst, size_t n_bytes);
void drop(checker *c); /* frees the memories of the case */
void run(checker *c, const launch *l);

/* Verdicts; they print what failed. */
void say(checker *c, bool good, const char *fmt, ...) BASE_PRINTF(3, 4);
/* Distance of got from want relative to the length of want; 0 when both are zero. */
double distance(const float *got, const float *want, size_t n);
void near(checker *c, const float *got, const float *want, size_t n, double bound,
          const char *what);

void randoms(checker *c, float *x, size_t n, float scale);
/* One step with n rows, n_picked picked ones, all else in place; returns its words. The places:
 * tokens at token_at, positions at pos_at and so on. */
typedef struct step_image {
    uint32_t *word;                                           /* owned */
    size_t n_words;                                           /* of it */
    uint32_t token_at, pos_at, picked_at, table_at, angle_at; /* in words */
} step_image;
/* Positions ascend from 0; n_pages entries a row, page i of row r = (r * n_pages + i), n_rot
 * angles a row. */
step_image step_make(uint32_t rows, uint32_t n_rows, uint32_t n_picked, uint32_t n_rot,
                     uint32_t n_pages);

/* A matrix of that file type with its own data; rs[rows]: the scales of ternary rows. */
kern_mat mat_make(checker *c, uint32_t type, size_t rows, size_t cols, const float *rs);
void *room(size_t n, size_t size); /* calloc that cannot fail */
bool has_kernel(const char *name);

void check_product_kernels(checker *c);
void check_row_kernels(checker *c);
void check_cache_kernels(checker *c);
void check_attention_kernels(checker *c);
void check_choice_kernels(checker *c);
void check_expert_kernels(checker *c);

#endif
