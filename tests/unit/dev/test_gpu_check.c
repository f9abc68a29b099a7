/* SPDX-License-Identifier: MIT
 *
 * The known answer and the probe, on every device there is and through an API that lies: results
 * that are a little off, work that is not done, memory that is not there. What must be seen is
 * refused with the driver's name; what is rounding is not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>

#include "dev/gpu/dev_gpu.h"
#include "gpu_rigs.h"

enum { Y_ROWS = 64 /* outputs of the known product */ };

static rotor_error err;
static const double no_turn[1] = {1};
static const dev_shape shape = {.max_rows = 4,
                                .max_picked = 1,
                                .n_layer = 1,
                                .n_head = 1,
                                .n_head_kv = 1,
                                .d_head = 32,
                                .n_rot = 2,
                                .inv_freq = no_turn,
                                .n_pages = 1};

/* ==== An API that lies ======================================================================== */

static struct lie {
    const gpu_api *truth; /* what does the work */
    size_t output;        /* that is spoilt … */
    float factor, add;    /* … so */
    bool idle;            /* nothing is computed */
    unsigned refuse;      /* the how manieth allocation fails; 0: none */
    uint32_t matrix;      /* said to be multiplied, and so it is: by mm_t2 */
} lie;

static rotor_status lying_wait(gpu *g, gpu_list *l, void *dst, rotor_error *e) {
    ROTOR_TRY(lie.truth->wait(g, l, dst, e));
    float *y = dst;
    if (lie.idle) memset(y, 0, Y_ROWS * sizeof *y);
    y[lie.output] = y[lie.output] * lie.factor + lie.add;
    return ROTOR_OK;
}

static int n_waits;

/* Spoils one output of the second list alone. */
static rotor_status second_wait_lies(gpu *g, gpu_list *l, void *dst, rotor_error *e) {
    ROTOR_TRY(lie.truth->wait(g, l, dst, e));
    if (++n_waits == 2) ((float *)dst)[lie.output] += 1;
    return ROTOR_OK;
}

static rotor_status refusing_alloc(gpu *g, uint64_t bytes, bool host, gpu_mem **out,
                                   rotor_error *e) {
    if (lie.refuse && --lie.refuse == 0) return base_fail(e, ROTOR_E_NOMEM, "no room");
    return lie.truth->alloc(g, bytes, host, out, e);
}

static rotor_status with_matrix(gpu **g, size_t index, const char *dir, rotor_error *e) {
    ROTOR_TRY(lie.truth->open(g, index, dir, e));
    (*g)->facts.matrix = lie.matrix;
    return ROTOR_OK;
}

static const gpu_source *source_of(const char *name) {
    for (size_t i = 0; i < gpu_n_sources; i++)
        if (!strcmp(gpu_sources[i].name, name)) return &gpu_sources[i];
    return NULL;
}

static rotor_status without_matrix(gpu *g, const gpu_source *src, const uint32_t *spec,
                                   uint32_t n_spec, uint32_t n_binds, uint32_t n_params,
                                   gpu_kernel **out, rotor_error *e) {
    if (!strcmp(src->name, "mm_t2_matrix")) src = source_of("mm_t2"), n_spec = 6;
    return lie.truth->kernel(g, src, spec, n_spec, n_binds, n_params, out, e);
}

static gpu_api lying(const gpu_rig *r, struct lie how) {
    lie = how;
    lie.truth = r->api;
    gpu_api api = *r->api;
    api.wait = lying_wait;
    api.alloc = refusing_alloc;
    if (how.matrix) api.open = with_matrix, api.kernel = without_matrix;
    return api;
}

static rotor_status create(const gpu_rig *r, struct lie how) {
    const gpu_api api = lying(r, how);
    dev *d = NULL;
    err.message[0] = 0;
    rotor_status st = dev_gpu_create_on(&d, &api, r->index, NULL, &shape, &err);
    assert_true((st == ROTOR_OK) == (d != NULL));
    dev_free(&d);
    return st;
}

/* ==== Tests =================================================================================== */

/* One list of two dispatches, little traffic, and what it took is given back. */
static void right_and_cheap(const gpu_rig *r) {
    dev *d = NULL;
    if (dev_gpu_create_on(&d, r->api, r->index, NULL, &shape, &err) != ROTOR_OK)
        fail_msg("%s", err.message);
    const gpu_counters c = ((dev_gpu *)d)->g->counters;
    assert_int_equal(c.dispatches, 2);
    assert_in_range(c.bytes_up, 1, 8 << 10);
    assert_int_equal(c.bytes_down, Y_ROWS * 4);
    const uint64_t held = c.mem_bytes;
    assert_int_equal(gpu_check_answers((dev_gpu *)d, &err), ROTOR_OK);
    assert_int_equal(((dev_gpu *)d)->g->counters.mem_bytes, held);
    assert_int_equal(((dev_gpu *)d)->n_built, 2); /* compiled once */
    dev_free(&d);
}

static void wrong_is_refused(const gpu_rig *r) {
    const struct lie lies[] = {{.output = 0, .factor = -1},
                               {.output = 17, .factor = 1, .add = 0.25f},
                               {.output = 63, .factor = 1, .add = NAN},
                               {.output = 40, .factor = 0},
                               {.output = 5, .factor = INFINITY},
                               {.factor = 1, .idle = true}};
    for (size_t i = 0; i < BASE_COUNT(lies); i++) {
        assert_int_equal(create(r, lies[i]), ROTOR_E_DEVICE);
        assert_non_null(strstr(err.message, "wrong answers"));
        assert_non_null(strstr(err.message, r->facts.driver));
        assert_non_null(strstr(err.message, r->facts.name));
    }
}

static void rounding_is_not(const gpu_rig *r) {
    assert_int_equal(create(r, (struct lie){.output = 3, .factor = 1 + 1e-6f}), ROTOR_OK);
    assert_int_equal(create(r, (struct lie){.output = 3, .factor = 1 - 1e-6f}), ROTOR_OK);
}

/* Their known answer goes by the contract: another kernel that keeps it is right. Wrong ones are
 * done without. */
static void matrices_are_checked(const gpu_rig *r) {
    if (!source_of("mm_t2_matrix")) {
        print_message("skipped: the compiler of this build knows no matrices\n");
        return;
    }
    for (int wrong = 0; wrong < 2; wrong++) {
        dev *d = NULL;
        gpu_api api = lying(r, (struct lie){.factor = 1, .matrix = 0x20201010});
        api.wait = wrong ? second_wait_lies : r->api->wait;
        lie.output = 37 * Y_ROWS + 5;
        n_waits = 0;
        if (dev_gpu_create_on(&d, &api, r->index, NULL, &shape, &err) != ROTOR_OK)
            fail_msg("%s", err.message);
        assert_int_equal(n_waits, wrong ? 2 : 0);
        assert_int_equal(((dev_gpu *)d)->g->facts.matrix, wrong ? 0 : 0x20201010);
        dev_free(&d);
    }
}

static void no_room_is_an_error(const gpu_rig *r) {
    unsigned n = 1;
    for (; create(r, (struct lie){.factor = 1, .refuse = n}) != ROTOR_OK; n++) {
        assert_string_equal(err.message, "no room");
        assert_true(n < 100);
    }
    assert_true(n > 8);
}

static void no_host_memory_is_an_error(const gpu_rig *r) {
    for (long n = 1; n < 1000; n++) {
        dev *d = NULL;
        base_fault_after(n);
        const rotor_status st = dev_gpu_create_on(&d, r->api, r->index, NULL, &shape, &err);
        const bool fired = base_fault_fired();
        base_fault_after(0);
        dev_free(&d);
        if (!fired) {
            assert_int_equal(st, ROTOR_OK);
            return;
        }
    }
    fail_msg("no end of allocations");
}

static void a_probe_measures(const gpu_rig *r) {
    dev_probe_result p = {0};
    if (dev_gpu_probe_on(r->api, r->index, NULL, &p, &err) != ROTOR_OK) fail_msg("%s", err.message);
    print_message("copies %.1f GB/s (%llu MiB), dispatch %.1f us, list %.1f us\n", p.copy_gbps,
                  (unsigned long long)p.copy_bytes >> 20, p.dispatch_us, p.submit_us);
    assert_true(p.copy_gbps > 0.01 && p.copy_gbps < 1e5);
    assert_true(p.dispatch_us > 0.01 && p.dispatch_us < 1e5 && p.submit_us > 0.1);
    assert_true(p.copy_bytes >= 1 << 20 && p.copy_bytes <= r->facts.heap_bytes / 16);
    if (r->facts.software) assert_true(p.copy_bytes <= 16 << 20);
}

static void a_probe_without_room_says_so(const gpu_rig *r) {
    const gpu_api api = lying(r, (struct lie){.factor = 1, .refuse = 4});
    dev_probe_result p = {.copy_gbps = -1};
    assert_int_equal(dev_gpu_probe_on(&api, r->index, NULL, &p, &err), ROTOR_E_NOMEM);
    assert_true(p.copy_gbps == -1);
    assert_int_equal(dev_gpu_probe_on(r->api, 1000, NULL, &p, &err), ROTOR_E_NOTFOUND);
}

GPU_RIGS_TEST(test_right, right_and_cheap)
GPU_RIGS_TEST(test_wrong, wrong_is_refused)
GPU_RIGS_TEST(test_rounding, rounding_is_not)
GPU_RIGS_TEST(test_matrix, matrices_are_checked)
GPU_RIGS_TEST(test_room, no_room_is_an_error)
GPU_RIGS_TEST(test_host, no_host_memory_is_an_error)
GPU_RIGS_TEST(test_probe, a_probe_measures)
GPU_RIGS_TEST(test_probe_room, a_probe_without_room_says_so)

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right),    cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_rounding), cmocka_unit_test(test_matrix),
        cmocka_unit_test(test_room),     cmocka_unit_test(test_host),
        cmocka_unit_test(test_probe),    cmocka_unit_test(test_probe_room)};
    return cmocka_run_group_tests(tests, gpu_rigs_find, NULL);
}
