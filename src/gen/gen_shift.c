/* SPDX-License-Identifier: MIT
 *
 * A full context, where the text is to go on: the oldest part is dropped.
 *
 *     | keep | dropped … | newer half of the rest |    becomes    | keep | newer half | room … |
 *
 * What stays is evaluated again, at its new positions: the timeline is then what a fresh session
 * given these tokens has, bit for bit. Turning the cached keys to their new positions would be
 * cheaper and another result: in every layer but the first they, and the values, were made by
 * attending to what has been dropped. (So the cost of a shift is a prompt of half the context.)
 */
#include "gen/gen_internal.h"

#include <assert.h>

static uint32_t keep_of(const gen_task *t, const uint32_t *prompt) {
    const uint32_t most = run_session_max(t->s) / 2;
    if (t->opt->n_keep) return BASE_MIN(t->opt->n_keep, most);
    return most && t->v && prompt[0] == text_bos(t->v) ? 1 : 0;
}

/* Drops from line[n] what is not to stay; returns how many do. There may be nothing to drop. */
static uint32_t drop(gen_task *t, uint32_t *line, uint32_t n) {
    const uint32_t max = run_session_max(t->s), keep = t->keep;
    if (n < keep + 2) return n;
    const uint32_t stays = (BASE_MIN(n, max) - keep + 1) / 2;
    memmove(line + keep, line + n - stays, stays * sizeof *line);
    return keep + stays;
}

static void count(gen_task *t, uint32_t n_before, uint32_t n) {
    t->r.n_shifts++;
    t->r.n_dropped += n_before - n;
    if (t->opt->on_shift) t->opt->on_shift(t->opt->user, n_before - n, n);
}

rotor_status gen_shift_prompt(gen_task *t, const uint32_t **prompt, uint32_t *n, uint32_t **owned,
                              rotor_error *err) {
    t->keep = keep_of(t, *prompt);
    if (*n <= run_session_max(t->s)) return ROTOR_OK;
    uint32_t *line = base_alloc_array(*n, sizeof *line);
    if (!line) return base_fail_nomem(err, "shortening a prompt");
    memcpy(line, *prompt, *n * sizeof *line);
    const uint32_t stays = drop(t, line, *n);
    count(t, *n, stays);
    *prompt = *owned = line;
    *n = t->r.n_prompt = stays;
    return ROTOR_OK;
}

/* The caller's shorter prompt with the answer behind it, where that is shorter than `limit`. Room
 * in line for as many. Returns its length; 0: there is none. */
static uint32_t shorten(gen_task *t, uint32_t *line, uint32_t limit) {
    const uint32_t *prompt;
    uint32_t n, n_said = (uint32_t)t->r.ids.n;
    if (!t->opt->on_shorten || !t->opt->on_shorten(t->opt->user, &prompt, &n)) return 0;
    if (n_said >= limit || n >= limit - n_said) return 0;
    memcpy(line, prompt, n * sizeof *line);
    memcpy(line + n, t->r.ids.ids, n_said * sizeof *line);
    if (n <= run_session_max(t->s) / 2) t->keep = n;
    return n + n_said;
}

rotor_status gen_shift_answer(gen_task *t, rotor_error *err) {
    const uint32_t before = run_session_len(t->s) + 1, max = run_session_max(t->s);
    assert(t->r.ids.n > 0);
    uint32_t *line = base_alloc_array(before, sizeof *line);
    if (!line) return base_fail_nomem(err, "shifting the context");
    uint32_t n = shorten(t, line, before);
    if (!n) {
        memcpy(line, run_session_tokens(t->s), (before - 1) * sizeof *line);
        line[before - 1] = t->r.ids.ids[t->r.ids.n - 1];
        n = drop(t, line, before);
    } else if (n >= max) {
        n = drop(t, line, n);
    }
    rotor_status status = ROTOR_E_FULL;
    if (n < before) {
        count(t, before, n);
        gen_drafter_restart(&t->draft);
        status = run_session_sync(t->s, line, n, NULL, NULL, NULL, err);
    }
    base_free(line);
    return status;
}
