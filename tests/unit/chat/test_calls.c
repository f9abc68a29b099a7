/* SPDX-License-Identifier: MIT
 *
 * Calls in the text of an answer: what each family writes, and what models make of it, whole, byte
 * by byte and cut in two at every place; which family a template is of; rules that fit the reader.
 */
#include "chat/calls.h"
#include "grammar/grammar.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static const char tools_json[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"get_weather\",\"parameters\":{\"type\":"
    "\"object\",\"properties\":{\"city\":{\"type\":\"string\"}},\"required\":[\"city\"]}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"add\",\"strict\":true,\"parameters\":{"
    "\"type\":"
    "\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}}}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"now\"}}]";

static chat_tools make_tools(void) {
    chat_tools t = {0};
    rotor_error err = {0};
    if (chat_tools_read(&t, base_str_of(tools_json), &err) != ROTOR_OK) fail_msg("%s", err.message);
    return t;
}

/* What was told: text as it is, a call as "<name arguments>". */
static void on_text(void *user, base_str text) { base_buf_append(user, text.p, text.n); }

static void on_call(void *user, base_str name, base_str arguments) {
    base_buf_printf(user, "\x01%.*s %.*s\x02", (int)name.n, name.p, (int)arguments.n, arguments.p);
}

typedef struct cut {
    size_t at;    /* pieces end here … */
    size_t every; /* … and after so many bytes; 0: nowhere else */
} cut;

static char *read_cut(const char *family, bool single, bool whole, const char *answer, cut c) {
    chat_tools tools = make_tools();
    base_buf told = {0};
    chat_reader *r = NULL;
    const chat_reader_hooks hooks = {on_text, on_call, &told};
    const size_t n = strlen(answer);
    assert_int_equal(chat_reader_create(&r, chat_family_named(family), &tools, single, &hooks),
                     ROTOR_OK);
    for (size_t at = 0, end; at < n; at = end) {
        end = at < c.at ? c.at : n;
        if (c.every) end = BASE_MIN(end, at + c.every);
        assert_int_equal(chat_reader_put(r, (base_str){answer + at, end - at}), ROTOR_OK);
    }
    assert_int_equal(chat_reader_end(r, whole), ROTOR_OK);
    chat_reader_free(&r);
    chat_tools_free(&tools);
    char *out = base_strndup(told.data ? told.data : "", told.len);
    base_buf_free(&told);
    return out;
}

typedef struct sample {
    const char *family; /* whose */
    const char *answer; /* of the model */
    const char *told;   /* as above */
    bool single;        /* one call is enough */
    bool is_cut;        /* the model has not ended it */
} sample;

#define CALL(name, arguments) "\x01" name " " arguments "\x02"
#define PARIS                 CALL("get_weather", "{\"city\": \"Paris\"}")
#define ROME                  CALL("get_weather", "{\"city\": \"Rome\"}")
#define W_PARIS               "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Paris\"}}"
#define W_ROME                "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Rome\"}}"
#define P_PARIS               "{\"name\": \"get_weather\", \"parameters\": {\"city\": \"Paris\"}}"

static const sample samples[] = {
    /* Hermes, Qwen */
    {"hermes", "<tool_call>\n" W_PARIS "\n</tool_call>", PARIS, 0, 0},
    {"hermes", "Let me see.\n<tool_call>\n" W_PARIS "\n</tool_call>", "Let me see." PARIS, 0, 0},
    {"hermes", "<tool_call>" W_PARIS "</tool_call>\n<tool_call>\n" W_ROME "\n</tool_call>\n",
     PARIS ROME, 0, 0},
    {"hermes", "<tool_call>" W_PARIS "</tool_call>\n<tool_call>" W_ROME "</tool_call>", PARIS, 1,
     0},
    {"hermes", "<tool_call>" W_PARIS "</tool_call>\nDone.", PARIS "Done.", 0, 0},
    {"hermes", "<tool_call>" W_PARIS "</tool_call>\n{\"x\":1}", PARIS "{\"x\":1}", 0, 0},
    {"hermes", "<tool_call>" W_PARIS "</tool_call>\n<tool_call>{\"name\":\"add\",\"arg",
     PARIS "<tool_call>{\"name\":\"add\",\"arg", 0, 1}, /* cut: nothing of the first is told */
    {"hermes", "<tool_call>\n" W_PARIS, PARIS, 0, 0},   /* no closing mark */
    {"hermes", "<tool_call>\n{\"name\": \"now\"}\n</tool_call>", CALL("now", "{}"), 0, 0},
    {"hermes", "<tool_call>{\"name\": \"now\", \"arguments\": null}</tool_call>", CALL("now", "{}"),
     0, 0},
    {"hermes", "<tool_call>{\"name\":\"add\",\"arguments\":\"{\\\"a\\\": 1}\"}</tool_call>",
     CALL("add", "{\"a\": 1}"), 0, 0}, /* arguments as a text */
    {"hermes", "<tool_call>{\"name\":\"add\",\"arguments\":{\"a\": 1}\n</tool_call> ok",
     CALL("add", "{\"a\": 1}") "ok", 0, 0}, /* a bracket was forgotten */
    {"hermes", "<tool_call>{\"name\":\"add\",\"arguments\":{\"a\": 1}", CALL("add", "{\"a\": 1}"),
     0, 0},
    {"hermes", "<tool_call>{\"name\":\"add\",\"arguments\":{\"a\": 1}",
     "<tool_call>{\"name\":\"add\",\"arguments\":{\"a\": 1}", 0, 1}, /* cut: not mended */
    {"hermes",
     "<tool_call>{\"arguments\": {\"city\": \"a\nb\"}, \"name\": \"get_weather\"}</tool_call>",
     CALL("get_weather", "{\"city\": \"a\\u000ab\"}"), 0, 0},
    {"hermes",
     "<tool_call>{\"type\":\"function\",\"function\":{\"name\":\"add\",\"arguments\":{}}}",
     CALL("add", "{}"), 0, 0},
    {"hermes",
     "<tool_call>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"</tool_call>\"}}",
     CALL("get_weather", "{\"city\": \"</tool_call>\"}"), 0, 0},
    {"hermes", "Use <tool_call> like this.", "Use <tool_call> like this.", 0, 0},
    {"hermes", "<tool_call>{\"name\": \"unknown\", \"arguments\": {}}</tool_call>",
     "<tool_call>{\"name\": \"unknown\", \"arguments\": {}}</tool_call>", 0, 0},
    {"hermes", "<tool_call>{\"name\": \"now\", \"arguments\": [1]}</tool_call>",
     "<tool_call>{\"name\": \"now\", \"arguments\": [1]}</tool_call>", 0, 0},
    {"hermes", "<tool_call>{broken}</tool_call> <tool_call>" W_ROME "</tool_call>",
     "<tool_call>{broken}</tool_call>" ROME, 0, 0},
    {"hermes", "<tool_call>\n<tool_call>" W_ROME "</tool_call>", "<tool_call>" ROME, 0, 0},
    {"hermes", "a < b, <tool, <tool_cal", "a < b, <tool, <tool_cal", 0, 0},
    {"hermes", W_PARIS, W_PARIS, 0, 0}, /* without its mark it is text */
    {"hermes", "", "", 0, 0},
    {"hermes", " \n ", " \n ", 0, 0},
    {"hermes", "h\xC3\xA9 <tool_call>" W_PARIS "</tool_call> \xE2\x82\xAC",
     "h\xC3\xA9" PARIS "\xE2\x82\xAC", 0, 0},
    /* Phi, Granite */
    {"bar", "<|tool_call|>[" W_PARIS ", " W_ROME "]<|/tool_call|>", PARIS ROME, 0, 0},
    {"bar", "<|tool_call|>[" W_PARIS "]", PARIS, 0, 0},
    /* Mistral */
    {"mistral", "[TOOL_CALLS][" W_PARIS "]", PARIS, 0, 0},
    {"mistral", "[TOOL_CALLS] [" W_PARIS ", " W_ROME "]", PARIS ROME, 0, 0},
    {"mistral", "[TOOL_CALLS][" W_PARIS ", {\"x\":1}", PARIS "{\"x\":1}", 0, 0},
    {"mistral", "[TOOL_CALLS][{\"arguments\": {}, \"name\": \"now\", \"id\": \"abcdefghi\"}]",
     CALL("now", "{}"), 0, 0},
    {"mistral", "Well.[TOOL_CALLS][" W_PARIS, "Well." PARIS, 0, 0},
    {"mistral", "See [1] and [TOOL].", "See [1] and [TOOL].", 0, 0},
    {"mistral", "[TOOL_CALLS][]", "[TOOL_CALLS][]", 0, 0},
    {"args", "[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Paris\"}", PARIS, 0, 0},
    {"args",
     "Two:[TOOL_CALLS]get_weather[ARGS]{\"city\": \"Paris\"}[TOOL_CALLS]now[CALL_ID]a1[ARGS]{}",
     "Two:" PARIS CALL("now", "{}"), 0, 0},
    {"args", "[TOOL_CALLS]nobody[ARGS]{}", "[TOOL_CALLS]nobody[ARGS]{}", 0, 0},
    {"args", "[TOOL_CALLS][" W_PARIS "]", PARIS, 0, 0},
    /* Llama */
    {"llama", P_PARIS, PARIS, 0, 0},
    {"llama", "<|python_tag|>" P_PARIS, PARIS, 0, 0},
    {"llama", P_PARIS "; {\"name\": \"now\", \"parameters\": {}}", PARIS CALL("now", "{}"), 0, 0},
    {"llama", "\n\n" W_PARIS, PARIS, 0, 0},
    {"llama", "{\"type\": \"function\", \"name\": \"now\", \"parameters\": {}}", CALL("now", "{}"),
     0, 0},
    {"llama", "{\"function\": \"now\", \"parameters\": {}}", CALL("now", "{}"), 0, 0},
    {"llama", "Sure:\n" P_PARIS "\nThere.", "Sure:" PARIS "There.", 0, 0},
    {"llama", "In words: " P_PARIS, "In words: " P_PARIS, 0, 0}, /* not where a line begins */
    {"llama", "{\"a\": 1}", "{\"a\": 1}", 0, 0},
    {"llama", "{\"name\": \"Bob\", \"age\": 3}", "{\"name\": \"Bob\", \"age\": 3}", 0, 0},
    {"llama", "{\"name\": \"get_weather\", \"parameters\": {}, \"x\": 1}",
     "{\"name\": \"get_weather\", \"parameters\": {}, \"x\": 1}", 0, 0},
    {"llama", "{}", "{}", 0, 0},
    {"llama", "<|python_tag|>print(1)", "<|python_tag|>print(1)", 0, 0},
    /* Anything else */
    {"generic", W_PARIS, PARIS, 0, 0},
    {"generic", "[" W_PARIS ", " W_ROME "]", PARIS ROME, 0, 0},
    {"generic", "```json\n" W_PARIS "\n```", "```json" PARIS "```", 0, 0},
    {"generic", "[1, 2]", "[1, 2]", 0, 0},
    {"generic", "{", "{", 0, 0},
    {"generic", "{\"name\": \"get_wea", "{\"name\": \"get_wea", 0, 1},
};

static void expect(const sample *s, cut c) {
    char *got = read_cut(s->family, s->single, !s->is_cut, s->answer, c);
    if (strcmp(got, s->told) != 0)
        fail_msg("%s, cut at %zu and every %zu:\n%s\nexpected\n%s\ngot\n%s", s->family, c.at,
                 c.every, s->answer, s->told, got);
    base_free(got);
}

static void test_answers(void **state) {
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(samples); i++) {
        expect(&samples[i], (cut){0, 0});
        expect(&samples[i], (cut){0, 1});
        for (size_t at = 1; at < strlen(samples[i].answer); at++) expect(&samples[i], (cut){at, 0});
    }
}

/* What is held back while nothing is decided. */
static void test_text_flows(void **state) {
    static const struct {
        const char *family, *answer, *shown;
    } rows[] = {{"hermes", "Hello", "Hello"},
                {"hermes", "Hello ", "Hello"},
                {"hermes", "a <", "a"},
                {"hermes", "a <b", "a <b"},
                {"hermes", "a <tool_c", "a"},
                {"hermes", "a <tool_call>{", "a"},
                {"hermes", "a <tool_call>x", "a <tool_call>x"},
                {"llama", "{\"na", ""},
                {"llama", "{\"x", "{\"x"},
                {"llama", "{\"name\": \"ge", ""},
                {"llama", "{\"name\": \"gx", "{\"name\": \"gx"},
                {"llama", "a {\"na", "a {\"na"},
                {"generic", "[1", "[1"},
                {"args", "[TOOL_CALLS]get_w", ""},
                {"args", "[TOOL_CALLS]gx", "[TOOL_CALLS]gx"}};
    (void)state;
    chat_tools tools = make_tools();
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        base_buf told = {0};
        chat_reader *r = NULL;
        const chat_reader_hooks hooks = {on_text, on_call, &told};
        chat_reader_create(&r, chat_family_named(rows[i].family), &tools, false, &hooks);
        for (const char *p = rows[i].answer; *p; p++) chat_reader_put(r, (base_str){p, 1});
        assert_string_equal(told.data ? told.data : "", rows[i].shown);
        chat_reader_free(&r);
        base_buf_free(&told);
    }
    chat_tools_free(&tools);
}

/* Time stays within bounds whatever is written. */
static void test_much_that_is_no_call(void **state) {
    static const char *const pieces[] = {"<tool_call>{\"name\":\"now\",\"arguments\":{\"a\":\"",
                                         "<tool_call>{", "{\"name\":\"now\",", "[[[{", "\n{\""};
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(pieces); i++)
        for (int bare = 0; bare < 2; bare++) {
            base_buf all = {0};
            while (all.len < 200000) base_buf_puts(&all, pieces[i]);
            char *got = read_cut(bare ? "generic" : "hermes", false, false, all.data, (cut){0, 7});
            assert_string_equal(got, all.data);
            base_free(got);
            base_buf_free(&all);
        }
}

static void test_families(void **state) {
    static const struct {
        const char *template, *family;
    } rows[] = {{"{{ tools }} <tool_call></tool_call>", "hermes"},
                {"{{ tools }}[AVAILABLE_TOOLS][TOOL_CALLS]", "mistral"},
                {"{{ tools }}[TOOL_CALLS]a[ARGS]", "args"},
                {"{{ tools }}<|tool_call|>", "bar"},
                {"{{ tools }}<|python_tag|> \"parameters\":", "llama"},
                {"{{ tools }}\"parameters\":", "generic"},
                {"{{ tools }}", "generic"}};
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(rows); i++)
        assert_string_equal(chat_family_of(base_str_of(rows[i].template), NULL)->name,
                            rows[i].family);
    assert_null(chat_family_named("nobody"));
}

static void test_tools(void **state) {
    static const char *const bad[] = {
        "", "{}", "[1]", "[{}]", "[{\"function\":{}}]", "[{\"name\":1}]"};
    (void)state;
    chat_tools t = make_tools();
    assert_int_equal(t.n, 3);
    assert_string_equal(t.list[2].schema, "{\"type\":\"object\",\"properties\":{}}");
    assert_true(t.list[1].strict && !t.list[0].strict);
    chat_tools_free(&t);
    for (size_t i = 0; i < BASE_COUNT(bad); i++) {
        rotor_error err = {0};
        assert_int_equal(chat_tools_read(&t, base_str_of(bad[i]), &err), ROTOR_E_FORMAT);
        assert_non_null(strstr(err.message, "tools"));
    }
}

/* ==== Rules =================================================================================== */

static bool keeps(const chat_family *f, bool single, const char *answer) {
    chat_tools t = make_tools();
    chat_calls_rules rules = {0};
    grammar_part parts[3];
    static const char *const names[] = {"args-0", "args-1", "args-2"};
    grammar *g = NULL;
    grammar_masks *m = NULL;
    rotor_error err = {0};
    uint32_t s;
    for (size_t i = 0; i < 3; i++)
        parts[i] = (grammar_part){
            .rule = names[i], .schema = base_str_of(t.list[i].schema), .what = t.list[i].name};
    assert_int_equal(chat_calls_write(f, &t, single, &rules), ROTOR_OK);
    if (grammar_from_parts(&g, (base_str){rules.text.data, rules.text.len}, parts, 3, &err) !=
        ROTOR_OK)
        fail_msg("%s: %s\n%s", f->name, err.message, rules.text.data);
    assert_int_equal(grammar_masks_create(&m, g, NULL, NULL, NULL), ROTOR_OK);
    s = grammar_start(m);
    assert_int_equal(grammar_put(m, s, base_str_of(answer), &s, NULL), ROTOR_OK);
    const bool ok = s != GRAMMAR_DEAD && grammar_may_end(m, s);
    grammar_masks_free(&m);
    grammar_free(&g);
    chat_calls_rules_free(&rules);
    chat_tools_free(&t);
    return ok;
}

static void test_rules(void **state) {
    static const struct {
        const char *family, *one, *two, *wrong;
    } rows[] = {
        {"hermes", "<tool_call>\n" W_PARIS "\n</tool_call>",
         "<tool_call>\n" W_PARIS "\n</tool_call>\n<tool_call>\n" W_ROME "\n</tool_call>", W_PARIS},
        {"bar", "<|tool_call|>[" W_PARIS "]", "<|tool_call|>[" W_PARIS ", " W_ROME "]",
         "<|tool_call|>[]"},
        {"mistral", "[TOOL_CALLS][" W_PARIS "]", "[TOOL_CALLS][" W_PARIS ", " W_ROME "]",
         "[TOOL_CALLS]" W_PARIS},
        {"args", "[TOOL_CALLS]now[ARGS]{}",
         "[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]add[ARGS]{\"a\": 1}", "[TOOL_CALLS]add[ARGS]1"},
        {"llama", "<|python_tag|>" P_PARIS, NULL, W_PARIS},
        {"llama", P_PARIS, NULL, P_PARIS "\n" P_PARIS},
        {"generic", W_PARIS, W_PARIS "\n" W_ROME, P_PARIS}};
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        const chat_family *f = chat_family_named(rows[i].family);
        assert_true(keeps(f, false, rows[i].one));
        assert_true(keeps(f, true, rows[i].one));
        assert_false(keeps(f, false, rows[i].wrong));
        if (rows[i].two) assert_true(keeps(f, false, rows[i].two));
        if (rows[i].two) assert_false(keeps(f, true, rows[i].two));
        char *got = read_cut(rows[i].family, false, true, rows[i].one, (cut){0, 1});
        assert_int_equal(got[0], 1); /* what rules allow is a call and nothing else */
        assert_int_equal(got[strlen(got) - 1], 2);
        base_free(got);
    }
    assert_false(keeps(chat_family_named("hermes"), false,
                       "<tool_call>{\"name\": \"get_weather\", \"arguments\": {}}</tool_call>"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),  cmocka_unit_test(test_text_flows),
        cmocka_unit_test(test_families), cmocka_unit_test(test_much_that_is_no_call),
        cmocka_unit_test(test_tools),    cmocka_unit_test(test_rules),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
