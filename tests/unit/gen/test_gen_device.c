/* SPDX-License-Identifier: MIT
 *
 * Generation on a GPU that chooses the tokens itself, one step ahead of the host: the text is what
 * all its logits give, however it ends; a token costs one submission, eight bytes back and no
 * memory; and a device that fails with two steps under way loses and doubles nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "dev/gpu/dev_gpu.h"
#include "faulty_gpu.h"
#include "gen/gen_internal.h"
#include "tiny_model.h"

enum { N_NEW = 40, N_PROMPT = 21, CHUNKS = 2, PAGES = 8 };

typedef struct rig {
    par_pool *pool; /* two threads */
    model *m;       /* tiny */
    run_engine *e;  /* on a device */
    run_session *s; /* of it */
} rig;

static dev_api current; /* behind the failing driver */

static bool usable(dev_api api) {
    dev_facts f[1];
    size_t n = 0;
    return dev_list(api, f, 1, &n, NULL) == ROTOR_OK && n && !f[0].missing[0];
}

static rotor_status open_faulty(dev **out, const dev_shape *shape, rotor_error *err) {
    const gpu_api *behind = current == DEV_OPENCL ? gpu_opencl() : gpu_vulkan();
    return dev_gpu_create_on(out, faulty_gpu(behind), 0, NULL, shape, err);
}

static void rig_up(rig *g, dev_api api, tiny_kind kind, bool faulty) {
    char path[96];
    rotor_error err = {0};
    tiny_shape shape = tiny_default();
    shape.n_vocab = 1500;
    tiny_write(tiny_path(path, "gen_device.gguf"), kind, shape, 21, NULL);
    assert_int_equal(par_create(&g->pool, 2, false, &err), ROTOR_OK);
    const model_options mo = {.i2s = -1};
    if (model_open(&g->m, path, &mo, &err) != ROTOR_OK) fail_msg("%s", err.message);
    const run_options ro = {.cpu = cpu_detect(),
                            .n_pages = PAGES,
                            .chunk = 16,
                            .kv = KERN_KV_F16,
                            .device = api,
                            .open_gpu = faulty ? open_faulty : NULL};
    if (run_create(&g->e, g->m, g->pool, &ro, &err) != ROTOR_OK) fail_msg("%s", err.message);
    assert_int_equal(run_session_create(&g->s, g->e, 200, &err), ROTOR_OK);
    unlink(path);
}

static void rig_down(rig *g) {
    run_session_free(&g->s);
    assert_int_equal(run_free_pages(g->e), PAGES);
    run_free(&g->e);
    model_close(&g->m);
    par_free(&g->pool);
}

static void make_prompt(uint32_t *prompt) {
    for (uint32_t i = 0; i < N_PROMPT; i++) prompt[i] = (i * 37 + 11) % 95;
}

typedef struct listener {
    uint32_t n, last;       /* tokens heard; the one that is enough, 0: none */
    uint64_t allocs[N_NEW]; /* of host memory, at each */
} listener;

static bool hear(void *user, base_str text, const gen_choice *choice, const gen_choice *top) {
    listener *l = user;
    (void)text, (void)top;
    if (!choice) return true;
    l->allocs[l->n++] = base_alloc_count();
    return l->n != l->last;
}

/* The text of these settings from an empty timeline; counted: what the device did meanwhile. */
static void say(rig *g, const gen_options *o, gen_result *r, dev_counters *counted) {
    uint32_t prompt[N_PROMPT];
    rotor_error err = {0};
    make_prompt(prompt);
    run_session_rewind(g->s, 0);
    ((listener *)o->user)->n = 0;
    const dev_counters before = run_counters(g->e);
    if (gen_run(g->s, prompt, N_PROMPT, o, r, &err) != ROTOR_OK) fail_msg("%s", err.message);
    const dev_counters after = run_counters(g->e);
    *counted = (dev_counters){.steps = after.steps - before.steps,
                              .bytes_down = after.bytes_down - before.bytes_down,
                              .allocations = after.allocations - before.allocations,
                              .submissions = after.submissions - before.submissions};
    const uint32_t len = N_PROMPT + (uint32_t)r->ids.n - 1;
    assert_int_equal(run_session_len(g->s), len);
    assert_memory_equal(run_session_tokens(g->s), prompt, sizeof prompt);
    assert_memory_equal(run_session_tokens(g->s) + N_PROMPT, r->ids.ids, (r->ids.n - 1) * 4);
    assert_int_equal(run_free_pages(g->e), PAGES - (len - 1) / KERN_KEYS - 1);
}

static gen_options settings(uint32_t i, listener *l) {
    gen_options o = {.sampling = gen_sampling_default(),
                     .max_new_tok = N_NEW,
                     .ignore_eog = true,
                     .on_text = hear,
                     .user = l};
    o.sampling.seed = i;
    o.sampling.temperature = i % 4 ? 0.5f + (float)i : 0;
    if (i % 4 == 2) o.sampling.top_k = 200, o.sampling.min_p = 0;
    if (i % 4 == 3) o.sampling.top_p = 1, o.sampling.top_k = 7;
    return o;
}

/* Once with all logits, twice with the device's choice. */
static void texts_agree(rig *g, gen_options *o, gen_result *few, dev_counters *c) {
    gen_result all = {0}, first = {0};
    dev_counters c_all;
    o->no_logprobs = false;
    say(g, o, &all, &c_all);
    o->no_logprobs = true;
    say(g, o, &first, c);
    say(g, o, few, c);
    assert_int_equal(few->finish, all.finish);
    assert_int_equal(few->ids.n, all.ids.n);
    assert_memory_equal(few->ids.ids, all.ids.ids, all.ids.n * sizeof(uint32_t));
    assert_memory_equal(first.ids.ids, all.ids.ids, all.ids.n * sizeof(uint32_t));
    assert_int_equal(few->text.len, all.text.len);
    assert_memory_equal(few->text.data, all.text.data, all.text.len);
    assert_int_equal(c->submissions, c->steps);
    assert_int_equal(c->allocations, 0);
    const listener *l = o->user;
    for (uint32_t i = 1; i < l->n; i++) assert_int_equal(l->allocs[i], l->allocs[0]);
    gen_result_free(&all);
    gen_result_free(&first);
}

static void check_to_the_end(rig *g, uint32_t i) {
    listener l = {0};
    gen_options o = settings(i, &l);
    gen_result r = {0};
    dev_counters c;
    texts_agree(g, &o, &r, &c);
    assert_int_equal(r.finish, GEN_FINISH_LENGTH);
    assert_int_equal(r.ids.n, N_NEW);
    assert_int_equal(c.steps, CHUNKS + N_NEW - 1); /* none thrown away: the end was known */
    const uint64_t of_prompt = i % 4 == 0 ? 8 : i % 4 == 2 ? 8 * 256 : 8 * 64;
    assert_int_equal(c.bytes_down, of_prompt + 8 * (N_NEW - 1));
    gen_result_free(&r);
}

/* The listener has had enough: the step under way is thrown away. */
static void check_cancelled(rig *g, uint32_t i, uint32_t last) {
    listener l = {.last = last};
    gen_options o = settings(i, &l);
    gen_result r = {0};
    dev_counters c;
    texts_agree(g, &o, &r, &c);
    assert_int_equal(r.finish, GEN_FINISH_CANCEL);
    assert_int_equal(r.ids.n, last);
    assert_int_equal(c.steps, CHUNKS + last - 1 + (last > 1));
    gen_result_free(&r);
}

static bool begins(char c) { return ((unsigned char)c & 0xc0) != 0x80; } /* a character */

/* A stop string in the middle of what would be said. */
static void check_stopped(rig *g, uint32_t i) {
    listener l = {0};
    gen_options o = settings(i, &l);
    gen_result whole = {0}, r = {0};
    dev_counters c;
    o.no_logprobs = true;
    say(g, &o, &whole, &c);
    size_t from = whole.text.len / 2, to;
    while (!begins(whole.text.data[from])) from++;
    for (to = from + 2; to < whole.text.len && !begins(whole.text.data[to]);) to++;
    const base_str stop = {whole.text.data + from, to - from};
    o.stops = &stop;
    o.n_stops = 1;
    texts_agree(g, &o, &r, &c);
    assert_int_equal(r.finish, GEN_FINISH_STOP);
    assert_true(r.ids.n < N_NEW);
    gen_result_free(&whole);
    gen_result_free(&r);
}

/* Bans what would be said, position by position, and at one asks for a certain token. */
typedef struct contrary {
    uint32_t said[N_NEW]; /* without it */
    uint32_t bits[64];    /* of the token banned now */
} contrary;

static uint64_t count(const void *user, uint64_t state, uint32_t id) {
    return (void)user, (void)id, state + 1;
}

static rotor_status otherwise(const void *user, uint64_t state, gen_mask *mask, rotor_error *err) {
    static const uint32_t certain = 777;
    contrary *c = (contrary *)(uintptr_t)user;
    (void)err;
    memset(c->bits, 0, sizeof c->bits);
    c->bits[c->said[state] / 32] |= UINT32_C(1) << c->said[state] % 32;
    *mask = (gen_mask){.banned = c->bits};
    if (state == 3) *mask = (gen_mask){.only = &certain, .n_only = 1};
    return ROTOR_OK;
}

static void check_guided(rig *g, uint32_t i) {
    listener l = {0};
    gen_options o = settings(i, &l);
    gen_result whole = {0}, all = {0}, few = {0};
    dev_counters counted;
    contrary c = {.said = {0}};
    o.no_logprobs = true;
    say(g, &o, &whole, &counted);
    memcpy(c.said, whole.ids.ids, sizeof c.said);
    const gen_guide guide = {.user = &c, .step = count, .may = otherwise};
    o.guide = &guide;
    say(g, &o, &few, &counted);
    o.no_logprobs = false;
    say(g, &o, &all, &counted);
    assert_memory_equal(few.ids.ids, all.ids.ids, sizeof c.said);
    for (uint32_t k = 0; k < N_NEW; k++)
        if (k == 3)
            assert_int_equal(few.ids.ids[k], 777);
        else
            assert_int_not_equal(few.ids.ids[k], c.said[k]);
    gen_result_free(&whole);
    gen_result_free(&all);
    gen_result_free(&few);
}

/* Not that of make check-all, which takes every device and case (tests/unit/meson.build). */
static bool short_run(void) { return !getenv("ROTOR_TEST_DEVICES"); }

static void check_device(dev_api api) {
    static const tiny_kind kinds[] = {TINY_BITNET, TINY_LLAMA_Q8};
    /* The short run: the API with the quick compiler. */
    if (!usable(api) || (api == DEV_OPENCL && short_run())) skip();
    for (size_t k = 0; k < BASE_COUNT(kinds); k++) {
        rig g = {0};
        rig_up(&g, api, kinds[k], false);
        for (uint32_t i = 0; i < (k ? 2 : 4); i++) check_to_the_end(&g, i);
        check_guided(&g, (uint32_t)k);
        for (uint32_t i = 0; i < (k ? 0 : 2); i++) {
            check_cancelled(&g, i, 1);
            check_cancelled(&g, i, 7);
            check_stopped(&g, i);
        }
        rig_down(&g);
    }
}

static void opencl_says_the_same(void **state) {
    (void)state;
    check_device(DEV_OPENCL);
}

static void vulkan_says_the_same(void **state) {
    (void)state;
    check_device(DEV_VULKAN);
}

/* ==== A batch ================================================================================= */

enum { JOBS = 4 };

/* All jobs to the end, in sessions of their own; o[i]: how. Counted: from the step on in which all
 * of them decode. */
static void say_together(rig *g, const gen_options *o, gen_result *r, dev_counters *counted) {
    run_session *s[JOBS] = {NULL};
    gen_batch *b = NULL;
    uint32_t prompt[N_PROMPT], handle, live = JOBS;
    dev_counters before = {0};
    make_prompt(prompt);
    assert_int_equal(gen_batch_create(&b, g->e, JOBS, NULL), ROTOR_OK);
    for (uint32_t i = 0; i < JOBS; i++) {
        assert_int_equal(run_session_create(&s[i], g->e, 100, NULL), ROTOR_OK);
        prompt[3] = i;
        assert_int_equal(gen_batch_add(b, s[i], prompt, N_PROMPT, &o[i], &r[i], &handle, NULL),
                         ROTOR_OK);
    }
    while (live == JOBS) {
        uint32_t all = 1;
        for (uint32_t i = 0; i < JOBS; i++) all &= ((listener *)o[i].user)->n > 1;
        if (all && !before.steps) before = run_counters(g->e);
        assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
        if (live == JOBS) *counted = run_counters(g->e);
    }
    while (live) assert_int_equal(gen_batch_step(b, &live, NULL), ROTOR_OK);
    counted->steps -= before.steps;
    counted->bytes_down -= before.bytes_down;
    counted->submissions -= before.submissions;
    counted->allocations -= before.allocations;
    gen_batch_free(&b);
    for (uint32_t i = 0; i < JOBS; i++) run_session_free(&s[i]);
}

/* The device draws for all jobs, or, as one of them wants to know its logits, for none: the texts
 * are the same. */
static void check_batch(dev_api api) {
    if (!usable(api)) skip();
    rig g = {0};
    rig_up(&g, api, TINY_BITNET, false);
    gen_result r[3][JOBS];
    dev_counters c[3];
    memset(r, 0, sizeof r);
    for (int way = 0; way < 3; way++) { /* the second time round nothing is made */
        listener l[JOBS] = {{0}};
        gen_options o[JOBS];
        for (uint32_t i = 0; i < JOBS; i++) {
            o[i] = settings(i, &l[i]);
            o[i].no_logprobs = way < 2 || i > 0;
        }
        say_together(&g, o, r[way], &c[way]);
        for (uint32_t i = 0; i < JOBS; i++) {
            assert_int_equal(r[way][i].ids.n, N_NEW);
            assert_memory_equal(r[way][i].ids.ids, r[0][i].ids.ids, N_NEW * sizeof(uint32_t));
        }
    }
    for (int way = 0; way < 2; way++) {
        assert_true(c[way].steps > N_NEW / 2);
        assert_int_equal(c[way].submissions, c[way].steps);
        assert_int_equal(c[way].bytes_down, 8 * JOBS * c[way].steps);
    }
    assert_int_equal(c[1].allocations, 0);
    assert_true(c[2].bytes_down > 100 * c[1].bytes_down);
    for (int way = 0; way < 3; way++)
        for (uint32_t i = 0; i < JOBS; i++) gen_result_free(&r[way][i]);
    rig_down(&g);
}

static void opencl_draws_for_a_batch(void **state) {
    (void)state;
    check_batch(DEV_OPENCL);
}

static void vulkan_draws_for_a_batch(void **state) {
    (void)state;
    check_batch(DEV_VULKAN);
}

/* ==== Failures ================================================================================ */

/* What the CPU chooses after the prompt and n tokens of an answer. */
static void go_on(rig *cpu, const gen_sampling *o, const uint32_t *ids, uint32_t n, uint32_t *out) {
    uint32_t line[N_PROMPT + N_NEW];
    gen_sampler *s = NULL;
    gen_choice choice;
    make_prompt(line);
    memcpy(line + N_PROMPT, ids, n * sizeof *ids);
    assert_int_equal(gen_sampler_create(&s, o, cpu->m->hp.n_vocab, NULL), ROTOR_OK);
    for (uint32_t i = 0; i < n; i++) gen_sampler_drawn(s);
    for (uint32_t i = n; i < N_NEW; i++) {
        const uint32_t len = N_PROMPT + i;
        assert_int_equal(run_session_sync(cpu->s, line, len, NULL, NULL, NULL, NULL), ROTOR_OK);
        const float *x = run_logits(cpu->e, 0);
        assert_int_equal(gen_sample(s, x, line, len, &choice, NULL, 0, NULL), ROTOR_OK);
        out[i] = line[len] = choice.id;
    }
    gen_sampler_free(&s);
}

/* Returns false when the failure was never reached. */
static bool check_failure(rig *cpu, const gen_result *whole, uint32_t i, faulty_call call,
                          unsigned n) {
    rig g = {0};
    listener l = {0};
    gen_options o = settings(i, &l);
    gen_result r = {0};
    dev_counters c;
    uint32_t rest[N_NEW], same = 0;
    o.no_logprobs = true;
    faulty_at(call, n, ROTOR_E_DEVICE);
    rig_up(&g, current, TINY_BITNET, true);
    say(&g, &o, &r, &c);
    assert_int_equal(r.ids.n, N_NEW);
    assert_int_equal(l.n, N_NEW);
    assert_int_equal(faulty_after_loss(), 0);
    const bool fired = faulty_fired();
    assert_int_equal(strcmp(run_device_name(g.e), "cpu") == 0, fired);
    while (same < N_NEW && r.ids.ids[same] == whole->ids.ids[same]) same++;
    if (!fired) assert_int_equal(same, N_NEW);
    go_on(cpu, &o.sampling, r.ids.ids, same, rest);
    assert_memory_equal(rest + same, r.ids.ids + same, (N_NEW - same) * sizeof *rest);
    gen_result_free(&r);
    rig_down(&g);
    return fired;
}

static void check_failures(dev_api api) {
    static const faulty_call calls[] = {FAULTY_SUBMIT, FAULTY_WAIT, FAULTY_LIST};
    /* The short run: the API with the quick compiler. */
    if (!usable(api) || (api == DEV_OPENCL && short_run())) skip();
    rig cpu = {0}, g = {0};
    current = api;
    rig_up(&cpu, DEV_CPU, TINY_BITNET, false);
    for (uint32_t i = 0; i < 2; i++) {
        listener l = {0};
        gen_options o = settings(i, &l);
        gen_result whole = {0};
        dev_counters c;
        o.no_logprobs = true;
        faulty_at(FAULTY_OPEN, 0, ROTOR_OK);
        rig_up(&g, api, TINY_BITNET, true);
        say(&g, &o, &whole, &c);
        rig_down(&g);
        for (size_t k = i; k < BASE_COUNT(calls); k++) { /* submissions: greedy is enough */
            unsigned n = 1;
            while (check_failure(&cpu, &whole, i, calls[k], n)) n += 1 + n;
            assert_true(n > 3);
        }
        gen_result_free(&whole);
    }
    rig_down(&cpu);
    faulty_done();
}

static void opencl_may_fail(void **state) {
    (void)state;
    check_failures(DEV_OPENCL);
}

static void vulkan_may_fail(void **state) {
    (void)state;
    check_failures(DEV_VULKAN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opencl_says_the_same),     cmocka_unit_test(vulkan_says_the_same),
        cmocka_unit_test(opencl_draws_for_a_batch), cmocka_unit_test(vulkan_draws_for_a_batch),
        cmocka_unit_test(opencl_may_fail),          cmocka_unit_test(vulkan_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
