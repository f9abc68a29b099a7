/* SPDX-License-Identifier: MIT
 *
 * rotor bench: prompt and decode speed of a model, beside what this machine's memory and int8 units
 * can do, measured in the same run.
 *
 * Neither tokeniser nor sampler is inside a timing: random ids go in, logits come out. Every
 * measurement is made once without counting, then --repetitions times from the same depth.
 */
#include "cli/cli.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct series {
    double *tps;     /* [n] tokens per second, owned, sorted */
    size_t n;        /* repetitions */
    double mean, sd; /* over them */
    double median;   /* over them */
} series;

typedef struct bench {
    const cli_args *a;             /* options */
    rotor_engine *e;               /* owned */
    rotor_session *s;              /* owned */
    rotor_engine_info info;        /* of e */
    uint32_t *ids;                 /* [depth + most] random ids, owned */
    size_t depth, n_prompt, n_gen; /* tokens */
    double load_ms;                /* opening the model */
    double first_ms;               /* load and first prompt */
    series prompt, decode;         /* results; n 0: not asked for */
    double machine_gbps;           /* plain read */
    double machine_gmacs;          /* int8 peak */
    double macs_per_tok;           /* multiply-adds of the projections; 0: unknown */
    double bytes_per_tok;          /* read by a decode step, cache included */
    uint64_t peak_bytes;           /* resident memory after the first prompt and decode */
    cli_progress progress;         /* over repetitions */
    size_t done, total;            /* repetitions */
    json_t *ops;                   /* list of --ops with --json */
    json_t *step_ops;              /* the same of a whole step */
} bench;

/* ==== Measuring =============================================================================== */

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void summarise(series *s) {
    double sum = 0, sq = 0;
    for (size_t i = 0; i < s->n; i++) sum += s->tps[i];
    s->mean = sum / (double)s->n;
    for (size_t i = 0; i < s->n; i++) sq += (s->tps[i] - s->mean) * (s->tps[i] - s->mean);
    s->sd = s->n > 1 ? sqrt(sq / (double)(s->n - 1)) : 0;
    qsort(s->tps, s->n, sizeof *s->tps, ascending);
    s->median = s->n % 2 ? s->tps[s->n / 2] : (s->tps[s->n / 2 - 1] + s->tps[s->n / 2]) / 2;
}

static rotor_status to_depth(bench *b, rotor_error *err) {
    const float *logits;
    if (b->depth == 0) return rotor_session_rewind(b->s, 0), ROTOR_OK;
    rotor_session_rewind(b->s, (uint32_t)b->depth);
    if (rotor_session_len(b->s) == b->depth) return ROTOR_OK;
    return rotor_eval(b->s, b->ids, b->depth, &logits, err);
}

static rotor_status run_prompt(bench *b, double *tps, rotor_error *err) {
    const float *logits;
    ROTOR_TRY(to_depth(b, err));
    uint64_t start = base_now_us();
    ROTOR_TRY(rotor_eval(b->s, b->ids, b->depth + b->n_prompt, &logits, err));
    *tps = cli_rate(b->n_prompt, base_now_us() - start);
    return ROTOR_OK;
}

static rotor_status run_decode(bench *b, double *tps, rotor_error *err) {
    const float *logits;
    ROTOR_TRY(to_depth(b, err));
    uint64_t start = base_now_us();
    for (size_t i = 1; i <= b->n_gen; i++) {
        ROTOR_TRY(rotor_eval(b->s, b->ids, b->depth + i, &logits, err));
        if (cli_interrupted()) return base_fail(err, ROTOR_E_CANCELLED, "interrupted");
    }
    *tps = cli_rate(b->n_gen, base_now_us() - start);
    return ROTOR_OK;
}

static rotor_status repeat(bench *b, series *s,
                           rotor_status (*run)(bench *, double *, rotor_error *),
                           rotor_error *err) {
    s->n = (size_t)cli_int(b->a, OPT_REPS);
    s->tps = base_alloc_array(s->n, sizeof *s->tps);
    if (!s->tps) return base_fail_nomem(err, "measuring");
    for (size_t i = 0; i < s->n; i++) {
        ROTOR_TRY(run(b, &s->tps[i], err));
        if (!cli_progress_step(&b->progress, ++b->done, b->total))
            return base_fail(err, ROTOR_E_CANCELLED, "interrupted");
    }
    summarise(s);
    return ROTOR_OK;
}

/* Both ceilings, before and after: the better one counts, memory being shared. */
static void measure_machine(bench *b) {
    double read = 0, macs = 0;
    tool_measure_read(b->info.threads, &read, NULL);
    tool_measure_int8(b->info.threads, &macs, NULL);
    b->machine_gbps = fmax(b->machine_gbps, read);
    b->machine_gmacs = fmax(b->machine_gmacs, macs);
}

/* Multiply-adds per token of all matrices inside layers. */
static double count_macs(const tool_source *src) {
    tool_file *f = NULL;
    double macs = 0;
    if (tool_file_open(&f, src, NULL) != ROTOR_OK) return 0;
    const tool_facts *t = tool_file_facts(f);
    for (size_t i = 0; i < t->n_tensors; i++) {
        tool_tensor x = tool_file_tensor(f, i);
        bool packed = strcmp(x.type, "U8") == 0; /* four ternary rows in a byte */
        bool inside =
            strncmp(x.name.p, "blk.", 4) == 0 || strncmp(x.name.p, "model.layers.", 13) == 0;
        if (!inside || x.n_dims < 2) continue;
        double n = (double)x.dims[0] * (double)x.dims[1] * (packed ? 4 : 1);
        macs += x.n_dims > 2 ? n * t->n_expert_used : n;
    }
    tool_file_close(&f);
    return macs;
}

static rotor_status make_ids(bench *b, rotor_error *err) {
    size_t n = b->depth + BASE_MAX(b->n_prompt, b->n_gen);
    base_rng rng;
    base_rng_seed(&rng, 1);
    b->ids = base_alloc_array(n + 1, sizeof *b->ids);
    if (!b->ids) return base_fail_nomem(err, "measuring");
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
    uint64_t start = base_now_us();
    ROTOR_TRY(cli_engine_open(&b->e, b->a, m, opt, err));
    b->load_ms = (double)(base_now_us() - start) / 1e3;
    b->info.size = sizeof b->info;
    ROTOR_TRY(rotor_engine_get_info(b->e, &b->info));
    return rotor_session_create(&b->s, b->e, 0, err);
}

static rotor_status measure(bench *b, const cli_model *m, rotor_error *err) {
    double warm_up;
    uint64_t start = base_now_us();
    ROTOR_TRY(open_model(b, m, err));
    ROTOR_TRY(make_ids(b, err));
    b->macs_per_tok = count_macs(&m->src);
    double per_position = b->info.n_ctx ? (double)b->info.kv_bytes / b->info.n_ctx : 0;
    b->bytes_per_tok =
        (double)b->info.step_bytes + per_position * ((double)b->depth + (double)b->n_gen / 2);
    b->total = (size_t)cli_int(b->a, OPT_REPS) * ((b->n_prompt > 0) + (b->n_gen > 0));
    if (b->n_prompt) ROTOR_TRY(run_prompt(b, &warm_up, err));
    b->first_ms = (double)(base_now_us() - start) / 1e3;
    if (b->n_gen) ROTOR_TRY(run_decode(b, &warm_up, err));
    b->peak_bytes = base_peak_rss_bytes(); /* before the probe takes memory of its own */
    measure_machine(b);
    cli_progress_start(&b->progress, b->a, "measuring");
    if (b->n_prompt) ROTOR_TRY(repeat(b, &b->prompt, run_prompt, err));
    if (b->n_gen) ROTOR_TRY(repeat(b, &b->decode, run_decode, err));
    cli_progress_end(&b->progress);
    measure_machine(b);
    return ROTOR_OK;
}

/* ==== Reporting =============================================================================== */

static double read_gbps(const bench *b) { return b->bytes_per_tok * b->decode.median / 1e9; }
static double prompt_gmacs(const bench *b) { return b->macs_per_tok * b->prompt.median / 1e9; }
static double share(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

static void test_name(const bench *b, const char *kind, size_t n, char out[48]) {
    if (b->depth)
        snprintf(out, 48, "%s%zu @ d%zu", kind, n, b->depth);
    else
        snprintf(out, 48, "%s%zu", kind, n);
}

static void text_row(const bench *b, const char *kind, size_t n, const series *s) {
    char size[32], test[48], tail[64];
    const rotor_engine_info *i = &b->info;
    test_name(b, kind, n, test);
    if (strcmp(kind, "tg") == 0)
        snprintf(tail, sizeof tail, "%8.1f | %5.1f | %3.0f %%", b->bytes_per_tok / 1e6,
                 read_gbps(b), share(read_gbps(b), b->machine_gbps));
    else
        snprintf(tail, sizeof tail, "         |       | %3.0f %%",
                 share(prompt_gmacs(b), b->machine_gmacs));
    cli_outf("| %-24.24s | %10s | %8.2f M | cpu | %3d | %-3s | %-10.10s | %-14s | %9.2f ± %-7.2f | "
             "%8.2f | %s |\n",
             i->name, cli_bytes(i->file_bytes, size), (double)i->n_params / 1e6, i->threads,
             cli_text(b->a, OPT_KV), i->head, test, s->mean, s->sd, s->mean > 0 ? 1e3 / s->mean : 0,
             tail);
}

static void print_text(const bench *b) {
    tool_machine m;
    char peak[32];
    tool_machine_get(&m);
    cli_outf("rotor %s   %s, %d threads, %s\n", rotor_version(), m.cpu_name, b->info.threads,
             b->info.cpu);
    cli_outf("machine   plain read %.1f GB/s, int8 peak %.0f GMAC/s (in this run)\n",
             b->machine_gbps, b->machine_gmacs);
    cli_outf("| model                    |       size |     params | dev | thr | kv  | head       "
             "| test  "
             "         |           t/s ± sd  |   ms/tok |   MB/tok |  GB/s |  of peak |\n");
    cli_outf("|--------------------------|------------|------------|-----|-----|-----|------------|"
             "-------"
             "---------|---------------------|----------|----------|-------|----------|\n");
    if (b->prompt.n) text_row(b, "pp", b->n_prompt, &b->prompt);
    if (b->decode.n) text_row(b, "tg", b->n_gen, &b->decode);
    cli_outf("load %.0f ms, load and first prompt %.0f ms, peak memory %s\n", b->load_ms,
             b->first_ms, cli_bytes(b->peak_bytes, peak));
}

static json_t *samples(const series *s) {
    json_t *list = json_array();
    for (size_t i = 0; i < s->n; i++) json_array_append_new(list, json_real(s->tps[i]));
    return list;
}

static json_t *to_json(const bench *b) {
    const rotor_engine_info *i = &b->info;
    tool_machine m;
    tool_machine_get(&m);
    json_t *o = json_object();
    json_object_set_new(o, "version", json_string(rotor_version()));
    json_object_set_new(o, "machine", cli_json_text(m.cpu_name, strlen(m.cpu_name)));
    json_object_set_new(o, "model", cli_json_text(i->name, strlen(i->name)));
    json_object_set_new(o, "architecture", json_string(i->architecture));
    json_object_set_new(o, "type", json_string(i->type_name));
    json_object_set_new(o, "model_bytes", json_integer((json_int_t)i->file_bytes));
    json_object_set_new(o, "n_params", json_integer((json_int_t)i->n_params));
    json_object_set_new(o, "device", json_string("cpu"));
    json_object_set_new(o, "threads", json_integer(i->threads));
    json_object_set_new(o, "cpu", json_string(i->cpu));
    json_object_set_new(o, "kv", json_string(cli_text(b->a, OPT_KV)));
    json_object_set_new(o, "act", json_string(cli_text(b->a, OPT_ACT)));
    json_object_set_new(o, "head", json_string(i->head));
    json_object_set_new(o, "n_prompt", json_integer((json_int_t)b->n_prompt));
    json_object_set_new(o, "n_gen", json_integer((json_int_t)b->n_gen));
    json_object_set_new(o, "depth", json_integer((json_int_t)b->depth));
    json_object_set_new(o, "repetitions", json_integer(cli_int(b->a, OPT_REPS)));
    json_object_set_new(o, "prompt_tps", json_real(b->prompt.median));
    json_object_set_new(o, "prompt_sd", json_real(b->prompt.sd));
    json_object_set_new(o, "prompt_samples", samples(&b->prompt));
    json_object_set_new(o, "decode_tps", json_real(b->decode.median));
    json_object_set_new(o, "decode_sd", json_real(b->decode.sd));
    json_object_set_new(o, "decode_samples", samples(&b->decode));
    json_object_set_new(o, "load_ms", json_real(b->load_ms));
    json_object_set_new(o, "first_ms", json_real(b->first_ms));
    json_object_set_new(o, "peak_rss_bytes", json_integer((json_int_t)b->peak_bytes));
    json_object_set_new(o, "bytes_per_token", json_integer((json_int_t)b->bytes_per_tok));
    json_object_set_new(o, "read_gbps", json_real(read_gbps(b)));
    json_object_set_new(o, "machine_gbps", json_real(b->machine_gbps));
    json_object_set_new(o, "read_share", json_real(share(read_gbps(b), b->machine_gbps) / 100));
    json_object_set_new(o, "prompt_gmacs", json_real(prompt_gmacs(b)));
    json_object_set_new(o, "machine_int8_gmacs", json_real(b->machine_gmacs));
    json_object_set_new(o, "prompt_share",
                        json_real(share(prompt_gmacs(b), b->machine_gmacs) / 100));
    if (b->ops) json_object_set(o, "ops", b->ops);
    if (b->step_ops) json_object_set(o, "step_ops", b->step_ops);
    return o;
}

/* ==== Single products ========================================================================= */

static void on_op(void *user, const tool_op_time *t) {
    bench *b = user;
    if (!b->ops) {
        cli_outf("%-12s %-8s %7zu x %-7zu %9.1f us %7.1f GB/s (%3.0f %%) %10.1f us %8.1f GMAC/s "
                 "(%3.0f %%)\n",
                 t->name, t->type, t->rows, t->cols, t->us_one, t->gb_per_s,
                 share(t->gb_per_s, b->machine_gbps), t->us_many, t->gmac_per_s,
                 share(t->gmac_per_s, b->machine_gmacs));
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

/* ==== Comparing =============================================================================== */

static void compare_one(const json_t *old, const json_t *now, const char *tps,
                        const char *samples_key) {
    double was = json_number_value(json_object_get(old, tps)),
           is = json_number_value(json_object_get(now, tps));
    const json_t *a = json_object_get(old, samples_key), *b = json_object_get(now, samples_key);
    size_t na = json_array_size(a), nb = json_array_size(b);
    if (!(was > 0) || !(is > 0)) return;
    bool apart =
        na && nb && /* sorted: do the ranges overlap? */
        (json_number_value(json_array_get(a, na - 1)) < json_number_value(json_array_get(b, 0)) ||
         json_number_value(json_array_get(b, nb - 1)) < json_number_value(json_array_get(a, 0)));
    fprintf(stderr, "%-11s %9.2f -> %9.2f  %.3fx%s\n", tps, was, is, is / was,
            apart ? "" : "  (within the range of repetitions)");
}

static rotor_status compare(const bench *b, const json_t *now, rotor_error *err) {
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
    fprintf(stderr, "compared with %s (plain read was %.1f, is %.1f GB/s)\n", path,
            json_number_value(json_object_get(old, "machine_gbps")), b->machine_gbps);
    compare_one(old, now, "prompt_tps", "prompt_samples");
    compare_one(old, now, "decode_tps", "decode_samples");
    json_decref(old);
    return ROTOR_OK;
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
    if (!as_json) print_text(b);
    if (as_json && cli_on(b->a, OPT_OPS)) {
        b->ops = json_array();
        b->step_ops = json_array();
    }
    if (cli_on(b->a, OPT_OPS)) st = measure_ops(b, m, &err);
    if (st == ROTOR_OK && cli_on(b->a, OPT_OPS)) st = measure_step(b, m, &err);
    json_t *o = to_json(b);
    if (st == ROTOR_OK && cli_text(b->a, OPT_COMPARE)) st = compare(b, o, &err);
    int status = cli_status(b->a, st, &err);
    if (as_json && status == CLI_DONE) return cli_json_print(b->a, o);
    json_decref(o);
    return status;
}

int verb_bench(const cli_args *a) {
    bench b = {.a = a,
               .depth = (size_t)cli_int(a, OPT_DEPTH),
               .n_prompt = (size_t)cli_int(a, OPT_N_PROMPT),
               .n_gen = (size_t)cli_int(a, OPT_N_GEN)};
    cli_model m = {0};
    rotor_error err = {0};
    bool preset = cli_given(a, OPT_PRESET);
    if (preset && cli_word(a, 0)) return cli_usage(a, "give a MODEL or --preset, not both");
    if (!b.n_prompt && !b.n_gen) return cli_usage(a, "-p 0 and -n 0: nothing to measure");
    cli_catch_interrupt(true);
    rotor_status st = preset ? make_preset(a, &m, &err) : cli_model_find(&m, cli_word(a, 0), &err);
    if (st == ROTOR_OK) st = measure(&b, &m, &err);
    cli_progress_end(&b.progress);
    int status = st == ROTOR_OK ? report(&b, &m) : CLI_FAILED;
    rotor_session_free(&b.s);
    rotor_engine_close(&b.e);
    if (preset && m.path) unlink(m.path);
    if (st != ROTOR_OK) status = cli_status(a, st, &err);
    json_decref(b.ops);
    json_decref(b.step_ops);
    base_free(b.prompt.tps);
    base_free(b.decode.tps);
    base_free(b.ids);
    cli_model_free(&m);
    return status;
}
