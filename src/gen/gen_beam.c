/* SPDX-License-Identifier: MIT
 *
 * Beam search.
 *
 * Each round, every living beam proposes its `width` likeliest next tokens; ended beams propose
 * themselves. The `width` proposals with the best score become the beams of the next round. The
 * search is over when all beams have ended or are as long as allowed.
 *
 *     score = log-probability / tokens^alpha, an end-of-generation token counting as one
 *
 * A beam is a session forked from its parent's, so that beams share the cache pages of what they
 * have in common. Sessions come in two sets: one holds this round's beams, the other receives the
 * next round's. The caller's session ends holding the prompt.
 */
#include "gen/gen_internal.h"

#include <assert.h>
#include <math.h>

typedef struct beam {
    uint32_t *ids;  /* [max_new] tokens so far, part of search.ids */
    uint32_t n;     /* how many */
    double logprob; /* sum, ending token included */
    double score;   /* normalised */
    bool ended;     /* by an end-of-generation token */
    uint64_t state; /* of the guide */
    run_session *s; /* timeline; unused once ended */
} beam;

typedef struct proposal {
    uint32_t parent; /* index in the current beams */
    uint32_t id;     /* next token; TEXT_NO_ID: the parent as it is, ended */
    double logprob;  /* of the whole beam */
    double score;    /* normalised */
} proposal;

typedef struct search {
    run_engine *e;          /* borrowed */
    const text_vocab *v;    /* borrowed; NULL: no end-of-generation tokens */
    uint32_t n_vocab;       /* V */
    uint32_t width;         /* beams kept */
    uint32_t max_new;       /* tokens per beam at most */
    float alpha;            /* length exponent */
    const gen_guide *guide; /* borrowed; NULL: any token may come */
    beam *now, *next;       /* [width] each, owned */
    uint32_t n_now;         /* beams in now */
    uint32_t *ids;          /* [2, width, max_new], owned */
    proposal *best;         /* [width + 1], sorted, owned */
    uint32_t n_best;        /* in use */
    rotor_error why;        /* why a beam died last */
    run_row *rows;          /* [width], owned */
    float *logits;          /* [V] scratch, owned */
    gen_cand *cand;         /* [V] scratch, owned */
} search;

static void search_free(search *f) {
    for (int set = 0; set < 2; set++) {
        beam *beams = set ? f->next : f->now;
        for (uint32_t i = 0; beams && i < f->width; i++) run_session_free(&beams[i].s);
        base_free(beams);
    }
    base_free(f->ids);
    base_free(f->best);
    base_free(f->rows);
    base_free(f->logits);
    base_free(f->cand);
}

static rotor_status search_init(search *f, uint32_t max_tok, rotor_error *err) {
    size_t n_ids;
    f->now = base_alloc_array(f->width, sizeof *f->now);
    f->next = base_alloc_array(f->width, sizeof *f->next);
    f->best = base_alloc_array((size_t)f->width + 1, sizeof *f->best);
    f->rows = base_alloc_array(f->width, sizeof *f->rows);
    f->logits = base_alloc_array(f->n_vocab, sizeof *f->logits);
    f->cand = base_alloc_array(f->n_vocab, sizeof *f->cand);
    if (base_mul_size(2 * (size_t)f->width, f->max_new, &n_ids))
        f->ids = base_alloc_array(n_ids, sizeof *f->ids);
    if (!f->now || !f->next || !f->best || !f->rows || !f->logits || !f->cand || !f->ids)
        return base_fail_nomem(err, "preparing a beam search");
    for (size_t i = 0; i < f->width; i++) {
        f->now[i].ids = f->ids + i * f->max_new;
        f->next[i].ids = f->ids + (f->width + i) * f->max_new;
        ROTOR_TRY(run_session_create(&f->now[i].s, f->e, max_tok, err));
        ROTOR_TRY(run_session_create(&f->next[i].s, f->e, max_tok, err));
    }
    return ROTOR_OK;
}

/* ==== Proposals =============================================================================== */

static double normalised(const search *f, double logprob, uint32_t n_tok) {
    return n_tok ? logprob / pow((double)n_tok, (double)f->alpha) : logprob;
}

/* Equal scores: the earlier parent, then the likelier (or lower) token, which comes first. */
static void propose(search *f, proposal p) {
    uint32_t at = f->n_best;
    if (at == f->width && !(p.score > f->best[at - 1].score)) return;
    for (; at > 0 && p.score > f->best[at - 1].score; at--) f->best[at] = f->best[at - 1];
    f->best[at] = p;
    if (f->n_best < f->width) f->n_best++;
}

/* A beam that its rules leave no token, or that has no finite logit, dies: it proposes nothing, and
 * the others go on. */
static rotor_status propose_next(search *f, uint32_t parent, const float *logits,
                                 rotor_error *err) {
    const beam *b = &f->now[parent];
    float max;
    memcpy(f->logits, logits, f->n_vocab * sizeof *logits);
    if (f->guide) {
        gen_mask mask;
        const rotor_status st = f->guide->may(f->guide->user, b->state, &mask, &f->why);
        if (st == ROTOR_E_UNSUPPORTED || st == ROTOR_E_FORMAT) return ROTOR_OK; /* a dead end */
        if (st != ROTOR_OK) return base_fail(err, st, "%s", f->why.message);
        gen_forbid(&mask, f->logits, f->n_vocab, f->cand);
    }
    if (!gen_clean(f->logits, f->n_vocab, &max)) {
        base_fail(&f->why, ROTOR_E_FORMAT, "none of %u logits is a finite number", f->n_vocab);
        return ROTOR_OK;
    }
    double log_norm = (double)max + log(gen_exp_sum(f->logits, f->n_vocab, max));
    size_t n = gen_best(f->cand, f->logits, f->n_vocab, f->width);
    gen_sort(f->cand, n);
    for (size_t i = 0; i < n; i++) {
        double logprob = b->logprob + (double)f->cand[i].logit - log_norm;
        propose(f, (proposal){parent, f->cand[i].id, logprob, normalised(f, logprob, b->n + 1)});
    }
    return ROTOR_OK;
}

/* Evaluates the last token of living beams, as many at a time as the engine takes. */
static rotor_status propose_all(search *f, rotor_error *err) {
    uint32_t at_once = BASE_MIN(run_chunk(f->e), run_max_logits(f->e)), n_rows = 0, first = 0;
    f->n_best = 0;
    for (uint32_t i = 0; i < f->n_now; i++) {
        beam *b = &f->now[i];
        if (!b->ended) f->rows[n_rows++] = (run_row){b->s, b->ids[b->n - 1], true};
        if (n_rows < at_once && i + 1 < f->n_now) continue;
        if (n_rows) ROTOR_TRY(run_eval(f->e, f->rows, n_rows, err));
        for (uint32_t row = 0; first <= i; first++) {
            if (f->now[first].ended) {
                const beam *done = &f->now[first];
                propose(f, (proposal){first, TEXT_NO_ID, done->logprob, done->score});
            } else {
                ROTOR_TRY(propose_next(f, first, run_logits(f->e, row++), err));
            }
        }
        n_rows = 0;
    }
    return ROTOR_OK;
}

static rotor_status some_live(const search *f, rotor_error *err) {
    if (f->n_best) return ROTOR_OK;
    return base_fail(err, f->why.code ? f->why.code : ROTOR_E_FORMAT,
                     "beam search: no beam can go on: %s", f->why.message);
}

/* ==== Rounds ================================================================================== */

static bool is_end(const search *f, uint32_t id) {
    return f->v && id < text_n_tokens(f->v) && text_is_eog(f->v, id);
}

/* Makes the chosen proposals the beams of the next round. root: parent of the first round. */
static rotor_status advance(search *f, const run_session *root, rotor_error *err) {
    for (uint32_t i = 0; i < f->n_best; i++) {
        const proposal *p = &f->best[i];
        const beam *parent = &f->now[p->parent];
        beam *b = &f->next[i];
        if (parent->n) memcpy(b->ids, parent->ids, parent->n * sizeof *b->ids);
        b->n = parent->n;
        b->state = parent->state;
        b->logprob = p->logprob;
        b->score = p->score;
        b->ended = parent->ended || is_end(f, p->id);
        if (b->ended) continue;
        b->ids[b->n++] = p->id;
        if (f->guide) b->state = f->guide->step(f->guide->user, b->state, p->id);
        const run_session *from = root ? root : parent->s;
        if (b->n < f->max_new) ROTOR_TRY(run_session_fork(b->s, from, run_session_len(from), err));
    }
    for (uint32_t i = 0; i < f->width; i++) run_session_rewind(f->now[i].s, 0);
    beam *old = f->now;
    f->now = f->next;
    f->next = old;
    f->n_now = f->n_best;
    return ROTOR_OK;
}

static bool all_ended(const search *f) {
    for (uint32_t i = 0; i < f->n_now; i++)
        if (!f->now[i].ended) return false;
    return true;
}

static rotor_status search_run(search *f, run_session *s, const uint32_t *prompt, uint32_t n,
                               rotor_error *err) {
    ROTOR_TRY(run_session_sync(s, prompt, n, NULL, NULL, NULL, err));
    f->n_now = 1;
    if (f->guide) f->now[0].state = f->guide->start;
    f->n_best = 0;
    ROTOR_TRY(propose_next(f, 0, run_logits(f->e, 0), err));
    ROTOR_TRY(some_live(f, err));
    ROTOR_TRY(advance(f, s, err));
    for (uint32_t round = 1; round < f->max_new && !all_ended(f); round++) {
        ROTOR_TRY(propose_all(f, err));
        ROTOR_TRY(some_live(f, err));
        ROTOR_TRY(advance(f, NULL, err));
    }
    return ROTOR_OK;
}

/* ==== Result ================================================================================== */

static rotor_status give(const search *f, gen_beam **out, rotor_error *err) {
    gen_beam *beams = base_alloc_array(f->width, sizeof *beams);
    if (!beams) return base_fail_nomem(err, "storing beams");
    for (uint32_t i = 0; i < f->width; i++) beams[i].logprob = beams[i].score = -INFINITY;
    for (uint32_t i = 0; i < f->n_now; i++) {
        const beam *b = &f->now[i];
        beams[i].ids.ids = base_alloc_array(b->n, sizeof *b->ids);
        if (!beams[i].ids.ids) {
            gen_beams_free(beams, f->width);
            return base_fail_nomem(err, "storing beams");
        }
        if (b->n) memcpy(beams[i].ids.ids, b->ids, b->n * sizeof *b->ids);
        beams[i].ids.n = beams[i].ids.cap = b->n;
        beams[i].logprob = (float)b->logprob;
        beams[i].score = (float)b->score;
        beams[i].ended = b->ended;
    }
    *out = beams;
    return ROTOR_OK;
}

void gen_beams_free(gen_beam *beams, uint32_t width) {
    for (uint32_t i = 0; beams && i < width; i++) text_ids_free(&beams[i].ids);
    base_free(beams);
}

rotor_status gen_beam_search(run_session *s, const uint32_t *prompt, uint32_t n,
                             const gen_beam_options *opt, gen_beam **beams, rotor_error *err) {
    assert(n >= 1 && opt->width >= 1);
    const uint32_t max_tok = run_session_max(s), max_new_tok = opt->max_new_tok;
    if (n > max_tok)
        return base_fail(err, ROTOR_E_FULL, "beam search: prompt of %u tokens, the session has %u",
                         n, max_tok);
    uint32_t room = max_tok - n + 1;
    search f = {.e = run_session_engine(s),
                .width = opt->width,
                .max_new = max_new_tok && max_new_tok < room ? max_new_tok : room,
                .alpha = opt->alpha,
                .guide = opt->guide};
    f.v = run_model(f.e)->vocab;
    f.n_vocab = run_model(f.e)->hp.n_vocab;
    rotor_status status = search_init(&f, max_tok, err);
    if (status == ROTOR_OK) status = search_run(&f, s, prompt, n, err);
    if (status == ROTOR_OK) status = give(&f, beams, err);
    search_free(&f);
    return status;
}
