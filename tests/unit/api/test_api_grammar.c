/* SPDX-License-Identifier: MIT
 *
 * Grammars through the public API, on the story model: alone, guessing, in a batch, with stop texts
 * and a context that shifts; beside the format of answers in parts; and what is refused.
 */
#include "api_rig.h"

#include "base/base.h"
#include "rotor_batch.h"
#include "rotor_chat.h"
#include "tiny_model.h"

static const char schema[] =
    "{\"type\":\"object\",\"properties\":{\"who\":{\"enum\":[\"cat\",\"dog\"]},"
    "\"n\":{\"type\":\"integer\",\"minimum\":10,\"maximum\":99},"
    "\"s\":{\"type\":\"string\",\"maxLength\":20}},\"required\":[\"who\",\"n\",\"s\"]}";

typedef struct rig {
    rotor_engine *e;    /* story model */
    rotor_session *s;   /* on it */
    rotor_grammar *g;   /* rules */
    rotor_gen_result r; /* of the last run */
} rig;

static void rig_up(rig *g, rotor_grammar_kind kind, const char *text) {
    memset(g, 0, sizeof *g);
    g->e = story(256, 4);
    OK(rotor_session_create(&g->s, g->e, 0, &api_err));
    OK(rotor_grammar_create(&g->g, g->e, kind, text, &api_err));
}

static void rig_down(rig *g) {
    rotor_gen_result_free(&g->r);
    rotor_grammar_free(&g->g);
    rotor_grammar_free(&g->g);
    rotor_session_free(&g->s);
    rotor_engine_close(&g->e);
}

static rotor_gen_options options(const rig *g, uint64_t seed) {
    rotor_gen_options o = rotor_gen_options_default(g->e);
    o.temperature = seed ? 1 : 0;
    o.top_k = 0;
    o.top_p = 1;
    o.min_p = 0;
    o.seed = seed;
    o.max_tokens = 200;
    o.grammar = g->g;
    return o;
}

static void tell(rig *g, const rotor_gen_options *o) {
    rotor_gen_result_free(&g->r);
    OK(rotor_generate_text(g->s, "Once upon a time", o, &g->r, &api_err));
}

/* What is in the text where the schema has been kept to; white space may stand between its parts.
 */
static void expect_kept(const rotor_gen_result *r) {
    char who[8], text[64], plain[256];
    int n = 0, end = 0;
    size_t used = 0;
    assert_int_equal(r->finish, ROTOR_FINISH_END);
    for (const char *p = r->text; *p && used < sizeof plain - 1; p++)
        if (!strchr(" \n\t", *p)) plain[used++] = *p;
    plain[used] = 0;
    if (sscanf(plain, "{\"who\":\"%7[a-z]\",\"n\":%2d,\"s\":\"%n", who, &n, &end) != 2 || !end)
        fail_msg("'%s'", r->text);
    assert_true(!strcmp(who, "cat") || !strcmp(who, "dog"));
    assert_true(n >= 10);
    snprintf(text, sizeof text, "%s", plain + strlen(plain) - 2);
    assert_string_equal(text, "\"}");
}

static void texts_follow_their_rules(void **state) {
    (void)state;
    rig g;
    rig_up(&g, ROTOR_GRAMMAR_JSON_SCHEMA, schema);
    for (uint64_t seed = 0; seed < 12; seed++) {
        rotor_gen_options o = options(&g, seed);
        tell(&g, &o);
        expect_kept(&g.r);
    }
    rotor_gen_options o = options(&g, 1);
    o.n_top = 3;
    o.on_logits = NULL;
    tell(&g, &o);
    expect_kept(&g.r);
    o.max_tokens = 5;
    tell(&g, &o);
    assert_int_equal(g.r.finish, ROTOR_FINISH_LENGTH);
    rig_down(&g);
}

/* A space that begins the text is one, though this vocabulary drops such spaces elsewhere. */
static void the_first_space_counts(void **state) {
    (void)state;
    rig g;
    rig_up(&g, ROTOR_GRAMMAR_GBNF, "root ::= \" \" [a-z]{3} \" \"{2} \"!\"");
    for (uint64_t seed = 0; seed < 5; seed++) {
        rotor_gen_options o = options(&g, seed);
        tell(&g, &o);
        assert_int_equal(g.r.n_bytes, 7);
        assert_true(g.r.text[0] == ' ' && !strcmp(g.r.text + 4, "  !"));
    }
    rig_down(&g);
}

static void any_object_is_one(void **state) {
    (void)state;
    rig g;
    rig_up(&g, ROTOR_GRAMMAR_JSON_OBJECT, NULL);
    rotor_gen_options o = options(&g, 3);
    o.max_tokens = 40;
    tell(&g, &o);
    assert_int_equal(g.r.text[0], '{');
    rig_down(&g);
}

static void guessing_changes_nothing(void **state) {
    (void)state;
    rig g;
    rig_up(&g, ROTOR_GRAMMAR_GBNF, "root ::= ([a-z]{2,6} \" \" [0-9]{1,3} \"; \"){20} \".\"");
    for (uint64_t seed = 0; seed < 4; seed++) {
        rotor_gen_options o = options(&g, seed);
        tell(&g, &o);
        char *alone = base_strdup(g.r.text);
        o.lookup = 1;
        tell(&g, &o);
        assert_string_equal(g.r.text, alone);
        base_free(alone);
    }
    rig_down(&g);
}

static void stop_texts_end_it_before(void **state) {
    (void)state;
    rig g;
    const char *stops[] = {"\"n\""};
    rig_up(&g, ROTOR_GRAMMAR_JSON_SCHEMA, schema);
    rotor_gen_options o = options(&g, 1);
    o.stops = stops;
    o.n_stops = 1;
    tell(&g, &o);
    assert_int_equal(g.r.finish, ROTOR_FINISH_STOP);
    assert_true(strstr(g.r.text, "who") && !strstr(g.r.text, "\"n\""));
    rig_down(&g);
}

static void a_shifted_context_keeps_its_place(void **state) {
    (void)state;
    rig g;
    rig_up(&g, ROTOR_GRAMMAR_GBNF, "root ::= \"<\" [a-z ]{600} \">\"");
    rotor_gen_options o = options(&g, 2);
    o.full = ROTOR_FULL_SHIFT;
    o.max_tokens = 2000;
    tell(&g, &o);
    assert_int_equal(g.r.finish, ROTOR_FINISH_END);
    assert_int_equal(g.r.n_bytes, 602);
    assert_true(g.r.n_shifts > 0);
    rig_down(&g);
}

/* Jobs of a batch, two of which share a grammar, get the texts they get alone. */
static void batches_share_grammars(void **state) {
    (void)state;
    rig g;
    rotor_batch *b = NULL;
    rotor_grammar *other = NULL;
    uint32_t job[4], n_live = 1, *ids = NULL;
    size_t n;
    rotor_gen_options o[4];
    const char *text = "Once upon a time";
    rig_up(&g, ROTOR_GRAMMAR_JSON_SCHEMA, schema);
    OK(rotor_grammar_create(&other, g.e, ROTOR_GRAMMAR_GBNF, "root ::= [a-z]{30}", &api_err));
    OK(rotor_tokenize(g.e, text, strlen(text), ROTOR_TOK_BOS, &ids, &n, &api_err));
    OK(rotor_batch_create(&b, g.e, NULL, &api_err));
    for (size_t i = 0; i < 4; i++) {
        o[i] = options(&g, i + 1);
        o[i].max_tokens = 60;
        if (i == 2) o[i].grammar = other;
        if (i == 3) o[i].grammar = NULL;
        OK(rotor_batch_add(b, ids, n, &o[i], 0, &job[i], &api_err));
    }
    while (n_live) OK(rotor_batch_step(b, &n_live, &api_err));
    for (size_t i = 0; i < 4; i++) {
        rotor_gen_result r = {0};
        OK(rotor_batch_result(b, job[i], &r, &api_err));
        tell(&g, &o[i]);
        assert_string_equal(r.text, g.r.text);
        assert_int_equal(r.finish, g.r.finish);
        rotor_gen_result_free(&r);
    }
    rotor_free(ids);
    rotor_batch_free(&b);
    rotor_grammar_free(&other);
    rig_down(&g);
}

/* Each beam has a place of its own in the rules. */
static void beams_follow_their_rules(void **state) {
    (void)state;
    rig g;
    uint32_t *ids;
    size_t n;
    rig_up(&g, ROTOR_GRAMMAR_JSON_SCHEMA, schema);
    OK(rotor_tokenize(g.e, "Once upon a time", 16, ROTOR_TOK_BOS, &ids, &n, &api_err));
    rotor_gen_options o = options(&g, 0);
    tell(&g, &o);
    char *one = base_strdup(g.r.text);
    for (uint32_t width = 1; width <= 4; width++) {
        rotor_gen_result_free(&g.r);
        OK(rotor_generate_beam(g.s, ids, n, width, 120, g.g, &g.r, &api_err));
        if (width == 1) assert_string_equal(g.r.text, one);
        expect_kept(&g.r);
    }
    rotor_gen_result_free(&g.r);
    OK(rotor_generate_beam(g.s, ids, n, 3, 4, g.g, &g.r, &api_err));
    assert_int_equal(g.r.finish, ROTOR_FINISH_LENGTH);
    rotor_engine *stranger = story(64, 1);
    rotor_grammar *other = NULL;
    OK(rotor_grammar_create(&other, stranger, ROTOR_GRAMMAR_GBNF, "root ::= \"a\"", &api_err));
    rotor_gen_result_free(&g.r);
    assert_int_equal(rotor_generate_beam(g.s, ids, n, 2, 4, other, &g.r, &api_err), ROTOR_E_ARG);
    rotor_grammar_free(&other);
    rotor_engine_close(&stranger);
    base_free(one);
    rotor_free(ids);
    rig_down(&g);
}

static void what_cannot_be_is_refused(void **state) {
    (void)state;
    rig g;
    rotor_grammar *none = NULL;
    rotor_engine *stranger = story(64, 1);
    rig_up(&g, ROTOR_GRAMMAR_GBNF, "root ::= \"a\"");
    rotor_gen_options o = options(&g, 1);
    o.ignore_eog = true;
    assert_int_equal(rotor_generate_text(g.s, "x", &o, &g.r, &api_err), ROTOR_E_ARG);
    assert_non_null(strstr(api_err.message, "ignore_eog"));
    o.ignore_eog = false;
    OK(rotor_grammar_create(&none, stranger, ROTOR_GRAMMAR_GBNF, "root ::= \"a\"", &api_err));
    o.grammar = none;
    assert_int_equal(rotor_generate_text(g.s, "x", &o, &g.r, &api_err), ROTOR_E_ARG);
    assert_non_null(strstr(api_err.message, "another engine"));
    rotor_grammar_free(&none);
    assert_int_equal(rotor_grammar_create(&none, g.e, ROTOR_GRAMMAR_GBNF, "root ::= ", &api_err),
                     ROTOR_OK); /* the empty text */
    o.grammar = none;
    tell(&g, &o);
    assert_true(g.r.n_ids == 0 && g.r.finish == ROTOR_FINISH_END);
    rotor_grammar_free(&none);
    assert_int_equal(rotor_grammar_create(&none, g.e, 7, "x", &api_err), ROTOR_E_ARG);
    assert_int_equal(rotor_grammar_create(&none, g.e, ROTOR_GRAMMAR_GBNF, NULL, &api_err),
                     ROTOR_E_ARG);
    assert_int_equal(rotor_grammar_create(&none, g.e, ROTOR_GRAMMAR_GBNF, "root ::= x", &api_err),
                     ROTOR_E_FORMAT);
    assert_null(none);
    rotor_engine_close(&stranger);
    rig_down(&g);
}

static void too_many_states_are_an_error(void **state) {
    (void)state;
    rig g;
    rig_up(&g, ROTOR_GRAMMAR_GBNF,
           "root ::= \"x\" root \"y\" | \"x\" root \"z\" | \"x\" root \"w\" | \"\"");
    rotor_gen_options o = options(&g, 1);
    const uint32_t x = 3 + 'x';
    const float add = 1000;
    o.bias_ids = &x;
    o.bias = &add;
    o.n_bias = 1;
    assert_int_equal(rotor_generate_text(g.s, "x", &o, &g.r, &api_err), ROTOR_E_FULL);
    assert_non_null(strstr(api_err.message, "ambiguous"));
    rig_down(&g);
}

/* ==== Answers in parts ======================================================================== */

typedef struct script {
    uint32_t *ids; /* [n] what the model means to say, owned */
    size_t n, at;  /* how many, said */
} script;

static void say_next(void *user, float *logits, uint32_t n_vocab) {
    script *s = user;
    for (uint32_t i = 0; i < n_vocab; i++) logits[i] = -(float)i / 1000;
    if (s->at < s->n) logits[s->ids[s->at]] = 10;
    s->at++;
}

typedef struct said {
    const char *model;     /* what it means to say behind <|start|>assistant */
    const char *reasoning; /* what comes of it */
    const char *answer;    /* … */
    const char *call;      /* arguments; NULL: none */
} said;

/* Blanks between the parts of a call's arguments are the model's. */
static void expect_call(const char *arguments, const char *want) {
    char plain[256];
    size_t n = 0;
    for (const char *c = arguments; *c && n + 1 < sizeof plain; c++)
        if (!strchr(" \n\t", *c)) plain[n++] = *c;
    plain[n] = 0;
    assert_string_equal(plain, want);
}

static void check_said(rotor_engine *e, const rotor_grammar *g, const rotor_grammar *bound,
                       const said *c) {
    rotor_session *s = NULL;
    rotor_reply *reply = NULL;
    rotor_gen_result r = {0};
    const rotor_tool_call *calls = NULL;
    const rotor_turn turn = {.role = "user", .content = "q"};
    rotor_gen_options o = rotor_gen_options_default(e);
    script lines = {0};
    uint32_t *prompt = NULL;
    size_t n = 0;
    OK(rotor_tokenize(e, c->model, strlen(c->model), ROTOR_TOK_SPECIAL, &lines.ids, &lines.n,
                      &api_err));
    OK(rotor_session_create(&s, e, 0, &api_err));
    OK(rotor_chat_prompt(e, &turn, 1, NULL, &prompt, &n, NULL, &api_err));
    OK(rotor_reply_create(&reply, e, NULL, NULL, &api_err));
    o.temperature = 0;
    o.max_tokens = 200;
    o.reply = reply;
    o.grammar = g;
    o.calls = bound;
    o.on_logits = say_next;
    o.user = &lines;
    OK(rotor_generate(s, prompt, n, &o, &r, &api_err));
    assert_int_equal(r.finish, ROTOR_FINISH_END);
    assert_string_equal(rotor_reply_text(reply, ROTOR_PART_REASONING), c->reasoning);
    assert_string_equal(rotor_reply_text(reply, ROTOR_PART_ANSWER), c->answer);
    assert_int_equal(rotor_reply_calls(reply, &calls), c->call != NULL);
    if (c->call) expect_call(calls[0].arguments, c->call);
    rotor_reply_free(&reply);
    rotor_gen_result_free(&r);
    rotor_session_free(&s);
    rotor_free(prompt);
    rotor_free(lines.ids);
}

/* A model of the Harmony format, which is a file at path[96]. */
static rotor_engine *open_marked(char *path) {
    static const char *const marks[] = {"<|start|>",     "<|channel|>",   "<|message|>",
                                        "<|end|>",       "<|return|>",    "<|call|>",
                                        "<|constrain|>", "<|endoftext|>", NULL};
    rotor_engine *e = NULL;
    rotor_engine_options o = rotor_engine_options_default();
    tiny_shape shape = tiny_default();
    shape.n_layer = 1;
    shape.n_vocab = 300;
    shape.n_ctx = 4096;
    tiny_write_marked(tiny_path(path, "bound.gguf"), shape, 1, marks);
    o.threads = 1;
    o.chat_template = "harmony";
    OK(rotor_engine_open(&e, path, &o, &api_err));
    return e;
}

static void the_answer_alone_is_bound(void **state) {
    (void)state;
    static const said list[] = {
        {"<|channel|>analysis<|message|>hm, x<|end|><|start|>assistant<|channel|>final<|message|>"
         "[ab]<|return|>",
         "hm, x", "[ab]", NULL},
        /* The turn does not end with what was thought, nor with half an answer. */
        {"<|channel|>analysis<|message|>hm<|return|><|end|><|start|>assistant<|channel|>final"
         "<|message|>[]<|return|>",
         "hm!", "[]", NULL},
        {"<|channel|>final<|message|>[a<|return|>", "", "[a!]", NULL},
        {"<|channel|>final<|message|>[a<|end|>]<|return|>", "", "[a!]", NULL},
        {"<|channel|>final<|message|>xy", "", "[y!]", NULL},
        {"<|channel|>commentary to=functions.get<|message|>{1}<|call|>", "", "", "{1}"},
    };
    char path[96];
    rotor_engine *e = open_marked(path);
    rotor_grammar *g = NULL;
    OK(rotor_grammar_create(&g, e, ROTOR_GRAMMAR_GBNF, "root ::= \"[\" [a-z!]{0,2} \"]\"",
                            &api_err));
    for (size_t i = 0; i < BASE_COUNT(list); i++) check_said(e, g, NULL, &list[i]);
    rotor_grammar_free(&g);
    rotor_engine_close(&e);
    remove(path);
}

#define TOOL                                                                                       \
    "[{\"type\":\"function\",\"function\":{\"name\":\"get\",\"parameters\":{\"type\":\"object\","  \
    "\"properties\":{\"n\":{\"enum\":[1]}},\"required\":[\"n\"]}}}]"
#define THOUGHT(text) "<|channel|>analysis<|message|>" text "<|end|><|start|>assistant"
#define CALL          "<|channel|>commentary to=functions."

static void calls_are_bound(void **state) {
    (void)state;
    /* Free, until a call has begun. */
    static const said free_ones[] = {
        {THOUGHT("hm") "<|channel|>final<|message|>{2}<|return|>", "hm", "{2}", NULL},
        {THOUGHT("hm") CALL "get<|message|>{\"n\":1}<|call|>", "hm", "", "{\"n\":1}"},
        {CALL "get <|constrain|>json<|message|>{2}<|call|>", "", "", "{\"n\":1}"},
        {" to=functions.get<|channel|>commentary json<|message|>no<|call|>", "", "", "{\"n\":1}"},
        {CALL "fly<|message|>{}<|call|>", "", "", "{\"n\":1}"},
    };
    /* It thinks first, or not; then it calls. */
    static const said forced[] = {
        {THOUGHT("hm") "<|channel|>final<|message|>{2}<|return|>", "hm", "", "{\"n\":1}"},
        {THOUGHT("h<|return|>") THOUGHT("x"), "h!", "", "{\"n\":1}"},
        {CALL "get<|message|>{\"n\":1}<|call|>", "", "", "{\"n\":1}"},
    };
    /* An answer has its shape beside them. */
    static const said shaped[] = {
        {THOUGHT("hm") "<|channel|>final<|message|>[ab]<|return|>", "hm", "[ab]", NULL},
        {THOUGHT("hm") "<|channel|>final <|constrain|>json<|message|>[a<|return|>", "hm", "[a!]",
         NULL},
        {THOUGHT("hm") CALL "get<|message|>[a]<|call|>", "hm", "", "{\"n\":1}"},
    };
    char path[96];
    rotor_engine *e = open_marked(path);
    rotor_grammar *g = NULL, *calls = NULL;
    rotor_call_options o = rotor_call_options_default();
    o.tools = TOOL;
    o.single = true;
    OK(rotor_grammar_create(&g, e, ROTOR_GRAMMAR_GBNF, "root ::= \"[\" [a-z!]{0,2} \"]\"",
                            &api_err));
    OK(rotor_grammar_create_calls(&calls, e, &o, &api_err));
    for (size_t i = 0; i < BASE_COUNT(free_ones); i++) check_said(e, NULL, calls, &free_ones[i]);
    for (size_t i = 0; i < BASE_COUNT(shaped); i++) check_said(e, g, calls, &shaped[i]);
    rotor_grammar_free(&calls);
    o.required = true;
    OK(rotor_grammar_create_calls(&calls, e, &o, &api_err));
    for (size_t i = 0; i < BASE_COUNT(forced); i++) check_said(e, NULL, calls, &forced[i]);
    for (size_t i = 0; i < BASE_COUNT(forced); i++) check_said(e, g, calls, &forced[i]);
    assert_true(rotor_grammar_bytes(calls) > 0);
    rotor_grammar_free(&calls);
    rotor_grammar_free(&g);
    rotor_engine_close(&e);
    remove(path);
}

static void expect_no(rotor_session *s, const rotor_gen_options *o, const char *why) {
    rotor_gen_result r = {0};
    assert_int_equal(rotor_generate_text(s, "x", o, &r, &api_err), ROTOR_E_ARG);
    if (!strstr(api_err.message, why)) fail_msg("'%s' is not in '%s'", why, api_err.message);
}

static void calls_have_their_place(void **state) {
    (void)state;
    char path[96];
    rotor_engine *e = open_marked(path), *stranger = story(64, 1);
    rotor_session *s = NULL, *apart = NULL;
    rotor_grammar *g = NULL, *calls = NULL;
    rotor_reply *reply = NULL;
    rotor_call_options c = rotor_call_options_default();
    c.tools = TOOL;
    OK(rotor_session_create(&s, e, 0, &api_err));
    OK(rotor_session_create(&apart, stranger, 0, &api_err));
    OK(rotor_grammar_create(&g, e, ROTOR_GRAMMAR_JSON_OBJECT, NULL, &api_err));
    OK(rotor_grammar_create_calls(&calls, e, &c, &api_err));
    rotor_gen_options o = rotor_gen_options_default(e);
    o.calls = calls;
    expect_no(s, &o, "the prompt opens none");
    expect_no(apart, &o, "another engine");
    o.ignore_eog = true;
    expect_no(s, &o, "ignore_eog");
    o.ignore_eog = false;
    o.calls = g;
    expect_no(s, &o, "other rules go into grammar");
    o.calls = NULL;
    o.grammar = calls;
    expect_no(s, &o, "go into calls");
    assert_int_equal(rotor_reply_create_calls(&reply, e, &c, NULL, NULL, &api_err),
                     ROTOR_E_UNSUPPORTED);
    assert_null(reply);
    rotor_grammar_free(&calls);
    rotor_grammar_free(&g);
    rotor_session_free(&s);
    rotor_session_free(&apart);
    rotor_engine_close(&e);
    rotor_engine_close(&stranger);
    remove(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_follow_their_rules),
        cmocka_unit_test(the_first_space_counts),
        cmocka_unit_test(any_object_is_one),
        cmocka_unit_test(guessing_changes_nothing),
        cmocka_unit_test(stop_texts_end_it_before),
        cmocka_unit_test(a_shifted_context_keeps_its_place),
        cmocka_unit_test(batches_share_grammars),
        cmocka_unit_test(beams_follow_their_rules),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(too_many_states_are_an_error),
        cmocka_unit_test(the_answer_alone_is_bound),
        cmocka_unit_test(calls_are_bound),
        cmocka_unit_test(calls_have_their_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
