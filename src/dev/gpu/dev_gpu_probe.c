/* SPDX-License-Identifier: MIT
 *
 * Two figures bound a decoded token on a GPU: how fast memory moves on the device, and how long a
 * dispatch takes that waits for the one before it. Both are measured here, through the same words
 * of gpu.h that a model uses.
 *
 * Memory: a copy between two memories, much larger than caches where the device allows it, both
 * together at most an eighth of its memory. The copy reads and writes, both count. Several copies
 * are under way before the host waits, so that its share of the time is small; the fastest of a few
 * rounds is taken, since a device that was asleep needs some to wake.
 *
 * Dispatches: a list of tiny ones, each reading what the one before wrote.
 * A software device copies little and starts few: nobody waits seconds for a figure of his CPU.
 */
#include "dev/gpu/dev_gpu.h"

enum {
    CHAIN = 200,              /* dispatches that wait for each other */
    ROUNDS = 5,               /* of which the best counts */
    AT_ONCE = 4,              /* copies under way */
    MOST_BYTES = 256 << 20,   /* of a copy … */
    MOST_SOFTWARE = 16 << 20, /* … on a software device */
    ENOUGH_US = 400000        /* rounds end after so long */
};

typedef struct prober {
    const gpu_api *api; /* of the device */
    gpu *g;             /* opened, owned */
    gpu_mem *from, *to; /* of the copy, owned */
    gpu_mem *cell[2];   /* results of dispatches by turns, owned */
    gpu_mem *step;      /* one row, owned */
    gpu_kernel *best;   /* the tiny work, owned */
} prober;

/* ==== Copying ================================================================================= */

static uint64_t copy_bytes(const gpu_facts *f) {
    uint64_t n = f->software ? MOST_SOFTWARE : MOST_BYTES;
    if (f->heap_bytes) n = BASE_MIN(n, f->heap_bytes / 16);
    n = BASE_MIN(n, BASE_MIN(f->max_alloc_bytes, f->max_bind_bytes));
    return n / 4096 * 4096;
}

/* Waits until all that was handed over is done. */
static rotor_status settle(prober *p, rotor_error *err) {
    uint32_t word;
    return p->api->read(p->g, p->to, 0, &word, sizeof word, err);
}

static rotor_status copy_round(prober *p, uint64_t bytes, unsigned n, uint64_t *ns,
                               rotor_error *err) {
    const uint64_t start = base_now_ns();
    for (unsigned i = 0; i < n; i++)
        ROTOR_TRY(p->api->copy(p->g, p->to, 0, p->from, 0, bytes, err));
    ROTOR_TRY(settle(p, err));
    *ns = BASE_MAX(base_now_ns() - start, (uint64_t)1);
    return ROTOR_OK;
}

static rotor_status probe_copy(prober *p, dev_probe_result *out, rotor_error *err) {
    const uint64_t bytes = copy_bytes(&p->g->facts), begun = base_now_us();
    const unsigned n = p->g->facts.software ? 1 : AT_ONCE;
    uint64_t ns;
    ROTOR_TRY(p->api->alloc(p->g, bytes, false, &p->from, err));
    ROTOR_TRY(p->api->alloc(p->g, bytes, false, &p->to, err));
    ROTOR_TRY(copy_round(p, bytes, 1, &ns, err)); /* touches the pages */
    for (int i = 0; i < ROUNDS && base_now_us() - begun < ENOUGH_US; i++) {
        ROTOR_TRY(copy_round(p, bytes, n, &ns, err));
        out->copy_gbps = BASE_MAX(out->copy_gbps, 2.0 * n * (double)bytes / (double)ns);
    }
    out->copy_bytes = bytes;
    return ROTOR_OK;
}

/* ==== Dispatches ============================================================================== */

/* n dispatches, each looking for the best of what the one before found. */
static rotor_status make_chain(prober *p, size_t n, gpu_list **out, rotor_error *err) {
    const gpu_best_params params = {.width = 1, .x_at = 0};
    gpu_dispatch *d = base_alloc_array(n, sizeof *d);
    if (!d) return base_fail_nomem(err, "measuring a device");
    for (size_t i = 0; i < n; i++) {
        d[i] = (gpu_dispatch){.kernel = p->best,
                              .groups = {1, 1, 1},
                              .n_binds = 3,
                              .bind = {p->step, p->cell[i % 2], p->cell[(i + 1) % 2]},
                              .n_params = sizeof params / 4};
        memcpy(d[i].param, &params, sizeof params);
    }
    rotor_status st = p->api->list_make(p->g, d, n, NULL, 0, p->cell[n % 2],
                                        GPU_FOUND_WORDS * sizeof(uint32_t), out, err);
    base_free(d);
    return st;
}

/* Microseconds from handing a list of n over until its result is here, the best of several. */
static rotor_status time_chain(prober *p, size_t n, double *us, rotor_error *err) {
    const uint64_t begun = base_now_us();
    gpu_list *l = NULL;
    rotor_status st = make_chain(p, n, &l, err);
    *us = 0;
    for (int i = 0; i <= ROUNDS && st == ROTOR_OK; i++) {
        uint32_t found[GPU_FOUND_WORDS];
        const uint64_t start = base_now_ns();
        st = p->api->submit(p->g, l, NULL, 0, err);
        if (st == ROTOR_OK) st = p->api->wait(p->g, l, found, err);
        const double took = (double)BASE_MAX(base_now_ns() - start, (uint64_t)1) / 1e3;
        if (i && (*us == 0 || took < *us)) *us = took; /* the first wakes the device */
        if (i && base_now_us() - begun > ENOUGH_US) break;
    }
    p->api->list_free(p->g, l);
    return st;
}

static rotor_status probe_dispatches(prober *p, dev_probe_result *out, rotor_error *err) {
    const uint32_t one_row[GPU_STEP_HEADER] = {1, 1}, spec[] = {256};
    const gpu_source *src = NULL;
    double chain;
    for (size_t i = 0; i < gpu_n_sources; i++)
        if (strcmp(gpu_sources[i].name, "best") == 0) src = &gpu_sources[i];
    ROTOR_TRY(p->api->kernel(p->g, src, spec, 1, 3, sizeof(gpu_best_params) / 4, &p->best, err));
    ROTOR_TRY(p->api->alloc(p->g, sizeof one_row, false, &p->step, err));
    ROTOR_TRY(p->api->write(p->g, p->step, 0, one_row, sizeof one_row, err));
    for (size_t i = 0; i < 2; i++)
        ROTOR_TRY(p->api->alloc(p->g, GPU_FOUND_WORDS * 4, false, &p->cell[i], err));
    ROTOR_TRY(time_chain(p, 1, &out->submit_us, err));
    ROTOR_TRY(time_chain(p, CHAIN, &chain, err));
    out->dispatch_us = chain / CHAIN;
    return ROTOR_OK;
}

/* ==== The probe =============================================================================== */

static void release(prober *p) {
    gpu_mem *const all[] = {p->from, p->to, p->cell[0], p->cell[1], p->step};
    for (size_t i = 0; i < BASE_COUNT(all); i++) p->api->mem_free(p->g, all[i]);
    p->api->kernel_free(p->g, p->best);
    p->api->close(p->g);
}

rotor_status dev_gpu_probe_on(const gpu_api *api, size_t index, const char *cache_dir,
                              dev_probe_result *out, rotor_error *err) {
    prober p = {.api = api};
    dev_probe_result result = {0};
    ROTOR_TRY(api->open(&p.g, index, cache_dir, err));
    rotor_status st = probe_dispatches(&p, &result, err);
    if (st == ROTOR_OK) st = probe_copy(&p, &result, err);
    release(&p);
    if (st == ROTOR_OK) *out = result;
    return st;
}
