/* SPDX-License-Identifier: MIT
 *
 * bpe: learning a byte-level BPE vocabulary, inside this room. bpe_create, bpe_count for all text,
 * bpe_learn, bpe_merges.
 */
#ifndef TRAIN_BPE_H
#define TRAIN_BPE_H

#include "base/base.h"
#include "text/text.h"

/* Ids 0 and 1: end of text (also its beginning) and end of turn. */
enum { BPE_N_SPECIAL = 2 };
#define BPE_PRE "gpt-2" /* rule set that splits the text */

typedef struct bpe bpe;
typedef struct bpe_merge {
    uint32_t left, right; /* ids */
    uint32_t id;          /* what they become */
} bpe_merge;
/* Told after each merge; false cancels. */
typedef bool (*bpe_progress)(void *user, uint64_t done, uint64_t total);

rotor_status bpe_create(bpe **out, rotor_error *err);
void bpe_free(bpe **b);
/* Adds a text to the counts; not used afterwards. */
rotor_status bpe_count(bpe *b, base_str text, rotor_error *err);
uint64_t bpe_n_bytes(const bpe *b); /* counted */
/* Learns all merges of a vocabulary of n_vocab tokens, once. ROTOR_E_ARG: the text has not so many.
 */
rotor_status bpe_learn(bpe *b, uint32_t n_vocab, bpe_progress progress, void *user,
                       rotor_error *err);
const bpe_merge *bpe_merges(const bpe *b, size_t *n);
/* Raw bytes of a token that is not special; how many tokens there are, special ones included. */
base_str bpe_word(const bpe *b, uint32_t id);
size_t bpe_n_tokens(const bpe *b);
/* The printable character by which files write a byte. */
uint32_t bpe_char_of_byte(uint8_t b);

#endif
