/* SPDX-License-Identifier: MIT
 *
 * synth: model files with the names, types and shapes of published models and random weights, so
 * that loading, memory and speed can be tested without a download.
 *
 * Weights are drawn so that every layer keeps the size of its input and the logits spread by a few
 * units: a ternary or dense matrix of K columns has standard deviation 1/sqrt(K), the two that end
 * in the residual stream are smaller by sqrt(2 L), norm gains lie around 1. Each tensor has its own
 * random sequence, seeded by the seed and its name: leaving layers out changes no other tensor.
 *
 * Sparse files leave every matrix as a hole: code 0, which for ternary types means -1 with scale 0.
 */
#include "tool/tool.h"
#include "tool/synth.h"

#include <math.h>
#include <stdio.h>

typedef enum family { BITNET, LLAMA, GPT_OSS } family;

typedef struct preset {
    const char *name, *help;    /* as listed */
    family kind;                /* tensors and keys */
    const char *arch;           /* general.architecture */
    const char *model_name;     /* general.name */
    uint32_t file_type;         /* general.file_type */
    uint32_t L, D, F, H, K, d;  /* layers, model, ffn, heads, kv heads, head size */
    uint32_t V, n_ctx;          /* vocabulary, context */
    uint32_t E, n_used, window; /* experts, experts per token, sliding window */
    float rope_base;            /* theta */
    uint32_t embd, proj;        /* types of embedding and head, of projections */
    bool tied;                  /* no output.weight */
    synth_vocab_plan vocab;     /* tokens */
} preset;

#define BITNET_TEMPLATE                                                                            \
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ 'Human: ' + "               \
    "message['content'] | trim + '\\n\\nBITNETAssistant: ' }}{% else %}{{ message['content'] + "   \
    "eos_token }}{% endif %}{% endfor %}"
#define LLAMA3_TEMPLATE                                                                            \
    "{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + "                   \
    "'<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"          \
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"    \
    "{% endif %}"
#define HARMONY_TEMPLATE                                                                           \
    "{% for message in messages %}{{ '<|start|>' + message['role'] + '<|message|>' + "             \
    "message['content'] + '<|end|>' }}{% endfor %}{% if add_generation_prompt %}"                  \
    "{{ '<|start|>assistant' }}{% endif %}"

/* clang-format off */
static const preset presets[] = {
    {"bitnet-2b4t", "Microsoft BitNet b1.58 2B 4T: 332 tensors, I2_S, 1.18 GB", BITNET,
     "bitnet-b1.58", "bitnet2b", 40, 30, 2560, 6912, 20, 5, 128, 128256, 4096, 0, 0, 0, 500000.0f,
     QUANT_F16, QUANT_I2_S, true,
     {SYNTH_LLAMA3, 128256, 256, 280147, true, NULL, 1, BITNET_TEMPLATE}},
    {"llama3-8b-1.58", "Llama3-8B-1.58: 291 tensors, I2_S, untied F16 head, 3.8 GB", LLAMA,
     "llama", "Llama3-8B-1.58", 40, 32, 4096, 14336, 32, 8, 128, 128256, 8192, 0, 0, 0, 500000.0f,
     QUANT_F16, QUANT_I2_S, false,
     {SYNTH_LLAMA3, 128256, 256, 280147, false, "llama-bpe", 9, LLAMA3_TEMPLATE}},
    {"gpt-oss-20b", "OpenAI gpt-oss-20b: 459 tensors, MXFP4 experts, 12.1 GB", GPT_OSS,
     "gpt-oss", "Gpt Oss 20b", 38, 24, 2880, 2880, 64, 8, 64, 201088, 131072, 32, 4, 128, 150000.0f,
     QUANT_Q8_0, QUANT_MXFP4, false,
     {SYNTH_HARMONY, 201088, 1090, 446189, false, "gpt-4o", 4, HARMONY_TEMPLATE}},
    {"bitnet-tiny", "the BitNet architecture in half a megabyte", BITNET,
     "bitnet-b1.58", "bitnet-tiny", 40, 2, 256, 512, 4, 2, 64, 512, 512, 0, 0, 0, 500000.0f,
     QUANT_F16, QUANT_I2_S, true,
     {SYNTH_LLAMA3, 512, 16, 240, true, NULL, 1, BITNET_TEMPLATE}},
    {"llama-tiny", "the llama architecture with Q8_0 matrices, one megabyte", LLAMA,
     "llama", "llama-tiny", 7, 2, 256, 512, 4, 2, 64, 512, 512, 0, 0, 0, 10000.0f,
     QUANT_Q8_0, QUANT_Q8_0, false,
     {SYNTH_LLAMA3, 512, 16, 240, false, "llama-bpe", 9, LLAMA3_TEMPLATE}},
    {"llama-1.58-tiny", "the llama architecture with ternary I2_S matrices", LLAMA,
     "llama", "llama-1.58-tiny", 40, 2, 256, 512, 4, 2, 64, 512, 512, 0, 0, 0, 10000.0f,
     QUANT_F16, QUANT_I2_S, false,
     {SYNTH_LLAMA3, 512, 16, 240, false, "llama-bpe", 9, LLAMA3_TEMPLATE}},
    {"gpt-oss-tiny", "the gpt-oss architecture with four experts", GPT_OSS,
     "gpt-oss", "gpt-oss-tiny", 38, 2, 128, 128, 4, 2, 64, 512, 512, 4, 2, 128, 150000.0f,
     QUANT_Q8_0, QUANT_MXFP4, false,
     {SYNTH_HARMONY, 512, 16, 240, false, "gpt-4o", 4, HARMONY_TEMPLATE}},
};
/* clang-format on */

const char *tool_preset_name(size_t i) { return i < BASE_COUNT(presets) ? presets[i].name : NULL; }
const char *tool_preset_help(size_t i) { return i < BASE_COUNT(presets) ? presets[i].help : NULL; }

static rotor_status find_preset(const char *name, const preset **out, rotor_error *err) {
    char names[240];
    size_t n = 0;
    for (size_t i = 0; i < BASE_COUNT(presets); i++)
        if (strcmp(presets[i].name, name) == 0) return *out = &presets[i], ROTOR_OK;
    for (size_t i = 0; i < BASE_COUNT(presets) && n < sizeof names; i++)
        n += (size_t)snprintf(names + n, sizeof names - n, "%s%s", i ? ", " : "", presets[i].name);
    return base_fail(err, ROTOR_E_ARG, "no preset '%s'; there are %s", name, names);
}

/* ==== What tensors there are ================================================================== */

typedef enum fill { FILL_MATRIX, FILL_GAIN, FILL_SMALL } fill;

typedef struct plan_tensor {
    char name[64];    /* in the file */
    uint32_t type;    /* quant_type */
    uint32_t n_dims;  /* 1..3 */
    uint64_t dims[4]; /* fastest first */
    fill how;         /* matrices are left out of sparse files */
    float sigma;      /* standard deviation */
} plan_tensor;

typedef struct plan {
    const preset *p;   /* shape */
    uint32_t L;        /* layers to write */
    plan_tensor *list; /* owned */
    size_t n, cap;     /* used, allocated */
} plan;

static void add(plan *pl, const char *name, uint32_t type, const uint64_t dims[3], fill how,
                float sigma) {
    plan_tensor *t = &pl->list[pl->n++];
    snprintf(t->name, sizeof t->name, "%s", name);
    t->type = type;
    t->n_dims = dims[2] ? 3 : dims[1] ? 2 : 1;
    for (int i = 0; i < 4; i++) t->dims[i] = i < 3 && dims[i] ? dims[i] : 1;
    t->how = how;
    t->sigma = sigma;
}

static void add_gain(plan *pl, const char *name, uint32_t n) {
    add(pl, name, QUANT_F32, (uint64_t[3]){n, 0, 0}, FILL_GAIN, 0.1f);
}

/* A projection [rows, cols]; ends: it writes into the residual stream. */
static void add_matrix(plan *pl, const char *name, uint32_t type, uint32_t rows, uint32_t cols,
                       bool ends) {
    float sigma = 1.0f / sqrtf((float)cols);
    if (ends) sigma /= sqrtf(2.0f * (float)pl->p->L);
    add(pl, name, type, (uint64_t[3]){cols, rows, 0}, FILL_MATRIX, sigma);
}

static const char *in_layer(uint32_t layer, const char *tail, char out[64]) {
    snprintf(out, 64, "blk.%u.%s", layer, tail);
    return out;
}

static void plan_dense_layer(plan *pl, uint32_t n) {
    const preset *p = pl->p;
    bool sub = p->kind == BITNET;
    char b[64];
    add_gain(pl, in_layer(n, "attn_norm.weight", b), p->D);
    add_matrix(pl, in_layer(n, "attn_q.weight", b), p->proj, p->H * p->d, p->D, false);
    add_matrix(pl, in_layer(n, "attn_k.weight", b), p->proj, p->K * p->d, p->D, false);
    add_matrix(pl, in_layer(n, "attn_v.weight", b), p->proj, p->K * p->d, p->D, false);
    if (sub) add_gain(pl, in_layer(n, "attn_sub_norm.weight", b), p->H * p->d);
    add_matrix(pl, in_layer(n, "attn_output.weight", b), p->proj, p->D, p->H * p->d, true);
    add_gain(pl, in_layer(n, "ffn_norm.weight", b), p->D);
    add_matrix(pl, in_layer(n, "ffn_gate.weight", b), p->proj, p->F, p->D, false);
    add_matrix(pl, in_layer(n, "ffn_up.weight", b), p->proj, p->F, p->D, false);
    if (sub) add_gain(pl, in_layer(n, "ffn_sub_norm.weight", b), p->F);
    add_matrix(pl, in_layer(n, "ffn_down.weight", b), p->proj, p->D, p->F, true);
}

static void add_bias(plan *pl, const char *name, uint32_t n, uint32_t n_experts) {
    add(pl, name, QUANT_F32, (uint64_t[3]){n, n_experts, 0}, FILL_SMALL, 0.02f);
}

static void add_experts(plan *pl, const char *name, uint32_t rows, uint32_t cols, bool ends) {
    float sigma = 1.0f / sqrtf((float)cols);
    if (ends) sigma /= sqrtf(2.0f * (float)pl->p->L);
    add(pl, name, pl->p->proj, (uint64_t[3]){cols, rows, pl->p->E}, FILL_MATRIX, sigma);
}

static void plan_moe_layer(plan *pl, uint32_t n) {
    const preset *p = pl->p;
    const struct {
        const char *name;    /* projection */
        uint32_t rows, cols; /* shape */
    } attn[] = {{"attn_q", p->H * p->d, p->D},
                {"attn_k", p->K * p->d, p->D},
                {"attn_v", p->K * p->d, p->D},
                {"attn_output", p->D, p->H * p->d}};
    char b[64], tail[40];
    add_gain(pl, in_layer(n, "attn_norm.weight", b), p->D);
    for (size_t i = 0; i < BASE_COUNT(attn); i++) {
        snprintf(tail, sizeof tail, "%s.weight", attn[i].name);
        add_matrix(pl, in_layer(n, tail, b), p->embd, attn[i].rows, attn[i].cols, i == 3);
        snprintf(tail, sizeof tail, "%s.bias", attn[i].name);
        add_bias(pl, in_layer(n, tail, b), attn[i].rows, 0);
    }
    add(pl, in_layer(n, "attn_sinks.weight", b), QUANT_F32, (uint64_t[3]){p->H, 0, 0}, FILL_SMALL,
        1);
    add_gain(pl, in_layer(n, "post_attention_norm.weight", b), p->D);
    add_matrix(pl, in_layer(n, "ffn_gate_inp.weight", b), QUANT_F32, p->E, p->D, false);
    add_bias(pl, in_layer(n, "ffn_gate_inp.bias", b), p->E, 0);
    add_experts(pl, in_layer(n, "ffn_gate_exps.weight", b), p->F, p->D, false);
    add_bias(pl, in_layer(n, "ffn_gate_exps.bias", b), p->F, p->E);
    add_experts(pl, in_layer(n, "ffn_up_exps.weight", b), p->F, p->D, false);
    add_bias(pl, in_layer(n, "ffn_up_exps.bias", b), p->F, p->E);
    add_experts(pl, in_layer(n, "ffn_down_exps.weight", b), p->D, p->F, true);
    add_bias(pl, in_layer(n, "ffn_down_exps.bias", b), p->D, p->E);
}

enum { TENSORS_PER_LAYER = 19, TENSORS_OUTSIDE = 3 };

static rotor_status make_plan(plan *pl, rotor_error *err) {
    const preset *p = pl->p;
    pl->cap = TENSORS_OUTSIDE + (size_t)pl->L * TENSORS_PER_LAYER;
    pl->list = base_alloc_array(pl->cap, sizeof *pl->list);
    if (!pl->list) return base_fail_nomem(err, "planning a model file");
    float spread = 2.5f / sqrtf((float)p->D); /* logits of standard deviation 2.5 */
    add(pl, "token_embd.weight", p->embd, (uint64_t[3]){p->D, p->V, 0}, FILL_MATRIX, spread);
    for (uint32_t n = 0; n < pl->L; n++) {
        if (p->kind == GPT_OSS)
            plan_moe_layer(pl, n);
        else
            plan_dense_layer(pl, n);
    }
    add_gain(pl, "output_norm.weight", p->D);
    if (!p->tied)
        add(pl, "output.weight", p->embd, (uint64_t[3]){p->D, p->V, 0}, FILL_MATRIX, spread);
    return ROTOR_OK;
}

/* ==== Metadata ================================================================================ */

static const char *key(const preset *p, const char *tail, char out[96]) {
    snprintf(out, 96, "%s.%s", p->arch, tail);
    return out;
}

/* A failed put is remembered by the writer and told by file_begin. */
static void put_shape(file_writer *w, const preset *p, uint32_t n_layers) {
    char k[96];
    file_put_str(w, "general.architecture", base_str_of(p->arch));
    file_put_str(w, "general.name", base_str_of(p->model_name));
    if (p->kind != GPT_OSS) file_put_u32(w, key(p, "vocab_size", k), p->V);
    file_put_u32(w, key(p, "context_length", k), p->n_ctx);
    file_put_u32(w, key(p, "embedding_length", k), p->D);
    file_put_u32(w, key(p, "block_count", k), n_layers);
    file_put_u32(w, key(p, "feed_forward_length", k), p->F);
    if (p->kind != GPT_OSS) file_put_u32(w, key(p, "rope.dimension_count", k), p->d);
    file_put_u32(w, key(p, "attention.head_count", k), p->H);
    file_put_u32(w, key(p, "attention.head_count_kv", k), p->K);
    file_put_f32(w, key(p, "attention.layer_norm_rms_epsilon", k), 1e-5f);
    file_put_f32(w, key(p, "rope.freq_base", k), p->rope_base);
    file_put_u32(w, "general.file_type", p->file_type);
    file_put_u32(w, "general.quantization_version", 2);
}

static void put_moe(file_writer *w, const preset *p) {
    char k[96];
    file_put_u32(w, key(p, "expert_feed_forward_length", k), p->F);
    file_put_u32(w, key(p, "attention.key_length", k), p->d);
    file_put_u32(w, key(p, "attention.value_length", k), p->d);
    file_put_u32(w, key(p, "attention.sliding_window", k), p->window);
    file_put_u32(w, key(p, "expert_count", k), p->E);
    file_put_u32(w, key(p, "expert_used_count", k), p->n_used);
    file_put_str(w, key(p, "rope.scaling.type", k), base_str_of("yarn"));
    file_put_f32(w, key(p, "rope.scaling.factor", k), 32.0f);
    file_put_u32(w, key(p, "rope.scaling.original_context_length", k), 4096);
}

/* ==== Weights ================================================================================= */

enum { PIECE = 1 << 20, NORMALS = 1 << 16 };

typedef struct filler {
    file_writer *w;         /* where to */
    base_rng rng;           /* of the tensor */
    uint8_t *piece;         /* [PIECE], owned */
    float *normal;          /* [NORMALS] draws of a standard normal, owned */
    uint16_t *half;         /* [NORMALS] the same times sigma as f16, owned */
    uint8_t legal[256];     /* any byte to four codes 0, 1, 2 */
    uint64_t done, total;   /* bytes */
    tool_progress progress; /* listener */
} filler;

static rotor_status start_filler(filler *fl, uint64_t seed, rotor_error *err) {
    fl->piece = base_alloc(PIECE);
    fl->normal = base_alloc_array(NORMALS, sizeof *fl->normal);
    fl->half = base_alloc_array(NORMALS, sizeof *fl->half);
    if (!fl->piece || !fl->normal || !fl->half) return base_fail_nomem(err, "drawing weights");
    base_rng_seed(&fl->rng, seed);
    for (int i = 0; i < NORMALS; i++) fl->normal[i] = base_rng_normal(&fl->rng);
    for (unsigned i = 0; i < 256; i++) {
        unsigned combo = i * 81 >> 8; /* four base-3 digits */
        fl->legal[i] =
            (uint8_t)(combo % 3 | combo / 3 % 3 << 2 | combo / 9 % 3 << 4 | combo / 27 << 6);
    }
    return ROTOR_OK;
}

static void free_filler(filler *fl) {
    base_free(fl->piece);
    base_free(fl->normal);
    base_free(fl->half);
}

static void random_bytes(filler *fl, size_t n_bytes) {
    for (size_t i = 0; i < n_bytes; i += 8) {
        uint64_t v = base_rng_u64(&fl->rng);
        memcpy(fl->piece + i, &v, 8);
    }
}

static rotor_status emit(filler *fl, size_t n_bytes, rotor_error *err) {
    ROTOR_TRY(file_write(fl->w, fl->piece, n_bytes, err));
    fl->done += n_bytes;
    if (fl->progress.fn && !fl->progress.fn(fl->progress.user, fl->done, fl->total))
        return base_fail(err, ROTOR_E_CANCELLED, "cancelled");
    return ROTOR_OK;
}

/* Pieces hold whole blocks of unit_bytes; make fills piece[0..n). */
static rotor_status in_pieces(filler *fl, uint64_t bytes, size_t unit_bytes,
                              void (*make)(filler *fl, size_t n, float sigma), float sigma,
                              rotor_error *err) {
    size_t most = PIECE / unit_bytes * unit_bytes;
    for (uint64_t left = bytes; left;) {
        size_t n = (size_t)BASE_MIN(left, most);
        make(fl, n, sigma);
        ROTOR_TRY(emit(fl, n, err));
        left -= n;
    }
    return ROTOR_OK;
}

static void make_codes(filler *fl, size_t n, float sigma) {
    (void)sigma;
    random_bytes(fl, n);
    for (size_t i = 0; i < n; i++) fl->piece[i] = fl->legal[fl->piece[i]];
}

static void make_f16(filler *fl, size_t n, float sigma) {
    (void)sigma;
    random_bytes(fl, n);
    for (size_t i = 0; i + 2 <= n; i += 2) {
        uint16_t pick;
        memcpy(&pick, fl->piece + i, 2);
        memcpy(fl->piece + i, &fl->half[pick], 2);
    }
}

static void make_f32(filler *fl, size_t n, float sigma) {
    for (size_t i = 0; i + 4 <= n; i += 4) {
        float v = sigma * fl->normal[base_rng_u64(&fl->rng) % NORMALS];
        memcpy(fl->piece + i, &v, 4);
    }
}

static void make_q8_0(filler *fl, size_t n, float sigma) {
    uint16_t d = quant_f32_to_f16(sigma / 73.9f); /* root mean square of a random int8 */
    random_bytes(fl, n);
    for (size_t i = 0; i + 34 <= n; i += 34) memcpy(fl->piece + i, &d, 2);
}

static void make_mxfp4(filler *fl, size_t n, float sigma) {
    int e = 127 + (int)lrintf(log2f(sigma / 2.93f)); /* root mean square of a random E2M1 code */
    random_bytes(fl, n);
    for (size_t i = 0; i + 17 <= n; i += 17) fl->piece[i] = (uint8_t)e;
}

static rotor_status fill_i2s(filler *fl, const plan_tensor *t, uint64_t n_codes, rotor_error *err) {
    float scale = t->sigma / sqrtf(2.0f / 3.0f);
    ROTOR_TRY(in_pieces(fl, n_codes / 4, 1, make_codes, 0, err));
    memset(fl->piece, 0, 32);
    memcpy(fl->piece, &scale, sizeof scale);
    return emit(fl, 32, err);
}

static rotor_status fill_gains(filler *fl, uint64_t n, rotor_error *err) {
    for (uint64_t i = 0; i < n; i++) {
        float v = 1.0f + 0.1f * base_rng_normal(&fl->rng);
        memcpy(fl->piece + 4 * i, &v, 4); /* n * 4 <= PIECE: norms are short */
    }
    return emit(fl, (size_t)n * 4, err);
}

static rotor_status fill_tensor(filler *fl, const plan_tensor *t, rotor_error *err) {
    uint64_t n = t->dims[0] * t->dims[1] * t->dims[2];
    if (t->how == FILL_GAIN) return fill_gains(fl, n, err);
    switch (t->type) {
    case QUANT_I2_S:
        return fill_i2s(fl, t, n, err);
    case QUANT_F16:
        for (int i = 0; i < NORMALS; i++) fl->half[i] = quant_f32_to_f16(t->sigma * fl->normal[i]);
        return in_pieces(fl, n * 2, 2, make_f16, 0, err);
    case QUANT_Q8_0:
        return in_pieces(fl, n / 32 * 34, 34, make_q8_0, t->sigma, err);
    case QUANT_MXFP4:
        return in_pieces(fl, n / 32 * 17, 17, make_mxfp4, t->sigma, err);
    default:
        return in_pieces(fl, n * 4, 4, make_f32, t->sigma, err);
    }
}

static rotor_status write_weights(filler *fl, const plan *pl, const tool_synth_options *opt,
                                  rotor_error *err) {
    ROTOR_TRY(start_filler(fl, opt->seed, err));
    for (size_t i = 0; i < pl->n; i++) {
        const plan_tensor *t = &pl->list[i];
        base_rng_seed(&fl->rng, base_hash64(t->name, strlen(t->name), opt->seed));
        if (opt->sparse && t->how == FILL_MATRIX)
            ROTOR_TRY(file_write_hole(fl->w, err));
        else
            ROTOR_TRY(fill_tensor(fl, t, err));
    }
    return ROTOR_OK;
}

static rotor_status declare_all(filler *fl, const plan *pl, rotor_error *err) {
    for (size_t i = 0; i < pl->n; i++) {
        const plan_tensor *t = &pl->list[i];
        uint64_t bytes;
        ROTOR_TRY(file_declare(fl->w, base_str_of(t->name), t->type, t->n_dims, t->dims, err));
        ROTOR_TRY(quant_tensor_bytes(quant_find(t->type), t->dims[1] * t->dims[2], t->dims[0],
                                     &bytes, err));
        fl->total += bytes;
    }
    return file_begin(fl->w, err);
}

static rotor_status write_model(filler *fl, const plan *pl, const tool_synth_options *opt,
                                rotor_error *err) {
    put_shape(fl->w, pl->p, pl->L);
    if (pl->p->kind == GPT_OSS) put_moe(fl->w, pl->p);
    ROTOR_TRY(synth_put_vocab(fl->w, &pl->p->vocab, opt->vocab, err));
    ROTOR_TRY(declare_all(fl, pl, err));
    ROTOR_TRY(write_weights(fl, pl, opt, err));
    return file_commit(fl->w, err);
}

rotor_status tool_synth(const char *name, const char *path, const tool_synth_options *opt,
                        rotor_error *err) {
    plan pl = {0};
    filler fl = {.progress = opt->progress};
    ROTOR_TRY(find_preset(name, &pl.p, err));
    pl.L = opt->layers ? opt->layers : pl.p->L;
    if (pl.L > 512) return base_fail(err, ROTOR_E_ARG, "%u layers; at most 512 are possible", pl.L);
    rotor_status st = make_plan(&pl, err);
    if (st == ROTOR_OK) st = file_writer_create(&fl.w, path, err);
    if (st == ROTOR_OK) st = write_model(&fl, &pl, opt, err);
    file_writer_free(&fl.w);
    free_filler(&fl);
    base_free(pl.list);
    return st;
}
