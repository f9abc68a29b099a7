/* SPDX-License-Identifier: MIT
 *
 * A HF folder as a GGUF plan. The folder is opened as a model, so that its config has been checked,
 * ternary weights are unpacked with their scales in the right direction, and master weights are
 * quantised; here they only get their GGUF names, keys and row order.
 *
 * GGUF's llama rotates adjacent pairs, HF the two halves of a head: rows of Q and K move within
 * each head (conv_source.pair_heads). Norms and biases become F32.
 */
#include "tool/convert.h"

#include <math.h>
#include <stdio.h>

/* ==== Tensors ================================================================================= */

static rotor_status add_matrix(conv *c, const char *name, const model_mat *m,
                               const quant_info *wanted, uint32_t pair_heads) {
    conv_tensor *t = conv_add(c);
    if (!t) return base_fail_nomem(c->err, "planning a conversion");
    snprintf(t->name, sizeof t->name, "%s", name);
    t->n_dims = 2;
    t->dims[0] = m->cols;
    t->dims[1] = m->rows;
    t->dims[2] = t->dims[3] = 1;
    t->ternary = m->type == QUANT_I2_S;
    t->from.view =
        (quant_tensor){.type = m->type, .rows = m->rows, .cols = m->cols, .data = m->data};
    t->from.t2 = t->ternary ? m : NULL;
    t->from.pair_heads = pair_heads;
    t->type = conv_fit(c, name, wanted, m->type, m->cols);
    return ROTOR_OK;
}

/* NULL vectors are skipped: the model does not have them. rows 0: of one dimension. */
static rotor_status add_floats(conv *c, const char *name, const float *v, size_t rows, size_t n) {
    if (!v) return ROTOR_OK;
    conv_tensor *t = conv_add(c);
    if (!t) return base_fail_nomem(c->err, "planning a conversion");
    snprintf(t->name, sizeof t->name, "%s", name);
    t->n_dims = rows ? 2 : 1;
    t->dims[0] = n;
    t->dims[1] = rows ? rows : 1;
    t->dims[2] = t->dims[3] = 1;
    t->type = QUANT_F32;
    t->plain = v;
    return ROTOR_OK;
}

static rotor_status add_vector(conv *c, const char *name, const float *v, size_t n) {
    return add_floats(c, name, v, 0, n);
}

/* Matrices that stand below each other, as one. */
static model_mat joined(const model_mat *first, size_t rows) {
    model_mat all = *first;
    all.rows = rows;
    return all;
}

static rotor_status add_layer(conv *c, const model *m, uint32_t n, bool pairs) {
    const model_layer *l = &m->layers[n];
    const model_hparams *hp = &m->hp;
    const size_t qd = (size_t)hp->n_head * hp->d_head, kd = (size_t)hp->n_head_kv * hp->d_head;
    const bool whole = hp->fused; /* as one tensor */
    const model_mat none = {0}, qkv = joined(&l->q, qd + 2 * kd);
    const model_mat gate_up = joined(&l->gate, 2 * (size_t)hp->n_ff);
    const struct {
        const char *name;   /* role */
        const model_mat *w; /* matrix, or … */
        const float *v;     /* … vector */
        size_t n;           /* of v */
        uint32_t heads;     /* whose rows become pairs */
    } parts[] = {
        {"attn_norm.weight", NULL, l->attn_norm, hp->n_embd, 0},
        {"attn_norm.bias", NULL, l->attn_norm_bias, hp->n_embd, 0},
        {"attn_qkv.weight", whole ? &qkv : &none, NULL, 0, 0},
        {"attn_qkv.bias", NULL, whole ? l->q_bias : NULL, qd + 2 * kd, 0},
        {"attn_q.weight", whole ? &none : &l->q, NULL, 0, pairs ? hp->n_head : 0},
        {"attn_q.bias", NULL, whole ? NULL : l->q_bias, qd, 0},
        {"attn_k.weight", whole ? &none : &l->k, NULL, 0, pairs ? hp->n_head_kv : 0},
        {"attn_k.bias", NULL, whole ? NULL : l->k_bias, kd, 0},
        {"attn_v.weight", whole ? &none : &l->v, NULL, 0, 0},
        {"attn_v.bias", NULL, whole ? NULL : l->v_bias, kd, 0},
        {"attn_q_norm.weight", NULL, l->q_norm, hp->d_head, 0},
        {"attn_k_norm.weight", NULL, l->k_norm, hp->d_head, 0},
        {"attn_sub_norm.weight", NULL, l->attn_sub_norm, qd, 0},
        {"attn_output.weight", &l->o, NULL, 0, 0},
        {"attn_output.bias", NULL, l->o_bias, hp->n_embd, 0},
        {"post_attention_norm.weight", NULL, l->post_attn_norm, hp->n_embd, 0},
        {"ffn_norm.weight", NULL, l->ffn_norm, hp->n_embd, 0},
        {"ffn_norm.bias", NULL, l->ffn_norm_bias, hp->n_embd, 0},
        {"ffn_gate.weight", whole ? &none : &l->gate, NULL, 0, 0},
        {"ffn_up.weight", whole && l->gate.data ? &gate_up : &l->up, NULL, 0, 0},
        {"ffn_up.bias", NULL, l->up_bias, hp->n_ff, 0},
        {"ffn_sub_norm.weight", NULL, l->ffn_sub_norm, hp->n_ff, 0},
        {"ffn_down.weight", &l->down, NULL, 0, 0},
        {"ffn_down.bias", NULL, l->down_bias, hp->n_embd, 0},
        {"post_ffw_norm.weight", NULL, l->post_ffn_norm, hp->n_embd, 0},
    };
    if (pairs && (l->q_bias || l->k_bias))
        return base_fail(c->err, ROTOR_E_UNSUPPORTED,
                         "layer %u: biases of q and k cannot be converted for architecture %s", n,
                         m->arch);
    for (size_t i = 0; i < BASE_COUNT(parts); i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.%s", n, parts[i].name);
        if (parts[i].w && !parts[i].w->data) continue;
        if (parts[i].w)
            ROTOR_TRY(add_matrix(c, name, parts[i].w, c->type, parts[i].heads));
        else
            ROTOR_TRY(add_vector(c, name, parts[i].v, parts[i].n));
    }
    return ROTOR_OK;
}

/* ==== Keys ==================================================================================== */

static void put_u32(conv *c, const char *arch, const char *tail, uint32_t v) {
    char key[96];
    snprintf(key, sizeof key, "%s.%s", arch, tail);
    file_put_u32(c->w, key, v);
}

static void put_f32(conv *c, const char *arch, const char *tail, double v) {
    char key[96];
    snprintf(key, sizeof key, "%s.%s", arch, tail);
    file_put_f32(c->w, key, (float)v);
}

static rotor_status put_rope(conv *c, const model *m, const char *arch) {
    char key[96];
    if (m->hp.n_pos) return ROTOR_OK; /* nothing rotates */
    put_u32(c, arch, "rope.dimension_count", m->hp.n_rot);
    put_f32(c, arch, "rope.freq_base", m->hp.rope_base);
    if (m->hp.rope_base_local != 0) put_f32(c, arch, "rope.freq_base_swa", m->hp.rope_base_local);
    if (m->hp.rope_scaling == MODEL_ROPE_LONG) {
        snprintf(key, sizeof key, "%s.rope.scaling.type", arch);
        file_put_str(c->w, key, base_str_of("longrope"));
        put_u32(c, arch, "rope.scaling.original_context_length", m->hp.rope_orig_ctx);
        put_f32(c, arch, "rope.scaling.attn_factor", (double)m->hp.rope_gain);
    }
    if (m->hp.rope_scaling != MODEL_ROPE_LINEAR) return ROTOR_OK; /* llama3: add_rope_divisors */
    snprintf(key, sizeof key, "%s.rope.scaling.type", arch);
    file_put_str(c->w, key, base_str_of("linear"));
    put_f32(c, arch, "rope.scaling.factor", m->hp.rope_factor);
    return ROTOR_OK;
}

/* What generation_config.json says, under the names that model_open reads. */
static void put_sampling(conv *c, const model_sampling *s) {
    const struct {
        const char *key; /* metadata key */
        float value;     /* < 0: not said */
    } floats[] = {{"general.sampling.temp", s->temperature},
                  {"general.sampling.top_p", s->top_p},
                  {"general.sampling.min_p", s->min_p},
                  {"general.sampling.penalty_repeat", s->repeat_penalty}};
    if (s->top_k >= 0) file_put_i32(c->w, "general.sampling.top_k", s->top_k);
    for (size_t i = 0; i < BASE_COUNT(floats); i++)
        if (floats[i].value >= 0) file_put_f32(c->w, floats[i].key, floats[i].value);
}

static rotor_status put_keys(conv *c, const model *m, const char *arch) {
    const model_hparams *hp = &m->hp;
    bool ternary = m->layers[0].q.type == QUANT_I2_S;
    uint32_t type = c->type ? c->type->id : m->layers[0].q.type;
    file_put_str(c->w, "general.architecture", base_str_of(arch));
    file_put_str(c->w, "general.name", base_str_of(m->name));
    put_u32(c, arch, "vocab_size", hp->n_vocab);
    put_u32(c, arch, "context_length", hp->n_ctx);
    put_u32(c, arch, "embedding_length", hp->n_embd);
    put_u32(c, arch, "block_count", hp->n_layer);
    put_u32(c, arch, "feed_forward_length", hp->n_ff);
    put_u32(c, arch, "attention.head_count", hp->n_head);
    put_u32(c, arch, "attention.head_count_kv", hp->n_head_kv);
    put_f32(c, arch,
            hp->centred ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon",
            (double)hp->eps);
    if (hp->attn_cap != 0) put_f32(c, arch, "attn_logit_softcapping", (double)hp->attn_cap);
    if (hp->logit_cap != 0) put_f32(c, arch, "final_logit_softcapping", (double)hp->logit_cap);
    if (hp->d_head * hp->n_head != hp->n_embd) {
        put_u32(c, arch, "attention.key_length", hp->d_head);
        put_u32(c, arch, "attention.value_length", hp->d_head);
    }
    if (hp->window) put_u32(c, arch, "attention.sliding_window", hp->window);
    file_put_u32(c->w, "general.file_type",
                 conv_file_type(ternary && !c->type ? QUANT_I2_S : type));
    file_put_u32(c->w, "general.quantization_version", 2);
    put_sampling(c, &m->sampling);
    return put_rope(c, m, arch);
}

/* Llama-3's frequency scaling has no keys in GGUF: a tensor holds what each frequency is divided
 * by. */
static rotor_status add_rope_divisors(conv *c, const model *m) {
    const uint32_t n = m->hp.n_rot / 2;
    if (m->hp.rope_scaling != MODEL_ROPE_LLAMA3) return ROTOR_OK;
    double *freq = base_alloc_array(n, sizeof *freq);
    float *divisor = base_alloc_array(n, sizeof *divisor);
    rotor_status st = freq && divisor ? add_vector(c, "rope_freqs.weight", divisor, n)
                                      : base_fail_nomem(c->err, "planning a conversion");
    if (st == ROTOR_OK) {
        model_rope_freqs(&m->hp, m->hp.n_ctx, false, freq);
        for (uint32_t i = 0; i < n; i++)
            divisor[i] = (float)(pow(m->hp.rope_base, -2.0 * i / m->hp.n_rot) / freq[i]);
        c->list[c->n - 1].scale = divisor; /* owned by the plan from here */
    } else {
        base_free(divisor);
    }
    base_free(freq);
    return st;
}

/* Two tensors of divisors, for short contexts and for long ones. */
static rotor_status add_rope_factors(conv *c, const model *m) {
    const uint32_t n = m->hp.n_rot / 2;
    if (m->hp.rope_scaling != MODEL_ROPE_LONG) return ROTOR_OK;
    ROTOR_TRY(add_vector(c, "rope_factors_long.weight", m->hp.rope_long, n));
    return add_vector(c, "rope_factors_short.weight", m->hp.rope_divisors, n);
}

static rotor_status put_vocab(conv *c, const model *m) {
    const char *why_not;
    ROTOR_TRY(model_put_vocab(c->w, m, &why_not, c->err));
    if (why_not) conv_note(c, "%s: the new file has no vocabulary: %s", m->name, why_not);
    return ROTOR_OK;
}

/* What has no plan here would be written as something else. */
static rotor_status check_writable(const conv *c, const model *m) {
    const bool ternary = m->layers[0].q.type == QUANT_I2_S;
    const char *what = m->hp.n_expert                          ? "experts"
                       : m->hp.fused && ternary                ? "fused ternary projections"
                       : !model_scale_in_gguf(m)               ? "such a scale of scores"
                       : m->hp.rope_scaling == MODEL_ROPE_YARN ? "YaRN"
                                                               : NULL;
    return what ? base_fail(c->err, ROTOR_E_UNSUPPORTED,
                            "%s: folders of models with %s are not converted yet; the folder "
                            "itself can be used",
                            m->arch, what)
                : ROTOR_OK;
}

rotor_status conv_plan_folder(conv *c, const model *m) {
    bool mistral = strcmp(m->arch, "mistral") == 0;
    const char *arch = mistral ? "llama" : m->arch; /* the same network under its usual name */
    const bool pairs = model_pairs_in_gguf(arch);
    ROTOR_TRY(check_writable(c, m));
    ROTOR_TRY(put_keys(c, m, arch));
    ROTOR_TRY(put_vocab(c, m));
    ROTOR_TRY(add_matrix(c, "token_embd.weight", &m->embd, c->head_type, 0));
    ROTOR_TRY(add_floats(c, "position_embd.weight", m->pos_embd, m->hp.n_pos, m->hp.n_embd));
    ROTOR_TRY(add_rope_divisors(c, m));
    ROTOR_TRY(add_rope_factors(c, m));
    for (uint32_t n = 0; n < m->hp.n_layer; n++) ROTOR_TRY(add_layer(c, m, n, pairs));
    ROTOR_TRY(add_vector(c, "output_norm.weight", m->out_norm, m->hp.n_embd));
    ROTOR_TRY(add_vector(c, "output_norm.bias", m->out_norm_bias, m->hp.n_embd));
    if (!m->tied) ROTOR_TRY(add_matrix(c, "output.weight", &m->head, c->head_type, 0));
    return ROTOR_OK;
}
