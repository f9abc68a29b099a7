/* SPDX-License-Identifier: MIT
 *
 * A model over several devices. On the CPU the seams are not to be seen: wherever the list is cut,
 * the logits are the same bits, with shared pages, adapters and the staged head. On every other
 * device there is, software devices too, each cut agrees with the CPU, a step moves one row across
 * it and no weights, and a device that fails or has too little memory is replaced.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "cpu/cpu.h"
#include "device_rig.h"
#include "line_rig.h"
#include "lora_file.h"
#include "tiny_model.h"

enum { LAYERS = 4, VOCAB = 97, PROMPT = 70 };
static const tiny_shape shape = {LAYERS, 256, 4, 2, 512, VOCAB, 8192};
static char path[96], lora[96], cache[96];

/* ==== A model on an engine ==================================================================== */

typedef struct part_rig {
    line_rig of;    /* the model on its engine */
    base_log log;   /* into the two below */
    char info[256]; /* last line of what is done */
    char warn[512]; /* last warning */
    int n_warn;     /* how many */
} part_rig;

static void hear(void *user, base_log_level level, const char *line) {
    part_rig *r = user;
    if (level == BASE_LOG_INFO) snprintf(r->info, sizeof r->info, "%s", line);
    if (level <= BASE_LOG_WARN) snprintf(r->warn, sizeof r->warn, "%s", line);
    r->n_warn += level <= BASE_LOG_WARN;
}

static void part_up(part_rig *r, run_options o, bool adapter) {
    memset(r, 0, sizeof *r);
    r->log = (base_log){hear, r};
    o.cpu = cpu_detect();
    o.n_pages = 8;
    o.log = &r->log;
    o.adapter_strength = 1;
    o.device_cache = cache;
    if (!o.chunk) o.chunk = 32;
    line_open(&r->of, path, adapter ? lora : NULL, 2);
    line_up(&r->of, o);
}

static const float *logits_at(part_rig *r, uint32_t n) { return line_logits(&r->of, n); }

/* After a prompt in chunks, after one more token, and after a fork that writes on in a page it
 * shares: [3][VOCAB]. */
static void tour(part_rig *r, float *out) {
    run_session *fork = NULL;
    memcpy(out, logits_at(r, PROMPT), VOCAB * sizeof *out);
    memcpy(out + VOCAB, logits_at(r, PROMPT + 1), VOCAB * sizeof *out);
    assert_int_equal(run_session_create(&fork, r->of.e, 200, NULL), ROTOR_OK);
    assert_int_equal(run_session_fork(fork, r->of.s, PROMPT, NULL), ROTOR_OK);
    const run_row row = {fork, 7, true};
    assert_int_equal(run_eval(r->of.e, &row, 1, NULL), ROTOR_OK);
    memcpy(out + 2 * VOCAB, run_logits(r->of.e, 0), VOCAB * sizeof *out);
    run_session_free(&fork);
}

/* ==== On the CPU ============================================================================== */

static void every_cut_is_the_same_bits(void **state) {
    (void)state;
    for (int kind = 0; kind < TINY_KINDS; kind++)
        for (int mode = 0; mode < 4; mode++) { /* adapter or not; --act f32 or not */
            const bool adapter = mode & 1;
            lora_file f;
            float want[3 * VOCAB], got[3 * VOCAB];
            part_rig r;
            tiny_write(path, (tiny_kind)kind, shape, 17, NULL);
            lora_file_start(&f, kind <= TINY_BITNET_T5 ? "bitnet-b1.58" : "llama", shape, 4,
                            QUANT_F32, 0.5f);
            lora_file_write(&f, lora, 5);
            for (uint32_t n = 0; n < LAYERS; n++) {
                part_up(&r, (run_options){.device_layers = n, .float_act = mode & 2}, adapter);
                assert_int_equal(run_device_layers(r.of.e), n ? n : LAYERS);
                tour(&r, n ? got : want);
                if (n && memcmp(want, got, sizeof want) != 0)
                    fail_msg("%s, mode %d, %u layers", tiny_names[kind], mode, n);
                line_down(&r.of);
            }
        }
}

/* What is found, and whether anything is, does not change; nor does what is computed in full. */
static void the_staged_head_works_behind_a_cut(void **state) {
    (void)state;
    enum { WORDS = 4000 };
    tiny_shape s = shape;
    uint32_t decided = 0;
    part_rig whole, cut;
    s.n_vocab = WORDS;
    tiny_write(path, TINY_BITNET, s, 18, NULL);
    part_up(&whole, (run_options){.head = RUN_HEAD_EXACT}, false);
    part_up(&cut, (run_options){.head = RUN_HEAD_EXACT, .device_layers = 2}, false);
    for (uint32_t n = PROMPT; n < PROMPT + 12; n++) {
        run_found a, b;
        line_feed(&whole.of, n);
        line_feed(&cut.of, n);
        const bool found = run_candidates(whole.of.e, 0, &(run_want){.k = 3}, &a);
        assert_int_equal(run_candidates(cut.of.e, 0, &(run_want){.k = 3}, &b), found);
        decided += found;
        if (!found) continue;
        assert_int_equal(a.n, b.n);
        assert_memory_equal(a.id, b.id, a.n * sizeof *a.id);
        assert_memory_equal(a.value, b.value, a.n * sizeof *a.value);
    }
    dev_staged_stats a, b;
    assert_true(decided > 0);
    assert_true(run_head_stats(whole.of.e, &a) && run_head_stats(cut.of.e, &b));
    assert_memory_equal(&a, &b, sizeof a);
    assert_memory_equal(run_logits(whole.of.e, 0), run_logits(cut.of.e, 0), WORDS * sizeof(float));
    line_down(&whole.of);
    line_down(&cut.of);
}

/* ==== On other devices ======================================================================== */

static rig_device devices[RIG_DEVICES];
static size_t n_devices;

static run_options on(const rig_device *d, uint32_t layers) {
    return (run_options){.device = d->api, .device_index = d->index, .device_layers = layers};
}

/* docs/numerics.md: between devices 2e-3 where nothing is rounded, 9e-2 where it is. */
static void every_cut_agrees_with_the_cpu(void **state) {
    (void)state;
    static const tiny_kind kinds[] = {TINY_BITNET, TINY_LLAMA_Q4K};
    if (!n_devices) skip();
    for (size_t k = 0; k < (rig_all() ? 2 : 1) * BASE_COUNT(kinds); k++) {
        float want[3 * VOCAB], got[3 * VOCAB];
        const bool float_act = k % 2;
        part_rig r;
        tiny_write(path, kinds[k / 2], shape, 19, NULL);
        part_up(&r, (run_options){.float_act = float_act}, false);
        tour(&r, want);
        line_down(&r.of);
        for (size_t i = 0; i < n_devices; i++)
            for (uint32_t n = 1; n <= LAYERS; n += rig_all() ? 1 : 2) {
                run_options o = on(&devices[i], n);
                o.float_act = float_act;
                part_up(&r, o, false);
                tour(&r, got);
                assert_int_equal(run_device(r.of.e), devices[i].api); /* not given up meanwhile */
                assert_int_equal(r.n_warn, 0);
                const double far = line_distance(got, want, 3 * VOCAB);
                if (!(far < (float_act ? 2e-3 : 9e-2)))
                    fail_msg("%s, %s, %u layers: %g", devices[i].label, tiny_names[kinds[k / 2]], n,
                             far);
                line_down(&r.of);
            }
    }
}

/* Per decoded token one row up, one down, and a few words; nothing is made. */
static void one_row_crosses_each_seam(void **state) {
    (void)state;
    if (!n_devices) skip();
    tiny_write(path, TINY_BITNET, shape, 20, NULL);
    for (size_t i = 0; i < n_devices; i++) {
        part_rig r;
        part_up(&r, on(&devices[i], 2), false);
        logits_at(&r, PROMPT);
        logits_at(&r, PROMPT + 1);
        const dev_counters a = run_counters(r.of.e);
        logits_at(&r, PROMPT + 2);
        logits_at(&r, PROMPT + 3);
        const dev_counters b = run_counters(r.of.e);
        const uint64_t row = shape.n_embd * sizeof(float);
        assert_int_equal(b.steps - a.steps, 2);
        assert_int_equal(b.bytes_down - a.bytes_down, 2 * row);
        assert_in_range(b.bytes_up - a.bytes_up, 2 * row, 2 * row + 2048);
        assert_int_equal(b.allocations, a.allocations);
        line_down(&r.of);
    }
}

/* Memory enough for all, for all but the table, without the head, for some layers, for none. */
static void memory_decides(void **state) {
    (void)state;
    if (!n_devices) skip();
    tiny_write(path, TINY_BITNET, shape, 21, NULL);
    float want[3 * VOCAB], got[3 * VOCAB];
    uint32_t last = LAYERS + 1, shapes = 0;
    part_rig r;
    part_up(&r, (run_options){.head = RUN_HEAD_Q8}, false);
    tour(&r, want);
    line_down(&r.of);
    for (uint64_t kib = 8192; kib > 0; kib -= kib > 1024 ? 64 : 32) {
        dev_facts f = devices[0].facts;
        f.heap_bytes = (128ull << 20) + (kib << 10);
        f.imports = false; /* what the table takes is counted */
        run_options o = on(&devices[0], 0);
        o.head = RUN_HEAD_Q8;
        o.device_facts = &f;
        part_up(&r, o, false);
        const bool some = run_device(r.of.e) != DEV_CPU;
        const uint32_t n = some ? run_device_layers(r.of.e) : 0;
        const uint32_t kind = !some                                       ? 1
                              : strstr(r.info, "the whole model (")       ? 2
                              : strstr(r.info, "model but the embedding") ? 4
                              : n == LAYERS                               ? 8
                                                                          : 16;
        assert_true(n <= last); /* never more with less */
        assert_int_equal(r.n_warn, some ? 0 : 1);
        if (!some) assert_non_null(strstr(r.warn, "the CPU does it"));
        if (!(shapes & kind) || n != last) { /* each once: this takes a while */
            tour(&r, got);
            assert_true(line_distance(got, want, 3 * VOCAB) < 9e-2);
        }
        shapes |= kind;
        last = n;
        line_down(&r.of);
        if (!some) break;
    }
    assert_int_equal(shapes, 31);
}

/* The device fails at the first step of a new size: what was said is said again by the CPU. */
static void a_device_that_fails_is_replaced(void **state) {
    (void)state;
    if (!n_devices) skip();
    tiny_write(path, TINY_BITNET, shape, 22, NULL);
    for (size_t i = 0; i < n_devices; i++) {
        part_rig r, cpu;
        part_up(&cpu, (run_options){.chunk = 0}, false);
        part_up(&r, on(&devices[i], 2), false);
        logits_at(&r, 64); /* two steps of 32: a list for one row comes next */
        base_fault_after(1);
        const float *got = logits_at(&r, 65);
        base_fault_after(0);
        assert_int_equal(run_device(r.of.e), DEV_CPU);
        assert_int_equal(r.n_warn, 1);
        assert_non_null(strstr(r.warn, "going on on the CPU"));
        logits_at(&cpu, 64);
        assert_memory_equal(got, logits_at(&cpu, 65), VOCAB * sizeof *got);
        assert_memory_equal(logits_at(&r, 70), logits_at(&cpu, 70), VOCAB * sizeof *got);
        line_down(&r.of);
        line_down(&cpu.of);
    }
}

/* Whatever memory is refused while a device is set up: it gets half the layers, or the CPU all of
 * them, with one warning; or the engine cannot be made at all and says so. */
static void memory_may_end_during_set_up(void **state) {
    (void)state;
    if (!n_devices) skip();
    tiny_write(path, TINY_BITNET, shape, 23, NULL);
    int halves = 0, wholes = 0;
    bool fired = true;
    for (long n = 1; fired; n += rig_all() ? 5 : 37) {
        rotor_error err = {0};
        part_rig r = {.n_warn = 0};
        run_options o = on(&devices[0], 0);
        line_open(&r.of, path, NULL, 1);
        r.log = (base_log){hear, &r};
        o.log = &r.log;
        o.n_pages = 4;
        o.chunk = 4;
        base_fault_after(n);
        rotor_status st = run_create(&r.of.e, r.of.m, r.of.pool, &o, &err);
        fired = base_fault_fired();
        base_fault_after(0);
        if (st == ROTOR_OK && fired) {
            const bool half = run_device(r.of.e) != DEV_CPU;
            assert_int_equal(r.n_warn, 1);
            assert_int_equal(run_device_layers(r.of.e), half ? LAYERS / 2 : LAYERS);
            halves += half;
        }
        if (st == ROTOR_OK && !fired) {
            assert_int_equal(run_device_layers(r.of.e), LAYERS);
            assert_int_equal(r.n_warn, 0);
            wholes++;
        }
        if (st != ROTOR_OK) assert_true(strlen(err.message) > 10);
        assert_true(n < 20000);
        line_down(&r.of);
    }
    print_message("%d times half the layers\n", halves);
    assert_true(halves > 0);
    assert_int_equal(wholes, 1);
}

static void drop_cache(void) {
    char **names = NULL;
    size_t n = 0;
    if (base_list_dir(cache, &names, &n, NULL) != ROTOR_OK) return;
    for (size_t i = 0; i < n; i++) {
        char *file = base_path_join(cache, names[i]);
        unlink(file);
        base_free(file);
    }
    base_names_free(names, n);
    rmdir(cache);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cut_is_the_same_bits),
        cmocka_unit_test(the_staged_head_works_behind_a_cut),
        cmocka_unit_test(every_cut_agrees_with_the_cpu),
        cmocka_unit_test(one_row_crosses_each_seam),
        cmocka_unit_test(memory_decides),
        cmocka_unit_test(a_device_that_fails_is_replaced),
        cmocka_unit_test(memory_may_end_during_set_up),
    };
    tiny_path(path, "split.gguf");
    tiny_path(lora, "split-lora.gguf");
    tiny_path(cache, "split-kernels"); /* compiled once, not for every engine */
    if (base_mkdirs(cache, NULL) != ROTOR_OK) return 1;
    n_devices = rig_devices_of_run(devices);
    if (!n_devices) print_message("no OpenCL or Vulkan device: only the CPU is tested\n");
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    unlink(lora);
    drop_cache();
    return failed;
}
