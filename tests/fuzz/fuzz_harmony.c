/* SPDX-License-Identifier: MIT
 *
 * fuzz_harmony: any ids as an answer and as a conversation, and any text as tools.
 *
 * The input's first byte chooses; with bytes 1 to 8 for the marks and the others for themselves,
 * seeds can be read. Checks: parsing never fails, events come in order and tell what the messages
 * say, a replayed answer parses to what it meant, and text never becomes a mark.
 */
#include "chat/harmony.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

enum { N_BYTES = 256, N_MARKS = 9, REPLAY_MAX = 1000 /* longer headers may be cut */ };

static const char *const marks[N_MARKS] = {"<|start|>",     "<|channel|>",   "<|message|>",
                                           "<|end|>",       "<|return|>",    "<|call|>",
                                           "<|constrain|>", "<|endoftext|>", "<|startoftext|>"};

static text_vocab *make_vocab(void) {
    static char byte_text[N_BYTES][4];
    base_str tokens[N_BYTES + N_MARKS];
    int32_t types[N_BYTES + N_MARKS];
    uint32_t extra = 256;
    for (uint32_t b = 0; b < N_BYTES; b++) {
        bool plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        int n = base_utf8_encode(plain ? b : extra++, byte_text[b]);
        tokens[b] = (base_str){byte_text[b], (size_t)n};
        types[b] = TEXT_NORMAL;
    }
    for (uint32_t i = 0; i < N_MARKS; i++) {
        tokens[N_BYTES + i] = base_str_of(marks[i]);
        types[N_BYTES + i] = i % 2 ? TEXT_CONTROL : TEXT_USER_DEFINED;
    }
    text_spec spec = {.model = TEXT_BPE,
                      .pre = base_str_of("gpt-4o"),
                      .tokens = tokens,
                      .types = types,
                      .n_tokens = N_BYTES + N_MARKS,
                      .bos = TEXT_NO_ID,
                      .eos = TEXT_NO_ID,
                      .unk = TEXT_NO_ID,
                      .sep = TEXT_NO_ID,
                      .pad = TEXT_NO_ID,
                      .cls = TEXT_NO_ID,
                      .mask = TEXT_NO_ID,
                      .eot = TEXT_NO_ID,
                      .eom = TEXT_NO_ID};
    text_vocab *v = NULL;
    if (text_vocab_create(&v, &spec, NULL) != ROTOR_OK) abort();
    return v;
}

/* The vocabulary is made once and never freed. */
static const harmony *marks_of_vocab(void) {
    static harmony h;
    if (!h.v && harmony_find(&h, make_vocab(), NULL) != ROTOR_OK) abort();
    return &h;
}

/* ==== Parsing ================================================================================= */

typedef struct reader {
    size_t begun, ended, over, bytes; /* events, and bytes of text in them */
} reader;

static void on_event(void *user, const harmony_event *e) {
    reader *r = user;
    if (r->over || (e->kind == HARMONY_OVER) != !e->m) abort();
    if (e->m && e->m->kind == HARMONY_UNKNOWN) abort();
    if (e->kind == HARMONY_BEGINS && r->begun++ != r->ended) abort();
    if (e->kind == HARMONY_TEXT && (!e->text.n || r->begun != r->ended + 1)) abort();
    if (e->kind == HARMONY_ENDS && ++r->ended != r->begun) abort();
    if (e->kind == HARMONY_TEXT) r->bytes += e->text.n;
    if (e->kind == HARMONY_OVER) r->over++;
}

static harmony_parser *parse(const harmony *h, bool whole, const text_ids *ids) {
    reader r = {0};
    harmony_parser *p = NULL;
    size_t at = 0, bytes = 0;
    if (harmony_parser_create(&p, h, whole, on_event, &r) != ROTOR_OK) abort();
    for (size_t i = 0; i < ids->n; i++)
        if (harmony_parser_put(p, ids->ids[i]) != ROTOR_OK) abort();
    if (harmony_parser_end(p) != ROTOR_OK) abort();
    for (size_t i = 0; i < harmony_parser_count(p); i++) {
        const harmony_parsed *m = harmony_parser_at(p, i);
        if (m->first < at || m->past < m->first || m->past > ids->n || !m->end) abort();
        at = m->past;
        bytes += m->content.len;
    }
    if (r.over != 1 || r.begun != r.ended || r.begun != harmony_parser_count(p)) abort();
    if (r.bytes != bytes) abort();
    return p;
}

static void compare(const harmony_parser *a, const harmony_parser *b, harmony_kind kind) {
    base_buf x = {0}, y = {0};
    if (harmony_parser_text(a, kind, &x) != ROTOR_OK) abort();
    if (harmony_parser_text(b, kind, &y) != ROTOR_OK) abort();
    if (x.len != y.len || (x.len && memcmp(x.data, y.data, x.len))) abort();
    base_buf_free(&x);
    base_buf_free(&y);
}

/* The answer in a prompt, taken apart again. A text may have had U+FFFD for broken bytes; written
 * anew it has them for good. */
static void replay(const harmony *h, const text_ids *ids) {
    harmony_message m = {.role = base_str_of("assistant"), .ids = ids->ids, .n_ids = ids->n};
    harmony_chat c = {.bare = true, .messages = &m, .n_messages = 1, .keep_analysis = true};
    text_ids prompt = {0};
    rotor_error err = {0};
    if (harmony_render(h, &c, &prompt, &err) != ROTOR_OK) abort();
    harmony_parser *a = parse(h, false, ids), *b = parse(h, true, &prompt);
    const harmony_kind kinds[] = {HARMONY_ANALYSIS, HARMONY_COMMENTARY, HARMONY_FINAL,
                                  HARMONY_CALL};
    for (size_t i = 0; ids->n && i < BASE_COUNT(kinds); i++) compare(a, b, kinds[i]);
    harmony_parser_free(&a);
    harmony_parser_free(&b);
    text_ids_free(&prompt);
}

static void ids_from(const uint8_t *data, size_t n_bytes, text_ids *out) {
    for (size_t i = 0; i < n_bytes; i++) {
        uint32_t id = data[i] && data[i] <= N_MARKS - 1 ? N_BYTES + data[i] - 1u : data[i];
        if (text_ids_push(out, data[i] == 0 ? N_BYTES + N_MARKS - 1 : id) != ROTOR_OK) abort();
    }
}

/* ==== Rendering =============================================================================== */

static bool is_mark(uint32_t id) { return id >= N_BYTES; }

static void tools(const harmony *h, base_str text) {
    harmony_message m[] = {{.role = base_str_of("user"), .name = text, .content = text},
                           {.role = base_str_of("assistant"), .recipient = text, .content = text}};
    harmony_chat c = {.tools = text, .instructions = text, .messages = m, .n_messages = 2};
    text_ids ids = {0};
    rotor_error err = {0};
    size_t n_marks = 0;
    rotor_status st = harmony_render(h, &c, &ids, &err);
    if (st != ROTOR_OK) {
        if (st != ROTOR_E_FORMAT || !err.message[0]) abort();
        c.tools.n = 0;
        if (harmony_render(h, &c, &ids, &err) != ROTOR_OK) abort();
    }
    for (size_t i = 0; i < ids.n; i++) n_marks += is_mark(ids.ids[i]);
    size_t messages = text.n ? 4 : 3; /* no instructions, no developer message */
    if (n_marks != 3 * messages) abort();
    text_ids_free(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes) {
    const harmony *h = marks_of_vocab();
    text_ids ids = {0};
    if (!n_bytes) return 0;
    if (data[0] == 't') {
        tools(h, (base_str){(const char *)data + 1, n_bytes - 1});
        return 0;
    }
    ids_from(data + 1, n_bytes - 1, &ids);
    if (data[0] == 'w') {
        harmony_parser *p = parse(h, true, &ids);
        harmony_parser_free(&p);
    } else if (n_bytes < REPLAY_MAX) {
        replay(h, &ids);
    }
    text_ids_free(&ids);
    return 0;
}
