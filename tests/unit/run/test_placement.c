/* SPDX-License-Identifier: MIT
 *
 * placement: which part of a model a device of a given memory takes. By the sums alone, no device
 * is needed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "run/placement.h"

static const uint64_t MIB = 1 << 20;
static const uint64_t layers[] = {20 << 20, 20 << 20, 20 << 20, 40 << 20};

/* Layers 100, caches 4 x 5, table 600, head 300, work 10 MiB. */
static run_needs needs(void) {
    return (run_needs){.n_layer = 4,
                       .layer = layers,
                       .cache = 5 << 20,
                       .table = 600 << 20,
                       .head = 300 << 20,
                       .work = 10 << 20,
                       .largest = 4 << 20};
}

/* A device whose budget is so many MiB: small enough for the least reserve to count. */
static dev_facts device(uint64_t budget_mib) {
    return (dev_facts){.heap_bytes = (budget_mib + 128) * MIB,
                       .max_alloc_bytes = 1 << 30,
                       .max_bind_bytes = 1 << 30};
}

static run_place place(uint64_t budget_mib, uint32_t most) {
    const run_needs n = needs();
    const dev_facts f = device(budget_mib);
    return run_place_model(&n, most, &f);
}

static void expect(uint64_t budget_mib, bool table, uint32_t n_layer, bool head, uint64_t mib) {
    const run_place p = place(budget_mib, UINT32_MAX);
    if (p.table != table || p.n_layer != n_layer || p.head != head || p.bytes != mib * MIB)
        fail_msg("%llu MiB: table %d, %u layers, head %d, %llu bytes",
                 (unsigned long long)budget_mib, p.table, p.n_layer, p.head,
                 (unsigned long long)p.bytes);
}

static void a_tenth_is_left_to_others(void **state) {
    (void)state;
    assert_int_equal(run_budget(&(dev_facts){.heap_bytes = 0}), 0);
    assert_int_equal(run_budget(&(dev_facts){.heap_bytes = 100 * MIB}), 1);
    assert_int_equal(run_budget(&(dev_facts){.heap_bytes = 1000 * MIB}), 872 * MIB);
    assert_int_equal(run_budget(&(dev_facts){.heap_bytes = 8000 * MIB}), 7200 * MIB);
}

/* 100 + 20 + 10 are the layers; first the table stays away, then the head, then the last layers. */
static void parts_stay_away_one_by_one(void **state) {
    (void)state;
    expect(1050, true, 4, true, 1030);
    expect(1030, true, 4, true, 1030);
    expect(1029, false, 4, true, 430);
    expect(430, false, 4, true, 430);
    expect(429, false, 4, false, 130);
    expect(130, false, 4, false, 130);
    expect(129, false, 3, false, 85);
    expect(85, false, 3, false, 85);
    expect(84, false, 2, false, 60);
    expect(59, false, 1, false, 35);
    expect(35, false, 1, false, 35);
    expect(34, false, 0, false, 0);
    expect(0, false, 0, false, 0);
}

static void a_head_that_is_the_table_counts_once(void **state) {
    (void)state;
    run_needs n = needs();
    n.shared = true;
    n.head = n.table;
    dev_facts f = device(730);
    assert_true(run_place_model(&n, UINT32_MAX, &f).table);
    f = device(729); /* on the device the head alone would take as much */
    const run_place p = run_place_model(&n, UINT32_MAX, &f);
    assert_false(p.table || p.head);
    assert_int_equal(p.n_layer, 4);
}

/* A table that the device reads where it is takes nothing, whoever else has a copy of it. */
static void an_imported_table_counts_nothing(void **state) {
    (void)state;
    run_needs n = needs();
    n.imported = true;
    dev_facts f = device(430);
    run_place p = run_place_model(&n, UINT32_MAX, &f);
    assert_true(p.table && p.head && p.imports);
    assert_int_equal(p.bytes, 430 * MIB);
    f = device(429);
    p = run_place_model(&n, UINT32_MAX, &f);
    assert_false(p.table || p.head || p.imports);
    n.shared = true; /* then a product reads it, too: a copy, which counts once */
    n.head = n.table;
    f = device(730);
    p = run_place_model(&n, UINT32_MAX, &f);
    assert_true(p.table && !p.imports);
    assert_int_equal(p.bytes, 730 * MIB);
    f = device(729);
    assert_false(run_place_model(&n, UINT32_MAX, &f).table);
}

static void most_is_a_limit(void **state) {
    (void)state;
    const run_place p = place(5000, 3);
    assert_int_equal(p.n_layer, 3);
    assert_false(p.table || p.head);
    assert_int_equal(place(59, 3).n_layer, 1);
    assert_true(place(5000, 4).head);
}

static void what_cannot_be_cut_must_be_allowed(void **state) {
    (void)state;
    const run_needs n = needs();
    dev_facts f = device(5000);
    f.max_bind_bytes = n.largest;
    assert_int_equal(run_place_model(&n, UINT32_MAX, &f).n_layer, 4);
    f.max_bind_bytes = n.largest - 1;
    assert_int_equal(run_place_model(&n, UINT32_MAX, &f).n_layer, 0);
    f = device(5000);
    f.max_alloc_bytes = n.largest - 1;
    assert_int_equal(run_place_model(&n, UINT32_MAX, &f).n_layer, 0);
}

static void nothing_known_is_no_limit(void **state) {
    (void)state;
    const run_needs n = needs();
    assert_true(run_place_model(&n, UINT32_MAX, NULL).table);
    assert_true(run_place_model(&n, UINT32_MAX, &(dev_facts){.heap_bytes = 0}).table);
    assert_int_equal(run_place_model(&n, 2, NULL).n_layer, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tenth_is_left_to_others),
        cmocka_unit_test(parts_stay_away_one_by_one),
        cmocka_unit_test(a_head_that_is_the_table_counts_once),
        cmocka_unit_test(an_imported_table_counts_nothing),
        cmocka_unit_test(most_is_a_limit),
        cmocka_unit_test(what_cannot_be_cut_must_be_allowed),
        cmocka_unit_test(nothing_known_is_no_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
