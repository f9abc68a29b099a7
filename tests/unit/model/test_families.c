/* SPDX-License-Identifier: MIT
 *
 * model: what rows of the architecture table ask of a file beyond llama's: LayerNorm with biases, a
 * feed-forward layer without a gate, learned positions, two sets of rope factors, and what is
 * missing said by name. Numbers of whole passes: tests/golden/test_families.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>

#include "must.h"

static void put_vector(forge *f, const char *name, size_t n) {
    forge_put(f, name, QUANT_F32, 1, n, NULL);
}

/* What both families without a gate have. */
static void start_plain(forge *f, const char *arch) {
    forge_start(f, arch, QUANT_F16);
    forge_drop(f, "blk.0.ffn_gate.weight");
    forge_f32(f, ".attention.layer_norm_epsilon", 1e-3f);
    forge_f32(f, ".attention.layer_norm_rms_epsilon", 0.5f); /* of another kind of norm */
    put_vector(f, "output_norm.bias", 256);
    put_vector(f, "blk.0.attn_norm.bias", 256);
    put_vector(f, "blk.0.ffn_norm.bias", 256);
    put_vector(f, "blk.0.attn_output.bias", 256);
    put_vector(f, "blk.0.ffn_up.bias", 256);
    put_vector(f, "blk.0.ffn_down.bias", 256);
}

static void start_starcoder2(forge *f) {
    start_plain(f, "starcoder2");
    put_vector(f, "blk.0.attn_q.bias", 256);
    put_vector(f, "blk.0.attn_k.bias", 128);
    put_vector(f, "blk.0.attn_v.bias", 128);
}

static void start_gpt2(forge *f) {
    start_plain(f, "gpt2");
    forge_drop(f, "blk.0.attn_q.weight");
    forge_drop(f, "blk.0.attn_k.weight");
    forge_drop(f, "blk.0.attn_v.weight");
    forge_put(f, "blk.0.attn_qkv.weight", QUANT_F16, 512, 256, NULL);
    put_vector(f, "blk.0.attn_qkv.bias", 512);
    forge_put(f, "position_embd.weight", QUANT_F32, 512, 256, NULL);
}

static void check_plain(const model *m) {
    const model_layer *w = &m->layers[0];
    assert_true(m->hp.centred && m->hp.glu == MODEL_GELU && m->hp.eps == 1e-3f);
    assert_non_null(m->out_norm_bias);
    assert_true(w->attn_norm_bias && w->ffn_norm_bias && w->o_bias);
    assert_true(w->up_bias && w->down_bias && w->q_bias && w->k_bias && w->v_bias);
    assert_true(!w->gate.data && !w->gate.rows && w->up.rows == 256 && w->down.rows == 256);
}

static void starcoder2_has_layer_norm_and_no_gate(void **state) {
    (void)state;
    forge f;
    start_starcoder2(&f);
    model *m = must_open(&f);
    check_plain(m);
    assert_true(!m->hp.n_pos && !m->pos_embd && m->hp.n_rot == 64);
    /* matrices, embedding, three norms with biases, biases of q k v o up down */
    assert_int_equal(m->n_params, 256 * 256 * 4 + 2 * 128 * 256 + 97 * 256 + 6 * 256 + 5 * 256);
    model_close(&m);
    forge_end(&f);
}

static void gpt2_has_learned_positions_and_turns_nothing(void **state) {
    (void)state;
    forge f;
    start_gpt2(&f);
    model *m = must_open(&f);
    check_plain(m);
    const model_layer *w = &m->layers[0];
    assert_true(m->hp.n_pos == 512 && m->pos_embd && m->hp.n_rot == 0);
    assert_true(w->k_bias == w->q_bias + 256 && w->v_bias == w->k_bias + 128);
    assert_true(w->k.data == w->q.data + 256 * 512 && w->v.rows == 128);
    model_close(&m);
    forge_end(&f);
}

static void what_these_families_lack_is_named(void **state) {
    (void)state;
    const char *const needed[] = {"output_norm.bias",     "blk.0.attn_norm.bias",
                                  "blk.0.ffn_norm.bias",  "blk.0.attn_qkv.weight",
                                  "position_embd.weight", "blk.0.ffn_up.weight"};
    forge f;
    for (size_t i = 0; i < BASE_COUNT(needed); i++) {
        start_gpt2(&f);
        forge_drop(&f, needed[i]);
        must_refuse(&f, ROTOR_E_FORMAT, needed[i]);
    }
    start_gpt2(&f); /* fewer positions than the context has */
    forge_put(&f, "position_embd.weight", QUANT_F32, 511, 256, NULL);
    must_refuse(&f, ROTOR_E_FORMAT, "position_embd.weight is 511 x 256");
    start_gpt2(&f);
    forge_put(&f, "blk.0.attn_qkv.bias", QUANT_F32, 1, 500, NULL);
    must_refuse(&f, ROTOR_E_FORMAT, "blk.0.attn_qkv.bias is 1 x 500");
    start_starcoder2(&f); /* a gate would be left out */
    forge_put(&f, "blk.0.ffn_gate.weight", QUANT_F16, 256, 256, NULL);
    must_refuse(&f, ROTOR_E_UNSUPPORTED, "blk.0.ffn_gate.weight is no part");
    forge_start(&f, "llama", QUANT_F16); /* biases of a norm that has none */
    put_vector(&f, "blk.0.attn_norm.bias", 256);
    must_refuse(&f, ROTOR_E_UNSUPPORTED, "blk.0.attn_norm.bias is no part");
}

/* ==== Two sets of rope factors ================================================================ */

static void start_longrope(forge *f, float *shorter, float *longer) {
    for (int i = 0; i < 32; i++) {
        shorter[i] = 1 + (float)i / 64;
        longer[i] = 1 + (float)i;
    }
    forge_start(f, "llama", QUANT_F16);
    forge_u32(f, ".rope.scaling.original_context_length", 128);
    forge_f32(f, ".rope.scaling.attn_factor", 1.25f);
    forge_put(f, "rope_factors_short.weight", QUANT_F32, 1, 32, shorter);
    forge_put(f, "rope_factors_long.weight", QUANT_F32, 1, 32, longer);
}

static void the_length_of_the_context_chooses_the_factors(void **state) {
    (void)state;
    float shorter[32], longer[32];
    double inv[32];
    forge f;
    start_longrope(&f, shorter, longer);
    model *m = must_open(&f);
    assert_true(m->hp.rope_gain == 1.25f);
    for (uint32_t n = 128; n < 130; n++) {
        const float *by = n > 128 ? longer : shorter;
        model_rope_freqs(&m->hp, n, false, inv);
        for (int i = 0; i < 32; i++)
            assert_true(fabs(inv[i] * (double)by[i] / pow(10000, -i / 32.0) - 1) < 1e-12);
    }
    model_close(&m);
    forge_end(&f);
}

static void rope_factors_are_checked(void **state) {
    (void)state;
    const char *const names[] = {"rope_factors_short.weight", "rope_factors_long.weight"};
    float shorter[32], longer[32];
    forge f;
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        start_longrope(&f, shorter, longer);
        forge_str(&f, ".rope.scaling.type", "longrope");
        forge_drop(&f, names[i]);
        must_refuse(&f, ROTOR_E_FORMAT, names[i]);
        start_longrope(&f, shorter, longer);
        forge_put(&f, names[i], QUANT_F32, 1, 31, NULL);
        must_refuse(&f, ROTOR_E_FORMAT, names[i]);
        start_longrope(&f, shorter, longer);
        shorter[3] = 0;
        forge_put(&f, names[i], QUANT_F32, 1, 32, shorter);
        must_refuse(&f, ROTOR_E_FORMAT, "divisor 3 is 0");
    }
    start_longrope(&f, shorter, longer);
    forge_u32(&f, ".rope.scaling.original_context_length", 0);
    must_refuse(&f, ROTOR_E_FORMAT, "out of range");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starcoder2_has_layer_norm_and_no_gate),
        cmocka_unit_test(gpt2_has_learned_positions_and_turns_nothing),
        cmocka_unit_test(what_these_families_lack_is_named),
        cmocka_unit_test(the_length_of_the_context_chooses_the_factors),
        cmocka_unit_test(rope_factors_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
