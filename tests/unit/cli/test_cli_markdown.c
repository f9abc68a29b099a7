/* SPDX-License-Identifier: MIT
 *
 * Markdown on the terminal: what is shown, that it does not depend on how the text arrives, that
 * nothing is held back without need, and that no answer can drive the terminal.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "cli/markdown.h"

#define B    "\x1b[0;1m"
#define I    "\x1b[0;3m"
#define BI   "\x1b[0;1;3m"
#define S    "\x1b[0;9m"
#define C    "\x1b[0;36m"
#define DIM  "\x1b[0;2m"
#define OFF  "\x1b[0m"
#define RULE "────────────────────"

static const struct {
    const char *text, *shown; /* Markdown, what the terminal gets */
} rows[] = {
    {"plain text\n", "plain text\n"},
    {"a **bold** b *it* c ***both*** d\n",
     "a " B "bold" OFF " b " I "it" OFF " c " BI "both" OFF " d\n"},
    {"__b__ _i_ ~~gone~~ ~x\n", B "b" OFF " " I "i" OFF " " S "gone" OFF " ~x\n"},
    {"**a *b* c**\n", B "a " BI "b" B " c" OFF "\n"},
    {"2 * 3 ** 4 and 2*3*4, a_b_c and 5 * x\n", "2 * 3 ** 4 and 2*3*4, a_b_c and 5 * x\n"},
    {"caf\xc3\xa9_b_\xc3\xa9t\xc3\xa9\n", "caf\xc3\xa9_b_\xc3\xa9t\xc3\xa9\n"},
    {"call `f(*x)` now\n", "call " C "f(*x)" OFF " now\n"},
    {"``a ` b`` c\n", C "a ` b" OFF " c\n"},
    {"\\*no\\* \\\\ \\q\n", "*no* \\ \\q\n"},
    {"# Title\ntext\n### Sub `c`\n", B "Title" OFF "\ntext\n" B "Sub \x1b[0;1;36mc" OFF "\n"},
    {"#hash\n####### seven\n", "#hash\n####### seven\n"},
    {"- a\n  * b\n+ **c**\n-x\n", B "• " OFF "a\n  " B "• " OFF "b\n" B "• c" OFF "\n-x\n"},
    {"1. a\n12) b\n3.14\n2024\n1.\n", B "1. " OFF "a\n" B "12) " OFF "b\n3.14\n2024\n1.\n"},
    {"> quote\n>x\n> - item\n",
     DIM "│ " OFF "quote\n" DIM "│ " OFF "x\n" DIM "│ " B "• " OFF "item\n"},
    {"---\n***\n- - -\n--\n", DIM RULE OFF "\n" DIM RULE OFF "\n" B "• " OFF "- -\n--\n"},
    {"```c\nint *a; // **x**\n\n  b\n```\nafter\n",
     DIM "c" OFF "\n" C "int *a; // **x**" OFF "\n\n" C "  b" OFF "\nafter\n"},
    {"```\n``x\n```x\n````\ny\n", C "``x" OFF "\n" C "```x" OFF "\ny\n"},
    {"~~~~ py\n~~~\n~~~~\n", DIM "py" OFF "\n" C "~~~" OFF "\n"},
    {"  ```sh\n  ls\n  ```\n", DIM "sh" OFF "\n" C "  ls" OFF "\n"},
    {"**open\nnext\n`open\nnext\n", B "open" OFF "\nnext\n" C "open" OFF "\nnext\n"},
    {"| a | b |\n|---|---|\n[l](http://x_y_z)\n", "| a | b |\n|---|---|\n[l](http://x_y_z)\n"},
    {"é **ü** 你好 🎉\n", "é " B "ü" OFF " 你好 🎉\n"},
    {"\n\n  \n", "\n\n  \n"},
    {"no end", "no end"},
    {"**", "**"},
    {"a `", "a `"},
    {"```\ncode", C "code" OFF},
    {"```\ncode\n```", C "code" OFF "\n"},
    {"\x1b[2Jx\x07\r\x7fy\xC2\x9B"
     "31mz \xC2\xA9\n",
     "[2Jxy31mz \xC2\xA9\n"},
};

static void shows(const char *text, size_t step, base_buf *out) {
    cli_markdown m;
    cli_markdown_init(&m, true);
    for (size_t at = 0, n = strlen(text); at < n; at += step)
        cli_markdown_put(&m, text + at, BASE_MIN(step, n - at), out);
    cli_markdown_end(&m, out);
    if (!out->data) base_buf_puts(out, "");
}

static void marks_become_styles(void **state) {
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        for (size_t step = 1; step <= strlen(rows[i].text); step++) {
            base_buf out = {0};
            shows(rows[i].text, step, &out);
            assert_string_equal(out.data, rows[i].shown);
            base_buf_free(&out);
        }
    }
}

static void bytes_pass_untouched_without_styles(void **state) {
    (void)state;
    const char text[] = "# **a**\n\x1b[0m\xC2`x`\n```";
    base_buf out = {0};
    cli_markdown m;
    cli_markdown_init(&m, false);
    for (size_t i = 0; i < sizeof text - 1; i++) {
        cli_markdown_put(&m, text + i, 1, &out);
        assert_int_equal(out.len, i + 1);
    }
    cli_markdown_end(&m, &out);
    assert_string_equal(out.data, text);
    base_buf_free(&out);
}

/* The number of bytes not yet shown after each byte of the text. */
static void nothing_waits_without_need(void **state) {
    (void)state;
    const struct {
        const char *text, *waiting; /* Markdown; after each byte, how many bytes are held */
    } cases[] = {
        {"Hello you", "000000000"},
        {"a ** b", "001200"},
        {"  x", "120"},
        {"- x", "100"},
        {"--x", "120"},
        {"12 x", "1200"},
        {"1. x", "1200"},
        {"a \\x", "0010"},
        {"a `b`", "00101"},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        base_buf out = {0};
        cli_markdown m;
        cli_markdown_init(&m, true);
        for (size_t k = 0; cases[i].text[k]; k++) {
            cli_markdown_put(&m, cases[i].text + k, 1, &out);
            assert_int_equal(m.n_hold + m.n_run + m.half, cases[i].waiting[k] - '0');
        }
        cli_markdown_end(&m, &out);
        base_buf_free(&out);
    }
}

/* Any text: letters and digits all arrive in order, styles are off at the end of every line, and
 * the only escapes are ours. */
static void random_marks_lose_nothing(void **state) {
    (void)state;
    static const char *const pieces[] = {"*",   "**",  "_",  "`",       "```", "~~",  "\\",
                                         "#",   "- ",  "> ", " ",       "\n",  "a",   "b1",
                                         "1. ", "---", "é",  "\x1b[1m", "~~~", "    "};
    base_rng rng;
    base_rng_seed(&rng, 11);
    for (int round = 0; round < 20000; round++) {
        base_buf text = {0}, out = {0}, letters = {0}, shown = {0};
        for (uint32_t n = base_rng_below(&rng, 24); n > 0; n--)
            base_buf_puts(&text, pieces[base_rng_below(&rng, BASE_COUNT(pieces))]);
        base_buf_puts(&text, "");
        shows(text.data, 1 + base_rng_below(&rng, 5), &out);
        bool styled = false;
        for (size_t i = 0; i < out.len; i++) {
            char c = out.data[i];
            if (c == '\x1b') {
                assert_int_equal(out.data[i + 1], '[');
                assert_int_equal(out.data[i + 2], '0');
                styled = out.data[i + 3] == ';';
                i += strcspn(out.data + i, "m");
            } else if (c == '\n') {
                assert_false(styled);
            } else if ((c >= 'a' && c <= 'z') || c < 0) {
                if (i + 2 >= out.len || strncmp(out.data + i, "•", 3) != 0)
                    base_buf_append(&shown, &c, 1);
            }
        }
        assert_false(styled);
        for (size_t i = 0; i < text.len; i++)
            if ((text.data[i] >= 'a' && text.data[i] <= 'z') || text.data[i] < 0)
                base_buf_append(&letters, text.data + i, 1);
        /* Our own marks are not ASCII letters and not the é of the text. */
        size_t k = 0;
        for (size_t i = 0; i < shown.len && k < letters.len; i++)
            k += shown.data[i] == letters.data[k];
        if (k != letters.len) fail_msg("\"%s\" became \"%s\"", text.data, out.data);
        base_buf_free(&text);
        base_buf_free(&out);
        base_buf_free(&letters);
        base_buf_free(&shown);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(marks_become_styles),
        cmocka_unit_test(bytes_pass_untouched_without_styles),
        cmocka_unit_test(nothing_waits_without_need),
        cmocka_unit_test(random_marks_lose_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
