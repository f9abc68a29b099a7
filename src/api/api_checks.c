/* SPDX-License-Identifier: MIT
 *
 * Checks while running: what they have done, for the caller and as one line of the log.
 */
#include "api/api_internal.h"

#include <stdio.h>

rotor_status rotor_engine_get_self_check(const rotor_engine *e, rotor_self_check *out) {
    run_check_stats st;
    if (!e || !out || out->size < 8 || out->size % 8 != 0) return ROTOR_E_ARG;
    if (!run_check_get(e->run, &st)) return ROTOR_E_STATE;
    rotor_self_check all = {.size = out->size,
                            .steps = st.steps,
                            .logits = st.logits,
                            .values = st.values,
                            .products = st.products,
                            .macs = st.macs,
                            .weight_bytes = st.weight_bytes,
                            .weight_all_bytes = st.weight_all_bytes,
                            .total_ns = st.total_ns,
                            .spent_ns = st.spent_ns,
                            .faults = st.faults};
    _Static_assert(sizeof all.fault == sizeof st.fault, "one line");
    memcpy(all.fault, st.fault, sizeof all.fault);
    memcpy(out, &all, BASE_MIN(sizeof all, (size_t)out->size));
    return ROTOR_OK;
}

void api_log_checks(const rotor_engine *e) {
    run_check_stats st;
    if (!run_check_get(e->run, &st) || !st.steps) return;
    const double total = st.total_ns ? (double)st.total_ns : 1;
    const double whole = st.weight_all_bytes ? (double)st.weight_all_bytes : 1;
    base_log_printf(
        &e->log, st.faults ? BASE_LOG_ERROR : BASE_LOG_INFO,
        "self-check: %llu fault%s in %llu steps; looked at %llu rows of logits and %llu values, "
        "did "
        "a row of %llu products twice, summed the weights %.2f times, in %.1f %% of the time",
        (unsigned long long)st.faults, st.faults == 1 ? "" : "s", (unsigned long long)st.steps,
        (unsigned long long)st.logits, (unsigned long long)st.values,
        (unsigned long long)st.products, (double)st.weight_bytes / whole,
        100 * (double)st.spent_ns / total);
}
