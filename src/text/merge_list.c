/* SPDX-License-Identifier: MIT
 *
 * Reading a merge list: "left right" lines to a table of id pairs.
 *
 * A large vocabulary has half a million merges, each with four look-ups in tables that do not fit
 * the nearer caches. Waiting for each in turn would take longer than everything else at start, so
 * merges are resolved TEXT_QUEUE at a time, in passes: each pass asks for the memory that the next
 * one reads.
 */
#include "text/text_internal.h"

rotor_status text_merges_begin(text_merge_queue *q, text_vocab *v, size_t n, rotor_error *err) {
    *q = (text_merge_queue){.v = v};
    if (n >= TEXT_NO_RANK)
        return base_fail(err, ROTOR_E_FORMAT, "vocabulary: %zu merges, more than 2^32 - 2", n);
    if (text_merges_create(&v->merges, n) != ROTOR_OK)
        return base_fail_nomem(err, "building the merge table");
    return ROTOR_OK;
}

/* Start of the left half, the right half, both. */
static const char *part(const text_merge_queue *q, const text_queued_merge *m, int which) {
    return q->bytes.data + m->at + (which == 1 ? m->n[0] : 0);
}

static void hash_parts(text_merge_queue *q) {
    for (int i = 0; i < q->n; i++)
        for (int k = 0; k < 3; k++) {
            text_queued_merge *m = &q->waiting[i];
            m->hash[k] = text_index_hash(q->v, part(q, m, k), m->n[k]);
            text_index_prefetch(q->v, m->hash[k], 0);
        }
}

static bool find_parts(text_merge_queue *q, text_queued_merge *m) {
    for (int k = 0; k < 3; k++) {
        m->id[k] = text_index_find(q->v, m->hash[k], part(q, m, k), m->n[k]);
        if (m->id[k] == TEXT_NO_ID) return false;
    }
    /* A merge that spelled a control token would let plain text become one. */
    return text_type_is_plain(text_type_at(q->v, m->id[2]));
}

static void flush(text_merge_queue *q) {
    hash_parts(q);
    for (int stage = 1; stage <= 2; stage++)
        for (int i = 0; i < q->n; i++)
            for (int k = 0; k < 3; k++) text_index_prefetch(q->v, q->waiting[i].hash[k], stage);
    for (int i = 0; i < q->n; i++) {
        text_queued_merge *m = &q->waiting[i];
        bool good = find_parts(q, m);
        if (good)
            text_merges_prefetch(&q->v->merges, m->id[0], m->id[1]);
        else
            m->id[2] = TEXT_NO_ID;
        q->n_bad += !good;
    }
    for (int i = 0; i < q->n; i++) {
        const text_queued_merge *m = &q->waiting[i];
        if (m->id[2] != TEXT_NO_ID)
            text_merges_put(&q->v->merges, m->id[0], m->id[1], m->rank, m->id[2]);
    }
    q->n = 0;
    base_buf_reset(&q->bytes);
}

/* Appends the raw bytes of one half; false when it is no token text. */
static bool take_half(text_merge_queue *q, base_str half, size_t *n) {
    *n = half.n;
    if (!half.n || !base_buf_reserve(&q->bytes, half.n)) return false;
    char *to = q->bytes.data + q->bytes.len;
    if (!q->v->bytes_are_symbols)
        memcpy(to, half.p, half.n);
    else if (!text_unmap(half, to, n))
        return false;
    q->bytes.len += *n;
    return true;
}

void text_merges_add(text_merge_queue *q, base_str left, base_str right, uint32_t rank) {
    if (q->bytes.failed) return;
    if (q->n == TEXT_QUEUE) flush(q);
    text_queued_merge *m = &q->waiting[q->n];
    m->at = q->bytes.len;
    m->rank = rank;
    q->n_all++;
    if (take_half(q, left, &m->n[0]) && take_half(q, right, &m->n[1])) {
        m->n[2] = m->n[0] + m->n[1];
        q->n++;
    } else {
        q->bytes.len = m->at;
        q->n_bad++;
    }
}

void text_merges_add_line(text_merge_queue *q, base_str line, uint32_t rank) {
    const char *space = line.n > 1 ? memchr(line.p + 1, ' ', line.n - 1) : NULL;
    size_t left = space ? (size_t)(space - line.p) : line.n;
    base_str right = {space ? space + 1 : "", space ? line.n - left - 1 : 0};
    text_merges_add(q, (base_str){line.p, left}, right, rank);
}

rotor_status text_merges_end(text_merge_queue *q, const base_log *log, rotor_error *err) {
    bool failed = q->bytes.failed;
    if (!failed) flush(q);
    base_buf_free(&q->bytes);
    if (failed) return base_fail_nomem(err, "building the merge table");
    if (q->n_bad)
        base_log_printf(log, BASE_LOG_WARN, "vocabulary: %zu of %zu merges name no tokens; ignored",
                        q->n_bad, q->n_all);
    return ROTOR_OK;
}
