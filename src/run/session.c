/* SPDX-License-Identifier: MIT
 *
 * Sessions: token timelines over shared cache pages, and the step that extends them.
 *
 * Layers with a window may have pages of their own, of which a session keeps only the last: enough
 * for the rows of a step, and for going back a little; marks.c is for going back further.
 *
 * Invariants: (S1) a session holds exactly the pages of its len positions, and ring pages from
 * block ring_first on; (S2) refs[p] counts the sessions and marks that hold p, and p is on the free
 * stack exactly when it is 0; (S3) a page is written only while one session holds it: extending
 * into a shared page copies it first.
 */
#include "run/run_internal.h"

#include <assert.h>

/* ==== Pages =================================================================================== */

static uint32_t pages_for(uint32_t n_tok) { return n_tok / KERN_KEYS + (n_tok % KERN_KEYS != 0); }

void run_page_release(run_pages *p, uint32_t page) {
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

/* A ring page, of a mark if need be. */
static bool ring_take(run_engine *e, uint32_t *page) {
    run_make_ring_room(e, 1);
    return page_take(&e->ring, page);
}

/* Makes table[block] a page that only this session holds: a new one, or a copy of a shared one
 * (S3).
 */
static bool own_block(run_engine *e, bool ring, uint32_t *table, uint32_t block, bool is_new) {
    run_pages *p = ring ? &e->ring : &e->pages;
    uint32_t page;
    if (!is_new && p->refs[table[block]] == 1) return true;
    if (!(ring ? ring_take(e, &page) : page_take(p, &page))) return false;
    if (!is_new) {
        dev_copy_page(e->d, ring, page, table[block]);
        run_page_release(p, table[block]);
    }
    table[block] = page;
    return true;
}

uint32_t run_ring_needs(uint32_t pos, uint32_t keep) {
    return (pos + 1 > keep ? pos + 1 - keep : 0) / KERN_KEYS;
}

/* Makes the pages of position len writable. */
static bool own_pages(run_session *s) {
    run_engine *e = s->e;
    const uint32_t block = s->len / KERN_KEYS;
    const bool is_new = block == s->n_pages;
    if (!own_block(e, false, s->pages, block, is_new)) return false;
    if (e->ring.n) {
        for (; s->ring_first < run_ring_needs(s->len, e->ring_keep); s->ring_first++)
            run_page_release(&e->ring, s->ring[s->ring_first]);
        if (!own_block(e, true, s->ring, block, is_new)) {
            if (is_new) run_page_release(&e->pages, s->pages[block]);
            return false;
        }
    }
    s->n_pages += is_new;
    return true;
}

bool run_session_take_pages(run_session *s, uint32_t len, uint32_t ring_first) {
    run_engine *e = s->e;
    const uint32_t n = pages_for(len);
    assert(s->n_pages == 0 && len <= s->max_tok);
    if (e->ring.n)
        ring_first = BASE_MAX(ring_first, BASE_MIN(n, run_ring_needs(len, e->ring_keep)));
    if (e->ring.n) run_make_ring_room(e, n - ring_first);
    if (e->pages.n_free < n || (e->ring.n && e->ring.n_free < n - ring_first)) return false;
    for (uint32_t i = 0; i < n; i++) {
        page_take(&e->pages, &s->pages[i]);
        if (e->ring.n && i >= ring_first) page_take(&e->ring, &s->ring[i]);
    }
    s->ring_first = e->ring.n ? ring_first : 0;
    s->n_pages = n;
    s->len = len;
    return true;
}

/* ==== Timelines =============================================================================== */

rotor_status run_session_create(run_session **out, run_engine *e, uint32_t max_tok,
                                rotor_error *err) {
    assert(max_tok > 0);
    ROTOR_TRY(run_check_positions(e->m, max_tok, err));
    run_session *s = base_alloc(sizeof *s);
    if (!s) return base_fail_nomem(err, "creating a session");
    s->e = e;
    s->next = e->sessions;
    if (s->next) s->next->prev = s;
    e->sessions = s;
    s->max_tok = max_tok;
    s->tokens = base_alloc_array(max_tok, sizeof *s->tokens);
    s->pages = base_alloc_array(pages_for(max_tok), sizeof *s->pages);
    s->ring = e->ring.n ? base_alloc_array(pages_for(max_tok), sizeof *s->ring) : NULL;
    if (!s->tokens || !s->pages || (e->ring.n && (!s->ring || !run_make_marks(s)))) {
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
    run_session_rewind(s, 0);
    if (s->next) s->next->prev = s->prev;
    *(s->prev ? &s->prev->next : &s->e->sessions) = s->next;
    base_free(s->tokens);
    base_free(s->pages);
    base_free(s->ring);
    base_free(s->mark_pages);
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

bool run_has_window(const run_session *s, uint32_t n) {
    return !s->e->ring.n || run_ring_needs(n, s->e->m->hp.window) >= s->ring_first;
}

/* Gives back the pages beyond those of n positions. */
static void cut(run_session *s, uint32_t n) {
    while (s->n_pages > pages_for(n)) {
        run_page_release(&s->e->pages, s->pages[--s->n_pages]);
        if (s->e->ring.n && s->n_pages >= s->ring_first)
            run_page_release(&s->e->ring, s->ring[s->n_pages]);
    }
    s->ring_first = BASE_MIN(s->ring_first, s->n_pages);
    s->len = n;
}

/* Takes n positions of src, which can go back there, to the empty session dst. */
static void share(run_session *dst, const run_session *src, uint32_t n) {
    run_engine *e = dst->e;
    const uint32_t *ring = NULL;
    const uint32_t first = e->ring.n ? run_ring_of(src, n, &ring) : 0;
    dst->n_pages = pages_for(n);
    dst->ring_first = BASE_MIN(first, dst->n_pages);
    for (uint32_t i = 0; i < dst->n_pages; i++) {
        dst->pages[i] = src->pages[i];
        e->pages.refs[dst->pages[i]]++;
    }
    for (uint32_t i = dst->ring_first; ring && i < dst->n_pages; i++) {
        dst->ring[i] = ring[i - first];
        e->ring.refs[dst->ring[i]]++;
    }
    dst->len = n;
}

/* Replaces the ring by that of the mark with which s goes back to n. */
static void go_back(run_session *s, uint32_t n) {
    run_engine *e = s->e;
    const uint32_t *ring, first = run_ring_of(s, n, &ring), end = pages_for(n);
    for (uint32_t i = first; i < end; i++) e->ring.refs[ring[i - first]]++;
    for (uint32_t i = s->ring_first; i < s->n_pages; i++) run_page_release(&e->ring, s->ring[i]);
    for (uint32_t i = first; i < end; i++) s->ring[i] = ring[i - first];
    while (s->n_pages > end) run_page_release(&e->pages, s->pages[--s->n_pages]);
    s->ring_first = first;
}

uint32_t run_session_rewind(run_session *s, uint32_t n) {
    assert(n <= s->len);
    n = run_session_reach(s, n);
    if (n && !run_has_window(s, n)) go_back(s, n);
    cut(s, n);
    run_drop_marks(s, n);
    return n;
}

rotor_status run_session_fork(run_session *dst, const run_session *src, uint32_t n,
                              rotor_error *err) {
    assert(dst->e == src->e && dst->len == 0 && n <= src->len);
    if (n > dst->max_tok)
        return base_fail(err, ROTOR_E_FULL,
                         "the session holds %u tokens at most, %u were to be shared", dst->max_tok,
                         n);
    if (run_session_reach(src, n) != n)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "the first %u tokens of a session cannot be shared: layers with a window "
                         "keep only that, of its %u tokens",
                         n, src->len);
    memcpy(dst->tokens, src->tokens, n * sizeof *src->tokens);
    share(dst, src, n);
    run_share_marks(dst, src, n);
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
    if (!own_pages(s))
        return base_fail(err, ROTOR_E_FULL,
                         "the cache is full: all %u pages of %d tokens are in use", e->pages.n,
                         KERN_KEYS);
    s->tokens[s->len] = row->token;
    e->token[i] = row->token;
    e->pos[i] = s->len++;
    e->table[i] = s->pages;
    e->ring_table[i] = s->ring;
    return ROTOR_OK;
}

rotor_status run_step(run_engine *e, rotor_error *err) {
    rotor_error why = {0};
    const dev_step step = {.n_rows = e->n_rows,
                           .token = e->token,
                           .pos = e->pos,
                           .pages = e->table,
                           .ring = e->ring_table,
                           .len = e->len,
                           .type = e->type,
                           .n_picked = e->n_picked,
                           .picked = e->picked,
                           .n_best = e->n_best,
                           .draw = e->draw};
    e->screened = 0;
    e->have_logits = false;
    if (e->opt.device == DEV_CPU && !e->opt.prompt_apart) return dev_run(e->d, &step, err);
    if (dev_run(e->d, &step, &why) == ROTOR_OK) return ROTOR_OK;
    ROTOR_TRY(run_fall_back(e, why.message, err));
    return dev_run(e->d, &step, err);
}

static rotor_status traced_step(run_engine *e, rotor_error *err) {
    base_trace_event ev = {.name = e->n_rows > e->n_picked ? "prompt step" : "decode step",
                           .cat = "step",
                           .start_ns = base_now_ns(),
                           .layer = BASE_TRACE_NONE,
                           .id = BASE_TRACE_NONE,
                           .rows = e->n_rows,
                           .bytes = run_step_bytes(e)};
    const rotor_status st = run_step(e, err);
    ev.end_ns = base_now_ns();
    base_trace_add(e->opt.trace, &ev);
    return st;
}

rotor_status run_eval(run_engine *e, const run_row *rows, uint32_t n, rotor_error *err) {
    return run_eval_draw(e, rows, n, NULL, err);
}

bool run_chosen(run_engine *e, uint32_t i, uint32_t *id) {
    assert(i < e->n_picked);
    return e->drawn && !e->adrift && dev_chosen(e->d, i, id);
}

rotor_status run_eval_draw(run_engine *e, const run_row *rows, uint32_t n, const dev_draw *draw,
                           rotor_error *err) {
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
    e->drawn = draw && n_picked;
    e->draw = e->drawn ? draw : NULL;
    if (st == ROTOR_OK && e->check) st = run_check_begin(e, err);
    if (st == ROTOR_OK) st = e->opt.trace ? traced_step(e, err) : run_step(e, err);
    if (st == ROTOR_OK && e->check) st = run_check_end(e, err);
    e->draw = NULL;
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
    enum { TEXT = 8 };
    assert(n >= 1);
    if (n > s->max_tok)
        return base_fail(err, ROTOR_E_FULL,
                         "the prompt has %u tokens, the context holds %u; use a larger --ctx or a "
                         "shorter prompt",
                         n, s->max_tok);
    uint32_t at =
        BASE_MIN(common_prefix(s, tokens, n), n - 1); /* the last token gives the logits */
    const uint32_t chunk = s->e->opt.chunk;
    at = run_session_rewind(s, at);
    if (n_reused) *n_reused = at;
    const bool text = n - at >= TEXT; /* not the next token of somebody who feeds one at a time */
    while (at < n) {
        if (progress && !progress(user, at, n))
            return base_fail(err, ROTOR_E_CANCELLED, "stopped after %u of %u prompt tokens", at, n);
        uint32_t k = BASE_MIN(chunk, n - at);
        ROTOR_TRY(eval_chunk(s, tokens + at, k, at + k == n, err));
        at += k;
        if (text) run_session_mark(s, at == n);
    }
    if (progress) progress(user, n, n);
    return ROTOR_OK;
}
