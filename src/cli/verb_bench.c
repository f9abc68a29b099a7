/* SPDX-License-Identifier: MIT
 *
 * rotor bench: prompt and decode speed of a model, beside what this machine's memory and arithmetic
 * allow at the same moment.
 *
 * Neither tokeniser nor sampler is inside a timing: random ids go in, logits come out. Every kind
 * of run is made once without counting, then all kinds in turn, --repetitions times, from the same
 * depth. The machine is probed before and after every run, and a run is divided by its own two
 * neighbours: machines are shared and drift, a ratio to a figure of a minute ago says nothing.
 */
#include "cli/bench.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

double bench_ratio(double part, double whole) { return whole > 0 ? part / whole : 0; }

bool bench_stable(const bench *b) {
    for (int c = 0; c < TOOL_N_CEILINGS; c++)
        if (b->machine[c].spread > BENCH_UNSTABLE) return false;
    return b->rates_median.had > BENCH_BUSY;
}

tool_floor bench_ceiling(const bench *b, enum bench_kind kind, const tool_rates *machine) {
    const tool_work *w = &b->of[kind].work;
    const double together = kind == BENCH_SESSIONS ? (double)b->n_sessions : 1;
    if (!b->device.id[0]) return tool_floor_of(w, machine);
    if (kind == BENCH_PROMPT) return (tool_floor){0};
    return (tool_floor){.tps = tool_device_bound(&b->device, w->bytes, b->dispatches / together)};
}

/* ==== Runs ==================================================================================== */

/* One evaluation and its logits. The exact head is asked for what sampling by default asks for: the
 * best 40; other heads compute all of them anyway. */
static rotor_status eval(const bench *b, rotor_session *s, size_t n, rotor_error *err) {
    rotor_logit top[BENCH_BEST];
    const float *logits;
    if (strncmp(b->info.head, "exact", 5) == 0)
        return rotor_eval_top(s, b->ids, n, top, BENCH_BEST, err);
    return rotor_eval(s, b->ids, n, &logits, err);
}

static rotor_status to_depth(bench *b, rotor_session *s, rotor_error *err) {
    rotor_session_rewind(s, (uint32_t)b->depth);
    if (rotor_session_len(s) == b->depth) return ROTOR_OK;
    return eval(b, s, b->depth, err);
}

static rotor_status run_prompt(bench *b, uint64_t *us, rotor_error *err) {
    ROTOR_TRY(to_depth(b, b->s[0], err));
    uint64_t start = base_now_us();
    ROTOR_TRY(eval(b, b->s[0], b->depth + b->n_prompt, err));
    *us = base_now_us() - start;
    return ROTOR_OK;
}

static rotor_status run_decode(bench *b, uint64_t *us, rotor_error *err) {
    ROTOR_TRY(to_depth(b, b->s[0], err));
    uint64_t start = base_now_us();
    for (size_t i = 1; i <= b->n_gen; i++) {
        ROTOR_TRY(eval(b, b->s[0], b->depth + i, err));
        if (cli_interrupted()) return base_fail(err, ROTOR_E_CANCELLED, "interrupted");
    }
    *us = base_now_us() - start;
    return ROTOR_OK;
}

static rotor_status run_sessions(bench *b, uint64_t *us, rotor_error *err) {
    for (size_t k = 0; k < b->n_sessions; k++) ROTOR_TRY(to_depth(b, b->s[k], err));
    uint64_t start = base_now_us();
    for (size_t i = 0; i < b->n_gen; i++) {
        for (size_t k = 0; k < b->n_sessions; k++) b->next[k] = b->ids[b->depth + i];
        ROTOR_TRY(rotor_eval_together(b->s, b->next, b->n_sessions, b->logits, err));
        if (cli_interrupted()) return base_fail(err, ROTOR_E_CANCELLED, "interrupted");
    }
    *us = base_now_us() - start;
    return ROTOR_OK;
}

static rotor_status (*const runs[BENCH_KINDS])(bench *b, uint64_t *us, rotor_error *err) = {
    run_prompt, run_decode, run_sessions};

/* ==== Repeating =============================================================================== */

static rotor_status take_probe(bench *b, rotor_error *err) {
    ROTOR_TRY(tool_probe_take(b->probe, &b->last, err));
    b->rates_median.had = BASE_MIN(b->rates_median.had, b->last.had);
    for (int c = 0; c < TOOL_N_CEILINGS; c++)
        ROTOR_TRY(tool_series_add(&b->rates[c], b->last.of[c], err));
    return ROTOR_OK;
}

/* One counted run between the newest sample and one more. */
static rotor_status measure_run(bench *b, enum bench_kind kind, rotor_error *err) {
    bench_result *r = &b->of[kind];
    const tool_rates before = b->last;
    base_energy e0, e1;
    uint64_t us;
    base_energy_read(&e0, NULL);
    ROTOR_TRY(runs[kind](b, &us, err));
    base_energy_read(&e1, NULL);
    ROTOR_TRY(take_probe(b, err));
    const tool_rates between = tool_rates_between(&before, &b->last);
    const tool_floor floor = bench_ceiling(b, kind, &between);
    double tps = cli_rate(r->n_tok, us), one = b->of[BENCH_DECODE].newest;
    b->has_energy = e1.n > 0;
    r->joules += base_energy_joules(&e0, &e1);
    r->newest = tps;
    ROTOR_TRY(tool_series_add(&r->tps, tps, err));
    ROTOR_TRY(tool_series_add(&r->share, bench_ratio(tps, floor.tps), err));
    return kind == BENCH_SESSIONS ? tool_series_add(&r->ratio, bench_ratio(tps, one), err)
                                  : ROTOR_OK;
}

static rotor_status repeat(bench *b, rotor_error *err) {
    size_t n = (size_t)cli_int(b->a, OPT_REPS), done = 0;
    cli_progress_start(&b->progress, b->a, "measuring");
    b->rates_median.had = 1;
    ROTOR_TRY(take_probe(b, err));
    for (size_t i = 0; i < n; i++)
        for (int k = 0; k < BENCH_KINDS; k++) {
            if (!b->of[k].asked) continue;
            ROTOR_TRY(measure_run(b, (enum bench_kind)k, err));
            if (!cli_progress_step(&b->progress, ++done, n * b->n_asked))
                return base_fail(err, ROTOR_E_CANCELLED, "interrupted");
        }
    cli_progress_end(&b->progress);
    for (int c = 0; c < TOOL_N_CEILINGS; c++) {
        b->machine[c] = tool_series_stat(&b->rates[c]);
        b->rates_median.of[c] = b->machine[c].median;
    }
    return ROTOR_OK;
}

/* ==== Work ==================================================================================== */

/* Is this the name of a type whose products are made in float? */
static bool is_float(const bench *b, const char *type) {
    return strcmp(cli_text(b->a, OPT_ACT), "f32") == 0 || strstr(type, "F16") ||
           strstr(type, "F32"); /* BF16 too */
}

/* Fills in what the floor of each kind of run counts: for one token alone the reading, for a prompt
 * the multiplying (its weights are read once for all), for sessions together both. */
static void count_work(bench *b, const tool_macs *m) {
    const rotor_engine_info *i = &b->info;
    bench_result *p = &b->of[BENCH_PROMPT], *d = &b->of[BENCH_DECODE], *s = &b->of[BENCH_SESSIONS];
    double prompt_keys = (double)b->depth + ((double)b->n_prompt + 1) / 2;
    double decode_keys = (double)b->depth + ((double)b->n_gen + 1) / 2;
    b->kv_bytes = (double)i->kv_tok_bytes * decode_keys;
    *p = (bench_result){.asked = b->n_prompt > 0, .n_tok = b->n_prompt};
    *d = (bench_result){.asked = b->n_gen > 0, .n_tok = b->n_gen};
    *s = (bench_result){.asked = b->n_sessions > 1, .n_tok = b->n_gen * b->n_sessions};
    p->work.f32_macs = m->per_key * prompt_keys;
    *(is_float(b, i->type_name) ? &p->work.f32_macs : &p->work.int8_macs) += m->layers;
    d->work.bytes = (double)i->step_bytes + b->kv_bytes;
    /* sessions together are asked for all logits, whatever the head */
    s->work.bytes =
        (double)(i->step_bytes - i->head_bytes + i->head_all_bytes) / (double)b->n_sessions +
        b->kv_bytes;
    s->work.f32_macs = m->per_key * decode_keys;
    *(is_float(b, i->type_name) ? &s->work.f32_macs : &s->work.int8_macs) += m->layers;
    *(is_float(b, i->head) ? &s->work.f32_macs : &s->work.int8_macs) += m->head;
    b->n_asked = (size_t)p->asked + d->asked + s->asked;
}

/* ==== Measuring =============================================================================== */

static rotor_status make_ids(bench *b, rotor_error *err) {
    size_t n = b->depth + BASE_MAX(b->n_prompt, b->n_gen);
    base_rng rng;
    base_rng_seed(&rng, 1);
    b->ids = base_alloc_array(n + 1, sizeof *b->ids);
    b->next = base_alloc_array(b->n_sessions, sizeof *b->next);
    b->logits = base_alloc_array(b->n_sessions, sizeof *b->logits);
    if (!b->ids || !b->next || !b->logits) return base_fail_nomem(err, "measuring");
    for (size_t i = 0; i <= n; i++) b->ids[i] = base_rng_below(&rng, b->info.n_vocab);
    return ROTOR_OK;
}

static rotor_status open_model(bench *b, const cli_model *m, rotor_error *err) {
    rotor_engine_options opt = cli_engine_options(b->a);
    size_t needed = b->depth + BASE_MAX(b->n_prompt, b->n_gen);
    if (!cli_given(b->a, OPT_CTX))
        opt.ctx = (uint32_t)BASE_MAX(needed, 1);
    else if (opt.ctx && opt.ctx < needed)
        return base_fail(err, ROTOR_E_ARG, "--ctx %u is too small for %zu tokens", opt.ctx, needed);
    opt.max_sessions = (uint32_t)b->n_sessions;
    if (b->n_sessions > 1) opt.max_logits = (uint32_t)b->n_sessions;
    uint64_t start = base_now_us();
    ROTOR_TRY(cli_engine_open(&b->e, b->a, m, opt, err));
    b->load_ms = (double)(base_now_us() - start) / 1e3;
    b->info.size = sizeof b->info;
    ROTOR_TRY(rotor_engine_get_info(b->e, &b->info));
    b->s = base_alloc_array(b->n_sessions, sizeof(rotor_session *));
    if (!b->s) return base_fail_nomem(err, "measuring");
    for (size_t i = 0; i < b->n_sessions; i++)
        ROTOR_TRY(rotor_session_create(&b->s[i], b->e, 0, err));
    return ROTOR_OK;
}

/* The device it runs on, if it is not the CPU: found in the list and measured. */
static void know_device(bench *b) {
    tool_devices all;
    if (strcmp(b->info.device, "cpu") == 0) return;
    tool_devices_find(&all);
    for (size_t i = 0; i < all.n; i++)
        if (strcmp(all.of[i].id, b->info.device) == 0) b->device = all.of[i];
    if (b->info.device_layers < b->info.n_layer) {
        base_fail(&b->not_measured, ROTOR_E_UNSUPPORTED, "the CPU has %llu of %u layers",
                  (unsigned long long)(b->info.n_layer - b->info.device_layers), b->info.n_layer);
        return;
    }
    char *cache = cli_device_cache();
    tool_device_measure(&b->device, cache, &b->not_measured);
    base_free(cache);
}

/* The first decode, not counted, but its dispatches are. */
static rotor_status warm_decode(bench *b, rotor_error *err) {
    rotor_engine_info was = {.size = sizeof was}, is = {.size = sizeof is};
    uint64_t us;
    if (!b->n_gen) return ROTOR_OK;
    ROTOR_TRY(to_depth(b, b->s[0], err));
    ROTOR_TRY(rotor_engine_get_info(b->e, &was));
    ROTOR_TRY(run_decode(b, &us, err));
    ROTOR_TRY(rotor_engine_get_info(b->e, &is));
    b->dispatches = bench_ratio((double)(is.device_dependent - was.device_dependent),
                                (double)(is.device_steps - was.device_steps));
    return ROTOR_OK;
}

static rotor_status measure(bench *b, const cli_model *m, rotor_error *err) {
    tool_macs macs;
    uint64_t warm_up, start = base_now_us();
    ROTOR_TRY(open_model(b, m, err));
    ROTOR_TRY(make_ids(b, err));
    if (b->n_prompt) ROTOR_TRY(run_prompt(b, &warm_up, err));
    b->first_ms = (double)(base_now_us() - start) / 1e3;
    ROTOR_TRY(warm_decode(b, err));
    b->peak_bytes = base_peak_rss_bytes();            /* before the probe takes memory of its own */
    ROTOR_TRY(rotor_engine_get_info(b->e, &b->info)); /* what the exact head reads is known now */
    if (b->n_sessions > 1) ROTOR_TRY(run_sessions(b, &warm_up, err));
    know_device(b);
    ROTOR_TRY(tool_count_macs(&m->src, b->info.n_layer, &macs, err));
    count_work(b, &macs);
    ROTOR_TRY(tool_probe_create(&b->probe, b->info.threads, 0, err));
    ROTOR_TRY(repeat(b, err));
    if (cli_int(b->a, OPT_PLAN)) ROTOR_TRY(bench_plan_measure(b, m, err));
    for (int k = 0; k < BENCH_KINDS; k++) {
        bench_result *r = &b->of[k];
        r->tps_stat = tool_series_stat(&r->tps);
        r->share_stat = tool_series_stat(&r->share);
        r->ratio_stat = tool_series_stat(&r->ratio);
    }
    return ROTOR_OK;
}

static void release(bench *b) {
    for (size_t i = 0; b->s && i < b->n_sessions; i++) rotor_session_free(&b->s[i]);
    rotor_engine_close(&b->e);
    if (cli_int(b->a, OPT_PLAN)) base_perf_close(&b->perf);
    tool_probe_free(&b->probe);
    for (int k = 0; k < BENCH_KINDS; k++) {
        tool_series_free(&b->of[k].tps);
        tool_series_free(&b->of[k].share);
        tool_series_free(&b->of[k].ratio);
    }
    for (int c = 0; c < TOOL_N_CEILINGS; c++) tool_series_free(&b->rates[c]);
    json_decref(b->ops);
    json_decref(b->step_ops);
    json_decref(b->before);
    base_free(b->s);
    base_free(b->ids);
    base_free(b->next);
    base_free(b->logits);
}

/* ==== Single products ========================================================================= */

static double percent(double reached, tool_stat of) {
    return 100 * bench_ratio(reached, of.median);
}

static void on_op(void *user, const tool_op_time *t) {
    bench *b = user;
    if (!b->ops) {
        cli_outf("%-12s %-8s %7zu x %-7zu %9.1f us %7.1f GB/s (%3.0f %%) %10.1f us %8.1f GMAC/s "
                 "(%3.0f %%)\n",
                 t->name, t->type, t->rows, t->cols, t->us_one, t->gb_per_s,
                 percent(t->gb_per_s, b->machine[TOOL_READ]), t->us_many, t->gmac_per_s,
                 percent(t->gmac_per_s, b->machine[TOOL_INT8]));
        return;
    }
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(t->name));
    json_object_set_new(o, "type", json_string(t->type));
    json_object_set_new(o, "rows", json_integer((json_int_t)t->rows));
    json_object_set_new(o, "cols", json_integer((json_int_t)t->cols));
    json_object_set_new(o, "us_one", json_real(t->us_one));
    json_object_set_new(o, "gbps_one", json_real(t->gb_per_s));
    json_object_set_new(o, "us_many", json_real(t->us_many));
    json_object_set_new(o, "gmacs_many", json_real(t->gmac_per_s));
    json_array_append_new(b->ops, o);
}

static rotor_status measure_ops(bench *b, const cli_model *m, rotor_error *err) {
    tool_ops_options opt = {.n_threads = b->info.threads,
                            .cpu = cli_text(b->a, OPT_CPU),
                            .n_tok = (uint32_t)BASE_MAX(BASE_MIN(b->n_prompt, 256), 1),
                            .repetitions = 31};
    if (b->ops == NULL)
        cli_outf(
            "\nproduct      type        rows x cols        one token                 %u tokens\n",
            opt.n_tok);
    return tool_bench_ops(&m->src, &opt, on_op, b, err);
}

/* ==== A step, op by op ======================================================================== */

static void on_step_op(void *user, const tool_step_op *t) {
    bench *b = user;
    if (!b->step_ops) {
        cli_outf("%-12s %6.0f %10.1f us %10.1f us %5.1f %% %10.1f MB %7.1f GB/s\n", t->name,
                 t->calls, t->work_us, t->wait_us, 100 * t->share, (double)t->bytes / 1e6,
                 t->gb_per_s);
        return;
    }
    json_t *o = json_object();
    json_object_set_new(o, "name", json_string(t->name));
    json_object_set_new(o, "calls", json_real(t->calls));
    json_object_set_new(o, "work_us", json_real(t->work_us));
    json_object_set_new(o, "wait_us", json_real(t->wait_us));
    json_object_set_new(o, "share", json_real(t->share));
    json_object_set_new(o, "bytes", json_integer((json_int_t)t->bytes));
    json_object_set_new(o, "gbps", json_real(t->gb_per_s));
    json_array_append_new(b->step_ops, o);
}

static rotor_status measure_step(bench *b, const cli_model *m, rotor_error *err) {
    const tool_step_options opt = {.n_threads = b->info.threads,
                                   .cpu = cli_text(b->a, OPT_CPU),
                                   .n_tok = 1,
                                   .depth = (uint32_t)b->depth,
                                   .repetitions = 32};
    tool_step_report r = {0};
    if (!b->step_ops)
        cli_outf("\none token     calls          work       waiting   share        reads\n");
    ROTOR_TRY(tool_bench_step(&m->src, &opt, on_step_op, b, &r, err));
    if (!b->step_ops)
        cli_outf("%-12s %6.0f meetings of %d threads, %.1f us\n", "step", r.meetings,
                 b->info.threads, r.step_us);
    return ROTOR_OK;
}

/* Products and ops one by one: what runs on a device is one list, which drivers do not take apart.
 */
static rotor_status measure_parts(bench *b, const cli_model *m, rotor_error *err) {
    if (!b->device.id[0]) {
        ROTOR_TRY(measure_ops(b, m, err));
        ROTOR_TRY(measure_step(b, m, err));
    } else if (!b->ops) {
        cli_outf("ops       %s: single ops of a step are timed on the CPU only (--device cpu)\n",
                 b->device.id);
    }
    return bench_before(b, err);
}

/* ==== The verb ================================================================================ */

static rotor_status make_preset(const cli_args *a, cli_model *m, rotor_error *err) {
    const char *tmp = getenv("TMPDIR");
    cli_progress progress;
    base_buf path = {0};
    base_buf_printf(&path, "%s/rotor-bench-%ld.gguf", tmp && *tmp ? tmp : "/tmp", (long)getpid());
    if (path.failed) return base_fail_nomem(err, "making a model");
    cli_progress_start(&progress, a, "making the model");
    tool_synth_options opt = {.layers = (uint32_t)cli_int(a, OPT_LAYERS),
                              .progress = {cli_progress_step, &progress}};
    m->path = path.data;
    m->src.path = m->src.name = m->path;
    rotor_status st = tool_synth(cli_text(a, OPT_PRESET), m->path, &opt, err);
    cli_progress_end(&progress);
    return st;
}

static int report(bench *b, const cli_model *m) {
    rotor_error err = {0};
    bool as_json = cli_on(b->a, OPT_JSON);
    rotor_status st = ROTOR_OK;
    const bool plan = cli_int(b->a, OPT_PLAN) != 0, ops = plan || cli_on(b->a, OPT_OPS);
    if (!as_json) bench_print(b);
    if (!as_json && plan) bench_plan_print(b);
    if (as_json && ops) {
        b->ops = json_array();
        b->step_ops = json_array();
    }
    if (cli_on(b->a, OPT_OPS))
        st = measure_parts(b, m, &err);
    else if (plan && !b->device.id[0])
        st = measure_step(b, m, &err);
    json_t *o = bench_json(b);
    if (plan) json_object_set_new(o, "plan", bench_plan_json(b));
    if (st == ROTOR_OK && cli_text(b->a, OPT_COMPARE)) st = bench_compare(b, o, &err);
    int status = cli_status(b->a, st, &err);
    if (as_json && status == CLI_DONE) return cli_json_print(b->a, o);
    json_decref(o);
    return status;
}

int verb_bench(const cli_args *a) {
    bench b = {.a = a,
               .depth = (size_t)cli_int(a, OPT_DEPTH),
               .n_prompt = (size_t)cli_int(a, OPT_N_PROMPT),
               .n_gen = (size_t)cli_int(a, OPT_N_GEN),
               .n_sessions = cli_given(a, OPT_SESSIONS) ? (size_t)cli_int(a, OPT_SESSIONS) : 1};
    if (cli_int(a, OPT_PLAN)) {
        if (!cli_given(a, OPT_N_PROMPT)) b.n_prompt = 64;
        if (!cli_given(a, OPT_N_GEN)) b.n_gen = 100;
        if (!b.n_prompt || !b.n_gen || b.depth)
            return cli_usage(a,
                             "--plan measures prompt and decode from nothing: no -p 0, -n 0, -d");
        base_perf_open(&b.perf, &b.perf_why); /* before the threads, which inherit it */
    }
    cli_model m = {0};
    rotor_error err = {0};
    bool preset = cli_given(a, OPT_PRESET);
    if (preset && cli_word(a, 0)) return cli_usage(a, "give a MODEL or --preset, not both");
    if (!b.n_prompt && !b.n_gen) return cli_usage(a, "-p 0 and -n 0: nothing to measure");
    if (!b.n_gen && b.n_sessions > 1) return cli_usage(a, "--sessions decode: -n cannot be 0");
    cli_catch_interrupt(true);
    rotor_status st = preset ? make_preset(a, &m, &err) : cli_model_find(&m, cli_word(a, 0), &err);
    if (st == ROTOR_OK) st = measure(&b, &m, &err);
    cli_progress_end(&b.progress);
    int status = st == ROTOR_OK ? report(&b, &m) : CLI_FAILED;
    release(&b);
    if (preset && m.path) unlink(m.path);
    if (st != ROTOR_OK) status = cli_status(a, st, &err);
    cli_model_free(&m);
    return status;
}
