/* SPDX-License-Identifier: MIT
 *
 * What an adapter run has learnt as a GGUF adapter file, named and shaped as other programs do
 * (docs/formats.md): it loads there beside the same model, and theirs load here.
 */
#include "train/export.h"

#include <stdio.h>

static void put_keys(file_writer *w, const train_adapter *a) {
    file_put_str(w, "general.architecture", base_str_of(a->arch));
    file_put_str(w, "general.type", base_str_of("adapter"));
    file_put_str(w, "general.name", base_str_of(a->name));
    file_put_str(w, "adapter.type", base_str_of("lora"));
    file_put_f32(w, "adapter.lora.alpha", a->s->lora_alpha);
    file_put_u32(w, "general.quantization_version", 2);
}

static rotor_status declare(file_writer *w, const train_shape *s, uint32_t type, uint64_t *most,
                            rotor_error *err) {
    for (size_t i = 0; i < train_n_tensors(s); i++) {
        const train_tensor t = train_tensor_at(s, i);
        const uint64_t dims[4] = {t.cols, t.rows, 1, 1};
        char name[64], whole[80];
        uint64_t bytes;
        snprintf(whole, sizeof whole, "%s.lora_%c", export_tensor_name(&t, name),
                 t.half == TRAIN_LORA_A ? 'a' : 'b');
        ROTOR_TRY(file_declare(w, base_str_of(whole), type, 2, dims, err));
        ROTOR_TRY(quant_tensor_bytes(quant_find(type), t.rows, t.cols, &bytes, err));
        *most = BASE_MAX(*most, bytes);
    }
    return file_begin(w, err);
}

static rotor_status write_all(file_writer *w, const train_adapter *a, uint32_t type,
                              rotor_error *err) {
    const train_shape *s = a->s;
    uint64_t most = 0;
    ROTOR_TRY(declare(w, s, type, &most, err));
    uint8_t *bytes = base_alloc((size_t)most);
    rotor_status st = bytes ? ROTOR_OK : base_fail_nomem(err, "writing an adapter");
    for (size_t i = 0; st == ROTOR_OK && i < train_n_tensors(s); i++) {
        const train_tensor t = train_tensor_at(s, i);
        uint64_t n = 0;
        st = quant_encode(type, t.rows, t.cols, a->params + t.at, bytes, err);
        if (st == ROTOR_OK) st = quant_tensor_bytes(quant_find(type), t.rows, t.cols, &n, err);
        if (st == ROTOR_OK) st = file_write(w, bytes, (size_t)n, err);
    }
    base_free(bytes);
    return st == ROTOR_OK ? file_commit(w, err) : st;
}

rotor_status train_adapter_save(const char *path, const train_adapter *a, const char *type,
                                rotor_error *err) {
    const quant_info *info = quant_find_name(base_str_of(type));
    file_writer *w = NULL;
    if (!info || (info->id != QUANT_F32 && info->id != QUANT_F16 && info->id != QUANT_BF16))
        return base_fail(err, ROTOR_E_ARG,
                         "type %s cannot hold an adapter; expected F32, F16 or BF16", type);
    ROTOR_TRY(file_writer_create(&w, path, err));
    put_keys(w, a);
    rotor_status st = write_all(w, a, info->id, err);
    file_writer_free(&w);
    return st;
}
