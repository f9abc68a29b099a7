/* SPDX-License-Identifier: MIT
 *
 * Adapters through the public interface: what the trainer computes is what the engine computes with
 * the file that was written, bit for bit; a run that stops and goes on is the run that did not; the
 * model with the adapter in it loads; wrong input is told.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/base.h"
#include "train_rig.h"

/* A ternary model in every form an adapter can learn beside. */
static void make_bases(void) {
    rotor_train_options o = rotor_train_options_default("tiny");
    rotor_error err = {0};
    o.n_layer = 2;
    o.n_embd = o.n_ff = 256;
    o.n_head = 4;
    o.n_head_kv = 2;
    o.n_ctx = 96; /* more than one block of keys */
    o.batch = 4;
    o.steps = 8;
    o.eval_rows = 4;
    o.data = books;
    o.n_data = 1;
    o.tokenizer = in_folder("words.gguf");
    o.out = in_folder("base.gguf");
    o.head_type = "F32";
    o.threads = 2;
    rotor_train *t = trained(&o);
    const struct {
        const char *name, *type, *head; /* of the file */
    } files[] = {{"tq1.gguf", "TQ1_0", "F32"},
                 {"tq2.gguf", "TQ2_0", "F32"},
                 {"f16.gguf", "I2_S", "F16"},
                 {"bf16.gguf", "I2_S", "BF16"},
                 {"master.gguf", "F32", "F32"}};
    for (size_t i = 0; i < BASE_COUNT(files); i++)
        assert_int_equal(
            rotor_train_export(t, in_folder(files[i].name), files[i].type, files[i].head, &err),
            ROTOR_OK);
    rotor_train_close(&t);
}

static rotor_train_options beside(const char *model, const char *out) {
    rotor_train_options o = rotor_train_options_default("tiny");
    o.start = model;
    o.n_ctx = 0;
    o.batch = 4;
    o.steps = 12;
    o.eval_rows = 4; /* a measure is taken, no more */
    o.lr = 0.004f;
    o.data = books;
    o.n_data = 1;
    o.out = out;
    o.threads = 2;
    o.lora_rank = 4;
    return o;
}

/* ==== Trainer and engine ====================================================================== */

typedef struct compare {
    const float *expected; /* [n, V] */
    size_t n_vocab;        /* V */
    size_t n_same;         /* rows of the same bits */
} compare;

static bool compare_row(void *user, size_t pos, const float *logits) {
    compare *c = user;
    c->n_same += memcmp(logits, c->expected + pos * c->n_vocab, c->n_vocab * sizeof *logits) == 0;
    return true;
}

static size_t same_rows(const char *model, const char *lora, const uint32_t *tokens, size_t n,
                        const float *expected, size_t n_vocab) {
    rotor_engine_options o = rotor_engine_options_default();
    rotor_engine *e = NULL;
    rotor_session *s = NULL;
    rotor_error err = {0};
    compare c = {.expected = expected, .n_vocab = n_vocab};
    o.kv = ROTOR_KV_F32;
    o.head = ROTOR_HEAD_FILE;
    o.threads = 2;
    o.chunk = 17;
    o.lora = lora;
    if (rotor_engine_open(&e, model, &o, &err) != ROTOR_OK) fail_msg("%s", err.message);
    assert_int_equal(rotor_session_create(&s, e, 0, &err), ROTOR_OK);
    assert_int_equal(rotor_eval_all(s, tokens, n, compare_row, &c, &err), ROTOR_OK);
    rotor_session_free(&s);
    rotor_engine_close(&e);
    return c.n_same;
}

static void the_engine_computes_the_trainers_logits(void **state) {
    (void)state;
    enum { N = 96 };
    const char *models[] = {"base.gguf", "tq1.gguf",  "tq2.gguf",
                            "f16.gguf",  "bf16.gguf", "master.gguf"};
    for (size_t i = 0; i < BASE_COUNT(models); i++) {
        rotor_train_options o = beside(in_folder(models[i]), in_folder("adapter.gguf"));
        rotor_train_plan plan = {.size = sizeof plan};
        rotor_error err = {0};
        uint32_t tokens[N];
        rotor_train *t = trained(&o);
        assert_int_equal(rotor_train_get_plan(t, &plan), ROTOR_OK);
        assert_int_equal(plan.n_learnt, 2 * 4 * (2 * 512 + 2 * 384 + 3 * 512));
        assert_int_equal(plan.n_ternary, 2 * (2 * 65536 + 2 * 32768 + 3 * 65536));
        float *logits = base_alloc_array((size_t)N * plan.n_vocab, sizeof *logits);
        for (uint32_t k = 0; k < N; k++) tokens[k] = k * 37 % plan.n_vocab;
        assert_int_equal(rotor_train_logits(t, tokens, N, logits, &err), ROTOR_OK);
        const size_t same = same_rows(o.start, o.out, tokens, N, logits, plan.n_vocab);
        const size_t alone = same_rows(o.start, NULL, tokens, N, logits, plan.n_vocab);
        print_message("%-12s %zu of %d rows the same bits, %zu without the adapter\n", models[i],
                      same, N, alone);
        assert_int_equal(same, N);
        assert_int_equal(alone, 0);
        base_free(logits);
        rotor_train_close(&t);
    }
}

static void half_floats_hold_an_adapter_too(void **state) {
    (void)state;
    rotor_error err = {0};
    rotor_engine *e = NULL;
    rotor_engine_options eo = rotor_engine_options_default();
    rotor_train_options o = beside(in_folder("base.gguf"), in_folder("adapter.gguf"));
    rotor_train *t = trained(&o);
    assert_int_equal(rotor_train_export(t, in_folder("half.gguf"), "F16", NULL, &err), ROTOR_OK);
    assert_int_equal(rotor_train_export(t, in_folder("no.gguf"), "I2_S", NULL, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "cannot hold an adapter"));
    rotor_train_close(&t);
    eo.lora = in_folder("half.gguf");
    if (rotor_engine_open(&e, in_folder("base.gguf"), &eo, &err) != ROTOR_OK)
        fail_msg("%s", err.message);
    rotor_engine_close(&e);
    eo.lora_scale = (float)NAN;
    assert_int_equal(rotor_engine_open(&e, in_folder("base.gguf"), &eo, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "lora_scale"));
}

/* ==== Runs ==================================================================================== */

static void same_files(const char *a, const char *b) {
    base_file fa, fb;
    assert_int_equal(base_file_open(&fa, a, false, NULL), ROTOR_OK);
    assert_int_equal(base_file_open(&fb, b, false, NULL), ROTOR_OK);
    assert_int_equal(fa.size, fb.size);
    assert_memory_equal(fa.data, fb.data, fa.size);
    base_file_close(&fa);
    base_file_close(&fb);
}

/* Losses of a run, and where to stop it. */
typedef struct watch {
    uint64_t stop_behind; /* step; 0: never */
    double loss[64];      /* of each step */
    double held;          /* last measured */
} watch;

static bool on_step(void *user, const rotor_train_step *s) {
    watch *w = user;
    w->loss[s->step] = s->loss;
    if (!isnan(s->held_loss)) w->held = s->held_loss;
    return s->step != w->stop_behind;
}

static void a_stopped_run_goes_on_bit_for_bit(void **state) {
    (void)state;
    rotor_error err = {0};
    rotor_train *t = NULL;
    watch whole = {0}, parts = {.stop_behind = 5};
    mkdir(in_folder("one"), 0777);
    mkdir(in_folder("more"), 0777);
    rotor_train_options o = beside(in_folder("base.gguf"), in_folder("one/a.gguf"));
    o.on_step = on_step;
    o.user = &whole;
    t = trained(&o);
    rotor_train_close(&t);
    assert_true(whole.loss[12] < whole.loss[1] - 0.05);
    o.out = in_folder("more/a.gguf");
    o.user = &parts;
    o.threads = 3;
    o.recompute = true;
    assert_int_equal(rotor_train_open(&t, &o, &err), ROTOR_OK);
    assert_int_equal(rotor_train_run(t, &err), ROTOR_E_CANCELLED);
    rotor_train_close(&t);
    o.resume = true;
    parts.stop_behind = 0;
    t = trained(&o);
    rotor_train_close(&t);
    same_files(in_folder("one/a.gguf"), in_folder("more/a.gguf"));
    same_files(in_folder("one/a.gguf.checkpoint"), in_folder("more/a.gguf.checkpoint"));
    assert_memory_equal(whole.loss, parts.loss, sizeof whole.loss);
    assert_memory_equal(&whole.held, &parts.held, sizeof whole.held);
    const struct {
        const char *told; /* in the message */
        uint32_t rank;    /* of the resumed run */
        float alpha;      /* of it */
        const char *base; /* of it */
    } other[] = {{"training began with --lora 4, now it is 5", 5, 8, "base.gguf"},
                 {"training began with --lora-alpha 8, now it is 9", 4, 9, "base.gguf"},
                 {"the model differs from when training began", 4, 8, "tq1.gguf"}};
    for (size_t i = 0; i < BASE_COUNT(other); i++) {
        o.lora_rank = other[i].rank;
        o.lora_alpha = other[i].alpha;
        o.start = in_folder(other[i].base);
        assert_int_equal(rotor_train_open(&t, &o, &err), ROTOR_OK);
        assert_int_equal(rotor_train_run(t, &err), ROTOR_E_ARG);
        if (!strstr(err.message, other[i].told)) fail_msg("%s", err.message);
        rotor_train_close(&t);
    }
}

static char said[2048];

static void on_line(void *user, int level, const char *line) {
    (void)user;
    (void)level;
    const size_t n = strlen(said);
    snprintf(said + n, sizeof said - n, "%s\n", line);
}

static void a_merged_model_loads_and_is_measured(void **state) {
    (void)state;
    const char *models[] = {"base.gguf", "tq1.gguf", "tq2.gguf", "master.gguf"};
    for (size_t i = 0; i < BASE_COUNT(models); i++) {
        rotor_error err = {0};
        rotor_engine *e = NULL;
        rotor_train *t = NULL;
        double alone = 0, with = 0, merged = 0, changed = 0;
        rotor_train_options o = beside(in_folder(models[i]), in_folder("a.gguf"));
        watch w = {0};
        o.merge = in_folder("merged.gguf");
        o.log_line = on_line;
        o.on_step = on_step;
        o.user = &w;
        said[0] = 0;
        t = trained(&o);
        rotor_train_close(&t);
        const char *line = strstr(said, "held-out loss: ");
        if (!line || sscanf(line,
                            "held-out loss: %lf the model alone, %lf with the adapter, %lf merged "
                            "(%lf %%",
                            &alone, &with, &merged, &changed) != 4)
            fail_msg("%s", said);
        print_message("%-12s %.*s\n", models[i], (int)strcspn(line, "\n"), line);
        assert_true(with < alone);
        assert_true(fabs(with - w.held) < 1e-4);
        assert_true(changed >= 0 && changed < 50);
        assert_true(isfinite(merged));
        if (rotor_engine_open(&e, in_folder("merged.gguf"), NULL, &err) != ROTOR_OK)
            fail_msg("%s", err.message);
        rotor_engine_close(&e);
    }
}

/* With an adapter that says nothing the merged model is the model. */
static void merging_nothing_changes_nothing(void **state) {
    (void)state;
    rotor_train_options o = beside(in_folder("base.gguf"), in_folder("nothing.gguf"));
    o.merge = in_folder("merged.gguf");
    o.log_line = on_line;
    o.lr = 1e-12f;
    o.steps = 1;
    said[0] = 0;
    rotor_train *t = trained(&o);
    rotor_train_close(&t);
    assert_non_null(strstr(said, "(0.00 % of the ternary weights changed)"));
    same_files(in_folder("base.gguf"), in_folder("merged.gguf"));
}

static void wrong_input_is_told(void **state) {
    (void)state;
    const struct {
        const char *told; /* in the message */
        int what;         /* is wrong */
    } cases[] = {{"start names it", 0},
                 {"there is no full-precision twin", 1},
                 {"merge without lora_rank", 2},
                 {"expected a rank of 1 to 4096", 3},
                 {"positive alpha", 4},
                 {"expected a ternary model of architecture bitnet-b1.58", 5},
                 {"none.gguf", 6}};
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        rotor_error err = {0};
        rotor_train *t = NULL;
        rotor_train_options o = beside(in_folder("base.gguf"), in_folder("wrong.gguf"));
        char llama[600];
        const char *root = getenv("ROTOR_SOURCE_ROOT");
        snprintf(llama, sizeof llama, "%s/tests/data/model/stories260K.gguf", root ? root : ".");
        if (cases[i].what == 0) o.start = NULL, o.tokenizer = in_folder("words.gguf");
        if (cases[i].what == 1) o.full_precision = true;
        if (cases[i].what == 2) o.lora_rank = 0, o.merge = in_folder("x.gguf");
        if (cases[i].what == 3) o.lora_rank = 5000;
        if (cases[i].what == 4) o.lora_alpha = -1;
        if (cases[i].what == 5) o.start = llama;
        if (cases[i].what == 6) o.start = in_folder("none.gguf");
        assert_int_not_equal(rotor_train_open(&t, &o, &err), ROTOR_OK);
        if (!strstr(err.message, cases[i].told)) fail_msg("%s", err.message);
        assert_null(t);
    }
}

/* ==== Memory and disk ========================================================================= */

static rotor_status learn_and_run(rotor_error *err) {
    rotor_train *t = NULL;
    rotor_engine *e = NULL;
    rotor_train_options o = beside(in_folder("base.gguf"), in_folder("few.gguf"));
    rotor_engine_options eo = rotor_engine_options_default();
    o.n_ctx = 16;
    o.steps = 1;
    o.batch = 1;
    o.eval_rows = 1;
    o.threads = eo.threads = 1;
    o.merge = in_folder("few_merged.gguf");
    rotor_status st = rotor_train_open(&t, &o, err);
    if (st == ROTOR_OK) st = rotor_train_run(t, err);
    rotor_train_close(&t);
    eo.lora = in_folder("few.gguf");
    eo.ctx = 64;
    if (st == ROTOR_OK) st = rotor_engine_open(&e, in_folder("base.gguf"), &eo, err);
    rotor_engine_close(&e);
    return st;
}

static void every_allocation_and_write_may_fail(void **state) {
    (void)state;
    rotor_error first = {0};
    if (learn_and_run(&first) != ROTOR_OK) fail_msg("%s", first.message);
    assert_true(each_failure_is_told(learn_and_run) > 100);
    char command[300];
    snprintf(command, sizeof command, "ls '%s' | grep -q part-", folder);
    assert_int_not_equal(system(command), 0); /* nothing half-written is left */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_engine_computes_the_trainers_logits),
        cmocka_unit_test(half_floats_hold_an_adapter_too),
        cmocka_unit_test(a_stopped_run_goes_on_bit_for_bit),
        cmocka_unit_test(a_merged_model_loads_and_is_measured),
        cmocka_unit_test(merging_nothing_changes_nothing),
        cmocka_unit_test(wrong_input_is_told),
        cmocka_unit_test(every_allocation_and_write_may_fail),
    };
    if (!rig_up()) return 1;
    make_bases();
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return rig_down() ? failed : 1;
}
