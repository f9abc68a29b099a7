/* SPDX-License-Identifier: MIT
 *
 * The blocks of the KV cache: where rows go inside them, and sizes around attention. Plain C for
 * every instruction set: it moves bytes and rounds nothing. Layouts: kern.h.
 */
#include "kern/kern.h"

#include <assert.h>

enum { Q8_GROUP = 32, Q8_ROW = 2 + Q8_GROUP }; /* elements under a scale; their bytes in a row */

static size_t groups_of(size_t d) { return (d + Q8_GROUP - 1) / Q8_GROUP; }

size_t kern_kv_row_bytes(kern_kv type, size_t d) {
    if (type == KERN_KV_F32) return d * 4;
    if (type == KERN_KV_F16) return d * 2;
    return groups_of(d) * Q8_ROW;
}

static void put_key_q8(uint8_t *block, size_t slot, const uint8_t *row, size_t d) {
    const size_t n = groups_of(d);
    uint8_t *scales = block + 2 * slot, *codes = block + 2 * KERN_KEYS * n + slot;
    for (size_t g = 0; g < n; g++, row += Q8_ROW) {
        memcpy(scales + 2 * KERN_KEYS * g, row, 2);
        for (size_t i = 0; i < Q8_GROUP; i++) codes[KERN_KEYS * (Q8_GROUP * g + i)] = row[2 + i];
    }
}

void kern_put_key(uint8_t *block, size_t slot, const uint8_t *row, size_t d, kern_kv type) {
    assert(slot < KERN_KEYS);
    if (type == KERN_KV_Q8)
        put_key_q8(block, slot, row, d);
    else if (type == KERN_KV_F16)
        for (size_t i = 0; i < d; i++) memcpy(block + 2 * (i * KERN_KEYS + slot), row + 2 * i, 2);
    else
        for (size_t i = 0; i < d; i++) memcpy(block + 4 * (i * KERN_KEYS + slot), row + 4 * i, 4);
}

void kern_put_value(uint8_t *block, size_t slot, const uint8_t *row, size_t d, kern_kv type) {
    const size_t n = groups_of(d), row_bytes = kern_kv_row_bytes(type, d);
    assert(slot < KERN_KEYS);
    if (type != KERN_KV_Q8) {
        memcpy(block + slot * row_bytes, row, row_bytes);
        return;
    }
    uint8_t *scales = block + 2 * slot, *codes = block + 2 * n * KERN_KEYS + Q8_GROUP * n * slot;
    for (size_t g = 0; g < n; g++, row += Q8_ROW) {
        memcpy(scales + 2 * KERN_KEYS * g, row, 2);
        memcpy(codes + Q8_GROUP * g, row + 2, Q8_GROUP);
    }
}

/* ==== Sizes around attention ================================================================== */

size_t kern_partial_floats(size_t d) { return 16 + (d + 15) / 16 * 16; }

/* Scores of a span, the queries, a block of scaled probabilities, two states; one block as floats.
 */
size_t kern_attn_scratch(size_t n_rows, size_t d) {
    const size_t wide = (d + 15) / 16 * 16;
    return n_rows * (KERN_SPAN + wide + KERN_KEYS * groups_of(d) + 2 * kern_partial_floats(d)) +
           KERN_KEYS * wide;
}

size_t kern_attn_first_span(const kern_attn *a, size_t t) {
    const size_t end = a->pos + t + 1;
    return a->window && a->window < end ? (end - a->window) / KERN_SPAN : 0;
}

size_t kern_attn_end_span(const kern_attn *a, size_t t) {
    return (kern_attn_end(a, t) - 1) / KERN_SPAN + 1;
}
