/* SPDX-License-Identifier: MIT
 *
 * rag_words: from text to the terms that keyword search counts, the same for documents and queries.
 */
#ifndef RAG_WORDS_H
#define RAG_WORDS_H

#include "base/base.h"

enum { RAG_MAX_TERM = 64 }; /* bytes of a term; longer words are cut */

/* One term of a text. */
typedef struct rag_term {
    base_str t;    /* lower case, without accents, stemmed where it is an English word */
    uint32_t word; /* which word of the text, from 0: parts and whole of a compound share one */
    bool extra;    /* the joined form of a compound, beside its parts: not counted in lengths */
    bool stop;     /* a word that a query leaves out */
} rag_term;

typedef rotor_status (*rag_term_fn)(void *user, const rag_term *term);
/* Calls fn for every term; ends early with what fn fails with. Any bytes are fine. */
rotor_status rag_terms_of(base_str text, rag_term_fn fn, void *user);

/* The same words as they are written, but for case and accents: none is stemmed. */
rotor_status rag_words_of(base_str text, rag_term_fn fn, void *user);

/* Tokens a WordPiece vocabulary makes of a text, about; no vocabulary is asked, so that chunks do
 * not depend on the model they are embedded with. */
size_t rag_tokens_about(base_str text);

/* Stems w[0, n), lower-case ASCII letters, in place; returns the new length, at most n. */
size_t rag_stem(char *w, size_t n);

#endif
