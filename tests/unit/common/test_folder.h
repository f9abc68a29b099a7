/* SPDX-License-Identifier: MIT
 *
 * A folder of its own for a test program: made and dropped by cmocka's group functions.
 *
 *     return cmocka_run_group_tests(tests, make_folder, drop_folder);
 *
 * Header only, included by the one file of a program that needs it, after <cmocka.h>.
 */
#ifndef TEST_FOLDER_H
#define TEST_FOLDER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

static char folder[] = "/tmp/rotor-test-XXXXXX";

static inline int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static inline int drop_folder(void **state) {
    (void)state;
    char command[64];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command);
}

/* The path of a name in the folder. Good until the eighth call after this one. */
static inline const char *in_folder(const char *name) {
    static char path[8][256];
    static int turn;
    char *p = path[turn++ % 8];
    snprintf(p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static inline const char *write_file(const char *name, const char *text, size_t n) {
    const char *path = in_folder(name);
    base_out o;
    assert_int_equal(base_out_open(&o, path, NULL), ROTOR_OK);
    assert_int_equal(base_out_write(&o, text, n, NULL), ROTOR_OK);
    assert_int_equal(base_out_commit(&o, NULL), ROTOR_OK);
    return path;
}

static inline const char *write_text(const char *name, const char *text) {
    return write_file(name, text, strlen(text));
}

#endif
