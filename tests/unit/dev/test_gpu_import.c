/* SPDX-License-Identifier: MIT
 *
 * The host's pages as memory of a device, on every device there is: those of a file mapped for
 * reading only, which is where models are. Kernels, copies and reads see the file's bytes; nothing
 * counts as moved or held; a refusal leaves nothing behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "dev/gpu/gpu.h"
#include "tiny_model.h"

enum { MAX_RIGS = 8, PAGES = 5, TAIL = 100, LX = 256 };

typedef struct rig {
    const gpu_api *api; /* which */
    gpu *g;             /* opened */
} rig;

static rig rigs[MAX_RIGS];
static size_t n_rigs;
static rotor_error err;
static base_file file; /* PAGES whole pages and TAIL bytes of another */
static size_t page;    /* bytes */

#define OK(call)                                                                                   \
    do {                                                                                           \
        err.message[0] = 0;                                                                        \
        if ((call) != ROTOR_OK) fail_msg("%s: %s", #call, err.message);                            \
    } while (0)

static void make_file(void) {
    char path[1024];
    base_rng rng;
    page = base_page_bytes();
    const size_t n = (PAGES * page + TAIL) / sizeof(float);
    float *x = malloc(n * sizeof *x);
    base_rng_seed(&rng, 5);
    for (size_t i = 0; i < n; i++) x[i] = base_rng_normal(&rng);
    tiny_path(path, "import.bin");
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(x, sizeof *x, n, f) != n || fclose(f) != 0) abort();
    free(x);
    OK(base_file_open(&file, path, true, &err));
    unlink(path);
}

static int open_all(void **state) {
    (void)state;
    const gpu_api *all[] = {gpu_vulkan(), gpu_opencl()};
    for (size_t a = 0; a < BASE_COUNT(all); a++) {
        gpu_facts facts[MAX_RIGS];
        size_t n = 0;
        if (!all[a] || all[a]->list(facts, MAX_RIGS, &n, NULL) != ROTOR_OK) continue;
        for (size_t i = 0; i < n && i < MAX_RIGS && n_rigs < MAX_RIGS; i++) {
            if (facts[i].missing[0]) continue;
            print_message("%s:%zu %s%s\n", all[a]->name, i, facts[i].name,
                          facts[i].imports ? "" : ": imports nothing");
            if (!facts[i].imports) continue;
            rigs[n_rigs] = (rig){.api = all[a]};
            OK(all[a]->open(&rigs[n_rigs++].g, i, NULL, &err));
        }
    }
    make_file();
    return 0;
}

static int close_all(void **state) {
    (void)state;
    for (size_t i = 0; i < n_rigs; i++) rigs[i].api->close(rigs[i].g);
    base_file_close(&file);
    return 0;
}

static void on_each(void (*fn)(const rig *r)) {
    if (!n_rigs) skip();
    for (size_t i = 0; i < n_rigs; i++) {
        fn(&rigs[i]);
        assert_int_equal(rigs[i].g->counters.mem_bytes, 0);
        assert_int_equal(rigs[i].g->counters.imported, 0);
    }
}

static gpu_mem *import(const rig *r, size_t first, size_t n) {
    gpu_mem *m = NULL;
    OK(r->api->import(r->g, file.data + first * page, n * page, &m, &err));
    return m;
}

/* ==== Tests =================================================================================== */

static void bytes_are_those_of_the_file(const rig *r) {
    const gpu_counters was = r->g->counters;
    uint8_t *back = malloc((PAGES + 1) * page), *zeros = calloc(1, page);
    gpu_mem *most = import(r, 1, PAGES), *all = import(r, 0, PAGES + 1); /* pages may meet */
    assert_int_equal(r->g->counters.imported, (2 * PAGES + 1) * page);
    OK(r->api->read(r->g, all, 0, back, (PAGES + 1) * page, &err));
    assert_memory_equal(back, file.data, file.size);
    assert_memory_equal(back + file.size, zeros, page - TAIL);
    OK(r->api->read(r->g, most, 8, back, page, &err));
    assert_memory_equal(back, file.data + page + 8, page);
    r->api->mem_free(r->g, all);
    OK(r->api->read(r->g, most, 2 * page, back, page, &err));
    assert_memory_equal(back, file.data + 3 * page, page);
    gpu_mem *own = NULL;
    OK(r->api->alloc(r->g, 2 * page, false, &own, &err));
    OK(r->api->copy(r->g, own, 16, most, 20, page, &err));
    OK(r->api->read(r->g, own, 16, back, page, &err));
    assert_memory_equal(back, file.data + page + 20, page);
    assert_int_equal(r->g->counters.mem_bytes, 2 * page);
    assert_int_equal(r->g->counters.bytes_up, was.bytes_up);
    assert_int_equal(r->g->counters.allocations, was.allocations + 3);
    r->api->mem_free(r->g, own);
    r->api->mem_free(r->g, most);
    free(back);
    free(zeros);
}

/* The largest float of the file, as `best` finds it. */
static void kernels_see_them(const rig *r) {
    const uint32_t n = (uint32_t)(file.size / sizeof(float)), step[4] = {1, 1}, spec[] = {LX};
    const float *x = (const float *)(const void *)file.data;
    const gpu_source *src = gpu_sources;
    uint32_t most = 0, found[2];
    for (uint32_t i = 0; i < n; i++)
        if (x[i] > x[most]) most = i;
    while (strcmp(src->name, "best") != 0) src++;
    gpu_kernel *k = NULL;
    gpu_mem *in = import(r, 0, PAGES + 1), *s = NULL, *out = NULL;
    gpu_list *l = NULL;
    OK(r->api->kernel(r->g, src, spec, 1, 3, 4, &k, &err));
    OK(r->api->alloc(r->g, sizeof step, false, &s, &err));
    OK(r->api->alloc(r->g, sizeof found, false, &out, &err));
    OK(r->api->write(r->g, s, 0, step, sizeof step, &err));
    const gpu_dispatch d = {.kernel = k,
                            .groups = {1, 1, 1},
                            .n_binds = 3,
                            .bind = {s, in, out},
                            .n_params = 4,
                            .param = {0, n, 0, n}};
    OK(r->api->list_make(r->g, &d, 1, NULL, 0, out, sizeof found, &l, &err));
    for (int round = 0; round < 3; round++) {
        memset(found, 0, sizeof found);
        OK(r->api->submit(r->g, l, NULL, 0, &err));
        OK(r->api->wait(r->g, l, found, &err));
        assert_int_equal(found[0], most);
        assert_memory_equal(&found[1], &x[most], sizeof *x);
    }
    r->api->list_free(r->g, l);
    r->api->kernel_free(r->g, k);
    r->api->mem_free(r->g, in);
    r->api->mem_free(r->g, s);
    r->api->mem_free(r->g, out);
}

static void a_refusal_leaves_nothing(const rig *r) {
    const gpu_facts had = r->g->facts;
    gpu_mem *m = NULL;
    r->g->facts.max_alloc_bytes = 2 * page;
    assert_int_equal(r->api->import(r->g, file.data, 3 * page, &m, &err), ROTOR_E_UNSUPPORTED);
    r->g->facts = had;
    r->g->facts.imports = false;
    assert_int_equal(r->api->import(r->g, file.data, page, &m, &err), ROTOR_E_UNSUPPORTED);
    r->g->facts = had;
    assert_null(m);
    bool fired = true;
    for (long n = 1; fired; n++) {
        base_fault_after(n);
        const rotor_status st = r->api->import(r->g, file.data, page, &m, &err);
        fired = base_fault_fired();
        base_fault_after(0);
        assert_true(n < 10);
        if (fired) {
            assert_true(st == ROTOR_E_NOMEM || st == ROTOR_E_UNSUPPORTED);
            assert_null(m);
        }
    }
    assert_non_null(m);
    r->api->mem_free(r->g, m);
}

#define EACH(name, fn)                                                                             \
    static void name(void **state) {                                                               \
        (void)state;                                                                               \
        on_each(fn);                                                                               \
    }
EACH(test_bytes, bytes_are_those_of_the_file)
EACH(test_kernels, kernels_see_them)
EACH(test_refusal, a_refusal_leaves_nothing)

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bytes), cmocka_unit_test(test_kernels),
                                       cmocka_unit_test(test_refusal)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
