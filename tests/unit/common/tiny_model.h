/* SPDX-License-Identifier: MIT
 *
 * tiny_model: writes small seeded models for tests: every tensor of a real one, a few kilobytes.
 */
#ifndef TINY_MODEL_H
#define TINY_MODEL_H

#include "base/base.h"

typedef enum tiny_kind {
    TINY_BITNET,    /* bitnet-b1.58: I2_S projections, F16 embedding, sub-norms */
    TINY_BITNET_TQ, /* the same weights as TQ2_0 */
    TINY_BITNET_T5, /* the same weights as T5 */
    TINY_LLAMA_F32, /* llama, F32 everywhere, untied head */
    TINY_LLAMA_Q8,  /* llama, Q8_0 projections */
    TINY_LLAMA_Q4K, /* llama, Q6_K projections */
    TINY_KINDS,
    TINY_GPT_OSS = TINY_KINDS /* eight experts of which two, F32; a window of TINY_WINDOW */
} tiny_kind;

enum { TINY_WINDOW = 40 };

typedef struct tiny_shape {
    uint32_t n_layer, n_embd, n_head, n_head_kv, n_ff, n_vocab, n_ctx; /* as in docs/shapes.md */
} tiny_shape;

extern const char *const tiny_names[TINY_KINDS];
tiny_shape tiny_default(void);
/* A name in the temporary folder that is this process's own; buf[96]. */
char *tiny_path(char buf[96], const char *tail);
/* Writes the model; aborts the test on failure. skip: a tensor name to leave out, or NULL. */
void tiny_write(const char *path, tiny_kind kind, tiny_shape s, uint64_t seed, const char *skip);
/* A TINY_LLAMA_F32 whose words before the last two are these control tokens; NULL ends them. */
void tiny_write_marked(const char *path, tiny_shape s, uint64_t seed, const char *const *marks);

#endif
