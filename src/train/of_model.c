/* SPDX-License-Identifier: MIT
 *
 * A model in the trainer's words.
 */
#include "train/of_model.h"
#include "train/pass.h"

#include <assert.h>

const char *of_model_foreign_part(const model *m) {
    const model_hparams *hp = &m->hp;
    if (!hp->w1a8 || !hp->sub_norms || hp->qk_norm || hp->glu != MODEL_RELU2)
        return "its architecture";
    if (!m->tied) return "a head beside the embedding";
    if (hp->n_rot != hp->d_head || hp->rope_scaling != MODEL_ROPE_NONE || hp->rope_divisors ||
        hp->rope_interleaved)
        return "its rotary positions";
    if (hp->window) return "a sliding window";
    for (uint32_t l = 0; l < hp->n_layer; l++) {
        const model_layer *w = &m->layers[l];
        if (w->q_bias || w->k_bias || w->v_bias || w->o_bias) return "biases";
    }
    return NULL;
}

void of_model_shape(const model *m, train_shape *s) {
    const model_hparams *hp = &m->hp;
    s->n_vocab = hp->n_vocab;
    s->n_embd = hp->n_embd;
    s->n_layer = hp->n_layer;
    s->n_head = hp->n_head;
    s->n_head_kv = hp->n_head_kv;
    s->d_head = hp->d_head;
    s->n_ff = hp->n_ff;
    s->rope_base = (float)hp->rope_base;
    s->eps = hp->eps;
}

model_proj train_proj_of(train_role role) {
    switch (role) {
    case TRAIN_Q:
        return MODEL_Q;
    case TRAIN_K:
        return MODEL_K;
    case TRAIN_V:
        return MODEL_V;
    case TRAIN_O:
        return MODEL_O;
    case TRAIN_GATE:
        return MODEL_GATE;
    case TRAIN_UP:
        return MODEL_UP;
    default:
        assert(role == TRAIN_DOWN);
        return MODEL_DOWN;
    }
}

const float *of_model_norm(const model *m, train_role role, uint32_t layer) {
    switch (role) {
    case TRAIN_ATTN_NORM:
        return m->layers[layer].attn_norm;
    case TRAIN_ATTN_SUB_NORM:
        return m->layers[layer].attn_sub_norm;
    case TRAIN_FFN_NORM:
        return m->layers[layer].ffn_norm;
    case TRAIN_FFN_SUB_NORM:
        return m->layers[layer].ffn_sub_norm;
    default:
        assert(role == TRAIN_OUT_NORM);
        return m->out_norm;
    }
}

enum { PIECE_ROWS = 128 }; /* decoded before their pages of the file are given back */

rotor_status of_model_floats(const model *m, const model_mat *w, float *dst, rotor_error *err) {
    const quant_tensor view = {.type = w->type, .rows = w->rows, .cols = w->cols, .data = w->data};
    for (size_t r = 0; r < w->rows; r += PIECE_ROWS) {
        const size_t end = BASE_MIN(w->rows, r + PIECE_ROWS);
        ROTOR_TRY(quant_decode_rows(&view, r, end, dst + r * w->cols, err));
        file_drop(m->file, w->data + r * w->row_bytes, (end - r) * w->row_bytes);
    }
    for (size_t i = 0; i < w->rows * w->cols; i++)
        if (!(dst[i] - dst[i] == 0))
            return base_fail(err, ROTOR_E_FORMAT,
                             "%s: tensor %s: row %zu, column %zu is not a number",
                             file_path(m->file), w->name, i / w->cols, i % w->cols);
    return ROTOR_OK;
}
