/* SPDX-License-Identifier: MIT
 *
 * Vectors of texts from a server that speaks as OpenAI's API does: texts in batches, a batch that
 * is refused in halves, a text that is refused alone cut shorter, as models on this machine cut
 * what is too long for them.
 */
#include "hub/endpoint.h"
#include "hub/hub.h"
#include "hub/post.h"

#include <stdio.h>

enum {
    TEXTS = 32,             /* of a request, at most */
    TEXT_BYTES = 256 << 10, /* of them together, unless one has more */
    FLOATS = 1 << 17,       /* of an answer: as JSON they take dozens of times their bytes here */
    SHORTEST = 128,         /* bytes of a text that is not cut any more */
    ANSWER_BYTES = 1 << 20, /* beside the numbers of an answer */
    FLOAT_BYTES = 40        /* a number as text, with what is around it */
};

struct hub_endpoint {
    post *door;           /* owned */
    endpoint_address at;  /* owned */
    char *key;            /* owned; NULL: none. For what must not be shown */
    size_t dims;          /* floats of a vector; 0: not known yet */
    base_buf ask, answer; /* of the last request; owned */
    const base_log *log;  /* may be NULL */
};

bool hub_is_endpoint(const char *word) { return base_url_is(word, "http", "https"); }
const char *hub_endpoint_model(const hub_endpoint *e) { return e->at.model; }
size_t hub_endpoint_dims(const hub_endpoint *e) { return e->dims; }

/* ==== One request ============================================================================= */

static const char *advice_for(const hub_endpoint *e, long status) {
    if (status == 401 || status == 403)
        return e->key
                   ? ": the key is not taken (ROTOR_EMBED_KEY)"
                   : ": it wants a key: ROTOR_EMBED_KEY or --embed-key-file, with the address in "
                     "--embed-model or ROTOR_EMBED_MODEL";
    if (status == 404 || status == 405)
        return ": no such model, or no such address (most end in /v1)";
    return "";
}

static rotor_status refused(const hub_endpoint *e, long status, rotor_error *err) {
    char said[204];
    char to[204];
    endpoint_plain(post_leads_to(e->door), e->key, to, sizeof to);
    endpoint_complaint((base_str){e->answer.data, e->answer.len}, e->key, said);
    if (status >= 300 && status < 400)
        return base_fail(err, ROTOR_E_IO,
                         "%s: HTTP %ld, it sends elsewhere%s%s: not followed, name that address "
                         "if it is meant",
                         e->at.url, status, *to ? ", to " : "", to);
    return base_fail(err, ROTOR_E_IO, "%s: model '%s': HTTP %ld%s%s%s%s", e->at.url, e->at.model,
                     status, advice_for(e, status), *said ? " (" : "", said, *said ? ")" : "");
}

/* *too_much: the server takes none of this, or not so much at once; err says how it said so. */
static rotor_status ask(hub_endpoint *e, const base_str *texts, size_t n, float *out,
                        bool *too_much, rotor_error *err) {
    const size_t dims = e->dims ? e->dims : ENDPOINT_MAX_DIMS;
    long status;
    *too_much = false;
    base_buf_reset(&e->ask);
    ROTOR_TRY(endpoint_question(&e->ask, e->at.model, texts, n, err));
    ROTOR_TRY(post_send(e->door, (base_str){e->ask.data, e->ask.len},
                        ANSWER_BYTES + n * dims * FLOAT_BYTES, &status, &e->answer, err));
    if (status == 200) {
        const base_str answer = {e->answer.data, e->answer.len};
        const rotor_status st = endpoint_vectors(answer, n, &e->dims, out, err);
        return st == ROTOR_OK ? st : base_fail_in(err, st, "%s", e->at.url);
    }
    *too_much = status == 400 || status == 413 || status == 422 || status == 500;
    return refused(e, status, err);
}

/* ==== Batches ================================================================================= */

static base_str half_of(base_str s) {
    size_t n = s.n / 2;
    while (n && ((unsigned char)s.p[n] & 0xC0) == 0x80) n--;
    return (base_str){s.p, n};
}

/* A text that is refused alone, cut until it is taken. The first refusal is what is said when none
 * of it is. */
static rotor_status ask_shorter(hub_endpoint *e, base_str text, float *out, rotor_error *err) {
    const base_str whole = text;
    bool too_much = true;
    rotor_error why = {0};
    rotor_status st = ROTOR_E_IO;
    while (too_much && (text = half_of(text)).n >= SHORTEST) {
        st = ask(e, &text, 1, out, &too_much, &why);
        if (st == ROTOR_OK)
            base_log_printf(
                e->log, BASE_LOG_WARN,
                "%s refuses a text of %zu bytes (\"%.40s…\"): its first %zu bytes speak "
                "for it",
                e->at.url, whole.n, whole.p, text.n);
        if (st == ROTOR_OK) return st;
    }
    return too_much ? err ? err->code : st : base_fail(err, st, "%s", why.message);
}

static rotor_status ask_batch(hub_endpoint *e, const base_str *texts, size_t n, float *out,
                              rotor_error *err) {
    bool too_much;
    const rotor_status st = ask(e, texts, n, out, &too_much, err);
    if (st == ROTOR_OK || !too_much) return st;
    if (n == 1) return ask_shorter(e, texts[0], out, err);
    ROTOR_TRY(ask_batch(e, texts, n / 2, out, err));
    return ask_batch(e, texts + n / 2, n - n / 2, out + n / 2 * e->dims, err);
}

/* How many of the next texts go together. */
static size_t batch_of(const base_str *texts, size_t n, size_t dims) {
    const size_t most = BASE_MIN(n, BASE_MIN((size_t)TEXTS, FLOATS / dims));
    size_t k = 1, bytes = texts[0].n;
    while (k < most && bytes + texts[k].n <= TEXT_BYTES) bytes += texts[k++].n;
    return k;
}

rotor_status hub_endpoint_embed(hub_endpoint *e, const base_str *texts, size_t n, float *out,
                                rotor_error *err) {
    rotor_error own = {0};
    for (size_t at = 0, k; at < n; at += k) {
        k = batch_of(texts + at, n - at, e->dims);
        ROTOR_TRY(ask_batch(e, texts + at, k, out + at * e->dims, err ? err : &own));
    }
    return ROTOR_OK;
}

/* ==== Opening ================================================================================= */

static void warn_of_open_key(const hub_endpoint *e) {
    if (e->key && base_url_is(e->at.url, "http", "http") && !endpoint_is_here(e->at.url))
        base_log_printf(e->log, BASE_LOG_WARN,
                        "%s: the key goes over the network as it is; https:// would hide it",
                        e->at.url);
}

static rotor_status open_door(hub_endpoint *e, const hub_endpoint_options *o, rotor_error *err) {
    enum { CONNECT_S = 10, STALL_S = 120 };
    const uint32_t stall_s = o->stall_s ? o->stall_s : STALL_S;
    const post_options p = {.url = e->at.url,
                            .key = e->key,
                            .connect_s = o->connect_s ? o->connect_s : CONNECT_S,
                            .stall_s = stall_s,
                            .whole_s = o->whole_s ? o->whole_s : 2 * stall_s,
                            .retries = o->retries,
                            .pause_s = o->pause_s,
                            .go_on = o->go_on,
                            .user = o->user,
                            .log = o->log};
    return post_open(&e->door, &p, err);
}

rotor_status hub_endpoint_open(hub_endpoint **out, const char *address,
                               const hub_endpoint_options *opt, rotor_error *err) {
    static const base_str probe = {"dimensions", 10};
    bool too_much;
    *out = NULL;
    if (opt->dims > ENDPOINT_MAX_DIMS)
        return base_fail(err, ROTOR_E_FORMAT, "%s: vectors of %zu floats: expected at most %d",
                         address, opt->dims, ENDPOINT_MAX_DIMS);
    hub_endpoint *e = base_alloc(sizeof *e);
    if (!e) return base_fail_nomem(err, "opening an endpoint");
    e->log = opt->log;
    e->dims = opt->dims;
    e->key = opt->key ? base_strdup(opt->key) : NULL;
    rotor_status st = endpoint_address_parse(&e->at, address, err);
    if (st == ROTOR_OK && opt->key && !e->key) st = base_fail_nomem(err, "opening an endpoint");
    if (st == ROTOR_OK) st = open_door(e, opt, err);
    if (st == ROTOR_OK) warn_of_open_key(e);
    if (st == ROTOR_OK && !e->dims) st = ask(e, &probe, 1, NULL, &too_much, err);
    if (st == ROTOR_OK)
        *out = e;
    else
        hub_endpoint_close(&e);
    return st;
}

void hub_endpoint_close(hub_endpoint **at) {
    hub_endpoint *e = at ? *at : NULL;
    if (!e) return;
    post_close(&e->door);
    endpoint_address_free(&e->at);
    base_free(e->key);
    base_buf_free(&e->ask);
    base_buf_free(&e->answer);
    base_free(e);
    *at = NULL;
}
