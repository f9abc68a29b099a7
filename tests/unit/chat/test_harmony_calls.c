/* SPDX-License-Identifier: MIT
 *
 * Rules of messages that may call functions: what may come behind every beginning of every form of
 * header, held against a list of all of them; arguments; and that nothing but a mark is a mark.
 */
#include "harmony_rig.h"

#include "chat/calls.h"
#include "grammar/grammar.h"

#define SCHEMA(value)                                                                              \
    "{\"type\":\"object\",\"properties\":{\"v\":{\"const\":" value                                 \
    "}},\"required\":[\"v\"],\"additionalProperties\":false}"
#define TOOL(name, value)                                                                          \
    "{\"type\":\"function\",\"function\":{\"name\":\"" name "\",\"parameters\":" SCHEMA(value) "}" \
                                                                                               "}"
/* The name of one begins with that of the other. */
#define TOOLS "[" TOOL("th", "1") "," TOOL("th.2", "\"<|call|>\"") "]"

typedef struct rig {
    text_vocab *v;    /* owned */
    harmony h;        /* its marks */
    grammar_words *w; /* owned */
    grammar *g;       /* owned */
    grammar_masks *m; /* owned */
} rig;

static grammar_use use_of(const void *user, uint32_t id) {
    const harmony *h = user;
    const harmony_rule_mark mark = harmony_rule_mark_of(h, id);
    if (mark != HARMONY_RULE_MARKS) return (grammar_use)(GRAMMAR_MARKS + (int)mark);
    return harmony_may_write(h, id) && !harmony_is_mark(h, id) ? GRAMMAR_WRITES : GRAMMAR_NEVER;
}

static rig make(bool required, bool single, const char *without) {
    rig r = {.v = small_vocab(TEXT_CONTROL, without)};
    static const char *const names[] = {"args-0", "args-1"};
    grammar_part parts[2 + HARMONY_RULE_MARKS];
    base_buf text = {0};
    chat_tools t;
    rotor_error err = {0};
    assert_int_equal(harmony_find(&r.h, r.v, NULL), ROTOR_OK);
    assert_int_equal(chat_tools_read(&t, base_str_of(TOOLS), &err), ROTOR_OK);
    for (size_t i = 0; i < 2; i++)
        parts[i] = (grammar_part){.rule = names[i], .schema = base_str_of(t.list[i].schema)};
    for (size_t i = 0; i < HARMONY_RULE_MARKS; i++)
        parts[2 + i] = (grammar_part){.rule = harmony_rule_mark_name(i), .mark = (uint32_t)i};
    assert_null(harmony_rule_mark_name(HARMONY_RULE_MARKS));
    assert_int_equal(harmony_write_rules(&t, required, single, &text), ROTOR_OK);
    if (grammar_from_parts(&r.g, (base_str){text.data, text.len}, parts, BASE_COUNT(parts), &err))
        fail_msg("%s\n%s", err.message, text.data);
    assert_int_equal(grammar_words_create(&r.w, r.v, text_n_tokens(r.v) + 2, use_of, &r.h, NULL),
                     ROTOR_OK);
    assert_int_equal(grammar_masks_create(&r.m, r.g, r.w, NULL, NULL), ROTOR_OK);
    chat_tools_free(&t);
    base_buf_free(&text);
    return r;
}

static void drop(rig *r) {
    grammar_masks_free(&r->m);
    grammar_free(&r->g);
    grammar_words_free(&r->w);
    text_vocab_free(&r->v);
}

static uint32_t begin(const rig *r, const char *which) {
    uint32_t state;
    assert_int_equal(grammar_put(r->m, grammar_start(r->m), base_str_of(which), &state, NULL),
                     ROTOR_OK);
    return state;
}

static bool may(const rig *r, uint32_t state, uint32_t id) {
    grammar_allowed a;
    assert_int_equal(grammar_allow(r->m, state, &a, NULL), ROTOR_OK);
    return !(a.banned[id / 32] >> id % 32 & 1);
}

/* ==== All headers ============================================================================= */

typedef struct list {
    char text[256][96]; /* [n] with the names of marks; no text of the test has these */
    size_t n;           /* how many */
} list;

static void put(list *l, const char *a, const char *b, const char *c, const char *d) {
    assert_true(l->n < BASE_COUNT(l->text));
    snprintf(l->text[l->n++], sizeof *l->text, "%s%s%s%s", a, b, c, d);
}

static const char *const tails[] = {"<|message|>", " json<|message|>",
                                    " <|constrain|>json<|message|>",
                                    "<|constrain|>json<|message|>"};

static void put_calls(list *l, bool required) {
    static const char *const to[] = {" to=functions.th", " to=functions.th.2"};
    for (size_t i = 0; i < 2; i++) {
        for (size_t t = 0; t < BASE_COUNT(tails); t++) {
            char end[64];
            snprintf(end, sizeof end, "%s{", tails[t]);
            put(l, "<|channel|>commentary", to[i], end, "");
            put(l, to[i], "<|channel|>commentary", end, "");
            if (required) continue;
            put(l, "<|channel|>analysis", to[i], end, "");
            put(l, to[i], "<|channel|>analysis", end, "");
        }
    }
}

static void put_all(list *l, bool required, bool first) {
    l->n = 0;
    put_calls(l, required);
    if (!required || first) put(l, "<|channel|>analysis<|message|>", "", "", "");
    if (required) return;
    put(l, "<|channel|>commentary<|message|>", "", "", "");
    for (size_t t = 0; t < BASE_COUNT(tails); t++) put(l, "<|channel|>final", tails[t], "", "");
}

/* Is there a header that begins with this, and goes on with the token? */
static bool known(const list *l, const char *begun, base_str token) {
    const size_t n = strlen(begun);
    for (size_t i = 0; i < l->n; i++)
        if (strncmp(l->text[i], begun, n) == 0 && strlen(l->text[i]) >= n + token.n &&
            memcmp(l->text[i] + n, token.p, token.n) == 0)
            return true;
    return false;
}

/* A token that only spells (a part of) the name of a mark is no part of a header. */
static bool wanted(const rig *r, const list *l, const char *begun, uint32_t id) {
    if (id >= text_n_tokens(r->v) || !harmony_may_write(&r->h, id)) return false;
    const base_str token = text_token(r->v, id);
    const char *bar = "<|>";
    for (size_t i = 0; token.n && !harmony_is_mark(&r->h, id) && i < token.n; i++)
        if (strchr(bar, token.p[i])) return false;
    return token.n && known(l, begun, token);
}

static void check_place(const rig *r, const list *l, const char *begun, uint32_t state) {
    for (uint32_t id = 0; id < text_n_tokens(r->v) + 2; id++)
        if (may(r, state, id) != wanted(r, l, begun, id))
            fail_msg("%s token %u after '%s'", may(r, state, id) ? "may" : "may not", id, begun);
}

/* Along one header, every place. */
static void check_header(const rig *r, const list *l, const char *header, uint32_t state) {
    text_ids ids = {0};
    base_buf begun = {0};
    assert_int_equal(text_encode(r->v, base_str_of(header), TEXT_PARSE_SPECIAL, &ids, NULL),
                     ROTOR_OK);
    base_buf_puts(&begun, "");
    for (size_t i = 0; i < ids.n; i++) {
        const base_str token = text_token(r->v, ids.ids[i]);
        check_place(r, l, begun.data ? begun.data : "", state);
        assert_int_equal(grammar_step(r->m, state, ids.ids[i], &state, NULL), ROTOR_OK);
        base_buf_append(&begun, token.p, token.n);
        const bool call = strstr(header, "to="), over = i + 1 == ids.n;
        if (state == GRAMMAR_DEAD) fail_msg("dead after '%s'", begun.data);
        assert_int_equal(grammar_may_end(r->m, state), over && !call);
    }
    base_buf_free(&begun);
    text_ids_free(&ids);
}

static void check_all(bool required, const char *which) {
    static list l;
    rig r = make(required, true, NULL);
    put_all(&l, required, strcmp(which, HARMONY_RULE_FIRST) == 0);
    for (size_t i = 0; i < l.n; i++) check_header(&r, &l, l.text[i], begin(&r, which));
    drop(&r);
}

static void headers_are_what_they_may_be(void **state) {
    (void)state;
    check_all(false, HARMONY_RULE_FIRST);
    check_all(false, HARMONY_RULE_LATER);
}

static void headers_of_required_calls(void **state) {
    (void)state;
    check_all(true, HARMONY_RULE_FIRST);
    check_all(true, HARMONY_RULE_LATER);
}

/* ==== Messages ================================================================================ */

/* Whether a message keeps to the rules, to its end. special: marks in it are tokens. */
static bool fits(const rig *r, const char *text, unsigned special) {
    text_ids ids = {0};
    uint32_t state = begin(r, HARMONY_RULE_FIRST);
    assert_int_equal(text_encode(r->v, base_str_of(text), special, &ids, NULL), ROTOR_OK);
    for (size_t i = 0; i < ids.n && state; i++) {
        const bool allowed = may(r, state, ids.ids[i]);
        assert_int_equal(grammar_step(r->m, state, ids.ids[i], &state, NULL), ROTOR_OK);
        assert_int_equal(allowed, state != GRAMMAR_DEAD);
    }
    text_ids_free(&ids);
    return state && grammar_may_end(r->m, state);
}

#define CALL(name) "<|channel|>commentary to=functions." name " <|constrain|>json<|message|>"

static void arguments_end_with_their_mark(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        const bool required = i & 1, single = i & 2;
        rig r = make(required, single, NULL);
        assert_true(fits(&r, CALL("th") "{\"v\":1}<|call|>", TEXT_PARSE_SPECIAL));
        assert_true(fits(&r, CALL("th") "{ \"v\": 1 }<|call|>", TEXT_PARSE_SPECIAL));
        assert_int_equal(fits(&r, CALL("th") "{\"v\":1}<|end|>", TEXT_PARSE_SPECIAL),
                         !required && !single);
        static const char *const wrong[] = {
            "{}<|call|>",          "{\"v\":2}<|call|>", "{\"v\":1,}<|call|>",   "{\"v\":1}",
            "{\"v\":1}<|return|>", "{\"v\":1<|call|>",  "{\"v\":1}<|message|>", "<|call|>"};
        for (size_t k = 0; k < BASE_COUNT(wrong); k++) {
            char text[160];
            snprintf(text, sizeof text, CALL("th") "%s", wrong[k]);
            if (fits(&r, text, TEXT_PARSE_SPECIAL)) fail_msg("%s", text);
        }
        assert_false(fits(&r, CALL("th.3") "{\"v\":1}<|call|>", TEXT_PARSE_SPECIAL));
        assert_false(fits(&r, CALL("th.2") "{\"v\":1}<|call|>", TEXT_PARSE_SPECIAL));
        drop(&r);
    }
}

/* The same letters, as text. */
static void names_of_marks_are_none(void **state) {
    (void)state;
    rig r = make(false, true, NULL);
    assert_false(fits(&r, "<|channel|>final<|message|>", 0));
    assert_true(fits(&r, "<|channel|>final<|message|>", TEXT_PARSE_SPECIAL));
    /* In a value they stand as text, and only so. */
    uint32_t at = begin(&r, HARMONY_RULE_FIRST);
    const char *halves[] = {CALL("th.2") "{\"v\":\"", "<|call|>", "\"}"};
    for (int marks = 0; marks < 2; marks++) {
        uint32_t s = at;
        for (size_t i = 0; i < 3; i++) {
            text_ids ids = {0};
            const unsigned flags = i == 1 && !marks ? 0 : TEXT_PARSE_SPECIAL;
            assert_int_equal(text_encode(r.v, base_str_of(halves[i]), flags, &ids, NULL), ROTOR_OK);
            for (size_t k = 0; k < ids.n && s; k++)
                assert_int_equal(grammar_step(r.m, s, ids.ids[k], &s, NULL), ROTOR_OK);
            text_ids_free(&ids);
        }
        assert_int_equal(s == GRAMMAR_DEAD, marks);
    }
    /* Bytes that stand for marks inside, as tokens that write them. */
    for (uint32_t id = 0; id < text_n_tokens(r.v); id++) {
        const base_str w = grammar_word(r.w, id);
        for (size_t i = 0; i < w.n && !harmony_is_mark(&r.h, id); i++)
            assert_true((uint8_t)w.p[i] < 0xF8);
    }
    drop(&r);
}

static void a_vocabulary_may_lack_the_type_mark(void **state) {
    (void)state;
    rig r = make(true, true, "<|constrain|>");
    assert_true(fits(&r, "<|channel|>commentary to=functions.th json<|message|>{\"v\":1}<|call|>",
                     TEXT_PARSE_SPECIAL));
    assert_false(fits(&r, CALL("th") "{\"v\":1}<|call|>", TEXT_PARSE_SPECIAL));
    drop(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_what_they_may_be),
        cmocka_unit_test(headers_of_required_calls),
        cmocka_unit_test(arguments_end_with_their_mark),
        cmocka_unit_test(names_of_marks_are_none),
        cmocka_unit_test(a_vocabulary_may_lack_the_type_mark),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
