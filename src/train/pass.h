/* SPDX-License-Identifier: MIT
 *
 * pass: what the files of a pass share: the tensors of a layer by role, and sizes of what is kept.
 */
#ifndef TRAIN_PASS_H
#define TRAIN_PASS_H

#include "train/train.h"

/* The tensor of a role in a layer. */
train_tensor train_tensor_of(const train_shape *s, train_role role, uint32_t layer);

enum { PASS_BLOCK = 64 }; /* query rows of attention that are worked on together */

/* Floats kept per token, and bytes of scratch of all threads. */
uint64_t pass_floats_per_tok(const train_shape *s, bool recompute);
uint64_t pass_scratch_bytes(const train_shape *s, uint32_t n_rows, int n_threads);

#endif
