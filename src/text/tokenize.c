/* SPDX-License-Identifier: MIT
 *
 * Encoding: text to ids, and the test entrance that shows the pieces.
 *
 * Special tokens are cut out first, leftmost and longest, by one walk along the prefix tree;
 * what lies between them is plain text and can never become a control token. Then steps and
 * model run on each plain stretch. Ids already in the caller's list stay as they were when
 * anything fails.
 */
#include "text/text_internal.h"

enum { CACHE_FROM_BYTES = 2048, CACHE_LINES = 2048 };

/* ==== Lists of ids ============================================================================ */

void text_ids_free(text_ids *ids) {
    base_free(ids->ids);
    memset(ids, 0, sizeof *ids);
}

rotor_status text_ids_push(text_ids *ids, uint32_t id) {
    if (ids->n == ids->cap) {
        size_t cap = ids->cap ? ids->cap * 2 : 32, bytes;
        if (!base_mul_size(cap, sizeof *ids->ids, &bytes)) return ROTOR_E_NOMEM;
        uint32_t *grown = base_realloc(ids->ids, bytes);
        if (!grown) return ROTOR_E_NOMEM;
        ids->ids = grown;
        ids->cap = cap;
    }
    ids->ids[ids->n++] = id;
    return ROTOR_OK;
}

/* ==== One run ================================================================================= */

void *text_run_work(text_run *r, size_t bytes) {
    if (bytes <= r->work_bytes) return r->work;
    void *work = base_alloc(bytes);
    if (!work) return NULL;
    base_free(r->work);
    r->work_bytes = bytes;
    return r->work = work;
}

void text_run_free(text_run *r) {
    for (size_t i = 0; i < BASE_COUNT(r->bufs); i++) base_buf_free(&r->bufs[i]);
    base_buf_free(&r->word);
    text_regex_scratch_free(&r->regex);
    base_free(r->work);
    base_free(r->cache);
}

static rotor_status model_piece(text_run *r, base_str piece) {
    switch (r->v->model) {
    case TEXT_UNIGRAM:
        return text_unigram_piece(r, piece);
    case TEXT_WORDPIECE:
        return text_wordpiece_piece(r, piece);
    default:
        return text_bpe_piece(r, piece);
    }
}

static rotor_status encode_plain(text_run *r, base_str text, bool starts_text) {
    if (!text.n) return ROTOR_OK;
    ROTOR_TRY(text_run_normal(r, text, &text));
    r->origin = starts_text ? text.p : NULL;
    return text_run_steps(r, r->steps->n_normal, text);
}

/* ==== Special tokens ========================================================================== */

static bool is_word_char(base_str s, size_t at, bool before) {
    if (before) {
        if (!at) return false;
        for (at--; at && ((uint8_t)s.p[at] & 0xC0) == 0x80;) at--;
    }
    if (at >= s.n) return false;
    int32_t cp;
    base_utf8_decode(s.p + at, s.n - at, &cp);
    return text_is_word_char(cp);
}

/* The longest special token at s[i] that may be matched; TEXT_NO_ID when there is none. */
static uint32_t special_at(const text_vocab *v, base_str s, size_t i, bool user_only, size_t *end) {
    uint32_t node = 0, found = TEXT_NO_ID;
    for (size_t j = i; j < s.n && text_trie_step(&v->special, &node, (uint8_t)s.p[j]);) {
        j++;
        uint32_t id = v->special.id[node];
        if (id == TEXT_NO_ID || (user_only && text_type_at(v, id) != TEXT_USER_DEFINED)) continue;
        if (v->flags[id] & TOK_WHOLE_WORD &&
            (is_word_char(s, i, true) || is_word_char(s, j, false)))
            continue;
        found = id;
        *end = j;
    }
    return found;
}

static size_t without_end_spaces(base_str s, size_t start, size_t end) {
    size_t keep = start;
    for (size_t i = start; i < end;) {
        unsigned cls;
        i += text_char(s.p, end, i, &cls);
        if (!(cls & CH_SPACE)) keep = i;
    }
    return keep;
}

static rotor_status encode_stretches(text_run *r, base_str s, bool parse_special) {
    const text_vocab *v = r->v;
    const bool *starts = parse_special ? v->starts_special : v->starts_user;
    size_t done = 0;
    for (size_t i = 0; i < s.n;) {
        size_t end = 0;
        uint32_t id = TEXT_NO_ID;
        if (starts[(uint8_t)s.p[i]]) id = special_at(v, s, i, !parse_special, &end);
        if (id == TEXT_NO_ID) {
            i++;
            continue;
        }
        size_t plain = v->flags[id] & TOK_EAT_LEFT ? without_end_spaces(s, done, i) : i;
        ROTOR_TRY(encode_plain(r, (base_str){s.p + done, plain - done}, done == 0));
        ROTOR_TRY(text_ids_push(r->out, id));
        if (v->flags[id] & TOK_EAT_RIGHT) end = text_class_run(s.p, s.n, end, CH_SPACE);
        done = i = end;
    }
    return encode_plain(r, (base_str){s.p + done, s.n - done}, done == 0);
}

/* ==== The two entrances ======================================================================= */

/* Puts the prefix in front of ids[from..) unless the text itself began with it. */
static rotor_status put_around(const text_vocab *v, unsigned flags, text_ids *out, size_t from,
                               size_t n_front) {
    if (n_front && out->n > from + n_front && out->ids[from + n_front] == v->prefix[0]) {
        memmove(out->ids + from, out->ids + from + n_front,
                (out->n - from - n_front) * sizeof *out->ids);
        out->n -= n_front;
    }
    bool ends = out->n > from && v->n_suffix && out->ids[out->n - 1] == v->suffix[v->n_suffix - 1];
    if (!(flags & TEXT_ADD_EOS) || !v->add_eos || ends) return ROTOR_OK;
    for (int i = 0; i < v->n_suffix; i++) ROTOR_TRY(text_ids_push(out, v->suffix[i]));
    return ROTOR_OK;
}

rotor_status text_encode(const text_vocab *v, base_str text, unsigned flags, text_ids *out,
                         rotor_error *err) {
    text_run r = {.v = v, .steps = &v->steps, .out = out, .err = err, .piece = model_piece};
    size_t from = out->n;
    rotor_status st = ROTOR_OK;
    if (text.n >= UINT32_MAX)
        return base_fail(err, ROTOR_E_ARG, "tokenizer: a text of %zu bytes, at most 4 GiB", text.n);
    if (!text.n) text.p = "";
    if (text.n >= CACHE_FROM_BYTES) { /* without a cache all works, more slowly */
        r.cache = base_alloc_array(CACHE_LINES, sizeof *r.cache);
        r.cache_lines = CACHE_LINES;
    }
    bool front = flags & TEXT_FORCE_BOS || (flags & TEXT_ADD_BOS && v->add_bos);
    for (int i = 0; st == ROTOR_OK && front && i < v->n_prefix; i++)
        st = text_ids_push(out, v->prefix[i]);
    size_t n_front = out->n - from;
    if (st == ROTOR_OK) st = encode_stretches(&r, text, flags & TEXT_PARSE_SPECIAL);
    if (st == ROTOR_OK) st = put_around(v, flags, out, from, n_front);
    text_run_free(&r);
    if (st) out->n = from;
    if (st == ROTOR_E_NOMEM) base_fail_nomem(err, "tokenizing");
    return st;
}

typedef struct split_user {
    void (*fn)(void *user, base_str piece); /* of the caller */
    void *user;                             /* passed back */
} split_user;

static rotor_status show_piece(text_run *r, base_str piece) {
    const split_user *u = r->user;
    u->fn(u->user, piece);
    return ROTOR_OK;
}

rotor_status text_split(base_str pre, base_str text, void (*fn)(void *user, base_str piece),
                        void *user, rotor_error *err) {
    bool known;
    text_steps steps = {0};
    split_user u = {fn, user};
    const text_rule *rule = text_rule_find(pre, &known);
    if (!rule)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "tokenizer: the rules of pre '%.*s' are not "
                         "implemented",
                         (int)BASE_MIN(pre.n, 60u), pre.p);
    text_run r = {.steps = &steps, .err = err, .piece = show_piece, .user = &u};
    rotor_status st = text_rule_steps(rule, &steps, err);
    if (st == ROTOR_OK) st = text_run_steps(&r, 0, text);
    text_run_free(&r);
    text_steps_free(&steps);
    return st;
}
