/* SPDX-License-Identifier: MIT
 *
 * A connection to a PostgreSQL server on which no wait is without end: a server that neither
 * answers nor hangs up is given up, and so is one that the program wants to wait for no longer.
 *
 * libpq sends and reads without blocking; the waiting is done here. What is given up is closed: the
 * server undoes what was begun when it notices.
 */
#ifndef RAG_LINK_H
#define RAG_LINK_H

#include "rag/rag.h"
#include "rag/rag_libpq.h"

typedef enum rag_given_up { RAG_LINK_HELD, RAG_LINK_SILENT, RAG_LINK_CANCELLED } rag_given_up;

typedef struct rag_link {
    const rag_libpq *f;    /* libpq's functions */
    const char *url;       /* of the server, borrowed */
    const char *name;      /* the same for messages, borrowed */
    rag_patience patience; /* asked while waiting */
    PGconn *c;             /* owned; NULL: given up, or not connected yet */
    rag_given_up gave_up;  /* why, since it was connected last */
    uint64_t connect_us;   /* how long a connection may take; 0: for ever */
    uint64_t limit_us;     /* how long the server may say nothing at all; 0: for ever */
    uint64_t heard_us;     /* when it was heard, or asked, last */
    uint64_t looked_us;    /* likewise, or when it was seen to be there */
    uint64_t asked_us;     /* when the program was asked whether it wants more */
    uint64_t impatient_us; /* when the program was seen to want no more; 0: it does not */
} rag_link;

/* In place of the one there was. Waits for connect_timeout, ten seconds if the address and the
 * environment have none, for each of its hosts. */
rotor_status rag_link_connect(rag_link *l, rotor_error *err);
void rag_link_close(rag_link *l); /* none: nothing happens */
bool rag_link_is_lost(const rag_link *l);
/* The last result of what one of libpq's functions has begun to send (sent: it said so), to be
 * cleared; NULL: it was given up, or there is no memory. */
PGresult *rag_link_answer(rag_link *l, int sent);
/* Between the parts of a long answer: false where the program wants no more of it, which gives the
 * connection up. */
bool rag_link_goes_on(rag_link *l);
/* Why it was given up. */
rotor_status rag_link_fail(const rag_link *l, rotor_error *err);
/* One line of what may be several. */
void rag_one_line(char *out, size_t out_bytes, const char *said);

#endif
