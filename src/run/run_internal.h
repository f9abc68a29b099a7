/* SPDX-License-Identifier: MIT
 *
 * run_internal: the structures of run's files. engine.c owns the engine, device.c makes its device
 * (placement.c says how much of the model goes there), output_head.c and head_copy.c the head,
 * layer_copy.c an encoder's matrices,
 * forward.c records the pass, session.c keeps timelines and pages, marks.c what it takes to go back
 * in them, self_check.c checks steps (weight_parts.c knows what they read), session_file.c puts a
 * session in a file, prefix_store.c many in a folder, of a model that
 * fingerprint.c knows again.
 */
#ifndef RUN_INTERNAL_H
#define RUN_INTERNAL_H

#include "run/placement.h"
#include "run/run.h"

/* Cache pages and who holds them. */
typedef struct run_pages {
    uint32_t *refs;  /* [n] sessions that hold the page; 0: free */
    uint32_t *free;  /* [n_free] stack of free pages */
    uint32_t n;      /* all pages */
    uint32_t n_free; /* on the stack */
} run_pages;

/* A buffer of an adapter's products, found again by its width. */
typedef struct run_lora_buf {
    size_t width; /* floats per row */
    int turn;     /* which of several of one width */
    dev_buf b;    /* handle */
} run_lora_buf;

/* Buffers of the forward pass; widths in docs/shapes.md letters. */
typedef struct run_bufs {
    dev_buf x;      /* [B, D] residual stream */
    dev_buf h;      /* [B, D] normed input of a block, and its output before the add */
    dev_buf n;      /* [B, D] input of one projection, where each norms its own */
    dev_buf q;      /* [B, H*d] queries */
    dev_buf k, v;   /* [B, K*d] keys and values */
    dev_buf a;      /* [B, H*d] attention output */
    dev_buf g, u;   /* [B, F] gate and up; of a mixture: [slots, F] */
    dev_buf r;      /* [B, E] a mixture's logits of experts */
    dev_buf s;      /* [slots, D] a mixture's inputs, then outputs, of experts */
    dev_buf sg, su; /* [B, Fs] gate and up of a shared expert */
    dev_buf sd, sb; /* [B, D] its output; [B, 1] what weighs it */
    dev_buf px;     /* [picked, D] final norm of the rows with logits */
    dev_buf logits; /* [picked, V] */
    dev_buf dense[MODEL_MAX_DENSE]; /* [picked, rows] of an embedding model's dense layers */
} run_bufs;

struct run_engine {
    const model *m;          /* borrowed */
    par_pool *pool;          /* borrowed */
    run_options opt;         /* with defaults filled in */
    kern k;                  /* kernel table of this engine */
    dev *d;                  /* owned; several as one where the model is split; NULL only
                                while adrift */
    run_place place;         /* what of the model is on the device that was asked for … */
    char device_name[128];   /* … and its name */
    char prompt_name[128];   /* of the device for prompts, where opt.prompt_apart */
    run_bufs buf;            /* handles on d */
    run_lora_buf *lora_bufs; /* [n_lora_bufs], owned */
    size_t n_lora_bufs;      /* in use */
    run_pages pages;         /* of the cache */
    run_pages ring;          /* of the layers with a window, which keep only that; n 0: all layers
                                use the others */
    uint32_t ring_keep;      /* positions a session keeps in ring pages, at least */
    kern_mat head;           /* output head in use */
    uint8_t *head_copy;      /* owned: requantised head, or NULL */
    kern_mat *layer_mats; /* [n_layer * MODEL_N_PROJ] copies in use, data NULL where there is none;
                             owned; NULL: no copies */
    uint8_t *layer_copy;  /* owned: what they point into, or NULL */
    size_t layer_copy_bytes; /* of it */
    char head_name[48];      /* "q8", "file (F16)" */
    uint64_t head_bytes;     /* of the head where all logits are computed */
    bool staged;             /* the device has planes of the head: no head in the pass */
    dev_mat staged_mat;      /* staged: the file's head */
    uint32_t n_picked;       /* rows with logits in the last step */
    uint32_t n_best;         /* of each, the best so many may be asked for */
    const dev_draw *draw;    /* how a token of each is drawn: only within run_eval_draw */
    bool drawn;              /* whether that was asked of the last step */
    uint32_t screened;       /* staged: tile of DEV_STAGED_ROWS of them screened last, + 1 */
    bool have_logits;        /* staged: all logits of that step have been computed */
    uint32_t n_ahead;        /* steps begun and not ended */
    uint32_t n_rows;         /* rows of the last step, for when its device fails; 0: it cannot be
                                repeated */
    bool adrift;             /* its device has failed and the CPU is not where it was yet */
    run_session *sessions;   /* all there are, linked by next */
    float *no_logits;        /* [V] NaN: what a failed device without successor gives, owned */
    uint32_t found_id[DEV_STAGED_BEST]; /* what a device has found, for run_candidates, by id … */
    float found_value[DEV_STAGED_BEST]; /* … and their logits */
    uint32_t *token, *pos, *picked;     /* [chunk] the step being built */
    uint32_t *len;                      /* [chunk] length of each row's text, of an encoder */
    uint32_t *type;                     /* [chunk] which of two texts it is from, likewise */
    const uint32_t **table;             /* [chunk] page table of each row's session */
    const uint32_t **ring_table;        /* [chunk] the same for ring pages */
    run_row *rows;                      /* [chunk] rows of a prompt chunk */
    struct run_check *check;            /* of opt.self_check, owned; NULL: off */
    bool has_print;                     /* fingerprint is known … */
    uint64_t fingerprint;               /* … of what it does not change */
};

enum { RUN_MARKS = 6 };

/* A place to go back to (marks.c): the ring pages of the window before it. */
typedef struct run_mark {
    uint32_t pos;   /* positions that are kept by going back there */
    uint32_t first; /* block of the first page */
    uint32_t *page; /* [ceil(pos / KERN_KEYS) - first], room for run_mark_pages; borrowed */
} run_mark;

struct run_session {
    run_engine *e;            /* borrowed */
    run_session *next, *prev; /* in e->sessions */
    uint32_t max_tok;         /* positions at most */
    uint32_t len;             /* positions evaluated */
    uint32_t expect;          /* run_session_expect */
    uint32_t *tokens;         /* [max_tok], owned */
    uint32_t *pages;          /* [ceil(max_tok / KERN_KEYS)] page of each block, owned */
    uint32_t n_pages;         /* held: ceil(len / KERN_KEYS) */
    uint32_t *ring;           /* the same for layers with a window, of which … */
    uint32_t ring_first;      /* … [ring_first, n_pages) are held */
    run_mark mark[RUN_MARKS]; /* places to go back to, ascending */
    uint32_t n_marks;         /* how many */
    uint32_t *mark_pages;     /* [RUN_MARKS, run_mark_pages] their tables, owned */
};

/* engine.c: refuses positions that a model with learned ones does not have. */
rotor_status run_check_positions(const model *m, uint32_t n, rotor_error *err);
/* device.c: device, buffers, head and forward pass as e->opt asks for; a GPU that cannot do it is
 * given up for the CPU. */
rotor_status run_set_up_device(run_engine *e, rotor_error *err);
void run_drop_device(run_engine *e); /* and the head; to be set up again */
/* fallback.c: gives up a device that has failed, and brings the CPU to where it was, the rows of
 * the step at hand left out. */
rotor_status run_fall_back(run_engine *e, const char *why, rotor_error *err);
rotor_status run_come_back(run_engine *e, rotor_error *err); /* again, where that failed */
/* session.c: runs the step that run_eval has built, on the CPU where the device fails. */
rotor_status run_step(run_engine *e, rotor_error *err);
/* session.c: adds one token to its session's timeline and, as row i, to the step. */
rotor_status run_extend(run_engine *e, const run_row *row, uint32_t i, rotor_error *err);
/* session.c: first block whose positions layers that keep `keep` of them still read for position
 * pos. */
uint32_t run_ring_needs(uint32_t pos, uint32_t keep);
void run_page_release(run_pages *p, uint32_t page);
/* session.c: whether the layers with a window have all that position n reads. */
bool run_has_window(const run_session *s, uint32_t n);
/* marks.c: pages of a mark at most. */
uint32_t run_mark_pages(const model_hparams *hp);
bool run_make_marks(run_session *s); /* their tables; false: out of memory */
void run_drop_marks(run_session *s, uint32_t beyond);
bool run_shed_mark(run_engine *e); /* drops one, of any session; false: there is none */
/* The ring pages with which s goes back to n = run_session_reach(s, n): returns the block of
 * (*pages)[0]. */
uint32_t run_ring_of(const run_session *s, uint32_t n, const uint32_t **pages);
/* Gives dst, which has none, the marks of src up to `beyond`. */
void run_share_marks(run_session *dst, const run_session *src, uint32_t beyond);
/* session.c: gives an empty session pages for len positions, ring pages from block ring_first or
 * later. False, and none taken: too few are free. */
bool run_session_take_pages(run_session *s, uint32_t len, uint32_t ring_first);
/* fingerprint.c: of all that keys and values depend on; how the model is run (threads, chunk,
 * head, device) is not among it. The first time reads all weights. */
rotor_status run_fingerprint(run_engine *e, uint64_t *out, rotor_error *err);
/* session_file.c: the bytes that run_session_save would write, but for the sum at their end. */
typedef struct run_image {
    uint8_t *data;  /* [bytes], owned: base_free */
    uint64_t bytes; /* of the file */
    uint64_t step;  /* of a layer's page */
} run_image;
rotor_status run_session_image(run_session *s, base_str note, run_image *out, rotor_error *err);
/* Writes them with their sum (base_out_open_private). Any thread: it needs no engine. */
rotor_status run_image_save(run_image *i, const char *path, rotor_error *err);
/* Bytes of the file that run_session_save would write. */
uint64_t run_session_bytes(const run_session *s, size_t note_bytes);
/* What a session file says it is; whether that is true is known when it has been loaded. */
typedef struct run_peek {
    uint32_t *tokens;    /* [len], owned */
    uint32_t len;        /* positions */
    uint32_t ring_first; /* blocks that layers with a window no longer have */
    uint64_t bytes;      /* of the file */
    char note[64];       /* beginning of the note, ends with NUL */
} run_peek;
/* Reads head, tokens and note, and checks the head as run_session_load does. ROTOR_E_FORMAT: it is
 * no whole session. */
rotor_status run_session_peek(run_engine *e, const char *path, run_peek *out, rotor_error *err);
void run_peek_free(run_peek *p);
/* chores.c: work that is done in order on a thread of its own. A chore is the beginning of a
 * structure with what it needs. */
typedef struct run_chore {
    struct run_chore *next; /* of those that were not taken */
    bool done;              /* it may be taken */
} run_chore;
typedef struct run_chores run_chores;
rotor_status run_chores_create(run_chores **out, void (*work)(run_chore *), rotor_error *err);
void run_chores_add(run_chores *c, run_chore *one);
/* The oldest, if it is done; wait: until it is. NULL: there is none, or it is not. */
run_chore *run_chores_take(run_chores *c, bool wait);
/* The oldest that was not taken, from which `next` leads through the rest; NULL: none. */
run_chore *run_chores_first(const run_chores *c);
/* When all are done; what was not taken is lost. */
void run_chores_free(run_chores **c);
/* weight_parts.c: the matrices that steps read. */
typedef struct run_part {
    const char *name; /* as in the file */
    uint32_t layer;   /* UINT32_MAX: of none */
    kern_mat w;       /* what kernels read */
    uint64_t bytes;   /* of it */
} run_part;
typedef struct run_parts {
    run_part *list; /* [n], owned */
    size_t n;       /* how many */
    uint64_t bytes; /* of all */
} run_parts;
typedef struct run_bad {
    const run_part *part; /* where */
    float value;          /* what is no finite number; at row 0, column 0 it may be the scale */
    size_t row, col;      /* where in it */
} run_bad;
rotor_status run_list_parts(run_parts *p, const run_engine *e, rotor_error *err);
void run_free_parts(run_parts *p);
const run_part *run_part_at(const run_parts *p, const uint8_t *data); /* NULL: in none */
bool run_find_bad(const run_parts *p, run_bad *out); /* the first; reads all of them */

/* self_check.c: around every step of run_eval. An error of begin or end fails the step. */
rotor_status run_check_create(run_engine *e, rotor_error *err);
void run_check_free(struct run_check **c);
rotor_status run_check_begin(run_engine *e, rotor_error *err);
rotor_status run_check_end(run_engine *e, rotor_error *err);
/* Time for checks: a share of all time, saved up. */
typedef struct run_allowance {
    double share;      /* of total_ns; 1 and more: no limit */
    uint64_t total_ns; /* of steps, checks included */
    uint64_t spent_ns; /* on checks */
} run_allowance;
uint64_t run_allowance_left(const run_allowance *b); /* UINT64_MAX: no limit */
void run_allowance_add(run_allowance *b, uint64_t total_ns, uint64_t spent_ns);
/* Units of this price that can be paid, at most `most`. */
size_t run_allowance_units(uint64_t left_ns, double unit_ns, size_t most);
/* output_head.c: the head that e->opt asks for. */
rotor_status run_make_head(run_engine *e, rotor_error *err);
/* layer_copy.c: makes the copies an encoder's products want; a layer's matrix as products take it.
 */
rotor_status run_copy_layers(run_engine *e, rotor_error *err);
kern_mat run_layer_mat(const run_engine *e, const model_layer *l, model_proj p);
uint32_t run_head_type(const run_engine *e); /* the type it will have (KERN_Q8X16: as Q8_0) */
/* Requantises the model's float head to QUANT_Q8_0 or QUANT_Q6_K (head_copy.c). */
rotor_status run_copy_head(run_engine *e, uint32_t type, rotor_error *err);
/* Records the whole forward pass on e->d. */
rotor_status run_record_forward(run_engine *e, rotor_error *err);

#endif
