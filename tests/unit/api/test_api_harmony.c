/* SPDX-License-Identifier: MIT
 *
 * rotor_chat.h: turns to prompts with reasoning, calls and tools; answers in parts; which id ended
 * a generation. What the format itself does is tested in tests/unit/chat.
 */
#include "api_rig.h"

#include <time.h>

#include "base/base.h"
#include "rotor_chat.h"
#include "tiny_model.h"

static const char *const marks[] = {"<|start|>",     "<|channel|>",   "<|message|>",
                                    "<|end|>",       "<|return|>",    "<|call|>",
                                    "<|constrain|>", "<|endoftext|>", NULL};
static char model_path[96];

static rotor_engine *open_model(const char *template) {
    rotor_engine *e = NULL;
    rotor_engine_options o = rotor_engine_options_default();
    o.threads = 1;
    o.ctx = 4096;
    o.chat_template = template;
    OK(rotor_engine_open(&e, model_path, &o, &api_err));
    return e;
}

static int make_model(void **state) {
    (void)state;
    tiny_shape s = tiny_default();
    s.n_layer = 1;
    s.n_vocab = 300;
    s.n_ctx = 4096;
    tiny_write_marked(tiny_path(model_path, "harmony.gguf"), s, 1, marks);
    return 0;
}

static int remove_model(void **state) {
    (void)state;
    return remove(model_path);
}

/* ==== Prompts ================================================================================= */

#define TOOLS                                                                                      \
    "[{\"type\": \"function\", \"function\": {\"name\": \"get\", \"description\": \"Gets it.\"}}]"
#define SYSTEM_HEAD                                                                                \
    "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\n"       \
    "Knowledge cutoff: 2024-06\n"
#define CHANNELS                                                                                   \
    "\n\n# Valid channels: analysis, commentary, final. Channel must be included for every "       \
    "message."

static void expect_prompt(const rotor_engine *e, const rotor_turn *turns, size_t n_turns,
                          const rotor_chat_options *opt, const char *want) {
    uint32_t *ids = NULL;
    size_t n = 0;
    char *prompt = NULL;
    OK(rotor_chat_prompt(e, turns, n_turns, opt, &ids, &n, &prompt, &api_err));
    assert_string_equal(prompt, want);
    assert_true(n > 10);
    rotor_free(ids);
    rotor_free(prompt);
}

static void turns_become_messages(void **state) {
    (void)state;
    rotor_engine *e = open_model("harmony");
    rotor_chat_options opt = rotor_chat_options_default();
    opt.date = "2025-06-28";
    opt.effort = ROTOR_EFFORT_HIGH;
    opt.tools = TOOLS;
    const rotor_tool_call calls[] = {{.name = "get", .arguments = "{}"},
                                     {.name = "get", .arguments = "{\"a\":1}"}};
    const rotor_turn turns[] = {
        {.role = "system", .content = "Be brief."},
        {.role = "developer", .content = "Be kind."},
        {.role = "user", .content = "q"},
        {.role = "assistant", .reasoning = "old", .content = "a"},
        {.role = "user", .content = "r"},
        {.role = "assistant", .reasoning = "new", .content = "Wait.", .calls = calls, .n_calls = 2},
        {.role = "tool", .name = "get", .content = "7"}};
    expect_prompt(e, turns, 7, &opt,
                  SYSTEM_HEAD
                  "Current date: 2025-06-28\n\nReasoning: high" CHANNELS
                  "\nCalls to these tools must go to the commentary channel: 'functions'.<|end|>"
                  "<|start|>developer<|message|># Instructions\n\nBe brief.\n\nBe kind.\n\n"
                  "# Tools\n\n## functions\n\nnamespace functions {\n\n// Gets it.\n"
                  "type get = () => any;\n\n} // namespace functions<|end|>"
                  "<|start|>user<|message|>q<|end|>"
                  "<|start|>assistant<|channel|>final<|message|>a<|end|>"
                  "<|start|>user<|message|>r<|end|>"
                  "<|start|>assistant<|channel|>analysis<|message|>new<|end|>"
                  "<|start|>assistant<|channel|>commentary<|message|>Wait.<|end|>"
                  "<|start|>assistant to=functions.get<|channel|>commentary <|constrain|>json"
                  "<|message|>{}<|call|>"
                  "<|start|>assistant to=functions.get<|channel|>commentary <|constrain|>json"
                  "<|message|>{\"a\":1}<|call|>"
                  "<|start|>functions.get to=assistant<|channel|>commentary<|message|>7<|end|>"
                  "<|start|>assistant");
    rotor_engine_close(&e);
}

static void today_is_the_default_date(void **state) {
    (void)state;
    rotor_engine *e = open_model("harmony");
    rotor_chat_options opt = rotor_chat_options_default();
    const rotor_turn turn = {.role = "user", .content = "q"};
    while (time(NULL) % 86400 > 86400 - 15) base_sleep_us(500000); /* not across midnight */
    const time_t now = time(NULL);
    char date[32], want[400];
    strftime(date, sizeof date, "%Y-%m-%d", gmtime(&now));
    snprintf(want, sizeof want, "%s",
             SYSTEM_HEAD "Current date: DATE______\n\nReasoning: medium" CHANNELS
                         "<|end|><|start|>user<|message|>q<|end|><|start|>assistant");
    memcpy(strstr(want, "DATE______"), date, 10);
    expect_prompt(e, &turn, 1, NULL, want);
    opt.date = "";
    opt.effort = ROTOR_EFFORT_LOW;
    expect_prompt(e, &turn, 1, &opt,
                  SYSTEM_HEAD "\nReasoning: low" CHANNELS
                              "<|end|><|start|>user<|message|>q<|end|><|start|>assistant");
    const rotor_message message = {"user", "q"};
    uint32_t *ids = NULL;
    size_t n = 0;
    char *prompt = NULL;
    OK(rotor_chat_tokenize(e, &message, 1, &ids, &n, &prompt, &api_err));
    assert_string_equal(prompt, want);
    rotor_free(ids);
    rotor_free(prompt);
    rotor_engine_close(&e);
}

static void generated_ids_are_repeated(void **state) {
    (void)state;
    rotor_engine *e = open_model("harmony");
    rotor_chat_options opt = rotor_chat_options_default();
    const char *said = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final"
                       "<|message|>a";
    rotor_turn turns[] = {{.role = "user", .content = "q"}, {.role = "assistant"}};
    uint32_t *ids = NULL;
    OK(rotor_tokenize(e, said, strlen(said), ROTOR_TOK_SPECIAL, &ids, &turns[1].n_ids, &api_err));
    turns[1].ids = ids;
    opt.date = "";
    expect_prompt(e, turns, 2, &opt,
                  SYSTEM_HEAD
                  "\nReasoning: medium" CHANNELS "<|end|><|start|>user<|message|>q<|end|>"
                  "<|start|>assistant<|channel|>final<|message|>a<|end|><|start|>assistant");
    rotor_free(ids);
    rotor_engine_close(&e);
}

static void expect_error(const rotor_engine *e, const rotor_turn *turn,
                         const rotor_chat_options *opt, rotor_status want, const char *say) {
    uint32_t *ids = NULL;
    size_t n = 0;
    rotor_error err = {0};
    assert_int_equal(rotor_chat_prompt(e, turn, 1, opt, &ids, &n, NULL, &err), want);
    if (!strstr(err.message, say)) fail_msg("'%s' is not in '%s'", say, err.message);
    assert_null(ids);
}

static void bad_turns_are_refused(void **state) {
    (void)state;
    rotor_engine *e = open_model("harmony"), *plain = open_model("plain");
    rotor_chat_options opt = rotor_chat_options_default();
    const uint32_t far = 300;
    const rotor_tool_call call = {.name = "f", .arguments = "{}"};
    const rotor_turn fine = {.role = "user", .content = "q"};
    const rotor_turn called = {.role = "assistant", .content = "", .calls = &call, .n_calls = 1};
    expect_error(e, &(rotor_turn){.content = "q"}, NULL, ROTOR_E_ARG, "role or content");
    expect_error(e, &(rotor_turn){.role = "user"}, NULL, ROTOR_E_ARG, "role or content");
    expect_error(e, &(rotor_turn){.role = "assistant", .n_ids = 2}, NULL, ROTOR_E_ARG, "counted");
    expect_error(e, &(rotor_turn){.role = "assistant", .ids = &far, .n_ids = 1}, NULL, ROTOR_E_ARG,
                 "outside the vocabulary");
    expect_error(e, &(rotor_turn){.role = "tool", .content = "x"}, NULL, ROTOR_E_ARG,
                 "tool's name");
    opt.tools = "{";
    expect_error(e, &fine, &opt, ROTOR_E_FORMAT, "tools: not JSON");
    opt.tools = TOOLS;
    expect_error(plain, &fine, &opt, ROTOR_E_UNSUPPORTED, "knows no tools");
    expect_error(plain, &called, NULL, ROTOR_E_UNSUPPORTED, "knows no tools");
    opt.effort = (rotor_effort)7;
    expect_error(e, &fine, &opt, ROTOR_E_ARG, "effort");
    opt.size = 3;
    expect_error(e, &fine, &opt, ROTOR_E_ARG, "rotor_chat_options");
    rotor_engine_close(&e);
    rotor_engine_close(&plain);
}

static void other_formats_have_no_parts(void **state) {
    (void)state;
    rotor_engine *plain = open_model("plain"), *e = open_model("harmony"), *none = NULL;
    rotor_engine_info info = {.size = sizeof info};
    rotor_reply *r = NULL;
    assert_false(rotor_chat_has_parts(plain));
    assert_true(rotor_chat_has_parts(e));
    assert_int_equal(rotor_reply_create(&r, plain, NULL, NULL, &api_err), ROTOR_E_UNSUPPORTED);
    assert_null(r);
    const uint32_t id = 1;
    const rotor_turn turn = {.role = "user", .content = "q", .ids = &id, .n_ids = 1};
    uint32_t *ids = NULL;
    size_t n = 0;
    char *prompt = NULL;
    OK(rotor_chat_prompt(plain, &turn, 1, NULL, &ids, &n, &prompt, &api_err));
    assert_string_equal(prompt, "User: q\nAssistant: ");
    rotor_free(ids);
    rotor_free(prompt);
    OK(rotor_engine_get_info(e, &info));
    assert_non_null(strstr(info.template_line, "harmony"));
    assert_true(info.has_template);
    assert_null(rotor_chat_stop(e, 0));
    size_t i = 0;
    while (rotor_chat_template_name(i)) i++;
    assert_string_equal(rotor_chat_template_name(i - 1), "harmony");
    assert_null(rotor_chat_template_name(i + 1));
    /* Asked for where the marks are missing. */
    rotor_engine_options o = rotor_engine_options_default();
    o.chat_template = "harmony";
    assert_int_equal(rotor_engine_open(&none, story_path(), &o, &api_err), ROTOR_E_UNSUPPORTED);
    assert_non_null(strstr(api_err.message, "it has no token <|start|>"));
    rotor_engine_close(&plain);
    rotor_engine_close(&e);
}

/* ==== Replies ================================================================================= */

static void note(void *user, const rotor_piece *p) {
    base_buf *out = user;
    static const char *const names[] = {"reasoning", "preamble", "answer", "call"};
    if (p->begins) base_buf_printf(out, "[%s %s", names[p->part], p->name);
    base_buf_append(out, p->text, p->n_bytes);
    if (p->ends) base_buf_puts(out, "]");
}

static void answers_come_in_parts(void **state) {
    (void)state;
    rotor_engine *e = open_model("harmony");
    rotor_reply *r = NULL;
    base_buf seen = {0};
    const rotor_tool_call *calls = NULL;
    const char *said =
        "<|channel|>analysis<|message|>hm<|end|><|start|>user<|message|>x<|end|>"
        "<|start|>assistant<|channel|>analysis<|message|>so<|end|>"
        "<|start|>assistant<|channel|>commentary<|message|>Wait.<|end|>"
        "<|start|>assistant<|channel|>commentary to=functions.get json<|message|>{\"a\":1}<|end|>"
        "<|start|>assistant<|channel|>commentary to=browser.open<|message|><|call|>";
    uint32_t *ids = NULL;
    size_t n = 0;
    OK(rotor_tokenize(e, said, strlen(said), ROTOR_TOK_SPECIAL, &ids, &n, &api_err));
    OK(rotor_reply_create(&r, e, note, &seen, &api_err));
    for (size_t i = 0; i < n; i++) OK(rotor_reply_put(r, ids[i], &api_err));
    OK(rotor_reply_put(r, ROTOR_NO_ID, &api_err));
    OK(rotor_reply_end(r, &api_err));
    OK(rotor_reply_end(r, &api_err));
    assert_string_equal(seen.data, "[reasoning hm][reasoning so][preamble Wait.][call get{\"a\":1}]"
                                   "[call browser.open]");
    assert_string_equal(rotor_reply_text(r, ROTOR_PART_REASONING), "hm\nso");
    assert_string_equal(rotor_reply_text(r, ROTOR_PART_PREAMBLE), "Wait.");
    assert_string_equal(rotor_reply_text(r, ROTOR_PART_ANSWER), "");
    assert_int_equal(rotor_reply_calls(r, &calls), 2);
    assert_string_equal(calls[0].name, "get");
    assert_string_equal(calls[0].arguments, "{\"a\":1}");
    assert_string_equal(calls[1].name, "browser.open");
    assert_string_equal(calls[1].arguments, "");
    rotor_reply_free(&r);
    rotor_reply_free(&r);
    base_buf_free(&seen);
    rotor_free(ids);
    rotor_engine_close(&e);
}

/* ==== Generated answers ======================================================================= */

/* A logits hook that says a text, token after token, as far as it may. */
typedef struct script {
    const rotor_engine *e; /* of the vocabulary */
    uint32_t *ids;         /* [n] owned */
    size_t n, at;          /* how many, said */
} script;

static void say_next(void *user, float *logits, uint32_t n_vocab) {
    script *s = user;
    for (uint32_t i = 0; i < n_vocab; i++) logits[i] = -(float)i / 1000;
    if (s->at < s->n) logits[s->ids[s->at]] = 10;
    s->at++;
}

typedef struct told {
    rotor_reply *r;          /* owned */
    rotor_gen_result result; /* owned */
    base_buf pieces, text;   /* of on_piece and on_text */
} told;

static told *hearing; /* user is the script's */

static bool hear(void *user, const char *text, size_t n_bytes, const rotor_token *token,
                 const rotor_token *top, size_t n_top) {
    (void)user, (void)token, (void)top, (void)n_top;
    return base_buf_append(&hearing->text, text, n_bytes);
}

/* What comes of a model that means to say this behind <|start|>assistant. */
static told tell(rotor_engine *e, const char *said, size_t n_bytes, rotor_gen_options o) {
    told t = {0};
    script s = {.e = e};
    rotor_session *session = NULL;
    const rotor_turn turn = {.role = "user", .content = "q"};
    uint32_t *prompt = NULL;
    size_t n = 0;
    hearing = &t;
    OK(rotor_tokenize(e, said, n_bytes, ROTOR_TOK_SPECIAL, &s.ids, &s.n, &api_err));
    OK(rotor_session_create(&session, e, 0, &api_err));
    OK(rotor_chat_prompt(e, &turn, 1, NULL, &prompt, &n, NULL, &api_err));
    OK(rotor_reply_create(&t.r, e, note, &t.pieces, &api_err));
    o.temperature = 0;
    o.reply = t.r;
    o.on_logits = say_next;
    o.on_text = hear;
    o.user = &s;
    if (!o.max_tokens) o.max_tokens = 400;
    OK(rotor_generate(session, prompt, n, &o, &t.result, &api_err));
    rotor_free(prompt);
    rotor_free(s.ids);
    rotor_session_free(&session);
    return t;
}

static void told_free(told *t) {
    rotor_reply_free(&t->r);
    rotor_gen_result_free(&t->result);
    base_buf_free(&t->pieces);
    base_buf_free(&t->text);
}

/* All ways to the answer's text give the same. */
static void expect_answer(const told *t, const char *want, size_t n_bytes) {
    assert_int_equal(rotor_reply_bytes(t->r, ROTOR_PART_ANSWER), n_bytes);
    assert_memory_equal(rotor_reply_text(t->r, ROTOR_PART_ANSWER), want, n_bytes);
    assert_int_equal(t->result.n_bytes, n_bytes);
    assert_memory_equal(t->result.text, want, n_bytes);
    assert_int_equal(t->text.len, n_bytes);
    if (n_bytes) assert_memory_equal(t->text.data, want, n_bytes);
}

#define ANALYSIS(text) "<|channel|>analysis<|message|>" text "<|end|><|start|>assistant"
#define FINAL(text)    "<|channel|>final<|message|>" text

static void stops_look_at_the_answer(void **state) {
    (void)state;
    rotor_engine *e = open_model("harmony");
    rotor_gen_options o = rotor_gen_options_default(e);
    const char *stops[] = {"STOP", "final", "q\n"};
    const char *said = ANALYSIS("STOP or not") FINAL("One STO, two STOP three<|return|>");
    o.stops = stops;
    o.n_stops = 3;
    told t = tell(e, said, strlen(said), o);
    assert_int_equal(t.result.finish, ROTOR_FINISH_STOP);
    assert_string_equal(t.pieces.data, "[reasoning STOP or not][answer One STO, two ]");
    assert_string_equal(rotor_reply_text(t.r, ROTOR_PART_REASONING), "STOP or not");
    expect_answer(&t, "One STO, two ", 13);
    told_free(&t);
    /* What is held back comes when the answer ends. */
    said = ANALYSIS("hm") FINAL("One STO<|return|>");
    t = tell(e, said, strlen(said), o);
    assert_int_equal(t.result.finish, ROTOR_FINISH_END);
    assert_string_equal(t.pieces.data, "[reasoning hm][answer One STO]");
    expect_answer(&t, "One STO", 7);
    told_free(&t);
    o.max_tokens = 9 + (uint32_t)strlen("analysishm") + 5; /* in the middle of the second header */
    t = tell(e, said, strlen(said), o);
    assert_int_equal(t.result.finish, ROTOR_FINISH_LENGTH);
    assert_string_equal(rotor_reply_text(t.r, ROTOR_PART_REASONING), "hm");
    told_free(&t);
    rotor_engine_close(&e);
}

static void answers_are_joined_alike(void **state) {
    (void)state;
    rotor_engine *e = open_model("harmony");
    const char *said = FINAL("a") "<|end|><|start|>assistant" FINAL("b<|return|>");
    told t = tell(e, said, strlen(said), rotor_gen_options_default(e));
    assert_string_equal(t.pieces.data, "[answer a][answer \nb]");
    expect_answer(&t, "a\nb", 3);
    told_free(&t);
    rotor_engine_close(&e);
}

static void a_zero_does_not_end_a_text(void **state) {
    (void)state;
    rotor_engine *e = open_model("harmony");
    static const char said[] = ANALYSIS("h\0m") FINAL("a\0b<|return|>");
    told t = tell(e, said, sizeof said - 1, rotor_gen_options_default(e));
    expect_answer(&t, "a\0b", 3);
    assert_int_equal(rotor_reply_bytes(t.r, ROTOR_PART_REASONING), 3);
    told_free(&t);
    rotor_engine_close(&e);
}

/* The model means nothing well; what comes is in order all the same. */
static void generation_keeps_to_the_format(void **state) {
    (void)state;
    rotor_engine *e = open_model("harmony");
    rotor_session *s = NULL;
    const rotor_turn turn = {.role = "user", .content = "q"};
    uint32_t *prompt = NULL;
    size_t n = 0;
    OK(rotor_session_create(&s, e, 0, &api_err));
    OK(rotor_chat_prompt(e, &turn, 1, NULL, &prompt, &n, NULL, &api_err));
    for (uint64_t seed = 0; seed < 12; seed++) {
        rotor_gen_options o = rotor_gen_options_default(e);
        rotor_gen_result r = {0};
        char *text = NULL;
        o.max_tokens = 200;
        o.seed = seed;
        o.temperature = 1.5f;
        o.ignore_eog = seed % 2;
        if (seed < 10)
            OK(rotor_generate(s, prompt, n, &o, &r, &api_err));
        else
            OK(rotor_generate_beam(s, prompt, n, 3, 60, NULL, &r, &api_err));
        OK(rotor_detokenize(e, r.ids, r.n_ids, true, &text, NULL, &api_err));
        const bool opens = strncmp(text, "<|channel|>", 11) == 0 || text[0] == ' ';
        if (!opens || strstr(text, "[PAD") || strstr(text, "<|channel|><|")) fail_msg("%s", text);
        for (const char *at = text; (at = strstr(at, "<|start|>")); at++)
            if (strncmp(at + 9, "assistant", 9) != 0 && strlen(at) > 18) fail_msg("%s", text);
        if (o.ignore_eog && seed < 10) {
            assert_int_equal(r.n_ids, 200);
            assert_int_equal(r.finish, ROTOR_FINISH_LENGTH);
            for (size_t i = 0; i < r.n_ids; i++) assert_false(rotor_is_eog(e, r.ids[i]));
        }
        rotor_free(text);
        rotor_gen_result_free(&r);
    }
    rotor_free(prompt);
    rotor_session_free(&s);
    rotor_engine_close(&e);
}

static void a_reply_is_for_one_answer(void **state) {
    (void)state;
    rotor_engine *e = open_model("harmony"), *other = open_model("harmony");
    rotor_gen_options o = rotor_gen_options_default(e);
    const char *said = FINAL("a<|return|>");
    rotor_session *s = NULL;
    rotor_gen_result r = {0};
    const uint32_t id = 40;
    told t = tell(e, said, strlen(said), o);
    OK(rotor_session_create(&s, other, 0, &api_err));
    o.reply = t.r;
    assert_int_equal(rotor_generate(s, &id, 1, &o, &r, &api_err), ROTOR_E_ARG);
    assert_non_null(strstr(api_err.message, "another engine"));
    rotor_session_free(&s);
    OK(rotor_session_create(&s, e, 0, &api_err));
    assert_int_equal(rotor_generate(s, &id, 1, &o, &r, &api_err), ROTOR_E_ARG);
    assert_non_null(strstr(api_err.message, "not a new one"));
    rotor_session_free(&s);
    told_free(&t);
    rotor_engine_close(&e);
    rotor_engine_close(&other);
}

static void the_end_is_known(void **state) {
    (void)state;
    rotor_engine *e = open_model("harmony");
    rotor_session *s = NULL;
    OK(rotor_session_create(&s, e, 0, &api_err));
    const uint32_t prompt = 40, call = 300 - 2 - 8 + 5;
    const float add = 1e6f, less = -1e6f;
    rotor_gen_options o = rotor_gen_options_default(e);
    rotor_gen_result r = {0};
    o.max_tokens = 3;
    o.bias_ids = &call;
    o.n_bias = 1;
    o.bias = &add;
    OK(rotor_generate(s, &prompt, 1, &o, &r, &api_err));
    assert_int_equal(r.finish, ROTOR_FINISH_END);
    assert_int_equal(r.end_id, call);
    assert_int_equal(r.n_ids, 0);
    rotor_gen_result_free(&r);
    o.bias = &less;
    o.ignore_eog = true;
    OK(rotor_generate(s, &prompt, 1, &o, &r, &api_err));
    assert_int_equal(r.finish, ROTOR_FINISH_LENGTH);
    assert_int_equal(r.end_id, ROTOR_NO_ID);
    rotor_gen_result_free(&r);
    rotor_session_free(&s);
    rotor_engine_close(&e);
}

static void out_of_memory(void **state) {
    (void)state;
    rotor_engine *e = open_model("harmony");
    rotor_chat_options opt = rotor_chat_options_default();
    opt.tools = TOOLS;
    const rotor_tool_call call = {.name = "f", .arguments = "{}"};
    const rotor_turn turns[] = {
        {.role = "system", .content = "Be brief."},
        {.role = "assistant", .reasoning = "x", .content = "y", .calls = &call, .n_calls = 1}};
    const char *said = "<|channel|>final<|message|>hm";
    uint32_t *said_ids = NULL;
    size_t n_said = 0;
    OK(rotor_tokenize(e, said, strlen(said), ROTOR_TOK_SPECIAL, &said_ids, &n_said, &api_err));
    bool done = false;
    long k = 1;
    for (; !done && k < 3000; k++) {
        uint32_t *ids = NULL;
        size_t n = 0;
        char *prompt = NULL;
        rotor_reply *r = NULL;
        base_fault_after(k);
        rotor_status st = rotor_chat_prompt(e, turns, 2, &opt, &ids, &n, &prompt, &api_err);
        if (st == ROTOR_OK) st = rotor_reply_create(&r, e, NULL, NULL, &api_err);
        for (size_t i = 0; st == ROTOR_OK && i < n_said; i++)
            st = rotor_reply_put(r, said_ids[i], &api_err);
        if (st == ROTOR_OK) st = rotor_reply_end(r, &api_err);
        done = !base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st, done ? ROTOR_OK : ROTOR_E_NOMEM);
        rotor_reply_free(&r);
        rotor_free(ids);
        rotor_free(prompt);
    }
    assert_in_range(k, 20, 2999);
    rotor_free(said_ids);
    rotor_engine_close(&e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(turns_become_messages),
        cmocka_unit_test(today_is_the_default_date),
        cmocka_unit_test(generated_ids_are_repeated),
        cmocka_unit_test(bad_turns_are_refused),
        cmocka_unit_test(other_formats_have_no_parts),
        cmocka_unit_test(answers_come_in_parts),
        cmocka_unit_test(stops_look_at_the_answer),
        cmocka_unit_test(answers_are_joined_alike),
        cmocka_unit_test(a_zero_does_not_end_a_text),
        cmocka_unit_test(generation_keeps_to_the_format),
        cmocka_unit_test(a_reply_is_for_one_answer),
        cmocka_unit_test(the_end_is_known),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
