/* SPDX-License-Identifier: MIT
 *
 * Responses that clients may come back to (previous_response_id): kept as JSON text in memory, as
 * many as fit, the oldest forgotten first. Nothing is written to disk; they end with the server.
 *
 * Threading: any thread; one lock, held for as long as a text is copied.
 */
#include "serve/response_store.h"

enum { MOST = 1024, MOST_BYTES = 64 << 20, ONE_BYTES = 8 << 20 };

typedef struct entry {
    char id[64];    /* "resp_…" */
    char *text;     /* owned */
    size_t n_bytes; /* of text */
} entry;

struct serve_store {
    base_mutex *lock; /* guards the rest */
    entry at[MOST];   /* [n], oldest first */
    size_t n;         /* how many */
    size_t bytes;     /* of all texts */
};

rotor_status serve_store_create(serve_store **out) {
    serve_store *s = base_alloc(sizeof *s);
    if (!s) return ROTOR_E_NOMEM;
    const rotor_status st = base_mutex_create(&s->lock);
    if (st == ROTOR_OK)
        *out = s;
    else
        base_free(s);
    return st;
}

void serve_store_free(serve_store **ps) {
    serve_store *s = *ps;
    if (!s) return;
    for (size_t i = 0; i < s->n; i++) base_free(s->at[i].text);
    base_mutex_free(&s->lock);
    base_free(s);
    *ps = NULL;
}

static void drop(serve_store *s, size_t i) {
    s->bytes -= s->at[i].n_bytes;
    base_free(s->at[i].text);
    s->n--;
    memmove(&s->at[i], &s->at[i + 1], (s->n - i) * sizeof s->at[0]);
}

void serve_store_put(serve_store *s, const char *id, const char *text, size_t n_bytes) {
    char *copy = n_bytes <= ONE_BYTES ? base_strndup(text, n_bytes) : NULL;
    if (!copy) return;
    base_mutex_lock(s->lock);
    while (s->n && (s->n == MOST || s->bytes + n_bytes > MOST_BYTES)) drop(s, 0);
    entry *e = &s->at[s->n++];
    *e = (entry){.text = copy, .n_bytes = n_bytes};
    memcpy(e->id, id, BASE_MIN(strlen(id), sizeof e->id - 1));
    s->bytes += n_bytes;
    base_mutex_unlock(s->lock);
}

static size_t find(const serve_store *s, const char *id) {
    size_t i = 0;
    while (i < s->n && strcmp(s->at[i].id, id) != 0) i++;
    return i;
}

json_t *serve_store_get(serve_store *s, const char *id) {
    base_buf copy = {0};
    base_mutex_lock(s->lock);
    const size_t i = find(s, id);
    if (i < s->n) base_buf_append(&copy, s->at[i].text, s->at[i].n_bytes);
    base_mutex_unlock(s->lock);
    json_t *v = copy.len ? json_loadb(copy.data, copy.len, 0, NULL) : NULL;
    base_buf_free(&copy);
    return v;
}

bool serve_store_drop(serve_store *s, const char *id) {
    base_mutex_lock(s->lock);
    const size_t i = find(s, id);
    const bool known = i < s->n;
    if (known) drop(s, i);
    base_mutex_unlock(s->lock);
    return known;
}
