/* SPDX-License-Identifier: MIT
 *
 * A network that stands still while an adapter learns beside it: a model of any ternary type, as
 * the engine loads it. Codes and scales are the model's own; nothing is rounded again. Embedding
 * and norms become floats.
 */
#include "train/of_model.h"
#include "train/pass.h"

/* ==== Opening ================================================================================= */

static void on_every_thread(void *pool, void (*fn)(void *, int, int), void *arg) {
    par_run(pool, fn, arg);
}

static rotor_status check(const model *m, const char *path, rotor_error *err) {
    const char *foreign = of_model_foreign_part(m);
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

void train_frozen_shape(const train_frozen *f, train_shape *s) { of_model_shape(f->m, s); }

/* ==== Loading ================================================================================= */

static void load_norms(const train_frozen *f, const train_shape *s) {
    static const train_role norms[] = {TRAIN_ATTN_NORM, TRAIN_ATTN_SUB_NORM, TRAIN_FFN_NORM,
                                       TRAIN_FFN_SUB_NORM};
    for (uint32_t l = 0; l < s->n_layer; l++)
        for (size_t i = 0; i < BASE_COUNT(norms); i++)
            memcpy(f->fixed + train_fixed_at(s, norms[i], l), of_model_norm(f->m, norms[i], l),
                   train_tensor_of(s, norms[i], l).cols * sizeof *f->fixed);
    memcpy(f->fixed + train_fixed_at(s, TRAIN_OUT_NORM, 0), of_model_norm(f->m, TRAIN_OUT_NORM, 0),
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
    rotor_status st = of_model_floats(f->m, &f->m->embd, f->fixed, err);
    if (st != ROTOR_OK) {
        base_free_aligned(f->fixed);
        f->fixed = NULL;
        return st;
    }
    load_norms(f, s);
    f->hash = hash_of(f, s);
    return ROTOR_OK;
}
