/* SPDX-License-Identifier: MIT
 *
 * Reading the database into arrays. Postings are counted first and then put in place, term by term;
 * the packed terms of all passages are held meanwhile.
 */
#include "rag/rag_index.h"

/* ==== Packed terms ============================================================================ */

/* Seven bits a byte, the lowest first, the highest bit: more follow. */
static void put_number(base_buf *out, uint32_t v) {
    for (; v >= 128; v >>= 7) base_buf_append(out, &(uint8_t){(uint8_t)(v | 128)}, 1);
    base_buf_append(out, &(uint8_t){(uint8_t)v}, 1);
}

static bool get_number(const uint8_t **p, const uint8_t *end, uint32_t *v) {
    *v = 0;
    for (int shift = 0; *p < end && shift < 35; shift += 7) {
        const uint8_t b = *(*p)++;
        *v |= (uint32_t)(b & 127) << shift;
        if (b < 128) return true;
    }
    return false;
}

rotor_status rag_pack_term(base_buf *out, uint32_t id_delta, uint32_t body, uint32_t head) {
    put_number(out, id_delta);
    put_number(out, body);
    put_number(out, head);
    return out->failed ? ROTOR_E_NOMEM : ROTOR_OK;
}

/* ==== Reading ================================================================================= */

enum { TERM_GAPS = 16, MISSING_TERMS = 1 << 16 }; /* numbers per term; and beside these */

static bool grow(void *array, size_t n, size_t elem) {
    void **p = array;
    void *more = base_realloc(*p, n * elem);
    if (more) *p = more;
    return more != NULL;
}

rotor_status rag_load_doc(void *user, const rag_db_doc *d, const char *path) {
    rag_loader *l = user;
    rag_index *x = l->x;
    if (x->n_docs == l->cap_docs) {
        l->cap_docs = l->cap_docs * 2 + 64;
        if (!grow(&x->docs, l->cap_docs, sizeof *x->docs))
            return base_fail_nomem(l->err, "reading a store");
    }
    rag_index_doc *to = &x->docs[x->n_docs];
    *to = (rag_index_doc){.id = d->id,
                          .path = base_strdup(path),
                          .key = base_strdup(d->key),
                          .title = base_strdup(d->title),
                          .meta = base_strdup(d->meta)};
    x->n_docs++;
    if (to->path && to->key && to->title && to->meta) return ROTOR_OK;
    return base_fail_nomem(l->err, "reading a store");
}

rotor_status rag_load_term(void *user, uint32_t id, base_str t) {
    rag_loader *l = user;
    rag_index *x = l->x;
    const size_t at = id - l->first_term;
    /* Numbers rise and are given one after another: memory is taken for few that are missing. */
    if (id < x->n_terms || at > ++l->n_named * TERM_GAPS + MISSING_TERMS)
        return base_fail(l->err, ROTOR_E_FORMAT, "the store is damaged: a term has the number %u",
                         id);
    if (at + 2 > l->cap_terms) {
        l->cap_terms = at * 2 + 1024;
        if (!grow(&l->name_at, l->cap_terms, sizeof *l->name_at))
            return base_fail_nomem(l->err, "reading a store");
    }
    for (; x->n_terms <= id; x->n_terms++) l->name_at[x->n_terms - l->first_term] = l->names.len;
    base_buf_append(&l->names, t.p, t.n);
    l->name_at[at + 1] = l->names.len;
    return l->names.failed ? base_fail_nomem(l->err, "reading a store") : ROTOR_OK;
}

rotor_status rag_load_packed(rag_loader *l, uint32_t slot, base_str terms) {
    if (l->n_packed == l->cap_packed) {
        l->cap_packed = l->cap_packed * 2 + 256;
        if (!grow(&l->packed_at, l->cap_packed + 1, sizeof *l->packed_at) ||
            !grow(&l->packed_slot, l->cap_packed, sizeof *l->packed_slot))
            return base_fail_nomem(l->err, "reading a store");
    }
    l->packed_at[l->n_packed] = l->packed.len;
    l->packed_slot[l->n_packed] = slot;
    base_buf_append(&l->packed, terms.p, terms.n);
    l->packed_at[++l->n_packed] = l->packed.len;
    return l->packed.failed ? base_fail_nomem(l->err, "reading a store") : ROTOR_OK;
}

rotor_status rag_load_place(rag_loader *l, const rag_db_chunk *c) {
    rag_index *x = l->x;
    if (x->n_chunks == l->cap_chunks) {
        l->cap_chunks = l->cap_chunks * 2 + 256;
        if (!grow(&x->chunk, l->cap_chunks, sizeof *x->chunk) ||
            !grow(&x->doc, l->cap_chunks, sizeof *x->doc) ||
            !grow(&x->length, l->cap_chunks, sizeof *x->length))
            return base_fail_nomem(l->err, "reading a store");
    }
    /* Passages come in order of document: the one it belongs to is this or a later one. */
    size_t d = x->n_chunks ? x->doc[x->n_chunks - 1] : 0;
    while (d < x->n_docs && x->docs[d].id != c->doc) d++;
    if (d == x->n_docs) return base_fail(l->err, ROTOR_E_FORMAT, "a passage without a document");
    if (!x->docs[d].n) x->docs[d].first = (uint32_t)x->n_chunks;
    x->docs[d].n++;
    x->chunk[x->n_chunks] = c->id;
    x->doc[x->n_chunks++] = (uint32_t)d;
    return ROTOR_OK;
}

rotor_status rag_load_chunk(void *user, const rag_db_chunk *c) {
    rag_loader *l = user;
    const size_t slot = l->x->n_chunks;
    ROTOR_TRY(rag_load_place(l, c));
    l->x->length[slot] = (float)c->n_words;
    return rag_load_packed(l, (uint32_t)slot, c->terms);
}

/* ==== Postings ================================================================================ */

/* Calls for every posting of a passage; put: into its place, else it is counted. Each term stands
 * there once, and at least once in text or headings: searches count on it. */
static rotor_status each_posting(rag_loader *l, size_t i, bool put) {
    rag_index *x = l->x;
    const uint8_t *p = (const uint8_t *)l->packed.data + l->packed_at[i];
    const uint8_t *end = (const uint8_t *)l->packed.data + l->packed_at[i + 1];
    const uint32_t slot = l->packed_slot[i];
    uint64_t id = 0;
    while (p < end) {
        uint32_t delta, body, head;
        if (!get_number(&p, end, &delta) || !get_number(&p, end, &body) ||
            !get_number(&p, end, &head) || !delta || !(body | head) || (id += delta) >= x->n_terms)
            return base_fail(l->err, ROTOR_E_FORMAT, "the words of passage %lld are damaged",
                             (long long)x->chunk[slot]);
        if (!put) {
            x->at[id + 1]++;
            continue;
        }
        const uint64_t to = x->at[id]++;
        x->slot[to] = slot;
        x->body[to] = (uint8_t)BASE_MIN(body, 255u);
        x->head[to] = (uint8_t)BASE_MIN(head, 255u);
    }
    return ROTOR_OK;
}

static void count_documents(rag_index *x) {
    for (size_t t = 0; t < x->n_terms; t++) {
        uint32_t last = UINT32_MAX, n = 0;
        for (uint64_t i = x->at[t]; i < x->at[t + 1]; i++) {
            const uint32_t d = x->doc[x->slot[i]];
            n += d != last;
            last = d;
        }
        x->n_docs_with[t] = n;
    }
}

rotor_status rag_load_postings(rag_loader *l) {
    rag_index *x = l->x;
    x->at = base_alloc_array(x->n_terms + 2, sizeof *x->at);
    if (!x->at) return base_fail_nomem(l->err, "reading a store");
    for (size_t i = 0; i < l->n_packed; i++) ROTOR_TRY(each_posting(l, i, false));
    for (size_t t = 0; t < x->n_terms; t++) x->at[t + 1] += x->at[t];
    const size_t n = x->at[x->n_terms];
    x->slot = base_alloc_array(n + 1, sizeof *x->slot);
    x->body = base_alloc(n + 1);
    x->head = base_alloc(n + 1);
    if (!x->slot || !x->body || !x->head) return base_fail_nomem(l->err, "reading a store");
    for (size_t i = 0; i < l->n_packed; i++) ROTOR_TRY(each_posting(l, i, true));
    memmove(x->at + 1, x->at, x->n_terms * sizeof *x->at); /* each has moved to its end */
    x->at[0] = 0;
    return ROTOR_OK;
}

rotor_status rag_load_names(rag_loader *l) {
    rag_index *x = l->x;
    if (!x->terms && base_map_create(&x->terms, x->n_terms) != ROTOR_OK)
        return base_fail_nomem(l->err, "reading a store");
    if (!l->names.len) return ROTOR_OK; /* no new ones */
    if (!grow(&x->term_text, x->n_term_text + 1, sizeof *x->term_text))
        return base_fail_nomem(l->err, "reading a store");
    const char *text = x->term_text[x->n_term_text++] = l->names.data;
    l->names.data = NULL;
    for (size_t t = l->first_term; t < x->n_terms; t++) {
        const uint64_t *at = l->name_at + (t - l->first_term);
        const base_str name = {text + at[0], at[1] - at[0]};
        if (name.n && base_map_put(x->terms, name, (uint32_t)t, NULL) != ROTOR_OK)
            return base_fail_nomem(l->err, "reading a store");
    }
    return ROTOR_OK;
}

void rag_index_count(rag_index *x) {
    double sum = 0;
    for (size_t s = 0; s < x->n_chunks; s++) sum += (double)x->length[s];
    x->mean_length = sum / (double)BASE_MAX(x->n_chunks, (size_t)1);
    x->mean_doc_length = sum / (double)BASE_MAX(x->n_docs, (size_t)1);
    count_documents(x);
}

rotor_status rag_load_words(rag_loader *l) {
    rag_index *x = l->x;
    x->n_docs_with = base_alloc_array(x->n_terms + 1, sizeof *x->n_docs_with);
    if (!x->n_docs_with) return base_fail_nomem(l->err, "reading a store");
    ROTOR_TRY(rag_load_postings(l));
    ROTOR_TRY(rag_load_names(l));
    rag_index_count(x);
    return ROTOR_OK;
}

/* ==== Vectors ================================================================================= */

size_t rag_screen_from = RAG_SCREEN_FROM;

rotor_status rag_index_matrix(rag_index *x, size_t dims, rotor_error *err) {
    x->dims = dims;
    x->ld = (dims + KERN_SCAN_COLS - 1) / KERN_SCAN_COLS * KERN_SCAN_COLS;
    x->high = base_alloc_aligned(x->n_chunks * x->ld);
    x->low = base_alloc_aligned(x->n_chunks * x->ld);
    x->scale = base_alloc_array(x->n_chunks, sizeof *x->scale);
    if (!x->high || !x->low || !x->scale) return base_fail_nomem(err, "reading vectors");
    if (x->n_chunks < rag_screen_from) return ROTOR_OK;
    x->coarse = base_alloc_aligned(x->n_chunks * x->ld / 4);
    x->coarse_scale = base_alloc_array(x->n_chunks, sizeof *x->coarse_scale);
    x->signs = base_alloc(2 * x->ld);
    if (!x->coarse || !x->coarse_scale || !x->signs) return base_fail_nomem(err, "reading vectors");
    rag_screen_signs(x->signs, x->ld);
    return ROTOR_OK;
}

void rag_index_drop_matrix(rag_index *x) {
    base_free_aligned(x->high);
    base_free_aligned(x->low);
    base_free_aligned(x->coarse);
    base_free(x->scale);
    base_free(x->coarse_scale);
    base_free(x->signs);
    x->high = x->low = x->signs = NULL;
    x->coarse = NULL;
    x->scale = x->coarse_scale = NULL;
    x->dims = x->ld = x->n_vectors = 0;
}

enum { MAX_DIMS = 1 << 17 };

static bool is_vector(float scale, base_str high) {
    return high.n && high.n <= MAX_DIMS && scale > 0 && scale <= 1; /* no NaN either */
}

bool rag_index_put_vector(rag_index *x, size_t slot, float scale, base_str high, base_str low) {
    if (!is_vector(scale, high) || high.n != x->dims || low.n != x->dims) return false;
    int8_t *to = x->high + slot * x->ld;
    memcpy(to, high.p, high.n);
    memcpy(x->low + slot * x->ld, low.p, low.n);
    for (size_t i = 0; i < x->dims; i++)
        if (to[i] == -128) to[i] = -127; /* of a damaged one: kernels take +-127 */
    x->scale[slot] = scale;
    x->n_vectors++;
    if (x->coarse)
        rag_screen_pack(x->coarse + slot * (x->ld / 4), &x->coarse_scale[slot], to, scale, x->signs,
                        x->ld);
    return true;
}

rotor_status rag_load_vector(void *user, int64_t chunk, float scale, base_str high, base_str low) {
    rag_loader *l = user;
    rag_index *x = l->x;
    if (is_vector(scale, high) && !x->high) ROTOR_TRY(rag_index_matrix(x, high.n, l->err));
    while (l->next < x->n_chunks && x->chunk[l->next] != chunk) l->next++;
    if (l->next < x->n_chunks && x->high && rag_index_put_vector(x, l->next++, scale, high, low))
        return ROTOR_OK;
    return base_fail(l->err, ROTOR_E_FORMAT, "the vector of passage %lld is damaged",
                     (long long)chunk);
}

/* What is left unread must be worth its questions. */
static rotor_status leave_vectors(rag_loader *l, rag_db *db) {
    enum { MANY = 1024 };
    rag_index *x = l->x;
    size_t n, dims;
    ROTOR_TRY(rag_db_near_size(db, x->model, &n, &dims, l->err));
    if (n < MANY || dims > MAX_DIMS) return ROTOR_OK;
    ROTOR_TRY(rag_index_matrix(x, dims, l->err));
    x->n_vectors = n;
    x->few = true;
    return ROTOR_OK;
}

static rotor_status load_parts(rag_loader *l, rag_db *db, bool few) {
    uint8_t print[RAG_HASH];
    rag_index *x = l->x;
    ROTOR_TRY(rag_db_each_doc(db, rag_load_doc, l, l->err));
    ROTOR_TRY(rag_db_each_term(db, 0, rag_load_term, l, l->err));
    ROTOR_TRY(rag_db_each_chunk(db, rag_load_chunk, l, l->err));
    ROTOR_TRY(rag_load_words(l));
    ROTOR_TRY(rag_db_get_model(db, &x->model, print, l->err));
    if (!x->model) return ROTOR_OK;
    if (few) ROTOR_TRY(leave_vectors(l, db));
    if (x->few) return ROTOR_OK;
    return rag_db_each_vector(db, x->model, rag_load_vector, l, l->err);
}

void rag_loader_free(rag_loader *l) {
    base_buf_free(&l->packed);
    base_buf_free(&l->names);
    base_free(l->packed_at);
    base_free(l->packed_slot);
    base_free(l->name_at);
}

static rotor_status load(rag_index *x, rag_db *db, bool few, rotor_error *err) {
    rag_loader l = {.x = x, .err = err};
    memset(x, 0, sizeof *x);
    const rotor_status st = load_parts(&l, db, few);
    rag_loader_free(&l);
    if (st != ROTOR_OK) rag_index_free(x);
    return st;
}

rotor_status rag_index_load(rag_index *x, rag_db *db, rotor_error *err) {
    return load(x, db, false, err);
}

rotor_status rag_index_load_few(rag_index *x, rag_db *db, rotor_error *err) {
    return load(x, db, true, err);
}

void rag_index_free(rag_index *x) {
    for (size_t i = 0; i < x->n_docs; i++) {
        base_free(x->docs[i].path);
        base_free(x->docs[i].key);
        base_free(x->docs[i].title);
        base_free(x->docs[i].meta);
    }
    base_map_free(&x->terms);
    for (size_t i = 0; i < x->n_term_text; i++) base_free(x->term_text[i]);
    void *const parts[] = {x->docs, x->chunk, x->doc,  x->length, x->term_text,
                           x->at,   x->slot,  x->body, x->head,   x->n_docs_with};
    for (size_t i = 0; i < BASE_COUNT(parts); i++) base_free(parts[i]);
    rag_index_drop_matrix(x);
    memset(x, 0, sizeof *x);
}

/* ==== The best of many ======================================================================== */

bool rag_rank_before(rag_rank a, rag_rank b) {
    return a.score > b.score || (a.score == b.score && a.unit < b.unit);
}

/* The worst of the heap is at its top; [at] may be better than those below it. */
static void sink(rag_rank *heap, size_t at, size_t n) {
    for (;;) {
        size_t worst = at;
        for (size_t c = 2 * at + 1; c < 2 * at + 3 && c < n; c++)
            if (rag_rank_before(heap[worst], heap[c])) worst = c;
        if (worst == at) return;
        const rag_rank t = heap[at];
        heap[at] = heap[worst];
        heap[worst] = t;
        at = worst;
    }
}

void rag_rank_push(rag_rank *heap, size_t *n, size_t most, rag_rank r) {
    if (*n == most) {
        if (!most || !rag_rank_before(r, heap[0])) return;
        heap[0] = r;
        sink(heap, 0, most);
        return;
    }
    size_t at = (*n)++;
    for (; at && rag_rank_before(heap[(at - 1) / 2], r); at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = r;
}

void rag_rank_sort(rag_rank *heap, size_t n) {
    for (size_t i = n / 2; i-- > 0;) sink(heap, i, n);
    for (size_t i = n; i-- > 1;) {
        const rag_rank t = heap[0];
        heap[0] = heap[i];
        heap[i] = t;
        sink(heap, 0, i);
    }
}
