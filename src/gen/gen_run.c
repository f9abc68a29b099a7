/* SPDX-License-Identifier: MIT
 *
 * One generation on one session: the prompt in chunks, then token after token.
 */
#include "gen/gen_internal.h"

#include <assert.h>

static rotor_status failed(rotor_status status, const rotor_error *why, rotor_error *err) {
    if (err) *err = *why;
    return status;
}

static rotor_status decode(gen_task *t, rotor_error *err) {
    run_engine *e = run_session_engine(t->s);
    while (t->r.finish == GEN_FINISH_NONE) {
        run_row row = {.s = t->s, .want_logits = true};
        ROTOR_TRY(gen_task_take(t, 0, &row.token, err));
        if (t->r.finish != GEN_FINISH_NONE) break;
        rotor_error why;
        rotor_status status = run_eval(e, &row, 1, &why);
        if (status == ROTOR_E_FULL) return gen_task_end(t, GEN_FINISH_FULL, err);
        if (status != ROTOR_OK) return failed(status, &why, err);
    }
    return ROTOR_OK;
}

rotor_status gen_run(run_session *s, const uint32_t *prompt, uint32_t n, const gen_options *opt,
                     gen_result *out, rotor_error *err) {
    assert(n >= 1);
    gen_task t;
    rotor_error why;
    ROTOR_TRY(gen_task_init(&t, s, n, opt, err));
    rotor_status status =
        run_session_sync(s, prompt, n, opt->on_prompt, opt->user, &t.r.n_reused, &why);
    t.r.prompt_us = base_now_us() - t.start_us;
    if (status == ROTOR_OK)
        status = decode(&t, err);
    else if (status == ROTOR_E_CANCELLED)
        status = gen_task_end(&t, GEN_FINISH_CANCEL, err);
    else
        status = failed(status, &why, err);
    if (status == ROTOR_OK) gen_task_move(&t, out);
    gen_task_free(&t);
    return status;
}
