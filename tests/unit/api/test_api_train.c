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
#include <unistd.h>

#include "base/base.h"
#include "rotor.h"
#include "rotor_train.h"

static char folder[] = "/tmp/rotor_train_XXXXXX";
static char book[512]; /* tests/data/train/west_wind.txt */
static const char *books[] = {book};

static const char *in_folder(const char *name) {
    static char path[8][256];
    static int turn;
    char *p = path[turn++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

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

static rotor_train *trained(const rotor_train_options *o) {
    rotor_train *t = NULL;
    rotor_error err = {0};
    rotor_status st = rotor_train_open(&t, o, &err);
    if (st == ROTOR_OK) st = rotor_train_run(t, &err);
    if (st != ROTOR_OK) fail_msg("%s", err.message);
    return t;
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
                {"hf", NULL, true}};
    for (size_t i = 0; i < BASE_COUNT(ways); i++) {
        if (i)
            assert_int_equal(
                rotor_train_export(t, in_folder(ways[i].path), ways[i].type, NULL, &err), ROTOR_OK);
        compare c = against_engine(in_folder(ways[i].path), tokens, N, logits, plan.n_vocab);
        print_message("%-10s %zu of %d rows the same bits, farthest %.1e\n", ways[i].path, c.n_same,
                      N, c.worst);
        if (ways[i].exact) assert_int_equal(c.n_same, N);
        assert_true(c.worst < 0.02);
    }
    base_free(logits);
    rotor_train_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_engine_computes_the_trainers_logits),
    };
    const char *root = getenv("ROTOR_SOURCE_ROOT");
    rotor_tokenizer_options words = rotor_tokenizer_options_default();
    snprintf(book, sizeof book, "%s/tests/data/train/west_wind.txt", root ? root : ".");
    words.n_vocab = 384;
    if (!mkdtemp(folder)) return 1;
    if (rotor_train_tokenizer(books, 1, in_folder("words.gguf"), &words, NULL) != ROTOR_OK)
        return 1;
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    char command[300];
    snprintf(command, sizeof command, "rm -r '%s'", folder);
    return system(command) ? 1 : failed;
}
