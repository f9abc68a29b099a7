/* SPDX-License-Identifier: MIT
 *
 * Byte-pair merging: one engine for byte-level BPE, for SentencePiece BPE and for rank files.
 *
 * A piece starts as symbols (bytes, or characters) in a linked list; the neighbouring pair that
 * comes first in the vocabulary's order is joined, leftmost on ties, until no pair joins. The
 * order is the merge list when there is one, else it belongs to the token that the two symbols
 * spell together: its id (rank files) or its score (SentencePiece).
 *
 * Short pieces look for the first pair by a scan; long ones keep a heap of (rank, position), where
 * outdated entries stay until they surface, so that a million-character piece takes O(n log n).
 * Short pieces of long texts are remembered in a small direct-mapped cache.
 */
#include "text/text_internal.h"

enum { SHORT_PIECE = 96, NONE = -1 };

typedef struct symbol {
    uint32_t at, n;      /* bytes of the piece; n 0: joined to its left neighbour */
    int32_t prev, next;  /* neighbours, NONE at the ends */
    uint32_t id;         /* token, TEXT_NO_ID when these bytes are none */
    uint32_t rank, into; /* of the pair with next: order and token; TEXT_NO_RANK: does not join */
} symbol;

typedef struct merger {
    const text_vocab *v; /* tables */
    const char *s;       /* the piece */
    symbol *sym;         /* in text order */
    uint64_t *heap;      /* rank << 32 | position; NULL for short pieces */
    size_t n_heap;       /* entries */
} merger;

static void rate(merger *m, int32_t i) {
    symbol *a = &m->sym[i];
    a->rank = TEXT_NO_RANK;
    if (a->next == NONE) return;
    const symbol *b = &m->sym[a->next];
    if (m->v->merges.slots) {
        if (a->id == TEXT_NO_ID || b->id == TEXT_NO_ID) return;
        const text_merge *merge = text_merges_get(&m->v->merges, a->id, b->id);
        if (!merge) return;
        a->rank = merge->rank;
        a->into = merge->id;
        return;
    }
    if (a->n + b->n > m->v->longest) return;
    uint32_t id = text_find_plain(m->v, m->s + a->at, a->n + b->n);
    if (id == TEXT_NO_ID) return;
    a->rank = m->v->order ? m->v->order[id] : id;
    a->into = id;
}

/* ==== Heap: smallest rank first, then leftmost ================================================ */

static void sift_down(uint64_t *heap, size_t n, size_t i) {
    uint64_t x = heap[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= x) break;
        heap[i] = heap[child];
    }
    heap[i] = x;
}

static void heap_push(merger *m, int32_t i) {
    if (!m->heap || m->sym[i].rank == TEXT_NO_RANK) return;
    uint64_t x = (uint64_t)m->sym[i].rank << 32 | (uint32_t)i;
    size_t k = m->n_heap++;
    for (; k && m->heap[(k - 1) / 2] > x; k = (k - 1) / 2) m->heap[k] = m->heap[(k - 1) / 2];
    m->heap[k] = x;
}

static int32_t heap_pop(merger *m) {
    while (m->n_heap) {
        uint64_t top = m->heap[0];
        m->heap[0] = m->heap[--m->n_heap];
        if (m->n_heap) sift_down(m->heap, m->n_heap, 0);
        int32_t i = (int32_t)(uint32_t)top;
        if (m->sym[i].n && m->sym[i].rank == (uint32_t)(top >> 32)) return i;
    }
    return NONE;
}

static int32_t scan_first(const merger *m) {
    int32_t best = NONE;
    uint32_t rank = TEXT_NO_RANK;
    for (int32_t i = 0; i != NONE; i = m->sym[i].next)
        if (m->sym[i].rank < rank) rank = m->sym[best = i].rank;
    return best;
}

/* ==== Merging ================================================================================= */

static void join(merger *m, int32_t i) {
    symbol *a = &m->sym[i], *b = &m->sym[a->next];
    a->n += b->n;
    a->id = a->into;
    a->next = b->next;
    b->n = 0;
    b->rank = TEXT_NO_RANK;
    if (a->next != NONE) m->sym[a->next].prev = i;
    rate(m, i);
    heap_push(m, i);
    if (a->prev != NONE) {
        rate(m, a->prev);
        heap_push(m, a->prev);
    }
}

static int32_t fill_symbols(merger *m, base_str piece) {
    int32_t count = 0;
    for (size_t at = 0; at < piece.n; count++) {
        size_t len = 1;
        uint32_t id;
        if (m->v->bytes_are_symbols) {
            id = m->v->byte_id[(uint8_t)piece.p[at]];
        } else {
            int32_t cp;
            len = (size_t)base_utf8_decode(piece.p + at, piece.n - at, &cp);
            id = text_find_plain(m->v, piece.p + at, len);
        }
        m->sym[count] = (symbol){(uint32_t)at, (uint32_t)len, count - 1, count + 1, id, 0, 0};
        at += len;
    }
    m->sym[count - 1].next = NONE;
    return count;
}

static rotor_status emit_symbols(text_run *r, const merger *m) {
    for (int32_t i = 0; i != NONE; i = m->sym[i].next) {
        const symbol *a = &m->sym[i];
        if (a->id == TEXT_NO_ID) {
            ROTOR_TRY(text_emit_unknown(r, m->s + a->at, a->n));
            continue;
        }
        r->after_unknown = false;
        ROTOR_TRY(text_ids_push(r->out, a->id));
    }
    return ROTOR_OK;
}

static rotor_status merge_short(text_run *r, base_str piece) {
    symbol sym[SHORT_PIECE];
    merger m = {r->v, piece.p, sym, NULL, 0};
    int32_t n = fill_symbols(&m, piece);
    for (int32_t i = 0; i < n; i++) rate(&m, i);
    for (int32_t i; (i = scan_first(&m)) != NONE;) join(&m, i);
    return emit_symbols(r, &m);
}

/* The heap never holds more than twice the symbols: each join takes one entry and adds two. */
static rotor_status merge_long(text_run *r, base_str piece) {
    if (piece.n > INT32_MAX / 2)
        return base_fail(r->err, ROTOR_E_ARG, "tokenizer: one piece of %zu bytes, at most 2^30",
                         piece.n);
    char *work = text_run_work(r, piece.n * (sizeof(symbol) + 2 * sizeof(uint64_t)));
    if (!work) return base_fail_nomem(r->err, "merging a long piece");
    uint64_t *heap = (uint64_t *)(void *)work;
    merger m = {r->v, piece.p, (symbol *)(void *)(heap + 2 * piece.n), heap, 0};
    int32_t n = fill_symbols(&m, piece);
    for (int32_t i = 0; i < n; i++) {
        rate(&m, i);
        if (m.sym[i].rank != TEXT_NO_RANK)
            heap[m.n_heap++] = (uint64_t)m.sym[i].rank << 32 | (uint32_t)i;
    }
    for (size_t k = m.n_heap / 2; k-- > 0;) sift_down(heap, m.n_heap, k);
    for (int32_t i; (i = heap_pop(&m)) != NONE;) join(&m, i);
    return emit_symbols(r, &m);
}

/* ==== Pieces ================================================================================== */

static text_cache_line *cache_line(const text_run *r, base_str piece, uint64_t key[2]) {
    memset(key, 0, 16);
    memcpy(key, piece.p, piece.n);
    uint64_t h = (key[0] ^ key[1] * 0x9E3779B97F4A7C15u ^ piece.n) * 0xBF58476D1CE4E5B9u;
    return &r->cache[(h >> 40) & (r->cache_lines - 1)];
}

static rotor_status merge_cached(text_run *r, base_str piece) {
    uint64_t key[2];
    text_cache_line *line = cache_line(r, piece, key);
    if (line->n_key == piece.n && line->key[0] == key[0] && line->key[1] == key[1]) {
        for (int i = 0; i < line->n_ids; i++) ROTOR_TRY(text_ids_push(r->out, line->ids[i]));
        return ROTOR_OK;
    }
    size_t before = r->out->n;
    ROTOR_TRY(merge_short(r, piece));
    size_t n = r->out->n - before;
    if (n > BASE_COUNT(line->ids)) return ROTOR_OK;
    *line =
        (text_cache_line){.key = {key[0], key[1]}, .n_key = (uint8_t)piece.n, .n_ids = (uint8_t)n};
    if (n) memcpy(line->ids, r->out->ids + before, n * sizeof line->ids[0]);
    return ROTOR_OK;
}

static rotor_status merge_piece(text_run *r, base_str piece) {
    if (r->cache && piece.n <= sizeof(((text_cache_line *)0)->key) && !r->after_unknown)
        return merge_cached(r, piece);
    return piece.n <= SHORT_PIECE ? merge_short(r, piece) : merge_long(r, piece);
}

/* End of the stretch from i that no merge crosses: the next U+2581 after something else. */
static size_t space_mark_end(base_str s, size_t i) {
    bool marks = true;
    for (; i < s.n; i++) {
        bool mark = s.n - i >= 3 && memcmp(s.p + i, SPACE_MARK, 3) == 0;
        if (mark && !marks) return i;
        marks = mark;
        if (mark) i += 2;
    }
    return s.n;
}

rotor_status text_bpe_piece(text_run *r, base_str piece) {
    const text_vocab *v = r->v;
    if (!piece.n) return ROTOR_OK;
    r->after_unknown = false;
    if (v->whole_piece && piece.n <= v->longest) {
        uint32_t id = text_find_plain(v, piece.p, piece.n);
        if (id != TEXT_NO_ID) return text_ids_push(r->out, id);
    }
    if (!v->cut_before_space) return merge_piece(r, piece);
    for (size_t i = 0; i < piece.n;) {
        size_t end = space_mark_end(piece, i);
        ROTOR_TRY(merge_piece(r, (base_str){piece.p + i, end - i}));
        i = end;
    }
    return ROTOR_OK;
}

rotor_status text_emit_unknown(text_run *r, const char *p, size_t n) {
    const text_vocab *v = r->v;
    bool bytes = !v->bytes_are_symbols;
    for (size_t i = 0; i < n && bytes; i++) bytes = v->byte_id[(uint8_t)p[i]] != TEXT_NO_ID;
    if (bytes) {
        for (size_t i = 0; i < n; i++) ROTOR_TRY(text_ids_push(r->out, v->byte_id[(uint8_t)p[i]]));
        return ROTOR_OK;
    }
    bool fused = r->after_unknown && v->fuse_unk;
    r->after_unknown = true;
    return fused || v->unk == TEXT_NO_ID ? ROTOR_OK : text_ids_push(r->out, v->unk);
}
