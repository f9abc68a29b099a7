/* SPDX-License-Identifier: MIT
 *
 * Hostile GGUF: one bad file per check of the reader, each refused with a message that says where
 * and why; a good file cut at every byte; every allocation and read failing in turn.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "gguf_image.h"

typedef struct bad_case {
    const char *what;           /* shown on failure */
    void (*build)(base_buf *b); /* makes the image */
    rotor_status status;        /* expected */
    const char *message;        /* part of the message */
} bad_case;

#define CASE(name) static void name(base_buf *b)

/* ---- Header ---------------------------------------------------------------------------------- */
CASE(empty) { (void)b; }
CASE(short_magic) { base_buf_append(b, "GGU", 3); }
CASE(wrong_magic) { base_buf_append(b, "GGUX0000", 8); }
CASE(old_ggml) { base_buf_append(b, "tjgg0000", 8); }
CASE(no_version) { base_buf_append(b, "GGUF", 4); }
CASE(version_0) { put_head(b, 0, 0), b->data[4] = 0; }
CASE(version_1) { put_head(b, 0, 0), b->data[4] = 1; }
CASE(version_4) { put_head(b, 0, 0), b->data[4] = 4; }
CASE(big_endian) { put_head(b, 0, 0), b->data[4] = 0, b->data[7] = 3; }
CASE(short_counts) { put_head(b, 0, 0), b->len = 20; }
CASE(absurd_tensors) { put_head(b, (uint64_t)1 << 40, 0); }
CASE(absurd_kvs) { put_head(b, 0, (uint64_t)1 << 40); }
CASE(wrapping_tensors) { put_head(b, UINT64_MAX / 56 + 1, 0); }
CASE(wrapping_kvs) { put_head(b, 0, UINT64_MAX); }
CASE(negative_kvs) { put_head(b, 0, (uint64_t)1 << 63), put_data(b, 32, 64); }
CASE(too_many_kvs) { put_head(b, 0, 65537), put_data(b, 32, 65537 * 14); }

/* ---- Strings and keys ------------------------------------------------------------------------ */
CASE(key_past_end) { put_head(b, 0, 1), put_le(b, (uint64_t)1 << 40, 8), put_data(b, 32, 32); }
CASE(key_wraps) { put_head(b, 0, 1), put_le(b, UINT64_MAX - 7, 8), put_data(b, 32, 32); }
CASE(key_long) { put_head(b, 0, 1), put_le(b, 1025, 8), put_data(b, 32, 2048); }
CASE(key_empty) { put_head(b, 0, 1), put_u32_kv(b, "", 1), put_data(b, 32, 32); }
CASE(key_nul) { put_head(b, 0, 1), put_u32_kv(b, "a?b", 1), b->data[33] = 0; }
CASE(key_newline) { put_head(b, 0, 1), put_u32_kv(b, "a\nb", 1); }
CASE(key_twice) { put_head(b, 0, 2), put_u32_kv(b, "same", 1), put_u32_kv(b, "same", 2); }
CASE(value_past_end) { put_head(b, 0, 1), put_key(b, "k", FILE_STR), put_le(b, 1 << 20, 8); }
CASE(value_huge) { put_head(b, 0, 1), put_key(b, "k", FILE_STR), put_le(b, (uint64_t)1 << 33, 8); }

/* ---- Values ---------------------------------------------------------------------------------- */
CASE(type_13) { put_head(b, 0, 1), put_key(b, "k", 13), put_data(b, 32, 32); }
CASE(type_255) { put_head(b, 0, 1), put_key(b, "k", 255), put_data(b, 32, 32); }
CASE(type_all_ones) { put_head(b, 0, 1), put_key(b, "k", UINT32_MAX), put_data(b, 32, 32); }
CASE(bool_2) { put_head(b, 0, 1), put_key(b, "k", FILE_BOOL), put_le(b, 2, 1); }

static void array(base_buf *b, uint32_t elem, uint64_t n) {
    put_head(b, 0, 1);
    put_key(b, "list", FILE_ARR);
    put_le(b, elem, 4);
    put_le(b, n, 8);
}
CASE(array_nested) { array(b, FILE_ARR, 1), put_data(b, 32, 64); }
CASE(array_type_255) { array(b, 255, 1), put_data(b, 32, 64); }
CASE(array_2_63) { array(b, FILE_U8, (uint64_t)1 << 63); }
CASE(array_wraps) { array(b, FILE_U64, UINT64_MAX / 8 + 2), put_data(b, 32, 64); }
CASE(array_past_end) { array(b, FILE_U64, 20), put_data(b, 32, 64); }
CASE(array_strings_absurd) { array(b, FILE_STR, 1 << 20), put_data(b, 32, 64); }
CASE(array_string_cut) { array(b, FILE_STR, 2), put_text(b, "fine"), put_le(b, 50, 8); }
CASE(array_string_huge) {
    array(b, FILE_STR, 1), put_le(b, (1 << 20) + 1, 8);
    put_data(b, 32, (1 << 20) + 64);
}
CASE(array_bool_7) { array(b, FILE_BOOL, 3), put_le(b, 0x070101, 3); }

/* ---- Alignment ------------------------------------------------------------------------------- */
static void alignment(base_buf *b, uint32_t type, uint64_t v, int n) {
    put_head(b, 0, 1);
    put_key(b, "general.alignment", type);
    put_le(b, v, n);
}
CASE(align_0) { alignment(b, FILE_U32, 0, 4); }
CASE(align_1) { alignment(b, FILE_U32, 1, 4); }
CASE(align_3) { alignment(b, FILE_U32, 3, 4); }
CASE(align_24) { alignment(b, FILE_U32, 24, 4); }
CASE(align_2_30) { alignment(b, FILE_U32, 1u << 30, 4); }
CASE(align_2_31) { alignment(b, FILE_U32, 1u << 31, 4); }
CASE(align_i32) { alignment(b, FILE_I32, 32, 4); }
CASE(align_u64) { alignment(b, FILE_U64, 32, 8); }
CASE(align_text) { put_head(b, 0, 1), put_text_kv(b, "general.alignment", "32"); }

/* ---- Tensor infos ---------------------------------------------------------------------------- */
static void one(base_buf *b, uint64_t cols, uint64_t rows, uint32_t type, uint64_t offset) {
    put_head(b, 1, 0);
    put_tensor(b, "w", cols, rows, type, offset);
    put_data(b, 32, 256);
}

static void dims(base_buf *b, uint32_t n, uint64_t last) {
    put_head(b, 1, 0);
    put_text(b, "w");
    put_le(b, n, 4);
    for (uint32_t i = 0; i < n && i < 8; i++) put_le(b, i + 1 == n ? last : 1, 8);
    put_le(b, QUANT_F32, 4);
    put_le(b, 0, 8);
    put_data(b, 32, 256);
}
CASE(dims_0) { dims(b, 0, 1); }
CASE(dims_5) { dims(b, 5, 1); }
CASE(dims_8) { dims(b, 8, 1); }
CASE(dims_2_31) { dims(b, 1u << 31, 1); }
CASE(zero_dim_0) { dims(b, 1, 0); }
CASE(zero_dim_1) { dims(b, 2, 0); }
CASE(zero_dim_2) { dims(b, 3, 0); }
CASE(zero_dim_3) { dims(b, 4, 0); }
CASE(product_wraps) { one(b, (uint64_t)1 << 32, (uint64_t)1 << 32, QUANT_F32, 0); }
CASE(bytes_wrap) { one(b, (uint64_t)1 << 61, 2, QUANT_F32, 0); }
CASE(dim_all_ones) { one(b, UINT64_MAX, 1, QUANT_I8, 0); }
CASE(size_2_61) { one(b, (uint64_t)1 << 61, 1, QUANT_Q4_0, 0); }
CASE(removed_4) { one(b, 32, 1, 4, 0); }
CASE(removed_5) { one(b, 32, 1, 5, 0); }
CASE(removed_31) { one(b, 32, 1, 31, 0); }
CASE(removed_33) { one(b, 32, 1, 33, 0); }
CASE(removed_37) { one(b, 32, 1, 37, 0); }
CASE(tl1) { one(b, 32, 1, 38, 0); }
CASE(unknown_43) { one(b, 32, 1, 43, 0); }
CASE(unknown_255) { one(b, 32, 1, 255, 0); }
CASE(unknown_private) { one(b, 32, 1, 137, 0); }
CASE(unknown_2_31) { one(b, 32, 1, 0x80000000u, 0); }
CASE(our_own_ids) { one(b, 32, 1, QUANT_U8, 0); }
CASE(t5_no_version) { one(b, 20, 16, QUANT_T5, 0); }
static void t5_version(base_buf *b, uint32_t version) {
    put_head(b, 1, 1);
    put_u32_kv(b, "rotor.t5.version", version);
    put_tensor(b, "w", 20, 16, QUANT_T5, 0);
    put_data(b, 32, 64 + 16 * 4);
}
CASE(t5_version_0) { t5_version(b, 0); }
CASE(t5_version_2) { t5_version(b, 2); }
CASE(t5_version_text) {
    put_head(b, 1, 1);
    put_text_kv(b, "rotor.t5.version", "1");
    put_tensor(b, "w", 20, 16, QUANT_T5, 0);
    put_data(b, 32, 128);
}
CASE(t5_short) { t5_version(b, 1), b->len--; }
CASE(t5_wraps) { /* the scales and the padding are what does not fit */
    put_head(b, 1, 1);
    put_u32_kv(b, "rotor.t5.version", 1);
    put_tensor(b, "w", 1, (uint64_t)1 << 62, QUANT_T5, 0);
    put_data(b, 32, 128);
}
CASE(half_a_block) { one(b, 33, 1, QUANT_Q8_0, 0); }
CASE(i2s_odd) { one(b, 3, 3, QUANT_I2_S, 0); }
CASE(misaligned) { one(b, 8, 1, QUANT_F32, 16); }
CASE(offset_past_end) { one(b, 8, 1, QUANT_F32, 1 << 20); }
CASE(offset_2_63) { one(b, 8, 1, QUANT_F32, (uint64_t)1 << 63); }
CASE(one_byte_short) { one(b, 64, 1, QUANT_F32, 0), b->len--; }
CASE(no_data) { put_head(b, 1, 0), put_tensor(b, "w", 8, 1, 0, 0); }
CASE(name_empty) { put_head(b, 1, 0), put_tensor(b, "", 8, 1, 0, 0), put_data(b, 32, 64); }
CASE(name_64) {
    put_head(b, 1, 0);
    put_tensor(b, "0123456789012345678901234567890123456789012345678901234567890123", 8, 1, 0, 0);
    put_data(b, 32, 64);
}
CASE(name_nul) {
    put_head(b, 1, 0), put_tensor(b, "ab?d", 8, 1, 0, 0), b->data[34] = 0;
    put_data(b, 32, 64);
}

static void two(base_buf *b, const char *name, uint64_t offset_a, uint64_t offset_b) {
    put_head(b, 2, 0);
    put_tensor(b, "first", 16, 1, QUANT_F32, offset_a);
    put_tensor(b, name, 16, 1, QUANT_F32, offset_b);
    put_data(b, 32, 256);
}
CASE(name_twice) { two(b, "first", 0, 64); }
CASE(overlap) { two(b, "second", 0, 32); }
CASE(overlap_backwards) { two(b, "second", 32, 0); }
CASE(same_place) { two(b, "second", 64, 64); }
CASE(sizes_sum_past_2_64) {
    put_head(b, 4, 0);
    for (int i = 0; i < 4; i++) {
        char name[2] = {(char)('a' + i), 0};
        put_tensor(b, name, (uint64_t)1 << 62, 1, QUANT_I8, (uint64_t)i << 62);
    }
    put_data(b, 32, 64);
}

/* ---- Type ids with two meanings -------------------------------------------------------------- */
static void bitnet_two(base_buf *b, const char *arch, uint32_t type, uint64_t cols, uint64_t next) {
    put_head(b, 2, 1);
    put_text_kv(b, "general.architecture", arch);
    put_tensor(b, "w", cols, 8, type, 0);
    put_tensor(b, "next", 8, 1, QUANT_F32, next);
    put_data(b, 32, next + 32);
}
CASE(tl2) {
    bitnet_two(b, "bitnet-b1.58", QUANT_MXFP4, 768, 1312);
} /* 5 bits for 3 weights, + 32 */
CASE(q2_0_group_128) { bitnet_two(b, "llama", QUANT_Q2_0, 768, 1632); } /* 34 bytes for 128 */

/* ---- Splits ---------------------------------------------------------------------------------- */
CASE(split_in_memory) { put_head(b, 0, 1), put_u32_kv(b, "split.count", 3); }
CASE(split_0) { put_head(b, 0, 1), put_u32_kv(b, "split.count", 0); }
CASE(split_absurd) { put_head(b, 0, 1), put_u32_kv(b, "split.count", 70000); }
CASE(split_text) { put_head(b, 0, 1), put_text_kv(b, "split.count", "2"); }

#define BAD(fn, status, message)                                                                   \
    { #fn, fn, ROTOR_E_##status, message }
static const bad_case cases[] = {
    BAD(empty, FORMAT, "neither a GGUF file"),
    BAD(short_magic, FORMAT, "47 47 55"),
    BAD(wrong_magic, FORMAT, "47 47 55 58"),
    BAD(old_ggml, UNSUPPORTED, "before GGUF"),
    BAD(no_version, FORMAT, "byte 4: version needs 4 bytes, the file has 0 left"),
    BAD(version_0, UNSUPPORTED, "version 0, expected 2 or 3"),
    BAD(version_1, UNSUPPORTED, "GGUF version 1"),
    BAD(version_4, UNSUPPORTED, "version 4, expected 2 or 3"),
    BAD(big_endian, UNSUPPORTED, "big-endian"),
    BAD(short_counts, FORMAT, "byte 16: metadata count"),
    BAD(absurd_tensors, FORMAT, "1099511627776 tensors"),
    BAD(absurd_kvs, FORMAT, "1099511627776 metadata entries"),
    BAD(wrapping_tensors, FORMAT, "tensors cannot stand in"),
    BAD(wrapping_kvs, FORMAT, "18446744073709551615 metadata entries"),
    BAD(negative_kvs, FORMAT, "9223372036854775808 metadata entries"),
    BAD(too_many_kvs, FORMAT, "at most 65536"),
    BAD(key_past_end, FORMAT, "byte 24: metadata key has length 1099511627776"),
    BAD(key_wraps, FORMAT, "metadata key has length"),
    BAD(key_long, FORMAT, "at most 1024"),
    BAD(key_empty, FORMAT, "metadata key is empty"),
    BAD(key_nul, FORMAT, "byte 00 at position 1"),
    BAD(key_newline, FORMAT, "byte 0A"),
    BAD(key_twice, FORMAT, "key same appears twice"),
    BAD(value_past_end, FORMAT, "key k: byte 37: string value has length 1048576"),
    BAD(value_huge, FORMAT, "key k"),
    BAD(type_13, FORMAT, "value type 13, 0-12 expected"),
    BAD(type_255, FORMAT, "value type 255"),
    BAD(type_all_ones, FORMAT, "value type 4294967295"),
    BAD(bool_2, FORMAT, "boolean byte 02"),
    BAD(array_nested, FORMAT, "key list: array of type 9 (array)"),
    BAD(array_type_255, FORMAT, "array of type 255"),
    BAD(array_2_63, FORMAT, "array of 9223372036854775808 elements"),
    BAD(array_wraps, FORMAT, "elements"),
    BAD(array_past_end, FORMAT, "array needs 160 bytes"),
    BAD(array_strings_absurd, FORMAT, "1048576 strings do not fit"),
    BAD(array_string_cut, FORMAT, "element 1: byte"),
    BAD(array_string_huge, FORMAT, "at most 1048576"),
    BAD(array_bool_7, FORMAT, "element 2: boolean byte 07"),
    BAD(align_0, FORMAT, "general.alignment: 0"),
    BAD(align_1, FORMAT, "general.alignment: 1,"),
    BAD(align_3, FORMAT, "general.alignment: 3"),
    BAD(align_24, FORMAT, "general.alignment: 24"),
    BAD(align_2_30, FORMAT, "general.alignment: 1073741824"),
    BAD(align_2_31, FORMAT, "general.alignment: 2147483648"),
    BAD(align_i32, FORMAT, "type i32, expected u32"),
    BAD(align_u64, FORMAT, "type u64, expected u32"),
    BAD(align_text, FORMAT, "type string, expected u32"),
    BAD(dims_0, FORMAT, "tensor w (info at byte 24): 0 dimensions"),
    BAD(dims_5, FORMAT, "5 dimensions"),
    BAD(dims_8, FORMAT, "8 dimensions"),
    BAD(dims_2_31, FORMAT, "2147483648 dimensions"),
    BAD(zero_dim_0, FORMAT, "dimension 0 is 0"),
    BAD(zero_dim_1, FORMAT, "dimension 1 is 0"),
    BAD(zero_dim_2, FORMAT, "dimension 2 is 0"),
    BAD(zero_dim_3, FORMAT, "dimension 3 is 0"),
    BAD(product_wraps, FORMAT, "tensor w (info at byte 24): dimensions multiply"),
    BAD(bytes_wrap, FORMAT, "of type F32 do not fit"),
    BAD(dim_all_ones, FORMAT, "dimensions multiply"),
    BAD(size_2_61, FORMAT, "cut short"),
    BAD(removed_4, UNSUPPORTED, "type id 4, Q4_2 (removed)"),
    BAD(removed_5, UNSUPPORTED, "type id 5"),
    BAD(removed_31, UNSUPPORTED, "type id 31"),
    BAD(removed_33, UNSUPPORTED, "type id 33"),
    BAD(removed_37, UNSUPPORTED, "type id 37"),
    BAD(tl1, UNSUPPORTED, "TL1 of bitnet.cpp"),
    BAD(unknown_43, UNSUPPORTED, "type id 43 is unknown"),
    BAD(unknown_255, UNSUPPORTED, "type id 255"),
    BAD(unknown_private, UNSUPPORTED, "private type of ik_llama.cpp"),
    BAD(unknown_2_31, UNSUPPORTED, "type id 2147483648 is unknown"),
    BAD(our_own_ids, UNSUPPORTED, "is unknown"),
    BAD(t5_no_version, FORMAT, "tensor w is of type T5, and key rotor.t5.version"),
    BAD(t5_version_0, UNSUPPORTED, "type T5 version 0; this program knows version 1"),
    BAD(t5_version_2, UNSUPPORTED, "type T5 version 2; this program knows version 1"),
    BAD(t5_version_text, FORMAT, "missing or no number"),
    BAD(t5_short, FORMAT, "tensor w"),
    BAD(t5_wraps, FORMAT, "values of type T5 do not fit 63 bits"),
    BAD(half_a_block, FORMAT, "33 columns, not a multiple of 32 as type Q8_0 needs"),
    BAD(i2s_odd, FORMAT, "9 values, not a multiple of 4"),
    BAD(misaligned, FORMAT, "tensor w: data offset 16 is not a multiple of the alignment 32"),
    BAD(offset_past_end, FORMAT, "data offset 1048576 is past the end of the 256 data bytes"),
    BAD(offset_2_63, FORMAT, "past the end"),
    BAD(one_byte_short, FORMAT,
        "tensor w: 256 bytes of F32 at data offset 0, but the file has only 255"),
    BAD(no_data, FORMAT, "cut short"),
    BAD(name_empty, FORMAT, "tensor 0 of 1: byte 24: tensor name is empty"),
    BAD(name_64, FORMAT, "at most 63"),
    BAD(name_nul, FORMAT, "byte 00 at position 2"),
    BAD(name_twice, FORMAT, "tensor first appears twice"),
    BAD(overlap, FORMAT,
        "tensor first: 64 bytes of F32 at data offset 0 overlap tensor second at 32"),
    BAD(overlap_backwards, FORMAT, "overlap tensor first"),
    BAD(same_place, FORMAT, "overlap"),
    BAD(sizes_sum_past_2_64, FORMAT, "tensor a"),
    BAD(tl2, UNSUPPORTED, "TL2 of bitnet.cpp, not MXFP4"),
    BAD(q2_0_group_128, UNSUPPORTED, "groups of 128"),
    BAD(split_in_memory, UNSUPPORTED, "from memory"),
    BAD(split_0, FORMAT, "split.count"),
    BAD(split_absurd, FORMAT, "split.count"),
    BAD(split_text, FORMAT, "split.count"),
};

static void every_bad_file_is_refused_by_name(void **state) {
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        base_buf b = {0};
        file_model *m = NULL;
        rotor_error err = {0};
        cases[i].build(&b);
        /* An exact-sized block, so that a checker sees the first byte read beyond it. */
        uint8_t *image = malloc(b.len ? b.len : 1);
        if (b.len) memcpy(image, b.data, b.len);
        rotor_status st = file_open_memory(&m, image, b.len, "bad.gguf", NULL, &err);
        if (st != cases[i].status || !strstr(err.message, cases[i].message) || m)
            fail_msg("%s: status %d, message \"%s\", expected %d and \"%s\"", cases[i].what, st,
                     err.message, cases[i].status, cases[i].message);
        if (strncmp(err.message, "bad.gguf: ", 10) != 0) fail_msg("no file in \"%s\"", err.message);
        assert_int_equal(file_open_memory(&m, image, b.len, "bad.gguf", NULL, NULL), st);
        free(image);
        base_buf_free(&b);
    }
}

/* The bad files that are kept as files, also for the program's tests and as seeds of the fuzzer. */
static void every_kept_bad_file_is_refused(void **state) {
    (void)state;
    char dir[512];
    char **names;
    size_t n;
    const char *root = getenv("ROTOR_SOURCE_ROOT");
    snprintf(dir, sizeof dir, "%s/tests/data/file/bad", root ? root : ".");
    assert_int_equal(base_list_dir(dir, &names, &n, NULL), ROTOR_OK);
    assert_int_equal(n, 30);
    for (size_t i = 0; i < n; i++) {
        file_model *m = NULL;
        rotor_error err = {0};
        char *path = base_path_join(dir, names[i]);
        rotor_status st = file_open(&m, path, NULL, &err);
        assert_true(st == ROTOR_E_FORMAT || st == ROTOR_E_UNSUPPORTED);
        assert_non_null(strstr(err.message, names[i]));
        base_free(path);
    }
    base_names_free(names, n);
}

/* 10,000 nested arrays end at the first. */
static void nesting_does_not_recurse(void **state) {
    (void)state;
    base_buf b = {0};
    file_model *m = NULL;
    put_head(&b, 0, 1);
    put_key(&b, "deep", FILE_ARR);
    for (int i = 0; i < 10000; i++) put_le(&b, FILE_ARR, 4), put_le(&b, 1, 8);
    assert_int_equal(file_open_memory(&m, b.data, b.len, "deep", NULL, NULL), ROTOR_E_FORMAT);
    base_buf_free(&b);
}

static void build_good(base_buf *b) {
    put_head(b, 3, 4);
    put_text_kv(b, "general.architecture", "bitnet-b1.58");
    put_u32_kv(b, "general.alignment", 64);
    put_key(b, "tokens", FILE_ARR);
    put_le(b, FILE_STR, 4);
    put_le(b, 3, 8);
    put_text(b, "a");
    put_text(b, "");
    put_text(b, "long one");
    put_key(b, "flag", FILE_BOOL);
    put_le(b, 1, 1);
    put_tensor(b, "ternary", 128, 2, QUANT_I2_S, 0);
    put_tensor(b, "experts", 32, 4, QUANT_MXFP4, 128);
    put_tensor(b, "last", 5, 1, QUANT_F32, 256);
    put_data(b, 64, 256 + 20);
}

static void touch(const file_model *m) {
    volatile uint8_t sink = 0;
    for (size_t i = 0; i < file_n_tensors(m); i++) {
        const file_tensor *t = file_tensor_at(m, i);
        for (uint64_t k = 0; k < t->bytes; k++) sink = (uint8_t)(sink + t->data[k]);
    }
    for (size_t i = 0; i < file_n_kvs(m); i++) {
        base_str s;
        const file_kv *kv = file_kv_at(m, i);
        for (uint64_t k = 0; k < kv->n; k++)
            if (file_kv_str(kv, k, &s))
                for (size_t c = 0; c < s.n; c++) sink = (uint8_t)(sink + s.p[c]);
    }
}

static void cut_at_every_byte(void **state) {
    (void)state;
    base_buf b = {0};
    size_t opened = 0;
    build_good(&b);
    for (size_t n = 0; n <= b.len; n++) {
        file_model *m = NULL;
        uint8_t *image = malloc(n ? n : 1);
        memcpy(image, b.data, n);
        if (file_open_memory(&m, image, n, "cut", NULL, NULL) == ROTOR_OK) {
            touch(m);
            opened++;
        } else
            assert_null(m);
        file_close(&m);
        free(image);
    }
    assert_int_equal(opened, 1); /* only the whole file */
    base_buf_free(&b);
}

/* The same where metadata is the last thing in the file. */
static void cut_in_the_last_value(void **state) {
    (void)state;
    base_buf b = {0};
    put_head(&b, 0, 2);
    put_text_kv(&b, "s", "text");
    put_u32_kv(&b, "n", 7);
    for (size_t n = 0; n <= b.len; n++) {
        file_model *m = NULL;
        rotor_status st = file_open_memory(&m, b.data, n, "cut", NULL, NULL);
        assert_int_equal(st, n == b.len ? ROTOR_OK : ROTOR_E_FORMAT);
        file_close(&m);
    }
    base_buf_free(&b);
}

/* Every byte set to each of a few telling values: an error or a file that can be walked. */
static void change_every_byte(void **state) {
    (void)state;
    const uint8_t values[] = {0x00, 0x01, 0x7F, 0x80, 0xFF};
    base_buf b = {0};
    build_good(&b);
    uint8_t *image = malloc(b.len);
    for (size_t i = 0; i < b.len; i++)
        for (size_t v = 0; v < sizeof values; v++) {
            file_model *m = NULL;
            memcpy(image, b.data, b.len);
            image[i] = values[v];
            if (file_open_memory(&m, image, b.len, "changed", NULL, NULL) == ROTOR_OK) touch(m);
            file_close(&m);
        }
    free(image);
    base_buf_free(&b);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    base_buf b = {0};
    build_good(&b);
    char path[64];
    snprintf(path, sizeof path, "/tmp/rotor-fault-%ld.gguf", (long)base_random_seed());
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    fwrite(b.data, 1, b.len, f);
    fclose(f);
    for (int map = 0; map < 2; map++) {
        long n = 1;
        for (;; n++) {
            file_model *m = NULL;
            const file_options opt = {.no_map = !map};
            rotor_error err = {0};
            base_fault_after(n);
            rotor_status st = file_open(&m, path, &opt, &err);
            bool fired = base_fault_fired();
            base_fault_after(0);
            if (!fired) {
                assert_int_equal(st, ROTOR_OK);
                file_close(&m);
                break;
            }
            assert_true(st == ROTOR_E_NOMEM || st == ROTOR_E_IO);
            assert_true(err.message[0] && !m);
        }
        assert_true(n > 8);
    }
    remove(path);
    base_buf_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_bad_file_is_refused_by_name),
        cmocka_unit_test(every_kept_bad_file_is_refused),
        cmocka_unit_test(nesting_does_not_recurse),
        cmocka_unit_test(cut_at_every_byte),
        cmocka_unit_test(cut_in_the_last_value),
        cmocka_unit_test(change_every_byte),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
