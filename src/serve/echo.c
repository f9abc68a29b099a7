/* SPDX-License-Identifier: MIT
 *
 * The prompt as part of the answer, with the probability of each of its tokens: how test suites
 * measure models. The probabilities take a pass of their own over the prompt, on a session of its
 * own, in which nothing else happens.
 */
#include "serve/serve_internal.h"

#include <math.h>

enum { LOOK_EVERY = 64 }; /* positions after which somebody looks whether it is still wanted */

typedef struct pass {
    serve_job *j;     /* whose prompt */
    uint32_t n_vocab; /* logits in a row */
    bool failed;      /* out of memory */
} pass;

static double log_of_sum(const float *x, uint32_t n) {
    float max = -INFINITY;
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    for (uint32_t i = 0; i < n; i++) sum += exp((double)(x[i] - max));
    return (double)max + log(sum);
}

/* The likeliest k, best first. */
static uint32_t best_of(const float *x, uint32_t n, double norm, rotor_token *top, uint32_t k) {
    uint32_t have = 0;
    for (uint32_t i = 0; k && i < n; i++) {
        const float v = (float)((double)x[i] - norm);
        if (have == k && !(v > top[k - 1].logprob)) continue;
        uint32_t at = have < k ? have++ : k - 1;
        for (; at > 0 && v > top[at - 1].logprob; at--) top[at] = top[at - 1];
        top[at] = (rotor_token){i, v};
    }
    return have;
}

static bool put(serve_job *j, size_t i, float logprob, const rotor_token *top, uint32_t n_top) {
    const serve_prompt *p = j->choice->of;
    const rotor_token token = {p->tokens[i], logprob};
    char *text = serve_text_behind(j->c->engine, i ? p->tokens[i - 1] : ROTOR_NO_ID, p->tokens[i]);
    if (!text) return false;
    j->prev = i ? p->tokens[i - 1] : ROTOR_NO_ID;
    const bool ok = serve_keep_token(j, text, strlen(text), &token, top, n_top) != NULL;
    rotor_free(text);
    return ok;
}

/* Nobody is left to read it, or the server ends. */
static bool is_over(serve_call *c) {
    serve_server *s = c->inside->s;
    base_mutex_lock(s->lock);
    const bool cut = s->cut;
    base_mutex_unlock(s->lock);
    if (cut || serve_call_left(c)) c->inside->cancelled = true;
    return c->inside->cancelled;
}

static bool on_logits(void *user, size_t pos, const float *logits) {
    pass *w = user;
    const serve_prompt *p = w->j->choice->of;
    rotor_token top[SERVE_TOP_MAX];
    if (pos % LOOK_EVERY == 0 && is_over(w->j->c)) return false;
    if (pos + 1 == p->n_tokens) return true;
    const double norm = log_of_sum(logits, w->n_vocab);
    const uint32_t n = best_of(logits, w->n_vocab, norm, top, w->j->gen.n_top);
    w->failed = !put(w->j, pos + 1, (float)((double)logits[p->tokens[pos + 1]] - norm), top, n);
    return !w->failed;
}

static rotor_status score(serve_job *j, rotor_error *err) {
    const serve_prompt *p = j->choice->of;
    rotor_session *s = NULL;
    pass w = {.j = j, .n_vocab = j->c->inside->model->info.n_vocab};
    if (!put(j, 0, NAN, NULL, 0)) return base_fail_nomem(err, "scoring a prompt");
    rotor_batch_make_room(j->c->inside->model->batch, p->n_tokens);
    ROTOR_TRY(rotor_session_create(&s, j->c->inside->model->engine, 0, err));
    const rotor_status st = rotor_eval_all(s, p->tokens, p->n_tokens, on_logits, &w, err);
    rotor_session_free(&s);
    return w.failed ? base_fail_nomem(err, "scoring a prompt") : st;
}

rotor_status serve_echo(serve_job *j, rotor_error *err) {
    const serve_prompt *p = j->choice->of;
    serve_choice *ch = j->choice;
    char *text = NULL;
    size_t n = 0;
    if (j->c->req.logprobs) {
        ROTOR_TRY(score(j, err));
        for (size_t i = 0; i < ch->n_tokens; i++) {
            const serve_token *t = &ch->tokens[i];
            base_buf_append(&ch->text, t->text, t->n_bytes);
            serve_emit(j->c, &(serve_event){.kind = SERVE_TEXT,
                                            .choice = ch,
                                            .text = t->text,
                                            .n_bytes = t->n_bytes,
                                            .token = t});
        }
        return ch->text.failed ? base_fail_nomem(err, "echoing a prompt") : ROTOR_OK;
    }
    if (p->text) {
        text = base_strndup(p->text, n = p->n_bytes);
    } else {
        ROTOR_TRY(rotor_detokenize(j->c->engine, p->tokens, p->n_tokens, true, &text, &n, err));
    }
    const bool ok = text && base_buf_append(&ch->text, text, n);
    if (ok)
        serve_emit(j->c,
                   &(serve_event){.kind = SERVE_TEXT, .choice = ch, .text = text, .n_bytes = n});
    rotor_free(text);
    return ok ? ROTOR_OK : base_fail_nomem(err, "echoing a prompt");
}
