/* SPDX-License-Identifier: MIT
 *
 * What may come next in an answer: every step of a header, ids that never may, and that whatever
 * is drawn by these rules parses without a flaw.
 */
#include "harmony_rig.h"

typedef struct rig {
    text_vocab *v;    /* owned */
    harmony h;        /* its marks */
    harmony_guide *g; /* owned */
    uint32_t n_ids;   /* rows of the head: two more than words */
} rig;

static rig make(void) {
    rig r = {.v = small_vocab(TEXT_CONTROL, NULL)};
    r.h = marks_of(r.v);
    r.n_ids = (uint32_t)text_n_tokens(r.v) + 2;
    assert_int_equal(harmony_guide_create(&r.g, &r.h, r.n_ids), ROTOR_OK);
    return r;
}

static void drop(rig *r) {
    harmony_guide_free(&r->g);
    text_vocab_free(&r->v);
}

static bool may(const rig *r, uint32_t state, bool endless, uint32_t id) {
    const harmony_allowed a = harmony_guide_may(r->g, state, endless);
    bool listed = !a.only;
    for (size_t i = 0; i < a.n_only; i++) listed = listed || a.only[i] == id;
    return listed && !(a.banned && (a.banned[id / 32] >> id % 32 & 1));
}

static uint32_t after(const rig *r, const char *prompt) {
    text_ids ids = {0};
    assert_int_equal(text_encode(r->v, base_str_of(prompt), TEXT_PARSE_SPECIAL, &ids, NULL),
                     ROTOR_OK);
    const uint32_t state = harmony_guide_begin(r->g, ids.ids, ids.n);
    text_ids_free(&ids);
    return state;
}

/* The ids that may come after a prompt: of words and marks a text each, of others "?". */
static void expect(const rig *r, const char *prompt, bool endless, const char *want) {
    const uint32_t state = after(r, prompt);
    base_buf got = {0};
    for (uint32_t id = 0; id < r->n_ids; id++) {
        if (!may(r, state, endless, id)) continue;
        const base_str s = id < text_n_tokens(r->v) ? text_token(r->v, id) : base_str_of("?");
        base_buf_append(&got, s.p, s.n);
    }
    if (strcmp(got.data ? got.data : "", want))
        fail_msg("after '%s' may come '%s', not '%s'", prompt, got.data ? got.data : "", want);
    base_buf_free(&got);
}

static void headers_are_spelt(void **state) {
    (void)state;
    rig r = make();
    expect(&r, "<|start|>", false, "a");
    expect(&r, "<|start|>assis", false, "t");
    expect(&r, "<|start|>assistant", false, " <|channel|>");
    expect(&r, "<|start|>assistant<|channel|>", false, "acf");
    expect(&r, "<|start|>assistant<|channel|>comm", false, "e");
    expect(&r, "<|start|>assistant<|channel|>final", false, " <|message|><|constrain|>");
    expect(&r, "<|start|>user<|message|>q<|end|>", false, "<|endoftext|><|start|><|return|>");
    expect(&r, "<|start|>user<|message|>q<|end|>", true, "<|start|>");
    drop(&r);
}

static bool may_text(const rig *r, const char *prompt, bool endless, const char *text) {
    return may(r, after(r, prompt), endless, text_find(r->v, base_str_of(text)));
}

static void marks_have_their_places(void **state) {
    (void)state;
    rig r = make();
    static const char *const never[] = {"<|startoftext|>", "<|reserved_200000|>", "<|endofprompt|>",
                                        "[PAD1]"};
    const struct {
        const char *prompt, *marks; /* that may come */
        bool endless;               /* the turn must go on */
    } places[] = {
        {"<|start|>assistant to=functions.x", "<|channel|><|message|><|constrain|>", false},
        {"<|start|>assistant to=f<|channel|>commentary js", "<|message|><|constrain|>", false},
        {"<|start|>assistant<|channel|>final<|message|>", "<|end|><|return|><|call|><|endoftext|>",
         false},
        {"<|start|>assistant<|channel|>final<|message|>yes", "<|end|>", true}};
    for (size_t i = 0; i < BASE_COUNT(places); i++) {
        const char *prompt = places[i].prompt;
        for (size_t k = 0; k < BASE_COUNT(rig_marks); k++) {
            const char *mark = rig_marks[k].text;
            const bool want = strstr(places[i].marks, mark);
            if (may_text(&r, prompt, places[i].endless, mark) != want)
                fail_msg("%s after '%s'", mark, prompt);
        }
        for (size_t k = 0; k < BASE_COUNT(never); k++)
            assert_false(may_text(&r, prompt, places[i].endless, never[k]));
        assert_true(may_text(&r, prompt, places[i].endless, "th"));
        for (uint32_t id = (uint32_t)text_n_tokens(r.v); id < r.n_ids; id++)
            assert_false(may(&r, after(&r, prompt), places[i].endless, id));
    }
    drop(&r);
}

static void others_are_not_guided(void **state) {
    (void)state;
    rig r = make();
    assert_int_equal(after(&r, ""), HARMONY_UNGUIDED);
    assert_int_equal(after(&r, "Once upon a time"), HARMONY_UNGUIDED);
    assert_int_equal(after(&r, "<|start|>user<|message|>q"), HARMONY_UNGUIDED);
    assert_int_equal(after(&r, "<|start|>functions.f to=assistant<|channel|>commentary"),
                     HARMONY_UNGUIDED);
    for (uint32_t id = 0; id < r.n_ids; id++) assert_true(may(&r, HARMONY_UNGUIDED, false, id));
    /* A prompt that opens the answer itself. */
    assert_int_not_equal(after(&r, "<|start|>assistant<|channel|>final<|message|>So"), 0);
    drop(&r);
}

static void a_header_ends(void **state) {
    (void)state;
    rig r = make();
    uint32_t at = after(&r, "<|start|>assistant<|channel|>final");
    for (int i = 0; i < 300; i++) at = harmony_guide_step(r.g, at, ' ');
    const harmony_allowed a = harmony_guide_may(r.g, at, false);
    assert_true(a.only && a.n_only == 1 && a.only[0] == r.h.message);
    drop(&r);
}

/* Text that nobody chose, in a format that somebody did. */
static void what_may_come_parses(void **state) {
    (void)state;
    rig r = make();
    base_rng rng;
    base_rng_seed(&rng, 7);
    size_t n_messages = 0;
    for (int turn = 0; turn < 200; turn++) {
        harmony_parser *p = NULL;
        uint32_t at = after(&r, "<|start|>assistant");
        assert_int_equal(harmony_parser_create(&p, &r.h, false, NULL, NULL), ROTOR_OK);
        for (int i = 0; i < 400 && harmony_parser_why(p) == HARMONY_OPEN; i++) {
            uint32_t id;
            do id = (uint32_t)(base_rng_double(&rng) * r.n_ids);
            while (!may(&r, at, false, id));
            assert_int_equal(harmony_parser_put(p, id), ROTOR_OK);
            at = harmony_guide_step(r.g, at, id);
        }
        for (size_t i = 0; i < harmony_parser_count(p); i++) {
            const harmony_parsed *m = harmony_parser_at(p, i);
            assert_int_not_equal(m->kind, HARMONY_OTHER);
            assert_string_equal(m->role, "assistant");
            if (*m->channel) assert_int_not_equal(m->kind, HARMONY_UNKNOWN);
        }
        n_messages += harmony_parser_count(p);
        assert_int_equal(harmony_parser_end(p), ROTOR_OK);
        harmony_parser_free(&p);
    }
    assert_true(n_messages > 200);
    drop(&r);
}

static void the_published_vocabulary(void **state) {
    (void)state;
    rig r = {.v = real_vocab(), .n_ids = 201088};
    if (!r.v) skip();
    r.h = marks_of(r.v);
    assert_int_equal(harmony_guide_create(&r.g, &r.h, r.n_ids), ROTOR_OK);
    const uint32_t content = after(&r, "<|start|>assistant<|channel|>final<|message|>x");
    uint32_t n = 0;
    for (uint32_t id = 0; id < r.n_ids; id++) n += may(&r, content, false, id);
    assert_int_equal(n, FIRST_REAL + 4);
    const uint32_t named = after(&r, "<|start|>assistant");
    assert_true(may(&r, named, false, 316) && may(&r, named, false, 200005)); /* " to" */
    assert_false(may(&r, named, false, 35644));
    const uint32_t channel = after(&r, "<|start|>assistant<|channel|>");
    assert_true(may(&r, channel, false, 35644) && may(&r, channel, false, 17196) &&
                may(&r, channel, false, 12606));
    assert_false(may(&r, channel, false, 173781));
    drop(&r);
}

static void out_of_memory(void **state) {
    (void)state;
    text_vocab *v = small_vocab(TEXT_CONTROL, NULL);
    const harmony h = marks_of(v);
    bool done = false;
    long k = 1;
    for (; !done && k < 1000; k++) {
        harmony_guide *g = NULL;
        base_fault_after(k);
        const rotor_status st = harmony_guide_create(&g, &h, text_n_tokens(v));
        done = !base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st, done ? ROTOR_OK : ROTOR_E_NOMEM);
        assert_true((g != NULL) == done);
        harmony_guide_free(&g);
    }
    assert_in_range(k, 20, 999);
    text_vocab_free(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_spelt),     cmocka_unit_test(marks_have_their_places),
        cmocka_unit_test(others_are_not_guided), cmocka_unit_test(a_header_ends),
        cmocka_unit_test(what_may_come_parses),  cmocka_unit_test(the_published_vocabulary),
        cmocka_unit_test(out_of_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
