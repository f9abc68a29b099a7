/* SPDX-License-Identifier: MIT
 *
 * dev_cpu: the state of the CPU device, shared by its files: set-up (dev_cpu.c), the plan of a
 * step of one row (dev_cpu_plan.c), and the execution of a step (dev_cpu_step.c).
 */
#ifndef DEV_CPU_H
#define DEV_CPU_H

#include "dev/dev_internal.h"

#include <stdatomic.h>

typedef struct cpu_buf {
    float *x;       /* [rows, width], in the arena of the device */
    size_t width;   /* floats per row */
    dev_rows kind;  /* what its rows are */
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

/* Where a product's outputs stand. */
typedef struct cpu_out {
    const float *y; /* [tokens, ld] */
    size_t ld;      /* floats between tokens */
} cpu_out;

/* Part of the op list with one meeting of the threads behind it: see dev_cpu_plan.c. */
typedef struct cpu_phase {
    size_t begin; /* first op; row work up to main is done by every thread for itself */
    size_t main;  /* the op that is shared; equal to end: row work of one thread only */
    size_t end;   /* one past the last; row work behind main is on a thread's own outputs */
    bool apart;   /* the rows of each matrix of a product are shared apart, not as one range */
    size_t chunk; /* rows of the product that a thread takes at once, for one token */
    int set;      /* which of a thread's claims: products take turns */
} cpu_phase;

/* How many chunks of a thread's share have been taken, by itself or by others: of this product and,
 * being cleared meanwhile, of the next. */
typedef struct cpu_claim {
    _Alignas(64) atomic_uint n[2]; /* of even and odd products */
} cpu_claim;

/* Cache pages of one kind: of layers that see everything, or of those with a window. */
typedef struct cpu_cache {
    uint8_t *pages; /* n_pages * page_bytes, owned; untouched pages cost nothing */
    size_t
        page_bytes;   /* all layers of the kind, KV heads, keys and values of KERN_KEYS positions */
    uint32_t n_pages; /* of them */
    uint32_t n_layer; /* layers of the kind */
} cpu_cache;

/* Where a layer's keys and values are. */
typedef struct cpu_layer {
    bool ring;   /* which kind of pages */
    uint32_t at; /* how manieth layer of that kind */
} cpu_layer;

typedef struct cpu_op_time {
    uint64_t calls;   /* steps (kept by thread 0) */
    uint64_t work_ns; /* spent on the op */
    uint64_t wait_ns; /* spent at the meeting behind it */
} cpu_op_time;

/* One thread's account of its time. */
typedef struct cpu_watch {
    cpu_op_time *ops;   /* [n_ops], owned */
    uint64_t mark;      /* time of the last entry */
    const dev_op *last; /* op of the last entry */
    const dev_op *open; /* op of an event that is not in the trace yet, since what follows may be
                           more of it; NULL: none */
    bool open_waits;    /* … which is the wait behind it */
    uint64_t open_ns;   /* … when it began; it lasts until mark */
} cpu_watch;

/* Which experts the tokens of a step were sent to by the last DEV_ROUTE. Slot rows of one expert
 * stand together, tokens ascending. All arrays are owned. */
typedef struct cpu_route {
    uint32_t *expert; /* [tokens, n_used] by token and slot, best first */
    float *weight;    /* [tokens, n_used] */
    uint32_t *row;    /* [tokens, n_used] the slot row of each */
    uint32_t *token;  /* [slot rows] whose it is */
    uint32_t *of_row; /* [slot rows] its expert */
    uint32_t *active; /* [n_active] experts that have rows, ascending */
    uint32_t *first;  /* [n_active + 1] first slot row of each */
    uint32_t n_active;
} cpu_route;

typedef struct dev_cpu {
    dev base;                /* first member: the public face */
    const kern *k;           /* borrowed */
    par_pool *pool;          /* borrowed */
    dev_shape shape;         /* as created; inv_freq is the copy below */
    double *inv_freq[2];     /* owned, [n_rot / 2]; [1]: of local ops, or NULL */
    kern_mat *mats;          /* owned list */
    size_t n_mats;           /* in use */
    cpu_vec *vecs;           /* owned list */
    size_t n_vecs;           /* in use */
    cpu_buf *bufs;           /* owned list; each owns its memory */
    size_t n_bufs;           /* in use */
    dev_op *ops;             /* the recorded list, owned */
    size_t n_ops;            /* in use */
    cpu_phase *phases;       /* the plan of a step of one row, owned; room for n_ops */
    int n_products;          /* of the plan */
    size_t n_phases;         /* in use */
    size_t first_picked;     /* phases from here on work on the picked rows */
    cpu_buf *own;            /* [threads] a row of scratch for each, owned */
    cpu_claim *claims;       /* [threads], owned */
    cpu_watch *watches;      /* [threads], owned; NULL: no account is kept */
    uint64_t op_bytes;       /* weight bytes one token reads: the measure of a step's work */
    cpu_cache cache[2];      /* [1]: of layers with pages of their own */
    cpu_layer *layers;       /* [n_layer], owned */
    size_t block_bytes;      /* keys (or values) of one layer and KV head in a page */
    float *partial;          /* attention states of split tokens, owned: see dev_cpu_step.c */
    float *scratch;          /* attention's working memory of all threads, owned */
    size_t scratch_at;       /* floats of one thread's share */
    size_t max_spans;        /* spans a token can have */
    float *cs[2], *sn[2];    /* [max_rows, n_rot / 2] cosines and sines of the step, owned */
    cpu_route route;         /* of the mixture, when there is one */
    uint64_t buf_bytes;      /* all buffers, for dev_memory_bytes */
    struct cpu_head *head;   /* the staged head, owned; NULL: none */
    struct cpu_trace *trace; /* where ops are told, owned; NULL: nowhere */
    struct cpu_check *check; /* products done twice, owned; NULL: none */
} dev_cpu;

enum {
    CPU_SPLIT_ROWS = 8,     /* steps of at most this many tokens share each token's attention */
    CPU_AHEAD_BYTES = 4096, /* asked for before a product begins */
    CPU_CHUNK_BYTES = 128 << 10, /* of weights taken at once: some 10 us of reading */
    CPU_CHUNK_ROWS = 512         /* of weights taken at once for many tokens: some 1 ms */
};

/* Byte offset inside a page of the keys of (layer, head); the values follow block_bytes later. */
static inline size_t cpu_page_offset(const dev_cpu *d, uint32_t layer, uint32_t head) {
    return ((size_t)d->layers[layer].at * d->shape.n_head_kv + head) * 2 * d->block_bytes;
}

static inline const cpu_cache *cpu_cache_of(const dev_cpu *d, uint32_t layer) {
    return &d->cache[d->layers[layer].ring];
}

/* Ops that work on each row by itself. */
static inline bool cpu_is_row_op(const dev_op *op) {
    return op->kind != DEV_MATMUL && op->kind != DEV_ATTENTION && op->kind != DEV_ROUTE &&
           op->kind != DEV_EXPERTS;
}

static inline bool cpu_is_product(const dev_op *op) {
    return op->kind == DEV_MATMUL || op->kind == DEV_EXPERTS;
}

static inline void cpu_norm(const dev_cpu *d, const dev_op *op, float *dst, const float *x) {
    const cpu_vec *gain = &d->vecs[op->vec];
    (op->centred ? d->k->layernorm : d->k->rmsnorm)(dst, x, gain->v, gain->n, op->eps);
}

static inline bool cpu_same_rows(const dev_op *a, const dev_op *b) {
    return a->picked == b->picked && a->slots == b->slots;
}

/* dev_cpu_experts.c: the mixture of experts. choose fills expert and weight of tokens [begin, end),
 * share_out the rest, from those of all. */
rotor_status cpu_route_alloc(dev_cpu *d, rotor_error *err);
void cpu_route_free(cpu_route *r);
void cpu_choose(dev_cpu *d, const dev_op *op, size_t begin, size_t end);
void cpu_share_out(dev_cpu *d, size_t n_tok);
/* Where memory does not hold the weights: leaves experts unread until they are wanted, and asks for
 * those that the tokens behind this op are sent to. */
void cpu_leave_experts(const dev_cpu *d);
void cpu_want_experts(dev_cpu *d, const dev_op *route);
void cpu_gather_row(const dev_cpu *d, const dev_op *op, size_t row);
void cpu_mix_row(const dev_cpu *d, const dev_op *op, size_t token);
/* Rows [begin, end) of the matrices of all active experts, each with the slot rows that are its
 * own: row r of active expert a is a * rows + r. */
void cpu_experts_rows(const dev_cpu *d, const dev_op *op, size_t begin, size_t end);
/* Adds the biases of outputs [begin, end), counted likewise, where every expert has one row. */
void cpu_experts_bias(const dev_cpu *d, const dev_op *op, size_t begin, size_t end);

/* Fills d->phases from d->ops. */
void cpu_plan(dev_cpu *d);
/* dev_cpu_step.c */
rotor_status cpu_run(dev *base, const dev_step *step, rotor_error *err);

/* The kernel of a table for w with so many tokens. */
kern_mm_fn cpu_product_of(const dev_cpu *d, const kern *k, const kern_mat *w, size_t n_tok);
void cpu_product(dev *base, dev_mat w, dev_buf src, dev_buf dst, uint32_t n_rows);

/* dev_cpu.c */
rotor_status cpu_time_ops(dev *base, bool on, rotor_error *err);
uint64_t cpu_weight_bytes(const dev_cpu *d, const dev_op *op); /* that one token makes it read */

/* dev_cpu_trace.c */
rotor_status cpu_trace_start(dev *base, base_trace *t, dev_name_of *name_of, const void *user,
                             rotor_error *err);
void cpu_trace_free(struct cpu_trace **t);
/* The thread of this watch was busy with op, or waited behind it, from w->mark until now. */
void cpu_trace_lap(const dev_cpu *d, cpu_watch *w, const dev_op *op, bool waiting, uint64_t now);
/* It has reached the end of the step. */
void cpu_trace_end(const dev_cpu *d, cpu_watch *w);

/* dev_cpu_check.c */
rotor_status cpu_check_start(dev *base, rotor_error *err);
void cpu_check_free(struct cpu_check **c);
void cpu_check_arm(dev *base, size_t n, uint64_t seed);
size_t cpu_check_products(const dev *base);
bool cpu_check_fault(const dev *base, dev_fault *out);
dev_check_stats cpu_check_get(const dev *base);
/* Rows [begin, end) of op's product y = w x stand in y: looks at what is to be looked at. floats:
 * x has its floats, too. By the thread that has made them. */
void cpu_check_rows(const dev_cpu *d, const dev_op *op, const kern_mat *w, const kern_act *x,
                    bool floats, const cpu_out *y, size_t begin, size_t end);

/* dev_cpu_head.c */
rotor_status cpu_add_staged(dev *base, const kern_mat *w, rotor_error *err);
void cpu_screen(dev *base, dev_buf src, uint32_t first, uint32_t n_rows);
bool cpu_find(dev *base, uint32_t row, const dev_want *want, dev_found *found);
uint64_t cpu_head_bytes(const struct cpu_head *h); /* memory */
void cpu_head_free(struct cpu_head **h);

#endif
