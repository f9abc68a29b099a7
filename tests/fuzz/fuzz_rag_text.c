/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: the first byte picks text, Markdown or code, the rest is a file. What is taken for
 * text becomes UTF-8; its blocks and its passages lie in it, in order, at whole characters, and
 * together the passages have every character that shows, but for front matter.
 */
#include <stdlib.h>

#include "rag/rag_internal.h"
#include "rag/rag_words.h"

typedef struct checker {
    base_str text; /* that is cut */
    size_t at;     /* end of the last passage */
} checker;

static void must(bool ok) {
    if (!ok) abort();
}

static bool is_inside(base_str s, size_t at) {
    return at < s.n && ((unsigned char)s.p[at] & 0xC0) == 0x80;
}

static void must_be_blank(base_str s, size_t from, size_t to) {
    for (size_t i = from; i < to; i++) must((unsigned char)s.p[i] <= ' ');
}

static rotor_status take_passage(void *user, const rag_passage *p) {
    checker *c = user;
    must(p->begin >= c->at && p->begin < p->end && p->end <= c->text.n);
    must(!is_inside(c->text, p->begin) && !is_inside(c->text, p->end));
    must_be_blank(c->text, c->at, p->begin);
    must(p->n_tok <= RAG_MAX_TOK + 8 && p->heading);
    c->at = p->end;
    return ROTOR_OK;
}

static void cut(base_str text, rag_form form) {
    rag_blocks blocks = {0};
    size_t front = 0, last = 0;
    must(rag_blocks_of(text, form, &blocks, &front) == ROTOR_OK && front <= text.n);
    for (size_t i = 0; i < blocks.n; i++) {
        must(blocks.list[i].begin >= last && blocks.list[i].begin <= blocks.list[i].end);
        last = blocks.list[i].end;
    }
    must(last <= text.n);
    checker c = {.text = text, .at = front};
    must(rag_chunk(text, &blocks, take_passage, &c) == ROTOR_OK);
    must_be_blank(text, c.at, text.n);
    rag_blocks_free(&blocks);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const rag_form forms[] = {RAG_FORM_TEXT, RAG_FORM_MARKDOWN, RAG_FORM_CODE};
    base_buf b = {0};
    rotor_error err = {0};
    if (size < 2) return 0;
    base_buf_append(&b, data + 1, size - 1);
    if (b.failed) return 0;
    if (rag_to_utf8(&b, "a file", &err) == ROTOR_OK)
        cut((base_str){b.data, b.len}, forms[data[0] % BASE_COUNT(forms)]);
    else
        must(err.message[0] != 0);
    base_buf_free(&b);
    return 0;
}
