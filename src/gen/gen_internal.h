/* SPDX-License-Identifier: MIT
 *
 * gen, inside: distributions over the vocabulary (candidates.c), stop strings (stops.c), and one
 * generation in progress (gen_task.c), on which gen_run and the batch both stand.
 */
#ifndef GEN_INTERNAL_H
#define GEN_INTERNAL_H

#include "gen/gen.h"

/* ---- candidates.c: a vocabulary's logits, and the best of them ----------------------------------
 * Candidates are in one total order: higher logit first, lower id first among equals. */

typedef struct gen_cand {
    float logit; /* its value */
    uint32_t id; /* token */
} gen_cand;

bool gen_cand_before(gen_cand a, gen_cand b);

/* Makes x[n] safe to compare: NaN becomes -INFINITY, +INFINITY the largest float. *max is the
 * largest value. False when no value was finite. */
bool gen_clean(float *x, size_t n, float *max);
/* Lowest index of a value equal to max, which is in x. */
uint32_t gen_index_of(const float *x, size_t n, float max);

/* dst[i] = exp((x[i] - max) * scale), relative error below 3e-7, 0 under exp(-87); dst may be x. */
void gen_exp(float *dst, const float *x, size_t n, float max, float scale);
/* Sum of the above with scale 1, without storing it. */
double gen_exp_sum(const float *x, size_t n, float max);
/* Sum of p[n], the same on every machine. */
double gen_sum(const float *p, size_t n);

/* Puts the best k of x[n] (fewer if fewer exceed -INFINITY), in no order, into c, which has room
 * for n. Returns how many. */
size_t gen_best(gen_cand *c, const float *x, size_t n, size_t k);
/* Puts every value that is at least `floor` into c, by id. Returns how many. */
size_t gen_collect(gen_cand *c, const float *x, size_t n, gen_cand floor);
/* Sum of exp(logit - max) over c[n]. */
double gen_mass(const gen_cand *c, size_t n, float max);
/* Moves the shortest best-first prefix whose mass reaches target to the
 * front of c[n]; n when none does. Returns its length, at least 1. */
size_t gen_prefix_of_mass(gen_cand *c, size_t n, float max, double target);
gen_cand gen_worst(const gen_cand *c, size_t n); /* n >= 1 */
void gen_sort(gen_cand *c, size_t n);            /* best first; for short lists */

/* ---- stops.c: stop strings in a stream of text ----------------------------------------------- */

typedef struct gen_stops gen_stops;
/* stops are borrowed; empty or malformed ones give ROTOR_E_ARG. */
rotor_status gen_stops_create(gen_stops **out, const base_str *stops, size_t n, rotor_error *err);
void gen_stops_free(gen_stops **s);
/* Takes the next piece of text and appends to *out whatever can no longer belong to a stop string.
 * *hit: a stop string is complete; what precedes it has been appended, the rest is dropped. The
 * stop that ends first counts, the longest of those that end together. After a hit the object is
 * of no more use. */
rotor_status gen_stops_feed(gen_stops *s, base_str text, base_buf *out, bool *hit);
/* Appends what was held back: the text is over. */
rotor_status gen_stops_flush(gen_stops *s, base_buf *out);

/* ---- gen_task.c: one generation in progress -------------------------------------------------- */

typedef struct gen_task {
    run_session *s;         /* timeline, borrowed */
    const gen_options *opt; /* borrowed */
    const text_vocab *v;    /* words of the model; NULL: it has none */
    gen_sampler *sampler;   /* owned */
    gen_stops *stops;       /* owned */
    gen_choice *top;        /* [opt->n_top], owned */
    text_stream stream;     /* ids to text */
    base_buf piece;         /* text of one token, before stop strings; owned */
    gen_result r;           /* what has been generated so far; owned until taken */
    uint32_t max_new_tok;   /* tokens at most */
    uint64_t start_us;      /* when the call began */
    uint64_t first_us;      /* when the first token was chosen */
} gen_task;

/* Everything a generation needs is allocated here, before its first token. */
rotor_status gen_task_init(gen_task *t, run_session *s, uint32_t n_prompt, const gen_options *opt,
                           rotor_error *err);
void gen_task_free(gen_task *t);
/* Chooses the next token after the timeline's last one, which was wanted row i of the engine's last
 * step, and passes its text on. Either t->r.finish is set afterwards, or *id is to be evaluated
 * next. */
rotor_status gen_task_take(gen_task *t, uint32_t i, uint32_t *id, rotor_error *err);
/* Ends the generation and releases the text held back. */
rotor_status gen_task_end(gen_task *t, gen_finish finish, rotor_error *err);
/* Gives the result away. */
void gen_task_move(gen_task *t, gen_result *out);

#endif
