/* SPDX-License-Identifier: MIT
 *
 * The route table: the only place where a path is defined.
 *
 * Clients are generous with /v1: some leave it out, some write it twice. Both find their route; the
 * table holds the normal form.
 */
#include "serve/serve_internal.h"

#include <stdio.h>

static const serve_route routes[] = {
    {"GET", "/", serve_get_page, NULL, SERVE_ANYONE | SERVE_EARLY},
    {"GET", "/favicon.ico", serve_get_icon, NULL, SERVE_ANYONE | SERVE_EARLY},
    {"GET", "/health", serve_get_health, NULL, SERVE_ANYONE | SERVE_EARLY},
    {"GET", "/v1/models", serve_get_models, NULL, 0},
    {"GET", "/v1/models/", serve_get_model, NULL, SERVE_TAIL},
    {"POST", "/v1/chat/completions", serve_generate, &serve_chat_dialect, 0},
    {"POST", "/v1/completions", serve_generate, &serve_text_dialect, 0},
    {"POST", "/v1/embeddings", serve_post_embeddings, NULL, 0},
    {"POST", "/v1/rerank", serve_post_rerank, NULL, 0},
    {"GET", "/v1/rag/stores", serve_get_stores, NULL, 0},
    {"GET", "/v1/rag/stores/*/docs", serve_get_documents, NULL, 0},
    {"POST", "/v1/rag/stores/*/docs", serve_put_document, NULL, 0},
    {"PUT", "/v1/rag/stores/*/docs/*", serve_put_document, NULL, 0},
    {"DELETE", "/v1/rag/stores/*/docs/*", serve_delete_document, NULL, 0},
    {"POST", "/v1/rag/search", serve_post_search, NULL, 0},
    {"POST", "/v1/rag/ask", serve_generate, &serve_rag_dialect, 0},
    {"POST", "/completion", serve_generate, &serve_native_dialect, 0},
    {"POST", "/infill", serve_generate, &serve_infill_dialect, 0},
    {"POST", "/tokenize", serve_post_tokenize, NULL, 0},
    {"POST", "/detokenize", serve_post_detokenize, NULL, 0},
    {"POST", "/apply-template", serve_post_apply_template, NULL, 0},
    {"GET", "/metrics", serve_get_metrics, NULL, 0},
    {"GET", "/props", serve_get_props, NULL, 0},
    {"GET", "/slots", serve_get_slots, NULL, 0},
    {"GET", "/version", serve_get_version, NULL, SERVE_EARLY},
    {"POST", "/v1/responses", serve_generate, &serve_responses_dialect, 0},
    {"GET", "/v1/responses/", serve_get_response, NULL, SERVE_TAIL},
    {"DELETE", "/v1/responses/", serve_delete_response, NULL, SERVE_TAIL},
    {"POST", "/v1/messages", serve_generate, &serve_messages_dialect, 0},
    {"POST", "/v1/messages/count_tokens", serve_count_messages, &serve_messages_dialect, 0},
    {"POST", "/api/chat", serve_generate, &serve_ollama_chat_dialect, 0},
    {"POST", "/api/generate", serve_generate, &serve_ollama_text_dialect, 0},
    {"POST", "/api/embed", serve_post_embed, &serve_ollama_dialect, 0},
    {"POST", "/api/embeddings", serve_post_one_embedding, &serve_ollama_dialect, 0},
    {"GET", "/api/tags", serve_get_tags, &serve_ollama_dialect, 0},
    {"GET", "/api/ps", serve_get_ps, &serve_ollama_dialect, 0},
    {"GET", "/api/version", serve_get_ollama_version, &serve_ollama_dialect, 0},
    {"POST", "/api/show", serve_post_show, &serve_ollama_dialect, 0},
    {"POST", "/api/pull", serve_post_pull, &serve_ollama_dialect, 0},
};

const serve_route *serve_route_at(size_t i) { return i < BASE_COUNT(routes) ? &routes[i] : NULL; }

void serve_normal_path(const char *url, char *out, size_t cap) {
    while (strncmp(url, "/v1/v1/", 7) == 0) url += 3;
    snprintf(out, cap, "%s", url);
    size_t n = strlen(out);
    while (n > 1 && out[n - 1] == '/') out[--n] = 0;
}

/* A star stands for one part of a path; *tail is where the first of them begins. */
static bool fits_parts(const char *p, const char *path, const char **tail) {
    for (; *p && *path; p++) {
        const size_t n = *p == '*' ? strcspn(path, "/") : (size_t)(*p == *path);
        if (!n) return false;
        if (*p == '*' && !*tail) *tail = path;
        path += n;
    }
    return !*p && !*path;
}

static bool fits(const serve_route *r, const char *path, const char **tail) {
    const size_t n = strlen(r->path);
    *tail = NULL;
    if (!(r->flags & SERVE_TAIL)) return fits_parts(r->path, path, tail);
    if (strncmp(r->path, path, n) != 0 || !path[n]) return false;
    *tail = path + n;
    return true;
}

static const serve_route *find(const char *method, const char *path, const char **tail,
                               char allow[48]) {
    const serve_route *found = NULL;
    const char *rest;
    for (size_t i = 0; i < BASE_COUNT(routes); i++) {
        if (!fits(&routes[i], path, &rest)) continue;
        const size_t n = strlen(allow);
        snprintf(allow + n, 48 - n, "%s%s", n ? ", " : "", routes[i].method);
        if (strcmp(routes[i].method, method) != 0 || found) continue;
        found = &routes[i];
        *tail = rest;
    }
    return found;
}

const serve_route *serve_find_route(const char *method, const char *path, const char **tail,
                                    char allow[48]) {
    char with[260];
    if (strcmp(method, "HEAD") == 0) method = "GET";
    allow[0] = 0;
    *tail = NULL;
    const serve_route *r = find(method, path, tail, allow);
    if (r || allow[0] || strlen(path) + 3 >= sizeof with) return r;
    snprintf(with, sizeof with, "/v1%s", path);
    const char *rest = NULL;
    r = find(method, with, &rest, allow);
    if (rest) *tail = path + (rest - with) - 3; /* with ends with this call */
    return r;
}
