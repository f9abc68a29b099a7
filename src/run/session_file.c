/* SPDX-License-Identifier: MIT
 *
 * A session as a file: its tokens and what the cache holds of them, so that it goes on later, in
 * another process, with the very bits it would have had. docs/formats.md has the layout:
 *
 *     | head | tokens u32[len] | note | zeros to 8 | pages | hash u64 of all before |
 *
 * pages: layer by layer, of each the blocks of KERN_KEYS positions that the session holds, in the
 * form of dev_get_page. Layers that keep only their window have blocks from ring_first on.
 *
 * A file is only taken by the model it was made with: the head holds a fingerprint of everything
 * that keys and values depend on. Anything else about it is checked before the session changes.
 * Numbers are little-endian, as everywhere that this runs.
 */
#include "run/run_internal.h"

#include <assert.h>
#include <stddef.h>

#define MAGIC "RotorSes"

enum { VERSION = 2, HASH_BYTES = 8, NOTE_BYTES = 1 << 26 };

typedef struct head {
    char magic[8];       /* MAGIC */
    uint32_t version;    /* VERSION */
    uint32_t kv;         /* kern_kv: type of the pages */
    uint64_t made_with;  /* fingerprint */
    uint32_t n_layer;    /* layers with pages */
    uint32_t n_head_kv;  /* KV heads */
    uint32_t d_head;     /* size of one */
    uint32_t block_tok;  /* KERN_KEYS */
    uint32_t len;        /* positions */
    uint32_t ring_first; /* blocks that layers with a window no longer have */
    uint64_t note_bytes; /* of the note, without a NUL */
} head;

_Static_assert(sizeof(head) == 56, "layout of the file");

static const char *const kv_names[] = {
    [KERN_KV_F32] = "f32", [KERN_KV_F16] = "f16", [KERN_KV_Q8] = "q8"};

/* ==== Sizes =================================================================================== */

static uint64_t layer_page_bytes(const run_engine *e) {
    const model_hparams *hp = &e->m->hp;
    return 2ull * hp->n_head_kv * KERN_KEYS * kern_kv_row_bytes(e->opt.kv, hp->d_head);
}

static uint32_t blocks_of(uint32_t len) { return len / KERN_KEYS + (len % KERN_KEYS != 0); }

static bool windowed(const run_engine *e, uint32_t layer) {
    return e->m->hp.window_every && model_window(&e->m->hp, layer);
}

static uint64_t first_block(const run_engine *e, const head *h, uint32_t layer) {
    return windowed(e, layer) ? h->ring_first : 0;
}

/* Where the pages begin. */
static uint64_t pages_at(const head *h) {
    return (sizeof *h + 4ull * h->len + h->note_bytes + 7) / 8 * 8;
}

/* Of the whole file; the numbers of the head have been checked to be small. */
static uint64_t file_bytes(const run_engine *e, const head *h) {
    uint64_t pages = 0;
    for (uint32_t l = 0; l < h->n_layer; l++) pages += blocks_of(h->len) - first_block(e, h, l);
    return pages_at(h) + pages * layer_page_bytes(e) + HASH_BYTES;
}

static head head_of(const run_session *s, uint64_t made_with, size_t note_bytes) {
    const model_hparams *hp = &s->e->m->hp;
    head h = {.version = VERSION,
              .kv = (uint32_t)s->e->opt.kv,
              .made_with = made_with,
              .n_layer = hp->n_layer,
              .n_head_kv = hp->n_head_kv,
              .d_head = hp->d_head,
              .block_tok = KERN_KEYS,
              .len = s->len,
              .ring_first = s->e->ring.n ? s->ring_first : 0,
              .note_bytes = note_bytes};
    memcpy(h.magic, MAGIC, sizeof h.magic);
    return h;
}

uint64_t run_session_bytes(const run_session *s, size_t note_bytes) {
    const head h = head_of(s, 0, note_bytes);
    return file_bytes(s->e, &h);
}

/* ==== Saving ================================================================================== */

typedef struct saving {
    base_out out;  /* the file */
    uint64_t hash; /* of what has been written */
} saving;

static rotor_status put(saving *w, const void *p, size_t n, rotor_error *err) {
    w->hash = base_hash64(p, n, w->hash);
    return base_out_write(&w->out, p, n, err);
}

static rotor_status put_pages(saving *w, const run_session *s, const head *h, uint8_t *page,
                              rotor_error *err) {
    const run_engine *e = s->e;
    const size_t bytes = (size_t)layer_page_bytes(e);
    for (uint32_t l = 0; l < h->n_layer; l++)
        for (uint32_t b = (uint32_t)first_block(e, h, l); b < s->n_pages; b++) {
            const bool ring = e->ring.n && windowed(e, l);
            ROTOR_TRY(dev_get_page(e->d, ring ? s->ring[b] : s->pages[b], l, page, err));
            ROTOR_TRY(put(w, page, bytes, err));
        }
    return ROTOR_OK;
}

static rotor_status put_all(saving *w, const run_session *s, const head *h, const char *note,
                            uint8_t *page, rotor_error *err) {
    static const uint8_t zeros[8];
    const size_t at = sizeof *h + 4 * (size_t)h->len + (size_t)h->note_bytes;
    ROTOR_TRY(put(w, h, sizeof *h, err));
    ROTOR_TRY(put(w, s->tokens, h->len * sizeof *s->tokens, err));
    ROTOR_TRY(put(w, note, (size_t)h->note_bytes, err));
    ROTOR_TRY(put(w, zeros, (size_t)pages_at(h) - at, err));
    ROTOR_TRY(put_pages(w, s, h, page, err));
    return base_out_write(&w->out, &w->hash, sizeof w->hash, err);
}

/* What stands in front of its file. */
static rotor_status begin(run_session *s, size_t note_bytes, head *h, rotor_error *err) {
    uint64_t made_with;
    assert(s->e->n_ahead == 0);
    s->e->n_rows = 0; /* nobody repeats the last step: all positions are computed anew */
    if (s->e->adrift) ROTOR_TRY(run_come_back(s->e, err));
    ROTOR_TRY(run_fingerprint(s->e, &made_with, err));
    *h = head_of(s, made_with, note_bytes);
    return ROTOR_OK;
}

rotor_status run_session_save(run_session *s, const char *path, base_str note, rotor_error *err) {
    head h;
    saving w = {.hash = 0};
    if (note.n > NOTE_BYTES)
        return base_fail(err, ROTOR_E_ARG, "%s: a note of %zu bytes, expected at most %d", path,
                         note.n, NOTE_BYTES);
    ROTOR_TRY(begin(s, note.n, &h, err));
    uint8_t *page = base_alloc((size_t)layer_page_bytes(s->e));
    if (!page) return base_fail_nomem(err, "saving a session");
    rotor_status st = base_out_open_private(&w.out, path, err);
    if (st == ROTOR_OK) {
        st = put_all(&w, s, &h, note.n ? note.p : "", page, err);
        if (st == ROTOR_OK)
            st = base_out_commit(&w.out, err);
        else
            base_out_abort(&w.out);
    }
    base_free(page);
    return st;
}

/* The sum at the end of a file, made in the pieces in which it is written; step: bytes of a layer's
 * page. */
static uint64_t sum_of(const uint8_t *data, uint64_t size, const head *h, uint64_t step) {
    const uint64_t tokens = sizeof *h, note = tokens + 4ull * h->len, zeros = note + h->note_bytes;
    const uint64_t end = size - HASH_BYTES;
    uint64_t sum = base_hash64(data, sizeof *h, 0), at = pages_at(h);
    sum = base_hash64(data + tokens, note - tokens, sum);
    sum = base_hash64(data + note, zeros - note, sum);
    sum = base_hash64(data + zeros, at - zeros, sum);
    for (; at < end; at += step) sum = base_hash64(data + at, step, sum);
    return sum;
}

/* ==== In memory =============================================================================== */

static rotor_status fill_pages(const run_session *s, const head *h, uint8_t *to, rotor_error *err) {
    const run_engine *e = s->e;
    for (uint32_t l = 0; l < h->n_layer; l++)
        for (uint32_t b = (uint32_t)first_block(e, h, l); b < s->n_pages; b++) {
            const bool ring = e->ring.n && windowed(e, l);
            ROTOR_TRY(dev_get_page(e->d, ring ? s->ring[b] : s->pages[b], l, to, err));
            to += layer_page_bytes(e);
        }
    return ROTOR_OK;
}

rotor_status run_session_image(run_session *s, base_str note, run_image *out, rotor_error *err) {
    head h;
    ROTOR_TRY(begin(s, note.n, &h, err));
    const run_image i = {.bytes = file_bytes(s->e, &h), .step = layer_page_bytes(s->e)};
    uint8_t *data = base_alloc((size_t)i.bytes);
    if (!data) return base_fail_nomem(err, "keeping a session");
    memcpy(data, &h, sizeof h);
    memcpy(data + sizeof h, s->tokens, h.len * sizeof *s->tokens);
    if (note.n) memcpy(data + sizeof h + 4ull * h.len, note.p, note.n);
    const rotor_status st = fill_pages(s, &h, data + pages_at(&h), err);
    if (st != ROTOR_OK) return base_free(data), st;
    *out = i;
    out->data = data;
    return ROTOR_OK;
}

rotor_status run_image_save(run_image *i, const char *path, rotor_error *err) {
    head h;
    base_out out;
    memcpy(&h, i->data, sizeof h);
    const uint64_t sum = sum_of(i->data, i->bytes, &h, i->step);
    memcpy(i->data + i->bytes - HASH_BYTES, &sum, sizeof sum);
    ROTOR_TRY(base_out_open_private(&out, path, err));
    const rotor_status st = base_out_write(&out, i->data, (size_t)i->bytes, err);
    if (st == ROTOR_OK) return base_out_commit(&out, err);
    base_out_abort(&out);
    return st;
}

/* ==== Loading ================================================================================= */

static rotor_status bad(const base_file *f, rotor_error *err, const char *what, uint64_t expected,
                        uint64_t got) {
    return base_fail(err, ROTOR_E_FORMAT, "%s: %s is %llu, expected %llu", f->path, what,
                     (unsigned long long)got, (unsigned long long)expected);
}

static rotor_status refuse(const base_file *f, rotor_error *err, const char *why) {
    return base_fail(err, ROTOR_E_UNSUPPORTED, "%s: %s", f->path, why);
}

/* Whether the file is a session of this model, as it is being run. */
static rotor_status check_fits(run_engine *e, const base_file *f, const head *h, rotor_error *err) {
    uint64_t made_with;
    if (h->kv != (uint32_t)e->opt.kv)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "%s: the session's cache is %s, this one is %s; run with --kv %s", f->path,
                         kv_names[h->kv], kv_names[e->opt.kv], kv_names[h->kv]);
    ROTOR_TRY(run_fingerprint(e, &made_with, err));
    if (h->made_with != made_with)
        return refuse(
            f, err,
            "the session was made with another model, adapter, --layers, --act, --yarn or (where "
            "rotation depends on it) --ctx; it only goes on with the same");
    if (h->ring_first && !e->ring.n)
        return refuse(
            f, err,
            "the session keeps only a window of some layers, here all is kept (a device, or "
            "a small context): it goes on where it was made");
    return ROTOR_OK;
}

static rotor_status check_head(run_engine *e, uint32_t max_tok, const base_file *f, const head *h,
                               rotor_error *err) {
    const model_hparams *hp = &e->m->hp;
    if (memcmp(h->magic, MAGIC, sizeof h->magic) != 0)
        return base_fail(err, ROTOR_E_FORMAT, "%s: not a session file", f->path);
    if (h->version != VERSION)
        return base_fail(err, ROTOR_E_UNSUPPORTED, "%s: version %u, this program knows %d", f->path,
                         h->version, VERSION);
    if (h->kv >= BASE_COUNT(kv_names)) return bad(f, err, "cache type", KERN_KV_F16, h->kv);
    ROTOR_TRY(check_fits(e, f, h, err));
    if (h->len > max_tok)
        return base_fail(err, ROTOR_E_FULL,
                         "%s: the session has %u tokens, the context %u; a larger --ctx takes it",
                         f->path, h->len, max_tok);
    if (h->n_layer != hp->n_layer) return bad(f, err, "layers", hp->n_layer, h->n_layer);
    if (h->n_head_kv != hp->n_head_kv) return bad(f, err, "KV heads", hp->n_head_kv, h->n_head_kv);
    if (h->d_head != hp->d_head) return bad(f, err, "head size", hp->d_head, h->d_head);
    if (h->block_tok != KERN_KEYS) return bad(f, err, "block", KERN_KEYS, h->block_tok);
    if (h->note_bytes > NOTE_BYTES) return bad(f, err, "note", NOTE_BYTES, h->note_bytes);
    const uint32_t most = run_ring_needs(h->len, hp->window);
    if (h->ring_first > most) return bad(f, err, "first block of the window", most, h->ring_first);
    if (f->size != file_bytes(e, h)) return bad(f, err, "size", file_bytes(e, h), f->size);
    return ROTOR_OK;
}

static rotor_status check(const run_session *s, const base_file *f, head *h, rotor_error *err) {
    uint64_t sum;
    if (f->size < sizeof *h + HASH_BYTES)
        return base_fail(err, ROTOR_E_FORMAT, "%s: %zu bytes are no session file", f->path,
                         f->size);
    memcpy(h, f->data, sizeof *h);
    ROTOR_TRY(check_head(s->e, s->max_tok, f, h, err));
    memcpy(&sum, f->data + f->size - HASH_BYTES, HASH_BYTES);
    if (sum != sum_of(f->data, f->size, h, layer_page_bytes(s->e)))
        return base_fail(err, ROTOR_E_FORMAT, "%s: damaged: the sum at its end does not agree",
                         f->path);
    for (uint32_t i = 0; i < h->len; i++) {
        uint32_t id;
        memcpy(&id, f->data + sizeof *h + 4ull * i, sizeof id);
        if (id >= s->e->m->hp.n_vocab)
            return base_fail(err, ROTOR_E_FORMAT, "%s: token %u is %u, the vocabulary has %u",
                             f->path, i, id, s->e->m->hp.n_vocab);
    }
    return ROTOR_OK;
}

/* ==== Looking at one ========================================================================== */

static rotor_status peek(run_engine *e, const base_file *f, run_peek *out, rotor_error *err) {
    head h;
    if (f->size < sizeof h + HASH_BYTES)
        return base_fail(err, ROTOR_E_FORMAT, "%s: cut short", f->path);
    memcpy(&h, f->data, sizeof h);
    ROTOR_TRY(check_head(e, e->opt.n_ctx, f, &h, err));
    out->tokens = base_alloc_array((size_t)h.len + 1, sizeof *out->tokens);
    if (!out->tokens) return base_fail_nomem(err, "looking at a session");
    memcpy(out->tokens, f->data + sizeof h, h.len * sizeof *out->tokens);
    memcpy(out->note, f->data + sizeof h + 4ull * h.len,
           BASE_MIN((size_t)h.note_bytes, sizeof out->note - 1));
    out->len = h.len;
    out->ring_first = h.ring_first;
    out->bytes = f->size;
    return ROTOR_OK;
}

/* Mapped, so that the pages behind are not read. */
rotor_status run_session_peek(run_engine *e, const char *path, run_peek *out, rotor_error *err) {
    base_node node;
    base_file f;
    memset(out, 0, sizeof *out);
    if (!base_node_of(&node, path, false) || node.kind != BASE_NODE_FILE)
        return base_fail(err, ROTOR_E_IO, "%s: no file", path);
    ROTOR_TRY(base_file_open(&f, path, true, err));
    const rotor_status st = peek(e, &f, out, err);
    base_file_close(&f);
    return st;
}

void run_peek_free(run_peek *p) {
    base_free(p->tokens);
    p->tokens = NULL;
}

/* ==== Taking one ============================================================================== */

static rotor_status take_pages(run_session *s, const base_file *f, const head *h,
                               rotor_error *err) {
    const run_engine *e = s->e;
    const uint64_t step = layer_page_bytes(e);
    const uint8_t *at = f->data + pages_at(h);
    for (uint32_t l = 0; l < h->n_layer; l++)
        for (uint32_t b = (uint32_t)first_block(e, h, l); b < s->n_pages; b++, at += step) {
            const bool ring = e->ring.n && windowed(e, l);
            if (ring && b < s->ring_first) continue; /* kept there, let go here */
            ROTOR_TRY(dev_put_page(e->d, ring ? s->ring[b] : s->pages[b], l, at, err));
        }
    return ROTOR_OK;
}

/* The checked file becomes the session; on failure it is empty. */
static rotor_status take(run_session *s, const base_file *f, const head *h, rotor_error *err) {
    run_session_rewind(s, 0);
    if (!run_session_take_pages(s, h->len, h->ring_first))
        return base_fail(err, ROTOR_E_FULL, "%s: the cache has no room for its %u tokens", f->path,
                         h->len);
    memcpy(s->tokens, f->data + sizeof *h, h->len * sizeof *s->tokens);
    const rotor_status st = take_pages(s, f, h, err);
    if (st != ROTOR_OK) run_session_rewind(s, 0);
    return st;
}

rotor_status run_session_load(run_session *s, const char *path, base_buf *note, rotor_error *err) {
    base_file f;
    head h;
    base_buf text = {0};
    assert(s->e->n_ahead == 0);
    s->e->n_rows = 0; /* nobody repeats the last step: all positions are computed anew */
    if (s->e->adrift) ROTOR_TRY(run_come_back(s->e, err));
    ROTOR_TRY(base_file_open(&f, path, false, err));
    rotor_status st = check(s, &f, &h, err);
    if (st == ROTOR_OK && note &&
        !base_buf_append(&text, f.data + sizeof h + 4ull * h.len, (size_t)h.note_bytes))
        st = base_fail_nomem(err, "loading a session");
    if (st == ROTOR_OK) st = take(s, &f, &h, err);
    base_file_close(&f);
    if (st == ROTOR_OK && note) {
        base_buf_free(note);
        *note = text;
    } else {
        base_buf_free(&text);
    }
    return st;
}
