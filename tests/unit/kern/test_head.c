/* SPDX-License-Identifier: MIT
 *
 * The staged head's bounds: every row's product, as the full kernels compute it and in double, lies
 * within the bound around its score at every stage, over heads made to hurt and over activations
 * that lean fully on what a stage leaves out. The planes are decoded here anew, from the layout in
 * head.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <float.h>
#include <stdlib.h>

#include "cpu/cpu.h"
#include "head_sets.h"
#include "kern/kern.h"

typedef struct rig {
    kern k;           /* kernels */
    kern_planes p;    /* of w */
    uint8_t *mem;     /* planes, owned */
    float *w;         /* [rows, cols] as the head's type has them, owned */
    uint8_t *raw;     /* the same in the head's type, owned */
    kern_mat mat;     /* over raw */
    kern_x16 x;       /* activation */
    uint8_t *x_mem;   /* codes, owned */
    float *scores;    /* by the coarse plane, owned */
    size_t n_checked; /* bounds */
    double tightest;  /* largest share of a bound that was used */
} rig;

static void rig_up(rig *t, unsigned cpu, uint32_t type, size_t rows, size_t cols) {
    memset(t, 0, sizeof *t);
    kern_init(&t->k, cpu);
    t->mem = base_alloc_aligned(kern_planes_bytes(rows, cols));
    t->x_mem = base_alloc_aligned(kern_x16_bytes(cols));
    t->scores = base_alloc_aligned((rows + 15) / 16 * 16 * sizeof(float));
    t->w = malloc(rows * cols * sizeof *t->w);
    t->raw = malloc(rows * cols * sizeof *t->w);
    kern_planes_place(&t->p, t->mem, rows, cols);
    kern_x16_place(&t->x, t->x_mem, cols);
    t->x.y = t->scores;
    const size_t bytes = type == QUANT_F32 ? 4 : 2;
    t->mat = (kern_mat){.data = t->raw,
                        .type = type,
                        .rows = rows,
                        .cols = cols,
                        .row_bytes = cols * bytes,
                        .scale = 1.0f};
}

static void rig_down(rig *t) {
    base_free_aligned(t->mem);
    base_free_aligned(t->x_mem);
    base_free_aligned(t->scores);
    free(t->w);
    free(t->raw);
}

/* Rounds w to the head's type, and packs. */
static void set_head(rig *t) {
    const size_t n = t->mat.rows * t->mat.cols;
    for (size_t i = 0; i < n; i++) {
        uint16_t h =
            t->mat.type == QUANT_F16 ? quant_f32_to_f16(t->w[i]) : quant_f32_to_bf16(t->w[i]);
        if (t->mat.type == QUANT_F32)
            memcpy(t->raw + 4 * i, &t->w[i], 4);
        else
            memcpy(t->raw + 2 * i, &h, 2);
    }
    for (size_t r = 0; r < t->mat.rows; r++) {
        t->k.embed(t->w + r * t->mat.cols, &t->mat, r);
        t->k.head_pack(&t->p, t->w + r * t->mat.cols, r);
    }
}

static float full_product(rig *t, const float *x, size_t r) {
    const kern_act act = {.x = x, .ldx = t->mat.cols, .n_tok = 1};
    kern_mm_fn fn = t->mat.type == QUANT_F16   ? t->k.mm_f16
                    : t->mat.type == QUANT_F32 ? t->k.mm_f32
                                               : t->k.mm_bf16;
    float *y = calloc(t->mat.rows, sizeof *y), result;
    fn(y, t->mat.rows, &t->mat, &act, r, r + 1);
    result = y[r];
    free(y);
    return result;
}

static double exact_product(const rig *t, const float *x, size_t r) {
    double sum = 0;
    for (size_t c = 0; c < t->mat.cols; c++)
        sum += (double)t->w[r * t->mat.cols + c] * (double)x[c];
    return sum;
}

static void inside(rig *t, double value, float score, size_t stage, size_t r) {
    const double bound = (double)kern_head_bound(&t->p, &t->x, stage, r);
    const double off = fabs(value - (double)score);
    t->n_checked++;
    if (!isfinite(value) || !isfinite((double)score) || !isfinite(bound)) {
        assert_true(bound == (double)INFINITY && score == 0);
        return;
    }
    if (bound > 0 && off / bound > t->tightest) t->tightest = off / bound;
    if (!(off <= bound))
        fail_msg("row %zu stage %zu: %.9g is %.3g from its score %.9g, bound %.3g", r, stage, value,
                 off, (double)score, bound);
}

/* All rows (or one), all stages. */
static void check_rows(rig *t, const float *x, size_t begin, size_t end) {
    assert_true(kern_x16_fill(&t->x, &t->p, x));
    t->k.head_screen(&t->p, &t->x, 1, begin / 16, (end + 15) / 16);
    for (size_t r = begin; r < end; r++) {
        float z = t->x.y[r];
        const uint32_t id = (uint32_t)r;
        const double full = (double)full_product(t, x, r), exact = exact_product(t, x, r);
        for (size_t stage = 0; stage < KERN_HEAD_STAGES; stage++) {
            if (stage) t->k.head_refine(&z, &t->p, &t->x, stage - 1, &id, 1);
            inside(t, full, z, stage, r);
            inside(t, exact, z, stage, r);
        }
    }
}

/* The weight at (r, c) by the first 4 + stage bits. */
static double decoded(const kern_planes *p, size_t stage, size_t r, size_t c) {
    const size_t b = c / 32, t = c % 32 / 8, i = c % 4, lane = r % 16;
    const uint8_t *chunk = p->coarse + r / 16 * kern_planes_group_bytes(p) + b / 4 * 1088;
    const int both = chunk[64 + b % 4 * 256 + t * 64 + lane * 4 + i];
    double v = 16 * (c % 8 < 4 ? both & 15 : both >> 4) + 8 - 128, half = 4;
    for (size_t s = 0; s < stage; s++, half /= 2)
        v += p->bits[s][r * (p->ldc / 8) + c / 8] >> c % 8 & 1 ? half : -half;
    assert_int_equal(chunk[b % 4 * 16 + lane], p->scale[r * (p->ldc / 32) + b]);
    return v * chunk[b % 4 * 16 + lane] * (double)p->step[r];
}

/* ==== Tests =================================================================================== */

static void products_are_within_the_bounds(void **state) {
    (void)state;
    static const uint32_t types[] = {QUANT_F16, QUANT_BF16, QUANT_F32};
    static const size_t cols[] = {1, 33, 256, 640};
    for (size_t i = 0; i < 2 * BASE_COUNT(types) * BASE_COUNT(cols); i++) {
        rig t;
        const size_t n = cols[i / 2 % BASE_COUNT(cols)], rows = 100;
        rig_up(&t, i % 2 ? cpu_detect() : 0, types[i / 8], rows, n);
        float *x = malloc(n * sizeof *x);
        for (int set = 0; set < SET_KINDS; set++) {
            head_fill(t.w, rows, n, (head_set)set, 3 + i);
            set_head(&t);
            for (uint64_t seed = 0; seed < 4; seed++) {
                head_fill_x(x, t.w, rows, n, (head_set)set, seed);
                check_rows(&t, x, 0, rows);
            }
        }
        free(x);
        rig_down(&t);
    }
}

/* Cauchy and Schwarz are met with equality: the activation is the very error of a row. A bound that
 * were one per cent smaller would be wrong; one that is never nearly used would be waste. */
static void bounds_are_needed(void **state) {
    (void)state;
    rig t;
    const size_t rows = 64, cols = 640;
    float *x = malloc(cols * sizeof *x);
    rig_up(&t, cpu_detect(), QUANT_F16, rows, cols);
    for (int set = SET_FLAT; set <= SET_SPARSE; set++) {
        head_fill(t.w, rows, cols, (head_set)set, 11);
        set_head(&t);
        for (size_t stage = 0; stage < KERN_HEAD_STAGES; stage++) {
            t.tightest = 0;
            for (size_t r = 0; r < rows; r++) {
                double length = 0;
                for (size_t c = 0; c < cols; c++) {
                    x[c] = (float)((double)t.w[r * cols + c] - decoded(&t.p, stage, r, c)) * 1e6f;
                    length += (double)x[c] * (double)x[c];
                }
                if (length > 0) check_rows(&t, x, r, r + 1);
            }
            assert_true(t.tightest > 0.985);
        }
    }
    free(x);
    rig_down(&t);
}

/* Lengths are those of the decoded planes, rounded up and by little. */
static void errors_are_lengths_rounded_up(void **state) {
    (void)state;
    rig t;
    const size_t rows = 50, cols = 352;
    rig_up(&t, cpu_detect(), QUANT_F32, rows, cols);
    for (int set = 0; set < SET_KINDS; set++) {
        head_fill(t.w, rows, cols, (head_set)set, 5);
        set_head(&t);
        for (size_t r = 0; r < rows; r++)
            for (size_t stage = 0; stage < KERN_HEAD_STAGES; stage++) {
                double square = 0, all = 0;
                for (size_t c = 0; c < cols; c++) {
                    double w = (double)t.w[r * cols + c], d = w - decoded(&t.p, stage, r, c);
                    square += d * d;
                    all += w * w;
                }
                if (t.p.error[stage][r] > FLT_MAX) {
                    assert_true(set == SET_HUGE && r % 100 == 7);
                    continue;
                }
                assert_true((double)t.p.error[stage][r] >= sqrt(square));
                assert_true((double)t.p.norm[r] >= sqrt(all));
                if (set == SET_FLAT) assert_true((double)t.p.error[stage][r] < 1.03 * sqrt(square));
            }
    }
    rig_down(&t);
}

/* Sixteen bits of x: halves of a code everywhere, and both ends of the range. */
static void codes_of_x_are_bounded(void **state) {
    (void)state;
    rig t;
    const size_t rows = 32, cols = 256;
    float x[256];
    rig_up(&t, cpu_detect(), QUANT_F16, rows, cols);
    head_fill(t.w, rows, cols, SET_FLAT, 4);
    for (size_t c = 0; c < cols; c++) t.w[c] = 1.0f; /* adds every half up */
    set_head(&t);
    for (int sign = -1; sign <= 1; sign += 2) {
        for (size_t c = 0; c < cols; c++) x[c] = (float)sign * ((float)(c % 50) + 0.4999f);
        x[0] = -32639.0f, x[1] = 32639.0f;
        check_rows(&t, x, 0, rows);
        assert_true(t.x.x[0] == -32639 && t.x.x[1] == 32639);
        for (size_t c = 0; c < cols; c++) assert_true(t.x.high[c] * 256 + t.x.low[c] == t.x.x[c]);
    }
    rig_down(&t);
}

static void what_has_no_bound_is_refused(void **state) {
    (void)state;
    rig t;
    const size_t rows = 20, cols = 70;
    float x[70];
    rig_up(&t, cpu_detect(), QUANT_F32, rows, cols);
    head_fill(t.w, rows, cols, SET_FLAT, 4);
    t.w[3 * cols + 69] = NAN;
    t.w[4 * cols] = -INFINITY;
    set_head(&t);
    for (size_t r = 0; r < rows; r++)
        assert_true((t.p.error[0][r] > FLT_MAX) == (r == 3 || r == 4));
    static const float bad[] = {NAN, INFINITY, -INFINITY, 2e20f};
    for (size_t i = 0; i < BASE_COUNT(bad); i++) {
        for (size_t c = 0; c < cols; c++) x[c] = 1;
        x[i * 20] = bad[i];
        assert_false(kern_x16_fill(&t.x, &t.p, x));
    }
    for (size_t c = 0; c < cols; c++) x[c] = 0;
    assert_false(kern_x16_fill(&t.x, &t.p, x));
    x[9] = 1e-30f;
    assert_false(kern_x16_fill(&t.x, &t.p, x));
    x[9] = 1e-19f;
    check_rows(&t, x, 0, rows);
    rig_down(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_are_within_the_bounds), cmocka_unit_test(bounds_are_needed),
        cmocka_unit_test(errors_are_lengths_rounded_up),  cmocka_unit_test(codes_of_x_are_bounded),
        cmocka_unit_test(what_has_no_bound_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
