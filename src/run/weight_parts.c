/* SPDX-License-Identifier: MIT
 *
 * Every matrix that steps read, by the name it has in the file, with its layer: so that a check can
 * say where what it found is. What the engine holds twice (a tied head) is listed once; its copy of
 * the head is a part of its own. Norms and biases are copies the model made and looked at when it
 * was loaded, and no parts.
 */
#include "run/run_internal.h"

#include <math.h>
#include <stdio.h>

static uint64_t bytes_of(const kern_mat *w) {
    if (w->type == QUANT_T5) return quant_t5_code_bytes(w->rows, w->cols);
    if (w->type == KERN_Q8X16) return kern_q8x16_bytes(w->rows, w->cols);
    return (uint64_t)w->rows * w->row_bytes;
}

static rotor_status add(run_parts *p, const char *name, uint32_t layer, const kern_mat *w,
                        rotor_error *err) {
    if (!w->data) return ROTOR_OK;
    for (size_t i = 0; i < p->n; i++)
        if (p->list[i].w.data == w->data) return ROTOR_OK;
    run_part *list = base_realloc(p->list, (p->n + 1) * sizeof *list);
    if (!list) return base_fail_nomem(err, "listing weights");
    p->list = list;
    list[p->n] = (run_part){.name = name, .layer = layer, .w = *w, .bytes = bytes_of(w)};
    p->bytes += list[p->n++].bytes;
    return ROTOR_OK;
}

static rotor_status add_mat(run_parts *p, uint32_t layer, const model_mat *w, rotor_error *err) {
    const kern_mat mat = run_mat(w);
    return add(p, w->name ? w->name : "?", layer, &mat, err);
}

static rotor_status add_layer(run_parts *p, const run_engine *e, uint32_t l, rotor_error *err) {
    const model_layer *w = &e->m->layers[l];
    const model_mat *const mats[] = {
        &w->q,    &w->k,      &w->v,           &w->o,         &w->gate,        &w->up,
        &w->down, &w->router, &w->shared_gate, &w->shared_up, &w->shared_down, &w->shared_by};
    for (size_t i = 0; i < BASE_COUNT(mats); i++) ROTOR_TRY(add_mat(p, l, mats[i], err));
    for (size_t i = 0; e->opt.adapter && i < MODEL_N_PROJ; i++) {
        const model_lora *pair = &e->opt.adapter->at[l * (size_t)MODEL_N_PROJ + i];
        ROTOR_TRY(add_mat(p, l, &pair->a, err));
        ROTOR_TRY(add_mat(p, l, &pair->b, err));
    }
    return ROTOR_OK;
}

rotor_status run_list_parts(run_parts *p, const run_engine *e, rotor_error *err) {
    const model *m = e->m;
    ROTOR_TRY(add_mat(p, UINT32_MAX, &m->embd, err));
    for (uint32_t l = 0; l < m->hp.n_layer; l++) ROTOR_TRY(add_layer(p, e, l, err));
    ROTOR_TRY(add_mat(p, UINT32_MAX, &m->head, err));
    return add(p, "output (requantised)", UINT32_MAX, &e->head, err);
}

void run_free_parts(run_parts *p) {
    base_free(p->list);
    *p = (run_parts){0};
}

const run_part *run_part_at(const run_parts *p, const uint8_t *data) {
    for (size_t i = 0; i < p->n; i++)
        if (data >= p->list[i].w.data && data < p->list[i].w.data + p->list[i].bytes)
            return &p->list[i];
    return NULL;
}

/* Ternary codes are numbers whatever they are; their scale need not be. */
static bool bad_in_part(const run_part *part, float *row, run_bad *out) {
    const kern_mat *w = &part->w;
    const quant_info *info = quant_find(w->type);
    *out = (run_bad){.part = part, .value = w->scale};
    if (!isfinite(w->scale)) return true;
    if (w->type == QUANT_I2_S || w->type == QUANT_T5 || w->type == KERN_Q8X16 || !info ||
        !(info->flags & QUANT_CAN_DECODE))
        return false;
    for (size_t r = 0; r < w->rows; r++) {
        const quant_tensor one = {
            .type = w->type, .rows = 1, .cols = w->cols, .data = w->data + r * w->row_bytes};
        if (quant_decode_rows(&one, 0, 1, row, NULL) != ROTOR_OK) return false;
        for (size_t c = 0; c < w->cols; c++)
            if (!isfinite(row[c])) return *out = (run_bad){part, row[c], r, c}, true;
    }
    return false;
}

bool run_find_bad(const run_parts *p, run_bad *out) {
    size_t cols = 1;
    for (size_t i = 0; i < p->n; i++) cols = BASE_MAX(cols, p->list[i].w.cols);
    float *row = base_alloc_array(cols, sizeof *row);
    bool found = false;
    for (size_t i = 0; row && !found && i < p->n; i++) found = bad_in_part(&p->list[i], row, out);
    base_free(row);
    return found;
}
