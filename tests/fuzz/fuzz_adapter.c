/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: any bytes as an adapter file beside a small model, and beside its first layer alone.
 * What opens has pairs that fit the model, whose every value can be read and is a number, and
 * counts that are those of the pairs.
 */
#define _GNU_SOURCE
#include "model/model.h"

#include <math.h>

#include "input_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { D = 8, KV = 4, FF = 12, LAYERS = 2 }; /* those of the seeds */

static model_mat matrix(const char *name, size_t rows, size_t cols) {
    return (model_mat){.name = name, .type = QUANT_I2_S, .rows = rows, .cols = cols, .scale = 1};
}

static void make_model(model *m, model_layer layers[LAYERS]) {
    for (int l = 0; l < LAYERS; l++)
        layers[l] = (model_layer){.q = matrix("q", D, D),
                                  .k = matrix("k", KV, D),
                                  .v = matrix("v", KV, D),
                                  .o = matrix("o", D, D),
                                  .gate = matrix("gate", FF, D),
                                  .up = matrix("up", FF, D),
                                  .down = matrix("down", D, FF)};
    *m = (model){.arch = "bitnet-b1.58", .layers = layers, .n_layer_file = LAYERS};
    m->hp.n_layer = LAYERS;
}

static void read_all(const model_mat *w) {
    const quant_tensor view = {.type = w->type, .rows = w->rows, .cols = w->cols, .data = w->data};
    float *row = base_alloc_array(w->cols, sizeof *row);
    if (!row) abort();
    if (w->row_bytes * w->rows == 0) abort();
    for (size_t r = 0; r < w->rows; r++) {
        if (quant_decode_rows(&view, r, r + 1, row, NULL) != ROTOR_OK) abort();
        for (size_t c = 0; c < w->cols; c++)
            if (!isfinite(row[c])) abort();
    }
    base_free(row);
}

static void walk(const model_adapter *a, const model *m) {
    uint64_t pairs = 0, values = 0, bytes = 0, rank = 0;
    if (!isfinite(a->alpha)) abort();
    for (uint32_t l = 0; l < m->hp.n_layer; l++)
        for (int p = 0; p < MODEL_N_PROJ; p++) {
            const model_lora *x = &a->at[l * MODEL_N_PROJ + (uint32_t)p];
            const model_mat *w = model_proj_mat(&m->layers[l], (model_proj)p);
            if (!x->a.data != !x->b.data) abort();
            if (!x->a.data) continue;
            if (x->a.cols != w->cols || x->b.rows != w->rows || x->a.rows != x->b.cols) abort();
            if (!isfinite(model_lora_scale(a, x, 1))) abort();
            read_all(&x->a);
            read_all(&x->b);
            pairs++;
            rank = BASE_MAX(rank, (uint64_t)x->a.rows);
            values += x->a.rows * x->a.cols + x->b.rows * x->b.cols;
            bytes += x->a.rows * x->a.row_bytes + x->b.rows * x->b.row_bytes;
        }
    if (pairs != a->n_pairs || rank != a->rank || values != a->n_params || bytes != a->bytes)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static model m;
    static model_layer layers[LAYERS];
    const model_options opt = {.i2s = -1};
    const char *path = input_file_put(0, ".gguf", data, size);
    make_model(&m, layers);
    for (uint32_t n = LAYERS; n > 0; n--) {
        model_adapter *a = NULL;
        rotor_error err = {0};
        m.hp.n_layer = n;
        const rotor_status st = model_adapter_open(&a, path, &m, &opt, &err);
        if (st == ROTOR_OK)
            walk(a, &m);
        else
            must_be_told(st, &err);
        if (st != ROTOR_OK && a) abort();
        model_adapter_close(&a);
    }
    return 0;
}
