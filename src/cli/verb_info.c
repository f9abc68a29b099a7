/* SPDX-License-Identifier: MIT
 *
 * rotor info: this machine, this build, and for a model what would be chosen and what speed the
 * measured memory allows.
 */
#include "cli/info.h"
#include "hub/hub.h"
#include "serve/serve.h"

#include <jansson.h>
#include <stdio.h>

typedef struct report {
    const cli_args *a;      /* options */
    tool_machine machine;   /* facts */
    int threads;            /* used for measuring */
    tool_rates rates;       /* measured; 0: could not be */
    info_devices devices;   /* of this machine */
    rotor_engine *e;        /* the model, owned; NULL: none asked for */
    rotor_engine_info info; /* of e */
    double load_ms;         /* time to open e */
} report;

/* Of libraries that are loaded when they are needed: here they are, to say whether they are there.
 */
typedef struct late {
    rotor_error downloads, server; /* version or why none; "": not in the build */
} late;

static void find_late(late *l) {
    const char *version = NULL;
    *l = (late){0};
    if (hub_library(&version, &l->downloads) == ROTOR_OK)
        snprintf(l->downloads.message, sizeof l->downloads.message, "%s", version);
#ifdef ROTOR_HAVE_MICROHTTPD
    if (serve_library(&version, &l->server) == ROTOR_OK)
        snprintf(l->server.message, sizeof l->server.message, "libmicrohttpd/%s", version);
#endif
}

static void text_late(void) {
    late l;
    find_late(&l);
    cli_outf("downloads    %s\n", l.downloads.message);
    if (l.server.message[0]) cli_outf("server       %s\n", l.server.message);
}

static void json_late(json_t *o) {
    late l;
    find_late(&l);
    json_object_set_new(o, "downloads", json_string(l.downloads.message));
    json_object_set_new(o, "server",
                        l.server.message[0] ? json_string(l.server.message) : json_null());
}

static void text_machine(const report *r) {
    char a[32], b[32];
    cli_outf("processor    %s, %d logical processors, best level %s\n", r->machine.cpu_name,
             r->machine.n_cpus, r->machine.cpu_level);
    cli_outf("instructions %s (--cpu takes the best unless told less)\n", r->machine.cpu_levels);
    cli_outf("cache        %s\n",
             r->machine.cache_bytes ? cli_bytes(r->machine.cache_bytes, a) : "of unknown size");
    cli_outf("memory       %s, %s available\n", cli_bytes(r->machine.memory_bytes, a),
             cli_bytes(r->machine.available_bytes, b));
    cli_outf(
        "measured     plain read %.1f GB/s, int8 %.0f GMAC/s, f32 %.0f GMAC/s (%d threads, just "
        "now)\n",
        r->rates.of[TOOL_READ], r->rates.of[TOOL_INT8], r->rates.of[TOOL_F32], r->threads);
    info_devices_text(&r->devices, r->e ? &r->info : NULL);
    cli_outf("not here     CUDA, ROCm, Metal and NPUs are out of scope\n");
    cli_outf("build        rotor %s\n", rotor_version());
    for (const char *p = rotor_features(); *p;) {
        size_t n = strcspn(p, "\n");
        cli_outf("             %.*s\n", (int)n, p);
        p += n + (p[n] == '\n');
    }
    text_late();
}

static double decode_bound(const report *r) {
    return r->info.step_bytes ? r->rates.of[TOOL_READ] * 1e9 / (double)r->info.step_bytes : 0;
}

static void text_place(const rotor_engine_info *i) {
    const unsigned long long n = i->device_layers;
    char bytes[32];
    cli_outf("runs on      ");
    if (n) cli_outf("%s %s, %llu of %u layers; ", i->device, i->device_name, n, i->n_layer);
    if (n < i->n_layer)
        cli_outf("%scpu, %d threads, %s; ", n ? "the rest on " : "", i->threads, i->cpu);
    cli_outf("%s\n", i->device_why);
    if (strcmp(i->device_prompt, i->device) != 0) cli_outf("prompts on   %s\n", i->device_prompt);
    if (i->device_imported)
        cli_outf("             the embedding, %s, is read where it is, not copied\n",
                 cli_bytes(i->device_imported, bytes));
}

static void text_model(const report *r) {
    const rotor_engine_info *i = &r->info;
    char a[32], b[32], c[32];
    uint64_t total = i->file_bytes + i->kv_bytes;
    cli_outf("\nmodel        %s (%s, %s), %.1f million weights, %s\n", i->name, i->architecture,
             i->type_name, (double)i->n_params / 1e6, cli_bytes(i->file_bytes, a));
    cli_outf("opened in    %.0f ms\n", r->load_ms);
    text_place(i);
    cli_outf("head         %s\n", i->head);
    cli_outf("context      %u of %u tokens, cache %s\n", i->n_ctx, i->n_ctx_train,
             cli_bytes(i->kv_bytes, a));
    cli_outf("needs        %s, available %s: %s\n", cli_bytes(total, b),
             cli_bytes(r->machine.available_bytes, c),
             total < r->machine.available_bytes ? "fits"
                                                : "does not fit; a smaller -c or --kv q8 helps");
    cli_outf("template     %s\n", i->template_line ? i->template_line : "none");
    cli_outf("reads        %s a token: at most %.1f tokens/s with this memory\n",
             cli_bytes(i->step_bytes, a), decode_bound(r));
}

static int print_json(const report *r) {
    json_t *o = json_object(), *m = json_object();
    json_object_set_new(o, "version", json_string(rotor_version()));
    json_object_set_new(o, "features", json_string(rotor_features()));
    json_object_set_new(o, "cpu", cli_json_text(r->machine.cpu_name, strlen(r->machine.cpu_name)));
    json_object_set_new(o, "cpu_level", json_string(r->machine.cpu_level));
    json_object_set_new(o, "cpu_levels", json_string(r->machine.cpu_levels));
    json_object_set_new(o, "cache_bytes", json_integer((json_int_t)r->machine.cache_bytes));
    json_object_set_new(o, "cpus", json_integer(r->machine.n_cpus));
    json_object_set_new(o, "memory_bytes", json_integer((json_int_t)r->machine.memory_bytes));
    json_object_set_new(o, "available_bytes", json_integer((json_int_t)r->machine.available_bytes));
    json_object_set_new(o, "machine_gbps", json_real(r->rates.of[TOOL_READ]));
    json_object_set_new(o, "machine_int8_gmacs", json_real(r->rates.of[TOOL_INT8]));
    json_object_set_new(o, "machine_f32_gmacs", json_real(r->rates.of[TOOL_F32]));
    json_object_set_new(o, "devices", info_devices_json(&r->devices, r->e ? &r->info : NULL));
    json_late(o);
    json_object_set_new(o, "no_devices", info_missing_json(&r->devices));
    if (r->e) {
        const rotor_engine_info *i = &r->info;
        json_object_set_new(m, "name", cli_json_text(i->name, strlen(i->name)));
        json_object_set_new(m, "architecture", json_string(i->architecture));
        json_object_set_new(m, "type", json_string(i->type_name));
        json_object_set_new(m, "n_params", json_integer((json_int_t)i->n_params));
        json_object_set_new(m, "file_bytes", json_integer((json_int_t)i->file_bytes));
        json_object_set_new(m, "kv_bytes", json_integer((json_int_t)i->kv_bytes));
        json_object_set_new(m, "bytes_per_token", json_integer((json_int_t)i->step_bytes));
        json_object_set_new(m, "n_ctx", json_integer(i->n_ctx));
        json_object_set_new(m, "n_ctx_train", json_integer(i->n_ctx_train));
        json_object_set_new(m, "threads", json_integer(i->threads));
        json_object_set_new(m, "cpu_level", json_string(i->cpu));
        json_object_set_new(m, "device", json_string(i->device));
        json_object_set_new(m, "device_layers", json_integer((json_int_t)i->device_layers));
        json_object_set_new(m, "device_prompt", json_string(i->device_prompt));
        json_object_set_new(m, "device_imported", json_integer((json_int_t)i->device_imported));
        json_object_set_new(m, "device_why", json_string(i->device_why));
        json_object_set_new(m, "head", json_string(i->head));
        json_object_set_new(m, "decode_tps_bound", json_real(decode_bound(r)));
        json_object_set_new(m, "load_ms", json_real(r->load_ms));
        json_object_set(o, "model", m);
    }
    json_decref(m);
    return cli_json_print(r->a, o);
}

static rotor_status open_model(report *r, const char *word, rotor_error *err) {
    cli_model m;
    ROTOR_TRY(cli_model_find(&m, word, err));
    rotor_engine_options opt = cli_engine_options(r->a);
    opt.log = NULL;
    uint64_t start = base_now_us();
    rotor_status st = cli_engine_open(&r->e, r->a, &m, opt, err);
    r->load_ms = (double)(base_now_us() - start) / 1e3;
    r->info.size = sizeof r->info;
    if (st == ROTOR_OK) st = rotor_engine_get_info(r->e, &r->info);
    cli_model_free(&m);
    return st;
}

/* Medians of a few samples; what cannot be measured stays 0. */
static void measure_machine(report *r) {
    enum { SAMPLES = 5 };
    tool_series series[TOOL_N_CEILINGS] = {0};
    tool_probe *probe = NULL;
    tool_rates rates;
    if (tool_probe_create(&probe, r->threads, 0, NULL) != ROTOR_OK) return;
    for (int i = 0; i < SAMPLES && tool_probe_take(probe, &rates, NULL) == ROTOR_OK; i++)
        for (int c = 0; c < TOOL_N_CEILINGS; c++) tool_series_add(&series[c], rates.of[c], NULL);
    for (int c = 0; c < TOOL_N_CEILINGS; c++) {
        r->rates.of[c] = tool_series_stat(&series[c]).median;
        tool_series_free(&series[c]);
    }
    tool_probe_free(&probe);
}

int verb_info(const cli_args *a) {
    report r = {.a = a};
    rotor_error err = {0};
    rotor_status st = ROTOR_OK;
    tool_machine_get(&r.machine);
    r.threads = cli_given(a, OPT_THREADS) ? (int)cli_int(a, OPT_THREADS) : r.machine.n_cpus;
    measure_machine(&r);
    info_devices_measure(&r.devices);
    if (cli_word(a, 0)) st = open_model(&r, cli_word(a, 0), &err);
    if (!cli_on(a, OPT_JSON)) text_machine(&r);
    int status = cli_status(a, st, &err);
    if (status == CLI_DONE && cli_on(a, OPT_JSON))
        status = print_json(&r);
    else if (status == CLI_DONE && r.e)
        text_model(&r);
    rotor_engine_close(&r.e);
    return status;
}
