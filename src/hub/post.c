/* SPDX-License-Identifier: MIT
 *
 * Posting with libcurl: one connection, which is kept for the next request. When to try again and
 * when to stop is ours, the wire is the library's.
 */
#include "hub/post.h"
#include "hub/endpoint.h"
#include "hub/late_curl.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum {
    FIRST_WAIT_US = 250000,
    MAX_WAIT_S = 30,       /* between retries of our own */
    MAX_TOLD_WAIT_S = 120, /* when a server says how long */
    TICK_US = 50000        /* between two looks at go_on */
};

struct post {
    post_options opt;                /* strings owned below */
    CURL *h;                         /* owned */
    struct curl_slist *lines;        /* owned header lines */
    char *url;                       /* owned */
    char *leads_to;                  /* owned; of the last answer; NULL: nowhere */
    base_buf *answer;                /* borrowed while a try runs */
    size_t max_bytes;                /* of it */
    bool too_long;                   /* it had more */
    bool stopped, silent, endless;   /* why a try was ended */
    bool reached;                    /* the server has answered before */
    uint64_t began_us;               /* when the try began */
    uint64_t heard_us;               /* when something last moved */
    curl_off_t moved;                /* bytes so far, both ways */
    long retry_after_s;              /* -1: not said */
    char curl_says[CURL_ERROR_SIZE]; /* why the library gave up */
};

/* ==== What the library calls ================================================================== */

static size_t on_header(char *line, size_t size, size_t n, void *user) {
    static const char name[] = "retry-after:";
    post *p = user;
    const size_t k = sizeof name - 1;
    (void)size;
    if (n > k && n < k + 20 && strncasecmp(line, name, k) == 0) {
        char digits[24], *end;
        snprintf(digits, sizeof digits, "%.*s", (int)(n - k), line + k);
        const long s = strtol(digits, &end, 10);
        if (end != digits && s >= 0 && strspn(end, " \r\n") == strlen(end)) p->retry_after_s = s;
    }
    return n;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *user) {
    post *p = user;
    (void)size;
    p->too_long = n > p->max_bytes - BASE_MIN(p->answer->len, p->max_bytes);
    return !p->too_long && base_buf_append(p->answer, bytes, n) ? n : 0;
}

/* Asked about once a second while nothing moves. The library's own limit of speed does not count
 * the wait for an answer's first byte as a stall of the server. */
static int on_progress(void *user, curl_off_t down_of, curl_off_t down, curl_off_t up_of,
                       curl_off_t up) {
    post *p = user;
    const uint64_t now = base_now_us();
    (void)down_of;
    (void)up_of;
    if (down + up != p->moved) p->heard_us = now;
    p->moved = down + up;
    const uint64_t most = ((uint64_t)p->opt.stall_s + (p->moved ? 0 : p->opt.connect_s)) * 1000000u;
    p->stopped = p->opt.go_on && !p->opt.go_on(p->opt.user);
    const uint64_t elsewhere = base_now_us() - now; /* not the server's time */
    p->heard_us += elsewhere;
    p->began_us += elsewhere;
    p->silent = now > p->heard_us && now - p->heard_us > most;
    p->endless = now > p->began_us && now - p->began_us > (uint64_t)p->opt.whole_s * 1000000u;
    return p->stopped || p->silent || p->endless;
}

/* ==== The door ================================================================================ */

static bool add_line(post *p, const char *fmt, const char *value) {
    base_buf b = {0};
    base_buf_printf(&b, fmt, value);
    struct curl_slist *more = b.failed ? NULL : curl()->slist_append(p->lines, b.data);
    base_buf_free(&b);
    if (more) p->lines = more;
    return more != NULL;
}

static bool add_lines(post *p, const char *key) {
    return add_line(p, "User-Agent: rotor/%s", ROTOR_VERSION) &&
           add_line(p, "%s", "Content-Type: application/json") &&
           add_line(p, "%s", "Accept: application/json") &&
           add_line(p, "%s", "Expect:") && /* no round trip before the body */
           (!key || add_line(p, "Authorization: Bearer %s", key));
}

static void set_up(post *p) {
    CURL *h = p->h;
    curl()->easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl()->easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L);
    if (endpoint_is_here(p->url))
        curl()->easy_setopt(h, CURLOPT_PROXY, ""); /* not the variables' */
    curl()->easy_setopt(h, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl()->easy_setopt(h, CURLOPT_CONNECTTIMEOUT, (long)p->opt.connect_s);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl()->easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl()->easy_setopt(h, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    curl()->easy_setopt(h, CURLOPT_URL, p->url);
    curl()->easy_setopt(h, CURLOPT_POST, 1L);
    curl()->easy_setopt(h, CURLOPT_HTTPHEADER, p->lines);
    curl()->easy_setopt(h, CURLOPT_HEADERFUNCTION, on_header);
    curl()->easy_setopt(h, CURLOPT_HEADERDATA, p);
    curl()->easy_setopt(h, CURLOPT_WRITEFUNCTION, on_body);
    curl()->easy_setopt(h, CURLOPT_WRITEDATA, p);
    curl()->easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
    curl()->easy_setopt(h, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl()->easy_setopt(h, CURLOPT_XFERINFODATA, p);
    curl()->easy_setopt(h, CURLOPT_ERRORBUFFER, p->curl_says);
}

static bool is_web_address(const char *url) {
    CURLU *u = curl()->url();
    char *host = NULL;
    const bool is = u && curl()->url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
                    curl()->url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK && host && *host;
    curl()->free(host);
    curl()->url_cleanup(u);
    return is;
}

/* What ends a header line must not begin another. */
static bool fits_header(const char *key) {
    for (; key && *key; key++)
        if ((unsigned char)*key <= ' ' || *key == 127) return false;
    return true;
}

rotor_status post_open(post **out, const post_options *opt, rotor_error *err) {
    *out = NULL;
    ROTOR_TRY(hub_curl_open(err));
    if (!fits_header(opt->key))
        return base_fail(err, ROTOR_E_ARG,
                         "the key of the endpoint has a space or a control character in it");
    if (curl()->global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return base_fail_nomem(err, "opening an endpoint");
    if (!is_web_address(opt->url))
        return base_fail(err, ROTOR_E_ARG, "'%s' is no web address", opt->url);
    post *p = base_alloc(sizeof *p);
    if (!p) return base_fail_nomem(err, "opening an endpoint");
    p->opt = *opt;
    p->url = base_strdup(opt->url);
    p->h = curl()->easy_init();
    if (!p->url || !p->h || !add_lines(p, opt->key)) {
        post_close(&p);
        return base_fail_nomem(err, "opening an endpoint");
    }
    p->opt.url = p->url;
    p->opt.key = NULL; /* in its line */
    set_up(p);
    *out = p;
    return ROTOR_OK;
}

void post_close(post **at) {
    post *p = at ? *at : NULL;
    if (!p) return;
    if (p->h) curl()->easy_cleanup(p->h);
    curl()->slist_free_all(p->lines);
    base_free(p->url);
    base_free(p->leads_to);
    base_free(p);
    *at = NULL;
}

const char *post_leads_to(const post *p) { return p->leads_to ? p->leads_to : ""; }

/* ==== One request ============================================================================= */

static CURLcode try_once(post *p, base_str body, long *status, base_buf *answer) {
    char *to = NULL;
    base_buf_reset(answer);
    p->answer = answer;
    p->too_long = p->stopped = p->silent = p->endless = false;
    p->moved = 0;
    p->retry_after_s = -1;
    p->began_us = p->heard_us = base_now_us();
    *p->curl_says = 0;
    *status = 0;
    curl()->easy_setopt(p->h, CURLOPT_POSTFIELDS, body.p);
    curl()->easy_setopt(p->h, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.n);
    const CURLcode code = curl()->easy_perform(p->h);
    curl()->easy_getinfo(p->h, CURLINFO_RESPONSE_CODE, status);
    curl()->easy_getinfo(p->h, CURLINFO_REDIRECT_URL, &to);
    base_free(p->leads_to);
    p->leads_to = to ? base_strdup(to) : NULL;
    p->answer = NULL;
    return code;
}

/* Failures that another try will not mend. */
static bool hopeless(CURLcode code) {
    return code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT ||
           code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
           code == CURLE_OUT_OF_MEMORY;
}

static bool may_pass(long status) { return status == 429 || status == 408 || status >= 500; }

static void say_why(const post *p, CURLcode code, long status, char *out, size_t cap) {
    if (code == CURLE_OK)
        snprintf(out, cap, "HTTP %ld", status);
    else if (p->silent)
        snprintf(out, cap, "not a byte in %u s", p->opt.stall_s);
    else
        endpoint_plain(*p->curl_says ? p->curl_says : curl()->easy_strerror(code), NULL, out, cap);
}

static rotor_status wait_us(const post *p, uint64_t us, rotor_error *err) {
    for (const uint64_t end = base_now_us() + us; base_now_us() < end;) {
        if (p->opt.go_on && !p->opt.go_on(p->opt.user))
            return base_fail(err, ROTOR_E_CANCELLED, "stopped");
        base_sleep_us(BASE_MIN(us, (uint64_t)TICK_US));
    }
    return ROTOR_OK;
}

/* A server that says 500 may mean this very text (llama.cpp: it is too long): asked less often. */
static uint32_t most_retries(const post *p, CURLcode code, long status) {
    const bool curt = (code == CURLE_OK && status == 500) || !p->reached;
    return curt ? BASE_MIN(p->opt.retries, 2u) : p->opt.retries;
}

/* After a try that failed in passing. */
static rotor_status wait_for_next(const post *p, uint32_t done, uint32_t most, const char *why,
                                  rotor_error *err) {
    const uint32_t own_s = p->opt.pause_s ? p->opt.pause_s : MAX_WAIT_S;
    const uint32_t told_s = p->opt.pause_s ? p->opt.pause_s : MAX_TOLD_WAIT_S;
    uint64_t us =
        BASE_MIN((uint64_t)FIRST_WAIT_US << BASE_MIN(done, 12u), own_s * (uint64_t)1000000);
    if (p->retry_after_s > (long)told_s)
        return base_fail(err, ROTOR_E_IO,
                         "%s: %s, and it asks to wait %ld s, longer than the %u waited here: try "
                         "again then",
                         p->url, why, p->retry_after_s, told_s);
    if (p->retry_after_s >= 0) us = (uint64_t)p->retry_after_s * 1000000u;
    base_log_printf(p->opt.log, BASE_LOG_INFO, "%s: %s; again in %.1f s (%u of %u)", p->url, why,
                    (double)us / 1e6, done + 1, most);
    return wait_us(p, us, err);
}

/* One that failed for good. ROTOR_OK: it may pass. */
static rotor_status judge(const post *p, CURLcode code, const char *why, rotor_error *err) {
    if (p->stopped) return base_fail(err, ROTOR_E_CANCELLED, "stopped");
    if (p->too_long)
        return base_fail(err, ROTOR_E_FORMAT,
                         "%s: an answer of more than %zu bytes: it is no endpoint for vectors",
                         p->url, p->max_bytes);
    if (p->endless)
        return base_fail(err, ROTOR_E_IO, "%s: its answer is not whole after %u s: given up",
                         p->url, p->opt.whole_s);
    if (code == CURLE_WRITE_ERROR) return base_fail_nomem(err, "taking an answer");
    return hopeless(code) ? base_fail(err, ROTOR_E_IO, "%s: %s", p->url, why) : ROTOR_OK;
}

rotor_status post_send(post *p, base_str body, size_t max_bytes, long *status, base_buf *answer,
                       rotor_error *err) {
    char why[CURL_ERROR_SIZE + 40];
    p->max_bytes = max_bytes;
    for (uint32_t done = 0;; done++) {
        const CURLcode code = try_once(p, body, status, answer);
        if (*status) p->reached = true;
        if (code == CURLE_OK && !may_pass(*status)) return ROTOR_OK;
        say_why(p, code, *status, why, sizeof why);
        if (code != CURLE_OK) ROTOR_TRY(judge(p, code, why, err));
        const uint32_t most = most_retries(p, code, *status);
        if (done >= most && code == CURLE_OK) return ROTOR_OK;
        if (done >= most)
            return base_fail(err, ROTOR_E_IO, "%s: %s (%u tries): is the server up?", p->url, why,
                             done + 1);
        ROTOR_TRY(wait_for_next(p, done, most, why, err));
    }
}
