/* SPDX-License-Identifier: MIT
 *
 * rotor_train.h: learn a ternary language model on this machine.
 *
 *     const char *texts[] = {"stories.txt"};
 *     rotor_train_tokenizer(texts, 1, "words.gguf", NULL, &err);
 *     rotor_train_options opt = rotor_train_options_default("story");
 *     opt.data = texts;
 *     opt.n_data = 1;
 *     opt.tokenizer = "words.gguf";
 *     opt.out = "model.gguf";
 *     rotor_train_open(&train, &opt, &err);
 *     rotor_train_run(train, &err);
 *     rotor_train_close(&train);
 *
 * The network is a BitNet decoder: its projections keep float shadow weights, compute with ternary
 * ones and int8 activations exactly as the engine does, and learn through the rounding by
 * straight-through gradients. Everything is deterministic: same texts, options and seed, same model
 * to the last bit, at any number of threads and across interruptions.
 *
 * Rules of option structs, strings and errors: as in rotor.h. One thread at a time per trainer.
 */
#ifndef ROTOR_TRAIN_H
#define ROTOR_TRAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rotor_status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- A vocabulary ---------------------------------------------------------------------------- */

typedef struct rotor_tokenizer_options {
    uint32_t size;    /* sizeof(rotor_tokenizer_options) */
    uint32_t n_vocab; /* tokens, at least 258; default 4096 */
    bool (*progress)(void *user, uint64_t done, uint64_t total); /* NULL: none; false cancels */
    void *user;                                                  /* passed to progress */
} rotor_tokenizer_options;
ROTOR_API rotor_tokenizer_options rotor_tokenizer_options_default(void);

/* Learns a byte-level BPE vocabulary from texts (UTF-8; conversations when the name ends in .jsonl)
 * and writes it as a vocabulary-only GGUF file. The same texts give the same file. opt may be NULL.
 */
ROTOR_API rotor_status rotor_train_tokenizer(const char *const *files, size_t n_files,
                                             const char *out, const rotor_tokenizer_options *opt,
                                             rotor_error *err);

/* ---- A model --------------------------------------------------------------------------------- */

typedef struct rotor_train rotor_train;

/* One step, as it is logged. */
typedef struct rotor_train_step {
    uint64_t step, steps; /* done, in all */
    double loss;          /* mean cross-entropy of the step's batch, nats per token */
    double held_loss;     /* of the held-out text; NaN: not measured in this step */
    double tok_per_s;     /* of this step */
    double grad_norm;     /* of the gradient before clipping */
    double left_s;        /* guess of the time still needed, seconds */
    float lr;             /* learning rate of the step */
    bool saved;           /* a checkpoint was written */
} rotor_train_step;

typedef struct rotor_train_options {
    uint32_t size;       /* sizeof(rotor_train_options) */
    uint32_t n_layer;    /* layers */
    uint32_t n_embd;     /* width */
    uint32_t n_head;     /* query heads; each is n_embd / n_head wide */
    uint32_t n_head_kv;  /* key and value heads, divides n_head */
    uint32_t n_ff;       /* feed-forward width */
    uint32_t n_ctx;      /* tokens in a row */
    uint32_t batch;      /* rows per step */
    uint32_t accumulate; /* a step's rows are computed in so many parts, to save memory */
    uint32_t steps;      /* in all */
    uint32_t warm_steps; /* of linear warm-up; UINT32_MAX: a twentieth of steps */
    uint32_t save_every; /* steps between checkpoints; 0: a twentieth of steps */
    uint32_t eval_every; /* steps between measurements with held-out text; 0: a twentieth */
    uint32_t eval_rows;  /* rows of held-out text measured, at most; default 32 */
    float lr;            /* highest learning rate */
    float decay;         /* weight decay of the first stage; default 0.1 */
    float clip;          /* largest norm of a gradient; 0: no limit; default 1 */
    int32_t threads;     /* 0: one per processor core */
    uint64_t seed;       /* of the first weights and the order of the data */
    bool full_precision; /* the float twin, to compare with: nothing is rounded; not exported */
    bool recompute;      /* keep less and compute layers again: less memory, a third more time */
    bool one_stage;      /* plain cosine instead of the two stages of the BitNet papers */
    bool resume;         /* go on from the checkpoint of `out` */
    uint8_t zero[4];     /* 0 */
    const char *const *data; /* [n_data] texts, .jsonl conversations, or one token file */
    size_t n_data;           /* how many */
    const char *heldout;     /* text to measure with; NULL: a twentieth of the data */
    const char *tokenizer;   /* GGUF file with a vocabulary */
    const char *start;       /* a master to fine-tune: a GGUF file with float projections, as
                                rotor_train_export writes it with type BF16 or F32, or a HF folder with
                                them. It gives the tokenizer and the sizes (n_ctx too, if that is 0);
                                NULL: start anew */
    const char *out;         /* GGUF file to write; beside it: .checkpoint and .tokens */
    const char *log;         /* CSV file of steps, with a plot beside it as .svg; NULL: none */
    const char *type;        /* of the ternary matrices: "I2_S", "TQ1_0", "TQ2_0" */
    const char *head_type;   /* of the embedding: "F16", "BF16", "F32", "Q8_0" … */
    const char *cpu;         /* highest CPU level to use; NULL: all */
    bool (*on_step)(void *user, const rotor_train_step *step); /* false: save and stop; or NULL */
    void (*log_line)(void *user, int level, const char *line); /* 0 error … 3 debug; or NULL */
    void *user;                                                /* passed to both */
    uint32_t lora_rank; /* 0: all weights learn. Else `start` is a ternary model that stays as it
                           is, with its tokenizer and sizes (n_ctx 0: at most 512), and what learns
                           and is written to `out` is a low-rank adapter for it (rotor.h, lora) */
    float lora_alpha;   /* the adapter adds alpha / rank * B (A x); 0: twice the rank */
    const char *merge;  /* with lora_rank: GGUF file to write with the adapter rounded into the
                           model; the log says what that costs. NULL: none */
} rotor_train_options;
/* The options of a preset; an unknown name or NULL gives "tiny". */
ROTOR_API rotor_train_options rotor_train_options_default(const char *preset);
/* Name and one-line description of the i-th preset; NULL past the end. */
ROTOR_API const char *rotor_train_preset_name(size_t i);
ROTOR_API const char *rotor_train_preset_help(size_t i);

/* Checks the options and reads the tokenizer; trains nothing and writes nothing. */
ROTOR_API rotor_status rotor_train_open(rotor_train **out, const rotor_train_options *opt,
                                        rotor_error *err);
ROTOR_API void rotor_train_close(rotor_train **t); /* NULL is fine; *t becomes NULL */

/* What a run is going to need, by formula (docs/training.md). */
typedef struct rotor_train_plan {
    uint32_t size;             /* set by the caller: sizeof(rotor_train_plan); kept */
    uint32_t n_vocab;          /* tokens of the vocabulary */
    uint64_t n_params;         /* weights */
    uint64_t n_ternary;        /* of which ternary */
    uint64_t tok_per_step;     /* batch * n_ctx */
    uint64_t params_bytes;     /* float weights */
    uint64_t grads_bytes;      /* their gradients */
    uint64_t moments_bytes;    /* of AdamW */
    uint64_t activation_bytes; /* kept for the backward pass */
    uint64_t scratch_bytes;    /* ternary copies and working memory */
    uint64_t total_bytes;      /* all of these */
    uint64_t model_bytes;      /* tensors of the exported model or adapter */
    uint64_t n_learnt;         /* weights that learn: n_params, or those of the adapter */
    uint64_t frozen_bytes;     /* of total_bytes, those of a model that stays as it is, and with
                                  merge of the merged one */
} rotor_train_plan;
ROTOR_API rotor_status rotor_train_get_plan(const rotor_train *t, rotor_train_plan *plan);

/* Trains to the last step, saving checkpoints, then writes the model to `out`. A loss that is not a
 * number ends it with ROTOR_E_FORMAT and the place where; on_step's false saves a checkpoint and
 * ends it with ROTOR_E_CANCELLED. The last checkpoint stays in both cases. */
ROTOR_API rotor_status rotor_train_run(rotor_train *t, rotor_error *err);
/* Writes the model as it stands after a run: a GGUF file, or a HF folder when path does not end in
 * .gguf. type and head_type: as in the options, which NULL takes. With lora_rank it is the adapter,
 * type F32 (NULL), F16 or BF16, and head_type is not used. */
ROTOR_API rotor_status rotor_train_export(rotor_train *t, const char *path, const char *type,
                                          const char *head_type, rotor_error *err);
/* Logits float[n, n_vocab] of tokens[n], n at most n_ctx, as the trainer computes them after a run.
 */
ROTOR_API rotor_status rotor_train_logits(rotor_train *t, const uint32_t *tokens, size_t n,
                                          float *logits, rotor_error *err);

#ifdef __cplusplus
}
#endif
#endif
