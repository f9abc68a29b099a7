/* SPDX-License-Identifier: MIT
 *
 * Binding: every tensor the pass needs is looked up by the name its file family gives it, its shape
 * is checked against the hyper-parameters, and it becomes a role of the model.
 *
 * Plain and block types are used where they lie in the file; ternary ones go through repack.c;
 * norms are small and become float vectors of our own.
 */
#include "model/model_internal.h"

#include <stdio.h>

typedef model_role role;

static const char MODEL_DOT[] = "model."; /* not there in folders that are bare */

static const role EMBD = {"token_embd", "model.embed_tokens", NULL, "wte"};
static const role HEAD = {"output", "lm_head", NULL, "lm_head"};
static const role OUT_NORM = {"output_norm", "model.norm", NULL, "ln_f"};
static const role POSITIONS = {"position_embd", "wpe", NULL, "wpe"};
static const role ROPE_SHORT = {"rope_factors_short", NULL, NULL, NULL};
static const role ROPE_LONG = {"rope_factors_long", NULL, NULL, NULL};
static const role ROPE_FREQS = {"rope_freqs", "rope_freqs", NULL, NULL};
static const role ATTN_NORM = {"blk.%u.attn_norm", "model.layers.%u.input_layernorm", NULL,
                               "h.%u.ln_1"};
static const role Q = {"blk.%u.attn_q", "model.layers.%u.self_attn.q_proj", NULL, NULL};
static const role K = {"blk.%u.attn_k", "model.layers.%u.self_attn.k_proj", NULL, NULL};
static const role V = {"blk.%u.attn_v", "model.layers.%u.self_attn.v_proj", NULL, NULL};
static const role O = {"blk.%u.attn_output", "model.layers.%u.self_attn.o_proj", "blk.%u.attn_out",
                       "h.%u.attn.c_proj"};
static const role SINKS = {"blk.%u.attn_sinks", "model.layers.%u.self_attn.sinks", NULL, NULL};
static const role QKV = {"blk.%u.attn_qkv", "model.layers.%u.self_attn.qkv_proj", NULL,
                         "h.%u.attn.c_attn"};
static const role GATE_UP = {"blk.%u.ffn_up", "model.layers.%u.mlp.gate_up_proj", NULL, NULL};
static const role Q_NORM = {"blk.%u.attn_q_norm", "model.layers.%u.self_attn.q_norm", NULL, NULL};
static const role K_NORM = {"blk.%u.attn_k_norm", "model.layers.%u.self_attn.k_norm", NULL, NULL};
static const role ATTN_SUB = {"blk.%u.attn_sub_norm", "model.layers.%u.self_attn.attn_sub_norm",
                              "model.layers.%u.self_attn.inner_attn_ln", NULL};
static const role POST_ATTN = {"blk.%u.post_attention_norm",
                               "model.layers.%u.post_attention_layernorm", NULL, NULL};
static const role POST_FFN = {"blk.%u.post_ffw_norm", "model.layers.%u.post_feedforward_layernorm",
                              NULL, NULL};
static const role PRE_FFN = {"blk.%u.ffn_norm", "model.layers.%u.pre_feedforward_layernorm", NULL,
                             NULL};
static const role FFN_NORM = {"blk.%u.ffn_norm", "model.layers.%u.post_attention_layernorm", NULL,
                              "h.%u.ln_2"};
/* gpt-oss names the norm before the experts by where it stands. */
static const role MIX_NORM = {"blk.%u.post_attention_norm",
                              "model.layers.%u.post_attention_layernorm", "blk.%u.ffn_norm", NULL};
static const role ROUTER = {"blk.%u.ffn_gate_inp", "model.layers.%u.mlp.router", NULL, NULL};
static const role QWEN_ROUTER = {"blk.%u.ffn_gate_inp", "model.layers.%u.mlp.gate", NULL, NULL};
static const role SHARED_GATE = {"blk.%u.ffn_gate_shexp",
                                 "model.layers.%u.mlp.shared_expert.gate_proj", NULL, NULL};
static const role SHARED_UP = {"blk.%u.ffn_up_shexp", "model.layers.%u.mlp.shared_expert.up_proj",
                               NULL, NULL};
static const role SHARED_DOWN = {"blk.%u.ffn_down_shexp",
                                 "model.layers.%u.mlp.shared_expert.down_proj", NULL, NULL};
static const role SHARED_BY = {"blk.%u.ffn_gate_inp_shexp",
                               "model.layers.%u.mlp.shared_expert_gate", NULL, NULL};
static const role GATES = {"blk.%u.ffn_gate_exps", "model.layers.%u.mlp.experts.gate_proj", NULL,
                           NULL};
static const role UPS = {"blk.%u.ffn_up_exps", "model.layers.%u.mlp.experts.up_proj", NULL, NULL};
static const role DOWNS = {"blk.%u.ffn_down_exps", "model.layers.%u.mlp.experts.down_proj", NULL,
                           NULL};
static const role GATE = {"blk.%u.ffn_gate", "model.layers.%u.mlp.gate_proj", NULL, NULL};
static const role UP = {"blk.%u.ffn_up", "model.layers.%u.mlp.up_proj", "model.layers.%u.mlp.c_fc",
                        "h.%u.mlp.c_fc"};
static const role FFN_SUB = {"blk.%u.ffn_sub_norm", "model.layers.%u.mlp.ffn_sub_norm",
                             "model.layers.%u.mlp.ffn_layernorm", NULL};
static const role DOWN = {"blk.%u.ffn_down", "model.layers.%u.mlp.down_proj",
                          "model.layers.%u.mlp.c_proj", "h.%u.mlp.c_proj"};

/* ==== Lookup ================================================================================== */

static void spell(char out[160], const char *pattern, uint32_t layer, const char *tail) {
    int n = 0;
    const char *mark = strstr(pattern, "%u");
    if (mark)
        n = snprintf(out, 160, "%.*s%u%s", (int)(mark - pattern), pattern, layer, mark + 2);
    else
        n = snprintf(out, 160, "%s", pattern);
    snprintf(out + n, 160 - (size_t)n, "%s", tail);
}

/* Whoever finds a tensor uses it: model_refuse_unused() complains about the rest. */
const file_tensor *model_find(const model_loader *ld, const char *name) {
    const file_tensor *t = file_tensor_find(ld->f, name);
    if (t) ld->used[t - file_tensor_at(ld->f, 0)] = true;
    return t;
}

static const char *pattern_of(const model_loader *ld, const role *r) {
    const size_t n = sizeof MODEL_DOT - 1;
    if (model_turned(ld)) return r->turned;
    if (!ld->hf) return r->gguf;
    return ld->bare && r->hf && strncmp(r->hf, MODEL_DOT, n) == 0 ? r->hf + n : r->hf;
}

static const file_tensor *find(const model_loader *ld, const role *r, uint32_t layer,
                               const char *tail) {
    char name[160];
    if (!pattern_of(ld, r)) return NULL;
    spell(name, pattern_of(ld, r), layer, tail);
    const file_tensor *t = model_find(ld, name);
    const char *front = model_turned(ld) ? MODEL_ROOT : ld->front;
    if (front && !t) {
        char whole[200];
        snprintf(whole, sizeof whole, "%s%s", front, name);
        return model_find(ld, whole);
    }
    if (t || !r->other) return t;
    spell(name, r->other, layer, tail);
    return model_find(ld, name);
}

static rotor_status require(const model_loader *ld, const role *r, uint32_t layer,
                            const file_tensor **out) {
    char name[160];
    *out = find(ld, r, layer, ".weight");
    if (*out) return ROTOR_OK;
    spell(name, pattern_of(ld, r), layer, ".weight");
    return base_fail(ld->err, ROTOR_E_FORMAT, "%s: tensor %s is missing", file_path(ld->f), name);
}

static rotor_status bad_shape(const model_loader *ld, const file_tensor *t, uint64_t rows,
                              uint64_t cols) {
    return base_fail(ld->err, ROTOR_E_FORMAT,
                     "%s: tensor %.*s is %llu x %llu (rows x columns), expected %llu x %llu",
                     file_path(ld->f), (int)t->name.n, t->name.p, (unsigned long long)t->rows,
                     (unsigned long long)t->dims[0], (unsigned long long)rows,
                     (unsigned long long)cols);
}

/* ==== Vectors ================================================================================= */

static quant_tensor view(const file_tensor *t) {
    return (quant_tensor){
        .type = t->info->id, .rows = t->rows, .cols = t->dims[0], .data = t->data};
}

rotor_status model_scalar(const file_tensor *t, float *out, rotor_error *err) {
    const quant_tensor v = view(t);
    if (t->rows * t->dims[0] != 1)
        return base_fail(err, ROTOR_E_FORMAT, "tensor %.*s has %llu values, expected 1",
                         (int)t->name.n, t->name.p, (unsigned long long)(t->rows * t->dims[0]));
    if (!(t->info->flags & QUANT_CAN_DECODE))
        return base_fail(err, ROTOR_E_UNSUPPORTED, "tensor %.*s: type %s cannot be read",
                         (int)t->name.n, t->name.p, t->info->name);
    return quant_decode_rows(&v, 0, 1, out, err);
}

bool model_is_float(uint32_t type) {
    return type == QUANT_F32 || type == QUANT_F16 || type == QUANT_BF16;
}

rotor_status model_vectors(model_loader *ld, const file_tensor *t, size_t rows, size_t cols,
                           const float **out) {
    const quant_tensor v = view(t);
    const size_t n = rows * cols;
    if (t->rows != rows || t->dims[0] != cols) return bad_shape(ld, t, rows, cols);
    if (!model_is_float(t->info->id))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: norm %.*s has type %s, expected F32, F16 or BF16", file_path(ld->f),
                         (int)t->name.n, t->name.p, t->info->name);
    float *copy = model_take(ld->m, n * sizeof *copy);
    if (!copy) return base_fail_nomem(ld->err, "loading norms");
    ROTOR_TRY(quant_decode_rows(&v, 0, rows, copy, ld->err));
    for (size_t i = 0; i < n; i++)
        if (!(copy[i] - copy[i] == 0))
            return base_fail(ld->err, ROTOR_E_FORMAT,
                             "%s: norm %.*s holds a value that is not finite at %zu",
                             file_path(ld->f), (int)t->name.n, t->name.p, i);
    *out = copy;
    return ROTOR_OK;
}

static rotor_status bind_vector(model_loader *ld, const file_tensor *t, size_t n,
                                const float **out) {
    return model_vectors(ld, t, 1, n, out);
}

static rotor_status norm(model_loader *ld, const role *r, uint32_t layer, size_t n,
                         const float **out) {
    const file_tensor *t;
    ROTOR_TRY(require(ld, r, layer, &t));
    ROTOR_TRY(bind_vector(ld, t, n, out));
    float *gain = (float *)(uintptr_t)*out; /* a copy of our own */
    for (size_t i = 0; ld->hf && ld->arch->gemma && i < n; i++) gain[i] += 1;
    return ROTOR_OK;
}

/* A bias the file may or may not have. */
static rotor_status bias(model_loader *ld, const role *r, uint32_t layer, size_t n,
                         const float **out) {
    const file_tensor *t = find(ld, r, layer, ".bias");
    return t ? bind_vector(ld, t, n, out) : ROTOR_OK;
}

/* ==== Matrices ================================================================================ */

static rotor_status keep_name(model_loader *ld, const file_tensor *t, model_mat *out) {
    char *name = model_take(ld->m, t->name.n + 1);
    if (!name) return base_fail_nomem(ld->err, "loading weights");
    memcpy(name, t->name.p, t->name.n);
    out->name = name;
    return ROTOR_OK;
}

/* Weights used where they lie. */
static rotor_status bind_plain(model_loader *ld, const file_tensor *t, model_mat *out) {
    const quant_info *info = t->info;
    if (!model_is_float(info->id) && !(info->flags & QUANT_BLOCK32))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: tensor %.*s: type %s cannot be computed with; `rotor quantize` makes "
                         "other types",
                         file_path(ld->f), (int)t->name.n, t->name.p, info->name);
    out->type = info->id;
    out->data = t->data;
    out->row_bytes = (size_t)(out->cols / info->block_elems * info->block_bytes + info->row_bytes);
    return ROTOR_OK;
}

/* A matrix that lies [inputs, outputs], turned into memory of the model. */
static rotor_status bind_turned(model_loader *ld, const file_tensor *t, model_mat *out) {
    if (t->dims[0] != out->rows || t->rows != out->cols)
        return bad_shape(ld, t, out->cols, out->rows);
    ROTOR_TRY(bind_plain(ld, t, out));
    if (!model_is_float(out->type))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: tensor %s has type %s, expected F32, F16 or BF16", file_path(ld->f),
                         out->name, t->info->name);
    const size_t size = out->type == QUANT_F32 ? 4 : 2;
    uint8_t *dst = model_take(ld->m, out->rows * out->row_bytes);
    if (!dst) return base_fail_nomem(ld->err, "turning matrices");
    for (size_t r = 0; r < out->rows; r++)
        for (size_t c = 0; c < out->cols; c++)
            memcpy(dst + (r * out->cols + c) * size, t->data + (c * out->rows + r) * size, size);
    out->data = dst;
    return ROTOR_OK;
}

/* As it lies, whatever it is. */
static rotor_status bind_stored(const model_loader *ld, const model_ternary_src *src,
                                model_mat *out) {
    out->type = src->t->info->id;
    out->data = src->t->data;
    out->row_bytes = src->t->rows ? (size_t)(src->t->bytes / src->t->rows) : 0;
    return model_scale_of(ld, src->scale, out->name, &out->scale);
}

/* A projection: ternary when its type or its architecture says so, else as it lies. */
static rotor_status projection(model_loader *ld, const role *r, uint32_t layer, size_t rows,
                               size_t cols, model_mat *out) {
    model_ternary_src src = {0};
    ROTOR_TRY(require(ld, r, layer, &src.t));
    *out = (model_mat){.rows = rows, .cols = cols, .scale = 1.0f};
    ROTOR_TRY(keep_name(ld, src.t, out));
    if (model_turned(ld)) return bind_turned(ld, src.t, out);
    src.packed = ld->hf && src.t->info->id == QUANT_U8;
    src.master = ld->master && model_is_float(src.t->info->id);
    if (src.packed || !ld->hf) src.scale = find(ld, r, layer, ld->hf ? ".weight_scale" : ".scale");
    uint64_t stored_rows = src.packed ? (rows + 3) / 4 : rows;
    if (src.t->dims[0] != cols || src.t->rows != stored_rows)
        return bad_shape(ld, src.t, stored_rows, cols);
    if (src.packed && !src.scale)
        return base_fail(ld->err, ROTOR_E_FORMAT, "%s: tensor %s has no weight_scale beside it",
                         file_path(ld->f), out->name);
    if (ld->opt->as_stored) return bind_stored(ld, &src, out);
    if (src.packed || src.master || (src.t->info->flags & QUANT_TERNARY))
        return model_make_ternary(ld, &src, out);
    ROTOR_TRY(model_scale_of(ld, src.scale, out->name, &out->scale));
    return bind_plain(ld, src.t, out);
}

/* ==== Experts ================================================================================= */

static rotor_status missing(const model_loader *ld, const char *name) {
    return base_fail(ld->err, ROTOR_E_FORMAT, "%s: tensor %s is missing", file_path(ld->f), name);
}

/* A bias that an architecture always has; rows: one for each expert, or 1. */
static rotor_status need_bias(model_loader *ld, const role *r, uint32_t layer, size_t rows,
                              size_t cols, const float **out) {
    char name[160];
    const file_tensor *t = find(ld, r, layer, ".bias");
    spell(name, pattern_of(ld, r), layer, ".bias");
    return t ? model_vectors(ld, t, rows, cols, out) : missing(ld, name);
}

/* The matrices of all experts, one below the other, where they lie in the file. */
static rotor_status experts(model_loader *ld, const role *r, uint32_t layer, size_t rows,
                            size_t cols, model_mat *out) {
    const size_t n = ld->m->hp.n_expert;
    const file_tensor *t;
    ROTOR_TRY(require(ld, r, layer, &t));
    *out = (model_mat){.rows = n * rows, .cols = cols, .scale = 1.0f};
    ROTOR_TRY(keep_name(ld, t, out));
    if (t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != n || t->dims[3] != 1)
        return base_fail(ld->err, ROTOR_E_FORMAT,
                         "%s: tensor %s is %llu x %llu x %llu (experts x rows x columns), expected "
                         "%zu x %zu x %zu",
                         file_path(ld->f), out->name, (unsigned long long)t->dims[2],
                         (unsigned long long)t->dims[1], (unsigned long long)t->dims[0], n, rows,
                         cols);
    return bind_plain(ld, t, out);
}

static rotor_status bind_sinks(model_loader *ld, uint32_t l, model_layer *w) {
    const file_tensor *t = find(ld, &SINKS, l, ".weight");
    char name[160];
    if (!t) t = find(ld, &SINKS, l, "");
    spell(name, pattern_of(ld, &SINKS), l, ld->hf ? "" : ".weight");
    return t ? bind_vector(ld, t, ld->m->hp.n_head, &w->sinks) : missing(ld, name);
}

static rotor_status bind_expert_biases(model_loader *ld, uint32_t l, model_layer *w) {
    const size_t d = ld->m->hp.n_embd, ff = ld->m->hp.n_ff, n = ld->m->hp.n_expert;
    ROTOR_TRY(need_bias(ld, &GATES, l, n, ff, &w->gate_bias));
    ROTOR_TRY(need_bias(ld, &UPS, l, n, ff, &w->up_bias));
    return need_bias(ld, &DOWNS, l, n, d, &w->down_bias);
}

static rotor_status bind_experts(model_loader *ld, uint32_t l, model_layer *w) {
    const size_t d = ld->m->hp.n_embd, ff = ld->m->hp.n_ff;
    char fused[160];
    spell(fused, "blk.%u.ffn_gate_up_exps", l, ".weight");
    if (file_tensor_find(ld->f, fused))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: tensor %s holds gate and up in one, in an order the file does not "
                         "say; a file with ffn_gate_exps and ffn_up_exps is needed",
                         file_path(ld->f), fused);
    ROTOR_TRY(experts(ld, &GATES, l, ff, d, &w->gate));
    ROTOR_TRY(experts(ld, &UPS, l, ff, d, &w->up));
    ROTOR_TRY(experts(ld, &DOWNS, l, d, ff, &w->down));
    if (model_is_float(w->gate.type) != model_is_float(w->up.type))
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: tensors %s and %s: one is of floats, the other of blocks",
                         file_path(ld->f), w->gate.name, w->up.name);
    return ld->arch->oss ? bind_expert_biases(ld, l, w) : ROTOR_OK;
}

static rotor_status bind_shared(model_loader *ld, uint32_t l, model_layer *w) {
    const size_t d = ld->m->hp.n_embd, ff = ld->m->hp.n_ff_shared;
    ROTOR_TRY(projection(ld, &SHARED_GATE, l, ff, d, &w->shared_gate));
    ROTOR_TRY(projection(ld, &SHARED_UP, l, ff, d, &w->shared_up));
    ROTOR_TRY(projection(ld, &SHARED_DOWN, l, d, ff, &w->shared_down));
    return projection(ld, &SHARED_BY, l, 1, d, &w->shared_by);
}

static rotor_status bind_mixture(model_loader *ld, uint32_t l, model_layer *w) {
    const model_hparams *hp = &ld->m->hp;
    const bool oss = ld->arch->oss;
    const role *router = oss ? &ROUTER : &QWEN_ROUTER;
    ROTOR_TRY(norm(ld, oss ? &MIX_NORM : &FFN_NORM, l, hp->n_embd, &w->ffn_norm));
    ROTOR_TRY(projection(ld, router, l, hp->n_expert, hp->n_embd, &w->router));
    if (oss) ROTOR_TRY(need_bias(ld, router, l, 1, hp->n_expert, &w->router_bias));
    if (hp->n_ff_shared) ROTOR_TRY(bind_shared(ld, l, w));
    return ld->hf ? model_hf_experts(ld, l, w) : bind_experts(ld, l, w);
}

/* The next rows of a tensor that holds several matrices, one below the other. */
rotor_status model_take_rows(const model_loader *ld, model_mat *all, size_t rows, model_mat *out) {
    if (all->type == QUANT_T5 && rows % QUANT_T5_ROWS)
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: tensor %s: of type T5, whose rows stand in sixteens, %zu rows cannot "
                         "be taken",
                         file_path(ld->f), all->name, rows);
    *out = *all;
    out->rows = rows;
    all->data += rows * all->row_bytes;
    if (all->row_scale) all->row_scale += rows;
    all->rows -= rows;
    return ROTOR_OK;
}

static rotor_status bind_qkv(model_loader *ld, uint32_t l, model_layer *w) {
    const model_hparams *hp = &ld->m->hp;
    const size_t q = (size_t)hp->n_head * hp->d_head, kv = (size_t)hp->n_head_kv * hp->d_head;
    model_mat all;
    if (!ld->arch->fused) {
        ROTOR_TRY(projection(ld, &Q, l, q, hp->n_embd, &w->q));
        ROTOR_TRY(projection(ld, &K, l, kv, hp->n_embd, &w->k));
        return projection(ld, &V, l, kv, hp->n_embd, &w->v);
    }
    const file_tensor *biases = find(ld, &QKV, l, ".bias");
    ROTOR_TRY(projection(ld, &QKV, l, q + 2 * kv, hp->n_embd, &all));
    ROTOR_TRY(model_take_rows(ld, &all, q, &w->q));
    ROTOR_TRY(model_take_rows(ld, &all, kv, &w->k));
    ROTOR_TRY(model_take_rows(ld, &all, kv, &w->v));
    if (!biases) return ROTOR_OK;
    ROTOR_TRY(bind_vector(ld, biases, q + 2 * kv, &w->q_bias));
    w->k_bias = w->q_bias + q;
    w->v_bias = w->k_bias + kv;
    return ROTOR_OK;
}

static rotor_status bind_plain_ffn(model_loader *ld, uint32_t l, model_layer *w) {
    const size_t d = ld->m->hp.n_embd, ff = ld->m->hp.n_ff;
    ROTOR_TRY(projection(ld, &UP, l, ff, d, &w->up));
    ROTOR_TRY(bias(ld, &UP, l, ff, &w->up_bias));
    ROTOR_TRY(projection(ld, &DOWN, l, d, ff, &w->down));
    return bias(ld, &DOWN, l, d, &w->down_bias);
}

static rotor_status bind_ffn(model_loader *ld, uint32_t l, model_layer *w) {
    const size_t d = ld->m->hp.n_embd, ff = ld->m->hp.n_ff;
    ROTOR_TRY(norm(ld, ld->arch->gemma ? &PRE_FFN : &FFN_NORM, l, d, &w->ffn_norm));
    if (ld->arch->centred) ROTOR_TRY(need_bias(ld, &FFN_NORM, l, 1, d, &w->ffn_norm_bias));
    if (ld->arch->plain_ffn) return bind_plain_ffn(ld, l, w);
    if (ld->arch->gemma) {
        ROTOR_TRY(norm(ld, &POST_ATTN, l, d, &w->post_attn_norm));
        ROTOR_TRY(norm(ld, &POST_FFN, l, d, &w->post_ffn_norm));
    }
    if (ld->arch->fused) {
        model_mat all;
        ROTOR_TRY(projection(ld, &GATE_UP, l, 2 * ff, d, &all));
        ROTOR_TRY(model_take_rows(ld, &all, ff, &w->gate));
        ROTOR_TRY(model_take_rows(ld, &all, ff, &w->up));
        return projection(ld, &DOWN, l, d, ff, &w->down);
    }
    ROTOR_TRY(projection(ld, &GATE, l, ff, d, &w->gate));
    ROTOR_TRY(projection(ld, &UP, l, ff, d, &w->up));
    return projection(ld, &DOWN, l, d, ff, &w->down);
}

/* A gain for the input of each projection, which some ternary models have: of all or of none. */
static rotor_status bind_in_norms(model_loader *ld, uint32_t l, model_layer *w) {
    const role *const of[MODEL_N_PROJ] = {&Q, &K, &V, &O, &GATE, &UP, &DOWN};
    static const char tail[] = "_norm_in.weight";
    if (ld->hf) return ROTOR_OK;
    const file_tensor *first = find(ld, of[0], l, tail);
    if (l && !first != !ld->m->layers[0].in_norm[0])
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: of layers 0 and %u one has norms in front of its projections and the "
                         "other has none",
                         file_path(ld->f), l);
    for (int p = 0; first && p < MODEL_N_PROJ; p++) {
        const file_tensor *t = find(ld, of[p], l, tail);
        char name[160];
        spell(name, of[p]->gguf, l, tail);
        if (!t) return missing(ld, name);
        ROTOR_TRY(bind_vector(ld, t, model_proj_mat(w, (model_proj)p)->cols, &w->in_norm[p]));
    }
    return ROTOR_OK;
}

static rotor_status bind_layer(model_loader *ld, uint32_t l) {
    const model_hparams *hp = &ld->m->hp;
    model_layer *w = &ld->m->layers[l];
    const size_t d = hp->n_embd, q = (size_t)hp->n_head * hp->d_head,
                 kv = (size_t)hp->n_head_kv * hp->d_head, ff = hp->n_ff;
    ROTOR_TRY(norm(ld, &ATTN_NORM, l, d, &w->attn_norm));
    if (ld->arch->centred) ROTOR_TRY(need_bias(ld, &ATTN_NORM, l, 1, d, &w->attn_norm_bias));
    ROTOR_TRY(bind_qkv(ld, l, w));
    ROTOR_TRY(projection(ld, &O, l, d, q, &w->o));
    ROTOR_TRY(hp->n_expert ? bind_mixture(ld, l, w) : bind_ffn(ld, l, w));
    if (!hp->n_expert) ROTOR_TRY(bind_in_norms(ld, l, w));
    if (ld->arch->oss) {
        ROTOR_TRY(bind_sinks(ld, l, w));
        ROTOR_TRY(need_bias(ld, &Q, l, 1, q, &w->q_bias));
        ROTOR_TRY(need_bias(ld, &K, l, 1, kv, &w->k_bias));
        ROTOR_TRY(need_bias(ld, &V, l, 1, kv, &w->v_bias));
        return need_bias(ld, &O, l, 1, d, &w->o_bias);
    }
    ROTOR_TRY(bias(ld, &Q, l, q, &w->q_bias));
    ROTOR_TRY(bias(ld, &K, l, kv, &w->k_bias));
    ROTOR_TRY(bias(ld, &V, l, kv, &w->v_bias));
    ROTOR_TRY(bias(ld, &O, l, d, &w->o_bias));
    if (hp->qk_norm) {
        ROTOR_TRY(norm(ld, &Q_NORM, l, hp->d_head, &w->q_norm));
        ROTOR_TRY(norm(ld, &K_NORM, l, hp->d_head, &w->k_norm));
    }
    if (!hp->sub_norms) return ROTOR_OK;
    ROTOR_TRY(norm(ld, &ATTN_SUB, l, q, &w->attn_sub_norm));
    return norm(ld, &FFN_SUB, l, ff, &w->ffn_sub_norm);
}

/* ==== Embedding and head ====================================================================== */

rotor_status model_table(model_loader *ld, const file_tensor *t, size_t cols, model_mat *out) {
    *out = (model_mat){.rows = (size_t)t->rows, .cols = cols, .scale = 1.0f};
    if (t->dims[0] != out->cols) return bad_shape(ld, t, t->rows, out->cols);
    ROTOR_TRY(keep_name(ld, t, out));
    return bind_plain(ld, t, out);
}

static rotor_status embedding_and_head(model_loader *ld) {
    model *m = ld->m;
    const file_tensor *embd, *head = find(ld, &HEAD, 0, ".weight");
    ROTOR_TRY(require(ld, &EMBD, 0, &embd));
    ROTOR_TRY(model_table(ld, embd, m->hp.n_embd, &m->embd));
    if (m->embd.rows > 1u << 24)
        return base_fail(ld->err, ROTOR_E_FORMAT, "%s: %zu embedding rows are too many",
                         file_path(ld->f), m->embd.rows);
    m->hp.n_vocab = (uint32_t)m->embd.rows;
    m->tied = ld->hf ? m->tied || !head : !head;
    if (m->tied) return m->head = m->embd, ROTOR_OK;
    ROTOR_TRY(model_table(ld, head, m->hp.n_embd, &m->head));
    return m->head.rows == m->embd.rows ? ROTOR_OK
                                        : bad_shape(ld, head, m->embd.rows, m->embd.cols);
}

static rotor_status divisors(model_loader *ld, const file_tensor *t, const float **out) {
    const size_t n = ld->m->hp.n_rot / 2;
    ROTOR_TRY(bind_vector(ld, t, n, out));
    for (size_t i = 0; i < n; i++)
        if (!((*out)[i] > 0))
            return base_fail(ld->err, ROTOR_E_FORMAT,
                             "%s: tensor %.*s: divisor %zu is %g, expected more than 0",
                             file_path(ld->f), (int)t->name.n, t->name.p, i, (double)(*out)[i]);
    return ROTOR_OK;
}

/* Llama 3.1 and later GGUF files carry their long-context scaling as one divisor per frequency,
 * Phi-3's as two; folders have numbers in their config. */
static rotor_status rope_divisors(model_loader *ld) {
    model_hparams *hp = &ld->m->hp;
    const file_tensor *t;
    if (ld->hf) return ROTOR_OK;
    if (hp->rope_scaling == MODEL_ROPE_LONG) {
        ROTOR_TRY(require(ld, &ROPE_LONG, 0, &t));
        ROTOR_TRY(divisors(ld, t, &hp->rope_long));
        ROTOR_TRY(require(ld, &ROPE_SHORT, 0, &t));
        return divisors(ld, t, &hp->rope_divisors);
    }
    t = find(ld, &ROPE_FREQS, 0, ".weight");
    return t ? divisors(ld, t, &hp->rope_divisors) : ROTOR_OK;
}

static rotor_status positions(model_loader *ld) {
    model *m = ld->m;
    const file_tensor *t;
    if (!ld->arch->turned) return ROTOR_OK;
    m->hp.n_pos = m->hp.n_ctx;
    ROTOR_TRY(require(ld, &POSITIONS, 0, &t));
    return model_vectors(ld, t, m->hp.n_pos, m->hp.n_embd, &m->pos_embd);
}

/* What is in front of the layers of a decoder, and behind them. */
static rotor_status bind_ends(model_loader *ld) {
    model *m = ld->m;
    ROTOR_TRY(embedding_and_head(ld));
    ROTOR_TRY(positions(ld));
    ROTOR_TRY(norm(ld, &OUT_NORM, 0, m->hp.n_embd, &m->out_norm));
    return ld->arch->centred ? need_bias(ld, &OUT_NORM, 0, 1, m->hp.n_embd, &m->out_norm_bias)
                             : ROTOR_OK;
}

rotor_status model_bind(model_loader *ld) {
    model *m = ld->m;
    const bool encoder = ld->arch->encoder;
    ld->bare = ld->hf && !file_tensor_find(ld->f, "model.embed_tokens.weight") &&
               file_tensor_find(ld->f, "embed_tokens.weight");
    ROTOR_TRY(encoder ? model_bind_encoder(ld) : bind_ends(ld));
    ROTOR_TRY(rope_divisors(ld));
    m->layers = model_take(m, m->hp.n_layer * sizeof *m->layers);
    if (!m->layers) return base_fail_nomem(ld->err, "loading layers");
    for (uint32_t l = 0; l < m->hp.n_layer; l++)
        ROTOR_TRY(encoder ? model_bind_encoder_layer(ld, l) : bind_layer(ld, l));
    ROTOR_TRY(model_pooling(ld));
    ROTOR_TRY(model_refuse_unused(ld));
    model_count_params(m);
    return ROTOR_OK;
}

/* ==== For encoders ============================================================================ */

const file_tensor *model_role_find(const model_loader *ld, const model_role *r, uint32_t layer,
                                   const char *tail) {
    return find(ld, r, layer, tail);
}

rotor_status model_role_need(const model_loader *ld, const model_role *r, uint32_t layer,
                             const char *tail, const file_tensor **out) {
    char name[160];
    *out = find(ld, r, layer, tail);
    if (*out) return ROTOR_OK;
    spell(name, pattern_of(ld, r) ? pattern_of(ld, r) : r->gguf, layer, tail);
    return missing(ld, name);
}

rotor_status model_role_mat(model_loader *ld, const model_role *r, uint32_t layer, size_t rows,
                            size_t cols, model_mat *out) {
    const file_tensor *t;
    ROTOR_TRY(model_role_need(ld, r, layer, ".weight", &t));
    return projection(ld, r, layer, rows, cols, out);
}
