/* SPDX-License-Identifier: MIT
 *
 * The public API from file to text while something fails: each allocation and read in turn, and
 * each length a cut file can have. Every run must end in success or in one clear error, with
 * nothing leaked (the address checker's build watches) and nothing half made.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>
#include <unistd.h>

#include "base/base.h"
#include "rotor.h"
#include "tiny_model.h"

static const tiny_shape smallest = {1, 256, 2, 1, 256, 97, 128};

/* Opens, generates eight tokens, closes. */
static rotor_status whole_path(const char *path, bool no_mmap, rotor_error *err) {
    rotor_engine_options opt = rotor_engine_options_default();
    rotor_gen_options gen = rotor_gen_options_default(NULL);
    rotor_engine *e = NULL;
    rotor_session *s = NULL;
    rotor_gen_result result = {0};
    opt.threads = 1;
    opt.no_mmap = no_mmap;
    gen.max_tokens = 8;
    gen.ignore_eog = true;
    rotor_status st = rotor_engine_open(&e, path, &opt, err);
    if (st == ROTOR_OK) st = rotor_session_create(&s, e, 0, err);
    if (st == ROTOR_OK) st = rotor_generate_text(s, "some words", &gen, &result, err);
    if (st == ROTOR_OK) assert_int_equal(result.n_ids, 8);
    rotor_gen_result_free(&result);
    rotor_session_free(&s);
    rotor_engine_close(&e);
    assert_null(e);
    assert_null(s);
    return st;
}

static void every_allocation_and_read_may_fail(void **state) {
    (void)state;
    char path[96];
    for (int no_mmap = 0; no_mmap < 2; no_mmap++)
        for (int kind = 0; kind < TINY_KINDS; kind += 2) {
            bool fired = true;
            tiny_write(tiny_path(path, "fault.gguf"), (tiny_kind)kind, smallest, 1, NULL);
            for (long n = 1; fired; n++) {
                rotor_error err = {0};
                base_fault_after(n);
                rotor_status st = whole_path(path, no_mmap, &err);
                fired = base_fault_fired();
                base_fault_after(0);
                if (!fired) assert_int_equal(st, ROTOR_OK);
                if (st != ROTOR_OK) assert_true(strlen(err.message) > 10);
                assert_true(n < 20000);
            }
            unlink(path);
        }
}

static void every_cut_is_an_error(void **state) {
    (void)state;
    char path[96];
    base_file f;
    rotor_engine_options opt = rotor_engine_options_default();
    opt.threads = 1;
    tiny_write(tiny_path(path, "cut.gguf"), TINY_BITNET, smallest, 2, NULL);
    assert_int_equal(base_file_open(&f, path, false, NULL), ROTOR_OK);
    for (size_t n = 0; n + 32 < f.size;
         n += n < 8192 ? 1 : 61) { /* the header whole, data in steps */
        rotor_engine *e = NULL;
        rotor_error err = {0};
        uint8_t *exact = malloc(n ? n : 1); /* a block of this size: reading past it shows */
        memcpy(exact, f.data, n);
        assert_int_not_equal(rotor_engine_open_memory(&e, exact, n, "cut.gguf", &opt, &err),
                             ROTOR_OK);
        assert_null(e);
        assert_non_null(strstr(err.message, "cut.gguf"));
        free(exact);
    }
    base_file_close(&f);
    unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_and_read_may_fail),
        cmocka_unit_test(every_cut_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
