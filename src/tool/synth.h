/* SPDX-License-Identifier: MIT
 *
 * synth: what its two files share: the vocabulary part of a made-up model file.
 */
#ifndef SYNTH_H
#define SYNTH_H

#include "file/file.h"

typedef enum synth_tokens {
    SYNTH_LLAMA3, /* specials as Llama-3 numbers them, counted from the end of the vocabulary */
    SYNTH_HARMONY /* specials as gpt-oss numbers them, likewise */
} synth_tokens;

typedef struct synth_vocab_plan {
    synth_tokens kind;         /* which special tokens */
    uint32_t n_vocab;          /* all tokens */
    uint32_t n_special;        /* of which special, at the end */
    uint32_t n_merges;         /* to write; at least n_vocab - n_special - 256 */
    bool scores;               /* write tokenizer.ggml.scores (zeros) */
    const char *pre;           /* tokenizer.ggml.pre; NULL: leave it out */
    uint32_t eos;              /* offset of the end token among the specials */
    const char *chat_template; /* Jinja text */
} synth_vocab_plan;

/* Puts all tokenizer.* keys. source: GGUF or ranks file, NULL: made-up tokens. */
rotor_status synth_put_vocab(file_writer *w, const synth_vocab_plan *plan, const char *source,
                             rotor_error *err);

#endif
