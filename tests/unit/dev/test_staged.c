/* SPDX-License-Identifier: MIT
 *
 * The staged head on the CPU device: the rows it finds are those of the whole product, with the
 * same bits, for every head made to hurt, every number of threads and every CPU level; what cannot
 * be decided is left to the whole product.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "cpu/cpu.h"
#include "dev/dev.h"
#include "head_sets.h"

typedef struct rig {
    par_pool *pool;    /* threads */
    kern k;            /* kernels */
    dev *d;            /* device */
    dev_buf src, dst;  /* activations; the whole product */
    dev_mat mat;       /* the head */
    float *w;          /* [rows, cols], owned */
    uint8_t *raw;      /* in the head's type, owned */
    size_t rows, cols; /* of the head */
} rig;

typedef struct shape {
    unsigned cpu;      /* kernel level */
    int n_threads;     /* pool */
    uint32_t type;     /* of the head */
    size_t rows, cols; /* of the head */
} shape;

static void rig_up(rig *t, shape s, head_set set, uint64_t seed) {
    rotor_error err = {0};
    const double inv_freq = 1;
    memset(t, 0, sizeof *t);
    t->rows = s.rows, t->cols = s.cols;
    assert_int_equal(par_create(&t->pool, s.n_threads, false, &err), ROTOR_OK);
    kern_init(&t->k, s.cpu);
    const dev_shape ds = {.max_rows = 8,
                          .max_picked = 8,
                          .n_layer = 1,
                          .n_head = 1,
                          .n_head_kv = 1,
                          .d_head = 2,
                          .n_rot = 2,
                          .inv_freq = &inv_freq,
                          .n_pages = 1,
                          .solo_bytes = 1};
    assert_int_equal(dev_cpu_create(&t->d, &t->k, t->pool, &ds, &err), ROTOR_OK);
    t->w = malloc(s.rows * s.cols * sizeof *t->w);
    t->raw = malloc(s.rows * s.cols * sizeof *t->w);
    head_fill(t->w, s.rows, s.cols, set, seed);
    for (size_t i = 0; i < s.rows * s.cols; i++) {
        uint16_t h = s.type == QUANT_F16 ? quant_f32_to_f16(t->w[i]) : quant_f32_to_bf16(t->w[i]);
        if (s.type == QUANT_F32)
            memcpy(t->raw + 4 * i, &t->w[i], 4);
        else
            memcpy(t->raw + 2 * i, &h, 2);
    }
    const kern_mat m = {.data = t->raw,
                        .type = s.type,
                        .rows = s.rows,
                        .cols = s.cols,
                        .row_bytes = s.cols * (s.type == QUANT_F32 ? 4 : 2),
                        .scale = 1.0f};
    assert_int_equal(dev_add_buf(t->d, s.cols, DEV_PICKED, &t->src, &err), ROTOR_OK);
    assert_int_equal(dev_add_buf(t->d, s.rows, DEV_PICKED, &t->dst, &err), ROTOR_OK);
    assert_int_equal(dev_add_mat(t->d, &m, &t->mat, &err), ROTOR_OK);
    assert_int_equal(dev_add_staged(t->d, &m, &err), ROTOR_OK);
}

static void rig_down(rig *t) {
    dev_free(&t->d);
    par_free(&t->pool);
    free(t->w);
    free(t->raw);
}

static float *input(rig *t, uint32_t row) {
    float *x;
    const float *p = dev_read(t->d, t->src, row);
    memcpy(&x, &p, sizeof x); /* what a step would have written */
    return x;
}

/* ==== The reference =========================================================================== */

static const float *sort_by; /* products, for qsort */

static int better(const void *a, const void *b) {
    uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    float x = sort_by[i], y = sort_by[j];
    if (!(x == x)) x = -INFINITY;
    if (!(y == y)) y = -INFINITY;
    return x != y ? (x > y ? -1 : 1) : (i > j) - (i < j);
}

static bool aside(const dev_want *w, uint32_t r) {
    for (uint32_t i = 0; i < w->n_ids; i++)
        if (w->ids[i] == r) return true;
    return false;
}

/* What was found, against the whole product y. */
static void judge(const rig *t, const float *y, const dev_want *want, const dev_found *f) {
    uint8_t *has = calloc(t->rows, 1);
    uint32_t *order = malloc(t->rows * sizeof *order), n = 0;
    assert_true(f->n >= want->n_ids);
    for (uint32_t i = 0; i < f->n; i++) {
        assert_true(f->id[i] < t->rows && !has[f->id[i]]);
        has[f->id[i]] = 1;
        assert_memory_equal(&f->value[i], &y[f->id[i]], 4);
        if (i < f->n - want->n_ids) {
            assert_true(!aside(want, f->id[i]));
            assert_true(i == 0 || f->id[i] > f->id[i - 1]);
        } else {
            assert_int_equal(f->id[i], want->ids[i - (f->n - want->n_ids)]);
        }
    }
    for (uint32_t r = 0; r < t->rows; r++)
        if (!aside(want, r)) order[n++] = r;
    sort_by = y;
    qsort(order, n, sizeof *order, better);
    for (uint32_t i = 0; i < n; i++) {
        bool wanted = want->k ? i < want->k || y[order[i]] == y[order[want->k - 1]]
                              : y[order[i]] >= y[order[0]] - want->delta;
        if (wanted && !has[order[i]])
            fail_msg("row %u, %u-th best, was not found (k %u)", order[i], i + 1, want->k);
    }
    free(has);
    free(order);
}

/* Asks in several ways about one row, of the tile screened last. */
static uint32_t ask_all(rig *t, uint32_t row, base_rng *g) {
    static const uint32_t ks[] = {1, 2, 40, 0, 256, 0};
    const float *y = dev_read(t->d, t->dst, row);
    uint32_t decided = 0, ids[20];
    for (size_t i = 0; i < 2 * BASE_COUNT(ks); i++) {
        dev_want want = {.k = ks[i / 2], .ids = ids};
        dev_found found;
        want.delta = want.k ? 0 : i / 2 == 3 ? 0.0f : 3.0f;
        if (i % 2) { /* the best rows themselves, and others */
            uint32_t best = 0;
            for (uint32_t r = 1; r < t->rows; r++) best = y[r] > y[best] ? r : best;
            ids[want.n_ids++] = best;
            for (int j = 0; j < 12; j++) {
                uint32_t r = base_rng_below(g, (uint32_t)t->rows);
                if (!aside(&want, r)) ids[want.n_ids++] = r;
            }
        }
        if (want.k + want.n_ids > t->rows || !dev_find(t->d, row % DEV_STAGED_ROWS, &want, &found))
            continue;
        judge(t, y, &want, &found);
        decided++;
    }
    return decided;
}

static uint32_t try_head(shape s, head_set set, uint64_t seed) {
    rig t;
    base_rng g;
    uint32_t decided = 0;
    base_rng_seed(&g, seed);
    rig_up(&t, s, set, seed);
    for (uint32_t n = 1; n <= 8; n += n < 3 ? 1 : 5) {
        for (uint32_t i = 0; i < n; i++)
            head_fill_x(input(&t, i), t.w, t.rows, t.cols, set, seed + i);
        dev_product(t.d, t.mat, t.src, t.dst, n);
        for (uint32_t i = 0; i < n; i++) {
            const uint32_t tile = i % DEV_STAGED_ROWS;
            if (tile == 0) dev_screen(t.d, t.src, i, BASE_MIN(n - i, (uint32_t)DEV_STAGED_ROWS));
            decided += ask_all(&t, i, &g);
        }
    }
    rig_down(&t);
    return decided;
}

/* ==== Tests =================================================================================== */

static void finds_what_the_whole_product_says(void **state) {
    (void)state;
    static const uint32_t types[] = {QUANT_F16, QUANT_BF16, QUANT_F32};
    static const size_t rows[] = {1, 17, 500, 3001}, cols[] = {64, 100, 256};
    uint32_t decided[SET_KINDS] = {0}, n = 0;
    for (int set = 0; set < SET_KINDS; set++)
        for (size_t i = 0; i < 12; i++, n++) {
            if (rows[i % 4] > 1000 && getenv("ROTOR_TEST_QUICK")) continue;
            const shape s = {.cpu = i % 3 ? cpu_detect() : 0,
                             .n_threads = 1 + (int)(n % 4),
                             .type = types[n % 3],
                             .rows = rows[i % 4],
                             .cols = cols[i / 4]};
            decided[set] += try_head(s, (head_set)set, 100 + n);
        }
    for (int set = 0; set < SET_KINDS; set++) {
        print_message("%-9s %u searches decided\n", head_set_names[set], decided[set]);
        assert_true(decided[set] > 100);
    }
}

/* Same head and activation: the same rows whatever the level and the number of threads. */
static void threads_and_levels_find_the_same(void **state) {
    (void)state;
    uint32_t id[3000], n = 0;
    float x[256];
    for (int i = 0; i < 6; i++) {
        rig t;
        dev_found found;
        const dev_want want = {.k = 40};
        const shape s = {.cpu = i & 1 ? cpu_detect() : 0,
                         .n_threads = 1 + i / 2,
                         .type = QUANT_F16,
                         .rows = 3000,
                         .cols = 256};
        rig_up(&t, s, SET_MODEL, 8);
        if (i == 0) head_fill_x(x, t.w, 3000, 256, SET_MODEL, 8);
        memcpy(input(&t, 0), x, sizeof x);
        dev_screen(t.d, t.src, 0, 1);
        assert_true(dev_find(t.d, 0, &want, &found));
        if (i == 0) memcpy(id, found.id, (n = found.n) * sizeof *id);
        assert_int_equal(found.n, n);
        assert_memory_equal(id, found.id, n * sizeof *id);
        rig_down(&t);
    }
}

static void what_cannot_be_decided_is_said(void **state) {
    (void)state;
    rig t;
    dev_found found;
    dev_staged_stats st;
    const dev_want want = {.k = 1};
    const shape s = {
        .cpu = cpu_detect(), .n_threads = 2, .type = QUANT_F16, .rows = 1000, .cols = 64};
    rig_up(&t, s, SET_FLAT, 8);
    float *x = input(&t, 0);
    for (size_t c = 0; c < 64; c++) x[c] = 1;
    for (int i = 0; i < 2; i++) {
        x[3] = i ? NAN : INFINITY;
        dev_screen(t.d, t.src, 0, 1);
        assert_false(dev_find(t.d, 0, &want, &found));
    }
    for (size_t c = 0; c < 64; c++) x[c] = 0; /* every product is the same */
    dev_screen(t.d, t.src, 0, 1);
    assert_false(dev_find(t.d, 0, &want, &found));
    x[0] = 1;
    dev_screen(t.d, t.src, 0, 1);
    const dev_want all = {.delta = 1e30f};
    assert_false(dev_find(t.d, 0, &all, &found)); /* everybody is wanted */
    dev_staged_stats_get(t.d, &st);
    assert_true(st.finds == 4 && st.undecided == 4 && st.exact == 0);
    rig_down(&t);
}

/* Not-a-number and infinite weights go through the whole kernel and come back as they are. */
static void broken_rows_are_always_found(void **state) {
    (void)state;
    rig t;
    dev_found found;
    const dev_want want = {.k = 3};
    const shape s = {
        .cpu = cpu_detect(), .n_threads = 2, .type = QUANT_F32, .rows = 1000, .cols = 64};
    rotor_error err;
    rig_up(&t, s, SET_MODEL, 8);
    dev_free(&t.d);
    const double inv_freq = 1;
    const float nan = NAN, inf = INFINITY;
    memcpy(t.raw + (500 * 64 + 3) * 4, &nan, 4);
    memcpy(t.raw + (501 * 64 + 3) * 4, &inf, 4);
    const dev_shape ds = {.max_rows = 8,
                          .max_picked = 8,
                          .n_layer = 1,
                          .n_head = 1,
                          .n_head_kv = 1,
                          .d_head = 2,
                          .n_rot = 2,
                          .inv_freq = &inv_freq,
                          .n_pages = 1};
    const kern_mat m = {
        .data = t.raw, .type = s.type, .rows = 1000, .cols = 64, .row_bytes = 256, .scale = 1.0f};
    assert_int_equal(dev_cpu_create(&t.d, &t.k, t.pool, &ds, &err), ROTOR_OK);
    assert_int_equal(dev_add_buf(t.d, 64, DEV_PICKED, &t.src, &err), ROTOR_OK);
    assert_int_equal(dev_add_buf(t.d, 1000, DEV_PICKED, &t.dst, &err), ROTOR_OK);
    assert_int_equal(dev_add_mat(t.d, &m, &t.mat, &err), ROTOR_OK);
    assert_int_equal(dev_add_staged(t.d, &m, &err), ROTOR_OK);
    head_fill_x(input(&t, 0), t.w, 1000, 64, SET_MODEL, 5);
    dev_product(t.d, t.mat, t.src, t.dst, 1);
    dev_screen(t.d, t.src, 0, 1);
    assert_true(dev_find(t.d, 0, &want, &found));
    judge(&t, dev_read(t.d, t.dst, 0), &want, &found);
    bool seen[2] = {false};
    for (uint32_t i = 0; i < found.n; i++) {
        seen[0] |= found.id[i] == 500;
        seen[1] |= found.id[i] == 501;
    }
    assert_true(seen[0] && seen[1]);
    rig_down(&t);
}

static void no_memory_leaves_no_planes(void **state) {
    (void)state;
    const shape s = {.n_threads = 2, .type = QUANT_F16, .rows = 100, .cols = 64};
    rig t;
    rig_up(&t, s, SET_FLAT, 8);
    rotor_error err;
    for (long i = 1; i < 50; i++) {
        dev *d = NULL;
        const double inv_freq = 1;
        const dev_shape ds = {.max_rows = 8,
                              .max_picked = 8,
                              .n_layer = 1,
                              .n_head = 1,
                              .n_head_kv = 1,
                              .d_head = 2,
                              .n_rot = 2,
                              .inv_freq = &inv_freq,
                              .n_pages = 1};
        const kern_mat m = {.data = t.raw,
                            .type = QUANT_F16,
                            .rows = 100,
                            .cols = 64,
                            .row_bytes = 128,
                            .scale = 1.0f};
        assert_int_equal(dev_cpu_create(&d, &t.k, t.pool, &ds, &err), ROTOR_OK);
        base_fault_after(i);
        rotor_status st = dev_add_staged(d, &m, &err);
        bool fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st, fired ? ROTOR_E_NOMEM : ROTOR_OK);
        dev_free(&d);
        if (!fired) break;
        assert_true(i < 49);
    }
    const kern_mat odd = {
        .data = t.raw, .type = QUANT_Q8_0, .rows = 10, .cols = 64, .row_bytes = 68, .scale = 1.0f};
    dev *d = NULL;
    const double inv_freq = 1;
    const dev_shape ds = {.max_rows = 8,
                          .max_picked = 8,
                          .n_layer = 1,
                          .n_head = 1,
                          .n_head_kv = 1,
                          .d_head = 2,
                          .n_rot = 2,
                          .inv_freq = &inv_freq,
                          .n_pages = 1};
    assert_int_equal(dev_cpu_create(&d, &t.k, t.pool, &ds, &err), ROTOR_OK);
    assert_int_equal(dev_add_staged(d, &odd, &err), ROTOR_E_UNSUPPORTED);
    dev_free(&d);
    rig_down(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_the_whole_product_says),
        cmocka_unit_test(threads_and_levels_find_the_same),
        cmocka_unit_test(what_cannot_be_decided_is_said),
        cmocka_unit_test(broken_rows_are_always_found),
        cmocka_unit_test(no_memory_leaves_no_planes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
