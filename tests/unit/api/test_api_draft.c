/* SPDX-License-Identifier: MIT
 *
 * Speculation through the public API, on the embedded story model: same text and probabilities with
 * every setting, callbacks called as often, an engine on another's threads, who may not draft for
 * whom, and faults.
 */
#define _GNU_SOURCE
#include "api_rig.h"

#include "base/base.h"
#include "tiny_model.h"

#include <unistd.h>

static const char repeated[] = "Lily had a red ball. Tom had a red ball. Lily had a red ball. Tom";

typedef struct rig {
    rotor_engine *e, *small; /* the model, and the same once more to draft */
    rotor_session *s, *d;    /* on them */
} rig;

static rotor_engine *on_threads_of(const rotor_engine *e, const char *path, rotor_error *err) {
    rotor_engine *out = NULL;
    rotor_engine_options o = rotor_engine_options_default();
    o.threads_of = e;
    o.ctx = 256;
    return rotor_engine_open(&out, path, &o, err) == ROTOR_OK ? out : NULL;
}

static void rig_up(rig *g) {
    g->e = story(256, 1);
    g->small = on_threads_of(g->e, story_path(), &api_err);
    assert_non_null(g->small);
    g->s = g->d = NULL;
    OK(rotor_session_create(&g->s, g->e, 0, &api_err));
    OK(rotor_session_create(&g->d, g->small, 0, &api_err));
}

static void rig_down(rig *g) {
    rotor_session_free(&g->d);
    rotor_session_free(&g->s);
    rotor_engine_close(&g->small);
    rotor_engine_close(&g->e);
}

typedef struct heard {
    base_buf text;            /* all of it */
    base_buf tokens;          /* rotor_token one after another, alternatives between */
    size_t n_calls, n_logits; /* of the callbacks */
    size_t stop_at;           /* call to refuse; 0: none */
} heard;

static bool on_text(void *user, const char *text, size_t n_bytes, const rotor_token *token,
                    const rotor_token *top, size_t n_top) {
    heard *h = user;
    base_buf_append(&h->text, text, n_bytes);
    if (token) base_buf_append(&h->tokens, token, sizeof *token);
    if (n_top) base_buf_append(&h->tokens, top, n_top * sizeof *top);
    return ++h->n_calls != h->stop_at;
}

static void on_logits(void *user, float *logits, uint32_t n_vocab) {
    heard *h = user;
    assert_int_equal(n_vocab, 512);
    logits[300] -= 1;
    h->n_logits++;
}

static void tell(rig *g, rotor_gen_options o, heard *h, rotor_gen_result *r) {
    memset(h, 0, sizeof *h);
    h->stop_at = o.n_top == 3 ? 40 : 0;
    o.user = h;
    o.on_text = on_text;
    o.on_logits = on_logits;
    rotor_session_rewind(g->s, 0);
    OK(rotor_generate_text(g->s, repeated, &o, r, &api_err));
}

static void forget(heard *h, rotor_gen_result *r) {
    base_buf_free(&h->text);
    base_buf_free(&h->tokens);
    rotor_gen_result_free(r);
}

static void same_with_guesses(rig *g, rotor_gen_options o, uint32_t *drafted) {
    heard a, b;
    rotor_gen_result x, y;
    tell(g, o, &a, &x);
    uint32_t len = rotor_session_len(g->s);
    for (int way = 1; way < 4; way++) {
        o.lookup = way & 1 ? 2 : 0;
        o.draft = way & 2 ? g->d : NULL;
        tell(g, o, &b, &y);
        assert_int_equal(x.n_ids, y.n_ids);
        assert_memory_equal(x.ids, y.ids, x.n_ids * sizeof *x.ids);
        assert_string_equal(x.text, y.text);
        assert_int_equal(x.finish, y.finish);
        assert_int_equal(a.n_calls, b.n_calls);
        assert_int_equal(a.n_logits, b.n_logits);
        assert_int_equal(a.tokens.len, b.tokens.len);
        assert_memory_equal(a.tokens.data, b.tokens.data, a.tokens.len);
        assert_int_equal(a.text.len, b.text.len);
        assert_memory_equal(a.text.data, b.text.data, a.text.len);
        assert_int_equal(rotor_session_len(g->s), len);
        assert_true(x.n_drafted == 0 && y.n_accepted <= y.n_drafted && y.n_accepted < y.n_ids);
        *drafted += y.n_drafted;
        forget(&b, &y);
    }
    forget(&a, &x);
}

static void guesses_never_change_a_story(void **state) {
    (void)state;
    rig g;
    const char *stops[] = {"park", "red ball. T"};
    uint32_t drafted = 0;
    rig_up(&g);
    for (uint32_t i = 0; i < 24; i++) {
        rotor_gen_options o = rotor_gen_options_default(g.e);
        o.temperature = (float)(i % 3) * 0.6f;
        o.seed = i;
        o.n_top = i % 4;
        o.max_tokens = i % 5 ? 60 : 0;
        o.ignore_eog = i % 5 == 0;
        if (i % 2) o.repeat_penalty = 1.1f, o.presence_penalty = 0.1f;
        if (i % 3 == 1) o.stops = stops, o.n_stops = 2;
        o.draft_max = i % 6;
        same_with_guesses(&g, o, &drafted);
    }
    assert_true(drafted > 24);
    rig_down(&g);
}

static void threads_are_shared(void **state) {
    (void)state;
    rig g;
    rotor_engine_info a = {.size = sizeof a}, b = {.size = sizeof b};
    rig_up(&g);
    OK(rotor_engine_get_info(g.e, &a));
    OK(rotor_engine_get_info(g.small, &b));
    assert_true(a.threads == 2 && b.threads == 2);
    rig_down(&g);
}

static void only_an_equal_vocabulary_may_draft(void **state) {
    (void)state;
    rig g;
    char path[96];
    const char *told[] = {"of another engine", "vocabulary has 97 tokens, not 512"};
    rig_up(&g);
    tiny_write(tiny_path(path, "draft.gguf"), TINY_BITNET, tiny_default(), 1, NULL);
    rotor_engine *other = on_threads_of(g.e, path, &api_err);
    rotor_session *strange = NULL;
    assert_non_null(other);
    OK(rotor_session_create(&strange, other, 0, &api_err));
    rotor_session *bad[] = {g.s, strange};
    for (int i = 0; i < 2; i++) {
        rotor_gen_options o = rotor_gen_options_default(g.e);
        rotor_gen_result r = {0};
        o.draft = bad[i];
        assert_int_equal(rotor_generate_text(g.s, "Hi", &o, &r, &api_err), ROTOR_E_ARG);
        if (!strstr(api_err.message, told[i])) fail_msg("%s", api_err.message);
        assert_null(r.text);
    }
    assert_int_equal(rotor_draft_check(g.s, NULL, &api_err), ROTOR_E_ARG);
    OK(rotor_draft_check(g.s, g.d, &api_err));
    rotor_gen_options o = rotor_gen_options_default(g.e);
    rotor_gen_result r = {0};
    o.draft_max = 65;
    assert_int_equal(rotor_generate_text(g.s, "Hi", &o, &r, &api_err), ROTOR_E_ARG);
    assert_non_null(strstr(api_err.message, "draft_max is 65"));
    rotor_session_free(&strange);
    rotor_engine_close(&other);
    unlink(path);
    rig_down(&g);
}

/* A model file with one word changed. */
static void the_word_that_differs_is_named(void **state) {
    (void)state;
    rig g;
    base_file f;
    rotor_engine *other = NULL;
    rotor_session *d = NULL;
    rotor_gen_result r = {0};
    rig_up(&g);
    OK(base_file_open(&f, story_path(), false, &api_err));
    uint8_t *copy = malloc(f.size), *at;
    memcpy(copy, f.data, f.size);
    uint32_t *ids;
    size_t n;
    OK(rotor_tokenize(g.e, " Lily", 5, 0, &ids, &n, &api_err));
    at = memmem(copy, f.size, "\xE2\x96\x81Lily", 7);
    assert_non_null(at);
    memcpy(at, "\xE2\x96\x81Lola", 7);
    rotor_engine_options eo = rotor_engine_options_default();
    eo.threads_of = g.e;
    OK(rotor_engine_open_memory(&other, copy, f.size, "lola", &eo, &api_err));
    OK(rotor_session_create(&d, other, 0, &api_err));
    rotor_gen_options o = rotor_gen_options_default(g.e);
    char want[80];
    o.draft = d;
    for (int twice = 0; twice < 2; twice++) { /* the second time from memory */
        assert_int_equal(rotor_generate_text(g.s, "Hi", &o, &r, &api_err), ROTOR_E_ARG);
        snprintf(want, sizeof want, "token %u is '\xE2\x96\x81Lola', not '\xE2\x96\x81Lily'",
                 ids[n - 1]);
        if (!strstr(api_err.message, want)) fail_msg("%s", api_err.message);
    }
    rotor_free(ids);
    rotor_session_free(&d);
    rotor_engine_close(&other);
    base_file_close(&f);
    free(copy);
    rig_down(&g);
}

/* From opening the draft to the last token. */
static rotor_status draft_and_tell(rig *g, rotor_error *err) {
    rotor_gen_options o = rotor_gen_options_default(g->e);
    rotor_gen_result r = {0};
    rotor_engine *small = on_threads_of(g->e, story_path(), err);
    rotor_session *d = NULL;
    rotor_status st = small ? rotor_session_create(&d, small, 0, err) : err->code;
    o.draft = d;
    o.lookup = 2;
    o.max_tokens = 12;
    if (st == ROTOR_OK) st = rotor_generate_text(g->s, repeated, &o, &r, err);
    rotor_gen_result_free(&r);
    rotor_session_free(&d);
    rotor_engine_close(&small);
    return st;
}

static void every_fault_is_survived(void **state) {
    (void)state;
    rig g;
    bool fired = true;
    rig_up(&g);
    for (long n = 1; fired; n++) {
        rotor_error err = {0};
        assert_true(n < 2000);
        base_fault_after(n);
        rotor_status st = draft_and_tell(&g, &err);
        fired = base_fault_fired();
        base_fault_after(0);
        if (!fired) assert_int_equal(st, ROTOR_OK);
        if (st != ROTOR_OK) assert_true(strlen(err.message) > 10);
    }
    rig_down(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guesses_never_change_a_story),
        cmocka_unit_test(threads_are_shared),
        cmocka_unit_test(only_an_equal_vocabulary_may_draft),
        cmocka_unit_test(the_word_that_differs_is_named),
        cmocka_unit_test(every_fault_is_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
