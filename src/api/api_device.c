/* SPDX-License-Identifier: MIT
 *
 * Which device an engine runs on: "cpu", "auto", "opencl", "vulkan:1" ... to an entry of the lists
 * that drivers give. A device that was asked for by name and is not there is an error that says
 * which ones are; a software device is taken only when it was named. What auto means is decided in
 * api_auto.c; here it gets the machine to decide about.
 */
#include "api/api_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_DEVICES = 32 };

static const struct {
    const char *name; /* as in --device */
    dev_api api;      /* which */
} apis[] = {{"opencl", DEV_OPENCL}, {"vulkan", DEV_VULKAN}};

/* Every device there is, one after another, for the message about one that is not. */
static void list_devices(base_buf *out) {
    dev_facts facts[MAX_DEVICES];
    base_buf_printf(out, "cpu");
    for (size_t a = 0; a < BASE_COUNT(apis); a++) {
        size_t n = 0;
        if (dev_list(apis[a].api, facts, MAX_DEVICES, &n, NULL) != ROTOR_OK) continue;
        for (size_t i = 0; i < BASE_MIN(n, (size_t)MAX_DEVICES); i++)
            if (!facts[i].missing[0])
                base_buf_printf(out, ", %s:%zu (%s)", apis[a].name, i, facts[i].name);
    }
}

static rotor_status no_such_device(const char *text, const char *why, rotor_error *err) {
    base_buf have = {0};
    list_devices(&have);
    rotor_status st = base_fail(err, ROTOR_E_NOTFOUND, "device %s: %s; there are: %s", text, why,
                                have.data ? have.data : "cpu");
    base_buf_free(&have);
    return st;
}

/* "vulkan:1": the second of the API's list; "vulkan": the first. */
static rotor_status find_device(const rotor_engine *e, const char *text, dev_api api,
                                const char *index, api_device *out, rotor_error *err) {
    dev_facts facts[MAX_DEVICES];
    size_t n = 0, at = 0;
    rotor_error why = {0};
    char *end = NULL;
    if (index) {
        at = strtoul(index, &end, 10);
        if (end == index || *end) return no_such_device(text, "the number is not one", err);
    }
    if (dev_list(api, facts, MAX_DEVICES, &n, &why) != ROTOR_OK)
        return no_such_device(text, why.message, err);
    if (at >= BASE_MIN(n, (size_t)MAX_DEVICES))
        return no_such_device(text, "there is no device of that number", err);
    if (facts[at].missing[0]) return no_such_device(text, facts[at].missing, err);
    if (facts[at].software)
        base_log_printf(&e->log, BASE_LOG_WARN,
                        "%s is a software device: the CPU does its work, slower than by itself",
                        facts[at].name);
    *out = (api_device){.api = api, .index = at, .facts = facts[at]};
    return ROTOR_OK;
}

/* How the choice is told. */
static void say_why(rotor_engine *e, const char *why) {
    snprintf(e->device_why, sizeof e->device_why, "%s", why);
}

/* ==== How fast one is ========================================================================= */

enum { WARM_STEPS = 2, TIMED_STEPS = 8 };

static void hear(void *why, base_log_level level, const char *line) {
    if (level <= BASE_LOG_WARN) snprintf(why, 400, "%s", line);
}

static rotor_status decode(run_session *s, uint32_t n, rotor_error *err) {
    run_engine *run = run_session_engine(s);
    for (uint32_t i = 0; i < n; i++) {
        const run_row row = {s, i % run_model(run)->hp.n_vocab, true};
        run_found found;
        ROTOR_TRY(run_eval(run, &row, 1, err));
        if (!run_candidates(run, 0, &(run_want){.k = 1}, &found)) (void)run_logits(run, 0);
    }
    return ROTOR_OK;
}

static rotor_status time_steps(run_engine *run, double *tok_per_s, rotor_error *err) {
    run_session *s = NULL;
    ROTOR_TRY(run_session_create(&s, run, WARM_STEPS + TIMED_STEPS, err));
    rotor_status st = decode(s, WARM_STEPS, err);
    const uint64_t from = base_now_us();
    if (st == ROTOR_OK) st = decode(s, TIMED_STEPS, err);
    *tok_per_s = TIMED_STEPS * 1e6 / (double)BASE_MAX(base_now_us() - from, 1);
    run_session_free(&s);
    return st;
}

rotor_status api_time_decode(const rotor_engine *e, const run_options *run_opt, const api_device *d,
                             double *tok_per_s, rotor_error *err) {
    char why[400] = "";
    run_engine *run = NULL;
    const base_log log = {hear, why};
    run_options opt = *run_opt;
    opt.device = d->api;
    opt.device_index = d->index;
    opt.device_facts = d->api == DEV_CPU ? NULL : &d->facts;
    if (d->api == DEV_CPU) opt.device_layers = 0;
    opt.prompt_apart = false;
    opt.log = &log;
    ROTOR_TRY(run_create(&run, e->m, e->pool, &opt, err));
    rotor_status st = time_steps(run, tok_per_s, err);
    if (st == ROTOR_OK && run_device(run) != d->api) /* given up meanwhile */
        st = base_fail(err, ROTOR_E_DEVICE, "%s", why);
    run_free(&run);
    return st;
}

/* ==== auto ==================================================================================== */

/* What is to run. */
typedef struct trial {
    const rotor_engine *e;  /* engine being opened */
    const run_options *opt; /* of its run */
} trial;

static rotor_status measure(void *user, const api_device *d, double *tok_per_s, rotor_error *err) {
    const trial *t = user;
    return api_time_decode(t->e, t->opt, d, tok_per_s, err);
}

static rotor_status list(void *user, dev_api api, dev_facts *out, size_t max, size_t *n) {
    (void)user;
    if (!base_may_have_gpu()) return ROTOR_E_NOTFOUND; /* loaders take a while to say so */
    return dev_list(api, out, max, n, NULL);
}

/* What else a speed depends on: machine, program, model and settings. The weights do not matter,
 * only their number and types. */
static uint64_t trial_key(const rotor_engine *e, const run_options *o) {
    const model *m = e->m;
    char text[512];
    const int n =
        snprintf(text, sizeof text, "%s|%x %d %d %llu|%.100s %.40s %llu %llu %u|%d %d %d %u %u %d",
                 ROTOR_VERSION, e->cpu, base_cpu_count(), par_n_threads(e->pool),
                 (unsigned long long)base_total_memory_bytes(), m->name, m->type_name,
                 (unsigned long long)m->file_bytes, (unsigned long long)m->n_params, m->hp.n_layer,
                 o->kv, o->float_act, o->head, o->n_pages, o->device_layers, o->adapter != NULL);
    return base_hash64(text, BASE_MIN((size_t)n, sizeof text - 1), 0);
}

static api_device choose_auto(rotor_engine *e, const run_options *opt) {
    trial t = {.e = e, .opt = opt};
    const api_rivals world = {&t, list, measure};
    const api_auto job = {.step_bytes = model_step_bytes(e->m, 0),
                          .key = trial_key(e, opt),
                          .cache_dir = opt->device_cache,
                          .why = e->device_why,
                          .why_bytes = sizeof e->device_why,
                          .log = &e->log};
    return api_auto_choose(&world, &job);
}

/* ==== The word ================================================================================ */

/* Where the engine has come to run, in the words of --device. */
void api_name_device(rotor_engine *e, const api_device *d) {
    const bool on_cpu = run_device(e->run) == DEV_CPU;
    if (!run_prompt_device(e->run)) e->device_prompt[0] = 0;
    const char *given_up = d->api != DEV_CPU && on_cpu ? "the device asked for was given up" : NULL;
    snprintf(e->device, sizeof e->device, "cpu");
    for (size_t i = 0; i < BASE_COUNT(apis) && !on_cpu; i++)
        if (apis[i].api == d->api)
            snprintf(e->device, sizeof e->device, "%s:%zu", apis[i].name, d->index);
    snprintf(e->device_name, sizeof e->device_name, "%s", run_device_name(e->run));
    if (given_up) say_why(e, given_up);
}

/* Any but auto. */
static rotor_status choose_named(const rotor_engine *e, const char *text, api_device *out,
                                 rotor_error *err) {
    *out = (api_device){.api = DEV_CPU};
    if (strcmp(text, "cpu") == 0) return ROTOR_OK;
    for (size_t i = 0; i < BASE_COUNT(apis); i++) {
        const size_t n = strlen(apis[i].name);
        if (strncmp(text, apis[i].name, n) == 0 && (text[n] == 0 || text[n] == ':'))
            return find_device(e, text, apis[i].api, text[n] ? text + n + 1 : NULL, out, err);
    }
    return base_fail(err, ROTOR_E_ARG,
                     "device %s: expected cpu, auto, opencl, vulkan, opencl:N or vulkan:N", text);
}

rotor_status api_choose_device(rotor_engine *e, const run_options *opt, api_device *out,
                               rotor_error *err) {
    const char *text = e->opt.device;
    *out = (api_device){.api = DEV_CPU};
    say_why(e, "asked for");
    if (text && strcmp(text, "auto") == 0) return *out = choose_auto(e, opt), ROTOR_OK;
    return text ? choose_named(e, text, out, err) : ROTOR_OK;
}

rotor_status api_choose_prompt_device(rotor_engine *e, const api_device *device, api_device *out,
                                      bool *apart, rotor_error *err) {
    const char *text = e->opt.device_prompt;
    *apart = false;
    if (!text) return ROTOR_OK;
    if (strcmp(text, "auto") == 0)
        return base_fail(err, ROTOR_E_ARG,
                         "prompts on device auto: expected cpu, opencl, vulkan, opencl:N or "
                         "vulkan:N");
    ROTOR_TRY(choose_named(e, text, out, err));
    *apart = out->api != device->api || (out->api != DEV_CPU && out->index != device->index);
    snprintf(e->device_prompt, sizeof e->device_prompt, "%s", *apart ? "cpu" : "");
    for (size_t i = 0; i < BASE_COUNT(apis) && *apart; i++)
        if (apis[i].api == out->api)
            snprintf(e->device_prompt, sizeof e->device_prompt, "%s:%zu", apis[i].name, out->index);
    return ROTOR_OK;
}
