/* SPDX-License-Identifier: MIT
 *
 * export: what the writers of models share.
 */
#ifndef TRAIN_EXPORT_H
#define TRAIN_EXPORT_H

#include "train/train.h"

/* "blk.0.attn_q.weight" */
const char *export_tensor_name(const train_tensor *t, char out[64]);
/* The tokenizer's own, else that of vocabularies learnt here, else empty. */
base_str export_chat_template(const file_model *tokenizer);

#endif
