/* SPDX-License-Identifier: MIT
 *
 * The output head: as in the file, requantised to fewer bits (head_copy.c), or staged.
 *
 * Staged (RUN_HEAD_EXACT): the recorded pass ends at the final norm. Who asks for candidates gets
 * the best rows from the device's nested planes, each with the very logit the file's head gives;
 * who asks for logits gets all of them, computed then by the file's head, for every wanted row of
 * the step at once. Both come from the same normed rows, in any order.
 */
#include "run/run_internal.h"

#include <assert.h>
#include <stdio.h>

/* ==== Requantised ============================================================================= */

/* A float head becomes int8 or 6 bits; heads that are small already stay as they are. */
uint32_t run_head_type(const run_engine *e) {
    const model_mat *w = &e->m->head;
    const bool is_float = w->type == QUANT_F32 || w->type == QUANT_F16 || w->type == QUANT_BF16;
    const bool copies = e->opt.head == RUN_HEAD_Q8 || e->opt.head == RUN_HEAD_Q6;
    if (!is_float || !copies || w->cols % 32 != 0) return w->type;
    return e->opt.head == RUN_HEAD_Q6 && w->cols % 256 == 0 ? QUANT_Q6_K : QUANT_Q8_0;
}

static rotor_status make_copy(run_engine *e, rotor_error *err) {
    const uint32_t type = run_head_type(e);
    if (type == e->m->head.type) return ROTOR_OK;
    ROTOR_TRY(run_copy_head(e, type, err));
    snprintf(e->head_name, sizeof e->head_name, "%s", type == QUANT_Q6_K ? "q6" : "q8");
    return ROTOR_OK;
}

/* ==== Staged ================================================================================== */

static rotor_status make_staged(run_engine *e, rotor_error *err) {
    const kern_mat w = run_mat(&e->m->head);
    rotor_error why;
    rotor_status st = e->m->hp.logit_cap != 0
                          ? base_fail(&why, ROTOR_E_UNSUPPORTED, "the model caps its logits")
                          : dev_add_staged(e->d, &w, &why);
    if (st == ROTOR_E_UNSUPPORTED) {
        base_log_printf(e->opt.log, BASE_LOG_WARN,
                        "no exact staged head: %s; the head is as in the file", why.message);
        return ROTOR_OK;
    }
    if (st != ROTOR_OK) {
        if (err) *err = why;
        return st;
    }
    ROTOR_TRY(dev_add_mat(e->d, &w, &e->staged_mat, err));
    e->staged = true;
    snprintf(e->head_name, sizeof e->head_name, "exact (%s)", quant_find(w.type)->name);
    return ROTOR_OK;
}

rotor_status run_make_head(run_engine *e, rotor_error *err) {
    const model_mat *w = &e->m->head;
    e->head = run_mat(w);
    e->head_bytes = w->rows * w->row_bytes;
    snprintf(e->head_name, sizeof e->head_name, "file (%s)", quant_find(w->type)->name);
    switch (e->opt.head) {
    case RUN_HEAD_FILE:
        return ROTOR_OK;
    case RUN_HEAD_EXACT:
        return make_staged(e, err);
    default:
        return make_copy(e, err);
    }
}

/* ==== What follows a step ===================================================================== */

/* Above so many rows in a step the planes, read once for every four, are no fewer bytes than the
 * file's head, read once. */
enum { MANY_ROWS = 3 * DEV_STAGED_ROWS };

const float *run_logits(run_engine *e, uint32_t i) {
    if (e->adrift) return e->no_logits;
    if (e->staged && !e->have_logits) {
        assert(i < e->n_picked);
        dev_product(e->d, e->staged_mat, e->buf.px, e->buf.logits, e->n_picked);
        e->have_logits = true;
    }
    const float *logits = dev_read(e->d, e->buf.logits, i);
    if (logits) return logits;
    /* The device has failed since the step: the CPU repeats it. */
    rotor_error err = {.message = "a session of the last step is gone: its logits are lost"};
    if (run_fall_back(e, "its results cannot be read", &err) == ROTOR_OK && e->n_rows &&
        run_step(e, &err) == ROTOR_OK)
        return run_logits(e, i);
    base_log_printf(e->opt.log, BASE_LOG_ERROR, "%s", err.message);
    return e->no_logits;
}

/* The best rows, where the device has looked for them. Tokens with a bias or a penalty would each
 * be a read of its own: all logits at once are not slower. */
static bool best_of_device(run_engine *e, uint32_t i, const run_want *want, run_found *found) {
    const uint32_t *pair;
    uint32_t n = 0;
    if (!want->k || want->n_ids) return false;
    if (dev_top(e->d, i, &pair) < want->k) {
        if (want->k > 1 || !dev_best(e->d, i, e->found_id, e->found_value)) return false;
        *found = (run_found){.id = e->found_id, .value = e->found_value, .n = 1};
        return true;
    }
    for (; n < want->k && pair[2 * n] != UINT32_MAX; n++) {
        uint32_t at = n;
        for (; at > 0 && e->found_id[at - 1] > pair[2 * n]; at--) {
            e->found_id[at] = e->found_id[at - 1];
            e->found_value[at] = e->found_value[at - 1];
        }
        e->found_id[at] = pair[2 * n];
        memcpy(&e->found_value[at], &pair[2 * n + 1], sizeof *e->found_value);
    }
    *found = (run_found){.id = e->found_id, .value = e->found_value, .n = n};
    return true;
}

bool run_candidates(run_engine *e, uint32_t i, const run_want *want, run_found *found) {
    const uint32_t tile = i / DEV_STAGED_ROWS, first = tile * DEV_STAGED_ROWS;
    if (e->adrift) return false;
    if (!e->staged) return best_of_device(e, i, want, found);
    if (e->have_logits || e->n_picked > MANY_ROWS) return false;
    assert(i < e->n_picked);
    if (e->screened != tile + 1)
        dev_screen(e->d, e->buf.px, first,
                   BASE_MIN(e->n_picked - first, (uint32_t)DEV_STAGED_ROWS));
    e->screened = tile + 1;
    return dev_find(e->d, i - first, want, found);
}

bool run_head_stats(const run_engine *e, dev_staged_stats *out) {
    if (e->staged) dev_staged_stats_get(e->d, out);
    return e->staged;
}

/* ==== What it reads =========================================================================== */

uint64_t run_head_all_bytes(const run_engine *e) { return e->head_bytes; }

uint64_t run_head_bytes(const run_engine *e) {
    dev_staged_stats st;
    if (!run_head_stats(e, &st) || !st.finds) return e->head_bytes;
    return (st.bytes + st.undecided * e->head_bytes) / st.finds;
}

uint64_t run_step_bytes(const run_engine *e) {
    return model_step_bytes(e->m, run_head_bytes(e)) + (e->opt.adapter ? e->opt.adapter->bytes : 0);
}
