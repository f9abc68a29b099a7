/* SPDX-License-Identifier: MIT
 *
 * tool: what a benchmark stands on. Medians and ranges, the multiply-adds of known shapes, floors,
 * and that the probe measures something at all (tests/machine holds its figures to others).
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <stdio.h>
#include <unistd.h>

#include "tool/tool.h"

static bool near(double x, double y) { return fabs(x - y) <= 1e-9 * fabs(y); }

static void series_have_medians_and_ranges(void **state) {
    (void)state;
    const double values[] = {5, 1, 4, 2, 8};
    tool_series s = {0};
    tool_stat t = tool_series_stat(&s);
    assert_true(t.n == 0 && t.median == 0 && t.spread == 0);
    for (size_t i = 0; i < 5; i++) assert_int_equal(tool_series_add(&s, values[i], NULL), ROTOR_OK);
    t = tool_series_stat(&s);
    assert_true(t.n == 5 && t.median == 4 && t.min == 1 && t.max == 8);
    assert_true(near(t.mean, 4) && near(t.sd, sqrt(7.5)) && near(t.spread, 7.0 / 4));
    assert_int_equal(tool_series_add(&s, 6, NULL), ROTOR_OK);
    assert_true(tool_series_stat(&s).median == 4.5);
    for (size_t i = 0; i < 1000; i++) assert_int_equal(tool_series_add(&s, 0, NULL), ROTOR_OK);
    assert_true(s.n == 1006 && tool_series_stat(&s).max == 8);
    tool_series_free(&s);
    base_fault_after(1);
    assert_int_equal(tool_series_add(&s, 1, NULL), ROTOR_E_NOMEM);
    assert_true(base_fault_fired() && s.n == 0);
    base_fault_after(0);
}

/* 2 layers, D 256, F 512, 4 heads and 2 for keys of 64, V 512. */
static void multiply_adds_are_those_of_the_shapes(void **state) {
    (void)state;
    char path[] = "/tmp/rotor-test-measure-XXXXXX";
    const tool_source src = {.path = path, .name = path};
    const tool_synth_options opt = {.sparse = true};
    const double layer = 256 * (256 + 128 + 128 + 256 + 3 * 512);
    tool_macs m;
    assert_true(close(mkstemp(path)) == 0);
    assert_int_equal(tool_synth("bitnet-tiny", path, &opt, NULL), ROTOR_OK);
    assert_int_equal(tool_count_macs(&src, 2, &m, NULL), ROTOR_OK);
    assert_true(m.layers == 2 * layer && m.head == 512 * 256 && m.per_key == 2 * 4 * (64 + 64));
    assert_int_equal(tool_count_macs(&src, 1, &m, NULL), ROTOR_OK);
    assert_true(m.layers == layer && m.per_key == 4 * (64 + 64));
    unlink(path);
    assert_int_equal(tool_count_macs(&src, 1, &m, NULL), ROTOR_E_IO);
}

static void floors_are_the_longer_of_reading_and_multiplying(void **state) {
    (void)state;
    const tool_rates r = {{[TOOL_READ] = 50, [TOOL_INT8] = 1000, [TOOL_F32] = 250}, 1};
    const tool_work reads = {.bytes = 1e9, .int8_macs = 1e9};
    const tool_work multiplies = {.bytes = 1e6, .int8_macs = 2e9, .f32_macs = 0.25e9};
    const tool_work nothing = {0};
    tool_floor f = tool_floor_of(&reads, &r);
    assert_true(near(f.read_us, 20000) && near(f.int8_us, 1000) && near(f.tps, 50));
    f = tool_floor_of(&multiplies, &r);
    assert_true(near(f.int8_us, 2000) && near(f.f32_us, 1000) && near(f.tps, 1e6 / 3000));
    assert_true(tool_floor_of(&nothing, &r).tps == 0);
}

static void the_machine_can_be_measured(void **state) {
    (void)state;
    const size_t bytes = 8 << 20; /* quick rather than true */
    tool_probe *p = NULL;
    tool_rates r[2], mean;
    tool_machine m;
    tool_machine_get(&m);
    assert_true(m.n_cpus >= 1 && m.memory_bytes > 0 && m.cpu_level);
    assert_int_equal(tool_probe_create(&p, 2, bytes, NULL), ROTOR_OK);
    assert_int_equal(tool_probe_bytes(p), bytes);
    for (int i = 0; i < 2; i++) assert_int_equal(tool_probe_take(p, &r[i], NULL), ROTOR_OK);
    for (int c = 0; c < TOOL_N_CEILINGS; c++) assert_true(r[0].of[c] > 0.02 && r[0].of[c] < 1e5);
    assert_true(r[0].had > 0 && r[0].had <= 1);
    mean = tool_rates_between(&r[0], &r[1]);
    assert_true(near(mean.of[TOOL_F32], (r[0].of[TOOL_F32] + r[1].of[TOOL_F32]) / 2));
    tool_probe_free(&p);
    assert_null(p);
    bool fired = true;
    for (long n = 1; fired; n++) {
        base_fault_after(n);
        rotor_status st = tool_probe_create(&p, 2, bytes, NULL);
        if (st == ROTOR_OK) st = tool_probe_take(p, &mean, NULL);
        fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st == ROTOR_OK, !fired);
        tool_probe_free(&p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(series_have_medians_and_ranges),
        cmocka_unit_test(multiply_adds_are_those_of_the_shapes),
        cmocka_unit_test(floors_are_the_longer_of_reading_and_multiplying),
        cmocka_unit_test(the_machine_can_be_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
