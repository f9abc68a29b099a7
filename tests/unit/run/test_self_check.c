/* SPDX-License-Identifier: MIT
 *
 * Checks while running: a clean run has nothing to report and the bits it would have had; a kernel
 * that is wrong in one bit, a byte that changes under the mapping, a weight that is no number and
 * memory that rots are each found, and the line says where. The budget is kept by counting.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "run/run_internal.h"
#include "tiny_model.h"

enum { CHUNK = 16, PROMPT = 20, DECODE = 40, SUMS_WITHIN = 40 };

typedef struct rig {
    char path[96];  /* of the model file, while it is open */
    par_pool *pool; /* two threads */
    model *m;       /* mapped */
    run_engine *e;
    run_session *s;
} rig;

static void open_rig(rig *g, run_head head, float self_check) {
    rotor_error err = {0};
    const model_options mo = {.i2s = -1};
    assert_int_equal(par_create(&g->pool, 2, false, &err), ROTOR_OK);
    if (model_open(&g->m, g->path, &mo, &err) != ROTOR_OK) fail_msg("%s", err.message);
    const run_options o = {.cpu = cpu_detect(),
                           .n_pages = 4,
                           .chunk = CHUNK,
                           .head = head,
                           .solo_bytes = 1,
                           .self_check = self_check};
    if (run_create(&g->e, g->m, g->pool, &o, &err) != ROTOR_OK) fail_msg("%s", err.message);
    assert_int_equal(run_session_create(&g->s, g->e, 200, &err), ROTOR_OK);
}

static void write_rig(rig *g, tiny_kind kind) {
    *g = (rig){0};
    tiny_write(tiny_path(g->path, "check.gguf"), kind, tiny_default(), 7, NULL);
}

static void rig_up(rig *g, tiny_kind kind, float self_check) {
    write_rig(g, kind);
    open_rig(g, RUN_HEAD_FILE, self_check);
}

static void close_rig(rig *g) {
    run_session_free(&g->s);
    run_free(&g->e);
    model_close(&g->m);
    par_free(&g->pool);
}

static void rig_down(rig *g) {
    close_rig(g);
    unlink(g->path);
}

static rotor_status prompt(rig *g, rotor_error *err) {
    uint32_t ids[PROMPT];
    for (uint32_t i = 0; i < PROMPT; i++) ids[i] = (i * 37 + 5) % 91;
    return run_session_sync(g->s, ids, PROMPT, NULL, NULL, NULL, err);
}

static rotor_status decode(rig *g, uint32_t n, rotor_error *err) {
    for (uint32_t i = 0; i < n; i++) {
        const run_row row = {g->s, (i * 11 + 3) % 91, true};
        ROTOR_TRY(run_eval(g->e, &row, 1, err));
    }
    return ROTOR_OK;
}

static run_check_stats stats(const rig *g) {
    run_check_stats st;
    assert_true(run_check_get(g->e, &st));
    return st;
}

static void says(const char *line, const char *part) {
    if (!strstr(line, part)) fail_msg("\"%s\" does not say \"%s\"", line, part);
}

/* ==== The budget ============================================================================== */

/* Steps of all sizes, units that suddenly take a hundred times as long: what was spent is never
 * more than the share and the one unit that was a surprise. */
static void the_budget_is_kept(void **state) {
    run_allowance a = {.share = 0.02};
    uint64_t worst = 0;
    double price = 20000;
    (void)state;
    assert_int_equal(run_allowance_left(&a), 0);
    for (uint64_t i = 1; i < 5000; i++) {
        const uint64_t unit = i % 997 == 0 ? 400000 : 4000;
        const size_t n = run_allowance_units(run_allowance_left(&a), price, 64);
        assert_true(n <= 64);
        run_allowance_add(&a, i % 3 ? 30000 : 5000000, n * unit);
        if (n) price = (double)unit;
        worst = BASE_MAX(worst, n * unit);
        assert_true((double)a.spent_ns <= 0.02 * (double)a.total_ns + 64 * 400000.0);
    }
    assert_true(worst > 0 && a.spent_ns > a.total_ns / 100);
    a.share = 1;
    assert_int_equal(run_allowance_left(&a), UINT64_MAX);
    assert_int_equal(run_allowance_units(UINT64_MAX, price, 7), 7);
}

/* ==== Nothing is wrong ======================================================================== */

static void a_clean_run_reports_nothing(void **state) {
    (void)state;
    for (int k = 0; k <= TINY_GPT_OSS; k++) {
        rig checked, plain;
        rotor_error err = {0};
        rig_up(&checked, (tiny_kind)k, 1);
        if (prompt(&checked, &err) != ROTOR_OK || decode(&checked, DECODE, &err) != ROTOR_OK)
            fail_msg("kind %d: %s", k, err.message);
        const run_check_stats st = stats(&checked);
        assert_int_equal(st.faults, 0);
        assert_string_equal(st.fault, "");
        assert_int_equal(st.steps, 2 + DECODE);
        assert_int_equal(st.logits, 1 + DECODE);
        assert_true(st.products >= st.steps * 2);
        assert_true(st.weight_bytes >= st.weight_all_bytes);

        char keep[96];
        memcpy(keep, checked.path, sizeof keep);
        plain = (rig){0};
        memcpy(plain.path, keep, sizeof keep);
        open_rig(&plain, RUN_HEAD_FILE, 0);
        assert_int_equal(prompt(&plain, &err), ROTOR_OK);
        assert_int_equal(decode(&plain, DECODE, &err), ROTOR_OK);
        run_check_stats none;
        assert_false(run_check_get(plain.e, &none));
        assert_memory_equal(run_logits(plain.e, 0), run_logits(checked.e, 0),
                            plain.m->hp.n_vocab * sizeof(float));
        rig_down(&plain);
        rig_down(&checked);
    }
}

/* What the checks do, in multiplications and bytes, is little beside what the steps do. */
static void little_is_done_twice(void **state) {
    rig g;
    rotor_error err = {0};
    (void)state;
    rig_up(&g, TINY_LLAMA_Q8, 1); /* without a limit: one row of every product */
    assert_int_equal(decode(&g, DECODE, &err), ROTOR_OK);
    const run_check_stats st = stats(&g);
    run_parts parts = {0};
    uint64_t all = 0, one = 0;
    assert_int_equal(run_list_parts(&parts, g.e, &err), ROTOR_OK);
    for (size_t i = 1; i < parts.n; i++) { /* all but the embedding */
        all += parts.list[i].w.rows * parts.list[i].w.cols;
        one += parts.list[i].w.cols;
    }
    assert_int_equal(st.macs, one * DECODE);
    assert_true(st.macs * 16 < all * DECODE);
    assert_true(st.weight_bytes <= parts.bytes * DECODE / 4);
    run_free_parts(&parts);
    rig_down(&g);
}

/* ==== Something is ============================================================================ */

static kern right; /* the kernels as they were */

#define WRONG_IN_ONE_BIT(slot)                                                                     \
    static void wrong_##slot(float *y, size_t ldy, const kern_mat *w, const kern_act *x,           \
                             size_t begin, size_t end) {                                           \
        right.slot(y, ldy, w, x, begin, end);                                                      \
        for (size_t b = 0; b < x->n_tok; b++)                                                      \
            for (size_t r = begin; r < end; r++) ((uint8_t *)&y[b * ldy + r])[0] ^= 1;             \
    }
WRONG_IN_ONE_BIT(gemv_t2_i8)
WRONG_IN_ONE_BIT(gemm_t2_i8)
WRONG_IN_ONE_BIT(gemv_t5_i8)
WRONG_IN_ONE_BIT(mm_b32_q8)
WRONG_IN_ONE_BIT(mm_f32)

static void found_in(tiny_kind kind, kern_mm_fn *slot, kern_mm_fn wrong, rig *g, bool in_prompt) {
    rotor_error err = {0}, again = {0};
    if (!in_prompt) assert_int_equal(prompt(g, &err), ROTOR_OK);
    *slot = wrong;
    const uint32_t len = run_session_len(g->s);
    const rotor_status st = in_prompt ? prompt(g, &err) : decode(g, 1, &err);
    if (st != ROTOR_E_DEVICE) fail_msg("kind %d: the wrong kernel was not found", (int)kind);
    says(err.message, "self-check, step ");
    says(err.message, "tensor ");
    says(err.message, "expected ");
    says(err.message, "kernel is wrong");
    assert_int_equal(run_session_len(g->s), len);
    assert_int_equal(decode(g, 1, &again), ROTOR_E_DEVICE); /* for good */
    assert_string_equal(again.message, err.message);
    assert_int_equal(stats(g).faults, 1);
    assert_string_equal(stats(g).fault, err.message);
    rig_down(g);
}

static void a_wrong_kernel_is_found(void **state) {
    rig g;
    (void)state;
#define FOUND(kind, slot, in_prompt)                                                               \
    rig_up(&g, kind, 1);                                                                           \
    right = g.e->k;                                                                                \
    found_in(kind, &g.e->k.slot, wrong_##slot, &g, in_prompt)
    FOUND(TINY_BITNET, gemv_t2_i8, false);
    FOUND(TINY_BITNET, gemm_t2_i8, true);
    FOUND(TINY_BITNET_T5, gemv_t5_i8, false);
    FOUND(TINY_LLAMA_Q8, mm_b32_q8, false);
    FOUND(TINY_LLAMA_Q8, mm_b32_q8, true);
    FOUND(TINY_LLAMA_F32, mm_f32, false);
    FOUND(TINY_GPT_OSS, mm_f32, false);
}

/* Where a tensor's bytes are in the file. */
static uint64_t offset_of(const rig *g, const char *name, uint64_t *bytes) {
    const file_tensor *t = file_tensor_find(g->m->file, name);
    assert_non_null(t);
    *bytes = t->bytes;
    return t->offset;
}

static void write_at(const char *path, uint64_t at, const void *data, size_t n) {
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void a_changed_file_is_found(void **state) {
    static const char *const names[] = {"blk.1.ffn_down.weight", "blk.0.attn_k.weight",
                                        "token_embd.weight"};
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        rig g;
        uint64_t bytes;
        rotor_error err = {0};
        rig_up(&g, TINY_LLAMA_Q8, 1);
        assert_int_equal(prompt(&g, &err), ROTOR_OK);
        const uint64_t at = offset_of(&g, names[i], &bytes);
        write_at(g.path, at + bytes / 2, "changed", 7);
        assert_int_equal(decode(&g, SUMS_WITHIN, &err), ROTOR_E_DEVICE);
        says(err.message, names[i]);
        if (i == 0) says(err.message, "layer 1");
        says(err.message, "checksum");
        says(err.message, "the file was changed");
        rig_down(&g);
    }
}

static void rotten_memory_is_found(void **state) {
    rig g;
    rotor_error err = {0};
    (void)state;
    write_rig(&g, TINY_BITNET);
    open_rig(&g, RUN_HEAD_Q8, 1);
    assert_non_null(g.e->head_copy);
    assert_int_equal(decode(&g, 3, &err), ROTOR_OK);
    g.e->head_copy[100] ^= 4;
    assert_int_equal(decode(&g, SUMS_WITHIN, &err), ROTOR_E_DEVICE);
    says(err.message, "output (requantised)");
    rig_down(&g);
}

/* Not for good: the next step may be of a text that has no such logits. */
static void what_is_no_number_is_found(void **state) {
    const float nan = NAN;
    rig g;
    uint64_t bytes;
    rotor_error err = {0};
    (void)state;
    rig_up(&g, TINY_LLAMA_F32, 0);
    const uint64_t at = offset_of(&g, "blk.1.ffn_up.weight", &bytes);
    const uint32_t cols = g.m->hp.n_embd;
    char path[96];
    memcpy(path, g.path, sizeof path);
    write_at(path, at + (5 * cols + 3) * 4, &nan, 4);
    for (int unlimited = 0; unlimited < 2; unlimited++) { /* logits are looked at without budget */
        rig bad = {0};
        memcpy(bad.path, path, sizeof path);
        open_rig(&bad, RUN_HEAD_FILE, unlimited ? 1 : 1e-6f);
        assert_int_equal(prompt(&bad, &err), ROTOR_E_DEVICE);
        says(err.message, "tensor blk.1.ffn_up.weight, layer 1, row 5, column 3 is nan");
        says(err.message, "expected a number");
        assert_true(stats(&bad).faults == 1);
        assert_int_equal(decode(&bad, 1, &err), ROTOR_E_DEVICE);
        assert_int_equal(stats(&bad).faults, 2);
        close_rig(&bad);
    }
    rig_down(&g);
}

/* Outputs that are no numbers, as the C kernel has them, too: the model's fault, not a kernel's. */
static void a_matrix_without_numbers_is_named(void **state) {
    rig g;
    uint64_t bytes;
    rotor_error err = {0};
    (void)state;
    write_rig(&g, TINY_LLAMA_F32);
    open_rig(&g, RUN_HEAD_FILE, 0);
    const uint64_t at = offset_of(&g, "blk.1.ffn_up.weight", &bytes);
    float *none = calloc(1, bytes);
    for (uint64_t i = 0; i < bytes / 4; i++) none[i] = NAN;
    char path[96];
    memcpy(path, g.path, sizeof path);
    write_at(path, at, none, bytes);
    free(none);
    rig bad = {0};
    memcpy(bad.path, path, sizeof path);
    open_rig(&bad, RUN_HEAD_FILE, 1);
    for (uint64_t i = 1; i < 9; i++) { /* whichever row is looked at */
        assert_int_equal(prompt(&bad, &err), ROTOR_E_DEVICE);
        says(err.message, "expected a number");
        says(err.message, "tensor blk.1.ffn_up.weight, layer 1, row 0, column 0 is nan");
        assert_null(strstr(err.message, "kernel is wrong"));
        assert_int_equal(stats(&bad).faults, i);
    }
    close_rig(&bad);
    rig_down(&g);
}

/* A text without numbers, then a weight that rots: what all later calls say is the latter. */
static void what_is_for_good_is_what_is_repeated(void **state) {
    const float nan = NAN;
    rig g;
    uint64_t bytes;
    rotor_error err = {0}, again = {0};
    (void)state;
    write_rig(&g, TINY_LLAMA_F32);
    open_rig(&g, RUN_HEAD_FILE, 0);
    const uint64_t table = offset_of(&g, "token_embd.weight", &bytes);
    const uint64_t row = 4ull * g.m->hp.n_embd;
    const uint64_t down = offset_of(&g, "blk.1.ffn_down.weight", &bytes);
    char path[96];
    memcpy(path, g.path, sizeof path);
    write_at(path, table + 5 * row, &nan, 4); /* the prompt's first token */
    rig bad = {0};
    memcpy(bad.path, path, sizeof path);
    open_rig(&bad, RUN_HEAD_FILE, 1);
    assert_int_equal(prompt(&bad, &err), ROTOR_E_DEVICE);
    says(err.message, "is nan");
    assert_int_equal(decode(&bad, 2, &err), ROTOR_OK);
    write_at(path, down + bytes / 2, "changed", 7);
    assert_int_equal(decode(&bad, 20, &err), ROTOR_E_DEVICE); /* the 25th is that token */
    says(err.message, "checksum");
    assert_int_equal(decode(&bad, 1, &again), ROTOR_E_DEVICE);
    assert_string_equal(again.message, err.message);
    close_rig(&bad);
    rig_down(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_budget_is_kept),
        cmocka_unit_test(a_clean_run_reports_nothing),
        cmocka_unit_test(little_is_done_twice),
        cmocka_unit_test(a_wrong_kernel_is_found),
        cmocka_unit_test(a_changed_file_is_found),
        cmocka_unit_test(rotten_memory_is_found),
        cmocka_unit_test(what_is_no_number_is_found),
        cmocka_unit_test(a_matrix_without_numbers_is_named),
        cmocka_unit_test(what_is_for_good_is_what_is_repeated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
