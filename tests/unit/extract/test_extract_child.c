/* SPDX-License-Identifier: MIT
 *
 * Programs on a short lead: what they say, what they may not, how their end is told.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/base.h"

static rotor_status collect(void *user, const void *p, size_t n, rotor_error *err) {
    (void)err;
    return base_buf_append(user, p, n) ? ROTOR_OK : ROTOR_E_NOMEM;
}

/* Runs a line of shell; its output in *out. */
static base_child_end shell(const char *line, base_child c, base_buf *out) {
    const char *const argv[] = {"/bin/sh", "-c", line, NULL};
    static const char *const env[] = {"PATH=/usr/bin:/bin", NULL};
    base_child_end end;
    rotor_error err = {0};
    c.argv = argv;
    c.env = env;
    c.output = collect;
    c.user = out;
    assert_int_equal(base_child_run(&c, &end, &err), ROTOR_OK);
    return end;
}

static void output_status_and_errors_come_back(void **state) {
    (void)state;
    base_buf out = {0};
    const base_child_end end =
        shell("echo one; echo 'two\nthree' >&2; exit 7", (base_child){.input_fd = -1}, &out);
    assert_int_equal(end.why, BASE_CHILD_EXITED);
    assert_int_equal(end.status, 7);
    assert_string_equal(out.data, "one\n");
    assert_string_equal(end.errors, "two three");
    base_buf_free(&out);
}

static void much_output_comes_whole(void **state) {
    (void)state;
    base_buf out = {0};
    const base_child_end end = shell("head -c 3000000 /dev/zero; head -c 300000 /dev/zero >&2",
                                     (base_child){.input_fd = -1}, &out);
    assert_int_equal(end.why, BASE_CHILD_EXITED);
    assert_int_equal(out.len, 3000000);
    base_buf_free(&out);
}

/* Descriptor 0 is the file; a secret that is open here is not open there, nor in its surroundings.
 */
static void it_gets_one_descriptor_and_no_surroundings(void **state) {
    (void)state;
    char path[] = "/tmp/rotor_child_XXXXXX";
    const int fd = mkstemp(path), secret = dup(fd);
    base_buf out = {0};
    assert_true(fd >= 0 && write(fd, "hello", 5) == 5);
    lseek(fd, 0, SEEK_SET);
    setenv("ROTOR_TEST_SECRET", "x", 1);
    shell("cat; for f in /proc/self/fd/*; do echo ${f##*/}; done | tail -n +4; echo "
          "s=$ROTOR_TEST_SECRET",
          (base_child){.input_fd = fd}, &out);
    /* The fourth is the shell's own, for the folder it lists. */
    assert_true(strncmp(out.data, "hello", 5) == 0);
    assert_non_null(strstr(out.data, "s=\n"));
    char number[16];
    snprintf(number, sizeof number, "\n%d\n", secret);
    assert_null(secret > 4 ? strstr(out.data, number) : NULL);
    base_buf_free(&out);
    close(fd);
    close(secret);
    unlink(path);
}

static void time_is_up(void **state) {
    (void)state;
    base_buf out = {0};
    base_child c = {.input_fd = -1, .limits = {.wall_ms = 100}};
    base_child_end end;
    do { /* longer, where it did not come to say a */
        c.limits.wall_ms *= 2;
        end = shell("echo a; sleep 600", c, &out);
        assert_int_equal(end.why, BASE_CHILD_WALL);
    } while (!out.len && c.limits.wall_ms < 60000);
    assert_string_equal(out.data, "a\n");
    /* Also when it closes its pipes, and when it goes on without stopping. */
    end = shell("exec >&- 2>&-; sleep 600", c, &out);
    assert_int_equal(end.why, BASE_CHILD_WALL);
    end = shell("while :; do echo x; done", c, &out);
    assert_int_equal(end.why, BASE_CHILD_WALL);
    base_buf_free(&out);
}

static void processor_time_is_up(void **state) {
    (void)state;
    base_buf out = {0};
    const base_child_end end =
        shell("while :; do :; done", (base_child){.input_fd = -1, .limits = {.cpu_s = 1}}, &out);
    assert_int_equal(end.why, BASE_CHILD_CPU);
    base_buf_free(&out);
}

static void it_says_too_much(void **state) {
    (void)state;
    base_buf out = {0};
    base_child_end end =
        shell("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxx; done",
              (base_child){.input_fd = -1, .limits = {.output_bytes = 100000}}, &out);
    assert_int_equal(end.why, BASE_CHILD_OUTPUT);
    assert_true(out.len <= 100000);
    end = shell("exec head -c 100000 /dev/zero >/tmp/rotor_child_big.$$",
                (base_child){.input_fd = -1, .limits = {.file_bytes = 1000}}, &out);
    assert_int_equal(end.why, BASE_CHILD_OUTPUT);
    assert_int_equal(system("rm -f /tmp/rotor_child_big.*"), 0);
    base_buf_free(&out);
}

static void a_signal_is_told(void **state) {
    (void)state;
    base_buf out = {0};
    const base_child_end end = shell("kill -SEGV $$", (base_child){.input_fd = -1}, &out);
    assert_int_equal(end.why, BASE_CHILD_SIGNAL);
    assert_int_equal(end.status, 11);
    base_buf_free(&out);
}

/* What a child leaves behind is killed with it, also where it holds the pipe open. */
static void nothing_stays_behind(void **state) {
    (void)state;
    base_buf out = {0};
    const uint64_t start = base_now_us();
    shell("sleep 240 & echo $!", (base_child){.input_fd = -1}, &out);
    assert_true(base_now_us() - start < 200000000);
    const pid_t left = (pid_t)atol(out.data);
    assert_true(left > 1);
    char path[64], word[8] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)left);
    for (int i = 0; i < 6000; i++) { /* gone, or a zombie of whoever takes orphans */
        FILE *f = fopen(path, "r");
        if (!f) break;
        const bool read = fscanf(f, "%*d %*s %7s", word) == 1;
        fclose(f);
        if (!read || word[0] == 'Z') break;
        base_sleep_us(10000);
    }
    assert_true(access(path, F_OK) != 0 || word[0] == 'Z');
    base_buf_free(&out);
}

static void what_is_not_there_is_said(void **state) {
    (void)state;
    const char *const argv[] = {"/nonexistent/program", NULL};
    base_child_end end;
    rotor_error err = {0};
    const base_child c = {.argv = argv, .input_fd = -1};
    assert_int_equal(base_child_run(&c, &end, &err), ROTOR_E_NOTFOUND);
    assert_non_null(strstr(err.message, "/nonexistent/program"));
}

static rotor_status refuse(void *user, const void *p, size_t n, rotor_error *err) {
    (void)user, (void)p, (void)n;
    return base_fail(err, ROTOR_E_CANCELLED, "enough");
}

static void the_listener_can_stop_it(void **state) {
    (void)state;
    const char *const argv[] = {"/bin/sh", "-c", "while :; do echo x; done", NULL};
    base_child_end end;
    rotor_error err = {0};
    const base_child c = {.argv = argv, .input_fd = -1, .output = refuse};
    assert_int_equal(base_child_run(&c, &end, &err), ROTOR_E_CANCELLED);
    assert_string_equal(err.message, "enough");
}

/* This program again, as a child that tries what it may not. */
static int try_forbidden(const char *what) {
    if (strcmp(what, "socket") == 0) return socket(AF_INET, SOCK_STREAM, 0) >= 0;
    if (strcmp(what, "fork") == 0) {
        const pid_t pid = fork();
        if (pid == 0) _exit(0);
        if (pid > 0) waitpid(pid, NULL, 0);
        return pid > 0;
    }
    if (strcmp(what, "memory") == 0) {
        void *volatile p = malloc((size_t)512 << 20); /* volatile: a compiler may leave it out */
        return p != NULL;
    }
    if (!base_lock_self()) return 2;
    if (strcmp(what, "open") == 0) return open("/etc/passwd", O_RDONLY) >= 0;
    if (strcmp(what, "kill") == 0) return kill(getppid(), 0) == 0;
    char *p = malloc(1 << 20); /* what is left must work */
    if (!p) return 3;
    memset(p, 1, 1 << 20);
    free(p);
    return write(1, "ok", 2) == 2 ? 4 : 5;
}

static int run_forbidden(const char *what, base_child_limits limits) {
    const char *const argv[] = {"/proc/self/exe", "--try", what, NULL};
    base_child_end end;
    rotor_error err = {0};
    const base_child c = {.argv = argv, .input_fd = -1, .limits = limits};
    assert_int_equal(base_child_run(&c, &end, &err), ROTOR_OK);
    assert_int_equal(end.why, BASE_CHILD_EXITED);
    return end.status;
}

static void what_is_forbidden_fails(void **state) {
    (void)state;
    if (BASE_CHECKED_BUILD) skip(); /* nothing is locked under a checker */
    const base_child_limits none = {0}, no_net = {.no_network = true};
    const base_child_limits alone = {.no_network = true, .no_processes = true};
    assert_int_equal(run_forbidden("socket", none), 1);
    assert_int_equal(run_forbidden("socket", no_net), 0);
    assert_int_equal(run_forbidden("fork", no_net), 1);
    assert_int_equal(run_forbidden("fork", alone), 0);
    assert_int_equal(run_forbidden("memory", none), 1);
    assert_int_equal(run_forbidden("memory", (base_child_limits){.memory_bytes = 256 << 20}), 0);
    assert_int_equal(run_forbidden("open", none), 0);
    assert_int_equal(run_forbidden("kill", none), 0);
    assert_int_equal(run_forbidden("rest", none), 4);
}

/* No number from 10 on may be used: the child cannot set up its own, and says so. */
static void a_child_without_descriptors_says_so(void **state) {
    (void)state;
    const char *const argv[] = {"/bin/true", NULL};
    const base_child c = {.argv = argv, .input_fd = -1};
    struct rlimit old, few;
    base_child_end end;
    rotor_error err = {0};
    for (int fd = 3; fd < 10; fd++)
        if (fcntl(fd, F_GETFD) >= 0) skip(); /* its pipes need them all */
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
    few = (struct rlimit){.rlim_cur = 10, .rlim_max = old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
    const rotor_status st = base_child_run(&c, &end, &err);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
    assert_int_equal(st, ROTOR_E_IO);
    assert_non_null(strstr(err.message, "Invalid argument"));
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(output_status_and_errors_come_back),
        cmocka_unit_test(much_output_comes_whole),
        cmocka_unit_test(it_gets_one_descriptor_and_no_surroundings),
        cmocka_unit_test(time_is_up),
        cmocka_unit_test(processor_time_is_up),
        cmocka_unit_test(it_says_too_much),
        cmocka_unit_test(a_signal_is_told),
        cmocka_unit_test(nothing_stays_behind),
        cmocka_unit_test(what_is_not_there_is_said),
        cmocka_unit_test(a_child_without_descriptors_says_so),
        cmocka_unit_test(the_listener_can_stop_it),
        cmocka_unit_test(what_is_forbidden_fails),
    };
    if (argc == 3 && strcmp(argv[1], "--try") == 0) return try_forbidden(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
