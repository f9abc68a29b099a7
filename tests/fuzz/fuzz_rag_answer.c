/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: any bytes as sources and an answer about them, with 0x1F between. What is quoted has
 * no line that could be a turn, numbers of no source go and stay gone, however the answer comes in
 * pieces, and citations lie inside the text.
 */
#include <stdlib.h>

#include "rag/rag_internal.h"

enum { SOURCES = 4 };

static void must(bool ok) {
    if (!ok) abort();
}

static void check_turn(rag_context *c) {
    must(rag_write_turn(c, base_str_of("why?"), NULL) == ROTOR_OK);
    must(!strstr(c->turn, "\nSystem:") && !strstr(c->turn, "\nUser:") &&
         !strstr(c->turn, "\nAssistant:"));
    base_free(c->rules);
    base_free(c->turn);
}

/* Without numbers of no source; step: bytes of a piece. */
static size_t filter(size_t n_sources, base_str text, size_t step, base_buf *out) {
    rag_marks m = {.n_sources = n_sources};
    for (size_t at = 0; at < text.n; at += step)
        rag_marks_put(&m, (base_str){text.p + at, BASE_MIN(step, text.n - at)}, out);
    rag_marks_end(&m, out);
    return m.n_removed;
}

static void check_answer(const rag_context *c, base_str answer) {
    base_buf whole = {0}, pieces = {0};
    rag_checked k;
    const size_t n = filter(c->n, answer, SIZE_MAX / 2, &whole);
    must(filter(c->n, answer, 3, &pieces) == n && whole.len == pieces.len);
    must(!whole.len || memcmp(whole.data, pieces.data, whole.len) == 0);
    must(rag_check(c, answer, &k, NULL) == ROTOR_OK);
    must(k.n_removed == n && k.text.len == whole.len);
    for (size_t i = 0; i < k.n; i++)
        must(k.list[i].source < c->n && k.list[i].begin <= k.list[i].end &&
             k.list[i].end <= k.text.len);
    rag_checked_free(&k);
    base_buf_free(&whole);
    base_buf_free(&pieces);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    rag_source sources[SOURCES] = {0};
    rag_context c = {.sources = sources};
    char *text = base_strndup((const char *)data, size), *at = text;
    if (!text) return 0;
    for (char *end; c.n < SOURCES && (end = strchr(at, 0x1F)); at = end + 1) {
        *end = 0;
        sources[c.n++].hit =
            (rag_hit){.path = at, .id = "", .title = "", .heading = at, .text = at};
        (void)rag_gives_orders(base_str_of(at));
    }
    check_turn(&c);
    check_answer(&c, base_str_of(at));
    base_free(text);
    return 0;
}
