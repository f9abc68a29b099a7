/* SPDX-License-Identifier: MIT
 *
 * Small seeded models. Weights have variance 1/K, norm gains vary around 1 (some negative), so that
 * logits differ between tokens and attention is not uniform.
 */
#include "tiny_model.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "file/file.h"
#include "quant/quant.h"

const char *const tiny_names[TINY_KINDS] = {"bitnet I2_S", "bitnet TQ2_0", "bitnet T5",
                                            "llama F32",   "llama Q8_0",   "llama Q6_K"};

enum { TINY_EXPERTS = 8 };

typedef struct writer {
    file_writer *w;           /* file being written */
    tiny_kind kind;           /* family */
    tiny_shape s;             /* shape */
    base_rng rng;             /* of all weights */
    const char *skip;         /* tensor left out */
    const char *const *marks; /* control tokens for the vocabulary, NULL ends them; NULL: none */
    bool declare;             /* first round: shapes; second: bytes */
    uint32_t experts; /* matrices a tensor holds, or vectors; 0: one, and it is no mixture's */
} writer;

static void must(rotor_status st, const rotor_error *err) {
    if (st == ROTOR_OK) return;
    fprintf(stderr, "tiny_model: %s\n", err->message);
    abort();
}

tiny_shape tiny_default(void) { return (tiny_shape){2, 256, 4, 2, 512, 97, 8192}; }

char *tiny_path(char buf[96], const char *tail) {
    snprintf(buf, 96, "/tmp/rotor-tiny-%ld-%s", (long)getpid(), tail);
    return buf;
}

static void tensor(writer *w, const char *name, uint32_t type, uint64_t rows, uint64_t cols) {
    rotor_error err = {0};
    if (w->skip && strcmp(w->skip, name) == 0) return;
    if (w->declare) {
        const uint64_t dims[4] = {cols, rows, BASE_MAX(w->experts, 1u), 1};
        const uint32_t n_dims = w->experts ? 3 : rows > 1 ? 2 : 1;
        must(file_declare(w->w, base_str_of(name), type, n_dims, dims, &err), &err);
        return;
    }
    rows *= BASE_MAX(w->experts, 1u);
    uint64_t bytes;
    must(quant_tensor_bytes(quant_find(type), rows, cols, &bytes, &err), &err);
    float *x = base_alloc_array(rows * cols, sizeof *x);
    uint8_t *out = base_alloc(bytes);
    bool ternary = quant_find(type)->flags & QUANT_TERNARY;
    float scale = 1.5f / sqrtf((float)cols);
    for (uint64_t i = 0; i < rows * cols; i++) {
        float v = base_rng_normal(&w->rng);
        x[i] = rows == 1 ? 1.0f + 0.3f * v : v / sqrtf((float)cols);
        if (ternary) x[i] = v > 0.5f ? scale : v < -0.5f ? -scale : 0;
    }
    must(quant_encode(type, rows, cols, x, out, &err), &err);
    must(file_write(w->w, out, bytes, &err), &err);
    base_free(x);
    base_free(out);
}

static void layer(writer *w, uint32_t l) {
    static const uint32_t types[TINY_KINDS] = {QUANT_I2_S, QUANT_TQ2_0, QUANT_T5,
                                               QUANT_F32,  QUANT_Q8_0,  QUANT_Q6_K};
    const uint32_t t = types[w->kind], d = w->s.n_embd, kv = d / w->s.n_head * w->s.n_head_kv;
    const struct {
        const char *name; /* role */
        uint32_t type;    /* storage */
        uint64_t rows, cols;
    } list[] = {{"attn_norm", QUANT_F32, 1, d},
                {"attn_q", t, d, d},
                {"attn_k", t, kv, d},
                {"attn_v", t, kv, d},
                {"attn_output", t, d, d},
                {"ffn_norm", QUANT_F32, 1, d},
                {"ffn_gate", t, w->s.n_ff, d},
                {"ffn_up", t, w->s.n_ff, d},
                {"ffn_down", t, d, w->s.n_ff},
                {"attn_sub_norm", QUANT_F32, 1, d},
                {"ffn_sub_norm", QUANT_F32, 1, w->s.n_ff}};
    size_t n = w->kind <= TINY_BITNET_T5 ? BASE_COUNT(list) : BASE_COUNT(list) - 2;
    for (size_t i = 0; i < n; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.%s.weight", l, list[i].name);
        tensor(w, name, list[i].type, list[i].rows, list[i].cols);
    }
}

static void named(writer *w, uint32_t l, const char *tail, uint64_t rows, uint64_t cols) {
    char name[64];
    snprintf(name, sizeof name, "blk.%u.%s", l, tail);
    tensor(w, name, QUANT_F32, rows, cols);
}

/* Biases and sinks are drawn as gains are: around 1. */
static void mixture_layer(writer *w, uint32_t l) {
    const uint32_t d = w->s.n_embd, kv = d / w->s.n_head * w->s.n_head_kv, ff = w->s.n_ff;
    const struct {
        const char *tail; /* of the name */
        uint64_t rows, cols;
        bool experts; /* of each */
    } list[] = {{"attn_norm.weight", 1, d, false},
                {"attn_q.weight", d, d, false},
                {"attn_q.bias", 1, d, false},
                {"attn_k.weight", kv, d, false},
                {"attn_k.bias", 1, kv, false},
                {"attn_v.weight", kv, d, false},
                {"attn_v.bias", 1, kv, false},
                {"attn_output.weight", d, d, false},
                {"attn_output.bias", 1, d, false},
                {"attn_sinks.weight", 1, w->s.n_head, false},
                {"post_attention_norm.weight", 1, d, false},
                {"ffn_gate_inp.weight", TINY_EXPERTS, d, false},
                {"ffn_gate_inp.bias", 1, TINY_EXPERTS, false},
                {"ffn_gate_exps.weight", ff, d, true},
                {"ffn_up_exps.weight", ff, d, true},
                {"ffn_down_exps.weight", d, ff, true},
                {"ffn_gate_exps.bias", TINY_EXPERTS, ff, false},
                {"ffn_up_exps.bias", TINY_EXPERTS, ff, false},
                {"ffn_down_exps.bias", TINY_EXPERTS, d, false}};
    for (size_t i = 0; i < BASE_COUNT(list); i++) {
        w->experts = list[i].experts ? TINY_EXPERTS : 0;
        named(w, l, list[i].tail, list[i].rows, list[i].cols);
    }
    w->experts = 0;
}

static void tensors(writer *w, uint64_t seed) {
    base_rng_seed(&w->rng, seed);
    bool bitnet = w->kind <= TINY_BITNET_T5;
    tensor(w, "token_embd.weight", bitnet ? QUANT_F16 : QUANT_F32, w->s.n_vocab, w->s.n_embd);
    for (uint32_t l = 0; l < w->s.n_layer; l++)
        if (w->kind == TINY_GPT_OSS)
            mixture_layer(w, l);
        else
            layer(w, l);
    tensor(w, "output_norm.weight", QUANT_F32, 1, w->s.n_embd);
    if (!bitnet) tensor(w, "output.weight", QUANT_F32, w->s.n_vocab, w->s.n_embd);
}

static void put(writer *w, const char *arch, const char *tail, uint32_t v) {
    char key[64];
    snprintf(key, sizeof key, "%s.%s", arch, tail);
    must(file_put_u32(w->w, key, v), &(rotor_error){.message = "metadata"});
}

/* The control tokens of the shape take the place of words. */
static void put_marks(const writer *w, base_str *tokens, const rotor_error *oops) {
    int32_t *types = base_alloc_array(w->s.n_vocab, sizeof *types);
    uint32_t n = 0;
    while (w->marks[n]) n++;
    must(types ? ROTOR_OK : ROTOR_E_NOMEM, oops);
    for (uint32_t i = 0; i < w->s.n_vocab; i++) types[i] = 1;
    for (uint32_t i = 0; i < n; i++) {
        tokens[w->s.n_vocab - 2 - n + i] = base_str_of(w->marks[i]);
        types[w->s.n_vocab - 2 - n + i] = 3;
    }
    file_put_array(w->w, "tokenizer.ggml.token_type", FILE_I32, types, w->s.n_vocab);
    base_free(types);
}

/* Token i is the i-th printable character, so that text round-trips. */
static void vocabulary(writer *w) {
    enum { MOST = 4096 };
    static char text[MOST][4];
    static base_str tokens[MOST];
    base_str none[1] = {{"", 0}};
    assert(w->s.n_vocab <= MOST);
    for (uint32_t i = 0; i < w->s.n_vocab; i++) {
        uint32_t cp = i < 94 ? 33 + i : 0x100 + i - 94;
        tokens[i] = (base_str){text[i], (size_t)base_utf8_encode(cp, text[i])};
    }
    const rotor_error oops = {.message = "vocabulary"};
    if (w->marks) put_marks(w, tokens, &oops);
    must(file_put_str(w->w, "tokenizer.ggml.model", base_str_of("gpt2")), &oops);
    must(file_put_str(w->w, "tokenizer.ggml.pre", base_str_of("gpt-2")), &oops);
    must(file_put_strings(w->w, "tokenizer.ggml.tokens", tokens, w->s.n_vocab), &oops);
    must(file_put_strings(w->w, "tokenizer.ggml.merges", none, 0), &oops);
    must(file_put_u32(w->w, "tokenizer.ggml.eos_token_id", w->s.n_vocab - 1), &oops);
    must(file_put_u32(w->w, "tokenizer.ggml.bos_token_id", w->s.n_vocab - 2), &oops);
}

static void write_model(writer w, const char *path, uint64_t seed) {
    const tiny_shape s = w.s;
    const char *arch = w.kind <= TINY_BITNET_T5 ? "bitnet-b1.58"
                       : w.kind == TINY_GPT_OSS ? "gpt-oss"
                                                : "llama";
    rotor_error err = {0};
    must(file_writer_create(&w.w, path, &err), &err);
    must(file_put_str(w.w, "general.architecture", base_str_of(arch)), &err);
    put(&w, arch, "block_count", s.n_layer);
    put(&w, arch, "embedding_length", s.n_embd);
    put(&w, arch, "feed_forward_length", s.n_ff);
    put(&w, arch, "context_length", s.n_ctx);
    put(&w, arch, "attention.head_count", s.n_head);
    put(&w, arch, "attention.head_count_kv", s.n_head_kv);
    if (w.kind == TINY_GPT_OSS) {
        put(&w, arch, "expert_count", TINY_EXPERTS);
        put(&w, arch, "expert_used_count", 2);
        put(&w, arch, "attention.sliding_window", TINY_WINDOW);
    }
    vocabulary(&w);
    tensors(&w, seed);
    must(file_begin(w.w, &err), &err);
    w.declare = false;
    tensors(&w, seed);
    must(file_commit(w.w, &err), &err);
    file_writer_free(&w.w);
}

void tiny_write(const char *path, tiny_kind kind, tiny_shape s, uint64_t seed, const char *skip) {
    write_model((writer){.kind = kind, .s = s, .skip = skip, .declare = true}, path, seed);
}

void tiny_write_marked(const char *path, tiny_shape s, uint64_t seed, const char *const *marks) {
    write_model((writer){.kind = TINY_LLAMA_F32, .s = s, .marks = marks, .declare = true}, path,
                seed);
}
