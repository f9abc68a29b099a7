/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: any bytes as a query. Nothing in it is a mistake: phrases lie one behind the other
 * and have words, terms are as short as they are said to be, and their numbers hold.
 */
#include <stdlib.h>

#include "rag/rag_internal.h"
#include "rag/rag_words.h"

static void must(bool ok) {
    if (!ok) abort();
}

static rotor_status take_term(void *user, const rag_term *t) {
    size_t *n = user;
    must(t->t.n > 0 && t->t.n <= RAG_MAX_TERM);
    ++*n;
    return ROTOR_OK;
}

static void check_phrases(base_str query) {
    rag_phrase p;
    for (size_t at = 0; rag_next_phrase(query, at, &p); at = p.end) {
        size_t n = 0;
        must(p.begin >= at && p.begin < p.end && p.end <= query.n);
        must(p.words.p > query.p + p.begin && p.words.p + p.words.n < query.p + p.end);
        must(rag_words_of(p.words, take_term, &n) == ROTOR_OK && n);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static rag_lex_query q;
    const rag_index nothing = {0}, *const store = &nothing;
    rag_lex_query *const asked = &q;
    const base_str query = {size ? (const char *)data : "", size};
    size_t n = 0;
    check_phrases(query);
    must(rag_terms_of(query, take_term, &n) == ROTOR_OK);
    must(rag_lex_parse(&asked, &store, 1, query, false) == ROTOR_OK && q.n <= RAG_MAX_QUERY_TERMS);
    for (size_t i = 0; i < q.n; i++) must(q.terms[i].id == UINT32_MAX && q.terms[i].count >= 1);
    return 0;
}
