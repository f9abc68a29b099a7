/* SPDX-License-Identifier: MIT
 *
 * model: what the bytes of a model file mean. Hyper-parameters, one row per architecture, and the
 * binding of file tensors to roles with every shape checked. The result is immutable and shared.
 *
 * Weights stay where the file is mapped when their layout allows; ternary weights in any layout but
 * T2 and T5 are repacked once, at open, into T2 rows (quant.h). Nothing else is copied.
 */
#ifndef MODEL_H
#define MODEL_H

#include "base/base.h"
#include "file/file.h"
#include "quant/quant.h"
#include "text/text.h"

typedef enum model_glu {
    MODEL_RELU2,
    MODEL_SILU,
    MODEL_SWIGLU_OAI,
    MODEL_GELU,    /* the form with tanh */
    MODEL_GELU_ERF /* the exact one */
} model_glu;       /* activation of the gate, or of up where there is no gate */

typedef enum model_rope_scaling {
    MODEL_ROPE_NONE,
    MODEL_ROPE_LINEAR,
    MODEL_ROPE_LLAMA3,
    MODEL_ROPE_YARN,
    MODEL_ROPE_LONG /* one divisor per frequency for short contexts, another for long ones */
} model_rope_scaling;

/* Which hidden states make the vector of a text; numbers as in GGUF files. */
typedef enum model_pool {
    MODEL_POOL_UNSAID,
    MODEL_POOL_MEAN, /* the mean of all */
    MODEL_POOL_CLS,  /* the first token's */
    MODEL_POOL_LAST, /* the last token's */
    MODEL_POOL_RANK  /* the first token's, of a pair of texts, which becomes one score */
} model_pool;

/* Numbers of a model; letters as in docs/shapes.md. All checked at open. */
typedef struct model_hparams {
    uint32_t n_vocab;                /* V: rows of the embedding */
    uint32_t n_embd;                 /* D */
    uint32_t n_layer;                /* L */
    uint32_t n_head;                 /* H */
    uint32_t n_head_kv;              /* K, divides H */
    uint32_t d_head;                 /* d */
    uint32_t n_ff;                   /* F */
    uint32_t n_ctx;                  /* T the model was trained for */
    uint32_t n_rot;                  /* leading dimensions of a head that are rotated, even, <= d */
    float eps;                       /* of every norm */
    double rope_base;                /* theta */
    model_rope_scaling rope_scaling; /* kind of frequency scaling */
    double rope_factor;              /* of the scaling */
    double rope_low, rope_high;      /* llama3: low and high frequency factors; yarn: turns in the
                                        original context, beta_slow and beta_fast */
    uint32_t rope_orig_ctx;          /* llama3, yarn: context before scaling; long: where the other
                                        divisors begin */
    bool rope_whole;                 /* yarn: the bounds of the ramp are rounded outwards */
    float rope_gain;                 /* multiplies cosines and sines; 1: nothing */
    const float *rope_divisors; /* [n_rot / 2], each divides its frequency (rope_freqs.weight; long:
                                   of contexts up to rope_orig_ctx), or NULL */
    const float *rope_long;     /* long: the divisors of longer contexts; or NULL */
    double rope_base_local; /* theta of layers with a window, without scaling; 0: as the others */
    float attn_scale;       /* of queries times keys; 0: 1 / sqrt(d) */
    float attn_cap;         /* scores are cap * tanh(score / cap); 0: as they are */
    float logit_cap;        /* logits likewise */
    float embd_scale;       /* multiplies rows of the embedding; 0: 1 */
    uint32_t n_pos;         /* rows of learned positions: no context is longer; 0: none */
    bool rope_interleaved;  /* pairs (2i, 2i+1) instead of (i, i + n_rot/2) */
    uint32_t window;        /* positions a query sees, itself included; 0: all */
    uint32_t window_every;  /* of so many layers the last one sees all; 0: none does */
    bool fused;             /* in files q, k and v are one tensor, gate and up another */
    uint32_t still_every;   /* of so many layers the last one does not rotate; 0: all do */
    uint32_t n_expert;      /* E: experts of a layer; 0: no mixture */
    uint32_t n_used;        /* experts a token is sent to */
    uint32_t n_ff_shared;   /* width of the expert that all tokens go to as well; 0: none */
    bool route_of_all;      /* experts are weighed by the softmax over all, not over those chosen */
    bool centred;           /* norms are LayerNorm, all but those of heads */
    bool sub_norms;         /* norms before the o and down projections (BitNet) */
    bool qk_norm;           /* each head of q and k is normed before rotation */
    bool w1a8;              /* ternary projections: one int8 scale per token */
    model_glu glu;          /* activation */
    bool both_ways;         /* an encoder: a token sees those behind it, too; a window reaches as
                               far to either side */
    bool post_norm;         /* norms stand behind the sums (BERT) */
    model_pool pool;        /* of embedding models */
    uint32_t n_text;        /* tokens of the longest text an embedding model is for; 0: n_ctx */
} model_hparams;

/* The window of one layer; 0: all positions. */
static inline uint32_t model_window(const model_hparams *hp, uint32_t layer) {
    const bool all = hp->window_every && layer % hp->window_every == hp->window_every - 1;
    return all ? 0 : hp->window;
}

/* One weight matrix [rows, cols]. data NULL: the model does not have it. */
typedef struct model_mat {
    const char *name;       /* as in the file, for messages */
    uint32_t type;          /* QUANT_I2_S always means T2 rows here; else the file's type */
    size_t rows, cols;      /* outputs, inputs */
    size_t row_bytes;       /* distance between rows (T5: as in kern_mat) */
    const uint8_t *data;    /* mapped or owned by the model */
    float scale;            /* of the whole matrix: multiplies every output */
    const float *row_scale; /* ternary: [rows] instead, or NULL */
    bool unchecked;         /* ternary in place, codes not looked at yet: only while loading */
} model_mat;

/* Projections of a layer. */
typedef enum model_proj {
    MODEL_Q,
    MODEL_K,
    MODEL_V,
    MODEL_O,
    MODEL_GATE,
    MODEL_UP,
    MODEL_DOWN,
    MODEL_N_PROJ
} model_proj;

enum { MODEL_MAX_DENSE = 2 }; /* matrices behind the pooling of an embedding model */

typedef struct model_layer {
    const float *attn_norm, *attn_norm_bias;        /* [D], and [D] or NULL */
    model_mat q, k, v, o;                           /* [H*d, D] [K*d, D] [K*d, D] [D, H*d] */
    const float *q_bias, *k_bias, *v_bias, *o_bias; /* [rows] or NULL */
    const float *q_norm, *k_norm;                   /* [d] or NULL */
    const float *attn_sub_norm;                     /* [H*d] or NULL */
    const float *ffn_norm, *ffn_norm_bias;          /* [D], and [D] or NULL */
    const float *sinks;                             /* [H] or NULL */
    model_mat gate, up, down;                       /* [F, D] [F, D] [D, F]; of a mixture E each,
                                                       one below the other: [E*F, D] …; some have
                                                       no gate */
    model_mat router;                               /* [E, D], of a mixture */
    const float *router_bias;                       /* [E] or NULL */
    model_mat shared_gate, shared_up,
        shared_down;                              /* [Fs, D] [Fs, D] [D, Fs] of the shared expert */
    model_mat shared_by;                          /* [1, D]: sigmoid of it x h weighs that one */
    const float *gate_bias, *up_bias, *down_bias; /* [F] [F] [D], of a mixture E each; or NULL */
    const float *post_attn_norm, *post_ffn_norm;  /* [D] of what a block adds, or NULL */
    const float *ffn_sub_norm;                    /* [F] or NULL */
    const float *in_norm[MODEL_N_PROJ];           /* [cols] of each projection's own input, or all
                                                     NULL (ternary embedding models) */
} model_layer;

/* What the file says about sampling; negative or 0: not said. */
typedef struct model_sampling {
    float temperature, top_p, min_p, repeat_penalty; /* < 0: not said */
    int top_k;                                       /* < 0: not said */
} model_sampling;

typedef struct model {
    model_hparams hp;       /* checked numbers */
    const char *arch;       /* row name: "bitnet-b1.58", "llama" … */
    const char *name;       /* general.name or folder name */
    const char *type_name;  /* storage of the projections: "I2_S", "Q8_0", "ternary (HF packed)" */
    model_mat embd;         /* [V, D] */
    model_mat head;         /* [V, D]; the embedding itself when tied */
    bool tied;              /* head is the embedding */
    bool latent;            /* projections that the file holds as floats are to be rounded */
    const float *pos_embd;  /* [n_pos, D] added to the embedding, or NULL */
    const float *type_embd; /* [n_types, D] of a token's type, likewise */
    uint32_t n_types; /* rows of it; only the second text of a pair has another than the first */
    const float *embd_norm, *embd_norm_bias; /* [D] of their sum, or NULL */
    const float *out_norm;                   /* [D]; NULL: the last layer ends with a norm */
    const float *out_norm_bias;              /* [D] or NULL */
    model_mat
        dense[MODEL_MAX_DENSE]; /* [n_dense] what a text's vector goes through after pooling */
    const float *dense_bias[MODEL_MAX_DENSE]; /* [rows] of each, or NULL. MODEL_POOL_RANK: between
                                                 its two stands a tanh, the second has one row */
    uint32_t n_dense;                         /* how many; 0: none */
    model_layer *layers;                      /* [n_layer] */
    text_vocab *vocab;                        /* owned; NULL when the file carries none */
    base_str chat_template;                   /* Jinja text of the file, empty: none */
    model_sampling sampling;                 /* from generation_config.json or general.sampling.* */
    uint32_t n_layer_file;                   /* layers of the file; hp.n_layer may be fewer */
    uint64_t n_params;                       /* weights of all matrices and norms */
    uint64_t file_bytes;                     /* size of all files */
    uint64_t owned_bytes;                    /* repacked copies and norms */
    file_model *file;                        /* owned; NULL for none */
    file_model *dense_file[MODEL_MAX_DENSE]; /* owned: of a folder's dense layers; NULL: none */
    struct model_blocks *blocks;             /* owned memory */
} model;

/* Runs fn(arg, thread, n_threads) on every thread of a pool; used to check and repack weights. */
typedef struct model_parallel {
    void (*run)(void *pool, void (*fn)(void *arg, int thread, int n_threads), void *arg);
    void *pool; /* NULL: single-threaded */
} model_parallel;

/* The bounds of the YaRN ramp: as the family or the file has them, or otherwise. */
typedef enum model_yarn { MODEL_YARN_AUTO, MODEL_YARN_EXACT, MODEL_YARN_ROUNDED } model_yarn;

typedef struct model_options {
    bool no_map;             /* read files into memory */
    bool as_stored;          /* projections stay what the file holds, not checked, repacked or
                                rounded: to be read, not to be computed with */
    int i2s;                 /* quant_i2s, or -1: automatic (x86 order) */
    model_yarn yarn;         /* bounds of the ramp */
    uint32_t max_layers;     /* load only the first N layers; 0: all */
    model_parallel parallel; /* optional */
    const base_log *log;     /* may be NULL */
} model_options;

rotor_status model_open(model **out, const char *path, const model_options *opt, rotor_error *err);
rotor_status model_open_memory(model **out, const void *data, size_t n_bytes, const char *name,
                               const model_options *opt, rotor_error *err);
void model_close(model **m);

/* ---- Low-rank adapters (adapter.c) ----------------------------------------------------------- */

const char *model_proj_name(model_proj p); /* "attn_q": its part of a GGUF tensor name */
const model_mat *model_proj_mat(const model_layer *w, model_proj p);

/* y += scale * B (A x) beside y = W x, with the x that W's product is given before any rounding. */
typedef struct model_lora {
    model_mat a; /* [r, cols of W]; data NULL: no adapter here */
    model_mat b; /* [rows of W, r] */
} model_lora;

typedef struct model_adapter {
    model_lora *at;    /* [n_layer * MODEL_N_PROJ], owned */
    float alpha;       /* scale is alpha / r; 0: 1 */
    uint32_t rank;     /* largest r */
    uint32_t n_pairs;  /* projections with an adapter */
    uint64_t n_params; /* weights of all pairs */
    uint64_t bytes;    /* of them in the file */
    file_model *file;  /* owned: the matrices lie in it */
} model_adapter;

/* Opens an adapter file and checks all of it against the model. */
rotor_status model_adapter_open(model_adapter **out, const char *path, const model *m,
                                const model_options *opt, rotor_error *err);
void model_adapter_close(model_adapter **a); /* NULL is fine */
/* What multiplies B (A x) of a pair; strength: of the whole adapter, usually 1. */
float model_lora_scale(const model_adapter *a, const model_lora *l, float strength);
/* Whether a GGUF file says that it is an adapter. */
bool model_is_adapter(const file_model *f);

/* ---- Facts ----------------------------------------------------------------------------------- */

/* inv_freq[n_rot / 2] of the rotary embedding in a context of n_ctx positions, scaling applied;
 * local: of layers with a window. */
void model_rope_freqs(const model_hparams *hp, uint32_t n_ctx, bool local, double *inv_freq);
/* KV bytes one more position takes, for 4, 2 or 34/32 bytes an element; layers that keep only their
 * window left out. And those of the latter alone, per position kept. */
uint64_t model_kv_bytes_per_tok(const model_hparams *hp, double bytes_per_elem);
uint64_t model_ring_bytes_per_tok(const model_hparams *hp, double bytes_per_elem);
/* Floats of a text's vector. */
size_t model_vector_width(const model *m);
/* Bytes one decode step reads: all projections, norms and head (with head_bytes instead of the
 * file's head when not 0). */
uint64_t model_step_bytes(const model *m, uint64_t head_bytes);
/* Names of the architectures that load; NULL past the end. */
const char *model_arch_name(size_t i);
/* Whether a general.architecture loads, or a model_type of a HF folder. */
bool model_loads(base_str name, bool hf);
/* Whether GGUF files of an architecture have the rows of q and k in the order of pairs (2i, 2i+1).
 */
bool model_pairs_in_gguf(const char *arch);
/* Whether a GGUF file of this model would give its scores the scale they have here. */
bool model_scale_in_gguf(const model *m);

/* The vocabulary of an open GGUF file or HF folder, without its weights. */
rotor_status model_vocab(text_vocab **out, const file_model *f, const base_log *log,
                         rotor_error *err);
/* Puts the vocabulary and the chat template of a model opened from a HF folder as tokenizer.* keys,
 * padded to the rows of its embedding. *why_not: NULL, or what keeps it from being written so, in
 * which case nothing is. w NULL: only says that. */
rotor_status model_put_vocab(file_writer *w, const model *m, const char **why_not,
                             rotor_error *err);

#endif
