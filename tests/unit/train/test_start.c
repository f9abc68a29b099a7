/* SPDX-License-Identifier: MIT
 *
 * Masters as the start of a run: a folder's and a file's float weights become the shadow weights
 * bit for bit; the first forward pass over them is the engine's on the folder and on the model
 * exported; weights that were rounded before are refused with what to do.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "rotor.h"
#include "tool/tool.h"
#include "train/train.h"

enum { N_TOK = 200, N_TENSORS = 2 + 2 * 11 };

static char master[512], packed[512]; /* folders */
static char file[2][64];              /* GGUF files being written */

static model *opened(const char *path) {
    model *m = NULL;
    rotor_error err = {0};
    if (train_start_open(&m, path, NULL, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return m;
}

static float *read_params(const model *m, train_shape *s) {
    rotor_error err = {0};
    *s = (train_shape){.n_ctx = N_TOK};
    train_start_shape(m, s);
    float *params = base_alloc_aligned(train_n_params(s) * sizeof *params);
    if (train_start_params(m, s, params, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return params;
}

static void hf_name(const train_tensor *t, char out[96]) {
    static const char *const tails[] = {[TRAIN_ATTN_NORM] = "input_layernorm",
                                        [TRAIN_Q] = "self_attn.q_proj",
                                        [TRAIN_K] = "self_attn.k_proj",
                                        [TRAIN_V] = "self_attn.v_proj",
                                        [TRAIN_ATTN_SUB_NORM] = "self_attn.attn_sub_norm",
                                        [TRAIN_O] = "self_attn.o_proj",
                                        [TRAIN_FFN_NORM] = "post_attention_layernorm",
                                        [TRAIN_GATE] = "mlp.gate_proj",
                                        [TRAIN_UP] = "mlp.up_proj",
                                        [TRAIN_FFN_SUB_NORM] = "mlp.ffn_sub_norm",
                                        [TRAIN_DOWN] = "mlp.down_proj"};
    if (t->role == TRAIN_EMBD || t->role == TRAIN_OUT_NORM)
        snprintf(out, 96, "model.%s.weight", t->role == TRAIN_EMBD ? "embed_tokens" : "norm");
    else
        snprintf(out, 96, "model.layers.%u.%s.weight", t->layer, tails[t->role]);
}

static void a_folders_weights_are_the_shadow_weights(void **state) {
    (void)state;
    train_shape s;
    file_model *f = NULL;
    model *m = opened(master);
    float *params = read_params(m, &s);
    assert_int_equal(file_open(&f, master, NULL, NULL), ROTOR_OK);
    assert_int_equal(train_n_tensors(&s), N_TENSORS);
    assert_int_equal(file_n_tensors(f), N_TENSORS);
    size_t n = 0;
    for (size_t i = 0; i < train_n_tensors(&s); i++) {
        const train_tensor t = train_tensor_at(&s, i);
        char name[96];
        hf_name(&t, name);
        const file_tensor *x = file_tensor_find(f, name);
        assert_non_null(x);
        assert_int_equal(x->info->id, QUANT_BF16);
        for (size_t k = 0; k < (size_t)t.rows * t.cols; k++, n++) {
            uint32_t is;
            memcpy(&is, &params[t.at + k], sizeof is);
            const uint32_t stored = (uint32_t)x->data[2 * k] << 16 | (uint32_t)x->data[2 * k + 1]
                                                                         << 24;
            if (is != stored) fail_msg("%s, value %zu: %08x, expected %08x", name, k, is, stored);
        }
    }
    assert_int_equal(n, train_n_params(&s));
    print_message("%zu weights, bit for bit\n", n);
    file_close(&f);
    base_free_aligned(params);
    model_close(&m);
}

/* ==== The first loss ========================================================================== */

typedef struct collect {
    float *logits;  /* [N_TOK, V] */
    size_t n_vocab; /* V */
} collect;

static bool take_row(void *user, size_t pos, const float *logits) {
    const collect *c = user;
    memcpy(c->logits + pos * c->n_vocab, logits, c->n_vocab * sizeof *logits);
    return true;
}

static void engine_logits(const char *path, const uint32_t *tokens, float *logits, size_t n_vocab) {
    rotor_engine_options o = rotor_engine_options_default();
    rotor_engine *e = NULL;
    rotor_session *s = NULL;
    rotor_error err = {0};
    collect c = {logits, n_vocab};
    o.kv = ROTOR_KV_F32;
    o.head = ROTOR_HEAD_FILE;
    o.threads = 2;
    if (rotor_engine_open(&e, path, &o, &err) != ROTOR_OK) fail_msg("%s", err.message);
    assert_int_equal(rotor_session_create(&s, e, 0, &err), ROTOR_OK);
    assert_int_equal(rotor_eval_all(s, tokens, N_TOK, take_row, &c, &err), ROTOR_OK);
    rotor_session_free(&s);
    rotor_engine_close(&e);
}

static double loss_of(const float *logits, const uint32_t *target, size_t n_vocab) {
    double sum = 0;
    for (size_t i = 0; i < N_TOK; i++) {
        const float *x = logits + i * n_vocab;
        double most = (double)x[0], total = 0;
        for (size_t k = 0; k < n_vocab; k++) most = BASE_MAX(most, (double)x[k]);
        for (size_t k = 0; k < n_vocab; k++) total += exp((double)x[k] - most);
        sum += log(total) + most - (double)x[target[i]];
    }
    return sum / N_TOK;
}

static void the_first_loss_is_the_engines(void **state) {
    (void)state;
    rotor_error err = {0};
    train_shape s;
    train_pass *pass = NULL;
    par_pool *pool = NULL;
    kern k;
    double loss;
    uint32_t token[N_TOK], target[N_TOK];
    model *m = opened(master);
    float *params = read_params(m, &s);
    const size_t v = s.n_vocab;
    float *ours = base_alloc_array(N_TOK * v, sizeof *ours),
          *engines = base_alloc_array(N_TOK * v, sizeof *engines);
    for (uint32_t i = 0; i < N_TOK; i++) token[i] = i * 37 % s.n_vocab;
    for (uint32_t i = 0; i < N_TOK; i++) target[i] = (i + 1) * 37 % s.n_vocab;
    assert_int_equal(par_create(&pool, 2, false, &err), ROTOR_OK);
    kern_init(&k, cpu_detect());
    assert_int_equal(train_pass_create(&pass, &s, 1, false, &k, pool, &err), ROTOR_OK);
    const train_batch b = {1, N_TOK, token, target};
    if (train_forward(pass, params, &b, &loss, &err) != ROTOR_OK) fail_msg("%s", err.message);
    for (uint32_t i = 0; i < N_TOK; i++) train_logits(pass, 0, i, ours + i * v);
    const train_model out = {.s = &s,
                             .params = params,
                             .tokenizer = m->file,
                             .folder = m,
                             .name = "exported",
                             .type = "I2_S",
                             .head_type = "BF16"};
    if (train_export_gguf(&out, file[0], &err) != ROTOR_OK) fail_msg("%s", err.message);
    const char *const models[] = {master, file[0]};
    for (size_t i = 0; i < BASE_COUNT(models); i++) {
        engine_logits(models[i], token, engines, v);
        const double theirs = loss_of(engines, target, v);
        print_message("first loss %.9f, the engine's %.9f\n", loss, theirs);
        assert_memory_equal(ours, engines, N_TOK * v * sizeof *ours);
        assert_true(fabs(loss - theirs) < 1e-6);
    }
    train_pass_free(&pass);
    par_free(&pool);
    base_free(ours);
    base_free(engines);
    base_free_aligned(params);
    model_close(&m);
}

/* ==== Files =================================================================================== */

static void convert(const char *in, const char *out, const char *type) {
    const tool_convert_options o = {.type = type};
    tool_convert_report report;
    rotor_error err = {0};
    if (tool_convert(in, out, &o, &report, &err) != ROTOR_OK) fail_msg("%s", err.message);
}

static void a_file_of_any_float_type_is_a_start(void **state) {
    (void)state;
    rotor_error err = {0};
    train_shape s, again;
    model *m = opened(master);
    float *params = read_params(m, &s);
    const char *const types[] = {"BF16", "F32", "F16"};
    for (size_t i = 0; i < BASE_COUNT(types); i++) {
        const bool half = types[i][1] == '1';
        const train_model out = {.s = &s,
                                 .params = params,
                                 .tokenizer = m->file,
                                 .folder = m,
                                 .name = "master",
                                 .type = half ? "F32" : types[i],
                                 .head_type = "BF16"};
        if (train_export_gguf(&out, file[0], &err) != ROTOR_OK) fail_msg("%s", err.message);
        if (half) convert(file[0], file[1], "F16");
        model *x = opened(file[half]);
        float *read = read_params(x, &again);
        assert_int_equal(x->layers[1].down.type, quant_find_name(base_str_of(types[i]))->id);
        assert_int_equal(text_n_tokens(x->vocab), text_n_tokens(m->vocab));
        for (size_t n = 0; n < train_n_params(&s); n++) {
            const float rounded = quant_f16_to_f32(quant_f32_to_f16(params[n]));
            if (read[n] != params[n] && !(half && read[n] == rounded))
                fail_msg("%s, value %zu: %g, expected %g", types[i], n, (double)read[n],
                         (double)params[n]);
        }
        base_free_aligned(read);
        model_close(&x);
    }
    base_free_aligned(params);
    model_close(&m);
}

static void refused(const char *path, const char *told) {
    model *m = NULL;
    rotor_error err = {0};
    assert_int_equal(train_start_open(&m, path, NULL, &err), ROTOR_E_UNSUPPORTED);
    print_message("%s\n", err.message);
    assert_non_null(strstr(err.message, told));
    assert_non_null(strstr(err.message, "BF16 folder"));
    assert_non_null(strstr(err.message, "--lora RANK"));
}

static void rounded_weights_are_refused(void **state) {
    (void)state;
    refused(packed, "ternary: its masters are gone");
    const char *const types[] = {"I2_S", "F16", "F32", "Q8_0"};
    const char *const told[] = {
        "is I2_S, ternary: its masters are gone", "holds rounded weights, three values in F16",
        "holds rounded weights, three values in F32", "is Q8_0: its masters are gone"};
    for (size_t i = 0; i < BASE_COUNT(types); i++) {
        convert(packed, file[0], types[i]);
        refused(file[0], told[i]);
    }
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    for (long n = 1;; n++) {
        model *m = NULL;
        rotor_error err = {0};
        base_fault_after(n);
        const rotor_status st = train_start_open(&m, master, NULL, &err);
        const bool fired = base_fault_fired();
        base_fault_after(0);
        if (st == ROTOR_OK ? !m : m || !*err.message) fail_msg("failure %ld", n);
        model_close(&m);
        if (fired) continue;
        print_message("%ld points of failure\n", n - 1);
        assert_int_equal(st, ROTOR_OK);
        assert_true(n > 100);
        break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folders_weights_are_the_shadow_weights),
        cmocka_unit_test(the_first_loss_is_the_engines),
        cmocka_unit_test(a_file_of_any_float_type_is_a_start),
        cmocka_unit_test(rounded_weights_are_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    const char *root = getenv("ROTOR_SOURCE_ROOT");
    snprintf(master, sizeof master, "%s/tests/data/golden/hf-bitnet-online", root ? root : ".");
    snprintf(packed, sizeof packed, "%s/tests/data/golden/hf-bitnet-packed", root ? root : ".");
    for (int i = 0; i < 2; i++) {
        snprintf(file[i], sizeof file[i], "/tmp/rotor_start_XXXXXX");
        const int fd = mkstemp(file[i]);
        if (fd < 0 || close(fd)) return 1;
    }
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (int i = 0; i < 2; i++) unlink(file[i]);
    return failed;
}
