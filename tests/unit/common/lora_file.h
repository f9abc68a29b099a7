/* SPDX-License-Identifier: MIT
 *
 * lora_file: adapter files for tests, tensor by tensor, right or wrong in one place.
 */
#ifndef LORA_FILE_H
#define LORA_FILE_H

#include "tiny_model.h"

typedef struct lora_part {
    char name[96];       /* tensor name */
    uint32_t type;       /* quant_type */
    uint64_t rows, cols; /* shape */
    float size;          /* deviation of its values; 0: zeros; NaN: one of them */
} lora_part;

typedef struct lora_file {
    const char *arch;     /* general.architecture */
    const char *type;     /* general.type; NULL: none */
    const char *kind;     /* adapter.type */
    const char *more;     /* one more key, a text; NULL: none */
    float alpha;          /* adapter.lora.alpha */
    bool no_alpha;        /* leave it out */
    lora_part parts[128]; /* tensors */
    size_t n;             /* how many */
} lora_file;

/* Pairs of this rank beside all projections; B of deviation b. */
void lora_file_start(lora_file *f, const char *arch, tiny_shape s, uint32_t rank, uint32_t type,
                     float b);
lora_part *lora_file_part(lora_file *f, const char *name); /* ends the test if it is not there */
void lora_file_drop(lora_file *f, const char *name);
void lora_file_write(const lora_file *f, const char *path, uint64_t seed);

#endif
