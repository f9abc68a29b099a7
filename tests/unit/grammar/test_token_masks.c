/* SPDX-License-Identifier: MIT
 *
 * Masks against their definition: a token is allowed where the automaton reads its bytes. Over
 * every state of random texts, with tokens that end inside characters, tokens of equal bytes, and
 * caches too small for anything.
 */
#include "grammar_rig.h"
#include "plain_spec.h"

enum { N_WORDS = 700, PAST = 3 }; /* rows of the head beyond the vocabulary */

/* Bytes, what JSON is made of, and random pieces; two ids of each third. */
static text_vocab *make_vocab(base_rng *r) {
    static char name[N_WORDS][40];
    static base_str tokens[N_WORDS];
    static int32_t types[N_WORDS];
    static float scores[N_WORDS];
    static const char *const pieces[] = {"\":", "\",\"", "{", "}",    "\"",       ":", ",",
                                         "[",   "]",     "a", "bc",   "1",        "0", ".",
                                         "-",   "\\",    "n", "true", "\xC3\xA9", " ", "e"};
    for (uint32_t i = 0; i < N_WORDS; i++) {
        size_t n = 0;
        types[i] = i == 1 ? TEXT_CONTROL : i < 256 + 2 && i >= 2 ? TEXT_BYTE : TEXT_NORMAL;
        if (i < 2) {
            n = (size_t)base_utf8_encode('<', name[i]);
            name[i][n++] = (char)('s' + i);
        } else if (i < 258) {
            static const char digits[] = "0123456789ABCDEF";
            memcpy(name[i], "<0x00>", 6);
            name[i][3] = digits[(i - 2) / 16];
            name[i][4] = digits[(i - 2) % 16];
            n = 6;
        } else if (i % 3 == 0) {
            n = tokens[i - 1].n;
            memcpy(name[i], name[i - 1], n);
        } else {
            const uint32_t parts = 1 + base_rng_below(r, 6);
            for (uint32_t k = 0; k < parts; k++) {
                const char *p = pieces[base_rng_below(r, BASE_COUNT(pieces))];
                memcpy(name[i] + n, p, strlen(p));
                n += strlen(p);
            }
        }
        tokens[i] = (base_str){name[i], n};
    }
    text_spec spec = plain_spec(TEXT_SPM);
    spec.tokens = tokens;
    spec.types = types;
    spec.scores = scores;
    spec.n_tokens = N_WORDS;
    spec.eos = 1;
    spec.unk = 0;
    text_vocab *v = NULL;
    rotor_error err = {0};
    if (text_vocab_create(&v, &spec, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return v;
}

static bool is_banned(const grammar_allowed *a, uint32_t id) {
    return a->banned[id / 32] >> id % 32 & 1;
}

/* Bytes that the detokenizer writes in the middle of a text. */
static void bytes_of(const text_vocab *v, uint32_t id, base_buf *out) {
    text_stream s;
    text_stream_init(&s, v);
    s.at_start = false;
    s.raw = true;
    base_buf_reset(out);
    if (id < text_n_tokens(v)) assert_int_equal(text_stream_put(&s, id, out), ROTOR_OK);
}

static void check_mask(grammar_masks *m, const text_vocab *v, uint32_t state) {
    grammar_allowed a;
    rotor_error err = {0};
    uint32_t n_allowed = 0;
    base_buf bytes = {0};
    if (grammar_allow(m, state, &a, &err) != ROTOR_OK) fail_msg("%s", err.message);
    for (uint32_t id = 0; id < N_WORDS + PAST; id++) {
        uint32_t next = GRAMMAR_DEAD;
        bytes_of(v, id, &bytes);
        const base_str s = {bytes.data, bytes.len};
        bool want = false;
        if (id < N_WORDS && text_is_eog(v, id)) {
            want = grammar_may_end(m, state);
        } else if (s.n) {
            assert_int_equal(grammar_put(m, state, s, &next, &err), ROTOR_OK);
            want = next != GRAMMAR_DEAD;
        }
        if (is_banned(&a, id) == want) fail_msg("token %u '%.*s'", id, (int)s.n, s.p);
        n_allowed += want;
    }
    assert_int_equal(a.n_allowed, n_allowed);
    base_buf_free(&bytes);
}

static uint32_t draw(grammar_masks *m, base_rng *r, uint32_t state, const text_vocab *v) {
    grammar_allowed a;
    assert_int_equal(grammar_allow(m, state, &a, NULL), ROTOR_OK);
    for (;;) {
        const uint32_t id = base_rng_below(r, N_WORDS);
        if (!is_banned(&a, id)) return text_is_eog(v, id) ? TEXT_NO_ID : id;
    }
}

static const char *const grammars[] = {
    "root ::= v\n"
    "v ::= o | l | s | n | \"true\"\n"
    "o ::= \"{\" w (s \":\" w v (\",\" w s \":\" w v)*)? w \"}\"\n"
    "l ::= \"[\" w (v (\",\" w v)*)? w \"]\"\n"
    "s ::= \"\\\"\" ([^\"\\\\\\x00-\\x1f] | \"\\\\\" [\"\\\\n])* \"\\\"\"\n"
    "n ::= \"-\"? (\"0\" | [1-9] [0-9]{0,9}) (\".\" [0-9]+)?\n"
    "w ::= \" \"?\n",
    "root ::= \"[\" ([a-z]{3,200} \",\"){2,300} \"]\"",
    "root ::= \"\\\"\" [^\"\\n]{0,500} \"\\\"\" (\":\" root)?",
    "root ::= (y \":\"){2,9}\ny ::= q \"0\"?\nq ::= \"\\\"\" [a-z]* \"\\\"\"",
    "root ::= [\\u00e0-\\u00ff]{100,400} | .{40} \"1\"",
};

static void walk(const char *gbnf, const text_vocab *v, const grammar_words *w,
                 const grammar_limits *limits) {
    grammar *g = read_gbnf(gbnf);
    grammar_masks *m = NULL;
    base_rng r;
    base_rng_seed(&r, 5);
    assert_int_equal(grammar_masks_create(&m, g, w, limits, NULL), ROTOR_OK);
    for (int text = 0; text < 6; text++) {
        uint32_t state = grammar_start(m);
        for (int i = 0; i < 60; i++) {
            check_mask(m, v, state);
            const uint32_t id = draw(m, &r, state, v);
            if (id == TEXT_NO_ID) break;
            assert_int_equal(grammar_step(m, state, id, &state, NULL), ROTOR_OK);
        }
    }
    grammar_masks_free(&m);
    grammar_free(&g);
}

static void masks_are_what_is_read(void **state) {
    (void)state;
    const grammar_limits tiny = {.state_bytes = 64 << 20, .mask_bytes = 1000};
    base_rng r;
    base_rng_seed(&r, 1);
    text_vocab *v = make_vocab(&r);
    grammar_words *w = NULL;
    assert_int_equal(grammar_words_create(&w, v, N_WORDS + PAST, NULL, NULL, NULL), ROTOR_OK);
    for (size_t i = 0; i < BASE_COUNT(grammars); i++) {
        walk(grammars[i], v, w, NULL);
        walk(grammars[i], v, w, &tiny);
    }
    grammar_words_free(&w);
    text_vocab_free(&v);
}

/* The walk over everything is made once for the inside of strings, at whatever depth, and once for
 * all the lengths of a long string. */
static void walks_are_few(void **state) {
    (void)state;
    base_rng r;
    base_rng_seed(&r, 1);
    text_vocab *v = make_vocab(&r);
    grammar_words *w = NULL;
    grammar_allowed a;
    assert_int_equal(grammar_words_create(&w, v, N_WORDS, NULL, NULL, NULL), ROTOR_OK);
    grammar *g = read_gbnf(grammars[0]);
    grammar_masks *m = masks_for(g, w);
    uint32_t at = grammar_start(m);
    for (int i = 0; i < 50; i++) {
        assert_int_equal(grammar_put(m, at, base_str_of("{\"a"), &at, NULL), ROTOR_OK);
        assert_int_equal(grammar_allow(m, at, &a, NULL), ROTOR_OK);
        assert_int_equal(grammar_put(m, at, base_str_of("\":"), &at, NULL), ROTOR_OK);
    }
    assert_int_equal(grammar_count(m).n_walks, 1);
    assert_int_equal(grammar_count(m).n_made, 50);
    grammar_masks_free(&m);
    grammar_free(&g);
    g = read_gbnf("root ::= \"'\" [^']{0,5000} \"'\"");
    m = masks_for(g, w);
    assert_int_equal(grammar_put(m, grammar_start(m), base_str_of("'"), &at, NULL), ROTOR_OK);
    for (int i = 0; i < 4900; i++) {
        assert_int_equal(grammar_put(m, at, base_str_of("a"), &at, NULL), ROTOR_OK);
        assert_int_equal(grammar_allow(m, at, &a, NULL), ROTOR_OK);
    }
    assert_int_equal(grammar_count(m).n_walks, 1);
    grammar_masks_free(&m);
    grammar_free(&g);
    grammar_words_free(&w);
    text_vocab_free(&v);
}

static void dead_states_are_errors(void **state) {
    (void)state;
    base_rng r;
    base_rng_seed(&r, 1);
    text_vocab *v = make_vocab(&r);
    grammar_words *w = NULL;
    grammar_allowed a;
    rotor_error err = {0};
    uint32_t at;
    assert_int_equal(grammar_words_create(&w, v, N_WORDS, NULL, NULL, NULL), ROTOR_OK);
    grammar *g = read_gbnf("root ::= \"ab\"");
    grammar_masks *m = masks_for(g, w);
    assert_int_equal(grammar_put(m, grammar_start(m), base_str_of("x"), &at, NULL), ROTOR_OK);
    assert_int_equal(grammar_allow(m, at, &a, &err), ROTOR_E_FORMAT);
    assert_int_equal(grammar_step(m, grammar_start(m), 1, &at, NULL),
                     ROTOR_OK); /* writes nothing */
    assert_int_equal(at, GRAMMAR_DEAD);
    assert_int_equal(grammar_step(m, grammar_start(m), N_WORDS + 5, &at, NULL), ROTOR_OK);
    assert_int_equal(at, GRAMMAR_DEAD);
    grammar_masks_free(&m);
    grammar_free(&g);
    grammar_words_free(&w);
    text_vocab_free(&v);
}

static void memory_may_run_out(void **state) {
    (void)state;
    base_rng r;
    base_rng_seed(&r, 1);
    text_vocab *v = make_vocab(&r);
    grammar *g = read_gbnf(grammars[0]);
    for (long n = 1;; n++) {
        grammar_words *w = NULL;
        grammar_masks *m = NULL;
        grammar_allowed a;
        uint32_t at;
        rotor_error err = {0};
        base_fault_after(n);
        rotor_status status = grammar_words_create(&w, v, N_WORDS, NULL, NULL, &err);
        if (status == ROTOR_OK) status = grammar_masks_create(&m, g, w, NULL, &err);
        if (status == ROTOR_OK)
            status = grammar_put(m, grammar_start(m), base_str_of("{\"a"), &at, &err);
        if (status == ROTOR_OK) status = grammar_allow(m, at, &a, &err);
        const bool fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(status, fired ? ROTOR_E_NOMEM : ROTOR_OK);
        grammar_masks_free(&m);
        grammar_words_free(&w);
        if (!fired) break;
    }
    grammar_free(&g);
    text_vocab_free(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(masks_are_what_is_read),
        cmocka_unit_test(walks_are_few),
        cmocka_unit_test(dead_states_are_errors),
        cmocka_unit_test(memory_may_run_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
