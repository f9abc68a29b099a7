/* SPDX-License-Identifier: MIT
 *
 * rotor logits: the raw scores after given tokens, as a NumPy file. The head is as in the file
 * unless asked otherwise: this is the door for comparisons.
 */
#include "cli/cli.h"

typedef struct rows {
    tool_npy_out npy;      /* the file */
    bool all;              /* every row, not only the last */
    size_t last;           /* index of the last position */
    rotor_error err;       /* of writing */
    cli_progress progress; /* over positions */
} rows;

static bool on_row(void *user, size_t pos, const float *logits) {
    rows *r = user;
    if (!cli_progress_step(&r->progress, pos + 1, r->last + 1)) return false;
    if (!r->all && pos != r->last) return true;
    return tool_npy_row(&r->npy, logits, &r->err) == ROTOR_OK;
}

static rotor_status evaluate(rows *r, rotor_session *s, const uint32_t *ids, size_t n,
                             rotor_error *err) {
    if (r->all) {
        rotor_status st = rotor_eval_all(s, ids, n, on_row, r, err);
        return r->err.code != ROTOR_OK ? (*err = r->err, r->err.code) : st;
    }
    const float *logits;
    ROTOR_TRY(rotor_eval(s, ids, n, &logits, err));
    return tool_npy_row(&r->npy, logits, err);
}

rotor_status cli_token_ids(const cli_args *a, uint32_t **ids, size_t *n, rotor_error *err) {
    const char *text = cli_text(a, OPT_TOKENS);
    base_buf input = {0};
    rotor_status st = ROTOR_OK;
    if (strcmp(text, "-") == 0) {
        st = cli_read_stdin(&input, err);
        text = input.data;
    }
    if (st == ROTOR_OK) st = cli_parse_ids(text, ids, n, err);
    if (st == ROTOR_OK && !*n) st = base_fail(err, ROTOR_E_ARG, "--tokens: no ids; expected 1,2,3");
    base_buf_free(&input);
    return st;
}

static rotor_status check_ids(const uint32_t *ids, size_t n, uint32_t n_vocab, rotor_error *err) {
    for (size_t i = 0; i < n; i++)
        if (ids[i] >= n_vocab)
            return base_fail(err, ROTOR_E_ARG, "--tokens: id %u; this model has 0 to %u", ids[i],
                             n_vocab - 1);
    return ROTOR_OK;
}

static rotor_status write_logits(const cli_args *a, rotor_engine *e, const uint32_t *ids, size_t n,
                                 rotor_error *err) {
    rotor_session *s = NULL;
    rotor_engine_info info = {.size = sizeof info};
    rows r = {.all = cli_on(a, OPT_ALL), .last = n - 1};
    ROTOR_TRY(rotor_engine_get_info(e, &info));
    ROTOR_TRY(check_ids(ids, n, info.n_vocab, err));
    ROTOR_TRY(rotor_session_create(&s, e, 0, err));
    cli_progress_start(&r.progress, a, "evaluating");
    rotor_status st =
        tool_npy_create(&r.npy, cli_text(a, OPT_OUTPUT), r.all ? n : 1, info.n_vocab, err);
    if (st == ROTOR_OK) {
        st = evaluate(&r, s, ids, n, err);
        if (st == ROTOR_OK)
            st = tool_npy_commit(&r.npy, err);
        else
            tool_npy_abort(&r.npy);
    }
    cli_progress_end(&r.progress);
    rotor_session_free(&s);
    return st;
}

int verb_logits(const cli_args *a) {
    cli_model m = {0};
    rotor_engine *e = NULL;
    uint32_t *ids = NULL;
    size_t n = 0;
    rotor_error err = {0};
    if (!cli_text(a, OPT_TOKENS)) return cli_usage(a, "no tokens: --tokens 1,2,3");
    if (!cli_text(a, OPT_OUTPUT)) return cli_usage(a, "no file to write: -o F.npy");
    rotor_status st = cli_token_ids(a, &ids, &n, &err);
    if (st == ROTOR_OK) st = cli_model_find(&m, cli_word(a, 0), &err);
    cli_catch_interrupt(true);
    if (st == ROTOR_OK) {
        rotor_engine_options opt = cli_engine_options(a);
        if (!cli_given(a, OPT_CTX)) opt.ctx = (uint32_t)BASE_MIN(n, UINT32_MAX - 1);
        st = cli_engine_open(&e, a, &m, opt, &err);
    }
    if (st == ROTOR_OK) st = write_logits(a, e, ids, n, &err);
    int status = cli_status(a, st, &err);
    rotor_engine_close(&e);
    cli_model_free(&m);
    base_free(ids);
    return status;
}
