/* SPDX-License-Identifier: MIT
 *
 * train: learning ternary networks. A decoder with the engine's own forward arithmetic (ternary
 * weights, int8 activations, integer products), straight-through gradients into float shadow
 * weights, AdamW; data, checkpoints and export around it.
 *
 * From the bottom up: a net is one flat float vector of parameters with a layout; a pass turns
 * (net, tokens) into a loss and a gradient vector of the same layout; an optimiser moves the net;
 * a run ties them to data, schedule, checkpoints and log.
 *
 * Deterministic: the same file, data, settings and seed give the same bits at any number of
 * threads, and across a kill and a resume.
 * Threading: objects are used by one thread at a time; work is shared over the pool.
 */
#ifndef TRAIN_H
#define TRAIN_H

#include "base/base.h"
#include "file/file.h"
#include "kern/kern.h"
#include "model/model.h"
#include "par/par.h"
#include "text/text.h"

/* ---- The network ----------------------------------------------------------------------------- */

/* Shape letters as in docs/shapes.md. The architecture is the engine's "bitnet-b1.58": pre-norm,
 * rotary positions (halves paired), grouped attention, sub-norms before o and down,
 * relu^2(gate) * up, tied head. */
typedef struct train_shape {
    uint32_t n_vocab;   /* V */
    uint32_t n_embd;    /* D, multiple of 4 */
    uint32_t n_layer;   /* L */
    uint32_t n_head;    /* H */
    uint32_t n_head_kv; /* K, divides H */
    uint32_t d_head;    /* d, even; H * d is a multiple of 4 */
    uint32_t n_ff;      /* F, multiple of 4 */
    uint32_t n_ctx;     /* T: longest row of tokens */
    float rope_base;    /* theta */
    float eps;          /* of every norm */
    bool full_float;    /* the full-precision twin: plain float products, nothing quantised */
    uint32_t lora_rank; /* 0: all weights learn. Else the network is a train_frozen, and what learns
                           is A [rank, cols] and B [rows, rank] beside every projection */
    float lora_alpha;   /* y += alpha / rank * B (A x) */
} train_shape;

/* ROTOR_E_ARG names the number that does not fit. */
rotor_status train_shape_check(const train_shape *s, rotor_error *err);

typedef enum train_role {
    TRAIN_EMBD,          /* [V, D], float: also the head */
    TRAIN_ATTN_NORM,     /* [D] */
    TRAIN_Q,             /* [H*d, D], ternary in the forward pass, like the six below */
    TRAIN_K,             /* [K*d, D] */
    TRAIN_V,             /* [K*d, D] */
    TRAIN_ATTN_SUB_NORM, /* [H*d] */
    TRAIN_O,             /* [D, H*d] */
    TRAIN_FFN_NORM,      /* [D] */
    TRAIN_GATE,          /* [F, D] */
    TRAIN_UP,            /* [F, D] */
    TRAIN_FFN_SUB_NORM,  /* [F] */
    TRAIN_DOWN,          /* [D, F] */
    TRAIN_OUT_NORM,      /* [D] */
    TRAIN_N_ROLES
} train_role;

typedef enum train_half { TRAIN_WHOLE, TRAIN_LORA_A, TRAIN_LORA_B } train_half;

/* One tensor inside the flat vector of what learns, in file order: embd, layers, out_norm; or A and
 * B of every projection. */
typedef struct train_tensor {
    train_role role; /* which */
    uint32_t layer;  /* of it; 0 for embd and out_norm */
    train_half half; /* the tensor itself, or A or B beside it */
    uint32_t rows;   /* outputs; 1 for norms */
    uint32_t cols;   /* inputs */
    size_t at;       /* first float in the vector */
} train_tensor;

size_t train_n_tensors(const train_shape *s);
/* The i-th; at[] is a running sum of rows * cols. */
train_tensor train_tensor_at(const train_shape *s, size_t i);
size_t train_n_params(const train_shape *s);
/* Weights of the network itself, whatever learns. */
size_t train_n_weights(const train_shape *s);
/* Ternary in the forward pass (unless full_float). */
bool train_is_ternary(train_role r);

/* Seeded start: normal, deviation 0.02 (o and down: divided by sqrt(2 L)); norms 1. A: normal,
 * deviation sqrt(1 / (3 cols)); B: 0. */
void train_init(const train_shape *s, float *params, uint64_t seed);

/* ---- A network that stands still (frozen.c) -------------------------------------------------- */

/* What an adapter learns beside: a model as the engine runs it. */
typedef struct train_frozen {
    model *m;      /* owned: codes and scales of its projections */
    float *fixed;  /* owned: embedding and norms, train_fixed_at; NULL until loaded */
    uint64_t hash; /* of all of these; 0 until loaded */
} train_frozen;
/* Opens a model and checks that an adapter can learn beside it. */
rotor_status train_frozen_open(train_frozen *f, const char *path, par_pool *pool,
                               const base_log *log, rotor_error *err);
/* Its shape; n_ctx, full_float and what is about adapters are left alone. */
void train_frozen_shape(const train_frozen *f, train_shape *s);
rotor_status train_frozen_load(train_frozen *f, const train_shape *s, rotor_error *err);
void train_frozen_close(train_frozen *f);
/* Floats of embedding and norms, and where those of a role begin. */
size_t train_n_fixed(const train_shape *s);
size_t train_fixed_at(const train_shape *s, train_role role, uint32_t layer);

/* ---- A pass: loss and gradient --------------------------------------------------------------- */

typedef struct train_pass train_pass;

typedef struct train_memory {
    uint64_t params, grads, moments; /* bytes of the vectors: 4, 4 and 8 per parameter */
    uint64_t frozen;                 /* of a network that stands still */
    uint64_t activations;            /* of a pass */
    uint64_t scratch;                /* of a pass, all threads */
} train_memory;
/* What a pass over n_rows rows of n_ctx tokens needs; recompute as below. */
train_memory train_memory_of(const train_shape *s, uint32_t n_rows, bool recompute, int n_threads);

/* recompute: keep only each layer's input and run the layer again in the backward pass. */
rotor_status train_pass_create(train_pass **out, const train_shape *s, uint32_t n_rows,
                               bool recompute, const kern *k, par_pool *pool, rotor_error *err);
void train_pass_free(train_pass **p);
/* With lora_rank, before train_forward: the loaded network beside which the adapter stands.
 * Borrowed until another one is set. */
void train_pass_beside(train_pass *p, const train_frozen *f);

/* A batch: rows of n_tok tokens each, predicting the next one. Borrowed. */
typedef struct train_batch {
    uint32_t n_rows;        /* <= of the pass */
    uint32_t n_tok;         /* <= n_ctx */
    const uint32_t *token;  /* [n_rows, n_tok] inputs */
    const uint32_t *target; /* [n_rows, n_tok]; TRAIN_NO_TARGET: no loss there */
} train_batch;
#define TRAIN_NO_TARGET UINT32_MAX

/* Mean cross-entropy in nats over the targets of the batch. ROTOR_E_FORMAT names the layer where
 * the first NaN or infinity stands. */
rotor_status train_forward(train_pass *p, const float *params, const train_batch *b, double *loss,
                           rotor_error *err);
/* After train_forward, whose batch and parameters are still unchanged; once:
 * grads += weight * d(mean loss) / d(params). */
void train_backward(train_pass *p, float weight, float *grads);
/* Logits float[V] of token t of row r of the last train_forward (to compare with the engine). */
void train_logits(train_pass *p, uint32_t r, uint32_t t, float *logits);

/* ---- The optimiser --------------------------------------------------------------------------- */

typedef struct train_adamw {
    float beta1, beta2, eps; /* 0.9, 0.95, 1e-8 */
    float clip;              /* most allowed norm of the whole gradient; 0: off */
} train_adamw;
train_adamw train_adamw_default(void);

/* The vectors of a run, train_n_params floats each. */
typedef struct train_vectors {
    float *params; /* shadow weights */
    float *grads;  /* of the step */
    float *m, *v;  /* moments */
} train_vectors;

typedef struct train_step {
    uint64_t number; /* from 1 */
    float lr, decay; /* of this step */
} train_step;

/* One step: clips the gradient, updates moments and parameters; decoupled weight decay on matrices,
 * none on norms. *norm: of the gradient before clipping. */
void train_adamw_step(const train_shape *s, const train_adamw *opt, train_step step,
                      train_vectors *x, par_pool *pool, double *norm);

/* Two stages, as the BitNet papers: warm-up to lr, cosine towards lr * 0.1 over all steps, with
 * both learning rate and weight decay cut at the half: lr to two thirds, decay to zero. */
typedef struct train_schedule {
    float lr;            /* highest */
    float decay;         /* weight decay of the first stage */
    uint64_t warm_steps; /* linear warm-up */
    uint64_t steps;      /* in all */
    bool one_stage;      /* plain cosine, constant decay */
} train_schedule;
void train_schedule_at(const train_schedule *s, uint64_t step, float *lr, float *decay);

/* ---- Data (documents.c, token_file.c) ----------------------------------------------------------
 */

/* A stretch of a document. */
typedef struct train_part {
    base_str text;  /* UTF-8 */
    bool learn;     /* its tokens count in the loss */
    bool ends_turn; /* the end-of-turn token follows, counted likewise */
} train_part;

/* Told of each document of a file; anything but ROTOR_OK ends the reading. */
typedef rotor_status (*train_doc_fn)(void *user, const train_part *parts, size_t n,
                                     rotor_error *err);
/* A text, cut where "<|endoftext|>" stands; or, when the name ends in .jsonl, one conversation a
 * line: {"messages": [{"role", "content"} …]} or a pair "prompt"/"completion",
 * "question"/"answer", "instruction"/"output". Of conversations only answers count in the loss.
 * Invalid UTF-8 is refused with its position. */
rotor_status train_read_docs(const char *path, train_doc_fn fn, void *user, rotor_error *err);

/* What stands for the vocabulary in our files: every text and type of it. */
uint64_t train_vocab_hash(const text_vocab *v);
/* The token behind every turn of a conversation: the first end-of-turn token there is, else the
 * end of text. */
uint32_t train_end_of_turn(const text_vocab *v);

/* A token file (docs/formats.md), mapped. Tokens carry TRAIN_UNTAUGHT when they do not count as a
 * target. */
#define TRAIN_UNTAUGHT 0x80000000u
typedef struct train_tokens {
    base_file file;               /* mapped */
    uint32_t n_vocab;             /* of the vocabulary they were made with */
    uint64_t vocab_hash;          /* of it */
    uint64_t source_hash;         /* of the texts and how they were cut */
    uint64_t content_hash;        /* of the tokens */
    uint64_t n_train, n_held;     /* tokens to learn from and to measure with */
    const uint32_t *train, *held; /* [n_train], [n_held] */
} train_tokens;

typedef struct train_texts {
    const char *const *files; /* [n_files] texts and .jsonl */
    size_t n_files;           /* at least 1 */
    const char *held;         /* measured with this file; NULL: with every twentieth piece */
} train_texts;
/* Encodes the texts and writes the token file, unless path holds just that already. */
rotor_status train_tokens_make(const char *path, const train_texts *texts, const text_vocab *v,
                               rotor_error *err);
rotor_status train_tokens_open(train_tokens *t, const char *path, rotor_error *err);
void train_tokens_close(train_tokens *t);
bool train_is_token_file(const char *path);

/* Windows of n_tok tokens and the one behind them that tokens[n] holds; at least 1. */
uint64_t train_n_windows(uint64_t n, uint32_t n_tok);
/* The first token of the window that comes `row`-th: every epoch is another shuffled walk through
 * all windows, made from seed and epoch alone. */
uint64_t train_window_at(uint64_t n, uint32_t n_tok, uint64_t seed, uint64_t row);
/* Input and targets of the window at token `at`. */
void train_window_read(const uint32_t *tokens, uint64_t at, uint32_t n_tok, uint32_t *token,
                       uint32_t *target);

/* ---- A vocabulary (bpe.c, bpe_file.c) -------------------------------------------------------- */

typedef struct train_tokenizer_options {
    const char *const *files;                                    /* [n_files] texts and .jsonl */
    size_t n_files;                                              /* at least 1 */
    uint32_t n_vocab;                                            /* tokens, at least 258 */
    const char *out;                                             /* GGUF file to write */
    bool (*progress)(void *user, uint64_t done, uint64_t total); /* NULL: none; false cancels */
    void *user;                                                  /* passed to progress */
} train_tokenizer_options;
/* Learns byte-level BPE and writes a vocabulary-only GGUF file: id 0 is the end (and beginning) of
 * a text, 1 the end of a turn. The same texts give the same file. */
rotor_status train_tokenizer(const train_tokenizer_options *o, rotor_error *err);
/* The conversation format of models trained here. */
extern const char train_chat_template[];

/* ---- Writing models (export_gguf.c, export_hf.c) --------------------------------------------- */

/* A trained network on its way out. Borrowed. */
typedef struct train_model {
    const train_shape *s;        /* not full_float: the engine rounds */
    const float *params;         /* shadow weights */
    const file_model *tokenizer; /* GGUF whose tokenizer.* keys are copied; or of `folder` */
    const model *folder;         /* HF folder with the tokenizer instead; NULL: none */
    const char *name;            /* general.name */
    const char *type;            /* of ternary matrices: a ternary type's name; F32 or BF16: their
                                    shadow weights */
    const char *head_type;       /* of the embedding: any type that can be encoded */
} train_model;
/* What an unknown or unfit type is told by, before anything is written. *n_bytes: of all tensors.
 */
rotor_status train_export_check(const train_model *m, uint64_t *n_bytes, rotor_error *err);
rotor_status train_export_gguf(const train_model *m, const char *path, rotor_error *err);
/* A folder with packed safetensors, config.json, generation_config.json, tokenizer.json and
 * tokenizer_config.json; type is not used, head_type must be F32, F16 or BF16. */
rotor_status train_export_hf(const train_model *m, const char *folder, rotor_error *err);

/* ---- Adapters (adapter_file.c, adapter_merge.c)
 * ------------------------------------------------------ */

/* An adapter on its way out. Borrowed. */
typedef struct train_adapter {
    const train_shape *s;    /* rank, alpha, and the network's sizes */
    const float *params;     /* [train_n_params] A and B */
    const char *name, *arch; /* general.name, general.architecture */
} train_adapter;
/* A GGUF adapter file; type: F32, F16 or BF16. */
rotor_status train_adapter_save(const char *path, const train_adapter *a, const char *type,
                                rotor_error *err);

typedef struct train_merged {
    uint64_t n, changed; /* ternary weights; of which with another code than before */
} train_merged;
/* What merging and measuring the result need beside a run. */
uint64_t train_merge_bytes(const train_shape *s);
/* Says what keeps a model file from being merged into. */
rotor_status train_merge_check(const file_model *from, const train_shape *s, rotor_error *err);
/* Writes the file `from` anew with W + alpha / r B A in place of W, codes by absmean, the scale
 * that fits them best. f: the same file. */
rotor_status train_merge(const train_frozen *f, const file_model *from, const train_shape *s,
                         const float *params, const char *path, train_merged *report,
                         rotor_error *err);

/* ---- Starting from a master (start.c) -------------------------------------------------------- */

/* Opens a GGUF file or HF folder whose projections are shadow weights, and checks that a run can
 * start from it and be written. Nothing is rounded: for train_start_params, not to run. */
rotor_status train_start_open(model **out, const char *path, const base_log *log, rotor_error *err);
/* Its shape; n_ctx only if that is 0, full_float is left alone. */
void train_start_shape(const model *m, train_shape *s);
/* Its weights, bit for bit, for a shape that may differ in n_ctx. */
rotor_status train_start_params(const model *m, const train_shape *s, float *params,
                                rotor_error *err);

/* ---- Checkpoints (checkpoint.c) -------------------------------------------------------------- */

/* What a run is made of: two runs with the same settings give the same bits. */
typedef struct train_settings {
    train_shape shape;       /* of the network */
    train_schedule schedule; /* rates over the steps */
    train_adamw opt;         /* optimiser */
    uint32_t batch;          /* rows per step */
    uint32_t accumulate;     /* parts in which they are computed; divides batch */
    uint64_t seed;           /* of the first weights and the order */
    uint64_t vocab_hash;     /* of the tokenizer */
    uint64_t content_hash;   /* of the tokens */
    uint64_t frozen_hash;    /* of the network an adapter learns beside; 0 without one */
} train_settings;

/* Everything a run goes on from: written whole or not at all. */
rotor_status train_checkpoint_save(const char *path, const train_settings *set, uint64_t step,
                                   const train_vectors *x, rotor_error *err);
/* ROTOR_E_FORMAT: damaged; ROTOR_E_ARG names the first setting that differs from set. *step and x
 * are written only on success. */
rotor_status train_checkpoint_load(const char *path, const train_settings *set, uint64_t *step,
                                   train_vectors *x, rotor_error *err);
/* Only how far it got and how far it was going. */
rotor_status train_checkpoint_peek(const char *path, uint64_t *step, uint64_t *steps,
                                   rotor_error *err);

/* ---- The log of a run (run_log.c) ------------------------------------------------------------ */

typedef struct train_row {
    uint64_t step;    /* from 1 */
    double loss;      /* of the batch */
    double held;      /* of held-out text; NaN: not measured */
    double tok_per_s; /* of the step */
} train_row;
typedef struct train_log {
    train_row *rows; /* [n], owned */
    size_t n, cap;   /* used, allocated */
} train_log;
rotor_status train_log_add(train_log *l, train_row row, rotor_error *err);
/* Rows of a CSV file up to a step; a file that is empty or does not exist has none. One that is no
 * log, or damaged before that step, is refused: the run would write over it. */
rotor_status train_log_read(train_log *l, const char *path, uint64_t last_step, rotor_error *err);
/* "step,loss,heldout_loss,tok_per_s", and the plot. */
rotor_status train_log_write_csv(const train_log *l, const char *path, rotor_error *err);
rotor_status train_log_write_svg(const train_log *l, const char *path, rotor_error *err);
void train_log_free(train_log *l);

/* ---- Runs (run.c) ---------------------------------------------------------------------------- */

typedef struct train_report {
    train_row row;       /* as logged */
    uint64_t steps;      /* in all */
    double norm, left_s; /* of the gradient; seconds still needed, a guess */
    float lr;            /* of the step */
    bool saved;          /* a checkpoint was written */
} train_report;

typedef struct train_run_options {
    train_settings set;           /* n_vocab and hashes are filled in by the run */
    uint64_t save_every;          /* steps, at least 1 */
    uint64_t eval_every;          /* steps, at least 1 */
    uint32_t eval_rows;           /* windows of held-out text, at most */
    bool recompute, resume;       /* see rotor_train_options */
    int n_threads;                /* of the pool */
    unsigned cpu;                 /* CPU_* flags for the kernels */
    train_texts texts;            /* to learn from; one token file stands for all */
    const char *tokenizer;        /* GGUF file */
    const char *start;            /* master to start from, which gives sizes and tokenizer; NULL */
    const char *out, *log;        /* model or adapter; CSV or NULL */
    const char *merge;            /* model with the adapter in it; or NULL */
    const char *type, *head_type; /* of the export */
    bool (*on_step)(void *user, const train_report *r); /* false: save and stop; or NULL */
    void *user;                                         /* passed to on_step */
    base_log say;                                       /* what was decided */
} train_run_options;

typedef struct train_run train_run;
/* Checks and reads the tokenizer. Strings are borrowed until close. */
rotor_status train_run_open(train_run **out, const train_run_options *opt, rotor_error *err);
void train_run_close(train_run **r);
const train_shape *train_run_shape(const train_run *r);
uint32_t train_run_rows(const train_run *r); /* of a pass */
rotor_status train_run_model(const train_run *r, const char *type, const char *head_type,
                             train_model *m, rotor_error *err);
/* With lora_rank, after a run: the adapter as another file. */
rotor_status train_run_adapter(const train_run *r, const char *path, const char *type,
                               rotor_error *err);
rotor_status train_run_go(train_run *r, rotor_error *err);
rotor_status train_run_logits(train_run *r, const uint32_t *tokens, uint32_t n, float *logits,
                              rotor_error *err);

#endif
