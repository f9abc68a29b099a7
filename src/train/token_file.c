/* SPDX-License-Identifier: MIT
 *
 * Token files: documents as ids, once, so that training maps them instead of encoding again; and
 * the order in which windows of them are learnt.
 *
 *     | head 64 bytes | train u32[n_train] | held u32[n_held] | tail 32 bytes |
 *     head: "RotorTok", version u32, n_vocab u32, vocab_hash u64, source_hash u64, zeros
 *     tail: n_train u64, n_held u64, content_hash u64, zeros u64
 *
 * The stream is  end-of-text, document, end-of-text, document, … : a document begins behind that
 * mark as a prompt does behind its first token, and ends with it. Long documents are cut into
 * pieces, and every twentieth piece is held out, unless another file is measured with.
 */
#include "train/train.h"

#define MAGIC "RotorTok"

enum {
    HEAD_BYTES = 64,
    TAIL_BYTES = 32,
    VERSION = 1,
    HELD_EVERY = 20,
    PIECE_MIN_TOK = 32,
    PIECE_MAX_TOK = 4096,
    PIECES_WANTED = 200,
    BYTES_PER_TOK = 4 /* a guess, to find the length of a piece */
};

/* ==== Facts of a vocabulary =================================================================== */

uint64_t train_vocab_hash(const text_vocab *v) {
    uint64_t h = text_n_tokens(v);
    for (uint32_t id = 0; id < text_n_tokens(v); id++) {
        const base_str t = text_token(v, id);
        h = base_hash64(t.p, t.n, h + (uint64_t)text_type(v, id));
    }
    return h;
}

uint32_t train_end_of_turn(const text_vocab *v) {
    static const char *const names[] = {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>"};
    for (size_t i = 0; i < BASE_COUNT(names); i++) {
        const uint32_t id = text_find(v, base_str_of(names[i]));
        if (id != TEXT_NO_ID && text_is_eog(v, id)) return id;
    }
    return text_eos(v);
}

/* ==== Writing ================================================================================= */

typedef struct encoder {
    const text_vocab *v;               /* borrowed */
    base_out out;                      /* the new file */
    text_ids doc;                      /* ids of one document, owned */
    text_ids held;                     /* all held out, owned */
    uint64_t n_train;                  /* written */
    uint64_t n_pieces;                 /* so far */
    size_t piece_tok;                  /* longest piece */
    bool all_held;                     /* this file is for measuring */
    bool split;                        /* hold out every twentieth piece */
    uint64_t content_hash;             /* of tokens so far */
    uint32_t end_of_text, end_of_turn; /* ids */
} encoder;

static rotor_status put(encoder *e, const uint32_t *ids, size_t n, bool held, rotor_error *err) {
    if (held) {
        for (size_t i = 0; i < n; i++)
            if (text_ids_push(&e->held, ids[i])) return base_fail_nomem(err, "holding out data");
        return ROTOR_OK;
    }
    e->content_hash = base_hash64(ids, n * sizeof *ids, e->content_hash);
    e->n_train += n;
    return base_out_write(&e->out, ids, n * sizeof *ids, err);
}

static rotor_status encode_parts(encoder *e, const train_part *parts, size_t n, rotor_error *err) {
    for (size_t i = 0; i < n; i++) {
        const size_t from = e->doc.n;
        ROTOR_TRY(text_encode(e->v, parts[i].text, 0, &e->doc, err));
        if (parts[i].ends_turn && text_ids_push(&e->doc, e->end_of_turn))
            return base_fail_nomem(err, "encoding data");
        for (size_t t = from; !parts[i].learn && t < e->doc.n; t++) e->doc.ids[t] |= TRAIN_UNTAUGHT;
    }
    return ROTOR_OK;
}

/* A document behind the mark that ends the one before it. */
static rotor_status one_document(void *user, const train_part *parts, size_t n, rotor_error *err) {
    encoder *e = user;
    e->doc.n = 0;
    if (text_ids_push(&e->doc, e->end_of_text)) return base_fail_nomem(err, "encoding data");
    ROTOR_TRY(encode_parts(e, parts, n, err));
    for (size_t at = 0; at < e->doc.n; at += e->piece_tok) {
        const bool twentieth = e->n_pieces++ % HELD_EVERY == HELD_EVERY - 1;
        ROTOR_TRY(put(e, e->doc.ids + at, BASE_MIN(e->piece_tok, e->doc.n - at),
                      e->all_held || (e->split && twentieth), err));
    }
    return ROTOR_OK;
}

static rotor_status write_head(encoder *e, uint64_t source_hash, rotor_error *err) {
    uint8_t head[HEAD_BYTES] = MAGIC;
    const uint32_t small[2] = {VERSION, (uint32_t)text_n_tokens(e->v)};
    const uint64_t large[2] = {train_vocab_hash(e->v), source_hash};
    memcpy(head + 8, small, sizeof small);
    memcpy(head + 16, large, sizeof large);
    return base_out_write(&e->out, head, sizeof head, err);
}

static rotor_status write_tail(encoder *e, rotor_error *err) {
    const size_t n_bytes = e->held.n * sizeof *e->held.ids;
    e->content_hash = base_hash64(e->held.ids, n_bytes, e->content_hash);
    const uint64_t tail[4] = {e->n_train, e->held.n, e->content_hash, 0};
    ROTOR_TRY(base_out_write(&e->out, e->held.ids, n_bytes, err));
    return base_out_write(&e->out, tail, sizeof tail, err);
}

static rotor_status encode_all(encoder *e, const train_texts *t, rotor_error *err) {
    for (size_t i = 0; i < t->n_files; i++)
        ROTOR_TRY(train_read_docs(t->files[i], one_document, e, err));
    ROTOR_TRY(put(e, &e->end_of_text, 1, false, err));
    e->all_held = true;
    if (t->held) ROTOR_TRY(train_read_docs(t->held, one_document, e, err));
    return put(e, &e->end_of_text, 1, true, err);
}

/* Of the bytes of all texts; *n_bytes: of those to learn from. */
static rotor_status hash_source(const train_texts *t, uint64_t *hash, uint64_t *n_bytes,
                                rotor_error *err) {
    *hash = VERSION + (t->held ? 1000u : 0u);
    *n_bytes = 0;
    for (size_t i = 0; i < t->n_files + (t->held ? 1 : 0); i++) {
        base_file f;
        const char *path = i < t->n_files ? t->files[i] : t->held;
        ROTOR_TRY(base_file_open(&f, path, true, err));
        *hash = base_hash64(f.data, f.size, *hash + strlen(path));
        if (i < t->n_files) *n_bytes += f.size;
        base_file_close(&f);
    }
    return ROTOR_OK;
}

static bool is_made(const char *path, uint64_t source_hash, const text_vocab *v) {
    train_tokens t;
    if (!train_is_token_file(path) || train_tokens_open(&t, path, NULL) != ROTOR_OK) return false;
    const bool same = t.source_hash == source_hash && t.vocab_hash == train_vocab_hash(v) &&
                      t.n_vocab == text_n_tokens(v);
    train_tokens_close(&t);
    return same;
}

rotor_status train_tokens_make(const char *path, const train_texts *texts, const text_vocab *v,
                               rotor_error *err) {
    uint64_t source_hash, n_bytes;
    ROTOR_TRY(hash_source(texts, &source_hash, &n_bytes, err));
    if (is_made(path, source_hash, v)) return ROTOR_OK;
    const uint64_t piece = n_bytes / BYTES_PER_TOK / PIECES_WANTED;
    encoder e = {.v = v,
                 .split = !texts->held,
                 .piece_tok = (size_t)BASE_MAX(BASE_MIN(piece, (uint64_t)PIECE_MAX_TOK),
                                               (uint64_t)PIECE_MIN_TOK),
                 .end_of_text = text_eos(v),
                 .end_of_turn = train_end_of_turn(v)};
    if (e.end_of_text == TEXT_NO_ID)
        return base_fail(err, ROTOR_E_FORMAT,
                         "the tokenizer has no end-of-text token, so a model could never stop");
    ROTOR_TRY(base_out_open(&e.out, path, err));
    rotor_status st = write_head(&e, source_hash, err);
    if (st == ROTOR_OK) st = encode_all(&e, texts, err);
    if (st == ROTOR_OK) st = write_tail(&e, err);
    if (st == ROTOR_OK) st = base_out_commit(&e.out, err);
    base_out_abort(&e.out);
    text_ids_free(&e.doc);
    text_ids_free(&e.held);
    return st;
}

/* ==== Reading ================================================================================= */

bool train_is_token_file(const char *path) {
    base_file f;
    if (base_path_kind_of(path) != BASE_PATH_FILE) return false;
    if (base_file_open(&f, path, true, NULL) != ROTOR_OK) return false;
    const bool is = f.size >= 8 && memcmp(f.data, MAGIC, 8) == 0;
    base_file_close(&f);
    return is;
}

static rotor_status read_file(train_tokens *t, rotor_error *err) {
    const base_file *f = &t->file;
    uint32_t small[2];
    uint64_t large[2], tail[4];
    if (f->size < HEAD_BYTES + TAIL_BYTES || memcmp(f->data, MAGIC, 8) != 0)
        return base_fail(err, ROTOR_E_FORMAT,
                         "%s: not a token file (%zu bytes, expected \"%s\" and at least %d)",
                         f->path, f->size, MAGIC, HEAD_BYTES + TAIL_BYTES);
    memcpy(small, f->data + 8, sizeof small);
    memcpy(large, f->data + 16, sizeof large);
    memcpy(tail, f->data + f->size - TAIL_BYTES, sizeof tail);
    if (small[0] != VERSION)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s: token file version %u; this program reads %d", f->path, small[0],
                         VERSION);
    const uint64_t n = (f->size - HEAD_BYTES - TAIL_BYTES) / 4;
    if (f->size % 4 || tail[0] > n || tail[1] != n - tail[0])
        return base_fail(err, ROTOR_E_FORMAT,
                         "%s: the file was cut: it has room for %llu tokens, its end speaks of "
                         "%llu and %llu; train from the texts, which makes it anew",
                         f->path, (unsigned long long)n, (unsigned long long)tail[0],
                         (unsigned long long)tail[1]);
    t->n_vocab = small[1];
    t->vocab_hash = large[0];
    t->source_hash = large[1];
    t->n_train = tail[0];
    t->n_held = tail[1];
    t->content_hash = tail[2];
    t->train = (const uint32_t *)(const void *)(f->data + HEAD_BYTES);
    t->held = t->train + t->n_train;
    for (uint64_t i = 0; i < n; i++)
        if ((t->train[i] & ~TRAIN_UNTAUGHT) >= t->n_vocab)
            return base_fail(err, ROTOR_E_FORMAT,
                             "%s: the file is damaged: token %llu is %u, and the vocabulary has "
                             "%u; train from the texts, which makes it anew",
                             f->path, (unsigned long long)i, t->train[i] & ~TRAIN_UNTAUGHT,
                             t->n_vocab);
    return ROTOR_OK;
}

rotor_status train_tokens_open(train_tokens *t, const char *path, rotor_error *err) {
    memset(t, 0, sizeof *t);
    ROTOR_TRY(base_file_open(&t->file, path, true, err));
    rotor_status st = read_file(t, err);
    if (st != ROTOR_OK) train_tokens_close(t);
    return st;
}

void train_tokens_close(train_tokens *t) {
    base_file_close(&t->file);
    t->train = t->held = NULL;
}

/* ==== Windows ================================================================================= */

uint64_t train_n_windows(uint64_t n, uint32_t n_tok) { return n > n_tok ? (n - 1) / n_tok : 1; }

/* A permutation of [0, n): four Feistel rounds over the next even power of two, walked until the
 * result is inside. */
static uint64_t shuffled(uint64_t i, uint64_t n, uint64_t key) {
    unsigned half = 1;
    while (half < 31 && (uint64_t)1 << (2 * half) < n) half++;
    const uint64_t mask = ((uint64_t)1 << half) - 1;
    do {
        uint64_t left = i >> half, right = i & mask;
        for (uint64_t round = 0; round < 4; round++) {
            const uint64_t mixed = base_hash64(&right, sizeof right, key + round) & mask;
            const uint64_t next = left ^ mixed;
            left = right;
            right = next;
        }
        i = left << half | right;
    } while (i >= n);
    return i;
}

uint64_t train_window_at(uint64_t n, uint32_t n_tok, uint64_t seed, uint64_t row) {
    const uint64_t windows = train_n_windows(n, n_tok), epoch = row / windows;
    const uint64_t key = base_hash64(&epoch, sizeof epoch, seed);
    const uint64_t slack = n > windows * n_tok ? n - 1 - windows * n_tok : 0;
    return shuffled(row % windows, windows, key) * n_tok + key % (slack + 1);
}

void train_window_read(const uint32_t *tokens, uint64_t at, uint32_t n_tok, uint32_t *token,
                       uint32_t *target) {
    for (uint32_t t = 0; t < n_tok; t++) {
        const uint32_t next = tokens[at + t + 1];
        token[t] = tokens[at + t] & ~TRAIN_UNTAUGHT;
        target[t] = next & TRAIN_UNTAUGHT ? TRAIN_NO_TARGET : next;
    }
}
