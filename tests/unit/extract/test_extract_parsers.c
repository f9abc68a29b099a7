/* SPDX-License-Identifier: MIT
 *
 * The parsers in this process: encodings and their way back, small documents cut at every byte,
 * every allocation failed in turn. What they make of whole documents is tested by the program
 * (tests/program/test_extract.py).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "extract/extract.h"

typedef struct seen {
    base_block_reader reader; /* every block goes through the other side's check */
    base_buf text;            /* kind, a colon, text, a line end */
    base_block last;          /* its text is gone */
} seen;

static rotor_status put_line(void *user, const base_block *b, rotor_error *err) {
    seen *s = user;
    (void)err;
    base_buf_printf(&s->text, "%d:%.*s\n", (int)b->kind, (int)b->text.n, b->text.p);
    s->last = *b;
    return ROTOR_OK;
}

static rotor_status through_the_stream(void *user, const base_block *b, rotor_error *err) {
    seen *s = user;
    base_buf bytes = {0};
    const bool begun = s->reader.begun || base_buf_puts(&bytes, BASE_BLOCK_MAGIC);
    rotor_status st = begun && base_block_put(&bytes, b)
                          ? base_block_read(&s->reader, bytes.data, bytes.len, err)
                          : base_fail_nomem(err, "putting a block");
    base_buf_free(&bytes);
    return st;
}

static rotor_status parse(ex_type type, const char *p, size_t n, const char *name, seen *s,
                          base_reason *why) {
    rotor_error err = {0};
    ex x = {.limits = ex_limits_default(), .fn = through_the_stream, .user = s, .err = &err};
    *s = (seen){0};
    s->reader = (base_block_reader){.fn = put_line, .user = s, .file_bytes = n};
    const rotor_status st = type == EX_WIKI ? ex_parse_wiki(&x, (base_str){p, n}, NULL)
                                            : ex_document(&x, type, (base_str){p, n}, name);
    if (why) *why = x.reason;
    if (st != ROTOR_OK) assert_true(err.message[0] && (x.reason || st == ROTOR_E_NOMEM));
    ex_close(&x);
    return st;
}

static void forget(seen *s) {
    base_block_reader_reset(&s->reader);
    base_buf_free(&s->text);
}

/* ---- Encodings ----------------------------------------------------------------------------- */

#define NOTE "Caf\xC3\xA9 \xE2\x82\xAC\nsecond\n\nlast \xF0\x9F\x98\x80 one"

static void same_text_from(const char *bytes, size_t n, size_t last_begin) {
    seen s;
    assert_int_equal(parse(EX_TEXT, bytes, n, "n.txt", &s, NULL), ROTOR_OK);
    assert_string_equal(s.text.data, "1:n.txt\n4:Caf\xC3\xA9 \xE2\x82\xAC\nsecond\n"
                                     "4:last \xF0\x9F\x98\x80 one\n");
    assert_int_equal(s.last.byte_begin, last_begin);
    assert_int_equal(s.last.byte_end, n);
    assert_int_equal(s.last.line_begin, 4);
    assert_int_equal(s.last.line_end, 4);
    forget(&s);
}

static size_t as_utf16(const char *text, bool big, bool mark, char *out) {
    size_t n = 0, len = strlen(text);
    for (size_t i = mark ? SIZE_MAX : 0; i == SIZE_MAX || i < len;) {
        int32_t cp = 0xFEFF;
        i = i == SIZE_MAX ? 0 : i + (size_t)base_utf8_decode(text + i, len - i, &cp);
        const uint32_t c = (uint32_t)cp;
        const uint16_t units[2] = {(uint16_t)(c < 0x10000 ? c : 0xD800 + ((c - 0x10000) >> 10)),
                                   (uint16_t)(0xDC00 + ((c - 0x10000) & 0x3FF))};
        for (int u = 0; u < (c < 0x10000 ? 1 : 2); u++) {
            out[n++] = (char)(big ? units[u] >> 8 : units[u]);
            out[n++] = (char)(big ? units[u] : units[u] >> 8);
        }
    }
    return n;
}

static void each_encoding_gives_the_same_text_and_its_own_bytes(void **state) {
    (void)state;
    char wide[256];
    same_text_from(NOTE, sizeof NOTE - 1, 18);
    same_text_from("\xEF\xBB\xBF" NOTE, sizeof NOTE + 2, 21);
    for (int big = 0; big < 2; big++)
        for (int mark = 0; mark < 2; mark++) {
            const size_t n = as_utf16(NOTE, big, mark, wide);
            same_text_from(wide, n, mark ? 32 : 30);
        }
}

static void old_encodings_are_read_as_windows_1252(void **state) {
    (void)state;
    seen s;
    static const char note[] = "Caf\xE9 \x80 \x93quoted\x94\r\nnext";
    assert_int_equal(parse(EX_TEXT, note, sizeof note - 1, "n", &s, NULL), ROTOR_OK);
    assert_string_equal(s.text.data,
                        "1:n\n4:Caf\xC3\xA9 \xE2\x82\xAC \xE2\x80\x9Cquoted\xE2\x80\x9D\nnext\n");
    assert_int_equal(s.last.line_end, 2);
    forget(&s);
}

/* A file cut inside a letter stays UTF-8. */
static void a_cut_letter_is_replaced(void **state) {
    (void)state;
    seen s;
    static const char note[] = "\xC3\xA4\xC3\xB6\xC3\xBC\xC3\x9F\xC3\xA9\xC3\xA8 x \xE2\x82";
    assert_int_equal(parse(EX_TEXT, note, sizeof note - 1, "", &s, NULL), ROTOR_OK);
    assert_non_null(strstr(s.text.data, "\xC3\xA4\xC3\xB6"));
    assert_non_null(strstr(s.text.data, "\xEF\xBF\xBD"));
    forget(&s);
}

static void what_is_no_text_is_refused(void **state) {
    (void)state;
    seen s;
    base_reason why;
    static const char zeros[] = "abc\0\0\0def\0\1\2\3";
    static const char controls[] = "\1\2\3\4\5\6abc\x7f\x0e";
    assert_int_equal(parse(EX_TEXT, zeros, sizeof zeros - 1, "", &s, &why), ROTOR_E_FORMAT);
    assert_int_equal(why, BASE_REASON_NOT_TEXT);
    forget(&s);
    assert_int_equal(parse(EX_TEXT, controls, sizeof controls - 1, "", &s, &why), ROTOR_E_FORMAT);
    assert_int_equal(why, BASE_REASON_NOT_TEXT);
    forget(&s);
}

/* Composed, and without what nobody sees: a zero width, a mark of direction, tag letters. */
static void text_is_cleaned(void **state) {
    (void)state;
    seen s;
    static const char note[] = "Cafe\xCC\x81 a\xE2\x80\x8B"
                               "b \xE2\x80\xAE"
                               "c\xF3\xA0\x81\x81 \x1b[1m\xEF\xBB\xBF"
                               "d";
    assert_int_equal(parse(EX_TEXT, note, sizeof note - 1, "", &s, NULL), ROTOR_OK);
    assert_string_equal(s.text.data, "1:\n4:Caf\xC3\xA9 ab c [1md\n");
    forget(&s);
}

/* From a place in the middle of a long text of one line, forwards and backwards. */
static void places_are_found_in_any_order(void **state) {
    (void)state;
    rotor_error err = {0};
    ex x = {.limits = ex_limits_default(), .err = &err};
    base_buf raw = {0};
    ex_source s;
    for (int i = 0; i < 20000; i++) base_buf_puts(&raw, i % 100 ? "\xE9x" : "\xE9\n");
    assert_int_equal(ex_source_open(&x, &s, (base_str){raw.data, raw.len}, NULL), ROTOR_OK);
    assert_int_equal(s.encoding, EX_WINDOWS1252);
    for (size_t i = 0; i < 40; i++) {
        const size_t unit = i * 7919 % 20000; /* each unit: 2 raw bytes, 3 bytes of text */
        const ex_place at = ex_source_at(&s, unit * 3);
        assert_int_equal(at.text, unit * 3);
        assert_int_equal(at.raw, unit * 2);
        assert_int_equal(at.line, (unit + 99) / 100);
    }
    ex_source_close(&s);
    base_buf_free(&raw);
}

/* ---- Cut, and out of memory ---------------------------------------------------------------- */

static const struct {
    ex_type type;
    const char *text;
} samples[] = {
    {EX_MARKDOWN, "---\ntitle: x\n---\n# A *b*\n\ntext `c`\n\n- i\n  - "
                  "j\n\n```\ncode\n```\n|a|b|\n|-|-|\n|1|2|\n<b>raw</b>\n"},
    {EX_HTML, "<html lang=en><title>T</title><body><h1>H</h1><p>a &amp; b<ul><li>c<li>d</ul>"
              "<table><tr><td>1<td>2</table><pre> x\n y</pre><div hidden>no</div></body>"},
    {EX_CSV, "name,n\n\"a,\"\"b\"\"\",1\nc,2\n"},
    {EX_JSON, "{\"a\": [1, 2.5, {\"b\": null}], \"c\": \"d\\u00e9\", \"e\": true}"},
    {EX_JSONL, "{\"_id\":\"1\",\"title\":\"t\",\"text\":\"x\"}\n{\"k\":[1,{\"m\":2}]}\n"},
    {EX_CODE, "#include <x.h>\n\n/* a */\nint f(void) {\n    return 1;\n}\n\nint g(void) {\n}\n"},
    {EX_EML, "Subject: =?utf-8?B?w6Q=?= x\nFrom: a@b\nMIME-Version: 1.0\n"
             "Content-Type: multipart/mixed; boundary=\"q\"\n\n--q\nContent-Type: text/plain\n"
             "Content-Transfer-Encoding: quoted-printable\n\na=\nb =C3=A4\n--q\nContent-Type: "
             "text/html\nContent-Transfer-Encoding: base64\n\nPHA+aGk8L3A+\n--q--\n"},
    {EX_MBOX, "From a Mon\nSubject: 1\n\none\n\nFrom b Tue\nSubject: 2\n\ntwo\n"},
    {EX_WIKI, "<mediawiki><page><title>P</title><ns>0</ns><id>7</id><revision><id>9</id><text>"
              "'''A''' {{x|{{y}}}} [[b|c]] &amp;lt;\n== H ==\n* i\n{| \n! a\n|-\n| 1 || "
              "2\n|}\n&lt;ref&gt;r&lt;/ref&gt;"
              "&lt;pre&gt;k&lt;/pre&gt;[http://x y]</text></revision></page></mediawiki>"},
};

static void samples_are_whole(void **state) {
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(samples); i++) {
        seen s;
        const char *p = samples[i].text;
        assert_int_equal(parse(samples[i].type, p, strlen(p), "n", &s, NULL), ROTOR_OK);
        assert_true(s.reader.n_blocks > 1);
        forget(&s);
    }
}

static void cut_at_every_byte_they_end_in_order(void **state) {
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(samples); i++)
        for (size_t n = 0; n < strlen(samples[i].text); n++) {
            seen s;
            char *exact = base_strndup(samples[i].text, n);
            parse(samples[i].type, exact, n, "n", &s, NULL);
            forget(&s);
            base_free(exact);
        }
}

static void every_failed_allocation_is_told(void **state) {
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(samples); i++) {
        const char *p = samples[i].text;
        bool fired = true;
        for (long n = 1; fired && n < 2000; n++) {
            seen s;
            base_fault_after(n);
            const rotor_status st = parse(samples[i].type, p, strlen(p), "n", &s, NULL);
            fired = base_fault_fired();
            base_fault_after(0);
            if (!fired) assert_int_equal(st, ROTOR_OK);
            forget(&s);
        }
        assert_false(fired);
    }
}

/* ---- Wikis --------------------------------------------------------------------------------- */

static void wiki_text_keeps_what_a_reader_reads(void **state) {
    (void)state;
    seen s;
    static const char page[] =
        "<mediawiki><page><title>T</title><ns>0</ns><id>1</id><revision><text>"
        "'''Bold''' and [[target|label]]{{drop|\n[[x]]\n}} end&lt;ref name=a /&gt;.\n\n"
        "[[File:p.jpg|thumb|a [[b]] c]]Text {{lang|de|Wort}}.&lt;!-- gone --&gt;\n"
        "==Head==\n*one\n**two\n{| class=x\n! A !! B\n|-\n| style=\"k\" | 1 || 2\n|}\nafter\n"
        "</text></revision></page>"
        "<page><title>Talk</title><ns>1</ns><revision><text>no</text></revision></page>"
        "<page><title>R</title><ns>0</ns><redirect "
        "title=\"T\"/><revision><text>no</text></revision></page>"
        "</mediawiki>";
    assert_int_equal(parse(EX_WIKI, page, sizeof page - 1, NULL, &s, NULL), ROTOR_OK);
    assert_string_equal(s.text.data, "1:T\n2:id=1\n4:Bold and label end.\n4:Text Wort.\n3:Head\n"
                                     "6:one\n6:two\n7:A | B\n7:1 | 2\n4:after\n");
    assert_int_equal(s.last.line_begin, 14);
    forget(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_encoding_gives_the_same_text_and_its_own_bytes),
        cmocka_unit_test(old_encodings_are_read_as_windows_1252),
        cmocka_unit_test(a_cut_letter_is_replaced),
        cmocka_unit_test(what_is_no_text_is_refused),
        cmocka_unit_test(text_is_cleaned),
        cmocka_unit_test(places_are_found_in_any_order),
        cmocka_unit_test(samples_are_whole),
        cmocka_unit_test(cut_at_every_byte_they_end_in_order),
        cmocka_unit_test(every_failed_allocation_is_told),
        cmocka_unit_test(wiki_text_keeps_what_a_reader_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
