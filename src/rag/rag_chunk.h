/* SPDX-License-Identifier: MIT
 *
 * rag_chunk: a text into blocks by its form, and blocks into passages of about two hundred tokens.
 */
#ifndef RAG_CHUNK_H
#define RAG_CHUNK_H

#include "base/base.h"

enum {
    RAG_TARGET_TOK = 200, /* a passage is closed at about so many */
    RAG_MAX_TOK = 240,    /* and never has more */
    RAG_MIN_TOK = 40,     /* one with fewer joins its neighbour where that fits */
    RAG_PIPELINE = 1      /* revision of readers and chunker: another one reads files again */
};

typedef enum rag_block_kind { RAG_PROSE, RAG_HEADING, RAG_CODE, RAG_TABLE } rag_block_kind;

/* A stretch of a text that belongs together. */
typedef struct rag_block {
    rag_block_kind kind;      /* what it is */
    int level;                /* of a heading, from 1 */
    size_t begin, end;        /* bytes */
    uint32_t page;            /* from 1; 0: no pages */
    uint32_t line, last_line; /* of the file, where the reader knows them; else 0 */
} rag_block;

typedef struct rag_blocks {
    rag_block *list; /* [n], in order, owned */
    size_t n, cap;   /* in use; allocated */
} rag_blocks;
rotor_status rag_blocks_push(rag_blocks *b, rag_block block);
void rag_blocks_free(rag_blocks *b);

typedef enum rag_form { RAG_FORM_TEXT, RAG_FORM_MARKDOWN, RAG_FORM_CODE } rag_form;
/* The blocks of text, which is UTF-8 with \n line ends. *front: bytes of a Markdown file's front
 * matter, which is in no block. */
rotor_status rag_blocks_of(base_str text, rag_form form, rag_blocks *out, size_t *front);

/* A passage. */
typedef struct rag_passage {
    size_t begin, end;        /* bytes of the text */
    uint32_t page, last_page; /* as in its blocks */
    uint32_t line, last_line; /* likewise */
    uint32_t n_tok;           /* about */
    const char *heading;      /* headings above it, " › " between; borrowed until fn returns */
} rag_passage;
/* Calls fn for each, in order; together they hold every character that shows, once. */
rotor_status rag_chunk(base_str text, const rag_blocks *blocks,
                       rotor_status (*fn)(void *user, const rag_passage *p), void *user);

#endif
