/* SPDX-License-Identifier: MIT
 *
 * check_kernels [--all] [--only FAMILY] [--api NAME] [--plain] [--bend]: see check_kernels.h.
 * Without arguments a short set. Families: products, rows, cache, attention, choice, experts. On
 * devices that add up across sub-groups, families that do so are checked with and without; --plain:
 * without anything that is only there when offered. --bend spoils every reference; the program then
 * succeeds when every family has found fault.
 */
#include "check_kernels.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void must(rotor_status st, const rotor_error *err, const char *what) {
    if (st == ROTOR_OK) return;
    fprintf(stderr, "check_kernels: %s: %s\n", what, err->message);
    exit(2);
}

/* ==== Memory and dispatches =================================================================== */

gpu_mem *put(checker *c, const void *data, size_t n_bytes) {
    rotor_error err = {0};
    gpu_mem *m = NULL;
    n_bytes = n_bytes ? (n_bytes + 3) & ~(size_t)3 : 4;
    must(c->api->alloc(c->g, n_bytes, false, &m, &err), &err, "alloc");
    if (data) must(c->api->write(c->g, m, 0, data, n_bytes, &err), &err, "write");
    if (c->n_mem == MAX_MEMS) abort();
    return c->mem[c->n_mem++] = m;
}

void get(checker *c, gpu_mem *m, void *dst, size_t n_bytes) {
    rotor_error err = {0};
    must(c->api->read(c->g, m, 0, dst, n_bytes, &err), &err, "read");
}

void drop(checker *c) {
    while (c->n_mem) c->api->mem_free(c->g, c->mem[--c->n_mem]);
}

static gpu_kernel *kernel_of(checker *c, const launch *l) {
    const gpu_source *src = NULL;
    uint32_t spec[MAX_SPEC] = {l->lx};
    rotor_error err = {0};
    memcpy(spec + 1, l->spec, sizeof spec - sizeof *spec);
    for (size_t i = 0; i < gpu_n_sources; i++)
        if (!strcmp(gpu_sources[i].name, l->name)) src = &gpu_sources[i];
    for (size_t i = 0; i < c->n_kernels; i++)
        if (c->kernels[i].src == src && !memcmp(c->kernels[i].spec, spec, sizeof spec))
            return c->kernels[i].kernel;
    if (!src || c->n_kernels == MAX_CACHED) {
        fprintf(stderr, "check_kernels: no kernel %s, or too many\n", l->name);
        exit(2);
    }
    cached *k = &c->kernels[c->n_kernels++];
    k->src = src;
    memcpy(k->spec, spec, sizeof spec);
    must(c->api->kernel(c->g, src, spec, MAX_SPEC, l->n_binds, (uint32_t)l->n_params, &k->kernel,
                        &err),
         &err, l->name);
    return k->kernel;
}

void run(checker *c, const launch *l) {
    gpu_dispatch d = {.kernel = kernel_of(c, l),
                      .groups = {l->groups[0], l->groups[1], l->groups[2]},
                      .n_binds = l->n_binds,
                      .n_params = (uint32_t)l->n_params};
    gpu_list *list = NULL;
    rotor_error err = {0};
    memcpy(d.bind, l->bind, sizeof d.bind);
    memcpy(d.param, l->params, 4 * l->n_params);
    must(c->api->list_make(c->g, &d, 1, NULL, 0, NULL, 0, &list, &err), &err, l->name);
    must(c->api->submit(c->g, list, NULL, 0, &err), &err, l->name);
    must(c->api->wait(c->g, list, NULL, &err), &err, l->name);
    c->api->list_free(c->g, list);
}

/* ==== Operands and verdicts =================================================================== */

void *room(size_t n, size_t size) {
    void *p = calloc(n ? n : 1, size);
    if (!p) abort();
    return p;
}

bool has_kernel(const char *name) {
    for (size_t i = 0; i < gpu_n_sources; i++)
        if (!strcmp(gpu_sources[i].name, name)) return true;
    return false;
}

void randoms(checker *c, float *x, size_t n, float scale) {
    for (size_t i = 0; i < n; i++) x[i] = scale * base_rng_normal(&c->rng);
}

step_image step_make(uint32_t rows, uint32_t n_rows, uint32_t n_picked, uint32_t n_rot,
                     uint32_t n_pages) {
    step_image s = {.token_at = GPU_STEP_HEADER};
    s.pos_at = s.token_at + rows;
    s.picked_at = s.pos_at + rows;
    s.table_at = s.picked_at + rows;
    s.angle_at = s.table_at + rows;
    const uint32_t pages_at = s.angle_at + rows * n_rot;
    s.n_words = pages_at + (size_t)rows * n_pages;
    s.word = room(s.n_words, 4);
    s.word[GPU_STEP_ROWS] = n_rows;
    s.word[GPU_STEP_PICKED] = n_picked;
    for (uint32_t r = 0; r < rows; r++) {
        s.word[s.pos_at + r] = r;
        s.word[s.table_at + r] = pages_at + r * n_pages;
        for (uint32_t i = 0; i < n_pages; i++) s.word[pages_at + r * n_pages + i] = r * n_pages + i;
    }
    return s;
}

void say(checker *c, bool good, const char *fmt, ...) {
    c->n_checks++;
    if (good) return;
    if (c->n_wrong++ > 20 || c->bent) return;
    va_list ap;
    va_start(ap, fmt);
    printf("WRONG %s: ", c->g->facts.name);
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
}

double distance(const float *got, const float *want, size_t n) {
    double off = 0, length = 0;
    for (size_t i = 0; i < n; i++) {
        const double e = (double)got[i] - want[i];
        off += e * e;
        length += (double)want[i] * want[i];
    }
    if (off == 0) return 0;
    return length > 0 ? sqrt(off / length) : INFINITY;
}

void near(checker *c, const float *got, const float *want, size_t n, double bound,
          const char *what) {
    const double d = distance(got, want, n) + (c->bent ? 2 * bound : 0);
    if (!(d <= c->worst)) c->worst = d;
    say(c, d <= bound, "%s: distance %.3g, allowed %.3g", what, d, bound);
}

/* ==== Devices ================================================================================= */

static const struct {
    const char *name;          /* of --only */
    void (*check)(checker *c); /* all of it */
    bool reduces;              /* has kernels that use sub-groups */
} families[] = {
    {"products", check_product_kernels, false}, {"rows", check_row_kernels, true},
    {"cache", check_cache_kernels, false},      {"attention", check_attention_kernels, true},
    {"choice", check_choice_kernels, false},    {"experts", check_expert_kernels, false},
};

/* Returns false when something was wrong, or with bend when a family found nothing. */
static bool check_device(checker *c) {
    bool good = true;
    for (size_t i = 0; i < BASE_COUNT(families); i++) {
        if (c->only && strcmp(c->only, families[i].name)) continue;
        if (c->reducing && !families[i].reduces) continue;
        c->n_checks = c->n_wrong = 0;
        c->worst = 0;
        base_rng_seed(&c->rng, 7 + i);
        const uint64_t start = base_now_ns();
        families[i].check(c);
        printf("%s, %s%s: %s: %lu checks, %lu wrong, farthest %.2g, %.1f s\n", c->api->name,
               c->g->facts.name, c->g->facts.subgroup_sums ? ", sub-groups" : "", families[i].name,
               c->n_checks, c->n_wrong, c->worst, (double)(base_now_ns() - start) / 1e9);
        fflush(stdout);
        good &= c->bent ? c->n_wrong > 0 : c->n_wrong == 0;
    }
    return good;
}

/* One device; without: kernels compiled as if it lacked what GPU_WITH_... names. */
static bool check_form(const checker *model, size_t index, unsigned without) {
    checker *c = malloc(sizeof *c);
    rotor_error err = {0};
    if (!c) abort();
    *c = *model;
    must(c->api->open(&c->g, index, NULL, &err), &err, c->api->name);
    gpu_facts *f = &c->g->facts;
    f->dot4 &= !(without & GPU_WITH_DOT);
    f->subgroup_sums &= !(without & GPU_WITH_SUBGROUPS);
    const bool good = check_device(c);
    for (size_t k = 0; k < c->n_kernels; k++) c->api->kernel_free(c->g, c->kernels[k].kernel);
    c->api->close(c->g);
    free(c);
    return good;
}

/* Every usable device of an API. */
static bool check_api(checker *model, const gpu_api *api, size_t *n_devices) {
    gpu_facts facts[8];
    rotor_error err = {0};
    size_t n = 0;
    bool good = true;
    if (!api || api->list(facts, BASE_COUNT(facts), &n, &err) != ROTOR_OK) return true;
    model->api = api;
    for (size_t i = 0; i < BASE_MIN(n, BASE_COUNT(facts)); i++) {
        if (facts[i].missing[0]) continue;
        good &= check_form(model, i, model->without);
        if (facts[i].subgroup_sums && !model->without && !model->bent) {
            checker plain = *model;
            plain.reducing = true;
            good &= check_form(&plain, i, GPU_WITH_SUBGROUPS);
        }
        ++*n_devices;
    }
    return good;
}

int main(int argc, char **argv) {
    checker model = {0};
    const char *api = NULL;
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ); /* a run that is cut short has said what it found */
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--all"))
            model.all = true;
        else if (!strcmp(argv[i], "--bend"))
            model.bent = true;
        else if (!strcmp(argv[i], "--plain"))
            model.without = ~0u;
        else if (!strcmp(argv[i], "--only") && i + 1 < argc)
            model.only = argv[++i];
        else if (!strcmp(argv[i], "--api") && i + 1 < argc)
            api = argv[++i];
        else
            return fprintf(stderr, "check_kernels: unknown argument %s\n", argv[i]), 2;
    }
    kern_init(&model.ref, 0);
    size_t n_devices = 0;
    bool good = true;
    if (!api || !strcmp(api, "opencl")) good &= check_api(&model, gpu_opencl(), &n_devices);
    if (!api || !strcmp(api, "vulkan")) good &= check_api(&model, gpu_vulkan(), &n_devices);
    if (!n_devices) {
        printf("skipped: no device\n");
        return 77;
    }
    return good ? 0 : 1;
}
