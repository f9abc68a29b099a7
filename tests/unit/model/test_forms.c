/* SPDX-License-Identifier: MIT
 *
 * model: the forms a GGUF model comes in. Scales beside matrices, scales per row, frequencies with
 * divisors, float weights that are ternary already; and what is refused because honouring it is
 * beyond this program. Numbers of whole passes: tests/golden.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "must.h"

/* ==== Scales
 * ========================================================================================= */

static void scale_tensors_multiply_whatever_type_stands_beside_them(void **state) {
    (void)state;
    const uint32_t types[] = {QUANT_I2_S, QUANT_TQ2_0, QUANT_IQ2_BN,
                              QUANT_T5,   QUANT_Q8_0,  QUANT_F16};
    const float three = 3;
    for (size_t i = 0; i < BASE_COUNT(types); i++) {
        forge f;
        forge_start(&f, "bitnet", types[i]);
        model *before = must_open(&f);
        const float scale = before->layers[0].v.scale;
        model_close(&before);
        forge_put(&f, "blk.0.attn_v.scale", QUANT_F32, 1, 1, &three);
        model *m = must_open(&f);
        assert_true(fabsf(m->layers[0].v.scale - 3 * scale) <= 1e-6f * scale);
        assert_true(m->layers[0].q.scale > 0 &&
                    (types[i] != QUANT_Q8_0 || m->layers[0].q.scale == 1));
        model_close(&m);
        forge_end(&f);
    }
}

/* The scale of one row of an IQ2_BN matrix. */
static void set_row_scale(forge *f, const char *name, size_t row, float scale) {
    forge_part *p = forge_part_of(f, name);
    memcpy(p->bytes + row * (4 + p->cols / 4), &scale, sizeof scale);
}

static void row_scales_are_kept_and_multiplied(void **state) {
    (void)state;
    forge f;
    const float three = 3;
    forge_start(&f, "bitnet", QUANT_IQ2_BN);
    for (size_t r = 0; r < 256; r++)
        set_row_scale(&f, "blk.0.ffn_up.weight", r, 0.01f * (float)(r + 1));
    forge_put(&f, "blk.0.ffn_up.scale", QUANT_F32, 1, 1, &three);
    model *m = must_open(&f);
    assert_non_null(m->layers[0].up.row_scale);
    assert_null(m->layers[0].gate.row_scale);
    for (size_t r = 0; r < 256; r++)
        assert_float_equal(m->layers[0].up.row_scale[r], 0.03f * (float)(r + 1), 1e-5);
    model_close(&m);
    forge_end(&f);
}

/* The same of T5, whose scales stand behind the codes. */
static void set_t5_scale(forge *f, const char *name, size_t row, float scale) {
    forge_part *p = forge_part_of(f, name);
    memcpy(p->bytes + quant_t5_code_bytes(p->rows, p->cols) + 4 * row, &scale, sizeof scale);
}

static void row_scales_of_t5_are_kept_and_multiplied(void **state) {
    (void)state;
    forge f;
    const float three = 3;
    forge_start(&f, "bitnet", QUANT_T5);
    for (size_t r = 0; r < 256; r++)
        set_t5_scale(&f, "blk.0.ffn_up.weight", r, 0.01f * (float)(r + 1));
    forge_put(&f, "blk.0.ffn_up.scale", QUANT_F32, 1, 1, &three);
    model *m = must_open(&f);
    assert_non_null(m->layers[0].up.row_scale);
    assert_null(m->layers[0].gate.row_scale);
    for (size_t r = 0; r < 256; r++)
        assert_float_equal(m->layers[0].up.row_scale[r], 0.03f * (float)(r + 1), 1e-5);
    model_close(&m);
    set_t5_scale(&f, "blk.0.ffn_up.weight", 200, INFINITY);
    must_refuse(&f, ROTOR_E_FORMAT, "blk.0.ffn_up.weight: a scale is inf");
}

static void rows_of_scale_zero_are_zero_whatever_their_codes(void **state) {
    (void)state;
    forge f;
    int8_t t[256];
    uint64_t bad;
    forge_start(&f, "bitnet", QUANT_IQ2_BN);
    set_row_scale(&f, "blk.0.ffn_up.weight", 7, 0);
    model *m = must_open(&f);
    const model_mat *w = &m->layers[0].up;
    assert_null(w->row_scale);
    assert_true(quant_t2_unpack_row(w->data + 7 * w->row_bytes, 256, t, &bad));
    for (int i = 0; i < 256; i++) assert_int_equal(t[i], 0);
    model_close(&m);
    forge_end(&f);
}

static void bad_scales_are_refused(void **state) {
    (void)state;
    const float values[] = {0, -1, NAN, INFINITY}, two[2] = {1, 1}, nan = NAN;
    forge f;
    for (size_t i = 0; i < BASE_COUNT(values); i++) {
        forge_start(&f, "bitnet", i % 2 ? QUANT_Q8_0 : QUANT_I2_S);
        memcpy(forge_put_bytes(&f, "blk.0.attn_v.scale", QUANT_F32, 1, 1), &values[i], 4);
        must_refuse(&f, ROTOR_E_FORMAT, "blk.0.attn_v.weight");
    }
    forge_start(&f, "bitnet", QUANT_I2_S);
    forge_put(&f, "blk.0.attn_v.scale", QUANT_F32, 1, 2, two);
    must_refuse(&f, ROTOR_E_FORMAT, "blk.0.attn_v.scale has 2 values");
    forge_start(&f, "bitnet", QUANT_I2_S); /* the tail of the tensor */
    memcpy(forge_part_of(&f, "blk.0.ffn_down.weight")->bytes + 256 * 256 / 4, &nan, 4);
    must_refuse(&f, ROTOR_E_FORMAT, "blk.0.ffn_down.weight: a scale is nan");
    forge_start(&f, "bitnet", QUANT_IQ2_BN);
    set_row_scale(&f, "blk.0.ffn_up.weight", 200, INFINITY);
    must_refuse(&f, ROTOR_E_FORMAT, "blk.0.ffn_up.weight: a scale is inf");
}

/* ==== Ternary in other clothes
 * ========================================================================= */

static void blocks_with_scales_of_their_own_stay_blocks(void **state) {
    (void)state;
    forge f;
    forge_start(&f, "bitnet", QUANT_TQ2_0);
    forge_put(&f, "blk.0.ffn_up.weight", QUANT_TQ2_0, 256, 512, NULL); /* two blocks a row … */
    uint16_t half = quant_f32_to_f16(0.25f);
    memcpy(forge_part_of(&f, "blk.0.ffn_up.weight")->bytes + 5 * 132 + 66 + 64, &half, 2);
    forge_put(&f, "blk.0.ffn_gate.weight", QUANT_TQ2_0, 256, 512, NULL);
    forge_put(&f, "blk.0.ffn_down.weight", QUANT_TQ2_0, 512, 256, NULL);
    forge_put(&f, "blk.0.attn_q.weight", QUANT_TQ2_0, 256, 512, NULL);
    forge_put(&f, "blk.0.attn_k.weight", QUANT_TQ2_0, 128, 512, NULL);
    forge_put(&f, "blk.0.attn_v.weight", QUANT_TQ2_0, 128, 512, NULL);
    forge_put(&f, "blk.0.attn_output.weight", QUANT_TQ2_0, 512, 256, NULL);
    forge_put(&f, "blk.0.attn_norm.weight", QUANT_F32, 1, 512, NULL);
    forge_put(&f, "blk.0.ffn_norm.weight", QUANT_F32, 1, 512, NULL);
    forge_put(&f, "output_norm.weight", QUANT_F32, 1, 512, NULL);
    forge_put(&f, "token_embd.weight", QUANT_F16, FORGE_V, 512, NULL);
    forge_u32(&f, ".embedding_length", 512);
    forge_u32(&f, ".attention.key_length", 64);
    model *m = must_open(&f);
    assert_int_equal(m->layers[0].up.type, QUANT_TQ2_0); /* … which disagree in row 5 */
    assert_int_equal(m->layers[0].up.row_bytes, 132);
    assert_int_equal(m->layers[0].gate.type, QUANT_I2_S);
    uint64_t t2 =
        256 * 128 * 3 + 128 * 128 * 2 + 512 * 64 * 2 - 256 * 128; /* the copy was given back */
    assert_true(m->owned_bytes >= t2 && m->owned_bytes < t2 + 256 * 128);
    model_close(&m);
    forge_end(&f);
}

static void float_weights_that_are_ternary_keep_their_constant(void **state) {
    (void)state;
    const uint32_t types[] = {QUANT_F32, QUANT_F16, QUANT_BF16};
    float *x = base_alloc_array(256 * 256, sizeof *x);
    for (size_t i = 0; i < 256 * 256; i++)
        x[i] = (i * 7 + i / 256) % 3 == 0 ? 0 : i % 2 ? 0.75f : -0.75f;
    for (size_t i = 0; i < BASE_COUNT(types); i++) {
        forge f;
        forge_start(&f, "bitnet", types[i]);
        forge_put(&f, "blk.0.ffn_up.weight", types[i], 256, 256, x);
        model *m = must_open(&f);
        assert_true(m->layers[0].up.scale == 0.75f);  /* absmean would say 0.5 */
        assert_true(m->layers[0].gate.scale < 0.06f); /* latent weights: their absmean, 0.8 / 16 */
        assert_int_equal(m->layers[0].up.type, QUANT_I2_S);
        model_close(&m);
        forge_end(&f);
    }
    base_free(x);
}

static void run_as_many(void *n_threads, void (*fn)(void *, int, int), void *arg) {
    for (int i = 0; i < *(int *)n_threads; i++) fn(arg, i, *(int *)n_threads);
}

static void any_number_of_threads_repacks_alike(void **state) {
    (void)state;
    forge f;
    rotor_error err = {0};
    forge_start(&f, "bitnet", QUANT_TQ1_0);
    model *one = must_open(&f), *m = NULL;
    for (int n = 3; n < 5000; n *= 11) {
        const model_options o = {.i2s = -1, .parallel = {run_as_many, &n}};
        assert_int_equal(forge_open(&f, &m, &o, NULL), ROTOR_OK);
        assert_memory_equal(m->layers[0].q.data, one->layers[0].q.data, 256 * 64);
        model_close(&m);
    }
    model_close(&one);
    forge_end(&f);
    for (int n = 3; n < 5000;
         n *= 11) { /* a fault in the last row reaches its own thread's message */
        const model_options o = {.i2s = -1, .parallel = {run_as_many, &n}};
        forge_start(&f, "bitnet", QUANT_TQ2_0);
        forge_part_of(&f, "blk.0.ffn_up.weight")->bytes[255 * 66] = 0xFF;
        assert_int_equal(forge_open(&f, &m, &o, &err), ROTOR_E_FORMAT);
        assert_non_null(strstr(err.message, "row 255"));
        forge_end(&f);
    }
}

/* ==== Frequencies
 * ======================================================================================= */

static void rope_divisors_divide_and_are_checked(void **state) {
    (void)state;
    float x[33];
    double inv[32];
    forge f;
    for (int i = 0; i < 33; i++) x[i] = 1 + (float)i;
    forge_start(&f, "llama", QUANT_F16);
    forge_put(&f, "rope_freqs.weight", QUANT_F32, 1, 32, x);
    model *m = must_open(&f);
    model_rope_freqs(&m->hp, 0, false, inv);
    for (int i = 0; i < 32; i++)
        assert_true(fabs(inv[i] * x[i] / pow(10000, -i / 32.0) - 1) < 1e-12);
    model_close(&m);
    forge_put(&f, "rope_freqs.weight", QUANT_F32, 1, 33, x);
    must_refuse(&f, ROTOR_E_FORMAT, "rope_freqs.weight is 1 x 33");
    const float bad[] = {0, -1, NAN};
    for (size_t i = 0; i < BASE_COUNT(bad); i++) {
        forge_start(&f, "llama", QUANT_F16);
        x[9] = bad[i];
        memcpy(forge_put_bytes(&f, "rope_freqs.weight", QUANT_F32, 1, 32), x, 128);
        must_refuse(&f, ROTOR_E_FORMAT, "rope_freqs.weight");
    }
}

static void rope_scaling_keys_are_read_as_written(void **state) {
    (void)state;
    const struct {
        const char *key, *type; /* key of the factor; rope.scaling.type or NULL */
        float v;                /* its value */
        double factor;          /* expected */
    } cases[] = {{".rope.scaling.factor", "linear", 4, 4},
                 {".rope.scaling.factor", NULL, 4, 4},
                 {".rope.scale_linear", NULL, 2, 2},
                 {".rope.scaling.factor", NULL, 0, 1},
                 {".rope.scaling.factor", "none", 4, 1}};
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        forge f;
        double inv[32];
        forge_start(&f, "llama", QUANT_F16);
        forge_f32(&f, cases[i].key, cases[i].v);
        if (cases[i].type) forge_str(&f, ".rope.scaling.type", cases[i].type);
        model *m = must_open(&f);
        model_rope_freqs(&m->hp, 0, false, inv);
        assert_true(fabs(inv[0] * cases[i].factor - 1) < 1e-12);
        model_close(&m);
        forge_end(&f);
    }
    forge f;
    forge_start(&f, "llama", QUANT_F16);
    forge_str(&f, ".rope.scaling.type", "dynamic");
    must_refuse(&f, ROTOR_E_UNSUPPORTED, "\"dynamic\" is not supported");
}

/* What the published gpt-oss turns its heads by; files for other engines round the bounds. */
static void yarn_frequencies_are_the_published_ones(void **state) {
    (void)state;
    static const double published[32] = {1,
                                         .689044306,
                                         .474782055,
                                         .327145872,
                                         .225418,
                                         .155322989,
                                         .107024421,
                                         .0737445682,
                                         .0508132748,
                                         .0317056962,
                                         .0193350011,
                                         .0115920493,
                                         .00679495949,
                                         .00386035932,
                                         .00209379238,
                                         .0010526021,
                                         .000456483919,
                                         .000129318701,
                                         3.83088124e-5,
                                         2.6396469e-5,
                                         1.81883367e-5,
                                         1.25325698e-5,
                                         8.63549588e-6,
                                         5.95023926e-6,
                                         4.09997848e-6,
                                         2.82506683e-6,
                                         1.94659621e-6,
                                         1.34129104e-6,
                                         9.2420895e-7,
                                         6.36820915e-7,
                                         4.38797825e-7,
                                         3.02351143e-7};
    model_hparams hp = {.n_rot = 64,
                        .rope_base = 150000,
                        .rope_scaling = MODEL_ROPE_YARN,
                        .rope_factor = 32,
                        .rope_low = 1,
                        .rope_high = 32,
                        .rope_orig_ctx = 4096};
    double inv[32];
    model_rope_freqs(&hp, 0, false, inv);
    for (int i = 0; i < 32; i++)
        if (fabs(inv[i] / published[i] - 1) > 5e-9) fail_msg("%d: %.12g", i, inv[i]);
    hp.rope_whole = true;
    model_rope_freqs(&hp, 0, false, inv);
    assert_true(fabs(inv[17] / published[17] - 1.76) < 0.01);
    assert_true(fabs(inv[8] / published[8] - 1) < 5e-9);
}

/* ==== Numbers
 * ============================================================================================ */

static void head_and_rope_numbers_are_bounded(void **state) {
    (void)state;
    const struct {
        const char *key, *words; /* metadata key, part of the message */
        uint32_t v;              /* bad value */
    } cases[] = {{".attention.key_length", "head size", 0},
                 {".attention.key_length", "head size", 513},
                 {".attention.key_length", "even number", 63},
                 {".attention.key_length", "blk.0.attn_q.weight", 32},
                 {".rope.dimension_count", "even number", 31},
                 {".rope.dimension_count", "rotated dimensions", 66},
                 {".attention.head_count_kv", "key/value heads", 8},
                 {".feed_forward_length", "feed-forward length", 1u << 25},
                 {".attention.head_count", "attention heads", 5000}};
    forge f;
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        forge_start(&f, "llama", QUANT_F16);
        forge_u32(&f, cases[i].key, cases[i].v);
        must_refuse(&f, ROTOR_E_FORMAT, cases[i].words);
    }
    const float epsilons[] = {0, -1, NAN, 1};
    for (size_t i = 0; i < BASE_COUNT(epsilons); i++) {
        forge_start(&f, "llama", QUANT_F16);
        forge_f32(&f, ".attention.layer_norm_rms_epsilon", epsilons[i]);
        must_refuse(&f, ROTOR_E_FORMAT, "norm epsilon");
    }
    forge_start(&f, "llama", QUANT_F16); /* no rotation at all is a model too */
    forge_u32(&f, ".rope.dimension_count", 0);
    must_load(&f);
}

static void lists_of_numbers_load_when_all_layers_agree(void **state) {
    (void)state;
    forge f;
    forge_start(&f, "llama", QUANT_F16);
    forge_list(&f, ".attention.head_count_kv", 2, 2);
    must_load(&f);
    forge_start(&f, "llama", QUANT_F16);
    forge_list(&f, ".attention.head_count_kv", 2, 1);
    must_refuse(&f, ROTOR_E_UNSUPPORTED, "head_count_kv differs between layers");
}

/* ==== Tensors
 * ============================================================================================= */

static void tensors_the_pass_does_not_know_are_refused(void **state) {
    (void)state;
    const char *fatal[] = {"blk.0.ffn_down.bias",
                           "blk.0.attn_qkv.bias",
                           "dense_2.bias",
                           "blk.0.attn_v_norm_in.weight",
                           "blk.0.attn_sub_norm.weight",
                           "blk.0.post_attention_norm.weight",
                           "output.bias",
                           "token_embd_norm.weight"};
    const char *harmless[] = {"blk.0.attn_rot_embd", "blk.1.nextn.eh_proj.weight",
                              "per_layer.weight"};
    forge f;
    for (size_t i = 0; i < BASE_COUNT(fatal); i++) {
        forge_start(&f, "llama", QUANT_F16);
        forge_put(&f, fatal[i], QUANT_F32, 1, 256, NULL);
        must_refuse(&f, ROTOR_E_UNSUPPORTED, fatal[i]);
    }
    for (size_t i = 0; i < BASE_COUNT(harmless); i++) {
        forge_start(&f, "llama", QUANT_F16);
        forge_put(&f, harmless[i], QUANT_F32, 1, 256, NULL);
        must_load(&f);
    }
}

static void types_without_arithmetic_are_refused_by_name(void **state) {
    (void)state;
    const struct {
        const char *name, *words; /* tensor, type */
        uint32_t type;            /* its id */
        uint64_t rows;            /* of 256 columns */
    } cases[] = {{"token_embd.weight", "IQ2_XXS", 16, 97},
                 {"token_embd.weight", "I8", QUANT_I8, 97},
                 {"output.weight", "I2_S", QUANT_I2_S, 97},
                 {"blk.0.attn_q.weight", "IQ3_S", 21, 256},
                 {"blk.0.ffn_up.weight", "F64", QUANT_F64, 256}};
    forge f;
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        forge_start(&f, "llama", QUANT_F16);
        forge_put_bytes(&f, cases[i].name, cases[i].type, cases[i].rows, 256);
        must_refuse(&f, ROTOR_E_UNSUPPORTED, cases[i].words);
    }
    forge_start(&f, "llama", QUANT_F16);
    forge_put(&f, "token_embd.weight", QUANT_TQ2_0, FORGE_V, 256, NULL); /* small but defined */
    must_load(&f);
}

static void biases_are_bound_where_families_have_them(void **state) {
    (void)state;
    forge f;
    forge_start(&f, "qwen2", QUANT_F16);
    forge_put(&f, "blk.0.attn_q.bias", QUANT_F32, 1, 256, NULL);
    forge_put(&f, "blk.0.attn_k.bias", QUANT_F32, 1, 128, NULL);
    forge_put(&f, "blk.0.attn_output.bias", QUANT_F16, 1, 256, NULL);
    model *m = must_open(&f);
    assert_true(m->layers[0].q_bias && m->layers[0].k_bias && m->layers[0].o_bias &&
                !m->layers[0].v_bias);
    model_close(&m);
    forge_put(&f, "blk.0.attn_k.bias", QUANT_F32, 1, 256, NULL);
    must_refuse(&f, ROTOR_E_FORMAT, "blk.0.attn_k.bias is 1 x 256");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scale_tensors_multiply_whatever_type_stands_beside_them),
        cmocka_unit_test(row_scales_are_kept_and_multiplied),
        cmocka_unit_test(row_scales_of_t5_are_kept_and_multiplied),
        cmocka_unit_test(rows_of_scale_zero_are_zero_whatever_their_codes),
        cmocka_unit_test(bad_scales_are_refused),
        cmocka_unit_test(blocks_with_scales_of_their_own_stay_blocks),
        cmocka_unit_test(float_weights_that_are_ternary_keep_their_constant),
        cmocka_unit_test(any_number_of_threads_repacks_alike),
        cmocka_unit_test(rope_divisors_divide_and_are_checked),
        cmocka_unit_test(rope_scaling_keys_are_read_as_written),
        cmocka_unit_test(yarn_frequencies_are_the_published_ones),
        cmocka_unit_test(head_and_rope_numbers_are_bounded),
        cmocka_unit_test(lists_of_numbers_load_when_all_layers_agree),
        cmocka_unit_test(tensors_the_pass_does_not_know_are_refused),
        cmocka_unit_test(types_without_arithmetic_are_refused_by_name),
        cmocka_unit_test(biases_are_bound_where_families_have_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
