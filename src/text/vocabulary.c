/* SPDX-License-Identifier: MIT
 *
 * The vocabulary: building it from tokens, what it knows about them, freeing it.
 *
 * Builders (a text_spec, a tokenizer.json, a rank file) allocate with text_vocab_new, set every
 * token, call text_vocab_finish, and then add merges or scores. Byte-level files write each byte
 * as a printable character; that map is undone here, so that the rest of the room sees bytes.
 *
 * Invariants after finish: (V1) every id in a table is below n_tokens; (V2) token bytes lie in
 * the blob; (V3) a token of type BYTE reads exactly <0xHH>.
 */
#include "text/text_internal.h"

#include <assert.h>
#include <math.h>

rotor_status text_vocab_new(text_vocab **out, size_t n_tokens, size_t blob_bytes,
                            rotor_error *err) {
    if (n_tokens == 0 || n_tokens > TEXT_MAX_TOKENS)
        return base_fail(err, ROTOR_E_FORMAT, "vocabulary: %zu tokens, expected 1 to %d", n_tokens,
                         TEXT_MAX_TOKENS);
    if (blob_bytes >= UINT32_MAX)
        return base_fail(err, ROTOR_E_FORMAT, "vocabulary: %zu bytes of tokens, more than 4 GiB",
                         blob_bytes);
    text_vocab *v = base_alloc(sizeof *v);
    if (!v) goto fail;
    v->n_tokens = n_tokens;
    v->blob_cap = blob_bytes;
    v->blob = base_alloc(blob_bytes + 1);
    v->tokens = base_alloc_array(n_tokens, sizeof *v->tokens);
    v->flags = base_alloc(n_tokens);
    if (!v->blob || !v->tokens || !v->flags) goto fail;
    v->bos = v->eos = v->unk = TEXT_NO_ID;
    v->max_word_chars = 100;
    memset(v->byte_id, 0xFF, sizeof v->byte_id);
    *out = v;
    return ROTOR_OK;
fail:
    text_vocab_free(&v);
    return base_fail_nomem(err, "creating a vocabulary");
}

void text_vocab_free(text_vocab **v) {
    if (!v || !*v) return;
    base_free((*v)->blob);
    base_free((*v)->tokens);
    base_free((*v)->flags);
    base_free((*v)->order);
    base_free((*v)->scores);
    base_free_aligned((*v)->index.slots);
    text_merges_free(&(*v)->merges);
    text_trie_free(&(*v)->special);
    text_trie_free(&(*v)->plain);
    text_steps_free(&(*v)->steps);
    base_free(*v);
    *v = NULL;
}

void text_vocab_set(text_vocab *v, uint32_t id, base_str bytes, text_token_type type) {
    assert(id < v->n_tokens && bytes.n <= v->blob_cap - v->blob_n);
    if (bytes.n) memcpy(v->blob + v->blob_n, bytes.p, bytes.n);
    v->tokens[id] = (text_token_ref){(uint32_t)v->blob_n, (uint32_t)bytes.n};
    v->blob_n += bytes.n;
    v->flags[id] = (uint8_t)type;
}

/* Printable character of a byte-level file to its byte; -1 outside the map. Bytes that are not
 * printable Latin-1 are numbered from U+0100 in ascending order: 00-20, 7F-A0, AD. */
static int byte_of_printable(int32_t cp) {
    if ((cp >= 0x21 && cp <= 0x7E) || (cp >= 0xA1 && cp <= 0xAC) || (cp >= 0xAE && cp <= 0xFF))
        return cp;
    if (cp >= 0x100 && cp <= 0x120) return cp - 0x100;
    if (cp >= 0x121 && cp <= 0x142) return cp - 0x121 + 0x7F;
    return cp == 0x143 ? 0xAD : -1;
}

bool text_unmap(base_str bytes, char *out, size_t *n) {
    size_t w = 0;
    for (size_t i = 0; i < bytes.n;) {
        uint8_t c = (uint8_t)bytes.p[i];
        if (c > 0x20 && c < 0x7F) {
            out[w++] = (char)c;
            i++;
            continue;
        }
        int32_t cp;
        i += (size_t)base_utf8_decode(bytes.p + i, bytes.n - i, &cp);
        int byte = byte_of_printable(cp);
        if (byte < 0) return false;
        out[w++] = (char)byte;
    }
    *n = w;
    return true;
}

void text_vocab_set_mapped(text_vocab *v, uint32_t id, base_str bytes, text_token_type type) {
    assert(id < v->n_tokens && bytes.n <= v->blob_cap - v->blob_n);
    size_t n;
    if (!text_unmap(bytes, v->blob + v->blob_n, &n)) {
        text_vocab_set(v, id, bytes, type);
        return;
    }
    v->tokens[id] = (text_token_ref){(uint32_t)v->blob_n, (uint32_t)n};
    v->blob_n += n;
    v->flags[id] = (uint8_t)type;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool text_parse_byte_token(base_str t, uint8_t *byte) {
    if (t.n != 6 || memcmp(t.p, "<0x", 3) != 0 || t.p[5] != '>') return false;
    int hi = hex_digit(t.p[3]), lo = hex_digit(t.p[4]);
    if (hi < 0 || lo < 0) return false;
    *byte = (uint8_t)(hi << 4 | lo);
    return true;
}

static rotor_status find_byte_tokens(text_vocab *v, rotor_error *err) {
    if (v->bytes_are_symbols) {
        for (unsigned b = 0; b < 256; b++) {
            char c = (char)b;
            v->byte_id[b] = text_find_plain(v, &c, 1);
        }
        return ROTOR_OK;
    }
    for (size_t id = 0; id < v->n_tokens; id++) {
        uint8_t b;
        if (text_type_at(v, (uint32_t)id) != TEXT_BYTE) continue;
        base_str t = text_token(v, (uint32_t)id);
        if (!text_parse_byte_token(t, &b))
            return base_fail(
                err, ROTOR_E_FORMAT,
                "vocabulary: token %zu is a byte token but reads '%.*s', expected <0xHH>", id,
                (int)BASE_MIN(t.n, 40u), t.p);
        v->byte_id[b] = (uint32_t)id;
    }
    return ROTOR_OK;
}

static rotor_status collect_specials(text_vocab *v) {
    for (size_t id = 0; id < v->n_tokens; id++) {
        text_token_type type = text_type_at(v, (uint32_t)id);
        bool user = type == TEXT_USER_DEFINED;
        base_str t = text_token(v, (uint32_t)id);
        if (!t.n || !(user || type == TEXT_CONTROL || type == TEXT_UNKNOWN)) continue;
        ROTOR_TRY(text_trie_put(&v->special, t, (uint32_t)id));
        v->starts_special[(uint8_t)t.p[0]] = true;
        if (user) v->starts_user[(uint8_t)t.p[0]] = true;
    }
    return ROTOR_OK;
}

/* Tokens that end a generation whatever the file says about them. */
static const char *const eog_texts[] = {
    "<|eot_id|>", "<|im_end|>",    "<|end|>",         "<|return|>",
    "<|call|>",   "<end_of_turn>", "<|endoftext|>",   "</s>",
    "<|eom_id|>", "<EOT>",         "<|end_of_text|>", "<end_of_utterance>",
};

static uint32_t find_control(text_vocab *v, const char *text, bool retype, const base_log *log) {
    uint32_t id = text_index_get(v, text, strlen(text));
    if (id == TEXT_NO_ID) return id;
    text_token_type type = text_type_at(v, id);
    if (type == TEXT_CONTROL || type == TEXT_USER_DEFINED) return id;
    if (!retype || strncmp(text, "<|", 2) != 0) return TEXT_NO_ID;
    base_log_printf(log, BASE_LOG_WARN,
                    "vocabulary: token %u '%s' is not marked as control; it is "
                    "treated as such",
                    id, text);
    v->flags[id] = (uint8_t)((v->flags[id] & ~TOK_TYPE) | TEXT_CONTROL);
    return id;
}

static void discover_eog(text_vocab *v, bool retype, const base_log *log) {
    for (size_t i = 0; i < BASE_COUNT(eog_texts); i++)
        text_vocab_add_eog(v, find_control(v, eog_texts[i], retype, log));
    text_vocab_add_eog(v, v->eos);
    /* In the Harmony format <|end|> closes a message, not the answer. */
    uint32_t end = text_index_get(v, "<|end|>", 7);
    if (end != TEXT_NO_ID && end != v->eos && text_index_get(v, "<|return|>", 10) != TEXT_NO_ID &&
        text_index_get(v, "<|call|>", 8) != TEXT_NO_ID)
        v->flags[end] &= (uint8_t)~TOK_EOG;
}

static bool has_inner_mark(base_str t) {
    bool other = false;
    for (size_t i = 0; i < t.n; i++) {
        bool mark = t.n - i >= 3 && memcmp(t.p + i, SPACE_MARK, 3) == 0;
        if (mark && other) return true;
        other = !mark;
        if (mark) i += 2;
    }
    return false;
}

static bool no_inner_marks(const text_vocab *v) {
    for (size_t id = 0; id < v->n_tokens; id++)
        if (has_inner_mark(text_token(v, (uint32_t)id))) return false;
    return true;
}

rotor_status text_vocab_finish(text_vocab *v, bool retype, const base_log *log, rotor_error *err) {
    if (text_index_build(v) != ROTOR_OK) return base_fail_nomem(err, "indexing a vocabulary");
    discover_eog(v, retype, log);
    ROTOR_TRY(find_byte_tokens(v, err));
    for (size_t id = 0; id < v->n_tokens; id++) {
        text_token_type type = text_type_at(v, (uint32_t)id);
        if (v->tokens[id].n > TEXT_MAX_TOKEN_BYTES)
            return base_fail(err, ROTOR_E_FORMAT, "vocabulary: token %zu has %u bytes, at most %d",
                             id, v->tokens[id].n, TEXT_MAX_TOKEN_BYTES);
        if (type != TEXT_CONTROL && type != TEXT_UNKNOWN)
            v->longest = BASE_MAX(v->longest, v->tokens[id].n);
    }
    v->cut_before_space = !v->bytes_are_symbols && no_inner_marks(v);
    rotor_status st = collect_specials(v);
    if (st == ROTOR_E_NOMEM) return base_fail_nomem(err, "collecting special tokens");
    if (st) return base_fail(err, st, "vocabulary: more than 2^24 bytes of special tokens");
    return ROTOR_OK;
}

/* A float as a number that sorts the other way round: the highest score comes first. */
static uint32_t descending(float score) {
    uint32_t u;
    float positive_zero = score + 0.0f;
    memcpy(&u, &positive_zero, sizeof u);
    return ~(u & 0x80000000u ? ~u : u | 0x80000000u);
}

rotor_status text_vocab_set_scores(text_vocab *v, const float *scores, rotor_error *err) {
    v->order = base_alloc_array(v->n_tokens, sizeof *v->order);
    if (!v->order) return base_fail_nomem(err, "ordering a vocabulary");
    for (size_t id = 0; id < v->n_tokens; id++) {
        if (!isfinite(scores[id]))
            return base_fail(err, ROTOR_E_FORMAT,
                             "vocabulary: the score of token %zu is not finite", id);
        v->order[id] = BASE_MIN(descending(scores[id]), TEXT_NO_RANK - 1);
    }
    return ROTOR_OK;
}

void text_vocab_add_eog(text_vocab *v, uint32_t id) {
    if (id < v->n_tokens) v->flags[id] |= TOK_EOG;
}

/* ==== What it knows =========================================================================== */

size_t text_n_tokens(const text_vocab *v) { return v->n_tokens; }
text_model text_model_of(const text_vocab *v) { return v->model; }

base_str text_pre(const text_vocab *v) {
    return base_str_of(v->rule ? v->rule->name : v->pre ? v->pre : "none");
}

base_str text_token(const text_vocab *v, uint32_t id) {
    if (id >= v->n_tokens) return (base_str){"", 0};
    return (base_str){v->blob + v->tokens[id].at, v->tokens[id].n};
}

text_token_type text_type(const text_vocab *v, uint32_t id) {
    return id < v->n_tokens ? text_type_at(v, id) : TEXT_UNDEFINED;
}

uint32_t text_find(const text_vocab *v, base_str token) {
    return token.n ? text_index_get(v, token.p, token.n) : TEXT_NO_ID;
}

uint32_t text_find_plain(const text_vocab *v, const char *p, size_t n) {
    uint32_t id = text_index_get(v, p, n);
    if (id == TEXT_NO_ID) return id;
    return text_type_is_plain(text_type_at(v, id)) ? id : TEXT_NO_ID;
}

uint32_t text_bos(const text_vocab *v) { return v->bos; }
uint32_t text_eos(const text_vocab *v) { return v->eos; }
bool text_adds_bos(const text_vocab *v) { return v->add_bos; }

bool text_is_eog(const text_vocab *v, uint32_t id) {
    return id < v->n_tokens && v->flags[id] & TOK_EOG;
}
