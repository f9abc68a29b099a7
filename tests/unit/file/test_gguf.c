/* SPDX-License-Identifier: MIT
 *
 * GGUF that is good: a file written by the gguf package read back value by value, the same content
 * written by our writer byte for byte, conversions of metadata, split models, odd but legal files.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "gguf_image.h"

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

static file_model *open_or_fail(const char *path, bool no_map) {
    file_model *m = NULL;
    rotor_error err = {0};
    const file_options opt = {.no_map = no_map};
    if (file_open(&m, path, &opt, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return m;
}

static void check_small(const file_model *m) {
    uint64_t u;
    int64_t i;
    double d;
    bool flag;
    base_str s;
    assert_int_equal(file_kind_of(m), FILE_GGUF);
    assert_int_equal(file_n_kvs(m), 10);
    assert_true(file_kv_u64(file_kv_find(m, "n.u32"), 0, &u) && u == 7);
    assert_true(file_kv_i64(file_kv_find(m, "n.i32"), 0, &i) && i == -7);
    assert_true(file_kv_u64(file_kv_find(m, "n.u64"), 0, &u) && u == (uint64_t)1 << 40);
    assert_true(file_kv_f64(file_kv_find(m, "x.f32"), 0, &d) && d == 0.5);
    assert_true(file_kv_bool(file_kv_find(m, "b.true"), 0, &flag) && flag);
    assert_true(file_kv_str(file_kv_find(m, "s.text"), 0, &s) && base_str_is(s, "zwölf"));
    const file_kv *strings = file_kv_find(m, "a.str");
    assert_true(strings->type == FILE_ARR && strings->elem == FILE_STR && strings->n == 3);
    assert_true(file_kv_str(strings, 1, &s) && s.n == 0);
    assert_true(file_kv_str(strings, 2, &s) && base_str_is(s, "ccc"));
    assert_false(file_kv_str(strings, 3, &s));
    assert_true(file_kv_i64(file_kv_find(m, "a.i32"), 1, &i) && i == -1);
    assert_true(file_kv_f64(file_kv_find(m, "a.f32"), 1, &d) && d == -1.5);
    assert_null(file_kv_find(m, "absent"));
    assert_int_equal(file_n_tensors(m), 3);
    const file_tensor *t = file_tensor_find(m, "plain");
    float f[6];
    assert_true(t->n_dims == 2 && t->dims[0] == 3 && t->dims[1] == 2 && t->dims[2] == 1);
    assert_true(t->rows == 2 && t->bytes == 24 && t->info->id == QUANT_F32);
    memcpy(f, t->data, sizeof f);
    for (int k = 0; k < 6; k++) assert_true(f[k] == (float)k);
    t = file_tensor_find(m, "packed");
    assert_true(t == file_tensor_at(m, 2) && t->info->id == QUANT_Q8_0 && t->bytes == 68);
    assert_ptr_equal(t->data, file_shard(m, 0)->data + t->offset);
    assert_null(file_tensor_find(m, "absent"));
    assert_int_equal(file_unchanged(m, NULL), ROTOR_OK);
}

static void reads_what_the_reference_wrote(void **state) {
    (void)state;
    for (int no_map = 0; no_map < 2; no_map++) {
        file_model *m = open_or_fail(fixture("small.gguf"), no_map);
        check_small(m);
        assert_int_equal(file_total_bytes(m), 640);
        assert_string_equal(file_path(m), fixture("small.gguf"));
        assert_int_equal(file_shard(m, 0)->mapped, !no_map);
        file_close(&m);
        assert_null(m);
        file_close(&m);
    }
}

static void expect_same_file(const char *a, const char *b) {
    base_file fa, fb;
    char first[512];
    snprintf(first, sizeof first, "%s", a);
    assert_int_equal(base_file_open(&fa, first, false, NULL), ROTOR_OK);
    assert_int_equal(base_file_open(&fb, b, false, NULL), ROTOR_OK);
    assert_int_equal(fa.size, fb.size);
    assert_memory_equal(fa.data, fb.data, fa.size);
    base_file_close(&fa);
    base_file_close(&fb);
}

static void put_small(file_writer *w) {
    const int32_t ints[3] = {3, -1, 2};
    const float floats[2] = {0.25f, -1.5f};
    const base_str strings[3] = {{"a", 1}, {"", 0}, {"ccc", 3}};
    file_put_str(w, "general.architecture", base_str_of("test"));
    file_put_u32(w, "n.u32", 7);
    file_put_i32(w, "n.i32", -7);
    file_put_u64(w, "n.u64", (uint64_t)1 << 40);
    file_put_f32(w, "x.f32", 0.5f);
    file_put_bool(w, "b.true", true);
    file_put_str(w, "s.text", base_str_of("zwölf"));
    file_put_array(w, "a.i32", FILE_I32, ints, 3);
    file_put_array(w, "a.f32", FILE_F32, floats, 2);
    assert_int_equal(file_put_strings(w, "a.str", strings, 3), ROTOR_OK);
}

static void writes_the_reference_byte_for_byte(void **state) {
    (void)state;
    file_writer *w = NULL;
    file_model *m = open_or_fail(fixture("small.gguf"), false);
    assert_int_equal(file_writer_create(&w, temp("small.gguf"), NULL), ROTOR_OK);
    put_small(w);
    for (size_t i = 0; i < 3; i++) {
        const file_tensor *t = file_tensor_at(m, i);
        assert_int_equal(file_declare(w, t->name, t->info->id, t->n_dims, t->dims, NULL), ROTOR_OK);
    }
    assert_int_equal(file_begin(w, NULL), ROTOR_OK);
    for (size_t i = 0; i < 3; i++) { /* in uneven pieces */
        const file_tensor *t = file_tensor_at(m, i);
        assert_int_equal(file_write(w, t->data, 3, NULL), ROTOR_OK);
        assert_int_equal(file_write(w, t->data + 3, t->bytes - 3, NULL), ROTOR_OK);
    }
    assert_int_equal(base_path_kind_of(temp("small.gguf")), BASE_PATH_NONE); /* not before commit */
    assert_int_equal(file_commit(w, NULL), ROTOR_OK);
    file_writer_free(&w);
    expect_same_file(fixture("small.gguf"), temp("small.gguf"));
    file_close(&m);
}

static void copies_metadata_of_every_type(void **state) {
    (void)state;
    base_buf b = {0};
    file_model *m = NULL;
    file_writer *w = NULL;
    put_head(&b, 0, 20);
    for (uint32_t type = 0; type <= FILE_F64; type++) {
        char key[16];
        if (type == FILE_ARR) continue;
        snprintf(key, sizeof key, "s.%u", type);
        put_key(&b, key, type);
        if (type == FILE_STR)
            put_text(&b, "x");
        else
            put_le(&b, 1,
                   type == FILE_U64 || type == FILE_I64 || type == FILE_F64 ? 8
                   : type < 2 || type == FILE_BOOL                          ? 1
                   : type < 4                                               ? 2
                                                                            : 4);
    }
    const uint32_t elems[7] = {FILE_U8,   FILE_I16, FILE_U32, FILE_F32,
                               FILE_BOOL, FILE_STR, FILE_F64};
    const int sizes[7] = {1, 2, 4, 4, 1, 0, 8};
    for (int k = 0; k < 7; k++) {
        char key[16];
        snprintf(key, sizeof key, "a.%u", elems[k]);
        put_key(&b, key, FILE_ARR);
        put_le(&b, elems[k], 4);
        put_le(&b, elems[k] == FILE_I16 ? 0 : 2, 8);
        for (int i = 0; i < 2 && elems[k] != FILE_I16; i++)
            if (elems[k] == FILE_STR)
                put_text(&b, i ? "" : "tok");
            else
                put_le(&b, 1, sizes[k]);
    }
    put_u32_kv(&b, "general.alignment", 64);
    b.data[16] = 20;
    assert_int_equal(file_open_memory(&m, b.data, b.len, "all", NULL, NULL), ROTOR_OK);
    assert_int_equal(file_writer_create(&w, temp("copy.gguf"), NULL), ROTOR_OK);
    for (size_t i = 0; i < file_n_kvs(m); i++)
        assert_int_equal(file_put_kv(w, file_kv_at(m, i)), ROTOR_OK);
    assert_int_equal(file_begin(w, NULL), ROTOR_OK);
    assert_int_equal(file_commit(w, NULL), ROTOR_OK);
    file_writer_free(&w);
    base_file f;
    assert_int_equal(base_file_open(&f, temp("copy.gguf"), false, NULL), ROTOR_OK);
    assert_int_equal(f.size, b.len);
    assert_memory_equal(f.data, b.data, b.len);
    base_file_close(&f);
    file_close(&m);
    base_buf_free(&b);
}

static void numbers_convert_or_refuse(void **state) {
    (void)state;
    const uint8_t ff[8] = {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF};
    const float f = 2.5f;
    uint64_t u = 5;
    int64_t i;
    double d;
    bool flag;
    base_str s;
    file_kv kv = {.type = FILE_I8, .elem = FILE_I8, .n = 1, .data = ff};
    assert_true(!file_kv_u64(&kv, 0, &u) && file_kv_i64(&kv, 0, &i) && i == -1);
    assert_true(file_kv_f64(&kv, 0, &d) && d == -1);
    assert_false(file_kv_i64(&kv, 1, &i));
    kv.elem = FILE_U64;
    assert_true(file_kv_u64(&kv, 0, &u) && u == UINT64_MAX && !file_kv_i64(&kv, 0, &i));
    assert_true(file_kv_f64(&kv, 0, &d) && d == 18446744073709551615.0);
    kv.elem = FILE_U16;
    assert_true(file_kv_u64(&kv, 0, &u) && u == 65535);
    kv.elem = FILE_I16;
    assert_true(file_kv_i64(&kv, 0, &i) && i == -1);
    kv.elem = FILE_U8;
    assert_true(file_kv_u64(&kv, 0, &u) && u == 255 && !file_kv_bool(&kv, 0, &flag));
    kv.elem = FILE_I64;
    assert_true(!file_kv_u64(&kv, 0, &u) && file_kv_i64(&kv, 0, &i) && i == -1);
    kv = (file_kv){.type = FILE_F32, .elem = FILE_F32, .n = 1, .data = (const uint8_t *)&f};
    assert_true(!file_kv_u64(&kv, 0, &u) && file_kv_f64(&kv, 0, &d) && d == 2.5);
    assert_true(!file_kv_str(&kv, 0, &s) && !file_kv_bool(&kv, 0, &flag));
}

static void splits_open_as_one(void **state) {
    (void)state;
    file_model *m = open_or_fail(fixture("split-00001-of-00003.gguf"), false);
    assert_int_equal(file_n_shards(m), 3);
    assert_int_equal(file_n_tensors(m), 3);
    assert_int_equal(file_total_bytes(m), 224 + 192 + 192);
    for (uint32_t i = 0; i < 3; i++) {
        const file_tensor *t = file_tensor_at(m, i);
        float f;
        memcpy(&f, t->data, 4);
        assert_true(f == (float)i && t->shard == i);
        assert_ptr_equal(t->data, file_shard(m, i)->data + t->offset);
    }
    file_close(&m);
}

static void copy_file(const char *from, const char *to, size_t flip_at) {
    base_file f;
    char source[512];
    snprintf(source, sizeof source, "%s", from);
    assert_int_equal(base_file_open(&f, source, false, NULL), ROTOR_OK);
    FILE *out = fopen(to, "wb");
    assert_non_null(out);
    for (size_t i = 0; i < f.size; i++) fputc(i == flip_at ? f.data[i] ^ 1 : f.data[i], out);
    fclose(out);
    base_file_close(&f);
}

static void expect_open_error(const char *path, rotor_status status, const char *part) {
    file_model *m = NULL;
    rotor_error err = {0};
    assert_int_equal(file_open(&m, path, NULL, &err), status);
    if (!strstr(err.message, part)) fail_msg("\"%s\" lacks \"%s\"", err.message, part);
}

static void broken_splits_name_the_part(void **state) {
    (void)state;
    copy_file(fixture("split-00001-of-00003.gguf"), temp("s-00001-of-00003.gguf"), SIZE_MAX);
    copy_file(fixture("split-00003-of-00003.gguf"), temp("s-00003-of-00003.gguf"), SIZE_MAX);
    expect_open_error(temp("s-00001-of-00003.gguf"), ROTOR_E_IO,
                      "s-00002-of-00003.gguf: cannot open");
    expect_open_error(temp("s-00003-of-00003.gguf"), ROTOR_E_ARG, "s-00001-of-00003.gguf instead");
    copy_file(fixture("split-00003-of-00003.gguf"), temp("s-00002-of-00003.gguf"), SIZE_MAX);
    expect_open_error(temp("s-00001-of-00003.gguf"), ROTOR_E_FORMAT, "split.no: 2, expected 1");
    copy_file(fixture("split-00001-of-00003.gguf"), temp("renamed.gguf"), SIZE_MAX);
    expect_open_error(temp("renamed.gguf"), ROTOR_E_FORMAT, "-00001-of-00003.gguf");
}

static void duplicate_names_across_parts(void **state) {
    (void)state;
    base_file f;
    for (int i = 1; i <= 3; i++) {
        char name[64], to[128];
        snprintf(name, sizeof name, "split-0000%d-of-00003.gguf", i);
        snprintf(to, sizeof to, "%s/d-0000%d-of-00003.gguf", temp_dir, i);
        assert_int_equal(base_file_open(&f, fixture(name), false, NULL), ROTOR_OK);
        size_t at = 0;
        while (i == 2 && memcmp(f.data + at, "\2\0\0\0\0\0\0\0t1", 10) != 0) at++;
        base_file_close(&f);
        copy_file(fixture(name), to, i == 2 ? at + 9 : SIZE_MAX); /* t1 becomes t0 */
    }
    expect_open_error(temp("d-00001-of-00003.gguf"), ROTOR_E_FORMAT, "tensor t0 appears twice");
}

static void a_cut_file_is_noticed(void **state) {
    (void)state;
    rotor_error err = {0};
    copy_file(fixture("small.gguf"), temp("cut.gguf"), SIZE_MAX);
    file_model *m = open_or_fail(temp("cut.gguf"), false);
    assert_int_equal(truncate(temp("cut.gguf"), 100), 0);
    assert_int_equal(file_unchanged(m, &err), ROTOR_E_IO);
    assert_non_null(strstr(err.message, "cut.gguf"));
    file_close(&m);
}

/* Version 2, gaps between tensors, metadata without tensors, id 36 in any architecture. */
static void odd_but_legal_files_open(void **state) {
    (void)state;
    base_buf b = {0};
    file_model *m = NULL;
    put_head(&b, 0, 0);
    assert_int_equal(file_open_memory(&m, b.data, b.len, "bare", NULL, NULL), ROTOR_OK);
    assert_int_equal(file_n_tensors(m), 0);
    assert_null(file_tensor_find(m, "x"));
    file_close(&m);
    base_buf_reset(&b);
    put_head(&b, 5, 1);
    b.data[4] = 2;
    put_text_kv(&b, "general.architecture", "llama");
    put_tensor(&b, "b", 128, 1, QUANT_I2_S, 256);
    put_tensor(&b, "a", 8, 1, QUANT_F32, 0);
    put_tensor(&b, "c", 64, 1, QUANT_Q2_0, 128);
    put_tensor(&b, "d", 256, 1, 16, 320);
    put_tensor(&b, "e", 32, 2, QUANT_MXFP4, 416);
    put_data(&b, 32, 450);
    assert_int_equal(file_open_memory(&m, b.data, b.len, "odd", NULL, NULL), ROTOR_OK);
    assert_string_equal(file_tensor_find(m, "b")->info->name, "I2_S");
    assert_int_equal(file_tensor_find(m, "b")->bytes, 64);
    assert_string_equal(file_tensor_find(m, "d")->info->name, "IQ2_XXS");
    assert_true(base_str_is(file_tensor_at(m, 0)->name, "b")); /* file order */
    file_close(&m);
    base_buf_free(&b);
}

typedef struct log_lines {
    char last[512]; /* newest line */
    int n;          /* lines seen */
} log_lines;

static void keep_line(void *user, base_log_level level, const char *line) {
    log_lines *l = user;
    assert_int_equal(level, BASE_LOG_WARN);
    snprintf(l->last, sizeof l->last, "%s", line);
    l->n++;
}

static void gaps_are_mentioned(void **state) {
    (void)state;
    base_buf b = {0};
    file_model *m = NULL;
    log_lines lines = {0};
    const base_log log = {keep_line, &lines};
    const file_options opt = {.log = &log};
    put_head(&b, 2, 0);
    put_tensor(&b, "a", 8, 1, QUANT_F32, 0);
    put_tensor(&b, "b", 8, 1, QUANT_F32, 96);
    put_data(&b, 32, 128);
    assert_int_equal(file_open_memory(&m, b.data, b.len, "gap", &opt, NULL), ROTOR_OK);
    assert_int_equal(lines.n, 1);
    assert_non_null(strstr(lines.last, "tensor a: 64 unused bytes"));
    file_close(&m);
    base_buf_free(&b);
}

/* ==== Writer misuse
 * =============================================================================== */

static void the_writer_says_what_is_wrong(void **state) {
    (void)state;
    file_writer *w = NULL;
    rotor_error err = {0};
    const uint64_t shape[4] = {32, 1, 1, 1}, odd[4] = {33, 1, 1, 1}, zero[4] = {32, 0, 1, 1};
    const uint8_t bytes[64] = {0};
    base_str name = base_str_of("w");
    assert_int_equal(file_writer_create(&w, temp("none/x.gguf"), &err), ROTOR_E_IO);
    assert_null(w);
    assert_int_equal(file_writer_create(&w, temp("x.gguf"), NULL), ROTOR_OK);
    assert_int_equal(file_write(w, bytes, 1, &err), ROTOR_E_STATE);
    assert_int_equal(file_commit(w, &err), ROTOR_E_STATE);
    assert_int_equal(file_declare(w, name, QUANT_Q8_0, 1, odd, &err), ROTOR_E_FORMAT);
    assert_non_null(strstr(err.message, "tensor w: 33 columns"));
    assert_int_equal(file_declare(w, name, QUANT_F32, 2, zero, &err), ROTOR_E_ARG);
    assert_int_equal(file_declare(w, name, QUANT_F32, 5, shape, &err), ROTOR_E_ARG);
    assert_int_equal(file_declare(w, name, 4, 1, shape, &err), ROTOR_E_UNSUPPORTED);
    assert_int_equal(file_declare(w, name, QUANT_U8, 1, shape, &err), ROTOR_E_UNSUPPORTED);
    assert_int_equal(file_declare(w, base_str_of(""), QUANT_F32, 1, shape, &err), ROTOR_E_ARG);
    assert_int_equal(file_declare(w, name, QUANT_Q8_0, 1, shape, &err), ROTOR_OK);
    assert_int_equal(file_declare(w, name, QUANT_Q8_0, 1, shape, &err), ROTOR_E_ARG);
    assert_int_equal(file_begin(w, &err), ROTOR_OK);
    assert_int_equal(file_put_u32(w, "late", 1), ROTOR_E_STATE);
    assert_int_equal(file_write(w, bytes, 35, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "tensor w: 35 bytes given, 34 are missing"));
    assert_int_equal(file_write(w, bytes, 30, &err), ROTOR_OK);
    assert_int_equal(file_commit(w, &err), ROTOR_E_STATE);
    assert_non_null(strstr(err.message, "incomplete by 4 bytes"));
    file_writer_free(&w);
    assert_int_equal(base_path_kind_of(temp("x.gguf")), BASE_PATH_NONE);
    assert_int_equal(file_writer_create(&w, temp("x.gguf"), NULL), ROTOR_OK);
    assert_int_equal(file_put_u32(w, "k", 1), ROTOR_OK);
    assert_int_equal(file_put_u32(w, "k", 2), ROTOR_E_ARG);
    assert_int_equal(file_put_u32(w, "fine", 2), ROTOR_E_ARG); /* the first failure stays */
    assert_int_equal(file_begin(w, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "key k is put twice"));
    file_writer_free(&w);
    assert_int_equal(file_writer_create(&w, temp("x.gguf"), NULL), ROTOR_OK);
    assert_int_equal(file_put_u32(w, "general.alignment", 12), ROTOR_E_ARG);
    file_writer_free(&w);
}

static void holes_read_as_zeros(void **state) {
    (void)state;
    file_writer *w = NULL;
    const uint64_t shape[4] = {1 << 20, 64, 1, 1}, small[4] = {8, 1, 1, 1};
    const float ones[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    assert_int_equal(file_writer_create(&w, temp("hole.gguf"), NULL), ROTOR_OK);
    file_put_u32(w, "general.alignment", 4096);
    assert_int_equal(file_declare(w, base_str_of("hole"), QUANT_F16, 2, shape, NULL), ROTOR_OK);
    assert_int_equal(file_declare(w, base_str_of("full"), QUANT_F32, 1, small, NULL), ROTOR_OK);
    assert_int_equal(file_begin(w, NULL), ROTOR_OK);
    assert_int_equal(file_write_hole(w, NULL), ROTOR_OK);
    assert_int_equal(file_write(w, ones, sizeof ones, NULL), ROTOR_OK);
    assert_int_equal(file_write_hole(w, NULL), ROTOR_E_STATE);
    assert_int_equal(file_commit(w, NULL), ROTOR_OK);
    file_writer_free(&w);
    file_model *m = open_or_fail(temp("hole.gguf"), false);
    const file_tensor *t = file_tensor_find(m, "hole");
    assert_int_equal(t->bytes, (uint64_t)128 << 20);
    assert_int_equal(t->offset % 4096, 0);
    assert_int_equal(t->data[0] | t->data[t->bytes / 2] | t->data[t->bytes - 1], 0);
    assert_memory_equal(file_tensor_find(m, "full")->data, ones, sizeof ones);
    file_close(&m);
    remove(temp("hole.gguf"));
}

static rotor_status write_once(void) {
    file_writer *w = NULL;
    const uint64_t shape[4] = {32, 1, 1, 1};
    const uint8_t bytes[34] = {7};
    rotor_status st = file_writer_create(&w, temp("fault.gguf"), NULL);
    if (st != ROTOR_OK) return st;
    const base_str strings[2] = {{"a", 1}, {"b", 1}};
    file_put_str(w, "s", base_str_of("text"));
    file_put_strings(w, "l", strings, 2);
    st = file_declare(w, base_str_of("w"), QUANT_Q8_0, 1, shape, NULL);
    if (st == ROTOR_OK) st = file_begin(w, NULL);
    if (st == ROTOR_OK) st = file_write(w, bytes, sizeof bytes, NULL);
    if (st == ROTOR_OK) st = file_commit(w, NULL);
    file_writer_free(&w);
    return st;
}

static void writing_survives_every_failure(void **state) {
    (void)state;
    for (long n = 1;; n++) {
        remove(temp("fault.gguf"));
        base_fault_after(n);
        rotor_status st = write_once();
        bool fired = base_fault_fired();
        base_fault_after(0);
        if (!fired) {
            assert_int_equal(st, ROTOR_OK);
            assert_true(n > 10);
            break;
        }
        assert_true(st == ROTOR_E_NOMEM || st == ROTOR_E_IO);
        assert_int_equal(base_path_kind_of(temp("fault.gguf")), BASE_PATH_NONE);
    }
    file_model *m = open_or_fail(temp("fault.gguf"), true);
    assert_int_equal(file_n_kvs(m), 2);
    file_close(&m);
}

static void a_large_vocabulary_opens_quickly(void **state) {
    (void)state;
    enum { TOKENS = 128256, TENSORS = 332 };
    file_writer *w = NULL;
    base_str *tokens = calloc(TOKENS, sizeof *tokens);
    char *text = calloc(TOKENS, 8);
    for (int i = 0; i < TOKENS; i++) {
        snprintf(text + 8 * i, 8, "t%x", (unsigned)i);
        tokens[i] = base_str_of(text + 8 * i);
    }
    assert_int_equal(file_writer_create(&w, temp("vocab.gguf"), NULL), ROTOR_OK);
    file_put_strings(w, "tokens", tokens, TOKENS);
    file_put_strings(w, "merges", tokens, TOKENS);
    for (int i = 0; i < TENSORS; i++) {
        char name[32];
        const uint64_t shape[4] = {2560, 64, 1, 1};
        snprintf(name, sizeof name, "blk.%d.weight", i);
        assert_int_equal(file_declare(w, base_str_of(name), QUANT_I2_S, 2, shape, NULL), ROTOR_OK);
    }
    assert_int_equal(file_begin(w, NULL), ROTOR_OK);
    for (int i = 0; i < TENSORS; i++) assert_int_equal(file_write_hole(w, NULL), ROTOR_OK);
    assert_int_equal(file_commit(w, NULL), ROTOR_OK);
    file_writer_free(&w);
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 5; i++) {
        uint64_t start = base_thread_cpu_us();
        file_model *m = open_or_fail(temp("vocab.gguf"), false);
        best = BASE_MIN(best, base_thread_cpu_us() - start);
        assert_int_equal(file_n_tensors(m), TENSORS);
        file_close(&m);
    }
    print_message("332 tensors, 2 x 128256 strings: %llu us\n", (unsigned long long)best);
    assert_true(best < 200000); /* a few ms; the bound only catches a quadratic slip */
    remove(temp("vocab.gguf"));
    free(tokens);
    free(text);
}

static int make_temp(void **state) {
    (void)state;
    snprintf(temp_dir, sizeof temp_dir, "/tmp/rotor-gguf-XXXXXX");
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
        cmocka_unit_test(reads_what_the_reference_wrote),
        cmocka_unit_test(writes_the_reference_byte_for_byte),
        cmocka_unit_test(copies_metadata_of_every_type),
        cmocka_unit_test(numbers_convert_or_refuse),
        cmocka_unit_test(splits_open_as_one),
        cmocka_unit_test(broken_splits_name_the_part),
        cmocka_unit_test(duplicate_names_across_parts),
        cmocka_unit_test(a_cut_file_is_noticed),
        cmocka_unit_test(odd_but_legal_files_open),
        cmocka_unit_test(gaps_are_mentioned),
        cmocka_unit_test(the_writer_says_what_is_wrong),
        cmocka_unit_test(holes_read_as_zeros),
        cmocka_unit_test(writing_survives_every_failure),
        cmocka_unit_test(a_large_vocabulary_opens_quickly),
    };
    return cmocka_run_group_tests(tests, make_temp, remove_temp);
}
