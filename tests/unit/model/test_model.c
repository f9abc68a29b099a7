/* SPDX-License-Identifier: MIT
 *
 * model: what is refused and with which words, and what is derived from a file.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "model/model.h"
#include "tiny_model.h"

static const model_options plain = {.i2s = -1};

typedef struct image {
    base_file file; /* the written model */
    uint8_t *data;  /* a copy that may be changed */
    char path[96];  /* where it lies */
} image;

static void image_make_of(image *im, tiny_kind kind, tiny_shape s, const char *skip) {
    tiny_write(tiny_path(im->path, "model.gguf"), kind, s, 3, skip);
    assert_int_equal(base_file_open(&im->file, im->path, true, NULL), ROTOR_OK);
    im->data = malloc(im->file.size);
    memcpy(im->data, im->file.data, im->file.size);
}

static void image_make(image *im, tiny_kind kind, const char *skip) {
    image_make_of(im, kind, (tiny_shape){2, 256, 4, 2, 512, 97, 512}, skip);
}

static void image_drop(image *im) {
    base_file_close(&im->file);
    free(im->data);
    unlink(im->path);
}

/* Opens the changed copy and wants a failure whose message holds `words`. */
static void must_refuse(const image *im, rotor_status st, const char *words) {
    model *m = NULL;
    rotor_error err = {0};
    rotor_status got = model_open_memory(&m, im->data, im->file.size, "tiny.gguf", &plain, &err);
    model_close(&m);
    if (got != st || !strstr(err.message, words))
        fail_msg("status %d (expected %d), message \"%s\" (expected \"%s\")", got, st, err.message,
                 words);
}

/* The first byte after the n-th place where text stands in the file. */
static uint8_t *after(const image *im, const char *text) {
    size_t n = strlen(text);
    for (size_t i = 0; i + n < im->file.size; i++)
        if (memcmp(im->data + i, text, n) == 0) return im->data + i + n;
    fail_msg("%s is not in the file", text);
    return NULL;
}

static void set_u32(const image *im, const char *key, uint32_t v) {
    memcpy(after(im, key) + 4, &v, 4); /* the value type stands between */
}

static void good_files_open_with_their_facts(void **state) {
    (void)state;
    for (int kind = 0; kind < TINY_KINDS; kind++) {
        image im;
        model *m = NULL;
        rotor_error err = {0};
        image_make(&im, (tiny_kind)kind, NULL);
        if (model_open(&m, im.path, &plain, &err) != ROTOR_OK) fail_msg("%s", err.message);
        bool bitnet = kind <= TINY_BITNET_T5;
        assert_string_equal(m->arch, bitnet ? "bitnet-b1.58" : "llama");
        assert_int_equal(m->hp.d_head, 64);
        assert_int_equal(m->hp.n_vocab, 97);
        assert_int_equal(m->tied, bitnet);
        assert_int_equal(m->hp.rope_interleaved, !bitnet);
        assert_int_equal(m->layers[1].attn_sub_norm != NULL, bitnet);
        assert_int_equal(m->layers[0].q.type == QUANT_I2_S, bitnet && kind != TINY_BITNET_T5);
        assert_int_equal(m->layers[0].q.type == QUANT_T5, kind == TINY_BITNET_T5);
        assert_int_equal(text_n_tokens(m->vocab), 97);
        uint64_t layer = 256 * 256 * 2 + 128 * 256 * 2 + 512 * 256 * 3 + 512 + (bitnet ? 768 : 0);
        assert_int_equal(m->n_params, 2 * layer + 97 * 256 * (bitnet ? 1 : 2) + 256);
        assert_int_equal(model_kv_bytes_per_tok(&m->hp, 2), 2 * 2 * 128 * 2);
        model_close(&m);
        assert_null(m);
        image_drop(&im);
    }
}

static void ternary_weights_in_two_formats_are_one_model(void **state) {
    (void)state;
    image a, b;
    model *i2s = NULL, *tq2 = NULL;
    image_make(&a, TINY_BITNET, NULL);
    assert_int_equal(model_open_memory(&i2s, a.data, a.file.size, "a", &plain, NULL), ROTOR_OK);
    unlink(a.path);
    image_make(&b, TINY_BITNET_TQ, NULL);
    assert_int_equal(model_open_memory(&tq2, b.data, b.file.size, "b", &plain, NULL), ROTOR_OK);
    const model_mat *x = &i2s->layers[1].up, *y = &tq2->layers[1].up;
    assert_memory_equal(x->data, y->data, x->rows * x->row_bytes);
    assert_true(fabsf(x->scale - y->scale) <= x->scale * 0x1p-11f); /* f16 in the file */
    assert_ptr_equal(i2s->layers[0].q.data, /* mapped bytes are used where they lie */
                     file_tensor_find(i2s->file, "blk.0.attn_q.weight")->data);
    model_close(&i2s);
    model_close(&tq2);
    image_drop(&a);
    image_drop(&b);
}

static void missing_tensors_are_named(void **state) {
    (void)state;
    const char *names[] = {"token_embd.weight", "output_norm.weight", "blk.1.attn_q.weight",
                           "blk.0.ffn_sub_norm.weight", "blk.1.ffn_down.weight"};
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        image im;
        image_make(&im, TINY_BITNET, names[i]);
        must_refuse(&im, ROTOR_E_FORMAT, names[i]);
        image_drop(&im);
    }
}

static void bad_numbers_are_refused(void **state) {
    (void)state;
    const struct {
        const char *key, *words; /* metadata key, part of the message */
        uint32_t v;              /* bad value */
    } cases[] = {{".block_count", "layers", 0},
                 {".block_count", "layers", 513},
                 {".block_count", "blk.2.attn_norm.weight is missing", 3},
                 {".attention.head_count", "attention heads", 0},
                 {".attention.head_count_kv", "key/value heads", 0},
                 {".attention.head_count_kv", "cannot share", 3},
                 {".embedding_length", "embedding length", 0},
                 {".embedding_length", "256", 512},
                 {".feed_forward_length", "ffn_gate", 256},
                 {".context_length", "context length", 0}};
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        image im;
        image_make(&im, TINY_BITNET, NULL);
        set_u32(&im, cases[i].key, cases[i].v);
        must_refuse(&im, ROTOR_E_FORMAT, cases[i].words);
        image_drop(&im);
    }
}

static void unknown_architectures_are_named(void **state) {
    (void)state;
    image im;
    image_make(&im, TINY_BITNET, NULL);
    memcpy(after(&im, "general.architecture") + 12, "botnet-b1.58", 12);
    must_refuse(&im, ROTOR_E_UNSUPPORTED,
                "\"botnet-b1.58\" is not supported; these load: bitnet-b1.58");
    image_drop(&im);
}

static void illegal_codes_are_found_wherever_they_are(void **state) {
    (void)state;
    base_rng rng;
    base_rng_seed(&rng, 4);
    for (int i = 0; i < 20; i++) {
        image im;
        model *m = NULL;
        image_make(&im, TINY_BITNET, NULL);
        assert_int_equal(model_open_memory(&m, im.data, im.file.size, "m", &plain, NULL), ROTOR_OK);
        const model_mat *w = &m->layers[i % 2].down;
        uint32_t at = base_rng_below(&rng, (uint32_t)(w->rows * w->row_bytes));
        char words[64];
        ((uint8_t *)(uintptr_t)w->data)[at] |= (uint8_t)(3u << 2 * (i % 4));
        snprintf(words, sizeof words, "row %zu", at / w->row_bytes);
        model_close(&m);
        must_refuse(&im, ROTOR_E_FORMAT, words);
        must_refuse(&im, ROTOR_E_FORMAT, "--i2s-layout");
        image_drop(&im);
    }
}

/* Every byte, the padding's too: kernels read it. */
static void illegal_bytes_of_t5_are_found_wherever_they_are(void **state) {
    (void)state;
    base_rng rng;
    base_rng_seed(&rng, 5);
    for (int i = 0; i < 20; i++) {
        image im;
        model *m = NULL;
        image_make(&im, TINY_BITNET_T5, NULL);
        assert_int_equal(model_open_memory(&m, im.data, im.file.size, "m", &plain, NULL), ROTOR_OK);
        const model_mat *w = &m->layers[i % 2].down;
        const uint32_t n = (uint32_t)quant_t5_code_bytes(w->rows, w->cols);
        uint32_t at = i == 0 ? n - 1 : base_rng_below(&rng, n);
        char words[96];
        assert_ptr_equal(w->data, file_tensor_find(m->file, w->name)->data); /* in place */
        ((uint8_t *)(uintptr_t)w->data)[at] = 252;
        const size_t group = w->row_bytes * 16, row = at / group * 16;
        snprintf(words, sizeof words, "byte 0xFC in rows %zu-%zu, byte %zu, is no string", row,
                 row + 15, at % group);
        model_close(&m);
        must_refuse(&im, ROTOR_E_FORMAT, words);
        must_refuse(&im, ROTOR_E_FORMAT, i % 2 ? "blk.1.ffn_down" : "blk.0.ffn_down");
        image_drop(&im);
    }
}

/* Processor time of the quickest of three openings. */
static uint64_t us_to_open(const image *im, rotor_status expected) {
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 3; i++) {
        model *m = NULL;
        const uint64_t began = base_thread_cpu_us();
        assert_int_equal(model_open_memory(&m, im->data, im->file.size, "m", &plain, NULL),
                         expected);
        best = BASE_MIN(best, base_thread_cpu_us() - began);
        model_close(&m);
    }
    return best;
}

/* The worst place is the last byte of a piece that is looked at as one (1 MiB at most). */
static void a_damaged_file_is_refused_as_fast_as_a_good_one_opens(void **state) {
    (void)state;
    image im;
    model *m = NULL;
    image_make_of(&im, TINY_BITNET_T5, (tiny_shape){1, 256, 4, 2, 5120, 97, 512}, NULL);
    const uint64_t good_us = us_to_open(&im, ROTOR_OK);
    assert_int_equal(model_open_memory(&m, im.data, im.file.size, "m", &plain, NULL), ROTOR_OK);
    const model_mat *w = &m->layers[0].down;
    const size_t n = (size_t)quant_t5_code_bytes(w->rows, w->cols);
    assert_int_equal(n, 1 << 18);
    ((uint8_t *)(uintptr_t)w->data)[n - 1] = 252;
    model_close(&m);
    const uint64_t bad_us = us_to_open(&im, ROTOR_E_FORMAT);
    print_message("good: %llu us, damaged: %llu us\n", (unsigned long long)good_us,
                  (unsigned long long)bad_us);
    assert_true(bad_us < 2 * good_us + 20000);
    must_refuse(&im, ROTOR_E_FORMAT, "byte 0xFC in rows 240-255, byte 16383, is no string");
    image_drop(&im);
}

static void other_i2s_orders_load_when_named(void **state) {
    (void)state;
    const tiny_shape s = {1, 256, 4, 2, 384, 97, 512};
    char path[96];
    model *m = NULL;
    tiny_write(tiny_path(path, "order.gguf"), TINY_BITNET, s, 5, NULL);
    for (int order = 0; order < 3; order++) {
        const model_options o = {.i2s = order};
        assert_int_equal(model_open(&m, path, &o, NULL), ROTOR_OK);
        model *x86 = NULL;
        assert_int_equal(model_open(&x86, path, &plain, NULL), ROTOR_OK);
        const model_mat *a = &m->layers[0].q, *b = &x86->layers[0].q;
        assert_int_equal(memcmp(a->data, b->data, a->rows * a->row_bytes) == 0, order == 0);
        assert_true(a->scale == b->scale);
        model_close(&x86);
        model_close(&m);
    }
    unlink(path);
}

static void non_finite_norms_are_refused(void **state) {
    (void)state;
    image im;
    model *m = NULL;
    image_make(&im, TINY_BITNET, NULL);
    assert_int_equal(model_open_memory(&m, im.data, im.file.size, "m", &plain, NULL), ROTOR_OK);
    float *gain = (float *)(uintptr_t)file_tensor_find(m->file, "blk.1.ffn_norm.weight")->data;
    const float bad = NAN;
    memcpy(gain + 17, &bad, sizeof bad);
    model_close(&m);
    must_refuse(&im, ROTOR_E_FORMAT, "blk.1.ffn_norm.weight");
    image_drop(&im);
}

static void layers_can_be_limited(void **state) {
    (void)state;
    image im;
    model *m = NULL;
    const model_options one = {.i2s = -1, .max_layers = 1};
    image_make(&im, TINY_BITNET, NULL);
    assert_int_equal(model_open(&m, im.path, &one, NULL), ROTOR_OK);
    assert_int_equal(m->hp.n_layer, 1);
    model_close(&m);
    image_drop(&im);
}

/* Every cut file is refused, or (cut inside the last padding) opens: it never crashes. */
static void truncated_files_are_refused(void **state) {
    (void)state;
    image im;
    image_make(&im, TINY_BITNET, NULL);
    size_t step = 1;
    for (size_t n = 0; n + 32 < im.file.size; n += step) {
        model *m = NULL;
        uint8_t *cut = malloc(n ? n : 1); /* an exact block: reading beyond shows under ASan */
        memcpy(cut, im.data, n);
        assert_int_not_equal(model_open_memory(&m, cut, n, "cut.gguf", &plain, NULL), ROTOR_OK);
        assert_null(m);
        free(cut);
        step = n < 6000 ? 1 : 997; /* every byte of the header, then samples of the data */
    }
    image_drop(&im);
}

static void rope_frequencies_follow_the_published_rules(void **state) {
    (void)state;
    double f[64];
    model_hparams hp = {.n_rot = 128, .rope_base = 500000.0};
    model_rope_freqs(&hp, 0, false, f);
    for (int i = 0; i < 64; i++) assert_true(fabs(f[i] - pow(500000.0, -i / 64.0)) < 1e-15);
    hp.rope_scaling = MODEL_ROPE_LINEAR;
    hp.rope_factor = 4;
    double g[64];
    model_rope_freqs(&hp, 0, false, g);
    for (int i = 0; i < 64; i++) assert_true(fabs(g[i] - f[i] / 4) < 1e-15);
    hp.rope_scaling = MODEL_ROPE_LLAMA3; /* fast ones kept, slow ones divided, a ramp between */
    hp.rope_factor = 8;
    hp.rope_low = 1;
    hp.rope_high = 4;
    hp.rope_orig_ctx = 8192;
    model_rope_freqs(&hp, 0, false, g);
    assert_true(g[0] == f[0] && fabs(g[63] - f[63] / 8) < 1e-15);
    for (int i = 0; i < 64; i++) assert_true(g[i] <= f[i] && g[i] >= f[i] / 8 - 1e-15);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_files_open_with_their_facts),
        cmocka_unit_test(ternary_weights_in_two_formats_are_one_model),
        cmocka_unit_test(missing_tensors_are_named),
        cmocka_unit_test(bad_numbers_are_refused),
        cmocka_unit_test(unknown_architectures_are_named),
        cmocka_unit_test(illegal_codes_are_found_wherever_they_are),
        cmocka_unit_test(illegal_bytes_of_t5_are_found_wherever_they_are),
        cmocka_unit_test(a_damaged_file_is_refused_as_fast_as_a_good_one_opens),
        cmocka_unit_test(other_i2s_orders_load_when_named),
        cmocka_unit_test(non_finite_norms_are_refused),
        cmocka_unit_test(layers_can_be_limited),
        cmocka_unit_test(truncated_files_are_refused),
        cmocka_unit_test(rope_frequencies_follow_the_published_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
