/* SPDX-License-Identifier: MIT
 *
 * An answer's sources and citations as JSON: one form for the command line, the server and the
 * page. Texts are of documents, any bytes: what is not UTF-8 becomes U+FFFD.
 */
#include "api/api_internal.h"
#include "api/api_rag.h"

#include <jansson.h>

static json_t *text_json(const char *s, size_t n) {
    base_buf b = {0};
    for (size_t i = 0; i < n;) {
        int32_t cp;
        const int k = base_utf8_decode(s + i, n - i, &cp);
        base_buf_append(&b, cp < 0 ? "\xEF\xBF\xBD" : s + i, cp < 0 ? 3 : (size_t)k);
        i += (size_t)k;
    }
    json_t *v = b.failed ? NULL : json_stringn(b.data ? b.data : "", b.len);
    base_buf_free(&b);
    return v;
}

static json_t *str(const char *s) { return text_json(s, strlen(s)); }

/* "file:///home/me/deck.md#L5", "…paper.pdf#page=3"; a note is in no file: "mem:4f…#L1". */
static json_t *uri_json(const rotor_rag_hit *h) {
    base_buf b = {0};
    const bool note = strncmp(h->path, RAG_NOTE_PREFIX, strlen(RAG_NOTE_PREFIX)) == 0;
    base_buf_puts(&b, note ? RAG_NOTE_PREFIX : "file://");
    for (const char *s = h->path + (note ? strlen(RAG_NOTE_PREFIX) : 0); *s; s++) {
        const unsigned char c = (unsigned char)*s;
        const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                           (c >= '0' && c <= '9') || strchr("/-._~", c) != NULL;
        base_buf_printf(&b, plain ? "%c" : "%%%02X", c);
    }
    if (h->page)
        base_buf_printf(&b, "#page=%u", h->page);
    else if (h->line)
        base_buf_printf(&b, "#L%u", h->line);
    json_t *v = b.failed ? NULL : json_string(b.data);
    base_buf_free(&b);
    return v;
}

static json_t *place_json(const rotor_rag_hit *h) {
    const size_t n = rotor_rag_place(h, NULL, 0);
    char *text = base_alloc(n + 1);
    if (!text) return NULL;
    rotor_rag_place(h, text, n + 1);
    json_t *v = text_json(text, n);
    base_free(text);
    return v;
}

static json_t *hit_json(const rotor_rag_hit *h, size_t i) {
    json_t *o =
        json_pack("{s:I,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:[I,I],s:[I,I],s:[I,I],s:f,s:f,s:f,s:o}",
                  "number", (json_int_t)i + 1, "store", str(h->store), "place", place_json(h),
                  "uri", uri_json(h), "path", str(h->path), "id", str(h->id), "title",
                  str(h->title), "heading", str(h->heading), "lines", (json_int_t)h->line,
                  (json_int_t)h->last_line, "pages", (json_int_t)h->page, (json_int_t)h->last_page,
                  "bytes", (json_int_t)h->begin, (json_int_t)h->end, "score", (double)h->score,
                  "bm25", (double)h->bm25, "cosine", (double)h->cosine, "text", str(h->text));
    if (!h->reranked) return o;
    json_object_set_new(o, "rerank", json_real((double)h->rerank));
    json_object_set_new(o, "fused", json_real((double)h->fused));
    return o;
}

static json_t *citation_json(const rotor_rag_checked *k, size_t i) {
    const rotor_rag_citation *q = &k->citations[i];
    return json_pack("{s:I,s:o,s:[I,I],s:f,s:b,s:b}", "source", (json_int_t)q->source + 1,
                     "sentence", text_json(k->text + q->begin, q->end - q->begin), "bytes",
                     (json_int_t)q->begin, (json_int_t)q->end, "support", (double)q->support,
                     "supported", (int)q->supported, "added", (int)q->added);
}

static void put_checked(json_t *o, const rotor_rag_checked *k) {
    json_t *list = json_array();
    for (size_t i = 0; i < k->n_citations; i++) json_array_append_new(list, citation_json(k, i));
    json_object_set_new(o, "citations", list);
    json_object_set_new(o, "removed", json_integer((json_int_t)k->n_removed));
}

/* Releases o. */
static rotor_status give_text(json_t *o, char **json, rotor_error *err) {
    const size_t n = o ? json_dumpb(o, NULL, 0, JSON_COMPACT) : 0;
    char *text = n ? base_alloc(n + 1) : NULL;
    if (text) json_dumpb(o, text, n, JSON_COMPACT);
    json_decref(o);
    if (!text) return base_fail_nomem(err, "writing JSON");
    *json = text;
    return ROTOR_OK;
}

rotor_status rotor_rag_describe(const rotor_rag_context *c, const rotor_rag_checked *checked,
                                char **json, rotor_error *err) {
    if (!c || !json)
        return base_fail(err, ROTOR_E_ARG, "rotor_rag_describe: a required argument is missing");
    json_t *o = json_pack("{s:b,s:b,s:f,s:f,s:f,s:I}", "relevant", (int)c->relevant, "followed_up",
                          (int)c->followed_up, "best_cosine", (double)c->best_cosine, "coverage",
                          (double)c->coverage, "match", (double)c->match, "source_tokens",
                          (json_int_t)c->n_tok);
    json_t *sources = json_array(), *degraded = json_array();
    json_object_set_new(o, "query", c->query ? str(c->query) : json_null());
    json_object_set_new(o, "rewritten", json_boolean(c->rewritten));
    if (c->lexical_only) json_array_append_new(degraded, json_string("vector"));
    if (c->rerank_failed) json_array_append_new(degraded, json_string("rerank"));
    for (size_t i = 0; i < c->n; i++) {
        json_t *one = hit_json(&c->sources[i].hit, i);
        json_object_set_new(one, "suspicious", json_boolean(c->sources[i].suspicious));
        json_array_append_new(sources, one);
    }
    json_object_set_new(o, "degraded", degraded);
    json_object_set_new(o, "sources", sources);
    if (checked) put_checked(o, checked);
    return give_text(o, json, err);
}

rotor_status rotor_rag_describe_hits(const rotor_rag_hits *h, char **json, rotor_error *err) {
    if (!h || !json)
        return base_fail(err, ROTOR_E_ARG,
                         "rotor_rag_describe_hits: a required argument is missing");
    json_t *list = json_array();
    for (size_t i = 0; i < h->n; i++) json_array_append_new(list, hit_json(&h->hits[i], i));
    return give_text(list, json, err);
}
