/* SPDX-License-Identifier: MIT
 *
 * The public API on the embedded story model: text and ids, conversations, logits by two ways,
 * generation with every option and callback, beams, and what is refused.
 */
#define _GNU_SOURCE
#include "api_rig.h"

#include "base/base.h"

#include <math.h>

typedef struct rig {
    rotor_engine *e;    /* story model, 256 positions */
    rotor_session *s;   /* on it */
    rotor_gen_result r; /* of the last run */
} rig;

static void rig_up(rig *g, uint32_t sessions) {
    memset(g, 0, sizeof *g);
    g->e = story(256, sessions);
    OK(rotor_session_create(&g->s, g->e, 0, &api_err));
}

static void rig_down(rig *g) {
    rotor_gen_result_free(&g->r);
    rotor_session_free(&g->s);
    rotor_engine_close(&g->e);
}

static void tell(rig *g, const char *text, const rotor_gen_options *o) {
    rotor_gen_result_free(&g->r);
    OK(rotor_generate_text(g->s, text, o, &g->r, &api_err));
    assert_int_equal(strlen(g->r.text), g->r.n_bytes);
}

static rotor_gen_options greedy(const rig *g, uint32_t n) {
    rotor_gen_options o = rotor_gen_options_default(g->e);
    o.temperature = 0;
    o.max_tokens = n;
    return o;
}

/* ==== Text and ids ============================================================================ */

static void text_goes_to_ids_and_back(void **state) {
    (void)state;
    rig g;
    uint32_t *ids;
    size_t n, n_bytes;
    char *text;
    rig_up(&g, 1);
    const char *story = "Lily and Tom went to the park. \xC3\xA9\xE2\x82\xAC\n";
    OK(rotor_tokenize(g.e, story, strlen(story), 0, &ids, &n, &api_err));
    assert_true(n > 5);
    OK(rotor_detokenize(g.e, ids, n, false, &text, &n_bytes, &api_err));
    assert_string_equal(text, story);
    assert_int_equal(n_bytes, strlen(story));
    rotor_free(text);
    ids[0] = 512;
    assert_int_equal(rotor_detokenize(g.e, ids, n, false, &text, NULL, &api_err), ROTOR_E_ARG);
    assert_non_null(strstr(api_err.message, "512"));
    rotor_free(ids);
    OK(rotor_tokenize(g.e, NULL, 0, 0, &ids, &n, &api_err));
    assert_true(n == 0 && ids);
    rotor_free(ids);
    OK(rotor_tokenize(g.e, "", 0, ROTOR_TOK_BOS, &ids, &n, &api_err));
    assert_true(n == 1 && ids[0] == 1);
    rotor_free(ids);
    OK(rotor_detokenize(g.e, NULL, 0, false, &text, NULL, &api_err));
    assert_string_equal(text, "");
    rotor_free(text);
    assert_int_equal(rotor_tokenize(g.e, "x", 1, 64, &ids, &n, &api_err), ROTOR_E_ARG);
    assert_int_equal(rotor_tokenize(g.e, NULL, 1, 0, &ids, &n, NULL), ROTOR_E_ARG);
    assert_true(rotor_is_eog(g.e, 2) && !rotor_is_eog(g.e, 300) && !rotor_is_eog(g.e, UINT32_MAX));
    rig_down(&g);
}

static void conversations_become_prompts(void **state) {
    (void)state;
    rig g;
    uint32_t *ids;
    size_t n;
    char *prompt;
    rig_up(&g, 1);
    const rotor_message talk[] = {{"system", "Be kind."}, {"user", "Tell a story. </s>"}};
    OK(rotor_chat_tokenize(g.e, talk, 2, &ids, &n, &prompt, &api_err));
    assert_non_null(strstr(prompt, "Tell a story."));
    assert_true(n > 3 && ids[0] == 1);
    for (size_t i = 1; i < n; i++)
        assert_false(rotor_is_eog(g.e, ids[i])); /* nobody can forge one */
    rotor_free(prompt);
    rotor_free(ids);
    OK(rotor_chat_tokenize(g.e, talk, 2, &ids, &n, NULL, &api_err));
    rotor_free(ids);
    const rotor_message broken = {"user", NULL};
    assert_int_equal(rotor_chat_tokenize(g.e, &broken, 1, &ids, &n, NULL, &api_err), ROTOR_E_ARG);
    assert_int_equal(rotor_chat_tokenize(g.e, NULL, 1, &ids, &n, NULL, &api_err), ROTOR_E_ARG);
    size_t stops = 0;
    while (rotor_chat_stop(g.e, stops)) stops++;
    assert_in_range(stops, 1, 10); /* a story model has no chat template: plain, with stop texts */
    rig_down(&g);
}

static void a_named_template_is_used(void **state) {
    (void)state;
    rotor_engine *e = NULL;
    rotor_engine_options o = rotor_engine_options_default();
    char name[] = "chatml", *prompt;
    uint32_t *ids;
    size_t n;
    const rotor_message m = {"user", "Hello"};
    o.chat_template = name;
    OK(rotor_engine_open(&e, story_path(), &o, &api_err));
    memset(name, 'x', 6); /* borrowed for the call only */
    OK(rotor_chat_tokenize(e, &m, 1, &ids, &n, &prompt, &api_err));
    assert_non_null(strstr(prompt, "<|im_start|>user\nHello<|im_end|>"));
    rotor_free(ids);
    rotor_free(prompt);
    rotor_engine_close(&e);
}

/* ==== Logits ================================================================================== */

typedef struct rows {
    float *logits; /* [n, 512] */
    size_t n;      /* rows seen */
    size_t stop;   /* row to refuse */
} rows;

static bool keep_row(void *user, size_t pos, const float *logits) {
    rows *r = user;
    assert_int_equal(pos, r->n);
    memcpy(r->logits + pos * 512, logits, 512 * sizeof *logits);
    return r->n++ != r->stop;
}

static void logits_of_all_positions_are_those_of_each(void **state) {
    (void)state;
    enum { N = 40 };
    rig g;
    uint32_t tokens[N];
    const float *logits;
    rows r = {.logits = calloc(N * 512, sizeof(float)), .stop = SIZE_MAX};
    rig_up(&g, 1);
    for (uint32_t i = 0; i < N; i++) tokens[i] = i ? 260 + i * 7 % 200 : 1;
    OK(rotor_eval_all(g.s, tokens, N, keep_row, &r, &api_err));
    assert_int_equal(r.n, N);
    for (size_t n = 1; n <= N; n++) {
        OK(rotor_eval(g.s, tokens, n, &logits, &api_err));
        assert_memory_equal(logits, r.logits + (n - 1) * 512, 512 * sizeof *logits);
        assert_int_equal(rotor_session_len(g.s), n);
    }
    rotor_session_rewind(g.s, 1000);
    assert_int_equal(rotor_session_len(g.s), N);
    rotor_session_rewind(g.s, 3);
    assert_int_equal(rotor_session_len(g.s), 3);
    r.n = 0;
    r.stop = 20;
    assert_int_equal(rotor_eval_all(g.s, tokens, N, keep_row, &r, &api_err), ROTOR_E_CANCELLED);
    assert_int_equal(r.n, 21);
    free(r.logits);
    rig_down(&g);
}

/* Sessions at different depths in one step: the logits of each are those it has alone. */
static void sessions_step_together_as_if_alone(void **state) {
    (void)state;
    enum { S = 3, STEPS = 5 };
    rotor_engine *e = story(128, S + 1), *other = story(64, 1);
    rotor_session *s[S] = {0}, *alone = NULL, *foreign = NULL;
    uint32_t ids[S][STEPS + S + 1], tokens[S];
    const float *logits[S], *expected;
    OK(rotor_session_create(&alone, e, 0, &api_err));
    OK(rotor_session_create(&foreign, other, 0, &api_err));
    for (uint32_t i = 0; i < S; i++) {
        OK(rotor_session_create(&s[i], e, 0, &api_err));
        for (uint32_t t = 0; t < STEPS + S + 1; t++)
            ids[i][t] = t ? 260 + (i * 31 + t * 7) % 200 : 1;
        OK(rotor_eval(s[i], ids[i], i + 1, &expected, &api_err));
    }
    for (uint32_t step = 0; step < STEPS; step++) {
        float kept[S][512];
        for (uint32_t i = 0; i < S; i++) tokens[i] = ids[i][i + 1 + step];
        OK(rotor_eval_together(s, tokens, S, logits, &api_err));
        for (uint32_t i = 0; i < S; i++) memcpy(kept[i], logits[i], sizeof kept[i]);
        for (uint32_t i = 0; i < S; i++) {
            OK(rotor_eval(alone, ids[i], i + 2 + step, &expected, &api_err));
            assert_memory_equal(kept[i], expected, sizeof kept[i]);
            assert_int_equal(rotor_session_len(s[i]), i + 2 + step);
        }
    }
    tokens[1] = 512;
    assert_int_equal(rotor_eval_together(s, tokens, S, logits, &api_err), ROTOR_E_ARG);
    assert_int_equal(rotor_session_len(s[0]), 1 + STEPS); /* nothing has changed */
    assert_int_equal(rotor_eval_together(s, tokens, 0, logits, &api_err), ROTOR_E_ARG);
    assert_int_equal(rotor_eval_together(s, tokens, 17, logits, &api_err), ROTOR_E_ARG);
    rotor_session *mixed[2] = {s[0], foreign};
    assert_int_equal(rotor_eval_together(mixed, tokens, 2, logits, &api_err), ROTOR_E_ARG);
    for (uint32_t i = 0; i < S; i++) rotor_session_free(&s[i]);
    rotor_session_free(&alone);
    rotor_session_free(&foreign);
    rotor_engine_close(&e);
    rotor_engine_close(&other);
}

static void bad_tokens_are_refused(void **state) {
    (void)state;
    rig g;
    const float *logits = NULL;
    uint32_t tokens[300] = {1, 512};
    rig_up(&g, 1);
    assert_int_equal(rotor_eval(g.s, tokens, 2, &logits, &api_err), ROTOR_E_ARG);
    assert_non_null(strstr(api_err.message, "512"));
    assert_int_equal(rotor_eval(g.s, tokens, 0, &logits, &api_err), ROTOR_E_ARG);
    assert_int_equal(rotor_eval(g.s, NULL, 1, &logits, &api_err), ROTOR_E_ARG);
    assert_int_equal(rotor_eval_all(g.s, tokens, 1, NULL, NULL, &api_err), ROTOR_E_ARG);
    tokens[1] = 5;
    assert_int_equal(rotor_eval(g.s, tokens, 257, &logits, &api_err), ROTOR_E_FULL);
    assert_int_equal(rotor_generate(g.s, tokens, 257, NULL, &g.r, &api_err), ROTOR_E_FULL);
    assert_int_equal(rotor_generate(g.s, tokens, 0, NULL, &g.r, &api_err), ROTOR_E_ARG);
    assert_int_equal(rotor_generate(g.s, tokens, 2, NULL, NULL, &api_err), ROTOR_E_ARG);
    tokens[1] = 512;
    assert_int_equal(rotor_generate(g.s, tokens, 2, NULL, &g.r, &api_err), ROTOR_E_ARG);
    assert_null(logits);
    rig_down(&g);
}

/* ==== Generation ============================================================================== */

static void a_story_is_told(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 1);
    rotor_gen_options o = greedy(&g, 60);
    tell(&g, "Once upon a time", &o);
    assert_non_null(strstr(g.r.text, "there was a little girl"));
    assert_int_equal(g.r.finish, ROTOR_FINISH_LENGTH);
    assert_int_equal(g.r.n_ids, 60);
    assert_true(g.r.n_prompt > 3 && g.r.n_reused == 0 && g.r.first_us >= g.r.prompt_us);
    char *first = strdup(g.r.text);
    tell(&g, "Once upon a time", &o);
    assert_string_equal(g.r.text, first);
    assert_int_equal(g.r.n_reused, g.r.n_prompt - 1);
    free(first);
    o.max_tokens = 0;
    tell(&g, "Once upon a time", &o);
    assert_true(g.r.finish == ROTOR_FINISH_FULL || g.r.finish == ROTOR_FINISH_END);
    rig_down(&g);
}

static void seeds_decide(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 1);
    rotor_gen_options o = rotor_gen_options_default(g.e);
    char *text[3];
    o.max_tokens = 40;
    for (int i = 0; i < 3; i++) {
        o.seed = i == 2 ? 2 : 1;
        tell(&g, "The dog", &o);
        text[i] = strdup(g.r.text);
    }
    assert_string_equal(text[0], text[1]);
    assert_string_not_equal(text[0], text[2]);
    for (int i = 0; i < 3; i++) free(text[i]);
    rig_down(&g);
}

typedef struct seen {
    base_buf text;      /* what came */
    size_t n_tokens;    /* calls with a token */
    size_t stop_after;  /* refuse the n-th; 0: none */
    uint32_t total;     /* of the prompt */
    bool refuse_prompt; /* stop in the prompt */
    uint32_t forced;    /* on_logits allows only this token */
} seen;

static bool on_text(void *user, const char *text, size_t n_bytes, const rotor_token *token,
                    const rotor_token *top, size_t n_top) {
    seen *s = user;
    base_buf_append(&s->text, text, n_bytes);
    if (!token) return true;
    assert_true(n_top == 3 && token->logprob <= 0);
    assert_true(top[0].logprob >= top[1].logprob && top[1].logprob >= top[2].logprob);
    return ++s->n_tokens != s->stop_after;
}

static bool on_prompt(void *user, uint32_t done, uint32_t total) {
    seen *s = user;
    s->total = total;
    return done < total && !s->refuse_prompt;
}

static void only_forced(void *user, float *logits, uint32_t n_vocab) {
    const seen *s = user;
    for (uint32_t i = 0; i < n_vocab; i++)
        if (i != s->forced) logits[i] = -INFINITY;
}

static void callbacks_see_and_decide(void **state) {
    (void)state;
    rig g;
    seen s = {0};
    rig_up(&g, 1);
    rotor_gen_options o = greedy(&g, 30);
    o.n_top = 3;
    o.on_text = on_text;
    o.user = &s;
    tell(&g, "Tom", &o);
    assert_int_equal(s.n_tokens, 30);
    assert_string_equal(s.text.data, g.r.text);
    s.n_tokens = 0;
    s.stop_after = 4;
    tell(&g, "Tom", &o);
    assert_int_equal(g.r.finish, ROTOR_FINISH_CANCEL);
    assert_int_equal(g.r.n_ids, 4);
    o.on_prompt = on_prompt;
    s.refuse_prompt = true;
    rotor_session_rewind(g.s, 0);
    char long_prompt[600] = "";
    while (strlen(long_prompt) < 500) strcat(long_prompt, "Tom ran. ");
    o.size = sizeof o;
    rig_down(&g);
    rotor_engine_options eo = rotor_engine_options_default();
    eo.chunk = 16; /* progress is told between chunks */
    OK(rotor_engine_open(&g.e, story_path(), &eo, &api_err));
    OK(rotor_session_create(&g.s, g.e, 0, &api_err));
    tell(&g, long_prompt, &o);
    assert_int_equal(g.r.finish, ROTOR_FINISH_CANCEL);
    assert_true(g.r.n_ids == 0 && s.total == g.r.n_prompt && rotor_session_len(g.s) < s.total);
    rotor_gen_options forced = greedy(&g, 5);
    s.forced = 333;
    forced.on_logits = only_forced;
    forced.user = &s;
    tell(&g, "Tom", &forced);
    for (size_t i = 0; i < g.r.n_ids; i++) assert_int_equal(g.r.ids[i], 333);
    base_buf_free(&s.text);
    rig_down(&g);
}

static void stops_and_bias_work(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 1);
    rotor_gen_options o = greedy(&g, 60);
    const char *stops[] = {"little gi", "zzz"};
    o.stops = stops;
    o.n_stops = 2;
    tell(&g, "Once upon a time", &o);
    assert_int_equal(g.r.finish, ROTOR_FINISH_STOP);
    assert_null(strstr(g.r.text, "little"));
    assert_non_null(strstr(g.r.text, "there was a"));
    o = greedy(&g, 10);
    const uint32_t id = 400;
    const float plus = 1000;
    o.bias_ids = &id;
    o.bias = &plus;
    o.n_bias = 1;
    tell(&g, "Once", &o);
    for (size_t i = 0; i < g.r.n_ids; i++) assert_int_equal(g.r.ids[i], 400);
    rig_down(&g);
}

static void bad_generation_options_are_named(void **state) {
    (void)state;
    rig g;
    const char *empty = "", *none = NULL;
    const uint32_t id = 512;
    const float f = 1;
    rig_up(&g, 1);
    const rotor_gen_options good = rotor_gen_options_default(g.e);
    rotor_gen_options bad[10];
    for (int i = 0; i < 10; i++) bad[i] = good;
    bad[0].size = 3;
    bad[1].n_top = 21;
    bad[2].temperature = -1;
    bad[3].top_p = 2;
    bad[4].stops = &empty, bad[4].n_stops = 1;
    bad[5].stops = &none, bad[5].n_stops = 1;
    bad[6].n_stops = 1;
    bad[7].bias_ids = &id, bad[7].bias = &f, bad[7].n_bias = 1;
    bad[8].bias_ids = &id, bad[8].n_bias = 1;
    bad[9].top_k = -5;
    const char *word[] = {"size", "n_top", "temperature", "top_p", "stop",
                          "stop", "stops", "512",         "bias",  "top_k"};
    for (int i = 0; i < 10; i++) {
        rotor_gen_result r = {.n_ids = 77};
        rotor_status st = rotor_generate_text(g.s, "Hi", &bad[i], &r, &api_err);
        if (st != ROTOR_E_ARG || !strstr(api_err.message, word[i]))
            fail_msg("case %d: %d %s", i, (int)st, api_err.message);
        assert_int_equal(r.n_ids, 77);
    }
    rig_down(&g);
}

static void older_generation_options_are_accepted(void **state) {
    (void)state;
    rig g;
    rig_up(&g, 1);
    rotor_gen_options o = greedy(&g, 5);
    o.size = 16;  /* size, max_tokens, temperature, top_k */
    o.top_p = 99; /* beyond what this program knows */
    tell(&g, "Once", &o);
    assert_int_equal(g.r.n_ids, 5);
    rig_down(&g);
}

static void beams_tell_likelier_stories(void **state) {
    (void)state;
    rig g;
    uint32_t *ids;
    size_t n;
    rig_up(&g, 8);
    OK(rotor_tokenize(g.e, "Once upon a time", 16, ROTOR_TOK_BOS, &ids, &n, &api_err));
    rotor_gen_options o = greedy(&g, 20);
    tell(&g, "Once upon a time", &o);
    char *one = strdup(g.r.text);
    rotor_gen_result_free(&g.r);
    OK(rotor_generate_beam(g.s, ids, n, 1, 20, NULL, &g.r, &api_err));
    assert_string_equal(g.r.text, one); /* one beam is arg-max */
    rotor_gen_result_free(&g.r);
    OK(rotor_generate_beam(g.s, ids, n, 4, 20, NULL, &g.r, &api_err));
    assert_int_equal(g.r.n_ids, 20);
    assert_true(g.r.n_bytes > 20);
    assert_int_equal(rotor_generate_beam(g.s, ids, n, 0, 20, NULL, &g.r, &api_err), ROTOR_E_ARG);
    assert_int_equal(rotor_generate_beam(g.s, ids, n, 65, 20, NULL, &g.r, &api_err), ROTOR_E_ARG);
    free(one);
    rotor_free(ids);
    rig_down(&g);
}

static void every_fault_is_survived(void **state) {
    (void)state;
    rig g;
    const char *stop = "girl";
    const rotor_message talk = {"user", "Hello"};
    rig_up(&g, 4);
    rotor_gen_options o = greedy(&g, 30);
    o.stops = &stop;
    o.n_stops = 1;
    for (int what = 0; what < 3; what++) {
        bool fired = true;
        for (long n = 1; fired; n++) {
            rotor_gen_result r = {0};
            uint32_t *ids = NULL;
            size_t n_ids;
            char *text = NULL;
            assert_true(n < 500);
            base_fault_after(n);
            rotor_status st;
            if (what == 0)
                st = rotor_generate_text(g.s, "Once upon a time", &o, &r, NULL);
            else if (what == 1)
                st = rotor_chat_tokenize(g.e, &talk, 1, &ids, &n_ids, &text, NULL);
            else
                st = rotor_generate_beam(g.s, (uint32_t[]){1, 403}, 2, 3, 8, NULL, &r, NULL);
            fired = base_fault_fired();
            base_fault_after(0);
            assert_int_equal(st, fired ? ROTOR_E_NOMEM : ROTOR_OK);
            rotor_gen_result_free(&r);
            rotor_free(ids);
            rotor_free(text);
        }
    }
    rig_down(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_goes_to_ids_and_back),
        cmocka_unit_test(conversations_become_prompts),
        cmocka_unit_test(a_named_template_is_used),
        cmocka_unit_test(logits_of_all_positions_are_those_of_each),
        cmocka_unit_test(sessions_step_together_as_if_alone),
        cmocka_unit_test(bad_tokens_are_refused),
        cmocka_unit_test(a_story_is_told),
        cmocka_unit_test(seeds_decide),
        cmocka_unit_test(callbacks_see_and_decide),
        cmocka_unit_test(stops_and_bias_work),
        cmocka_unit_test(bad_generation_options_are_named),
        cmocka_unit_test(older_generation_options_are_accepted),
        cmocka_unit_test(beams_tell_likelier_stories),
        cmocka_unit_test(every_fault_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
