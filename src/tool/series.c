/* SPDX-License-Identifier: MIT
 *
 * Measurements as a list: median, range, spread, and what the probe beside a measurement says.
 */
#include "tool/tool.h"

#include <math.h>
#include <stdlib.h>

rotor_status tool_series_add(tool_series *s, double value, rotor_error *err) {
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 16;
        double *v = base_realloc(s->v, cap * sizeof *v);
        if (!v) return base_fail_nomem(err, "measuring");
        s->v = v;
        s->cap = cap;
    }
    s->v[s->n++] = value;
    return ROTOR_OK;
}

void tool_series_free(tool_series *s) {
    base_free(s->v);
    *s = (tool_series){0};
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

tool_stat tool_series_stat(tool_series *s) {
    tool_stat t = {.n = s->n};
    if (s->n == 0) return t;
    double sum = 0, sq = 0;
    for (size_t i = 0; i < s->n; i++) sum += s->v[i];
    t.mean = sum / (double)s->n;
    for (size_t i = 0; i < s->n; i++) sq += (s->v[i] - t.mean) * (s->v[i] - t.mean);
    t.sd = s->n > 1 ? sqrt(sq / (double)(s->n - 1)) : 0;
    qsort(s->v, s->n, sizeof *s->v, ascending);
    t.median = s->n % 2 ? s->v[s->n / 2] : (s->v[s->n / 2 - 1] + s->v[s->n / 2]) / 2;
    t.min = s->v[0];
    t.max = s->v[s->n - 1];
    t.spread = t.median > 0 ? (t.max - t.min) / t.median : 0;
    return t;
}

tool_rates tool_rates_between(const tool_rates *a, const tool_rates *b) {
    tool_rates r = {.had = BASE_MIN(a->had, b->had)};
    for (int c = 0; c < TOOL_N_CEILINGS; c++) r.of[c] = (a->of[c] + b->of[c]) / 2;
    return r;
}
