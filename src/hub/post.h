/* SPDX-License-Identifier: MIT
 *
 * post: the program's second door to other machines (the first is fetch.h): one JSON text is sent
 * to the address of an endpoint, one answer is taken, with libcurl.
 *
 * What is promised here, and nowhere else:
 *   - the key goes to the address that was named and to no other: a redirect is not followed, it is
 *     said where it leads;
 *   - an answer has at most as many bytes as the caller allows, and is given up when it is not
 * whole after whole_s, however it trickles;
 *   - texts for this machine go to no proxy; others go where the environment says (https_proxy,
 *     no_proxy …, as libcurl reads them);
 *   - what may pass (429, 408, 5xx, a lost or silent connection) is tried again, later and later or
 *     when the server says, as often as `retries` says; waiting ends about a second after go_on
 *     says no, or when the system has looked a name up.
 * Threading: one thread at a time. Without libcurl, post_open says what is missing.
 */
#ifndef POST_H
#define POST_H

#include "base/base.h"

typedef struct post post;

typedef struct post_options {
    const char *url;           /* whole, without a key in it */
    const char *key;           /* bearer token; NULL: none */
    uint32_t connect_s;        /* seconds until an address has answered */
    uint32_t stall_s;          /* seconds without a byte, in either direction */
    uint32_t whole_s;          /* seconds of a try in all, from connecting to the last byte */
    uint32_t retries;          /* after a try that failed in passing */
    uint32_t pause_s;          /* the longest before one; 0: 30, 120 where the server says so */
    bool (*go_on)(void *user); /* asked at least once a second; false ends it. NULL: always */
    void *user;                /* for go_on */
    const base_log *log;       /* each retry and its reason; may be NULL */
} post_options;

/* Nothing is sent yet. ROTOR_E_ARG: not an address, or a key that no header can hold. */
rotor_status post_open(post **out, const post_options *opt, rotor_error *err);
void post_close(post **p); /* NULL is fine */
/* The last answer's text and status, whatever that is: one that may pass is tried again before.
 * ROTOR_E_IO: no answer; ROTOR_E_FORMAT: one of more than max_bytes; ROTOR_E_CANCELLED. */
rotor_status post_send(post *p, base_str body, size_t max_bytes, long *status, base_buf *answer,
                       rotor_error *err);
/* Where the last answer's redirect leads; "": it was none. */
const char *post_leads_to(const post *p);

#endif
