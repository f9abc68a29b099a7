/* SPDX-License-Identifier: MIT
 *
 * Sockets with a path and sockets that were handed over, the word to a service manager, and the
 * cage: in a child that enters it, what is forbidden is refused and what is needed goes on.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/service.h"
#include "test_folder.h"

/* ---- Sockets ------------------------------------------------------------------------------------
 */

static int connect_to(const char *path) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
    const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0) return fd;
    close(fd);
    return -1;
}

static void a_socket_with_a_path_is_ours_alone(void **state) {
    (void)state;
    struct stat st;
    rotor_error err;
    int fd, again;
    const char *path = in_folder("s.sock");
    assert_int_equal(base_listen_path(path, &fd, &err), ROTOR_OK);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    const int client = connect_to(path);
    assert_true(client >= 0);
    close(client);
    assert_int_equal(base_listen_path(path, &again, &err), ROTOR_E_IO);
    assert_non_null(strstr(err.message, "another program listens there"));
    close(fd); /* as after a crash: the name stays, nobody answers */
    assert_int_equal(connect_to(path), -1);
    assert_int_equal(base_listen_path(path, &fd, &err), ROTOR_OK);
    base_unlisten_path(path, fd);
    assert_int_equal(stat(path, &st), -1);
    close(fd);
}

static void no_file_makes_way_for_a_socket(void **state) {
    (void)state;
    char lengthy[200];
    rotor_error err;
    int fd;
    const char *path = in_folder("letter");
    FILE *f = fopen(path, "w");
    fputs("dear", f);
    fclose(f);
    assert_int_equal(base_listen_path(path, &fd, &err), ROTOR_E_IO);
    assert_non_null(strstr(err.message, "no socket has this name"));
    assert_int_equal(access(path, R_OK), 0);
    memset(lengthy, 'x', sizeof lengthy);
    lengthy[sizeof lengthy - 1] = 0;
    assert_int_equal(base_listen_path(lengthy, &fd, &err), ROTOR_E_ARG);
    assert_int_equal(base_listen_path("", &fd, &err), ROTOR_E_ARG);
    assert_int_equal(base_listen_path(in_folder("no/where"), &fd, &err), ROTOR_E_IO);
}

static void sockets_that_are_handed_over(void **state) {
    (void)state;
    char pid[32];
    base_given given;
    rotor_error err;
    uint16_t port;
    base_ip reach;
    int fd, pipes[2];
    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    assert_int_equal(base_count_given(pid, "1"), 1);
    assert_int_equal(base_count_given("1", "1"), 0); /* for somebody else */
    assert_int_equal(base_count_given(pid, NULL), 0);
    assert_int_equal(base_count_given(NULL, "1"), 0);
    assert_int_equal(base_count_given(pid, "-3"), 0);
    assert_int_equal(base_listen("127.0.0.1", 0, &fd, &port, &reach, &err), ROTOR_OK);
    assert_int_equal(base_take_socket(fd, &given, &err), ROTOR_OK);
    assert_true(!given.path && given.port == port && given.reach == BASE_IP_LOOPBACK);
    close(fd);
    assert_int_equal(base_listen("0.0.0.0", 0, &fd, &port, &reach, &err), ROTOR_OK);
    assert_int_equal(base_take_socket(fd, &given, &err), ROTOR_OK);
    assert_int_equal(given.reach, BASE_IP_ANY);
    close(fd);
    assert_int_equal(base_listen_path(in_folder("given"), &fd, &err), ROTOR_OK);
    assert_int_equal(base_take_socket(fd, &given, &err), ROTOR_OK);
    assert_true(given.path && given.port == 0 && given.reach == BASE_IP_LOOPBACK);
    close(fd);
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(base_take_socket(pipes[0], &given, &err), ROTOR_E_ARG);
    close(pipes[0]);
    close(pipes[1]);
    fd = socket(AF_INET, SOCK_STREAM, 0); /* one that does not listen */
    assert_int_equal(base_take_socket(fd, &given, &err), ROTOR_E_ARG);
    close(fd);
}

static void a_word_to_the_manager(void **state) {
    (void)state;
    rotor_error err;
    char got[64] = "";
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd;
    const int manager = socket(AF_UNIX, SOCK_DGRAM, 0);
    snprintf(a.sun_path, sizeof a.sun_path, "%s", in_folder("notify"));
    assert_int_equal(bind(manager, (struct sockaddr *)&a, sizeof a), 0);
    assert_int_equal(base_notify_open(a.sun_path, &fd, &err), ROTOR_OK);
    base_notify(fd, "READY=1\n");
    assert_int_equal(recv(manager, got, sizeof got - 1, 0), 8);
    assert_string_equal(got, "READY=1\n");
    close(manager);
    base_notify(fd, "READY=1\n"); /* nobody listens: no signal, no error */
    base_notify(-1, "READY=1\n");
    base_close_socket(fd);
    assert_int_equal(base_notify_open("no-path", &fd, &err), ROTOR_E_ARG);
    assert_int_equal(base_notify_open(in_folder("nobody"), &fd, &err), ROTOR_E_IO);
}

/* ---- The cage -----------------------------------------------------------------------------------
 */

static void nothing(void *arg) { *(int *)arg = 1; }

/* 0, or the first thing that is not as it should be. */
static int first_fault(const base_caged *c) {
    int ran = 0, fd;
    base_thread *t;
    if (c->calls) {
        if (socket(AF_INET, SOCK_STREAM, 0) >= 0 || errno != EPERM) return 1;
        if (socket(AF_UNIX, SOCK_STREAM, 0) >= 0 || errno != EPERM) return 2;
        const pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (pid == 0) _exit(0);
        if (pid > 0 || errno != EPERM) return 3;
        if (fork() >= 0) return 4;
        execl("/bin/true", "true", (char *)NULL);
        if (errno != EPERM) return 5;
        if (ptrace(PTRACE_TRACEME, 0, 0, 0) == 0 || errno != EPERM) return 6;
        if (syscall(SYS_io_uring_setup, 1, NULL) >= 0 || errno != EPERM) return 7;
        if (ioctl(-1, TIOCSTI, "x") == 0 || errno != EPERM) return 8;
        if (ioctl(-1, TIOCGWINSZ, NULL) == 0 || errno != EBADF) return 9;
    }
    if (c->files) {
        if (open(in_folder("letter"), O_RDONLY) >= 0 || errno != EACCES) return 10;
        if (open(in_folder("read/new"), O_WRONLY | O_CREAT, 0600) >= 0) return 11;
        if (open(in_folder("read/book"), O_WRONLY) >= 0) return 12;
        if (unlink(in_folder("read/book")) == 0) return 13;
        if (unlink(in_folder("letter")) == 0) return 14;
        if (unlink(in_folder("remove/name")) != 0) return 15;
        if (open(in_folder("remove/other"), O_WRONLY | O_CREAT, 0600) >= 0) return 16;
        execl("/bin/true", "true", (char *)NULL);
        if (errno != EACCES && errno != EPERM) return 17;
    }
    if ((fd = open(in_folder("read/book"), O_RDONLY)) < 0) return 20;
    close(fd);
    if ((fd = open(in_folder("write/new"), O_RDWR | O_CREAT, 0600)) < 0) return 21;
    if (write(fd, "x", 1) != 1 || ftruncate(fd, 0) != 0) return 22;
    close(fd);
    if (rename(in_folder("write/new"), in_folder("write/newer")) != 0) return 23;
    if (unlink(in_folder("write/newer")) != 0) return 24;
    if (open("/etc/passwd", O_RDONLY) < 0 || open("/dev/null", O_WRONLY) < 0) return 25;
    if (base_thread_start(&t, nothing, &ran) != ROTOR_OK) return 26;
    base_thread_join(&t);
    return ran ? 0 : 27;
}

static void scribble(const char *path) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("text", f);
    fclose(f);
}

static void what_is_forbidden_is_refused_and_the_rest_goes_on(void **state) {
    (void)state;
    enum { NO_CAGE = 100 };
    int status;
    scribble(in_folder("letter"));
    for (const char *const *p = (const char *const[]){"read", "write", "remove", NULL}; *p; p++)
        assert_int_equal(mkdir(in_folder(*p), 0700), 0);
    scribble(in_folder("read/book"));
    scribble(in_folder("remove/name"));
    const char *const read[] = {in_folder("read"), "/no/such/folder"},
                      *const write[] = {in_folder("write")},
                      *const remove[] = {in_folder("remove")};
    const base_sandbox s = {
        .read = read, .n_read = 2, .write = write, .n_write = 1, .remove = remove, .n_remove = 1};
    const pid_t pid = fork();
    if (pid == 0) {
        base_caged caged;
        const rotor_status st = base_sandbox_enter(&s, &caged, NULL);
        if (st != ROTOR_OK) _exit(st == ROTOR_E_UNSUPPORTED ? NO_CAGE : NO_CAGE + 1);
        _exit(first_fault(&caged));
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == NO_CAGE) skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* Checkers and emulators (ROTOR_TEST_QUICK) keep what is freed. */
static void memory_is_counted_and_given_back(void **state) {
    (void)state;
    enum { BLOCKS = 256, BYTES = 100000 };
    const bool keeps = BASE_CHECKED_BUILD || getenv("ROTOR_TEST_QUICK");
    void *p[BLOCKS];
    const uint64_t before = base_rss_bytes();
    assert_true(before > 0);
    for (int i = 0; i < BLOCKS; i++) {
        p[i] = base_alloc(BYTES);
        memset(p[i], 1, BYTES);
    }
    assert_true(base_rss_bytes() > before + BLOCKS * BYTES / 2);
    for (int i = 0; i < BLOCKS; i++) base_free(p[i]);
    base_give_memory_back();
    if (!keeps) assert_true(base_rss_bytes() < before + BLOCKS * BYTES / 4);
}

static void who_may_read(void **state) {
    (void)state;
    const char *path = in_folder("secret");
    scribble(path);
    chmod(path, 0600);
    assert_false(base_others_can_read(path));
    chmod(path, 0640);
    assert_true(base_others_can_read(path));
    assert_false(base_others_can_read(in_folder("nothing")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_socket_with_a_path_is_ours_alone),
        cmocka_unit_test(no_file_makes_way_for_a_socket),
        cmocka_unit_test(sockets_that_are_handed_over),
        cmocka_unit_test(a_word_to_the_manager),
        cmocka_unit_test(what_is_forbidden_is_refused_and_the_rest_goes_on),
        cmocka_unit_test(memory_is_counted_and_given_back),
        cmocka_unit_test(who_may_read),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
