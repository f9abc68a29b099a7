/* SPDX-License-Identifier: MIT
 *
 * Checkpoints and logs: what is written is read back; a write that fails at any point leaves the
 * old file; a damaged or foreign file is told.
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
#include <unistd.h>

#include "train/train.h"

static char path[] = "/tmp/rotor_checkpoint_XXXXXX";

static train_settings settings(void) {
    train_settings s;
    memset(&s, 0, sizeof s);
    s.shape = (train_shape){.n_vocab = 20,
                            .n_embd = 8,
                            .n_layer = 1,
                            .n_head = 2,
                            .n_head_kv = 1,
                            .d_head = 4,
                            .n_ff = 8,
                            .n_ctx = 8,
                            .rope_base = 10000,
                            .eps = 1e-5f};
    s.schedule = (train_schedule){.lr = 0.01f, .decay = 0.1f, .steps = 70, .warm_steps = 3};
    s.opt = train_adamw_default();
    s.batch = 4;
    s.accumulate = 2;
    s.seed = 9;
    return s;
}

typedef struct state {
    train_settings set; /* of the run */
    train_vectors x;    /* owned */
    size_t n;           /* floats */
} state;

static state make(float start) {
    state s = {.set = settings()};
    s.n = train_n_params(&s.set.shape);
    float **list[] = {&s.x.params, &s.x.grads, &s.x.m, &s.x.v};
    for (size_t i = 0; i < 4; i++) {
        *list[i] = base_alloc_array(s.n, sizeof(float));
        for (size_t k = 0; k < s.n; k++) (*list[i])[k] = start + (float)(i * s.n + k);
    }
    return s;
}

static void drop(state *s) {
    base_free(s->x.params);
    base_free(s->x.grads);
    base_free(s->x.m);
    base_free(s->x.v);
}

static void what_is_saved_is_loaded(void **unused) {
    (void)unused;
    rotor_error err;
    uint64_t step, steps;
    state a = make(1), b = make(0);
    assert_int_equal(train_checkpoint_save(path, &a.set, 33, &a.x, &err), ROTOR_OK);
    assert_int_equal(train_checkpoint_peek(path, &step, &steps, &err), ROTOR_OK);
    assert_int_equal(step, 33);
    assert_int_equal(steps, 70);
    step = 0;
    assert_int_equal(train_checkpoint_load(path, &b.set, &step, &b.x, &err), ROTOR_OK);
    assert_int_equal(step, 33);
    assert_memory_equal(a.x.params, b.x.params, a.n * sizeof(float));
    assert_memory_equal(a.x.m, b.x.m, a.n * sizeof(float));
    assert_memory_equal(a.x.v, b.x.v, a.n * sizeof(float));
    drop(&a);
    drop(&b);
}

static void a_failed_write_leaves_the_old_one(void **unused) {
    (void)unused;
    rotor_error err;
    uint64_t step = 0;
    state a = make(1), b = make(2);
    assert_int_equal(train_checkpoint_save(path, &a.set, 1, &a.x, &err), ROTOR_OK);
    long n = 1;
    for (;; n++) {
        base_fault_after(n);
        const rotor_status st = train_checkpoint_save(path, &b.set, 2, &b.x, &err);
        base_fault_after(0);
        if (st == ROTOR_OK) break;
        assert_true(st == ROTOR_E_IO || st == ROTOR_E_NOMEM);
        assert_int_equal(train_checkpoint_load(path, &a.set, &step, &a.x, &err), ROTOR_OK);
        assert_int_equal(step, 1);
        char part[128];
        snprintf(part, sizeof part, "%s.part-%ld", path, (long)getpid());
        assert_int_equal(base_path_kind_of(part), BASE_PATH_NONE);
    }
    print_message("%ld points of failure\n", n - 1);
    assert_true(n > 3);
    assert_int_equal(train_checkpoint_load(path, &a.set, &step, &a.x, &err), ROTOR_OK);
    assert_int_equal(step, 2);
    drop(&a);
    drop(&b);
}

static void write_bytes(const uint8_t *data, size_t n) {
    base_out o;
    assert_int_equal(base_out_open(&o, path, NULL), ROTOR_OK);
    assert_int_equal(base_out_write(&o, data, n, NULL), ROTOR_OK);
    assert_int_equal(base_out_commit(&o, NULL), ROTOR_OK);
}

static void damage_is_found(void **unused) {
    (void)unused;
    rotor_error err;
    uint64_t step = 5;
    base_file f;
    state a = make(1), b = make(0);
    assert_int_equal(train_checkpoint_save(path, &a.set, 1, &a.x, &err), ROTOR_OK);
    assert_int_equal(base_file_open(&f, path, false, &err), ROTOR_OK);
    uint8_t *copy = base_alloc(f.size);
    for (size_t i = 0; i < f.size; i += i < 240 ? 1 : 61) { /* one byte turned over */
        memcpy(copy, f.data, f.size);
        copy[i] ^= 16;
        write_bytes(copy, f.size);
        const rotor_status st = train_checkpoint_load(path, &b.set, &step, &b.x, &err);
        const bool version = i >= 8 && i < 16; /* nobody knows what another one looks like */
        assert_int_equal(st, version ? ROTOR_E_UNSUPPORTED : ROTOR_E_FORMAT);
    }
    for (size_t cut = 0; cut < f.size; cut += 37) {
        write_bytes(f.data, cut);
        assert_int_equal(train_checkpoint_load(path, &b.set, &step, &b.x, &err), ROTOR_E_FORMAT);
    }
    assert_int_equal(step, 5);
    assert_true(b.x.params[0] == 0);
    base_free(copy);
    base_file_close(&f);
    drop(&a);
    drop(&b);
}

static void other_settings_are_named(void **unused) {
    (void)unused;
    rotor_error err;
    uint64_t step;
    state a = make(1);
    assert_int_equal(train_checkpoint_save(path, &a.set, 1, &a.x, &err), ROTOR_OK);
    train_settings other = a.set;
    other.batch = 8;
    assert_int_equal(train_checkpoint_load(path, &other, &step, &a.x, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "training began with --batch 4, now it is 8"));
    other = a.set;
    other.content_hash++;
    assert_int_equal(train_checkpoint_load(path, &other, &step, &a.x, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "the data differs"));
    other = a.set;
    other.schedule.one_stage = true;
    assert_int_equal(train_checkpoint_load(path, &other, &step, &a.x, &err), ROTOR_E_ARG);
    assert_non_null(strstr(err.message, "--one-stage off, now it is on"));
    drop(&a);
}

static void a_log_is_read_back_up_to_a_step(void **unused) {
    (void)unused;
    rotor_error err;
    train_log l = {0}, again = {0};
    for (uint64_t i = 1; i <= 300; i++)
        assert_int_equal(train_log_add(&l,
                                       (train_row){i, 3.0 / (double)i + 1.0 / 3,
                                                   i % 50 ? (double)NAN : 2.5, 1000.0 + (double)i},
                                       &err),
                         ROTOR_OK);
    assert_int_equal(train_log_write_csv(&l, path, &err), ROTOR_OK);
    assert_int_equal(train_log_read(&again, path, 120, &err), ROTOR_OK);
    assert_int_equal(again.n, 120);
    for (size_t i = 0; i < again.n; i++) {
        assert_true(fabs(l.rows[i].loss - again.rows[i].loss) < 1e-8);
        assert_true(isnan(l.rows[i].held) == isnan(again.rows[i].held));
    }
    assert_int_equal(train_log_write_svg(&l, path, &err), ROTOR_OK);
    assert_int_equal(train_log_read(&again, path, 120, &err), ROTOR_E_FORMAT); /* no log */
    train_log_free(&again);
    assert_int_equal(train_log_write_svg(&again, path, &err), ROTOR_OK); /* of nothing */
    train_log_free(&l);
}

static void write_string(const char *text) { write_bytes((const uint8_t *)text, strlen(text)); }

#define HEAD "step,loss,heldout_loss,tok_per_s\n"

static void a_log_that_is_damaged_or_none_is_refused(void **unused) {
    (void)unused;
    const struct {
        const char *text; /* of the file */
        const char *told; /* in the message; NULL: it can be read */
        size_t n;         /* rows up to step 2 */
    } cases[] = {{"", NULL, 0},
                 {HEAD, NULL, 0},
                 {HEAD "1,2.5,,10\n2,2.25,3,11\n3,2,,12\n", NULL, 2},
                 {HEAD "1,2.5,,10\n2,1e-05,3,11", NULL, 2},
                 {HEAD "2,2.5,,10\n3,oops\n", NULL, 1}, /* cut off before anybody reads it */
                 {"a book\n", "first line is step,loss", 0},
                 {HEAD "1,2.5,,10\r", "line 2", 0},
                 {HEAD "1,2.5,,10\n2,oops,,1\n", "line 3", 0},
                 {HEAD "1,inf,,10\n", "line 2", 0},
                 {HEAD "1,nan,,10\n", "line 2", 0},
                 {HEAD "1,1e41,,10\n", "line 2", 0},
                 {HEAD "1,2.5,\n3,4,,5\n", "line 2", 0},
                 {HEAD "-1,2.5,,10\n", "line 2", 0},
                 {HEAD "0,2.5,,10\n", "line 2", 0},
                 {HEAD "1,2.5,,10\n1,2.5,,10\n", "line 3", 0},
                 {HEAD "1,2.5,,10 \n", "line 2", 0},
                 {HEAD "\n", "line 2", 0}};
    for (size_t i = 0; i < BASE_COUNT(cases); i++) {
        rotor_error err = {0};
        train_log l = {0};
        write_string(cases[i].text);
        const rotor_status st = train_log_read(&l, path, 2, &err);
        if (st != (cases[i].told ? ROTOR_E_FORMAT : ROTOR_OK))
            fail_msg("case %zu: status %d %s", i, st, err.message);
        if (cases[i].told && !strstr(err.message, cases[i].told)) fail_msg("%s", err.message);
        if (!cases[i].told) assert_int_equal(l.n, cases[i].n);
        train_log_free(&l);
    }
}

/* Losses of any size have a border above them and a dozen lines at most. */
static void any_losses_can_be_plotted(void **unused) {
    (void)unused;
    const double pairs[][2] = {{1e30, 1e30}, {0, 0},       {-1e40, 1e40},  {1e-300, 2e-300},
                               {5, 5},       {1e17, 1e17}, {3, 3 + 1e-12}, {1e40, 1}};
    for (size_t i = 0; i < BASE_COUNT(pairs); i++) {
        rotor_error err;
        base_file f;
        train_log l = {0};
        for (uint64_t k = 0; k < 2; k++)
            assert_int_equal(
                train_log_add(&l, (train_row){k ? UINT64_MAX : 1, pairs[i][k], (double)NAN, 1},
                              &err),
                ROTOR_OK);
        assert_int_equal(train_log_write_svg(&l, path, &err), ROTOR_OK);
        assert_int_equal(base_file_open(&f, path, false, &err), ROTOR_OK);
        assert_in_range(f.size, 500, 8000);
        assert_null(memmem(f.data, f.size, "nan", 3));
        assert_null(memmem(f.data, f.size, "inf", 3));
        base_file_close(&f);
        train_log_free(&l);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_saved_is_loaded),
        cmocka_unit_test(a_failed_write_leaves_the_old_one),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(other_settings_are_named),
        cmocka_unit_test(a_log_is_read_back_up_to_a_step),
        cmocka_unit_test(a_log_that_is_damaged_or_none_is_refused),
        cmocka_unit_test(any_losses_can_be_plotted),
    };
    const int fd = mkstemp(path);
    if (fd < 0) return 1;
    close(fd);
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
