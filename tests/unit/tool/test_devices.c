/* SPDX-License-Identifier: MIT
 *
 * tool: devices. The bound of a decoded token from two rates, what is measured on each device there
 * is, products timed on the CPU and on devices, and that a device which cannot be used is told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>

#include "tool/tool.h"

static bool near(double x, double y) { return fabs(x - y) <= 1e-9 * fabs(y); }

static void bounds_are_bytes_and_dispatches(void **state) {
    (void)state;
    tool_device d = {.copy_gbps = 100, .dispatch_us = 5};
    assert_true(near(tool_device_bound(&d, 1e9, 0), 100));   /* 10 ms */
    assert_true(near(tool_device_bound(&d, 1e9, 2000), 50)); /* 10 ms and 10 ms */
    assert_true(near(tool_device_bound(&d, 0, 200), 1000));  /* 1 ms */
    assert_true(tool_device_bound(&d, 0, 0) == 0);
    d.copy_gbps = 0;
    assert_true(tool_device_bound(&d, 1e9, 2000) == 0); /* not measured */
    assert_true(tool_device_dispatches(30) <= 12 * 30 + 8 && tool_device_dispatches(30) > 300);
}

static void devices_are_found_and_measured(void **state) {
    (void)state;
    tool_devices all;
    rotor_error err;
    tool_devices_find(&all);
    assert_true(all.n <= TOOL_MAX_DEVICES);
    assert_string_equal(all.api[0].name, "opencl");
    assert_string_equal(all.api[1].name, "vulkan");
    for (size_t i = 0; i < all.n; i++) {
        tool_device *d = &all.of[i];
        print_message("%s %s\n", d->id, d->name);
        if (d->missing[0]) continue;
        assert_int_equal(tool_device_measure(d, NULL, &err), ROTOR_OK);
        assert_true(d->copy_gbps > 0 && d->dispatch_us > 0 && d->submit_us > 0 && d->copy_bytes);
    }
    if (!all.n) print_message("skipped: no device\n");
}

static void what_cannot_be_used_is_not_measured(void **state) {
    (void)state;
    rotor_error err = {0};
    tool_device short_of = {.id = "vulkan:0", .missing = "no storage buffers"};
    assert_int_equal(tool_device_measure(&short_of, NULL, &err), ROTOR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "no storage buffers"));
    tool_device far = {.id = "vulkan:999"}, none = {.id = "cpu"};
    assert_int_not_equal(tool_device_measure(&far, NULL, &err), ROTOR_OK);
    assert_int_equal(tool_device_measure(&none, NULL, &err), ROTOR_E_UNSUPPORTED);
    assert_true(far.copy_gbps == 0 && none.copy_gbps == 0);
}

static const tool_ops_options opt = {.n_threads = 2, .repetitions = 5};

static void products_are_timed(void **state) {
    (void)state;
    const tool_product sizes[] = {{256, 256, 1}, {100, 130, 3}, {640, 256, 5}};
    tool_devices all;
    rotor_error err = {0};
    tool_devices_find(&all);
    for (size_t i = 0; i < BASE_COUNT(sizes); i++) {
        double us = 0;
        assert_int_equal(tool_product_time(&sizes[i], "cpu", NULL, &opt, &us, &err), ROTOR_OK);
        assert_true(us > 0 && us < 1e6);
        for (size_t d = 0; d < all.n; d++) {
            if (all.of[d].missing[0]) continue;
            us = 0;
            if (tool_product_time(&sizes[i], all.of[d].id, NULL, &opt, &us, &err) != ROTOR_OK)
                fail_msg("%s: %s", all.of[d].id, err.message);
            assert_true(us > 0 && us < 1e8);
        }
    }
    const tool_product many = {256, 256, 17};
    double us = -1;
    assert_int_equal(tool_product_time(&many, "cpu", NULL, &opt, &us, &err), ROTOR_E_ARG);
    assert_int_not_equal(tool_product_time(sizes, "vulkan:999", NULL, &opt, &us, &err), ROTOR_OK);
    assert_true(us == -1);
}

static void every_failed_allocation_is_survived(void **state) {
    (void)state;
    const tool_product p = {64, 128, 2};
    for (long n = 1; n < 1000; n++) {
        double us;
        rotor_error err;
        base_fault_after(n);
        const rotor_status st = tool_product_time(&p, "cpu", NULL, &opt, &us, &err);
        const bool fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(st, fired ? ROTOR_E_NOMEM : ROTOR_OK);
        if (!fired) return;
    }
    fail_msg("no end of allocations");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(bounds_are_bytes_and_dispatches),
                                       cmocka_unit_test(devices_are_found_and_measured),
                                       cmocka_unit_test(what_cannot_be_used_is_not_measured),
                                       cmocka_unit_test(products_are_timed),
                                       cmocka_unit_test(every_failed_allocation_is_survived)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
