/* SPDX-License-Identifier: MIT
 *
 * Reading a moved store (rag_move.h), record by record. Its bytes may be anybody's: every length is
 * held against what is left, every text against zeros inside it, every passage against its
 * document. The sum of all bytes runs along, so that a file which is exchanged between being
 * checked and being read is found out.
 */
#include "base/part.h"
#include "rag/rag_move.h"

enum { PIECE = 64 << 10 }; /* bytes that are read at once, at least */

typedef struct reader {
    const rag_move_source *from; /* the bytes */
    uint64_t next, last;         /* of it: the first that was not read; the first of the sum */
    base_sha256_run sum;         /* of what was read */
    base_buf window;             /* what was read, from window_at on not yet taken; owned */
    size_t window_at;            /* see above */
    char *at, *end;              /* of the record that is taken apart */
    const rag_move_sink *to;     /* who gets it */
    bool has_model;              /* there was one … */
    size_t dims;                 /* … whose vectors have so many floats */
    bool in_file;                /* there was one */
    bool in_document;            /* d is being read */
    rag_document d;              /* with the passages below */
    base_buf held;               /* its record, owned */
    rag_passage *list;           /* [d.n_passages] owned, with their headings */
    size_t cap;                  /* allocated */
    uint64_t n[4];               /* files, documents, passages, vectors so far */
    const char *why;             /* what is wrong with it; NULL: nothing */
    rotor_error *err;            /* where messages go */
} reader;

/* ==== Fields ================================================================================== */

static bool bad(reader *r, const char *why) {
    if (!r->why) r->why = why;
    return false;
}

static char *take(reader *r, uint64_t n) {
    char *p = r->at;
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

/* Places in a text are told in bytes: it keeps its length. */
static void mend_utf8(char *p, size_t n) {
    int32_t c;
    for (size_t at = 0; at < n;) {
        const int k = base_utf8_decode(p + at, n - at, &c);
        if (c < 0) p[at] = '?';
        at += c < 0 ? 1 : (size_t)k;
    }
}

static base_str bytes(reader *r) {
    const uint64_t n = number(r, 8);
    const char *p = n < UINT64_MAX ? take(r, n + 1) : take(r, n);
    if (!p) return (base_str){"", 0};
    if (p[n]) bad(r, "a text has no zero behind it");
    return (base_str){p, (size_t)n};
}

static base_str text(reader *r) {
    const base_str s = bytes(r);
    if (s.n) mend_utf8((char *)(uintptr_t)s.p, s.n);
    return s;
}

/* A text that is a C string; those of documents may have zeros, of UTF-16 that was read long ago.
 */
static const char *no_zero(reader *r, base_str s) {
    if (memchr(s.p, 0, s.n)) bad(r, "a name has a zero in it");
    return s.p;
}
static const char *name(reader *r) { return no_zero(r, text(r)); }

/* ==== Records ================================================================================= */

static void drop_headings(reader *r) {
    for (size_t i = 0; i < r->d.n_passages; i++) base_free((void *)(uintptr_t)r->list[i].heading);
    r->d.n_passages = 0;
}

static rotor_status end_document(reader *r) {
    if (!r->in_document) return ROTOR_OK;
    r->in_document = false;
    r->d.passages = r->list;
    const rotor_status st = r->to->document(r->to->user, &r->d);
    drop_headings(r);
    return st;
}

static rotor_status model(reader *r) {
    rag_embedder m = {0};
    if (r->has_model || r->in_file || r->n[3]) bad(r, "a model is not where it belongs");
    hash(r, m.fingerprint);
    r->dims = m.dims = number32(r);
    m.name = name(r);
    m.path = no_zero(r, bytes(r));
    r->has_model = true;
    if (!m.dims || m.dims > RAG_MOVE_MAX_DIMS) bad(r, "a vector has no such length");
    return r->why ? ROTOR_E_FORMAT : r->to->model(r->to->user, &m);
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
    const char *path = no_zero(r, bytes(r)), *status = name(r), *message = name(r);
    if (!r->why && (!path[0] || !is_status(status) || f.node.size > INT64_MAX))
        bad(r, "a file has no path, no status or no size");
    if (r->why) return ROTOR_E_FORMAT;
    memcpy(f.status, status, strlen(status) + 1);
    r->in_file = true;
    r->n[0]++;
    return r->to->file(r->to->user, path, &f, message);
}

/* Its record is kept until its last passage is there. */
static rotor_status document(reader *r) {
    rag_document *d = &r->d;
    if (!r->in_file || r->n[3]) bad(r, "a document is not where it belongs");
    base_buf_reset(&r->held);
    base_buf_append(&r->held, r->at, (size_t)(r->end - r->at));
    if (r->held.failed) return base_fail_nomem(r->err, "reading a moved store");
    const size_t n = r->held.len;
    r->at = n ? r->held.data : r->at;
    r->end = r->at + n;
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
    p.heading = base_strdup(p.heading);
    if (!p.heading) return base_fail_nomem(r->err, "reading a moved store");
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
    const base_str high = {take(r, r->dims), r->dims};
    const base_str low = {take(r, r->dims), r->dims};
    if (!r->has_model) bad(r, "a vector is of no model");
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

/* ==== The file as a whole ===================================================================== */

/* At least n bytes into the window, of those in front of the sum. */
static rotor_status fill(reader *r, size_t n) {
    const size_t have = r->window.len - r->window_at;
    if (n - have > r->last - r->next) return bad(r, "a record is too short"), ROTOR_E_FORMAT;
    const size_t more = (size_t)BASE_MIN((uint64_t)BASE_MAX(n, PIECE) - have, r->last - r->next);
    if (have) memmove(r->window.data, r->window.data + r->window_at, have);
    r->window.len = have;
    r->window_at = 0;
    if (!base_buf_reserve(&r->window, more))
        return base_fail_nomem(r->err, "reading a moved store");
    char *to = r->window.data + have;
    ROTOR_TRY(r->from->read(r->from->user, r->next, to, more, r->err));
    base_sha256_add(&r->sum, to, more);
    r->window.len += more;
    r->next += more;
    return ROTOR_OK;
}

/* The next n bytes, valid until the next call. */
static rotor_status pull(reader *r, size_t n, char **out) {
    if (r->window.len - r->window_at < n) ROTOR_TRY(fill(r, n));
    *out = r->window.data + r->window_at;
    r->window_at += n;
    return ROTOR_OK;
}

static rotor_status next_record(reader *r, bool *ended) {
    char *p;
    ROTOR_TRY(pull(r, 9, &p));
    const char kind = *p;
    r->at = p + 1;
    r->end = p + 9;
    const uint64_t n = number(r, 8);
    if (n > RAG_MOVE_MAX_RECORD) return bad(r, "a record is too long"), ROTOR_E_FORMAT;
    ROTOR_TRY(pull(r, (size_t)n, &r->at));
    r->end = r->at + n;
    ROTOR_TRY(record(r, kind, ended));
    if (r->at != r->end) bad(r, "a record is too long");
    return r->why ? ROTOR_E_FORMAT : ROTOR_OK;
}

static rotor_status check_sum(const rag_move_source *from, base_sha256_run *run, rotor_error *err) {
    uint8_t sum[RAG_HASH], said[RAG_HASH];
    base_sha256_end(run, sum);
    ROTOR_TRY(from->read(from->user, from->n_bytes - RAG_HASH, said, RAG_HASH, err));
    if (memcmp(sum, said, RAG_HASH) == 0) return ROTOR_OK;
    return base_fail(err, ROTOR_E_FORMAT, "damaged: it is not as it was written");
}

static rotor_status records(reader *r) {
    char *head;
    bool ended = false;
    ROTOR_TRY(pull(r, RAG_MOVE_HEAD, &head));
    while (!ended) ROTOR_TRY(next_record(r, &ended));
    if (r->next != r->last || r->window_at != r->window.len)
        return bad(r, "its end is not where it belongs"), ROTOR_E_FORMAT;
    return check_sum(r->from, &r->sum, r->err);
}

rotor_status rag_move_read(const rag_move_source *from, const rag_move_sink *to, rotor_error *err) {
    if (from->n_bytes < RAG_MOVE_HEAD + RAG_HASH)
        return base_fail(err, ROTOR_E_FORMAT, "damaged: it is too short");
    reader r = {.from = from, .last = from->n_bytes - RAG_HASH, .to = to, .err = err};
    base_sha256_begin(&r.sum);
    const rotor_status st = records(&r);
    drop_headings(&r);
    base_free(r.list);
    base_buf_free(&r.window);
    base_buf_free(&r.held);
    return r.why ? base_fail(err, ROTOR_E_FORMAT, "damaged: %s", r.why) : st;
}

static rotor_status check_head(const rag_move_source *from, rotor_error *err) {
    char head[RAG_MOVE_HEAD] = "";
    const size_t n = strlen(RAG_MOVE_MAGIC);
    const size_t there = (size_t)BASE_MIN(from->n_bytes, (uint64_t)RAG_MOVE_HEAD);
    ROTOR_TRY(from->read(from->user, 0, head, there, err));
    if (there < n || memcmp(head, RAG_MOVE_MAGIC, n) != 0)
        return base_fail(err, ROTOR_E_FORMAT, "not written by rotor rag export");
    if (from->n_bytes < RAG_MOVE_HEAD + RAG_HASH)
        return base_fail(err, ROTOR_E_FORMAT, "damaged: it ends after %llu bytes",
                         (unsigned long long)from->n_bytes);
    reader r = {.at = head + n, .end = head + RAG_MOVE_HEAD};
    const uint32_t version = number32(&r);
    if (version == RAG_MOVE_VERSION) return ROTOR_OK;
    return base_fail(err, ROTOR_E_UNSUPPORTED,
                     "written by another rotor (version %u, this one knows %d)", version,
                     RAG_MOVE_VERSION);
}

rotor_status rag_move_check(const rag_move_source *from, rotor_error *err) {
    base_sha256_run sum;
    ROTOR_TRY(check_head(from, err));
    char *piece = base_alloc(PIECE);
    rotor_status st = piece ? ROTOR_OK : base_fail_nomem(err, "reading a moved store");
    base_sha256_begin(&sum);
    for (uint64_t at = 0, n; st == ROTOR_OK && at < from->n_bytes - RAG_HASH; at += n) {
        n = BASE_MIN((uint64_t)PIECE, from->n_bytes - RAG_HASH - at);
        st = from->read(from->user, at, piece, (size_t)n, err);
        if (st == ROTOR_OK) base_sha256_add(&sum, piece, (size_t)n);
    }
    base_free(piece);
    return st == ROTOR_OK ? check_sum(from, &sum, err) : st;
}
