/* SPDX-License-Identifier: MIT
 *
 * When a device fails: the CPU takes over in the middle of whatever is going on. The device's cache
 * is lost, but every session knows its tokens: they are evaluated again, then the step that failed
 * is repeated. Who uses the engine sees a slow step and one line in the log.
 *
 * Where prompts have a device of their own, either of the two takes the other with it: the CPU does
 * all.
 *
 * What the CPU computes is not bit for bit what the device would have; what has been said stays.
 */
#include "run/run_internal.h"

#include <assert.h>

/* Positions of s before the step at hand, whose rows are repeated behind. A session may have been
 * rewound since that step, by some of its rows or beyond them. */
static uint32_t before_step(const run_engine *e, const run_session *s) {
    uint32_t n = s->len;
    for (uint32_t i = 0; i < e->n_rows; i++)
        if (e->table[i] == s->pages) n = BASE_MIN(n, e->pos[i]);
    return n;
}

/* Room for the steps that repeat a session. */
typedef struct repeat {
    uint32_t *pos;                 /* [chunk] */
    const uint32_t **table, **rng; /* [chunk] page tables; of layers with a window */
    uint32_t *ring;                /* [pages] that one, where some of its pages are lent */
} repeat;

/* A session has let go of its first ring pages. What they held is needed once more, but only while
 * the steps behind it are repeated: a few free pages serve in turn. They stay free. */
static rotor_status lend_ring(const run_engine *e, const run_session *s, uint32_t *ring,
                              rotor_error *err) {
    const uint32_t wanted = e->ring_keep / KERN_KEYS + 2, n = BASE_MIN(wanted, e->ring.n_free);
    if (n < BASE_MIN(wanted, s->ring_first))
        return base_fail(err, ROTOR_E_FULL,
                         "the cache is full: %u pages are free to repeat what was said, of %u", n,
                         wanted);
    for (uint32_t b = 0; b < s->n_pages; b++)
        ring[b] = b < s->ring_first ? e->ring.free[b % n] : s->ring[b];
    return ROTOR_OK;
}

/* Evaluates positions [0, n) of a session anew, into the pages it holds. */
static rotor_status replay(run_engine *e, const run_session *s, uint32_t n, const repeat *r,
                           rotor_error *err) {
    if (e->ring.n) ROTOR_TRY(lend_ring(e, s, r->ring, err));
    for (uint32_t at = 0, rows; at < n; at += rows) {
        rows = BASE_MIN(e->opt.chunk, n - at);
        for (uint32_t i = 0; i < rows; i++) {
            r->pos[i] = at + i;
            r->table[i] = s->pages;
            r->rng[i] = r->ring;
        }
        const dev_step step = {.n_rows = rows,
                               .token = s->tokens + at,
                               .pos = r->pos,
                               .pages = r->table,
                               .ring = r->rng};
        ROTOR_TRY(dev_run(e->d, &step, err));
    }
    return ROTOR_OK;
}

static rotor_status replay_all(run_engine *e, rotor_error *err) {
    const repeat r = {.pos = base_alloc_array(e->opt.chunk, sizeof *r.pos),
                      .table = base_alloc_array(e->opt.chunk, sizeof *r.table),
                      .rng = base_alloc_array(e->opt.chunk, sizeof *r.rng),
                      .ring = base_alloc_array(e->pages.n + 1ull, sizeof *r.ring)};
    rotor_status st = r.pos && r.table && r.rng && r.ring
                          ? ROTOR_OK
                          : base_fail_nomem(err, "repeating what was said");
    for (const run_session *s = e->sessions; s && st == ROTOR_OK; s = s->next)
        st = replay(e, s, before_step(e, s), &r, err);
    base_free(r.pos);
    base_free((void *)r.table);
    base_free((void *)r.rng);
    base_free(r.ring);
    return st;
}

/* The CPU's device, and every session as it is on it. Where memory is short this fails, and is
 * tried again before the next step. */
rotor_status run_come_back(run_engine *e, rotor_error *err) {
    e->adrift = true;
    for (run_session *s = e->sessions; s; s = s->next) run_drop_marks(s, 0); /* lost with it */
    run_drop_device(e);
    ROTOR_TRY(run_set_up_device(e, err));
    ROTOR_TRY(replay_all(e, err));
    e->adrift = false;
    return ROTOR_OK;
}

rotor_status run_fall_back(run_engine *e, const char *why, rotor_error *err) {
    assert(e->opt.device != DEV_CPU || e->opt.prompt_apart);
    base_log_printf(e->opt.log, BASE_LOG_WARN, "%s: %s; going on on the CPU",
                    e->opt.prompt_apart ? dev_name(e->d) : e->device_name, why);
    e->opt.device = DEV_CPU;
    e->opt.prompt_apart = false;
    e->opt.device_layers = 0;
    return run_come_back(e, err);
}
