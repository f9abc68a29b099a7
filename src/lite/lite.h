/* SPDX-License-Identifier: MIT
 *
 * lite: a model that goes on with a text, on the CPU, and nothing beside it: what a page in a
 * browser and the program for Windows are made of. It needs no library but libc. GGUF files only;
 * no chat templates, no grammar, no GPU.
 *
 * A text comes one step at a time, so that whoever calls can do something else in between: the
 * first steps read the prompt, each later one adds a token. The same text, token for token, as
 * `rotor run` with the same settings.
 * Threading: one thread at a time.
 */
#ifndef LITE_H
#define LITE_H

#include "base/base.h"
#include "gen/gen.h"
#include "model/model.h"
#include "text/text.h"

typedef struct lite lite;

typedef struct lite_options {
    const char *path;    /* a GGUF file; NULL: memory */
    const void *data;    /* [n_bytes] its image, which must stay until lite_close */
    size_t n_bytes;      /* of data */
    const char *name;    /* of that image, for messages */
    uint32_t ctx;        /* positions; 0: the model's, 4,096 at most */
    int threads;         /* 0: one for each core */
    const char *cpu;     /* level of instructions at most, as --cpu; NULL: what there is */
    const base_log *log; /* may be NULL */
} lite_options;

/* Opens the model. On failure *out is left alone. */
rotor_status lite_open(lite **out, const lite_options *opt, rotor_error *err);
void lite_close(lite **l);              /* NULL and closed ones are fine */
const model *lite_model(const lite *l); /* its facts */
uint32_t lite_ctx(const lite *l);       /* positions a text can have */
int lite_threads(const lite *l);        /* threads that compute */
/* The ids of a text, with the mark of a beginning where the model wants one. */
rotor_status lite_encode(const lite *l, base_str text, text_ids *out, rotor_error *err);

typedef struct lite_task {
    base_str prompt;   /* the text to go on with, UTF-8 */
    uint32_t n_new;    /* tokens at most; 0: until the context is full */
    float temperature; /* 0: always the likeliest token; below 0: as the model says */
    uint64_t seed;     /* of what is drawn otherwise */
} lite_task;

/* Begins a text in place of the one before. ROTOR_E_FULL: the prompt is longer than the context. */
rotor_status lite_begin(lite *l, const lite_task *task, rotor_error *err);
/* One step. *more: there is another; false: lite_result says why not. After an error there is
 * none. */
rotor_status lite_step(lite *l, bool *more, rotor_error *err);
/* What the last step added: text that is safe to show, of whole characters, often empty; valid
 * until the next call. */
base_str lite_text(const lite *l);
uint32_t lite_token(const lite *l); /* and its token; TEXT_NO_ID: none, as of a prompt */
void lite_stop(lite *l);            /* the next step is the last */
/* The whole of it, once there is no more step. */
const gen_result *lite_result(const lite *l);

#endif
