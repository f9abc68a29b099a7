/* SPDX-License-Identifier: MIT
 *
 * A document as a stream of blocks, on its way from the program that parsed it. Little endian:
 *
 *   "RXBLOCK1"                                       once, at the start
 *   0  u32 text_bytes   at most 1 MiB
 *   4  u8  kind         base_block_kind
 *   5  u8  level        of a heading, a list item; the reason of an ERROR
 *   6  u16 zero
 *   8  u64 byte_begin   source span; both ends 0: not known
 *   16 u64 byte_end
 *   24 u32 line_begin   source lines from 1; both 0: not known
 *   28 u32 line_end
 *   32 u32 page         from 1; 0: the format has none
 *   36 u32 zero
 *   40 text
 *
 * The parser has read a stranger's file and may have been taken over by it, so the reader believes
 * nothing: a block is passed on only when every field is in its range, the text is UTF-8 without
 * controls, spans lie in the file, pages do not go back and the order is one a document can have.
 * Nothing may come after END or ERROR; a stream that stops before is one that was cut.
 */
#include "base/base.h"

enum { HEADING_MAX = 6, LIST_MAX = 32, NOTE_MAX = 255 };

static void put_u32(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static void put_u64(uint8_t *p, uint64_t v) {
    for (int i = 0; i < 8; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static uint32_t get_u32(const uint8_t *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get_u64(const uint8_t *p) { return get_u32(p) | (uint64_t)get_u32(p + 4) << 32; }

const char *base_reason_name(base_reason r) {
    static const char *const names[BASE_REASONS] = {
        "none",    "encrypted", "too_large",    "not_text", "broken",
        "timeout", "memory",    "missing_tool", "empty",    "crashed"};
    return (unsigned)r < BASE_REASONS ? names[r] : "crashed";
}

bool base_block_put(base_buf *to, const base_block *b) {
    uint8_t head[BASE_BLOCK_HEAD] = {0};
    put_u32(head, (uint32_t)b->text.n);
    head[4] = (uint8_t)b->kind;
    head[5] = (uint8_t)b->level;
    put_u64(head + 8, b->byte_begin);
    put_u64(head + 16, b->byte_end);
    put_u32(head + 24, b->line_begin);
    put_u32(head + 28, b->line_end);
    put_u32(head + 32, b->page);
    return base_buf_append(to, head, sizeof head) && base_buf_append(to, b->text.p, b->text.n);
}

/* ---- Reading ------------------------------------------------------------------------------- */

static bool is_text(base_str s, bool one_line) {
    for (size_t i = 0; i < s.n;) {
        int32_t cp;
        i += (size_t)base_utf8_decode(s.p + i, s.n - i, &cp);
        if (cp < ' ' && (one_line || (cp != '\n' && cp != '\t'))) return false;
        if (cp >= 0x7F && cp < 0xA0) return false;
    }
    return true;
}

static bool is_meta(base_str s) {
    size_t i = 0;
    while (i < s.n && ((s.p[i] >= 'a' && s.p[i] <= 'z') || s.p[i] == '_')) i++;
    return i > 0 && i < s.n && s.p[i] == '=';
}

static bool level_fits(const base_block *b) {
    switch (b->kind) {
    case BASE_BLOCK_HEADING:
        return b->level >= 1 && b->level <= HEADING_MAX;
    case BASE_BLOCK_LIST:
        return b->level >= 1 && b->level <= LIST_MAX;
    case BASE_BLOCK_CODE:
    case BASE_BLOCK_ROW:
        return b->level <= 1;
    case BASE_BLOCK_ERROR:
        return b->level > BASE_REASON_NONE && b->level < BASE_REASONS;
    default:
        return b->level == 0;
    }
}

static bool text_fits(const base_block *b) {
    const bool whole = b->kind == BASE_BLOCK_NOTE || b->kind == BASE_BLOCK_ERROR;
    switch (b->kind) {
    case BASE_BLOCK_PAGE:
    case BASE_BLOCK_END:
        return b->text.n == 0;
    case BASE_BLOCK_META:
        return is_meta(b->text) && is_text(b->text, true);
    case BASE_BLOCK_DOC:
        return is_text(b->text, true);
    case BASE_BLOCK_NOTE:
    case BASE_BLOCK_ERROR:
        return b->text.n > 0 && b->text.n <= NOTE_MAX && is_text(b->text, whole);
    default:
        return b->text.n > 0 && is_text(b->text, false);
    }
}

static bool spans_fit(const base_block_reader *r, const base_block *b) {
    if (b->byte_begin > b->byte_end || b->byte_end > r->file_bytes) return false;
    if (b->line_begin > b->line_end || (b->line_begin == 0) != (b->line_end == 0)) return false;
    if (b->line_end > r->file_bytes + 1) return false;
    if (b->kind == BASE_BLOCK_PAGE) return b->page > r->page;
    return b->page == r->page || b->kind == BASE_BLOCK_DOC || b->kind >= BASE_BLOCK_ERROR;
}

static const char *what_is_wrong(const base_block_reader *r, const base_block *b) {
    if (b->kind < BASE_BLOCK_DOC || b->kind > BASE_BLOCK_END) return "an unknown kind";
    if (r->ended) return "something after the end";
    if (!level_fits(b)) return "a level out of range";
    if (!spans_fit(r, b)) return "a span outside the file";
    if (!text_fits(b)) return "text that is none";
    if (!r->in_doc && b->kind != BASE_BLOCK_DOC && b->kind < BASE_BLOCK_NOTE)
        return "a block before its document";
    return NULL;
}

static rotor_status take(base_block_reader *r, const base_block *b, rotor_error *err) {
    const char *wrong = what_is_wrong(r, b);
    if (wrong)
        return base_fail(err, ROTOR_E_FORMAT, "the parser's block %llu has %s",
                         (unsigned long long)r->n_blocks, wrong);
    if (b->kind == BASE_BLOCK_DOC) {
        r->in_doc = true;
        r->page = 0;
    }
    if (b->kind == BASE_BLOCK_PAGE) r->page = b->page;
    if (b->kind < BASE_BLOCK_ERROR) {
        r->n_blocks++;
        return r->fn(r->user, b, err);
    }
    r->ended = true;
    if (b->kind == BASE_BLOCK_ERROR) {
        r->reason = (base_reason)b->level;
        memcpy(r->why, b->text.p, b->text.n);
    }
    return ROTOR_OK;
}

/* The record at p; bytes it takes, or 0 when it has not come whole. */
static size_t record_at(const uint8_t *p, size_t n, base_block *b) {
    if (n < BASE_BLOCK_HEAD) return 0;
    const size_t text_bytes = get_u32(p);
    *b = (base_block){.kind = (base_block_kind)p[4],
                      .level = p[5],
                      .byte_begin = get_u64(p + 8),
                      .byte_end = get_u64(p + 16),
                      .line_begin = get_u32(p + 24),
                      .line_end = get_u32(p + 28),
                      .page = get_u32(p + 32),
                      .text = {(const char *)p + BASE_BLOCK_HEAD, text_bytes}};
    if (p[6] || p[7] || get_u32(p + 36)) b->kind = 0; /* reserved: what this means is not known */
    if (text_bytes > BASE_BLOCK_TEXT_MAX) {
        *b = (base_block){.kind = 0};
        return BASE_BLOCK_HEAD; /* refused: its length is not waited for */
    }
    return n - BASE_BLOCK_HEAD >= text_bytes ? BASE_BLOCK_HEAD + text_bytes : 0;
}

rotor_status base_block_read(base_block_reader *r, const void *p, size_t n, rotor_error *err) {
    if (!base_buf_append(&r->pending, p, n)) return base_fail_nomem(err, "reading a document");
    const uint8_t *data = (const uint8_t *)r->pending.data;
    size_t at = 0, used = 1;
    const size_t magic = sizeof BASE_BLOCK_MAGIC - 1;
    if (!r->begun) {
        if (r->pending.len < magic) return ROTOR_OK;
        if (memcmp(data, BASE_BLOCK_MAGIC, magic) != 0)
            return base_fail(err, ROTOR_E_FORMAT, "the parser's output is not a stream of blocks");
        r->begun = true;
        at = magic;
    }
    while (used) {
        base_block b;
        used = record_at(data + at, r->pending.len - at, &b);
        if (used) ROTOR_TRY(take(r, &b, err));
        at += used;
    }
    memmove(r->pending.data, data + at, r->pending.len - at);
    r->pending.len -= at;
    return ROTOR_OK;
}

void base_block_reader_reset(base_block_reader *r) {
    base_buf_free(&r->pending);
    *r = (base_block_reader){.fn = r->fn, .user = r->user, .file_bytes = r->file_bytes};
}
