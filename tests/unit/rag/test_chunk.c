/* SPDX-License-Identifier: MIT
 *
 * Blocks and passages: what shows is in exactly one passage, none is too long, and a change moves
 * few borders.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "rag/rag_chunk.h"
#include "rag/rag_words.h"

enum { MOST = 4096 };

typedef struct passages {
    base_str text;          /* of the document */
    size_t begin[MOST];     /* bytes */
    size_t end[MOST];       /* bytes */
    uint64_t hash[MOST];    /* of headings and text */
    char heading[MOST][64]; /* cut */
    size_t n;               /* how many */
} passages;

static passages first, second;

static rotor_status take(void *user, const rag_passage *p) {
    passages *l = user;
    assert_true(l->n < MOST);
    l->begin[l->n] = p->begin;
    l->end[l->n] = p->end;
    snprintf(l->heading[l->n], sizeof l->heading[0], "%s", p->heading);
    l->hash[l->n++] = base_hash64(l->text.p + p->begin, p->end - p->begin,
                                  base_hash64(p->heading, strlen(p->heading), 0));
    return ROTOR_OK;
}

static void cut(passages *l, base_str text, rag_form form) {
    rag_blocks b = {0};
    size_t front;
    l->text = text;
    l->n = 0;
    assert_int_equal(rag_blocks_of(text, form, &b, &front), ROTOR_OK);
    assert_int_equal(rag_chunk(text, &b, take, l), ROTOR_OK);
    rag_blocks_free(&b);
}

static bool shows(char c) { return (unsigned char)c > ' '; }

static void assert_covered_once(const passages *l) {
    size_t at = 0;
    for (size_t i = 0; i < l->n; i++) {
        assert_true(l->begin[i] >= at && l->end[i] > l->begin[i]);
        for (; at < l->begin[i]; at++) assert_false(shows(l->text.p[at]));
        at = l->end[i];
        const base_str t = {l->text.p + l->begin[i], l->end[i] - l->begin[i]};
        assert_in_range(rag_tokens_about(t), 0, RAG_MAX_TOK + 8);
    }
    for (; at < l->text.n; at++) assert_false(shows(l->text.p[at]));
}

static void paragraph(base_buf *out, base_rng *rng, int n_sentences) {
    static const char *const words[] = {"river",   "mountain", "the",   "of",
                                        "quickly", "seven",    "stone", "bridge",
                                        "under",   "window",   "and",   "letter"};
    for (int s = 0; s < n_sentences; s++) {
        base_buf_printf(out, "Sentence %u", base_rng_below(rng, 100000));
        for (int w = 0; w < 11; w++)
            base_buf_printf(out, " %s", words[base_rng_below(rng, BASE_COUNT(words))]);
        base_buf_puts(out, ". ");
    }
    base_buf_puts(out, "\n\n");
}

static void markdown_has_structure(void **state) {
    (void)state;
    base_buf text = {0};
    base_rng rng;
    base_rng_seed(&rng, 1);
    base_buf_puts(&text, "---\ntitle: hidden\n---\n# Deck\n\n## Setup\n\n");
    for (int i = 0; i < 4; i++) paragraph(&text, &rng, 3);
    base_buf_puts(&text, "Battery\n-------\n\n");
    for (int i = 0; i < 4; i++) paragraph(&text, &rng, 3);
    base_buf_puts(&text,
                  "```c\n# not a heading\nint x;\n\nint y;\n```\n\n### Deep ###\n\nlast words\n");
    cut(&first, (base_str){text.data, text.len}, RAG_FORM_MARKDOWN);
    assert_true(first.n >= 3);
    assert_string_equal(first.heading[0], "Deck › Setup");
    bool battery = false;
    for (size_t i = 0; i < first.n; i++) {
        battery |= strcmp(first.heading[i], "Deck › Battery") == 0;
        assert_null(strstr(first.heading[i], "not a heading"));
        assert_null(
            memmem(first.text.p + first.begin[i], first.end[i] - first.begin[i], "hidden", 6));
    }
    assert_true(battery);
    base_buf_free(&text);
}

static void every_form_is_covered_once(void **state) {
    (void)state;
    base_rng rng;
    base_rng_seed(&rng, 2);
    for (int round = 0; round < 60; round++) {
        base_buf text = {0};
        for (int i = 0; i < 12; i++) {
            if (round % 3 == 1) base_buf_printf(&text, "%s Title %d\n", i % 4 ? "##" : "#", i);
            if (round % 3 == 2)
                base_buf_printf(&text, "int f%d(void) {\n    return %d;\n}\n", i, i);
            paragraph(&text, &rng, (int)base_rng_below(&rng, 30));
        }
        const rag_form forms[] = {RAG_FORM_TEXT, RAG_FORM_MARKDOWN, RAG_FORM_CODE};
        cut(&first, (base_str){text.data, text.len}, forms[round % 3]);
        assert_covered_once(&first);
        base_buf_free(&text);
    }
}

static void any_text_ends(void **state) {
    (void)state;
    base_rng rng;
    base_rng_seed(&rng, 3);
    for (int round = 0; round < 12; round++) {
        base_buf text = {0};
        while (text.len < 50000) {
            char utf8[4];
            static const uint32_t some[] = {'a', ' ', '.',    '\n',    '#', '`',
                                            '|', '-', 0x4E00, 0x1F600, '='};
            uint32_t c = round % 2 ? base_rng_below(&rng, 0x3000)
                                   : some[base_rng_below(&rng, BASE_COUNT(some))];
            if (round == 4) c = 'x';
            if (c >= 0xD800 && c < 0xE000) c = 'z';
            base_buf_append(&text, utf8, (size_t)base_utf8_encode(c ? c : 'n', utf8));
        }
        cut(&first, (base_str){text.data, text.len}, (rag_form)(round % 3));
        for (size_t i = 0; i < first.n; i++) {
            const base_str t = {text.data + first.begin[i], first.end[i] - first.begin[i]};
            assert_in_range(rag_tokens_about(t), 0, RAG_MAX_TOK + 8);
            assert_true(((unsigned char)t.p[0] & 0xC0) != 0x80); /* never inside a character */
        }
        base_buf_free(&text);
    }
}

/* How many passages of b are not in a. */
static size_t n_new(const passages *a, const passages *b) {
    size_t n = 0;
    for (size_t i = 0; i < b->n; i++) {
        bool there = false;
        for (size_t k = 0; k < a->n && !there; k++) there = a->hash[k] == b->hash[i];
        n += !there;
    }
    return n;
}

static void a_change_moves_few_borders(void **state) {
    (void)state;
    base_buf text = {0}, more = {0};
    base_rng rng;
    base_rng_seed(&rng, 4);
    for (int i = 0; i < 200; i++) paragraph(&text, &rng, 3);
    paragraph(&more, &rng, 4);
    base_buf_append(&more, text.data, text.len);
    cut(&first, (base_str){text.data, text.len}, RAG_FORM_TEXT);
    cut(&second, (base_str){more.data, more.len}, RAG_FORM_TEXT);
    assert_true(first.n > 35);
    assert_in_range(n_new(&first, &second), 1, first.n / 10); /* a paragraph at the top */
    memcpy(text.data + text.len / 2, "zzzz", 4);
    cut(&second, (base_str){text.data, text.len}, RAG_FORM_TEXT);
    first.n = 0;
    cut(&first, (base_str){more.data + (more.len - text.len), text.len}, RAG_FORM_TEXT);
    assert_in_range(n_new(&first, &second), 1, 3); /* a word in the middle */
    base_buf_free(&text);
    base_buf_free(&more);
}

/* A line without an end costs what it is long, not the square of it. */
static void long_lines_cost_no_more_than_their_length(void **state) {
    (void)state;
    base_buf text = {0};
    for (int i = 0; i < 150000; i++) base_buf_puts(&text, "abc,");
    const uint64_t start = base_thread_cpu_us();
    cut(&first, (base_str){text.data, text.len}, RAG_FORM_TEXT);
    assert_true(base_thread_cpu_us() - start < 1500000);
    assert_true(first.n > 500);
    assert_covered_once(&first);
    base_buf_free(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(markdown_has_structure),
        cmocka_unit_test(every_form_is_covered_once),
        cmocka_unit_test(any_text_ends),
        cmocka_unit_test(a_change_moves_few_borders),
        cmocka_unit_test(long_lines_cost_no_more_than_their_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
