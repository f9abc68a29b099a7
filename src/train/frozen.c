/* SPDX-License-Identifier: MIT
 *
 * A network that stands still while an adapter learns beside it: a model of any ternary type, as
 * the engine loads it. Codes and scales are the model's own; nothing is rounded again. Embedding
 * and norms become floats.
 */
#include "train/pass.h"

#include <assert.h>
#include <stdio.h>

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

/* ==== Opening ================================================================================= */

static void on_every_thread(void *pool, void (*fn)(void *, int, int), void *arg) {
    par_run(pool, fn, arg);
}

/* What the training pass does not compute. */
static const char *foreign_part(const model *m) {
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

static rotor_status check(const model *m, const char *path, rotor_error *err) {
    const char *foreign = foreign_part(m);
    if (foreign)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s: an adapter cannot be trained beside this model (%s, %s); expected a "
                         "ternary model of architecture bitnet-b1.58",
                         path, m->arch, foreign);
    for (uint32_t l = 0; l < m->hp.n_layer; l++)
        for (int p = 0; p < MODEL_N_PROJ; p++) {
            const model_mat *w = model_proj_mat(&m->layers[l], (model_proj)p);
            if (w->type != QUANT_I2_S && w->type != QUANT_T5)
                return base_fail(err, ROTOR_E_UNSUPPORTED,
                                 "%s: tensor %s has one scale per block (%s), not one per matrix "
                                 "or row; an adapter cannot be trained beside it",
                                 path, w->name, quant_find(w->type)->name);
        }
    return ROTOR_OK;
}

rotor_status train_frozen_open(train_frozen *f, const char *path, par_pool *pool,
                               const base_log *log, rotor_error *err) {
    const model_options opt = {.i2s = -1, .parallel = {on_every_thread, pool}, .log = log};
    memset(f, 0, sizeof *f);
    ROTOR_TRY(model_open(&f->m, path, &opt, err));
    rotor_status st = check(f->m, path, err);
    if (st != ROTOR_OK) train_frozen_close(f);
    return st;
}

void train_frozen_close(train_frozen *f) {
    model_close(&f->m);
    base_free_aligned(f->fixed);
    memset(f, 0, sizeof *f);
}

void train_frozen_shape(const train_frozen *f, train_shape *s) {
    const model_hparams *hp = &f->m->hp;
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

/* ==== Loading ================================================================================= */

enum { PIECE_ROWS = 128 }; /* decoded before their pages of the file are given back */

static rotor_status load_embedding(const train_frozen *f, rotor_error *err) {
    const model_mat *e = &f->m->embd;
    const quant_tensor view = {.type = e->type, .rows = e->rows, .cols = e->cols, .data = e->data};
    for (size_t r = 0; r < e->rows; r += PIECE_ROWS) {
        const size_t end = BASE_MIN(e->rows, r + PIECE_ROWS);
        ROTOR_TRY(quant_decode_rows(&view, r, end, f->fixed + r * e->cols, err));
        file_drop(f->m->file, e->data + r * e->row_bytes, (end - r) * e->row_bytes);
    }
    for (size_t i = 0; i < e->rows * e->cols; i++)
        if (!(f->fixed[i] - f->fixed[i] == 0))
            return base_fail(err, ROTOR_E_FORMAT, "tensor %s: row %zu, column %zu is not a number",
                             e->name, i / e->cols, i % e->cols);
    return ROTOR_OK;
}

static void load_norms(const train_frozen *f, const train_shape *s) {
    for (uint32_t l = 0; l < s->n_layer; l++) {
        const model_layer *w = &f->m->layers[l];
        const struct {
            train_role role;   /* which norm */
            const float *gain; /* of it */
        } norms[] = {{TRAIN_ATTN_NORM, w->attn_norm},
                     {TRAIN_ATTN_SUB_NORM, w->attn_sub_norm},
                     {TRAIN_FFN_NORM, w->ffn_norm},
                     {TRAIN_FFN_SUB_NORM, w->ffn_sub_norm}};
        for (size_t i = 0; i < BASE_COUNT(norms); i++)
            memcpy(f->fixed + train_fixed_at(s, norms[i].role, l), norms[i].gain,
                   train_tensor_of(s, norms[i].role, l).cols * sizeof *f->fixed);
    }
    memcpy(f->fixed + train_fixed_at(s, TRAIN_OUT_NORM, 0), f->m->out_norm,
           s->n_embd * sizeof *f->fixed);
}

static uint64_t hash_of(const train_frozen *f, const train_shape *s) {
    uint64_t hash = base_hash64(f->fixed, train_n_fixed(s) * sizeof *f->fixed, 1);
    for (uint32_t l = 0; l < s->n_layer; l++)
        for (int p = 0; p < MODEL_N_PROJ; p++) {
            const model_mat *w = model_proj_mat(&f->m->layers[l], (model_proj)p);
            const size_t bytes = w->type == QUANT_T5 ? (size_t)quant_t5_code_bytes(w->rows, w->cols)
                                                     : w->rows * w->row_bytes;
            hash = base_hash64(w->data, bytes, hash);
            hash = base_hash64(w->row_scale ? w->row_scale : &w->scale,
                               (w->row_scale ? w->rows : 1) * sizeof(float), hash);
        }
    return hash ? hash : 1;
}

rotor_status train_frozen_load(train_frozen *f, const train_shape *s, rotor_error *err) {
    if (f->fixed) return ROTOR_OK;
    f->fixed = base_alloc_aligned(train_n_fixed(s) * sizeof *f->fixed);
    if (!f->fixed) return base_fail_nomem(err, "loading a model to learn beside");
    rotor_status st = load_embedding(f, err);
    if (st != ROTOR_OK) {
        base_free_aligned(f->fixed);
        f->fixed = NULL;
        return base_fail_in(err, st, "%s", file_path(f->m->file)), st;
    }
    load_norms(f, s);
    f->hash = hash_of(f, s);
    return ROTOR_OK;
}
