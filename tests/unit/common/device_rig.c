/* SPDX-License-Identifier: MIT
 *
 * Devices, and small models of every kind of weights that a device has kernels for.
 */
#include "device_rig.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "forge.h"
#include "tiny_model.h"
#include "tool/tool.h"

static void must(rotor_status st, const rotor_error *err, const char *what) {
    if (st == ROTOR_OK) return;
    fprintf(stderr, "device_rig: %s: %s\n", what, err->message);
    abort();
}

/* ==== Devices ================================================================================= */

size_t rig_devices(rig_device out[RIG_DEVICES]) {
    static const struct {
        const char *name; /* as in --device */
        dev_api api;      /* which */
    } apis[] = {{"opencl", DEV_OPENCL}, {"vulkan", DEV_VULKAN}};
    dev_facts facts[RIG_DEVICES];
    size_t n = 0, listed;
    for (size_t a = 0; a < BASE_COUNT(apis); a++) {
        rotor_error err = {0};
        if (dev_list(apis[a].api, facts, RIG_DEVICES, &listed, &err) != ROTOR_OK) {
            printf("%s: %s\n", apis[a].name, err.message);
            continue;
        }
        for (size_t i = 0; i < BASE_MIN(listed, (size_t)RIG_DEVICES) && n < RIG_DEVICES; i++) {
            rig_device *d = &out[n];
            *d = (rig_device){.api = apis[a].api, .index = i, .facts = facts[i]};
            snprintf(d->label, sizeof d->label, "%s:%zu %s", apis[a].name, i, facts[i].name);
            printf("%s%s%s\n", d->label, facts[i].missing[0] ? ": not used: " : "",
                   facts[i].missing);
            n += !facts[i].missing[0];
        }
    }
    return n;
}

size_t rig_devices_of_run(rig_device out[RIG_DEVICES]) {
    const size_t n = rig_devices(out);
    if (rig_all() || n < 2) return n;
    out[0] = out[n - 1];
    return 1;
}

/* ==== Models ================================================================================== */

typedef enum origin { MADE, FOUND, TINY, FORGED, GOLDEN } origin;

static const struct {
    const char *name; /* for people; of MADE and FOUND also where it comes from */
    origin from;   /* tool_synth, a file of the tests, tiny_write, forge, a checkpoint of theirs */
    uint32_t what; /* TINY: tiny_kind; FORGED: quant_type of the projections */
    bool quick;    /* part of the short run */
} models[] = {{"bitnet-tiny", MADE, 0, true},
              {"llama-tiny", MADE, 0, true},
              {"stories260K", FOUND, 0, true},
              {"llama-1.58-tiny", MADE, 0, true},
              {"gptoss-gguf/model.gguf", GOLDEN, 0, false},
              {"fam-qwen2moe", GOLDEN, 0, false},
              {"fam-qwen3moe", GOLDEN, 0, false},
              {"gptoss-mxfp4", GOLDEN, 0, false},
              {"gptoss-dense", GOLDEN, 0, false},
              {"gpt-oss F32", TINY, TINY_GPT_OSS, false},
              {"bitnet TQ2_0", TINY, TINY_BITNET_TQ, false},
              {"bitnet T5", TINY, TINY_BITNET_T5, false},
              {"llama F32", TINY, TINY_LLAMA_F32, false},
              {"llama F16", FORGED, QUANT_F16, false},
              {"llama Q4_0", FORGED, QUANT_Q4_0, false},
              {"llama Q4_K", FORGED, QUANT_Q4_K, false},
              {"llama Q6_K", TINY, TINY_LLAMA_Q4K, false}};

const char *rig_model(size_t index) {
    return index < BASE_COUNT(models) ? models[index].name : NULL;
}

size_t rig_n_quick(void) {
    size_t n = 0;
    while (models[n].quick) n++;
    return n;
}

bool rig_all(void) {
    const char *which = getenv("ROTOR_TEST_DEVICES");
    return which && strcmp(which, "all") == 0;
}

/* Q4_K has no encoder here: random codes under scales that give weights of variance 1/K. */
static void fill_q4_k(forge_part *p, base_rng *rng) {
    enum { BLOCK = 144 }; /* d, dmin: half floats; 12 bytes of scales; 128 of codes */
    static const uint8_t d_and_min[] = {0x00, 0x0c, 0x00, 0x18}; /* 2^-12, 2^-9 */
    for (uint64_t at = 0; at < p->n_bytes; at += BLOCK) {
        memcpy(p->bytes + at, d_and_min, sizeof d_and_min);
        for (uint64_t i = sizeof d_and_min; i < BLOCK; i++)
            p->bytes[at + i] = (uint8_t)base_rng_u64(rng);
    }
}

static void forge_model(model **out, uint32_t type, rotor_error *err) {
    const model_options mo = {.i2s = -1};
    const bool no_encoder = !(quant_find(type)->flags & QUANT_CAN_ENCODE);
    forge f;
    forge_start(&f, "llama", no_encoder ? QUANT_Q8_0 : type);
    for (size_t i = 0; no_encoder && i < f.n_parts; i++) {
        forge_part *p = &f.parts[i];
        char name[sizeof p->name];
        if (p->type != QUANT_Q8_0) continue;
        memcpy(name, p->name, sizeof name);
        forge_put_bytes(&f, name, type, p->rows, p->cols);
        fill_q4_k(p, &f.rng);
    }
    must(forge_open(&f, out, &mo, err), err, "forge");
    forge_end(&f);
}

static void open_model(model **out, size_t i) {
    const model_options mo = {.i2s = -1};
    const tool_synth_options so = {.seed = 3};
    char path[1024];
    rotor_error err = {0};
    tiny_path(path, "device.gguf");
    switch (models[i].from) {
    case FOUND:
        snprintf(path, sizeof path, "%s/tests/data/model/%s.gguf", getenv("ROTOR_SOURCE_ROOT"),
                 models[i].name);
        must(model_open(out, path, &mo, &err), &err, models[i].name);
        return;
    case GOLDEN:
        snprintf(path, sizeof path, "%s/tests/data/golden/%s", getenv("ROTOR_SOURCE_ROOT"),
                 models[i].name);
        must(model_open(out, path, &mo, &err), &err, models[i].name);
        return;
    case FORGED:
        forge_model(out, models[i].what, &err);
        return;
    case MADE:
        must(tool_synth(models[i].name, path, &so, &err), &err, models[i].name);
        break;
    case TINY:
        tiny_write(path, (tiny_kind)models[i].what, tiny_default(), 7, NULL);
        break;
    }
    must(model_open(out, path, &mo, &err), &err, models[i].name);
    unlink(path); /* mapped: it stays until the model is closed */
}

/* ==== Engines ================================================================================= */

static void hear(void *user, base_log_level level, const char *line) {
    rig_log *l = user;
    if (level > BASE_LOG_WARN) return;
    l->warnings++;
    snprintf(l->last, sizeof l->last, "%s", line);
}

void rig_up(rig *r, const char *model_name, rig_setting set) {
    rotor_error err = {0};
    size_t i = 0;
    memset(r, 0, sizeof *r);
    r->log.log = (base_log){.fn = hear, .user = &r->log};
    while (strcmp(models[i].name, model_name) != 0) i++;
    must(par_create(&r->pool, 2, false, &err), &err, "threads");
    open_model(&r->m, i);
    const run_options ro = {.cpu = cpu_detect(),
                            .kv = set.kv,
                            .float_act = set.float_act,
                            .head = set.head,
                            .device_facts = set.facts,
                            .n_pages = 24,
                            .n_sessions = set.sessions,
                            .device_layers = set.layers,
                            .chunk = set.rows,
                            .max_logits = set.rows,
                            .log = &r->log.log,
                            .device = set.device ? set.device->api : DEV_CPU,
                            .device_index = set.device ? set.device->index : 0,
                            .prompt_apart = set.prompt,
                            .prompt_device = set.prompt ? set.prompt->api : DEV_CPU,
                            .prompt_facts = set.prompt ? set.prompt->placed_by : NULL,
                            .prompt_index = set.prompt ? set.prompt->index : 0,
                            .open_gpu = set.open_gpu};
    must(run_create(&r->e, r->m, r->pool, &ro, &err), &err, model_name);
}

void rig_down(rig *r) {
    run_free(&r->e);
    model_close(&r->m);
    par_free(&r->pool);
}

float *rig_logits(rig *r, uint32_t n, float *out) {
    for (uint32_t i = 0; i < n; i++, out += r->m->hp.n_vocab)
        memcpy(out, run_logits(r->e, i), r->m->hp.n_vocab * sizeof *out);
    return out;
}

void rig_session(run_session **s, rig *r) {
    rotor_error err = {0};
    must(run_session_create(s, r->e, 500, &err), &err, "session");
}

void rig_eval(rig *r, const run_row *rows, uint32_t n) {
    rotor_error err = {0};
    must(run_eval(r->e, rows, n, &err), &err, "step");
}

/* ==== The verdict ============================================================================= */

#define CLEAR_LEAD 0.3 /* of the deviation of a row's logits */

static size_t best_of(const float *x, size_t n) {
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

/* How far the best element is above the next, in deviations of all. */
static double lead_of(const float *x, size_t n) {
    const size_t best = best_of(x, n);
    double sum = 0, squares = 0, next = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
        if (i != best && (double)x[i] > next) next = (double)x[i];
    }
    const double mean = sum / (double)n;
    return ((double)x[best] - next) / sqrt(squares / (double)n - mean * mean);
}

rig_verdict rig_judge(const float *got, const float *want, size_t rows, size_t width) {
    rig_verdict v = {0};
    double off_all = 0, length_all = 0;
    for (size_t r = 0; r < rows; r++, got += width, want += width) {
        double off = 0, length = 0;
        for (size_t i = 0; i < width; i++) {
            const double e = (double)got[i] - (double)want[i];
            off += e * e;
            length += (double)want[i] * (double)want[i];
        }
        const double far = sqrt(off / length);
        if (!(far <= v.worst)) v.worst = far;
        off_all += off;
        length_all += length;
        if (lead_of(want, width) <= CLEAR_LEAD) continue;
        v.clear++;
        v.lost += best_of(got, width) != best_of(want, width);
    }
    v.all = sqrt(off_all / length_all);
    return v;
}
