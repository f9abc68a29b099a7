/* SPDX-License-Identifier: MIT
 *
 * A question so that it stands alone: what a model is asked for that, and whether what it says is
 * one. Nothing here runs a model. What it says is only searched for, beside the user's own words,
 * so that a bad rewriting costs a search and not the answer.
 */
#include "rag/rag_internal.h"

enum { TURNS = 5, TURN_BYTES = 400, LONGEST = 400, LONGER = 4 };

/* ==== Asking for it =========================================================================== */

/* A turn on one line, so that nothing in it looks like another turn; cut before a character. */
static void put_said(base_buf *out, const rag_said *said) {
    size_t n = strlen(said->text);
    if (n > TURN_BYTES)
        for (n = TURN_BYTES; n && ((unsigned char)said->text[n] & 0xC0) == 0x80;) n--;
    base_buf_puts(out, said->by_user ? "User: " : "Assistant: ");
    for (size_t i = 0; i < n; i++)
        base_buf_append(out, (unsigned char)said->text[i] < ' ' ? " " : &said->text[i], 1);
    base_buf_puts(out, "\n");
}

rotor_status rag_rewrite_prompt(const rag_said *said, size_t n, base_buf *out, rotor_error *err) {
    base_buf_puts(out, "Here is the end of a conversation:\n\n");
    for (size_t i = n > TURNS ? n - TURNS : 0; i < n; i++) put_said(out, &said[i]);
    base_buf_puts(out, "\nWrite the last message of the user as one question that can be "
                       "understood without the conversation: in place of words like \"it\" and "
                       "\"they\" say what is meant. Answer with that question alone, on one line.");
    return out->failed ? base_fail_nomem(err, "asking for a question") : ROTOR_OK;
}

/* ==== Taking it =============================================================================== */

static bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

static base_str trim(base_str s) {
    while (s.n && is_space(s.p[0])) s.p++, s.n--;
    while (s.n && is_space(s.p[s.n - 1])) s.n--;
    return s;
}

/* One line of text, which has no control characters. */
static bool is_line(base_str s) {
    for (size_t i = 0; i < s.n;) {
        int32_t cp;
        const size_t k = (size_t)base_utf8_decode(s.p + i, s.n - i, &cp);
        if (cp < ' ' || (cp >= 127 && cp < 160)) return false;
        i += k;
    }
    return true;
}

bool rag_rewrite_take(base_str question, base_str said, base_str *out) {
    base_str s = trim(said);
    if (s.n >= 2 && s.p[0] == '"' && s.p[s.n - 1] == '"') s = trim((base_str){s.p + 1, s.n - 2});
    if (!s.n || s.n > LONGEST + LONGER * question.n || !is_line(s)) return false;
    if (!rag_content_words(s)) return false;
    *out = s;
    return true;
}
