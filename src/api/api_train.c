/* SPDX-License-Identifier: MIT
 *
 * The public face of the train room: vocabularies, presets, and runs.
 */
#include "api/api_internal.h"
#include "rotor_train.h"
#include "train/train.h"

/* ==== A vocabulary ============================================================================ */

rotor_tokenizer_options rotor_tokenizer_options_default(void) {
    return (rotor_tokenizer_options){.size = sizeof(rotor_tokenizer_options), .n_vocab = 4096};
}

rotor_status rotor_train_tokenizer(const char *const *files, size_t n_files, const char *out,
                                   const rotor_tokenizer_options *user, rotor_error *err) {
    rotor_tokenizer_options opt = rotor_tokenizer_options_default();
    if (!files || !n_files || !out)
        return base_fail(err, ROTOR_E_ARG, "rotor_train_tokenizer: files or out is missing");
    ROTOR_TRY(api_take_options(&opt, sizeof opt, user, "rotor_tokenizer_options", err));
    const train_tokenizer_options o = {.files = files,
                                       .n_files = n_files,
                                       .n_vocab = opt.n_vocab,
                                       .out = out,
                                       .progress = opt.progress,
                                       .user = opt.user};
    return train_tokenizer(&o, err);
}
