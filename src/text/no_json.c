/* SPDX-License-Identifier: MIT
 *
 * Vocabularies of a tokenizer.json in a build without jansson: none.
 */
#include "text/text.h"

rotor_status text_vocab_from_json(text_vocab **out, base_str tokenizer_json, base_str config_json,
                                  const base_log *log, rotor_error *err) {
    (void)out, (void)tokenizer_json, (void)config_json, (void)log;
    return base_fail(err, ROTOR_E_UNSUPPORTED,
                     "this build has no jansson to read a tokenizer.json with; GGUF files have "
                     "their vocabulary inside");
}
