/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: any bytes as a GGUF (or safetensors) image. Whatever opens is walked completely:
 * every metadata value through every getter, every tensor byte, the decoder of every type.
 */
#include "file/file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk_kv(const file_kv *kv) {
    for (uint64_t i = 0; i < kv->n; i++) {
        uint64_t u;
        int64_t s;
        double d;
        bool b;
        base_str text;
        volatile unsigned sink = 0;
        (void)sink;
        file_kv_u64(kv, i, &u);
        file_kv_i64(kv, i, &s);
        file_kv_f64(kv, i, &d);
        file_kv_bool(kv, i, &b);
        if (file_kv_str(kv, i, &text))
            for (size_t c = 0; c < text.n; c++) sink += (uint8_t)text.p[c];
    }
}

static void walk_tensor(const file_tensor *t) {
    float row[4096];
    int8_t codes[4096];
    float scale;
    bool uniform;
    rotor_error err;
    volatile unsigned sink = 0;
    (void)sink;
    for (uint64_t i = 0; i < t->bytes; i++) sink += t->data[i];
    if (t->dims[0] > 4096) return;
    for (int order = 0; order < 3; order++) {
        quant_tensor q = {t->info->id, (quant_i2s)order, t->rows, t->dims[0], t->data};
        for (uint64_t r = 0; r < t->rows && r < 64; r++) {
            quant_decode_rows(&q, r, r + 1, row, &err);
            if (t->info->flags & QUANT_TERNARY)
                quant_ternary_row(&q, r, codes, &scale, &uniform, &err);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    file_model *m = NULL;
    rotor_error err;
    if (file_open_memory(&m, data, size, "fuzz", NULL, &err) != ROTOR_OK) return 0;
    for (size_t i = 0; i < file_n_kvs(m); i++) walk_kv(file_kv_at(m, i));
    for (size_t i = 0; i < file_n_tensors(m); i++) walk_tensor(file_tensor_at(m, i));
    file_close(&m);
    return 0;
}
