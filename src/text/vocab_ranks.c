/* SPDX-License-Identifier: MIT
 *
 * A vocabulary from a rank file: lines of "base64(bytes) rank".
 *
 * The rank is the id and the merge order at once: two neighbours join if their bytes together
 * are a token, lowest id first. So no merge list is needed, and a piece that is a token as a
 * whole is always taken as it is.
 */
#include "text/text_internal.h"

static int base64_digit(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+') return 62;
    return c == '/' ? 63 : -1;
}

bool text_base64(base_str in, char *out, size_t *n) {
    uint32_t bits = 0;
    size_t w = 0, digits = in.n;
    while (digits && in.n - digits < 2 && in.p[digits - 1] == '=') digits--;
    if (in.n % 4 || digits % 4 == 1) return false;
    for (size_t i = 0; i < digits; i++) {
        int d = base64_digit(in.p[i]);
        if (d < 0) return false;
        bits = bits << 6 | (uint32_t)d;
        if (i % 4 == 1) out[w++] = (char)(bits >> 4);
        if (i % 4 == 2) out[w++] = (char)(bits >> 2);
        if (i % 4 == 3) out[w++] = (char)bits;
    }
    *n = w;
    return true;
}

typedef struct rank_line {
    base_str code; /* base64 */
    uint32_t rank; /* id */
} rank_line;

/* Reads the line at *at and moves behind it; false at the end of the file or on a bad line. */
static bool next_line(base_str file, size_t *at, rank_line *line) {
    const char *p = file.p + *at, *end = file.p + file.n, *start = p;
    while (p < end && *p != ' ' && *p != '\n') p++;
    line->code = (base_str){start, (size_t)(p - start)};
    if (p == start || p == end || *p != ' ') return false;
    uint64_t rank = 0;
    const char *digits = ++p;
    for (; p < end && *p >= '0' && *p <= '9' && rank < TEXT_MAX_TOKENS; p++)
        rank = rank * 10 + (uint64_t)(*p - '0');
    if (p == digits || rank >= TEXT_MAX_TOKENS) return false;
    if (p < end && *p == '\r') p++;
    if (p < end && *p++ != '\n') return false;
    line->rank = (uint32_t)rank;
    *at = (size_t)(p - file.p);
    return true;
}

static rotor_status count_lines(base_str ranks, size_t *n_tokens, rotor_error *err) {
    size_t at = 0, lines = 0;
    rank_line line;
    for (; at < ranks.n; lines++) {
        if (!next_line(ranks, &at, &line))
            return base_fail(err, ROTOR_E_FORMAT,
                             "rank file: line %zu at byte %zu is not 'base64 rank'", lines + 1, at);
        *n_tokens = BASE_MAX(*n_tokens, (size_t)line.rank + 1);
    }
    return ROTOR_OK;
}

static rotor_status read_lines(text_vocab *v, base_str ranks, rotor_error *err) {
    base_buf b = {0};
    rank_line line;
    rotor_status st = ROTOR_OK;
    for (size_t at = 0; st == ROTOR_OK && at < ranks.n && next_line(ranks, &at, &line);) {
        size_t n;
        base_buf_reset(&b);
        if (!base_buf_reserve(&b, line.code.n))
            st = base_fail_nomem(err, "reading a rank file");
        else if (!text_base64(line.code, b.data, &n) || !n || v->tokens[line.rank].n)
            st = base_fail(
                err, ROTOR_E_FORMAT,
                "rank file: the line before byte %zu has bad base64 or a rank seen before", at);
        else
            text_vocab_set(v, line.rank, (base_str){b.data, n}, TEXT_NORMAL);
    }
    base_buf_free(&b);
    return st;
}

static rotor_status check_specials(const base_str *specials, size_t n, uint32_t first,
                                   size_t *bytes, rotor_error *err) {
    if (n > TEXT_MAX_TOKENS || first > TEXT_MAX_TOKENS)
        return base_fail(err, ROTOR_E_ARG, "rank file: %zu special tokens from id %u on", n, first);
    for (size_t i = 0; i < n; i++) {
        if (specials[i].n > TEXT_MAX_TOKEN_BYTES)
            return base_fail(err, ROTOR_E_ARG, "rank file: special token %zu is too long", i);
        *bytes += specials[i].n;
    }
    return ROTOR_OK;
}

rotor_status text_vocab_from_ranks(text_vocab **out, base_str ranks, base_str pre,
                                   const base_str *specials, size_t n_specials,
                                   uint32_t first_special, rotor_error *err) {
    bool known;
    size_t n = 0, bytes = ranks.n;
    text_vocab *v = NULL;
    const text_rule *rule = text_rule_find(pre, &known);
    if (!rule || !known)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "rank file: pre-tokenizer '%.*s' is not known",
                         (int)BASE_MIN(pre.n, 60u), pre.n ? pre.p : "");
    ROTOR_TRY(count_lines(ranks, &n, err));
    ROTOR_TRY(check_specials(specials, n_specials, first_special, &bytes, err));
    if (n_specials && first_special < n)
        return base_fail(err, ROTOR_E_ARG,
                         "rank file: special tokens start at %u, inside %zu ranks", first_special,
                         n);
    if (n_specials) n = first_special + n_specials;
    ROTOR_TRY(text_vocab_new(&v, n, bytes, err));
    v->model = TEXT_BPE;
    v->rule = rule;
    v->bytes_are_symbols = v->whole_piece = true;
    for (size_t i = 0; i < n; i++) v->flags[i] = TEXT_UNUSED;
    rotor_status st = read_lines(v, ranks, err);
    for (size_t i = 0; st == ROTOR_OK && i < n_specials; i++)
        text_vocab_set(v, first_special + (uint32_t)i, specials[i], TEXT_CONTROL);
    if (st == ROTOR_OK) st = text_vocab_finish(v, false, NULL, err);
    if (st == ROTOR_OK) st = text_rule_steps(rule, &v->steps, err);
    if (st) return text_vocab_free(&v), st;
    if (strcmp(rule->name, "llama3") == 0) v->bos = text_find(v, base_str_of("<|begin_of_text|>"));
    v->add_bos = rule->add_bos;
    text_vocab_set_affixes(v);
    *out = v;
    return ROTOR_OK;
}
