/* SPDX-License-Identifier: MIT
 *
 * Guesses of the next tokens: from the timeline itself (ngram.c), or from a smaller model.
 *
 * Each guess has a kind, which says how sure it looks: for the timeline how many tokens agree
 * before it, for the model the probability it gave. How often guesses of a kind were right, the
 * ones before them being right, is counted; the product along a draft is the chance that a row
 * will not have been in vain. A guess is made while that chance pays for its row (gen_plan). When
 * none has paid for a while, one is made all the same, to see whether that is still true.
 *
 *     chance 0.9 0.8 0.7 …  x  time of the step  >  tokens of the step  x  time of the row ?
 *
 * The smaller model draws with a copy of the random numbers that the judge is about to use: where
 * the two agree on the distribution they agree on the token.
 *
 * Nothing here fails after creation: trouble means no guess. No memory is allocated then either.
 */
#include "gen/gen_internal.h"

#include <assert.h>
#include <math.h>

enum {
    DEFAULT_MAX = 8,       /* guesses per step */
    N_LOOKUP_KINDS = 6,    /* kinds of the timeline; the model's come behind */
    ALL = GEN_DRAFT_KINDS, /* odds of the model's guesses together */
    MEMORY = 32,           /* judgements after which half is forgotten */
    MIN_PATIENCE = 16,     /* tokens without a guess before the first probe … */
    MAX_PATIENCE = 512,    /* … and after many in vain */
    MODEL_PROBES = 4,      /* in vain, then no more: the model would have to read all the text */
    FEW = 8                /* tokens to catch up with that do not count as a guess's time */
};

/* What is expected of a kind before anything is known, as so many judgements. */
static const float prior[GEN_DRAFT_KINDS + 1] = {0.3f, 0.4f, 0.5f, 0.6f,  0.7f,  0.8f, 0.1f,
                                                 0.3f, 0.5f, 0.7f, 0.85f, 0.95f, 0.7f};
static const float prior_weight = 2;

/* ==== Creation ================================================================================ */

static rotor_status start_model(gen_drafter *d, const run_session *s, const gen_options *opt,
                                rotor_error *err) {
    const model *own = run_model(run_session_engine(s));
    const model *other = run_model(run_session_engine(opt->draft));
    uint32_t n_vocab = BASE_MIN(own->hp.n_vocab, other->hp.n_vocab);
    gen_sampling how = opt->sampling;
    how.hook = NULL; /* the caller's, who is to see each token once */
    for (size_t i = 0; i < how.n_bias; i++)
        if (how.bias[i].id >= n_vocab) how.n_bias = 0;
    assert(run_session_engine(opt->draft) != run_session_engine(s));
    d->s = opt->draft;
    return gen_sampler_create(&d->sampler, &how, n_vocab, err);
}

rotor_status gen_drafter_init(gen_drafter *d, run_session *s, const gen_options *opt,
                              rotor_error *err) {
    memset(d, 0, sizeof *d);
    if (!opt->lookup_min && !opt->draft) return ROTOR_OK;
    uint32_t max_tok = run_session_max(s);
    rotor_status status = ROTOR_OK;
    d->max = BASE_MIN(opt->draft_max ? opt->draft_max : DEFAULT_MAX, (uint32_t)GEN_DRAFT_MAX);
    d->patience = MIN_PATIENCE;
    d->always = opt->draft_always;
    for (uint32_t i = 0; i <= GEN_DRAFT_KINDS; i++)
        d->odds[i] = (gen_odds){prior[i] * prior_weight, prior_weight};
    d->line = base_alloc_array((size_t)max_tok + 1, sizeof *d->line);
    if (!d->line) status = ROTOR_E_NOMEM;
    if (status == ROTOR_OK && opt->lookup_min)
        status = gen_ngram_init(&d->index, d->line, max_tok + 1, opt->lookup_min);
    if (status == ROTOR_OK && opt->draft) status = start_model(d, s, opt, err);
    if (status == ROTOR_OK) return ROTOR_OK;
    gen_drafter_free(d);
    return status == ROTOR_E_NOMEM ? base_fail_nomem(err, "preparing speculation") : status;
}

void gen_drafter_free(gen_drafter *d) {
    gen_ngram_free(&d->index);
    gen_sampler_free(&d->sampler);
    base_free(d->line);
    memset(d, 0, sizeof *d);
}

void gen_drafter_restart(gen_drafter *d) {
    d->n = d->n_line = d->agreed = 0;
    gen_ngram_clear(&d->index);
}

void gen_drafter_add(gen_drafter *d, const uint32_t *tokens, uint32_t n) {
    if (!d->max) return;
    memcpy(d->line + d->n_line, tokens, n * sizeof *tokens);
    d->n_line += n;
    if (d->index.head) gen_ngram_grow(&d->index, d->n_line);
}

/* ==== What a guess is worth =================================================================== */

static double chance(const gen_drafter *d, uint32_t kind) {
    const gen_odds *o = &d->odds[kind];
    return (double)(o->right / o->judged);
}

static bool pays(const gen_drafter *d, const gen_plan *plan, double right, double us) {
    if (d->always || (d->probe && d->n == 0)) return true;
    return right * plan->us > us * plan->tokens;
}

static void put(gen_drafter *d, uint32_t id, uint32_t kind) {
    d->guess[d->n] = id;
    d->kind[d->n++] = (uint8_t)kind;
}

static void plan_row(gen_plan *plan, double right, double us) {
    plan->tokens += right;
    plan->us += us;
}

/* ==== From the timeline ======================================================================= */

static uint32_t kind_of_match(uint32_t len) {
    return len <= 2 ? 0 : len == 3 ? 1 : len <= 5 ? 2 : len <= 8 ? 3 : len <= 16 ? 4 : 5;
}

/* What followed then; past the end of the timeline it goes on with the guesses themselves. */
static uint32_t followed(const gen_drafter *d, uint32_t at) {
    return at < d->n_line ? d->line[at] : d->guess[at - d->n_line];
}

static void guess_from_timeline(gen_drafter *d, uint32_t room, gen_plan *plan) {
    gen_match m;
    double right = 1;
    if (!gen_ngram_find(&d->index, &m)) return;
    while (d->n < room) {
        uint32_t kind = kind_of_match(m.len + d->n);
        right *= chance(d, kind);
        if (!pays(d, plan, right, plan->row_us)) return;
        plan_row(plan, right, plan->row_us);
        put(d, followed(d, m.next + d->n), kind);
    }
}

/* ==== From the model ========================================================================== */

static uint32_t kind_of_logprob(float logprob) {
    double p = exp((double)logprob);
    uint32_t k = p < 0.2 ? 0 : p < 0.4 ? 1 : p < 0.6 ? 2 : p < 0.8 ? 3 : p < 0.95 ? 4 : 5;
    return N_LOOKUP_KINDS + k;
}

/* Brings the model's timeline up to the line; its logits are then for the last token. *n_fed:
 * tokens that took. */
static bool catch_up(gen_drafter *d, uint32_t *n_fed) {
    run_engine *e = run_session_engine(d->s);
    const uint32_t *have = run_session_tokens(d->s);
    uint32_t at = BASE_MIN(d->agreed, run_session_len(d->s)), n_vocab = run_model(e)->hp.n_vocab;
    run_row rows[64];
    while (at < run_session_len(d->s) && at < d->n_line && have[at] == d->line[at]) at++;
    if (at == d->n_line) at--; /* the last token gives the logits */
    d->agreed = at = run_session_rewind(d->s, at);
    *n_fed = d->n_line - at;
    while (at < d->n_line) {
        uint32_t n = BASE_MIN(d->n_line - at, BASE_MIN(run_chunk(e), (uint32_t)BASE_COUNT(rows)));
        for (uint32_t i = 0; i < n; i++) {
            rows[i] = (run_row){d->s, d->line[at + i], at + i + 1 == d->n_line};
            if (rows[i].token >= n_vocab) return false; /* padding that only the other has */
        }
        if (run_eval(e, rows, n, NULL) != ROTOR_OK) return false;
        d->agreed = at += n;
    }
    return true;
}

static void note_time(gen_drafter *d, uint64_t us, uint32_t n_steps) {
    double each = (double)us / n_steps;
    if (d->draft_us > 0) each = 0.6 * d->draft_us + 0.4 * BASE_MIN(each, 2 * d->draft_us);
    d->draft_us = each;
}

static void guess_from_model(gen_drafter *d, const gen_sampler *like, uint32_t room,
                             gen_plan *plan) {
    double right = 1, us = plan->row_us + d->draft_us;
    uint64_t start = base_now_us();
    uint32_t n_fed, n_steps = 1;
    if (!pays(d, plan, chance(d, ALL), us) || !catch_up(d, &n_fed)) return;
    run_engine *e = run_session_engine(d->s);
    gen_sampler_follow(d->sampler, like);
    for (;; n_steps++) {
        gen_choice c;
        uint32_t len = run_session_len(d->s);
        if (gen_sample(d->sampler, run_logits(e, 0), run_session_tokens(d->s), len, &c, NULL, 0,
                       NULL) != ROTOR_OK)
            break;
        uint32_t kind = kind_of_logprob(c.logprob);
        right *= chance(d, kind);
        if (!pays(d, plan, right, plan->row_us)) break; /* the guess is made, its row is not paid */
        plan_row(plan, right, us);
        put(d, c.id, kind);
        const run_row row = {d->s, c.id, true};
        if (d->n == room || !pays(d, plan, right * chance(d, ALL), us) ||
            run_eval(e, &row, 1, NULL) != ROTOR_OK)
            break;
    }
    if (n_fed <= FEW) note_time(d, base_now_us() - start, n_steps);
}

/* ==== Guessing and judging ==================================================================== */

/* A probe is in vain if the model has had its chances, or is so slow that no luck would pay. */
static bool model_is_hopeless(const gen_drafter *d, const gen_plan *plan) {
    double us =
        plan->row_us + d->draft_us / 2; /* the time may have been measured in a bad moment */
    return d->n_probes >= MODEL_PROBES || plan->us < us * plan->tokens;
}

static void guess_from_both(gen_drafter *d, const gen_sampler *like, uint32_t room,
                            gen_plan *plan) {
    if (d->index.head) guess_from_timeline(d, room, plan);
    if (d->n == 0 && d->s && !(d->probe && model_is_hopeless(d, plan)))
        guess_from_model(d, like, room, plan);
}

void gen_drafter_guess(gen_drafter *d, const gen_sampler *like, uint32_t room, gen_plan *plan) {
    room = BASE_MIN(room, d->max);
    d->n = 0;
    d->probe = false;
    if (room == 0) return;
    guess_from_both(d, like, room, plan);
    if (d->n) {
        d->idle = d->n_probes = 0;
        d->patience = MIN_PATIENCE;
    } else if (++d->idle > d->patience) {
        d->probe = true;
        guess_from_both(d, like, 1, plan);
        if (d->n == 0) return;
        d->idle = 0;
        d->n_probes++;
        d->patience = BASE_MIN(2 * d->patience, (uint32_t)MAX_PATIENCE);
    }
}

static void count(gen_odds *o, bool right) {
    o->right += right ? 1.0f : 0.0f;
    if (++o->judged < MEMORY) return;
    o->right /= 2;
    o->judged /= 2;
}

void gen_drafter_judge(gen_drafter *d, uint32_t n_right, uint32_t n_judged) {
    for (uint32_t i = 0; i < n_judged; i++) {
        count(&d->odds[d->kind[i]], i < n_right);
        if (d->kind[i] >= N_LOOKUP_KINDS) count(&d->odds[ALL], i < n_right);
    }
    d->n_drafted += d->n;
    d->n_accepted += n_right;
    d->n = 0;
}
