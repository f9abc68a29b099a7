/* SPDX-License-Identifier: MIT
 *
 * A bounded memory of JSON texts by id, for the Responses protocol. Any thread.
 */
#ifndef SERVE_RESPONSE_STORE_H
#define SERVE_RESPONSE_STORE_H

#include <jansson.h>

#include "base/base.h"

typedef struct serve_store serve_store;

rotor_status serve_store_create(serve_store **out);
void serve_store_free(serve_store **s); /* NULL is fine; *s becomes NULL */
/* Keeps a copy, and forgets the oldest where there is no room. What is larger than 8 MiB, or finds
 * no memory, is not kept. */
void serve_store_put(serve_store *s, const char *id, const char *text, size_t n_bytes);
/* A new reference; NULL: there is none of that id (any more). */
json_t *serve_store_get(serve_store *s, const char *id);
/* Forgets it. False: there was none. */
bool serve_store_drop(serve_store *s, const char *id);

#endif
