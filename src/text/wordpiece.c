/* SPDX-License-Identifier: MIT
 *
 * WordPiece (BERT): each word is cut greedily into the longest tokens from the left.
 *
 * Tokens are kept in the form GGUF files use: the start of a word is written "▁word", a
 * continuation "##word" is written "word". If any part of a word matches nothing, or the word is
 * longer than max_word_chars, the whole word becomes the unknown token. A continuation that itself
 * begins with U+2581 cannot be told from the start of a word and never matches.
 */
#include "text/text_internal.h"

enum { MARK_BYTES = 3 }; /* of U+2581 */

static size_t count_chars(base_str s) {
    size_t n = 0;
    for (size_t i = 0; i < s.n; n++) {
        unsigned cls;
        i += text_char(s.p, s.n, i, &cls);
    }
    return n;
}

/* Longest token that starts at word[start]; 0 when there is none. */
static size_t longest_token(const text_vocab *v, const base_buf *word, size_t start, uint32_t *id) {
    size_t least = start ? start + 1 : MARK_BYTES + 1;
    size_t end = BASE_MIN(word->len, start + v->longest);
    if (start && word->len - start >= MARK_BYTES &&
        memcmp(word->data + start, SPACE_MARK, MARK_BYTES) == 0)
        return 0;
    for (; end >= least; end--) {
        if (end < word->len && ((uint8_t)word->data[end] & 0xC0) == 0x80) continue;
        *id = text_find_plain(v, word->data + start, end - start);
        if (*id != TEXT_NO_ID) return end - start;
    }
    return 0;
}

rotor_status text_wordpiece_piece(text_run *r, base_str piece) {
    const text_vocab *v = r->v;
    if (!piece.n) return ROTOR_OK;
    size_t before = r->out->n;
    bool whole = count_chars(piece) <= v->max_word_chars;
    base_buf_reset(&r->word);
    if (!base_buf_puts(&r->word, SPACE_MARK) ||
        !base_buf_append(&r->word, piece.p, whole ? piece.n : 0))
        return base_fail_nomem(r->err, "tokenizing a word");
    for (size_t at = 0; whole && at < r->word.len;) {
        uint32_t id;
        size_t n = longest_token(v, &r->word, at, &id);
        if (n) ROTOR_TRY(text_ids_push(r->out, id));
        whole = n > 0;
        at += n;
    }
    if (whole) return ROTOR_OK;
    r->out->n = before;
    return v->unk == TEXT_NO_ID ? ROTOR_OK : text_ids_push(r->out, v->unk);
}
