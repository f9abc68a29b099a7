/* SPDX-License-Identifier: MIT
 *
 * rotor convert and rotor quantize: one tool, two ways of asking.
 */
#include "cli/cli.h"

#include <jansson.h>

static const char *type_at(const void *ctx, size_t i) {
    (void)ctx;
    return tool_convert_type(i);
}

static void on_note(void *user, const char *line) {
    cli_progress *p = user;
    cli_progress_end(p);
    cli_log(p->a, BASE_LOG_WARN, "rotor: %s: %s", p->a->verb->name, line);
}

static int report_json(const cli_args *a, const char *out, const tool_convert_report *r) {
    json_t *o = json_object();
    json_object_set_new(o, "file", cli_json_text(out, strlen(out)));
    json_object_set_new(o, "tensors", json_integer((json_int_t)r->n_tensors));
    json_object_set_new(o, "changed", json_integer((json_int_t)r->n_changed));
    json_object_set_new(o, "rounded_scales", json_integer((json_int_t)r->n_rounded_scales));
    json_object_set_new(o, "restored_scales", json_integer((json_int_t)r->n_restored_scales));
    json_object_set_new(o, "tensor_bytes", json_integer((json_int_t)r->bytes));
    return cli_json_print(a, o);
}

static int report_text(const cli_args *a, const char *out, const tool_convert_report *r) {
    char b[32];
    cli_log(a, BASE_LOG_INFO, "%s: %zu tensors, %zu of another type, %s", out, r->n_tensors,
            r->n_changed, cli_bytes(r->bytes, b));
    if (r->n_rounded_scales)
        cli_log(a, BASE_LOG_INFO, "%zu scales rounded and kept as metadata", r->n_rounded_scales);
    if (r->n_restored_scales)
        cli_log(a, BASE_LOG_INFO, "%zu scales restored from metadata", r->n_restored_scales);
    return CLI_DONE;
}

static int convert(const cli_args *a, const char *word, const char *out, const char *type) {
    cli_model m = {0};
    rotor_error err = {0};
    tool_convert_report r = {0};
    cli_progress progress;
    cli_progress_start(&progress, a, "converting");
    tool_convert_options opt = {.type = type,
                                .head_type = cli_text(a, OPT_HEAD_TYPE),
                                .order = cli_i2s(a),
                                .progress = {cli_progress_step, &progress},
                                .note = on_note,
                                .note_user = &progress};
    cli_catch_interrupt(true);
    rotor_status st = cli_model_find(&m, word, &err);
    if (st == ROTOR_OK) st = tool_convert(m.path, out, &opt, &r, &err);
    cli_progress_end(&progress);
    cli_model_free(&m);
    if (st == ROTOR_E_ARG && type && strncmp(err.message, "type ", 5) == 0) {
        const char *near = cli_nearest(type, type_at, NULL);
        if (near) return cli_usage(a, "%s; did you mean %s?", err.message, near);
    }
    if (st != ROTOR_OK) return cli_status(a, st, &err);
    return cli_on(a, OPT_JSON) ? report_json(a, out, &r) : report_text(a, out, &r);
}

int verb_convert(const cli_args *a) {
    const char *out = cli_text(a, OPT_OUTPUT);
    if (!out) return cli_usage(a, "no file to write: rotor convert %s -o OUT.gguf", cli_word(a, 0));
    return convert(a, cli_word(a, 0), out, cli_text(a, OPT_TYPE));
}

int verb_quantize(const cli_args *a) {
    if (a->n_words < 3) return cli_usage(a, "usage: rotor quantize IN OUT TYPE");
    return convert(a, cli_word(a, 0), cli_word(a, 1), cli_word(a, 2));
}
