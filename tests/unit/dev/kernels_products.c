/* SPDX-License-Identifier: MIT
 *
 * Products: every packed type, both kinds of activations, odd and even shapes; and the pieces, the
 * addition and the scales of rows. The reference is kern/c on the file's own bytes.
 */
#include "check_kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct product {
    uint32_t type;       /* of the file */
    uint32_t rows, cols; /* of the matrix */
    uint32_t tokens;     /* rows of activations */
    uint32_t at_once;    /* TOKENS of mv; 0: mm */
    bool float_act;      /* float activations */
    bool add;            /* y += W x */
    uint32_t scaled;     /* GPU_SCALED: rows times rs; GPU_BIASED: plus rs; or 0 */
} product;

/* ==== Weights ================================================================================= */

static void fill_halves(checker *c, uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const float v = 0.01f + 0.02f * (float)base_rng_double(&c->rng);
        const uint16_t h = quant_f32_to_f16(base_rng_below(&c->rng, 4) ? v : -v);
        memcpy(p + 2 * i, &h, 2);
    }
}

/* Random codes under scales of a sane size. */
static void fill_block_bytes(checker *c, uint32_t type, uint8_t *p, size_t block_bytes, size_t n) {
    for (size_t b = 0; b < n; b++, p += block_bytes) {
        for (size_t i = 0; i < block_bytes; i++) p[i] = (uint8_t)base_rng_below(&c->rng, 256);
        if (type == QUANT_Q4_1 || type == QUANT_Q5_1 || type == QUANT_Q4_K || type == QUANT_Q5_K)
            fill_halves(c, p, 2);
        else if (type == QUANT_Q6_K)
            fill_halves(c, p + 208, 1);
        else if (type == QUANT_Q2_K)
            fill_halves(c, p + 80, 2);
        else if (type == QUANT_Q3_K)
            fill_halves(c, p + 108, 1);
        else if (type == QUANT_MXFP4)
            p[0] = (uint8_t)(112 + base_rng_below(&c->rng, 12));
        else
            fill_halves(c, p, 1);
    }
}

static void fill_plain(checker *c, uint32_t type, uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const float v = base_rng_normal(&c->rng);
        const uint16_t half = type == QUANT_F16 ? quant_f32_to_f16(v) : quant_f32_to_bf16(v);
        if (type == QUANT_F32)
            memcpy(p + 4 * i, &v, 4);
        else
            memcpy(p + 2 * i, &half, 2);
    }
}

/* A matrix with its own data; row scales of ternary ones and of scaled ones in rs[rows]. */
kern_mat mat_make(checker *c, uint32_t type, size_t rows, size_t cols, const float *rs) {
    kern_mat w = {.type = type, .rows = rows, .cols = cols, .scale = 1};
    const uint32_t stored = type == KERN_Q8X16 ? QUANT_Q8_0 : type;
    if (type == QUANT_I2_S || type == QUANT_T5) {
        int8_t *t = room(rows * cols, 1);
        for (size_t i = 0; i < rows * cols; i++) t[i] = (int8_t)(base_rng_below(&c->rng, 3)) - 1;
        w.row_bytes = type == QUANT_T5 ? quant_t5_row_bytes(cols) : quant_t2_row_bytes(cols);
        uint8_t *p = room((rows + 15) / 16 * 16, w.row_bytes);
        if (type == QUANT_T5)
            quant_t5_pack_rows(t, rows, cols, p);
        else
            for (size_t r = 0; r < rows; r++)
                quant_t2_pack_row(t + r * cols, cols, p + r * w.row_bytes);
        free(t);
        w.data = p;
        w.row_scale = rs;
        return w;
    }
    const quant_info *info = quant_find(stored);
    w.row_bytes = cols / info->block_elems * info->block_bytes;
    uint8_t *p = room(rows, w.row_bytes);
    if (info->block_elems == 1)
        fill_plain(c, type, p, rows * cols);
    else
        fill_block_bytes(c, stored, p, info->block_bytes, rows * (cols / info->block_elems));
    w.data = p;
    if (type != KERN_Q8X16) return w;
    uint8_t *side = room(kern_q8x16_bytes(rows, cols), 1);
    for (size_t r = 0; r < rows; r += KERN_Q8X16_ROWS)
        kern_q8x16_pack(side + r * w.row_bytes, p + r * w.row_bytes,
                        BASE_MIN(rows - r, (size_t)KERN_Q8X16_ROWS), cols);
    free(p);
    w.data = side;
    return w;
}

/* ==== Activations and the reference =========================================================== */

typedef struct acts {
    kern_act a;       /* for kern/c */
    uint32_t *q;      /* as kernels take them */
    float *xs;        /* likewise */
    size_t ld, xs_ld; /* words, floats between rows */
} acts;

static acts make_acts(checker *c, const product *p, bool ternary) {
    acts o = {0};
    const size_t n = p->tokens, K = p->cols, ldq = (K + 127) / 128 * 128;
    float *x = room(n * K, 4), *s = room(n * ldq / 32, 4);
    int8_t *q = room(n, ldq);
    int32_t *sum = room(n, 4);
    int16_t *sum16 = room(n * ldq / 16, 2);
    randoms(c, x, n * K, 1.5f);
    o.ld = p->float_act ? K : ldq / 4;
    o.xs_ld = ternary ? 2 : ldq / 32;
    o.q = room(n * o.ld, 4);
    o.xs = room(n * o.xs_ld, 4);
    for (size_t b = 0; b < n; b++) {
        if (ternary) {
            c->ref.quant_i8(q + b * ldq, &s[b], &sum[b], x + b * K, K, ldq);
            o.xs[2 * b] = s[b];
            memcpy(&o.xs[2 * b + 1], &sum[b], 4);
        } else {
            c->ref.quant_q8(q + b * ldq, s + b * ldq / 32, sum16 + b * ldq / 16, x + b * K, K, ldq);
            memcpy(o.xs + b * o.xs_ld, s + b * ldq / 32, ldq / 32 * 4);
        }
        uint32_t *to = o.q + b * o.ld;
        if (p->float_act)
            memcpy(to, x + b * K, K * 4);
        else if (!ternary)
            memcpy(to, q + b * ldq, ldq);
        else
            for (size_t w = 0; w < ldq / 4; w++)
                memcpy(to + w / 32 * 32 + w % 8 * 4 + w / 8 % 4, q + b * ldq + 4 * w, 4);
    }
    o.a = (kern_act){
        .x = x, .ldx = K, .q = q, .ldq = ldq, .s = s, .sum = sum, .sum16 = sum16, .n_tok = n};
    return o;
}

static void free_acts(acts *o) {
    void *all[] = {(void *)o->a.x,     (void *)o->a.q, (void *)o->a.s, (void *)o->a.sum,
                   (void *)o->a.sum16, o->q,           o->xs};
    for (size_t i = 0; i < BASE_COUNT(all); i++) free(all[i]);
}

static kern_mm_fn reference(const checker *c, const product *p) {
    const kern *k = &c->ref;
    switch (p->type) {
    case QUANT_I2_S:
        return p->float_act ? k->mm_t2_f32 : k->gemm_t2_i8;
    case QUANT_T5:
        return p->float_act ? k->mm_t5_f32 : k->gemm_t5_i8;
    case QUANT_F32:
        return k->mm_f32;
    case QUANT_F16:
        return k->mm_f16;
    case QUANT_BF16:
        return k->mm_bf16;
    case KERN_Q8X16:
        return k->mm_q8x16;
    default:
        return p->float_act ? k->mm_b32_f32 : k->mm_b32_q8;
    }
}

/* ==== One case ================================================================================ */

static const char *kernel_name(gpu_type type, bool mm) {
    if (type == GPU_T2) return mm ? "mm_t2" : "mv_t2";
    if (type <= GPU_BF16) return mm ? "mm_float" : "mv_float";
    return mm ? "mm_block" : "mv_block";
}

/* The y of the device, which has one row more than asked for and stands at an odd place. */
static void dispatch(checker *c, const product *p, const kern_mat *w, const acts *x,
                     const float *rs, float *y, size_t y_ld) {
    enum { ROW0 = 3, Y_AT = 5 };
    gpu_type type;
    if (!gpu_type_of(w, &type)) abort();
    const uint32_t n_u = (uint32_t)gpu_row_words(type, p->cols), n_groups = (p->rows + 31) / 32;
    uint32_t *packed = room((size_t)n_groups * n_u * GPU_ROWS, 4);
    gpu_pack(w, type, 0, n_groups, packed);
    float *scales = room(ROW0 + p->rows, 4);
    memcpy(scales + ROW0, rs, 4 * p->rows);
    step_image s = step_make(p->tokens + 1, p->tokens, 0, 0, 0);
    const gpu_product_params params = {.rows = p->rows,
                                       .row0 = ROW0,
                                       .cols = p->cols,
                                       .n_u = n_u,
                                       .x_ld = (uint32_t)x->ld,
                                       .xs_ld = (uint32_t)x->xs_ld,
                                       .y_at = Y_AT - ROW0,
                                       .y_ld = (uint32_t)y_ld};
    const uint32_t tall = p->at_once ? 32 : GPU_MM_ROWS,
                   long_ = p->at_once ? p->at_once : GPU_MM_TOKENS;
    const size_t y_bytes = (Y_AT + (p->tokens + 1) * y_ld) * 4;
    gpu_mem *y_mem = put(c, y, y_bytes);
    run(c,
        &(launch){.name = kernel_name(type, !p->at_once),
                  .lx = p->at_once && c->g->facts.subgroup == 1 ? 1 : 256,
                  .spec = {p->at_once, p->add, p->float_act, type, p->scaled},
                  .groups = {(p->rows + tall - 1) / tall, (p->tokens + 1 + long_ - 1) / long_, 1},
                  .params = &params,
                  .n_params = sizeof params / 4,
                  .bind = {put(c, s.word, s.n_words * 4),
                           put(c, packed, (size_t)n_groups * n_u * GPU_ROWS * 4),
                           put(c, x->q, x->ld * p->tokens * 4),
                           put(c, x->xs, x->xs_ld * p->tokens * 4),
                           put(c, scales, (ROW0 + p->rows) * 4), y_mem},
                  .n_binds = 6});
    get(c, y_mem, y, y_bytes);
    drop(c);
    free(packed);
    free(scales);
    free(s.word);
    memmove(y, y + Y_AT, y_bytes - 4 * Y_AT);
}

static void check_product(checker *c, const product *p) {
    char what[128];
    const bool ternary = p->type == QUANT_I2_S || p->type == QUANT_T5;
    const quant_info *info = quant_find(p->type == KERN_Q8X16 ? QUANT_Q8_0 : p->type);
    if (!ternary && p->cols % info->block_elems) return;
    if (!has_kernel(kernel_name(ternary                  ? GPU_T2
                                : info->block_elems == 1 ? GPU_F32
                                                         : GPU_B32,
                                !p->at_once)))
        return;
    const size_t y_ld = p->rows + 2, n_y = 5 + (p->tokens + 1) * y_ld;
    float *rs = room(p->rows, 4), *y = room(n_y, 4), *want = room(p->tokens * y_ld, 4);
    randoms(c, rs, p->rows, 1);
    for (size_t i = 0; i < n_y; i++) y[i] = 0.25f;
    kern_mat w = mat_make(c, p->type, p->rows, p->cols, rs);
    acts x = make_acts(c, p, ternary);
    for (size_t r = 0; r < p->rows; r += 16) /* groups of sixteen rows, as Q8X16 wants */
        reference(c, p)(want, y_ld, &w, &x.a, r, BASE_MIN(r + 16, p->rows));
    for (size_t b = 0; b < p->tokens; b++)
        for (size_t r = 0; r < p->rows; r++) {
            float *v = &want[b * y_ld + r];
            if (p->scaled == GPU_SCALED && !ternary) *v *= rs[r];
            if (p->scaled == GPU_BIASED) *v += rs[r];
            if (p->add) *v += 0.25f;
        }
    dispatch(c, p, &w, &x, rs, y, y_ld);
    snprintf(what, sizeof what, "%s %s [%u,%u] x %u, %u at once%s%s",
             p->type == KERN_Q8X16 ? "Q8X16" : info->name, p->float_act ? "f32" : "int8", p->rows,
             p->cols, p->tokens, p->at_once, p->add ? ", added" : "",
             p->scaled == GPU_BIASED ? ", biased"
             : p->scaled             ? ", scaled"
                                     : "");
    /* Exact sums leave two roundings. */
    const double bound = ternary && !p->float_act ? 1e-6 : BOUND;
    for (size_t b = 0; b < p->tokens; b++)
        near(c, y + b * y_ld, want + b * y_ld, p->rows, bound, what);
    bool kept = true;
    for (size_t i = 0; i < (p->tokens + 1) * y_ld; i++)
        if (i / y_ld >= p->tokens || i % y_ld >= p->rows) kept &= y[i] == 0.25f;
    say(c, kept, "%s: wrote beside its result", what);
    free((void *)w.data);
    free_acts(&x);
    free(rs);
    free(y);
    free(want);
}

/* ==== All of them ============================================================================= */

static const uint32_t types[] = {QUANT_I2_S, QUANT_T5,   QUANT_F32,  QUANT_F16,  QUANT_BF16,
                                 QUANT_Q8_0, QUANT_Q4_0, QUANT_Q4_K, QUANT_Q6_K, KERN_Q8X16,
                                 QUANT_Q5_1, QUANT_Q3_K, QUANT_Q2_K, QUANT_MXFP4};

static bool has_int8(uint32_t type) {
    return type != QUANT_F32 && type != QUANT_F16 && type != QUANT_BF16;
}

static void check_short(checker *c) {
    static const product cases[] = {
        {QUANT_I2_S, 33, 2752, 1, 1, false, true, false},
        {QUANT_I2_S, 65, 96, 9, 4, false, false, false},
        {QUANT_T5, 33, 80, 3, 4, false, false, false},
        {QUANT_I2_S, 33, 336, 2, 2, true, false, false},
        {QUANT_F16, 33, 83, 3, 2, true, false, false},
        {QUANT_F16, 33, 2752, 2, 2, true, false, false},
        {QUANT_F32, 40, 81, 1, 1, true, true, true},
        {QUANT_BF16, 33, 96, 1, 1, true, false, true},
        {QUANT_Q8_0, 33, 2752, 1, 1, false, false, false},
        {QUANT_Q4_0, 33, 96, 1, 1, false, false, false},
        {QUANT_Q4_K, 33, 512, 1, 1, false, false, false},
        {QUANT_Q6_K, 33, 512, 1, 1, false, true, true},
        {QUANT_Q5_1, 33, 96, 1, 1, false, false, false},
        {QUANT_Q4_K, 33, 512, 1, 1, true, false, false},
        {QUANT_I2_S, 65, 2752, 65, 0, false, true, false},
        {QUANT_F16, 65, 83, 66, 0, true, false, false},
        {QUANT_Q4_K, 65, 512, 65, 0, false, false, false},
        {QUANT_Q8_0, 65, 96, 65, 0, true, false, false},
        {QUANT_Q8_0, 33, 512, 2, 2, true, false, false},
        {QUANT_MXFP4, 33, 288, 2, 2, false, true, GPU_BIASED},
        {QUANT_MXFP4, 65, 96, 65, 0, true, false, GPU_BIASED},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) check_product(c, &cases[i]);
}

void check_product_kernels(checker *c) {
    static const uint32_t cols[] = {80, 96, 256, 2752, 6912}, rows[] = {7, 33, 96},
                          tokens[] = {1, 2, 3, 4, 5, 8, 9};
    if (!c->all) {
        check_short(c);
        return;
    }
    for (size_t t = 0; t < BASE_COUNT(types); t++)
        for (int f = has_int8(types[t]) ? 0 : 1; f < (types[t] == KERN_Q8X16 ? 1 : 2); f++)
            for (size_t k = 0; k < BASE_COUNT(cols); k++)
                for (uint32_t at_once = 0; at_once <= 8; at_once = at_once ? 2 * at_once : 1) {
                    const uint32_t pick = base_rng_below(&c->rng, 1000), bits = pick % 4;
                    product p = {
                        types[t],
                        rows[pick % 3],
                        cols[k],
                        at_once ? tokens[pick % 7] : pick % 2 ? 65 : 64,
                        at_once,
                        f,
                        bits & 1,
                        types[t] != QUANT_I2_S && types[t] != QUANT_T5 ? (bits >> 1) * (1 + pick / 4 % 2) : 0};
                    if (!at_once && cols[k] > 2752) p.rows = 65;
                    if (types[t] == QUANT_F16 && cols[k] == 80) p.cols = 83;
                    check_product(c, &p);
                }
}
