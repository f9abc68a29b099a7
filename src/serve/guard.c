/* SPDX-License-Identifier: MIT
 *
 * Who may ask. A web page that somebody has open must not reach this server through their browser:
 * its Host is checked (a name that was made to point here is none of ours), its Origin must be our
 * own page or one that was allowed, and a body must be JSON, which a page cannot send without
 * asking first. A key, where there is one, guards every route that does not say otherwise.
 */
#include "serve/serve_internal.h"

#include <stdio.h>
#include <strings.h>

/* ==== Host ==================================================================================== */

/* The name in "name:port" or "[::1]:port", without brackets; false: it is no such thing. */
static bool host_name(const char *host, char *out, size_t cap) {
    const bool v6 = host[0] == '[';
    const char *from = host + v6, *end = v6 ? strchr(from, ']') : from + strcspn(from, ":");
    if (!end || end == from || (size_t)(end - from) >= cap) return false;
    if (!v6 && strchr(end + (*end == ':'), ':')) end = host + strlen(host); /* ::1, unbracketed */
    if ((size_t)(end - from) >= cap) return false;
    memcpy(out, from, (size_t)(end - from));
    out[end - from] = 0;
    return true;
}

bool serve_host_fits(const serve_server *s, const char *host) {
    char name[256];
    if (s->by_path) return true; /* no name leads here */
    if (!host_name(host, name, sizeof name)) return false;
    size_t n = strlen(name);
    if (n > 1 && name[n - 1] == '.') name[--n] = 0;
    if (strcasecmp(name, "localhost") == 0) return true;
    if (n > 10 && strcasecmp(name + n - 10, ".localhost") == 0) return true;
    const base_ip ip = base_ip_of(name);
    if (ip == BASE_IP_LOOPBACK || ip == BASE_IP_ANY) return true;
    if (ip == BASE_IP_OTHER && s->reach == BASE_IP_ANY) return true; /* an address is no name */
    if (s->opt.host && strcasecmp(name, s->opt.host) == 0) return true;
    for (size_t i = 0; i < s->opt.n_hosts; i++)
        if (strcasecmp(name, s->opt.hosts[i]) == 0) return true;
    return false;
}

/* ==== Origin ================================================================================== */

bool serve_origin_fits(const serve_server *s, const char *origin, const char *host,
                       const char **out) {
    *out = NULL;
    for (size_t i = 0; i < s->opt.n_origins; i++) {
        if (strcmp(s->opt.origins[i], "*") == 0) return *out = "*", true;
        if (strcmp(s->opt.origins[i], origin) == 0) return *out = s->opt.origins[i], true;
    }
    const char *own = strstr(origin, "://");
    const char *scheme = s->opt.tls_cert ? "https" : "http";
    const size_t n = strlen(scheme);
    return own && host && (size_t)(own - origin) == n && strncmp(origin, scheme, n) == 0 &&
           strcasecmp(own + 3, host) == 0;
}

/* ==== Keys ==================================================================================== */

/* Takes the same time whatever is in them. */
static bool same_digest(const uint8_t a[32], const uint8_t b[32]) {
    unsigned differ = 0;
    for (int i = 0; i < 32; i++) differ |= (unsigned)(a[i] ^ b[i]);
    return differ == 0;
}

static bool is_a_key(const serve_server *s, const char *word) {
    uint8_t digest[32];
    bool fits = false;
    base_sha256(word, strlen(word), digest);
    for (size_t i = 0; i < s->opt.n_keys; i++) fits |= same_digest(digest, s->keys[i]);
    return fits;
}

bool serve_key_fits(const serve_server *s, struct MHD_Connection *conn) {
    const char *bearer = mhd()->lookup_connection_value(conn, MHD_HEADER_KIND, "Authorization");
    const char *plain = mhd()->lookup_connection_value(conn, MHD_HEADER_KIND, "X-Api-Key");
    if (!s->opt.n_keys) return true;
    if (bearer && strncasecmp(bearer, "Bearer ", 7) == 0) {
        bearer += 7;
        bearer += strspn(bearer, " ");
        if (is_a_key(s, bearer)) return true;
    }
    return plain && is_a_key(s, plain);
}

/* ==== All of it =============================================================================== */

bool serve_is_json_type(const char *type) {
    static const char json[] = "application/json";
    if (!type || strncasecmp(type, json, sizeof json - 1) != 0) return false;
    const char end = type[sizeof json - 1];
    return end == 0 || end == ';' || end == ' ' || end == '\t';
}

static bool page_may_ask(serve_exchange *x, const char *host, serve_fault *f) {
    const char *origin = mhd()->lookup_connection_value(x->conn, MHD_HEADER_KIND, "Origin");
    if (!origin || serve_origin_fits(x->s, origin, host, &x->origin)) return true;
    return serve_fail_with(f, SERVE_ORIGIN_NOT_ALLOWED,
                           "pages of %.100s may not use this server; --cors-origins lists those "
                           "that may",
                           origin);
}

bool serve_guard(serve_exchange *x, serve_fault *f) {
    const char *host = mhd()->lookup_connection_value(x->conn, MHD_HEADER_KIND, "Host");
    const char *type = mhd()->lookup_connection_value(x->conn, MHD_HEADER_KIND, "Content-Type");
    if (host && !serve_host_fits(x->s, host))
        return serve_fail_with(f, SERVE_HOST_NOT_ALLOWED,
                               "this server is not known as %.100s; --allowed-hosts adds names",
                               host);
    if (!page_may_ask(x, host, f)) return false;
    if (strcmp(x->method, "OPTIONS") == 0) return true;
    const bool anyone = x->route && (x->route->flags & SERVE_ANYONE);
    if (!anyone && !serve_key_fits(x->s, x->conn))
        return serve_fail_with(f, SERVE_INVALID_API_KEY,
                               "a key is needed: Authorization: Bearer KEY, or x-api-key: KEY");
    if (x->route && strncmp(x->route->method, "P", 1) == 0 && !serve_is_json_type(type))
        return serve_fail_with(f, SERVE_UNSUPPORTED_MEDIA_TYPE,
                               "Content-Type is %.60s: expected application/json",
                               type ? type : "missing");
    return true;
}
