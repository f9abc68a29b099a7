/* SPDX-License-Identifier: MIT
 *
 * Generated ids back to reasoning, answer and calls: agreement with openai-harmony on what is well
 * formed, the best meaning of what is not, and events that tell the same story as the result.
 */
#include "harmony_rig.h"

/* ==== A reader of events ====================================================================== */

/* What a program would have shown. */
typedef struct story {
    base_buf text[HARMONY_UNKNOWN + 1]; /* by kind, messages joined by \n */
    base_buf calls;                     /* "recipient(arguments) " */
    size_t n_begun, n_ended, n_over;    /* events seen */
    harmony_end why;                    /* of the last HARMONY_OVER */
    bool open;                          /* a message has begun and not ended */
    bool half;                          /* a piece of text was no whole characters */
} story;

static void on_event(void *user, const harmony_event *e) {
    story *s = user;
    if (e->kind == HARMONY_OVER) {
        assert_null(e->m);
        assert_false(s->open);
        s->why = e->why;
        s->n_over++;
        return;
    }
    base_buf *out = e->m->kind == HARMONY_CALL ? &s->calls : &s->text[e->m->kind];
    assert_int_equal(s->n_over, 0);
    assert_int_equal(s->open, e->kind != HARMONY_BEGINS);
    assert_int_not_equal(e->m->kind, HARMONY_UNKNOWN);
    if (e->kind == HARMONY_BEGINS) {
        s->open = true;
        s->n_begun++;
        if (e->m->kind == HARMONY_CALL)
            base_buf_printf(out, "%s(", e->m->recipient);
        else if (out->len)
            base_buf_puts(out, "\n");
    } else if (e->kind == HARMONY_TEXT) {
        assert_true(e->text.n > 0);
        base_buf_append(out, e->text.p, e->text.n);
        for (size_t i = 0; i < e->text.n;) {
            int32_t cp;
            i += (size_t)base_utf8_decode(e->text.p + i, e->text.n - i, &cp);
            if (cp < 0) s->half = true;
        }
    } else {
        if (e->m->kind == HARMONY_CALL) base_buf_puts(out, ") ");
        s->open = false;
        s->n_ended++;
    }
}

static void story_free(story *s) {
    for (size_t i = 0; i < BASE_COUNT(s->text); i++) base_buf_free(&s->text[i]);
    base_buf_free(&s->calls);
}

static const char *of(const base_buf *b) { return b->data && b->len ? b->data : ""; }

static harmony_parser *parse(const harmony *h, bool whole, const uint32_t *ids, size_t n,
                             story *s) {
    harmony_parser *p = NULL;
    assert_int_equal(harmony_parser_create(&p, h, whole, s ? on_event : NULL, s), ROTOR_OK);
    for (size_t i = 0; i < n; i++) assert_int_equal(harmony_parser_put(p, ids[i]), ROTOR_OK);
    assert_int_equal(harmony_parser_end(p), ROTOR_OK);
    assert_int_equal(harmony_parser_end(p), ROTOR_OK);
    return p;
}

/* ==== What the library reads ================================================================== */

static void assert_field(const char *name, size_t i, const char *key, const json_t *want,
                         const char *got) {
    const char *w = json_string_value(json_object_get(want, key));
    if (strcmp(w, got)) fail_msg("%s, message %zu, %s: got '%s', want '%s'", name, i, key, got, w);
}

static void check_messages(const char *name, const harmony_parser *p, const json_t *want) {
    size_t i;
    json_t *m;
    assert_int_equal(harmony_parser_count(p), json_array_size(want));
    json_array_foreach(want, i, m) {
        const harmony_parsed *got = harmony_parser_at(p, i);
        assert_field(name, i, "role", m, got->role);
        assert_field(name, i, "recipient", m, got->recipient);
        assert_field(name, i, "channel", m, got->channel);
        assert_field(name, i, "content_type", m, got->content_type);
        assert_field(name, i, "content", m, of(&got->content));
        assert_int_equal(got->constrained, json_is_true(json_object_get(m, "constrained")));
        assert_false(got->malformed);
    }
}

static void golden_turns_with(const text_vocab *v) {
    json_t *root = golden(), *list = json_object_get(root, "turns"), *one;
    harmony h = marks_of(v);
    size_t i;
    json_array_foreach(list, i, one) {
        text_ids ids = ids_of_runs(v, json_object_get(one, "runs"));
        story s = {0};
        harmony_parser *p = parse(&h, false, ids.ids, ids.n, &s);
        check_messages(json_string_value(json_object_get(one, "name")), p,
                       json_object_get(one, "messages"));
        assert_true(s.n_over == 1 && s.n_begun == s.n_ended && !s.half);
        assert_int_equal(s.n_begun, harmony_parser_count(p));
        harmony_parser_free(&p);
        story_free(&s);
        text_ids_free(&ids);
    }
    assert_true(i >= 12);
    json_decref(root);
}

static void golden_turns(void **state) {
    (void)state;
    text_vocab *v = small_vocab(TEXT_CONTROL, NULL);
    golden_turns_with(v);
    text_vocab_free(&v);
    v = small_vocab(TEXT_USER_DEFINED, NULL);
    golden_turns_with(v);
    text_vocab_free(&v);
    if (!(v = real_vocab())) return;
    golden_turns_with(v);
    text_vocab_free(&v);
}

/* Rendered conversations, parsed whole, are the messages that went in. */
static void rendered_conversations_parse(void **state) {
    (void)state;
    json_t *root = golden(), *list = json_object_get(root, "conversations"), *one, *m;
    text_vocab *v = small_vocab(TEXT_CONTROL, NULL);
    harmony h = marks_of(v);
    size_t i, k, n_done = 0;
    json_array_foreach(list, i, one) {
        const char *name = json_string_value(json_object_get(one, "name"));
        const json_t *chat = json_object_get(one, "chat"), *runs = json_object_get(one, "runs");
        const json_t *messages = json_object_get(chat, "messages");
        text_ids ids = ids_of_runs(v, runs);
        harmony_parser *p = parse(&h, true, ids.ids, ids.n, NULL);
        size_t at = harmony_parser_count(p), back = json_array_size(messages);
        while (back--) { /* from the last one on; some analysis is not there */
            m = json_array_get(messages, back);
            bool thought = base_str_is(str_of(json_object_get(m, "channel")), "analysis");
            const harmony_parsed *got = at ? harmony_parser_at(p, at - 1) : NULL;
            bool same = got && base_str_eq(str_of(json_object_get(m, "content")),
                                           (base_str){got->content.data, got->content.len});
            if (!same && thought) continue;
            if (!same)
                fail_msg("%s: message %zu is '%s'", name, back, got ? of(&got->content) : "");
            assert_true(
                base_str_eq(str_of(json_object_get(m, "channel")), base_str_of(got->channel)));
            assert_int_equal(got->kind == HARMONY_CALL,
                             base_str_is(str_of(json_object_get(m, "role")), "assistant") &&
                                 json_object_get(m, "recipient"));
            assert_false(got->malformed);
            at--, n_done++;
        }
        for (k = 0; k < at; k++) assert_int_equal(harmony_parser_at(p, k)->kind, HARMONY_OTHER);
        harmony_parser_free(&p);
        text_ids_free(&ids);
    }
    assert_true(n_done > 60);
    text_vocab_free(&v);
    json_decref(root);
}

/* The samples that are published as ids and as a text with a turn, a call and a tool's result. */
static void published_samples(void **state) {
    (void)state;
    text_vocab *v = real_vocab();
    if (!v) {
        print_message("skipped: no data\n");
        skip();
    }
    harmony h = marks_of(v);
    const uint32_t reasoning[] = {
        200005, 35644, 200008, 1844,  31064, 25,  392,   4827, 382, 220,    17,     659,
        220,    17,    16842,  12295, 81645, 13,  51441, 6052, 13,  200007, 200006, 173781,
        200005, 17196, 200008, 17,    659,   220, 17,    314,  220, 19,     13,     200002};
    story s = {0};
    harmony_parser *p = parse(&h, false, reasoning, BASE_COUNT(reasoning), &s);
    assert_string_equal(of(&s.text[HARMONY_ANALYSIS]),
                        "User asks: \"What is 2 + 2?\" Simple arithmetic. Provide answer.");
    assert_string_equal(of(&s.text[HARMONY_FINAL]), "2 + 2 = 4.");
    assert_int_equal(s.why, HARMONY_RETURNED);
    harmony_parser_free(&p);
    story_free(&s);
    const uint32_t call[] = {200005, 35644, 200008, 1844,   31064,  200007, 200006, 173781,
                             316,    28,    29712,  170154, 200005, 35644,  3490,   200008,
                             10848,  7693,  1243,   392,    173844, 18583};
    s = (story){0};
    p = parse(&h, false, call, BASE_COUNT(call), &s);
    assert_string_equal(of(&s.calls), "lookup_weather({\"location\": \"Tokyo\"}) ");
    assert_int_equal(s.why, HARMONY_CUT);
    assert_true(harmony_parser_at(p, 1)->json);
    assert_string_equal(harmony_parser_at(p, 1)->content_type, "code");
    harmony_parser_free(&p);
    story_free(&s);
    text_vocab_free(&v);
}

/* ==== What models get wrong =================================================================== */

typedef struct wrong {
    const char *parts[16];               /* marks and texts behind <|start|>assistant */
    const char *analysis, *final, *call; /* what it means */
    harmony_end why;                     /* how it ended */
    bool fine;                           /* nothing wrong about it */
} wrong;

#define S "<|start|>"
#define A "<|start|>", "assistant"
#define C "<|channel|>"
#define M "<|message|>"
#define E "<|end|>"
#define R "<|return|>"
#define K "<|call|>"
#define T "<|constrain|>"

static const wrong wrongs[] = {
    /* Nothing, cut short, bare. */
    {{NULL}, "", "", "", HARMONY_CUT, true},
    {{R}, "", "", "", HARMONY_RETURNED, true},
    {{C, "analysis", M, "Hm", E, R}, "Hm", "", "", HARMONY_RETURNED, true},
    {{C, "anal"}, "", "", "", HARMONY_CUT, true},
    {{C, "analysis", M, "Hm", E, S, "assi"}, "Hm", "", "", HARMONY_CUT, true},
    {{C, "analysis", M, "Hm"}, "Hm", "", "", HARMONY_CUT, true},
    {{"Hello there.\n\nYes", R}, "", "Hello there.\n\nYes", "", HARMONY_RETURNED, false},
    {{"Hello there"}, "", "Hello there", "", HARMONY_CUT, false},
    {{" \n", R}, "", "", "", HARMONY_RETURNED, true},
    {{M, "Hello", R}, "", "Hello", "", HARMONY_RETURNED, false},
    {{C, M, "Hello", R}, "", "Hello", "", HARMONY_RETURNED, false},
    /* No <|message|>. */
    {{C, "final Hello you", R}, "", "Hello you", "", HARMONY_RETURNED, false},
    {{C, "analysis", E, A, C, "final", M, "4", R}, "", "4", "", HARMONY_RETURNED, true},
    {{C, "analysis so", E, A, C, "final", M, "4", R}, "so", "4", "", HARMONY_RETURNED, false},
    {{C, "commentary to=functions.f ", T, "json {\"a\": 1}", K},
     "",
     "",
     "functions.f({\"a\": 1}) ",
     HARMONY_CALLED,
     false},
    {{C, "analysis", M, "Hm", E, "Hello", R}, "Hm", "Hello", "", HARMONY_RETURNED, false},
    {{C, "analysis", M, "Hm", E, A, " Hello", R}, "Hm", "Hello", "", HARMONY_RETURNED, false},
    /* No <|start|>, no <|end|>, marks in the middle of text. */
    {{C, "analysis", M, "Hm", E, C, "final", M, "4", R}, "Hm", "4", "", HARMONY_RETURNED, false},
    {{C, "analysis", M, "Hm", E, "assistant", C, "final", M, "4", R},
     "Hm",
     "4",
     "",
     HARMONY_RETURNED,
     false},
    {{C, "analysis", M, "Hm", A, C, "final", M, "4", R}, "Hm", "4", "", HARMONY_RETURNED, false},
    {{C, "analysis", M, "Hm", C, "final", M, "4", R}, "Hm", "4", "", HARMONY_RETURNED, false},
    {{C, "final", M, "4", M, "2", T, "!", R}, "", "42!", "", HARMONY_RETURNED, false},
    {{S, S, "assistant", C, "final", M, "4", R}, "", "4", "", HARMONY_RETURNED, true},
    {{E, E, A, C, "final", M, "4", R}, "", "4", "", HARMONY_RETURNED, true},
    /* The header. */
    {{"??", C, "final", M, "4", R}, "", "4", "", HARMONY_RETURNED, false},
    {{"assistant", C, "final", M, "4", R}, "", "4", "", HARMONY_RETURNED, false},
    {{C, "final final final", M, "4", R}, "", "4", "", HARMONY_RETURNED, false},
    {{C, " final", M, "4", R}, "", "4", "", HARMONY_RETURNED, true},
    {{C, "final??", M, "4", R}, "", "4", "", HARMONY_RETURNED, false},
    {{C, "commentary to=assistant", C, "final", M, "4", R}, "", "4", "", HARMONY_RETURNED, false},
    {{C, "commentary", C, "analysis", M, "Hm", E, A, C, "final", M, "4", R},
     "Hm",
     "4",
     "",
     HARMONY_RETURNED,
     false},
    {{C, "final", C, "??", M, "4", R}, "", "4", "", HARMONY_RETURNED, false},
    {{C, "commentary", C, "??", M, "x", R}, "", "", "", HARMONY_RETURNED, false},
    {{C, "thoughts", M, "Hm", E, A, C, "final", M, "4", R}, "Hm", "4", "", HARMONY_RETURNED, false},
    {{C, "answer", M, "4", R}, "", "4", "", HARMONY_RETURNED, false},
    {{C, "answer", M, "4", E}, "", "4", "", HARMONY_CUT, false},
    {{C, "answer", M, "4"}, "", "4", "", HARMONY_CUT, false},
    {{C, "a", M, "1", E, A, C, "b", M, "2", R}, "1", "2", "", HARMONY_RETURNED, false},
    {{S, "?", C, "final", M, "4", R}, "", "4", "", HARMONY_RETURNED, false},
    {{S, "assistant??", C, "final", M, "4", R}, "", "4", "", HARMONY_RETURNED, false},
    /* Other people's messages are not shown. */
    {{C, "final", M, "4", E, S, "user", M, "more", E, S, "system", M, "obey", R},
     "",
     "4",
     "",
     HARMONY_RETURNED,
     false},
    {{C, "final", M, "4", E, S, "functions.f to=assistant", C, "commentary", M, "x", R},
     "",
     "4",
     "",
     HARMONY_RETURNED,
     false},
    /* Calls. */
    {{C, "commentary to=functions.f", T, "json", M, "{}", K},
     "",
     "",
     "functions.f({}) ",
     HARMONY_CALLED,
     true},
    {{C, "commentary to=functions.f json", M, "{}", K},
     "",
     "",
     "functions.f({}) ",
     HARMONY_CALLED,
     true},
    {{" to=functions.f", C, "commentary ", T, "json", M, "{}", K},
     "",
     "",
     "functions.f({}) ",
     HARMONY_CALLED,
     true},
    {{C, "commentaryto=functions.f", M, "{}", K}, "", "", "functions.f({}) ", HARMONY_CALLED, true},
    {{"to=functions.f", C, "commentary", M, "{}", E, S, "assistantto=functions.g", M, "{}", K},
     "",
     "",
     "functions.f({}) functions.g({}) ",
     HARMONY_CALLED,
     true},
    {{C, "commentary to= functions.f", M, "{}", K},
     "",
     "",
     "functions.f({}) ",
     HARMONY_CALLED,
     true},
    {{C, "commentary functions.f", M, "{}", K}, "", "", "functions.f({}) ", HARMONY_CALLED, true},
    {{C, "final to=functions.f", M, "{}", R}, "", "", "functions.f({}) ", HARMONY_RETURNED, true},
    {{C, "commentary to=functions.f", M, "{\"a", K},
     "",
     "",
     "functions.f({\"a) ",
     HARMONY_CALLED,
     true},
    {{C, "commentary to=functions.f", M, "{}", E, A, C, "commentary to=functions.g", M, "[1]", K},
     "",
     "",
     "functions.f({}) functions.g([1]) ",
     HARMONY_CALLED,
     true},
    {{C, "analysis to=container.exec code", M, "ls", K},
     "",
     "",
     "container.exec(ls) ",
     HARMONY_CALLED,
     true},
    {{C, "final to=all", M, "4", R}, "", "4", "", HARMONY_RETURNED, true},
    /* Behind the end nothing counts. */
    {{C, "final", M, "4", R, A, C, "final", M, "5", R}, "", "4", "", HARMONY_RETURNED, true},
    {{C, "final", M, "4", "<|endoftext|>"}, "", "4", "", HARMONY_ENDOFTEXT, true},
    {{C, "final", M, "4", "<|startoftext|>", "!", R}, "", "4!", "", HARMONY_RETURNED, true},
};

static void push_parts(const text_vocab *v, const char *const *parts, size_t n, text_ids *out) {
    for (size_t i = 0; i < n && parts[i]; i++) {
        uint32_t id = strncmp(parts[i], "<|", 2) ? TEXT_NO_ID : text_find(v, base_str_of(parts[i]));
        if (id != TEXT_NO_ID)
            text_ids_push(out, id);
        else
            assert_int_equal(text_encode(v, base_str_of(parts[i]), 0, out, NULL), ROTOR_OK);
    }
}

static void check_wrong(const harmony *h, const wrong *w, size_t at) {
    text_ids ids = {0};
    story s = {0};
    base_buf text = {0};
    push_parts(h->v, w->parts, BASE_COUNT(w->parts), &ids);
    harmony_parser *p = parse(h, false, ids.ids, ids.n, &s);
    bool malformed = false;
    for (size_t i = 0; i < harmony_parser_count(p); i++)
        malformed = malformed || harmony_parser_at(p, i)->malformed;
    if (strcmp(of(&s.text[HARMONY_ANALYSIS]), w->analysis) ||
        strcmp(of(&s.text[HARMONY_FINAL]), w->final) || strcmp(of(&s.calls), w->call) ||
        s.why != w->why || malformed == w->fine)
        fail_msg("case %zu: analysis '%s', final '%s', calls '%s', why %d, %s", at,
                 of(&s.text[HARMONY_ANALYSIS]), of(&s.text[HARMONY_FINAL]), of(&s.calls), s.why,
                 malformed ? "malformed" : "fine");
    assert_int_equal(harmony_parser_text(p, HARMONY_FINAL, &text), ROTOR_OK);
    assert_string_equal(of(&text), w->final);
    assert_int_equal(harmony_parser_why(p), w->why);
    base_buf_free(&text);
    harmony_parser_free(&p);
    story_free(&s);
    text_ids_free(&ids);
}

static void malformed_turns(void **state) {
    (void)state;
    text_vocab *v = small_vocab(TEXT_CONTROL, NULL);
    harmony h = marks_of(v);
    for (size_t i = 0; i < BASE_COUNT(wrongs); i++) check_wrong(&h, &wrongs[i], i);
    text_vocab_free(&v);
}

static void arguments_are_checked(void **state) {
    (void)state;
    const struct {
        const char *arguments;
        bool json;
    } cases[] = {{"{}", true}, {"{\"a\": [1]}", true}, {"{\"a", false}, {"[1]", false},
                 {"", false},  {"ls -l", false},       {"{} x", false}};
    text_vocab *v = small_vocab(TEXT_CONTROL, NULL);
    harmony h = marks_of(v);
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        const char *parts[] = {C, "commentary to=functions.get_it", M, cases[i].arguments, K};
        text_ids ids = {0};
        push_parts(v, parts, 5, &ids);
        harmony_parser *p = parse(&h, false, ids.ids, ids.n, NULL);
        assert_int_equal(harmony_parser_at(p, 0)->json, cases[i].json);
        assert_true(base_str_is(harmony_function(harmony_parser_at(p, 0)->recipient), "get_it"));
        harmony_parser_free(&p);
        text_ids_free(&ids);
    }
    assert_int_equal(harmony_function("browser.search").n, 0);
    assert_int_equal(harmony_function("functions").n, 0);
    text_vocab_free(&v);
}

/* A text that never comes to <|message|> is shown all the same, and not only at its end. */
static void endless_headers_become_text(void **state) {
    (void)state;
    text_vocab *v = small_vocab(TEXT_CONTROL, NULL);
    harmony h = marks_of(v);
    story s = {0};
    harmony_parser *p = NULL;
    assert_int_equal(harmony_parser_create(&p, &h, false, on_event, &s), ROTOR_OK);
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(harmony_parser_put(p, (uint32_t) "word "[i % 5]), ROTOR_OK);
        if (i == 70) assert_true(s.text[HARMONY_FINAL].len == 71);
    }
    assert_int_equal(harmony_parser_end(p), ROTOR_OK);
    assert_int_equal(s.text[HARMONY_FINAL].len, 1000);
    assert_int_equal(harmony_parser_count(p), 1);
    harmony_parser_free(&p);
    story_free(&s);
    text_vocab_free(&v);
}

/* Characters of several tokens come whole, broken ones as U+FFFD, and at once. */
/* Text that is no header becomes a message at any of its bytes, in the middle of a character, too;
 * a zero is a byte like any other. */
static void endless_headers_keep_characters_whole(void **state) {
    (void)state;
    text_vocab *v = small_vocab(TEXT_CONTROL, NULL);
    harmony h = marks_of(v);
    for (size_t before = 0; before < 8; before++) {
        text_ids ids = {0};
        base_buf text = {0};
        story s = {0};
        base_buf_append(&text, "Heh\0 there!", 3 + before);
        for (int i = 0; i < 40; i++) base_buf_puts(&text, "\xF0\x9F\xA6\x8A");
        const uint32_t astride = text_find(v, base_str_of("\x8A\xF0"));
        assert_int_not_equal(astride, TEXT_NO_ID);
        for (size_t i = 0; i < text.len; i++) { /* a byte each, but for 8A F0 */
            const bool two = i + 1 < text.len && memcmp(text.data + i, "\x8A\xF0", 2) == 0;
            text_ids_push(&ids, two ? astride : (uint8_t)text.data[i]);
            i += two;
        }
        harmony_parser *p = parse(&h, false, ids.ids, ids.n, &s);
        assert_int_equal(harmony_parser_count(p), 1);
        const base_buf *got = &harmony_parser_at(p, 0)->content;
        assert_int_equal(got->len, text.len);
        assert_memory_equal(got->data, text.data, text.len);
        assert_false(s.half);
        harmony_parser_free(&p);
        story_free(&s);
        text_ids_free(&ids);
        base_buf_free(&text);
    }
    text_vocab_free(&v);
}

static void text_comes_in_whole_characters(void **state) {
    (void)state;
    text_vocab *v = small_vocab(TEXT_CONTROL, NULL);
    harmony h = marks_of(v);
    const uint32_t bytes[] = {h.channel, 'f',  'i',  'n',  'a',  'l', h.message, 0xF0,
                              0x9F,      0x99, 0x82, 0xE2, 0x82, 'x', 0xC3,      h.ret};
    story s = {0};
    harmony_parser *p = NULL;
    assert_int_equal(harmony_parser_create(&p, &h, false, on_event, &s), ROTOR_OK);
    for (size_t i = 0; i < BASE_COUNT(bytes); i++) {
        assert_int_equal(harmony_parser_put(p, bytes[i]), ROTOR_OK);
        if (i < 10) assert_int_equal(s.text[HARMONY_FINAL].len, 0);
        if (i == 10) assert_int_equal(s.text[HARMONY_FINAL].len, 4);
    }
    assert_string_equal(of(&s.text[HARMONY_FINAL]), "\xF0\x9F\x99\x82\xEF\xBF\xBDx\xEF\xBF\xBD");
    assert_false(s.half);
    harmony_parser_free(&p);
    story_free(&s);
    text_vocab_free(&v);
}

/* ==== Anything ================================================================================ */

/* Whatever comes: events in order, the same text in events and messages, ranges in order. */
static void check_any(const harmony *h, const uint32_t *ids, size_t n, bool whole) {
    story s = {0};
    harmony_parser *p = parse(h, whole, ids, n, &s);
    size_t at = 0, count = harmony_parser_count(p);
    assert_true(s.n_over == 1 && s.n_begun == count && s.n_ended == count && !s.half);
    for (size_t i = 0; i < count; i++) {
        const harmony_parsed *m = harmony_parser_at(p, i);
        assert_true(m->first >= at && m->past >= m->first && m->past <= n);
        assert_int_not_equal(m->kind, HARMONY_UNKNOWN);
        assert_int_not_equal(m->end, HARMONY_OPEN);
        at = m->past;
    }
    base_buf text = {0};
    harmony_parser_text(p, HARMONY_FINAL, &text);
    size_t empty = 0; /* empty messages leave a line feed in the story and none in the text */
    for (size_t i = 0; i < count; i++)
        empty +=
            harmony_parser_at(p, i)->kind == HARMONY_FINAL && !harmony_parser_at(p, i)->content.len;
    if (!empty) assert_string_equal(of(&text), of(&s.text[HARMONY_FINAL]));
    base_buf_free(&text);
    harmony_parser_free(&p);
    story_free(&s);
}

static void random_ids(void **state) {
    (void)state;
    const char *words[] = {"assistant", "analysis", "final", "commentary",  " to=functions.f",
                           " ",         "to=",      "user",  "json",        "\xE2\x82",
                           "{}",        "??",       "\n",    "to=assistant"};
    text_vocab *v = small_vocab(TEXT_CONTROL, NULL);
    harmony h = marks_of(v);
    base_rng rng;
    base_rng_seed(&rng, 13);
    for (int round = 0; round < 4000; round++) {
        text_ids ids = {0};
        uint32_t n = base_rng_below(&rng, 40);
        while (n--) {
            uint32_t what = base_rng_below(&rng, 3);
            if (what == 0)
                text_ids_push(&ids, base_rng_below(&rng, (uint32_t)text_n_tokens(v) + 3));
            if (what == 1) text_ids_push(&ids, 256 + base_rng_below(&rng, 8));
            if (what == 2)
                text_encode(v, base_str_of(words[base_rng_below(&rng, BASE_COUNT(words))]), 0, &ids,
                            NULL);
        }
        check_any(&h, ids.ids, ids.n, round % 2);
        text_ids_free(&ids);
    }
    text_vocab_free(&v);
}

static void out_of_memory(void **state) {
    (void)state;
    text_vocab *v = small_vocab(TEXT_CONTROL, NULL);
    harmony h = marks_of(v);
    const char *parts[] = {
        C, "odd",  M, "Hm",         E, A,           C, "commentary to=functions.f ",
        T, "json", M, "{\"a\": 1}", E, "bare \xC3", R};
    text_ids ids = {0};
    push_parts(v, parts, BASE_COUNT(parts), &ids);
    long n = 1;
    for (bool done = false; !done && n < 1000; n++) {
        story s = {0};
        harmony_parser *p = NULL;
        base_fault_after(n);
        rotor_status st = harmony_parser_create(&p, &h, false, NULL, &s);
        for (size_t i = 0; i < ids.n && st == ROTOR_OK; i++) st = harmony_parser_put(p, ids.ids[i]);
        if (st == ROTOR_OK) st = harmony_parser_end(p);
        done = !base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st, done ? ROTOR_OK : ROTOR_E_NOMEM);
        harmony_parser_free(&p);
        story_free(&s);
    }
    assert_in_range(n, 15, 999);
    text_ids_free(&ids);
    text_vocab_free(&v);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_turns),
        cmocka_unit_test(rendered_conversations_parse),
        cmocka_unit_test(published_samples),
        cmocka_unit_test(malformed_turns),
        cmocka_unit_test(endless_headers_keep_characters_whole),
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(endless_headers_become_text),
        cmocka_unit_test(text_comes_in_whole_characters),
        cmocka_unit_test(random_ids),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
