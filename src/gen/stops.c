/* SPDX-License-Identifier: MIT
 *
 * Stop strings in a stream of text.
 *
 * Each stop string has an automaton (Knuth, Morris, Pratt): its state is the length of the longest
 * beginning of the stop that the text so far ends with. The longest of these is what has to wait;
 * everything before it can be shown. How the text is cut into pieces makes no difference.
 *
 * Owns: the automata and the bytes that wait. Stops are valid UTF-8, so a cut never falls inside a
 * character of valid text. Memory grows only when a piece is longer than any before it.
 */
#include "gen/gen_internal.h"

enum { SPARE_BYTES = 256 }; /* room for a token's text beside the longest stop */

typedef struct automaton {
    base_str text;        /* the stop string, borrowed */
    const uint32_t *back; /* [n] back[i]: longest proper border of text[0..i] */
    size_t at;            /* state: bytes matched */
} automaton;

struct gen_stops {
    automaton *stop; /* [n], owned */
    size_t n;        /* how many */
    uint32_t *back;  /* tables of all stops, owned */
    base_buf held;   /* bytes that wait, owned */
};

static rotor_status check_stop(base_str stop, size_t i, rotor_error *err) {
    if (stop.n == 0) return base_fail(err, ROTOR_E_ARG, "stop string %zu is empty", i);
    for (size_t at = 0; at < stop.n;) {
        int32_t cp;
        at += (size_t)base_utf8_decode(stop.p + at, stop.n - at, &cp);
        if (cp < 0) return base_fail(err, ROTOR_E_ARG, "stop string %zu is not valid UTF-8", i);
    }
    return ROTOR_OK;
}

static void fill_back(uint32_t *back, base_str text) {
    for (size_t i = 1, border = 0; i < text.n; i++) {
        while (border && text.p[i] != text.p[border]) border = back[border - 1];
        if (text.p[i] == text.p[border]) border++;
        back[i] = (uint32_t)border;
    }
}

rotor_status gen_stops_create(gen_stops **out, const base_str *stops, size_t n, rotor_error *err) {
    size_t total = 0, longest = 0;
    for (size_t i = 0; i < n; i++) {
        ROTOR_TRY(check_stop(stops[i], i, err));
        total += stops[i].n;
        longest = BASE_MAX(longest, stops[i].n);
    }
    if (longest > UINT32_MAX / 2) return base_fail(err, ROTOR_E_ARG, "stop string too long");
    gen_stops *s = base_alloc(sizeof *s);
    if (!s) goto fail;
    s->n = n;
    s->stop = base_alloc_array(n, sizeof *s->stop);
    s->back = base_alloc_array(total, sizeof *s->back);
    if (!s->stop || !s->back || !base_buf_reserve(&s->held, longest + SPARE_BYTES)) goto fail;
    uint32_t *back = s->back;
    for (size_t i = 0; i < n; i++) {
        s->stop[i] = (automaton){.text = stops[i], .back = back};
        fill_back(back, stops[i]);
        back += stops[i].n;
    }
    *out = s;
    return ROTOR_OK;
fail:
    gen_stops_free(&s);
    return base_fail_nomem(err, "preparing stop strings");
}

void gen_stops_free(gen_stops **s) {
    if (!s || !*s) return;
    base_buf_free(&(*s)->held);
    base_free((*s)->back);
    base_free((*s)->stop);
    base_free(*s);
    *s = NULL;
}

/* One byte for one automaton; true when its stop is complete. */
static bool step(automaton *a, char c) {
    while (a->at && a->text.p[a->at] != c) a->at = a->back[a->at - 1];
    if (a->text.p[a->at] == c) a->at++;
    return a->at == a->text.n;
}

/* One byte for all; the length of the longest stop it completes, or 0. */
static size_t step_all(gen_stops *s, char c) {
    size_t longest = 0;
    for (size_t i = 0; i < s->n; i++)
        if (step(&s->stop[i], c)) longest = BASE_MAX(longest, s->stop[i].text.n);
    return longest;
}

static size_t n_waiting(const gen_stops *s) {
    size_t most = 0;
    for (size_t i = 0; i < s->n; i++) most = BASE_MAX(most, s->stop[i].at);
    return most;
}

/* Appends the first n held bytes to *out and forgets the first n_drop >= n. */
static rotor_status release(gen_stops *s, size_t n, size_t n_drop, base_buf *out) {
    if (!base_buf_append(out, s->held.data, n)) return ROTOR_E_NOMEM;
    s->held.len -= n_drop;
    memmove(s->held.data, s->held.data + n_drop, s->held.len);
    return ROTOR_OK;
}

rotor_status gen_stops_feed(gen_stops *s, base_str text, base_buf *out, bool *hit) {
    size_t at = s->held.len;
    *hit = false;
    if (!base_buf_append(&s->held, text.p, text.n)) return ROTOR_E_NOMEM;
    for (; at < s->held.len; at++) {
        size_t n = step_all(s, s->held.data[at]);
        if (n == 0) continue;
        *hit = true;
        return release(s, at + 1 - n, s->held.len, out);
    }
    size_t n = s->held.len - n_waiting(s);
    return release(s, n, n, out);
}

rotor_status gen_stops_flush(gen_stops *s, base_buf *out) {
    for (size_t i = 0; i < s->n; i++) s->stop[i].at = 0;
    return release(s, s->held.len, s->held.len, out);
}
