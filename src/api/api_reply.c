/* SPDX-License-Identifier: MIT
 *
 * Answers in parts: the public face of Harmony's parser, and of the reader of calls in plain text.
 * Stop strings stand between the parser and the caller, in the way of the answer only: what was
 * thought is not searched.
 */
#include "api/api_internal.h"

struct rotor_reply {
    const rotor_engine *e;                                  /* borrowed */
    harmony_parser *parser;                                 /* owned; NULL: reads calls */
    api_call_reader reader;                                 /* of calls in plain text */
    void (*on_piece)(void *user, const rotor_piece *piece); /* may be NULL */
    void *user;                                             /* passed to it */
    gen_stops *stops;                                       /* of the answer, owned; NULL: none */
    bool stopped;                                           /* by one of them: nothing follows */
    bool begun;                                             /* ids have been put */
    bool failed;                                            /* no memory in a callback */
    bool joins;                     /* an answer has begun behind another: a line feed is due */
    base_buf text[ROTOR_PART_CALL]; /* by part; the answer's as it comes, others after the end */
    rotor_tool_call *calls;         /* [n_calls], owned, after the end */
    size_t n_calls;                 /* how many */
    bool ended;                     /* no more ids come */
};

/* What callers know a function by; other recipients keep their whole name. */
static const char *name_of(const harmony_parsed *m) {
    base_str function = harmony_function(m->recipient);
    return function.n ? function.p : m->recipient;
}

static bool part_of(harmony_kind kind, rotor_part *out) {
    static const rotor_part parts[] = {ROTOR_PART_REASONING, ROTOR_PART_PREAMBLE, ROTOR_PART_ANSWER,
                                       ROTOR_PART_CALL};
    if ((size_t)kind >= BASE_COUNT(parts)) return false;
    *out = parts[kind];
    return true;
}

/* ==== The answer ============================================================================== */

static void tell(const rotor_reply *r, const rotor_piece *piece) {
    if (r->on_piece) r->on_piece(r->user, piece);
}

/* What the answer has gained since `from`. */
static void tell_answer(const rotor_reply *r, size_t from) {
    const base_buf *text = &r->text[ROTOR_PART_ANSWER];
    if (text->len == from) return;
    tell(r, &(rotor_piece){.part = ROTOR_PART_ANSWER,
                           .name = "",
                           .text = text->data + from,
                           .n_bytes = text->len - from});
}

static rotor_status put_answer(rotor_reply *r, base_str text) {
    base_buf *out = &r->text[ROTOR_PART_ANSWER];
    if (r->stops) return gen_stops_feed(r->stops, text, out, &r->stopped);
    return base_buf_append(out, text.p, text.n) ? ROTOR_OK : ROTOR_E_NOMEM;
}

static void answer_event(rotor_reply *r, const harmony_event *e) {
    const size_t from = r->text[ROTOR_PART_ANSWER].len;
    rotor_piece piece = {.part = ROTOR_PART_ANSWER, .name = "", .text = ""};
    rotor_status st = ROTOR_OK;
    if (e->kind == HARMONY_BEGINS) {
        r->joins = from > 0;
        piece.begins = true;
        if (!r->stopped) tell(r, &piece);
    } else if (e->kind == HARMONY_TEXT && !r->stopped) {
        if (r->joins) st = put_answer(r, base_str_of("\n"));
        r->joins = false;
        if (st == ROTOR_OK && !r->stopped) st = put_answer(r, e->text);
        tell_answer(r, from);
    } else if (e->kind == HARMONY_ENDS) {
        if (r->stops && !r->stopped) st = gen_stops_flush(r->stops, &r->text[ROTOR_PART_ANSWER]);
        tell_answer(r, from);
        piece.ends = true;
        tell(r, &piece);
    }
    r->failed = r->failed || st != ROTOR_OK;
}

static void on_event(void *user, const harmony_event *e) {
    rotor_reply *r = user;
    rotor_piece piece = {.name = "", .text = "", .n_bytes = e->text.n};
    if (!e->m || !part_of(e->m->kind, &piece.part)) return;
    if (piece.part == ROTOR_PART_ANSWER) {
        answer_event(r, e);
        return;
    }
    piece.begins = e->kind == HARMONY_BEGINS;
    piece.ends = e->kind == HARMONY_ENDS;
    if (e->text.n) piece.text = e->text.p;
    if (piece.part == ROTOR_PART_CALL) piece.name = name_of(e->m);
    tell(r, &piece);
}

/* ==== Calls in plain text ===================================================================== */

static void on_plain_text(void *user, base_str text) {
    rotor_reply *r = user;
    const size_t from = r->text[ROTOR_PART_ANSWER].len;
    if (r->stopped) return;
    if (put_answer(r, text) != ROTOR_OK) r->failed = true;
    tell_answer(r, from);
}

static char *copy_of(base_str s) { return base_strndup(s.p, s.n); }

static void on_plain_call(void *user, base_str name, base_str arguments) {
    rotor_reply *r = user;
    if (r->stopped) return;
    rotor_tool_call *more = base_realloc(r->calls, (r->n_calls + 1) * sizeof *more);
    if (more) r->calls = more;
    rotor_tool_call call = {.name = more ? copy_of(name) : NULL,
                            .arguments = more ? copy_of(arguments) : NULL};
    if (!call.name || !call.arguments) {
        base_free((char *)(uintptr_t)call.name);
        base_free((char *)(uintptr_t)call.arguments);
        r->failed = true;
        return;
    }
    r->calls[r->n_calls++] = call;
    rotor_piece piece = {.part = ROTOR_PART_CALL, .name = call.name, .text = "", .begins = true};
    tell(r, &piece);
    piece.begins = false;
    piece.text = call.arguments;
    piece.n_bytes = arguments.n;
    tell(r, &piece);
    tell(r, &(rotor_piece){.part = ROTOR_PART_CALL, .name = call.name, .text = "", .ends = true});
}

rotor_status rotor_reply_create_calls(rotor_reply **out, const rotor_engine *e,
                                      const rotor_call_options *opt,
                                      void (*on_piece)(void *user, const rotor_piece *piece),
                                      void *user, rotor_error *err) {
    if (!out || !e)
        return base_fail(err, ROTOR_E_ARG, "rotor_reply_create_calls: out or engine is NULL");
    rotor_reply *r = base_alloc(sizeof *r);
    if (!r) return base_fail_nomem(err, "taking an answer apart");
    r->e = e;
    r->on_piece = on_piece;
    r->user = user;
    const chat_reader_hooks hooks = {on_plain_text, on_plain_call, r};
    const rotor_status status = api_call_reader_init(&r->reader, e, opt, &hooks, err);
    if (status == ROTOR_OK) return *out = r, ROTOR_OK;
    rotor_reply_free(&r);
    return status;
}

static rotor_status put_plain(rotor_reply *r, uint32_t id) {
    const rotor_status status = api_call_reader_put(&r->reader, id);
    if (chat_reader_is_done(r->reader.reader)) r->stopped = true;
    return status;
}

static rotor_status end_plain(rotor_reply *r) {
    ROTOR_TRY(api_call_reader_end(&r->reader));
    if (!r->stopped && r->stops) {
        const size_t from = r->text[ROTOR_PART_ANSWER].len;
        ROTOR_TRY(gen_stops_flush(r->stops, &r->text[ROTOR_PART_ANSWER]));
        tell_answer(r, from);
    }
    return r->failed ? ROTOR_E_NOMEM : ROTOR_OK;
}

/* ==== A reply ================================================================================= */

rotor_status rotor_reply_create(rotor_reply **out, const rotor_engine *e,
                                void (*on_piece)(void *user, const rotor_piece *piece), void *user,
                                rotor_error *err) {
    if (!out || !e) return base_fail(err, ROTOR_E_ARG, "rotor_reply_create: out or engine is NULL");
    if (!e->harmony.v)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "the answers of %s have no parts", e->m->name);
    rotor_reply *r = base_alloc(sizeof *r);
    if (!r) return base_fail_nomem(err, "taking an answer apart");
    r->e = e;
    r->on_piece = on_piece;
    r->user = user;
    if (harmony_parser_create(&r->parser, &e->harmony, false, on_event, r) != ROTOR_OK) {
        base_free(r);
        return base_fail_nomem(err, "taking an answer apart");
    }
    *out = r;
    return ROTOR_OK;
}

void rotor_reply_free(rotor_reply **out) {
    if (!out || !*out) return;
    rotor_reply *r = *out;
    const bool parts = r->parser != NULL; /* whose calls are the parser's */
    harmony_parser_free(&r->parser);
    gen_stops_free(&r->stops);
    for (size_t i = 0; i < BASE_COUNT(r->text); i++) base_buf_free(&r->text[i]);
    for (size_t i = 0; i < r->n_calls && !parts; i++) {
        base_free((char *)(uintptr_t)r->calls[i].name);
        base_free((char *)(uintptr_t)r->calls[i].arguments);
    }
    api_call_reader_free(&r->reader);
    base_free(r->calls);
    base_free(r);
    *out = NULL;
}

static rotor_status put(rotor_reply *r, uint32_t id) {
    r->begun = true;
    const rotor_status status = r->parser ? harmony_parser_put(r->parser, id) : put_plain(r, id);
    if (status != ROTOR_OK || r->failed) return ROTOR_E_NOMEM;
    return ROTOR_OK;
}

rotor_status rotor_reply_put(rotor_reply *r, uint32_t id, rotor_error *err) {
    if (!r) return base_fail(err, ROTOR_E_ARG, "rotor_reply_put: reply is NULL");
    if (id == ROTOR_NO_ID || put(r, id) == ROTOR_OK) return ROTOR_OK;
    return base_fail_nomem(err, "taking an answer apart");
}

const char *rotor_reply_wrote(const rotor_reply *r, size_t *n_bytes) {
    const base_buf *piece = &r->reader.piece;
    *n_bytes = piece->len;
    return piece->len ? piece->data : "";
}

rotor_status api_reply_begin(rotor_reply *r, const rotor_engine *e, const base_str *stops, size_t n,
                             rotor_error *err) {
    if (r->e != e || r->begun || r->ended)
        return base_fail(err, ROTOR_E_ARG, "rotor_gen_options: the reply is %s",
                         r->e != e ? "of another engine" : "not a new one");
    r->begun = true;
    return n ? gen_stops_create(&r->stops, stops, n, err) : ROTOR_OK;
}

rotor_status api_reply_read(rotor_reply *r, uint32_t id, base_buf *text, bool *stop) {
    const base_buf *answer = &r->text[ROTOR_PART_ANSWER];
    const size_t from = answer->len;
    ROTOR_TRY(id == TEXT_NO_ID ? rotor_reply_end(r, NULL) : put(r, id));
    *stop = r->stopped;
    return answer->len == from || base_buf_append(text, answer->data + from, answer->len - from)
               ? ROTOR_OK
               : ROTOR_E_NOMEM;
}

/* Names and arguments stay with the parser's messages. */
static rotor_status gather_calls(rotor_reply *r) {
    size_t n = harmony_parser_count(r->parser);
    r->calls = base_alloc_array(n, sizeof *r->calls);
    if (!r->calls) return ROTOR_E_NOMEM;
    for (size_t i = 0; i < n; i++) {
        const harmony_parsed *m = harmony_parser_at(r->parser, i);
        if (m->kind != HARMONY_CALL) continue;
        r->calls[r->n_calls++] = (rotor_tool_call){
            .name = name_of(m), .arguments = m->content.data ? m->content.data : ""};
    }
    return ROTOR_OK;
}

rotor_status rotor_reply_end(rotor_reply *r, rotor_error *err) {
    const harmony_kind kinds[ROTOR_PART_ANSWER] = {HARMONY_ANALYSIS, HARMONY_COMMENTARY};
    if (!r) return base_fail(err, ROTOR_E_ARG, "rotor_reply_end: reply is NULL");
    if (r->ended) return ROTOR_OK;
    r->ended = true;
    rotor_status status = r->parser ? harmony_parser_end(r->parser) : end_plain(r);
    for (size_t i = 0; i < ROTOR_PART_ANSWER && status == ROTOR_OK && r->parser; i++) {
        base_buf_reset(&r->text[i]);
        status = harmony_parser_text(r->parser, kinds[i], &r->text[i]);
    }
    if (status == ROTOR_OK) status = r->failed ? ROTOR_E_NOMEM : ROTOR_OK;
    if (status == ROTOR_OK && r->parser) status = gather_calls(r);
    gen_stops_free(&r->stops);
    return status == ROTOR_OK ? ROTOR_OK : base_fail_nomem(err, "taking an answer apart");
}

const char *rotor_reply_text(const rotor_reply *r, rotor_part part) {
    bool known = r && (size_t)part < BASE_COUNT(r->text) && r->text[part].data;
    return known ? r->text[part].data : "";
}

size_t rotor_reply_bytes(const rotor_reply *r, rotor_part part) {
    return r && (size_t)part < BASE_COUNT(r->text) ? r->text[part].len : 0;
}

size_t rotor_reply_calls(const rotor_reply *r, const rotor_tool_call **calls) {
    if (!r) return 0;
    if (calls) *calls = r->calls;
    return r->n_calls;
}
