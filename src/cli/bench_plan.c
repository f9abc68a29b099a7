/* SPDX-License-Identifier: MIT
 *
 * rotor bench --plan minerva: the benchmarks of the plan that Rotor began with, and each of its
 * success criteria beside what was measured.
 *
 *   one token            from nothing
 *   a sequence           all of it from nothing: what every token would cost without a cache
 *   a token with cache   the last one of that sequence, the rest being cached
 *   100 tokens           generated one after another
 *
 * A criterion in tokens per second is a bandwidth: bytes that a token reads, times tokens. Where
 * the machine's memory, measured beside the runs, gives less, no program can meet it, and that is
 * printed with the figure.
 */
#include "cli/bench.h"

#include <jansson.h>
#include <stdio.h>

/* Tokens a second that the plan asks for. */
static const struct {
    const char *name; /* in the plan */
    double tps;       /* at least */
} wanted[] = {{"CPU, first goal", 10},
              {"CPU, second goal", 20},
              {"GPU, at least", 100},
              {"GPU, at best", 500}};

enum { PLAN_BLOCK = 64, PLAN_TENSORS = 459, PLAN_SPAN = 512 };

static double median_of(double *v, size_t n) {
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0 && v[j] < v[j - 1]; j--) {
            const double x = v[j];
            v[j] = v[j - 1];
            v[j - 1] = x;
        }
    return n ? (v[(n - 1) / 2] + v[n / 2]) / 2 : 0;
}

/* Microseconds to bring the timeline from its first `from` tokens to `to`. */
static rotor_status time_eval(bench *b, size_t from, size_t to, double *us, rotor_error *err) {
    const float *logits;
    rotor_session_rewind(b->s[0], (uint32_t)from);
    if (rotor_session_len(b->s[0]) != from)
        ROTOR_TRY(rotor_eval(b->s[0], b->ids, from, &logits, err));
    const uint64_t start = base_now_us();
    ROTOR_TRY(rotor_eval(b->s[0], b->ids, to, &logits, err));
    *us = (double)(base_now_us() - start);
    return cli_interrupted() ? base_fail(err, ROTOR_E_CANCELLED, "interrupted") : ROTOR_OK;
}

static rotor_status time_often(bench *b, size_t from, size_t to, double *us, rotor_error *err) {
    const size_t n = (size_t)cli_int(b->a, OPT_REPS);
    double *v = base_alloc_array(n, sizeof *v);
    if (!v) return base_fail_nomem(err, "measuring");
    rotor_status st = ROTOR_OK;
    for (size_t i = 0; i < n && st == ROTOR_OK; i++) st = time_eval(b, from, to, &v[i], err);
    *us = st == ROTOR_OK ? median_of(v, n) : 0;
    base_free(v);
    return st;
}

rotor_status bench_plan_measure(bench *b, const cli_model *m, rotor_error *err) {
    bench_plan *p = &b->plan;
    uint64_t before[BASE_PERF_EVENTS], after[BASE_PERF_EVENTS];
    double us;
    tool_file *f = NULL;
    ROTOR_TRY(time_often(b, 0, 1, &p->one_us, err));
    ROTOR_TRY(time_often(b, 0, b->n_prompt, &p->whole_us, err));
    ROTOR_TRY(time_often(b, b->n_prompt - 1, b->n_prompt, &p->cached_us, err));
    p->counted = base_perf_read(&b->perf, before);
    for (size_t i = 0; i < b->n_gen; i++) ROTOR_TRY(time_eval(b, i, i + 1, &us, err));
    p->counted = p->counted && base_perf_read(&b->perf, after);
    for (int i = 0; p->counted && i < BASE_PERF_EVENTS; i++)
        p->counts[i] = (double)(after[i] - before[i]) / (double)b->n_gen;
    ROTOR_TRY(tool_file_open(&f, &m->src, err));
    p->n_tensors = tool_file_facts(f)->n_tensors;
    tool_file_close(&f);
    return ROTOR_OK;
}

/* ==== Criteria ================================================================================ */

/* GB/s that this many tokens a second take. */
static double needed(const bench *b, double tps) {
    return tps * b->of[BENCH_DECODE].work.bytes / 1e9;
}

static double there_is(const bench *b) {
    return b->device.id[0] ? b->device.copy_gbps : b->machine[TOOL_READ].median;
}

static bool in_cache(const bench *b) {
    tool_machine m;
    tool_machine_get(&m);
    return !b->device.id[0] && b->of[BENCH_DECODE].work.bytes <= (double)m.cache_bytes;
}

static const char *verdict(const bench *b, double tps) {
    const double here = there_is(b);
    if (b->of[BENCH_DECODE].tps_stat.median >= tps) return "met";
    return here > 0 && !in_cache(b) && needed(b, tps) > here ? "forbidden" : "missed";
}

static void text_criteria(const bench *b) {
    const double tps = b->of[BENCH_DECODE].tps_stat.median;
    cli_outf("\ncriterion                          measured            verdict\n");
    for (size_t i = 0; i < BASE_COUNT(wanted); i++) {
        char name[48];
        snprintf(name, sizeof name, "%s: %.0f t/s", wanted[i].name, wanted[i].tps);
        const char *is = verdict(b, wanted[i].tps);
        cli_outf("%-34s %8.1f t/s        %s", name, tps, is);
        if (strcmp(is, "forbidden") == 0)
            cli_outf(": it takes %.1f GB/s, memory here gives %.1f", needed(b, wanted[i].tps),
                     there_is(b));
        cli_outf("\n");
    }
    cli_outf("%-34s %8.1fx           %s\n", "cache faster than without",
             bench_ratio(b->plan.whole_us, b->plan.cached_us),
             b->plan.cached_us < b->plan.whole_us ? "met" : "missed");
    if (strcmp(b->info.architecture, "gpt-oss") == 0)
        cli_outf("%-34s %8zu            %s\n", "all 459 tensors load", b->plan.n_tensors,
                 b->plan.n_tensors == PLAN_TENSORS ? "met" : "another file");
}

/* ==== Text ==================================================================================== */

static void row(const char *what, double us, double tokens) {
    cli_outf("%-34s %10.2f ms %10.1f t/s\n", what, us / 1e3, us > 0 ? tokens * 1e6 / us : 0);
}

static void text_cache(const bench *b) {
    const bench_plan *p = &b->plan;
    if (p->counted)
        cli_outf(
            "processor cache  a token asks it %.2f M times and misses %.2f M (%.0f %%); %.1f M "
            "instructions\n",
            p->counts[1] / 1e6, p->counts[2] / 1e6, 100 * bench_ratio(p->counts[2], p->counts[1]),
            p->counts[0] / 1e6);
    else
        cli_outf("processor cache  counters: %s\n", b->perf_why);
}

void bench_plan_print(const bench *b) {
    const bench_plan *p = &b->plan;
    const bench_result *d = &b->of[BENCH_DECODE];
    char name[64], peak[32], weights[32], kv[32];
    cli_outf("\nplan minerva\n");
    row("one token", p->one_us, 1);
    snprintf(name, sizeof name, "%zu tokens, no cache", b->n_prompt);
    row(name, p->whole_us, (double)b->n_prompt);
    row("the last of them, with cache", p->cached_us, 1);
    snprintf(name, sizeof name, "%zu tokens generated", b->n_gen);
    row(name, bench_ratio(1e6 * (double)b->n_gen, d->tps_stat.median), (double)b->n_gen);
    cli_outf("memory           peak %s: weights %s, cache %s\n", cli_bytes(b->peak_bytes, peak),
             cli_bytes(b->info.file_bytes, weights), cli_bytes(b->info.kv_bytes, kv));
    cli_outf("bandwidth        a token reads %.1f MB: %.1f GB/s, memory gives %.1f%s\n",
             d->work.bytes / 1e6, d->work.bytes * d->tps_stat.median / 1e9, there_is(b),
             in_cache(b) ? " (but the processor's cache may hold all that)" : "");
    text_cache(b);
    cli_outf("attention block  %d keys, as in the plan; %d such blocks make a span, which threads "
             "share\n",
             PLAN_BLOCK, PLAN_SPAN / PLAN_BLOCK);
    text_criteria(b);
}

/* ==== JSON ==================================================================================== */

static json_t *criteria_json(const bench *b) {
    json_t *list = json_array();
    for (size_t i = 0; i < BASE_COUNT(wanted); i++) {
        json_t *o = json_object();
        json_object_set_new(o, "name", json_string(wanted[i].name));
        json_object_set_new(o, "tps", json_real(wanted[i].tps));
        json_object_set_new(o, "measured_tps", json_real(b->of[BENCH_DECODE].tps_stat.median));
        json_object_set_new(o, "needs_gbps", json_real(needed(b, wanted[i].tps)));
        json_object_set_new(o, "machine_gbps", json_real(there_is(b)));
        json_object_set_new(o, "verdict", json_string(verdict(b, wanted[i].tps)));
        json_array_append_new(list, o);
    }
    return list;
}

json_t *bench_plan_json(const bench *b) {
    static const char *const names[BASE_PERF_EVENTS] = {
        "instructions_per_token", "cache_references_per_token", "cache_misses_per_token"};
    const bench_plan *p = &b->plan;
    json_t *o = json_object();
    json_object_set_new(o, "plan", json_string("minerva"));
    json_object_set_new(o, "one_token_ms", json_real(p->one_us / 1e3));
    json_object_set_new(o, "sequence_no_cache_ms", json_real(p->whole_us / 1e3));
    json_object_set_new(o, "last_token_cached_ms", json_real(p->cached_us / 1e3));
    json_object_set_new(o, "generated_tps", json_real(b->of[BENCH_DECODE].tps_stat.median));
    for (int i = 0; i < BASE_PERF_EVENTS; i++)
        json_object_set_new(o, names[i], p->counted ? json_real(p->counts[i]) : json_null());
    if (!p->counted) json_object_set_new(o, "counters", json_string(b->perf_why));
    json_object_set_new(o, "attention_block", json_integer(PLAN_BLOCK));
    json_object_set_new(o, "tensors", json_integer((json_int_t)p->n_tensors));
    json_object_set_new(o, "criteria", criteria_json(b));
    return o;
}
