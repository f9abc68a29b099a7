/* SPDX-License-Identifier: MIT
 *
 * Reading a moved store (rag_move.h). Its bytes may be anybody's: every length is held against what
 * is left, every text against zeros inside it, every passage against its document.
 */
#include "rag/rag_move.h"

typedef struct reader {
    const char *at, *end;    /* of the record that is read */
    const rag_move_sink *to; /* who gets it */
    rag_embedder model;      /* name NULL: none yet */
    bool in_file;            /* there was one */
    bool in_document;        /* d is being read */
    rag_document d;          /* with the passages below */
    rag_passage *list;       /* [d.n_passages] owned */
    size_t cap;              /* allocated */
    uint64_t n[4];           /* files, documents, passages, vectors so far */
    const char *why;         /* what is wrong with it; NULL: nothing */
    rotor_error *err;        /* where messages go */
} reader;

/* ==== Fields ================================================================================== */

static bool bad(reader *r, const char *why) {
    if (!r->why) r->why = why;
    return false;
}

static const char *take(reader *r, uint64_t n) {
    const char *p = r->at;
    if (r->why || n > (uint64_t)(r->end - r->at)) {
        bad(r, "a record is too short");
        return NULL;
    }
    r->at += n;
    return p;
}

static uint64_t number(reader *r, int n_bytes) {
    const char *p = take(r, (uint64_t)n_bytes);
    uint64_t v = 0;
    for (int i = 0; p && i < n_bytes; i++) v |= (uint64_t)(uint8_t)p[i] << 8 * i;
    return v;
}
static uint32_t number32(reader *r) { return (uint32_t)number(r, 4); }

static void hash(reader *r, uint8_t out[RAG_HASH]) {
    const char *p = take(r, RAG_HASH);
    if (p) memcpy(out, p, RAG_HASH);
}

static base_str text(reader *r) {
    const uint64_t n = number(r, 8);
    const char *p = n < UINT64_MAX ? take(r, n + 1) : take(r, n);
    if (!p) return (base_str){"", 0};
    if (p[n]) bad(r, "a text has no zero behind it");
    return (base_str){p, (size_t)n};
}

/* A text that is a C string; those of documents may have zeros, of UTF-16 that was read long ago.
 */
static const char *name(reader *r) {
    const base_str s = text(r);
    if (memchr(s.p, 0, s.n)) bad(r, "a name has a zero in it");
    return s.p;
}

/* ==== Records ================================================================================= */

static rotor_status end_document(reader *r) {
    if (!r->in_document) return ROTOR_OK;
    r->in_document = false;
    r->d.passages = r->list;
    return r->to->document(r->to->user, &r->d);
}

static rotor_status model(reader *r) {
    if (r->model.name || r->in_file || r->n[3]) bad(r, "a model is not where it belongs");
    hash(r, r->model.fingerprint);
    r->model.dims = number32(r);
    r->model.name = name(r);
    r->model.path = name(r);
    if (!r->model.dims || r->model.dims > RAG_MOVE_MAX_DIMS) bad(r, "a vector has no such length");
    return r->why ? ROTOR_E_FORMAT : r->to->model(r->to->user, &r->model);
}

static bool is_status(const char *s) {
    static const char *const known[] = {"ok", "pending", "skipped", "error"};
    for (size_t i = 0; i < BASE_COUNT(known); i++)
        if (strcmp(s, known[i]) == 0) return true;
    return false;
}

static rotor_status file(reader *r) {
    rag_db_file f = {.node.kind = BASE_NODE_FILE};
    f.node.size = number(r, 8);
    f.node.mtime_ns = (int64_t)number(r, 8);
    f.node.ctime_ns = (int64_t)number(r, 8);
    f.seen_ns = (int64_t)number(r, 8);
    hash(r, f.hash);
    f.pipeline = (int)(number32(r) & INT32_MAX);
    const char *path = name(r), *status = name(r), *message = name(r);
    if (!r->why && (!path[0] || !is_status(status) || f.node.size > INT64_MAX))
        bad(r, "a file has no path, no status or no size");
    if (r->why) return ROTOR_E_FORMAT;
    memcpy(f.status, status, strlen(status) + 1);
    r->in_file = true;
    r->n[0]++;
    return r->to->file(r->to->user, path, &f, message);
}

static rotor_status document(reader *r) {
    rag_document *d = &r->d;
    if (!r->in_file || r->n[3]) bad(r, "a document is not where it belongs");
    *d = (rag_document){.is_cut = true};
    hash(r, d->row.hash);
    d->row.line = number32(r);
    d->row.key = name(r);
    d->row.title = name(r);
    d->row.meta = name(r);
    d->text = text(r);
    r->in_document = !r->why;
    r->n[1]++;
    return r->why ? ROTOR_E_FORMAT : ROTOR_OK;
}

/* One behind the other, inside the text, at whole characters. */
static bool is_place(const reader *r, uint64_t begin, uint64_t end) {
    const rag_document *d = &r->d;
    const size_t n = d->n_passages;
    if (begin >= end || end > d->text.n || (n && begin < r->list[n - 1].end)) return false;
    const bool cut = ((uint8_t)d->text.p[begin] & 0xC0) == 0x80;
    return !cut && (end == d->text.n || ((uint8_t)d->text.p[end] & 0xC0) != 0x80);
}

static rotor_status passage(reader *r) {
    rag_document *d = &r->d;
    const uint64_t begin = number(r, 8), end = number(r, 8);
    rag_passage p = {.line = number32(r)};
    p.last_line = number32(r);
    p.page = number32(r);
    p.last_page = number32(r);
    p.n_tok = number32(r);
    p.heading = name(r);
    if (!r->in_document) bad(r, "a passage is not where it belongs");
    if (!r->why && !is_place(r, begin, end)) bad(r, "a passage is not in its document's text");
    if (r->why) return ROTOR_E_FORMAT;
    if (d->n_passages == r->cap) {
        const size_t cap = r->cap * 2 + 64;
        rag_passage *more = base_realloc(r->list, cap * sizeof *more);
        if (!more) return base_fail_nomem(r->err, "reading a moved store");
        r->list = more;
        r->cap = cap;
    }
    p.begin = (size_t)begin;
    p.end = (size_t)end;
    r->list[d->n_passages++] = p;
    r->n[2]++;
    return ROTOR_OK;
}

static rotor_status vector(reader *r) {
    uint8_t of[RAG_HASH];
    float scale;
    hash(r, of);
    const uint32_t bits = number32(r);
    memcpy(&scale, &bits, sizeof scale);
    const base_str high = {take(r, r->model.dims), r->model.dims};
    const base_str low = {take(r, r->model.dims), r->model.dims};
    if (!r->model.name) bad(r, "a vector is of no model");
    if (!(scale > 0 && scale <= 1)) bad(r, "a vector has no such scale"); /* no NaN either */
    r->n[3]++;
    return r->why ? ROTOR_E_FORMAT : r->to->vector(r->to->user, of, scale, high, low);
}

/* One record; *ended behind the last. */
static rotor_status record(reader *r, char kind, bool *ended) {
    if (kind != 'c') ROTOR_TRY(end_document(r));
    switch (kind) {
    case 'm':
        return model(r);
    case 'f':
        return file(r);
    case 'd':
        return document(r);
    case 'c':
        return passage(r);
    case 'v':
        return vector(r);
    case 'e':
        for (int i = 0; i < 4; i++)
            if (number(r, 8) != r->n[i]) bad(r, "something is missing");
        *ended = true;
        return r->why ? ROTOR_E_FORMAT : ROTOR_OK;
    default:
        bad(r, "a record is of no kind that is known");
        return ROTOR_E_FORMAT;
    }
}

static rotor_status records(reader *r, base_str bytes) {
    const char *at = bytes.p, *end = bytes.p + bytes.n;
    bool ended = false;
    while (at < end && !ended) {
        r->at = at + 1;
        r->end = end;
        const uint64_t n = number(r, 8);
        if (!r->why && n > (uint64_t)(end - r->at)) bad(r, "a record is too short");
        if (r->why) return ROTOR_E_FORMAT;
        const char *next = r->end = r->at + n;
        ROTOR_TRY(record(r, *at, &ended));
        if (r->at != next) bad(r, "a record is too long");
        at = next;
    }
    if (!ended || at != end) bad(r, "its end is not where it belongs");
    return r->why ? ROTOR_E_FORMAT : ROTOR_OK;
}

rotor_status rag_move_read(base_str bytes, const rag_move_sink *to, rotor_error *err) {
    if (bytes.n < RAG_MOVE_HEAD + RAG_HASH)
        return base_fail(err, ROTOR_E_FORMAT, "damaged: it is too short");
    reader r = {.to = to, .err = err};
    const rotor_status st =
        records(&r, (base_str){bytes.p + RAG_MOVE_HEAD, bytes.n - RAG_MOVE_HEAD - RAG_HASH});
    base_free(r.list);
    return r.why ? base_fail(err, ROTOR_E_FORMAT, "damaged: %s", r.why) : st;
}

/* ==== The file as a whole ===================================================================== */

rotor_status rag_move_check(base_str bytes, rotor_error *err) {
    uint8_t sum[RAG_HASH];
    const size_t n = strlen(RAG_MOVE_MAGIC);
    if (bytes.n < n || memcmp(bytes.p, RAG_MOVE_MAGIC, n) != 0)
        return base_fail(err, ROTOR_E_FORMAT, "not written by rotor rag export");
    if (bytes.n < RAG_MOVE_HEAD + RAG_HASH)
        return base_fail(err, ROTOR_E_FORMAT, "damaged: it ends after %zu bytes", bytes.n);
    reader r = {.at = bytes.p + n, .end = bytes.p + RAG_MOVE_HEAD};
    const uint32_t version = number32(&r);
    if (version != RAG_MOVE_VERSION)
        return base_fail(err, ROTOR_E_UNSUPPORTED,
                         "written by another rotor (version %u, this one knows %d)", version,
                         RAG_MOVE_VERSION);
    base_sha256(bytes.p, bytes.n - RAG_HASH, sum);
    if (memcmp(sum, bytes.p + bytes.n - RAG_HASH, RAG_HASH) != 0)
        return base_fail(err, ROTOR_E_FORMAT, "damaged: it is not as it was written");
    return ROTOR_OK;
}
