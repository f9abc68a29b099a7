/* SPDX-License-Identifier: MIT
 *
 * A master as the start of a run: a GGUF file or a HF folder of the BitNet architecture whose
 * projections are shadow weights in a float type. train_export_gguf writes such files; published
 * models have folders of them in BF16. What the file holds becomes the shadow weights as it is: the
 * forward pass rounds it, as the engine does.
 *
 * Rounded weights are refused, packed or written out as floats: they have no distance from the
 * rounding's borders any more, and the mean magnitude of their products with the scale is not the
 * scale.
 */
#include "train/of_model.h"
#include "train/pass.h"

#define WHAT_TO_DO                                                                                 \
    "; fine-tuning starts from float masters: the model's BF16 folder, or the file that rotor "    \
    "train --master writes; --lora RANK learns an adapter beside this model"

static bool is_float(uint32_t type) {
    return type == QUANT_F32 || type == QUANT_F16 || type == QUANT_BF16;
}

/* ==== Opening ================================================================================= */

static rotor_status check_type(const model *m, const model_mat *w, rotor_error *err) {
    const quant_info *info = quant_find(w->type);
    if (!is_float(w->type))
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s: tensor %s is %s%s: its masters are gone" WHAT_TO_DO,
                         file_path(m->file), w->name, info->name,
                         info->flags & QUANT_TERNARY || w->type == QUANT_U8 ? ", ternary" : "");
    if (w->scale != 1.0f)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s: tensor %s has a scale beside it, so it was rounded before" WHAT_TO_DO,
                         file_path(m->file), w->name);
    return ROTOR_OK;
}

/* Zero and one magnitude: a ternary matrix written out. */
static bool is_rounded(const float *x, size_t n) {
    float magnitude = 0;
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        const float a = x[i] < 0 ? -x[i] : x[i];
        if (a == 0) continue;
        if (count++ && a != magnitude) return false;
        magnitude = a;
    }
    return count > 1;
}

enum { LOOK_ROWS = 64 }; /* a hundredth of a second of a large matrix, and proof enough */

static rotor_status check_values(const model *m, rotor_error *err) {
    const model_mat *w = &m->layers[0].q;
    const size_t rows = BASE_MIN(w->rows, (size_t)LOOK_ROWS);
    const quant_tensor view = {.type = w->type, .rows = w->rows, .cols = w->cols, .data = w->data};
    float *x = base_alloc_array(rows * w->cols, sizeof *x);
    if (!x) return base_fail_nomem(err, "opening a master");
    rotor_status st = quant_decode_rows(&view, 0, rows, x, err);
    if (st == ROTOR_OK && is_rounded(x, rows * w->cols))
        st = base_fail(err, ROTOR_E_UNSUPPORTED,
                       "%s: tensor %s holds rounded weights, three values in %s" WHAT_TO_DO,
                       file_path(m->file), w->name, quant_find(w->type)->name);
    base_free(x);
    return st;
}

static rotor_status check_words(const model *m, rotor_error *err) {
    const char *path = file_path(m->file), *why_not = NULL;
    if (!m->vocab)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s: no vocabulary in it%s, and texts cannot become tokens without one",
                         path, file_kind_of(m->file) == FILE_GGUF ? "" : " (tokenizer.json)");
    if (m->hp.n_vocab < text_n_tokens(m->vocab))
        return base_fail(err, ROTOR_E_FORMAT, "%s: %u rows in the embedding for %zu tokens", path,
                         m->hp.n_vocab, text_n_tokens(m->vocab));
    if (file_kind_of(m->file) == FILE_GGUF) return ROTOR_OK;
    ROTOR_TRY(model_put_vocab(NULL, m, &why_not, err));
    return why_not
               ? base_fail(err, ROTOR_E_UNSUPPORTED,
                           "%s: a model trained from it could not be written: %s", path, why_not)
               : ROTOR_OK;
}

/* Floats of a folder that does not say they are to be rounded are weights of another network. */
static bool is_dense(const model *m) {
    return m->hp.sub_norms && m->hp.glu == MODEL_RELU2 && !m->latent &&
           is_float(m->layers[0].q.type);
}

static rotor_status check(const model *m, rotor_error *err) {
    const char *path = file_path(m->file), *foreign = of_model_foreign_part(m);
    if (is_dense(m))
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s: config.json does not say that its float projections are to be "
                         "rounded; expected quantization_config with quantization_mode \"online\"",
                         path);
    if (foreign)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s: a model of architecture %s cannot be fine-tuned (%s); expected "
                         "bitnet-b1.58 with float projections",
                         path, m->arch, foreign);
    for (uint32_t l = 0; l < m->hp.n_layer; l++)
        for (int p = 0; p < MODEL_N_PROJ; p++)
            ROTOR_TRY(check_type(m, model_proj_mat(&m->layers[l], (model_proj)p), err));
    ROTOR_TRY(check_values(m, err));
    return check_words(m, err);
}

rotor_status train_start_open(model **out, const char *path, const base_log *log,
                              rotor_error *err) {
    const model_options opt = {.i2s = -1, .as_stored = true, .log = log};
    model *m = NULL;
    ROTOR_TRY(model_open(&m, path, &opt, err));
    rotor_status st = check(m, err);
    if (st == ROTOR_OK)
        *out = m;
    else
        model_close(&m);
    return st;
}

void train_start_shape(const model *m, train_shape *s) {
    of_model_shape(m, s);
    if (!s->n_ctx) s->n_ctx = m->hp.n_ctx;
}

/* ==== Reading ================================================================================= */

rotor_status train_start_params(const model *m, const train_shape *s, float *params,
                                rotor_error *err) {
    for (size_t i = 0; i < train_n_tensors(s); i++) {
        const train_tensor t = train_tensor_at(s, i);
        float *dst = params + t.at;
        if (train_is_ternary(t.role)) {
            const model_mat *w = model_proj_mat(&m->layers[t.layer], train_proj_of(t.role));
            ROTOR_TRY(of_model_floats(m, w, dst, err));
        } else if (t.role == TRAIN_EMBD) {
            ROTOR_TRY(of_model_floats(m, &m->embd, dst, err));
        } else {
            memcpy(dst, of_model_norm(m, t.role, t.layer), t.cols * sizeof *dst);
        }
    }
    return ROTOR_OK;
}
