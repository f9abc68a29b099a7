/* SPDX-License-Identifier: MIT
 *
 * model_internal: the loader's working state, shared by the files of the room.
 *   arch.c      rows of architectures, hyper-parameters from GGUF metadata, and their checks
 *   hf_config.c hyper-parameters from a HF folder's config.json
 *   bind.c      tensors to roles, shape by shape
 *   bind_encoder.c  encoders of the BERT kind
 *   bind_rest.c tensors that became no role; the number of weights
 *   hf_experts.c  the experts of a HF folder, rearranged
 *   pooling.c   what an embedding model does with its hidden states
 *   hf_pooling.c  what a folder says of that
 *   repack.c   any ternary or master weight to T2 (T5 stays)
 *   check_codes.c  illegal codes of ternary weights used in place
 *   vocab.c     tokenizer metadata to a vocabulary
 *   put_vocab.c, put_pieces.c  a folder's vocabulary as GGUF keys
 *   adapter.c   low-rank adapters beside a model
 *   no_hf.c     in place of hf_*.c and put_*.c in a build without jansson
 *   model.c     open, close, and the facts derived from a model
 */
#ifndef MODEL_INTERNAL_H
#define MODEL_INTERNAL_H

#include "model/model.h"

/* One architecture Rotor knows. */
typedef struct model_arch {
    const char *name;      /* general.architecture */
    const char *hf_type;   /* model_type of config.json; NULL: GGUF only */
    bool rope_interleaved; /* pairing in GGUF files (HF is always half-split) */
    bool sub_norms;        /* norms before o and down */
    bool qk_norm;          /* norms on the heads of q and k */
    bool ternary;          /* projections are BitLinear whatever type stores them */
    model_glu glu;         /* gate activation; relu^2 unless it says another */
    bool fused;            /* q, k and v are one tensor; gate and up another, if there is a gate */
    bool centred;          /* norms are LayerNorm, with biases */
    bool encoder;          /* of the BERT kind: norms behind the sums, types of tokens … */
    bool positions;        /* … and learned positions instead of rotation */
    bool plain_ffn;        /* no gate, but biases of up and down */
    bool turned;           /* folders hold matrices [inputs, outputs] under GPT-2's names, and
                              positions are learned */
    uint32_t still_every;  /* of so many layers the last one does not rotate; 0: all do */
    bool gemma; /* norms behind blocks, too; a scaled embedding; gains less one in folders */
    uint32_t window_every; /* of so many layers the last one sees all */
    bool mixture;          /* of experts, without biases */
    bool shared;           /* and one expert for all tokens; experts weighed by shares of all */
    bool both_ways;        /* an encoder: attention in both directions */
    bool oss;              /* gpt-oss: sinks, a mixture of experts, a window in every other layer */
} model_arch;

/* What weight_scale of a HF ternary checkpoint means. */
typedef enum model_scale_rule { MODEL_SCALE_MULTIPLY, MODEL_SCALE_DIVIDE } model_scale_rule;

/* A block of memory owned by the model. */
struct model_blocks {
    struct model_blocks *next; /* older block */
    void *mem;                 /* from base_alloc_aligned */
    size_t bytes;              /* its size */
};

typedef struct model_loader {
    model *m;                    /* being filled */
    const file_model *f;         /* open file */
    const model_arch *arch;      /* chosen row */
    const model_options *opt;    /* as given */
    model_scale_rule scale_rule; /* HF packed weights */
    bool hf;                     /* names and shapes of a HF folder … */
    bool bare;                   /* … without "model." in front: a model saved without its head */
    const char *front; /* what stands before the names of an encoder: "bert."; NULL: nothing */
    bool master;       /* float projections stand for ternary ones */
    bool *used;        /* [file_n_tensors] tensors that became a role, owned */
    rotor_error *err;  /* where messages go */
} model_loader;

const model_arch *model_arch_find(base_str name);
const model_arch *model_arch_find_hf(base_str model_type);
rotor_status model_gguf_hparams(model_loader *ld);
rotor_status model_hf_hparams(model_loader *ld);
rotor_status model_check_hparams(const model_hparams *hp, const char *path, rotor_error *err);
rotor_status model_bind(model_loader *ld);
rotor_status model_refuse_unused(const model_loader *ld);
void model_count_params(model *m);
/* A configured window lies half to either side: the positions a token sees to one, itself
 * included. */
static inline uint32_t model_half_window(uint32_t width) { return width ? width / 2 + 1 : 0; }
/* pooling.c: what follows the hidden states of an embedding model. */
rotor_status model_pooling(model_loader *ld);
rotor_status model_folder_pooling(model_loader *ld); /* hf_pooling.c: a folder's share of it */
/* The next dense layer, from a tensor of any open file; and what is said of one too many. */
rotor_status model_add_dense(model_loader *ld, const file_tensor *t);
rotor_status model_too_many_dense(const model_loader *ld);
/* A side file of a folder as JSON; NULL: there is none. */
struct json_t;
rotor_status model_side_json(model_loader *ld, const char *name, struct json_t **out);
/* bind_encoder.c */
rotor_status model_bind_encoder(model_loader *ld);
rotor_status model_bind_encoder_layer(model_loader *ld, uint32_t l);
/* Names of one role: %u is the layer; without ".weight". */
typedef struct model_role {
    const char *gguf;   /* GGUF */
    const char *hf;     /* folders */
    const char *other;  /* what an older family of either kind calls it, or NULL */
    const char *turned; /* GPT-2's folders, with or without "transformer." before it; NULL: no such
                           thing there */
} model_role;
/* bind.c: a tensor of a role, required or NULL; its matrix; a matrix of any number of rows, where
 * it lies; the next rows of one that holds several. */
const file_tensor *model_role_find(const model_loader *ld, const model_role *r, uint32_t layer,
                                   const char *tail);
rotor_status model_role_need(const model_loader *ld, const model_role *r, uint32_t layer,
                             const char *tail, const file_tensor **out);
rotor_status model_role_mat(model_loader *ld, const model_role *r, uint32_t layer, size_t rows,
                            size_t cols, model_mat *out);
rotor_status model_table(model_loader *ld, const file_tensor *t, size_t cols, model_mat *out);
rotor_status model_take_rows(const model_loader *ld, model_mat *all, size_t rows, model_mat *out);

#define MODEL_ROOT "transformer." /* before GPT-2's names, in some folders */
/* Whether matrices lie [inputs, outputs], under GPT-2's names. */
static inline bool model_turned(const model_loader *ld) { return ld->hf && ld->arch->turned; }

/* Memory that lives as long as the model; NULL when out. */
void *model_take(model *m, size_t bytes);
void model_give_back(model *m, void *mem); /* of model_take: not needed after all */

/* A tensor by its full name, marked as used; NULL: there is none. */
const file_tensor *model_find(const model_loader *ld, const char *name);
/* A tensor [rows, cols] of floats, or a vector [1, cols], as floats of the model's own. */
rotor_status model_vectors(model_loader *ld, const file_tensor *t, size_t rows, size_t cols,
                           const float **out);
bool model_is_float(uint32_t type); /* F32, F16 or BF16 */
/* hf_experts.c: matrices and biases of a layer's experts from a HF folder. */
rotor_status model_hf_experts(model_loader *ld, uint32_t layer, model_layer *w);

/* Where a ternary matrix comes from. */
typedef struct model_ternary_src {
    const file_tensor *t;     /* the tensor */
    const file_tensor *scale; /* HF weight_scale or GGUF .scale [1]; NULL: none */
    bool packed;              /* HF: four rows in a byte */
    bool master; /* float weights: ternary times a constant (GGUF), or to be quantised */
} model_ternary_src;
/* Makes out (rows and cols set) a T2 matrix: in place when the bytes allow, else repacked. T5
 * stays T5, in place. */
rotor_status model_make_ternary(model_loader *ld, const model_ternary_src *src, model_mat *out);

/* Looks at the codes of all ternary matrices that are used in place, once they are bound; one
 * thread calls meanwhile(arg) first. */
rotor_status model_check_codes(const model_loader *ld, void (*meanwhile)(void *arg), void *arg);

/* Value of a one-element float tensor. */
rotor_status model_scalar(const file_tensor *t, float *out, rotor_error *err);
/* What a scale tensor (HF weight_scale, the .scale of older GGUF conversions; NULL: none)
 * multiplies the outputs of matrix `name` by. */
rotor_status model_scale_of(const model_loader *ld, const file_tensor *scale, const char *name,
                            float *out);
/* HF side files. */
rotor_status model_hf_texts(model_loader *ld);

#endif
