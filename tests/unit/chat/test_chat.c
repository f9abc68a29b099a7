/* SPDX-License-Identifier: MIT
 *
 * Choosing a template, marks on user text, and templates that mean harm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "chat/chat.h"
#include "chat/jinja_internal.h"

#define MSG(role, content)                                                                         \
    {                                                                                              \
        {role, sizeof(role) - 1}, { content, sizeof(content) - 1 }                                 \
    }

static int64_t fixed_clock(void) { return 1709164799; } /* 2024-02-28 23:59:59 UTC */

static rotor_status create(chat_template **out, const char *source, rotor_error *err) {
    chat_hints hints = {.architecture = base_str_of("llama"),
                        .model_template = base_str_of(source),
                        .bos_text = base_str_of("<s>"),
                        .eos_text = base_str_of("</s>"),
                        .now_s = fixed_clock};
    return chat_template_create(out, &hints, NULL, err);
}

/* Renders one user message through a template; the text goes to buf. */
static rotor_status run(const char *source, const char *content, char buf[1024], rotor_error *err) {
    chat_template *t = NULL;
    chat_prompt p = {0};
    chat_message m = {base_str_of("user"), base_str_of(content)};
    rotor_status st = create(&t, source, err);
    if (st == ROTOR_OK) st = chat_render(t, &m, 1, true, &p, err);
    if (st == ROTOR_OK)
        snprintf(buf, 1024, "%.*s", (int)p.text.len, p.text.data ? p.text.data : "");
    chat_prompt_free(&p);
    chat_template_free(&t);
    return st;
}

static void assert_renders(const char *source, const char *content, const char *want) {
    char buf[1024] = "";
    rotor_error err = {0};
    if (run(source, content, buf, &err) != ROTOR_OK) fail_msg("%s: %s", source, err.message);
    assert_string_equal(buf, want);
}

static void assert_refused(const char *source, rotor_status code, const char *says) {
    char buf[1024] = "";
    rotor_error err = {0};
    rotor_status st = run(source, "Hi", buf, &err);
    if (st != code || !strstr(err.message, says))
        fail_msg("%.80s: got %d, \"%s\", not \"%s\"", source, st, err.message, says);
}

/* ==== Choosing ================================================================================ */

static void assert_choice(chat_hints h, const char *override, const char *says) {
    chat_template *t = NULL;
    rotor_error err = {0};
    rotor_status st = chat_template_create(&t, &h, override, &err);
    if (st != ROTOR_OK) fail_msg("%s", err.message);
    if (strncmp(chat_template_describe(t), says, strlen(says)) != 0)
        fail_msg("\"%s\" is not \"%s\"", chat_template_describe(t), says);
    chat_template_free(&t);
    assert_null(t);
}

static void the_right_template_is_chosen(void **state) {
    (void)state;
    base_str placeholder =
        base_str_of("{% for message in messages %}Human: BITNETAssistant{% endfor %}");
    chat_hints h = {.architecture = base_str_of("bitnet-b1.58"), .model_template = placeholder};
    assert_choice(h, NULL, "bitnet (built in; BitNet model; its file's template is not used)");
    assert_choice(h, "chatml", "chatml (built in; asked for)");
    assert_choice(h, "{{ messages[0].content }}", "the template asked for (Jinja, 25 bytes)");
    h.architecture = base_str_of("bitnet");
    h.model_template.n = 0;
    assert_choice(h, NULL, "bitnet (built in; BitNet model)");
    h.architecture = base_str_of("llama");
    assert_choice(h, NULL, "plain (built in; the model has no template)");
    h.has_header_id = true;
    assert_choice(h, NULL, "llama3 (");
    h.has_im_start = true;
    assert_choice(h, NULL, "chatml (");
    h.model_template = placeholder;
    assert_choice(h, NULL, "the model's own template (Jinja, ");
}

static void a_bad_override_lists_the_good_ones(void **state) {
    (void)state;
    chat_hints h = {.architecture = base_str_of("llama")};
    chat_template *t = NULL;
    rotor_error err = {0};
    assert_int_equal(chat_template_create(&t, &h, "chatlm", &err), ROTOR_E_ARG);
    assert_null(t);
    for (size_t i = 0; chat_builtin_name(i); i++)
        assert_non_null(strstr(err.message, chat_builtin_name(i)));
    assert_string_equal(chat_builtin_name(0), "bitnet");
}

static void plain_is_a_conversation_with_a_stop_text(void **state) {
    (void)state;
    chat_message m[] = {MSG("system", " Be kind. "), MSG("user", "Hi"),
                        MSG("assistant", "Hello.\n"), MSG("user", "Bye")};
    chat_hints h = {0};
    chat_template *t = NULL;
    chat_prompt p = {0};
    assert_int_equal(chat_template_create(&t, &h, NULL, NULL), ROTOR_OK);
    assert_int_equal(chat_render(t, m, 4, true, &p, NULL), ROTOR_OK);
    assert_string_equal(p.text.data,
                        "Be kind.\n\nUser: Hi\nAssistant: Hello.\nUser: Bye\nAssistant: ");
    assert_string_equal(chat_stop_text(t, 0), "\nUser:");
    assert_null(chat_stop_text(t, 1));
    chat_prompt_free(&p);
    chat_template_free(&t);
}

/* The formats without a system turn put its text into the first user turn. */
static void system_text_is_never_lost(void **state) {
    (void)state;
    chat_message m[] = {MSG("system", "S!"), MSG("user", "Hi"), MSG("assistant", "Yo"),
                        MSG("user", "Bye")};
    const struct {
        const char *name, *want; /* a built-in, its text */
    } rows[] = {
        {"mistral", "<s>[INST] S!\n\nHi [/INST]Yo</s> [INST] Bye [/INST]"},
        {"gemma",
         "<s><start_of_turn>user\nS!\n\nHi<end_of_turn>\n<start_of_turn>model\nYo<end_of_turn>\n"
         "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n"},
        {"llama2", "<s>[INST] <<SYS>>\nS!\n<</SYS>>\n\nHi [/INST] Yo </s><s>[INST] Bye [/INST]"},
        {"falcon3",
         "<|system|>\nS!\n<|user|>\nHi\n<|assistant|>\nYo\n<|user|>\nBye\n<|assistant|>\n"},
    };
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        chat_hints h = {.bos_text = base_str_of("<s>"), .eos_text = base_str_of("</s>")};
        chat_template *t = NULL;
        chat_prompt p = {0};
        assert_int_equal(chat_template_create(&t, &h, rows[i].name, NULL), ROTOR_OK);
        assert_int_equal(chat_render(t, m, 4, true, &p, NULL), ROTOR_OK);
        assert_string_equal(p.text.data, rows[i].want);
        assert_null(chat_stop_text(t, 0));
        chat_prompt_free(&p);
        chat_template_free(&t);
    }
}

/* ==== Marks =================================================================================== */

/* Renders and writes the user's bytes as upper-case U and the template's as they are. */
static void marks_of(const chat_template *t, const chat_message *m, size_t n, char buf[512]) {
    chat_prompt p = {0};
    rotor_error err = {0};
    if (chat_render(t, m, n, false, &p, &err) != ROTOR_OK) fail_msg("%s", err.message);
    size_t at = 0;
    for (size_t i = 0; i < p.n_parts; i++) {
        assert_int_equal(p.parts[i].begin, at);
        assert_true(p.parts[i].end > at);
        if (i) assert_true(p.parts[i].literal != p.parts[i - 1].literal);
        if (p.parts[i].literal) memset(p.text.data + at, 'U', p.parts[i].end - at);
        at = p.parts[i].end;
    }
    assert_int_equal(at, p.text.len);
    snprintf(buf, 512, "%s", p.text.data ? p.text.data : "");
    chat_prompt_free(&p);
}

static void assert_marks(const char *expression, const char *want) {
    char source[512], buf[512];
    chat_template *t = NULL;
    rotor_error err = {0};
    chat_message m[] = {MSG("user", " aXb "), MSG("x<y", "12")};
    snprintf(source, sizeof source, "{%% set c = messages[0].content %%}%s", expression);
    if (create(&t, source, &err) != ROTOR_OK) fail_msg("%s", err.message);
    marks_of(t, m, 2, buf);
    if (strcmp(buf, want) != 0) fail_msg("%s: got \"%s\", not \"%s\"", expression, buf, want);
    chat_template_free(&t);
}

static void marks_follow_user_bytes_everywhere(void **state) {
    (void)state;
    assert_marks("<{{ c }}>", "<UUUUU>");
    assert_marks("{{ '<' + c|trim + '>' }}", "<UUU>");
    assert_marks("{{ '<' ~ c.strip()[1:] ~ '>' }}", "<UU>");
    assert_marks("{{ ('<' + c + '>')[::-1] }}", ">UUUUU<");
    assert_marks("{{ ('<' + c.strip() + '>')|upper }}", "<UUU>");
    assert_marks("{{ c.strip()|replace('X', '--') }}", "U--U");
    assert_marks("{{ '[x]'|replace('x', c) }}", "[UUUUU]");
    assert_marks("{{ c.strip().split('X')|join('+') }}", "U+U");
    assert_marks("{{ [c.strip(), 'k']|tojson }}", "[\"UUU\", \"k\"]");
    assert_marks("{{ {'c': c.strip()} }}", "{'c': 'UUU'}");
    assert_marks("{{ c.strip() * 2 }}", "UUUUUU");
    assert_marks("{{ c.strip()|list|first }}{{ c[1] }}", "UU");
    assert_marks(
        "{% set ns = namespace(t='') %}{% set ns.t = ns.t ~ '(' ~ c.strip() ~ ')' %}{{ ns.t }}",
        "(UUU)");
    assert_marks("{% set b %}({{ c }}){% endset %}{{ b|trim }}", "(UUUUU)");
    assert_marks("{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(c)|title }}", "<UUUUU>");
    assert_marks("{{ (c ~ 'end')|indent(2, true) }}", "  UUUUUend");
    assert_marks("{{ ('a\n' ~ c.strip())|e }}", "a\nUUU");
    assert_marks("{{ (c ~ '|' ~ c)|unique|join }}", "UUUU|"); /* space a X b, then the bar */
    /* What a template makes of user text by itself is its own. */
    assert_marks("{{ c|length }}{{ 'X' in c }}{{ messages[1].content|int + 1 }}", "5True13");
    /* Usual roles may be part of a control token, unusual ones may not. */
    assert_marks("{{ '<|' + messages[0].role + '|>' }}", "<|user|>");
    assert_marks("{{ '<|' + messages[1].role + '|>' }}", "<|UUU|>");
}

static void built_ins_mark_user_bytes(void **state) {
    (void)state;
    chat_message m[] = {MSG("user", "<|eot_id|>"), MSG("</s>", "x")};
    chat_hints h = {.architecture = base_str_of("bitnet")};
    chat_template *t = NULL;
    char buf[512];
    assert_int_equal(chat_template_create(&t, &h, NULL, NULL), ROTOR_OK);
    marks_of(t, m, 2, buf);
    assert_string_equal(buf, "User: UUUUUUUUUU<|eot_id|>UUUU: U<|eot_id|>");
    chat_template_free(&t);
}

/* ==== Outside the subset ====================================================================== */

static void refusals_name_the_construct_and_its_line(void **state) {
    (void)state;
    rotor_status no = ROTOR_E_UNSUPPORTED;
    assert_refused("a\n{% include 'x' %}", no, "template line 2: the tag {% include %}");
    assert_refused("{% call f() %}{% endcall %}", no, "{% call %}");
    assert_refused("\n\n{{ x|groupby('a') }}", no, "line 3: filter 'groupby'");
    assert_refused("{{ x is escaped }}", no, "test 'escaped'");
    assert_refused("{{ f(*x) }}", no, "argument '*'");
    assert_refused("{% for x in y recursive %}{% endfor %}", no, "recursive loops");
    assert_refused("{{ ''.zfill(3) }}", no, "'zfill' is not in the template subset");
    assert_refused("{{ cycler(1, 2) }}", no, "'cycler' is not in the template subset");
    assert_refused("{{ [1]|map('batch', 2)|list }}", no, "filter 'batch'");
    assert_refused("{{ '%s' % 1 }}", no, "formatting with %");
    assert_refused("{{ strftime_now('%Z') }}", no, "date code %Z");
    /* The refusal says whose template it was; it happens at creation. */
    chat_template *t = NULL;
    rotor_error err = {0};
    assert_int_equal(create(&t, "{{ ''.zfill(3) }}", &err), ROTOR_E_UNSUPPORTED);
    assert_null(t);
    assert_non_null(strstr(err.message, "the model's own template: chat template line 1: "));
}

static void malformed_templates_are_refused(void **state) {
    (void)state;
    rotor_status bad = ROTOR_E_FORMAT;
    const char *const sources[] = {"{{",
                                   "{% if",
                                   "{% if x %}",
                                   "{{ x",
                                   "{{ 'x }}",
                                   "{# x",
                                   "{% raw %}x",
                                   "{{ x | }}",
                                   "{{ (1 }}",
                                   "{{ 1) }}",
                                   "{% for in x %}{% endfor %}",
                                   "{% for x in %}{% endfor %}",
                                   "{% endif %}",
                                   "{% %}",
                                   "{{ }}",
                                   "{% set = 1 %}",
                                   "{% set 1 = 1 %}",
                                   "{% set x.y.z = 1 %}",
                                   "{{ 'a' 1 }}",
                                   "{{ 1abc }}",
                                   "{{ a.b. }}",
                                   "{{ x[] }}",
                                   "{{ x[1:2:3:4] }}",
                                   "{% break %}",
                                   "{% macro f(a=1, b) %}{% endmacro %}",
                                   "{% macro f %}{% endmacro %}",
                                   "{{ {1} }}",
                                   "{{ not }}",
                                   "{{ a is }}",
                                   "{{ ? }}",
                                   "{{ f(a=1, 2) }}",
                                   "{% if x %}{% else %}{% elif y %}{% endif %}",
                                   "{{ '\\xZZ' }}",
                                   "{{ '\\ud800' }}",
                                   "{{ 007 }}",
                                   "{{ 99999999999999999999 }}",
                                   "{% for x in y %}{% endif %}",
                                   "{% frobnicate %}",
                                   "{{ x }",
                                   "{% set loop = %}",
                                   "{% for loop in x %}{% endfor %}",
                                   "{{ a if }}",
                                   "{% elif %}",
                                   "{{ @ }}"};
    for (size_t i = 0; i < BASE_COUNT(sources); i++)
        assert_refused(sources[i], bad, "chat template line 1: ");
}

static void run_time_errors_are_errors(void **state) {
    (void)state;
    const struct {
        const char *source, *says; /* template, words of its message */
    } rows[] = {
        {"{{ nope.x }}", "'nope' is undefined"},
        {"{{ nope + 1 }}", "'nope' is undefined"},
        {"{{ 1 / 0 }}", "division by zero"},
        {"{{ 5 % 0.0 }}", "division by zero"},
        {"{{ 9223372036854775807 + 1 }}", "64 bits"},
        {"{{ 3 ** 99 }}", "64 bits"},
        {"{{ (-9223372036854775807 - 1) // -1 }}", "64 bits"},
        {"{{ 'a' + 1 }}", "cannot compute string + integer"},
        {"{{ 'a' < 1 }}", "cannot order"},
        {"{{ 1 in 1 }}", "cannot be walked"},
        {"{{ none|length }}", "has no length"},
        {"{{ {[]: 1} }}", "cannot be a key"},
        {"{{ 'x'() }}", "cannot be called"},
        {"{{ 'x'.upper(1) }}", "too many arguments"},
        {"{{ 'x'|indent(depth=1) }}", "no use for the argument 'depth'"},
        {"{{ range(100001) }}", "more than 100000"},
        {"{{ range(1, 2, 0) }}", "step of 0"},
        {"{{ [1, 2][::0] }}", "must not be 0"},
        {"{{ {}[1:] }}", "cannot be sliced"},
        {"{% set a, b = [1] %}", "1 values for 2 names"},
        {"{% set x = {} %}{% set x.y = 1 %}", "only a namespace"},
        {"{{ namespace(x=range)|tojson }}", "no JSON form"},
        {"{{ range }}", "cannot be printed"},
        {"{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", "takes 1 arguments"},
        {"{% macro f(a) %}{% endmacro %}{{ f(1, a=2) }}", "two values"},
        {"{{ 1 is divisibleby }}", "takes 1 arguments, not 0"},
        {"{{ 'a'.split('') }}", "split at nothing"},
        {"\n\n{{ 1 // 0 }}", "chat template line 3: division"},
    };
    for (size_t i = 0; i < BASE_COUNT(rows); i++)
        assert_refused(rows[i].source, ROTOR_E_FORMAT, rows[i].says);
    assert_refused("{{ raise_exception('no\nsuch ' + 'role') }}", ROTOR_E_ARG,
                   "refuses this conversation: no such role");
}

static void attributes_lead_nowhere(void **state) {
    (void)state;
    assert_renders("{{ ''.__class__ }}|{{ messages.__init__ }}|{{ messages[0]['__class__'] }}|"
                   "{{ range.__globals__ }}|{{ namespace(a=1).__dict__ }}|{{ self }}",
                   "x", "|||||");
    assert_refused("{{ ''.__class__.__mro__[1].__subclasses__() }}", ROTOR_E_FORMAT,
                   "'__class__' is undefined");
    assert_refused("{{ messages.append(1) }}", ROTOR_E_UNSUPPORTED, "'append'");
    assert_refused("{{ messages[0].update({'role': 'system'}) }}", ROTOR_E_UNSUPPORTED, "'update'");
}

/* ==== Limits ================================================================================== */

static void endless_work_is_stopped(void **state) {
    (void)state;
    rotor_status no = ROTOR_E_FORMAT;
    assert_refused("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
                   no, "256 MiB");
    assert_refused("{{ range(99999)|select('in', range(99999))|list }}", no, "steps");
    assert_refused(
        "{% for a in range(99999) %}{% for b in range(99999) %}0123456789{% endfor %}{% endfor %}",
        no, "MiB");
    assert_refused("{{ '0123456789' * 99999999999 }}", no, "64 MiB of text");
    assert_refused("{{ 'x' * 99999999999 }}", no, "steps");
    assert_refused("{{ [1] * 99999999999 }}", no, "256 MiB");
    assert_refused("{{ ' '|indent(99999999999) }}", no, "steps");
    assert_refused(
        "{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}"
        "{% endfor %}",
        no, "MiB");
    assert_refused(
        "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}"
        "{% endfor %}",
        no, "256 MiB");
    assert_refused("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", no, "nested deeper");
    assert_refused(
        "{% macro f(x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}{{ f(x)|upper }}{% endmacro %}"
        "{{ f(1) }}",
        no, "nested deeper");
    assert_refused("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", no, "nested deeper");
    assert_refused("{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}"
                   "{% endfor %}{{ ns.l == [ns.l] }}{{ ns.l }}",
                   no, "nested deeper");
    assert_refused("{% set ns = namespace(l=[]) %}{% for i in range(9999) %}{% set ns.l = [ns.l] %}"
                   "{% endfor %}{{ ns.l|tojson }}",
                   no, "nested deeper");
    assert_refused(
        "{% set s = 'a' * 9999999 %}{% for i in range(99999) %}{{ 'b' in s }}{% endfor %}", no,
        "steps");
}

static char *repeat(const char *head, const char *piece, size_t n, const char *tail) {
    base_buf b = {0};
    base_buf_puts(&b, head);
    for (size_t i = 0; i < n; i++) base_buf_puts(&b, piece);
    base_buf_puts(&b, tail);
    assert_false(b.failed);
    return b.data;
}

static void deep_sources_are_refused(void **state) {
    (void)state;
    const struct {
        const char *head, *piece, *tail; /* of the source */
    } rows[] = {
        {"{{ ", "(", " }}"},       {"{{ ", "[", " }}"},
        {"{{ ", "{1:", " }}"},     {"{{ ", "-", "1 }}"},
        {"{{ ", "not ", "1 }}"},   {"{{ 1", "+1", " }}"},
        {"{{ x", ".x", " }}"},     {"{{ x", "[0]", " }}"},
        {"{{ x", "()", " }}"},     {"{{ x", "|upper", " }}"},
        {"{{ 1", " and 1", " }}"}, {"{{ 1", " if 1 else 1", " }}"},
        {"{{ 1", " if 1", " }}"},  {"{{ x", " is defined", " }}"},
        {"", "{% if 1 %}", ""},    {"", "{% for x in y %}", ""},
        {"", "{% set x %}", ""},   {"", "{% macro f() %}", ""},
        {"{{ x", "[x", " }}"},     {"{{ f", "(f", " }}"},
        {"{{ 1", "**1", " }}"},
    };
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        char *source = repeat(rows[i].head, rows[i].piece, 20000, rows[i].tail);
        char buf[1024];
        rotor_error err = {0};
        if (run(source, "Hi", buf, &err) != ROTOR_E_FORMAT) fail_msg("%.20s", source);
        base_free(source);
    }
    char *source = repeat("{{ 1 }}", "          ", JIN_MAX_SOURCE_BYTES / 10, "");
    assert_refused(source, ROTOR_E_FORMAT, "at most 1048576");
    base_free(source);
    /* Long but flat is fine. */
    source = repeat("{% if 0 %}", "{% elif 0 %}", 5000, "{% else %}x{% endif %}");
    assert_renders(source, "", "x");
    base_free(source);
    source = repeat("{{ ''", " ~ 1", 500, " }}");
    char *want = repeat("", "1", 500, "");
    assert_renders(source, "", want);
    base_free(source);
    base_free(want);
}

static void the_date_comes_from_the_clock(void **state) {
    (void)state;
    assert_renders("{{ strftime_now('%d %b %Y, %A %-d.%-m.%y %H:%M:%S %I%p %j %%') }}", "",
                   "28 Feb 2024, Wednesday 28.2.24 23:59:59 11PM 059 %");
}

/* ==== Harm to memory ========================================================================== */

static json_t *golden_templates(void) {
    char path[512];
    snprintf(path, sizeof path, "%s/tests/data/chat/templates.json", getenv("ROTOR_SOURCE_ROOT"));
    json_t *root = json_load_file(path, 0, NULL);
    assert_non_null(root);
    return root;
}

static void templates_cut_anywhere_do_no_harm(void **state) {
    (void)state;
    json_t *root = golden_templates(), *t;
    const char *name;
    size_t n = 0;
    json_object_foreach(json_object_get(root, "templates"), name, t) {
        const char *source = json_string_value(json_object_get(t, "source"));
        for (size_t len = 0; len < strlen(source); len++, n++) {
            char *cut = base_strndup(source, len), buf[1024];
            rotor_error err = {0};
            rotor_status st = run(cut, "Hi", buf, &err);
            assert_true(st == ROTOR_OK || strstr(err.message, "template"));
            base_free(cut);
        }
    }
    print_message("%zu cut templates\n", n);
    json_decref(root);
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    json_t *root = golden_templates(), *t;
    const char *name;
    size_t n_faults = 0;
    chat_message m[] = {MSG("system", "Be \"brief\"."), MSG("user", "Hi there you"),
                        MSG("assistant", "x")};
    json_object_foreach(json_object_get(root, "templates"), name, t) {
        const char *source = json_string_value(json_object_get(t, "source"));
        for (long n = 1;; n++, n_faults++) {
            chat_template *made = NULL;
            chat_prompt p = {0};
            rotor_error err = {0};
            base_fault_after(n);
            rotor_status st = create(&made, source, &err);
            if (st == ROTOR_OK) st = chat_render(made, m, 3, true, &p, &err);
            bool fired = base_fault_fired();
            base_fault_after(0);
            assert_true(!fired || st == ROTOR_E_NOMEM);
            if (st != ROTOR_OK) assert_true(!p.text.data && !p.parts);
            chat_prompt_free(&p);
            chat_template_free(&made);
            if (!fired) break;
        }
    }
    for (size_t i = 0; chat_builtin_name(i); i++) {
        for (long n = 1;; n++, n_faults++) {
            chat_template *made = NULL;
            chat_prompt p = {0};
            chat_hints h = {0};
            base_fault_after(n);
            rotor_status st = chat_template_create(&made, &h, chat_builtin_name(i), NULL);
            if (st == ROTOR_OK) st = chat_render(made, m, 3, true, &p, NULL);
            bool fired = base_fault_fired();
            base_fault_after(0);
            assert_int_equal(st, fired ? ROTOR_E_NOMEM : ROTOR_OK);
            chat_prompt_free(&p);
            chat_template_free(&made);
            if (!fired) break;
        }
    }
    print_message("%zu failed allocations\n", n_faults);
    json_decref(root);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_right_template_is_chosen),
        cmocka_unit_test(a_bad_override_lists_the_good_ones),
        cmocka_unit_test(plain_is_a_conversation_with_a_stop_text),
        cmocka_unit_test(system_text_is_never_lost),
        cmocka_unit_test(marks_follow_user_bytes_everywhere),
        cmocka_unit_test(built_ins_mark_user_bytes),
        cmocka_unit_test(refusals_name_the_construct_and_its_line),
        cmocka_unit_test(malformed_templates_are_refused),
        cmocka_unit_test(run_time_errors_are_errors),
        cmocka_unit_test(attributes_lead_nowhere),
        cmocka_unit_test(endless_work_is_stopped),
        cmocka_unit_test(deep_sources_are_refused),
        cmocka_unit_test(the_date_comes_from_the_clock),
        cmocka_unit_test(templates_cut_anywhere_do_no_harm),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
