/* SPDX-License-Identifier: MIT
 *
 * A trained network as a Hugging Face folder, laid out as microsoft/bitnet-b1.58-2B-4T: four
 * ternary rows in a byte, a weight_scale beside each matrix that multiplies its outputs, and the
 * texts that say what it is. Scales and norms stay floats, so that nothing is rounded.
 */
#include "train/export.h"

#include <jansson.h>
#include <stdio.h>

/* ==== Texts =================================================================================== */

static int to_buffer(const char *p, size_t n, void *user) {
    return base_buf_append(user, p, n) ? 0 : -1;
}

/* o as text; it is freed. */
static rotor_status dump(base_buf *text, json_t *o, size_t flags, rotor_error *err) {
    const int failed = !o || json_dump_callback(o, to_buffer, text, flags);
    json_decref(o);
    return failed ? base_fail_nomem(err, "writing a model folder") : ROTOR_OK;
}

static rotor_status write_text(const char *folder, const char *name, base_str text,
                               rotor_error *err) {
    base_out out;
    char *path = base_path_join(folder, name);
    rotor_status st =
        path ? base_out_open(&out, path, err) : base_fail_nomem(err, "writing a model folder");
    if (st == ROTOR_OK) {
        st = base_out_write(&out, text.p, text.n, err);
        if (st == ROTOR_OK) st = base_out_commit(&out, err);
        base_out_abort(&out);
    }
    base_free(path);
    return st;
}

static rotor_status write_json(const char *folder, const char *name, json_t *o, rotor_error *err) {
    base_buf text = {0};
    rotor_status st = dump(&text, o, JSON_INDENT(2), err);
    base_buf_puts(&text, "\n");
    if (st == ROTOR_OK && text.failed) st = base_fail_nomem(err, "writing a model folder");
    if (st == ROTOR_OK) st = write_text(folder, name, (base_str){text.data, text.len}, err);
    base_buf_free(&text);
    return st;
}

static uint32_t id_of(const file_model *t, const char *key) {
    uint64_t id = 0;
    const file_kv *kv = file_kv_find(t, key);
    return kv && file_kv_u64(kv, 0, &id) ? (uint32_t)id : 0;
}

static uint32_t bos_of(const train_model *m) {
    return m->folder ? text_bos(m->folder->vocab)
                     : id_of(m->tokenizer, "tokenizer.ggml.bos_token_id");
}

static uint32_t eos_of(const train_model *m) {
    return m->folder ? text_eos(m->folder->vocab)
                     : id_of(m->tokenizer, "tokenizer.ggml.eos_token_id");
}

static json_t *config_of(const train_model *m) {
    const train_shape *s = m->s;
    json_t *q = json_pack("{s:s, s:s, s:s}", "quant_method", "bitnet", "linear_class",
                          "autobitlinear", "quantization_mode", "offline");
    json_t *o = json_pack(
        "{s:[s], s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:b, s:b, s:s}",
        "architectures", "BitNetForCausalLM", "model_type", "bitnet", "hidden_act", "relu2",
        "vocab_size", (int)s->n_vocab, "hidden_size", (int)s->n_embd, "intermediate_size",
        (int)s->n_ff, "num_hidden_layers", (int)s->n_layer, "num_attention_heads", (int)s->n_head,
        "num_key_value_heads", (int)s->n_head_kv, "head_dim", (int)s->d_head,
        "max_position_embeddings", (int)s->n_ctx, "rms_norm_eps", (double)s->eps, "rope_theta",
        (double)s->rope_base, "tie_word_embeddings", 1, "attention_bias", 0, "torch_dtype",
        "float32");
    if (bos_of(m) != TEXT_NO_ID) json_object_set_new(o, "bos_token_id", json_integer(bos_of(m)));
    json_object_set_new(o, "eos_token_id", json_integer(eos_of(m)));
    json_object_set_new(o, "quantization_config", q);
    return o;
}

static json_t *generation_of(const train_model *m) {
    const uint32_t eos = id_of(m->tokenizer, "tokenizer.ggml.eos_token_id");
    return json_pack("{s:i, s:[i, i]}", "bos_token_id",
                     (int)id_of(m->tokenizer, "tokenizer.ggml.bos_token_id"), "eos_token_id",
                     (int)eos,
                     file_kv_find(m->tokenizer, "tokenizer.ggml.eot_token_id")
                         ? (int)id_of(m->tokenizer, "tokenizer.ggml.eot_token_id")
                         : (int)eos);
}

/* ==== Tokenizer =============================================================================== */

static json_t *text_at(const file_kv *list, uint64_t i) {
    base_str s = {0};
    file_kv_str(list, i, &s);
    return json_stringn(s.p, s.n);
}

static json_t *added_tokens(const file_kv *tokens, const file_kv *types) {
    json_t *list = json_array();
    for (uint64_t i = 0; i < tokens->n; i++) {
        int64_t type = TEXT_NORMAL;
        if (types) file_kv_i64(types, i, &type);
        if (type != TEXT_CONTROL && type != TEXT_USER_DEFINED) continue;
        json_t *o = json_pack("{s:I, s:o, s:b, s:b, s:b, s:b, s:b}", "id", (json_int_t)i, "content",
                              text_at(tokens, i), "single_word", 0, "lstrip", 0, "rstrip", 0,
                              "normalized", 0, "special", type == TEXT_CONTROL);
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *bpe_of(const file_kv *tokens, const file_kv *merges) {
    json_t *vocab = json_object(), *list = json_array();
    for (uint64_t i = 0; i < tokens->n; i++) {
        base_str s = {0};
        file_kv_str(tokens, i, &s);
        json_object_setn_new(vocab, s.p, s.n, json_integer((json_int_t)i));
    }
    for (uint64_t i = 0; merges && i < merges->n; i++) {
        base_str s = {0};
        file_kv_str(merges, i, &s);
        const char *space = s.n > 1 ? memchr(s.p + 1, ' ', s.n - 1) : NULL;
        const size_t n = space ? (size_t)(space - s.p) : 0;
        if (space)
            json_array_append_new(list, json_pack("[s%, s%]", s.p, n, space + 1, s.n - n - 1));
    }
    return json_pack("{s:s, s:n, s:n, s:n, s:n, s:b, s:b, s:b, s:o, s:o}", "type", "BPE", "dropout",
                     "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", 0,
                     "byte_fallback", 0, "ignore_merges", 0, "vocab", vocab, "merges", list);
}

static json_t *byte_level(void) {
    return json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                     "trim_offsets", 1, "use_regex", 1);
}

/* The beginning-of-text token in front, if the vocabulary wants it. */
static json_t *processor_of(const train_model *m, const file_kv *tokens) {
    const file_kv *add = file_kv_find(m->tokenizer, "tokenizer.ggml.add_bos_token");
    const uint32_t bos = id_of(m->tokenizer, "tokenizer.ggml.bos_token_id");
    bool on = false;
    base_str s = {0};
    if (!add || !file_kv_bool(add, 0, &on) || !on || !file_kv_str(tokens, bos, &s))
        return byte_level();
    json_t *special = json_object();
    json_object_setn_new(special, s.p, s.n,
                         json_pack("{s:o, s:[i], s:[o]}", "id", json_stringn(s.p, s.n), "ids",
                                   (int)bos, "tokens", json_stringn(s.p, s.n)));
    return json_pack(
        "{s:s, s:[{s:{s:o, s:i}}, {s:{s:s, s:i}}], s:[{s:{s:s, s:i}}, {s:{s:s, s:i}}], s:o}",
        "type", "TemplateProcessing", "single", "SpecialToken", "id", json_stringn(s.p, s.n),
        "type_id", 0, "Sequence", "id", "A", "type_id", 0, "pair", "Sequence", "id", "A", "type_id",
        0, "Sequence", "id", "B", "type_id", 1, "special_tokens", special);
}

static rotor_status write_tokenizer(const train_model *m, const char *folder, rotor_error *err) {
    const file_kv *tokens = file_kv_find(m->tokenizer, "tokenizer.ggml.tokens");
    const file_kv *pre = file_kv_find(m->tokenizer, "tokenizer.ggml.pre");
    const base_str chat = export_chat_template(m->tokenizer);
    base_str rules = {0}, eos = {0};
    if (!pre || !file_kv_str(pre, 0, &rules) || !base_str_is(rules, "gpt-2"))
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "a folder can be written with a tokenizer of rotor train-tokenizer only "
                         "(rules gpt-2, not %.*s)",
                         (int)BASE_MIN(rules.n, 40u), rules.p ? rules.p : "");
    json_t *root = json_pack(
        "{s:s, s:n, s:n, s:o, s:n, s:o, s:o, s:o, s:o}", "version", "1.0", "truncation", "padding",
        "added_tokens",
        added_tokens(tokens, file_kv_find(m->tokenizer, "tokenizer.ggml.token_type")), "normalizer",
        "pre_tokenizer", byte_level(), "post_processor", processor_of(m, tokens), "decoder",
        byte_level(), "model", bpe_of(tokens, file_kv_find(m->tokenizer, "tokenizer.ggml.merges")));
    ROTOR_TRY(write_json(folder, "tokenizer.json", root, err));
    file_kv_str(tokens, id_of(m->tokenizer, "tokenizer.ggml.eos_token_id"), &eos);
    json_t *config = json_pack("{s:s, s:o, s:o, s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                               "bos_token", json_stringn(eos.p, eos.n), "eos_token",
                               json_stringn(eos.p, eos.n), "clean_up_tokenization_spaces", 0);
    if (chat.n) json_object_set_new(config, "chat_template", json_stringn(chat.p, chat.n));
    return write_json(folder, "tokenizer_config.json", config, err);
}

/* The texts of the folder that the network came from; none of them is about weights. */
static rotor_status copy_texts(const file_model *from, const char *folder, rotor_error *err) {
    static const char *const names[] = {"generation_config.json", "tokenizer.json",
                                        "tokenizer_config.json",  "special_tokens_map.json",
                                        "added_tokens.json",      "chat_template.jinja"};
    base_str text;
    for (size_t i = 0; i < BASE_COUNT(names); i++)
        if (file_side(from, names[i], &text)) ROTOR_TRY(write_text(folder, names[i], text, err));
    return ROTOR_OK;
}

/* ==== Weights ================================================================================= */

typedef struct hf_tensor {
    char name[96];     /* as the folder calls it */
    const char *dtype; /* safetensors type */
    train_tensor t;    /* where the values are */
    bool scale;        /* the weight_scale of t */
    size_t n_bytes;    /* in the file */
} hf_tensor;

static void hf_name(const train_tensor *t, char out[96]) {
    static const char *const tails[TRAIN_N_ROLES] = {[TRAIN_ATTN_NORM] = "input_layernorm",
                                                     [TRAIN_Q] = "self_attn.q_proj",
                                                     [TRAIN_K] = "self_attn.k_proj",
                                                     [TRAIN_V] = "self_attn.v_proj",
                                                     [TRAIN_ATTN_SUB_NORM] =
                                                         "self_attn.attn_sub_norm",
                                                     [TRAIN_O] = "self_attn.o_proj",
                                                     [TRAIN_FFN_NORM] = "post_attention_layernorm",
                                                     [TRAIN_GATE] = "mlp.gate_proj",
                                                     [TRAIN_UP] = "mlp.up_proj",
                                                     [TRAIN_FFN_SUB_NORM] = "mlp.ffn_sub_norm",
                                                     [TRAIN_DOWN] = "mlp.down_proj"};
    if (t->role == TRAIN_EMBD)
        snprintf(out, 96, "model.embed_tokens.weight");
    else if (t->role == TRAIN_OUT_NORM)
        snprintf(out, 96, "model.norm.weight");
    else
        snprintf(out, 96, "model.layers.%u.%s.weight", t->layer, tails[t->role]);
}

/* Floats first, bytes last, so that everything keeps its alignment. */
static size_t list_tensors(const train_model *m, const quant_info *head, hf_tensor *list) {
    const size_t tensors = train_n_tensors(m->s);
    size_t n = 0;
    for (int packed = 0; packed < 2; packed++)
        for (size_t i = 0; i < tensors; i++) {
            hf_tensor x = {.t = train_tensor_at(m->s, i)};
            const bool ternary = train_is_ternary(x.t.role), embd = x.t.role == TRAIN_EMBD;
            const size_t values = (size_t)x.t.rows * x.t.cols;
            if (packed && !ternary) continue;
            hf_name(&x.t, x.name);
            x.scale = ternary && !packed;
            x.dtype = packed ? "U8" : embd ? head->name : "F32";
            x.n_bytes = x.scale  ? 4
                        : packed ? (x.t.rows + 3) / 4 * (size_t)x.t.cols
                        : embd   ? values * head->block_bytes
                                 : values * 4;
            if (x.scale) memcpy(x.name + strlen(x.name), "_scale", 7);
            list[n++] = x;
        }
    return n;
}

static json_t *header_of(const hf_tensor *list, size_t n) {
    json_t *o = json_object();
    size_t at = 0;
    json_object_set_new(o, "__metadata__", json_pack("{s:s}", "format", "pt"));
    for (size_t i = 0; i < n; i++) {
        const hf_tensor *x = &list[i];
        const bool packed = x->dtype[0] == 'U';
        json_t *shape = json_array();
        if (x->t.rows > 1 && !x->scale)
            json_array_append_new(shape, json_integer(packed ? (x->t.rows + 3) / 4 : x->t.rows));
        json_array_append_new(shape, json_integer(x->scale ? 1 : x->t.cols));
        json_object_set_new(o, x->name,
                            json_pack("{s:s, s:o, s:[I, I]}", "dtype", x->dtype, "shape", shape,
                                      "data_offsets", (json_int_t)at,
                                      (json_int_t)(at + x->n_bytes)));
        at += x->n_bytes;
    }
    return o;
}

static rotor_status write_one(base_out *out, const train_model *m, const quant_info *head,
                              const hf_tensor *x, rotor_error *err) {
    const size_t n = (size_t)x->t.rows * x->t.cols;
    const float *values = m->params + x->t.at;
    const bool ternary = train_is_ternary(x->t.role);
    int8_t *codes = ternary ? base_alloc(n) : NULL;
    uint8_t *bytes = base_alloc(x->n_bytes);
    rotor_status st =
        (ternary && !codes) || !bytes ? base_fail_nomem(err, "writing a model folder") : ROTOR_OK;
    if (st == ROTOR_OK && ternary) {
        const float scale = quant_absmean(values, n, codes);
        if (x->scale)
            memcpy(bytes, &scale, sizeof scale);
        else
            quant_hf_pack(codes, x->t.rows, x->t.cols, bytes);
    } else if (st == ROTOR_OK) {
        st = quant_encode(x->t.role == TRAIN_EMBD ? head->id : QUANT_F32, x->t.rows, x->t.cols,
                          values, bytes, err);
    }
    if (st == ROTOR_OK) st = base_out_write(out, bytes, x->n_bytes, err);
    base_free(codes);
    base_free(bytes);
    return st;
}

static rotor_status write_weights(base_out *out, const train_model *m, const quant_info *head,
                                  hf_tensor *list, rotor_error *err) {
    const size_t n = list_tensors(m, head, list);
    base_buf text = {0};
    rotor_status st = dump(&text, header_of(list, n), JSON_COMPACT, err);
    while (text.len % 8 && base_buf_puts(&text, " ")) continue;
    const uint64_t used = text.len;
    if (st == ROTOR_OK && text.failed) st = base_fail_nomem(err, "writing a model folder");
    if (st == ROTOR_OK) st = base_out_write(out, &used, sizeof used, err);
    if (st == ROTOR_OK) st = base_out_write(out, text.data, text.len, err);
    for (size_t i = 0; i < n && st == ROTOR_OK; i++) st = write_one(out, m, head, &list[i], err);
    base_buf_free(&text);
    return st == ROTOR_OK ? base_out_commit(out, err) : st;
}

static rotor_status write_safetensors(const train_model *m, const char *folder,
                                      const quant_info *head, rotor_error *err) {
    base_out out;
    char *path = base_path_join(folder, "model.safetensors");
    hf_tensor *list = base_alloc_array(2 * train_n_tensors(m->s), sizeof *list);
    rotor_status st = path && list ? base_out_open(&out, path, err)
                                   : base_fail_nomem(err, "writing a model folder");
    if (st == ROTOR_OK) {
        st = write_weights(&out, m, head, list, err);
        base_out_abort(&out);
    }
    base_free(list);
    base_free(path);
    return st;
}

rotor_status train_export_hf(const train_model *m, const char *folder, rotor_error *err) {
    const quant_info *head = quant_find_name(base_str_of(m->head_type));
    if (!head || (head->id != QUANT_F32 && head->id != QUANT_F16 && head->id != QUANT_BF16))
        return base_fail(err, ROTOR_E_ARG,
                         "type %s cannot hold the embedding of a folder; expected F32, F16 or BF16",
                         m->head_type);
    ROTOR_TRY(base_mkdirs(folder, err));
    ROTOR_TRY(write_json(folder, "config.json", config_of(m), err));
    if (m->folder) {
        ROTOR_TRY(copy_texts(m->folder->file, folder, err));
    } else {
        ROTOR_TRY(write_tokenizer(m, folder, err));
        ROTOR_TRY(write_json(folder, "generation_config.json", generation_of(m), err));
    }
    return write_safetensors(m, folder, head, err);
}
