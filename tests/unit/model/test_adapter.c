/* SPDX-License-Identifier: MIT
 *
 * Adapter files: right ones are bound to their projections, wrong ones are refused with what is
 * wrong in the message.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "lora_file.h"
#include "model/model.h"

static const tiny_shape shape = {2, 64, 4, 2, 128, 97, 512};
static char model_path[96], path[96];
static model *m;

static rotor_status open_it(const lora_file *f, model_adapter **a, rotor_error *err) {
    const model_options opt = {.i2s = -1};
    *a = NULL;
    lora_file_write(f, path, 3);
    return model_adapter_open(a, path, m, &opt, err);
}

static void a_right_one_is_bound(void **state) {
    (void)state;
    const uint32_t types[] = {QUANT_F32, QUANT_F16, QUANT_BF16};
    for (size_t i = 0; i < BASE_COUNT(types); i++) {
        lora_file f;
        model_adapter *a;
        rotor_error err = {0};
        lora_file_start(&f, "bitnet-b1.58", shape, 3, types[i], 1);
        lora_file_drop(&f, "blk.1.attn_k.weight.lora_a"); /* not every projection needs one */
        lora_file_drop(&f, "blk.1.attn_k.weight.lora_b");
        if (open_it(&f, &a, &err) != ROTOR_OK) fail_msg("%s", err.message);
        assert_int_equal(a->rank, 3);
        assert_int_equal(a->n_pairs, 13);
        assert_true(a->alpha == 6);
        const model_lora *down = &a->at[MODEL_N_PROJ + MODEL_DOWN];
        assert_int_equal(down->a.cols, 128);
        assert_int_equal(down->b.rows, 64);
        assert_int_equal(down->a.type, types[i]);
        assert_null(a->at[MODEL_N_PROJ + MODEL_K].a.data);
        assert_true(model_lora_scale(a, down, 1) == 2);
        assert_true(model_lora_scale(a, down, 0.5f) == 1);
        a->alpha = 0; /* as other programs take it: no scale */
        assert_true(model_lora_scale(a, down, 0.5f) == 0.5f);
        model_adapter_close(&a);
        assert_null(a);
    }
}

typedef struct wrong {
    const char *told; /* in the message */
    int what;         /* is wrong */
} wrong;

static void break_it(lora_file *f, int what) {
    lora_part *q_a = lora_file_part(f, "blk.0.attn_q.weight.lora_a");
    lora_part *v_b = lora_file_part(f, "blk.1.attn_v.weight.lora_b");
    if (what == 0) f->type = NULL;
    if (what == 1) f->arch = "llama";
    if (what == 2) f->kind = "control_vector";
    if (what == 3) f->no_alpha = true;
    if (what == 4) f->alpha = NAN;
    if (what == 5) f->alpha = INFINITY;
    if (what == 6) lora_file_drop(f, "blk.0.attn_q.weight.lora_b");
    if (what == 7) lora_file_drop(f, "blk.1.ffn_up.weight.lora_a");
    if (what == 8) q_a->cols = 60;
    if (what == 9) v_b->rows = 64;
    if (what == 10) v_b->cols = 4;
    if (what == 11) snprintf(q_a->name, sizeof q_a->name, "token_embd.weight.lora_a");
    if (what == 12) snprintf(q_a->name, sizeof q_a->name, "output.weight.lora_b");
    if (what == 13) snprintf(q_a->name, sizeof q_a->name, "blk.0.attn_norm.weight");
    if (what == 14) snprintf(q_a->name, sizeof q_a->name, "blk.2.attn_q.weight.lora_a");
    if (what == 15) snprintf(q_a->name, sizeof q_a->name, "blk.0.attn_gate.weight.lora_a");
    if (what == 16) v_b->size = NAN;
    if (what == 17) q_a->type = QUANT_Q8_0;
    if (what == 18) f->more = "adapter.alora.invocation_tokens";
    if (what == 19) f->n = 0;
    if (what == 20)
        snprintf(q_a->name, sizeof q_a->name, "blk.99999999999999999.attn_q.weight.lora_a");
    if (what == 21) snprintf(q_a->name, sizeof q_a->name, "blk..attn_q.weight.lora_a");
}

static void a_wrong_one_is_refused(void **state) {
    (void)state;
    static const wrong cases[] = {
        {"not an adapter", 0},
        {"for models of architecture llama; this model is bitnet-b1.58", 1},
        {"of type control_vector; only plain lora", 2},
        {"adapter.lora.alpha is missing or not a finite number", 3},
        {"adapter.lora.alpha is missing or not a finite number", 4},
        {"adapter.lora.alpha is missing or not a finite number", 5},
        {"blk.0.attn_q.weight.lora_a has no lora_b beside it", 6},
        {"blk.1.ffn_up.weight.lora_b has no lora_a beside it", 7},
        {"blk.0.attn_q.weight: lora_a is 3 x 60 and lora_b 64 x 3 (rows x columns), expected r x "
         "64 "
         "and 64 x r",
         8},
        {"lora_b 64 x 3 (rows x columns), expected r x 64 and 32 x r", 9},
        {"lora_b 32 x 4 (rows x columns), expected r x 64 and 32 x r", 10},
        {"tensor token_embd.weight.lora_a is no half of a pair beside a projection", 11},
        {"tensor output.weight.lora_b is no half of a pair beside a projection", 12},
        {"tensor blk.0.attn_norm.weight is no half of a pair beside a projection", 13},
        {"tensor blk.2.attn_q.weight.lora_a: the model has 2 layers", 14},
        {"tensor blk.0.attn_gate.weight.lora_a is no half of a pair beside a projection", 15},
        {"tensor blk.1.attn_v.weight.lora_b: row 16, column 0 is not a finite number", 16},
        {"is of another type than F32, F16 or BF16", 17},
        {"that tokens switch on; only plain lora", 18},
        {"an adapter without any tensor", 19},
        {"no half of a pair", 20},
        {"no half of a pair", 21}};
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        lora_file f;
        model_adapter *a;
        rotor_error err = {0};
        lora_file_start(&f, "bitnet-b1.58", shape, 3, QUANT_F32, 1);
        break_it(&f, cases[i].what);
        if (open_it(&f, &a, &err) == ROTOR_OK) fail_msg("case %d is taken", cases[i].what);
        if (!strstr(err.message, cases[i].told))
            fail_msg("case %d: %s\nexpected: %s", cases[i].what, err.message, cases[i].told);
        assert_non_null(strstr(err.message, path));
        assert_null(a);
    }
}

static void a_model_is_no_adapter_and_the_other_way_round(void **state) {
    (void)state;
    const model_options opt = {.i2s = -1};
    model_adapter *a = NULL;
    model *none = NULL;
    lora_file f;
    rotor_error err = {0};
    assert_int_equal(model_adapter_open(&a, model_path, m, &opt, &err), ROTOR_E_FORMAT);
    assert_non_null(strstr(err.message, "not an adapter"));
    lora_file_start(&f, "bitnet-b1.58", shape, 3, QUANT_F32, 1);
    lora_file_write(&f, path, 3);
    assert_int_equal(model_open(&none, path, &opt, &err), ROTOR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "--lora FILE"));
    assert_null(none);
}

static void layers_that_do_not_run_are_skipped(void **state) {
    (void)state;
    const model_options opt = {.i2s = -1, .max_layers = 1};
    model *first = NULL;
    model_adapter *a = NULL;
    lora_file f;
    rotor_error err = {0};
    lora_file_start(&f, "bitnet-b1.58", shape, 3, QUANT_F32, 1);
    lora_file_write(&f, path, 3);
    assert_int_equal(model_open(&first, model_path, &opt, &err), ROTOR_OK);
    if (model_adapter_open(&a, path, first, &opt, &err) != ROTOR_OK) fail_msg("%s", err.message);
    assert_int_equal(a->n_pairs, 7);
    model_adapter_close(&a);
    model_close(&first);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_one_is_bound),
        cmocka_unit_test(a_wrong_one_is_refused),
        cmocka_unit_test(a_model_is_no_adapter_and_the_other_way_round),
        cmocka_unit_test(layers_that_do_not_run_are_skipped),
    };
    const model_options opt = {.i2s = -1};
    rotor_error err = {0};
    tiny_write(tiny_path(model_path, "adapter-model.gguf"), TINY_BITNET, shape, 7, NULL);
    tiny_path(path, "adapter.gguf");
    if (model_open(&m, model_path, &opt, &err) != ROTOR_OK) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    model_close(&m);
    unlink(model_path);
    unlink(path);
    return failed;
}
