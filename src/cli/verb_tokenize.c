/* SPDX-License-Identifier: MIT
 *
 * rotor tokenize: text to ids, ids to text.
 *
 * One line of ids for a text, separated by single spaces; an empty text prints an empty line.
 * TEXT "-" is standard input byte for byte, line ends included; --lines makes each line (without
 * its line feed) a text of its own.
 */
#include "cli/cli.h"

#include <jansson.h>

typedef struct job {
    const cli_args *a; /* options */
    tool_vocab *v;     /* vocabulary */
    json_t *json;      /* list of results with --json; else NULL */
} job;

static unsigned encode_flags(const cli_args *a) {
    return (cli_on(a, OPT_BOS) ? TOOL_TOK_BOS : 0u) |
           (cli_on(a, OPT_SPECIAL) ? TOOL_TOK_SPECIAL : 0u);
}

static rotor_status add_json(job *j, const uint32_t *ids, size_t n, rotor_error *err) {
    json_t *list = json_array(), *pieces = json_array(), *one = json_object();
    rotor_status st = ROTOR_OK;
    for (size_t i = 0; i < n && st == ROTOR_OK; i++) {
        base_buf text = {0};
        st = tool_detokenize(j->v, &ids[i], 1, true, &text, err);
        json_array_append_new(list, json_integer(ids[i]));
        json_array_append_new(pieces, cli_json_text(text.data ? text.data : "", text.len));
        base_buf_free(&text);
    }
    json_object_set_new(one, "ids", list);
    json_object_set_new(one, "pieces", pieces);
    json_array_append_new(j->json, one);
    return st;
}

static rotor_status show_ids(job *j, const char *text, size_t n_bytes, rotor_error *err) {
    uint32_t *ids = NULL;
    size_t n = 0;
    ROTOR_TRY(tool_tokenize(j->v, text, n_bytes, encode_flags(j->a), &ids, &n, err));
    rotor_status st = ROTOR_OK;
    if (j->json) {
        st = add_json(j, ids, n, err);
    } else {
        for (size_t i = 0; i < n; i++) cli_outf(i ? " %u" : "%u", ids[i]);
        cli_outf("\n");
    }
    base_free(ids);
    return st;
}

static rotor_status show_text(job *j, const char *list, rotor_error *err) {
    uint32_t *ids = NULL;
    size_t n = 0;
    base_buf text = {0};
    ROTOR_TRY(cli_parse_ids(list, &ids, &n, err));
    rotor_status st = tool_detokenize(j->v, ids, n, cli_on(j->a, OPT_SPECIAL), &text, err);
    if (st == ROTOR_OK && j->json) {
        json_t *one = json_object();
        json_object_set_new(one, "text", cli_json_text(text.data ? text.data : "", text.len));
        json_array_append_new(j->json, one);
    } else if (st == ROTOR_OK) {
        cli_out(text.data, text.len);
        cli_outf("\n");
    }
    base_buf_free(&text);
    base_free(ids);
    return st;
}

static rotor_status each_line(job *j, const char *text, size_t n_bytes, rotor_error *err) {
    for (size_t at = 0; at < n_bytes;) {
        const char *end = memchr(text + at, '\n', n_bytes - at);
        size_t n = end ? (size_t)(end - text) - at : n_bytes - at;
        ROTOR_TRY(show_ids(j, text + at, n, err));
        at += n + 1;
    }
    return ROTOR_OK;
}

static rotor_status do_work(job *j, rotor_error *err) {
    const char *word = cli_word(j->a, 1), *decode = cli_text(j->a, OPT_DECODE);
    const char *given = decode ? decode : word ? word : "-";
    base_buf input = {0};
    rotor_status st = ROTOR_OK;
    if (strcmp(given, "-") == 0) {
        st = cli_read_stdin(&input, err);
    } else if (!base_buf_puts(&input, given)) {
        st = base_fail_nomem(err, "reading the text");
    }
    if (st == ROTOR_OK && decode)
        st = show_text(j, input.data, err);
    else if (st == ROTOR_OK && cli_on(j->a, OPT_LINES))
        st = each_line(j, input.data, input.len, err);
    else if (st == ROTOR_OK)
        st = show_ids(j, input.data, input.len, err);
    base_buf_free(&input);
    return st;
}

int verb_tokenize(const cli_args *a) {
    job j = {.a = a};
    cli_model m = {0};
    rotor_error err = {0};
    bool lines = cli_on(a, OPT_LINES);
    if (!cli_word(a, 1) && !cli_text(a, OPT_DECODE) && !lines)
        return cli_usage(a, "no text: give TEXT, - for standard input, or --decode 1,2,3");
    if (cli_word(a, 1) && cli_text(a, OPT_DECODE))
        return cli_usage(a, "both TEXT and --decode are given; one is needed");
    rotor_status st = cli_model_find(&m, cli_word(a, 0), &err);
    if (st == ROTOR_OK)
        st = tool_vocab_open(&j.v, &m.src, cli_log_line, (void *)(uintptr_t)a, &err);
    if (st == ROTOR_OK && cli_on(a, OPT_JSON)) j.json = json_array();
    if (st == ROTOR_OK) st = do_work(&j, &err);
    int status = cli_status(a, st, &err);
    if (j.json && status == CLI_DONE && !lines)
        status = cli_json_print(a, json_incref(json_array_get(j.json, 0)));
    else if (j.json && status == CLI_DONE)
        status = cli_json_print(a, json_incref(j.json));
    json_decref(j.json);
    tool_vocab_close(&j.v);
    cli_model_free(&m);
    return status;
}
