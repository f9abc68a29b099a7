/* SPDX-License-Identifier: MIT
 *
 * of_model: a model as the engine reads it, in the trainer's words. What a run starts from
 * (start.c) and what an adapter learns beside (frozen.c) are both read through it.
 */
#ifndef TRAIN_OF_MODEL_H
#define TRAIN_OF_MODEL_H

#include "train/train.h"

/* What the training pass does not compute; NULL: it computes all of this model. */
const char *of_model_foreign_part(const model *m);
/* n_ctx, full_float and what is about adapters are left alone. */
void of_model_shape(const model *m, train_shape *s);
/* The gains of a norm. */
const float *of_model_norm(const model *m, train_role role, uint32_t layer);
/* A matrix as floats, all of them numbers; its pages of the file are given back. */
rotor_status of_model_floats(const model *m, const model_mat *w, float *dst, rotor_error *err);

#endif
