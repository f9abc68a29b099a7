/* SPDX-License-Identifier: MIT
 *
 * Fetching with libcurl: redirects, retries and order are ours, the wire is the library's.
 *
 * A range is cut into pieces; each connection works on one:
 *
 *     begin      front                                              end
 *       |-- in the sink --|==== piece ====|==== piece ====|== piece ==| …
 *                          as it comes      kept until it is its turn
 *
 * Only the front piece goes to the sink as it comes; the others wait in memory, at most PIECE_MAX
 * each. So what the sink has seen is always a beginning, and a program that is killed can go on at
 * the byte where its file ends.
 */
#include "hub/fetch.h"
#include "hub/hub.h"
#include "hub/late_curl.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum {
    MAX_CONNECTIONS = 16,
    MAX_HOPS = 8,
    PIECE_MIN = 256 << 10,
    RECEIVE_BYTES = 512 << 10, /* at once from a connection: the most of libcurl before 8.7 */
    PIECE_MAX = 16 << 20,
    FIRST_WAIT_US = 250000,
    MAX_WAIT_S = 60,      /* between retries of our own */
    MAX_TOLD_WAIT_S = 600 /* when a server says how long */
};

struct fetch {
    fetch_options opt;           /* strings owned below */
    CURLM *multi;                /* owned */
    CURL *easy[MAX_CONNECTIONS]; /* owned; kept so that connections are used again */
    char *home;                  /* owned; opt.home as scheme://host:port */
    char *token;                 /* owned; NULL: none */
    char *signed_url;            /* owned; where the last large file really lies; NULL: not known */
    bool reached;                /* some server has answered */
};

typedef enum phase { IDLE, WAITING, RUNNING, DONE, FAILED } phase;

/* What an answer's header lines say. */
typedef struct answer {
    fetch_facts facts;   /* linked ones win over plain ones */
    bool linked_etag;    /* facts.etag is the linked one */
    bool linked_bytes;   /* likewise */
    uint64_t first_byte; /* of a Content-Range */
    char why[200];       /* X-Error-Message */
    char code[60];       /* X-Error-Code */
    long retry_after_s;  /* -1: not said */
} answer;

/* One piece on one connection. */
typedef struct transfer {
    fetch *f;                        /* whose */
    CURL *h;                         /* borrowed from f */
    struct curl_slist *lines;        /* owned header lines */
    const char *first_url;           /* borrowed; the address asked for */
    char *url;                       /* owned; where it leads now */
    uint64_t begin, end;             /* the piece; end UINT64_MAX: as much as there is */
    uint64_t got;                    /* bytes of it received */
    uint64_t got_before;             /* when this try began */
    uint64_t skip;                   /* bytes to drop: the answer begins earlier than asked */
    uint64_t wake_us;                /* WAITING: until then */
    uint64_t heard_us;               /* RUNNING: when something last came, or it began */
    base_buf ready;                  /* received and not yet in the sink */
    answer a;                        /* of this try */
    phase phase;                     /* state */
    uint32_t tries, hops;            /* in a row without a byte; redirects followed */
    bool head, begun;                /* no body is asked for; the body has begun */
    char curl_says[CURL_ERROR_SIZE]; /* why the library gave up */
    rotor_error err;                 /* FAILED: why */
} transfer;

/* What a call wants. */
typedef struct want {
    const char *url;     /* borrowed */
    uint64_t begin, end; /* bytes; end UINT64_MAX: all there are */
    uint64_t piece;      /* bytes of a piece */
    size_t n_transfers;  /* connections */
    bool head;           /* facts only */
    size_t max_bytes;    /* of an answer without a known end */
    fetch_sink sink;     /* where bytes go */
    void *user;          /* for sink */
    uint64_t next;       /* first byte that no piece covers yet */
    uint64_t front;      /* first byte that is not in the sink */
} want;

/* ==== Addresses =============================================================================== */

/* scheme://host:port in lower case, the port always said; base_free. NULL: no such address. */
static char *origin_of(const char *url) {
    CURLU *u = curl()->url();
    char *scheme = NULL, *host = NULL, *port = NULL;
    base_buf b = {0};
    if (u && curl()->url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl()->url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        curl()->url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
        curl()->url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK)
        base_buf_printf(&b, "%s://%s:%s", scheme, host, port);
    curl()->free(scheme);
    curl()->free(host);
    curl()->free(port);
    curl()->url_cleanup(u);
    for (size_t i = 0; i < b.len; i++)
        if (b.data[i] >= 'A' && b.data[i] <= 'Z') b.data[i] = (char)(b.data[i] + 32);
    if (b.failed) base_buf_free(&b);
    return b.data;
}

static bool at_home(const fetch *f, const char *url) {
    char *origin = origin_of(url);
    const bool same = origin && strcmp(origin, f->home) == 0;
    base_free(origin);
    return same;
}

static bool has_scheme(const char *url, const char *scheme) {
    return strncasecmp(url, scheme, strlen(scheme)) == 0;
}

/* ==== Answers ================================================================================= */

static bool header_is(const char *line, size_t n, const char *name, base_str *value) {
    const size_t k = strlen(name);
    if (n <= k || line[k] != ':' || strncasecmp(line, name, k) != 0) return false;
    const char *p = line + k + 1, *end = line + n;
    while (p < end && (*p == ' ' || *p == '\t')) p++;
    while (end > p && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ')) end--;
    *value = (base_str){p, (size_t)(end - p)};
    return true;
}

static void keep(char *to, size_t cap, base_str v) {
    snprintf(to, cap, "%.*s", (int)BASE_MIN(v.n, cap - 1), v.p);
    for (char *p = to; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 127) *p = ' '; /* it will be shown */
}

/* W/"abc" and "abc" to abc; what could not be a file name is no etag. */
static void keep_etag(char *to, size_t cap, base_str v) {
    if (v.n > 2 && v.p[0] == 'W' && v.p[1] == '/') v = (base_str){v.p + 2, v.n - 2};
    if (v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"') v = (base_str){v.p + 1, v.n - 2};
    *to = 0;
    for (size_t i = 0; i < v.n; i++) {
        const char c = v.p[i];
        const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
                           (c >= 'A' && c <= 'Z') || c == '-' || c == '_';
        if (!plain) return;
    }
    if (v.n < cap) keep(to, cap, v);
}

static bool number_of(base_str v, uint64_t *out) {
    *out = 0;
    for (size_t i = 0; i < v.n; i++) {
        if (v.p[i] < '0' || v.p[i] > '9' || *out > UINT64_MAX / 10 - 9) return false;
        *out = *out * 10 + (uint64_t)(v.p[i] - '0');
    }
    return v.n > 0;
}

static void content_range(answer *a, base_str v) { /* bytes 0-99/1234 */
    const char *dash = v.n ? memchr(v.p, '-', v.n) : NULL;
    if (v.n > 6 && strncasecmp(v.p, "bytes ", 6) == 0 && dash)
        number_of((base_str){v.p + 6, (size_t)(dash - v.p) - 6}, &a->first_byte);
}

static size_t on_header(char *line, size_t size, size_t n, void *user) {
    transfer *t = user;
    answer *a = &t->a;
    base_str v;
    uint64_t number;
    (void)size;
    t->heard_us = base_now_us();
    if (n > 5 && strncmp(line, "HTTP/", 5) == 0) {
        *a = (answer){.retry_after_s = -1, .first_byte = UINT64_MAX};
        return n;
    }
    if (header_is(line, n, "x-linked-etag", &v)) {
        keep_etag(a->facts.etag, sizeof a->facts.etag, v);
        a->linked_etag = true;
    } else if (header_is(line, n, "etag", &v) && !a->linked_etag) {
        keep_etag(a->facts.etag, sizeof a->facts.etag, v);
    } else if (header_is(line, n, "x-linked-size", &v)) {
        a->facts.has_bytes = a->linked_bytes = number_of(v, &a->facts.bytes);
    } else if (header_is(line, n, "content-length", &v) && !a->linked_bytes) {
        a->facts.has_bytes = number_of(v, &a->facts.bytes);
    } else if (header_is(line, n, "x-repo-commit", &v)) {
        keep(a->facts.commit, sizeof a->facts.commit, v);
    } else if (header_is(line, n, "x-error-message", &v)) {
        keep(a->why, sizeof a->why, v);
    } else if (header_is(line, n, "x-error-code", &v)) {
        keep(a->code, sizeof a->code, v);
    } else if (header_is(line, n, "content-range", &v)) {
        content_range(a, v);
    } else if (header_is(line, n, "retry-after", &v) && number_of(v, &number)) {
        a->retry_after_s = (long)BASE_MIN(number, (uint64_t)MAX_TOLD_WAIT_S);
    }
    return n;
}

static long status_of(const transfer *t) {
    long status = 0;
    curl()->easy_getinfo(t->h, CURLINFO_RESPONSE_CODE, &status);
    return status;
}

/* The first bytes of an answer: do they begin where they should? */
static bool body_begins(transfer *t) {
    const uint64_t asked = t->begin + t->got;
    t->begun = true;
    t->skip = 0;
    if (status_of(t) == 200) { /* a server without ranges sends all of it */
        t->skip = asked;
        return true;
    }
    return t->a.first_byte == asked;
}

static size_t on_body(char *p, size_t size, size_t n, void *user) {
    transfer *t = user;
    const long status = status_of(t);
    (void)size;
    t->f->reached = true;
    t->heard_us = base_now_us();
    if (status != 200 && status != 206) return n; /* the text of a refusal */
    if (!t->begun && !body_begins(t)) return 0;
    const size_t drop = (size_t)BASE_MIN(t->skip, (uint64_t)n);
    const uint64_t left = t->end - t->begin - t->got;
    const size_t take = (size_t)BASE_MIN((uint64_t)(n - drop), left);
    t->skip -= drop;
    if (!base_buf_append(&t->ready, p + drop, take)) {
        base_fail_nomem(&t->err, "downloading");
        return 0;
    }
    t->got += take;
    return drop + take == n ? n : 0; /* more than was asked for is left on the wire */
}

/* ==== One try ================================================================================= */

static rotor_status add_line(transfer *t, const char *fmt, const char *value) {
    base_buf b = {0};
    base_buf_printf(&b, fmt, value);
    struct curl_slist *more = b.failed ? NULL : curl()->slist_append(t->lines, b.data);
    base_buf_free(&b);
    if (!more) return base_fail_nomem(&t->err, "downloading");
    t->lines = more;
    return ROTOR_OK;
}

static void set_limits(const transfer *t) {
    const fetch_options *o = &t->f->opt;
    CURL *h = t->h;
    curl()->easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl()->easy_setopt(h, CURLOPT_BUFFERSIZE, (long)RECEIVE_BYTES);
    curl()->easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L);
    curl()->easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* one piece each */
    curl()->easy_setopt(h, CURLOPT_CONNECTTIMEOUT, (long)o->connect_s);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl()->easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl()->easy_setopt(h, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

static rotor_status start(transfer *t) {
    char range[64];
    CURL *h = t->h;
    curl()->easy_reset(h);
    curl()->slist_free_all(t->lines);
    t->lines = NULL;
    t->begun = false;
    t->a = (answer){.retry_after_s = -1, .first_byte = UINT64_MAX};
    t->got_before = t->got;
    *t->curl_says = 0;
    set_limits(t);
    ROTOR_TRY(add_line(t, "User-Agent: rotor/%s", ROTOR_VERSION));
    if (t->f->token && at_home(t->f, t->url))
        ROTOR_TRY(add_line(t, "Authorization: Bearer %s", t->f->token));
    if (t->end != UINT64_MAX) {
        snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)(t->begin + t->got),
                 (unsigned long long)(t->end - 1));
        curl()->easy_setopt(h, CURLOPT_RANGE, range);
    }
    curl()->easy_setopt(h, CURLOPT_URL, t->url);
    curl()->easy_setopt(h, CURLOPT_NOBODY, (long)t->head);
    curl()->easy_setopt(h, CURLOPT_HTTPHEADER, t->lines);
    curl()->easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
    curl()->easy_setopt(h, CURLOPT_HEADERDATA, t);
    curl()->easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
    curl()->easy_setopt(h, CURLOPT_WRITEDATA, t);
    curl()->easy_setopt(h, CURLOPT_ERRORBUFFER, t->curl_says);
    curl()->easy_setopt(h, CURLOPT_PRIVATE, t);
    if (curl()->multi_add_handle(t->f->multi, h) != CURLM_OK)
        return base_fail_nomem(&t->err, "downloading");
    t->heard_us = base_now_us();
    t->phase = RUNNING;
    return ROTOR_OK;
}

static void give_up(transfer *t, rotor_status code, const char *what) {
    char *host = origin_of(t->url);
    base_fail(&t->err, code, "%s: %s", host ? host : t->url, what);
    base_free(host);
    t->phase = FAILED;
}

static bool go_to(transfer *t, const char *url) {
    char *copy = base_strdup(url);
    if (!copy) return give_up(t, ROTOR_E_NOMEM, "out of memory"), false;
    base_free(t->url);
    t->url = copy;
    return true;
}

/* Another try, later and later; or the end. told_s: the server's own wish, -1: none. */
static void try_again(transfer *t, long told_s, const char *why) {
    const fetch *f = t->f;
    if (t->got > t->got_before) t->tries = 0;
    const uint32_t most = f->reached ? f->opt.retries : BASE_MIN(f->opt.retries, 2u);
    if (t->tries >= most) {
        give_up(t, ROTOR_E_IO, why);
        return;
    }
    uint64_t wait_us = (uint64_t)FIRST_WAIT_US << BASE_MIN(t->tries, 12u);
    if (wait_us > MAX_WAIT_S * 1000000ull) wait_us = MAX_WAIT_S * 1000000ull;
    if (told_s >= 0) wait_us = (uint64_t)told_s * 1000000u;
    base_log_printf(f->opt.log, BASE_LOG_INFO, "download: %s; again in %.1f s (%u of %u)", why,
                    (double)wait_us / 1e6, t->tries + 1, most);
    t->tries++;
    t->hops = 0;
    t->wake_us = base_now_us() + wait_us;
    t->phase = WAITING;
}

/* ==== How a try ended ========================================================================= */

static void follow(transfer *t) {
    char *to = NULL;
    curl()->easy_getinfo(t->h, CURLINFO_REDIRECT_URL, &to);
    if (!to || (!has_scheme(to, "http://") && !has_scheme(to, "https://")))
        return give_up(t, ROTOR_E_FORMAT, "a redirect leads to no web address");
    if (has_scheme(t->url, "https://") && has_scheme(to, "http://"))
        return give_up(t, ROTOR_E_FORMAT, "a redirect leads from https to http; not followed");
    if (++t->hops > MAX_HOPS) return give_up(t, ROTOR_E_FORMAT, "redirects lead in circles");
    /* A file's digest stands beside the link to it; where the link leads, nobody knows it. */
    if (t->head && (t->a.linked_etag || !at_home(t->f, to))) {
        if (!t->a.linked_bytes) t->a.facts.has_bytes = false; /* that was of the redirect's text */
        t->phase = DONE;
        return;
    }
    if (!go_to(t, to)) return;
    if (t->end != UINT64_MAX && !at_home(t->f, to)) { /* other pieces go there at once */
        base_free(t->f->signed_url);
        t->f->signed_url = base_strdup(to);
    }
    if (start(t) != ROTOR_OK) t->phase = FAILED;
}

/* The address behind a redirect does not answer any more: ask where the file is now. */
static void resolve_again(transfer *t, long status) {
    char why[80];
    snprintf(why, sizeof why, "the link to the file has expired (HTTP %ld)", status);
    base_free(t->f->signed_url);
    t->f->signed_url = NULL;
    if (go_to(t, t->first_url)) try_again(t, t->tries ? -1 : 0, why);
}

static void refused(transfer *t, long status) {
    char what[420];
    const answer *a = &t->a;
    const char *extra = *a->why ? a->why : a->code;
    const char *advice = "";
    if (status == 401 || status == 403)
        advice = t->f->token
                     ? ": the token may not read this; agree to the model's terms on its page"
                     : ": this model does not exist, or needs a token (HF_TOKEN, or the file that "
                       "HF_TOKEN_PATH names) and consent on its page";
    if (status == 404) advice = ": there is no such model or file";
    snprintf(what, sizeof what, "HTTP %ld%s%s%s%s", status, advice, *extra ? " (" : "", extra,
             *extra ? ")" : "");
    give_up(t, status == 404 ? ROTOR_E_NOTFOUND : status == 416 ? ROTOR_E_FULL : ROTOR_E_IO, what);
}

static void answered(transfer *t, long status) {
    char why[80];
    snprintf(why, sizeof why, "HTTP %ld", status);
    t->f->reached = true;
    if (status == 200 || status == 206) {
        if (t->head || t->end == UINT64_MAX)
            t->phase = DONE;
        else
            try_again(t, -1, "the connection ended early");
    } else if (status >= 300 && status < 400 && status != 304) {
        follow(t);
    } else if (status == 429 || status == 408 || status >= 500) {
        try_again(t, t->a.retry_after_s, why);
    } else if ((status == 401 || status == 403 || status == 404 || status == 410) &&
               strcmp(t->url, t->first_url) != 0 && !at_home(t->f, t->url)) {
        resolve_again(t, status);
    } else {
        refused(t, status);
    }
}

/* Failures that another try will not mend. */
static bool hopeless(CURLcode code) {
    return code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT ||
           code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
           code == CURLE_OUT_OF_MEMORY || code == CURLE_TOO_MANY_REDIRECTS;
}

static void settle(transfer *t, CURLcode code) {
    const long status = status_of(t);
    curl()->multi_remove_handle(t->f->multi, t->h);
    if (t->err.code) {
        t->phase = FAILED;
    } else if (t->end != UINT64_MAX && t->got == t->end - t->begin) {
        t->phase = DONE;
    } else if (code == CURLE_OK) {
        answered(t, status);
    } else if (code == CURLE_WRITE_ERROR) {
        give_up(t, ROTOR_E_FORMAT, "the server sent another range than was asked for");
    } else {
        const char *why = *t->curl_says ? t->curl_says : curl()->easy_strerror(code);
        if (code == CURLE_OPERATION_TIMEDOUT && (status || !*t->curl_says))
            why = "nothing came any more";
        if (t->end == UINT64_MAX) { /* not a range: from the start */
            base_buf_reset(&t->ready);
            t->got = 0;
        }
        if (hopeless(code))
            give_up(t, ROTOR_E_IO, why);
        else
            try_again(t, -1, why);
    }
}

/* ==== All connections ========================================================================= */

static void take_piece(transfer *t, want *w) {
    if (w->next >= w->end) return;
    const uint64_t n = BASE_MIN(w->piece, w->end - w->next);
    *t = (transfer){.f = t->f, .h = t->h, .lines = t->lines, .url = t->url, .ready = t->ready};
    t->first_url = w->url;
    t->head = w->head;
    t->begin = w->next;
    t->end = w->end == UINT64_MAX ? UINT64_MAX : w->next + n;
    w->next = t->end;
    const bool known = w->n_transfers > 1 && t->f->signed_url;
    t->phase = go_to(t, known ? t->f->signed_url : w->url) ? WAITING : FAILED;
}

static rotor_status start_all(fetch *f, transfer *all, want *w, rotor_error *err) {
    for (size_t i = 0; i < w->n_transfers; i++) {
        transfer *t = &all[i];
        if (t->phase == IDLE) take_piece(t, w);
        if (t->phase == WAITING && t->wake_us <= base_now_us() && start(t) != ROTOR_OK)
            t->phase = FAILED;
        if (t->phase == FAILED) {
            if (err) *err = t->err;
            return t->err.code ? t->err.code : ROTOR_E_IO;
        }
        if (i == 0 && w->n_transfers > 1 && !f->signed_url && t->got == 0 && w->front == w->begin)
            break; /* the first finds out where the file lies */
    }
    return ROTOR_OK;
}

/* Hands on what has come of the front piece, and of those behind it that are whole. */
static rotor_status flush_front(transfer *all, want *w, rotor_error *err) {
    for (size_t i = 0; i < w->n_transfers; i++) {
        transfer *t = &all[i];
        if (t->phase == IDLE || w->front < t->begin || w->front > t->begin + t->got) continue;
        if (w->front + t->ready.len != t->begin + t->got) continue; /* another's front */
        if (t->end == UINT64_MAX && t->phase != DONE) {
            if (t->ready.len <= w->max_bytes) continue; /* a small text is handed on whole */
            return base_fail(err, ROTOR_E_FORMAT, "%s: an answer of more than %zu bytes", t->url,
                             w->max_bytes);
        }
        const size_t n = t->ready.len;
        if (n) ROTOR_TRY(w->sink(w->user, t->ready.data, n, err));
        w->front += n;
        base_buf_reset(&t->ready);
        if (t->phase != DONE) return ROTOR_OK;
        if (w->end == UINT64_MAX) w->front = UINT64_MAX;
        t->phase = IDLE;
        i = (size_t)-1; /* the next piece may lie anywhere */
    }
    return ROTOR_OK;
}

static void collect(fetch *f) {
    CURLMsg *m;
    for (int left; (m = curl()->multi_info_read(f->multi, &left));) {
        transfer *t = NULL;
        if (m->msg != CURLMSG_DONE) continue;
        curl()->easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        settle(t, m->data.result);
    }
}

/* The library's own limit is an average over seconds; this one is punctual. */
static void end_silent(fetch *f, transfer *all, size_t n) {
    const uint64_t now = base_now_us();
    for (size_t i = 0; i < n; i++) {
        transfer *t = &all[i];
        const uint64_t s = f->opt.stall_s + (status_of(t) ? 0 : f->opt.connect_s);
        if (t->phase == RUNNING && now > t->heard_us && now - t->heard_us > s * 1000000u)
            settle(t, CURLE_OPERATION_TIMEDOUT);
    }
}

static rotor_status drive(fetch *f, transfer *all, want *w, rotor_error *err) {
    while (w->front < w->end) {
        int running;
        if (f->opt.go_on && !f->opt.go_on(f->opt.user))
            return base_fail(err, ROTOR_E_CANCELLED, "stopped");
        rotor_status st = start_all(f, all, w, err);
        if (st != ROTOR_OK) return st;
        if (curl()->multi_perform(f->multi, &running) != CURLM_OK)
            return base_fail_nomem(err, "downloading");
        collect(f);
        end_silent(f, all, w->n_transfers);
        ROTOR_TRY(flush_front(all, w, err));
        if (w->head && all[0].phase == DONE) return ROTOR_OK;
        if (w->front < w->end) curl()->multi_poll(f->multi, NULL, 0, 50, NULL);
    }
    return ROTOR_OK;
}

static rotor_status run(fetch *f, want *w, fetch_facts *facts, rotor_error *err) {
    transfer *all = base_alloc_array(w->n_transfers, sizeof *all);
    if (!all) return base_fail_nomem(err, "downloading");
    for (size_t i = 0; i < w->n_transfers; i++) all[i] = (transfer){.f = f, .h = f->easy[i]};
    w->next = w->front = w->begin;
    rotor_status st = drive(f, all, w, err);
    if (st == ROTOR_OK && facts) *facts = all[0].a.facts;
    for (size_t i = 0; i < w->n_transfers; i++) {
        if (all[i].phase == RUNNING) curl()->multi_remove_handle(f->multi, all[i].h);
        curl()->slist_free_all(all[i].lines);
        base_buf_free(&all[i].ready);
        base_free(all[i].url);
    }
    base_free(all);
    return st;
}

const char *hub_features(void) {
    return "libcurl: on (rotor pull, vectors from a server; loaded when it is needed)\n";
}

/* ==== The door ================================================================================ */

rotor_status fetch_open(fetch **out, const fetch_options *opt, rotor_error *err) {
    ROTOR_TRY(hub_curl_open(err));
    fetch *f = base_alloc(sizeof *f);
    if (!f) return base_fail_nomem(err, "downloading");
    f->opt = *opt;
    f->opt.connections = BASE_MIN(BASE_MAX(opt->connections, 1u), (uint32_t)MAX_CONNECTIONS);
    const bool up = curl()->global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
    f->multi = up ? curl()->multi_init() : NULL;
    f->home = up ? origin_of(opt->home) : NULL;
    f->token = opt->token ? base_strdup(opt->token) : NULL;
    bool whole = f->multi && (!opt->token || f->token);
    for (size_t i = 0; i < f->opt.connections && whole; i++)
        whole = (f->easy[i] = curl()->easy_init()) != NULL;
    rotor_status st = ROTOR_OK;
    if (!whole)
        st = base_fail_nomem(err, "downloading");
    else if (!f->home || (!has_scheme(f->home, "http://") && !has_scheme(f->home, "https://")))
        st = base_fail(err, ROTOR_E_ARG, "'%s' is no web address (HF_ENDPOINT)", opt->home);
    if (st != ROTOR_OK)
        fetch_close(&f);
    else
        *out = f;
    return st;
}

void fetch_close(fetch **fetch_at) {
    fetch *f = fetch_at ? *fetch_at : NULL;
    if (!f) return;
    for (size_t i = 0; i < MAX_CONNECTIONS; i++)
        if (f->easy[i]) curl()->easy_cleanup(f->easy[i]);
    if (f->multi) curl()->multi_cleanup(f->multi);
    base_free(f->home);
    base_free(f->token);
    base_free(f->signed_url);
    base_free(f);
    *fetch_at = NULL;
}

rotor_status fetch_facts_of(fetch *f, const char *url, fetch_facts *out, rotor_error *err) {
    want w = {.url = url, .end = UINT64_MAX, .piece = 1, .n_transfers = 1, .head = true};
    return run(f, &w, out, err);
}

static rotor_status to_buf(void *user, const void *p, size_t n, rotor_error *err) {
    return base_buf_append(user, p, n) ? ROTOR_OK : base_fail_nomem(err, "downloading");
}

rotor_status fetch_text(fetch *f, const char *url, size_t max_bytes, base_buf *out,
                        rotor_error *err) {
    want w = {.url = url,
              .end = UINT64_MAX,
              .piece = UINT64_MAX,
              .n_transfers = 1,
              .max_bytes = max_bytes,
              .sink = to_buf,
              .user = out};
    return run(f, &w, NULL, err);
}

rotor_status fetch_bytes(fetch *f, const char *url, uint64_t begin, uint64_t end, fetch_sink sink,
                         void *user, rotor_error *err) {
    if (begin >= end) return ROTOR_OK;
    const uint64_t share = (end - begin) / (4 * f->opt.connections);
    want w = {.url = url, .begin = begin, .end = end, .sink = sink, .user = user};
    w.piece = BASE_MIN(BASE_MAX(share, (uint64_t)PIECE_MIN), (uint64_t)PIECE_MAX);
    w.n_transfers = BASE_MIN((uint64_t)f->opt.connections, (end - begin + w.piece - 1) / w.piece);
    base_free(f->signed_url); /* of another file */
    f->signed_url = NULL;
    return run(f, &w, NULL, err);
}
