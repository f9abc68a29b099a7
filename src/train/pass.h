/* SPDX-License-Identifier: MIT
 *
 * pass: what the files of a pass share: the tensors of a layer by role, and sizes of what is kept.
 */
#ifndef TRAIN_PASS_H
#define TRAIN_PASS_H

#include "train/train.h"

/* The tensor of a role in a layer, and where it lies when all weights learn. */
train_tensor train_tensor_of(const train_shape *s, train_role role, uint32_t layer);
/* A or B beside it, and where it lies when adapters learn. */
train_tensor train_lora_of(const train_shape *s, train_role role, uint32_t layer, train_half half);
float train_lora_scale(const train_shape *s); /* alpha / rank, the engine's bits */
/* The same projection in the model's words; role is ternary. */
model_proj train_proj_of(train_role role);

enum { PASS_BLOCK = 64 }; /* query rows of attention that are worked on together */

/* Floats kept per token, and bytes of scratch of all threads. */
uint64_t pass_floats_per_tok(const train_shape *s, bool recompute);
uint64_t pass_scratch_bytes(const train_shape *s, uint32_t n_rows, int n_threads);

#endif
