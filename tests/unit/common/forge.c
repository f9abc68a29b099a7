/* SPDX-License-Identifier: MIT
 *
 * One-layer models for tests, tensor by tensor.
 */
#include "forge.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tiny_model.h"

static void must(bool good, const char *what, const rotor_error *err) {
    if (good) return;
    fprintf(stderr, "forge: %s: %s\n", what, err ? err->message : "");
    abort();
}

/* ==== Tensors
 * ====================================================================================== */

forge_part *forge_part_of(forge *f, const char *name) {
    for (size_t i = 0; i < f->n_parts; i++)
        if (strcmp(f->parts[i].name, name) == 0) return &f->parts[i];
    return NULL;
}

uint8_t *forge_put_bytes(forge *f, const char *name, uint32_t type, uint64_t rows, uint64_t cols) {
    forge_part *p = forge_part_of(f, name);
    rotor_error err = {0};
    must(p || f->n_parts < BASE_COUNT(f->parts), name, NULL);
    if (!p) p = &f->parts[f->n_parts++];
    base_free(p->bytes);
    *p = (forge_part){.type = type, .rows = rows, .cols = cols};
    snprintf(p->name, sizeof p->name, "%s", name);
    must(quant_tensor_bytes(quant_find(type), rows, cols, &p->n_bytes, &err) == ROTOR_OK, name,
         &err);
    p->bytes = base_alloc(p->n_bytes);
    must(p->bytes != NULL, name, NULL);
    return p->bytes;
}

void forge_put(forge *f, const char *name, uint32_t type, uint64_t rows, uint64_t cols,
               const float *x) {
    uint8_t *dst = forge_put_bytes(f, name, type, rows, cols);
    const bool ternary = quant_find(type)->flags & QUANT_TERNARY;
    const float unit = 1 / sqrtf((float)cols);
    float *made = base_alloc_array(rows * cols, sizeof *made);
    rotor_error err = {0};
    for (uint64_t i = 0; made && i < rows * cols; i++) {
        float v = base_rng_normal(&f->rng);
        made[i] = rows == 1 ? 1 + 0.2f * v
                  : ternary ? (v > 0.5f    ? unit
                               : v < -0.5f ? -unit
                                           : 0)
                            : v * unit;
    }
    must(made && quant_encode(type, rows, cols, x ? x : made, dst, &err) == ROTOR_OK, name, &err);
    base_free(made);
}

void forge_drop(forge *f, const char *name) {
    forge_part *p = forge_part_of(f, name);
    must(p != NULL, name, NULL);
    base_free(p->bytes);
    *p = f->parts[--f->n_parts];
    f->parts[f->n_parts].bytes = NULL; /* they have moved */
}

void forge_start(forge *f, const char *arch, uint32_t type) {
    static const struct {
        const char *name; /* role */
        uint64_t rows;    /* outputs */
    } mats[] = {{"attn_q", 256},   {"attn_k", 128}, {"attn_v", 128},  {"attn_output", 256},
                {"ffn_gate", 256}, {"ffn_up", 256}, {"ffn_down", 256}},
      norms[] = {{"attn_norm", 1}, {"ffn_norm", 1}, {"attn_sub_norm", 1}, {"ffn_sub_norm", 1}};
    char name[80];
    memset(f, 0, sizeof *f);
    f->arch = arch;
    base_rng_seed(&f->rng, 5);
    forge_put(f, "token_embd.weight", QUANT_F16, FORGE_V, FORGE_D, NULL);
    forge_put(f, "output_norm.weight", QUANT_F32, 1, FORGE_D, NULL);
    for (size_t i = 0; i < BASE_COUNT(mats); i++) {
        snprintf(name, sizeof name, "blk.0.%s.weight", mats[i].name);
        forge_put(f, name, type, mats[i].rows, 256, NULL);
    }
    for (size_t i = 0; i < (strncmp(arch, "bitnet", 6) == 0 ? 4 : 2); i++) {
        snprintf(name, sizeof name, "blk.0.%s.weight", norms[i].name);
        forge_put(f, name, QUANT_F32, 1, 256, NULL);
    }
    forge_u32(f, ".block_count", 1);
    forge_u32(f, ".embedding_length", 256);
    forge_u32(f, ".feed_forward_length", 256);
    forge_u32(f, ".context_length", 512);
    forge_u32(f, ".attention.head_count", 4);
    forge_u32(f, ".attention.head_count_kv", 2);
}

void forge_end(forge *f) {
    for (size_t i = 0; i < f->n_parts; i++) base_free(f->parts[i].bytes);
    if (f->path[0]) unlink(f->path);
}

/* ==== Metadata
 * ====================================================================================== */

static forge_key *key_of(forge *f, const char *key, file_kv_type type) {
    size_t i = 0;
    while (i < f->n_keys && strcmp(f->keys[i].key, key) != 0) i++;
    must(i < BASE_COUNT(f->keys), key, NULL);
    if (i == f->n_keys) f->n_keys++;
    f->keys[i] = (forge_key){.type = type};
    snprintf(f->keys[i].key, sizeof f->keys[i].key, "%s", key);
    return &f->keys[i];
}

void forge_u32(forge *f, const char *key, uint32_t v) { key_of(f, key, FILE_U32)->number = v; }
void forge_f32(forge *f, const char *key, float v) { key_of(f, key, FILE_F32)->number = (double)v; }
void forge_str(forge *f, const char *key, const char *v) { key_of(f, key, FILE_STR)->text = v; }

void forge_list(forge *f, const char *key, uint32_t a, uint32_t b) {
    forge_key *k = key_of(f, key, FILE_ARR);
    k->list[0] = a;
    k->list[1] = b;
}

static rotor_status put_key(file_writer *w, const char *arch, const forge_key *k) {
    char key[160];
    snprintf(key, sizeof key, "%s%s", k->key[0] == '.' ? arch : "", k->key);
    if (k->type == FILE_U32) return file_put_u32(w, key, (uint32_t)k->number);
    if (k->type == FILE_F32) return file_put_f32(w, key, (float)k->number);
    if (k->type == FILE_STR) return file_put_str(w, key, base_str_of(k->text));
    return file_put_array(w, key, FILE_U32, k->list, 2);
}

/* ==== The file
 * ====================================================================================== */

rotor_status forge_open(forge *f, model **out, const model_options *opt, rotor_error *err) {
    file_writer *w = NULL;
    rotor_error oops = {0};
    tiny_path(f->path, "forge.gguf");
    must(file_writer_create(&w, f->path, &oops) == ROTOR_OK, "create", &oops);
    must(file_put_str(w, "general.architecture", base_str_of(f->arch)) == ROTOR_OK, "metadata",
         NULL);
    for (size_t i = 0; i < f->n_keys; i++)
        must(put_key(w, f->arch, &f->keys[i]) == ROTOR_OK, f->keys[i].key, NULL);
    for (size_t i = 0; i < f->n_parts; i++) {
        const forge_part *p = &f->parts[i];
        const uint64_t dims[4] = {p->cols, p->rows, 1, 1};
        must(file_declare(w, base_str_of(p->name), p->type, p->rows > 1 ? 2 : 1, dims, &oops) ==
                 ROTOR_OK,
             p->name, &oops);
    }
    must(file_begin(w, &oops) == ROTOR_OK, "begin", &oops);
    for (size_t i = 0; i < f->n_parts; i++)
        must(file_write(w, f->parts[i].bytes, f->parts[i].n_bytes, &oops) == ROTOR_OK,
             f->parts[i].name, &oops);
    must(file_commit(w, &oops) == ROTOR_OK, "commit", &oops);
    file_writer_free(&w);
    return model_open(out, f->path, opt, err);
}
