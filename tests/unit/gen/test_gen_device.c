/* SPDX-License-Identifier: MIT
 *
 * Generation on a GPU: a device that finds or draws the token itself says the text that all its
 * logits give, step by step, and little of it comes back to the host.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <unistd.h>

#include "cpu/cpu.h"
#include "gen/gen_internal.h"
#include "tiny_model.h"

enum { N_NEW = 40, N_PROMPT = 21 };

typedef struct rig {
    par_pool *pool; /* two threads */
    model *m;       /* tiny */
    run_engine *e;  /* on a device */
    run_session *s; /* of it */
} rig;

static bool usable(dev_api api) {
    dev_facts f[1];
    size_t n = 0;
    return dev_list(api, f, 1, &n, NULL) == ROTOR_OK && n && !f[0].missing[0];
}

static void rig_up(rig *g, dev_api api, tiny_kind kind) {
    char path[96];
    rotor_error err = {0};
    tiny_shape shape = tiny_default();
    shape.n_vocab = 1500;
    tiny_write(tiny_path(path, "gen_device.gguf"), kind, shape, 21, NULL);
    assert_int_equal(par_create(&g->pool, 2, false, &err), ROTOR_OK);
    const model_options mo = {.i2s = -1};
    if (model_open(&g->m, path, &mo, &err) != ROTOR_OK) fail_msg("%s", err.message);
    const run_options ro = {
        .cpu = cpu_detect(), .n_pages = 8, .chunk = 16, .kv = KERN_KV_F16, .device = api};
    if (run_create(&g->e, g->m, g->pool, &ro, &err) != ROTOR_OK) fail_msg("%s", err.message);
    assert_int_equal(run_session_create(&g->s, g->e, 200, &err), ROTOR_OK);
    unlink(path);
}

static void rig_down(rig *g) {
    run_session_free(&g->s);
    assert_int_equal(run_free_pages(g->e), 8);
    run_free(&g->e);
    model_close(&g->m);
    par_free(&g->pool);
}

static bool hear(void *user, base_str text, const gen_choice *choice, const gen_choice *top) {
    (void)user, (void)text, (void)choice, (void)top;
    return true;
}

/* The text of these settings from an empty timeline; counted: what the device did meanwhile. */
static void say(rig *g, const gen_options *o, gen_result *r, dev_counters *counted) {
    uint32_t prompt[N_PROMPT];
    rotor_error err = {0};
    for (uint32_t i = 0; i < N_PROMPT; i++) prompt[i] = (i * 37 + 11) % 95;
    run_session_rewind(g->s, 0);
    const dev_counters before = run_counters(g->e);
    if (gen_run(g->s, prompt, N_PROMPT, o, r, &err) != ROTOR_OK) fail_msg("%s", err.message);
    const dev_counters after = run_counters(g->e);
    *counted = (dev_counters){.steps = after.steps - before.steps,
                              .bytes_down = after.bytes_down - before.bytes_down,
                              .submissions = after.submissions - before.submissions};
    assert_int_equal(run_session_len(g->s), N_PROMPT + r->ids.n - 1);
    assert_int_equal(run_free_pages(g->e), 8 - (N_PROMPT + r->ids.n - 2) / KERN_KEYS - 1);
}

static gen_options settings(uint32_t i) {
    gen_options o = {.sampling = gen_sampling_default(),
                     .max_new_tok = N_NEW,
                     .ignore_eog = true,
                     .on_text = hear};
    o.sampling.seed = i;
    o.sampling.temperature = i % 4 ? 0.5f + (float)i : 0;
    if (i % 4 == 2) o.sampling.top_k = 200, o.sampling.min_p = 0;
    if (i % 4 == 3) o.sampling.top_p = 1, o.sampling.top_k = 7;
    return o;
}

static void texts_agree(rig *g, uint32_t i) {
    gen_result few = {0}, all = {0};
    dev_counters c_few, c_all;
    gen_options o = settings(i);
    say(g, &o, &all, &c_all);
    o.no_logprobs = true;
    say(g, &o, &few, &c_few);
    assert_int_equal(few.ids.n, N_NEW);
    assert_int_equal(all.ids.n, N_NEW);
    assert_memory_equal(few.ids.ids, all.ids.ids, N_NEW * sizeof(uint32_t));
    print_message("settings %u: %llu bytes back, %llu with all logits; %llu steps\n", i,
                  (unsigned long long)c_few.bytes_down, (unsigned long long)c_all.bytes_down,
                  (unsigned long long)c_few.steps);
    assert_true(c_few.bytes_down < c_all.bytes_down);
    gen_result_free(&few);
    gen_result_free(&all);
}

static void device_says_the_same(dev_api api) {
    static const tiny_kind kinds[] = {TINY_BITNET, TINY_LLAMA_Q8};
    if (!usable(api)) skip();
    for (size_t k = 0; k < BASE_COUNT(kinds); k++) {
        rig g = {0};
        rig_up(&g, api, kinds[k]);
        for (uint32_t i = 0; i < 8; i++) texts_agree(&g, i);
        rig_down(&g);
    }
}

static void opencl_says_the_same(void **state) {
    (void)state;
    device_says_the_same(DEV_OPENCL);
}

static void vulkan_says_the_same(void **state) {
    (void)state;
    device_says_the_same(DEV_VULKAN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opencl_says_the_same),
        cmocka_unit_test(vulkan_says_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
