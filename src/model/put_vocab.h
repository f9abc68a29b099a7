/* SPDX-License-Identifier: MIT
 *
 * put_vocab: what the files share that write a tokenizer.json as GGUF keys.
 */
#ifndef MODEL_PUT_VOCAB_H
#define MODEL_PUT_VOCAB_H

#include "model/model.h"

/* One writing. */
typedef struct put_job {
    file_writer *w;   /* where to; NULL: only tried */
    const model *m;   /* the folder */
    rotor_error *err; /* where messages go */
} put_job;

/* The words of a tokenizer.json as GGUF lists them. */
typedef struct put_words {
    base_str *token; /* [n], owned array of borrowed texts */
    float *score;    /* [n], owned */
    int32_t *type;   /* [n], owned */
    char (*pad)[32]; /* [n] texts of ids without a token, owned */
    size_t n;        /* ids */
} put_words;

struct json_t;
/* Keys of the kinds without merges, from tokenizer.json and tokenizer_config.json (may be NULL);
 * *put is false, and nothing written, when the keys would give other ids. */
rotor_status put_pieces(const put_job *j, const struct json_t *root, const struct json_t *config,
                        const put_words *w, bool *put);
/* The text of a JSON string, or of an added token's "content"; empty for anything else. */
base_str put_json_text(const struct json_t *v);
/* Whether a tokenizer.json puts a space in front of a text. */
bool put_prefixes_space(const struct json_t *root);

#endif
