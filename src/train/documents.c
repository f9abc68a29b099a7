/* SPDX-License-Identifier: MIT
 *
 * Files to documents: plain text, cut at its end-of-text marks, and conversations as JSON lines.
 *
 * A conversation is written as the chat template of the exported model writes it ("User: …",
 * "Assistant: …", each turn closed by the end-of-turn token), in parts, because an answer is
 * encoded by itself: so it is when the model has to find it.
 */
#include "train/train.h"

#include <jansson.h>
#include <stdio.h>

#define TEXT_END "<|endoftext|>"

enum { MAX_TURNS = 1024 };

/* ==== UTF-8 =================================================================================== */

static rotor_status check_utf8(const char *path, base_str s, size_t at, rotor_error *err) {
    size_t line = 1;
    for (size_t i = 0; i < s.n;) {
        int32_t cp = (uint8_t)s.p[i];
        size_t n = 1;
        if (cp >= 0x80) n = (size_t)base_utf8_decode(s.p + i, s.n - i, &cp);
        if (cp < 0)
            return base_fail(err, ROTOR_E_FORMAT,
                             "%s: byte %zu (line %zu) is 0x%02X, which is not UTF-8; convert the "
                             "file, for example with iconv",
                             path, at + i, line, (uint8_t)s.p[i]);
        line += cp == '\n';
        i += n;
    }
    return ROTOR_OK;
}

/* ==== Text ==================================================================================== */

static bool is_white(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static base_str trim(base_str s) {
    while (s.n && is_white(s.p[0])) s.p++, s.n--;
    while (s.n && is_white(s.p[s.n - 1])) s.n--;
    return s;
}

static const char *find(const char *p, const char *end, const char *what, size_t n) {
    for (; (size_t)(end - p) >= n; p++) {
        p = memchr(p, what[0], (size_t)(end - p) - n + 1);
        if (!p) return NULL;
        if (memcmp(p, what, n) == 0) return p;
    }
    return NULL;
}

static rotor_status read_text(base_str all, train_doc_fn fn, void *user, rotor_error *err) {
    const char *p = all.p, *end = all.p + all.n;
    while (p < end) {
        const char *stop = find(p, end, TEXT_END, strlen(TEXT_END));
        const char *until = stop ? stop : end;
        const train_part part = {.text = trim((base_str){p, (size_t)(until - p)}), .learn = true};
        if (part.text.n) ROTOR_TRY(fn(user, &part, 1, err));
        p = stop ? stop + strlen(TEXT_END) : end;
    }
    return ROTOR_OK;
}

/* ==== Conversations =========================================================================== */

typedef struct chat_line {
    const char *path;               /* of the file */
    size_t line;                    /* from 1 */
    train_part part[MAX_TURNS * 2]; /* of the conversation */
    size_t n;                       /* parts */
    base_buf asked;                 /* what others than the assistant say, with their names; parts
                                       without an address lie in it, in order */
    rotor_error *err;               /* of the call */
} chat_line;

/* What the parser says may hold the line's own bytes: nothing that would move a cursor. */
static rotor_status bad_line(const chat_line *c, const char *what) {
    char shown[JSON_ERROR_TEXT_LENGTH];
    snprintf(shown, sizeof shown, "%s", what);
    for (char *p = shown; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7F) *p = '?';
    return base_fail(c->err, ROTOR_E_FORMAT,
                     "%s line %zu: %s; expected {\"messages\": [{\"role\": …, \"content\": …}, …]} "
                     "or a pair such as \"prompt\" and \"completion\"",
                     c->path, c->line, shown);
}

static base_str text_of(const json_t *v) {
    if (!json_is_string(v)) return (base_str){0};
    return trim((base_str){json_string_value(v), json_string_length(v)});
}

static rotor_status add_turn(chat_line *c, const char *role, base_str text) {
    const bool learn = strcmp(role, "assistant") == 0, user = strcmp(role, "user") == 0;
    if (!learn && !user && strcmp(role, "system") != 0)
        return bad_line(c, "a role is not user, assistant or system");
    if (!text.n) return bad_line(c, "a turn is empty or not a text");
    if (c->n + 2 > BASE_COUNT(c->part)) return bad_line(c, "too many turns");
    if (learn) {
        c->part[c->n++] = (train_part){.text = base_str_of("Assistant: ")};
        c->part[c->n++] = (train_part){.text = text, .learn = true, .ends_turn = true};
        return ROTOR_OK;
    }
    const size_t at = c->asked.len;
    base_buf_puts(&c->asked, user ? "User: " : "System: ");
    base_buf_append(&c->asked, text.p, text.n);
    c->part[c->n++] = (train_part){.text = {NULL, c->asked.len - at}, .ends_turn = true};
    return ROTOR_OK;
}

/* The buffer has stopped moving. */
static rotor_status place_asked(chat_line *c) {
    size_t at = 0;
    if (c->asked.failed) return base_fail_nomem(c->err, "reading conversations");
    for (size_t i = 0; i < c->n; i++) {
        if (c->part[i].text.p) continue;
        c->part[i].text.p = c->asked.data + at;
        at += c->part[i].text.n;
    }
    return ROTOR_OK;
}

static rotor_status add_messages(chat_line *c, const json_t *list) {
    const json_t *m;
    size_t i;
    bool answers = false;
    json_array_foreach(list, i, m) {
        const char *role = json_string_value(json_object_get(m, "role"));
        if (!role) return bad_line(c, "a message has no role");
        answers |= strcmp(role, "assistant") == 0;
        ROTOR_TRY(add_turn(c, role, text_of(json_object_get(m, "content"))));
    }
    return answers ? ROTOR_OK : bad_line(c, "nobody answers: there is no assistant message");
}

static rotor_status add_pair(chat_line *c, const json_t *o) {
    static const char *const keys[][2] = {
        {"prompt", "completion"}, {"question", "answer"}, {"instruction", "output"}};
    for (size_t i = 0; i < BASE_COUNT(keys); i++) {
        const json_t *ask = json_object_get(o, keys[i][0]), *say = json_object_get(o, keys[i][1]);
        if (!ask || !say) continue;
        ROTOR_TRY(add_turn(c, "user", text_of(ask)));
        return add_turn(c, "assistant", text_of(say));
    }
    return bad_line(c, "no conversation here");
}

static rotor_status read_line(chat_line *c, base_str line, train_doc_fn fn, void *user) {
    json_error_t why;
    json_t *o = json_loadb(line.p, line.n, 0, &why);
    rotor_status st;
    c->n = 0;
    base_buf_reset(&c->asked);
    if (!o)
        st = bad_line(c, why.text);
    else if (json_is_array(json_object_get(o, "messages")))
        st = add_messages(c, json_object_get(o, "messages"));
    else
        st = add_pair(c, o);
    if (st == ROTOR_OK) st = place_asked(c);
    if (st == ROTOR_OK) st = fn(user, c->part, c->n, c->err);
    json_decref(o);
    return st;
}

static rotor_status read_chat(const char *path, base_str all, train_doc_fn fn, void *user,
                              rotor_error *err) {
    const char *p = all.p, *end = all.p + all.n;
    chat_line *c = base_alloc(sizeof *c);
    rotor_status st = ROTOR_OK;
    if (!c) return base_fail_nomem(err, "reading conversations");
    c->path = path;
    c->err = err;
    while (p < end && st == ROTOR_OK) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        const char *until = stop ? stop : end;
        const base_str line = trim((base_str){p, (size_t)(until - p)});
        c->line++;
        if (line.n) st = read_line(c, line, fn, user);
        p = stop ? stop + 1 : end;
    }
    base_buf_free(&c->asked);
    base_free(c);
    return st;
}

/* ==== Files =================================================================================== */

static bool ends_with(const char *s, const char *end) {
    const size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

rotor_status train_read_docs(const char *path, train_doc_fn fn, void *user, rotor_error *err) {
    base_file f;
    ROTOR_TRY(base_file_open(&f, path, true, err));
    base_str all = {(const char *)f.data, f.size};
    const size_t mark = all.n >= 3 && memcmp(all.p, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0;
    all = (base_str){all.p ? all.p + mark : "", all.n - mark};
    rotor_status st = check_utf8(path, all, mark, err);
    if (st == ROTOR_OK && !trim(all).n)
        st = base_fail(err, ROTOR_E_FORMAT,
                       "%s: there is no text in it (%zu bytes); expected text to learn from", path,
                       f.size);
    if (st == ROTOR_OK)
        st = ends_with(path, ".jsonl") ? read_chat(path, all, fn, user, err)
                                       : read_text(all, fn, user, err);
    base_file_close(&f);
    return st;
}
