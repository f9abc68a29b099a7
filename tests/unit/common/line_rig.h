/* SPDX-License-Identifier: MIT
 *
 * line_rig: a model file, perhaps with an adapter beside it, on an engine with one session, and one
 * line of tokens that is fed to it.
 *
 * What cannot be had ends the test, but for the engine.
 */
#ifndef LINE_RIG_H
#define LINE_RIG_H

#include "run/run.h"

enum { LINE_MAX_TOK = 200 };

typedef struct line_rig {
    par_pool *pool;   /* threads */
    model *m;         /* weights */
    model_adapter *a; /* beside them, or NULL */
    run_engine *e;    /* engine */
    run_session *s;   /* one session */
} line_rig;

/* Threads, model and adapter; lora: NULL for none. */
void line_open(line_rig *r, const char *path, const char *lora, int n_threads);
/* Engine, with the adapter where there is one, and session. */
rotor_status line_try(line_rig *r, run_options o, rotor_error *err);
void line_up(line_rig *r, run_options o); /* the same, or the test ends */
void line_down(line_rig *r);

/* Evaluates the first n tokens of the line, as far as the session does not have them. */
void line_feed(line_rig *r, uint32_t n);
/* The same, and the logits after them. */
const float *line_logits(line_rig *r, uint32_t n);
/* Distance of a from b in units of b's length. */
double line_distance(const float *a, const float *b, size_t n);

#endif
