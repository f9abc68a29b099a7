/* SPDX-License-Identifier: MIT
 *
 * One step ahead: a device that chooses tokens itself evaluates the next one while the host is
 * still busy with the last. The steps under way belong to one session, which counts their positions
 * already; the newest token of its timeline is filled in when the host learns it.
 *
 * Whatever goes wrong ends the same way: as if none of the steps under way had begun. The caller
 * takes the ordinary step, and that is where a failed device is replaced (fallback.c).
 */
#include "run/run_internal.h"

#include <assert.h>

/* Checks are made between steps. */
bool run_can_ahead(const run_engine *e) { return !e->adrift && !e->check && dev_can_ahead(e->d); }

rotor_status run_begin(run_session *s, uint32_t token, const dev_draw *draw, rotor_error *err) {
    run_engine *e = s->e;
    const uint32_t first = 0, pos = s->len;
    const uint32_t *pages = s->pages;
    assert(e->n_ahead < DEV_FLIGHTS && (token == DEV_CHOSEN) == (e->n_ahead > 0));
    e->n_rows = 0; /* no step that run_logits could repeat */
    const run_row row = {.s = s, .token = token == DEV_CHOSEN ? 0 : token, .want_logits = true};
    ROTOR_TRY(run_extend(e, &row, 0, err));
    const dev_step step = {.n_rows = 1,
                           .token = &token,
                           .pos = &pos,
                           .pages = &pages,
                           .n_picked = 1,
                           .picked = &first,
                           .draw = draw};
    const rotor_status st = dev_submit(e->d, &step, err);
    if (st != ROTOR_OK) return run_session_rewind(s, pos), st;
    e->n_ahead++;
    return ROTOR_OK;
}

bool run_end(run_session *s, uint32_t *id) {
    run_engine *e = s->e;
    assert(e->n_ahead > 0);
    if (dev_wait(e->d, NULL) != ROTOR_OK || !dev_chosen(e->d, 0, id)) {
        e->n_ahead--;
        run_drop(s);
        run_session_rewind(s, s->len - 1);
        return false;
    }
    if (--e->n_ahead > 0) s->tokens[s->len - 1] = *id;
    return true;
}

void run_drop(run_session *s) {
    run_engine *e = s->e;
    for (; e->n_ahead > 0; e->n_ahead--) {
        (void)dev_wait(e->d, NULL); /* a failure shows in the next step */
        run_session_rewind(s, s->len - 1);
    }
}
