/* SPDX-License-Identifier: MIT
 *
 * A document into the store: its passages, what they are embedded as, and the words in them.
 */
#include "rag/rag_internal.h"
#include "rag/rag_words.h"

#include <stdlib.h>

enum { TITLE_BYTES = 1024 }; /* each passage bears it: longer ones are cut */

/* A word of a passage: number of its term, twice, plus one in a heading. */
typedef struct word_list {
    uint64_t *list; /* [n] owned */
    size_t n, cap;  /* in use; allocated */
} word_list;

typedef struct writer {
    rag *r;                /* store */
    rag_document *d;       /* being put */
    word_list words;       /* of the passage */
    bool head;             /* words now come from title and headings */
    uint32_t n_words;      /* of the passage's text */
    uint32_t ord;          /* number of the next passage */
    size_t line_at;        /* lines are counted up to this byte … */
    uint32_t line;         /* … and this is its line */
    base_buf name, packed; /* what is embedded; terms */
    rag_report *report;    /* counts */
    rotor_error *err;      /* where messages go */
} writer;

static rotor_status take_word(void *user, const rag_term *t) {
    writer *w = user;
    uint32_t id;
    ROTOR_TRY(rag_db_term(w->r->db, t->t, &id, w->err));
    if (w->words.n == w->words.cap) {
        const size_t cap = w->words.cap * 2 + 256;
        uint64_t *more = base_realloc(w->words.list, cap * sizeof *more);
        if (!more) return base_fail_nomem(w->err, "counting words");
        w->words.list = more;
        w->words.cap = cap;
    }
    w->words.list[w->words.n++] = (uint64_t)id << 1 | w->head;
    w->n_words += !w->head && !t->extra;
    return ROTOR_OK;
}

static int by_value(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static rotor_status pack_words(writer *w) {
    const word_list *l = &w->words;
    uint64_t last = 0;
    base_buf_reset(&w->packed);
    qsort(l->list, l->n, sizeof *l->list, by_value);
    for (size_t i = 0; i < l->n;) {
        const uint64_t id = l->list[i] >> 1;
        uint32_t count[2] = {0, 0};
        for (; i < l->n && l->list[i] >> 1 == id; i++) count[l->list[i] & 1]++;
        if (rag_pack_term(&w->packed, (uint32_t)(id - last), count[0], count[1]) != ROTOR_OK)
            return base_fail_nomem(w->err, "counting words");
        last = id;
    }
    return ROTOR_OK;
}

static rotor_status count_words(writer *w, const rag_passage *p) {
    w->words.n = 0;
    w->n_words = 0;
    w->head = true;
    ROTOR_TRY(rag_terms_of(base_str_of(w->d->row.title), take_word, w));
    ROTOR_TRY(rag_terms_of(base_str_of(p->heading), take_word, w));
    w->head = false;
    ROTOR_TRY(rag_terms_of((base_str){w->d->text.p + p->begin, p->end - p->begin}, take_word, w));
    return pack_words(w);
}

/* Two passages of one name are embedded alike: one vector serves both. */
static rotor_status name_passage(writer *w, const rag_passage *p, uint8_t hash[RAG_HASH]) {
    base_buf_reset(&w->name);
    base_buf_puts(&w->name, w->d->row.title);
    base_buf_append(&w->name, "", 1);
    base_buf_puts(&w->name, p->heading);
    base_buf_append(&w->name, "", 1);
    base_buf_append(&w->name, w->d->text.p + p->begin, p->end - p->begin);
    if (w->name.failed) return base_fail_nomem(w->err, "naming a passage");
    base_sha256(w->name.data, w->name.len, hash);
    return ROTOR_OK;
}

static uint32_t line_of(writer *w, size_t at) {
    if (!w->d->own_lines) return w->d->row.line;
    if (at < w->line_at) w->line_at = 0, w->line = w->d->row.line;
    for (; w->line_at < at; w->line_at++) w->line += w->d->text.p[w->line_at] == '\n';
    return w->line;
}

static rotor_status put_passage(void *user, const rag_passage *p) {
    writer *w = user;
    rag_db_chunk c = {.doc = w->d->row.id,
                      .ord = w->ord++,
                      .heading = p->heading,
                      .begin = p->begin,
                      .end = p->end,
                      .page = p->page,
                      .last_page = p->last_page,
                      .n_tok = p->n_tok};
    ROTOR_TRY(count_words(w, p));
    ROTOR_TRY(name_passage(w, p, c.hash));
    c.line = p->line ? p->line : line_of(w, p->begin);
    c.last_line =
        p->last_line ? p->last_line : line_of(w, p->end > p->begin ? p->end - 1 : p->begin);
    c.n_words = w->n_words;
    c.terms = (base_str){w->packed.data, w->packed.len};
    w->report->n_chunks++;
    return rag_db_put_chunk(w->r->db, &c, w->err);
}

static rotor_status hash_document(rag_document *d, rotor_error *err) {
    base_buf all = {0};
    base_buf_puts(&all, d->row.title);
    base_buf_append(&all, "", 1);
    base_buf_puts(&all, d->row.meta);
    base_buf_append(&all, "", 1);
    base_buf_append(&all, d->text.p, d->text.n);
    base_buf_printf(&all, "%c%d", 0, RAG_PIPELINE);
    if (!all.failed) base_sha256(all.data, all.len, d->row.hash);
    base_buf_free(&all);
    return all.failed ? base_fail_nomem(err, "adding a document") : ROTOR_OK;
}

static rotor_status write_document(writer *w, int64_t run) {
    rag_document *d = w->d;
    ROTOR_TRY(rag_db_put_doc(w->r->db, &d->row, d->text, run, w->err));
    w->line = d->row.line;
    w->report->n_docs++;
    for (size_t i = 0; d->is_cut && i < d->n_passages; i++)
        ROTOR_TRY(put_passage(w, &d->passages[i]));
    if (d->is_cut) return ROTOR_OK;
    rotor_status st = rag_chunk(d->text, d->blocks, put_passage, w);
    if (st == ROTOR_E_NOMEM) base_fail_nomem(w->err, "cutting a document into passages");
    return st;
}

static rotor_status put_document(rag *r, rag_document *d, int64_t run, rag_report *report,
                                 rotor_error *err) {
    uint8_t before[RAG_HASH];
    int64_t id;
    writer w = {.r = r, .d = d, .report = report, .err = err};
    if (!d->is_cut) ROTOR_TRY(hash_document(d, err));
    ROTOR_TRY(rag_db_find_doc(r->db, d->row.file, d->row.key, &id, before, err));
    if (id && memcmp(before, d->row.hash, RAG_HASH) == 0)
        return rag_db_touch_doc(r->db, id, d->row.line, run, err);
    ROTOR_TRY(rag_db_mark(r->db, err));
    rotor_status st = write_document(&w, run);
    if (st == ROTOR_OK) st = rag_db_keep(r->db, err);
    if (st != ROTOR_OK) rag_db_take_back(r->db);
    base_free(w.words.list);
    base_buf_free(&w.name);
    base_buf_free(&w.packed);
    return st;
}

rotor_status rag_put_document(rag *r, rag_document *d, int64_t run, rag_report *report,
                              rotor_error *err) {
    const char *title = d->row.title;
    if (strlen(title) <= TITLE_BYTES) return put_document(r, d, run, report, err);
    size_t n = TITLE_BYTES;
    while (n && ((unsigned char)title[n] & 0xC0) == 0x80) n--; /* whole characters */
    char *cut = base_strndup(title, n);
    if (!cut) return base_fail_nomem(err, "adding a document");
    d->row.title = cut;
    const rotor_status st = put_document(r, d, run, report, err);
    d->row.title = title;
    base_free(cut);
    return st;
}
