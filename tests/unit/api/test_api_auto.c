/* SPDX-License-Identifier: MIT
 *
 * --device auto as a decision: on machines with any devices, as fast or broken as a test wants
 * them. Who is measured, who wins, what is said, and what is remembered for how long. How devices
 * are measured is tried on those of this machine, software devices too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/api_internal.h"
#include "tiny_model.h"

/* ==== A machine =============================================================================== */

typedef struct machine {
    dev_facts opencl[4], vulkan[4];                  /* devices */
    size_t n_opencl, n_vulkan;                       /* how many */
    double cpu_rate, opencl_rate[4], vulkan_rate[4]; /* tokens a second; 0: cannot run the model */
    int n_listed, n_measured;                        /* questions asked so far */
    char said[512];                                  /* last line of the log */
} machine;

static machine world;
static char folder[96];

static rotor_status list(void *user, dev_api api, dev_facts *out, size_t max, size_t *n) {
    machine *m = user;
    const bool opencl = api == DEV_OPENCL;
    m->n_listed++;
    *n = opencl ? m->n_opencl : m->n_vulkan;
    assert_true(*n <= max);
    if (!*n) return ROTOR_E_NOTFOUND;
    memcpy(out, opencl ? m->opencl : m->vulkan, *n * sizeof *out);
    return ROTOR_OK;
}

static rotor_status measure(void *user, const api_device *d, double *tok_per_s, rotor_error *err) {
    machine *m = user;
    m->n_measured++;
    *tok_per_s = d->api == DEV_CPU      ? m->cpu_rate
                 : d->api == DEV_OPENCL ? m->opencl_rate[d->index]
                                        : m->vulkan_rate[d->index];
    return *tok_per_s > 0 ? ROTOR_OK : base_fail(err, ROTOR_E_DEVICE, "it is broken");
}

static void hear(void *user, base_log_level level, const char *line) {
    machine *m = user;
    assert_int_equal(level, BASE_LOG_INFO);
    snprintf(m->said, sizeof m->said, "%s", line);
}

static dev_facts device(const char *name, bool software) {
    dev_facts f = {.software = software};
    snprintf(f.name, sizeof f.name, "%s", name);
    snprintf(f.driver, sizeof f.driver, "driver 1");
    return f;
}

static void hear_all(void *user, int level, const char *line) {
    (void)user, (void)level;
    if (strncmp(line, "auto: ", 6) == 0) snprintf(world.said, sizeof world.said, "%s", line);
}

/* A hardware GPU on both APIs beside the software device of one. */
static void usual(void) {
    memset(&world, 0, sizeof world);
    world.opencl[0] = device("GPU", false);
    world.opencl[1] = device("a processor", true);
    world.vulkan[0] = device("GPU", false);
    world.n_opencl = 2;
    world.n_vulkan = 1;
    world.cpu_rate = 31;
    world.opencl_rate[0] = 150;
    world.opencl_rate[1] = 1000;
    world.vulkan_rate[0] = 212;
}

static api_device choose_with(uint64_t step_bytes, uint64_t key, const char *cache_dir) {
    const api_rivals r = {&world, list, measure};
    const base_log log = {hear, &world};
    char why[160] = "";
    const api_auto a = {.step_bytes = step_bytes,
                        .key = key,
                        .cache_dir = cache_dir,
                        .log = &log,
                        .why = why,
                        .why_bytes = sizeof why};
    world.n_listed = world.n_measured = 0;
    const api_device d = api_auto_choose(&r, &a);
    assert_string_equal(why, world.said); /* for rotor info */
    return d;
}

static api_device choose(const char *cache_dir) { return choose_with(1 << 30, 7, cache_dir); }

/* ==== Who wins ================================================================================ */

static void the_fastest_hardware_wins(void **state) {
    (void)state;
    usual();
    api_device d = choose(NULL);
    assert_int_equal(d.api, DEV_VULKAN);
    assert_int_equal(d.index, 0);
    assert_string_equal(d.facts.name, "GPU");
    assert_int_equal(world.n_measured, 3); /* never the software device */
    assert_string_equal(world.said, "auto: vulkan:0 212.0 t/s, cpu 31.0 t/s (measured now)");
    world.opencl_rate[0] = 300;
    assert_int_equal(choose(NULL).api, DEV_OPENCL);
    assert_string_equal(world.said, "auto: opencl:0 300.0 t/s, cpu 31.0 t/s (measured now)");
}

static void a_faster_cpu_wins(void **state) {
    (void)state;
    usual();
    world.cpu_rate = 400;
    assert_int_equal(choose(NULL).api, DEV_CPU);
    assert_string_equal(world.said, "auto: cpu 400.0 t/s, vulkan:0 212.0 t/s (measured now)");
    world.cpu_rate = 212; /* a draw */
    assert_int_equal(choose(NULL).api, DEV_CPU);
}

static void software_and_unusable_devices_never_take_part(void **state) {
    (void)state;
    usual();
    world.opencl[0].software = true;
    snprintf(world.vulkan[0].missing, sizeof world.vulkan[0].missing, "it has no 8-bit storage");
    assert_int_equal(choose(NULL).api, DEV_CPU);
    assert_int_equal(world.n_measured, 0);
    assert_string_equal(world.said, "auto: cpu: no hardware device");
    world.n_opencl = world.n_vulkan = 0;
    assert_int_equal(choose(NULL).api, DEV_CPU);
    assert_string_equal(world.said, "auto: cpu: no hardware device");
}

static void a_tiny_model_asks_nobody(void **state) {
    (void)state;
    usual();
    assert_int_equal(choose_with(API_AUTO_TINY - 1, 7, NULL).api, DEV_CPU);
    assert_int_equal(world.n_listed + world.n_measured, 0);
    assert_string_equal(world.said, "auto: cpu: a model as small as this one");
    assert_int_equal(choose_with(API_AUTO_TINY, 7, NULL).api, DEV_VULKAN);
}

static void devices_that_fail_are_left_out(void **state) {
    (void)state;
    usual();
    world.vulkan_rate[0] = 0;
    assert_int_equal(choose(NULL).api, DEV_OPENCL);
    world.opencl_rate[0] = 0;
    assert_int_equal(choose(NULL).api, DEV_CPU);
    assert_string_equal(world.said, "auto: cpu: no device ran this model");
}

/* ==== What is remembered ====================================================================== */

static void forget(void) {
    char path[128];
    snprintf(path, sizeof path, "%s/auto.txt", folder);
    unlink(path);
}

static char *text_of_file(void) {
    char path[128];
    base_file f;
    snprintf(path, sizeof path, "%s/auto.txt", folder);
    if (base_file_open(&f, path, false, NULL) != ROTOR_OK) return NULL;
    char *text = base_strndup((const char *)f.data, f.size);
    base_file_close(&f);
    return text;
}

static void put_file(const char *text) {
    char path[128];
    base_out out;
    snprintf(path, sizeof path, "%s/auto.txt", folder);
    assert_int_equal(base_out_open(&out, path, NULL), ROTOR_OK);
    assert_int_equal(base_out_write(&out, text, strlen(text), NULL), ROTOR_OK);
    assert_int_equal(base_out_commit(&out, NULL), ROTOR_OK);
}

static void the_choice_is_remembered(void **state) {
    (void)state;
    usual();
    forget();
    assert_int_equal(choose(folder).api, DEV_VULKAN);
    assert_int_equal(world.n_measured, 3);
    world.cpu_rate = 999; /* nobody looks */
    api_device d = choose(folder);
    assert_int_equal(d.api, DEV_VULKAN);
    assert_string_equal(d.facts.name, "GPU");
    assert_int_equal(world.n_measured, 0);
    assert_string_equal(world.said, "auto: vulkan:0 212.0 t/s, cpu 31.0 t/s (remembered)");
    assert_int_equal(choose_with(1 << 30, 8, folder).api, DEV_CPU); /* another model */
    assert_int_equal(world.n_measured, 3);
    assert_int_equal(choose(folder).api, DEV_VULKAN); /* beside the first */
    assert_int_equal(choose_with(1 << 30, 8, folder).api, DEV_CPU);
    assert_int_equal(world.n_measured, 0);
    assert_string_equal(world.said, "auto: cpu 999.0 t/s, vulkan:0 212.0 t/s (remembered)");
}

static void a_changed_machine_is_measured_again(void **state) {
    (void)state;
    usual();
    forget();
    choose(folder);
    snprintf(world.vulkan[0].driver, sizeof world.vulkan[0].driver, "driver 2");
    choose(folder);
    assert_int_equal(world.n_measured, 3);
    choose(folder);
    assert_int_equal(world.n_measured, 0);
    snprintf(world.opencl[0].name, sizeof world.opencl[0].name, "another GPU");
    choose(folder);
    assert_int_equal(world.n_measured, 3);
    world.n_vulkan = 0;
    assert_int_equal(choose(folder).api, DEV_OPENCL);
    assert_int_equal(world.n_measured, 2);
}

/* A device may be able to run the model another time. */
static void failures_are_not_remembered(void **state) {
    (void)state;
    usual();
    forget();
    world.vulkan_rate[0] = 0;
    assert_int_equal(choose(folder).api, DEV_OPENCL);
    world.vulkan_rate[0] = 212;
    assert_int_equal(choose(folder).api, DEV_VULKAN);
    assert_int_equal(world.n_measured, 3);
}

static void any_file_is_survived(void **state) {
    (void)state;
    char *good, *text;
    usual();
    forget();
    choose(folder);
    good = text_of_file();
    for (size_t n = 0; n <= strlen(good); n++) { /* cut at every byte */
        text = base_strndup(good, n);
        put_file(text);
        assert_int_equal(choose(folder).api, DEV_VULKAN);
        base_free(text);
    }
    for (size_t i = 0; i < strlen(good); i++) { /* and each byte changed */
        text = base_strdup(good);
        text[i] ^= 5;
        put_file(text);
        api_device d = choose(folder);
        assert_true(d.api == DEV_CPU || world.opencl[0].name[0]);
        assert_true(d.api != DEV_OPENCL || d.index == 0); /* never the software device */
        base_free(text);
    }
    put_file("\n\n1 2 3\n0000000000000000 vulkan:0 nan 1\n\xff\xfe garbage");
    assert_int_equal(choose(folder).api, DEV_VULKAN);
    assert_int_equal(world.n_measured, 3);
    text = text_of_file();
    assert_string_equal(text, good); /* what is no line has not been kept */
    base_free(text);
    base_free(good);
}

static void only_the_newest_are_kept(void **state) {
    (void)state;
    usual();
    forget();
    for (uint64_t key = 0; key < API_AUTO_KEPT + 10; key++) choose_with(1 << 30, key, folder);
    char *text = text_of_file();
    size_t lines = 0;
    for (const char *p = text; *p; p++) lines += *p == '\n';
    assert_int_equal(lines, API_AUTO_KEPT);
    base_free(text);
    choose_with(1 << 30, 10, folder);
    assert_int_equal(world.n_measured, 0);
    choose_with(1 << 30, 9, folder);
    assert_int_equal(world.n_measured, 3);
}

static void a_folder_that_is_not_there_is_no_trouble(void **state) {
    (void)state;
    usual();
    for (int i = 0; i < 2; i++) {
        assert_int_equal(choose("/no/such/folder").api, DEV_VULKAN);
        assert_int_equal(world.n_measured, 3);
    }
}

/* ==== Measuring =============================================================================== */

static void devices_are_measured(void **state) {
    (void)state;
    char path[96];
    double rate = 0;
    rotor_error err = {0};
    rotor_engine *e = NULL;
    rotor_engine_options eo = rotor_engine_options_default();
    run_options o = {.kv = KERN_KV_F16, .n_pages = 2, .chunk = 32};
    eo.threads = 1;
    tiny_write(tiny_path(path, "auto.gguf"), TINY_BITNET, tiny_default(), 4, NULL);
    assert_int_equal(rotor_engine_open(&e, path, &eo, &err), ROTOR_OK);
    o.cpu = e->cpu;
    api_device d = {.api = DEV_CPU};
    assert_int_equal(api_time_decode(e, &o, &d, &rate, &err), ROTOR_OK);
    assert_true(rate > 1 && rate < 1e7);
    for (d.api = DEV_OPENCL; d.api <= DEV_VULKAN; d.api++) {
        dev_facts f[8];
        size_t n = 0;
        if (dev_list(d.api, f, 8, &n, &err) != ROTOR_OK || !n || f[0].missing[0]) continue;
        d.facts = f[0];
        rate = 0;
        if (api_time_decode(e, &o, &d, &rate, &err) != ROTOR_OK) fail_msg("%s", err.message);
        assert_true(rate > 0.01 && rate < 1e7);
        d.facts.heap_bytes = 1; /* the CPU would do it: that is not the device's speed */
        assert_int_equal(api_time_decode(e, &o, &d, &rate, &err), ROTOR_E_DEVICE);
        assert_non_null(strstr(err.message, "holds no layer"));
    }
    rotor_engine_close(&e);
    unlink(path);
}

/* As a user has it. Software devices are never taken, whatever else there is. */
static void auto_opens_and_says_why(void **state) {
    (void)state;
    char path[96];
    rotor_error err = {0};
    rotor_engine *e = NULL;
    rotor_engine_options eo = rotor_engine_options_default();
    const tiny_shape big = {2, 1024, 8, 2, 4096, 97, 512}; /* not tiny: F32 takes 130 MB */
    eo.threads = 1;
    eo.device = "auto";
    eo.log = hear_all;
    tiny_write(tiny_path(path, "auto.gguf"), TINY_BITNET, tiny_default(), 4, NULL);
    world.said[0] = 0;
    assert_int_equal(rotor_engine_open(&e, path, &eo, &err), ROTOR_OK);
    assert_string_equal(world.said, "auto: cpu: a model as small as this one");
    rotor_engine_close(&e);
    tiny_write(path, TINY_LLAMA_F32, big, 4, NULL);
    assert_int_equal(rotor_engine_open(&e, path, &eo, &err), ROTOR_OK);
    if (!base_may_have_gpu()) assert_string_equal(world.said, "auto: cpu: no hardware device");
    assert_int_equal(strncmp(world.said, "auto: ", 6), 0);
    rotor_engine_close(&e);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fastest_hardware_wins),
        cmocka_unit_test(a_faster_cpu_wins),
        cmocka_unit_test(software_and_unusable_devices_never_take_part),
        cmocka_unit_test(a_tiny_model_asks_nobody),
        cmocka_unit_test(devices_that_fail_are_left_out),
        cmocka_unit_test(the_choice_is_remembered),
        cmocka_unit_test(a_changed_machine_is_measured_again),
        cmocka_unit_test(failures_are_not_remembered),
        cmocka_unit_test(any_file_is_survived),
        cmocka_unit_test(only_the_newest_are_kept),
        cmocka_unit_test(a_folder_that_is_not_there_is_no_trouble),
        cmocka_unit_test(devices_are_measured),
        cmocka_unit_test(auto_opens_and_says_why),
    };
    snprintf(folder, sizeof folder, "/tmp/rotor-auto-%ld", (long)getpid());
    if (base_mkdirs(folder, NULL) != ROTOR_OK) return 1;
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    forget();
    rmdir(folder);
    return failed;
}
