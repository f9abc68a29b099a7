/* SPDX-License-Identifier: MIT
 *
 * What the tests of training through the public interface start from: a folder of their own, a
 * public-domain book, and a vocabulary of 384 tokens learnt from it.
 */
#ifndef TRAIN_RIG_H
#define TRAIN_RIG_H

#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"
#include "rotor.h"
#include "rotor_train.h"
#include "test_folder.h"

static char book[512]; /* tests/data/train/west_wind.txt */
static const char *books[] = {book};

static rotor_train *trained(const rotor_train_options *o) {
    rotor_train *t = NULL;
    rotor_error err = {0};
    rotor_status st = rotor_train_open(&t, o, &err);
    if (st == ROTOR_OK) st = rotor_train_run(t, &err);
    if (st != ROTOR_OK) fail_msg("%s", err.message);
    return t;
}

/* Lets the first allocation, read or write of a run fail, then the second, and so on until there
 * are no more; under slow checkers every ninth. Returns how many there are. */
static long each_failure_is_told(rotor_status (*run)(rotor_error *err)) {
    const long step = getenv("ROTOR_TEST_QUICK") ? 9 : 1;
    for (long n = 1;; n += step) {
        rotor_error err = {0};
        base_fault_after(n);
        const rotor_status st = run(&err);
        const bool fired = base_fault_fired();
        base_fault_after(0);
        if (st != ROTOR_OK && !*err.message) fail_msg("failure %ld has no message", n);
        if (fired) continue;
        if (st != ROTOR_OK) fail_msg("%s", err.message);
        print_message("%ld points of failure\n", n - 1);
        return n - 1;
    }
}

static bool rig_up(void) {
    const char *root = getenv("ROTOR_SOURCE_ROOT");
    rotor_tokenizer_options words = rotor_tokenizer_options_default();
    snprintf(book, sizeof book, "%s/tests/data/train/west_wind.txt", root ? root : ".");
    words.n_vocab = 384;
    return make_folder(NULL) == 0 &&
           rotor_train_tokenizer(books, 1, in_folder("words.gguf"), &words, NULL) == ROTOR_OK;
}

static bool rig_down(void) { return drop_folder(NULL) == 0; }

#endif
