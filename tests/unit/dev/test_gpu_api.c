/* SPDX-License-Identifier: MIT
 *
 * What gpu.h promises, held against every compute API of this build and every device they find,
 * software devices too: memory round trips, zeroed allocations, the order of work, kernels and
 * lists, counters, growth, refusals. Each test visits all devices; where there is none it is
 * skipped and says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "dev/gpu/gpu.h"

enum { MAX_RIGS = 8, LX = 256, HEADER = 4 /* words in front of x in the memory of a list */ };

typedef struct rig {
    const gpu_api *api; /* which */
    size_t index;       /* its device */
    gpu *g;             /* opened */
} rig;

static rig rigs[MAX_RIGS];
static size_t n_rigs;
static rotor_error err;

#define OK(call)                                                                                   \
    do {                                                                                           \
        err.message[0] = 0;                                                                        \
        if ((call) != ROTOR_OK) fail_msg("%s: %s", #call, err.message);                            \
    } while (0)

/* ==== Devices ================================================================================= */

static size_t apis(const gpu_api **out) {
    size_t n = 0;
#ifdef ROTOR_HAVE_VULKAN
    if (gpu_vulkan()) out[n++] = gpu_vulkan();
#endif
#ifdef ROTOR_HAVE_OPENCL
    if (gpu_opencl()) out[n++] = gpu_opencl();
#endif
    (void)out;
    return n;
}

static void open_all(const gpu_api *api) {
    gpu_facts facts[MAX_RIGS];
    size_t n = 0;
    if (api->list(facts, MAX_RIGS, &n, &err) != ROTOR_OK) {
        print_message("%s: %s\n", api->name, err.message);
        return;
    }
    for (size_t i = 0; i < n && i < MAX_RIGS && n_rigs < MAX_RIGS; i++) {
        print_message("%s:%zu %s, %s, %s%s%s\n", api->name, i, facts[i].name, facts[i].version,
                      facts[i].driver, facts[i].missing[0] ? ": not used: " : "", facts[i].missing);
        if (facts[i].missing[0]) continue;
        rig *r = &rigs[n_rigs++];
        *r = (rig){.api = api, .index = i};
        OK(api->open(&r->g, i, NULL, &err));
    }
}

static int open_devices(void **state) {
    (void)state;
    const gpu_api *all[2];
    for (size_t i = 0, n = apis(all); i < n; i++) open_all(all[i]);
    return 0;
}

static int close_devices(void **state) {
    (void)state;
    for (size_t i = 0; i < n_rigs; i++) rigs[i].api->close(rigs[i].g);
    n_rigs = 0;
    return 0;
}

static void on_each(void (*fn)(const rig *r)) {
    if (!n_rigs) {
        print_message("skipped: no device\n");
        skip();
    }
    for (size_t i = 0; i < n_rigs; i++) {
        print_message("%s:%zu\n", rigs[i].api->name, rigs[i].index);
        fn(&rigs[i]);
        assert_int_equal(rigs[i].g->counters.mem_bytes, 0); /* a test frees what it takes */
        assert_int_equal(rigs[i].g->counters.imported, 0);
    }
}

/* ==== Small helpers =========================================================================== */

static gpu_mem *mem_of(const rig *r, uint64_t bytes) {
    gpu_mem *m = NULL;
    OK(r->api->alloc(r->g, bytes, false, &m, &err));
    return m;
}

static gpu_mem *mem_with(const rig *r, const void *src, uint64_t bytes) {
    gpu_mem *m = mem_of(r, bytes);
    OK(r->api->write(r->g, m, 0, src, bytes, &err));
    return m;
}

static void *noise(uint64_t bytes, uint64_t seed) {
    uint32_t *p = malloc(bytes);
    base_rng rng;
    base_rng_seed(&rng, seed);
    for (uint64_t i = 0; i < bytes / 4; i++) p[i] = (uint32_t)base_rng_u64(&rng);
    return p;
}

static bool all_zero(const uint8_t *p, uint64_t bytes) {
    while (bytes && !*p) p++, bytes--;
    return bytes == 0;
}

static const gpu_source *source_of(const char *name) {
    for (size_t i = 0; i < gpu_n_sources; i++)
        if (!strcmp(gpu_sources[i].name, name)) return &gpu_sources[i];
    fail_msg("no kernel %s in this build", name);
    return NULL;
}

static gpu_kernel *best_kernel(const rig *r) {
    const uint32_t spec[] = {LX};
    gpu_kernel *k = NULL;
    OK(r->api->kernel(r->g, source_of("best"), spec, 1, 3, 4, &k, &err));
    return k;
}

/* ==== Devices and memory ====================================================================== */

static void list_is_stable(const rig *r) {
    gpu_facts a[MAX_RIGS] = {0}, b[MAX_RIGS] = {0};
    size_t na = 0, nb = 0, n_one = 0;
    OK(r->api->list(a, MAX_RIGS, &na, &err));
    OK(r->api->list(b, MAX_RIGS, &nb, &err));
    assert_int_equal(na, nb);
    for (size_t i = 0; i < na && i < MAX_RIGS; i++) {
        assert_string_equal(a[i].name, b[i].name);
        assert_string_equal(a[i].driver, b[i].driver);
        if (i) assert_true(!a[i - 1].missing[0] || a[i].missing[0]);
        if (i && !a[i].missing[0]) assert_true(a[i - 1].software <= a[i].software);
        if (a[i].missing[0]) continue;
        assert_true(a[i].name[0] && a[i].driver[0] && a[i].version[0]);
        assert_true(a[i].heap_bytes && a[i].max_group >= LX && a[i].local_bytes >= 16384);
        assert_true(a[i].max_alloc_bytes >= 1 << 20 && a[i].max_bind_bytes >= 1 << 20);
    }
    OK(r->api->list(b, 1, &n_one, &err)); /* counts all, writes one */
    assert_int_equal(n_one, na);
    OK(r->api->list(NULL, 0, &n_one, &err));
    assert_int_equal(n_one, na);
    assert_string_equal(a[r->index].name, r->g->facts.name);

    gpu *none = NULL;
    assert_int_equal(r->api->open(&none, na, NULL, &err), ROTOR_E_NOTFOUND);
    assert_null(none);
}

/* Writes and reads pieces of one memory beside a copy of it here. */
static void memory_round_trips(const rig *r) {
    const uint64_t total = (9 << 20) + 20;
    const struct piece {
        uint64_t at, bytes; /* of the memory */
    } pieces[] = {{0, 4},           {4, 12},
                  {1020, 4100},     {(1 << 20) - 4, 8},
                  {12, 4 << 20},    {(4 << 20) + 4, (4 << 20) + 4},
                  {0, total},       {total - 4, 4},
                  {total - 36, 36}, {8, total - 12}};
    uint8_t *here = calloc(1, total), *there = malloc(total);
    gpu_mem *m = mem_of(r, total);
    for (size_t i = 0; i < BASE_COUNT(pieces); i++) {
        const struct piece p = pieces[i];
        void *src = noise(p.bytes, i + 1);
        memcpy(here + p.at, src, p.bytes);
        OK(r->api->write(r->g, m, p.at, src, p.bytes, &err));
        free(src);
        memset(there, 0xa5, total);
        OK(r->api->read(r->g, m, 0, there, total, &err));
        assert_memory_equal(here, there, total);
        memset(there, 0xa5, total);
        OK(r->api->read(r->g, m, p.at, there, p.bytes, &err));
        assert_memory_equal(here + p.at, there, p.bytes);
        assert_true(p.bytes == total || there[p.bytes] == 0xa5);
    }
    r->api->mem_free(r->g, m);
    free(here);
    free(there);
}

/* Neighbours in a pool do not touch each other; what is taken again is zero again. */
static void allocations_are_zeroed_and_apart(const rig *r) {
    static const uint64_t sizes[] = {4, 20, 256, 4096 + 4, 65536, 1 << 20, (3 << 20) + 4, 300};
    enum { N = 24 };
    gpu_mem *m[N];
    uint8_t *back = malloc(4 << 20);
    uint64_t held = 0;
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < N; i++) {
            const uint64_t bytes = sizes[(i + round) % BASE_COUNT(sizes)];
            if (round && i % 2 == 0) continue;
            OK(r->api->alloc(r->g, bytes, i % 3 == 0, &m[i], &err));
            held += bytes;
            OK(r->api->read(r->g, m[i], 0, back, bytes, &err));
            assert_true(all_zero(back, bytes));
            void *fill = noise(bytes, i + 100 * round);
            OK(r->api->write(r->g, m[i], 0, fill, bytes, &err));
            free(fill);
            assert_int_equal(r->g->counters.mem_bytes, held);
        }
        for (unsigned i = 0; i < N; i++) {
            const unsigned of = i % 2 ? round : 0; /* the round it was filled in */
            const uint64_t bytes = sizes[(i + of) % BASE_COUNT(sizes)];
            void *want = noise(bytes, i + 100 * of);
            OK(r->api->read(r->g, m[i], 0, back, bytes, &err));
            assert_memory_equal(back, want, bytes);
            free(want);
            if (i % 2 == 0 && round < 2) continue;
            r->api->mem_free(r->g, m[i]);
            held -= bytes;
        }
    }
    r->api->mem_free(r->g, NULL);
    free(back);
}

static void copies(const rig *r) {
    enum { BYTES = 70000 };
    uint8_t *a = noise(BYTES, 1), *b = noise(BYTES, 2), *back = malloc(BYTES);
    gpu_mem *from = mem_with(r, a, BYTES), *to = mem_with(r, b, BYTES);
    OK(r->api->copy(r->g, to, 404, from, 12, 50000, &err));
    OK(r->api->write(r->g, from, 0, b, BYTES, &err)); /* must not overtake the copy */
    memcpy(b + 404, a + 12, 50000);
    OK(r->api->read(r->g, to, 0, back, BYTES, &err));
    assert_memory_equal(back, b, BYTES);
    OK(r->api->copy(r->g, to, 60000, to, 8, 10000, &err)); /* within one memory */
    memcpy(b + 60000, b + 8, 10000);
    OK(r->api->read(r->g, to, 0, back, BYTES, &err));
    assert_memory_equal(back, b, BYTES);
    r->api->mem_free(r->g, from);
    r->api->mem_free(r->g, to);
    free(a);
    free(b);
    free(back);
}

static void too_large_is_refused(const rig *r) {
    const gpu_facts *f = &r->g->facts;
    const uint64_t most = BASE_MIN(f->max_alloc_bytes, f->max_bind_bytes);
    const uint64_t sizes[] = {most + 16, UINT64_MAX - 3, (uint64_t)1 << 62};
    const uint64_t made = r->g->counters.allocations;
    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        gpu_mem *m = NULL;
        err.message[0] = 0;
        assert_int_not_equal(r->api->alloc(r->g, sizes[i], false, &m, &err), ROTOR_OK);
        assert_null(m);
        assert_true(err.message[0]);
    }
    assert_int_equal(r->g->counters.allocations, made);
    gpu_mem *m = mem_of(r, 64); /* and it still works */
    r->api->mem_free(r->g, m);
}

/* ==== Kernels ================================================================================= */

/* The largest of x[0..n), as the contract of `best` has it. */
static void best_here(const float *x, uint32_t n, uint32_t found[2]) {
    float most = -INFINITY;
    uint32_t at = UINT32_MAX;
    for (uint32_t i = 0; i < n; i++)
        if (x[i] > most || (x[i] == most && at == UINT32_MAX)) most = x[i], at = i;
    found[0] = at == UINT32_MAX ? 0 : at;
    memcpy(&found[1], &most, sizeof most);
}

static void fill_rows(float *x, uint32_t rows, uint32_t width, uint64_t seed) {
    base_rng rng;
    base_rng_seed(&rng, seed);
    for (uint32_t i = 0; i < rows * width; i++) x[i] = base_rng_normal(&rng);
    for (uint32_t row = 0; row < rows; row++) {
        float *v = x + row * width;
        const float peak = 9;
        if (row % 7 == 1) v[width / 2] = v[width - 1] = v[width / 3] = peak; /* ties */
        if (row % 7 == 2) v[0] = v[width - 1] = NAN;
        if (row % 7 == 3)
            for (uint32_t i = 0; i < width; i++) v[i] = NAN;
        if (row % 7 == 4)
            for (uint32_t i = 0; i < width; i++) v[i] = -INFINITY;
        if (row % 7 == 5) v[width / 2] = INFINITY;
        if (row % 7 == 6)
            for (uint32_t i = 0; i < width; i++) v[i] = -FLT_MAX;
    }
}

static gpu_dispatch best_of(gpu_kernel *k, gpu_mem *step, gpu_mem *x, gpu_mem *out, uint32_t rows) {
    gpu_dispatch d = {.kernel = k, .groups = {1, rows, 1}, .n_binds = 3, .n_params = 4};
    d.bind[0] = step, d.bind[1] = x, d.bind[2] = out;
    return d;
}

static void params(gpu_dispatch *d, uint32_t count_at, uint32_t width, uint32_t at, uint32_t ld) {
    d->param[0] = count_at, d->param[1] = width, d->param[2] = at, d->param[3] = ld;
}

static void best_one_width(const rig *r, gpu_kernel *k, uint32_t width) {
    enum { ROWS = 9, LIVE = 8 }; /* the last row is not counted: it must stay as it is */
    const uint32_t step[4] = {LIVE, LIVE};
    uint32_t want[2 * ROWS], got[2 * ROWS];
    const size_t bytes = ROWS * width * sizeof(float);
    float *x = malloc(bytes);
    fill_rows(x, ROWS, width, width);
    for (uint32_t row = 0; row < ROWS; row++) best_here(x + row * width, width, want + 2 * row);
    memset(want + 2 * LIVE, 0, 8 * (ROWS - LIVE));
    gpu_mem *s = mem_with(r, step, sizeof step), *v = mem_with(r, x, bytes);
    gpu_mem *out = mem_of(r, sizeof want);
    gpu_dispatch d = best_of(k, s, v, out, ROWS);
    params(&d, 0, width, 0, width);
    gpu_list *l = NULL;
    OK(r->api->list_make(r->g, &d, 1, NULL, 0, out, sizeof got, &l, &err));
    OK(r->api->submit(r->g, l, NULL, 0, &err));
    OK(r->api->wait(r->g, l, got, &err));
    assert_memory_equal(got, want, sizeof want);
    r->api->list_free(r->g, l);
    r->api->mem_free(r->g, s);
    r->api->mem_free(r->g, v);
    r->api->mem_free(r->g, out);
    free(x);
}

static void best_equals_a_loop(const rig *r) {
    static const uint32_t widths[] = {1, 2, 33, 255, 256, 257, 1000, 4097};
    gpu_kernel *k = best_kernel(r);
    for (size_t i = 0; i < BASE_COUNT(widths); i++) best_one_width(r, k, widths[i]);
    r->api->kernel_free(r->g, k);
    r->api->kernel_free(r->g, NULL);
}

/* ==== Lists =================================================================================== */

/* A list whose memory `up` holds the counts and the floats that best looks at. */
typedef struct looker {
    gpu_kernel *k;                /* best */
    gpu_mem *up, *out;            /* counts and floats; found */
    gpu_list *l;                  /* the list */
    uint32_t send[HEADER + 1000]; /* what a submission sends along */
} looker;

enum { WIDTH = 1000 };

static void looker_up(const rig *r, looker *t) {
    memset(t, 0, sizeof *t);
    t->k = best_kernel(r);
    t->up = mem_of(r, sizeof t->send);
    t->out = mem_of(r, 8);
    gpu_dispatch d = best_of(t->k, t->up, t->up, t->out, 1);
    params(&d, 0, WIDTH, HEADER, WIDTH);
    OK(r->api->list_make(r->g, &d, 1, t->up, sizeof t->send, t->out, 8, &t->l, &err));
}

static void looker_down(const rig *r, looker *t) {
    r->api->list_free(r->g, t->l);
    r->api->list_free(r->g, NULL);
    r->api->mem_free(r->g, t->up);
    r->api->mem_free(r->g, t->out);
    r->api->kernel_free(r->g, t->k);
}

/* Sends floats whose largest is at `at`. */
static void look(const rig *r, looker *t, uint32_t at) {
    const float peak = 5.0f + (float)at;
    memset(t->send, 0, sizeof t->send);
    t->send[0] = 1;
    memcpy(&t->send[HEADER + at], &peak, sizeof peak);
    OK(r->api->submit(r->g, t->l, t->send, sizeof t->send, &err));
    memset(t->send, 0xff, sizeof t->send); /* it has been read */
}

static void seen(const rig *r, looker *t, uint32_t at) {
    const float peak = 5.0f + (float)at;
    uint32_t got[2] = {0};
    float value;
    OK(r->api->wait(r->g, t->l, got, &err));
    memcpy(&value, &got[1], sizeof value);
    assert_int_equal(got[0], at);
    assert_true(value == peak);
}

static void flights_come_home_in_order(const rig *r) {
    looker t;
    looker_up(r, &t);
    look(r, &t, 3);
    look(r, &t, 700);
    seen(r, &t, 3);
    look(r, &t, 999);
    seen(r, &t, 700);
    seen(r, &t, 999);
    look(r, &t, 1);
    OK(r->api->wait(r->g, t.l, NULL, &err)); /* nobody wants it */
    look(r, &t, 2);
    look(r, &t, 4); /* freed under way */
    looker_down(r, &t);
}

/* Memory work and submissions stay in the order they were handed over. */
static void nothing_overtakes(const rig *r) {
    looker t;
    looker_up(r, &t);
    float *spoilt = calloc(WIDTH, sizeof *spoilt);
    spoilt[55] = 1e9f;
    for (uint32_t i = 0; i < 20; i++) {
        uint32_t found[2], x_at = HEADER * 4;
        look(r, &t, i);
        OK(r->api->write(r->g, t.up, x_at, spoilt, WIDTH * sizeof *spoilt, &err));
        OK(r->api->read(r->g, t.out, 0, found, sizeof found, &err));
        assert_int_equal(found[0], i);
        look(r, &t, i + 100);
        OK(r->api->copy(r->g, t.out, 0, t.up, x_at + 55 * 4, 8, &err));
        seen(r, &t, i);
        seen(r, &t, i + 100);
        OK(r->api->read(r->g, t.out, 0, found, sizeof found, &err));
        assert_int_equal(found[0], 0); /* the list put its floats over spoilt[55] */
    }
    free(spoilt);
    looker_down(r, &t);
}

/* Each dispatch reads what the one before it wrote; two that are beside each other do not. */
static void dispatches_are_chained(const rig *r) {
    enum { ROWS = 64, CHAIN = 16, N = 3000 };
    const uint32_t step[4] = {ROWS, ROWS};
    uint32_t got[2], want[2];
    gpu_kernel *k = best_kernel(r);
    float *x = malloc(ROWS * N * sizeof *x);
    base_rng rng;
    base_rng_seed(&rng, 7);
    for (size_t i = 0; i < ROWS * N; i++) x[i] = 1.0f + (float)base_rng_double(&rng);
    best_here(x, ROWS * N, want);
    gpu_mem *s = mem_with(r, step, sizeof step), *v = mem_with(r, x, ROWS * N * sizeof *x);
    gpu_mem *rows = mem_of(r, 8 * ROWS), *twin = mem_of(r, 8 * ROWS), *out[2];
    out[0] = mem_of(r, 8), out[1] = mem_of(r, 8);
    gpu_dispatch d[2 + CHAIN];
    d[0] = best_of(k, s, v, rows, ROWS);
    params(&d[0], 0, N, 0, N);
    d[1] = best_of(k, s, v, twin, ROWS);
    params(&d[1], 0, N, 0, N);
    d[1].beside = true;
    for (uint32_t i = 0; i < CHAIN; i++) { /* the indices beside the values are tiny as floats */
        d[2 + i] = best_of(k, s, i ? out[(i + 1) % 2] : rows, out[i % 2], 1);
        params(&d[2 + i], 0, i ? 1 : 2 * ROWS, i ? 1 : 0, 0);
    }
    gpu_list *l = NULL;
    OK(r->api->list_make(r->g, d, 2 + CHAIN, NULL, 0, out[(CHAIN - 1) % 2], 8, &l, &err));
    for (int i = 0; i < 5; i++) {
        OK(r->api->submit(r->g, l, NULL, 0, &err));
        OK(r->api->wait(r->g, l, got, &err));
        assert_int_equal(got[1], want[1]);
    }
    uint32_t a[2 * ROWS], b[2 * ROWS];
    OK(r->api->read(r->g, rows, 0, a, sizeof a, &err));
    OK(r->api->read(r->g, twin, 0, b, sizeof b, &err));
    assert_memory_equal(a, b, sizeof a);
    r->api->list_free(r->g, l);
    gpu_mem *all[] = {s, v, rows, twin, out[0], out[1]};
    for (size_t i = 0; i < BASE_COUNT(all); i++) r->api->mem_free(r->g, all[i]);
    r->api->kernel_free(r->g, k);
    free(x);
}

/* ==== Counters, growth, failures ============================================================== */

static void counters_are_exact(const rig *r) {
    const gpu_counters *c = &r->g->counters;
    looker t;
    gpu_counters was = *c;
    looker_up(r, &t);
    assert_int_equal(c->allocations, was.allocations + 4); /* kernel, two memories, list */
    assert_int_equal(c->mem_bytes, was.mem_bytes + sizeof t.send + 8);
    assert_int_equal(c->bytes_up, was.bytes_up);
    assert_int_equal(c->dispatches, was.dispatches);
    was = *c;
    look(r, &t, 5);
    seen(r, &t, 5);
    assert_int_equal(c->submissions, was.submissions + 1);
    assert_int_equal(c->dispatches, was.dispatches + 1);
    assert_int_equal(c->bytes_up, was.bytes_up + sizeof t.send);
    assert_int_equal(c->bytes_down, was.bytes_down + 8);
    was = *c;
    OK(r->api->write(r->g, t.up, 4, t.send, 400, &err));
    OK(r->api->read(r->g, t.up, 8, t.send, 100, &err));
    OK(r->api->copy(r->g, t.out, 0, t.up, 0, 8, &err));
    assert_int_equal(c->bytes_up, was.bytes_up + 400);
    assert_int_equal(c->bytes_down, was.bytes_down + 100);
    assert_int_equal(c->dispatches, was.dispatches);
    assert_int_equal(c->allocations, was.allocations);
    looker_down(r, &t);
}

static void a_thousand_submissions_do_not_grow(const rig *r) {
    const gpu_counters *c = &r->g->counters;
    looker t;
    looker_up(r, &t);
    look(r, &t, 0);
    seen(r, &t, 0);
    const gpu_counters was = *c;
    const uint64_t host_was = base_alloc_count();
    look(r, &t, 0);
    for (uint32_t i = 1; i < 1000; i++) {
        look(r, &t, i);
        seen(r, &t, i - 1);
    }
    seen(r, &t, 999);
    assert_int_equal(base_alloc_count(), host_was);
    assert_int_equal(c->allocations, was.allocations);
    assert_int_equal(c->mem_bytes, was.mem_bytes);
    assert_int_equal(c->submissions, was.submissions + 1000);
    assert_int_equal(c->dispatches, was.dispatches + 1000);
    assert_int_equal(c->bytes_up, was.bytes_up + 1000 * sizeof t.send);
    assert_int_equal(c->bytes_down, was.bytes_down + 1000 * 8);
    looker_down(r, &t);
}

static rotor_status make_and_free(const rig *r) {
    const uint32_t spec[] = {LX};
    gpu_kernel *k = NULL;
    gpu_mem *m = NULL;
    gpu_list *l = NULL;
    rotor_status st = r->api->kernel(r->g, source_of("best"), spec, 1, 3, 4, &k, &err);
    if (st == ROTOR_OK) st = r->api->alloc(r->g, 4096, false, &m, &err);
    if (st == ROTOR_OK) {
        gpu_dispatch d = best_of(k, m, m, m, 1);
        st = r->api->list_make(r->g, &d, 1, m, 64, m, 64, &l, &err);
    }
    if (st != ROTOR_OK) assert_null(l);
    r->api->list_free(r->g, l);
    r->api->mem_free(r->g, m);
    r->api->kernel_free(r->g, k);
    return st;
}

static void every_failed_allocation_is_survived(const rig *r) {
    for (long n = 1; n < 1000; n++) {
        base_fault_after(n);
        const rotor_status st = make_and_free(r);
        const bool fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st, fired ? ROTOR_E_NOMEM : ROTOR_OK);
        assert_int_equal(r->g->counters.mem_bytes, 0);
        if (!fired) return;
    }
    fail_msg("no end of allocations");
}

#define EACH(name, fn)                                                                             \
    static void name(void **state) {                                                               \
        (void)state;                                                                               \
        on_each(fn);                                                                               \
    }
EACH(test_list, list_is_stable)
EACH(test_round_trips, memory_round_trips)
EACH(test_zeroed, allocations_are_zeroed_and_apart)
EACH(test_copy, copies)
EACH(test_too_large, too_large_is_refused)
EACH(test_best, best_equals_a_loop)
EACH(test_flights, flights_come_home_in_order)
EACH(test_order, nothing_overtakes)
EACH(test_chain, dispatches_are_chained)
EACH(test_counters, counters_are_exact)
EACH(test_growth, a_thousand_submissions_do_not_grow)
EACH(test_faults, every_failed_allocation_is_survived)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),      cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_zeroed),    cmocka_unit_test(test_copy),
        cmocka_unit_test(test_too_large), cmocka_unit_test(test_best),
        cmocka_unit_test(test_flights),   cmocka_unit_test(test_order),
        cmocka_unit_test(test_chain),     cmocka_unit_test(test_counters),
        cmocka_unit_test(test_growth),    cmocka_unit_test(test_faults)};
    return cmocka_run_group_tests(tests, open_devices, close_devices);
}
