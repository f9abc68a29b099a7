/* SPDX-License-Identifier: MIT
 *
 * Learning a byte-level BPE vocabulary: the pair of neighbouring tokens that occurs most often
 * becomes a token, again and again.
 *
 * The text is counted once as unique pieces (pre-tokens) with how often each occurs. A table knows
 * every pair, its count and the pieces it occurs in; a heap of (count, pair) finds the largest. A
 * merge touches only the pieces of its pair. Entries of the heap may be too high, never too low: a
 * stale one is put back with its true count when it comes up.
 *
 * Order, on which ids depend: ids are the special tokens, then the 256 bytes in the order of their
 * printable characters, then merges; of equally frequent pairs the one with the smaller left id,
 * then the smaller right id, goes first. Overlapping occurrences ("aaa") count each.
 */
#include "train/bpe.h"

enum { FEWEST = BPE_N_SPECIAL + 256, MIN_COUNT = 2, BLOCK_BYTES = 1 << 20 };

typedef struct piece {
    uint32_t at;   /* first id in ids */
    uint32_t n;    /* ids now */
    int64_t count; /* occurrences in the text */
} piece;

typedef struct pair {
    uint64_t key;    /* left << 32 | right, plus 1; 0: empty slot */
    int64_t count;   /* occurrences now */
    uint32_t *where; /* [n] pieces it occurred in, may repeat; owned */
    uint32_t n, cap; /* used, allocated */
} pair;

typedef struct heap_item {
    int64_t count; /* when it was put here */
    uint64_t key;  /* of the pair */
} heap_item;

typedef struct text_block {
    struct text_block *next; /* older one */
    size_t used;             /* bytes */
    char bytes[];            /* BLOCK_BYTES, or one long piece */
} text_block;

struct bpe {
    base_map *index;             /* text of a piece to its number */
    text_block *blocks;          /* texts of the pieces, owned */
    base_str *texts;             /* [n_pieces], owned array */
    piece *pieces;               /* [n_pieces], owned */
    size_t n_pieces, cap;        /* used, allocated */
    uint32_t *ids;               /* of all pieces, owned */
    pair *pairs;                 /* open addressing, owned */
    size_t n_pairs, mask;        /* used; slots - 1 */
    heap_item *heap;             /* largest first, owned */
    size_t n_heap, cap_heap;     /* used, allocated */
    uint64_t *seen;              /* [n_pieces] merge + 1 that last visited it, owned */
    base_map *known;             /* text of a token to its id */
    base_str *words;             /* [n_words] texts of the tokens behind the special ones, owned */
    size_t n_words;              /* bytes and merged ones */
    bpe_merge *merges;           /* [n_merges], owned */
    size_t n_merges, cap_merges; /* used, allocated */
    uint64_t n_bytes;            /* of text counted */
    rotor_status st;             /* first failure while counting */
};

/* ==== Bytes and their printable characters ==================================================== */

uint32_t bpe_char_of_byte(uint8_t b) {
    if ((b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE) return b;
    if (b <= 0x20) return 0x100u + b;
    return b == 0xAD ? 0x143 : 0x121u + b - 0x7F;
}

/* Ids of the bytes: in the order of those characters. */
static void number_bytes(uint32_t id[256]) {
    for (unsigned b = 0; b < 256; b++) {
        unsigned before = 0;
        for (unsigned c = 0; c < 256; c++)
            before += bpe_char_of_byte((uint8_t)c) < bpe_char_of_byte((uint8_t)b);
        id[b] = BPE_N_SPECIAL + before;
    }
}

/* ==== Counting pieces ========================================================================= */

rotor_status bpe_create(bpe **out, rotor_error *err) {
    bpe *b = base_alloc(sizeof *b);
    if (!b || base_map_create(&b->index, 1 << 16) != ROTOR_OK) {
        bpe_free(&b);
        return base_fail_nomem(err, "learning a vocabulary");
    }
    *out = b;
    return ROTOR_OK;
}

void bpe_free(bpe **pb) {
    bpe *b = *pb;
    if (!b) return;
    base_map_free(&b->index);
    base_map_free(&b->known);
    base_free(b->words);
    while (b->blocks) {
        text_block *older = b->blocks->next;
        base_free(b->blocks);
        b->blocks = older;
    }
    for (size_t i = 0; b->pairs && i <= b->mask; i++) base_free(b->pairs[i].where);
    base_free(b->texts);
    base_free(b->pieces);
    base_free(b->ids);
    base_free(b->pairs);
    base_free(b->heap);
    base_free(b->seen);
    base_free(b->merges);
    base_free(b);
    *pb = NULL;
}

/* A copy of two texts, one behind the other. */
static char *keep_texts(bpe *b, base_str s, base_str t) {
    const size_t n = s.n + t.n;
    if (!b->blocks || BLOCK_BYTES - b->blocks->used < n) {
        text_block *block = base_alloc(sizeof *block + BASE_MAX((size_t)BLOCK_BYTES, n));
        if (!block) return NULL;
        block->next = b->blocks;
        b->blocks = block;
    }
    char *p = b->blocks->bytes + b->blocks->used;
    memcpy(p, s.p, s.n);
    if (t.n) memcpy(p + s.n, t.p, t.n);
    b->blocks->used = BASE_MIN((size_t)BLOCK_BYTES, b->blocks->used + n);
    return p;
}

static char *keep_text(bpe *b, base_str s) { return keep_texts(b, s, (base_str){0}); }

static bool more_pieces(bpe *b) {
    if (b->n_pieces < b->cap) return true;
    const size_t cap = b->cap ? 2 * b->cap : 4096;
    base_str *texts = base_realloc(b->texts, cap * sizeof *texts);
    if (texts) b->texts = texts;
    piece *pieces = base_realloc(b->pieces, cap * sizeof *pieces);
    if (pieces) b->pieces = pieces;
    if (!texts || !pieces) return false;
    b->cap = cap;
    return true;
}

static void count_piece(void *user, base_str s) {
    bpe *b = user;
    uint32_t i;
    if (b->st != ROTOR_OK || !s.n) return;
    b->n_bytes += s.n;
    if (base_map_get(b->index, s, &i)) {
        b->pieces[i].count++;
        return;
    }
    char *p = more_pieces(b) ? keep_text(b, s) : NULL;
    i = (uint32_t)b->n_pieces;
    if (!p || base_map_put(b->index, (base_str){p, s.n}, i, NULL) != ROTOR_OK) {
        b->st = ROTOR_E_NOMEM;
        return;
    }
    b->texts[i] = (base_str){p, s.n};
    b->pieces[i] = (piece){.n = (uint32_t)s.n, .count = 1};
    b->n_pieces++;
}

rotor_status bpe_count(bpe *b, base_str text, rotor_error *err) {
    ROTOR_TRY(text_split(base_str_of(BPE_PRE), text, count_piece, b, err));
    return b->st == ROTOR_OK ? ROTOR_OK : base_fail_nomem(err, "counting pieces of text");
}

uint64_t bpe_n_bytes(const bpe *b) { return b->n_bytes; }

/* ==== The heap ================================================================================ */

static bool goes_first(heap_item a, heap_item b) {
    return a.count != b.count ? a.count > b.count : a.key < b.key;
}

static bool heap_put(bpe *b, heap_item x) {
    if (b->n_heap == b->cap_heap) {
        const size_t cap = b->cap_heap ? 2 * b->cap_heap : 4096;
        heap_item *more = base_realloc(b->heap, cap * sizeof *more);
        if (!more) return false;
        b->heap = more;
        b->cap_heap = cap;
    }
    size_t i = b->n_heap++;
    for (; i && goes_first(x, b->heap[(i - 1) / 2]); i = (i - 1) / 2)
        b->heap[i] = b->heap[(i - 1) / 2];
    b->heap[i] = x;
    return true;
}

static heap_item heap_take(bpe *b) {
    const heap_item top = b->heap[0], x = b->heap[--b->n_heap];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < b->n_heap; i = child) {
        if (child + 1 < b->n_heap && goes_first(b->heap[child + 1], b->heap[child])) child++;
        if (!goes_first(b->heap[child], x)) break;
        b->heap[i] = b->heap[child];
    }
    b->heap[i] = x;
    return top;
}

/* ==== Pairs =================================================================================== */

static pair *slot_of(pair *pairs, size_t mask, uint64_t key) {
    size_t i = (size_t)(base_hash64(&key, sizeof key, 0)) & mask;
    while (pairs[i].key && pairs[i].key != key) i = (i + 1) & mask;
    return &pairs[i];
}

static bool more_pairs(bpe *b) {
    if (b->pairs && b->n_pairs < (b->mask + 1) / 3 * 2) return true;
    const size_t slots = b->pairs ? 2 * (b->mask + 1) : 1 << 14;
    pair *pairs = base_alloc_array(slots, sizeof *pairs);
    if (!pairs) return false;
    for (size_t i = 0; b->pairs && i <= b->mask; i++)
        if (b->pairs[i].key) *slot_of(pairs, slots - 1, b->pairs[i].key) = b->pairs[i];
    base_free(b->pairs);
    b->pairs = pairs;
    b->mask = slots - 1;
    return true;
}

static uint64_t key_of(uint32_t left, uint32_t right) { return ((uint64_t)left << 32 | right) + 1; }

/* The count of a pair changes by `by` in piece i. */
static bool change(bpe *b, uint64_t key, int64_t by, uint32_t i) {
    if (!more_pairs(b)) return false;
    pair *p = slot_of(b->pairs, b->mask, key);
    if (!p->key) {
        *p = (pair){.key = key};
        b->n_pairs++;
    }
    p->count += by;
    if (by <= 0 || (p->n && p->where[p->n - 1] == i)) return true;
    if (p->n == p->cap) {
        const uint32_t cap = p->cap ? 2 * p->cap : 4;
        uint32_t *where = base_realloc(p->where, cap * sizeof *where);
        if (!where) return false;
        p->where = where;
        p->cap = cap;
    }
    p->where[p->n++] = i;
    return true;
}

static bool count_pairs(bpe *b, uint32_t i, int64_t by) {
    const piece *x = &b->pieces[i];
    for (uint32_t k = 0; k + 1 < x->n; k++)
        if (!change(b, key_of(b->ids[x->at + k], b->ids[x->at + k + 1]), by, i)) return false;
    return true;
}

/* The bytes as the first words. */
static bool start_words(bpe *b, size_t n_words, const uint32_t id[256]) {
    b->words = base_alloc_array(n_words, sizeof *b->words);
    if (!b->words || base_map_create(&b->known, n_words) != ROTOR_OK) return false;
    for (unsigned c = 0; c < 256; c++) {
        const char byte = (char)c;
        const base_str word = {keep_text(b, (base_str){&byte, 1}), 1};
        if (!word.p || base_map_put(b->known, word, id[c], NULL) != ROTOR_OK) return false;
        b->words[id[c] - BPE_N_SPECIAL] = word;
    }
    b->n_words = 256;
    return true;
}

static bool start(bpe *b, size_t n_words) {
    uint32_t id[256];
    size_t total = 0, at = 0;
    number_bytes(id);
    for (size_t i = 0; i < b->n_pieces; i++) total += b->texts[i].n;
    b->ids = total < UINT32_MAX ? base_alloc_array(total + 1, sizeof *b->ids) : NULL;
    b->seen = base_alloc_array(b->n_pieces + 1, sizeof *b->seen);
    if (!b->ids || !b->seen || !start_words(b, n_words, id)) return false;
    for (uint32_t i = 0; i < b->n_pieces; i++) {
        b->pieces[i].at = (uint32_t)at;
        for (size_t k = 0; k < b->texts[i].n; k++) b->ids[at++] = id[(uint8_t)b->texts[i].p[k]];
        if (!count_pairs(b, i, b->pieces[i].count)) return false;
    }
    for (size_t i = 0; b->pairs && i <= b->mask; i++)
        if (b->pairs[i].key && !heap_put(b, (heap_item){b->pairs[i].count, b->pairs[i].key}))
            return false;
    return true;
}

/* ==== Merging ================================================================================= */

/* Every left-right in piece i becomes id; the pairs that come into being are put on the heap. */
static bool merge_piece(bpe *b, uint32_t i, uint64_t key, uint32_t id) {
    piece *x = &b->pieces[i];
    uint32_t *ids = b->ids + x->at, n = 0;
    if (!count_pairs(b, i, -x->count)) return false;
    for (uint32_t k = 0; k < x->n; k++) {
        const bool is = k + 1 < x->n && key_of(ids[k], ids[k + 1]) == key;
        ids[n++] = is ? id : ids[k];
        k += is;
    }
    x->n = n;
    return count_pairs(b, i, x->count);
}

static bool push_new_pairs(bpe *b, uint32_t i, uint32_t id) {
    const piece *x = &b->pieces[i];
    for (uint32_t k = 0; k + 1 < x->n; k++) {
        const uint32_t left = b->ids[x->at + k], right = b->ids[x->at + k + 1];
        if (left != id && right != id) continue;
        const pair *p = slot_of(b->pairs, b->mask, key_of(left, right));
        if (!heap_put(b, (heap_item){p->count, p->key})) return false;
    }
    return true;
}

/* The merge on the list, and its token: a new one, unless another pair has made the same text. */
static bool add_merge(bpe *b, bpe_merge *m) {
    const base_str left = b->words[m->left - BPE_N_SPECIAL],
                   right = b->words[m->right - BPE_N_SPECIAL];
    if (b->n_merges == b->cap_merges) {
        const size_t cap = b->cap_merges ? 2 * b->cap_merges : 1024;
        bpe_merge *more = base_realloc(b->merges, cap * sizeof *more);
        if (!more) return false;
        b->merges = more;
        b->cap_merges = cap;
    }
    char *p = keep_texts(b, left, right);
    if (!p) return false;
    const base_str word = {p, left.n + right.n};
    if (!base_map_get(b->known, word, &m->id)) {
        m->id = (uint32_t)(BPE_N_SPECIAL + b->n_words);
        if (base_map_put(b->known, word, m->id, NULL) != ROTOR_OK) return false;
        b->words[b->n_words++] = word;
    }
    b->merges[b->n_merges++] = *m;
    return true;
}

static bool merge(bpe *b, uint64_t key) {
    bpe_merge m = {.left = (uint32_t)((key - 1) >> 32), .right = (uint32_t)(key - 1)};
    if (!add_merge(b, &m)) return false;
    pair *p = slot_of(b->pairs, b->mask, key);
    uint32_t *where = p->where;
    const uint32_t n = p->n, id = m.id;
    const uint64_t turn = b->n_merges;
    bool ok = true;
    p->where = NULL; /* the table moves */
    p->n = p->cap = 0;
    for (uint32_t k = 0; k < n && ok; k++) {
        if (b->seen[where[k]] == turn) where[k] = UINT32_MAX;
        if (where[k] == UINT32_MAX) continue;
        b->seen[where[k]] = turn;
        ok = merge_piece(b, where[k], key, id);
    }
    for (uint32_t k = 0; k < n && ok; k++)
        if (where[k] != UINT32_MAX) ok = push_new_pairs(b, where[k], id);
    base_free(where);
    return ok;
}

static bool next_merge(bpe *b, bool *found) {
    *found = false;
    while (b->n_heap) {
        heap_item top = heap_take(b);
        const int64_t count = slot_of(b->pairs, b->mask, top.key)->count;
        if (top.count == count) {
            *found = count >= MIN_COUNT;
            return !*found || merge(b, top.key);
        }
        top.count = count;
        if (count >= MIN_COUNT && !heap_put(b, top)) return false;
    }
    return true;
}

rotor_status bpe_learn(bpe *b, uint32_t n_vocab, bpe_progress progress, void *user,
                       rotor_error *err) {
    if (n_vocab < FEWEST)
        return base_fail(err, ROTOR_E_ARG,
                         "a vocabulary of %u; at least %d tokens are needed: the 256 bytes and %d "
                         "special ones",
                         n_vocab, FEWEST, BPE_N_SPECIAL);
    const size_t n_words = n_vocab - BPE_N_SPECIAL;
    bool found = true;
    if (!start(b, n_words)) return base_fail_nomem(err, "counting pairs");
    while (found && b->n_words < n_words) {
        if (!next_merge(b, &found)) return base_fail_nomem(err, "merging pairs");
        if (progress && !progress(user, b->n_words - 256, n_words - 256))
            return base_fail(err, ROTOR_E_CANCELLED, "cancelled");
    }
    if (b->n_words == n_words) return ROTOR_OK;
    return base_fail(err, ROTOR_E_ARG,
                     "the text is too small for a vocabulary of %u: it has %llu bytes, and beyond "
                     "%zu tokens no pair occurs twice; give more text or a smaller --vocab",
                     n_vocab, (unsigned long long)b->n_bytes, BPE_N_SPECIAL + b->n_words);
}

const bpe_merge *bpe_merges(const bpe *b, size_t *n) {
    *n = b->n_merges;
    return b->merges;
}

base_str bpe_word(const bpe *b, uint32_t id) { return b->words[id - BPE_N_SPECIAL]; }
size_t bpe_n_tokens(const bpe *b) { return BPE_N_SPECIAL + b->n_words; }
