/* SPDX-License-Identifier: MIT
 *
 * A batch: generations that share each step (continuous batching).
 *
 * A step is one run_eval for all jobs. Jobs that decode go first, one row each (a prompt whose last
 * token is left counts as one of them, or it would wait for ever when they take all the logits);
 * what is left of the step is filled with prompt rows, job after job. Who is first changes with
 * every step, so that none starves. Jobs come and go between steps. Since a row's logits do not
 * depend on its neighbours, every job gets what it would have got alone.
 *
 * Jobs that speculate share the rows that nobody else needs, as far as guesses pay. Those stand
 * behind their job's row, so they are counted before the step is laid out.
 *
 * Prompt rows make a step long, and those who decode wait for its end. With a wish for the length
 * of a step only so many are taken as the measured times allow; now and then a step goes without
 * any, to measure that again. A time far above the mean counts only when it lasts: something else
 * on the machine must neither lengthen the steps to come nor, for long, shorten them.
 *
 * Where prompts have a device of their own, a step is one or the other: prompt rows, or the rest,
 * by turns while there are both.
 *
 * Where the device chooses tokens itself, it does for all jobs of a step, or for none when one of
 * them speculates or wants to know more of its logits.
 *
 * When the cache has no page left, the step is repeated without guesses, and if there were none or
 * that does not help, job by job: a decoding job that does not fit ends with GEN_FINISH_FULL, a
 * prompt waits for others to free pages, and if nobody can move, the waiting prompt that came last
 * ends with GEN_FINISH_FULL.
 *
 * Invariants: (B1) a live job is either in its prompt (at < n_prompt) or decoding with one token
 * to evaluate; (B2) its session holds exactly the tokens before that.
 * Threading: one thread at a time. Callbacks must not call into the batch, but for
 * gen_batch_cancel, which only leaves a mark.
 */
#include "gen/gen_internal.h"

#include <assert.h>

typedef struct job {
    uint32_t handle;  /* what the caller holds; 0: the slot is free */
    gen_task task;    /* sampler, text, result so far */
    gen_result *out;  /* the caller's, written when the job ends */
    uint32_t *prompt; /* owned copy */
    uint32_t at;      /* prompt tokens in the session */
    uint32_t token;   /* to evaluate next when decoding */
    bool cancel;      /* asked to stop */
    uint32_t n_rows;  /* rows in the step being made */
    uint32_t logits;  /* index of its logits in that step; TEXT_NO_ID: none */
} job;

/* The mean of a time that something else on the machine disturbs now and then. */
typedef struct usual {
    double us;       /* recent mean; 0: not measured */
    uint32_t n_high; /* values in a row that were too high to count */
} usual;

struct gen_batch {
    run_engine *e;        /* borrowed */
    job *jobs;            /* [max_jobs], owned */
    uint32_t max_jobs;    /* slots */
    uint32_t n_live;      /* slots in use */
    uint32_t last_handle; /* handles count up from 1 */
    uint32_t turn;        /* slot that goes first, so that none starves */
    run_row *rows;        /* [run_chunk], owned */
    dev_draw *draws;      /* [run_max_logits], owned: of those rows that want logits */
    uint32_t n_rows;      /* in the step being made */
    uint32_t n_logits;    /* of which with logits */
    bool prompts;         /* some of them belong to prompts */
    bool long_prompts;    /* and take many rows */
    bool prompts_last; /* so did the last step's: where prompts go apart, it is the others' turn */
    gen_pace pace;     /* of steps without prompts */
    bool wished;       /* steps shall be short while jobs decode … */
    uint64_t wish_us;  /* … this short; 0: 2.5 times `plain` */
    uint32_t n_prompt; /* of the step's rows, those of prompts beside decoding jobs */
    uint32_t prompt_room; /* most of these in the step being made */
    uint32_t n_mixed;     /* steps with both since one with neither's */
    usual plain;          /* a step of decoding jobs alone … */
    uint32_t plain_jobs;  /* … when there were so many */
    usual prompt;         /* a prompt row beside them */
};

rotor_status gen_batch_create(gen_batch **out, run_engine *e, uint32_t max_jobs, rotor_error *err) {
    assert(max_jobs >= 1);
    gen_batch *b = base_alloc(sizeof *b);
    if (!b) return base_fail_nomem(err, "creating a batch");
    b->e = e;
    b->max_jobs = max_jobs;
    b->jobs = base_alloc_array(max_jobs, sizeof *b->jobs);
    b->rows = base_alloc_array(run_chunk(e), sizeof *b->rows);
    b->draws = base_alloc_array(run_max_logits(e), sizeof *b->draws);
    if (!b->jobs || !b->rows || !b->draws) {
        gen_batch_free(&b);
        return base_fail_nomem(err, "creating a batch");
    }
    *out = b;
    return ROTOR_OK;
}

static void job_free(gen_batch *b, job *j) {
    if (!j->handle) return;
    gen_task_free(&j->task);
    base_free(j->prompt);
    memset(j, 0, sizeof *j);
    b->n_live--;
}

void gen_batch_free(gen_batch **pb) {
    if (!pb || !*pb) return;
    gen_batch *b = *pb;
    for (uint32_t i = 0; b->jobs && i < b->max_jobs; i++) job_free(b, &b->jobs[i]);
    base_free(b->jobs);
    base_free(b->rows);
    base_free(b->draws);
    base_free(b);
    *pb = NULL;
}

/* ==== Jobs ==================================================================================== */

/* Tokens the session can keep: the common prefix, but for the last one, whose logits are needed. */
static uint32_t common_prefix(const run_session *s, const uint32_t *prompt, uint32_t n) {
    const uint32_t *have = run_session_tokens(s);
    uint32_t most = BASE_MIN(run_session_len(s), n - 1), i = 0;
    while (i < most && have[i] == prompt[i]) i++;
    return i;
}

rotor_status gen_batch_add(gen_batch *b, run_session *s, const uint32_t *prompt, uint32_t n,
                           const gen_options *opt, gen_result *out, uint32_t *handle,
                           rotor_error *err) {
    assert(n >= 1 && run_session_engine(s) == b->e);
    if (b->n_live == b->max_jobs)
        return base_fail(err, ROTOR_E_FULL, "batch: all %u places are taken", b->max_jobs);
    if (opt->shift)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "batch: a full context ends a job; it is not "
                         "shifted");
    if (n > run_session_max(s))
        return base_fail(err, ROTOR_E_FULL, "batch: prompt of %u tokens, the session has %u", n,
                         run_session_max(s));
    job *j = b->jobs;
    while (j->handle) j++;
    uint32_t *copy = base_alloc_array(n, sizeof *copy);
    if (!copy) return base_fail_nomem(err, "adding a job");
    rotor_status status = gen_task_init(&j->task, s, n, opt, err);
    if (status != ROTOR_OK) {
        base_free(copy);
        return status;
    }
    memcpy(copy, prompt, n * sizeof *copy);
    j->prompt = copy;
    j->out = out;
    j->at = j->task.r.n_reused = run_session_rewind(s, common_prefix(s, prompt, n));
    if (++b->last_handle == 0) b->last_handle = 1;
    *handle = j->handle = b->last_handle;
    b->n_live++;
    memset(out, 0, sizeof *out);
    return ROTOR_OK;
}

void gen_batch_cancel(gen_batch *b, uint32_t handle) {
    for (uint32_t i = 0; handle && i < b->max_jobs; i++)
        if (b->jobs[i].handle == handle) b->jobs[i].cancel = true;
}

static void job_leave(gen_batch *b, job *j) {
    gen_task_move(&j->task, j->out);
    job_free(b, j);
}

static void job_fail(job *j, rotor_status status, const rotor_error *why, rotor_error *err) {
    j->task.r.finish = GEN_FINISH_ERROR;
    j->task.r.why = *why;
    j->task.r.why.code = status;
    if (err) *err = j->task.r.why;
}

static rotor_status job_end(gen_batch *b, job *j, gen_finish finish, rotor_error *err) {
    rotor_error why = {0};
    rotor_status status = gen_task_end(&j->task, finish, &why);
    if (status != ROTOR_OK) job_fail(j, status, &why, err);
    job_leave(b, j);
    return status;
}

static bool decoding(const job *j) { return j->handle && j->at == j->task.r.n_prompt; }

/* One row, with logits, is all the job needs: decoding, or before the last token of its prompt. */
static bool needs_one_row(const job *j) { return j->handle && j->at + 1 >= j->task.r.n_prompt; }

/* ==== One step ================================================================================ */

static job *in_turn(gen_batch *b, uint32_t i) { return &b->jobs[(b->turn + i) % b->max_jobs]; }

static void add_row(gen_batch *b, job *j, uint32_t token, bool want_logits) {
    if (want_logits) j->logits = b->n_logits++;
    b->rows[b->n_rows++] = (run_row){j->task.s, token, want_logits};
    j->n_rows++;
}

/* Adds what the job can do in what is left of the step, guesses excepted. */
static void add_rows(gen_batch *b, job *j) {
    uint32_t chunk = run_chunk(b->e), n_prompt = j->task.r.n_prompt;
    bool logits_left = b->n_logits < run_max_logits(b->e);
    if (decoding(j)) {
        if (logits_left && b->n_rows < chunk) add_row(b, j, j->token, true);
        return;
    }
    const bool one = needs_one_row(j);
    for (uint32_t i = j->at; i < n_prompt && b->n_rows < chunk; i++) {
        bool last = i + 1 == n_prompt;
        if ((last && !logits_left) || (!one && b->n_prompt == b->prompt_room)) return;
        add_row(b, j, j->prompt[i], last);
        b->n_prompt += !one;
        b->prompts = true;
    }
}

/* Rows for guesses, shared by the jobs that make some. */
typedef struct spare {
    uint32_t rows;   /* left */
    uint32_t n_jobs; /* that have not had theirs */
    gen_plan plan;   /* the step so far */
} spare;

static bool guesses(const job *j) { return decoding(j) && j->task.draft.max; }

/* What is left when every job has the rows it can use. */
static spare count_spare(const gen_batch *b) {
    uint64_t rows = 0, logits = 0, ones = 0, chunk = run_chunk(b->e), most = run_max_logits(b->e);
    spare s = {0};
    for (uint32_t i = 0; i < b->max_jobs; i++) {
        const job *j = &b->jobs[i];
        if (!j->handle) continue;
        ones += needs_one_row(j);
        rows += needs_one_row(j) ? 1 : j->task.r.n_prompt - j->at;
        logits++;
        s.n_jobs += guesses(j);
    }
    if (rows < chunk && logits < most) s.rows = (uint32_t)BASE_MIN(chunk - rows, most - logits);
    s.plan = gen_pace_plan(&b->pace, (uint32_t)BASE_MAX(ones, 1u));
    return s;
}

static void add_guesses(gen_batch *b, job *j, spare *s) {
    gen_drafter *d = &j->task.draft;
    gen_task_guess(&j->task, (s->rows + s->n_jobs - 1) / s->n_jobs, &s->plan);
    s->rows -= d->n;
    s->n_jobs--;
    for (uint32_t i = 0; i < d->n; i++)
        b->rows[b->n_rows++] = (run_row){j->task.s, d->guess[i], true};
    b->n_logits += d->n;
    j->n_rows += d->n;
}

static void clear_rows(gen_batch *b) {
    b->n_rows = b->n_logits = b->n_prompt = 0;
    b->prompt_room = UINT32_MAX;
    b->prompts = b->long_prompts = false;
    for (uint32_t i = 0; i < b->max_jobs; i++) {
        b->jobs[i].n_rows = 0;
        b->jobs[i].logits = TEXT_NO_ID;
        b->jobs[i].task.draft.n = 0;
    }
}

/* Jobs whose prompts take many rows still, or the others. */
static uint32_t count_jobs(const gen_batch *b, bool prompts) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < b->max_jobs; i++)
        n += b->jobs[i].handle && needs_one_row(&b->jobs[i]) != prompts;
    return n;
}

/* ---- How much of prompts a step takes ---- */

void gen_batch_wish(gen_batch *b, uint64_t step_us) {
    b->wished = true;
    b->wish_us = step_us;
}

/* Prompt rows for which there is time in a step that others wait for. */
static uint32_t prompt_room(gen_batch *b) {
    enum { FIRST = 4, LEAST = 2, REMEASURE = 32, TOGETHER = 4 /* rows kernels take at once */ };
    const uint32_t ones = count_jobs(b, false);
    if (!b->wished || !ones || !count_jobs(b, true)) return UINT32_MAX;
    b->n_mixed += ones == b->plain_jobs ? 1 : REMEASURE; /* every other step at most */
    if (b->plain.us <= 0 || b->n_mixed > REMEASURE) {
        b->n_mixed = 0;
        return 0;
    }
    if (b->prompt.us <= 0) return FIRST;
    const double whole = b->wish_us ? (double)b->wish_us : 2.5 * b->plain.us;
    const double rows = (whole - b->plain.us) / b->prompt.us;
    if (!(rows > LEAST)) return LEAST;
    const uint32_t n = rows < run_chunk(b->e) ? (uint32_t)rows : run_chunk(b->e);
    const uint32_t odd = (ones + n) % TOGETHER;
    return n > LEAST + odd ? n - odd : n;
}

static void learn(usual *u, double us) {
    const double high = 1.4, low = 0.6; /* times the mean */
    enum { LASTS = 3 };
    const bool too_high = u->us > 0 && us > high * u->us;
    if (too_high && ++u->n_high < LASTS) return;
    u->us = u->us <= 0 || too_high || us < low * u->us ? us : u->us + (us - u->us) / 4;
    u->n_high = 0;
}

/* ones: jobs that had one row each, before they moved on. */
static void note_step(gen_batch *b, uint32_t n_rows, uint32_t ones, uint64_t us) {
    if (!b->prompts) {
        gen_pace_note(&b->pace, n_rows, us);
        if (ones != b->plain_jobs) b->plain = (usual){0};
        b->plain_jobs = ones;
        learn(&b->plain, (double)us);
    } else if (b->n_prompt && b->n_prompt < n_rows) {
        learn(&b->prompt, BASE_MAX((double)us - b->plain.us, 1.0) / b->n_prompt);
    } else if (b->n_prompt >= 8 && b->prompt.us <= 0) {
        learn(&b->prompt, (double)us / b->n_prompt); /* too much rather than too little */
    }
}

static void fill_step(gen_batch *b, bool guess) {
    spare s = guess ? count_spare(b) : (spare){0};
    const bool apart = run_prompt_device(b->e) && count_jobs(b, false) && count_jobs(b, true);
    clear_rows(b);
    if (!apart) b->prompt_room = prompt_room(b);
    for (int prompts = 0; prompts < 2; prompts++)
        for (uint32_t i = 0; i < b->max_jobs && !(apart && prompts == b->prompts_last); i++) {
            job *j = in_turn(b, i);
            if (!j->handle || needs_one_row(j) == prompts) continue;
            add_rows(b, j);
            b->long_prompts = prompts;
            if (s.rows && guesses(j)) add_guesses(b, j, &s);
        }
}

/* The job's rows have been evaluated: the next token, or the next part of the prompt. */
static rotor_status job_advance(gen_batch *b, job *j, rotor_error *err) {
    gen_task *t = &j->task;
    if (!decoding(j)) {
        j->at += j->n_rows;
        run_session_mark(t->s, j->at == t->r.n_prompt);
        t->r.prompt_us = base_now_us() - t->start_us;
        if (t->opt->on_prompt && !t->opt->on_prompt(t->opt->user, j->at, t->r.n_prompt))
            j->cancel = true;
    }
    if (j->cancel) return job_end(b, j, GEN_FINISH_CANCEL, err);
    if (j->logits == TEXT_NO_ID) return ROTOR_OK;
    uint32_t id;
    rotor_error why = {0};
    rotor_status status = run_chosen(b->e, j->logits, &id)
                              ? gen_task_take_chosen(t, id, run_session_len(t->s), &j->token, &why)
                              : gen_task_take(t, j->logits, &j->cancel, &j->token, &why);
    if (status != ROTOR_OK) job_fail(j, status, &why, err);
    if (t->r.finish != GEN_FINISH_NONE) job_leave(b, j);
    return status;
}

/* Every job moves on, even when one fails; the first failure is returned. */
static rotor_status advance_all(gen_batch *b, rotor_error *err) {
    rotor_status first = ROTOR_OK;
    for (uint32_t i = 0; i < b->max_jobs; i++) {
        job *j = &b->jobs[i];
        if (!j->handle || !j->n_rows) continue;
        rotor_status status = job_advance(b, j, first == ROTOR_OK ? err : NULL);
        if (first == ROTOR_OK) first = status;
    }
    return first;
}

/* ==== No page left ============================================================================ */

/* One job alone. *full: the cache has no room for it. */
static rotor_status step_alone(gen_batch *b, job *j, bool *full, rotor_error *err) {
    rotor_error why;
    clear_rows(b);
    add_rows(b, j);
    rotor_status status = run_eval(b->e, b->rows, b->n_rows, &why);
    *full = status == ROTOR_E_FULL;
    if (*full) return ROTOR_OK;
    if (status == ROTOR_OK) return job_advance(b, j, err);
    if (err) *err = why;
    return status;
}

static rotor_status step_one_by_one(gen_batch *b, rotor_error *err) {
    job *stuck = NULL;
    bool moved = false;
    for (uint32_t i = 0; i < b->max_jobs; i++) {
        job *j = &b->jobs[i];
        bool full;
        if (!j->handle) continue;
        ROTOR_TRY(step_alone(b, j, &full, err));
        moved = moved || !full;
        if (!full) continue;
        if (decoding(j)) {
            moved = true;
            ROTOR_TRY(job_end(b, j, GEN_FINISH_FULL, err));
        } else if (!stuck || j->handle > stuck->handle) {
            stuck = j;
        }
    }
    return moved || !stuck ? ROTOR_OK : job_end(b, stuck, GEN_FINISH_FULL, err);
}

static rotor_status end_cancelled(gen_batch *b, rotor_error *err) {
    for (uint32_t i = 0; i < b->max_jobs; i++)
        if (b->jobs[i].cancel) ROTOR_TRY(job_end(b, &b->jobs[i], GEN_FINISH_CANCEL, err));
    return ROTOR_OK;
}

/* How the device draws a token for every job of the step that gets one; NULL: for one of them it
 * cannot, and whole candidates are fetched for all. */
static const dev_draw *draws(gen_batch *b) {
    for (uint32_t i = 0; i < b->max_jobs; i++) {
        const job *j = &b->jobs[i];
        if (!j->handle || j->logits == TEXT_NO_ID) continue;
        if (!gen_task_can_draw(&j->task, &b->draws[j->logits])) return NULL;
    }
    return b->n_logits ? b->draws : NULL;
}

/* Evaluates what there is to do, with guesses if there is room for them. */
static rotor_status eval_step(gen_batch *b, rotor_error *why) {
    fill_step(b, true);
    uint32_t n_rows = b->n_rows;
    uint64_t start = base_now_us();
    rotor_status status = run_eval_draw(b->e, b->rows, n_rows, draws(b), why);
    if (status == ROTOR_OK) note_step(b, n_rows, count_jobs(b, false), base_now_us() - start);
    if (status == ROTOR_E_FULL) {
        fill_step(b, false);
        if (b->n_rows < n_rows) status = run_eval(b->e, b->rows, b->n_rows, why);
    }
    b->turn = (b->turn + 1) % b->max_jobs;
    b->prompts_last = b->long_prompts;
    return status;
}

rotor_status gen_batch_step(gen_batch *b, uint32_t *n_live, rotor_error *err) {
    rotor_error why;
    rotor_status status = end_cancelled(b, err);
    if (status == ROTOR_OK && b->n_live) {
        status = eval_step(b, &why);
        if (status == ROTOR_OK)
            status = advance_all(b, err);
        else if (status == ROTOR_E_FULL)
            status = step_one_by_one(b, err);
        else if (err)
            *err = why;
    }
    *n_live = b->n_live;
    return status;
}
