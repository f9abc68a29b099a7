/* SPDX-License-Identifier: MIT
 *
 * rotor train-tokenizer: a vocabulary from texts.
 */
#include "cli/cli.h"
#include "rotor_train.h"

int verb_train_tokenizer(const cli_args *a) {
    const char *out = cli_text(a, OPT_OUTPUT);
    if (!out) return cli_usage(a, "no file to write: rotor train-tokenizer FILE… -o VOCAB.gguf");
    cli_progress progress;
    cli_progress_start(&progress, a, "merging");
    rotor_tokenizer_options opt = rotor_tokenizer_options_default();
    opt.n_vocab = (uint32_t)cli_int(a, OPT_N_VOCAB);
    opt.progress = cli_progress_step;
    opt.user = &progress;
    rotor_error err = {0};
    cli_catch_interrupt(true);
    rotor_status st = rotor_train_tokenizer(a->words, a->n_words, out, &opt, &err);
    cli_progress_end(&progress);
    if (st != ROTOR_OK) return cli_status(a, st, &err);
    cli_log(a, BASE_LOG_INFO, "%s: %u tokens", out, opt.n_vocab);
    return CLI_DONE;
}
