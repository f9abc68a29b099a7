/* SPDX-License-Identifier: MIT
 *
 * gen, inside: distributions over the vocabulary (candidates.c), what speculation needs (ngram.c,
 * pace.c, drafter.c), and one generation in progress (gen_task.c), on which gen_run and the batch
 * both stand.
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
/* Makes what the mask does not allow -INFINITY. c has room for x. */
void gen_forbid(const gen_mask *m, float *x, size_t n, gen_cand *c);
bool gen_is_banned(const gen_mask *m, uint32_t id); /* by its bit */
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

/* ---- ngram.c: where the newest tokens of a timeline stood before ------------------------------
 */

typedef struct gen_ngram {
    uint32_t min;         /* tokens of a match at least */
    const uint32_t *line; /* the timeline, borrowed; only grows */
    uint32_t n;           /* tokens indexed */
    uint32_t *head;       /* [mask + 1] newest end of a run of `min` tokens, plus 1; owned */
    uint32_t *prev;       /* [max_tok] the one before in the same chain, plus 1; owned */
    uint32_t mask;        /* buckets - 1, a power of two less one */
} gen_ngram;

typedef struct gen_match {
    uint32_t next; /* index of the token that followed */
    uint32_t len;  /* tokens that agree, GEN_MATCH_MAX at most */
} gen_match;

enum { GEN_MATCH_MAX = 32 };

/* line has room for max_tok tokens and outlives the index; min >= 1. */
rotor_status gen_ngram_init(gen_ngram *g, const uint32_t *line, uint32_t max_tok, uint32_t min);
void gen_ngram_free(gen_ngram *g);
/* line now holds n tokens. A bounded number of operations for each new one. */
void gen_ngram_grow(gen_ngram *g, uint32_t n);
/* The longest of the newest places where the last tokens stood before; false: none. */
bool gen_ngram_find(const gen_ngram *g, gen_match *m);
void gen_ngram_clear(gen_ngram *g); /* as if nothing had been indexed */

/* ---- pace.c: what a step costs, and which guesses are worth their row ---------------------------
 */

/* Time of a step as a line in its rows, fitted to the past, recent steps counting more. */
typedef struct gen_pace {
    double n, x, y, xx, xy; /* decayed sums over steps: count, rows, microseconds */
    double row_us;          /* slope: one row more */
    double base_us;         /* what no row causes */
    uint32_t n_slow;        /* steps left out just now because they were too slow */
} gen_pace;
void gen_pace_note(gen_pace *p, uint32_t rows, uint64_t us);

/* A step being put together. A guess that is right with some probability is worth its time if it
 * raises the tokens per microsecond of the whole step. */
typedef struct gen_plan {
    double tokens; /* expected from the step so far */
    double us;     /* its expected time */
    double row_us; /* of a further row */
} gen_plan;
/* A step of rows that give one token each. */
gen_plan gen_pace_plan(const gen_pace *p, uint32_t rows);

/* ---- drafter.c: guesses of the next tokens ----------------------------------------------------
 */

enum { GEN_DRAFT_MAX = 64, GEN_DRAFT_KINDS = 12 };

typedef struct gen_odds {
    float right, judged; /* guesses, decayed */
} gen_odds;

typedef struct gen_drafter {
    uint32_t max;                  /* guesses per step at most; 0: no speculation */
    bool always;                   /* guess whether it pays or not */
    uint32_t *line;                /* [max_tok + 1] timeline and the token to be evaluated; owned */
    uint32_t n_line;               /* in use */
    gen_ngram index;               /* of line; head NULL: no lookup */
    run_session *s;                /* of the smaller model, borrowed; NULL: none */
    gen_sampler *sampler;          /* for its logits; owned */
    uint32_t agreed;               /* tokens of s known to equal line */
    double draft_us;               /* time of one guess of the model; 0: not measured */
    uint32_t guess[GEN_DRAFT_MAX]; /* [n] what may follow */
    uint8_t kind[GEN_DRAFT_MAX];   /* [n] how sure: index of odds */
    uint32_t n;                    /* guesses in the step */
    bool probe;                    /* the first guess is made whatever it costs */
    uint32_t idle;                 /* tokens since guesses were last made */
    uint32_t patience;             /* of these before a probe */
    uint32_t n_probes;             /* since guesses were last worth it */
    gen_odds odds[GEN_DRAFT_KINDS + 1]; /* by kind; the last: all of the model together */
    uint32_t n_drafted, n_accepted;     /* totals */
} gen_drafter;

/* s: the session that is guessed for. All memory is allocated here. */
rotor_status gen_drafter_init(gen_drafter *d, run_session *s, const gen_options *opt,
                              rotor_error *err);
void gen_drafter_free(gen_drafter *d);
/* The timeline is another from here on; what was learnt about guessing stays. */
void gen_drafter_restart(gen_drafter *d);
/* The timeline, with the token to be evaluated next, is now n tokens longer. */
void gen_drafter_add(gen_drafter *d, const uint32_t *tokens, uint32_t n);
/* Fills guess[n], at most `room`, with what is worth evaluating, and adds it to the plan. like: the
 * sampler that will judge. Never fails: there may just be no guess. */
void gen_drafter_guess(gen_drafter *d, const gen_sampler *like, uint32_t room, gen_plan *plan);
/* The first n_right guesses were right, the next one wrong if n_judged says that it was looked at.
 */
void gen_drafter_judge(gen_drafter *d, uint32_t n_right, uint32_t n_judged);

/* The next draws of s will be those that `like` is going to make. */
void gen_sampler_follow(gen_sampler *s, const gen_sampler *like);

/* What a device needs to choose by itself, `ahead` choices after the next one. False: settings that
 * look at more than the best few logits. */
bool gen_sampler_draw(const gen_sampler *s, uint32_t ahead, dev_draw *out);
/* A device has made the next choice. */
void gen_sampler_drawn(gen_sampler *s);

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
    uint64_t state;         /* of opt->guide */
    gen_drafter draft;      /* guesses of the step being made */
    gen_result r;           /* what has been generated so far; owned until taken */
    uint32_t max_new_tok;   /* tokens at most */
    uint32_t keep;          /* shift: tokens of the beginning that stay */
    uint64_t start_us;      /* when the call began */
    uint64_t first_us;      /* when the first token was chosen */
} gen_task;

/* Everything a generation needs is allocated here, before its first token. */
rotor_status gen_task_init(gen_task *t, run_session *s, uint32_t n_prompt, const gen_options *opt,
                           rotor_error *err);
void gen_task_free(gen_task *t);
/* Decides what to guess after the token to be evaluated next, at most `room` tokens. */
void gen_task_guess(gen_task *t, uint32_t room, gen_plan *plan);
/* The step had the token to be evaluated and t->draft.n guesses behind it, their logits from index
 * `first` on (after a prompt: its last token and no guess). Chooses tokens and passes their text
 * on while they are as guessed, and rewinds the timeline to where it would be without guesses.
 * Either t->r.finish is set afterwards, or *id is to be evaluated next. Tokens after *stop has
 * become true are not taken; NULL: nobody stops. */
rotor_status gen_task_take(gen_task *t, uint32_t first, const bool *stop, uint32_t *id,
                           rotor_error *err);
/* Whether the device may choose the tokens, as nobody guesses, guides or looks at logits, and how
 * it draws the next one. */
bool gen_task_can_draw(const gen_task *t, dev_draw *draw);
/* As gen_task_take, for a token that the device has chosen after the first `len` of the timeline.
 */
rotor_status gen_task_take_chosen(gen_task *t, uint32_t chosen, uint32_t len, uint32_t *id,
                                  rotor_error *err);
/* Ends the generation and releases the text held back. */
rotor_status gen_task_end(gen_task *t, gen_finish finish, rotor_error *err);
/* Gives the result away. */
void gen_task_move(gen_task *t, gen_result *out);

/* ---- gen_shift.c: a full context --------------------------------------------------------------
 */

/* Sets t->keep. Of a prompt that exceeds the context a shorter copy, owned by the caller, replaces
 * the given one: *prompt[*n]. */
rotor_status gen_shift_prompt(gen_task *t, const uint32_t **prompt, uint32_t *n, uint32_t **owned,
                              rotor_error *err);
/* The context is full and the newest token, the last of the result, not evaluated: drops the oldest
 * and evaluates what stays with that token; its logits are those of row 0. ROTOR_E_FULL: there is
 * nothing to drop. */
rotor_status gen_shift_answer(gen_task *t, rotor_error *err);

#endif
