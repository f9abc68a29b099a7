/* SPDX-License-Identifier: MIT
 *
 * A query against rows of bytes: every width of one to ten vectors and that of long embeddings,
 * every remainder of rows.
 */
#include "checkern.h"

enum { S_ROWS, S_QUERY, S_OUT, S_REF, SCAN_ROWS = 13 };

static void fill_bytes(checker *c, int8_t *p, size_t n, fill f) {
    for (size_t i = 0; i < n; i++) {
        const int8_t any = (int8_t)((int)base_rng_below(&c->rng, 255) - 127);
        p[i] = f == FILL_RANDOM ? any
               : f == FILL_ZERO ? 0
               : f == FILL_LOW  ? -127
               : f == FILL_HIGH ? 127
               : (i & 1)        ? (int8_t)127
                                : (int8_t)-127;
    }
}

/* out[n] and ref[n] are what rows gave at a level and in C. */
static void judge(checker *c, size_t l, const int32_t *out, const int32_t *ref, size_t ld, size_t n,
                  fill rows_f, fill query_f) {
    slot_verdict(c, l, memcmp(out, ref, n * sizeof *out) == 0 && guards_intact(&c->space[S_OUT]),
                 "ld %zu, %zu rows, %s against %s", ld, n, fill_name(rows_f), fill_name(query_f));
}

/* Rows of one kind against a query of another, so that signs meet in all four ways. */
static void check_one(checker *c, size_t ld, size_t n, fill rows_f, fill query_f) {
    int8_t *rows = (int8_t *)space_take(c, S_ROWS, n * ld, 0);
    int8_t *query = (int8_t *)space_take(c, S_QUERY, ld, 0);
    int32_t *ref = (int32_t *)(void *)space_take(c, S_REF, n * sizeof *ref, 0);
    fill_bytes(c, rows, n * ld, rows_f);
    fill_bytes(c, query, ld, query_f);
    c->ref.scan_i8(ref, rows, query, ld, n);
    for (size_t l = 0; l < c->n_levels; l++) {
        int32_t *out = (int32_t *)(void *)space_take(c, S_OUT, n * sizeof *out, 0);
        c->table[l].scan_i8(out, rows, query, ld, n);
        judge(c, l, out, ref, ld, n, rows_f, query_f);
    }
}

/* Codes are what every byte means, so that rows need no filling of their own. */
static void check_codes(checker *c, size_t ld, size_t n, fill rows_f, fill query_f) {
    uint8_t *rows = space_take(c, S_ROWS, n * ld / 4, 0);
    int8_t *query = (int8_t *)space_take(c, S_QUERY, ld, 0);
    int32_t *ref = (int32_t *)(void *)space_take(c, S_REF, n * sizeof *ref, 0);
    for (size_t i = 0; i < n * ld / 4; i++)
        rows[i] = rows_f == FILL_HIGH   ? 0xFF
                  : rows_f == FILL_ZERO ? 0
                                        : (uint8_t)base_rng_below(&c->rng, 256);
    fill_bytes(c, query, ld, query_f);
    c->ref.scan_i2(ref, rows, query, ld, n);
    for (size_t l = 0; l < c->n_levels; l++) {
        int32_t *out = (int32_t *)(void *)space_take(c, S_OUT, n * sizeof *out, 0);
        c->table[l].scan_i2(out, rows, query, ld, n);
        judge(c, l, out, ref, ld, n, rows_f, query_f);
    }
}

void check_scan(checker *c) {
    static const size_t widths[] = {64, 128, 192, 256, 320, 384, 448, 512, 576, 640, 1024, 4096};
    void (*const check[])(checker *, size_t, size_t, fill, fill) = {check_one, check_codes};
    static const char *const slot[] = {"scan_i8", "scan_i2"};
    for (size_t i = 0; i < BASE_COUNT(slot); i++) {
        if (!slot_begin(c, slot[i])) continue;
        for (size_t w = 0; w < BASE_COUNT(widths); w++)
            for (size_t n = 1; n <= SCAN_ROWS; n++)
                for (int f = 0; f < FILL_KINDS; f++)
                    for (int g = 0; g < FILL_KINDS; g++)
                        if (n == SCAN_ROWS || f == g) check[i](c, widths[w], n, (fill)f, (fill)g);
    }
}
