/* SPDX-License-Identifier: MIT
 *
 * rotor synth: a model file of a published shape.
 */
#include "cli/cli.h"

static const char *preset_at(const void *ctx, size_t i) {
    (void)ctx;
    return tool_preset_name(i);
}

static int list_presets(const cli_args *a) {
    cli_log(a, BASE_LOG_ERROR, "rotor: synth: which PRESET? There are:");
    for (size_t i = 0; tool_preset_name(i); i++)
        cli_log(a, BASE_LOG_ERROR, "  %-16s %s", tool_preset_name(i), tool_preset_help(i));
    return CLI_USAGE;
}

int verb_synth(const cli_args *a) {
    const char *preset = cli_word(a, 0), *path = cli_text(a, OPT_OUTPUT);
    if (!preset) return list_presets(a);
    if (!path) return cli_usage(a, "no file to write: rotor synth %s -o FILE.gguf", preset);
    cli_progress progress;
    cli_progress_start(&progress, a, "writing");
    tool_synth_options opt = {.seed = (uint64_t)cli_int(a, OPT_SEED),
                              .layers = (uint32_t)cli_int(a, OPT_LAYERS),
                              .vocab = cli_text(a, OPT_VOCAB),
                              .sparse = cli_on(a, OPT_SPARSE),
                              .progress = {cli_progress_step, &progress}};
    rotor_error err = {0};
    cli_catch_interrupt(true);
    rotor_status st = tool_synth(preset, path, &opt, &err);
    cli_progress_end(&progress);
    if (st == ROTOR_E_CANCELLED) cli_die_interrupted();
    if (st == ROTOR_E_ARG) {
        const char *near = cli_nearest(preset, preset_at, NULL);
        bool unknown = strncmp(err.message, "no preset", 9) == 0;
        if (unknown && near) return cli_usage(a, "%s; did you mean %s?", err.message, near);
        return cli_usage(a, "%s", err.message);
    }
    return st == ROTOR_OK ? CLI_DONE : cli_fail(a, &err);
}
