/* SPDX-License-Identifier: MIT
 *
 * Fuzz target: any bytes as the log of a run that goes on. What is read can be written again and
 * read back the same, and plotted; a log cut back to a step has no row behind it.
 */
#define _GNU_SOURCE
#include "train/train.h"

#include "input_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(rotor_status st) {
    if (st != ROTOR_OK) abort();
}

static void must_be_same(const train_log *a, const train_log *b) {
    if (a->n != b->n) abort();
    for (size_t i = 0; i < a->n; i++) {
        const train_row *x = &a->rows[i], *y = &b->rows[i];
        if (x->step != y->step || x->loss != y->loss || x->tok_per_s != y->tok_per_s) abort();
        if (x->held != y->held && !(x->held != x->held && y->held != y->held)) abort();
    }
}

/* Numbers are rounded when they are first written, and no more after that. */
static void write_and_read(const train_log *l) {
    const char *csv = input_file_put(1, ".csv", "", 0), *svg = input_file_put(2, ".svg", "", 0);
    train_log once = {0}, twice = {0};
    must(train_log_write_csv(l, csv, NULL));
    must(train_log_read(&once, csv, UINT64_MAX, NULL));
    must(train_log_write_csv(&once, csv, NULL));
    must(train_log_read(&twice, csv, UINT64_MAX, NULL));
    must_be_same(&once, &twice);
    must(train_log_write_svg(l, svg, NULL));
    train_log_free(&once);
    train_log_free(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *path = input_file_put(0, ".csv", data, size);
    const uint64_t lasts[] = {0, 2, UINT64_MAX};
    for (size_t i = 0; i < BASE_COUNT(lasts); i++) {
        train_log l = {0};
        rotor_error err = {0};
        const rotor_status st = train_log_read(&l, path, lasts[i], &err);
        if (st != ROTOR_OK) must_be_told(st, &err);
        for (size_t k = 0; k < l.n; k++)
            if (l.rows[k].step > lasts[i] || (k && l.rows[k].step <= l.rows[k - 1].step)) abort();
        if (st == ROTOR_OK && lasts[i] == UINT64_MAX) write_and_read(&l);
        train_log_free(&l);
    }
    return 0;
}
