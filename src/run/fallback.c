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

/* Tokens of the step at hand that belong to s: they are not evaluated yet. */
static uint32_t pending(const run_engine *e, const run_session *s) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->n_rows; i++) n += e->table[i] == s->pages;
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
        st = replay(e, s, s->len - BASE_MIN(pending(e, s), s->len), pos, table, err);
    base_free(pos);
    base_free((void *)table);
    return st;
}

rotor_status run_fall_back(run_engine *e, const char *why, rotor_error *err) {
    assert(e->opt.device != DEV_CPU);
    base_log_printf(e->opt.log, BASE_LOG_WARN, "%s: %s; going on on the CPU", e->device_name, why);
    run_drop_device(e);
    e->opt.device = DEV_CPU;
    e->opt.device_layers = 0;
    ROTOR_TRY(run_set_up_device(e, err));
    return replay_all(e, err);
}
