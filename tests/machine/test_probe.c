/* SPDX-License-Identifier: MIT
 *
 * The probe that benchmarks divide by, held within 5 % of independent measurements (rulers.h).
 *
 * Ruler and probe take turns; each sample of the probe is divided by the two of the ruler beside
 * it and the median counts. An attempt is worth something only if the ruler agrees with itself, the
 * ratios with each other, and the ruler's threads had their processors to themselves; on a busy
 * machine that is not so, and attempts are repeated. One attempt that is right suffices. Four that
 * are wrong and none that is right is a failure (a neighbour that takes memory's time from the
 * probe alone was seen to make two); where fewer count, the test is skipped (exit status 77).
 */
#include "rulers.h"

#include "base/base.h"
#include "tool/tool.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ATTEMPTS = 8, PAIRS = 5, PAUSE_US = 2000000, SKIPPED = 77 };
static const double tolerance = 0.05, most_spread = 0.15, least_had = 0.97;

static const struct {
    const char *name;      /* of the ceiling */
    double (*ruler)(void); /* its independent measurement; 0: none here */
} ceilings[TOOL_N_CEILINGS] = {[TOOL_READ] = {"plain read, GB/s", ruler_read_gbps},
                               [TOOL_INT8] = {"int8, GMAC/s", ruler_int8_gmacs},
                               [TOOL_F32] = {"f32, GMAC/s", ruler_f32_gmacs}};

typedef struct verdict {
    int right, wrong; /* attempts */
} verdict;

static void judge(const char *name, tool_series *ruler, tool_series *ratio, double had,
                  verdict *v) {
    tool_stat a = tool_series_stat(ruler), q = tool_series_stat(ratio);
    bool steady = a.spread <= most_spread && q.spread <= most_spread && had >= least_had;
    const char *said = steady ? "right" : "unsteady";
    if (steady && fabs(q.median - 1) <= tolerance)
        v->right++;
    else if (steady)
        v->wrong++, said = "WRONG";
    printf("%-17s ruler %.1f (%.1f to %.1f) with %.0f %% of a processor, probe / ruler %.3f (%.3f "
           "to %.3f): %s\n",
           name, a.median, a.min, a.max, 100 * had, q.median, q.min, q.max, said);
}

static void attempt(tool_probe *p, verdict verdicts[TOOL_N_CEILINGS]) {
    tool_series ruler[TOOL_N_CEILINGS] = {0}, ratio[TOOL_N_CEILINGS] = {0};
    double before[TOOL_N_CEILINGS], had[TOOL_N_CEILINGS], after;
    for (int c = 0; c < TOOL_N_CEILINGS; c++) {
        rulers_had();
        before[c] = ceilings[c].ruler();
        had[c] = rulers_had();
    }
    for (int i = 0; i < PAIRS; i++) {
        tool_rates rates;
        if (tool_probe_take(p, &rates, NULL) != ROTOR_OK) exit(1);
        for (int c = 0; c < TOOL_N_CEILINGS; c++) {
            after = ceilings[c].ruler();
            had[c] = fmin(had[c], rulers_had());
            tool_series_add(&ruler[c], after, NULL);
            if (after > 0)
                tool_series_add(&ratio[c], rates.of[c] / ((before[c] + after) / 2), NULL);
            before[c] = after;
        }
    }
    for (int c = 0; c < TOOL_N_CEILINGS; c++) {
        if (ratio[c].n) judge(ceilings[c].name, &ruler[c], &ratio[c], had[c], &verdicts[c]);
        tool_series_free(&ruler[c]);
        tool_series_free(&ratio[c]);
    }
}

int main(void) {
    enum { MOST_WRONG = 4 };
    verdict verdicts[TOOL_N_CEILINGS] = {{0}};
    tool_probe *p = NULL;
    int n_right = 0, n_wrong = 0;
    if (base_available_memory_bytes() < (uint64_t)5 << 30 || !rulers_start()) {
        printf("skipped: two gibibytes of memory cannot be taken here\n");
        return SKIPPED;
    }
    if (tool_probe_create(&p, rulers_threads(), 0, NULL) != ROTOR_OK) return 1;
    for (int c = 0; c < TOOL_N_CEILINGS; c++) verdicts[c].right = ceilings[c].ruler() == 0;
    for (int i = 0; i < ATTEMPTS && n_right + n_wrong < TOOL_N_CEILINGS; i++) {
        if (i) base_sleep_us(PAUSE_US);
        attempt(p, verdicts);
        n_right = n_wrong = 0;
        for (int c = 0; c < TOOL_N_CEILINGS; c++) {
            n_right += verdicts[c].right > 0;
            n_wrong += verdicts[c].right == 0 && verdicts[c].wrong >= MOST_WRONG;
        }
    }
    tool_probe_free(&p);
    rulers_end();
    if (n_wrong) return 1;
    if (n_right < TOOL_N_CEILINGS) printf("skipped: this machine is too busy to be measured\n");
    return n_right < TOOL_N_CEILINGS ? SKIPPED : 0;
}
