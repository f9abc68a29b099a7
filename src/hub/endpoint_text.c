/* SPDX-License-Identifier: MIT
 *
 * An endpoint's JSON: POST BASE/embeddings as OpenAI's API has it and others have taken over.
 *
 *     {"model": "…", "input": ["…", …], "encoding_format": "float"}
 *     {"data": [{"index": 0, "embedding": [0.1, …]}, …], …}
 *
 * Some servers send base64 of little-endian floats whatever was asked for; both are taken.
 */
#include "hub/endpoint.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>

/* ==== Addresses =============================================================================== */

static rotor_status refuse_secret(const char *what, rotor_error *err) {
    return base_fail(err, ROTOR_E_ARG,
                     "the address of the endpoint has %s in it, and addresses are remembered: "
                     "expected http://HOST:PORT/v1#MODEL, and a key in ROTOR_EMBED_KEY",
                     what);
}

static rotor_status check_address(const char *word, const char *hash, rotor_error *err) {
    const char *host = strstr(word, "://") + 3;
    const size_t n = (size_t)((hash ? hash : word + strlen(word)) - host);
    for (const char *p = word; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 127 || (*p == ' ' && (!hash || p < hash)))
            return base_fail(err, ROTOR_E_ARG,
                             "the address of the endpoint has a space or a control character in "
                             "it");
    if (!n || *host == '/') return base_fail(err, ROTOR_E_ARG, "'%s' is no web address", word);
    if (memchr(host, '@', n)) return refuse_secret("a user or a password", err);
    if (memchr(host, '?', n)) return refuse_secret("settings ('?')", err);
    if (!hash || !hash[1])
        return base_fail(err, ROTOR_E_ARG,
                         "%s names no model: expected http://HOST:PORT/v1#MODEL, with the name "
                         "that the server has for it",
                         word);
    if (strlen(word) > 1000 || strlen(hash + 1) > 250)
        return base_fail(err, ROTOR_E_ARG,
                         "the address of the endpoint has %zu bytes, its model %zu: expected at "
                         "most 1,000 and 250",
                         strlen(word), strlen(hash + 1));
    return ROTOR_OK;
}

rotor_status endpoint_address_parse(endpoint_address *a, const char *word, rotor_error *err) {
    static const char tail[] = "/embeddings";
    const size_t k = sizeof tail - 1;
    const char *hash = strchr(word, '#');
    base_buf url = {0};
    *a = (endpoint_address){0};
    if (!base_url_is(word, "http", "https"))
        return base_fail(err, ROTOR_E_ARG, "%s is no address: expected http://HOST:PORT/v1#MODEL",
                         word);
    ROTOR_TRY(check_address(word, hash, err));
    size_t n = (size_t)(hash - word);
    while (n && word[n - 1] == '/') n--;
    base_buf_append(&url, word, n);
    if (n < k || memcmp(word + n - k, tail, k) != 0) base_buf_puts(&url, tail);
    a->model = base_strdup(hash + 1);
    a->url = url.data;
    if (a->model && !url.failed) return ROTOR_OK;
    endpoint_address_free(a);
    return base_fail_nomem(err, "opening an endpoint");
}

void endpoint_address_free(endpoint_address *a) {
    base_free(a->url);
    base_free(a->model);
    *a = (endpoint_address){0};
}

bool endpoint_is_here(const char *url) {
    const char *host = strstr(url, "://") + 3;
    const size_t n = strcspn(host, *host == '[' ? "/" : ":/");
    return strncmp(host, "[::1]", 5) == 0 || base_str_is((base_str){host, n}, "localhost") ||
           (strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == n);
}

/* ==== Asking ================================================================================== */

static json_t *clean_text(base_str s) {
    base_buf clean = {0};
    for (size_t at = 0; at < s.n;) {
        int32_t cp;
        const size_t n = (size_t)base_utf8_decode(s.p + at, s.n - at, &cp);
        base_buf_append(&clean, cp < 0 ? "\xEF\xBF\xBD" : s.p + at, cp < 0 ? 3 : n);
        at += n;
    }
    json_t *v = clean.failed ? NULL : json_stringn(clean.data ? clean.data : "", clean.len);
    base_buf_free(&clean);
    return v;
}

static int append(const char *p, size_t n, void *user) { return base_buf_append(user, p, n) - 1; }

rotor_status endpoint_question(base_buf *out, const char *model, const base_str *texts, size_t n,
                               rotor_error *err) {
    json_t *list = json_array();
    int bad = 0;
    for (size_t i = 0; i < n; i++) bad |= json_array_append_new(list, clean_text(texts[i]));
    json_t *o = json_pack("{s:o,s:o,s:s}", "model", clean_text(base_str_of(model)), "input", list,
                          "encoding_format", "float");
    bad |= !o || json_dump_callback(o, append, out, JSON_COMPACT);
    json_decref(o);
    return bad ? base_fail_nomem(err, "asking for vectors") : ROTOR_OK;
}

/* ==== Answers ================================================================================= */

static int digit_of(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' || c == '-' ? 62 : c == '/' || c == '_' ? 63 : -1;
}

/* Little-endian floats of base64, at most cap; SIZE_MAX: it is not that. */
static size_t from_base64(base_str s, float *out, size_t cap) {
    uint32_t bits = 0, word = 0;
    size_t n_bits = 0, n_bytes = 0;
    while (s.n && s.p[s.n - 1] == '=') s.n--;
    for (size_t i = 0; i < s.n; i++) {
        const int d = digit_of(s.p[i]);
        if (d < 0) return SIZE_MAX;
        bits = (bits << 6 | (uint32_t)d) & 0xFFFF;
        if ((n_bits += 6) < 8) continue;
        n_bits -= 8;
        word |= (bits >> n_bits & 255) << 8 * (n_bytes % 4);
        if (++n_bytes % 4) continue;
        if (n_bytes / 4 > cap) return SIZE_MAX;
        memcpy(&out[n_bytes / 4 - 1], &word, 4);
        word = 0;
    }
    return n_bytes % 4 ? SIZE_MAX : n_bytes / 4;
}

static size_t from_numbers(const json_t *list, float *out, size_t cap) {
    const size_t n = json_array_size(list);
    if (n > cap) return SIZE_MAX;
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_number(v)) return SIZE_MAX;
        out[i] = (float)json_number_value(v);
    }
    return n;
}

/* Floats of a vector to out[cap]; SIZE_MAX: it is none. */
static size_t floats_of(const json_t *v, float *out, size_t cap) {
    if (!json_is_string(v)) return json_is_array(v) ? from_numbers(v, out, cap) : SIZE_MAX;
    return from_base64((base_str){json_string_value(v), json_string_length(v)}, out, cap);
}

static rotor_status to_unit(float *v, size_t dims, size_t i, rotor_error *err) {
    double sum = 0;
    for (size_t k = 0; k < dims; k++) sum += (double)v[k] * v[k];
    if (!(sum > 0) || !isfinite(sum))
        return base_fail(err, ROTOR_E_FORMAT,
                         "vector %zu of the answer has no length that counts (%g)", i, sqrt(sum));
    const double scale = 1 / sqrt(sum);
    for (size_t k = 0; k < dims; k++) v[k] = (float)(v[k] * scale);
    return ROTOR_OK;
}

/* Where the entry's vector belongs: its "index", or its place where it has none. */
static rotor_status index_of(const json_t *entry, size_t place, size_t n, bool *seen, size_t *index,
                             rotor_error *err) {
    const json_t *said = json_object_get(entry, "index");
    const json_int_t i = said ? json_integer_value(said) : (json_int_t)place;
    if ((said && !json_is_integer(said)) || i < 0 || (size_t)i >= n || seen[i])
        return base_fail(err, ROTOR_E_FORMAT,
                         "entry %zu of the answer has the index %lld: expected each of 0 to %zu "
                         "once",
                         place, (long long)i, n - 1);
    seen[i] = true;
    *index = (size_t)i;
    return ROTOR_OK;
}

static rotor_status take_entry(const json_t *entry, size_t i, size_t dims, float *out, float *room,
                               rotor_error *err) {
    const size_t n = floats_of(json_object_get(entry, "embedding"), room, ENDPOINT_MAX_DIMS);
    if (n == SIZE_MAX || !n)
        return base_fail(err, ROTOR_E_FORMAT,
                         "\"embedding\" %zu of the answer is no vector: expected 1 to %d numbers, "
                         "or base64 of floats",
                         i, ENDPOINT_MAX_DIMS);
    if (n != dims)
        return base_fail(err, ROTOR_E_FORMAT,
                         "vector %zu of the answer has %zu floats, expected %zu: another model "
                         "answers than before (rotor rag reembed STORE --embed-model makes a "
                         "store's vectors anew)",
                         i, n, dims);
    memcpy(out, room, dims * sizeof *out);
    return to_unit(out, dims, i, err);
}

static rotor_status find_dims(const json_t *list, size_t *dims, float *room, rotor_error *err) {
    const json_t *first = json_object_get(json_array_get(list, 0), "embedding");
    const size_t n = floats_of(first, room, ENDPOINT_MAX_DIMS);
    if (n == SIZE_MAX || !n)
        return base_fail(err, ROTOR_E_FORMAT,
                         "the answer has no vector: expected \"embedding\" with 1 to %d numbers, "
                         "or base64 of floats",
                         ENDPOINT_MAX_DIMS);
    ROTOR_TRY(to_unit(room, n, 0, err));
    *dims = n;
    return ROTOR_OK;
}

static rotor_status take_list(const json_t *list, size_t n, size_t *dims, float *out,
                              rotor_error *err) {
    float *room = base_alloc_array(ENDPOINT_MAX_DIMS, sizeof *room);
    bool *seen = base_alloc_array(n, sizeof *seen);
    rotor_status st = room && seen ? ROTOR_OK : base_fail_nomem(err, "taking vectors");
    if (st == ROTOR_OK && !*dims) {
        st = find_dims(list, dims, room, err);
    } else {
        for (size_t i = 0, at = 0; st == ROTOR_OK && i < n; i++) {
            const json_t *entry = json_array_get(list, i);
            st = index_of(entry, i, n, seen, &at, err);
            if (st == ROTOR_OK) st = take_entry(entry, at, *dims, out + at * *dims, room, err);
        }
    }
    base_free(room);
    base_free(seen);
    return st;
}

/* The parser quotes bytes of the answer, which may be of the key: what is before them is its own.
 */
static rotor_status no_json(const json_error_t *why, rotor_error *err) {
    const char *quoted = strstr(why->text, " near ");
    return base_fail(err, ROTOR_E_FORMAT, "the answer is no JSON: byte %d: %.*s", why->position,
                     (int)(quoted ? (size_t)(quoted - why->text) : strlen(why->text)), why->text);
}

rotor_status endpoint_vectors(base_str answer, size_t n, size_t *dims, float *out,
                              rotor_error *err) {
    json_error_t why;
    json_t *root = json_loadb(answer.p ? answer.p : "", answer.n, 0, &why);
    const json_t *list = json_object_get(root, "data");
    rotor_status st;
    if (!root)
        st = no_json(&why, err);
    else if (!json_is_array(list))
        st = base_fail(err, ROTOR_E_FORMAT,
                       "the answer has no list \"data\": expected {\"data\":[{\"index\":0,"
                       "\"embedding\":[…]},…]}");
    else if (json_array_size(list) != n)
        st = base_fail(err, ROTOR_E_FORMAT, "the answer has %zu vectors, expected %zu",
                       json_array_size(list), n);
    else
        st = take_list(list, n, dims, out, err);
    json_decref(root);
    return st;
}

/* {"error":{"message":"…"}}, {"error":"…"}, {"message":"…"} or {"detail":"…"}. */
static const char *message_of(const json_t *root) {
    const json_t *e = json_object_get(root, "error");
    if (json_is_object(e)) e = json_object_get(e, "message");
    if (!json_is_string(e)) e = json_object_get(root, "message");
    if (!json_is_string(e)) e = json_object_get(root, "detail");
    return json_string_value(e);
}

void endpoint_plain(const char *said, const char *key, char *out, size_t cap) {
    const bool tells = key && *key && strstr(said, key);
    size_t len = 0;
    for (size_t left = tells ? 0 : strlen(said); left && len + 4 < cap;) {
        int32_t cp;
        const size_t n = (size_t)base_utf8_decode(said, left, &cp);
        const bool control = cp < 32 || (cp >= 127 && cp < 160); /* < 0: no UTF-8 */
        memcpy(out + len, control ? " " : said, control ? 1 : n);
        len += control ? 1 : n;
        said += n;
        left -= n;
    }
    out[len] = 0;
}

void endpoint_complaint(base_str answer, const char *key, char out[204]) {
    json_t *root = json_loadb(answer.p ? answer.p : "", answer.n, 0, NULL);
    const char *said = message_of(root);
    endpoint_plain(said ? said : "", key, out, 204);
    json_decref(root);
}
