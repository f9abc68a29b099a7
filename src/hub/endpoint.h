/* SPDX-License-Identifier: MIT
 *
 * What an endpoint for vectors is asked and answers, without the wire: tested by itself.
 */
#ifndef ENDPOINT_H
#define ENDPOINT_H

#include "base/base.h"

enum { ENDPOINT_MAX_DIMS = 1 << 16 };

/* "http://HOST:PORT/v1#MODEL" taken apart. */
typedef struct endpoint_address {
    char *url;   /* to post to: "http://HOST:PORT/v1/embeddings"; owned */
    char *model; /* owned */
} endpoint_address;
/* ROTOR_E_ARG: it has no model, or what may hold a secret (user, password, settings). */
rotor_status endpoint_address_parse(endpoint_address *a, const char *word, rotor_error *err);
void endpoint_address_free(endpoint_address *a);

/* {"model":…,"input":[…],"encoding_format":"float"}; what is not UTF-8 becomes U+FFFD. */
rotor_status endpoint_question(base_buf *out, const char *model, const base_str *texts, size_t n,
                               rotor_error *err);
/* The vectors of an answer in the order of its "index", each of length one, to out[n][*dims].
 * *dims 0: not known yet, found out here, and out (NULL) gets nothing. ROTOR_E_FORMAT: it is not
 * that: not n of them, other dims, not finite, without length. */
rotor_status endpoint_vectors(base_str answer, size_t n, size_t *dims, float *out,
                              rotor_error *err);
/* Is the host of that address this machine, by its name? */
bool endpoint_is_here(const char *url);
/* What a server said as it may be shown, to out[cap]: control characters, also those of 8 bits,
 * become spaces; whole letters, at most cap - 4 bytes; "": the key (NULL: none) is in it. */
void endpoint_plain(const char *said, const char *key, char *out, size_t cap);
/* The same of an answer that refuses, at most 200 bytes; "": it says nothing. */
void endpoint_complaint(base_str answer, const char *key, char out[204]);

#endif
