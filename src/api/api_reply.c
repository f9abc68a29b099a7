/* SPDX-License-Identifier: MIT
 *
 * Answers in parts: the public face of Harmony's parser.
 */
#include "api/api_internal.h"

struct rotor_reply {
    harmony_parser *parser;                                 /* owned */
    void (*on_piece)(void *user, const rotor_piece *piece); /* may be NULL */
    void *user;                                             /* passed to it */
    base_buf text[ROTOR_PART_CALL];                         /* by part, after the end */
    rotor_tool_call *calls;                                 /* [n_calls], owned, after the end */
    size_t n_calls;                                         /* how many */
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

static void on_event(void *user, const harmony_event *e) {
    const rotor_reply *r = user;
    rotor_piece piece = {.name = "", .text = "", .n_bytes = e->text.n};
    if (!r->on_piece || !e->m || !part_of(e->m->kind, &piece.part)) return;
    piece.begins = e->kind == HARMONY_BEGINS;
    piece.ends = e->kind == HARMONY_ENDS;
    if (e->text.n) piece.text = e->text.p;
    if (piece.part == ROTOR_PART_CALL) piece.name = name_of(e->m);
    r->on_piece(r->user, &piece);
}

rotor_status rotor_reply_create(rotor_reply **out, const rotor_engine *e,
                                void (*on_piece)(void *user, const rotor_piece *piece), void *user,
                                rotor_error *err) {
    if (!out || !e) return base_fail(err, ROTOR_E_ARG, "rotor_reply_create: out or engine is NULL");
    if (!e->harmony.v)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "the answers of %s have no parts", e->m->name);
    rotor_reply *r = base_alloc(sizeof *r);
    if (!r) return base_fail_nomem(err, "taking an answer apart");
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
    harmony_parser_free(&r->parser);
    for (size_t i = 0; i < BASE_COUNT(r->text); i++) base_buf_free(&r->text[i]);
    base_free(r->calls);
    base_free(r);
    *out = NULL;
}

rotor_status rotor_reply_put(rotor_reply *r, uint32_t id, rotor_error *err) {
    if (!r) return base_fail(err, ROTOR_E_ARG, "rotor_reply_put: reply is NULL");
    if (id == ROTOR_NO_ID || harmony_parser_put(r->parser, id) == ROTOR_OK) return ROTOR_OK;
    return base_fail_nomem(err, "taking an answer apart");
}

/* Names and arguments stay with the parser's messages. */
static rotor_status gather_calls(rotor_reply *r) {
    size_t n = harmony_parser_count(r->parser);
    r->calls = base_alloc_array(n, sizeof *r->calls);
    if (!r->calls) return ROTOR_E_NOMEM;
    for (size_t i = 0; i < n; i++) {
        const harmony_parsed *m = harmony_parser_at(r->parser, i);
        if (m->kind != HARMONY_CALL) continue;
        r->calls[r->n_calls++] =
            (rotor_tool_call){name_of(m), m->content.data ? m->content.data : ""};
    }
    return ROTOR_OK;
}

rotor_status rotor_reply_end(rotor_reply *r, rotor_error *err) {
    const harmony_kind kinds[ROTOR_PART_CALL] = {HARMONY_ANALYSIS, HARMONY_COMMENTARY,
                                                 HARMONY_FINAL};
    if (!r) return base_fail(err, ROTOR_E_ARG, "rotor_reply_end: reply is NULL");
    if (r->calls) return ROTOR_OK;
    rotor_status status = harmony_parser_end(r->parser);
    for (size_t i = 0; i < ROTOR_PART_CALL && status == ROTOR_OK; i++)
        status = harmony_parser_text(r->parser, kinds[i], &r->text[i]);
    if (status == ROTOR_OK) status = gather_calls(r);
    return status == ROTOR_OK ? ROTOR_OK : base_fail_nomem(err, "taking an answer apart");
}

const char *rotor_reply_text(const rotor_reply *r, rotor_part part) {
    bool known = r && (size_t)part < BASE_COUNT(r->text) && r->text[part].data;
    return known ? r->text[part].data : "";
}

size_t rotor_reply_calls(const rotor_reply *r, const rotor_tool_call **calls) {
    if (!r) return 0;
    if (calls) *calls = r->calls;
    return r->n_calls;
}
