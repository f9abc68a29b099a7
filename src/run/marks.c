/* SPDX-License-Identifier: MIT
 *
 * Marks: places in a timeline that can be gone back to, in models of which some layers keep only
 * their window.
 *
 *     blocks   0 . . . . . . [5 6 7] . . . . . . . . . . [18 19 20 21 22 23]
 *                             a mark, at the end of        the ring: what the
 *                             a prompt: one window         session still has
 *
 * The other layers have every position still; all that is lost on the way back is the window before
 * the place. So a mark holds the ring pages of that window, and some more positions before it. They
 * are counted like those of a session: a page is copied only when somebody goes on writing in it.
 *
 * Invariants: (M1) marks ascend, and none is beyond the session's len; (M2) mark i holds the blocks
 * from mark[i].first up to its position. Marks are a convenience: where pages are short they are
 * dropped, of any session, before anything fails.
 */
#include "run/run_internal.h"

#include <assert.h>

/* Positions before a mark that can be gone back to as well: a prompt that comes again is evaluated
 * from its last token. */
enum { MARK_BACK = KERN_KEYS, MARK_EVERY = 1024 };

static uint32_t blocks_of(uint32_t len) { return len / KERN_KEYS + (len % KERN_KEYS != 0); }

uint32_t run_mark_pages(const model_hparams *hp) {
    return (hp->window + MARK_BACK) / KERN_KEYS + 2;
}

static void drop(run_session *s, uint32_t i) {
    const run_mark gone = s->mark[i];
    for (uint32_t k = 0; k < blocks_of(gone.pos) - gone.first; k++)
        run_page_release(&s->e->ring, gone.page[k]);
    s->n_marks--;
    memmove(s->mark + i, s->mark + i + 1, (s->n_marks - i) * sizeof *s->mark);
    s->mark[s->n_marks].page = gone.page; /* its table is the next one's */
}

void run_drop_marks(run_session *s, uint32_t beyond) {
    while (s->n_marks && s->mark[s->n_marks - 1].pos > beyond) drop(s, s->n_marks - 1);
}

bool run_shed_mark(run_engine *e) {
    run_session *most = NULL;
    for (run_session *s = e->sessions; s; s = s->next)
        if (s->n_marks && (!most || s->n_marks > most->n_marks)) most = s;
    if (most) drop(most, 0);
    return most != NULL;
}

void run_make_ring_room(run_engine *e, uint32_t n) {
    while (e->ring.n && e->ring.n_free < n && run_shed_mark(e)) {
    }
}

/* One must go: the one whose place the others serve best. The newest two stay. */
static void thin(run_session *s) {
    uint32_t least = UINT32_MAX, at = 0;
    for (uint32_t i = 0; i + 2 < s->n_marks; i++) {
        const uint32_t gap = s->mark[i + 1].pos - (i ? s->mark[i - 1].pos : 0);
        if (gap >= least) continue;
        least = gap;
        at = i;
    }
    drop(s, at);
}

void run_session_mark(run_session *s, bool end) {
    const run_engine *e = s->e;
    const uint32_t back = s->len > MARK_BACK ? s->len - MARK_BACK : 0;
    const uint32_t last = s->n_marks ? s->mark[s->n_marks - 1].pos : 0;
    const uint32_t first = run_ring_needs(back, e->m->hp.window);
    if (!e->ring.n || s->len == last || first < s->ring_first) return;
    if (!end && s->len - last < MARK_EVERY) return;
    if (s->n_marks == RUN_MARKS) thin(s);
    run_mark *m = &s->mark[s->n_marks++];
    m->pos = s->len;
    m->first = first;
    assert(s->n_pages - first <= run_mark_pages(&e->m->hp));
    for (uint32_t b = first; b < s->n_pages; b++) {
        m->page[b - first] = s->ring[b];
        s->e->ring.refs[s->ring[b]]++;
    }
}

/* The mark from which position n can be gone on from, or else most before it. NULL: none. *pos:
 * that position. */
static const run_mark *mark_for(const run_session *s, uint32_t n, uint32_t *pos) {
    const run_mark *best = NULL;
    *pos = 0;
    for (uint32_t i = 0; i < s->n_marks; i++) {
        const uint32_t p = BASE_MIN(n, s->mark[i].pos);
        if (p <= *pos || run_ring_needs(p, s->e->m->hp.window) < s->mark[i].first) continue;
        best = &s->mark[i];
        *pos = p;
    }
    return best;
}

uint32_t run_session_reach(const run_session *s, uint32_t n) {
    uint32_t pos;
    assert(n <= s->len);
    if (run_has_window(s, n)) return n;
    mark_for(s, n, &pos);
    return pos;
}

uint32_t run_ring_of(const run_session *s, uint32_t n, const uint32_t **pages) {
    uint32_t pos;
    const run_mark *m = run_has_window(s, n) ? NULL : mark_for(s, n, &pos);
    *pages = m ? m->page : s->ring + s->ring_first;
    return m ? m->first : s->ring_first;
}

void run_share_marks(run_session *dst, const run_session *src, uint32_t beyond) {
    assert(dst->n_marks == 0);
    for (uint32_t i = 0; i < src->n_marks && src->mark[i].pos <= beyond; i++) {
        run_mark *m = &dst->mark[dst->n_marks++];
        m->pos = src->mark[i].pos;
        m->first = src->mark[i].first;
        for (uint32_t k = 0; k < blocks_of(m->pos) - m->first; k++) {
            m->page[k] = src->mark[i].page[k];
            dst->e->ring.refs[m->page[k]]++;
        }
    }
}

bool run_make_marks(run_session *s) {
    const uint32_t n = run_mark_pages(&s->e->m->hp);
    s->mark_pages = base_alloc_array((size_t)RUN_MARKS * n, sizeof *s->mark_pages);
    for (uint32_t i = 0; s->mark_pages && i < RUN_MARKS; i++)
        s->mark[i].page = s->mark_pages + (size_t)i * n;
    return s->mark_pages != NULL;
}
