/* SPDX-License-Identifier: MIT
 *
 * rotor perplexity: how well a model predicts a text, measured as llama.cpp's tool does: the text
 * is tokenised once with the beginning-of-text token in front, cut into windows of ctx tokens, each
 * window evaluated from an empty cache with its first token replaced by the beginning-of-text token
 * (if the model uses one), and in each window the tokens ctx/2 + 1 … ctx - 1 are scored, each from
 * the logits of the position before. A text shorter than one window is one window of its length.
 *
 * --logits saves the logits of the scored positions in order; --kld compares with such a file, or
 * with one that holds every position of every window.
 */
#include "cli/cli.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

typedef struct ppl_job {
    const cli_args *a;     /* options */
    uint32_t *ids;         /* [n_ids] tokens of the text, owned by the library */
    size_t n_ids;          /* how many */
    size_t ctx;            /* tokens in a window */
    size_t n_windows;      /* windows to do */
    size_t window;         /* current one */
    uint32_t first_id;     /* put at the start of each window; ROTOR_NO_ID: nothing */
    uint32_t n_vocab;      /* columns */
    tool_score score;      /* result */
    tool_kld kld;          /* result with --kld */
    tool_npy_in base;      /* of --kld */
    bool base_is_full;     /* base holds every position */
    float *base_row;       /* [n_vocab] owned */
    tool_npy_out save;     /* of --logits */
    bool saving;           /* save is open */
    rotor_error err;       /* of a callback */
    cli_progress progress; /* over positions */
} ppl_job;

static size_t scored_from(const ppl_job *j) { return j->ctx / 2; }
static size_t scored_per_window(const ppl_job *j) { return j->ctx - 1 - scored_from(j); }

static rotor_status compare(ppl_job *j, size_t pos, const float *logits) {
    size_t row = j->base_is_full ? j->window * j->ctx + pos
                                 : j->window * scored_per_window(j) + pos - scored_from(j);
    tool_npy_read(&j->base, row, j->base_row);
    if (tool_kld_add(&j->kld, j->base_row, logits, j->n_vocab) == ROTOR_OK) return ROTOR_OK;
    return base_fail_nomem(&j->err, "comparing logits");
}

static bool on_row(void *user, size_t pos, const float *logits) {
    ppl_job *j = user;
    size_t done = j->window * j->ctx + pos;
    if (!cli_progress_step(&j->progress, done, j->n_windows * j->ctx)) return false;
    if (pos < scored_from(j) || pos + 1 >= j->ctx) return true;
    uint32_t target = j->ids[j->window * j->ctx + pos + 1];
    tool_score_add(&j->score, logits, j->n_vocab, target);
    if (j->saving && tool_npy_row(&j->save, logits, &j->err) != ROTOR_OK) return false;
    return !j->base_row || compare(j, pos, logits) == ROTOR_OK;
}

static rotor_status score_windows(ppl_job *j, rotor_session *s, rotor_error *err) {
    for (j->window = 0; j->window < j->n_windows; j->window++) {
        uint32_t *start = j->ids + j->window * j->ctx, kept = start[0];
        if (j->first_id != ROTOR_NO_ID) start[0] = j->first_id;
        rotor_status st = rotor_eval_all(s, start, j->ctx, on_row, j, err);
        start[0] = kept;
        if (j->err.code != ROTOR_OK) return *err = j->err, err->code;
        if (cli_interrupted()) return base_fail(err, ROTOR_E_CANCELLED, "interrupted");
        if (st != ROTOR_OK) return st;
        if (!cli_is_terminal(2))
            cli_log(j->a, BASE_LOG_DEBUG, "window %zu of %zu: %.4f", j->window + 1, j->n_windows,
                    tool_perplexity(&j->score));
    }
    return ROTOR_OK;
}

static rotor_status tokenize_file(ppl_job *j, rotor_engine *e, const char *path, rotor_error *err) {
    base_file f;
    uint32_t *bos = NULL;
    size_t n_bos = 0;
    ROTOR_TRY(base_file_open(&f, path, true, err));
    rotor_status st = rotor_tokenize(e, f.data ? (const char *)f.data : "", f.size, ROTOR_TOK_BOS,
                                     &j->ids, &j->n_ids, err);
    base_file_close(&f);
    if (st == ROTOR_OK) st = rotor_tokenize(e, "", 0, ROTOR_TOK_BOS, &bos, &n_bos, err);
    j->first_id = st == ROTOR_OK && n_bos ? bos[0] : ROTOR_NO_ID;
    rotor_free(bos);
    return st;
}

static rotor_status cut_windows(ppl_job *j, const char *path, rotor_error *err) {
    if (j->n_ids < 4)
        return base_fail(err, ROTOR_E_ARG, "%s holds %zu tokens; at least 4 are needed", path,
                         j->n_ids);
    j->ctx = BASE_MIN((size_t)cli_int(j->a, OPT_CTX_PPL), j->n_ids);
    j->n_windows = j->n_ids / j->ctx;
    if (cli_given(j->a, OPT_WINDOWS))
        j->n_windows = BASE_MIN(j->n_windows, (size_t)cli_int(j->a, OPT_WINDOWS));
    return ROTOR_OK;
}

static rotor_status open_base(ppl_job *j, rotor_error *err) {
    const char *path = cli_text(j->a, OPT_KLD);
    size_t scored = j->n_windows * scored_per_window(j), full = j->n_windows * j->ctx;
    if (!path) return ROTOR_OK;
    ROTOR_TRY(tool_npy_open(&j->base, path, err));
    j->base_is_full = j->base.rows == full;
    if (j->base.cols != j->n_vocab || (j->base.rows != scored && !j->base_is_full))
        return base_fail(err, ROTOR_E_ARG,
                         "%s holds [%zu, %zu] logits; expected [%zu, %u] (scored positions) or "
                         "[%zu, %u] (all)",
                         path, j->base.rows, j->base.cols, scored, j->n_vocab, full, j->n_vocab);
    j->base_row = base_alloc_array(j->n_vocab, sizeof *j->base_row);
    return j->base_row ? ROTOR_OK : base_fail_nomem(err, "reading logits");
}

static rotor_status measure(ppl_job *j, rotor_engine *e, const char *path, rotor_error *err) {
    rotor_session *s = NULL;
    rotor_engine_info info = {.size = sizeof info};
    ROTOR_TRY(rotor_engine_get_info(e, &info));
    j->n_vocab = info.n_vocab;
    ROTOR_TRY(tokenize_file(j, e, path, err));
    ROTOR_TRY(cut_windows(j, path, err));
    ROTOR_TRY(open_base(j, err));
    if (cli_text(j->a, OPT_OUTPUT_LOGITS)) {
        ROTOR_TRY(tool_npy_create(&j->save, cli_text(j->a, OPT_OUTPUT_LOGITS),
                                  j->n_windows * scored_per_window(j), j->n_vocab, err));
        j->saving = true;
    }
    cli_log(j->a, BASE_LOG_INFO, "%s: %zu tokens, %zu windows of %zu, second half scored, head %s",
            path, j->n_ids, j->n_windows, j->ctx, info.head);
    ROTOR_TRY(rotor_session_create(&s, e, 0, err));
    cli_progress_start(&j->progress, j->a, "scoring");
    rotor_status st = score_windows(j, s, err);
    cli_progress_end(&j->progress);
    rotor_session_free(&s);
    if (j->saving && st == ROTOR_OK) {
        j->saving = false;
        st = tool_npy_commit(&j->save, err);
    }
    return st;
}

static int report(ppl_job *j) {
    double p = tool_perplexity(&j->score), error = tool_perplexity_error(&j->score);
    tool_kld_result k = tool_kld_finish(&j->kld);
    if (cli_on(j->a, OPT_JSON)) {
        json_t *o = json_object();
        json_object_set_new(o, "perplexity", json_real(p));
        json_object_set_new(o, "error", json_real(error));
        json_object_set_new(o, "tokens", json_integer((json_int_t)j->score.n));
        json_object_set_new(o, "windows", json_integer((json_int_t)j->n_windows));
        json_object_set_new(o, "ctx", json_integer((json_int_t)j->ctx));
        if (j->base_row) {
            json_object_set_new(o, "kld_mean", json_real(k.mean));
            json_object_set_new(o, "kld_max", json_real(k.max));
            json_object_set_new(o, "kld_p99.9", json_real(k.p999));
            json_object_set_new(o, "kld_p99", json_real(k.p99));
            json_object_set_new(o, "kld_median", json_real(k.median));
            json_object_set_new(o, "same_top", json_real(k.same_top));
        }
        return cli_json_print(j->a, o);
    }
    cli_outf("perplexity %.6f tokens %llu\n", p, (unsigned long long)j->score.n);
    cli_log(j->a, BASE_LOG_INFO, "standard error %.6f", error);
    if (j->base_row)
        cli_outf("kld mean %.6g max %.6g p99.9 %.6g p99 %.6g median %.6g same-top %.4f\n", k.mean,
                 k.max, k.p999, k.p99, k.median, k.same_top);
    return CLI_DONE;
}

int verb_perplexity(const cli_args *a) {
    ppl_job j = {.a = a};
    cli_model m = {0};
    rotor_engine *e = NULL;
    rotor_error err = {0};
    const char *path = cli_word(a, a->n_words - 1), *model = a->n_words > 1 ? cli_word(a, 0) : NULL;
    rotor_status st = ROTOR_OK;
    if (base_path_kind_of(path) != BASE_PATH_FILE)
        st = base_fail(&err, ROTOR_E_IO, "%s: no such file; usage: rotor perplexity MODEL FILE",
                       path);
    if (st == ROTOR_OK) st = cli_model_find(&m, model, &err);
    cli_catch_interrupt(true);
    if (st == ROTOR_OK) {
        rotor_engine_options opt = cli_engine_options(a);
        opt.ctx = (uint32_t)cli_int(a, OPT_CTX_PPL);
        opt.max_logits = 64;
        st = cli_engine_open(&e, a, &m, opt, &err);
    }
    if (st == ROTOR_OK) st = measure(&j, e, path, &err);
    int status = st == ROTOR_OK ? report(&j) : cli_status(a, st, &err);
    if (j.saving) tool_npy_abort(&j.save);
    tool_npy_close(&j.base);
    tool_kld_free(&j.kld);
    base_free(j.base_row);
    rotor_free(j.ids);
    rotor_engine_close(&e);
    cli_model_free(&m);
    return status;
}
