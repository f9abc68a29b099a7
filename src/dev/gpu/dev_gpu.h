/* SPDX-License-Identifier: MIT
 *
 * dev_gpu: the state of a device on a GPU, shared by its files:
 *
 *   dev_gpu.c         set-up: buffers, weights, cache, what belongs to a dev
 *   dev_gpu_weights.c packing and uploading matrices
 *   dev_gpu_lower.c   the op list becomes dispatches, several ops to one where they fit;
 *   dev_gpu_products.c, dev_gpu_experts.c   those of products, of mixtures of experts
 *   dev_gpu_step.c    one step: its numbers, its submission, its results
 *   dev_gpu_check.c   a known product, before a device is used
 *   dev_gpu_probe.c   how fast a device copies and starts dependent work
 *
 * A list of dispatches is made for a bucket of rows and one of picked rows (1, 2, 4, 8 ...), the
 * first time a step of that size comes, and replayed ever after; what the step brings travels in
 * the step memory. Nothing is created by a step whose size has been there before.
 *
 * (G1) Buffers that one product writes together stand side by side in one memory.
 * (G2) Weights are uploaded once, in dev_record; no step uploads any. What only DEV_EMBED reads is
 * not uploaded where the device can read it in the model's own memory.
 */
#ifndef DEV_GPU_H
#define DEV_GPU_H

#include "dev/dev_internal.h"
#include "dev/gpu/gpu.h"
#include "dev/gpu/gpu_kernels.h"
#include "dev/gpu/gpu_pack.h"

enum {
    GPU_FEW_ROWS = 8,    /* rows of a step up to which products and attention take few tokens */
    GPU_MAX_SPLITS = 16, /* parts of the keys in decode attention */
    GPU_MAX_LISTS = 800, /* sizes of steps: rows (1, 2, 4 …) times picked rows (none, or 1, 2, 4 …
                            of them) times 5 (the best one, few or many, drawn or not). For 65536
                            rows, all of them picked: 17 * 18 / 2 * 5 + 17 */
    GPU_FEW_BEST = 64,   /* tokens found in a row, where more than one and no more are wanted */
    GPU_FOUND_WORDS = 2 /* a token and its logit */
};

typedef struct gpu_buf {
    size_t width;       /* floats per row */
    dev_rows kind;      /* what its rows are */
    uint32_t rows;      /* rows there is room for */
    size_t home;        /* the memory it stands in: index of the buffer that owns it */
    gpu_mem *x;         /* the memory: of the home */
    uint32_t at, ld;    /* where it begins; floats between its rows */
    gpu_mem *q, *xs;    /* int8 form and its scales, NULL until an op needs them */
    uint32_t q_ld;      /* words between rows of q */
    uint32_t xs_ld;     /* floats between rows of xs */
    float *host;        /* [rows, width] for dev_read, NULL until asked for */
    uint64_t host_step; /* number of the step host belongs to … */
    uint64_t host_rows; /* … and which of its first 64 rows have been fetched */
} gpu_buf;

typedef struct gpu_piece {
    gpu_mem *mem;        /* packed rows, or those of the file */
    uint32_t row0, rows; /* which; of experts: the first of them and how many */
    uint32_t at;         /* imported: where row0 begins in mem, in halves of words */
} gpu_piece;

/* Matrices that one product multiplies at once, packed one after another. */
typedef struct gpu_weights {
    dev_mat w[3];        /* which */
    uint8_t n;           /* how many */
    gpu_type type;       /* their form on the device */
    uint32_t rows, cols; /* all rows, of one expert; columns */
    uint32_t n_expert;   /* matrices for so many experts, one behind the other; 0: one for all */
    uint32_t n_u;        /* words per row */
    gpu_piece *pieces;   /* [n_pieces] as many as the limits of the device ask for, owned */
    size_t n_pieces;     /* how many */
    gpu_mem *rs;         /* [rows] scale of each, or NULL: 1 */
    gpu_mem *bias;       /* [n_expert, rows] that is added to the product, owned, or NULL */
    float scale;         /* of the first, for embedding */
    bool shared;         /* the pieces belong to earlier weights of the same matrices */
    bool imported;       /* the pieces are memory of the host, rows as in the file */
} gpu_weights;

typedef struct gpu_vec {
    const float *v; /* borrowed until dev_record */
    size_t n;       /* elements */
    gpu_mem *mem;   /* uploaded */
} gpu_vec;

typedef struct gpu_built {
    const gpu_source *source;     /* kernel */
    uint32_t spec[GPU_MAX_SPECS]; /* compiled with */
    gpu_kernel *kernel;           /* result */
} gpu_built;

/* A list and the step size it was made for. */
typedef struct gpu_sized {
    uint32_t rows, picked; /* buckets */
    uint32_t best;         /* tokens found in each picked row: 1, or a bucket of the wanted */
    bool draw;             /* one of these is drawn */
    uint32_t up_words;     /* words of the step it takes at most */
    size_t n_dispatches;   /* of the list */
    size_t n_dependent;    /* of which wait for the one before */
    gpu_list *list;        /* owned */
} gpu_sized;

typedef struct dev_gpu {
    dev base;                        /* first member: the public face */
    gpu *g;                          /* owned */
    const gpu_api *api;              /* its API */
    dev_shape shape;                 /* as created; inv_freq is the copy below */
    double *inv_freq;                /* owned, [n_rot / 2] */
    kern_mat *mats;                  /* owned list, borrowed data */
    size_t n_mats;                   /* in use */
    gpu_vec *vecs;                   /* owned list */
    size_t n_vecs;                   /* in use */
    gpu_buf *bufs;                   /* owned list */
    size_t n_bufs;                   /* in use */
    dev_op *ops;                     /* recorded, owned */
    size_t n_ops;                    /* in use */
    gpu_weights *weights;            /* [n_weights], owned: products of the list, then its table */
    size_t n_weights;                /* in use */
    size_t *weights_of;              /* [n_ops] first weights of an op; its matrices may need 1-3 */
    uint8_t *biases_of;              /* [n_ops] DEV_BIAS ops behind a product that are part of it */
    gpu_built *built;                /* compiled kernels, owned */
    size_t n_built;                  /* in use */
    gpu_sized lists[GPU_MAX_LISTS];  /* by step size */
    size_t n_lists;                  /* in use */
    gpu_mem *step;                   /* what a step brings */
    gpu_mem *found;                  /* token and logit of each picked row */
    gpu_mem *top;                    /* where more than one are wanted: GPU_TOP of each */
    gpu_mem *part;                   /* parts of attention */
    gpu_mem *route;                  /* which experts the tokens of a step go to, or NULL */
    gpu_mem **keys, **values;        /* [n_layer] the cache */
    bool *ring;                      /* [n_layer] which have pages of their own, owned */
    uint32_t ring_window;            /* positions these see at most */
    size_t block_bytes;              /* of 64 positions of one KV head */
    uint32_t splits;                 /* parts of the keys */
    uint32_t *words;                 /* the step being built, owned */
    uint32_t *found_host;            /* [max_picked, best] pairs of the last step, owned */
    gpu_sized *flights[GPU_FLIGHTS]; /* lists of the steps under way, the oldest first */
    uint32_t n_flights;              /* how many */
    uint32_t found_best;             /* best of the last step's list; 0: it picked no rows */
    bool found_drawn;                /* one token a row was drawn from them */
    dev_buf logits;                  /* what the list writes last, or DEV_NONE */
    uint64_t weight_bytes;           /* on the device */
    rotor_status lost;               /* ROTOR_E_DEVICE after a failure: nothing more is done */
    rotor_error why;                 /* its message */
} dev_gpu;

/* dev_gpu_weights.c */
rotor_status gpu_add_weights(dev_gpu *d, const dev_mat *w, uint8_t n, rotor_error *err);
rotor_status gpu_add_table(dev_gpu *d, dev_mat w, rotor_error *err); /* of DEV_EMBED */
/* The same for n matrices of DEV_EXPERTS. ROTOR_E_UNSUPPORTED: not of this form. */
rotor_status gpu_add_experts(dev_gpu *d, const dev_mat *w, uint8_t n, rotor_error *err);
/* Vectors to be added to the product of w, one for each of its matrices; NULL: none for that. */
rotor_status gpu_add_bias(dev_gpu *d, gpu_weights *w, const float *const *v, rotor_error *err);
/* One product for all of them; n_expert: of so many experts each, or 1. */
bool gpu_can_join(const dev_gpu *d, const dev_mat *w, uint8_t n, uint32_t n_expert);
void gpu_weights_free(dev_gpu *d, gpu_weights *w);

/* dev_gpu_lower.c: the list for a step size. */
rotor_status gpu_lower(dev_gpu *d, gpu_sized *list, rotor_error *err); /* the size is given */
/* Where things stand in the step of a list for so many rows: words from its beginning. */
typedef struct gpu_layout {
    uint32_t token, pos, picked, table, ring, angle, draw, pages; /* as gpu_kernels.h has them */
} gpu_layout;
gpu_layout gpu_layout_of(const dev_gpu *d, uint32_t rows);
/* Words of the step memory for so many rows, the largest page tables included. */
uint32_t gpu_step_words(const dev_gpu *d, uint32_t rows);
/* Room for the int8 form of a buffer, either kind: the scales of blocks take more. */
rotor_status gpu_want_int8(dev_gpu *d, gpu_buf *b, rotor_error *err);
rotor_status gpu_get_kernel(dev_gpu *d, const char *name, const uint32_t *spec, uint32_t n_spec,
                            uint32_t n_binds, uint32_t n_params, gpu_kernel **out,
                            rotor_error *err);

/* The device of a given API: dev_gpu_create without the choice of one. */
rotor_status dev_gpu_create_on(dev **out, const gpu_api *api, size_t index, const char *cache_dir,
                               const dev_shape *shape, rotor_error *err);

/* dev_gpu_check.c: a product with a known answer. ROTOR_E_DEVICE: this device computes another. A
 * device whose matrices alone are wrong does without them: facts.matrix becomes 0. */
rotor_status gpu_check_answers(dev_gpu *d, rotor_error *err);

/* dev_gpu_probe.c: dev_probe on a given API. */
rotor_status dev_gpu_probe_on(const gpu_api *api, size_t index, const char *cache_dir,
                              dev_probe_result *out, rotor_error *err);

/* dev_gpu_experts.c: what a mixture needs, as far as it is known before the list; and whether a
 * list is one that its kernels can do. ROTOR_E_UNSUPPORTED: not this one. */
rotor_status gpu_make_route(dev_gpu *d, rotor_error *err);
rotor_status gpu_check_experts(const dev_gpu *d, const dev_op *ops, size_t n, rotor_error *err);

/* dev_gpu_step.c */
void gpu_count_driver(dev_gpu *d); /* the device's counters become those of its driver */
uint32_t gpu_bucket(uint32_t n);   /* the power of two that n is rounded up to; 0 stays 0 */
rotor_status gpu_run(dev *base, const dev_step *step, rotor_error *err);
rotor_status gpu_submit(dev *base, const dev_step *step, rotor_error *err);
rotor_status gpu_wait(dev *base, rotor_error *err);
const float *gpu_read(dev *base, dev_buf b, uint32_t row);
rotor_status gpu_get_rows(dev *base, dev_buf b, uint32_t n, float *dst, rotor_error *err);
rotor_status gpu_put_rows(dev *base, dev_buf b, uint32_t n, const float *src, rotor_error *err);
bool gpu_best(dev *base, uint32_t row, uint32_t *id, float *value);
uint32_t gpu_top(dev *base, uint32_t row, const uint32_t **pairs);
bool gpu_chosen(dev *base, uint32_t row, uint32_t *id);

#endif
