/* SPDX-License-Identifier: MIT
 *
 * Generated ids to messages, one id at a time.
 *
 *              <|message|>, or much text that is no header
 *     HEADER ------------------------------------> CONTENT
 *       ^  text, <|channel|>, <|constrain|> stay      |  text stays
 *       +---------------------------------------------+
 *          <|end|>, a stop, <|start|>, <|channel|>
 *
 * A turn starts in HEADER, as the prompt ends with "<|start|>assistant". In CONTENT every piece of
 * text is passed on at once; only a message on a channel nobody knows waits for what follows.
 *
 * What models get wrong, and what becomes of it (the message is marked as malformed):
 *   no <|message|> before the end      the text of the header is the content
 *   no <|start|> after an <|end|>      the assistant goes on
 *   <|start|> or <|channel|> in text   the message ends there, the next one begins
 *   no channel                         final
 *   another channel                    analysis if a message follows, else final
 *   a recipient "assistant"            none
 *   a message in another's name        read over, nothing to show
 */
#include "chat/harmony_internal.h"

#include <assert.h>
#include <jansson.h>

enum { REST_MAX_BYTES = 64, HEADER_MAX_BYTES = 4096 }; /* text that is no header; header in all */

struct harmony_parser {
    harmony h;                                      /* marks */
    void (*fn)(void *user, const harmony_event *e); /* may be NULL */
    void *user;                                     /* passed to it */
    bool whole;                                     /* a conversation, not one turn */
    bool in_content;                                /* state: CONTENT, else HEADER */
    bool started;                                   /* <|start|> began this header */
    bool held;         /* the last message waits for what follows to know what it is */
    harmony_parsed *m; /* [n] owned */
    size_t n, cap;     /* messages, allocated */
    base_buf header;   /* text and marks of the header in the making */
    size_t first;      /* index of the id that began the header */
    size_t n_ids;      /* put so far */
    text_stream text;  /* ids to text */
    base_buf piece;    /* scratch */
    harmony_end why;   /* how the turn ended */
};

rotor_status harmony_parser_create(harmony_parser **out, const harmony *h, bool whole,
                                   void (*fn)(void *user, const harmony_event *e), void *user) {
    assert(out && h);
    harmony_parser *p = base_alloc(sizeof *p);
    if (!p) return ROTOR_E_NOMEM;
    p->h = *h;
    p->whole = whole;
    p->fn = fn;
    p->user = user;
    text_stream_init(&p->text, h->v);
    *out = p;
    return ROTOR_OK;
}

void harmony_parser_free(harmony_parser **out) {
    if (!out || !*out) return;
    harmony_parser *p = *out;
    for (size_t i = 0; i < p->n; i++) {
        base_free(p->m[i].role);
        base_free(p->m[i].recipient);
        base_free(p->m[i].channel);
        base_free(p->m[i].content_type);
        base_buf_free(&p->m[i].content);
    }
    base_free(p->m);
    base_buf_free(&p->header);
    base_buf_free(&p->piece);
    base_free(p);
    *out = NULL;
}

/* ==== Events ================================================================================== */

static harmony_parsed *last(const harmony_parser *p) { return &p->m[p->n - 1]; }

static void tell(const harmony_parser *p, harmony_event_kind kind, base_str text) {
    harmony_event e = {.kind = kind, .text = text};
    if (kind == HARMONY_OVER)
        e.why = p->why;
    else
        e.m = last(p);
    if (p->fn && !(p->held && kind != HARMONY_OVER)) p->fn(p->user, &e);
}

/* Says at once what was held back of the last message. */
static void release(harmony_parser *p, harmony_kind kind) {
    if (!p->held) return;
    harmony_parsed *m = last(p);
    p->held = false;
    m->kind = kind;
    tell(p, HARMONY_BEGINS, (base_str){0});
    if (m->content.len) tell(p, HARMONY_TEXT, (base_str){m->content.data, m->content.len});
    tell(p, HARMONY_ENDS, (base_str){0});
}

/* ==== Messages ================================================================================ */

static char *copy(base_str s) { return base_strndup(s.p ? s.p : "", s.n); }

/* Whose message it is, and so what. */
static harmony_kind kind_of(const harmony_parser *p, const harmony_header *h, harmony_parsed *m) {
    bool exact = true, assistant = strncmp(m->role, "assistant", 9) == 0;
    bool known = base_str_is(h->role, "user") || base_str_is(h->role, "system") ||
                 base_str_is(h->role, "developer") || base_str_is(h->role, "tool");
    bool tool = !known && !assistant && (p->whole || memchr(h->role.p, '.', h->role.n));
    if (known || tool) {
        m->malformed = m->malformed || !p->whole;
        return HARMONY_OTHER;
    }
    if (!assistant || (m->role[9] && m->role[9] != ':')) m->malformed = true;
    if (*m->recipient) return HARMONY_CALL;
    if (!h->channel.n) m->malformed = m->malformed || !p->whole;
    if (!h->channel.n) return HARMONY_FINAL;
    harmony_kind kind = harmony_channel_kind(h->channel, &exact);
    m->malformed = m->malformed || !exact || kind == HARMONY_UNKNOWN;
    return kind;
}

static rotor_status add_message(harmony_parser *p, const harmony_header *h) {
    if (p->n == p->cap) {
        size_t cap = p->cap * 2 + 4, bytes;
        if (!base_mul_size(cap, sizeof *p->m, &bytes)) return ROTOR_E_NOMEM;
        harmony_parsed *more = base_realloc(p->m, bytes);
        if (!more) return ROTOR_E_NOMEM;
        p->m = more;
        p->cap = cap;
    }
    bool mine = !p->whole || !h->role.n || base_str_is(h->role, "assistant");
    bool nobody =
        base_str_is(h->recipient, "all") ||
        (mine && (base_str_is(h->recipient, "assistant") || base_str_is(h->recipient, "user")));
    harmony_parsed m = {.role = copy(h->role.n ? h->role : base_str_of("assistant")),
                        .recipient = copy(nobody ? (base_str){0} : h->recipient),
                        .channel = copy(h->channel),
                        .content_type = copy(h->content_type),
                        .constrained = h->constrained,
                        .malformed = h->stray || (nobody && !base_str_is(h->recipient, "all")),
                        .first = p->first,
                        .past = p->n_ids};
    p->m[p->n++] = m;
    return m.role && m.recipient && m.channel && m.content_type ? ROTOR_OK : ROTOR_E_NOMEM;
}

static rotor_status begin_message(harmony_parser *p, const harmony_header *h) {
    release(p, HARMONY_ANALYSIS);
    ROTOR_TRY(add_message(p, h));
    last(p)->kind = kind_of(p, h, last(p));
    if (!p->started && p->n > 1) last(p)->malformed = true;
    p->held = last(p)->kind == HARMONY_UNKNOWN;
    p->in_content = true;
    text_stream_init(&p->text, p->h.v);
    tell(p, HARMONY_BEGINS, (base_str){0});
    return ROTOR_OK;
}

static rotor_status add_text(harmony_parser *p, base_str text) {
    if (!text.n) return ROTOR_OK;
    if (!base_buf_append(&last(p)->content, text.p, text.n)) return ROTOR_E_NOMEM;
    tell(p, HARMONY_TEXT, text);
    return ROTOR_OK;
}

static bool is_object(const base_buf *text) {
    json_t *v = json_loadb(text->data ? text->data : "", text->len, 0, NULL);
    bool yes = json_is_object(v);
    json_decref(v);
    return yes;
}

/* The next header begins, with the id `first`. */
static void begin_header(harmony_parser *p, bool started, size_t first) {
    base_buf_reset(&p->header);
    p->in_content = false;
    p->started = started;
    p->first = first;
    text_stream_init(&p->text, p->h.v);
}

/* how HARMONY_CUT: the id being put, if any, is not of this message. */
static rotor_status end_message(harmony_parser *p, harmony_end how, size_t past) {
    harmony_parsed *m = last(p);
    base_buf_reset(&p->piece);
    if (text_stream_end(&p->text, &p->piece) != ROTOR_OK) return ROTOR_E_NOMEM;
    ROTOR_TRY(add_text(p, (base_str){p->piece.data, p->piece.len}));
    m->end = how;
    m->past = past;
    m->json = m->kind == HARMONY_CALL && is_object(&m->content);
    tell(p, HARMONY_ENDS, (base_str){0});
    begin_header(p, false, past);
    return ROTOR_OK;
}

static void end_turn(harmony_parser *p, harmony_end how) {
    release(p, HARMONY_FINAL);
    if (p->whole && how != HARMONY_CUT) return;
    p->why = how;
    tell(p, HARMONY_OVER, (base_str){0});
}

/* ==== Headers ================================================================================= */

static rotor_status add_to_header(harmony_parser *p, uint32_t id) {
    char mark = id == p->h.channel     ? HARMONY_CHANNEL_MARK
                : id == p->h.constrain ? HARMONY_CONSTRAIN_MARK
                                       : 0;
    base_buf_reset(&p->piece);
    if (mark && text_stream_end(&p->text, &p->piece) != ROTOR_OK) return ROTOR_E_NOMEM;
    if (!mark && text_stream_put(&p->text, id, &p->piece) != ROTOR_OK) return ROTOR_E_NOMEM;
    for (size_t i = 0; i < p->piece.len; i++) /* words cannot pretend to be marks */
        if (p->piece.data[i] == HARMONY_CHANNEL_MARK || p->piece.data[i] == HARMONY_CONSTRAIN_MARK)
            p->piece.data[i] = ' ';
    if (mark) base_buf_append(&p->piece, &mark, 1);
    return p->piece.failed || !base_buf_append(&p->header, p->piece.data, p->piece.len)
               ? ROTOR_E_NOMEM
               : ROTOR_OK;
}

/* What is left of a header that was none: text without the marks in it. */
static base_str content_of(const harmony_header *h, bool shifted) {
    char *p = (char *)(uintptr_t)h->rest.p;
    size_t from = 0, n = 0;
    while (shifted && from < h->rest.n && (unsigned char)p[from] <= ' ') from++;
    for (size_t i = from; i < h->rest.n; i++)
        if (p[i] != HARMONY_CHANNEL_MARK && p[i] != HARMONY_CONSTRAIN_MARK) p[from + n++] = p[i];
    return (base_str){p + from, n};
}

static bool all_blank(base_str s) {
    for (size_t i = 0; i < s.n; i++)
        if (!harmony_is_blank(s.p[i])) return false;
    return true;
}

/* A message without <|message|>. *made: there was something in it. */
static rotor_status header_is_message(harmony_parser *p, bool *made) {
    harmony_header h;
    base_str text = {p->header.data ? p->header.data : "", p->header.len};
    harmony_read_header(text, p->started, false, &h);
    base_str content = content_of(&h, h.rest.p != text.p);
    *made = h.recipient.n || !all_blank(content);
    if (!*made) return ROTOR_OK;
    ROTOR_TRY(begin_message(p, &h));
    last(p)->malformed = true;
    return add_text(p, content);
}

static rotor_status end_header(harmony_parser *p, harmony_end how, size_t past) {
    bool made = false;
    base_buf_reset(&p->piece);
    if (text_stream_end(&p->text, &p->piece) != ROTOR_OK ||
        !base_buf_append(&p->header, p->piece.data ? p->piece.data : "", p->piece.len))
        return ROTOR_E_NOMEM;
    ROTOR_TRY(header_is_message(p, &made));
    if (made) return end_message(p, how, past);
    begin_header(p, false, past);
    return ROTOR_OK;
}

/* Must it be read as a message, though its <|message|> may still come? */
static bool header_is_too_long(const harmony_parser *p) {
    harmony_header h;
    if (p->header.len <= REST_MAX_BYTES) return false;
    harmony_read_header((base_str){p->header.data, p->header.len}, p->started, false, &h);
    return h.rest.n > REST_MAX_BYTES || p->header.len > HEADER_MAX_BYTES;
}

static rotor_status put_in_header(harmony_parser *p, uint32_t id) {
    bool made;
    if (id == p->h.message) {
        harmony_header h;
        base_str text = {p->header.data ? p->header.data : "", p->header.len};
        harmony_read_header(text, p->started, true, &h);
        return begin_message(p, &h);
    }
    ROTOR_TRY(add_to_header(p, id));
    if (!header_is_too_long(p)) return ROTOR_OK;
    const text_stream half = p->text; /* of a character may be on its way */
    ROTOR_TRY(header_is_message(p, &made));
    if (made) p->text = half;
    if (!made) begin_header(p, false, p->n_ids);
    return ROTOR_OK;
}

/* ==== One id ================================================================================== */

static rotor_status put_in_content(harmony_parser *p, uint32_t id) {
    if (id == p->h.message || id == p->h.constrain) {
        last(p)->malformed = true;
        return ROTOR_OK;
    }
    base_buf_reset(&p->piece);
    ROTOR_TRY(text_stream_put(&p->text, id, &p->piece));
    return add_text(p, (base_str){p->piece.data, p->piece.len});
}

static rotor_status end_any(harmony_parser *p, harmony_end how, size_t past) {
    return p->in_content ? end_message(p, how, past) : end_header(p, how, past);
}

rotor_status harmony_parser_put(harmony_parser *p, uint32_t id) {
    if (p->why != HARMONY_OPEN) return ROTOR_OK;
    const harmony *h = &p->h;
    harmony_end how = id == h->end         ? HARMONY_ENDED
                      : id == h->ret       ? HARMONY_RETURNED
                      : id == h->call      ? HARMONY_CALLED
                      : id == h->endoftext ? HARMONY_ENDOFTEXT
                                           : HARMONY_OPEN;
    size_t before = p->n_ids++;
    if (how != HARMONY_OPEN) {
        ROTOR_TRY(end_any(p, how, p->n_ids));
        if (how != HARMONY_ENDED) end_turn(p, how);
        return ROTOR_OK;
    }
    if (id == h->start || (p->in_content && id == h->channel)) {
        if (p->in_content) last(p)->malformed = true;
        ROTOR_TRY(end_any(p, HARMONY_CUT, before));
        begin_header(p, id == h->start, before);
        return id == h->start ? ROTOR_OK : add_to_header(p, id);
    }
    return p->in_content ? put_in_content(p, id) : put_in_header(p, id);
}

rotor_status harmony_parser_end(harmony_parser *p) {
    if (p->why != HARMONY_OPEN) return ROTOR_OK;
    ROTOR_TRY(end_any(p, HARMONY_CUT, p->n_ids));
    end_turn(p, HARMONY_CUT);
    return ROTOR_OK;
}

/* ==== What was found ========================================================================== */

size_t harmony_parser_count(const harmony_parser *p) { return p->n; }

const harmony_parsed *harmony_parser_at(const harmony_parser *p, size_t i) {
    return i < p->n ? &p->m[i] : NULL;
}

harmony_end harmony_parser_why(const harmony_parser *p) { return p->why; }

rotor_status harmony_parser_text(const harmony_parser *p, harmony_kind kind, base_buf *out) {
    size_t before = out->len;
    for (size_t i = 0; i < p->n; i++) {
        const base_buf *text = &p->m[i].content;
        if (p->m[i].kind != kind || !text->len) continue;
        if ((out->len > before && !base_buf_puts(out, "\n")) ||
            !base_buf_append(out, text->data, text->len)) {
            out->len = before;
            return ROTOR_E_NOMEM;
        }
    }
    return ROTOR_OK;
}

base_str harmony_function(const char *recipient) {
    static const char space[] = "functions.";
    size_t n = sizeof space - 1;
    if (strncmp(recipient, space, n) != 0) return (base_str){"", 0};
    return base_str_of(recipient + n);
}
