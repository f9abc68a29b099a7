/* SPDX-License-Identifier: MIT
 *
 * Addresses: what may be shown of them.
 */
#include "base/base_internal.h"

#include <ctype.h>

bool base_url_is(const char *url, const char *scheme, const char *other) {
    const char *end = strstr(url, "://");
    const base_str own = {url, end ? (size_t)(end - url) : 0};
    return end && (base_str_is(own, scheme) || base_str_is(own, other));
}

static int hex(char c) {
    return isdigit((unsigned char)c)    ? c - '0'
           : isxdigit((unsigned char)c) ? (c | 32) - 'a' + 10
                                        : -1;
}

/* Is the name in front of '=' this one, however it is written? */
static bool is_named(const char *p, const char *name) {
    for (; *name; name++) {
        char c = *p++;
        if (c == '%' && hex(p[0]) >= 0 && hex(p[1]) >= 0) {
            c = (char)(hex(p[0]) * 16 + hex(p[1]));
            p += 2;
        }
        if (tolower((unsigned char)c) != *name) return false;
    }
    return *p == '=';
}

static bool is_one_of(const char *p, const char *const *names) {
    for (; *names; names++)
        if (is_named(p, *names)) return true;
    return false;
}

/* The settings behind the question mark: those that hold no secret, the names alone of those that
 * might, and nothing at all of a password or of what has no name. */
static void put_settings(base_buf *out, const char *p) {
    static const char *const secret[] = {"password", "sslpassword", NULL};
    static const char *const open[] = {
        "host",   "hostaddr", "port",        "dbname",          "user",
        "schema", "sslmode",  "sslrootcert", "connect_timeout", "application_name",
        NULL};
    char before = '?';
    for (size_t n; *p; p += n + (p[n] == '&')) {
        n = strcspn(p, "&");
        const size_t name = strcspn(p, "=&");
        if (p[name] != '=' || is_one_of(p, secret)) continue;
        base_buf_append(out, &before, 1);
        base_buf_append(out, p, is_one_of(p, open) ? n : name + 1);
        if (!is_one_of(p, open)) base_buf_append(out, "...", 3);
        before = '&';
    }
}

/* The @ behind user and password; NULL: there are none. An @ in front of the first slash ends them
 * whatever stands there; the last in front of the settings does, too, since a password with a slash
 * or an @ in it would be shown otherwise. One in the settings is theirs. */
static const char *end_of_user(const char *p) {
    const char *end = p + strcspn(p, "@/"), *found = NULL;
    if (*end != '@') end = p;
    for (; *end && *end != '?'; end++)
        if (*end == '@') found = end;
    return found;
}

base_str base_url_password(const char *url) {
    const char *at = strstr(url, "://"), *end = at ? end_of_user(at + 3) : NULL;
    const char *colon = end ? strchr(at + 3, ':') : NULL;
    if (!colon || colon > end) return (base_str){0};
    return (base_str){colon + 1, (size_t)(end - colon - 1)};
}

char *base_url_without_password(const char *url) {
    base_buf out = {0};
    const base_str hidden = base_url_password(url);
    const char *rest = hidden.p ? hidden.p + hidden.n : url;
    const size_t n = strcspn(rest, "?");
    if (hidden.p) base_buf_append(&out, url, (size_t)(hidden.p - 1 - url));
    base_buf_append(&out, rest, n);
    if (rest[n]) put_settings(&out, rest + n + 1);
    return out.failed ? (base_buf_free(&out), NULL) : out.data;
}

char *base_last_part(const char *path) {
    char *shown = strstr(path, "://") ? base_url_without_password(path) : base_strdup(path);
    if (!shown) return NULL;
    size_t n = strstr(path, "://") ? strcspn(shown, "?") : strlen(shown), at;
    while (n > 1 && shown[n - 1] == '/') n--;
    for (at = n; at && shown[at - 1] != '/';) at--;
    char *out = base_strndup(shown + at, n - at);
    base_free(shown);
    return out;
}
