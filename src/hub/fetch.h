/* SPDX-License-Identifier: MIT
 *
 * fetch: the program's door to other machines for downloads (post.h is the other). GET and HEAD
 * over HTTP(S) with libcurl.
 *
 * What is promised here, and nowhere else:
 *   - the token goes to the scheme, host and port of `home` and to no other, whatever redirects;
 *   - a redirect never leads from https to http, nor to another protocol;
 *   - connections that fail, are cut, stand still, or are told to wait are tried again, later and
 *     later, as long as `retries` times in a row bring not one byte;
 *   - a signed link that has expired is asked for again at the address that gave it.
 * Large ranges come over several connections and are handed on in order.
 * Threading: one thread at a time. Without libcurl, fetch_open says what is missing.
 */
#ifndef FETCH_H
#define FETCH_H

#include "base/base.h"

typedef struct fetch fetch;

typedef struct fetch_options {
    const char *home;          /* "https://host[:port]": who may see the token */
    const char *token;         /* NULL: none */
    uint32_t connect_s;        /* seconds until an address has answered */
    uint32_t stall_s;          /* seconds without a byte after which a connection is given up */
    uint32_t retries;          /* in a row without a byte */
    uint32_t connections;      /* for a large range; 1: one */
    bool (*go_on)(void *user); /* asked several times a second; false ends it. NULL: always */
    void *user;                /* for go_on */
    const base_log *log;       /* each retry and its reason; may be NULL */
} fetch_options;

rotor_status fetch_open(fetch **out, const fetch_options *opt, rotor_error *err);
void fetch_close(fetch **f);

/* What a server says about a file without sending it. */
typedef struct fetch_facts {
    char etag[160];  /* of what the address stands for, without quotes; "": not said */
    char commit[80]; /* of the repository; "": not said */
    uint64_t bytes;  /* size of the file */
    bool has_bytes;  /* it was said */
} fetch_facts;
/* Follows redirects within home only: what lies behind another host is not asked. */
rotor_status fetch_facts_of(fetch *f, const char *url, fetch_facts *out, rotor_error *err);

/* A small text, whole. ROTOR_E_NOTFOUND: there is none (404). */
rotor_status fetch_text(fetch *f, const char *url, size_t max_bytes, base_buf *out,
                        rotor_error *err);

typedef rotor_status (*fetch_sink)(void *user, const void *p, size_t n_bytes, rotor_error *err);
/* Bytes [begin, end) of a file, in order. ROTOR_E_FULL: the file has not so many (416). */
rotor_status fetch_bytes(fetch *f, const char *url, uint64_t begin, uint64_t end, fetch_sink sink,
                         void *user, rotor_error *err);

#endif
