/* SPDX-License-Identifier: MIT
 *
 * A trained network as a GGUF model: norms as floats, the embedding in a type of choice, every
 * projection as the ternary codes and the scale that the forward pass computes with. The
 * tokenizer's keys are copied from the file it came from.
 *
 * In a float type the projections are written as the shadow weights they are: a master, which the
 * engine rounds when it loads it and from which training can go on (start.c).
 *
 * A scale that a type can only hold rounded (the half floats of TQ1_0 and TQ2_0) is kept exactly as
 * metadata rotor.scale_f32.<tensor>, as rotor convert does.
 */
#include "train/export.h"

#include <math.h>
#include <stdio.h>

enum { I2S_BLOCK = 128 };

const char *export_tensor_name(const train_tensor *t, char out[64]) {
    static const char *const tails[TRAIN_N_ROLES] = {[TRAIN_ATTN_NORM] = "attn_norm",
                                                     [TRAIN_Q] = "attn_q",
                                                     [TRAIN_K] = "attn_k",
                                                     [TRAIN_V] = "attn_v",
                                                     [TRAIN_ATTN_SUB_NORM] = "attn_sub_norm",
                                                     [TRAIN_O] = "attn_output",
                                                     [TRAIN_FFN_NORM] = "ffn_norm",
                                                     [TRAIN_GATE] = "ffn_gate",
                                                     [TRAIN_UP] = "ffn_up",
                                                     [TRAIN_FFN_SUB_NORM] = "ffn_sub_norm",
                                                     [TRAIN_DOWN] = "ffn_down"};
    if (t->role == TRAIN_EMBD)
        snprintf(out, 64, "token_embd.weight");
    else if (t->role == TRAIN_OUT_NORM)
        snprintf(out, 64, "output_norm.weight");
    else
        snprintf(out, 64, "blk.%u.%s.weight", t->layer, tails[t->role]);
    return out;
}

/* ==== Types =================================================================================== */

typedef struct types {
    const quant_info *ternary, *head; /* of projections and of the embedding */
} types;

static const quant_info *type_of(const types *ty, const train_tensor *t) {
    if (train_is_ternary(t->role)) return ty->ternary;
    return t->role == TRAIN_EMBD ? ty->head : quant_find(QUANT_F32);
}

static rotor_status find_types(const train_model *m, types *ty, rotor_error *err) {
    ty->ternary = quant_find_name(base_str_of(m->type));
    ty->head = quant_find_name(base_str_of(m->head_type));
    const bool master =
        ty->ternary && (ty->ternary->id == QUANT_F32 || ty->ternary->id == QUANT_BF16);
    if (!ty->ternary || (!master && (ty->ternary->flags & (QUANT_TERNARY | QUANT_CAN_ENCODE)) !=
                                        (QUANT_TERNARY | QUANT_CAN_ENCODE)))
        return base_fail(err, ROTOR_E_ARG,
                         "type %s cannot hold the ternary matrices; expected I2_S, TQ1_0 or TQ2_0, "
                         "or BF16 or F32 for their master weights",
                         m->type);
    if (!ty->head || ty->head->flags & QUANT_TERNARY || !(ty->head->flags & QUANT_CAN_ENCODE))
        return base_fail(err, ROTOR_E_ARG,
                         "type %s cannot hold the embedding; expected F32, F16, BF16 or Q8_0",
                         m->head_type);
    return ROTOR_OK;
}

static rotor_status check_fit(const quant_info *info, const train_tensor *t, rotor_error *err) {
    char name[64];
    const bool i2s = info->id == QUANT_I2_S;
    const size_t n = i2s ? (size_t)t->rows * t->cols : t->cols;
    const uint32_t block = i2s ? I2S_BLOCK : info->block_elems;
    if (n % block == 0) return ROTOR_OK;
    return base_fail(err, ROTOR_E_ARG,
                     "%s of %u x %u does not fit %s, which wants %s in multiples of %u; choose "
                     "other sizes%s",
                     export_tensor_name(t, name), t->rows, t->cols, info->name,
                     i2s ? "values" : "rows", block, i2s ? "" : " or type I2_S");
}

rotor_status train_export_check(const train_model *m, uint64_t *n_bytes, rotor_error *err) {
    types ty;
    uint64_t sum = 0;
    ROTOR_TRY(find_types(m, &ty, err));
    for (size_t i = 0; i < train_n_tensors(m->s); i++) {
        const train_tensor t = train_tensor_at(m->s, i);
        uint64_t bytes;
        ROTOR_TRY(check_fit(type_of(&ty, &t), &t, err));
        ROTOR_TRY(quant_tensor_bytes(type_of(&ty, &t), t.rows, t.cols, &bytes, err));
        sum += bytes;
    }
    *n_bytes = sum;
    return ROTOR_OK;
}

/* ==== Keys ==================================================================================== */

static uint32_t file_type_of(uint32_t type) {
    static const struct {
        uint32_t type, number; /* quant_type, general.file_type */
    } known[] = {
        {QUANT_F32, 0}, {QUANT_BF16, 32}, {QUANT_TQ1_0, 36}, {QUANT_TQ2_0, 37}, {QUANT_I2_S, 40}};
    for (size_t i = 0; i < BASE_COUNT(known); i++)
        if (known[i].type == type) return known[i].number;
    return 1024; /* "guessed" */
}

/* A failed put is remembered by the writer and told by file_begin. */
static void put_shape(file_writer *w, const train_model *m, uint32_t type) {
    const train_shape *s = m->s;
    const struct {
        const char *key; /* metadata */
        uint32_t value;  /* of it */
    } numbers[] = {{"bitnet-b1.58.vocab_size", s->n_vocab},
                   {"bitnet-b1.58.context_length", s->n_ctx},
                   {"bitnet-b1.58.embedding_length", s->n_embd},
                   {"bitnet-b1.58.block_count", s->n_layer},
                   {"bitnet-b1.58.feed_forward_length", s->n_ff},
                   {"bitnet-b1.58.rope.dimension_count", s->d_head},
                   {"bitnet-b1.58.attention.head_count", s->n_head},
                   {"bitnet-b1.58.attention.head_count_kv", s->n_head_kv},
                   {"bitnet-b1.58.attention.key_length", s->d_head},
                   {"bitnet-b1.58.attention.value_length", s->d_head}};
    file_put_str(w, "general.architecture", base_str_of("bitnet-b1.58"));
    file_put_str(w, "general.name", base_str_of(m->name));
    for (size_t i = 0; i < BASE_COUNT(numbers); i++)
        file_put_u32(w, numbers[i].key, numbers[i].value);
    file_put_f32(w, "bitnet-b1.58.attention.layer_norm_rms_epsilon", s->eps);
    file_put_f32(w, "bitnet-b1.58.rope.freq_base", s->rope_base);
    file_put_u32(w, "general.file_type", file_type_of(type));
    file_put_u32(w, "general.quantization_version", 2);
}

base_str export_chat_template(const file_model *tokenizer) {
    const file_kv *own = file_kv_find(tokenizer, "tokenizer.chat_template");
    base_str text = {0}, token;
    if (own && file_kv_str(own, 0, &text)) return text;
    const file_kv *tokens = file_kv_find(tokenizer, "tokenizer.ggml.tokens");
    for (uint64_t i = 0; tokens && i < tokens->n; i++)
        if (file_kv_str(tokens, i, &token) && base_str_is(token, "<|eot_id|>"))
            return base_str_of(train_chat_template);
    return text;
}

static rotor_status put_tokenizer(file_writer *w, const train_model *m, rotor_error *err) {
    static const char start[] = "tokenizer.ggml.";
    const file_model *tokenizer = m->tokenizer;
    const char *why_not; /* known not to be there since the run was opened */
    if (m->folder) return model_put_vocab(w, m->folder, &why_not, err);
    const base_str chat = export_chat_template(tokenizer);
    for (size_t i = 0; i < file_n_kvs(tokenizer); i++) {
        const file_kv *kv = file_kv_at(tokenizer, i);
        if (kv->key.n >= sizeof start - 1 && memcmp(kv->key.p, start, sizeof start - 1) == 0)
            file_put_kv(w, kv);
    }
    if (chat.n) file_put_str(w, "tokenizer.chat_template", chat);
    return ROTOR_OK;
}

/* ==== Tensors ================================================================================= */

/* Room for one tensor on its way. */
typedef struct room {
    int8_t *codes;  /* ternary values, owned */
    uint8_t *bytes; /* as written, owned */
} room;

static bool take_room(room *r, const train_model *m, const types *ty) {
    uint64_t most = 0, values = 0;
    for (size_t i = 0; i < train_n_tensors(m->s); i++) {
        const train_tensor t = train_tensor_at(m->s, i);
        uint64_t bytes = 0;
        quant_tensor_bytes(type_of(ty, &t), t.rows, t.cols, &bytes, NULL);
        most = BASE_MAX(most, bytes);
        if (train_is_ternary(t.role)) values = BASE_MAX(values, (uint64_t)t.rows * t.cols);
    }
    r->codes = base_alloc(values);
    r->bytes = base_alloc(most);
    return r->codes && r->bytes;
}

static rotor_status declare(file_writer *w, const train_model *m, const types *ty, room *r,
                            rotor_error *err) {
    for (size_t i = 0; i < train_n_tensors(m->s); i++) {
        const train_tensor t = train_tensor_at(m->s, i);
        const quant_info *info = type_of(ty, &t);
        const uint64_t dims[4] = {t.cols, t.rows, 1, 1};
        char name[64], key[96];
        export_tensor_name(&t, name);
        ROTOR_TRY(file_declare(w, base_str_of(name), info->id, t.rows == 1 ? 1 : 2, dims, err));
        if (!(info->flags & QUANT_TERNARY)) continue;
        const float scale = quant_absmean(m->params + t.at, (size_t)t.rows * t.cols, r->codes);
        if (info->id == QUANT_I2_S || quant_f16_to_f32(quant_f32_to_f16(scale)) == scale) continue;
        snprintf(key, sizeof key, "rotor.scale_f32.%s", name);
        file_put_array(w, key, FILE_F32, &scale, 1);
    }
    return file_begin(w, err);
}

static rotor_status write_tensor(file_writer *w, const train_model *m, const types *ty,
                                 const train_tensor *t, room *r, rotor_error *err) {
    const quant_info *info = type_of(ty, t);
    const float *x = m->params + t->at;
    uint64_t bytes;
    ROTOR_TRY(quant_tensor_bytes(info, t->rows, t->cols, &bytes, err));
    if (info->flags & QUANT_TERNARY) {
        const float scale = quant_absmean(x, (size_t)t->rows * t->cols, r->codes);
        ROTOR_TRY(quant_ternary_pack(info->id, QUANT_I2S_X86, t->rows, t->cols, r->codes, scale,
                                     r->bytes, err));
    } else {
        ROTOR_TRY(quant_encode(info->id, t->rows, t->cols, x, r->bytes, err));
    }
    return file_write(w, r->bytes, (size_t)bytes, err);
}

static rotor_status write_all(file_writer *w, const train_model *m, const types *ty, room *r,
                              rotor_error *err) {
    if (!take_room(r, m, ty)) return base_fail_nomem(err, "writing a model");
    put_shape(w, m, ty->ternary->id);
    ROTOR_TRY(put_tokenizer(w, m, err));
    ROTOR_TRY(declare(w, m, ty, r, err));
    for (size_t i = 0; i < train_n_tensors(m->s); i++) {
        const train_tensor t = train_tensor_at(m->s, i);
        ROTOR_TRY(write_tensor(w, m, ty, &t, r, err));
    }
    return file_commit(w, err);
}

rotor_status train_export_gguf(const train_model *m, const char *path, rotor_error *err) {
    types ty;
    room r = {0};
    file_writer *w = NULL;
    uint64_t n_bytes;
    ROTOR_TRY(train_export_check(m, &n_bytes, err));
    ROTOR_TRY(find_types(m, &ty, err));
    ROTOR_TRY(file_writer_create(&w, path, err));
    rotor_status st = write_all(w, m, &ty, &r, err);
    file_writer_free(&w);
    base_free(r.codes);
    base_free(r.bytes);
    return st;
}
