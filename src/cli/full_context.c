/* SPDX-License-Identifier: MIT
 *
 * A full context, as the program handles it: what a shift keeps, and what is said about a text that
 * the context has ended.
 */
#include "cli/cli.h"

/* Where in the prompt the first user's text begins: as far as a prompt with another text agrees. */
static rotor_status user_begins(const cli_args *a, const rotor_engine *e, const char *system,
                                const uint32_t *ids, size_t n, size_t *at, rotor_error *err) {
    const rotor_chat_options opt = cli_chat_options(a);
    rotor_turn turns[2];
    size_t count = 0, n_other = 0;
    uint32_t *other = NULL;
    if (system) turns[count++] = (rotor_turn){.role = "system", .content = system};
    turns[count++] = (rotor_turn){.role = "user", .content = "\xE2\x80\xA6"};
    ROTOR_TRY(rotor_chat_prompt(e, turns, count, &opt, &other, &n_other, NULL, err));
    for (*at = 0; *at < n && *at < n_other && ids[*at] == other[*at];) ++*at;
    rotor_free(other);
    return ROTOR_OK;
}

rotor_status cli_chat_keep(const cli_args *a, const rotor_engine *e, const char *system,
                           const uint32_t *ids, size_t n, uint32_t n_ctx, uint32_t *keep,
                           rotor_error *err) {
    size_t at = n;
    if (n > n_ctx / 2) ROTOR_TRY(user_begins(a, e, system, ids, n, &at, err));
    *keep = (uint32_t)BASE_MIN(at, (size_t)n_ctx / 2);
    return ROTOR_OK;
}

void cli_say_full(const cli_args *a, const rotor_gen_result *r, uint32_t n_ctx) {
    if (r->finish != ROTOR_FINISH_FULL) return;
    cli_log(a, BASE_LOG_WARN,
            "rotor: %s: context full: %u prompt tokens and %zu new ones, the context has %u; -c N "
            "makes it larger, --on-full shift drops the oldest and goes on",
            a->verb->name, r->n_prompt, r->n_ids, n_ctx);
}
