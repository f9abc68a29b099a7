/* SPDX-License-Identifier: MIT
 *
 * Training through the public interface: the model that comes out computes what the trainer
 * computed; a run that stops and goes on is the run that did not stop; wrong input is told.
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

static rotor_train_options small(const char *out) {
    rotor_train_options o = rotor_train_options_default("tiny");
    o.n_layer = 2;
    o.n_embd = 64;
    o.n_head = 4;
    o.n_head_kv = 2;
    o.n_ff = 128;
    o.n_ctx = 96; /* more than one block of keys */
    o.batch = 4;
    o.steps = 24;
    o.data = books;
    o.n_data = 1;
    o.tokenizer = in_folder("words.gguf");
    o.out = out;
    o.threads = 2;
    return o;
}

/* ==== The model that comes out ================================================================ */

typedef struct compare {
    const float *expected; /* [n, V] */
    size_t n_vocab;        /* V */
    size_t n_same;         /* rows of the same bits */
    double worst;          /* relative distance of a row */
} compare;

static bool compare_row(void *user, size_t pos, const float *logits) {
    compare *c = user;
    const float *e = c->expected + pos * c->n_vocab;
    double diff = 0, norm = 0;
    for (size_t i = 0; i < c->n_vocab; i++) {
        diff += pow((double)logits[i] - (double)e[i], 2);
        norm += pow((double)e[i], 2);
    }
    c->worst = fmax(c->worst, sqrt(diff / norm));
    c->n_same += memcmp(logits, e, c->n_vocab * sizeof *e) == 0;
    return true;
}

static compare against_engine(const char *model, const uint32_t *tokens, size_t n,
                              const float *expected, size_t n_vocab) {
    rotor_engine_options o = rotor_engine_options_default();
    rotor_engine *e = NULL;
    rotor_session *s = NULL;
    rotor_error err = {0};
    compare c = {.expected = expected, .n_vocab = n_vocab};
    o.kv = ROTOR_KV_F32;
    o.head = ROTOR_HEAD_FILE;
    if (rotor_engine_open(&e, model, &o, &err) != ROTOR_OK) fail_msg("%s", err.message);
    assert_int_equal(rotor_session_create(&s, e, 0, &err), ROTOR_OK);
    assert_int_equal(rotor_eval_all(s, tokens, n, compare_row, &c, &err), ROTOR_OK);
    rotor_session_free(&s);
    rotor_engine_close(&e);
    return c;
}

static void the_engine_computes_the_trainers_logits(void **state) {
    (void)state;
    enum { N = 96 };
    rotor_train_options o = small(in_folder("same.gguf"));
    rotor_train_plan plan = {.size = sizeof plan};
    rotor_error err = {0};
    uint32_t tokens[N];
    o.n_embd = o.n_ff = 256; /* fits every type */
    o.steps = 8;
    o.head_type = "F32";
    rotor_train *t = trained(&o);
    assert_int_equal(rotor_train_get_plan(t, &plan), ROTOR_OK);
    float *logits = base_alloc_array((size_t)N * plan.n_vocab, sizeof *logits);
    for (uint32_t i = 0; i < N; i++) tokens[i] = i * 37 % plan.n_vocab;
    assert_int_equal(rotor_train_logits(t, tokens, N, logits, &err), ROTOR_OK);
    const struct {
        const char *path, *type; /* of the export; NULL: the run's own */
        bool exact;              /* the type holds the scale exactly */
    } ways[] = {{"same.gguf", NULL, true},
                {"tq1.gguf", "TQ1_0", false},
                {"tq2.gguf", "TQ2_0", false},
                {"hf", NULL, true},
                {"master.gguf", "F32", true}}; /* rounded by the engine when it loads */
    for (size_t i = 0; i < BASE_COUNT(ways); i++) {
        if (i)
            assert_int_equal(
                rotor_train_export(t, in_folder(ways[i].path), ways[i].type, NULL, &err), ROTOR_OK);
        compare c = against_engine(in_folder(ways[i].path), tokens, N, logits, plan.n_vocab);
        print_message("%-10s %zu of %d rows the same bits, farthest %.1e\n", ways[i].path, c.n_same,
                      N, c.worst);
        if (ways[i].exact) assert_int_equal(c.n_same, N);
        assert_true(c.worst <
                    0.05); /* half-float scales: a code of an activation falls otherwise */
    }
    base_free(logits);
    rotor_train_close(&t);
}

/* ==== Runs ==================================================================================== */

static base_file opened(const char *path) {
    base_file f;
    rotor_error err;
    if (base_file_open(&f, path, false, &err) != ROTOR_OK) fail_msg("%s", err.message);
    return f;
}

static void same_files(const char *a, const char *b) {
    base_file fa = opened(a), fb = opened(b);
    assert_int_equal(fa.size, fb.size);
    assert_memory_equal(fa.data, fb.data, fa.size);
    base_file_close(&fa);
    base_file_close(&fb);
}

static void train_to_end(const rotor_train_options *o) {
    rotor_train *t = trained(o);
    rotor_train_close(&t);
}

static void threads_and_recomputing_change_no_bit(void **state) {
    (void)state;
    rotor_train_options o = small(in_folder("one/m.gguf"));
    mkdir(in_folder("one"), 0777);
    mkdir(in_folder("more"), 0777);
    o.steps = 6;
    o.threads = 1;
    train_to_end(&o);
    o.out = in_folder("more/m.gguf");
    o.threads = 3;
    o.recompute = true;
    train_to_end(&o);
    same_files(in_folder("one/m.gguf"), in_folder("more/m.gguf"));
    same_files(in_folder("one/m.gguf.checkpoint"), in_folder("more/m.gguf.checkpoint"));
}

/* Losses of a run, and where to stop it. */
typedef struct watch {
    uint64_t stop_behind; /* step; 0: never */
    double loss[64];      /* of each step */
    double held;          /* last measured */
    uint64_t last;        /* step */
} watch;

static bool on_step(void *user, const rotor_train_step *s) {
    watch *w = user;
    w->loss[s->step] = s->loss;
    w->last = s->step;
    if (!isnan(s->held_loss)) w->held = s->held_loss;
    return s->step != w->stop_behind;
}

static void a_stopped_run_goes_on_bit_for_bit(void **state) {
    (void)state;
    rotor_error err = {0};
    rotor_train *t = NULL;
    watch whole = {0}, parts = {.stop_behind = 9};
    rotor_train_options o = small(in_folder("one/whole.gguf"));
    o.on_step = on_step;
    o.user = &whole;
    train_to_end(&o);
    assert_true(whole.loss[24] < whole.loss[1] - 0.3);
    o.out = in_folder("more/whole.gguf");
    o.user = &parts;
    assert_int_equal(rotor_train_open(&t, &o, &err), ROTOR_OK);
    assert_int_equal(rotor_train_run(t, &err), ROTOR_E_CANCELLED);
    assert_int_equal(rotor_train_run(t, &err), ROTOR_E_STATE); /* it would begin anew */
    assert_non_null(strstr(err.message, "step 9 of 24; --resume goes on"));
    rotor_train_close(&t);
    o.resume = true;
    parts.stop_behind = 0;
    train_to_end(&o);
    same_files(in_folder("one/whole.gguf"), in_folder("more/whole.gguf"));
    same_files(in_folder("one/whole.gguf.checkpoint"), in_folder("more/whole.gguf.checkpoint"));
    assert_memory_equal(whole.loss, parts.loss, sizeof whole.loss);
    assert_memory_equal(&whole.held, &parts.held, sizeof whole.held);
    o.lr = 0.001f;
    assert_int_equal(rotor_train_open(&t, &o, &err), ROTOR_OK);
    assert_int_equal(rotor_train_run(t, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "training began with --lr 0.004, now it is 0.001"));
    rotor_train_close(&t);
}

static void parts_of_a_batch_add_up(void **state) {
    (void)state;
    watch whole = {0}, parts = {0};
    rotor_train_options o = small(in_folder("whole_batch.gguf"));
    o.steps = 4;
    o.on_step = on_step;
    o.user = &whole;
    train_to_end(&o);
    o.out = in_folder("parts.gguf");
    o.accumulate = 4;
    o.user = &parts;
    train_to_end(&o);
    for (size_t i = 1; i <= 4; i++) assert_true(fabs(whole.loss[i] - parts.loss[i]) < 2e-3);
    assert_true(fabs(whole.loss[1] - parts.loss[1]) < 1e-6);
}

static void a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(void **state) {
    (void)state;
    rotor_error err = {0};
    rotor_train *t = NULL;
    rotor_train_options o = small(in_folder("nan.gguf"));
    o.steps = 200;
    o.save_every = 4;
    o.lr = 0.9f;
    o.decay = 100; /* weights grow until they are no numbers */
    o.warm_steps = 0;
    watch w = {0};
    o.on_step = on_step;
    o.user = &w;
    assert_int_equal(rotor_train_open(&t, &o, &err), ROTOR_OK);
    assert_int_equal(rotor_train_run(t, &err), ROTOR_E_FORMAT);
    print_message("%s\n", err.message);
    char told[64];
    snprintf(told, sizeof told, "step %u", (unsigned)w.last + 1);
    assert_non_null(strstr(err.message, told));
    assert_non_null(strstr(err.message, "layer"));
    snprintf(told, sizeof told, "keeps step %u)", (unsigned)w.last / 4 * 4);
    assert_non_null(strstr(err.message, told));
    rotor_train_close(&t);
}

/* Whatever was saved can be gone on with: floats from byte 232 to the sum (docs/formats.md). */
static void what_is_no_number_is_not_saved(void **state) {
    (void)state;
    rotor_error err = {0};
    rotor_train *t = NULL;
    rotor_train_options o = small(in_folder("huge.gguf"));
    o.steps = 200;
    o.save_every = 1;
    o.eval_every = 200;
    o.lr = 0.9f;
    o.decay = 100;
    o.warm_steps = 0;
    o.log = in_folder("huge.csv");
    assert_int_equal(rotor_train_open(&t, &o, &err), ROTOR_OK);
    assert_int_equal(rotor_train_run(t, &err), ROTOR_E_FORMAT);
    print_message("%s\n", err.message);
    assert_non_null(strstr(err.message, "is not a number"));
    assert_non_null(strstr(err.message, "a lower --lr may help (")); /* what is kept follows */
    rotor_train_close(&t);
    base_file f = opened(in_folder("huge.gguf.checkpoint"));
    for (size_t at = 232; at + 4 < f.size - 8; at += 4) {
        float x;
        memcpy(&x, f.data + at, sizeof x);
        assert_true(isfinite(x));
    }
    uint64_t step;
    memcpy(&step, f.data + 216, sizeof step);
    base_file_close(&f);
    f = opened(o.log);
    size_t n_lines = 0;
    for (size_t i = 0; i < f.size; i++) n_lines += f.data[i] == '\n';
    assert_in_range(n_lines, step + 1, step + 2); /* the log is there to the end */
    base_file_close(&f);
    assert_int_equal(base_path_kind_of(in_folder("huge.gguf")), BASE_PATH_NONE);
    o.out = in_folder("infinite.gguf");
    o.decay = INFINITY; /* gradients are good, and the weights behind them are none */
    assert_int_equal(rotor_train_open(&t, &o, &err), ROTOR_OK);
    assert_int_equal(rotor_train_run(t, &err), ROTOR_E_FORMAT);
    assert_non_null(strstr(err.message, "step 1: a weight of"));
    rotor_train_close(&t);
    assert_int_equal(base_path_kind_of(in_folder("infinite.gguf.checkpoint")), BASE_PATH_NONE);
}

static void a_master_is_where_fine_tuning_starts(void **state) {
    (void)state;
    rotor_error err = {0};
    rotor_train *t = NULL;
    watch w = {0}, again = {0};
    rotor_train_options o = small(in_folder("before.gguf"));
    o.on_step = on_step;
    o.user = &w;
    t = trained(&o);
    assert_int_equal(rotor_train_export(t, in_folder("start.gguf"), "F32", "F32", &err), ROTOR_OK);
    rotor_train_close(&t);
    o.start = in_folder("start.gguf");
    o.tokenizer = NULL;
    o.out = in_folder("after.gguf");
    o.n_embd = o.n_layer = o.n_head = 999; /* the master knows better */
    o.n_ctx = 0;
    o.user = &again;
    t = trained(&o);
    rotor_train_close(&t);
    print_message("held out: %.3f from the start, %.3f from its master\n", w.held, again.held);
    assert_true(again.loss[1] < w.loss[1] - 0.3);
    assert_true(again.held < w.held);
    o.start = in_folder("before.gguf");
    o.out = in_folder("never.gguf");
    assert_int_equal(rotor_train_open(&t, &o, &err), ROTOR_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "is I2_S, ternary: its masters are gone"));
}

static void wrong_input_is_told(void **state) {
    (void)state;
    const struct {
        const char *told; /* in the message */
        rotor_status st;  /* expected */
        int what;         /* is wrong */
    } cases[] = {{"--embd 64 cannot be shared by --heads 3", ROTOR_E_ARG, 0},
                 {"--batch 4 cannot be computed in 3 equal parts", ROTOR_E_ARG, 1},
                 {"does not fit TQ1_0", ROTOR_E_ARG, 2},
                 {"cannot hold the ternary matrices", ROTOR_E_ARG, 3},
                 {"cannot open", ROTOR_E_IO, 4},
                 {"--lr is 2", ROTOR_E_ARG, 5}};
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        rotor_error err = {0};
        rotor_train *t = NULL;
        rotor_train_options o = small(in_folder("wrong.gguf"));
        if (cases[i].what == 0) o.n_head = 3;
        if (cases[i].what == 1) o.accumulate = 3;
        if (cases[i].what == 2) o.type = "TQ1_0";
        if (cases[i].what == 3) o.type = "Q8_0";
        if (cases[i].what == 4) o.tokenizer = in_folder("none.gguf");
        if (cases[i].what == 5) o.lr = 2;
        assert_int_equal(rotor_train_open(&t, &o, &err), cases[i].st);
        if (!strstr(err.message, cases[i].told)) fail_msg("%s", err.message);
        assert_null(t);
    }
}

static void another_tokenizer_is_refused(void **state) {
    (void)state;
    rotor_error err = {0};
    rotor_train *t = NULL;
    const char *tokens[] = {in_folder("one/m.gguf.tokens")};
    rotor_tokenizer_options words = rotor_tokenizer_options_default();
    rotor_train_options o = small(in_folder("other.gguf"));
    o.data = tokens;
    o.steps = 2;
    train_to_end(&o); /* a token file is data, too */
    words.n_vocab = 300;
    assert_int_equal(rotor_train_tokenizer(books, 1, in_folder("fewer.gguf"), &words, &err),
                     ROTOR_OK);
    o.tokenizer = in_folder("fewer.gguf");
    assert_int_equal(rotor_train_open(&t, &o, &err), ROTOR_OK);
    assert_int_equal(rotor_train_run(t, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "made with another tokenizer (of 384 tokens)"));
    rotor_train_close(&t);
}

static void put_file(const char *path, const void *data, size_t n) {
    base_out o;
    assert_int_equal(base_out_open(&o, path, NULL), ROTOR_OK);
    assert_int_equal(base_out_write(&o, data, n, NULL), ROTOR_OK);
    assert_int_equal(base_out_commit(&o, NULL), ROTOR_OK);
}

static void must_fail(const rotor_train_options *o, rotor_status expected, const char *told) {
    rotor_error err = {0};
    rotor_train *t = NULL;
    rotor_status st = rotor_train_open(&t, o, &err);
    if (st == ROTOR_OK) st = rotor_train_run(t, &err);
    rotor_train_close(&t);
    if (st != expected || !strstr(err.message, told))
        fail_msg("status %d (expected %d), message \"%s\" (expected \"%s\")", st, expected,
                 err.message, told);
}

/* The hash says the right tokenizer and the ids are beyond it: no row of the embedding is read. */
static void a_forged_token_file_is_refused(void **state) {
    (void)state;
    const char *tokens[] = {in_folder("forged.tokens")};
    rotor_train_options o = small(in_folder("forged.gguf"));
    base_file f = opened(in_folder("one/m.gguf.tokens"));
    uint8_t *forged = base_alloc(f.size);
    const uint32_t n_vocab = 1 << 30, id = n_vocab - 1;
    memcpy(forged, f.data, f.size);
    memcpy(forged + 12, &n_vocab, 4);
    for (size_t i = 0; i < 2000; i++) memcpy(forged + 64 + 4 * i, &id, 4);
    put_file(tokens[0], forged, f.size);
    base_free(forged);
    base_file_close(&f);
    o.data = tokens;
    must_fail(&o, ROTOR_E_ARG, "another tokenizer (of 1073741824 tokens)");
}

/* What would be lost or come to nothing after hours is refused before the first step. */
static void outputs_are_tried_first(void **state) {
    (void)state;
    char text[256], folder_out[256], token_file[256]; /* in_folder forgets */
    const char *texts[] = {text}, *tokens[] = {token_file};
    rotor_train_options o = small(in_folder("first.gguf"));
    snprintf(token_file, sizeof token_file, "%s", in_folder("one/m.gguf.tokens"));
    snprintf(text, sizeof text, "%s", in_folder("mine.txt"));
    snprintf(folder_out, sizeof folder_out, "%s", in_folder("one"));
    put_file(text, "mine\n", 5);
    o.out = text;
    o.data = texts;
    must_fail(&o, ROTOR_E_ARG, "would overwrite what the model is made from");
    o = small(in_folder("first.gguf"));
    o.out = o.tokenizer;
    must_fail(&o, ROTOR_E_ARG, "would overwrite what the model is made from");
    o.out = folder_out;
    must_fail(&o, ROTOR_E_ARG, "is a folder; give the name of a .gguf file");
    o.out = in_folder("first.gguf");
    o.log = text;
    must_fail(&o, ROTOR_E_FORMAT, "not the log of a run");
    o.log = in_folder("nowhere/first.csv");
    must_fail(&o, ROTOR_E_IO, "nowhere/first.csv: cannot write");
    o.log = NULL;
    o.data = tokens;
    o.out = in_folder("nowhere/first.gguf");
    must_fail(&o, ROTOR_E_IO, "nowhere/first.gguf.checkpoint: cannot write");
    o.resume = true;
    must_fail(&o, ROTOR_E_IO, "leave out --resume");
    base_file f = opened(text);
    assert_int_equal(f.size, 5);
    base_file_close(&f);
}

/* ==== Memory and disk ========================================================================= */

static rotor_status learn_and_train(rotor_error *err) {
    rotor_train *t = NULL;
    rotor_tokenizer_options words = rotor_tokenizer_options_default();
    const char *few[] = {in_folder("few.txt")};
    rotor_train_options o = small(in_folder("few.gguf"));
    words.n_vocab = 270;
    rotor_status st = rotor_train_tokenizer(few, 1, in_folder("few_words.gguf"), &words, err);
    if (st != ROTOR_OK) return st;
    o.tokenizer = in_folder("few_words.gguf");
    o.data = few;
    o.n_embd = o.n_ff = 32;
    o.n_ctx = 16;
    o.steps = 1;
    o.threads = 1;
    o.log = in_folder("few.csv");
    st = rotor_train_open(&t, &o, err);
    if (st == ROTOR_OK) st = rotor_train_run(t, err);
    if (st == ROTOR_OK) st = rotor_train_export(t, in_folder("few_hf"), NULL, "F32", err);
    rotor_train_close(&t);
    return st;
}

static void every_allocation_and_write_may_fail(void **state) {
    (void)state;
    base_out text;
    base_file from = opened(book);
    assert_int_equal(base_out_open(&text, in_folder("few.txt"), NULL), ROTOR_OK);
    assert_int_equal(base_out_write(&text, from.data, 3000, NULL), ROTOR_OK);
    assert_int_equal(base_out_commit(&text, NULL), ROTOR_OK);
    base_file_close(&from);
    assert_true(each_failure_is_told(learn_and_train) > 100);
    char command[300];
    snprintf(command, sizeof command, "ls '%s' '%s' | grep -q part-", folder, in_folder("few_hf"));
    assert_int_not_equal(system(command), 0); /* nothing half-written is left */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_engine_computes_the_trainers_logits),
        cmocka_unit_test(threads_and_recomputing_change_no_bit),
        cmocka_unit_test(a_stopped_run_goes_on_bit_for_bit),
        cmocka_unit_test(parts_of_a_batch_add_up),
        cmocka_unit_test(a_loss_that_is_no_number_stops_and_keeps_the_checkpoint),
        cmocka_unit_test(what_is_no_number_is_not_saved),
        cmocka_unit_test(a_master_is_where_fine_tuning_starts),
        cmocka_unit_test(wrong_input_is_told),
        cmocka_unit_test(another_tokenizer_is_refused),
        cmocka_unit_test(a_forged_token_file_is_refused),
        cmocka_unit_test(outputs_are_tried_first),
        cmocka_unit_test(every_allocation_and_write_may_fail),
    };
    if (!rig_up()) return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    return rig_down() ? failed : 1;
}
