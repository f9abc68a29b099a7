/* SPDX-License-Identifier: MIT
 *
 * Adapter files for tests.
 */
#include "lora_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "file/file.h"

static void must(bool good, const char *what) {
    if (good) return;
    fprintf(stderr, "lora_file: %s\n", what);
    abort();
}

static void put(lora_file *f, uint32_t layer, const char *role, char half, uint64_t rows,
                uint64_t cols, uint32_t type, float size) {
    must(f->n < BASE_COUNT(f->parts), "too many tensors");
    lora_part *p = &f->parts[f->n++];
    *p = (lora_part){.type = type, .rows = rows, .cols = cols, .size = size};
    snprintf(p->name, sizeof p->name, "blk.%u.%s.weight.lora_%c", layer, role, half);
}

void lora_file_start(lora_file *f, const char *arch, tiny_shape s, uint32_t rank, uint32_t type,
                     float b) {
    const uint32_t d = s.n_embd, kv = d / s.n_head * s.n_head_kv, ff = s.n_ff;
    const struct {
        const char *role;    /* projection */
        uint64_t rows, cols; /* of its matrix */
    } list[] = {{"attn_q", d, d},    {"attn_k", kv, d}, {"attn_v", kv, d},  {"attn_output", d, d},
                {"ffn_gate", ff, d}, {"ffn_up", ff, d}, {"ffn_down", d, ff}};
    *f = (lora_file){.arch = arch, .type = "adapter", .kind = "lora", .alpha = 2 * (float)rank};
    for (uint32_t l = 0; l < s.n_layer; l++)
        for (size_t i = 0; i < BASE_COUNT(list); i++) {
            put(f, l, list[i].role, 'a', rank, list[i].cols, type, 1 / sqrtf((float)list[i].cols));
            put(f, l, list[i].role, 'b', list[i].rows, rank, type, b);
        }
}

lora_part *lora_file_part(lora_file *f, const char *name) {
    for (size_t i = 0; i < f->n; i++)
        if (strcmp(f->parts[i].name, name) == 0) return &f->parts[i];
    must(false, name);
    return NULL;
}

void lora_file_drop(lora_file *f, const char *name) {
    *lora_file_part(f, name) = f->parts[f->n - 1];
    f->n--;
}

static void write_part(file_writer *w, const lora_part *p, base_rng *rng) {
    uint64_t bytes;
    rotor_error err = {0};
    must(quant_tensor_bytes(quant_find(p->type), p->rows, p->cols, &bytes, &err) == ROTOR_OK,
         err.message);
    float *x = base_alloc_array(p->rows * p->cols, sizeof *x);
    uint8_t *out = base_alloc(bytes);
    for (uint64_t i = 0; i < p->rows * p->cols; i++)
        x[i] = p->size == 0 ? 0 : (isnan(p->size) ? 1 : p->size) * base_rng_normal(rng);
    if (isnan(p->size)) x[p->rows * p->cols / 2] = NAN;
    must(quant_encode(p->type, p->rows, p->cols, x, out, &err) == ROTOR_OK, err.message);
    must(file_write(w, out, bytes, &err) == ROTOR_OK, err.message);
    base_free(x);
    base_free(out);
}

void lora_file_write(const lora_file *f, const char *path, uint64_t seed) {
    file_writer *w = NULL;
    rotor_error err = {0};
    base_rng rng;
    base_rng_seed(&rng, seed);
    must(file_writer_create(&w, path, &err) == ROTOR_OK, err.message);
    file_put_str(w, "general.architecture", base_str_of(f->arch));
    if (f->type) file_put_str(w, "general.type", base_str_of(f->type));
    file_put_str(w, "adapter.type", base_str_of(f->kind));
    if (!f->no_alpha) file_put_f32(w, "adapter.lora.alpha", f->alpha);
    if (f->more) file_put_str(w, f->more, base_str_of("x"));
    for (size_t i = 0; i < f->n; i++) {
        const lora_part *p = &f->parts[i];
        const uint64_t dims[4] = {p->cols, p->rows, 1, 1};
        must(file_declare(w, base_str_of(p->name), p->type, 2, dims, &err) == ROTOR_OK,
             err.message);
    }
    must(file_begin(w, &err) == ROTOR_OK, err.message);
    for (size_t i = 0; i < f->n; i++) write_part(w, &f->parts[i], &rng);
    must(file_commit(w, &err) == ROTOR_OK, err.message);
    file_writer_free(&w);
}
