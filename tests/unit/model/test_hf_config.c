/* SPDX-License-Identifier: MIT
 *
 * model: what a HF folder's config.json says and leaves out. One small Llama folder is written;
 * each case changes keys of its config and wants the model, or a refusal that names the key.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "model/model.h"

static const model_options plain = {.i2s = -1};
static char folder[64]; /* of this process */

static const char base_config[] =
    "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 32,"
    " \"intermediate_size\": 48, \"num_hidden_layers\": 1, \"num_attention_heads\": 2,"
    " \"num_key_value_heads\": 1, \"max_position_embeddings\": 128, \"hidden_act\": \"silu\","
    " \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"vocab_size\": 20}";

static void put_file(const char *name, const void *data, size_t n) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, n, f), n);
    fclose(f);
}

static void drop_file(const char *name) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
}

/* All tensors as F32 small numbers; lm_head on request. */
static void put_weights(bool lm_head) {
    static const struct {
        const char *name; /* tensor */
        int rows, cols;   /* rows 0: a vector */
    } list[] = {{"model.embed_tokens.weight", 20, 32},
                {"model.norm.weight", 0, 32},
                {"model.layers.0.input_layernorm.weight", 0, 32},
                {"model.layers.0.post_attention_layernorm.weight", 0, 32},
                {"model.layers.0.self_attn.q_proj.weight", 32, 32},
                {"model.layers.0.self_attn.k_proj.weight", 16, 32},
                {"model.layers.0.self_attn.v_proj.weight", 16, 32},
                {"model.layers.0.self_attn.o_proj.weight", 32, 32},
                {"model.layers.0.mlp.gate_proj.weight", 48, 32},
                {"model.layers.0.mlp.up_proj.weight", 48, 32},
                {"model.layers.0.mlp.down_proj.weight", 32, 48},
                {"lm_head.weight", 20, 32}};
    static char image[80000];
    char header[4096] = "{";
    size_t n = BASE_COUNT(list) - !lm_head, at = 0, len = 1;
    for (size_t i = 0; i < n; i++) {
        size_t bytes = 4u * (size_t)(list[i].rows ? list[i].rows : 1) * (size_t)list[i].cols;
        char shape[32];
        if (list[i].rows)
            snprintf(shape, sizeof shape, "%d, %d", list[i].rows, list[i].cols);
        else
            snprintf(shape, sizeof shape, "%d", list[i].cols);
        len += (size_t)snprintf(
            header + len, sizeof header - len,
            "%s\"%s\": {\"dtype\": \"F32\", \"shape\": [%s], \"data_offsets\": [%zu, %zu]}",
            i ? ", " : "", list[i].name, shape, at, at + bytes);
        at += bytes;
    }
    header[len++] = '}';
    uint64_t header_bytes = len;
    memcpy(image, &header_bytes, 8);
    memcpy(image + 8, header, len);
    for (size_t i = 0; i < at / 4; i++) {
        float v = 0.01f * (float)(i % 17);
        memcpy(image + 8 + len + 4 * i, &v, 4);
    }
    put_file("model.safetensors", image, 8 + len + at);
}

/* Writes the config with `patch` (a JSON object; null removes nothing, it is a value) laid over it.
 */
static void put_config(const char *patch) {
    json_error_t je;
    json_t *c = json_loads(base_config, 0, &je), *p = json_loads(patch, 0, &je);
    if (!c || !p) fail_msg("%s: %s", patch, je.text);
    json_object_update(c, p);
    char *text = json_dumps(c, 0);
    put_file("config.json", text, strlen(text));
    free(text);
    json_decref(c);
    json_decref(p);
}

static model *open_with(const char *patch) {
    model *m = NULL;
    rotor_error err = {0};
    put_config(patch);
    if (model_open(&m, folder, &plain, &err) != ROTOR_OK) fail_msg("%s: %s", patch, err.message);
    return m;
}

static void refuse_with(const char *patch, const char *words) {
    model *m = NULL;
    rotor_error err = {0};
    put_config(patch);
    rotor_status st = model_open(&m, folder, &plain, &err);
    model_close(&m);
    if (st == ROTOR_OK || !strstr(err.message, words) || !strstr(err.message, folder))
        fail_msg("%s: status %d, message \"%s\", expected \"%s\"", patch, st, err.message, words);
}

/* ==== Cases
 * ============================================================================================= */

static void nulls_mean_absent(void **state) {
    (void)state;
    const char *keys[] = {
        "quantization_config", "rope_scaling",       "rope_parameters", "head_dim",
        "sliding_window",      "architectures",      "weight_bits",     "attention_bias",
        "tie_word_embeddings", "num_key_value_heads"};
    for (size_t i = 0; i + 1 < BASE_COUNT(keys); i++) {
        char patch[80];
        snprintf(patch, sizeof patch, "{\"%s\": null}", keys[i]);
        model *m = open_with(patch);
        assert_int_equal(m->hp.d_head, 16);
        assert_false(m->hp.w1a8);
        assert_string_equal(m->arch, "llama");
        model_close(&m);
    }
    refuse_with("{\"num_key_value_heads\": null}",
                "k_proj.weight is 16 x 32"); /* as many as heads */
}

static void wrong_numbers_are_refused_by_name(void **state) {
    (void)state;
    refuse_with("{\"hidden_size\": \"32\"}", "\"hidden_size\" is not a 32-bit number");
    refuse_with("{\"hidden_size\": -32}", "\"hidden_size\" is not a 32-bit number");
    refuse_with("{\"hidden_size\": 4294967328}", "\"hidden_size\" is not a 32-bit number");
    refuse_with("{\"hidden_size\": null}", "embedding length is 0");
    refuse_with("{\"num_hidden_layers\": 513}", "layers is 513");
    refuse_with("{\"num_attention_heads\": 0}", "attention heads is 0");
    refuse_with("{\"num_attention_heads\": 3}", "");
    refuse_with("{\"num_key_value_heads\": 0}", "key/value heads is 0");
    refuse_with("{\"head_dim\": 15}", "15 rotated dimensions");
    refuse_with("{\"head_dim\": 1000}", "head size is 1000");
    refuse_with("{\"head_dim\": 8}", "q_proj.weight is 32 x 32");
    refuse_with("{\"rms_norm_eps\": 0}", "norm epsilon");
    refuse_with("{\"rope_theta\": -1}", "rope base -1");
    refuse_with("{\"max_position_embeddings\": 0}", "context length is 0");
}

static void what_cannot_be_honoured_is_refused(void **state) {
    (void)state;
    refuse_with("{\"model_type\": \"phi\"}", "\"phi\" is not supported");
    refuse_with("{\"model_type\": 7}", "is not supported");
    refuse_with("{\"hidden_act\": \"gelu\"}", "hidden_act \"gelu\"");
    refuse_with("{\"mlp_bias\": true}", "mlp_bias");
    refuse_with("{\"use_sliding_window\": true}", "use_sliding_window");
    refuse_with("{\"partial_rotary_factor\": 0.5}", "partial_rotary_factor");
    refuse_with("{\"quantization_config\": {\"quant_method\": \"gptq\"}}",
                "\"gptq\" is not supported");
    refuse_with(
        "{\"quantization_config\": {\"quant_method\": \"bitnet\", \"linear_class\": \"x\"}}",
        "linear_class \"x\"");
    refuse_with("{\"quantization_config\": {\"quant_method\": \"bitnet\", \"use_rms_norm\": true}}",
                "use_rms_norm");
    refuse_with("{\"quantization_config\": {\"quant_method\": \"bitnet\", \"quantization_mode\": "
                "\"later\"}}",
                "quantization_mode \"later\"");
    refuse_with("{\"quantization_config\": {\"quant_method\": \"bitnet\", \"quantization_mode\": "
                "\"online\","
                " \"modules_to_not_convert\": [\"lm_head\", \"q_proj\"]}}",
                "modules_to_not_convert names \"q_proj\"");
}

static double fastest(const model *m) {
    double inv[8];
    model_rope_freqs(&m->hp, 0, false, inv);
    return inv[0];
}

static void rope_of_old_and_new_configs(void **state) {
    (void)state;
    double inv[8];
    model *m = open_with("{\"rope_theta\": null, \"rope_parameters\": {\"rope_type\": \"default\", "
                         "\"rope_theta\": 1e6}}");
    model_rope_freqs(&m->hp, 0, false, inv);
    assert_true(fabs(inv[1] - pow(1e6, -1 / 8.0)) < 1e-12);
    model_close(&m);
    m = open_with("{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}}");
    assert_true(fastest(m) == 0.25);
    model_close(&m);
    m = open_with("{\"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 2.0, "
                  "\"rope_theta\": 10000.0}}");
    assert_true(fastest(m) == 0.5);
    model_close(&m);
    refuse_with("{\"rope_scaling\": {\"rope_type\": \"dynamic\", \"factor\": 4}}",
                "\"dynamic\" is not supported");
    refuse_with("{\"rope_scaling\": {\"rope_type\": \"longrope\", \"factor\": 4}}",
                "short_factor has 0 numbers, expected 8");
    refuse_with("{\"rope_scaling\": {\"type\": \"su\", \"short_factor\": [1,1,1,1,1,1,1,0]}}",
                "short_factor[7] is 0");
    refuse_with("{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}}", "rope factor 0");
    refuse_with("{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8}}",
                "llama3 rope scaling");
    refuse_with(
        "{\"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, \"low_freq_factor\": 4,"
        " \"high_freq_factor\": 4, \"original_max_position_embeddings\": 64}}",
        "llama3 rope scaling");
    refuse_with("{\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\"}}}",
                "\"full_attention\"");
}

static void a_tied_head_is_the_embedding_even_when_another_is_stored(void **state) {
    (void)state;
    model *m = open_with("{}"); /* none stored */
    assert_true(m->tied && m->head.data == m->embd.data);
    model_close(&m);
    put_weights(true);
    m = open_with("{\"tie_word_embeddings\": true}");
    assert_true(m->tied && m->head.data == m->embd.data);
    model_close(&m);
    m = open_with("{\"tie_word_embeddings\": false}");
    assert_true(!m->tied && m->head.data != m->embd.data);
    model_close(&m);
    put_weights(false);
}

static void dense_and_latent_weights_are_told_apart(void **state) {
    (void)state;
    model *m = open_with("{\"quantization_config\": {\"quant_method\": \"bitnet\", "
                         "\"quantization_mode\": \"online\","
                         " \"modules_to_not_convert\": [\"lm_head\"]}}");
    assert_int_equal(m->layers[0].q.type, QUANT_I2_S);
    model_close(&m);
    m = open_with("{\"quantization_config\": {\"quant_method\": \"bitnet\"}}"); /* packed, but these
                                                                                   were left */
    assert_int_equal(m->layers[0].q.type, QUANT_F32);
    model_close(&m);
}

static void generation_settings_out_of_range_are_ignored(void **state) {
    (void)state;
    const char *text = "{\"temperature\": null, \"top_k\": 1e99, \"top_p\": 0.9, \"eos_token_id\": "
                       "[4294967299, -1]}";
    put_file("generation_config.json", text, strlen(text));
    model *m = open_with("{}");
    assert_true(m->sampling.temperature < 0 && m->sampling.top_k == -1);
    assert_float_equal(m->sampling.top_p, 0.9f, 1e-6);
    model_close(&m);
    drop_file("generation_config.json");
}

static void broken_configs_are_refused(void **state) {
    (void)state;
    const char *texts[] = {"", "[]", "{", "nul", "{\"hidden_size\": NaN}", "\"llama\""};
    for (size_t i = 0; i < BASE_COUNT(texts); i++) {
        model *m = NULL;
        rotor_error err = {0};
        put_file("config.json", texts[i], strlen(texts[i]));
        assert_int_not_equal(model_open(&m, folder, &plain, &err), ROTOR_OK);
        assert_non_null(strstr(err.message, "config.json"));
    }
    put_file("chat_template.jinja", "", 0); /* an empty text is no fault */
    model *m = open_with("{}");
    assert_int_equal(m->chat_template.n, 0);
    model_close(&m);
    drop_file("chat_template.jinja");
}

/* A tokenizer that grew a token beyond the embedding loads; the id is refused when it is used. */
static void a_tokenizer_longer_than_the_embedding_loads(void **state) {
    (void)state;
    char text[1024] = "{\"version\": \"1.0\", \"added_tokens\": [], \"normalizer\": null, "
                      "\"pre_tokenizer\": {\"type\":"
                      " \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": true}, "
                      "\"post_processor\": null,"
                      " \"decoder\": {\"type\": \"ByteLevel\"}, \"model\": {\"type\": \"BPE\", "
                      "\"merges\": [], \"vocab\": {";
    size_t n = strlen(text);
    for (int i = 0; i < 23; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s\"%c\": %d", i ? ", " : "", 'a' + i, i);
    snprintf(text + n, sizeof text - n, "}}}");
    put_file("tokenizer.json", text, strlen(text));
    model *m = open_with("{}");
    assert_int_equal(text_n_tokens(m->vocab), 23);
    assert_int_equal(m->hp.n_vocab, 20);
    model_close(&m);
    drop_file("tokenizer.json");
}

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/rotor-hf-%ld", (long)getpid());
    if (base_mkdirs(folder, NULL) != ROTOR_OK) return -1;
    put_weights(false);
    return 0;
}

static int drop_folder(void **state) {
    (void)state;
    drop_file("config.json");
    drop_file("model.safetensors");
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nulls_mean_absent),
        cmocka_unit_test(wrong_numbers_are_refused_by_name),
        cmocka_unit_test(what_cannot_be_honoured_is_refused),
        cmocka_unit_test(rope_of_old_and_new_configs),
        cmocka_unit_test(a_tied_head_is_the_embedding_even_when_another_is_stored),
        cmocka_unit_test(dense_and_latent_weights_are_told_apart),
        cmocka_unit_test(generation_settings_out_of_range_are_ignored),
        cmocka_unit_test(broken_configs_are_refused),
        cmocka_unit_test(a_tokenizer_longer_than_the_embedding_loads),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
