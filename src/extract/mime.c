/* SPDX-License-Identifier: MIT
 *
 * How letters put 8-bit text into 7 bits: quoted-printable, base64, and the encoded words of
 * headers (RFC 2045, 2047). What is not well formed is kept as it stands: a mailbox of twenty years
 * holds every mistake there is.
 */
#include "extract/extract.h"

static int hex(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

bool ex_decode_quoted(base_buf *to, base_str s) {
    if (!base_buf_reserve(to, s.n + 1)) return false;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] != '=') {
            base_buf_append(to, s.p + i, 1);
            continue;
        }
        size_t end = i + 1;
        while (end < s.n && (s.p[end] == ' ' || s.p[end] == '\t' || s.p[end] == '\r')) end++;
        if (end == s.n || s.p[end] == '\n') { /* the line goes on */
            i = end;
        } else if (i + 2 < s.n && hex(s.p[i + 1]) >= 0 && hex(s.p[i + 2]) >= 0) {
            const char c = (char)(hex(s.p[i + 1]) * 16 + hex(s.p[i + 2]));
            base_buf_append(to, &c, 1);
            i += 2;
        } else
            base_buf_append(to, "=", 1);
    }
    return !to->failed;
}

static int sextet(char c) {
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

bool ex_decode_base64(base_buf *to, base_str s) {
    uint32_t bits = 0;
    int n_bits = 0;
    if (!base_buf_reserve(to, s.n / 4 * 3 + 4)) return false;
    for (size_t i = 0; i < s.n && s.p[i] != '='; i++) {
        const int v = sextet(s.p[i]);
        if (v < 0) continue;
        bits = bits << 6 | (uint32_t)v;
        n_bits += 6;
        if (n_bits >= 8) {
            const char c = (char)(bits >> (n_bits - 8));
            base_buf_append(to, &c, 1);
            n_bits -= 8;
        }
    }
    return !to->failed;
}

/* ---- Headers ------------------------------------------------------------------------------- */

typedef struct word {
    char charset[32]; /* of its bytes */
    char how;         /* 'b' or 'q' */
    base_str text;    /* still encoded */
    size_t n;         /* bytes from "=?" to "?=" */
} word;

/* =?charset?B?text?= at the front of s. */
static bool word_at(base_str s, word *w) {
    size_t i = 2, n = 0;
    if (s.n < 8 || s.p[0] != '=' || s.p[1] != '?') return false;
    for (; i < s.n && s.p[i] != '?' && s.p[i] > ' '; i++)
        if (n < 31 && s.p[i] != '*') w->charset[n++] = s.p[i];
    w->charset[n] = 0;
    if (i + 3 >= s.n || s.p[i] != '?' || s.p[i + 2] != '?') return false;
    w->how = (char)(s.p[i + 1] | 32);
    const size_t from = i += 3;
    while (i < s.n && s.p[i] != '?' && s.p[i] != '\n') i++;
    if (i + 1 >= s.n || s.p[i] != '?' || s.p[i + 1] != '=') return false;
    w->text = (base_str){s.p + from, i - from};
    w->n = i + 2;
    return w->how == 'b' || w->how == 'q';
}

static bool add_word(base_buf *to, const word *w) {
    base_buf bytes = {0};
    bool ok;
    if (w->how == 'b')
        ok = ex_decode_base64(&bytes, w->text);
    else {
        ok = ex_decode_quoted(&bytes, w->text);
        for (size_t i = 0; i < bytes.len; i++)
            if (bytes.data[i] == '_') bytes.data[i] = ' ';
    }
    ok = ok && ex_to_utf8(to, (base_str){bytes.data, bytes.len}, w->charset);
    base_buf_free(&bytes);
    return ok;
}

bool ex_decode_header(base_buf *to, base_str s) {
    size_t plain = 0; /* where text that is no word began */
    if (!s.n) return true;
    bool after_word = false, ok = true;
    for (size_t i = 0; i <= s.n && ok;) {
        word w;
        const bool is_word = i < s.n && word_at((base_str){s.p + i, s.n - i}, &w);
        if (is_word || i == s.n) { /* white space between two words is not text */
            const base_str before = {s.p + plain, i - plain};
            if (before.n && !(after_word && is_word && ex_blank(before)))
                ok = ex_to_utf8(to, before, NULL);
        }
        if (is_word) {
            ok = ok && add_word(to, &w);
            i = plain = i + w.n;
            after_word = true;
        } else
            i++;
    }
    return ok;
}
