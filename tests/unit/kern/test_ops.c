/* SPDX-License-Identifier: MIT
 *
 * kern: every slot of the table alone, fed a reference's input, at every CPU level of this machine.
 * The cases of tests/data/kern/ops.bin come from float64 (tools/golden/ops.py says what each
 * holds). Integer results must be equal; float results are within 1e-5 of what was added up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cpu/cpu.h"
#include "kern/kern.h"

/* ==== Cases
 * ======================================================================================== */

enum { I8, U8, I16, I32, F32, F64, MAX_ARRAYS = 10, MAX_PARAMS = 8 };

typedef struct op_case {
    char name[16];             /* which op */
    double p[MAX_PARAMS];      /* parameters */
    const void *a[MAX_ARRAYS]; /* arrays, 8-byte aligned */
    uint32_t kind[MAX_ARRAYS]; /* element types */
    size_t n[MAX_ARRAYS];      /* lengths */
    uint32_t n_arrays;         /* in use */
    const char *level;         /* CPU level under test */
    uint32_t index;            /* place in the file, for messages */
} op_case;

static const uint8_t *image; /* the whole fixture */

static const void *array(const op_case *c, uint32_t i, uint32_t kind) {
    if (i >= c->n_arrays || c->kind[i] != kind)
        fail_msg("case %u (%s): array %u is not of type %u", c->index, c->name, i, kind);
    return c->a[i];
}

static const float *f32s(const op_case *c, uint32_t i) { return array(c, i, F32); }
static const double *f64s(const op_case *c, uint32_t i) { return array(c, i, F64); }
static const int8_t *i8s(const op_case *c, uint32_t i) { return array(c, i, I8); }
static const uint8_t *bytes(const op_case *c, uint32_t i) { return array(c, i, U8); }
static size_t param(const op_case *c, int i) { return (size_t)c->p[i]; }

static const uint8_t *read_case(const uint8_t *at, op_case *c) {
    uint32_t n_params, elem_bytes[] = {1, 1, 2, 4, 4, 8};
    memcpy(c->name, at, 16);
    memcpy(&n_params, at + 16, 4);
    memcpy(&c->n_arrays, at + 20, 4);
    assert_true(n_params <= MAX_PARAMS && c->n_arrays <= MAX_ARRAYS);
    memcpy(c->p, at + 24, n_params * sizeof(double));
    at += 24 + n_params * sizeof(double);
    for (uint32_t i = 0; i < c->n_arrays; i++) {
        uint32_t head[2];
        memcpy(head, at, 8);
        assert_true(head[0] <= F64);
        c->kind[i] = head[0];
        c->n[i] = head[1];
        c->a[i] = at + 8;
        at += 8 + ((size_t)head[1] * elem_bytes[head[0]] + 7) / 8 * 8;
    }
    return at;
}

/* Runs fn on every case of an op at every level; the op must be in the file. */
static void each(const char *name, void (*fn)(const kern *k, const op_case *c)) {
    const char *level;
    unsigned mask;
    uint32_t n_cases;
    size_t n_run = 0;
    memcpy(&n_cases, image + 8, 4);
    for (size_t l = 0; (level = cpu_level_at(l, &mask)) != NULL; l++) {
        const uint8_t *at = image + 16;
        kern k;
        if (mask & ~cpu_detect() & ~(unsigned)CPU_AVXVNNI)
            continue; /* its VEX form may be missing */
        kern_init(&k, mask & cpu_detect());
        for (uint32_t i = 0; i < n_cases; i++) {
            op_case c = {.level = level, .index = i};
            at = read_case(at, &c);
            if (strcmp(c.name, name) != 0) continue;
            fn(&k, &c);
            n_run++;
        }
    }
    assert_true(n_run > 0);
}

static void near(const op_case *c, const char *what, size_t i, double got, double want,
                 double bound) {
    if (!(fabs(got - want) <= bound))
        fail_msg(
            "case %u, %s at level %s: element %zu is %.9g, expected %.9g, off by %.3g, bound %.3g",
            c->index, what, c->level, i, got, want, fabs(got - want), bound);
}

static void equal_bytes(const op_case *c, const char *what, const void *got, const void *want,
                        size_t n) {
    for (size_t i = 0; i < n; i++)
        if (((const uint8_t *)got)[i] != ((const uint8_t *)want)[i])
            fail_msg("case %u, %s at level %s: byte %zu of %zu is %u, expected %u", c->index, what,
                     c->level, i, n, ((const uint8_t *)got)[i], ((const uint8_t *)want)[i]);
}

static float *floats(size_t n) { return calloc(n ? n : 1, sizeof(float)); }

/* ==== Element-wise ops
 * ================================================================================= */

static void rmsnorm_case(const kern *k, const op_case *c) {
    const size_t n = param(c, 0);
    float *y = floats(n);
    k->rmsnorm(y, f32s(c, 0), f32s(c, 1), n, (float)c->p[1]);
    for (size_t i = 0; i < n; i++)
        near(c, "rmsnorm", i, y[i], f64s(c, 2)[i], 1e-5 * fabs(f64s(c, 2)[i]));
    memcpy(y, f32s(c, 0), n * sizeof *y);
    k->rmsnorm(y, y, f32s(c, 1), n, (float)c->p[1]); /* in place */
    for (size_t i = 0; i < n; i++)
        near(c, "rmsnorm in place", i, y[i], f64s(c, 2)[i], 1e-5 * fabs(f64s(c, 2)[i]));
    free(y);
}

/* Next to the mean a result is a small difference: the bound is that of a typical one. */
static void layernorm_case(const kern *k, const op_case *c) {
    const size_t n = param(c, 0);
    const float *gain = f32s(c, 1);
    float *y = floats(n);
    for (int in_place = 0; in_place < 2; in_place++) {
        memcpy(y, f32s(c, 0), n * sizeof *y);
        k->layernorm(y, in_place ? y : f32s(c, 0), gain, n, (float)c->p[1]);
        for (size_t i = 0; i < n; i++)
            near(c, "layernorm", i, y[i], f64s(c, 2)[i],
                 1e-5 * (fabs(f64s(c, 2)[i]) + fabs((double)gain[i])));
    }
    free(y);
}

static void add_case(const kern *k, const op_case *c) {
    const size_t n = param(c, 0);
    float *y = memcpy(floats(n), f32s(c, 0), n * sizeof *y);
    k->add(y, f32s(c, 1), n);
    equal_bytes(c, "add", y, f32s(c, 2), n * sizeof *y);
    free(y);
}

static void add_scaled_case(const kern *k, const op_case *c) {
    const size_t n = param(c, 0);
    float *y = memcpy(floats(n), f32s(c, 1), n * sizeof *y);
    k->add_scaled(y, f32s(c, 0), (float)c->p[1], n);
    for (size_t i = 0; i < n; i++)
        near(c, "add_scaled", i, y[i], f64s(c, 2)[i],
             6e-8 * fabs(f64s(c, 2)[i])); /* one rounding */
    free(y);
}

/* Below -88 the true SiLU is no longer a normal float: there only its size counts. */
static void glu_case(const kern *k, const op_case *c) {
    const size_t n = param(c, 0);
    float *y = floats(n);
    static const kern_glu kinds[] = {KERN_RELU2, KERN_SILU, KERN_SWIGLU_OAI, KERN_GELU,
                                     KERN_GELU_ERF};
    const bool alone = c->n[1] == 0; /* nothing is gated */
    k->glu(y, f32s(c, 0), alone ? NULL : f32s(c, 1), n, kinds[param(c, 1)]);
    for (size_t i = 0; i < n; i++)
        near(c, "glu", i, y[i], f64s(c, 2)[i],
             1e-5 * fabs(f64s(c, 2)[i]) + 1e-34 * (alone ? 1 : fabs((double)f32s(c, 1)[i])));
    free(y);
}

static void cap_case(const kern *k, const op_case *c) {
    const size_t n = param(c, 0);
    float *x = memcpy(floats(n), f32s(c, 0), n * sizeof *x);
    k->cap(x, (float)c->p[1], n);
    for (size_t i = 0; i < n; i++) near(c, "cap", i, x[i], f64s(c, 1)[i], 3e-7 * c->p[1]);
    free(x);
}

/* Bound absolute: the inputs are at most 1. */
static void rope_case(const kern *k, const op_case *c) {
    const size_t heads = param(c, 0), d = param(c, 1), n_rot = param(c, 2);
    float *x = memcpy(floats(heads * d), f32s(c, 1), heads * d * sizeof *x);
    float *cs = floats(n_rot / 2), *sn = floats(n_rot / 2);
    kern_rope_table(cs, sn, f64s(c, 0), n_rot / 2, (uint32_t)param(c, 3));
    k->rope(x, heads, d, n_rot, cs, sn, param(c, 4));
    for (size_t i = 0; i < heads * d; i++) near(c, "rope", i, x[i], f32s(c, 2)[i], 1e-5);
    free(x);
    free(cs);
    free(sn);
}

/* ==== Activations to int8
 * ============================================================================== */

static size_t padded(size_t n) {
    return (n + KERN_ALIGN_COLS - 1) / KERN_ALIGN_COLS * KERN_ALIGN_COLS;
}

static void all_zero(const op_case *c, const int8_t *q, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) near(c, "padding code", i, q[i], 0, 0);
}

static void quant_i8_case(const kern *k, const op_case *c) {
    const size_t n = param(c, 0), ldq = padded(n);
    int8_t *q = memset(malloc(ldq), 99, ldq);
    float s = 0;
    int32_t sum = 77;
    k->quant_i8(q, &s, &sum, f32s(c, 0), n, ldq);
    equal_bytes(c, "code of quant_i8", q, i8s(c, 1), n);
    all_zero(c, q, n, ldq);
    equal_bytes(c, "scale of quant_i8", &s, f32s(c, 2), 4);
    equal_bytes(c, "sum of quant_i8", &sum, array(c, 3, I32), 4);
    free(q);
}

static void quant_q8_case(const kern *k, const op_case *c) {
    const size_t n = param(c, 0), ldq = padded(n), n32 = (n + 31) / 32 * 32;
    int8_t *q = memset(malloc(ldq), 99, ldq);
    float *s = floats(ldq / 32);
    int16_t *sum16 = memset(malloc(ldq / 8), 99, ldq / 8);
    k->quant_q8(q, s, sum16, f32s(c, 0), n, ldq);
    equal_bytes(c, "code of quant_q8", q, i8s(c, 1), n32);
    equal_bytes(c, "step of quant_q8", s, f32s(c, 2), n32 / 8);
    equal_bytes(c, "sum of quant_q8", sum16, array(c, 3, I16), n32 / 8);
    all_zero(c, q, n32, ldq);
    for (size_t i = n32 / 32; i < ldq / 32; i++) near(c, "padding step", i, s[i], 0, 0);
    for (size_t i = n32 / 16; i < ldq / 16; i++) near(c, "padding sum", i, sum16[i], 0, 0);
    free(q);
    free(s);
    free(sum16);
}

/* ==== Products
 * ========================================================================================= */

/* int8 rows of a case, spread to the padded distance between rows. */
static int8_t *spread(const int8_t *q, size_t n_tok, size_t cols) {
    int8_t *out = calloc(n_tok, padded(cols));
    for (size_t b = 0; b < n_tok; b++) memcpy(out + b * padded(cols), q + b * cols, cols);
    return out;
}

/* 64 x as int8 -> x. */
static float *sixty_fourths(const int8_t *x, size_t n) {
    float *out = floats(n);
    for (size_t i = 0; i < n; i++) out[i] = (float)x[i] / 64;
    return out;
}

typedef struct product {
    const op_case *c;    /* case */
    const char *what;    /* slot, for messages */
    const double *want;  /* [B, rows], times scale */
    const int32_t *dots; /* [B, rows] exact instead of want, or NULL */
    const float *size;   /* [B, rows] sums of absolute values, or NULL: of the result itself */
    double factor;       /* multiplies want, dots and size */
    const float *row_factor, *token_factor; /* more of them: times [rows], over [B]; or NULL */
} product;

/* Computes all rows in two uneven ranges and judges every output. */
static void judge(kern_mm_fn fn, const kern_mat *w, const kern_act *x, const product *p) {
    const size_t ldy = w->rows + 3, cut = w->type == KERN_Q8X16 ? w->rows / 32 * 16 : w->rows / 3;
    float *y = floats(x->n_tok * ldy);
    fn(y, ldy, w, x, 0, cut);
    fn(y, ldy, w, x, cut, w->rows);
    for (size_t b = 0; b < x->n_tok; b++)
        for (size_t r = 0; r < w->rows; r++) {
            const size_t i = b * w->rows + r;
            double f = p->factor * (double)(p->row_factor ? p->row_factor[r] : 1) /
                       (double)(p->token_factor ? p->token_factor[b] : 1);
            double want = (p->dots ? p->dots[i] : p->want[i]) * f;
            double size = p->size ? (double)p->size[i] * f : fabs(want);
            bool exact = p->dots && !p->row_factor && !p->token_factor && p->factor == 1;
            near(p->c, p->what, i, y[b * ldy + r], want,
                 exact ? 0 : (p->dots ? 1e-6 : 1e-5) * size);
        }
    free(y);
}

/* The matrix of a ternary case as T2 rows where they stand, or packed again as T5. */
static kern_mat ternary_weights(const op_case *c, uint32_t type, uint8_t **owned) {
    const size_t rows = param(c, 0), cols = param(c, 1), t2_bytes = quant_t2_row_bytes(cols);
    kern_mat w = {.data = bytes(c, 0),
                  .type = type,
                  .rows = rows,
                  .cols = cols,
                  .row_bytes = t2_bytes,
                  .scale = 1};
    *owned = NULL;
    if (type == QUANT_I2_S) return w;
    int8_t *t = malloc(rows * cols);
    uint64_t bad;
    *owned = malloc((size_t)quant_t5_code_bytes(rows, cols));
    for (size_t r = 0; r < rows; r++)
        assert_true(quant_t2_unpack_row(w.data + r * t2_bytes, cols, t + r * cols, &bad));
    quant_t5_pack_rows(t, rows, cols, *owned);
    free(t);
    w.data = *owned;
    w.row_bytes = quant_t5_row_bytes(cols);
    return w;
}

typedef struct ternary_slots {
    uint32_t type;                 /* of the weights */
    const char *gemm, *gemv, *f;   /* names */
    size_t gemm_at, gemv_at, f_at; /* offsets in the table */
} ternary_slots;

static const ternary_slots ternary_forms[] = {
    {QUANT_I2_S, "gemm_t2_i8", "gemv_t2_i8", "mm_t2_f32", offsetof(kern, gemm_t2_i8),
     offsetof(kern, gemv_t2_i8), offsetof(kern, mm_t2_f32)},
    {QUANT_T5, "gemm_t5_i8", "gemv_t5_i8", "mm_t5_f32", offsetof(kern, gemm_t5_i8),
     offsetof(kern, gemv_t5_i8), offsetof(kern, mm_t5_f32)}};

static kern_mm_fn slot_fn(const kern *k, size_t at) {
    kern_mm_fn fn;
    memcpy(&fn, (const uint8_t *)k + at, sizeof fn);
    return fn;
}

static void ternary_case(const kern *k, const op_case *c, const ternary_slots *form) {
    const size_t cols = param(c, 1), n_tok = param(c, 2);
    uint8_t *owned;
    kern_mat w = ternary_weights(c, form->type, &owned);
    float *ones = floats(n_tok), *x = sixty_fourths(i8s(c, 6), n_tok * cols);
    for (size_t b = 0; b < n_tok; b++) ones[b] = 1;
    int8_t *q = spread(i8s(c, 1), n_tok, cols);
    kern_act act = {.x = x,
                    .ldx = cols,
                    .q = q,
                    .ldq = padded(cols),
                    .s = ones,
                    .sum = array(c, 3, I32),
                    .n_tok = n_tok};
    const struct {
        const char *what; /* slot */
        kern_mm_fn fn;    /* its function */
    } slots[] = {{form->gemm, slot_fn(k, form->gemm_at)},
                 {form->gemv, n_tok == 1 ? slot_fn(k, form->gemv_at) : NULL}};
    for (size_t i = 0; i < BASE_COUNT(slots); i++) {
        product p = {.c = c, .what = slots[i].what, .dots = array(c, 5, I32), .factor = 1};
        if (!slots[i].fn) continue;
        act.s = ones, w.scale = 1, w.row_scale = NULL;
        judge(slots[i].fn, &w, &act, &p); /* scales of 1: the integers themselves */
        act.s = p.token_factor = f32s(c, 2);
        w.scale = (float)c->p[3], p.factor = c->p[3];
        judge(slots[i].fn, &w, &act, &p);
        w.row_scale = p.row_factor = f32s(c, 4), p.factor = 1;
        judge(slots[i].fn, &w, &act, &p);
    }
    w.scale = (float)c->p[3], w.row_scale = NULL;
    product p = {
        .c = c, .what = form->f, .want = f64s(c, 7), .size = f32s(c, 8), .factor = c->p[3]};
    judge(slot_fn(k, form->f_at), &w, &act, &p);
    w.row_scale = p.row_factor = f32s(c, 4), p.factor = 1;
    judge(slot_fn(k, form->f_at), &w, &act, &p);
    free(ones);
    free(x);
    free(q);
    free(owned);
}

static void ternary_cases(const kern *k, const op_case *c) {
    for (size_t i = 0; i < BASE_COUNT(ternary_forms); i++) ternary_case(k, c, &ternary_forms[i]);
}

/* Every token of a case as a step of its own: the decoding form. */
static void ternary_one_token(const kern *k, const op_case *c, const ternary_slots *form) {
    const size_t rows = param(c, 0), cols = param(c, 1);
    uint8_t *owned;
    kern_mat w = ternary_weights(c, form->type, &owned);
    w.row_scale = f32s(c, 4);
    int8_t *q = spread(i8s(c, 1), param(c, 2), cols);
    for (size_t b = 0; b < param(c, 2); b++) {
        const kern_act act = {.q = q + b * padded(cols),
                              .ldq = padded(cols),
                              .s = f32s(c, 2) + b,
                              .sum = (const int32_t *)array(c, 3, I32) + b,
                              .n_tok = 1};
        const product p = {.c = c,
                           .what = form->gemv,
                           .factor = 1,
                           .row_factor = f32s(c, 4),
                           .dots = (const int32_t *)array(c, 5, I32) + b * rows,
                           .token_factor = f32s(c, 2) + b};
        judge(slot_fn(k, form->gemv_at), &w, &act, &p);
    }
    free(q);
    free(owned);
}

static void ternary_one_token_cases(const kern *k, const op_case *c) {
    for (size_t i = 0; i < BASE_COUNT(ternary_forms); i++)
        ternary_one_token(k, c, &ternary_forms[i]);
}

/* All outputs of one form of the weights of a case, by the slot at the offset. */
static float *outputs(const kern *k, const op_case *c, uint32_t type, size_t at) {
    const size_t rows = param(c, 0), cols = param(c, 1), n_tok = param(c, 2);
    uint8_t *owned;
    kern_mat w = ternary_weights(c, type, &owned);
    float *x = sixty_fourths(i8s(c, 6), n_tok * cols), *y = floats(n_tok * rows);
    int8_t *q = spread(i8s(c, 1), n_tok, cols);
    const kern_act act = {.x = x,
                          .ldx = cols,
                          .q = q,
                          .ldq = padded(cols),
                          .s = f32s(c, 2),
                          .sum = array(c, 3, I32),
                          .n_tok = n_tok};
    w.row_scale = f32s(c, 4);
    slot_fn(k, at)(y, rows, &w, &act, 0, rows);
    free(x);
    free(q);
    free(owned);
    return y;
}

/* The type the weights are stored in is not to be seen in the results. */
static void same_bits_case(const kern *k, const op_case *c) {
    const ternary_slots *t2 = &ternary_forms[0], *t5 = &ternary_forms[1];
    const size_t at[2][2] = {{t2->gemm_at, t5->gemm_at}, {t2->f_at, t5->f_at}};
    for (size_t i = 0; i < 2; i++) {
        float *a = outputs(k, c, QUANT_I2_S, at[i][0]), *b = outputs(k, c, QUANT_T5, at[i][1]);
        assert_memory_equal(a, b, param(c, 0) * param(c, 2) * sizeof *a);
        free(a);
        free(b);
    }
}

static void plain_case(const kern *k, const op_case *c) {
    const size_t rows = param(c, 0), cols = param(c, 1);
    const uint32_t type = (uint32_t)param(c, 3);
    const kern_mat w = {.data = bytes(c, 0),
                        .type = type,
                        .rows = rows,
                        .cols = cols,
                        .row_bytes = cols * quant_find(type)->block_bytes};
    const kern_act act = {.x = f32s(c, 1), .ldx = cols, .n_tok = param(c, 2)};
    const product p = {.c = c,
                       .what = quant_find(type)->name,
                       .want = f64s(c, 2),
                       .size = f32s(c, 3),
                       .factor = 1};
    judge(type == QUANT_F32 ? k->mm_f32 : type == QUANT_F16 ? k->mm_f16 : k->mm_bf16, &w, &act, &p);
}

/* The same rows packed in groups of sixteen. */
static void judge_side_by_side(const kern *k, const kern_mat *w, const kern_act *act,
                               const product *p) {
    kern_mat side = *w;
    uint8_t *data = aligned_alloc(64, (kern_q8x16_bytes(w->rows, w->cols) + 63) / 64 * 64);
    assert_non_null(data);
    for (size_t r = 0; r < w->rows; r += KERN_Q8X16_ROWS)
        kern_q8x16_pack(data + r * w->row_bytes, w->data + r * w->row_bytes,
                        BASE_MIN(w->rows - r, (size_t)KERN_Q8X16_ROWS), w->cols);
    side.type = KERN_Q8X16;
    side.data = data;
    judge(k->mm_q8x16, &side, act, p);
    free(data);
}

static void blocks_case(const kern *k, const op_case *c) {
    const size_t rows = param(c, 0), cols = param(c, 1), n_tok = param(c, 2), ldq = padded(cols);
    const quant_info *info = quant_find((uint32_t)param(c, 3));
    const kern_mat w = {.data = bytes(c, 0),
                        .type = info->id,
                        .rows = rows,
                        .cols = cols,
                        .row_bytes = cols / info->block_elems * info->block_bytes};
    int8_t *q = spread(i8s(c, 1), n_tok, cols);
    float *x = sixty_fourths(i8s(c, 6), n_tok * cols), *s = floats(n_tok * ldq / 32),
          *row = floats(cols);
    int16_t *sum16 = calloc(n_tok * ldq / 16, sizeof *sum16);
    for (size_t b = 0; b < n_tok; b++) {
        memcpy(s + b * (ldq / 32), f32s(c, 2) + b * (cols / 32), cols / 32 * sizeof *s);
        memcpy(sum16 + b * (ldq / 16), (const int16_t *)array(c, 3, I16) + b * (cols / 16),
               cols / 16 * 2);
    }
    const kern_act act = {
        .x = x, .ldx = cols, .q = q, .ldq = ldq, .s = s, .sum16 = sum16, .n_tok = n_tok};
    product p = {.c = c, .what = info->name, .want = f64s(c, 4), .size = f32s(c, 5), .factor = 1};
    judge(k->mm_b32_q8, &w, &act, &p);
    if (info->id == QUANT_Q8_0) judge_side_by_side(k, &w, &act, &p);
    p.want = f64s(c, 7), p.size = f32s(c, 8);
    judge(k->mm_b32_f32, &w, &act, &p);
    k->embed(row, &w, rows - 1);
    equal_bytes(c, "embed", row, f32s(c, 9), cols * sizeof *row);
    free(q);
    free(x);
    free(s);
    free(row);
    free(sum16);
}

static void embed_plain_case(const kern *k, const op_case *c) {
    const size_t rows = param(c, 0), cols = param(c, 1);
    const uint32_t type = (uint32_t)param(c, 3), elem_bytes = quant_find(type)->block_bytes;
    const kern_mat w = {.data = bytes(c, 0),
                        .type = type,
                        .rows = rows,
                        .cols = cols,
                        .row_bytes = cols * elem_bytes};
    float *row = floats(cols);
    for (size_t r = 0; r < rows; r++) {
        k->embed(row, &w, r);
        for (size_t i = 0; i < cols; i++) {
            uint16_t h;
            float want;
            memcpy(&h, w.data + r * w.row_bytes + 2 * i, 2);
            if (type == QUANT_F32)
                memcpy(&want, w.data + r * w.row_bytes + 4 * i, 4);
            else if (type == QUANT_F16)
                want = (float)ldexp(h & 0x7C00 ? (h & 0x3FF) + 1024 : h & 0x3FF,
                                    (h & 0x7C00 ? h >> 10 & 31 : 1) - 25) *
                       (h & 0x8000 ? -1 : 1);
            else
                memcpy(&want, &(uint32_t){(uint32_t)h << 16}, 4);
            near(c, "embed", i, row[i], want, 0);
        }
    }
    free(row);
}

/* ==== The cache and attention
 * ============================================================================ */

static void kv_store_case(const kern *k, const op_case *c) {
    const size_t d = param(c, 0);
    uint8_t *row = calloc(1, 8 * d + 64);
    k->kv_store(row, f32s(c, 0), d, KERN_KV_F32);
    equal_bytes(c, "f32 row", row, f32s(c, 0), kern_kv_row_bytes(KERN_KV_F32, d));
    k->kv_store(row, f32s(c, 0), d, KERN_KV_F16);
    assert_int_equal(kern_kv_row_bytes(KERN_KV_F16, d), c->n[1]);
    equal_bytes(c, "f16 row", row, bytes(c, 1), c->n[1]);
    k->kv_store(row, f32s(c, 0), d, KERN_KV_Q8);
    assert_int_equal(kern_kv_row_bytes(KERN_KV_Q8, d), c->n[2]);
    equal_bytes(c, "q8 row", row, bytes(c, 2), c->n[2]);
    free(row);
}

/* Pages in a shuffled order; what no query may see is filled with NaN. */
typedef struct cache {
    uint8_t *pages;       /* n_pages * page_bytes */
    uint32_t page_ids[8]; /* page of each block of positions */
    size_t page_bytes;    /* K and V of all KV heads of a block */
    size_t row;           /* bytes of one cached row */
    size_t block;         /* bytes of the keys of one head */
} cache;

static cache make_cache(const kern *k, const op_case *c, kern_kv type, size_t lo, size_t hi) {
    static const uint32_t order[] = {5, 2, 7, 0, 3, 6, 1, 4};
    const size_t d = param(c, 0), n_kv = param(c, 2);
    cache at = {.row = kern_kv_row_bytes(type, d)};
    float x[KERN_MAX_HEAD];
    uint8_t row[4 * KERN_MAX_HEAD];
    at.block = KERN_KEYS * at.row;
    at.page_bytes = 2 * n_kv * at.block;
    at.pages = memset(malloc(8 * at.page_bytes), 0x7F, 8 * at.page_bytes);
    memcpy(at.page_ids, order, sizeof order);
    for (size_t pos = lo; pos < hi; pos++)
        for (size_t h = 0; h < 2 * n_kv; h++) { /* keys of head 0, values of head 0, … */
            const int8_t *codes = i8s(c, h % 2 ? 2 : 1) + (pos * n_kv + h / 2) * d;
            uint8_t *dst = at.pages + order[pos / KERN_KEYS] * at.page_bytes + h * at.block;
            for (size_t i = 0; i < d; i++) x[i] = (float)c->p[h % 2 ? 5 : 4] * (float)codes[i];
            k->kv_store(row, x, d, type);
            (h % 2 ? kern_put_value : kern_put_key)(dst, pos % KERN_KEYS, row, d, type);
        }
    return at;
}

/* Span by span, then folded: the same bits as in one call. */
static void spans_give_the_same_bits(const kern *k, const op_case *c, const kern_attn *whole) {
    const size_t n = whole->n_heads * whole->d, first = kern_attn_first_span(whole, 0),
                 end = kern_attn_end_span(whole, 0),
                 stride = whole->n_heads * kern_partial_floats(whole->d);
    float *partial = floats((end - first) * stride), *out = floats(n);
    kern_attn a = *whole;
    a.out = out;
    for (size_t span = first; span < end; span++)
        k->attention_span(&a, span, partial + (span - first) * stride);
    k->attention_fold(&a, partial);
    equal_bytes(c, "spans", out, whole->out, n * sizeof *out);
    free(partial);
    free(out);
}

static void attention_case(const kern *k, const op_case *c) {
    const size_t d = param(c, 0), group = param(c, 1), n_kv = param(c, 2), heads = group * n_kv;
    const int32_t *span = array(c, 3, I32);
    float *out = floats(group * d), *scratch = floats(kern_attn_scratch(group, d));
    for (size_t m = 0; m < c->n[3] / 3; m++) {
        const kern_kv type = (kern_kv)span[3 * m];
        const size_t lo = (size_t)span[3 * m + 1], hi = (size_t)span[3 * m + 2];
        cache at = make_cache(k, c, type, lo, hi);
        for (size_t h = 0; h < n_kv; h++) {
            const kern_attn a = {.q = f32s(c, 0) + h * group * d,
                                 .out = out,
                                 .n_tok = 1,
                                 .n_heads = group,
                                 .d = d,
                                 .scale = 1.0f / sqrtf((float)d),
                                 .type = type,
                                 .pages = at.pages,
                                 .page_ids = at.page_ids,
                                 .page_bytes = at.page_bytes,
                                 .k_at = 2 * h * at.block,
                                 .v_at = (2 * h + 1) * at.block,
                                 .pos = hi - 1,
                                 .window = lo ? hi - lo : 0,
                                 .sinks = c->n_arrays > 6 ? f32s(c, 6) + h * group : NULL,
                                 .cap = c->n_arrays > 7 ? *f32s(c, 7) : 0,
                                 .scratch = scratch};
            k->attention(&a);
            spans_give_the_same_bits(k, c, &a);
            for (size_t i = 0; i < group * d; i++) {
                size_t head = m * heads + h * group + i / d;
                near(c, "attention", head * d + i % d, out[i], f32s(c, 4)[head * d + i % d],
                     1e-5 * (double)f32s(c, 5)[head]);
            }
        }
        free(at.pages);
    }
    free(scratch);
    free(out);
}

/* ==== The list
 * ===============================================================================================
 */

#define OP_TEST(name, op, fn)                                                                      \
    static void name(void **state) {                                                               \
        (void)state;                                                                               \
        each(op, fn);                                                                              \
    }

OP_TEST(rmsnorm_agrees, "rmsnorm", rmsnorm_case)
OP_TEST(layernorm_agrees, "layernorm", layernorm_case)
OP_TEST(add_is_exact, "add", add_case)
OP_TEST(scaled_sums_are_rounded_once, "add_scaled", add_scaled_case)
OP_TEST(caps_agree, "cap", cap_case)
OP_TEST(gated_activations_agree, "glu", glu_case)
OP_TEST(rope_agrees_up_to_position_100000, "rope", rope_case)
OP_TEST(bitnet_codes_are_exact, "quant_i8", quant_i8_case)
OP_TEST(block_codes_are_exact, "quant_q8", quant_q8_case)
OP_TEST(ternary_products_are_exact, "t2", ternary_cases)
OP_TEST(ternary_products_of_one_token_agree, "t2", ternary_one_token_cases)
OP_TEST(t5_gives_the_bits_of_t2, "t2", same_bits_case)
OP_TEST(float_products_agree, "plain", plain_case)
OP_TEST(block_products_and_rows_agree, "blocks", blocks_case)
OP_TEST(float_rows_are_exact, "plain", embed_plain_case)
OP_TEST(cache_rows_are_exact, "kv_store", kv_store_case)
OP_TEST(attention_agrees, "attention", attention_case)

/* ==== Operations of training: against double, here ============================================ */

static void softmax_agrees(void **state) {
    (void)state;
    kern k;
    base_rng rng;
    kern_init(&k, cpu_detect());
    base_rng_seed(&rng, 3);
    for (size_t n = 1; n < 700; n = n * 2 + 1) {
        float *x = floats(n);
        double sum = 0, *want = calloc(n, sizeof *want);
        for (size_t i = 0; i < n; i++) x[i] = 5 * base_rng_normal(&rng);
        for (size_t i = 0; i < n; i++) sum += want[i] = exp((double)x[i]);
        assert_true(fabs((double)k.softmax(x, n) - log(sum)) < 1e-5);
        for (size_t i = 0; i < n; i++)
            assert_true(fabs((double)x[i] - want[i] / sum) <= 1e-5 * want[i] / sum);
        free(x);
        free(want);
    }
}

/* C = A B with A and B stored either way, then C += A B. */
static void float_products_of_any_orientation_agree(void **state) {
    (void)state;
    enum { M = 29, N = 45, K = 230 };
    kern k;
    base_rng rng;
    kern_init(&k, cpu_detect());
    base_rng_seed(&rng, 4);
    float *a = floats(M * K), *b = floats(K * N), *c = floats(M * N);
    float *scratch = floats(KERN_GEMM_SCRATCH);
    for (size_t i = 0; i < M * K; i++) a[i] = base_rng_normal(&rng);
    for (size_t i = 0; i < K * N; i++) b[i] = base_rng_normal(&rng);
    for (int form = 0; form < 4; form++) {
        kern_gemm g = {.a = a, .b = b, .c = c, .ldc = N, .m = M, .n = N, .k = K};
        g.a_row = form & 1 ? 1 : K;
        g.a_col = form & 1 ? M : 1;
        g.b_row = form & 2 ? 1 : N;
        g.b_col = form & 2 ? K : 1;
        k.gemm_f32(&g, 0, M, scratch);
        g.add = true;
        k.gemm_f32(&g, 0, M, scratch);
        for (size_t i = 0; i < M; i++)
            for (size_t j = 0; j < N; j++) {
                double sum = 0, size = 0;
                for (size_t l = 0; l < K; l++) {
                    double t =
                        (double)a[i * g.a_row + l * g.a_col] * (double)b[l * g.b_row + j * g.b_col];
                    sum += 2 * t;
                    size += fabs(t);
                }
                assert_true(fabs((double)c[i * N + j] - sum) <= 1e-6 * size);
            }
    }
    free(a);
    free(b);
    free(c);
    free(scratch);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rmsnorm_agrees),
        cmocka_unit_test(layernorm_agrees),
        cmocka_unit_test(add_is_exact),
        cmocka_unit_test(scaled_sums_are_rounded_once),
        cmocka_unit_test(caps_agree),
        cmocka_unit_test(gated_activations_agree),
        cmocka_unit_test(rope_agrees_up_to_position_100000),
        cmocka_unit_test(bitnet_codes_are_exact),
        cmocka_unit_test(block_codes_are_exact),
        cmocka_unit_test(ternary_products_are_exact),
        cmocka_unit_test(ternary_products_of_one_token_agree),
        cmocka_unit_test(t5_gives_the_bits_of_t2),
        cmocka_unit_test(float_products_agree),
        cmocka_unit_test(block_products_and_rows_agree),
        cmocka_unit_test(float_rows_are_exact),
        cmocka_unit_test(cache_rows_are_exact),
        cmocka_unit_test(attention_agrees),
        cmocka_unit_test(softmax_agrees),
        cmocka_unit_test(float_products_of_any_orientation_agree),
    };
    /* A slot more in the table needs a case here (34 pointers behind the flags, three of them the
     * staged head's, which test_head.c holds against sums in double, two scans, which test_scan.c
     * holds against sums in 64 bits, and mm_f32x16, which checkern sums for itself). */
    _Static_assert(sizeof(kern) == sizeof(void *) + 34 * sizeof(void *),
                   "a slot has no golden case");
    char path[512];
    const char *root = getenv("ROTOR_SOURCE_ROOT");
    base_file f;
    rotor_error err;
    snprintf(path, sizeof path, "%s/tests/data/kern/ops.bin", root ? root : ".");
    if (base_file_open(&f, path, false, &err) != ROTOR_OK || memcmp(f.data, "ROTOROPS", 8) != 0) {
        fprintf(stderr, "%s\n", path);
        return 1;
    }
    image = f.data;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    base_file_close(&f);
    return failed;
}
