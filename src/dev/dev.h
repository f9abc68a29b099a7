/* SPDX-License-Identifier: MIT
 *
 * dev: a device that runs a forward pass. The pass is written once, in run, as a list of ops over
 * handles; a device keeps weights resident, records the list once and replays it every step. What
 * changes between steps (tokens, positions, pages) travels in a small dev_step.
 *
 * Buffers hold one float row per token of the step. A step may mix tokens of several sequences;
 * rows of one sequence stand in ascending position order. In a mixture of experts a token has
 * n_used slots, one for each expert it is sent to; slot buffers hold a row per slot, those of one
 * expert together (DEV_ROUTE says which), so that a matrix is read once for all its tokens.
 * Threading: one thread at a time per device.
 */
#ifndef DEV_H
#define DEV_H

#include "base/base.h"
#include "dev/dev_facts.h"
#include "kern/kern.h"
#include "par/par.h"

typedef struct dev dev;
typedef uint32_t dev_buf; /* float [max_rows, width] */
typedef uint32_t dev_mat; /* weight matrix */
typedef uint32_t dev_vec; /* float vector */

#define DEV_NONE   UINT32_MAX
#define DEV_CHOSEN UINT32_MAX /* dev_step.token: what the step before has chosen */

typedef enum dev_kind {
    DEV_EMBED,     /* dst = table w0 at each row's token */
    DEV_RMSNORM,   /* dst = rmsnorm(src) * vec; n_heads > 0: each head of d_head by itself; centred:
                      of src less its mean, which is LayerNorm without its bias */
    DEV_BIAS,      /* dst += vec; by_pos: += the row of vec[, width] at the token's position;
                      by_type: that of its type */
    DEV_QUANT_I8,  /* quantises src for ternary products, one scale a row; kept with src */
    DEV_QUANT_Q8,  /* quantises src for block products, one scale per 32; kept with src */
    DEV_MATMUL,    /* dst[i] = w[i] x src, i < n_mats */
    DEV_ROPE,      /* rotates dst in place: n_heads, d, n_rot */
    DEV_KV_APPEND, /* stores rows of src (keys) and src2 (values) in layer */
    DEV_ATTENTION, /* dst = attention of queries src over layer */
    DEV_GLU,       /* dst = act(src) * src2, or act(src) where src2 is DEV_NONE */
    DEV_ADD,       /* dst += src */
    DEV_PICK,      /* dst rows = the rows of src whose logits are wanted */
    DEV_ROUTE,     /* src holds a logit for each expert: the n_used largest are a token's, the lower
                      expert first among equals; slots are shared out. Weights are the softmax over
                      those, or of_all; src is not readable afterwards */
    DEV_GATHER,   /* slot rows of dst = their tokens' rows of src: floats, or the int8 form alone */
    DEV_EXPERTS,  /* as DEV_MATMUL for slot rows: w[i] holds n_expert matrices, one below the other
                   */
    DEV_MIX,      /* dst = sum of a token's slot rows of src by the weights of DEV_ROUTE */
    DEV_CAP,      /* dst = cap * tanh(dst / cap) */
    DEV_POOL,     /* dst row i = mean of src rows behind picked row i - 1 up to picked row i */
    DEV_ADD_GATED /* dst += sigmoid(src2) * src; src2 [1] */
} dev_kind;

/* What the rows of a buffer are. */
typedef enum dev_rows { DEV_TOKENS, DEV_PICKED, DEV_SLOTS } dev_rows;

typedef struct dev_op {
    dev_kind kind;     /* what */
    bool picked;       /* acts on the picked rows (after DEV_PICK), not on all */
    bool slots;        /* acts on slot rows */
    bool centred;      /* DEV_RMSNORM: LayerNorm */
    bool by_pos;       /* DEV_BIAS: a row of vec for each position; not for picked rows */
    bool by_type;      /* likewise for each type of token */
    bool of_all;       /* DEV_ROUTE: weights are shares of the softmax over all experts */
    bool int8;         /* DEV_GATHER: the int8 form is moved, not the floats */
    uint8_t n_mats;    /* DEV_MATMUL, DEV_EXPERTS: 1-3 products of one input in one hand-over */
    dev_buf dst[3];    /* outputs */
    dev_buf src, src2; /* inputs */
    dev_mat w[3];      /* matrices */
    dev_vec vec;       /* norm gain; bias, with slots [n_expert, width]; DEV_ATTENTION: sinks
                          [n_head], used where `sinks` says so */
    bool sinks;        /* DEV_ATTENTION */
    bool both_ways;    /* DEV_ATTENTION: queries see all their sequence, of which the step has every
                          row; a window reaches as far to either side */
    uint32_t layer;    /* cache layer */
    uint32_t of_layer; /* the layer it belongs to, for traces; BASE_TRACE_NONE: none */
    uint32_t n_heads;  /* DEV_ROPE: heads in dst; DEV_RMSNORM: heads normed apart, or 0 */
    uint32_t window;   /* DEV_ATTENTION: positions a query sees, itself included; 0: all */
    bool local;        /* DEV_ROPE: by the second frequencies */
    float scale;       /* DEV_EMBED: multiplies the row; 0: 1. DEV_CAP: the cap */
    float eps;         /* DEV_RMSNORM */
    kern_glu glu;      /* DEV_GLU */
} dev_op;

/* Shapes every op of a list shares. */
typedef struct dev_shape {
    uint32_t max_rows;                           /* largest step */
    uint32_t max_picked;                         /* most rows with logits in a step */
    uint32_t n_layer, n_head, n_head_kv, d_head; /* of the cache and attention */
    uint32_t n_rot;                              /* rotated dimensions of a head */
    bool rope_interleaved;                       /* pairing */
    const double *inv_freq;                      /* [n_rot / 2], borrowed during creation */
    const double *inv_freq_local;                /* the same for ops that are `local`; NULL: none */
    float attn_scale;                            /* of queries times keys; 0: 1 / sqrt(d_head) */
    float attn_cap;                              /* of scores, as KERN's; 0: none */
    float rope_gain;                             /* multiplies cosines and sines; 0: 1 */
    uint32_t n_expert, n_used;                   /* of a mixture, and a token's share; or 0 */
    uint32_t n_pages;                            /* cache pages of KERN_KEYS positions */
    uint32_t n_ring_pages;                       /* pages of their own for layers with a window */
    const bool *ring; /* [n_layer] which layers these are, borrowed during creation; NULL: none */
    kern_kv kv;       /* cache type */
    bool float_act;   /* --act f32: products take float activations */
    bool on_demand;   /* memory does not hold the weights, which are mapped: of experts only those
                         that are chosen are asked for, as soon as they are known */
    uint64_t solo_bytes; /* steps that read fewer weight bytes (times rows) run on one thread */
} dev_shape;

/* How a token is drawn from a row: of the best k, those that make up the share top_p and are at
 * most -least below the best, in the order of their indices, by weight exp((x - largest) * heat).
 */
typedef struct dev_draw {
    uint32_t k;  /* 1 … DEV_STAGED_BEST; 1: the best, the rest is of no account */
    float top_p; /* share of exp(x) that the best k have together; 1: all of it */
    float least; /* at most 0; -INFINITY: no matter how far below */
    float heat;  /* one by temperature */
    float u;     /* 0 … 1: the place in the sum of weights */
} dev_draw;

/* One step's rows. Borrowed for the call. */
typedef struct dev_step {
    uint32_t n_rows;              /* tokens in this step, 1 … max_rows */
    const uint32_t *token;        /* [n_rows] < V; after dev_submit also DEV_CHOSEN: what is chosen
                                     in picked row r of the step submitted before is token r */
    const uint32_t *pos;          /* [n_rows] position in its sequence */
    const uint32_t *const *pages; /* [n_rows] page table of its sequence */
    const uint32_t *const *ring;  /* [n_rows] the same for the layers with pages of their own */
    const uint32_t *len;          /* [n_rows] length of its sequence, for ops that are both_ways;
                                     NULL: there are none */
    const uint32_t *type;         /* [n_rows] type of each token, for ops that are by_type */
    uint32_t n_picked;            /* rows with logits */
    const uint32_t *picked;       /* [n_picked] row indices, ascending */
    uint32_t n_best;              /* the best so many of each are looked for (dev_top), at most
                                     DEV_STAGED_BEST; 0: 1. A device may ignore it */
    const dev_draw *draw;         /* [n_picked] a token of each is drawn instead (dev_chosen), or
                                     NULL. A device may ignore it */
} dev_step;

typedef struct dev_counters {
    uint64_t steps;       /* dev_run calls */
    uint64_t dispatches;  /* ops executed */
    uint64_t dependent;   /* of which on a GPU waited for the one before */
    uint64_t meetings;    /* times the threads of the device waited for each other inside steps */
    uint64_t bytes_up;    /* host to device since creation */
    uint64_t bytes_down;  /* device to host since creation */
    uint64_t submissions; /* hand-overs of work to a driver since creation */
    uint64_t allocations; /* memories, kernels and lists made on a driver since creation */
    uint64_t pages_moved; /* cache pages that went from one device of two to the other */
    uint64_t wanted;      /* bytes of experts asked for ahead of their use (on_demand) */
    uint64_t imported;    /* weight bytes of the host's memory that a device reads where they are */
} dev_counters;

/* The CPU. kern and pool are borrowed and must outlive the device. */
rotor_status dev_cpu_create(dev **out, const kern *k, par_pool *pool, const dev_shape *shape,
                            rotor_error *err);

/* A GPU, through one of two APIs whose loaders are opened at run time. */
typedef enum dev_api { DEV_CPU, DEV_OPENCL, DEV_VULKAN } dev_api;
/* The devices of an API, those that can be used first, hardware before software. Writes at most max
 * rows, *n is how many there are. ROTOR_E_UNSUPPORTED: not in this build; ROTOR_E_NOTFOUND: no
 * loader or no driver on this machine. */
rotor_status dev_list(dev_api api, dev_facts *out, size_t max, size_t *n, rotor_error *err);
/* What a device reaches, measured: opens it for a moment, takes at most an eighth of its memory.
 * index and cache_dir as below. */
typedef struct dev_probe_result {
    double copy_gbps;    /* of a copy on the device: bytes read and written, 1e9 a second */
    uint64_t copy_bytes; /* of that copy, one way */
    double dispatch_us;  /* of one small dispatch that waits for the one before, in a list */
    double submit_us;    /* of a list of one dispatch, until the host has its result */
} dev_probe_result;
rotor_status dev_probe(dev_api api, size_t index, const char *cache_dir, dev_probe_result *out,
                       rotor_error *err);
/* The index-th of that list. cache_dir: a folder for compiled kernels, or NULL. Weights are copied
 * to the device in dev_record, or imported (their data must stay then); what has no kernel is
 * refused with ROTOR_E_UNSUPPORTED. A device that gives a wrong answer to a known product is
 * refused with ROTOR_E_DEVICE. */
rotor_status dev_gpu_create(dev **out, dev_api api, size_t index, const char *cache_dir,
                            const dev_shape *shape, rotor_error *err);
/* Bytes of a matrix on a GPU; 0: there is no kernel for its type. */
uint64_t dev_gpu_mat_bytes(const kern_mat *w);
/* Whether a device that imports can read this table where it is, as long as nothing but DEV_EMBED
 * uses it. */
bool dev_gpu_can_import(const kern_mat *w);

/* Two devices as one: the first runs the first n_layer layers of a pass and what is before them,
 * the second the rest; the residual stream crosses once a step. Each was created with its own
 * number of layers, and both belong to the new device. max_rows: of both. */
rotor_status dev_split_create(dev **out, dev *first, dev *second, uint32_t n_layer,
                              uint32_t max_rows, rotor_error *err);
/* Two whole devices as one: prompts run on the first, all other steps on the second; the cache
 * follows. Both were created with this shape, have recorded the same list over the same handles,
 * and belong to the new device. No staged head. */
rotor_status dev_pair_create(dev **out, dev *prompt, dev *decode, const dev_shape *shape,
                             rotor_error *err);
void dev_free(dev **d);
const char *dev_name(const dev *d); /* "cpu", or what the driver calls it; "cpu + ..." for two */

/* Set-up, before dev_record. Weights are borrowed from the model. */
rotor_status dev_add_mat(dev *d, const kern_mat *w, dev_mat *out, rotor_error *err);
rotor_status dev_add_vec(dev *d, const float *v, size_t n, dev_vec *out, rotor_error *err);
rotor_status dev_add_buf(dev *d, size_t width, dev_rows rows, dev_buf *out, rotor_error *err);
/* The list is copied; checked here once (handles, widths against shapes). */
rotor_status dev_record(dev *d, const dev_op *ops, size_t n, rotor_error *err);

/* Runs the list. No allocation, except on a GPU by the first step of its size. ROTOR_E_DEVICE: the
 * device has failed and stays failed; what its cache held is lost. */
rotor_status dev_run(dev *d, const dev_step *step, rotor_error *err);
/* dev_run in two parts, where dev_can_ahead: a second step may be submitted before the first has
 * been waited for, its tokens being those the first is choosing. What dev_chosen says is of the
 * step waited for last; nothing else may be asked while a step is under way. After a failure there
 * is none. */
enum { DEV_FLIGHTS = 2 };
bool dev_can_ahead(const dev *d);
rotor_status dev_submit(dev *d, const dev_step *step, rotor_error *err);
rotor_status dev_wait(dev *d, rotor_error *err);
/* Rows of a buffer after dev_run; valid until the next one. A device may keep what only the next
 * op reads to itself: readable are the picked rows and what products, attention and sums wrote; on
 * a GPU a product that is only added to another row is part of that sum. NULL: the device has
 * failed. */
const float *dev_read(dev *d, dev_buf b, uint32_t row);
/* The largest element of row `row` of the list's last product, where that acts on picked rows, and
 * its index, the lowest of several: found by the device, without fetching the row. False: this
 * device does not look. */
bool dev_best(dev *d, uint32_t row, uint32_t *id, float *value);
/* The same for the best n_best of the step's list, perhaps some more, as pairs of words: index and
 * value's bits. Best first, the lower index first among equals; index UINT32_MAX ends them early.
 * Returns how many, 0: this device does not look. Valid until the next step. */
uint32_t dev_top(dev *d, uint32_t row, const uint32_t **pairs);
/* The token drawn from picked row `row` of the last step. False: this device does not draw, or the
 * best of the row is not finite. */
bool dev_chosen(dev *d, uint32_t row, uint32_t *id);
/* Copies one cache page to another: all layers of that kind of pages. */
void dev_copy_page(dev *d, bool ring, uint32_t dst_page, uint32_t src_page);
/* One layer of a cache page, of the kind that the layer has, to the host and from there, between
 * steps: keys of all KV heads, then values, 2 * n_head_kv * KERN_KEYS * kern_kv_row_bytes() bytes.
 */
rotor_status dev_get_page(dev *d, uint32_t page, uint32_t layer, uint8_t *dst, rotor_error *err);
rotor_status dev_put_page(dev *d, uint32_t page, uint32_t layer, const uint8_t *src,
                          rotor_error *err);
void dev_counters_get(const dev *d, dev_counters *out);
uint64_t dev_memory_bytes(const dev *d); /* buffers and cache, without weights */

/* Where the time of steps goes, op by op in recorded order. */
typedef struct dev_op_time {
    dev_kind kind;     /* what */
    size_t rows, cols; /* DEV_MATMUL: outputs of all its matrices together, inputs */
    uint64_t bytes;    /* weight bytes one call reads */
    uint64_t calls;    /* steps that executed it */
    uint64_t work_ns;  /* spent on it, all threads together */
    uint64_t wait_ns;  /* spent waiting behind it, all threads together */
} dev_op_time;
/* Starts an account from zero, or ends it. After dev_record; costs a look at the clock per op. */
rotor_status dev_time_ops(dev *d, bool on, rotor_error *err);
/* Writes the first max rows of the account; returns how many there are, 0 when none is kept. */
size_t dev_op_times(const dev *d, dev_op_time *out, size_t max);

/* What an op is called in traces and accounts. */
const char *dev_kind_name(dev_kind kind);
/* Puts every op of every thread into a trace, which outlives the device or is ended by NULL. After
 * dev_record; starts an account of times, too (dev_time_ops). name_of: what a matrix with these
 * data is called, for as long as the trace; or NULL. A device without such times ignores it. */
typedef const char *dev_name_of(const void *user, const uint8_t *data);
rotor_status dev_trace(dev *d, base_trace *t, dev_name_of *name_of, const void *user,
                       rotor_error *err);

/* ---- Checks while running (dev_cpu_check.c) ----------------------------------------------------
 * Of the products of the next step some are done twice: one row of each matrix for one token, by
 * the C kernels, whose bits every other kernel must give; what goes into them has to be numbers. */

typedef struct dev_fault {
    const uint8_t *row; /* where the row of weights (or its group of rows) begins */
    size_t at;          /* output in the product; of a bad input: its column */
    uint32_t token;     /* row of the step; of a mixture: slot row of its expert */
    bool input;         /* the input is no usable number, and nothing was computed */
    bool agreed;        /* the output is none, in the step as by the C kernel */
    float expected;     /* by the C kernel */
    float got;          /* in the step */
} dev_fault;

typedef struct dev_check_stats {
    uint64_t products; /* matrices of which a row was done twice */
    uint64_t rows;     /* rows done twice */
    uint64_t macs;     /* multiplications of these */
    uint64_t values;   /* inputs and outputs looked at */
    uint64_t ns;       /* spent on it, all threads together */
} dev_check_stats;

/* After dev_record. ROTOR_E_UNSUPPORTED: this device has no such checks. */
rotor_status dev_check_start(dev *d, rotor_error *err);
/* Chooses at most n products, by seed, for the step that follows; 0: none. */
void dev_check_arm(dev *d, size_t n, uint64_t seed);
size_t dev_check_products(const dev *d); /* that can be chosen; 0: there are no checks */
/* The first fault of the last step; false: there was none. */
bool dev_check_fault(const dev *d, dev_fault *out);
dev_check_stats dev_check_get(const dev *d);
/* First of x[n] that is NaN, infinite or, beyond 1e30, on its way there; n: none is. */
size_t dev_first_unusable(const float *x, size_t n);

/* ---- The staged head: the best rows of one product, without computing the others ------------- */

enum { DEV_STAGED_ROWS = 4, DEV_STAGED_BEST = 256 };

typedef struct dev_want {
    uint32_t k;          /* the best k rows, at most DEV_STAGED_BEST; 0: by delta */
    float delta;         /* k 0: the rows whose product is within delta of the best one */
    const uint32_t *ids; /* [n_ids] rows wanted whatever they are, and left out of that choice */
    uint32_t n_ids;      /* how many; each once */
} dev_want;

/* All rows asked for, perhaps some more, with the very products dev_product gives: first the
 * chosen by ascending id, then want->ids. Valid until the next call of the device. */
typedef struct dev_found {
    const uint32_t *id; /* [n] rows */
    const float *value; /* [n] products */
    uint32_t n;         /* how many */
} dev_found;

typedef struct dev_staged_stats {
    uint64_t finds;                       /* dev_find calls */
    uint64_t undecided;                   /* of which it could not answer */
    uint64_t survivors[KERN_HEAD_STAGES]; /* rows left after each stage; sums over calls */
    uint64_t exact;                       /* rows computed in full */
    uint64_t bytes;                       /* read of planes and rows */
} dev_staged_stats;

/* Makes the planes of a float matrix, whose data must stay. ROTOR_E_UNSUPPORTED: this device or
 * this matrix has none; the whole product is the way then. At most one a device. */
rotor_status dev_add_staged(dev *d, const kern_mat *w, rotor_error *err);
/* First stage of rows [first, first + n_rows) of src, at most DEV_STAGED_ROWS: so many share one
 * reading of the planes. */
void dev_screen(dev *d, dev_buf src, uint32_t first, uint32_t n_rows);
/* The rest, for one of them, counted from `first`. False: cannot be decided for less than the whole
 * product costs. */
bool dev_find(dev *d, uint32_t row, const dev_want *want, dev_found *found);
/* dst = w x src for the first n_rows rows, outside the recorded list; the same bits as in it. The
 * matrix must want no int8 form of src. */
void dev_product(dev *d, dev_mat w, dev_buf src, dev_buf dst, uint32_t n_rows);
void dev_staged_stats_get(const dev *d, dev_staged_stats *out);

#endif
