/* SPDX-License-Identifier: MIT
 *
 * rotor embed: texts to vectors, as JSON lines or a NumPy file. Texts go to the library a batch at
 * a time: large enough to fill its steps, small enough that lines appear and Ctrl-C is heard.
 */
#include "cli/cli.h"

enum { BATCH = 256 }; /* texts per call */

typedef struct job {
    const cli_args *a;       /* options */
    rotor_embed_text *texts; /* [n], owned; what they point to is borrowed */
    size_t n;                /* texts */
    base_buf input;          /* standard input, which lines are of */
    uint32_t *ids;           /* of --tokens, owned */
    rotor_engine *e;         /* owned */
    size_t width;            /* floats of a vector */
    tool_npy_out npy;        /* with -o */
    cli_progress progress;   /* over texts */
} job;

/* ==== Texts =================================================================================== */

static size_t count_lines(const base_buf *b) {
    size_t n = 0;
    for (size_t i = 0; i < b->len; i++) n += b->data[i] == '\n';
    return n + (b->len && b->data[b->len - 1] != '\n');
}

static rotor_status make_texts(job *j, size_t n, rotor_error *err) {
    j->n = n;
    j->texts = base_alloc_array(BASE_MAX(n, (size_t)1), sizeof *j->texts);
    return j->texts ? ROTOR_OK : base_fail_nomem(err, "reading the texts");
}

static rotor_status read_lines(job *j, rotor_error *err) {
    ROTOR_TRY(cli_read_stdin(&j->input, err));
    const size_t n = count_lines(&j->input);
    if (!n) return base_fail(err, ROTOR_E_ARG, "standard input is empty: expected a text a line");
    ROTOR_TRY(make_texts(j, n, err));
    const char *at = j->input.data, *end = at + j->input.len;
    for (size_t i = 0; i < n; i++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((stop ? stop : end) - at);
        j->texts[i] = (rotor_embed_text){.text = at, .n_bytes = len};
        if (len && at[len - 1] == '\r') j->texts[i].n_bytes--;
        if (!j->texts[i].n_bytes)
            return base_fail(err, ROTOR_E_ARG, "line %zu of standard input is empty", i + 1);
        at = stop ? stop + 1 : end;
    }
    return ROTOR_OK;
}

static rotor_status take_words(job *j, rotor_error *err) {
    ROTOR_TRY(make_texts(j, j->a->n_words - 1, err));
    for (size_t i = 0; i < j->n; i++) {
        const char *word = cli_word(j->a, i + 1);
        if (!word[0]) return base_fail(err, ROTOR_E_ARG, "text %zu is empty", i + 1);
        j->texts[i] = (rotor_embed_text){.text = word, .n_bytes = strlen(word)};
    }
    return ROTOR_OK;
}

static rotor_status take_ids(job *j, rotor_error *err) {
    size_t n = 0;
    ROTOR_TRY(cli_token_ids(j->a, &j->ids, &n, err));
    ROTOR_TRY(make_texts(j, 1, err));
    j->texts[0] = (rotor_embed_text){.ids = j->ids, .n_ids = n};
    return ROTOR_OK;
}

static rotor_status find_texts(job *j, rotor_error *err) {
    if (cli_text(j->a, OPT_TOKENS)) return take_ids(j, err);
    return strcmp(cli_word(j->a, 1), "-") == 0 ? read_lines(j, err) : take_words(j, err);
}

/* ==== Vectors ================================================================================= */

static void print_vector(const job *j, size_t i, const float *v) {
    cli_outf("{\"index\": %zu, \"embedding\": [", i);
    for (size_t k = 0; k < j->width; k++) cli_outf(k ? ", %.9g" : "%.9g", (double)v[k]);
    cli_outf("]}\n");
}

static rotor_status give(job *j, size_t i, const float *v, rotor_error *err) {
    if (cli_text(j->a, OPT_OUTPUT)) return tool_npy_row(&j->npy, v, err);
    print_vector(j, i, v);
    return ROTOR_OK;
}

static rotor_status embed_all(job *j, rotor_error *err) {
    const unsigned flags = (cli_on(j->a, OPT_NO_NORMALIZE) ? ROTOR_EMBED_RAW : 0u) |
                           (cli_on(j->a, OPT_TRUNCATE) ? ROTOR_EMBED_TRUNCATE : 0u);
    const size_t most = BASE_MIN((size_t)BATCH, j->n);
    float *out = base_alloc_array(most * j->width, sizeof *out);
    rotor_status st = out ? ROTOR_OK : base_fail_nomem(err, "embedding texts");
    for (size_t done = 0, n; st == ROTOR_OK && done < j->n; done += n) {
        n = BASE_MIN(most, j->n - done);
        if (!cli_progress_step(&j->progress, done, j->n))
            st = base_fail(err, ROTOR_E_CANCELLED, "stopped after %zu of %zu texts", done, j->n);
        if (st == ROTOR_OK) st = rotor_embed(j->e, j->texts + done, n, flags, out, err);
        if (st != ROTOR_OK && done && st != ROTOR_E_CANCELLED)
            base_fail_in(err, st, "texts from %zu on", done);
        for (size_t i = 0; st == ROTOR_OK && i < n; i++)
            st = give(j, done + i, out + i * j->width, err);
    }
    base_free(out);
    return st;
}

static rotor_status write_vectors(job *j, rotor_error *err) {
    rotor_engine_info info = {.size = sizeof info};
    const char *path = cli_text(j->a, OPT_OUTPUT);
    ROTOR_TRY(rotor_engine_get_info(j->e, &info));
    j->width = info.n_vector;
    if (path) ROTOR_TRY(tool_npy_create(&j->npy, path, j->n, j->width, err));
    cli_progress_start(&j->progress, j->a, "embedding");
    rotor_status st = embed_all(j, err);
    cli_progress_end(&j->progress);
    if (path && st == ROTOR_OK) st = tool_npy_commit(&j->npy, err);
    if (path && st != ROTOR_OK) tool_npy_abort(&j->npy);
    return st;
}

static rotor_status open_engine(job *j, const cli_model *m, rotor_error *err) {
    rotor_engine_options opt = cli_engine_options(j->a);
    opt.embed = true;
    opt.pool = (rotor_pool)cli_int(j->a, OPT_POOL);
    if (cli_given(j->a, OPT_CTX_EMBED)) opt.ctx = (uint32_t)cli_int(j->a, OPT_CTX_EMBED);
    return cli_engine_open(&j->e, j->a, m, opt, err);
}

int verb_embed(const cli_args *a) {
    job j = {.a = a};
    cli_model m = {0};
    rotor_error err = {0};
    if (!cli_word(a, 1) && !cli_text(a, OPT_TOKENS))
        return cli_usage(a, "no text: give TEXT, - for lines of standard input, or --tokens 1,2,3");
    if (cli_word(a, 1) && cli_text(a, OPT_TOKENS))
        return cli_usage(a, "both TEXT and --tokens are given; one is needed");
    if (a->n_words > 2 && strcmp(cli_word(a, 1), "-") == 0)
        return cli_usage(a, "both - and TEXT are given; one is needed");
    rotor_status st = find_texts(&j, &err);
    if (st == ROTOR_OK) st = cli_model_find(&m, cli_word(a, 0), &err);
    cli_catch_interrupt(true);
    if (st == ROTOR_OK) st = open_engine(&j, &m, &err);
    if (st == ROTOR_OK) st = write_vectors(&j, &err);
    const int status = cli_status(a, st, &err);
    rotor_engine_close(&j.e);
    cli_model_free(&m);
    base_buf_free(&j.input);
    base_free(j.texts);
    base_free(j.ids);
    return status;
}
