/* SPDX-License-Identifier: MIT
 *
 * tool: NumPy files, scores, made-up files through every fault, conversion there and back.
 */
#define _DEFAULT_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tool/inspect.h"
#include "tool/tool.h"

static char folder[64];

static const char *in_folder(const char *name) {
    static char path[4][128];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/rotor-test-tool-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static size_t files_left(void) {
    char **names;
    size_t n;
    assert_int_equal(base_list_dir(folder, &names, &n, NULL), ROTOR_OK);
    base_names_free(names, n);
    return n;
}

static int remove_folder(void **state) {
    (void)state;
    char **names;
    size_t n;
    if (base_list_dir(folder, &names, &n, NULL) != ROTOR_OK) return -1;
    for (size_t i = 0; i < n; i++) unlink(in_folder(names[i]));
    base_names_free(names, n);
    return rmdir(folder);
}

/* ==== NumPy =================================================================================== */

static void numpy_files_come_back(void **state) {
    (void)state;
    tool_npy_out w;
    tool_npy_in r;
    float row[3] = {1.5f, -2, 3e8f}, back[3];
    const char *path = in_folder("a.npy");
    assert_int_equal(tool_npy_create(&w, path, 2, 3, NULL), ROTOR_OK);
    assert_int_equal(base_path_kind_of(path), BASE_PATH_NONE); /* not before it is complete */
    assert_int_equal(tool_npy_row(&w, row, NULL), ROTOR_OK);
    row[0] = 7;
    assert_int_equal(tool_npy_row(&w, row, NULL), ROTOR_OK);
    assert_int_equal(tool_npy_row(&w, row, NULL), ROTOR_E_STATE);
    assert_int_equal(tool_npy_commit(&w, NULL), ROTOR_OK);
    assert_int_equal(tool_npy_open(&r, path, NULL), ROTOR_OK);
    assert_int_equal(r.rows, 2);
    assert_int_equal(r.cols, 3);
    assert_int_equal((r.data - r.file.data) % 64, 0);
    tool_npy_read(&r, 1, back);
    assert_memory_equal(back, row, sizeof row);
    tool_npy_close(&r);
    unlink(path);
}

static void an_incomplete_numpy_file_never_appears(void **state) {
    (void)state;
    tool_npy_out w;
    float row[3] = {0};
    assert_int_equal(tool_npy_create(&w, in_folder("b.npy"), 2, 3, NULL), ROTOR_OK);
    assert_int_equal(tool_npy_row(&w, row, NULL), ROTOR_OK);
    assert_int_equal(tool_npy_commit(&w, NULL), ROTOR_E_STATE);
    assert_int_equal(files_left(), 0);
}

static void write_text(const char *path, const void *p, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    fclose(f);
}

static void bad_numpy_files_are_refused(void **state) {
    (void)state;
    const char *const dicts[] = {
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 2), }",
        "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2, 2), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (99, 2), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387905, 4), }",
        "{'descr': '<f4', 'fortran_order': False}",
        "",
    };
    const char *path = in_folder("c.npy");
    for (size_t i = 0; i < BASE_COUNT(dicts); i++) {
        char file[256] = "\x93NUMPY\x01";
        size_t n = strlen(dicts[i]);
        tool_npy_in r;
        rotor_error err;
        file[8] = (char)n;
        memcpy(file + 10, dicts[i], n);
        write_text(path, file, 10 + n + 8);
        assert_int_equal(tool_npy_open(&r, path, &err), ROTOR_E_FORMAT);
    }
    tool_npy_in r;
    write_text(path, "\x93NUMPY\x01\0\xff\xff", 10);
    assert_int_equal(tool_npy_open(&r, path, NULL), ROTOR_E_FORMAT);
    write_text(path, "PK", 2);
    assert_int_equal(tool_npy_open(&r, path, NULL), ROTOR_E_FORMAT);
    unlink(path);
}

/* ==== Scores ================================================================================== */

static void perplexity_of_known_distributions(void **state) {
    (void)state;
    tool_score s = {0};
    float flat[8] = {0}, sure[8] = {1000, -1000, 0, 0, 0, 0, 0, 0};
    for (int i = 0; i < 5; i++) tool_score_add(&s, flat, 8, (uint32_t)i);
    assert_true(fabs(tool_perplexity(&s) - 8) < 1e-6); /* uniform over 8 */
    assert_true(fabs(tool_perplexity_error(&s)) < 1e-6);
    s = (tool_score){0};
    tool_score_add(&s, sure, 8, 0);
    assert_true(fabs(tool_perplexity(&s) - 1) < 1e-9); /* no overflow at large logits */
    tool_score_add(&s, sure, 8, 1);
    assert_true(fabs(s.nll_sum - 2000) < 1e-6);
}

static void kld_of_known_distributions(void **state) {
    (void)state;
    tool_kld k = {0};
    float p[2] = {0, logf(3)}, q[2] = {0, 0}; /* 1/4 3/4 against 1/2 1/2 */
    double expected = 0.25 * log(0.5) + 0.75 * log(1.5);
    for (int i = 0; i < 1500; i++) assert_int_equal(tool_kld_add(&k, p, p, 2), ROTOR_OK);
    assert_int_equal(tool_kld_add(&k, p, q, 2), ROTOR_OK);
    tool_kld_result r = tool_kld_finish(&k);
    assert_true(fabs(r.max - expected) < 1e-6 && fabs(r.mean - expected / 1501) < 1e-8);
    assert_true(r.median < 1e-9 && r.p99 < 1e-9);
    assert_true(fabs(r.same_top - 1500.0 / 1501) < 1e-12);
    tool_kld_free(&k);
}

/* ==== Files =================================================================================== */

static rotor_status synth(const char *path, bool sparse) {
    tool_synth_options opt = {.seed = 3, .sparse = sparse};
    return tool_synth("bitnet-tiny", path, &opt, NULL);
}

static void making_a_file_survives_every_fault(void **state) {
    (void)state;
    const char *path = in_folder("m.gguf");
    for (long n = 1; n < 3000; n++) {
        base_fault_after(n);
        rotor_status st = synth(path, true);
        bool fired = base_fault_fired();
        base_fault_after(0);
        if (!fired) {
            assert_int_equal(st, ROTOR_OK);
            assert_int_equal(files_left(), 1);
            unlink(path);
            return;
        }
        assert_int_not_equal(st, ROTOR_OK);
        assert_int_equal(files_left(), 0);
    }
    fail();
}

static bool stop_at_once(void *user, uint64_t done, uint64_t total) {
    (void)user, (void)done, (void)total;
    return false;
}

static void cancelling_leaves_nothing(void **state) {
    (void)state;
    tool_synth_options opt = {.progress = {stop_at_once, NULL}};
    assert_int_equal(tool_synth("bitnet-tiny", in_folder("x.gguf"), &opt, NULL), ROTOR_E_CANCELLED);
    assert_int_equal(files_left(), 0);
}

static void same_bytes(const char *a, const char *b) {
    base_file x, y;
    assert_int_equal(base_file_open(&x, a, true, NULL), ROTOR_OK);
    assert_int_equal(base_file_open(&y, b, true, NULL), ROTOR_OK);
    assert_int_equal(x.size, y.size);
    assert_memory_equal(x.data, y.data, x.size);
    base_file_close(&x);
    base_file_close(&y);
}

static void every_type_and_back_is_the_same_file(void **state) {
    (void)state;
    const char *a = in_folder("a.gguf"), *b = in_folder("b.gguf"), *c = in_folder("c.gguf");
    assert_int_equal(synth(a, false), ROTOR_OK);
    for (size_t i = 0; tool_convert_type(i); i++) {
        const char *type = tool_convert_type(i);
        if (strcmp(type, "Q4_0") == 0 || strcmp(type, "Q6_K") == 0)
            continue; /* lossy for ternary */
        tool_convert_options there = {.type = type}, back = {.type = "I2_S"};
        tool_convert_report r;
        rotor_error err = {0};
        if (tool_convert(a, b, &there, &r, &err) != ROTOR_OK) fail_msg("%s: %s", type, err.message);
        assert_int_equal(r.n_tensors, 24);
        if (tool_convert(b, c, &back, &r, &err) != ROTOR_OK) fail_msg("%s: %s", type, err.message);
        same_bytes(a, c);
    }
    unlink(a);
    unlink(b);
    unlink(c);
}

static void converting_survives_every_fault(void **state) {
    (void)state;
    const char *a = in_folder("a.gguf"), *b = in_folder("b.gguf");
    tool_convert_options opt = {.type = "TQ1_0", .head_type = "Q8_0"};
    tool_convert_report r;
    assert_int_equal(synth(a, false), ROTOR_OK);
    for (long n = 1; n < 60000; n += n < 300 ? 1 : 37) {
        base_fault_after(n);
        rotor_status st = tool_convert(a, b, &opt, &r, NULL);
        bool fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st == ROTOR_OK, !fired);
        assert_int_equal(files_left(), fired ? 1 : 2);
        if (fired) continue;
        unlink(a);
        unlink(b);
        return;
    }
    fail();
}

/* ==== Folders ================================================================================= */

static const char words_json[] =
    "{\"added_tokens\": [{\"id\": 1, \"content\": \"[CLS]\", \"special\": true}],"
    "\"normalizer\": {\"type\": \"BertNormalizer\"},"
    "\"pre_tokenizer\": {\"type\": \"BertPreTokenizer\"},"
    "\"model\": {\"type\": \"WordPiece\", \"unk_token\": \"[UNK]\","
    "\"vocab\": {\"[UNK]\": 0, \"[CLS]\": 1, \"a\": 2, \"##b\": 3, \"hello\": 5}}}";

static const char unigram_json[] =
    "{\"added_tokens\": [{\"id\": 0, \"content\": \"<unk>\", \"special\": true}],"
    "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": ["
    "{\"type\": \"Precompiled\", \"precompiled_charsmap\": \"AAAAAA==\"},"
    "{\"type\": \"Replace\", \"pattern\": {\"String\": \"\\t\"}, \"content\": \"\\t\"}]},"
    "\"pre_tokenizer\": {\"type\": \"Metaspace\", \"prepend_scheme\": \"never\"},"
    "\"model\": {\"type\": \"Unigram\", \"unk_id\": 0, \"vocab\": "
    "[[\"<unk>\", 0], [\"\\u2581\", -1], [\"a\", -2.5], [\"hello\", -4]]}}";

static void put_file(const char *name, const void *p, size_t n) {
    base_out out;
    assert_int_equal(base_out_open(&out, in_folder(name), NULL), ROTOR_OK);
    assert_int_equal(base_out_write(&out, p, n, NULL), ROTOR_OK);
    assert_int_equal(base_out_commit(&out, NULL), ROTOR_OK);
}

static void put_copy(const char *name) {
    const char *root = getenv("ROTOR_SOURCE_ROOT");
    char path[4096];
    base_file f;
    snprintf(path, sizeof path, "%s/tests/data/golden/hf-llama-tied/%s", root ? root : ".", name);
    assert_int_equal(base_file_open(&f, path, false, NULL), ROTOR_OK);
    put_file(name, f.data, f.size);
    base_file_close(&f);
}

static bool has_words(const char *path, const char *kind) {
    tool_file *f = NULL;
    const tool_source src = {.path = path};
    bool found = false;
    assert_int_equal(tool_file_open(&f, &src, NULL), ROTOR_OK);
    const tool_facts *t = tool_file_facts(f);
    for (size_t i = 0; i < t->n_kvs; i++) {
        base_str key;
        base_buf value = {0};
        assert_int_equal(tool_file_kv(f, i, &key, &value), ROTOR_OK);
        if (base_str_is(key, "tokenizer.ggml.model")) found = strstr(value.data, kind) != NULL;
        base_buf_free(&value);
    }
    tool_file_close(&f);
    return found;
}

/* A vocabulary is tried before it is written; memory that ends then is no reason to leave it out.
 */
static void converting_a_vocabulary_survives_every_fault(void **state) {
    (void)state;
    const tool_convert_options opt = {0};
    put_copy("config.json");
    put_copy("model.safetensors");
    for (int kind = 0; kind < 2; kind++) {
        const char *json = kind ? unigram_json : words_json, *out = in_folder("out.gguf");
        bool fired = true;
        put_file("tokenizer.json", json, strlen(json));
        for (long n = 1; fired; n += n < 400 ? 1 : 13) {
            tool_convert_report r;
            rotor_error err = {0};
            base_fault_after(n);
            rotor_status st = tool_convert(folder, out, &opt, &r, &err);
            fired = base_fault_fired();
            base_fault_after(0);
            if ((st == ROTOR_OK) == fired) fail_msg("%ld: %d %s", n, (int)st, err.message);
            assert_int_equal(files_left(), fired ? 3 : 4);
            assert_true(n < 20000);
        }
        assert_true(has_words(out, kind ? "t5" : "bert"));
        unlink(out);
    }
    unlink(in_folder("config.json"));
    unlink(in_folder("model.safetensors"));
    unlink(in_folder("tokenizer.json"));
}

static void count_bad(void *user, base_str tensor, const char *why) {
    (void)tensor;
    assert_non_null(why);
    ++*(int *)user;
}

static void stats_and_verify_agree_with_the_file(void **state) {
    (void)state;
    const char *a = in_folder("a.gguf");
    tool_file *f = NULL;
    tool_verify_result v;
    int bad = 0;
    assert_int_equal(synth(a, false), ROTOR_OK);
    tool_source src = {.path = a};
    assert_int_equal(tool_file_open(&f, &src, NULL), ROTOR_OK);
    const tool_facts *t = tool_file_facts(f);
    assert_int_equal(tool_verify(f, -1, TOOL_I2S_X86, count_bad, &bad, NULL, &v, NULL), ROTOR_OK);
    assert_int_equal(v.n_values, t->n_params);
    assert_int_equal(v.n_tensors, t->n_tensors);
    assert_int_equal(bad, 0);
    for (size_t i = 0; i < t->n_tensors; i++) {
        tool_stats s;
        assert_int_equal(tool_tensor_stats(f, i, TOOL_I2S_X86, &s, NULL), ROTOR_OK);
        assert_int_equal(s.minus + s.zero + s.plus, s.n);
        assert_true(s.min <= s.mean && s.mean <= s.max && s.rms > 0);
    }
    assert_int_equal(tool_kv_bytes(t, 100, 2), 100 * 2 * 2 * 2 * 64 * 2);
    tool_file_close(&f);
    unlink(a);
}

static void vocabularies_are_bijective(void **state) {
    (void)state;
    const char *a = in_folder("a.gguf");
    tool_vocab *v = NULL;
    assert_int_equal(synth(a, true), ROTOR_OK);
    tool_source src = {.path = a};
    assert_int_equal(tool_vocab_open(&v, &src, NULL, NULL, NULL), ROTOR_OK);
    for (uint32_t id = 0; id < 496; id++) { /* every plain token is one token again */
        base_buf text = {0};
        uint32_t *ids;
        size_t n;
        assert_int_equal(tool_detokenize(v, &id, 1, false, &text, NULL), ROTOR_OK);
        assert_int_equal(tool_tokenize(v, text.data, text.len, 0, &ids, &n, NULL), ROTOR_OK);
        assert_int_equal(n, 1);
        assert_int_equal(ids[0], id);
        base_free(ids);
        base_buf_free(&text);
    }
    tool_vocab_close(&v);
    unlink(a);
}

static void published_files_are_known_by_size_and_hash(void **state) {
    (void)state;
    const tool_known list[] = {
        {"other", 4, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}};
    assert_string_equal(tool_known_in(list, 2, "abc", 3), "abc");
    assert_null(tool_known_in(list, 2, "abd", 3));
    assert_null(tool_known_in(list, 2, "abcd", 4));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_files_are_known_by_size_and_hash),
        cmocka_unit_test(numpy_files_come_back),
        cmocka_unit_test(an_incomplete_numpy_file_never_appears),
        cmocka_unit_test(bad_numpy_files_are_refused),
        cmocka_unit_test(perplexity_of_known_distributions),
        cmocka_unit_test(kld_of_known_distributions),
        cmocka_unit_test(making_a_file_survives_every_fault),
        cmocka_unit_test(cancelling_leaves_nothing),
        cmocka_unit_test(every_type_and_back_is_the_same_file),
        cmocka_unit_test(converting_survives_every_fault),
        cmocka_unit_test(converting_a_vocabulary_survives_every_fault),
        cmocka_unit_test(stats_and_verify_agree_with_the_file),
        cmocka_unit_test(vocabularies_are_bijective),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
