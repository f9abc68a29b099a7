/* SPDX-License-Identifier: MIT
 *
 * The known answer: before a device gets anything to do, a row is normed and quantised on it and
 * multiplied with a ternary matrix, and every output is compared with what plain C computes here.
 * Drivers that compile a kernel wrongly exist; a model on one of them talks gibberish and nobody
 * knows why. One list, two dispatches, the very kernels that a decode step of BitNet begins with.
 *
 * The row is made backwards: from the int8 codes that must come out, over the gains of the norm.
 * No code lies near a tie, so its rounding does not depend on the last bit of the norm, and an
 * output times its scale is a whole number: one wrong product anywhere shows.
 *
 * Where the device multiplies matrices of int8 (facts.matrix), a second product of 64 tokens is
 * checked. Without them it can do all the same, so they alone are given up.
 */
#include "dev/gpu/dev_gpu.h"

#include <math.h>

enum {
    ROWS = 64,
    COLS = 256,
    N_U = COLS / 16,
    SPREAD = 253, /* of the codes: -126 ... 126, and 127 */
    TOKENS = GPU_MM_TOKENS,
    STRIDE = 16,                              /* bytes from one token's row to the next one's */
    MANY_BYTES = COLS + (TOKENS - 1) * STRIDE /* the rows overlap */
};

#define EPS      1e-5f
#define TOLERATE 0.25 /* of a whole number; the largest are some thousands */

/* The problem and its answer. */
typedef struct known {
    uint32_t step[GPU_STEP_HEADER]; /* one row */
    float x[COLS], gain[COLS];      /* the row; the norm's gain */
    int8_t code[COLS];              /* what it is quantised to */
    int8_t w[ROWS][COLS];           /* ternary values */
    uint32_t packed[ROWS * N_U];    /* the same for the device */
    float rs[ROWS];                 /* scales of rows */
    int32_t sum[ROWS];              /* answer, a whole number … */
    double unit[ROWS];              /* … times this */
} known;

/* What the check takes on the device. */
typedef struct memories {
    gpu_mem *step, *x, *gain, *q, *xs, *w, *rs, *y; /* as kernels take them */
    gpu_mem *many, *sums, *ys;                      /* codes, scales and results of many tokens */
    gpu_list *list;                                 /* both dispatches */
} memories;

static void make_weights(known *k, base_rng *rng) {
    uint8_t t2[ROWS][COLS / 4];
    for (size_t r = 0; r < ROWS; r++) {
        k->rs[r] = 0.5f + (float)base_rng_double(rng);
        for (size_t c = 0; c < COLS; c++) k->w[r][c] = (int8_t)((int)base_rng_below(rng, 3) - 1);
        quant_t2_pack_row(k->w[r], COLS, t2[r]);
    }
    const kern_mat m = {.data = t2[0],
                        .type = QUANT_I2_S,
                        .rows = ROWS,
                        .cols = COLS,
                        .row_bytes = sizeof t2[0],
                        .scale = 1,
                        .row_scale = k->rs};
    gpu_pack(&m, GPU_T2, 0, ROWS / GPU_ROWS, k->packed);
}

static void make_row(known *k, base_rng *rng) {
    for (size_t c = 0; c < COLS; c++) {
        const int code = (int)base_rng_below(rng, SPREAD) - SPREAD / 2;
        k->code[c] = (int8_t)(c == COLS / 3 ? 127 : code); /* the largest is the scale */
        k->gain[c] = 0.25f + 2 * (float)base_rng_double(rng);
        k->x[c] = 0.03f * (float)k->code[c] / k->gain[c];
    }
}

static void answer(known *k) {
    double squares = 0, most = 0;
    for (size_t c = 0; c < COLS; c++) squares += (double)k->x[c] * k->x[c];
    const double inverse = 1 / sqrt(squares / COLS + (double)EPS);
    for (size_t c = 0; c < COLS; c++) {
        const double v = k->x[c] * inverse * k->gain[c];
        most = BASE_MAX(most, v < 0 ? -v : v);
    }
    for (size_t r = 0; r < ROWS; r++) {
        k->sum[r] = 0;
        for (size_t c = 0; c < COLS; c++) k->sum[r] += k->w[r][c] * k->code[c];
        k->unit[r] = most / 127 * k->rs[r];
    }
}

static void make_known(known *k) {
    base_rng rng;
    base_rng_seed(&rng, 64256);
    memset(k, 0, sizeof *k);
    k->step[GPU_STEP_ROWS] = 1;
    k->step[GPU_STEP_PICKED] = TOKENS;
    make_weights(k, &rng);
    make_row(k, &rng);
    answer(k);
}

/* ==== On the device =========================================================================== */

static rotor_status put(dev_gpu *d, const void *data, size_t bytes, gpu_mem **out,
                        rotor_error *err) {
    ROTOR_TRY(d->api->alloc(d->g, bytes, false, out, err));
    return data ? d->api->write(d->g, *out, 0, data, bytes, err) : ROTOR_OK;
}

static rotor_status make_memories(dev_gpu *d, const known *k, memories *m, rotor_error *err) {
    ROTOR_TRY(put(d, k->step, sizeof k->step, &m->step, err));
    ROTOR_TRY(put(d, k->x, sizeof k->x, &m->x, err));
    ROTOR_TRY(put(d, k->gain, sizeof k->gain, &m->gain, err));
    ROTOR_TRY(put(d, k->packed, sizeof k->packed, &m->w, err));
    ROTOR_TRY(put(d, k->rs, sizeof k->rs, &m->rs, err));
    ROTOR_TRY(put(d, NULL, COLS, &m->q, err));
    ROTOR_TRY(put(d, NULL, COLS / 32 * sizeof(float), &m->xs, err));
    return put(d, NULL, ROWS * sizeof(float), &m->y, err);
}

static void free_memories(dev_gpu *d, memories *m) {
    gpu_mem *const all[] = {m->step, m->x, m->gain, m->q,    m->xs, m->w,
                            m->rs,   m->y, m->many, m->sums, m->ys};
    d->api->list_free(d->g, m->list);
    for (size_t i = 0; i < BASE_COUNT(all); i++) d->api->mem_free(d->g, all[i]);
}

/* The norm with quantisation, then the product: compiled as dev_gpu_lower.c has them. */
static rotor_status make_list(dev_gpu *d, memories *m, rotor_error *err) {
    const uint32_t row_spec[] = {256, ROW_NORM | ROW_I8};
    const uint32_t mv_spec[] = {d->g->facts.subgroup == 1 ? 1 : 256, 1, 0, 0, GPU_T2, 1};
    const gpu_row_params row = {
        .width = COLS, .a_ld = COLS, .q_ld = COLS / 4, .xs_ld = COLS / 32, .eps = EPS};
    const gpu_product_params mv = {
        .rows = ROWS, .cols = COLS, .n_u = N_U, .x_ld = COLS / 4, .xs_ld = COLS / 32, .y_ld = ROWS};
    gpu_dispatch list[2] = {{.groups = {1, 1, 1},
                             .n_binds = 7,
                             .bind = {m->step, m->x, m->x, m->gain, m->y, m->q, m->xs},
                             .n_params = sizeof row / 4},
                            {.groups = {ROWS / GPU_ROWS, 1, 1},
                             .n_binds = 6,
                             .bind = {m->step, m->w, m->q, m->xs, m->rs, m->y},
                             .n_params = sizeof mv / 4}};
    memcpy(list[0].param, &row, sizeof row);
    memcpy(list[1].param, &mv, sizeof mv);
    ROTOR_TRY(gpu_get_kernel(d, "row", row_spec, BASE_COUNT(row_spec), 7, sizeof row / 4,
                             &list[0].kernel, err));
    ROTOR_TRY(gpu_get_kernel(d, "mv_t2", mv_spec, BASE_COUNT(mv_spec), 6, sizeof mv / 4,
                             &list[1].kernel, err));
    return d->api->list_make(d->g, list, 2, NULL, 0, m->y, ROWS * sizeof(float), &m->list, err);
}

static rotor_status compare(const dev_gpu *d, const known *k, const float *y, rotor_error *err) {
    for (size_t r = 0; r < ROWS; r++) {
        const double off = y[r] / k->unit[r] - k->sum[r];
        if (off >= -TOLERATE && off <= TOLERATE) continue; /* NaN is neither */
        return base_fail(err, ROTOR_E_DEVICE,
                         "device %s computes wrong answers: output %zu of a known product is %g, "
                         "expected %g; its driver is %s",
                         d->g->facts.name, r, (double)y[r], k->sum[r] * k->unit[r],
                         d->g->facts.driver);
    }
    return ROTOR_OK;
}

/* ==== Matrices ================================================================================ */

/* What many tokens bring, and the answer. */
typedef struct many {
    int8_t x[MANY_BYTES];   /* as it is stored; token t's row begins at STRIDE t */
    float scale[TOKENS][2]; /* 1, and the sum of the row as bits */
    float y[TOKENS][ROWS];  /* outputs */
} many;

/* The column of byte b of a stored row: word m * 4 + j of a block holds columns of word j * 8 + m.
 */
static size_t column_of(size_t b) {
    const size_t word = b % 128 / 4;
    return b / 128 * 128 + (word % 4 * 8 + word / 4) * 4 + b % 4;
}

static void make_many(many *a) {
    base_rng rng;
    base_rng_seed(&rng, 6464);
    for (size_t i = 0; i < MANY_BYTES; i++)
        a->x[i] = (int8_t)((int)base_rng_below(&rng, SPREAD) - SPREAD / 2);
    for (size_t t = 0; t < TOKENS; t++) {
        int32_t sum = 0;
        for (size_t b = 0; b < COLS; b++) sum += a->x[t * STRIDE + b];
        a->scale[t][0] = 1;
        memcpy(&a->scale[t][1], &sum, sizeof sum);
    }
}

static rotor_status run_many(dev_gpu *d, many *a, memories *m, rotor_error *err) {
    const uint32_t spec[] = {256, 1, 0, 0, GPU_T2, 1, d->g->facts.matrix};
    const gpu_product_params p = {.count_at = GPU_STEP_PICKED,
                                  .rows = ROWS,
                                  .cols = COLS,
                                  .n_u = N_U,
                                  .x_ld = STRIDE / 4,
                                  .xs_ld = 2,
                                  .y_ld = ROWS};
    ROTOR_TRY(put(d, a->x, sizeof a->x, &m->many, err));
    ROTOR_TRY(put(d, a->scale, sizeof a->scale, &m->sums, err));
    ROTOR_TRY(put(d, NULL, sizeof a->y, &m->ys, err));
    gpu_dispatch one = {.groups = {ROWS / GPU_MM_ROWS, 1, 1},
                        .n_binds = 6,
                        .bind = {m->step, m->w, m->many, m->sums, m->rs, m->ys},
                        .n_params = sizeof p / 4};
    memcpy(one.param, &p, sizeof p);
    ROTOR_TRY(gpu_get_kernel(d, "mm_t2_matrix", spec, BASE_COUNT(spec), 6, sizeof p / 4,
                             &one.kernel, err));
    d->api->list_free(d->g, m->list);
    m->list = NULL;
    ROTOR_TRY(d->api->list_make(d->g, &one, 1, NULL, 0, m->ys, sizeof a->y, &m->list, err));
    ROTOR_TRY(d->api->submit(d->g, m->list, NULL, 0, err));
    return d->api->wait(d->g, m->list, a->y, err);
}

static bool many_right(const known *k, const many *a) {
    for (size_t t = 0; t < TOKENS; t++)
        for (size_t r = 0; r < ROWS; r++) {
            int32_t sum = 0;
            for (size_t b = 0; b < COLS; b++) sum += a->x[t * STRIDE + b] * k->w[r][column_of(b)];
            const float off = a->y[t][r] / k->rs[r] - (float)sum;
            if (!(off >= -TOLERATE && off <= TOLERATE)) return false;
        }
    return true;
}

/* Whatever goes wrong with them: what else the device has been asked for it did right. */
static rotor_status check_matrix(dev_gpu *d, const known *k, memories *m, rotor_error *err) {
    many *a = d->g->facts.matrix ? base_alloc(sizeof *a) : NULL;
    if (!a) return d->g->facts.matrix ? base_fail_nomem(err, "checking a device") : ROTOR_OK;
    make_many(a);
    if (run_many(d, a, m, NULL) != ROTOR_OK || !many_right(k, a)) d->g->facts.matrix = 0;
    base_free(a);
    return ROTOR_OK;
}

rotor_status gpu_check_answers(dev_gpu *d, rotor_error *err) {
    known *k = base_alloc(sizeof *k);
    memories m = {0};
    float y[ROWS] = {0};
    if (!k) return base_fail_nomem(err, "checking a device");
    make_known(k);
    rotor_status st = make_memories(d, k, &m, err);
    if (st == ROTOR_OK) st = make_list(d, &m, err);
    if (st == ROTOR_OK) st = d->api->submit(d->g, m.list, NULL, 0, err);
    if (st == ROTOR_OK) st = d->api->wait(d->g, m.list, y, err);
    if (st == ROTOR_OK) st = compare(d, k, y, err);
    if (st == ROTOR_OK) st = check_matrix(d, k, &m, err);
    free_memories(d, &m);
    base_free(k);
    return st;
}
