/* SPDX-License-Identifier: MIT
 *
 * Perplexity and KL divergence from rows of logits. Sums are in double; the log of the sum of
 * exponentials is taken around the largest logit, so that no logit overflows.
 */
#include "tool/tool.h"

#include <math.h>
#include <stdlib.h>

/* Log of the sum of exp(x[i]); *top is the index of the largest. */
static double log_sum_exp(const float *x, size_t n, size_t *top) {
    size_t best = 0;
    double sum = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    for (size_t i = 0; i < n; i++) sum += (double)expf(x[i] - x[best]);
    *top = best;
    return (double)x[best] + log(sum);
}

void tool_score_add(tool_score *s, const float *logits, size_t n_vocab, uint32_t target) {
    size_t top;
    double nll = log_sum_exp(logits, n_vocab, &top) - (double)logits[target];
    s->nll_sum += nll;
    s->nll_sq += nll * nll;
    s->n++;
}

double tool_perplexity(const tool_score *s) { return s->n ? exp(s->nll_sum / (double)s->n) : 0; }

double tool_perplexity_error(const tool_score *s) {
    if (s->n < 2) return 0;
    double n = (double)s->n, mean = s->nll_sum / n;
    double variance = (s->nll_sq / n - mean * mean) / (n - 1);
    return variance > 0 ? sqrt(variance) * tool_perplexity(s) : 0;
}

/* ==== KL divergence =========================================================================== */

rotor_status tool_kld_add(tool_kld *k, const float *base, const float *logits, size_t n_vocab) {
    if (k->n == k->cap) {
        size_t cap = k->cap ? 2 * k->cap : 1024;
        float *more = base_realloc(k->each, cap * sizeof *more);
        if (!more) return ROTOR_E_NOMEM;
        k->each = more;
        k->cap = cap;
    }
    size_t top_base, top_here;
    double lse_base = log_sum_exp(base, n_vocab, &top_base);
    double lse_here = log_sum_exp(logits, n_vocab, &top_here);
    double sum = 0;
    for (size_t i = 0; i < n_vocab; i++) {
        double lp = (double)base[i] - lse_base, lq = (double)logits[i] - lse_here;
        if (lp > -40) sum += exp(lp) * (lp - lq); /* e^-40 of 10^5 tokens adds nothing */
    }
    k->each[k->n++] = (float)BASE_MAX(sum, 0.0);
    k->same_top += top_base == top_here;
    return ROTOR_OK;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

tool_kld_result tool_kld_finish(tool_kld *k) {
    tool_kld_result r = {0};
    if (!k->n) return r;
    qsort(k->each, k->n, sizeof *k->each, ascending);
    double sum = 0, last = (double)(k->n - 1);
    for (size_t i = 0; i < k->n; i++) sum += (double)k->each[i];
    r.mean = sum / (double)k->n;
    r.max = (double)k->each[k->n - 1];
    r.median = (double)k->each[(size_t)(0.5 * last)];
    r.p99 = (double)k->each[(size_t)(0.99 * last)];
    r.p999 = (double)k->each[(size_t)(0.999 * last)];
    r.same_top = (double)k->same_top / (double)k->n;
    return r;
}

void tool_kld_free(tool_kld *k) {
    base_free(k->each);
    memset(k, 0, sizeof *k);
}
