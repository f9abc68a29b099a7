/* SPDX-License-Identifier: MIT
 *
 * fake_run: run.h with a model that is a function. Linked into tests in place of room run, so that
 * a test decides every logit, the size of a step and when the cache is full.
 */
#ifndef FAKE_RUN_H
#define FAKE_RUN_H

#include "gen/gen_internal.h"

enum { FAKE_PAGE = 4 }; /* positions per cache page */

/* logits[n_vocab] after tokens[n]. */
typedef void (*fake_logits)(const uint32_t *tokens, uint32_t n, float *logits, uint32_t n_vocab);

typedef struct fake_options {
    fake_logits fn;      /* the model */
    text_vocab *vocab;   /* borrowed; NULL: none */
    uint32_t n_vocab;    /* V; 0: the vocabulary's size */
    uint32_t chunk;      /* rows per step; 0: 256 */
    uint32_t max_logits; /* rows with logits; 0: 16 */
    uint32_t n_pages;    /* 0: plenty */
    bool apart;          /* prompts have a device of their own: no step mixes them with the rest */
} fake_options;

run_engine *fake_engine(const fake_options *o);
void fake_engine_free(run_engine **e);
uint64_t fake_evals(const run_engine *e); /* run_eval calls that succeeded */

/* <unk> <s> </s>, the 256 bytes from id 3 on, then pieces from id 259 on. */
text_vocab *fake_vocab(const char *const *pieces, size_t n);
enum { FAKE_EOS = 2, FAKE_BYTE = 3, FAKE_PIECE = 259 };

/* Logits from a hash of the timeline: any two timelines differ. */
void fake_hash_logits(const uint32_t *tokens, uint32_t n, float *logits, uint32_t n_vocab);

#endif
