/* SPDX-License-Identifier: MIT
 *
 * gen: from logits to text. The sampler chain, generation with stop ids and stop strings,
 * speculation, beam search, and a batch of generations that advance together.
 *
 * Sampling is deterministic: same logits, same settings, same seed, same token. Speculation rests
 * on that: several guessed tokens are evaluated in one step, the sampler then chooses from every
 * row in order as it would have alone, and a guess counts only if it is what was chosen. So it
 * changes how fast a text comes and nothing else.
 *
 * An answer that has a format of its own is kept to it by a guide and read by a reader, both of
 * whoever knows the format.
 * Threading: as run: one thread at a time per engine.
 */
#ifndef GEN_H
#define GEN_H

#include "base/base.h"
#include "run/run.h"
#include "text/text.h"

/* ---- Sampler --------------------------------------------------------------------------------- */

typedef struct gen_bias {
    uint32_t id; /* token */
    float add;   /* added to its logit; -INFINITY forbids it */
} gen_bias;

typedef struct gen_sampling {
    float temperature;       /* 0: exactly arg-max (lowest id on ties) */
    int top_k;               /* 0: off */
    float top_p;             /* 1: off */
    float min_p;             /* 0: off */
    float repeat_penalty;    /* 1: off; divides positive logits, multiplies negative ones */
    float frequency_penalty; /* 0: off; times occurrences, subtracted */
    float presence_penalty;  /* 0: off; subtracted once */
    uint32_t penalty_last_n; /* tokens looked back at; 0: all */
    uint64_t seed;           /* of the random sequence */
    const gen_bias *bias;    /* [n_bias], borrowed while sampling */
    size_t n_bias;           /* how many */
    /* May rewrite logits[n_vocab] before anything else; NULL: none. */
    void (*hook)(void *user, float *logits, uint32_t n_vocab);
    void *hook_user; /* passed back */
} gen_sampling;

gen_sampling gen_sampling_default(void); /* temperature 0.8, top_k 40, top_p 0.95, min_p 0.05 */

/* Which tokens may be chosen; all zero: every one. */
typedef struct gen_mask {
    const uint32_t *only;   /* [n_only] one of these; NULL: any … */
    size_t n_only;          /* how many */
    const uint32_t *banned; /* [(V + 31) / 32] … but those whose bits are set; NULL: none are */
} gen_mask;

typedef struct gen_sampler gen_sampler;
/* ROTOR_E_ARG names the setting that is out of range. */
rotor_status gen_sampler_create(gen_sampler **out, const gen_sampling *opt, uint32_t n_vocab,
                                rotor_error *err);
void gen_sampler_free(gen_sampler **s);
void gen_sampler_reset(gen_sampler *s, uint64_t seed);
/* What may be chosen from now on; its lists are borrowed. What may not counts as if its logit were
 * minus infinity, after hook and bias. */
void gen_sampler_allow(gen_sampler *s, gen_mask mask);

typedef struct gen_choice {
    uint32_t id;   /* token */
    float logprob; /* natural log of its probability, after hook and bias and before penalties,
                      truncation and temperature */
} gen_choice;

/* history[n_history]: tokens so far, for penalties. Order: hook, bias, penalties, then (arg-max) or
 * top-k, top-p, min-p, temperature, draw. NaN logits count as minus infinity; if none is finite,
 * ROTOR_E_FORMAT. top[n_top] (NULL when n_top is 0) receives the most likely ids after hook and
 * bias; what is missing (fewer allowed tokens than n_top) is TEXT_NO_ID. Allocates nothing. */
rotor_status gen_sample(gen_sampler *s, const float *logits, const uint32_t *history,
                        size_t n_history, gen_choice *choice, gen_choice *top, size_t n_top,
                        rotor_error *err);

/* What a choice needs to know of the logits when nobody asks for log-probabilities: for
 * run_candidates. False: all of them. Valid until the next call for this sampler. */
bool gen_sampler_want(gen_sampler *s, const uint32_t *history, size_t n_history, run_want *want);
/* gen_sample from what was found for that want: the same token from the same draw; its logprob is
 * NAN. False, and nothing drawn: none of the logits found is finite, or the mask forbids one of the
 * best; gen_sample must say. */
bool gen_sample_found(gen_sampler *s, const run_want *want, const run_found *f,
                      const uint32_t *history, size_t n_history, gen_choice *choice);

/* ---- Stop strings in a stream of text -------------------------------------------------------- */

typedef struct gen_stops gen_stops;
/* stops are borrowed; empty or malformed ones give ROTOR_E_ARG. */
rotor_status gen_stops_create(gen_stops **out, const base_str *stops, size_t n, rotor_error *err);
void gen_stops_free(gen_stops **s);
/* Takes the next piece of text and appends to *out whatever can no longer belong to a stop string.
 * *hit: a stop string is complete; what precedes it has been appended, the rest is dropped. The
 * stop that ends first counts, the longest of those that end together. After a hit the object is
 * of no more use. */
rotor_status gen_stops_feed(gen_stops *s, base_str text, base_buf *out, bool *hit);
/* Appends what was held back: the text is over, and another may begin. */
rotor_status gen_stops_flush(gen_stops *s, base_buf *out);

/* ---- Generation ------------------------------------------------------------------------------ */

/* Keeps an answer to its format: an automaton over its tokens, shared by any number of generations
 * of an engine. */
typedef struct gen_guide {
    const void *user; /* passed back */
    uint64_t start;   /* state before the first token */
    uint64_t (*step)(const void *user, uint64_t state, uint32_t id); /* the state after a token */
    /* What may come in a state; its lists stay until the next call. An error ends the generation.
     */
    rotor_status (*may)(const void *user, uint64_t state, gen_mask *mask, rotor_error *err);
    bool verbatim; /* the text is the bytes of all tokens: no leading space is dropped */
} gen_guide;

typedef enum gen_finish {
    GEN_FINISH_NONE,   /* still running */
    GEN_FINISH_EOG,    /* an end-of-generation token */
    GEN_FINISH_STOP,   /* a stop string (not part of the text) */
    GEN_FINISH_LENGTH, /* max_new_tok reached */
    GEN_FINISH_FULL,   /* the context is full */
    GEN_FINISH_CANCEL, /* a callback said so */
    GEN_FINISH_ERROR   /* in a batch: this job failed; the result says why */
} gen_finish;

typedef struct gen_options {
    gen_sampling sampling;  /* how to choose */
    uint32_t max_new_tok;   /* 0: until the context is full */
    const base_str *stops;  /* [n_stops] stop strings, borrowed */
    size_t n_stops;         /* how many */
    bool ignore_eog;        /* keep going past end-of-generation tokens */
    bool render_special;    /* show control tokens */
    size_t n_top;           /* alternatives reported per token */
    bool no_logprobs;       /* nobody reads choice->logprob: NAN where that saves work */
    run_progress on_prompt; /* prompt progress; may be NULL */
    uint32_t lookup_min;    /* guess what followed the last time the newest tokens, at least so
                               many, stood in the timeline; 0: do not */
    run_session *draft;     /* guess with this session of another engine, whose vocabulary agrees;
                               borrowed, its timeline is overwritten; NULL: do not */
    uint32_t draft_max;     /* guesses per step at most; 0: 8. Fewer where they do not pay */
    bool draft_always;      /* guess draft_max tokens even where that does not pay */
    bool shift;             /* a full context loses its oldest tokens and the text goes on (see
                               gen_shift.c); not in a batch */
    uint32_t n_keep;        /* shift: the first so many tokens stay, at most half of the context;
                               0: the BOS token, where there is one */
    /* shift, of an answer in progress; may be NULL. Gives a shorter prompt in place of the one
     * there was (borrowed until the answer ends), behind which the answer so far is put; it then
     * stays like n_keep as long as it fits half of the context. False: there is none. */
    bool (*on_shorten)(void *user, const uint32_t **prompt, uint32_t *n);
    /* shift: n_dropped tokens are being dropped, n_left stay; may be NULL. */
    void (*on_shift)(void *user, uint32_t n_dropped, uint32_t n_left);
    /* Called once per generated token with the text that is now safe to show (whole UTF-8
     * characters, stop strings held back; often empty), and once more, with choice and top NULL, if
     * the end releases text that was held back. top[n_top]. false stops. May be NULL. */
    bool (*on_text)(void *user, base_str text, const gen_choice *choice, const gen_choice *top);
    void *user;             /* passed to all callbacks */
    const gen_guide *guide; /* borrowed; NULL: any token may come */
    /* Takes the tokens in place of the plain decoder and of `stops`: appends to *text what is to be
     * shown after one more, after the end-of-generation one if there is one, and after the last
     * (TEXT_NO_ID). *stop: the answer is over, as by a stop string. NULL: none. */
    rotor_status (*read)(void *user, uint32_t id, base_buf *text, bool *stop);
} gen_options;

typedef struct gen_result {
    text_ids ids;          /* generated tokens, without an end-of-generation one; owned */
    base_buf text;         /* their text up to a stop string; owned */
    gen_finish finish;     /* why it ended */
    uint32_t n_prompt;     /* prompt tokens */
    uint32_t n_reused;     /* of which the cache already held */
    uint64_t prompt_us;    /* time for the prompt */
    uint64_t decode_us;    /* time from first to last generated token */
    uint64_t first_tok_us; /* from the call to the first sampled token */
    uint32_t n_drafted;    /* guesses evaluated */
    uint32_t n_accepted;   /* of which right */
    uint32_t end_id;       /* of GEN_FINISH_EOG; else TEXT_NO_ID */
    uint32_t n_shifts;     /* times the oldest tokens were dropped … */
    uint32_t n_dropped;    /* … and how many all together */
    rotor_error why;       /* of GEN_FINISH_ERROR in a batch */
} gen_result;
void gen_result_free(gen_result *r);

/* Continues the session to prompt[n], n >= 1, and generates. The session afterwards holds the
 * prompt and the answer, except a last token that nothing was asked after: the next run adds it.
 * During a callback it may also hold guesses that have not been judged yet.
 * Allocates before the first token only, unless tokens are longer than 16 bytes on average, the
 * context is shifted, or a guide does. */
rotor_status gen_run(run_session *s, const uint32_t *prompt, uint32_t n, const gen_options *opt,
                     gen_result *out, rotor_error *err);

/* ---- Beam search ----------------------------------------------------------------------------- */

typedef struct gen_beam {
    text_ids ids;  /* tokens of this beam, without the ending one; owned */
    float logprob; /* sum */
    float score;   /* logprob / tokens^alpha, counting the ending one */
    bool ended;    /* by an end-of-generation token */
} gen_beam;
typedef struct gen_beam_options {
    uint32_t width;         /* beams kept, 1 or more */
    uint32_t max_new_tok;   /* per beam at most; 0: until the context is full */
    float alpha;            /* exponent of the length that scores are divided by */
    const gen_guide *guide; /* borrowed; NULL: any token may come */
} gen_beam_options;
/* Keeps `width` beams, ended ones among them. *beams has width entries, best first (empty with
 * score -INFINITY where there are fewer); gen_beams_free frees them. The session ends with the
 * prompt; the engine needs pages for 2 * width forks. */
rotor_status gen_beam_search(run_session *s, const uint32_t *prompt, uint32_t n,
                             const gen_beam_options *opt, gen_beam **beams, rotor_error *err);
void gen_beams_free(gen_beam *beams, uint32_t width);

/* ---- A batch of generations that share each step (continuous batching) ----------------------- */

typedef struct gen_batch gen_batch;
rotor_status gen_batch_create(gen_batch **out, run_engine *e, uint32_t max_jobs, rotor_error *err);
void gen_batch_free(gen_batch **b);
/* Adds a job; session, options and result are borrowed until it finishes (the prompt is copied).
 * *job is its handle. out->finish is GEN_FINISH_NONE until the job ends; a result that has ended is
 * freed by the caller. ROTOR_E_FULL: max_jobs are live, or the prompt exceeds the session. */
rotor_status gen_batch_add(gen_batch *b, run_session *s, const uint32_t *prompt, uint32_t n,
                           const gen_options *opt, gen_result *out, uint32_t *job,
                           rotor_error *err);
/* One step for all live jobs: decoding rows first, then prompt rows, then guesses.
 * *n_live: jobs left. When it fails, a job that caused it has ended with GEN_FINISH_ERROR; the
 * others are intact and may go on. */
rotor_status gen_batch_step(gen_batch *b, uint32_t *n_live, rotor_error *err);
/* From now on, while jobs decode, a step takes only so many prompt rows that it should last no
 * longer than step_us microseconds; 0: than 2.5 steps without prompts. Prompts alone fill their
 * steps. Without this call they always do. */
void gen_batch_wish(gen_batch *b, uint64_t step_us);
/* The next step ends the job with GEN_FINISH_CANCEL. Callbacks may call this; a finished job's
 * handle does nothing. */
void gen_batch_cancel(gen_batch *b, uint32_t job);

#endif
