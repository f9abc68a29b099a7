/* SPDX-License-Identifier: MIT
 *
 * One file through another process: every way it can end is told as a reason and a sentence. The
 * program is rotor-extract, or a script that plays one which was taken over.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/base.h"

typedef struct ran {
    rotor_status status; /* of base_extract_run */
    base_reason reason;  /* of its failure */
    rotor_error err;     /* its sentence */
    size_t n_blocks;     /* given before the end */
    size_t n_bytes;      /* of their text */
} ran;

static rotor_status count(void *user, const base_block *b, rotor_error *err) {
    ran *r = user;
    (void)err;
    r->n_blocks++;
    r->n_bytes += b->text.n;
    return ROTOR_OK;
}

static rotor_status stop(void *user, const base_block *b, rotor_error *err) {
    (void)b;
    ((ran *)user)->n_blocks++;
    return base_fail(err, ROTOR_E_CANCELLED, "enough");
}

/* A file of its own, gone once it is closed. */
static int file_of(const char *unit, size_t times) {
    char path[] = "/tmp/rotor_document_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    unlink(path);
    FILE *f = fdopen(dup(fd), "w");
    assert_non_null(f);
    for (size_t i = 0; i < times; i++) fputs(unit, f);
    assert_int_equal(fclose(f), 0);
    return fd;
}

static ran run(const char *program, int fd, base_child_limits limits, base_block_fn fn) {
    ran r = {0};
    const base_extract x = {
        .program = program, .name = "n.txt", .fd = fd, .limits = limits, .block = fn, .user = &r};
    r.status = base_extract_run(&x, &r.reason, &r.err);
    close(fd);
    if (r.status != ROTOR_OK) {
        assert_int_equal(r.err.code, r.status);
        assert_true(r.err.message[0] && !strchr(r.err.message, '\n'));
    }
    return r;
}

static const char *parser(void) {
    static char path[4096];
    const char *rotor = getenv("ROTOR_BINARY"), *slash = rotor ? strrchr(rotor, '/') : NULL;
    snprintf(path, sizeof path, "%.*s/rotor-extract", slash ? (int)(slash - rotor) : 1,
             slash ? rotor : ".");
    return path;
}

/* A program of one shell line in the place of the parser. */
static ran pretend(const char *line, base_child_limits limits) {
    char path[] = "/tmp/rotor_parser_XXXXXX";
    const int fd = mkstemp(path);
    assert_true(fd >= 0);
    dprintf(fd, "#!/bin/sh\n%s\n", line);
    fchmod(fd, 0700);
    close(fd);
    const ran r = run(path, file_of("text", 1), limits, count);
    unlink(path);
    return r;
}

static void blocks_come(void **state) {
    (void)state;
    const ran r = run(parser(), file_of("one\n\n", 3), base_extract_limits(), count);
    assert_int_equal(r.status, ROTOR_OK);
    assert_int_equal(r.reason, BASE_REASON_NONE);
    assert_int_equal(r.n_blocks, 4);
}

static void the_caller_can_stop(void **state) {
    (void)state;
    const ran r = run(parser(), file_of("one\n\n", 3), base_extract_limits(), stop);
    assert_int_equal(r.status, ROTOR_E_CANCELLED);
    assert_int_equal(r.reason, BASE_REASON_NONE);
    assert_int_equal(r.n_blocks, 1);
    assert_string_equal(r.err.message, "enough");
}

static void what_the_parser_says_is_passed_on(void **state) {
    (void)state;
    const ran r = run(parser(), file_of(" \n", 9), base_extract_limits(), count);
    assert_int_equal(r.status, ROTOR_E_FORMAT);
    assert_int_equal(r.reason, BASE_REASON_EMPTY);
    assert_true(strncmp(r.err.message, "empty: ", 7) == 0);
}

static void limits_are_told(void **state) {
    (void)state;
    base_child_limits l = base_extract_limits();
    l.output_bytes = 100000;
    ran r = run(parser(), file_of("word word word\n\n", 20000), l, count);
    assert_int_equal(r.reason, BASE_REASON_TOO_LARGE);
    assert_true(r.n_bytes > 0 && r.n_bytes <= 100000);
    l = base_extract_limits();
    l.wall_ms = 300;
    r = pretend("sleep 30", l);
    assert_int_equal(r.reason, BASE_REASON_TIMEOUT);
    l = base_extract_limits();
    l.cpu_s = 1;
    r = pretend("while :; do :; done", l);
    assert_int_equal(r.reason, BASE_REASON_TIMEOUT);
    if (BASE_CHECKED_BUILD) return; /* no limit of memory under a checker */
    l = base_extract_limits();
    l.memory_bytes = 48 << 20;
    r = run(parser(), file_of("caf\xE9 and more words\n", 1000000), l, count);
    assert_int_equal(r.reason, BASE_REASON_MEMORY);
    assert_int_equal(r.status, ROTOR_E_NOMEM);
}

static void a_parser_that_was_taken_over_is_refused(void **state) {
    (void)state;
    static const char *const lines[] = {
        "exit 0",                                                            /* no end */
        "exit 3",                                                            /* nor a beginning */
        "kill -SEGV $$",                                                     /* dead */
        "echo Hello",                                                        /* another program */
        "printf RXBLOCK1",                                                   /* cut */
        "printf 'RXBLOCK1\\377\\377\\377\\377\\004'; head -c 100 /dev/zero", /* 4 GiB to come */
    };
    for (size_t i = 0; i < BASE_COUNT(lines); i++) {
        const ran r = pretend(lines[i], base_extract_limits());
        assert_int_equal(r.status, ROTOR_E_FORMAT);
        assert_int_equal(r.reason, BASE_REASON_CRASHED);
        assert_int_equal(r.n_blocks, 0);
    }
}

static void a_parser_that_is_not_there_is_missing(void **state) {
    (void)state;
    const ran r = run("/nonexistent/rotor-extract", file_of("x", 1), base_extract_limits(), count);
    assert_int_equal(r.reason, BASE_REASON_MISSING_TOOL);
    assert_int_equal(r.status, ROTOR_E_NOTFOUND);
}

static void every_failed_allocation_is_told(void **state) {
    (void)state;
    bool fired = true;
    for (long n = 1; fired && n < 200; n++) {
        const int fd = file_of("one\n\n", 3);
        base_fault_after(n);
        const ran r = run(parser(), fd, base_extract_limits(), count);
        fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(r.status, fired ? ROTOR_E_NOMEM : ROTOR_OK);
    }
    assert_false(fired);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_come),
        cmocka_unit_test(the_caller_can_stop),
        cmocka_unit_test(what_the_parser_says_is_passed_on),
        cmocka_unit_test(limits_are_told),
        cmocka_unit_test(a_parser_that_was_taken_over_is_refused),
        cmocka_unit_test(a_parser_that_is_not_there_is_missing),
        cmocka_unit_test(every_failed_allocation_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
