/* SPDX-License-Identifier: MIT
 *
 * safetensors and Hugging Face folders: files written by the safetensors package, hostile headers,
 * hostile indices, files cut at every byte, every allocation and read failing in turn.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file/file.h"

static char temp_dir[64];

static const char *fixture(const char *name) {
    static char path[512];
    const char *root = getenv("ROTOR_SOURCE_ROOT");
    snprintf(path, sizeof path, "%s/tests/data/file/%s", root ? root : ".", name);
    return path;
}

static const char *temp(const char *name) {
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", temp_dir, name);
    return path;
}

static file_model *open_or_fail(const char *path) {
    file_model *m = NULL;
    rotor_error err = {0};
    if (file_open(&m, path, NULL, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return m;
}

static void check_four(const file_model *m) {
    float f[12];
    assert_int_equal(file_kind_of(m), FILE_SAFETENSORS);
    assert_int_equal(file_n_tensors(m), 4);
    assert_int_equal(file_n_kvs(m), 0);
    assert_null(file_kv_find(m, "general.architecture"));
    const file_tensor *t = file_tensor_find(m, "a.weight");
    assert_true(t->info->id == QUANT_F32 && t->n_dims == 2 && t->dims[0] == 4 && t->dims[1] == 3);
    memcpy(f, t->data, sizeof f);
    for (int i = 0; i < 12; i++) assert_true(f[i] == (float)i);
    t = file_tensor_find(m, "b.bias");
    assert_true(t->info->id == QUANT_F16 && t->n_dims == 1 && t->dims[0] == 2 && t->rows == 1);
    assert_memory_equal(t->data, "\x00\x3E\x00\xC0", 4);
    t = file_tensor_find(m, "c.packed");
    assert_true(t->info->id == QUANT_U8 && t->bytes == 8 && t->data[7] == 7);
    t = file_tensor_find(m, "d.scalar");
    assert_true(t->info->id == QUANT_F32 && t->n_dims == 1 && t->dims[0] == 1 && t->bytes == 4);
}

static void one_file(void **state) {
    (void)state;
    base_str text;
    file_model *m = open_or_fail(fixture("small.safetensors"));
    check_four(m);
    assert_int_equal(file_n_shards(m), 1);
    assert_false(file_side(m, "config.json", &text));
    file_close(&m);
}

static void a_folder_with_an_index(void **state) {
    (void)state;
    base_str text;
    file_model *m = open_or_fail(fixture("hf_sharded"));
    check_four(m);
    assert_int_equal(file_n_shards(m), 2);
    assert_int_equal(file_tensor_find(m, "a.weight")->shard, 0);
    assert_int_equal(file_tensor_find(m, "c.packed")->shard, 1);
    assert_true(file_side(m, "config.json", &text) &&
                base_str_is(text, "{\"model_type\": \"test\"}\n"));
    assert_false(file_side(m, "tokenizer.json", &text));
    assert_int_equal(text.n, 0);
    assert_int_equal(file_unchanged(m, NULL), ROTOR_OK);
    file_close(&m);
    /* A single file beside its configuration. */
    m = open_or_fail(fixture("hf_sharded/model-00002-of-00002.safetensors"));
    assert_int_equal(file_n_tensors(m), 2);
    assert_true(file_side(m, "config.json", &text));
    file_close(&m);
}

/* ==== Hostile headers
 * ============================================================================= */

typedef struct bad_header {
    const char *json;    /* header */
    size_t n_data;       /* data bytes behind it */
    rotor_status status; /* expected */
    const char *message; /* part of the message */
} bad_header;

#define T(rest) "{\"w\":{" rest "}}"
static const bad_header bad_headers[] = {
    {"[]", 0, ROTOR_E_FORMAT, "neither"},
    {"{", 0, ROTOR_E_FORMAT, "header: "},
    {"{\"a\":1}", 0, ROTOR_E_FORMAT, "tensor a: not an object"},
    {T("\"shape\":[1],\"data_offsets\":[0,4]"), 4, ROTOR_E_FORMAT, "dtype (missing)"},
    {T("\"dtype\":\"F12\",\"shape\":[1],\"data_offsets\":[0,4]"), 4, ROTOR_E_UNSUPPORTED,
     "tensor w: dtype F12"},
    {T("\"dtype\":\"F32\",\"data_offsets\":[0,4]"), 4, ROTOR_E_FORMAT, "shape is not an array"},
    {T("\"dtype\":\"F32\",\"shape\":[1,1,1,1,1],\"data_offsets\":[0,4]"), 4, ROTOR_E_UNSUPPORTED,
     "5 dimensions"},
    {T("\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]"), 0, ROTOR_E_UNSUPPORTED,
     "at least 1"},
    {T("\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]"), 4, ROTOR_E_UNSUPPORTED,
     "at least 1"},
    {T("\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]"), 4, ROTOR_E_UNSUPPORTED,
     "at least 1"},
    {T("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]"), 0,
     ROTOR_E_FORMAT, "more than 2^63"},
    {T("\"dtype\":\"F32\",\"shape\":[4611686018427387904],\"data_offsets\":[0,0]"), 0,
     ROTOR_E_FORMAT, "do not fit"},
    {T("\"dtype\":\"F32\",\"shape\":[1]"), 4, ROTOR_E_FORMAT, "data_offsets: two numbers"},
    {T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]"), 8, ROTOR_E_FORMAT,
     "expected 4 bytes of F32"},
    {T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]"), 8, ROTOR_E_FORMAT,
     "data_offsets [4, 0]"},
    {T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]"), 8, ROTOR_E_FORMAT,
     "data_offsets [-4, 0]"},
    {T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[9223372036854775803,"
       "9223372036854775807]"),
     8, ROTOR_E_FORMAT, "past the end"},
    {T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]"), 3, ROTOR_E_FORMAT,
     "tensor w: 4 bytes of F32"},
    {T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]"), 5, ROTOR_E_FORMAT,
     "take 4 bytes, but the data section has 5"},
    {T("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]"), 8, ROTOR_E_FORMAT,
     "take 4 bytes"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\","
     "\"shape\":[4],\"data_offsets\":[2,6]}}",
     8, ROTOR_E_FORMAT, "overlap"},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"U8\","
     "\"shape\":[4],\"data_offsets\":[4,8]}}",
     8, ROTOR_E_FORMAT, "header: "},
    {"{\"a\\nb\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, ROTOR_E_FORMAT,
     "tensor name"},
    {"{\"\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, ROTOR_E_FORMAT,
     "tensor name of 0 bytes"},
    {"{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, ROTOR_E_FORMAT,
     "header: "},
};

static uint8_t *image_of(const char *json, uint64_t header_bytes, size_t n_data, size_t *size) {
    size_t n = strlen(json);
    uint8_t *image = calloc(1, 8 + n + n_data + 1);
    for (int i = 0; i < 8; i++) image[i] = (uint8_t)(header_bytes >> 8 * i);
    memcpy(image + 8, json, n);
    *size = 8 + n + n_data;
    return realloc(image, *size);
}

static void hostile_headers_are_refused(void **state) {
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(bad_headers); i++) {
        const bad_header *h = &bad_headers[i];
        file_model *m = NULL;
        rotor_error err = {0};
        size_t size;
        uint8_t *image = image_of(h->json, strlen(h->json), h->n_data, &size);
        rotor_status st = file_open_memory(&m, image, size, "bad.safetensors", NULL, &err);
        if (st != h->status || !strstr(err.message, h->message) || m)
            fail_msg("%s: status %d, \"%s\", expected %d and \"%s\"", h->json, st, err.message,
                     h->status, h->message);
        free(image);
    }
    const uint64_t lengths[] = {3, 1000, (uint64_t)1 << 40, UINT64_MAX};
    for (size_t i = 0; i < BASE_COUNT(lengths); i++) {
        file_model *m = NULL;
        size_t size;
        uint8_t *image = image_of(T("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]"),
                                  lengths[i], 1, &size);
        assert_int_equal(file_open_memory(&m, image, size, "bad", NULL, NULL), ROTOR_E_FORMAT);
        free(image);
    }
}

static void cut_at_every_byte(void **state) {
    (void)state;
    base_file f;
    int opened = 0;
    assert_int_equal(base_file_open(&f, fixture("small.safetensors"), false, NULL), ROTOR_OK);
    for (size_t n = 0; n <= f.size; n++) {
        file_model *m = NULL;
        uint8_t *image = malloc(n ? n : 1);
        memcpy(image, f.data, n);
        if (file_open_memory(&m, image, n, "cut", NULL, NULL) == ROTOR_OK) opened++;
        file_close(&m);
        free(image);
    }
    assert_int_equal(opened, 1);
    base_file_close(&f);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    for (long n = 1;; n++) {
        file_model *m = NULL;
        rotor_error err = {0};
        base_fault_after(n);
        rotor_status st = file_open(&m, fixture("hf_sharded"), NULL, &err);
        bool fired = base_fault_fired();
        base_fault_after(0);
        if (!fired) {
            assert_int_equal(st, ROTOR_OK);
            file_close(&m);
            assert_true(n > 15);
            return;
        }
        assert_true(st == ROTOR_E_NOMEM || st == ROTOR_E_IO);
        assert_true(err.message[0] && !m);
    }
}

/* ==== Hostile folders
 * ============================================================================= */

static void write_text(const char *path, const char *text, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(text, 1, n, f);
    fclose(f);
}

static void expect_folder_error(rotor_status status, const char *part) {
    file_model *m = NULL;
    rotor_error err = {0};
    assert_int_equal(file_open(&m, temp_dir, NULL, &err), status);
    assert_null(m);
    if (!strstr(err.message, part) || !strstr(err.message, temp_dir))
        fail_msg("\"%s\" lacks \"%s\" or the folder", err.message, part);
}

static void with_index(const char *json, rotor_status status, const char *part) {
    const char *path = temp("model.safetensors.index.json");
    write_text(path, json, strlen(json));
    expect_folder_error(status, part);
    remove(temp("model.safetensors.index.json"));
}

static void hostile_folders_are_refused(void **state) {
    (void)state;
    size_t size;
    uint8_t *image =
        image_of(T("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]"),
                 strlen(T("\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]")), 1, &size);
    expect_folder_error(ROTOR_E_NOTFOUND, "0 safetensors files");
    write_text(temp("m.gguf"), "GGUF", 4);
    expect_folder_error(ROTOR_E_NOTFOUND, "m.gguf");
    write_text(temp("a.safetensors"), (const char *)image, size);
    file_model *m = open_or_fail(temp_dir); /* the only one there is */
    assert_int_equal(file_n_tensors(m), 1);
    file_close(&m);
    write_text(temp("b.safetensors"), (const char *)image, size);
    expect_folder_error(ROTOR_E_NOTFOUND, "2 safetensors files");
    with_index("{", ROTOR_E_FORMAT, "index.json: byte");
    with_index("{}", ROTOR_E_FORMAT, "weight_map is missing");
    with_index("{\"weight_map\":{}}", ROTOR_E_FORMAT, "names no tensor");
    with_index("{\"weight_map\":{\"w\":\"../a.safetensors\"}}", ROTOR_E_FORMAT,
               "found ../a.safetensors");
    with_index("{\"weight_map\":{\"w\":\"sub/a.safetensors\"}}", ROTOR_E_FORMAT,
               "of this folder expected, found sub/a");
    with_index("{\"weight_map\":{\"w\":\"/etc/passwd\"}}", ROTOR_E_FORMAT,
               "of this folder expected");
    with_index("{\"weight_map\":{\"w\":7}}", ROTOR_E_FORMAT, "found no text");
    with_index("{\"weight_map\":{\"w\":\"c.safetensors\"}}", ROTOR_E_IO,
               "c.safetensors: cannot open");
    with_index("{\"weight_map\":{\"x\":\"a.safetensors\"}}", ROTOR_E_FORMAT,
               "tensor x is not in a.safetensors");
    with_index("{\"weight_map\":{\"w\":\"a.safetensors\",\"v\":\"b.safetensors\"}}", ROTOR_E_FORMAT,
               "tensor w appears twice");
    write_text(temp("a.safetensors"), "junk", 4);
    with_index("{\"weight_map\":{\"w\":\"a.safetensors\"}}", ROTOR_E_FORMAT,
               "a.safetensors: 4 bytes");
    free(image);
}

static int make_temp(void **state) {
    (void)state;
    snprintf(temp_dir, sizeof temp_dir, "/tmp/rotor-hf-XXXXXX");
    return mkdtemp(temp_dir) ? 0 : -1;
}

static int remove_temp(void **state) {
    (void)state;
    char **names;
    size_t n;
    if (base_list_dir(temp_dir, &names, &n, NULL) != ROTOR_OK) return -1;
    for (size_t i = 0; i < n; i++) remove(temp(names[i]));
    base_names_free(names, n);
    return rmdir(temp_dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_file),
        cmocka_unit_test(a_folder_with_an_index),
        cmocka_unit_test(hostile_headers_are_refused),
        cmocka_unit_test(cut_at_every_byte),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(hostile_folders_are_refused),
    };
    return cmocka_run_group_tests(tests, make_temp, remove_temp);
}
