/* SPDX-License-Identifier: MIT
 *
 * run: the forward pass, the KV cache and sessions.
 *
 * An engine holds a model on a device with one pool of cache pages; sessions are token timelines
 * over that pool and share the pages of a common prefix. run_eval is the one way anything is
 * computed: it appends one token per row to the rows' sessions in a single step.
 * forward.c is the forward pass, top to bottom.
 *
 * Threading: an engine and its sessions are used by one thread at a time.
 */
#ifndef RUN_H
#define RUN_H

#include "base/base.h"
#include "dev/dev.h"
#include "model/model.h"

typedef struct run_engine run_engine;
typedef struct run_session run_session;

/* RUN_HEAD_EXACT: the file's head, but the best of its logits can be had for a fraction of its
 * bytes (run_candidates). */
typedef enum run_head { RUN_HEAD_FILE, RUN_HEAD_Q8, RUN_HEAD_Q6, RUN_HEAD_EXACT } run_head;

/* Opens a device in place of dev_gpu_create: a driver with something in between. */
typedef rotor_status run_open_gpu(dev **out, const dev_shape *shape, rotor_error *err);

typedef struct run_options {
    unsigned cpu;        /* CPU_* flags for the kernel table */
    kern_kv kv;          /* cache type */
    bool float_act;      /* --act f32 */
    bool encoder_int8;   /* float matrices of an encoder are copied as Q8_0; not with float_act */
    run_head head;       /* precision of the output head */
    uint32_t n_pages;    /* cache pages of KERN_KEYS positions, over all sessions */
    uint32_t n_ctx;      /* positions of the longest session: some models rotate long contexts
                            otherwise; 0: as many as there are pages */
    uint32_t n_sessions; /* sessions these are for: layers with a window keep only that of each; 0:
                            they keep everything */
    uint32_t chunk;      /* rows per step at most (prompt chunk); 0: run_default_chunk */
    uint32_t max_logits; /* rows with logits per step at most; 0: 16 */
    bool on_demand;      /* memory does not hold the mapped weights: see dev_shape */
    uint64_t solo_bytes; /* steps that read fewer weight bytes (times rows) than this run on the
                            calling thread alone; 0: 4 MiB; 1: never */
    model_pool pool;     /* not UNSAID: the engine makes vectors of texts (run_embed), on the CPU,
                            and has neither head nor logits; max_logits is texts per step */
    const base_log *log; /* may be NULL */
    const model_adapter *adapter;  /* of this model, borrowed; NULL: none */
    float adapter_strength;        /* multiplies its scale */
    dev_api device;                /* where it runs; a GPU that cannot do it, or fails later, is
                                      given up for the CPU with one warning in the log */
    size_t device_index;           /* of dev_list */
    const char *device_cache;      /* folder for its compiled kernels; NULL: none */
    const dev_facts *device_facts; /* its limits, by which the model is placed; borrowed for the
                                      call; NULL: all of it is tried */
    uint32_t device_layers;        /* it takes the first so many layers and the CPU the rest; 0: as
                                      many as fit, all of them or more: the whole model. DEV_CPU:
                                      three devices on the CPU, for tests of the seams */
    bool prompt_apart;             /* prompts run on another device, which is this one … */
    dev_api prompt_device;         /* … */
    size_t prompt_index;           /* of dev_list … */
    const dev_facts *prompt_facts; /* … and its limits, borrowed likewise. It has to hold the whole
                                      model; one that cannot leaves prompts to `device`, with one
                                      warning in the log */
    float self_check;              /* share of the time for checks while running (self_check.c);
                                      0: none; 1 and more: without limit */
    base_trace *trace;             /* where steps and, on the CPU, their ops are told; borrowed;
                                      NULL: nowhere */
    run_open_gpu *open_gpu;        /* of tests: opens every GPU that is asked for; NULL: none */
} run_options;

/* Rows per step where nobody asks for a number: 256, for mixtures of experts 512. */
uint32_t run_default_chunk(const model_hparams *hp);
/* Bytes of a step's buffers and of the head's copy where there is one, about; 0 as in run_options.
 */
uint64_t run_work_bytes(const model_hparams *hp, uint32_t chunk, uint32_t max_logits,
                        bool copies_head);
/* Bytes of the copies of an encoder's matrices that an engine for vectors makes; 0: of a decoder.
 */
uint64_t run_copy_bytes(const model *m, bool int8);
/* Positions a session of n_tok keeps in layers with a window, where other layers have none: a whole
 * number of pages; n_tok, where that is fewer. chunk as in run_options. */
uint32_t run_ring_positions(const model_hparams *hp, uint32_t n_tok, uint32_t chunk);
/* model and pool are borrowed. */
rotor_status run_create(run_engine **out, const model *m, par_pool *pool, const run_options *opt,
                        rotor_error *err);
void run_free(run_engine **e); /* after all its sessions */
const model *run_model(const run_engine *e);
uint32_t run_chunk(const run_engine *e);      /* rows per step */
uint32_t run_max_logits(const run_engine *e); /* rows with logits per step */
uint32_t run_free_pages(const run_engine *e);
/* Of layers that keep only their window; UINT32_MAX: there are none. */
uint32_t run_free_ring_pages(const run_engine *e);
/* Drops marks until n of these are free, or no mark is left. */
void run_make_ring_room(run_engine *e, uint32_t n);
uint64_t run_memory_bytes(const run_engine *e);     /* cache, buffers, repacked head */
uint64_t run_step_bytes(const run_engine *e);       /* weight bytes a decode step reads */
uint64_t run_head_bytes(const run_engine *e);       /* of these, the output head's; staged: what its
                                                       tokens have read so far, on average */
uint64_t run_head_all_bytes(const run_engine *e);   /* of the head where all logits are computed */
const char *run_head_name(const run_engine *e);     /* "q8", "file (F16)" … */
const char *run_device_name(const run_engine *e);   /* "cpu", or what the driver calls it */
dev_api run_device(const run_engine *e);            /* DEV_CPU, too, when another was given up */
const char *run_prompt_device(const run_engine *e); /* where prompts run, when apart; or NULL */
uint32_t run_device_layers(const run_engine *e);    /* layers on it; the rest is on the CPU */
dev_counters run_counters(const run_engine *e);
rotor_status run_time_ops(run_engine *e, bool on, rotor_error *err); /* dev_time_ops */
size_t run_op_times(const run_engine *e, dev_op_time *out, size_t max);

base_trace *run_trace(const run_engine *e); /* run_options.trace */

/* What has been checked since the engine was made (run_options.self_check). */
typedef struct run_check_stats {
    uint64_t steps;            /* steps begun */
    uint64_t logits;           /* rows of logits looked at, each whole */
    uint64_t values;           /* activations and logits looked at */
    uint64_t products;         /* products of which a row was done twice … */
    uint64_t macs;             /* … and the multiplications of that */
    uint64_t weight_bytes;     /* of weights summed again */
    uint64_t weight_all_bytes; /* of weights with sums; 0: there are none */
    uint64_t total_ns;         /* steps took, checks included … */
    uint64_t spent_ns;         /* … of which the checks */
    uint64_t faults;           /* found */
    char fault[496];           /* the first, as a line; "" */
} run_check_stats;
bool run_check_get(const run_engine *e, run_check_stats *out); /* false: there are no checks */

/* A session of at most max_tok positions. */
rotor_status run_session_create(run_session **out, run_engine *e, uint32_t max_tok,
                                rotor_error *err);
void run_session_free(run_session **s);
run_engine *run_session_engine(const run_session *s);
uint32_t run_session_max(const run_session *s);
uint32_t run_session_len(const run_session *s); /* positions in the timeline */
const uint32_t *run_session_tokens(const run_session *s);
/* The most positions, n at most, that can be kept in going back to n: n, unless layers keep only
 * their window and it is no longer there. Then that of a mark before it, or 0. */
uint32_t run_session_reach(const run_session *s, uint32_t n);
/* Keeps the first run_session_reach(s, n) positions, gives back pages, and returns how many. */
uint32_t run_session_rewind(run_session *s, uint32_t n);
/* Remembers how to come back here, as far as pages allow: for the end of a prompt, and (end false)
 * in the middle of one, where that is a while since the last. A session remembers few places. */
void run_session_mark(run_session *s, bool end);
/* Makes dst (empty, same engine) continue from the first n positions of src, sharing pages.
 * ROTOR_E_UNSUPPORTED: n is not run_session_reach(src, n). */
rotor_status run_session_fork(run_session *dst, const run_session *src, uint32_t n,
                              rotor_error *err);

/* The session as a file, with a note of the caller's (any bytes, at most 64 MiB). The file appears
 * under its name when it is whole. */
rotor_status run_session_save(run_session *s, const char *path, base_str note, rotor_error *err);
/* Makes the session what that file holds: it goes on bit for bit as the saved one would have.
 * Everything is checked before anything changes; ROTOR_E_UNSUPPORTED: the file is of another model
 * or kind of cache. After ROTOR_E_FULL or ROTOR_E_DEVICE the session may be empty. note (may be
 * NULL) receives the note. */
rotor_status run_session_load(run_session *s, const char *path, base_buf *note, rotor_error *err);

/* ---- Sessions kept in a folder (prefix_store.c) ------------------------------------------------
 * Files of sessions, found again by the tokens they begin with, in this process or a later one.
 * Nothing here fails: what cannot be written or read is told in one line of the log. */

typedef struct run_store run_store;

typedef struct run_store_options {
    const char *dir;    /* the folder, made if need be (0700); copied */
    uint64_t max_bytes; /* of all its files together; 0: 8 GiB */
    uint32_t min_tok;   /* shortest beginning that is kept or loaded; 0: as far as it pays, measured
                           by what its tokens and its bytes have cost so far */
} run_store_options;

typedef struct run_store_facts {
    uint64_t hits, misses;  /* beginnings that were loaded; that no file had more of */
    uint64_t loaded_bytes;  /* of files read */
    uint64_t written;       /* files … */
    uint64_t written_bytes; /* … and their bytes */
    uint64_t evicted;       /* files removed to keep to max_bytes */
    uint64_t refused;       /* files removed because they were damaged */
    uint64_t bytes;         /* in the folder now */
    uint32_t n_files;       /* of this model, known now */
} run_store_facts;

/* Fails only where the folder cannot be made or listed. e is borrowed. */
rotor_status run_store_open(run_store **out, run_engine *e, const run_store_options *opt,
                            rotor_error *err);
void run_store_close(run_store **s);
/* The file that holds more than `have` of tokens[n], and is worth loading: positions it has in all;
 * 0: there is none. It is remembered for run_store_load. */
uint32_t run_store_find(run_store *s, const uint32_t *tokens, uint32_t n, uint32_t have);
/* Loads it. False: `to` is empty. */
bool run_store_load(run_store *s, run_session *to);
/* Writes the session, as far as it can be gone on from, unless a file has it already or it is too
 * short. */
void run_store_keep(run_store *s, const run_session *from);
/* What a prompt has cost: so many tokens evaluated in so many microseconds. */
void run_store_learn(run_store *s, uint32_t n_tok, uint64_t us);
/* Files are written on a thread of the store's own: settles what has been written. True: something
 * is under way, or waits; ask again. */
bool run_store_is_writing(run_store *s);
/* Waits until all is written. */
void run_store_flush(run_store *s);
run_store_facts run_store_get_facts(const run_store *s);

/* Of the logits of its rows the best k are going to be asked for (run_candidates), and no others if
 * that can be helped: a device looks for them in the same step. 0, as at first: nobody
 * knows. */
void run_session_expect(run_session *s, uint32_t k);

typedef struct run_row {
    run_session *s;   /* timeline to extend; its rows in one call are in order */
    uint32_t token;   /* < V */
    bool want_logits; /* logits after this token */
} run_row;

/* Appends rows[n] (n <= run_chunk, at most run_max_logits wanted) in one step. On failure no
 * session has changed. ROTOR_E_FULL: a session or the page pool is full. */
rotor_status run_eval(run_engine *e, const run_row *rows, uint32_t n, rotor_error *err);
/* The same on a device that chooses tokens itself (run_can_ahead): draw[i] says how from the i-th
 * wanted row, and run_chosen what it was. False: none was chosen, and the logits are there to be
 * asked for as after run_eval. */
rotor_status run_eval_draw(run_engine *e, const run_row *rows, uint32_t n, const dev_draw *draw,
                           rotor_error *err);
bool run_chosen(run_engine *e, uint32_t i, uint32_t *id);
/* Logits float[V] of the i-th wanted row of the last run_eval. With RUN_HEAD_EXACT they are
 * computed now, for all wanted rows together. */
const float *run_logits(run_engine *e, uint32_t i);

/* The best of those logits, and those of chosen tokens, bit for bit as run_logits would give them:
 * everything want asks for, and perhaps more. False: not this way (another head, too many rows,
 * too close a race, or more than the session expected); take run_logits. Rows are screened four at
 * a time, as far as they are asked for: ask in ascending order. */
typedef dev_want run_want;
typedef dev_found run_found;
bool run_candidates(run_engine *e, uint32_t i, const run_want *want, run_found *found);
/* What RUN_HEAD_EXACT has read and kept so far; false with another head. */
bool run_head_stats(const run_engine *e, dev_staged_stats *out);

/* ---- Vectors of texts (vectors.c) --------------------------------------------------------------
 * An engine with a kind of pooling. Many texts share a step; an encoder's text is in one step
 * whole, so that chunk is the length of its longest. */

typedef struct run_text {
    const uint32_t *ids; /* [n] tokens */
    uint32_t n;          /* how many, at least 1 */
    uint32_t n_first;    /* of these in the first of a pair of texts; 0: there is one text */
} run_text;

/* Tokens of the longest text. */
uint32_t run_embed_max(const run_engine *e);
/* out[n, model_vector_width]: the vector of each text, of whatever length. Needs the cache to be
 * empty, and leaves it so. ROTOR_E_FULL: a text is longer than run_embed_max or than the cache. */
rotor_status run_embed(run_engine *e, const run_text *texts, size_t n, float *out,
                       rotor_error *err);

/* ---- One step ahead ----------------------------------------------------------------------------
 * On a device that chooses tokens itself. Between run_begin and the run_end or run_drop that leaves
 * no step under way, only these are called for the engine, and of the session only what reads;
 * afterwards there are no logits to ask for until the next run_eval. */

bool run_can_ahead(const run_engine *e);
/* Starts the step that evaluates one more token and chooses the next. A second one may be started
 * before the first has ended: its token is DEV_CHOSEN. On failure it has not begun. */
rotor_status run_begin(run_session *s, uint32_t token, const dev_draw *draw, rotor_error *err);
/* Waits for the oldest step under way: the token it chose, which is now also the timeline's where
 * another step evaluates it. False: it chose none (the device has failed, or no logit is finite);
 * the timeline is as if no step under way had begun, and run_eval is the way on. */
bool run_end(run_session *s, uint32_t *id);
/* Takes back what is under way, if anything. */
void run_drop(run_session *s);

/* Called between chunks with the tokens done; return false to stop (ROTOR_E_CANCELLED). */
typedef bool (*run_progress)(void *user, uint32_t done_tok, uint32_t total_tok);

/* Makes the timeline equal tokens[n], n >= 1: keeps the common prefix, rewinds, evaluates the
 * rest in chunks. Afterwards run_logits(e, 0) is for the last token. *n_reused may be NULL. */
rotor_status run_session_sync(run_session *s, const uint32_t *tokens, uint32_t n,
                              run_progress progress, void *user, uint32_t *n_reused,
                              rotor_error *err);

/* A matrix of the model in the words of kernels. Borrowed. */
static inline kern_mat run_mat(const model_mat *w) {
    return (kern_mat){.data = w->data,
                      .type = w->type,
                      .rows = w->rows,
                      .cols = w->cols,
                      .row_bytes = w->row_bytes,
                      .scale = w->scale,
                      .row_scale = w->row_scale};
}

#endif
