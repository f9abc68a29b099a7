/* SPDX-License-Identifier: MIT
 *
 * The stream of blocks: what was put comes back, in pieces of any size; what a parser that was
 * taken over might say is refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/base.h"

enum { FILE_BYTES = 1000, KEPT_MAX = 16 };

typedef struct kept {
    base_block blocks[KEPT_MAX]; /* their text in `text` */
    base_buf text;               /* one after the other */
    size_t n;                    /* blocks */
} kept;

static rotor_status keep(void *user, const base_block *b, rotor_error *err) {
    kept *k = user;
    (void)err;
    assert_true(k->n < KEPT_MAX);
    k->blocks[k->n++] = *b;
    base_buf_append(&k->text, b->text.p, b->text.n);
    base_buf_puts(&k->text, "|");
    return ROTOR_OK;
}

static base_block block(base_block_kind kind, uint32_t level, const char *text) {
    return (base_block){.kind = kind, .level = level, .text = base_str_of(text)};
}

static void start(base_buf *s) {
    base_buf_reset(s);
    base_buf_puts(s, BASE_BLOCK_MAGIC);
    base_block_put(s, &(base_block){.kind = BASE_BLOCK_DOC, .text = base_str_of("T")});
}

static rotor_status read_all(const base_buf *s, size_t piece, kept *k, base_block_reader *r) {
    rotor_error err = {0};
    rotor_status st = ROTOR_OK;
    *r = (base_block_reader){.fn = keep, .user = k, .file_bytes = FILE_BYTES};
    for (size_t at = 0; at < s->len && st == ROTOR_OK; at += piece)
        st = base_block_read(r, s->data + at, BASE_MIN(piece, s->len - at), &err);
    assert_true(st == ROTOR_OK || (err.code == st && err.message[0]));
    return st;
}

static void comes_back_in_pieces_of_any_size(void **state) {
    (void)state;
    base_buf s = {0};
    start(&s);
    const base_block para = {.kind = BASE_BLOCK_PARA,
                             .line_begin = 3,
                             .line_end = 4,
                             .byte_begin = 10,
                             .byte_end = 20,
                             .text = base_str_of("text\n\tmore \xC3\xA9")};
    base_block page = {.kind = BASE_BLOCK_PAGE, .page = 2};
    base_block_put(&s, &para);
    base_block_put(&s, &page);
    base_block_put(&s, &(base_block){.kind = BASE_BLOCK_END});
    for (size_t piece = 1; piece <= s.len; piece++) {
        kept k = {0};
        base_block_reader r;
        assert_int_equal(read_all(&s, piece, &k, &r), ROTOR_OK);
        assert_true(r.ended && !r.why[0] && k.n == 3);
        assert_string_equal(k.text.data, "T|text\n\tmore \xC3\xA9||");
        assert_int_equal(k.blocks[1].line_begin, 3);
        assert_int_equal(k.blocks[1].byte_end, 20);
        assert_int_equal(k.blocks[2].page, 2);
        base_block_reader_reset(&r);
        base_buf_free(&k.text);
    }
    base_buf_free(&s);
}

static void a_cut_stream_has_no_end(void **state) {
    (void)state;
    base_buf s = {0};
    start(&s);
    base_block_put(&s, &(base_block){.kind = BASE_BLOCK_END});
    const size_t whole = s.len;
    for (s.len = 0; s.len < whole; s.len++) {
        kept k = {0};
        base_block_reader r;
        assert_int_equal(read_all(&s, 7, &k, &r), ROTOR_OK);
        assert_false(r.ended);
        base_block_reader_reset(&r);
        base_buf_free(&k.text);
    }
    base_buf_free(&s);
}

static void an_error_is_told(void **state) {
    (void)state;
    base_buf s = {0};
    kept k = {0};
    base_block_reader r;
    start(&s);
    base_block b = block(BASE_BLOCK_ERROR, BASE_REASON_ENCRYPTED, "a password");
    base_block_put(&s, &b);
    assert_int_equal(read_all(&s, 9, &k, &r), ROTOR_OK);
    assert_true(r.ended && r.reason == BASE_REASON_ENCRYPTED);
    assert_string_equal(r.why, "a password");
    assert_string_equal(base_reason_name(r.reason), "encrypted");
    base_block_reader_reset(&r);
    base_buf_free(&k.text);
    base_buf_free(&s);
}

static void refused(const base_block *b) {
    base_buf s = {0};
    kept k = {0};
    base_block_reader r;
    start(&s);
    base_block_put(&s, b);
    assert_int_equal(read_all(&s, 64, &k, &r), ROTOR_E_FORMAT);
    assert_int_equal(k.n, 1);
    base_block_reader_reset(&r);
    base_buf_free(&k.text);
    base_buf_free(&s);
}

static void what_no_parser_says_is_refused(void **state) {
    (void)state;
    const base_block bad[] = {
        block(0, 0, "x"),
        block(BASE_BLOCK_END + 1, 0, ""),
        block(BASE_BLOCK_HEADING, 0, "x"),
        block(BASE_BLOCK_HEADING, 7, "x"),
        block(BASE_BLOCK_LIST, 0, "x"),
        block(BASE_BLOCK_PARA, 1, "x"),
        block(BASE_BLOCK_PARA, 0, ""),
        block(BASE_BLOCK_PARA, 0, "a\x1b[31m"),
        block(BASE_BLOCK_PARA, 0, "a\xC2\x9B"),
        block(BASE_BLOCK_PARA, 0, "a\xFF"),
        block(BASE_BLOCK_PARA, 0, "a\xED\xA0\x80"),
        block(BASE_BLOCK_PARA, 0, "a\xC3"),
        block(BASE_BLOCK_DOC, 0, "two\nlines"),
        block(BASE_BLOCK_META, 0, "no name"),
        block(BASE_BLOCK_META, 0, "=v"),
        block(BASE_BLOCK_META, 0, "n=v\n"),
        block(BASE_BLOCK_END, 0, "x"),
        block(BASE_BLOCK_ERROR, 0, "x"),
        block(BASE_BLOCK_ERROR, BASE_REASONS, "x"),
        block(BASE_BLOCK_ERROR, 1, ""),
        {.kind = BASE_BLOCK_PAGE},
        {.kind = BASE_BLOCK_PARA, .page = 1, .text = {"x", 1}},
        {.kind = BASE_BLOCK_PARA, .byte_begin = 2, .byte_end = 1, .text = {"x", 1}},
        {.kind = BASE_BLOCK_PARA, .byte_end = FILE_BYTES + 1, .text = {"x", 1}},
        {.kind = BASE_BLOCK_PARA, .line_begin = 2, .line_end = 1, .text = {"x", 1}},
        {.kind = BASE_BLOCK_PARA, .line_end = 1, .text = {"x", 1}},
        {.kind = BASE_BLOCK_PARA, .line_begin = 1, .line_end = FILE_BYTES + 2, .text = {"x", 1}},
    };
    for (size_t i = 0; i < BASE_COUNT(bad); i++) refused(&bad[i]);
}

static void order_is_kept(void **state) {
    (void)state;
    base_buf s = {0};
    kept k = {0};
    base_block_reader r;
    base_block b = block(BASE_BLOCK_PARA, 0, "x");
    base_buf_puts(&s, BASE_BLOCK_MAGIC); /* a block before its document */
    base_block_put(&s, &b);
    assert_int_equal(read_all(&s, 64, &k, &r), ROTOR_E_FORMAT);
    base_block_reader_reset(&r);
    start(&s); /* a page that goes back */
    base_block_put(&s, &(base_block){.kind = BASE_BLOCK_PAGE, .page = 2});
    base_block_put(&s, &(base_block){.kind = BASE_BLOCK_PAGE, .page = 2});
    assert_int_equal(read_all(&s, 64, &k, &r), ROTOR_E_FORMAT);
    base_block_reader_reset(&r);
    start(&s); /* something after the end */
    base_block_put(&s, &(base_block){.kind = BASE_BLOCK_END});
    base_block_put(&s, &b);
    assert_int_equal(read_all(&s, 64, &k, &r), ROTOR_E_FORMAT);
    base_block_reader_reset(&r);
    base_buf_reset(&s); /* another program's output */
    base_buf_puts(&s, "Usage: something else");
    assert_int_equal(read_all(&s, 64, &k, &r), ROTOR_E_FORMAT);
    base_block_reader_reset(&r);
    base_buf_free(&k.text);
    base_buf_free(&s);
}

/* A length that would make the reader wait for gigabytes, and bytes that mean nothing yet. */
static void lengths_and_reserved_bytes_are_checked(void **state) {
    (void)state;
    for (int which = 0; which < 3; which++) {
        base_buf s = {0};
        kept k = {0};
        base_block_reader r;
        base_block b = block(BASE_BLOCK_PARA, 0, "x");
        start(&s);
        const size_t at = s.len;
        base_block_put(&s, &b);
        s.data[at + (size_t[]){3, 6, 36}[which]] = 1;
        assert_int_equal(read_all(&s, 64, &k, &r), ROTOR_E_FORMAT);
        base_block_reader_reset(&r);
        base_buf_free(&k.text);
        base_buf_free(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back_in_pieces_of_any_size),
        cmocka_unit_test(a_cut_stream_has_no_end),
        cmocka_unit_test(an_error_is_told),
        cmocka_unit_test(what_no_parser_says_is_refused),
        cmocka_unit_test(order_is_kept),
        cmocka_unit_test(lengths_and_reserved_bytes_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
