/* SPDX-License-Identifier: MIT
 *
 * What a step costs, learned while it is being paid.
 *
 *     time = base_us + rows * row_us
 *
 * A model that does not fit the caches reads all its weights for one row as for many, and further
 * rows are cheap; for a small one every row costs like the first. Nobody knows beforehand which it
 * is, nor what else the machine is doing, so the line is fitted to the steps as they come, each
 * weighing a little less than the one after it. While all steps have the same number of rows the
 * slope stays what it was, at the beginning a guess.
 *
 * Something else on the machine can make a step slow, nothing makes it fast: a step far slower than
 * expected does not count, unless several follow each other; one far faster shows that the past was
 * disturbed, and replaces it.
 *
 * Times decide only how much is guessed, never what is said.
 */
#include "gen/gen_internal.h"

static const double keep = 0.95;         /* weight of a step beside the one after it */
static const double first_slope = 0.2;   /* of a row's share before it is known */
static const double too_slow = 3.0;      /* times the expected */
static const double too_fast = 0.5;      /* likewise */
static const double least_spread = 0.02; /* variance of rows that a slope can be read from */

enum { MOST_SLOW = 3 }; /* steps in a row that are too slow to count */

static void fit(gen_pace *p) {
    double x = p->x / p->n, y = p->y / p->n, spread = p->xx / p->n - x * x;
    if (spread > least_spread)
        p->row_us = (p->xy / p->n - x * y) / spread;
    else if (p->row_us == 0)
        p->row_us = first_slope * y / (1 + first_slope * (x - 1));
    p->row_us = BASE_MIN(BASE_MAX(p->row_us, 0.001), y / x);
    p->base_us = y - p->row_us * x;
}

void gen_pace_note(gen_pace *p, uint32_t rows, uint64_t us) {
    double x = rows, y = (double)us + 1; /* a clock that stood still still took something */
    double surprise = p->n > 0 ? y / (p->base_us + p->row_us * x) : 1;
    if (surprise > too_slow && p->n_slow < MOST_SLOW) {
        p->n_slow++;
        return;
    }
    if (surprise > too_slow || surprise < too_fast) *p = (gen_pace){.row_us = p->row_us * surprise};
    p->n_slow = 0;
    p->n = p->n * keep + 1;
    p->x = p->x * keep + x;
    p->y = p->y * keep + y;
    p->xx = p->xx * keep + x * x;
    p->xy = p->xy * keep + x * y;
    fit(p);
}

gen_plan gen_pace_plan(const gen_pace *p, uint32_t rows) {
    gen_plan plan = {.tokens = rows, .us = 1 + first_slope * (rows - 1.0), .row_us = first_slope};
    if (p->n > 0) plan = (gen_plan){rows, p->base_us + p->row_us * rows, p->row_us};
    return plan;
}
