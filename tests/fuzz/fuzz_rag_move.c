/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: any bytes as the file of rotor rag export. Its records are read whatever its sum
 * says, which counts at the end: what they give is whole and UTF-8, or they are refused with a
 * reason.
 */
#include <stdlib.h>

#include "rag/rag_move.h"

static void must(bool ok) {
    if (!ok) abort();
}

static rotor_status take_model(void *user, const rag_embedder *m) {
    size_t *dims = user;
    must(!*dims && m->dims && m->dims <= RAG_MOVE_MAX_DIMS);
    *dims = m->dims + strlen(m->name) * 0 + strlen(m->path) * 0;
    return ROTOR_OK;
}

static rotor_status take_file(void *user, const char *path, const rag_db_file *f,
                              const char *message) {
    (void)user;
    must(path[0] && f->status[0] && strlen(message) < SIZE_MAX);
    return ROTOR_OK;
}

static bool is_utf8(const char *p, size_t n) {
    int32_t c = 0;
    for (size_t at = 0; at < n && c >= 0;) at += (size_t)base_utf8_decode(p + at, n - at, &c);
    return c >= 0;
}

static rotor_status take_document(void *user, rag_document *d) {
    (void)user;
    size_t at = 0;
    must(is_utf8(d->text.p, d->text.n) && is_utf8(d->row.title, strlen(d->row.title)));
    must(d->is_cut && strlen(d->text.p) <= d->text.n && strlen(d->row.title) < SIZE_MAX);
    for (size_t i = 0; i < d->n_passages; i++) {
        const rag_passage *p = &d->passages[i];
        must(p->begin >= at && p->begin < p->end && p->end <= d->text.n &&
             is_utf8(p->heading, strlen(p->heading)));
        at = p->end;
    }
    return ROTOR_OK;
}

static rotor_status take_vector(void *user, const uint8_t hash[RAG_HASH], float scale,
                                base_str high, base_str low) {
    const size_t *dims = user;
    int sum = hash[0];
    must(scale > 0 && scale <= 1 && high.n == *dims && low.n == *dims);
    for (size_t i = 0; i < *dims; i++) sum += high.p[i] + low.p[i]; /* all of it is there */
    return sum == INT32_MIN ? ROTOR_E_FORMAT : ROTOR_OK;
}

static rotor_status read_bytes(void *user, uint64_t at, void *p, size_t n, rotor_error *err) {
    const base_str *bytes = user;
    (void)err;
    must(at <= bytes->n && n <= bytes->n - at);
    if (n) memcpy(p, bytes->p + at, n);
    return ROTOR_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t dims = 0;
    rotor_error err = {0};
    const rag_move_sink to = {take_model, take_file, take_document, take_vector, &dims};
    base_str bytes = {size ? (const char *)data : "", size};
    const rag_move_source from = {read_bytes, &bytes, size};
    must(rag_move_check(&from, &err) == ROTOR_OK || err.message[0]);
    err = (rotor_error){0};
    must(rag_move_read(&from, &to, &err) == ROTOR_OK || err.message[0]);
    return 0;
}
