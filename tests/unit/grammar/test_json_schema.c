/* SPDX-License-Identifier: MIT
 *
 * Schemas: documents that each keyword accepts and refuses, and what is said of keywords that
 * cannot be kept to. Random schemas are held against Python's jsonschema in
 * tests/python/test_grammar_schemas.py.
 */
#include "grammar_rig.h"

static grammar *read_schema(const char *json) {
    grammar *g = NULL;
    rotor_error err = {0};
    if (grammar_from_schema(&g, base_str_of(json), &err) != ROTOR_OK)
        fail_msg("%s\n%s", err.message, json);
    return g;
}

typedef struct schema_case {
    const char *schema;  /* schema */
    const char *good[8]; /* documents it accepts, NULL behind */
    const char *bad[8];  /* documents it does not, nor anything that begins so and ends there */
} schema_case;

static const schema_case cases[] = {
    {"{}",
     {"1", "\"a\"", "null", "true", "[1,{\"a\":[]}]", "{}", "-0.5e10", "[ ]"},
     {"tru", "01", "+1", "{a:1}", "[1,]", "'a'", "1 "}},
    {"true", {"{\"a\": 1}", "[\n  1,\n  2\n]"}, {"nil", "[1,  2]"}},
    {"{\"type\":\"string\"}",
     {"\"\"", "\"a\\n\\\"\\u00e9\\\\\"", "\"\xC3\xA9\"", "\"\\ud83d\\ude00\"", "\"\x7F\""},
     {"\"a\nb\"", "\"\\x\"", "\"\\ud83d\"", "\"\\ude00\"", "a", "\"\xC3\""}},
    {"{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
     {"\"ab\"", "\"abc\"", "\"\xE2\x82\xAC\xF0\x9F\x98\x80\"", "\"\\n\\u0041\\ud83d\\ude00\""},
     {"\"a\"", "\"abcd\"", "\"\\n\""}},
    {"{\"type\":\"integer\"}", {"0", "-7", "1234567890123456789"}, {"1.0", "01", "-", "1e3"}},
    {"{\"type\":\"integer\",\"minimum\":27,\"maximum\":415}",
     {"27", "99", "100", "399", "400", "415"},
     {"26", "416", "7", "0", "1000", "-30", "027"}},
    {"{\"type\":\"integer\",\"minimum\":-5,\"exclusiveMaximum\":12}",
     {"-5", "-1", "0", "11"},
     {"-6", "12", "-10", "-0", "20"}},
    {"{\"type\":\"integer\",\"exclusiveMinimum\":9.5}",
     {"10", "99", "123456789"},
     {"9", "0", "-10"}},
    {"{\"type\":\"integer\",\"maximum\":-100}",
     {"-100", "-101", "-999", "-1000"},
     {"-99", "0", "5"}},
    {"{\"type\":\"number\"}", {"0", "-1.5", "1e5", "2.5E-3"}, {".5", "1.", "1e", "--1", "NaN"}},
    {"{\"type\":\"number\",\"minimum\":0,\"maximum\":1}",
     {"0", "0.5", "1", "1.0", "0.000", "1.000"},
     {"1.1", "-0.1", "2", "1.01", "5e-1"}},
    {"{\"type\":\"number\",\"exclusiveMinimum\":0,\"exclusiveMaximum\":10}",
     {"0.1", "9.99", "1", "0.001"},
     {"0", "0.0", "10", "10.0", "-1"}},
    {"{\"type\":\"number\",\"exclusiveMinimum\":-3,\"maximum\":-1}",
     {"-1", "-2.99", "-1.0", "-2"},
     {"-3", "-3.0", "-0.5", "0", "1", "-1.5e1"}},
    {"{\"type\":[\"boolean\",\"null\"]}", {"true", "false", "null"}, {"0", "\"\""}},
    {"{\"enum\":[1,\"a\\\"b\",null,2.5,0.1,{\"k\":[1,2]}]}",
     {"1", "\"a\\\"b\"", "null", "2.5", "0.1", "{\"k\":[1,2]}"},
     {"2", "\"a\"", "2.50", "{}"}},
    {"{\"const\":\"\xC3\xA9\"}", {"\"\xC3\xA9\""}, {"\"e\""}},
    {"{\"type\":\"string\",\"enum\":[1,\"a\"]}", {"\"a\""}, {"1"}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"null\"}},"
     "\"required\":[\"a\"]}",
     {"{\"a\":1}", "{\"a\":1,\"b\":null}", "{ \"a\": 1, \"b\": null }", "{\n  \"a\": 1\n}"},
     {"{}", "{\"b\":null}", "{\"b\":null,\"a\":1}", "{\"a\":1,}", "{\"a\":1,\"c\":2}",
      "{\"a\":\"1\"}"}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{},\"b\":{},\"c\":{}}}",
     {"{}", "{\"a\":1}", "{\"b\":1}", "{\"c\":1}", "{\"a\":1,\"c\":2}", "{\"b\":1,\"c\":2}",
      "{\"a\":1,\"b\":2,\"c\":3}"},
     {"{,\"a\":1}", "{\"a\":1 \"b\":2}", "{\"c\":1,\"a\":2}", "{\"d\":1}"}},
    {"{\"properties\":{\"ab\":{\"type\":\"null\"},\"a\":{\"type\":\"null\"}},"
     "\"additionalProperties\":{\"type\":\"integer\"}}",
     {"{\"ab\":null}", "{\"x\":1}", "{\"a\":null,\"abc\":1}", "{\"\":1}", "{\"b\":2,\"aab\":3}",
      "{\"ac\\u0062\":1}"},
     {"{\"ab\":1}", "{\"a\":1}", "{\"x\":null}", "{\"a\\u0062\":1}", "{\"\\u0061b\":1}"}},
    {"{\"type\":\"object\"}", {"{}", "{\"a\":{\"b\":[]}}", "{\"a\":1, \"b\":2}"}, {"[]", "{1:2}"}},
    {"{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\"},\"minProperties\":1,"
     "\"maxProperties\":2}",
     {"{\"a\":1}", "{\"a\":1,\"b\":2}"},
     {"{}", "{\"a\":1,\"b\":2,\"c\":3}", "{\"a\":null}"}},
    {"{\"type\":\"object\",\"required\":[\"z\"],\"additionalProperties\":{\"type\":\"integer\"}}",
     {"{\"z\":1}"},
     {"{}", "{\"z\":\"\"}"}},
    {"{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"minItems\":1,\"maxItems\":3}",
     {"[1]", "[1,2,3]", "[1, 2]"},
     {"[]", "[1,2,3,4]", "[null]"}},
    {"{\"type\":\"array\",\"maxItems\":0}", {"[]"}, {"[1]"}},
    {"{\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"null\"}],\"items\":{\"type\":\"string\"}"
     ","
     "\"minItems\":1}",
     {"[1]", "[1,null]", "[1,null,\"a\",\"b\"]"},
     {"[]", "[null]", "[1,2]", "[1,\"a\"]"}},
    {"{\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"null\"}],\"items\":false,\"minItems\":"
     "2}",
     {"[1,null]"},
     {"[1]", "[1,null,1]"}},
    {"{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\",\"maxLength\":1}]}",
     {"12", "\"a\""},
     {"\"ab\"", "null"}},
    {"{\"oneOf\":[{\"const\":1},{\"const\":12}]}", {"1", "12"}, {"2", "123"}},
    {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"null\"}},"
     "\"additionalProperties\":false,\"anyOf\":[{\"required\":[\"a\"]},{\"required\":[\"b\"]}]}",
     {"{\"a\":1}", "{\"b\":null}", "{\"a\":1,\"b\":null}"},
     {"{}"}},
    {"{\"allOf\":[{\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"]},"
     "{\"properties\":{\"b\":{\"type\":\"null\"},\"a\":{\"minimum\":5}}}]}",
     {"{\"a\":5}", "{\"a\":77,\"b\":null}"},
     {"{\"a\":4}", "{}"}},
    {"{\"allOf\":[{\"type\":\"integer\",\"minimum\":3},{\"type\":\"number\",\"maximum\":4}]}",
     {"3", "4"},
     {"2", "5", "3.5"}},
    {"{\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"integer\"},"
     "\"next\":{\"anyOf\":[{\"$ref\":\"#/$defs/n\"},{\"type\":\"null\"}]}},"
     "\"required\":[\"v\",\"next\"]}},\"$ref\":\"#/$defs/n\"}",
     {"{\"v\":1,\"next\":null}", "{\"v\":1,\"next\":{\"v\":2,\"next\":null}}"},
     {"{\"v\":1}", "null", "{\"v\":1,\"next\":{}}"}},
    {"{\"type\":\"array\",\"items\":{\"$ref\":\"#\"}}", {"[]", "[[],[[]]]"}, {"[1]", "[[}"}},
    {"{\"definitions\":{\"a/b~c\":{\"type\":\"null\"}},\"properties\":{\"x\":"
     "{\"$ref\":\"#/definitions/a~1b~0c\",\"description\":\"d\"}}}",
     {"{\"x\":null}"},
     {"{\"x\":1}"}},
    {"{\"$defs\":{\"s\":{\"type\":\"string\",\"maxLength\":3}},\"$ref\":\"#/$defs/"
     "s\",\"minLength\":3}",
     {"\"abc\""},
     {"\"ab\"", "\"abcd\""}},
    {"{\"type\":\"string\",\"format\":\"date\"}",
     {"\"2024-02-29\"", "\"1999-12-31\"", "\"2000-02-29\"", "\"0001-01-01\""},
     {"\"2023-02-29\"", "\"1900-02-29\"", "\"2024-04-31\"", "\"2024-13-01\"", "\"0000-01-01\"",
      "\"24-01-01\""}},
    {"{\"type\":\"string\",\"format\":\"date-time\"}",
     {"\"2024-02-29T23:59:59Z\"", "\"2024-01-01T00:00:00.123+01:30\""},
     {"\"2024-02-30T00:00:00Z\"", "\"2024-01-01T24:00:00Z\"", "\"2024-01-01 00:00:00Z\"",
      "\"2024-01-01T00:00:00\""}},
    {"{\"type\":\"string\",\"format\":\"time\"}", {"\"12:30:00Z\""}, {"\"12:60:00Z\""}},
    {"{\"type\":\"string\",\"format\":\"uuid\"}",
     {"\"01234567-89ab-cdef-0123-456789ABCDEF\""},
     {"\"0123456789abcdef0123456789abcdef\""}},
    {"{\"type\":\"string\",\"format\":\"ipv4\"}",
     {"\"127.0.0.1\"", "\"255.249.10.0\""},
     {"\"256.0.0.1\"", "\"1.2.3\"", "\"01.2.3.4\""}},
    {"{\"type\":\"string\",\"pattern\":\"^[a-c]+\\\\d{2,3}$\"}",
     {"\"a12\"", "\"abc123\""},
     {"\"a1\"", "\"12\"", "\"a1234\"", "\"d12\""}},
    {"{\"type\":\"string\",\"pattern\":\"b\"}",
     {"\"b\"", "\"abc\"", "\"\\nb\\\"\""},
     {"\"a\"", "\"\""}},
    {"{\"type\":\"string\",\"pattern\":\"^(a|b)*c?$|^x\"}",
     {"\"\"", "\"abac\"", "\"xyz\"", "\"c\""},
     {"\"cc\"", "\"d\""}},
    {"{\"type\":\"string\",\"pattern\":\"^[\\\"\\\\\\\\\\\\n]\\\\w\\\\W.$\"}",
     {"\"\\\"a-b\"", "\"\\\\_ \\\\\"", "\"\\n0\\t!\""},
     {"\"a-b\"", "\"\\\"--b\""}},
    {"{\"type\":\"string\",\"pattern\":\"^[^a-z\\\\s]{2}\\\\x41\\\\u00e9(?:z)??$\"}",
     {"\"00A\xC3\xA9\"", "\"\\\"\\u0001A\xC3\xA9z\""},
     {"\"a0A\xC3\xA9\"", "\"0 A\xC3\xA9\""}},
    {"{\"type\":\"object\",\"properties\":{\"a\":false,\"b\":true}}",
     {"{\"b\":1}", "{}"},
     {"{\"a\":1}"}},
};

static void keywords_are_kept_to(void **state) {
    (void)state;
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        grammar *g = read_schema(cases[i].schema);
        grammar_masks *m = masks_for(g, NULL);
        for (size_t k = 0; k < 8 && cases[i].good[k]; k++)
            if (judge(m, base_str_of(cases[i].good[k])) != ENDS)
                fail_msg("%s\nrefuses %s", cases[i].schema, cases[i].good[k]);
        for (size_t k = 0; k < 8 && cases[i].bad[k]; k++)
            if (judge(m, base_str_of(cases[i].bad[k])) == ENDS)
                fail_msg("%s\naccepts %s", cases[i].schema, cases[i].bad[k]);
        grammar_masks_free(&m);
        grammar_free(&g);
    }
}

/* Every whole number between all bounds from -25 to 25 and around powers of ten. */
static void integers_are_exact(void **state) {
    (void)state;
    static const int bounds[] = {-1001, -1000, -999, -110, -100, -99, -25, -10, -9,  -1,  0,
                                 1,     7,     9,    10,   11,   25,  99,  100, 105, 999, 1000};
    for (size_t a = 0; a < BASE_COUNT(bounds); a++)
        for (size_t b = a; b < BASE_COUNT(bounds); b++) {
            char text[128];
            snprintf(text, sizeof text, "{\"type\":\"integer\",\"minimum\":%d,\"maximum\":%d}",
                     bounds[a], bounds[b]);
            grammar *g = read_schema(text);
            grammar_masks *m = masks_for(g, NULL);
            for (int x = -1200; x <= 1200; x++) {
                snprintf(text, sizeof text, "%d", x);
                const bool got = judge(m, base_str_of(text)) == ENDS;
                if (got != (x >= bounds[a] && x <= bounds[b]))
                    fail_msg("%d in %d..%d: %d", x, bounds[a], bounds[b], got);
            }
            grammar_masks_free(&m);
            grammar_free(&g);
        }
}

typedef struct wrong {
    const char *schema, *message; /* a schema, and a part of what is said of it */
    rotor_status status;          /* returned */
} wrong;

static void errors_name_their_place(void **state) {
    (void)state;
    static const wrong list[] = {
        {"", "schema line 1", ROTOR_E_FORMAT},
        {"{\"a\":1,\"a\":2}", "duplicate", ROTOR_E_FORMAT},
        {"3", "schema #: a schema is an object, true or false", ROTOR_E_FORMAT},
        {"{\"properties\":{\"a\":{\"type\":\"strin\"}}}",
         "schema #/properties/a: type is neither a type", ROTOR_E_FORMAT},
        {"{\"items\":{\"not\":{}}}", "schema #/items: the keyword \"not\" is not supported",
         ROTOR_E_UNSUPPORTED},
        {"{\"$defs\":{\"x\":{\"if\":{}}},\"properties\":{\"a\":{\"$ref\":\"#/$defs/x\"}}}",
         "schema #/$defs/x: the keyword \"if\"", ROTOR_E_UNSUPPORTED},
        {"{\"patternProperties\":{}}", "\"patternProperties\"", ROTOR_E_UNSUPPORTED},
        {"{\"$ref\":\"#/$defs/x\"}", "points at nothing", ROTOR_E_FORMAT},
        {"{\"$ref\":\"other.json\"}", "does not begin with #/", ROTOR_E_UNSUPPORTED},
        {"{\"type\":\"string\",\"format\":\"email\"}", "format email is not supported",
         ROTOR_E_UNSUPPORTED},
        {"{\"type\":\"string\",\"pattern\":\"(?=a)\"}", "looking around", ROTOR_E_UNSUPPORTED},
        {"{\"type\":\"string\",\"pattern\":\"a\\\\b\"}", "byte 2: this escape",
         ROTOR_E_UNSUPPORTED},
        {"{\"type\":\"string\",\"pattern\":\"(a)\\\\1\"}", "this escape", ROTOR_E_UNSUPPORTED},
        {"{\"type\":\"string\",\"pattern\":\"a^b\"}", "^ and $", ROTOR_E_UNSUPPORTED},
        {"{\"type\":\"string\",\"pattern\":\"[a\"}", "no end", ROTOR_E_UNSUPPORTED},
        {"{\"type\":\"string\",\"pattern\":\"a)\"}", "too many", ROTOR_E_UNSUPPORTED},
        {"{\"type\":\"string\",\"pattern\":\"*\"}", "nothing to repeat", ROTOR_E_UNSUPPORTED},
        {"{\"type\":\"string\",\"pattern\":\"a\",\"minLength\":3}", "only one of",
         ROTOR_E_UNSUPPORTED},
        {"{\"type\":\"string\",\"maxLength\":-1}", "no whole number", ROTOR_E_FORMAT},
        {"{\"type\":\"string\",\"maxLength\":1e9}", "above 100000", ROTOR_E_UNSUPPORTED},
        {"{\"type\":\"number\",\"minimum\":0.5}", "whole numbers here", ROTOR_E_UNSUPPORTED},
        {"{\"type\":\"integer\",\"multipleOf\":3}", "multipleOf", ROTOR_E_UNSUPPORTED},
        {"{\"type\":\"array\",\"uniqueItems\":true}", "uniqueItems", ROTOR_E_UNSUPPORTED},
        {"{\"enum\":[\"a\"],\"maxLength\":3}", "beside listed values", ROTOR_E_UNSUPPORTED},
        {"{\"enum\":[]}", "no text can fulfil it", ROTOR_E_FORMAT},
        {"{\"$ref\":\"#\"}", "begins with itself", ROTOR_E_FORMAT},
        {"{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}", "begins with itself",
         ROTOR_E_FORMAT},
        {"{\"allOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}", "nested deeper", ROTOR_E_FULL},
        {"{\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}", "never ends",
         ROTOR_E_FORMAT},
        {"{\"allOf\":[{\"pattern\":\"a\"},{\"pattern\":\"b\"}]}",
         "schema #/allOf/1: two different values of pattern", ROTOR_E_UNSUPPORTED},
        {"{\"allOf\":[{\"properties\":{\"a\":{}},\"additionalProperties\":false},"
         "{\"properties\":{\"b\":{}}}]}",
         "is about \"b\" of another", ROTOR_E_UNSUPPORTED},
    };
    for (size_t i = 0; i < BASE_COUNT(list); i++) {
        grammar *g = NULL;
        rotor_error err = {0};
        const rotor_status got = grammar_from_schema(&g, base_str_of(list[i].schema), &err);
        if (got != list[i].status || !strstr(err.message, list[i].message))
            fail_msg("%s\nsays %d '%s', not %d '%s'", list[i].schema, got, err.message,
                     list[i].status, list[i].message);
        assert_null(g);
    }
}

static char *nested(const char *before, const char *inside, const char *behind, int n) {
    base_buf b = {0};
    for (int i = 0; i < n; i++) base_buf_puts(&b, before);
    base_buf_puts(&b, inside);
    for (int i = 0; i < n; i++) base_buf_puts(&b, behind);
    assert_false(b.failed);
    return b.data;
}

static void large_schemas_are_bounded(void **state) {
    (void)state;
    rotor_error err = {0};
    grammar *g = NULL;
    char *deep = nested("{\"items\":", "{}", "}", 1000);
    assert_int_equal(grammar_from_schema(&g, base_str_of(deep), &err), ROTOR_E_FULL);
    char *fits = nested("{\"items\":", "{}", "}", 150); /* not 2^150 parts */
    assert_int_equal(grammar_from_schema(&g, base_str_of(fits), &err), ROTOR_OK);
    grammar_free(&g);
    char *keys = nested("{\"properties\":{\"a\":", "{}", "}}", 150);
    assert_int_equal(grammar_from_schema(&g, base_str_of(keys), &err), ROTOR_OK);
    grammar_free(&g);
    char *both = nested("{\"allOf\":[{\"items\":{}},{\"items\":", "{}", "}]}", 90);
    const rotor_status status = grammar_from_schema(&g, base_str_of(both), &err);
    assert_true(status == ROTOR_OK || status == ROTOR_E_FULL);
    grammar_free(&g);
    base_free(deep);
    base_free(fits);
    base_free(keys);
    base_free(both);
}

/* before, then n parts with commas between, whose # are their numbers and whose % are #, then
 * behind. */
static char *many(const char *before, const char *part, int n, const char *behind) {
    base_buf b = {0};
    base_buf_puts(&b, before);
    for (int i = 0; i < n; i++) {
        if (i) base_buf_puts(&b, ",");
        for (const char *c = part; *c; c++) {
            if (*c == '#')
                base_buf_printf(&b, "%d", i);
            else
                base_buf_append(&b, *c == '%' ? "#" : c, 1);
        }
    }
    base_buf_puts(&b, behind);
    assert_false(b.failed);
    return b.data;
}

static char *three(char *a, char *b, char *c) {
    base_buf all = {0};
    base_buf_puts(&all, a);
    base_buf_puts(&all, b);
    base_buf_puts(&all, c);
    assert_false(all.failed);
    base_free(a);
    base_free(b);
    base_free(c);
    return all.data;
}

/* Takes text. Small schemas that ask for much end soon, and say so. */
static void takes_too_much(const char *what, char *text) {
    rotor_error err = {0};
    grammar *g = NULL;
    assert_true(strlen(text) <= 1 << 20);
    const uint64_t start = base_thread_cpu_us();
    const rotor_status status = grammar_from_schema(&g, base_str_of(text), &err);
    const uint64_t us = base_thread_cpu_us() - start;
    if (status != ROTOR_E_FULL || us > 5 * 1000000)
        fail_msg("%s: %d '%s' after %.1f s", what, (int)status, err.message, (double)us / 1e6);
    assert_null(g);
    base_free(text);
}

static void many_required_keys_are_read(void **state) {
    (void)state;
    char *text = three(many("{\"required\":[", "\"a#\"", 5000, "],"),
                       many("\"properties\":{", "\"a#\":{\"type\":\"null\"}", 5000, "}"),
                       many("}", "", 0, ""));
    grammar *g = read_schema(text);
    grammar_free(&g);
    base_free(text);
}

static void work_is_bounded(void **state) {
    (void)state;
    takes_too_much("what stands beside many alternatives",
                   three(many("{\"type\":\"null\",", "\"x-#\":1", 40000, ","),
                         many("\"anyOf\":[", "{\"x-a\":1}", 40000, "]"), many("}", "", 0, "")));
    takes_too_much("values in common",
                   three(many("{\"allOf\":[{\"enum\":[", "#", 50000, "]},"),
                         many("{\"enum\":[", "-1#", 50000, "]}"), many("]}", "", 0, "")));
    takes_too_much("required keys joined",
                   three(many("{\"allOf\":[{\"required\":[", "\"a#\"", 40000, "]},"),
                         many("{\"required\":[", "\"b#\"", 40000, "]}"), many("]}", "", 0, "")));
    takes_too_much("merged schemas in each other",
                   many("{\"allOf\":[", "{\"items\":{\"maxLength\":#}}", 30000, "]}"));
    takes_too_much(
        "equal lists, again and again",
        three(many("{\"$defs\":{\"a\":{\"enum\":[", "#", 20000, "]},"),
              many("\"b\":{\"enum\":[", "#", 20000, "]}},\"allOf\":["),
              many("{\"$ref\":\"#/$defs/a\"},", "{\"$ref\":\"%/$defs/b\"}", 20000, "]}")));
    takes_too_much("a schema of other keys, for each",
                   three(many("{\"required\":[", "\"a#\"", 30000, "],"),
                         many("\"additionalProperties\":{", "\"x-#\":1", 30000, "}"),
                         many("}", "", 0, "")));
}

/* Schemas as rules of a grammar; references stay inside their own. */
static void schemas_are_parts_of_grammars(void **state) {
    static const char gbnf[] = "root ::= \"<\" one \">\" space two";
    const grammar_part parts[] = {
        {"one", base_str_of("{\"$ref\":\"#/$defs/v\",\"$defs\":{\"v\":{\"enum\":[\"a\"]}}}"),
         "first", 0},
        {"two", base_str_of("{\"$ref\":\"#/$defs/v\",\"$defs\":{\"v\":{\"type\":\"integer\"}}}"),
         "second", 0}};
    const grammar_part bad = {"one", base_str_of("{\"not\":{}}"), "first", 0};
    static const struct {
        const char *text;
        bool fits;
    } rows[] = {
        {"<\"a\"> 12", true}, {"<\"a\">12", true}, {"<1>\"a\"", false}, {"<\"b\"> 1", false}};
    grammar *g = NULL;
    grammar_masks *m = NULL;
    rotor_error err = {0};
    (void)state;
    assert_int_equal(grammar_from_parts(&g, base_str_of(gbnf), parts, 2, &err), ROTOR_OK);
    assert_int_equal(grammar_masks_create(&m, g, NULL, NULL, NULL), ROTOR_OK);
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        uint32_t s = grammar_start(m);
        assert_int_equal(grammar_put(m, s, base_str_of(rows[i].text), &s, NULL), ROTOR_OK);
        assert_int_equal(s != GRAMMAR_DEAD && grammar_may_end(m, s), rows[i].fits);
    }
    grammar_masks_free(&m);
    grammar_free(&g);
    assert_int_equal(grammar_from_parts(&g, base_str_of("root ::= one"), &bad, 1, &err),
                     ROTOR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "first"));
    assert_int_equal(grammar_from_parts(&g, base_str_of("root ::= three"), parts, 2, &err),
                     ROTOR_E_FORMAT);
    for (long n = 1;; n++) {
        base_fault_after(n);
        const rotor_status st = grammar_from_parts(&g, base_str_of(gbnf), parts, 2, &err);
        const bool fired = base_fault_fired();
        base_fault_after(0);
        assert_true(st == ROTOR_OK || (fired && st == ROTOR_E_NOMEM));
        if (st == ROTOR_OK) grammar_free(&g);
        if (!fired) break;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keywords_are_kept_to),
        cmocka_unit_test(integers_are_exact),
        cmocka_unit_test(errors_name_their_place),
        cmocka_unit_test(large_schemas_are_bounded),
        cmocka_unit_test(many_required_keys_are_read),
        cmocka_unit_test(work_is_bounded),
        cmocka_unit_test(schemas_are_parts_of_grammars),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
