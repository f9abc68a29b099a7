/* SPDX-License-Identifier: MIT
 *
 * What the files of the rag room's public face share.
 */
#ifndef API_RAG_H
#define API_RAG_H

#include "rag/rag.h"
#include "rotor_rag.h"

struct rotor_rag {
    rag *r;                    /* owned */
    rag_embedder embedder;     /* embed NULL: none */
    rotor_rag_embedder source; /* the caller's, where it is no engine */
    char *name, *path;         /* of the model, owned */
    char *label;               /* what hits call it, owned */
    rotor_rag_options opt;     /* for its log */
    int64_t embedded;          /* the last passage that rotor_rag_embed has looked at */
};

/* The same hit, its strings borrowed. */
void api_give_hit(rotor_rag_hit *to, const rag_hit *h, rotor_rag *const *stores);
/* The rooms' stores, to list[RAG_MAX_STORES]. ROTOR_E_ARG: one is NULL, or they are none or too
 * many; who: the function that was called. */
rotor_status api_take_stores(rag **list, rotor_rag *const *stores, size_t n, const char *who,
                             rotor_error *err);
/* The room's query for the user's; NULL: the default. */
rotor_status api_take_query(rag_query *q, const rotor_rag_query *user, rotor_error *err);

#endif
