/* SPDX-License-Identifier: MIT
 *
 * A master as the start of a run: a GGUF model of the BitNet architecture whose projections are
 * shadow weights in a float type, as train_export_gguf writes it.
 *
 * A ternary file is refused: its weights have no distance from the rounding's borders any more, and
 * the mean magnitude of their products with the scale is not the scale.
 */
#include "train/export.h"

#include <math.h>
#include <stdio.h>

#define ARCH "bitnet-b1.58"

static rotor_status number(const file_model *f, const char *tail, double *out, rotor_error *err) {
    char key[96];
    snprintf(key, sizeof key, ARCH ".%s", tail);
    const file_kv *kv = file_kv_find(f, key);
    if (kv && file_kv_f64(kv, 0, out) && *out >= 0 && *out < 1e9) return ROTOR_OK;
    return base_fail(err, ROTOR_E_FORMAT, "%s: metadata key %s is missing or no fitting number",
                     file_path(f), key);
}

rotor_status train_start_shape(const file_model *f, train_shape *s, rotor_error *err) {
    const file_kv *arch = file_kv_find(f, "general.architecture");
    const file_tensor *embd = file_tensor_find(f, "token_embd.weight");
    base_str name = {0};
    struct {
        const char *tail; /* of the key */
        uint32_t *field;  /* goes to */
    } counts[] = {{"context_length", &s->n_ctx},        {"embedding_length", &s->n_embd},
                  {"block_count", &s->n_layer},         {"feed_forward_length", &s->n_ff},
                  {"attention.head_count", &s->n_head}, {"attention.head_count_kv", &s->n_head_kv},
                  {"rope.dimension_count", &s->d_head}};
    double v;
    if (!arch || !file_kv_str(arch, 0, &name) || !base_str_is(name, ARCH) || !embd)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s: no model of architecture " ARCH " with weights in it", file_path(f));
    if (file_tensor_find(f, "output.weight"))
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s: the head is not the embedding; such models cannot be fine-tuned",
                         file_path(f));
    for (size_t i = 0; i < BASE_COUNT(counts); i++) {
        ROTOR_TRY(number(f, counts[i].tail, &v, err));
        *counts[i].field = (uint32_t)v;
    }
    ROTOR_TRY(number(f, "attention.layer_norm_rms_epsilon", &v, err));
    s->eps = (float)v;
    ROTOR_TRY(number(f, "rope.freq_base", &v, err));
    s->rope_base = (float)v;
    s->n_vocab = (uint32_t)BASE_MIN(embd->rows, (uint64_t)UINT32_MAX);
    return ROTOR_OK;
}

static rotor_status read_tensor(const file_model *f, const train_tensor *t, float *dst,
                                rotor_error *err) {
    char name[64];
    const file_tensor *x = file_tensor_find(f, export_tensor_name(t, name));
    if (!x) return base_fail(err, ROTOR_E_FORMAT, "%s: tensor %s is missing", file_path(f), name);
    if (x->dims[0] != t->cols || x->rows != t->rows)
        return base_fail(err, ROTOR_E_FORMAT, "%s: tensor %s is %llu x %llu, expected %u x %u",
                         file_path(f), name, (unsigned long long)x->rows,
                         (unsigned long long)x->dims[0], t->rows, t->cols);
    if (train_is_ternary(t->role) && x->info->block_elems != 1)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s: tensor %s is %s; fine-tuning starts from the float master that rotor "
                         "train --master writes; --lora RANK learns an adapter beside this model",
                         file_path(f), name, x->info->name);
    if (!(x->info->flags & QUANT_CAN_DECODE))
        return base_fail(err, ROTOR_E_UNSUPPORTED, "%s: tensor %s of type %s cannot be read",
                         file_path(f), name, x->info->name);
    const quant_tensor view = {
        .type = x->info->id, .rows = x->rows, .cols = t->cols, .data = x->data};
    ROTOR_TRY(quant_decode_rows(&view, 0, x->rows, dst, err));
    for (size_t i = 0; i < (size_t)t->rows * t->cols; i++)
        if (!isfinite(dst[i]))
            return base_fail(err, ROTOR_E_FORMAT, "%s: tensor %s: value %zu is not a number",
                             file_path(f), name, i);
    return ROTOR_OK;
}

rotor_status train_start_params(const file_model *f, const train_shape *s, float *params,
                                rotor_error *err) {
    for (size_t i = 0; i < train_n_tensors(s); i++) {
        const train_tensor t = train_tensor_at(s, i);
        ROTOR_TRY(read_tensor(f, &t, params + t.at, err));
    }
    return ROTOR_OK;
}
