/* SPDX-License-Identifier: MIT
 *
 * Helpers of the tokenizer tests: files, fixtures, the seeded string generator and its hash.
 */
#ifndef TEXT_HELP_H
#define TEXT_HELP_H

#include "text/text.h"

/* A whole file; aborts the test when it cannot be read. Freed with base_buf_free. */
base_buf help_fixture(const char *name); /* under tests/data/text */
/* A file under $ROTOR_TEST_DATA/vocab; false without the variable or the file. */
bool help_data(const char *name, base_buf *out);
base_str help_str(const base_buf *b);

/* A vocabulary of a tests/data/text/<name>.vocab file or of GPT-2's merges. */
text_vocab *help_vocab(const char *name, text_model model);
text_vocab *help_gpt2(void);
text_vocab *help_json(const char *name); /* tests/data/text/<name>.json */
/* llama3_tokenizer.model or o200k_base.tiktoken; NULL without data. */
text_vocab *help_llama3(void);
text_vocab *help_o200k(void);
/* Llama-3 as a GGUF file holds it, with printable bytes and the merges that its ranks imply. */
text_vocab *help_llama3_merges(size_t *n_merges, uint64_t *load_us);
/* The vocabulary keys of a GGUF file under $ROTOR_TEST_DATA; NULL without data. */
text_vocab *help_gguf(const char *name);

/* String number seed of tools/golden/text.py; freed with base_buf_free. */
typedef struct help_atoms help_atoms;
help_atoms *help_atoms_read(void);
void help_atoms_free(help_atoms *a);
void help_random_string(const help_atoms *a, uint64_t seed, base_buf *out);
uint32_t help_fnv(const uint32_t *ids, size_t n);
uint32_t help_hash_at(const base_buf *hashes, size_t i);

/* Encodes or aborts the test. */
text_ids help_encode(const text_vocab *v, base_str text, unsigned flags);

#endif
