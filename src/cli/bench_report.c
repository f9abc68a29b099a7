/* SPDX-License-Identifier: MIT
 *
 * bench_report: the table, the JSON object and the comparison of rotor bench.
 *
 * Shares of a ceiling are medians over runs, each divided by the probes beside it, with their
 * range; they are the figures to compare, tokens per second belong to a minute.
 */
#include "cli/bench.h"

#include <jansson.h>
#include <stdio.h>

static double read_gbps(const bench *b) {
    const bench_result *d = &b->of[BENCH_DECODE];
    return d->work.bytes * d->tps_stat.median / 1e9;
}
static double prompt_gmacs(const bench *b) {
    const bench_result *p = &b->of[BENCH_PROMPT];
    return (p->work.int8_macs + p->work.f32_macs) * p->tps_stat.median / 1e9;
}
static tool_floor floor_of(const bench *b, enum bench_kind kind) {
    return bench_ceiling(b, kind, &b->rates_median);
}

/* A decode step reads no more than the largest cache holds: no plain read of memory bounds it. */
static bool cached(const bench *b) {
    tool_machine m;
    tool_machine_get(&m);
    return !b->device.id[0] && b->of[BENCH_DECODE].work.bytes <= (double)m.cache_bytes;
}

/* ==== Text ==================================================================================== */

static void test_name(const bench *b, enum bench_kind kind, char out[64]) {
    size_t n = kind == BENCH_PROMPT ? b->n_prompt : b->n_gen;
    char many[24] = "", depth[32] = "";
    if (kind == BENCH_SESSIONS) snprintf(many, sizeof many, " x%zu", b->n_sessions);
    if (b->depth) snprintf(depth, sizeof depth, " @ d%zu", b->depth);
    snprintf(out, 64, "%s%zu%s%s", kind == BENCH_PROMPT ? "pp" : "tg", n, many, depth);
}

static void text_row(const bench *b, enum bench_kind kind) {
    const bench_result *r = &b->of[kind];
    const rotor_engine_info *i = &b->info;
    char size[32], test[64], reached[24], read[32] = "         |      ";
    if (!r->asked) return;
    test_name(b, kind, test);
    if (kind != BENCH_PROMPT)
        snprintf(read, sizeof read, "%8.1f | %5.1f", r->work.bytes / 1e6,
                 r->work.bytes * r->tps_stat.median / 1e9);
    snprintf(reached, sizeof reached, "-");
    if (floor_of(b, kind).tps > 0)
        snprintf(reached, sizeof reached, "%.0f %%", 100 * r->share_stat.median);
    cli_outf(
        "| %-24.24s | %10s | %8.2f M | %-8.8s | %3d | %-3s | %-10.10s | %-14s | %9.2f ± %-7.2f | "
        "%8.2f | %s | %10s |\n",
        i->name, cli_bytes(i->file_bytes, size), (double)i->n_params / 1e6, i->device, i->threads,
        cli_text(b->a, OPT_KV), i->head, test, r->tps_stat.median, r->tps_stat.sd,
        bench_ratio(1e3, r->tps_stat.median), read,
        kind != BENCH_PROMPT && cached(b) ? "(cached)" : reached);
}

static void text_machine(const bench *b) {
    static const char *const names[] = {"plain read", "int8", "f32"};
    char size[32];
    cli_outf("machine   ");
    for (int c = 0; c < TOOL_N_CEILINGS; c++) {
        const tool_stat *s = &b->machine[c];
        cli_outf("%s%s %.*f %s (%.*f to %.*f)", c ? ", " : "", names[c], c == TOOL_READ, s->median,
                 c == TOOL_READ ? "GB/s" : "GMAC/s", c == TOOL_READ, s->min, c == TOOL_READ,
                 s->max);
    }
    cli_outf("; medians of %zu samples beside the runs, reading %s\n", b->machine[0].n,
             cli_bytes(tool_probe_bytes(b->probe), size));
    for (int c = 0; c < TOOL_N_CEILINGS; c++)
        if (b->machine[c].spread > BENCH_UNSTABLE)
            cli_outf("unstable  %s: samples differ by %.0f %%; trust the ranges more than the "
                     "medians\n",
                     names[c], 100 * b->machine[c].spread);
    if (b->rates_median.had <= BENCH_BUSY)
        cli_outf("busy      other programs run: a thread of the probe had %.0f %% of a processor\n",
                 100 * b->rates_median.had);
}

static void text_decode(const bench *b) {
    const bench_result *d = &b->of[BENCH_DECODE];
    const rotor_engine_info *i = &b->info;
    tool_machine m;
    tool_machine_get(&m);
    cli_outf(
        "decode    a token reads %.1f MB: layers %.1f, head %.1f (%s), cache %.1f; at most %.1f "
        "t/s, reached %.0f %% (%.0f to %.0f)\n",
        d->work.bytes / 1e6, (double)(i->step_bytes - i->head_bytes) / 1e6,
        (double)i->head_bytes / 1e6, i->head, b->kv_bytes / 1e6, floor_of(b, BENCH_DECODE).tps,
        100 * d->share_stat.median, 100 * d->share_stat.min, 100 * d->share_stat.max);
    if (d->work.bytes <= (double)m.cache_bytes)
        cli_outf(
            "          the processor's cache may hold all that: the plain read of memory is no "
            "ceiling for this model\n");
}

/* The same on a device: bytes by the speed of its copies, dispatches by their latency. */
static void text_device(const bench *b) {
    const bench_result *d = &b->of[BENCH_DECODE];
    const tool_device *v = &b->device;
    cli_outf("device    %s %s, %s, driver %s\n", v->id, v->name, v->version, v->driver);
    if (!(v->copy_gbps > 0)) {
        cli_outf("          not measured: %s\n", b->not_measured.message);
        return;
    }
    cli_outf("          copies %.1f GB/s, a dependent dispatch %.1f us, a list there and back %.1f "
             "us; no peak of its arithmetic is measured\n",
             v->copy_gbps, v->dispatch_us, v->submit_us);
    if (!d->asked) return;
    cli_outf("decode    a token reads %.1f MB (%.1f us) and takes %.0f dependent dispatches (%.1f "
             "us); at most %.1f t/s, reached %.0f %% (%.0f to %.0f)\n",
             d->work.bytes / 1e6, d->work.bytes / v->copy_gbps / 1e3, b->dispatches,
             b->dispatches * v->dispatch_us, floor_of(b, BENCH_DECODE).tps,
             100 * d->share_stat.median, 100 * d->share_stat.min, 100 * d->share_stat.max);
}

static double per_head_token(const bench *b, uint64_t sum) {
    return bench_ratio((double)sum, (double)b->info.head_tokens);
}

/* What the exact head had to look at. */
static void text_head(const bench *b) {
    const rotor_engine_info *i = &b->info;
    if (!i->head_tokens) return;
    cli_outf("head      best %d of %u: rows left after 4 bits", BENCH_BEST, i->n_vocab);
    for (int s = 0; s < 5 && i->head_survivors[s]; s++)
        cli_outf("%s %.0f", s ? "," : "", per_head_token(b, i->head_survivors[s]));
    cli_outf(", in full %.0f; all of them for %llu of %llu tokens\n",
             per_head_token(b, i->head_rows), (unsigned long long)i->head_whole,
             (unsigned long long)i->head_tokens);
}

static void text_prompt(const bench *b) {
    const bench_result *p = &b->of[BENCH_PROMPT];
    tool_floor f = floor_of(b, BENCH_PROMPT);
    cli_outf(
        "prompt    a token multiplies %.1f M in int8 (%.1f us) and %.1f M in f32 (%.1f us); at "
        "most %.1f t/s, reached %.0f %% (%.0f to %.0f)\n",
        p->work.int8_macs / 1e6, f.int8_us, p->work.f32_macs / 1e6, f.f32_us, f.tps,
        100 * p->share_stat.median, 100 * p->share_stat.min, 100 * p->share_stat.max);
}

static void text_sessions(const bench *b) {
    const bench_result *s = &b->of[BENCH_SESSIONS];
    tool_floor f = floor_of(b, BENCH_SESSIONS);
    if (b->device.id[0]) {
        cli_outf("sessions  %zu together %.2fx one (%.2f to %.2f)\n", b->n_sessions,
                 s->ratio_stat.median, s->ratio_stat.min, s->ratio_stat.max);
        return;
    }
    cli_outf("sessions  %zu together %.2fx one (%.2f to %.2f); a token takes %.1f us to read, %.1f "
             "to multiply: at most %.1f t/s, reached %.0f %% (%.0f to %.0f)\n",
             b->n_sessions, s->ratio_stat.median, s->ratio_stat.min, s->ratio_stat.max, f.read_us,
             f.int8_us + f.f32_us, f.tps, 100 * s->share_stat.median, 100 * s->share_stat.min,
             100 * s->share_stat.max);
}

static double joules_per_tok(const bench_result *r) {
    return bench_ratio(r->joules, (double)(r->n_tok * r->tps.n));
}

static void text_energy(const bench *b) {
    static const char *const names[] = {"prompt", "decode", "together"};
    if (!b->has_energy) {
        cli_outf("energy    no energy counter\n");
        return;
    }
    cli_outf("energy    joules a token, of all that the processor did:");
    for (int k = 0; k < BENCH_KINDS; k++)
        if (b->of[k].asked) cli_outf(" %s %.4f", names[k], joules_per_tok(&b->of[k]));
    cli_outf("\n");
}

void bench_print(const bench *b) {
    tool_machine m;
    char peak[32];
    tool_machine_get(&m);
    cli_outf("rotor %s   %s, %d threads, %s\n", rotor_version(), m.cpu_name, b->info.threads,
             b->info.cpu);
    cli_outf(
        "| model                    |       size |     params | dev      | thr | kv  | head       "
        "| test           |           t/s ± sd  |   ms/tok |   MB/tok |  GB/s | of ceiling |\n");
    cli_outf(
        "|--------------------------|------------|------------|----------|-----|-----|------------"
        "|----------------|---------------------|----------|----------|-------|------------|\n");
    for (int k = 0; k < BENCH_KINDS; k++) text_row(b, (enum bench_kind)k);
    text_machine(b);
    const bool on_cpu = !b->device.id[0];
    if (!on_cpu) text_device(b);
    if (on_cpu && b->of[BENCH_PROMPT].asked) text_prompt(b);
    if (on_cpu && b->of[BENCH_DECODE].asked) text_decode(b);
    text_head(b);
    if (b->of[BENCH_SESSIONS].asked) text_sessions(b);
    text_energy(b);
    cli_outf("load %.0f ms, load and first prompt %.0f ms, peak memory %s\n", b->load_ms,
             b->first_ms, cli_bytes(b->peak_bytes, peak));
}

/* ==== JSON ==================================================================================== */

static void set_text(json_t *o, const char *key, const char *text) {
    json_object_set_new(o, key, cli_json_text(text, strlen(text)));
}
static void set_real(json_t *o, const char *key, double x) {
    json_object_set_new(o, key, json_real(x));
}
static void set_int(json_t *o, const char *key, uint64_t x) {
    json_object_set_new(o, key, json_integer((json_int_t)x));
}
/* key: the median; key_min, key_max: the range. */
static void set_stat(json_t *o, const char *key, const tool_stat *s) {
    char name[64];
    set_real(o, key, s->median);
    snprintf(name, sizeof name, "%s_min", key);
    set_real(o, name, s->min);
    snprintf(name, sizeof name, "%s_max", key);
    set_real(o, name, s->max);
}

static void json_settings(json_t *o, const bench *b) {
    const rotor_engine_info *i = &b->info;
    tool_machine m;
    tool_machine_get(&m);
    set_text(o, "version", rotor_version());
    set_text(o, "machine", m.cpu_name);
    set_text(o, "model", i->name);
    set_text(o, "architecture", i->architecture);
    set_text(o, "type", i->type_name);
    set_int(o, "model_bytes", i->file_bytes);
    set_int(o, "n_params", i->n_params);
    set_text(o, "device", i->device);
    set_text(o, "device_name", i->device_name);
    set_int(o, "threads", (uint64_t)i->threads);
    set_text(o, "cpu", i->cpu);
    set_text(o, "kv", cli_text(b->a, OPT_KV));
    set_text(o, "act", strcmp(cli_text(b->a, OPT_ACT), "f32") == 0 ? "f32" : "q8");
    set_text(o, "head", i->head);
    set_int(o, "n_prompt", b->n_prompt);
    set_int(o, "n_gen", b->n_gen);
    set_int(o, "depth", b->depth);
    set_int(o, "sessions", b->n_sessions);
    set_int(o, "repetitions", (uint64_t)cli_int(b->a, OPT_REPS));
}

/* How the keys of a kind begin, and what its share of the ceiling is called. */
static const struct {
    const char *prefix; /* of its keys */
    const char *share;  /* key */
} kinds[BENCH_KINDS] = {
    {"prompt", "prompt_share"}, {"decode", "read_share"}, {"sessions", "sessions_share"}};

static void json_result(json_t *o, const bench *b, enum bench_kind kind) {
    const bench_result *r = &b->of[kind];
    const char *prefix = kinds[kind].prefix;
    char key[48];
    json_t *samples = json_array();
    for (size_t i = 0; i < r->tps.n; i++) json_array_append_new(samples, json_real(r->tps.v[i]));
    snprintf(key, sizeof key, "%s_tps", prefix);
    set_real(o, key, r->tps_stat.median);
    snprintf(key, sizeof key, "%s_sd", prefix);
    set_real(o, key, r->tps_stat.sd);
    snprintf(key, sizeof key, "%s_samples", prefix);
    json_object_set_new(o, key, samples);
    set_stat(o, kinds[kind].share, &r->share_stat);
    snprintf(key, sizeof key, "%s_ceiling_tps", prefix);
    set_real(o, key, floor_of(b, kind).tps);
    snprintf(key, sizeof key, "%s_joules_per_token", prefix);
    json_object_set_new(o, key, b->has_energy ? json_real(joules_per_tok(r)) : json_null());
}

static void json_machine(json_t *o, const bench *b) {
    set_stat(o, "machine_gbps", &b->machine[TOOL_READ]);
    set_stat(o, "machine_int8_gmacs", &b->machine[TOOL_INT8]);
    set_stat(o, "machine_f32_gmacs", &b->machine[TOOL_F32]);
    set_int(o, "machine_probe_bytes", tool_probe_bytes(b->probe));
    set_real(o, "machine_cpu_share", b->rates_median.had);
    set_int(o, "machine_samples", b->machine[TOOL_READ].n);
    json_object_set_new(o, "machine_stable", json_boolean(bench_stable(b)));
}

/* null where nothing was measured. */
static void json_device(json_t *o, const bench *b) {
    const tool_device *v = &b->device;
    if (!v->id[0]) return;
    const bool known = v->copy_gbps > 0;
    set_text(o, "device_driver", v->driver);
    json_object_set_new(o, "device_copy_gbps", known ? json_real(v->copy_gbps) : json_null());
    json_object_set_new(o, "device_dispatch_us", known ? json_real(v->dispatch_us) : json_null());
    set_real(o, "device_dispatches", b->dispatches);
}

/* Per token chosen through the exact head. */
static json_t *head_json(const bench *b) {
    const rotor_engine_info *i = &b->info;
    json_t *o = json_object(), *rows = json_array();
    for (int s = 0; s < 5; s++)
        json_array_append_new(rows, json_real(per_head_token(b, i->head_survivors[s])));
    set_int(o, "best", BENCH_BEST);
    json_object_set_new(o, "rows_left", rows);
    set_real(o, "rows_in_full", per_head_token(b, i->head_rows));
    set_int(o, "tokens", i->head_tokens);
    set_int(o, "whole_head", i->head_whole);
    return o;
}

json_t *bench_json(const bench *b) {
    const tool_floor prompt = floor_of(b, BENCH_PROMPT);
    json_t *o = json_object();
    json_settings(o, b);
    json_result(o, b, BENCH_PROMPT);
    json_result(o, b, BENCH_DECODE);
    if (b->of[BENCH_SESSIONS].asked) {
        json_result(o, b, BENCH_SESSIONS);
        set_stat(o, "sessions_ratio", &b->of[BENCH_SESSIONS].ratio_stat);
    }
    set_real(o, "load_ms", b->load_ms);
    set_real(o, "first_ms", b->first_ms);
    set_int(o, "peak_rss_bytes", b->peak_bytes);
    set_int(o, "bytes_per_token", (uint64_t)b->of[BENCH_DECODE].work.bytes);
    set_int(o, "layer_bytes", b->info.step_bytes - b->info.head_bytes);
    set_int(o, "head_bytes", b->info.head_bytes);
    set_int(o, "kv_bytes", (uint64_t)b->kv_bytes);
    set_real(o, "read_gbps", read_gbps(b));
    json_object_set_new(o, "decode_cached", json_boolean(cached(b)));
    set_real(o, "prompt_gmacs", prompt_gmacs(b));
    set_real(o, "prompt_int8_us", prompt.int8_us);
    set_real(o, "prompt_f32_us", prompt.f32_us);
    json_machine(o, b);
    json_device(o, b);
    if (b->info.head_tokens) json_object_set_new(o, "head_stages", head_json(b));
    if (b->ops) json_object_set(o, "ops", b->ops);
    if (b->step_ops) json_object_set(o, "step_ops", b->step_ops);
    if (b->before) json_object_set(o, "before", b->before);
    return o;
}

/* ==== Comparing =============================================================================== */

static double number(const json_t *o, const char *key) {
    return json_number_value(json_object_get(o, key));
}

static const char *shown(const json_t *v, char out[64]) {
    if (json_is_string(v))
        snprintf(out, 64, "%s", json_string_value(v));
    else
        snprintf(out, 64, "%lld", (long long)json_integer_value(v));
    return out;
}

/* Says when the two files do not measure the same thing. */
static void compare_settings(const json_t *old, const json_t *now) {
    static const char *const keys[] = {"machine",  "model", "type",  "threads",
                                       "cpu",      "kv",    "act",   "head",
                                       "n_prompt", "n_gen", "depth", "sessions"};
    for (size_t i = 0; i < BASE_COUNT(keys); i++) {
        const json_t *a = json_object_get(old, keys[i]), *b = json_object_get(now, keys[i]);
        if (!a || json_equal(a, b)) continue;
        char was[64], is[64];
        fprintf(stderr, "not alike: %s was %s, is %s\n", keys[i], shown(a, was), shown(b, is));
    }
}

static void compare_tps(const json_t *old, const json_t *now, const char *kind) {
    char tps[32], samples[32];
    snprintf(tps, sizeof tps, "%s_tps", kind);
    snprintf(samples, sizeof samples, "%s_samples", kind);
    double was = number(old, tps), is = number(now, tps);
    const json_t *a = json_object_get(old, samples), *b = json_object_get(now, samples);
    size_t na = json_array_size(a), nb = json_array_size(b);
    if (!(was > 0) || !(is > 0)) return;
    bool apart =
        na && nb && /* sorted: do the ranges overlap? */
        (json_number_value(json_array_get(a, na - 1)) < json_number_value(json_array_get(b, 0)) ||
         json_number_value(json_array_get(b, nb - 1)) < json_number_value(json_array_get(a, 0)));
    fprintf(stderr, "%-14s %9.2f -> %9.2f  %.3fx%s\n", tps, was, is, is / was,
            apart ? "" : "  (within the range of repetitions)");
}

/* The share of the ceiling: what is left when the machine's own drift is divided out. */
static void compare_share(const json_t *old, const json_t *now, const char *share) {
    char least[32], most[32];
    snprintf(least, sizeof least, "%s_min", share);
    snprintf(most, sizeof most, "%s_max", share);
    double was = number(old, share), is = number(now, share);
    if (!(was > 0) || !(is > 0)) return;
    bool apart = number(old, most) < number(now, least) || number(now, most) < number(old, least);
    fprintf(stderr, "%-14s %7.1f %% -> %7.1f %%  %.3fx%s\n", share, 100 * was, 100 * is, is / was,
            apart ? "" : "  (within the range of repetitions)");
}

rotor_status bench_compare(const bench *b, const json_t *now, rotor_error *err) {
    const char *path = cli_text(b->a, OPT_COMPARE);
    json_error_t why;
    base_file f;
    ROTOR_TRY(base_file_open(&f, path, false, err));
    json_t *old = json_loadb(f.data ? (const char *)f.data : "", f.size, 0, &why);
    base_file_close(&f);
    if (!json_is_object(old)) {
        json_decref(old);
        return base_fail(err, ROTOR_E_FORMAT, "%s: expected the output of rotor bench --json",
                         path);
    }
    fprintf(stderr,
            "compared with %s (plain read was %.1f, is %.1f GB/s; int8 was %.0f, is %.0f)\n", path,
            number(old, "machine_gbps"), number(now, "machine_gbps"),
            number(old, "machine_int8_gmacs"), number(now, "machine_int8_gmacs"));
    compare_settings(old, now);
    for (int k = 0; k < BENCH_KINDS; k++) {
        compare_tps(old, now, kinds[k].prefix);
        compare_share(old, now, kinds[k].share);
    }
    json_decref(old);
    return ROTOR_OK;
}
