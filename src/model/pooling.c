/* SPDX-License-Identifier: MIT
 *
 * What an embedding model does with the hidden states of a text: which of them make its vector
 * (pooling), the longest text, and the matrices the vector still goes through. GGUF says it in keys
 * and tensors, a folder in files (hf_pooling.c).
 *
 * None of it is needed to load a model: a decoder without it can be embedded with, too.
 *
 * A cross-encoder (MODEL_POOL_RANK) has two layers of its own instead, whose weights stand with the
 * others: score = w2 tanh(w1 h + b1) + b2, of the first token's h. In folders they are called
 * pooler and classifier, in GGUF cls and cls.output.
 */
#include "model/model_internal.h"

#include <stdio.h>

/* ==== Dense layers ============================================================================ */

rotor_status model_too_many_dense(const model_loader *ld) {
    return base_fail(ld->err, ROTOR_E_UNSUPPORTED, "%s: more than %d dense layers behind pooling",
                     file_path(ld->f), MODEL_MAX_DENSE);
}

rotor_status model_add_dense(model_loader *ld, const file_tensor *t) {
    model *m = ld->m;
    const size_t cols = model_vector_width(m);
    if (m->n_dense == MODEL_MAX_DENSE) return model_too_many_dense(ld);
    ROTOR_TRY(model_table(ld, t, cols, &m->dense[m->n_dense]));
    if (t->rows < 1 || t->rows > 1u << 20)
        return base_fail(ld->err, ROTOR_E_FORMAT, "%s: tensor %.*s has %llu rows", file_path(ld->f),
                         (int)t->name.n, t->name.p, (unsigned long long)t->rows);
    m->n_dense++;
    return ROTOR_OK;
}

/* ==== Cross-encoders ========================================================================== */

static const model_role CLS = {.gguf = "cls", .hf = "pooler.dense"};
static const model_role SCORE = {.gguf = "cls.output", .hf = "classifier"};

/* A layer [rows, D] of floats, and its bias, where there is one. */
static rotor_status add_scored(model_loader *ld, const model_role *r, size_t rows) {
    model *m = ld->m;
    const file_tensor *t, *b = model_role_find(ld, r, 0, ".bias");
    ROTOR_TRY(model_role_need(ld, r, 0, ".weight", &t));
    if (t->rows != rows)
        return base_fail(ld->err, ROTOR_E_UNSUPPORTED,
                         "%s: tensor %.*s has %llu rows, a cross-encoder's has %zu%s",
                         file_path(ld->f), (int)t->name.n, t->name.p, (unsigned long long)t->rows,
                         rows, rows == 1 ? ": a classifier of several classes does not rank" : "");
    ROTOR_TRY(model_table(ld, t, m->hp.n_embd, &m->dense[m->n_dense]));
    if (b) ROTOR_TRY(model_vectors(ld, b, 1, rows, &m->dense_bias[m->n_dense]));
    m->n_dense++;
    return ROTOR_OK;
}

static rotor_status scored(model_loader *ld) {
    ROTOR_TRY(add_scored(ld, &CLS, ld->m->hp.n_embd));
    return add_scored(ld, &SCORE, 1);
}

/* ==== GGUF ==================================================================================== */

static rotor_status gguf_dense(model_loader *ld) {
    for (int i = 0; i < MODEL_MAX_DENSE; i++) {
        char name[40];
        snprintf(name, sizeof name, "dense_%d.weight", i + 2);
        const file_tensor *t = model_find(ld, name);
        if (t) ROTOR_TRY(model_add_dense(ld, t));
    }
    return ROTOR_OK;
}

rotor_status model_pooling(model_loader *ld) {
    if (ld->m->hp.pool == MODEL_POOL_RANK) return scored(ld);
    return ld->hf ? model_folder_pooling(ld) : gguf_dense(ld);
}

size_t model_vector_width(const model *m) {
    return m->n_dense ? m->dense[m->n_dense - 1].rows : m->hp.n_embd;
}
