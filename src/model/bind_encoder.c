/* SPDX-License-Identifier: MIT
 *
 * Binding of encoders of the BERT kind: norms with biases that stand behind the sums, rows for the
 * type of a token, learned positions or rotation. Attention's parts may be one tensor (nomic).
 *
 * Folders differ in names more than files do, so each family has its own; below a head of any kind
 * BERT's have "bert." in front. What a pass over one text does not need (pooler, the head of a
 * masked language model) is not looked for. The two layers of a cross-encoder are pooling.c's.
 */
#include "model/model_internal.h"

/* All roles of a layer in one family. NULL as hf: the family does not have it. */
typedef struct encoder_names {
    model_role embd, types, positions, embd_norm; /* in front of the layers */
    model_role q, k, v, qkv, o, attn_norm;        /* attention */
    model_role gate, up, down, ffn_norm;          /* feed-forward */
} encoder_names;

#define BERT "bert." /* before the names, in folders with a head */
#define EL   "encoder.layer.%u."
#define ES   "encoder.layers.%u."
static const encoder_names bert = {
    .embd = {.gguf = "token_embd", .hf = "embeddings.word_embeddings"},
    .types = {.gguf = "token_types", .hf = "embeddings.token_type_embeddings"},
    .positions = {.gguf = "position_embd", .hf = "embeddings.position_embeddings"},
    .embd_norm = {.gguf = "token_embd_norm", .hf = "embeddings.LayerNorm"},
    .q = {.gguf = "blk.%u.attn_q", .hf = EL "attention.self.query"},
    .k = {.gguf = "blk.%u.attn_k", .hf = EL "attention.self.key"},
    .v = {.gguf = "blk.%u.attn_v", .hf = EL "attention.self.value"},
    .qkv = {.gguf = "blk.%u.attn_qkv"},
    .o = {.gguf = "blk.%u.attn_output", .hf = EL "attention.output.dense"},
    .attn_norm = {.gguf = "blk.%u.attn_output_norm", .hf = EL "attention.output.LayerNorm"},
    .up = {.gguf = "blk.%u.ffn_up", .hf = EL "intermediate.dense"},
    .down = {.gguf = "blk.%u.ffn_down", .hf = EL "output.dense"},
    .ffn_norm = {.gguf = "blk.%u.layer_output_norm", .hf = EL "output.LayerNorm"}};
static const encoder_names nomic = {
    .embd = {.gguf = "token_embd", .hf = "embeddings.word_embeddings"},
    .types = {.gguf = "token_types", .hf = "embeddings.token_type_embeddings"},
    .embd_norm = {.gguf = "token_embd_norm", .hf = "emb_ln"},
    .q = {.gguf = "blk.%u.attn_q"},
    .k = {.gguf = "blk.%u.attn_k"},
    .v = {.gguf = "blk.%u.attn_v"},
    .qkv = {.gguf = "blk.%u.attn_qkv", .hf = ES "attn.Wqkv"},
    .o = {.gguf = "blk.%u.attn_output", .hf = ES "attn.out_proj"},
    .attn_norm = {.gguf = "blk.%u.attn_output_norm", .hf = ES "norm1"},
    .gate = {.gguf = "blk.%u.ffn_gate", .hf = ES "mlp.fc12"},
    .up = {.gguf = "blk.%u.ffn_up", .hf = ES "mlp.fc11"},
    .down = {.gguf = "blk.%u.ffn_down", .hf = ES "mlp.fc2"},
    .ffn_norm = {.gguf = "blk.%u.layer_output_norm", .hf = ES "norm2"}};

static const encoder_names *names_of(const model_loader *ld) {
    return ld->arch->positions ? &bert : &nomic;
}

/* ==== A layer ================================================================================= */

static rotor_status layer_norm(model_loader *ld, const model_role *r, uint32_t l,
                               const float **gain, const float **bias) {
    const size_t n = ld->m->hp.n_embd;
    const file_tensor *t;
    ROTOR_TRY(model_role_need(ld, r, l, ".weight", &t));
    ROTOR_TRY(model_vectors(ld, t, 1, n, gain));
    ROTOR_TRY(model_role_need(ld, r, l, ".bias", &t));
    return model_vectors(ld, t, 1, n, bias);
}

/* A matrix and, where there is one, its bias. */
static rotor_status linear(model_loader *ld, const model_role *r, uint32_t l, size_t rows,
                           size_t cols, model_mat *w, const float **bias) {
    ROTOR_TRY(model_role_mat(ld, r, l, rows, cols, w));
    const file_tensor *t = model_role_find(ld, r, l, ".bias");
    return t ? model_vectors(ld, t, 1, rows, bias) : ROTOR_OK;
}

static rotor_status attention(model_loader *ld, const encoder_names *n, uint32_t l,
                              model_layer *w) {
    const size_t d = ld->m->hp.n_embd;
    const float *bias = NULL;
    model_mat all;
    if (!model_role_find(ld, &n->qkv, l, ".weight")) {
        ROTOR_TRY(linear(ld, &n->q, l, d, d, &w->q, &w->q_bias));
        ROTOR_TRY(linear(ld, &n->k, l, d, d, &w->k, &w->k_bias));
        ROTOR_TRY(linear(ld, &n->v, l, d, d, &w->v, &w->v_bias));
    } else {
        ROTOR_TRY(linear(ld, &n->qkv, l, 3 * d, d, &all, &bias));
        ROTOR_TRY(model_take_rows(ld, &all, d, &w->q));
        ROTOR_TRY(model_take_rows(ld, &all, d, &w->k));
        ROTOR_TRY(model_take_rows(ld, &all, d, &w->v));
        w->q_bias = bias;
        w->k_bias = bias ? bias + d : NULL;
        w->v_bias = bias ? bias + 2 * d : NULL;
    }
    ROTOR_TRY(linear(ld, &n->o, l, d, d, &w->o, &w->o_bias));
    return layer_norm(ld, &n->attn_norm, l, &w->attn_norm, &w->attn_norm_bias);
}

rotor_status model_bind_encoder_layer(model_loader *ld, uint32_t l) {
    const encoder_names *n = names_of(ld);
    model_layer *w = &ld->m->layers[l];
    const size_t d = ld->m->hp.n_embd, ff = ld->m->hp.n_ff;
    ROTOR_TRY(attention(ld, n, l, w));
    if (n->gate.gguf) ROTOR_TRY(linear(ld, &n->gate, l, ff, d, &w->gate, &w->gate_bias));
    ROTOR_TRY(linear(ld, &n->up, l, ff, d, &w->up, &w->up_bias));
    ROTOR_TRY(linear(ld, &n->down, l, d, ff, &w->down, &w->down_bias));
    return layer_norm(ld, &n->ffn_norm, l, &w->ffn_norm, &w->ffn_norm_bias);
}

/* ==== In front of the layers ================================================================== */

/* All tokens of a text are of the first type, those of the second text of a pair of the second. */
static rotor_status types(model_loader *ld, const model_role *r) {
    const file_tensor *t = model_role_find(ld, r, 0, ".weight");
    const size_t d = ld->m->hp.n_embd;
    if (!t) return ROTOR_OK;
    if (t->rows < 1 || t->rows > 64)
        return base_fail(ld->err, ROTOR_E_FORMAT, "%s: tensor %.*s has %llu rows, expected 1 to 64",
                         file_path(ld->f), (int)t->name.n, t->name.p, (unsigned long long)t->rows);
    ld->m->n_types = (uint32_t)t->rows;
    return model_vectors(ld, t, (size_t)t->rows, d, &ld->m->type_embd);
}

/* Positions without a row could not be computed. */
static rotor_status positions(model_loader *ld, const model_role *r) {
    const file_tensor *t;
    ROTOR_TRY(model_role_need(ld, r, 0, ".weight", &t));
    if (t->rows < ld->m->hp.n_ctx || t->rows > 1u << 20)
        return base_fail(ld->err, ROTOR_E_FORMAT,
                         "%s: tensor %.*s has %llu rows for a context of %u", file_path(ld->f),
                         (int)t->name.n, t->name.p, (unsigned long long)t->rows, ld->m->hp.n_ctx);
    ld->m->hp.n_pos = (uint32_t)t->rows;
    return model_vectors(ld, t, (size_t)t->rows, ld->m->hp.n_embd, &ld->m->pos_embd);
}

/* Heads of other widths would need matrices that are not square. */
static rotor_status check_heads(const model_loader *ld) {
    const model_hparams *hp = &ld->m->hp;
    if (hp->n_head == hp->n_head_kv && (uint64_t)hp->n_head * hp->d_head == hp->n_embd)
        return ROTOR_OK;
    return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                     "%s: %u heads of %u, %u for keys, in a width of %u: architecture %s has equal "
                     "heads that fill it",
                     file_path(ld->f), hp->n_head, hp->d_head, hp->n_head_kv, hp->n_embd,
                     ld->arch->name);
}

rotor_status model_bind_encoder(model_loader *ld) {
    const encoder_names *n = names_of(ld);
    model *m = ld->m;
    const file_tensor *t;
    ROTOR_TRY(check_heads(ld));
    if (ld->hf && ld->arch->positions &&
        file_tensor_find(ld->f, BERT "embeddings.word_embeddings.weight"))
        ld->front = BERT;
    ROTOR_TRY(model_role_need(ld, &n->embd, 0, ".weight", &t));
    ROTOR_TRY(model_table(ld, t, m->hp.n_embd, &m->embd));
    if (m->embd.rows < 1 || m->embd.rows > 1u << 24)
        return base_fail(ld->err, ROTOR_E_FORMAT, "%s: %zu embedding rows", file_path(ld->f),
                         m->embd.rows);
    m->hp.n_vocab = (uint32_t)m->embd.rows;
    m->tied = true;
    m->head = m->embd;
    ROTOR_TRY(types(ld, &n->types));
    if (ld->arch->positions) ROTOR_TRY(positions(ld, &n->positions));
    return layer_norm(ld, &n->embd_norm, 0, &m->embd_norm, &m->embd_norm_bias);
}
