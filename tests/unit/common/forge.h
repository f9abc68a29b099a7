/* SPDX-License-Identifier: MIT
 *
 * forge: a one-layer GGUF model put together tensor by tensor, for tests that need one thing to be
 * different: another type, a scale beside a matrix, a tensor that does not belong.
 *
 * D 256, F 256, H 4, K 2, d 64, V 97. Weights are seeded; a wrong call ends the test program.
 */
#ifndef FORGE_H
#define FORGE_H

#include "base/base.h"
#include "file/file.h"
#include "model/model.h"

typedef struct forge_part {
    char name[80];       /* tensor name */
    uint32_t type;       /* of its bytes */
    uint64_t rows, cols; /* shape */
    uint8_t *bytes;      /* owned */
    uint64_t n_bytes;    /* how many */
} forge_part;

typedef struct forge_key {
    char key[80];      /* metadata key; a leading '.' stands for the architecture */
    file_kv_type type; /* U32, F32, STR or ARR (of U32) */
    double number;     /* of U32 and F32 */
    const char *text;  /* of STR */
    uint32_t list[4];  /* of ARR */
} forge_key;

typedef struct forge {
    const char *arch;     /* general.architecture */
    forge_part parts[40]; /* tensors in file order */
    size_t n_parts;       /* in use */
    forge_key keys[24];   /* metadata behind the usual ones */
    size_t n_keys;        /* in use */
    base_rng rng;         /* of weights */
    char path[96];        /* the file, once opened */
} forge;

enum { FORGE_D = 256, FORGE_V = 97 };

/* All tensors the architecture needs, projections of one type. */
void forge_start(forge *f, const char *arch, uint32_t type);
void forge_end(forge *f);
/* Adds or replaces a tensor, encoded from x[rows * cols]; NULL: seeded values that suit the type.
 */
void forge_put(forge *f, const char *name, uint32_t type, uint64_t rows, uint64_t cols,
               const float *x);
/* Likewise with the bytes zero, for types that have no encoder; the result may be written to. */
uint8_t *forge_put_bytes(forge *f, const char *name, uint32_t type, uint64_t rows, uint64_t cols);
forge_part *forge_part_of(forge *f, const char *name);
void forge_drop(forge *f, const char *name);
/* Adds or replaces a key. */
void forge_u32(forge *f, const char *key, uint32_t v);
void forge_f32(forge *f, const char *key, float v);
void forge_str(forge *f, const char *key, const char *v);
void forge_list(forge *f, const char *key, uint32_t a, uint32_t b);
/* Writes the file and opens it; the caller closes the model. */
rotor_status forge_open(forge *f, model **out, const model_options *opt, rotor_error *err);

#endif
