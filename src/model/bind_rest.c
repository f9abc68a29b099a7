/* SPDX-License-Identifier: MIT
 *
 * What is left when every role has its tensor: the number of weights, and the rest of the file.
 * Tensors of layers that are not loaded and of networks beside the decoder are a line in the log;
 * anything that would change an answer and is not computed with is refused by name.
 */
#include "model/model_internal.h"

static bool holds(base_str s, const char *part) {
    const size_t n = strlen(part);
    for (size_t i = 0; i + n <= s.n; i++)
        if (memcmp(s.p + i, part, n) == 0) return true;
    return false;
}

/* Layer number of a tensor name, or no layer's. */
static uint32_t layer_of(const model_loader *ld, base_str name) {
    const char *prefix = model_turned(ld)      ? "h."
                         : !ld->hf             ? "blk."
                         : !ld->arch->encoder  ? ld->bare ? "layers." : "model.layers."
                         : ld->arch->positions ? "encoder.layer."
                                               : "encoder.layers.";
    const char *front = model_turned(ld) ? MODEL_ROOT : ld->front ? ld->front : "";
    const size_t n = strlen(prefix), root = strlen(front);
    uint32_t layer = 0;
    if (name.n > root && memcmp(name.p, front, root) == 0)
        name = (base_str){name.p + root, name.n - root};
    if (name.n <= n || memcmp(name.p, prefix, n) != 0) return UINT32_MAX;
    for (size_t i = n; i < name.n && name.p[i] >= '0' && name.p[i] <= '9' && layer < 100000; i++)
        layer = 10 * layer + (uint32_t)(name.p[i] - '0');
    return layer;
}

/* Tables of angles are computed here; older folders of GPT-2 hold what masks attention. */
static bool is_table(const model_loader *ld, base_str name) {
    return holds(name, "rot_embd") || holds(name, "rotary_emb") ||
           (model_turned(ld) && (holds(name, ".attn.bias") || holds(name, ".attn.masked_bias")));
}

/* A norm, bias or scale that the pass does not know would silently change every answer. The head of
 * a tied model is a copy. */
rotor_status model_refuse_unused(const model_loader *ld) {
    size_t n_unused = 0, first = 0;
    for (size_t i = 0; i < file_n_tensors(ld->f); i++) {
        base_str name = file_tensor_at(ld->f, i)->name;
        if (ld->used[i] || is_table(ld, name)) continue;
        bool outside = base_str_is(name, "output.bias") || base_str_is(name, "lm_head.bias") ||
                       base_str_is(name, "token_embd_norm.weight") ||
                       (name.n > 6 && memcmp(name.p, "dense_", 6) == 0) || /* behind pooling */
                       holds(name, "rope_factors_");                       /* longrope */
        if (outside || layer_of(ld, name) < ld->m->hp.n_layer)
            return base_fail(
                ld->err, ROTOR_E_UNSUPPORTED,
                "%s: tensor %.*s is no part of architecture %s as this program knows it",
                file_path(ld->f), (int)name.n, name.p, ld->arch->name);
        if (layer_of(ld, name) == UINT32_MAX && n_unused++ == 0) first = i;
    }
    if (n_unused) {
        base_str name = file_tensor_at(ld->f, first)->name;
        base_log_printf(ld->opt->log, BASE_LOG_INFO, "%s: %zu tensors are not used, %.*s first",
                        file_path(ld->f), n_unused, (int)name.n, name.p);
    }
    return ROTOR_OK;
}

/* ==== How many weights ======================================================================== */

static uint64_t mat_params(const model_mat *w) { return (uint64_t)w->rows * w->cols; }

void model_count_params(model *m) {
    const model_hparams *hp = &m->hp;
    m->n_params = mat_params(&m->embd) + (m->tied ? 0 : mat_params(&m->head)) + hp->n_embd +
                  (uint64_t)hp->n_pos * hp->n_embd + (m->out_norm_bias ? hp->n_embd : 0);
    for (uint32_t l = 0; l < hp->n_layer; l++) {
        const model_layer *w = &m->layers[l];
        m->n_params += mat_params(&w->q) + mat_params(&w->k) + mat_params(&w->v) +
                       mat_params(&w->o) + mat_params(&w->gate) + mat_params(&w->up) +
                       mat_params(&w->down) + mat_params(&w->router) + 2u * hp->n_embd +
                       mat_params(&w->shared_gate) + mat_params(&w->shared_up) +
                       mat_params(&w->shared_down) + mat_params(&w->shared_by);
        if (w->sinks) m->n_params += hp->n_head;
        if (w->q_bias) m->n_params += w->q.rows;
        if (w->k_bias) m->n_params += w->k.rows + w->v.rows;
        if (w->o_bias) m->n_params += hp->n_embd;
        if (w->attn_norm_bias) m->n_params += 2ull * hp->n_embd;
        if (!hp->n_expert && w->up_bias) m->n_params += hp->n_ff;
        if (!hp->n_expert && w->down_bias) m->n_params += hp->n_embd;
        if (w->router_bias) m->n_params += hp->n_expert * (1 + 2ull * hp->n_ff + hp->n_embd);
        if (hp->sub_norms) m->n_params += (uint64_t)hp->n_head * hp->d_head + hp->n_ff;
    }
}
