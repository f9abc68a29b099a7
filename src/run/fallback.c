/* SPDX-License-Identifier: MIT
 *
 * When a device fails: the CPU takes over in the middle of whatever is going on. The device's cache
 * is lost, but every session knows its tokens: they are evaluated again, then the step that failed
 * is repeated. Who uses the engine sees a slow step and one line in the log.
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

/* Evaluates positions [0, n) of a session anew, into the pages it holds. */
static rotor_status replay(run_engine *e, const run_session *s, uint32_t n, uint32_t *pos,
                           const uint32_t **table, rotor_error *err) {
    for (uint32_t at = 0, rows; at < n; at += rows) {
        rows = BASE_MIN(e->opt.chunk, n - at);
        for (uint32_t i = 0; i < rows; i++) {
            pos[i] = at + i;
            table[i] = s->pages;
        }
        const dev_step step = {.n_rows = rows, .token = s->tokens + at, .pos = pos, .pages = table};
        ROTOR_TRY(dev_run(e->d, &step, err));
    }
    return ROTOR_OK;
}

static rotor_status replay_all(run_engine *e, rotor_error *err) {
    uint32_t *pos = base_alloc_array(e->opt.chunk, sizeof *pos);
    const uint32_t **table = base_alloc_array(e->opt.chunk, sizeof *table);
    rotor_status st = pos && table ? ROTOR_OK : base_fail_nomem(err, "repeating what was said");
    for (const run_session *s = e->sessions; s && st == ROTOR_OK; s = s->next)
        st = replay(e, s, before_step(e, s), pos, table, err);
    base_free(pos);
    base_free((void *)table);
    return st;
}

/* The CPU's device, and every session as it is on it. Where memory is short this fails, and is
 * tried again before the next step. */
rotor_status run_come_back(run_engine *e, rotor_error *err) {
    e->adrift = true;
    run_drop_device(e);
    ROTOR_TRY(run_set_up_device(e, err));
    ROTOR_TRY(replay_all(e, err));
    e->adrift = false;
    return ROTOR_OK;
}

rotor_status run_fall_back(run_engine *e, const char *why, rotor_error *err) {
    assert(e->opt.device != DEV_CPU && !e->ring.n); /* what a ring has let go cannot be repeated */
    base_log_printf(e->opt.log, BASE_LOG_WARN, "%s: %s; going on on the CPU", e->device_name, why);
    e->opt.device = DEV_CPU;
    e->opt.device_layers = 0;
    return run_come_back(e, err);
}
