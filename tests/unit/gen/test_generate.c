/* SPDX-License-Identifier: MIT
 *
 * gen_run on a model that says what the test wrote for it: pieces of text, stop strings across
 * tokens, every way to end, what the session holds, allocations and faults.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>

#include "fake_run.h"

enum { MAX_SCRIPT = 4000 };

static const char *const words[] = {"hello", "\xE2\x96\x81world", "lo", "END", "\xC3\xA9"};
enum { HELLO = FAKE_PIECE, WORLD, LO, END, E_ACUTE };

static uint32_t script[MAX_SCRIPT]; /* tokens the model will say after the prompt */
static uint32_t script_at;          /* length of the prompt */
static const uint32_t prompt[] = {1, HELLO, WORLD};
enum { N_PROMPT = 3 };

static void say_script(const uint32_t *tokens, uint32_t n, float *logits, uint32_t n_vocab) {
    (void)tokens;
    for (uint32_t i = 0; i < n_vocab; i++) logits[i] = -(float)i * 0.001f;
    logits[script[n - script_at]] = 10;
}

static void set_script(const uint32_t *ids, size_t n) {
    for (size_t i = 0; i < MAX_SCRIPT; i++) script[i] = FAKE_BYTE + '.';
    if (n) memcpy(script, ids, n * sizeof *ids);
    script_at = N_PROMPT;
}

/* Byte tokens for a text. */
static void set_script_text(const char *text) {
    uint32_t ids[200];
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) ids[i] = FAKE_BYTE + (uint8_t)text[i];
    ids[n] = FAKE_EOS;
    set_script(ids, n + 1);
}

/* ==== A rig =================================================================================== */

typedef struct rig {
    text_vocab *v;      /* words above */
    run_engine *e;      /* says the script */
    run_session *s;     /* 100 positions unless said */
    base_buf shown;     /* what on_text got */
    uint32_t ids[200];  /* its tokens */
    size_t n_calls;     /* with a token */
    size_t n_end_calls; /* without */
    size_t cancel_at;   /* call to refuse, from 1; 0: none */
    size_t n_pieces;    /* calls with text */
    size_t n_read;      /* calls of read_letters */
    gen_result r;       /* of the last run */
    gen_options opt;    /* of the next run */
} rig;

static bool whole_utf8(base_str s) {
    for (size_t i = 0; i < s.n;) {
        int32_t cp;
        i += (size_t)base_utf8_decode(s.p + i, s.n - i, &cp);
        if (cp < 0) return false;
    }
    return true;
}

static bool collect(void *user, base_str text, const gen_choice *choice, const gen_choice *top) {
    rig *g = user;
    assert_true(whole_utf8(text));
    base_buf_append(&g->shown, text.p, text.n);
    g->n_pieces += text.n > 0;
    if (!choice) {
        assert_null(top);
        g->n_end_calls++;
        return true;
    }
    if (g->opt.n_top) assert_int_equal(top[0].id, choice->id);
    assert_true(choice->logprob <= 0);
    if (g->n_calls < BASE_COUNT(g->ids)) g->ids[g->n_calls] = choice->id;
    return ++g->n_calls != g->cancel_at;
}

static void rig_up(rig *g, uint32_t max_tok, fake_logits fn) {
    memset(g, 0, sizeof *g);
    g->v = fake_vocab(words, BASE_COUNT(words));
    g->e = fake_engine(&(fake_options){.fn = fn, .vocab = g->v, .n_vocab = 270});
    assert_int_equal(run_session_create(&g->s, g->e, max_tok, NULL), ROTOR_OK);
    g->opt = (gen_options){.sampling = gen_sampling_default(), .on_text = collect, .user = g};
    g->opt.sampling.temperature = 0;
}

static void rig_down(rig *g) {
    gen_result_free(&g->r);
    base_buf_free(&g->shown);
    run_session_free(&g->s);
    fake_engine_free(&g->e);
    text_vocab_free(&g->v);
}

static void generate(rig *g) {
    rotor_error err = {0};
    gen_result_free(&g->r);
    base_buf_reset(&g->shown);
    g->n_calls = g->n_end_calls = g->n_pieces = 0;
    if (gen_run(g->s, prompt, N_PROMPT, &g->opt, &g->r, &err) != ROTOR_OK)
        fail_msg("%s", err.message);
    assert_int_equal(g->r.text.len, g->shown.len);
    if (g->shown.len) assert_memory_equal(g->r.text.data, g->shown.data, g->shown.len);
    assert_int_equal(g->n_calls, g->r.ids.n);
    for (size_t i = 0; i < g->n_calls && i < BASE_COUNT(g->ids); i++)
        assert_int_equal(g->ids[i], g->r.ids.ids[i]);
}

static void expect(const rig *g, const char *text, gen_finish finish, size_t n_ids) {
    assert_int_equal(g->r.finish, finish);
    assert_string_equal(g->r.text.data ? g->r.text.data : "", text);
    assert_int_equal(g->r.ids.n, n_ids);
}

/* ==== Text ==================================================================================== */

static void text_comes_in_whole_characters(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 100, say_script);
    set_script_text("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z");
    generate(&g);
    expect(&g, "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z", GEN_FINISH_EOG, 11);
    assert_int_equal(g.n_pieces, 5);
    set_script_text("cut\xE2\x82"); /* ends inside a character */
    generate(&g);
    expect(&g, "cut\xEF\xBF\xBD", GEN_FINISH_EOG, 5);
    assert_int_equal(g.n_end_calls, 1);
    rig_down(&g);
}

static void the_end_of_generation_is_not_part_of_it(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 100, say_script);
    set_script((uint32_t[]){HELLO, WORLD, FAKE_EOS, LO, FAKE_EOS}, 5);
    generate(&g);
    expect(&g, "hello world", GEN_FINISH_EOG, 2);
    assert_int_equal(run_session_len(g.s), N_PROMPT + 2);
    assert_int_equal(g.r.n_prompt, N_PROMPT);
    g.opt.ignore_eog = true;
    g.opt.max_new_tok = 4;
    generate(&g);
    expect(&g, "hello worldlo", GEN_FINISH_LENGTH, 4);
    assert_int_equal(g.r.n_reused, N_PROMPT - 1);
    g.opt.render_special = true;
    generate(&g);
    expect(&g, "hello world</s>lo", GEN_FINISH_LENGTH, 4);
    rig_down(&g);
}

static void stops_are_never_shown(void **state) {
    (void)state;
    const struct {
        const char *text;    /* what the model says */
        const char *stop[2]; /* stop strings */
        const char *shown;   /* what is left */
        size_t n_ids;        /* tokens, those of the stop included */
    } cases[] = {
        {"one STOP two", {"STOP"}, "one ", 8},        {"STOP", {"STOP"}, "", 4},
        {"one STO", {"STOP"}, "one STO", 7},          {"aab", {"ab"}, "a", 3},
        {"x\n\nUser: y", {"\nUser:"}, "x\n", 8},      {"abcd", {"abcx", "bc"}, "a", 3},
        {"p\xE2\x82\xACq", {"\xE2\x82\xAC"}, "p", 4}, {"abc", {"c", "abc"}, "", 3},
    };
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        rig g;
        rig_up(&g, 100, say_script);
        base_str stops[2];
        for (; g.opt.n_stops < 2 && cases[i].stop[g.opt.n_stops]; g.opt.n_stops++)
            stops[g.opt.n_stops] = base_str_of(cases[i].stop[g.opt.n_stops]);
        g.opt.stops = stops;
        set_script_text(cases[i].text);
        generate(&g);
        bool hit = strlen(cases[i].shown) != strlen(cases[i].text);
        expect(&g, cases[i].shown, hit ? GEN_FINISH_STOP : GEN_FINISH_EOG, cases[i].n_ids);
        rig_down(&g);
    }
}

static void a_stop_may_begin_and_end_inside_tokens(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 100, say_script);
    const base_str stop = base_str_of("lo wor");
    g.opt.stops = &stop;
    g.opt.n_stops = 1;
    set_script((uint32_t[]){E_ACUTE, HELLO, WORLD, END}, 4);
    generate(&g);
    expect(&g, "\xC3\xA9hel", GEN_FINISH_STOP, 3);
    rig_down(&g);
}

/* ==== Ends ==================================================================================== */

static void lengths_are_exact(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 10, say_script);
    set_script(NULL, 0);
    for (uint32_t n = 1; n <= 8; n++) {
        g.opt.max_new_tok = n;
        generate(&g);
        assert_int_equal(g.r.finish, GEN_FINISH_LENGTH);
        assert_int_equal(g.r.ids.n, n);
        assert_int_equal(run_session_len(g.s), N_PROMPT + n - 1);
    }
    g.opt.max_new_tok = 0;
    generate(&g);
    expect(&g, "........", GEN_FINISH_FULL, 8); /* ten positions, and one token after the last */
    g.opt.max_new_tok = 50;
    generate(&g);
    assert_int_equal(g.r.finish, GEN_FINISH_FULL);
    rig_down(&g);
}

static void a_full_cache_ends_like_a_full_context(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 100, say_script);
    run_session_free(&g.s);
    fake_engine_free(&g.e);
    g.e = fake_engine(&(fake_options){.fn = say_script, .vocab = g.v, .n_pages = 3});
    assert_int_equal(run_session_create(&g.s, g.e, 100, NULL), ROTOR_OK);
    set_script(NULL, 0);
    generate(&g);
    assert_int_equal(g.r.finish, GEN_FINISH_FULL);
    assert_int_equal(g.r.ids.n, 3 * FAKE_PAGE - N_PROMPT + 1);
    rig_down(&g);
}

static void text_held_back_is_released_at_the_end(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 100, say_script);
    const base_str stop = base_str_of("abcdef");
    g.opt.stops = &stop;
    g.opt.n_stops = 1;
    g.opt.max_new_tok = 4;
    set_script_text("xabcdef");
    generate(&g);
    expect(&g, "xabc", GEN_FINISH_LENGTH, 4);
    assert_int_equal(g.n_end_calls, 1);
    rig_down(&g);
}

static bool refuse_second(void *user, uint32_t done, uint32_t total) {
    (void)user, (void)total;
    return done < 2;
}

static void callbacks_can_cancel(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 100, say_script);
    set_script_text("abcdef");
    g.cancel_at = 3;
    generate(&g);
    expect(&g, "abc", GEN_FINISH_CANCEL, 3);
    g.cancel_at = 0;
    g.opt.on_prompt = refuse_second;
    run_session_rewind(g.s, 0);
    generate(&g);
    expect(&g, "", GEN_FINISH_CANCEL, 0);
    assert_int_equal(run_session_len(g.s), 2);
    rig_down(&g);
}

static void alternatives_come_with_each_token(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 100, say_script);
    set_script_text("abc");
    g.opt.n_top = 5; /* collect() checks that the first is the choice */
    generate(&g);
    expect(&g, "abc", GEN_FINISH_EOG, 3);
    rig_down(&g);
}

/* ---- A format ---- */

/* Even and odd ids by turns, the end of text last; a state is how many have come. */
static uint64_t turn(const void *user, uint64_t state, uint32_t id) {
    assert_true(id % 2 == state % 2 && user == prompt);
    return state + 1;
}

static rotor_status by_turns(const void *user, uint64_t state, gen_mask *mask, rotor_error *err) {
    static const uint32_t last = FAKE_EOS;
    static uint32_t bits[2][9] = {{0}};
    for (uint32_t i = 0; i < BASE_COUNT(bits[0]); i++)
        bits[0][i] = 0xAAAAAAAA, bits[1][i] = 0x55555555;
    bits[0][0] |= 1u << FAKE_EOS; /* not before */
    assert_true(user == prompt);
    *mask = (gen_mask){.banned = bits[state % 2]};
    if (state == 8) *mask = (gen_mask){.only = &last, .n_only = 1};
    if (state == 99) return base_fail(err, ROTOR_E_FULL, "no more states");
    return ROTOR_OK;
}

static void a_guide_is_kept_to(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 100, fake_hash_logits);
    const gen_guide guide = {.user = prompt, .start = 0, .step = turn, .may = by_turns};
    g.opt.guide = &guide;
    for (uint64_t seed = 0; seed < 20; seed++) {
        g.opt.sampling.temperature = seed % 2 ? 1.5f : 0;
        g.opt.sampling.seed = seed;
        g.opt.n_top = seed % 4 == 0 ? 2 : 0;
        g.opt.lookup_min = seed % 5 == 4;
        g.opt.draft_always = true;
        generate(&g);
        assert_int_equal(g.r.finish, GEN_FINISH_EOG);
        assert_int_equal(g.r.ids.n, 8);
        for (uint32_t i = 0; i < 8; i++) assert_int_equal(g.r.ids.ids[i] % 2, i % 2);
        run_session_rewind(g.s, 0);
    }
    const gen_guide failing = {.user = prompt, .start = 99, .step = turn, .may = by_turns};
    rotor_error err = {0};
    g.opt.guide = &failing;
    assert_int_equal(gen_run(g.s, prompt, N_PROMPT, &g.opt, &g.r, &err), ROTOR_E_FULL);
    assert_string_equal(err.message, "no more states");
    rig_down(&g);
}

/* Shows every token as a letter, the end-of-text one as a point; the letter c stops. */
static rotor_status read_letters(void *user, uint32_t id, base_buf *text, bool *stop) {
    rig *g = user;
    const char c = id == TEXT_NO_ID ? '!' : id == FAKE_EOS ? '.' : (char)(id - FAKE_BYTE);
    g->n_read++;
    *stop = c == 'c';
    return *stop || base_buf_append(text, &c, 1) ? ROTOR_OK : ROTOR_E_NOMEM;
}

static void a_reader_makes_the_text(void **state) {
    (void)state;
    rig g;
    base_str stop = base_str_of("a"); /* is the reader's affair */
    rig_up(&g, 100, say_script);
    g.opt.read = read_letters;
    g.opt.stops = &stop;
    g.opt.n_stops = 1;
    set_script_text("ab");
    generate(&g);
    expect(&g, "ab.!", GEN_FINISH_EOG, 2);
    assert_int_equal(g.n_read, 4);
    set_script_text("abcd");
    generate(&g);
    expect(&g, "ab", GEN_FINISH_STOP, 3);
    assert_int_equal(g.n_read, 4 + 3);
    g.opt.max_new_tok = 1;
    generate(&g);
    expect(&g, "a!", GEN_FINISH_LENGTH, 1);
    rig_down(&g);
}

static void ids_without_text_are_silent(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 100, say_script); /* 270 rows in the model, 264 tokens in the vocabulary */
    set_script((uint32_t[]){HELLO, 269, LO, FAKE_EOS}, 4);
    generate(&g);
    expect(&g, "hellolo", GEN_FINISH_EOG, 3);
    rig_down(&g);
}

/* ==== Failures and memory ===================================================================== */

static void nan_logits(const uint32_t *tokens, uint32_t n, float *logits, uint32_t n_vocab) {
    (void)tokens, (void)n;
    for (uint32_t i = 0; i < n_vocab; i++) logits[i] = NAN;
}

static void failures_leave_the_result_alone(void **state) {
    (void)state;
    rig g;
    rotor_error err = {0};
    uint32_t big[11] = {0};
    rig_up(&g, 10, nan_logits);
    gen_result r = {.n_prompt = 77};
    assert_int_equal(gen_run(g.s, prompt, N_PROMPT, &g.opt, &r, &err), ROTOR_E_FORMAT);
    assert_int_equal(gen_run(g.s, big, 11, &g.opt, &r, &err), ROTOR_E_FULL);
    assert_non_null(strstr(err.message, "11"));
    g.opt.sampling.top_p = 7;
    assert_int_equal(gen_run(g.s, prompt, N_PROMPT, &g.opt, &r, &err), ROTOR_E_ARG);
    assert_int_equal(r.n_prompt, 77);
    rig_down(&g);
}

static void tokens_allocate_nothing(void **state) {
    (void)state;
    rig g;
    uint64_t allocs[2];
    rig_up(&g, 3000, say_script);
    set_script(NULL, 0);
    const base_str stop = base_str_of("....x");
    g.opt.stops = &stop;
    g.opt.n_stops = 1;
    g.opt.on_text = NULL;
    g.opt.sampling = gen_sampling_default();
    g.opt.sampling.repeat_penalty = 1.01f;
    for (int i = 0; i < 2; i++) {
        g.opt.max_new_tok = i ? 2000 : 2;
        uint64_t before = base_alloc_count();
        gen_result_free(&g.r);
        assert_int_equal(gen_run(g.s, prompt, N_PROMPT, &g.opt, &g.r, NULL), ROTOR_OK);
        allocs[i] = base_alloc_count() - before;
        assert_int_equal(g.r.ids.n, g.opt.max_new_tok);
    }
    assert_int_equal(allocs[0], allocs[1]);
    rig_down(&g);
}

static void every_fault_is_survived(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 100, say_script);
    const base_str stop = base_str_of("END");
    g.opt.stops = &stop;
    g.opt.n_stops = 1;
    g.opt.on_text = NULL;
    set_script((uint32_t[]){HELLO, WORLD, E_ACUTE, END}, 4);
    bool fired = true;
    for (long n = 1; fired; n++) {
        gen_result r = {0};
        assert_true(n < 200);
        base_fault_after(n);
        rotor_status st = gen_run(g.s, prompt, N_PROMPT, &g.opt, &r, NULL);
        fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st, fired ? ROTOR_E_NOMEM : ROTOR_OK);
        if (!fired) assert_int_equal(r.finish, GEN_FINISH_STOP);
        gen_result_free(&r);
    }
    rig_down(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_comes_in_whole_characters),
        cmocka_unit_test(the_end_of_generation_is_not_part_of_it),
        cmocka_unit_test(stops_are_never_shown),
        cmocka_unit_test(a_stop_may_begin_and_end_inside_tokens),
        cmocka_unit_test(lengths_are_exact),
        cmocka_unit_test(a_full_cache_ends_like_a_full_context),
        cmocka_unit_test(text_held_back_is_released_at_the_end),
        cmocka_unit_test(callbacks_can_cancel),
        cmocka_unit_test(alternatives_come_with_each_token),
        cmocka_unit_test(a_guide_is_kept_to),
        cmocka_unit_test(a_reader_makes_the_text),
        cmocka_unit_test(ids_without_text_are_silent),
        cmocka_unit_test(failures_leave_the_result_alone),
        cmocka_unit_test(tokens_allocate_nothing),
        cmocka_unit_test(every_fault_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
