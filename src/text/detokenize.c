/* SPDX-License-Identifier: MIT
 *
 * Decoding: ids to text, one id at a time, never half a UTF-8 sequence.
 *
 * Tokens of byte-level models may end inside a character, so up to three bytes wait in the stream
 * until the sequence is whole or proven invalid. An invalid sequence becomes one U+FFFD per
 * longest valid beginning, as the Unicode standard recommends; raw streams pass all bytes on.
 */
#include "text/text_internal.h"

#define REPLACEMENT "\xEF\xBF\xBD"

void text_stream_init(text_stream *s, const text_vocab *v) {
    *s = (text_stream){.v = v, .at_start = true};
}

static int sequence_length(uint8_t lead) {
    if (lead < 0x80) return 1;
    if (lead >= 0xC2 && lead <= 0xDF) return 2;
    if (lead >= 0xE0 && lead <= 0xEF) return 3;
    return lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
}

/* Whether byte may follow the n bytes that wait. The second byte has narrower bounds after some
 * leads: no overlong forms, no surrogates, nothing above U+10FFFF. */
static bool may_follow(const char *wait, int n, uint8_t byte) {
    uint8_t lead = (uint8_t)wait[0], low = 0x80, high = 0xBF;
    if (n == 1 && lead == 0xE0) low = 0xA0;
    if (n == 1 && lead == 0xED) high = 0x9F;
    if (n == 1 && lead == 0xF0) low = 0x90;
    if (n == 1 && lead == 0xF4) high = 0x8F;
    return byte >= low && byte <= high;
}

static void feed(text_stream *s, uint8_t byte, base_buf *out) {
    if (s->n_wait && !may_follow(s->wait, s->n_wait, byte)) {
        base_buf_puts(out, REPLACEMENT);
        s->n_wait = 0;
    }
    if (!s->n_wait && !sequence_length(byte)) {
        base_buf_puts(out, REPLACEMENT);
        return;
    }
    s->wait[s->n_wait++] = (char)byte;
    if (s->n_wait < sequence_length((uint8_t)s->wait[0])) return;
    base_buf_append(out, s->wait, (size_t)s->n_wait);
    s->n_wait = 0;
}

static void feed_all(text_stream *s, const char *p, size_t n, base_buf *out) {
    if (!n) return;
    s->at_start = false;
    if (s->raw) {
        base_buf_append(out, p, n);
        return;
    }
    for (size_t i = 0; i < n; i++) feed(s, (uint8_t)p[i], out);
}

/* A token in which U+2581 stands for a space. */
static void feed_phantom(text_stream *s, base_str t, base_buf *out) {
    for (size_t i = 0; i < t.n;) {
        if (t.n - i >= 3 && memcmp(t.p + i, SPACE_MARK, 3) == 0) {
            if (s->at_start && s->v->drop_first_space)
                s->at_start = false;
            else
                feed_all(s, " ", 1, out);
            i += 3;
        } else {
            feed_all(s, t.p + i++, 1, out);
        }
    }
}

static void feed_token(text_stream *s, uint32_t id, base_buf *out) {
    const text_vocab *v = s->v;
    base_str t = text_token(v, id);
    uint8_t byte;
    switch (text_type(v, id)) {
    case TEXT_CONTROL:
    case TEXT_UNKNOWN:
        if (s->render_special) feed_all(s, t.p, t.n, out);
        return;
    case TEXT_USER_DEFINED:
        feed_all(s, t.p, t.n, out);
        return;
    case TEXT_BYTE:
        if (text_parse_byte_token(t, &byte)) feed_all(s, (const char *)&byte, 1, out);
        return;
    default:
        if (v->phantom)
            feed_phantom(s, t, out);
        else
            feed_all(s, t.p, t.n, out);
    }
}

rotor_status text_stream_put(text_stream *s, uint32_t id, base_buf *out) {
    text_stream before = *s;
    size_t len = out->len;
    bool failed = out->failed;
    out->failed = false;
    feed_token(s, id, out);
    if (!out->failed) return out->failed = failed, ROTOR_OK;
    *s = before;
    out->len = len;
    return ROTOR_E_NOMEM;
}

rotor_status text_stream_end(text_stream *s, base_buf *out) {
    if (!s->n_wait) return ROTOR_OK;
    if (!base_buf_puts(out, REPLACEMENT)) return ROTOR_E_NOMEM;
    s->n_wait = 0;
    return ROTOR_OK;
}

rotor_status text_decode(const text_vocab *v, const uint32_t *ids, size_t n, bool render_special,
                         base_buf *out) {
    text_stream s;
    size_t len = out->len;
    text_stream_init(&s, v);
    s.render_special = render_special;
    s.raw = true;
    for (size_t i = 0; i < n; i++) {
        rotor_status st = text_stream_put(&s, ids[i], out);
        if (st == ROTOR_OK) continue;
        out->len = len;
        return st;
    }
    return ROTOR_OK;
}
