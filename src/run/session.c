/* SPDX-License-Identifier: MIT
 *
 * Sessions: token timelines over shared cache pages, and the step that extends them.
 *
 * Invariants: (S1) a session holds exactly the pages of its len positions; (S2) refs[p] counts the
 * sessions that hold p, and p is on the free stack exactly when it is 0; (S3) a page is written
 * only while one session holds it: extending into a shared page copies it first.
 */
#include "run/run_internal.h"

#include <assert.h>

/* ==== Pages =================================================================================== */

static uint32_t pages_for(uint32_t n_tok) { return n_tok / KERN_KEYS + (n_tok % KERN_KEYS != 0); }

static void page_release(run_pages *p, uint32_t page) {
    assert(p->refs[page] > 0); /* S2 */
    if (--p->refs[page] == 0) p->free[p->n_free++] = page;
}

static bool page_take(run_pages *p, uint32_t *page) {
    if (p->n_free == 0) return false;
    *page = p->free[--p->n_free];
    assert(p->refs[*page] == 0); /* S2 */
    p->refs[*page] = 1;
    return true;
}

/* Makes the page of position len writable: a new one at a border, a copy where it is shared (S3).
 */
static bool own_page(run_session *s) {
    run_pages *p = &s->e->pages;
    uint32_t block = s->len / KERN_KEYS, page;
    if (block == s->n_pages) {
        if (!page_take(p, &s->pages[block])) return false;
        s->n_pages++;
        return true;
    }
    if (p->refs[s->pages[block]] == 1) return true;
    if (!page_take(p, &page)) return false;
    dev_copy_page(s->e->d, page, s->pages[block]);
    page_release(p, s->pages[block]);
    s->pages[block] = page;
    return true;
}

/* ==== Timelines =============================================================================== */

rotor_status run_session_create(run_session **out, run_engine *e, uint32_t max_tok,
                                rotor_error *err) {
    assert(max_tok > 0);
    run_session *s = base_alloc(sizeof *s);
    if (!s) return base_fail_nomem(err, "creating a session");
    s->e = e;
    s->next = e->sessions;
    if (s->next) s->next->prev = s;
    e->sessions = s;
    s->max_tok = max_tok;
    s->tokens = base_alloc_array(max_tok, sizeof *s->tokens);
    s->pages = base_alloc_array(pages_for(max_tok), sizeof *s->pages);
    if (!s->tokens || !s->pages) {
        run_session_free(&s);
        return base_fail_nomem(err, "creating a session");
    }
    *out = s;
    return ROTOR_OK;
}

void run_session_free(run_session **sp) {
    if (!sp || !*sp) return;
    run_session *s = *sp;
    for (uint32_t i = 0; i < s->e->n_rows; i++)
        if (s->e->table[i] == s->pages) s->e->n_rows = 0;
    for (uint32_t i = 0; i < s->n_pages; i++) page_release(&s->e->pages, s->pages[i]);
    if (s->next) s->next->prev = s->prev;
    *(s->prev ? &s->prev->next : &s->e->sessions) = s->next;
    base_free(s->tokens);
    base_free(s->pages);
    base_free(s);
    *sp = NULL;
}

run_engine *run_session_engine(const run_session *s) { return s->e; }
uint32_t run_session_max(const run_session *s) { return s->max_tok; }
uint32_t run_session_len(const run_session *s) { return s->len; }
const uint32_t *run_session_tokens(const run_session *s) { return s->tokens; }

void run_session_expect(run_session *s, uint32_t k) {
    s->expect = BASE_MIN(k, (uint32_t)DEV_STAGED_BEST);
}

void run_session_rewind(run_session *s, uint32_t n) {
    assert(n <= s->len);
    s->len = n;
    while (s->n_pages > pages_for(n)) page_release(&s->e->pages, s->pages[--s->n_pages]);
}

rotor_status run_session_fork(run_session *dst, const run_session *src, uint32_t n,
                              rotor_error *err) {
    assert(dst->e == src->e && dst->len == 0 && n <= src->len);
    if (n > dst->max_tok)
        return base_fail(err, ROTOR_E_FULL,
                         "the session holds %u tokens at most, %u were to be shared", dst->max_tok,
                         n);
    memcpy(dst->tokens, src->tokens, n * sizeof *src->tokens);
    for (uint32_t i = 0; i < pages_for(n); i++) {
        dst->pages[i] = src->pages[i];
        dst->e->pages.refs[dst->pages[i]]++;
    }
    dst->n_pages = pages_for(n);
    dst->len = n;
    return ROTOR_OK;
}

/* ==== A step ================================================================================== */

rotor_status run_extend(run_engine *e, const run_row *row, uint32_t i, rotor_error *err) {
    run_session *s = row->s;
    if (row->token >= e->m->hp.n_vocab)
        return base_fail(err, ROTOR_E_ARG, "token id %u is outside the vocabulary of %u",
                         row->token, e->m->hp.n_vocab);
    if (s->len == s->max_tok)
        return base_fail(err, ROTOR_E_FULL,
                         "the context is full: %u tokens; use a larger --ctx or a shorter prompt",
                         s->max_tok);
    if (!own_page(s))
        return base_fail(err, ROTOR_E_FULL,
                         "the cache is full: all %u pages of %d tokens are in use", e->pages.n,
                         KERN_KEYS);
    s->tokens[s->len] = row->token;
    e->token[i] = row->token;
    e->pos[i] = s->len++;
    e->table[i] = s->pages;
    return ROTOR_OK;
}

rotor_status run_step(run_engine *e, rotor_error *err) {
    rotor_error why = {0};
    const dev_step step = {.n_rows = e->n_rows,
                           .token = e->token,
                           .pos = e->pos,
                           .pages = e->table,
                           .n_picked = e->n_picked,
                           .picked = e->picked,
                           .n_best = e->n_best};
    e->screened = 0;
    e->have_logits = false;
    if (e->opt.device == DEV_CPU && !e->opt.prompt_apart) return dev_run(e->d, &step, err);
    if (dev_run(e->d, &step, &why) == ROTOR_OK) return ROTOR_OK;
    ROTOR_TRY(run_fall_back(e, why.message, err));
    return dev_run(e->d, &step, err);
}

rotor_status run_eval(run_engine *e, const run_row *rows, uint32_t n, rotor_error *err) {
    assert(n >= 1 && n <= e->opt.chunk && e->n_ahead == 0);
    uint32_t done = 0, n_picked = 0, n_best = 1;
    e->n_rows = 0;
    if (e->adrift) ROTOR_TRY(run_come_back(e, err));
    rotor_status st = ROTOR_OK;
    for (; st == ROTOR_OK && done < n; done++) {
        assert(rows[done].s->e == e);
        st = run_extend(e, &rows[done], done, err);
        if (st != ROTOR_OK) break;
        if (!rows[done].want_logits) continue;
        e->picked[n_picked++] = done;
        n_best = BASE_MAX(n_best, rows[done].s->expect);
    }
    assert(n_picked <= e->opt.max_logits);
    e->n_rows = n;
    e->n_picked = n_picked;
    e->n_best = n_best;
    if (st == ROTOR_OK) st = run_step(e, err);
    if (st == ROTOR_OK) return ROTOR_OK;
    e->n_rows = 0;
    while (done-- > 0) run_session_rewind(rows[done].s, rows[done].s->len - 1);
    return st;
}

/* ==== Bringing a timeline up to date ========================================================== */

static uint32_t common_prefix(const run_session *s, const uint32_t *tokens, uint32_t n) {
    uint32_t i = 0;
    while (i < n && i < s->len && s->tokens[i] == tokens[i]) i++;
    return i;
}

static rotor_status eval_chunk(run_session *s, const uint32_t *tokens, uint32_t n, bool last,
                               rotor_error *err) {
    run_row *rows = s->e->rows;
    for (uint32_t i = 0; i < n; i++) rows[i] = (run_row){s, tokens[i], last && i == n - 1};
    return run_eval(s->e, rows, n, err);
}

rotor_status run_session_sync(run_session *s, const uint32_t *tokens, uint32_t n,
                              run_progress progress, void *user, uint32_t *n_reused,
                              rotor_error *err) {
    assert(n >= 1);
    if (n > s->max_tok)
        return base_fail(err, ROTOR_E_FULL,
                         "the prompt has %u tokens, the context holds %u; use a larger --ctx or a "
                         "shorter prompt",
                         n, s->max_tok);
    uint32_t at =
        BASE_MIN(common_prefix(s, tokens, n), n - 1); /* the last token gives the logits */
    const uint32_t chunk = s->e->opt.chunk;
    if (n_reused) *n_reused = at;
    run_session_rewind(s, at);
    while (at < n) {
        if (progress && !progress(user, at, n))
            return base_fail(err, ROTOR_E_CANCELLED, "stopped after %u of %u prompt tokens", at, n);
        uint32_t k = BASE_MIN(chunk, n - at);
        ROTOR_TRY(eval_chunk(s, tokens + at, k, at + k == n, err));
        at += k;
    }
    if (progress) progress(user, n, n);
    return ROTOR_OK;
}
