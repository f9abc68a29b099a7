/* SPDX-License-Identifier: MIT
 *
 * Sessions and the ways to get logits: after the last token all or the best, or after each token.
 */
#include "api/api_internal.h"

#include <math.h>

rotor_status rotor_session_create(rotor_session **out, rotor_engine *e, uint32_t max_tok,
                                  rotor_error *err) {
    if (!out || !e)
        return base_fail(err, ROTOR_E_ARG, "rotor_session_create: out or engine is NULL");
    if (max_tok > e->n_ctx)
        return base_fail(err, ROTOR_E_ARG, "session of %u positions: the engine's context is %u",
                         max_tok, e->n_ctx);
    if (e->opt.embed)
        return base_fail(err, ROTOR_E_STATE,
                         "rotor_session_create: the engine was opened to embed; it writes no text");
    if (e->m->file) ROTOR_TRY(file_unchanged(e->m->file, err));
    rotor_session *s = base_alloc(sizeof *s);
    if (!s) return base_fail_nomem(err, "creating a session");
    s->e = e;
    rotor_status status = run_session_create(&s->run, e->run, max_tok ? max_tok : e->n_ctx, err);
    if (status != ROTOR_OK) {
        base_free(s);
        return status;
    }
    *out = s;
    return ROTOR_OK;
}

void rotor_session_free(rotor_session **s) {
    if (!s || !*s) return;
    run_session_free(&(*s)->run);
    base_free(*s);
    *s = NULL;
}

uint32_t rotor_session_len(const rotor_session *s) { return s ? run_session_len(s->run) : 0; }
uint32_t rotor_session_max(const rotor_session *s) { return s ? run_session_max(s->run) : 0; }

void rotor_session_rewind(rotor_session *s, uint32_t n_keep) {
    if (s && n_keep < run_session_len(s->run)) run_session_rewind(s->run, n_keep);
}

const uint32_t *rotor_session_tokens(const rotor_session *s) {
    return s ? run_session_tokens(s->run) : NULL;
}

rotor_status rotor_session_save(rotor_session *s, const char *path, const char *note,
                                rotor_error *err) {
    if (!s || !path)
        return base_fail(err, ROTOR_E_ARG, "rotor_session_save: session or path is NULL");
    return run_session_save(s->run, path, base_str_of(note ? note : ""), err);
}

rotor_status rotor_session_load(rotor_session *s, const char *path, char **note, rotor_error *err) {
    base_buf text = {0};
    if (!s || !path)
        return base_fail(err, ROTOR_E_ARG, "rotor_session_load: session or path is NULL");
    if (note && !base_buf_puts(&text, "")) return base_fail_nomem(err, "loading a session");
    const rotor_status st = run_session_load(s->run, path, note ? &text : NULL, err);
    if (st == ROTOR_OK && note)
        *note = text.data;
    else
        base_buf_free(&text);
    return st;
}

static rotor_status check_tokens(const rotor_session *s, const uint32_t *tokens, size_t n,
                                 rotor_error *err) {
    if (!s || !tokens || n == 0)
        return base_fail(err, ROTOR_E_ARG, "evaluating: no session or no tokens");
    uint32_t n_vocab = s->e->m->hp.n_vocab;
    for (size_t i = 0; i < n; i++)
        if (tokens[i] >= n_vocab)
            return base_fail(err, ROTOR_E_ARG, "token %u at %zu is outside the vocabulary of %u",
                             tokens[i], i, n_vocab);
    if (n > run_session_max(s->run))
        return base_fail(err, ROTOR_E_FULL, "%zu tokens do not fit the session's %u positions", n,
                         run_session_max(s->run));
    return ROTOR_OK;
}

rotor_status rotor_eval(rotor_session *s, const uint32_t *tokens, size_t n, const float **logits,
                        rotor_error *err) {
    ROTOR_TRY(check_tokens(s, tokens, n, err));
    ROTOR_TRY(run_session_sync(s->run, tokens, (uint32_t)n, NULL, NULL, NULL, err));
    if (logits) *logits = run_logits(s->e->run, 0);
    return ROTOR_OK;
}

/* Puts one logit where it belongs among the best k so far, top[*n]; ids come in ascending order. */
static void put_logit(rotor_logit *top, size_t k, size_t *n, rotor_logit it) {
    if (!(it.value == it.value) || (*n == k && !(it.value > top[k - 1].value))) return;
    size_t at = *n < k ? (*n)++ : k - 1;
    for (; at > 0 && it.value > top[at - 1].value; at--) top[at] = top[at - 1];
    top[at] = it;
}

rotor_status rotor_eval_top(rotor_session *s, const uint32_t *tokens, size_t n, rotor_logit *top,
                            size_t k, rotor_error *err) {
    ROTOR_TRY(check_tokens(s, tokens, n, err));
    if (!top || k < 1 || k > DEV_STAGED_BEST)
        return base_fail(err, ROTOR_E_ARG, "rotor_eval_top: k is %zu, expected 1 to %d", k,
                         DEV_STAGED_BEST);
    run_engine *e = s->e->run;
    const uint32_t n_vocab = s->e->m->hp.n_vocab;
    const run_want want = {.k = (uint32_t)BASE_MIN(k, n_vocab)};
    run_found found;
    size_t kept = 0;
    ROTOR_TRY(run_session_sync(s->run, tokens, (uint32_t)n, NULL, NULL, NULL, err));
    if (run_candidates(e, 0, &want, &found)) {
        for (uint32_t i = 0; i < found.n; i++)
            put_logit(top, k, &kept, (rotor_logit){found.id[i], found.value[i]});
    } else {
        const float *logits = run_logits(e, 0);
        for (uint32_t i = 0; i < n_vocab; i++)
            put_logit(top, k, &kept, (rotor_logit){i, logits[i]});
    }
    while (kept < k) top[kept++] = (rotor_logit){ROTOR_NO_ID, -INFINITY};
    return ROTOR_OK;
}

rotor_status rotor_eval_together(rotor_session *const *sessions, const uint32_t *tokens, size_t n,
                                 const float **logits, rotor_error *err) {
    if (!sessions || !tokens || !logits || n == 0 || !sessions[0])
        return base_fail(err, ROTOR_E_ARG, "rotor_eval_together: a required argument is NULL or 0");
    rotor_engine *e = sessions[0]->e;
    size_t most = BASE_MIN(run_chunk(e->run), run_max_logits(e->run));
    if (n > most)
        return base_fail(err, ROTOR_E_ARG,
                         "%zu sessions in a step: the engine's max_logits and chunk allow %zu", n,
                         most);
    for (size_t i = 0; i < n; i++) {
        if (!sessions[i] || sessions[i]->e != e)
            return base_fail(err, ROTOR_E_ARG, "session %zu is NULL or of another engine", i);
        e->rows[i] = (run_row){sessions[i]->run, tokens[i], true};
    }
    ROTOR_TRY(run_eval(e->run, e->rows, (uint32_t)n, err));
    for (size_t i = 0; i < n; i++) logits[i] = run_logits(e->run, (uint32_t)i);
    return ROTOR_OK;
}

rotor_status rotor_eval_all(rotor_session *s, const uint32_t *tokens, size_t n,
                            bool (*fn)(void *user, size_t pos, const float *logits), void *user,
                            rotor_error *err) {
    ROTOR_TRY(check_tokens(s, tokens, n, err));
    if (!fn) return base_fail(err, ROTOR_E_ARG, "rotor_eval_all: fn is NULL");
    run_engine *e = s->e->run;
    size_t at_once = BASE_MIN(run_chunk(e), run_max_logits(e));
    run_row *rows = s->e->rows;
    rotor_status status = ROTOR_OK;
    run_session_rewind(s->run, 0);
    for (size_t done = 0; done < n && status == ROTOR_OK;) {
        uint32_t m = (uint32_t)BASE_MIN(at_once, n - done);
        for (uint32_t i = 0; i < m; i++) rows[i] = (run_row){s->run, tokens[done + i], true};
        status = run_eval(e, rows, m, err);
        for (uint32_t i = 0; i < m && status == ROTOR_OK; i++, done++)
            if (!fn(user, done, run_logits(e, i)))
                status = base_fail(err, ROTOR_E_CANCELLED, "stopped by the caller at position %zu",
                                   done);
    }
    return status;
}
