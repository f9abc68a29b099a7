/* SPDX-License-Identifier: MIT
 *
 * The prompt: messages of several lines, plain input, colour, and editing on a real terminal (a
 * pseudo-terminal with a child process at it).
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "cli/term.h"

/* ==== Entries ================================================================================= */

static void lines_make_messages(void **state) {
    (void)state;
    const struct {
        const char *lines[5]; /* as typed */
        const char *message;  /* complete after the last of them */
    } rows[] = {
        {{"hello"}, "hello"},
        {{""}, ""},
        {{"a\\", "b\\", "c"}, "a\nb\nc"},
        {{"\\", "x"}, "\nx"},
        {{"\"\"\"", "a", "", "b\\", "\"\"\""}, "a\n\nb\\"},
        {{"\"\"\"a", "b\"\"\""}, "a\nb"},
        {{"\"\"\"one\"\"\""}, "one"},
        {{"\"\"\"\"\"\""}, ""},
        {{"say \"\"\" now"}, "say \"\"\" now"},
        {{"\"\"\"a\"\"\" b", "\"\"\""}, "a\"\"\" b"},
    };
    for (size_t i = 0; i < BASE_COUNT(rows); i++) {
        cli_entry e = {.quoted = false};
        for (size_t k = 0; k < 5 && rows[i].lines[k]; k++) {
            bool last = k == 4 || !rows[i].lines[k + 1];
            bool done = cli_entry_add(&e, rows[i].lines[k], strlen(rows[i].lines[k]));
            if (done != last) fail_msg("row %zu, line %zu", i, k);
        }
        assert_string_equal(e.text.data ? e.text.data : "", rows[i].message);
        cli_entry_reset(&e);
    }
}

static void colour_follows_the_terminal_and_the_user(void **state) {
    (void)state;
    assert_true(cli_wants_colour("auto", true, NULL, "xterm"));
    assert_true(cli_wants_colour("auto", true, "", "xterm"));
    assert_false(cli_wants_colour("auto", true, "1", "xterm"));
    assert_false(cli_wants_colour("auto", true, NULL, "dumb"));
    assert_false(cli_wants_colour("auto", true, NULL, NULL));
    assert_false(cli_wants_colour("auto", false, NULL, "xterm"));
    assert_true(cli_wants_colour("always", false, "1", NULL));
    assert_false(cli_wants_colour("never", true, NULL, "xterm"));
}

/* ==== Plain input ============================================================================= */

static void pipes_are_read_line_by_line(void **state) {
    (void)state;
    int fds[2];
    const char input[] = "one\r\ntwo\\\nthree\n\n\"\"\"\nfour\n5";
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(write(fds[1], input, sizeof input - 1), sizeof input - 1);
    close(fds[1]);
    cli_term *t = NULL;
    cli_term_options o = {.in_fd = fds[0], .out_fd = 1};
    base_buf out = {0};
    assert_int_equal(cli_term_open(&t, &o, NULL), ROTOR_OK);
    assert_false(cli_term_edits(t));
    const char *want[] = {"one", "two\nthree", "", "four\n5"};
    for (size_t i = 0; i < BASE_COUNT(want); i++) {
        assert_int_equal(cli_term_read(t, "> ", &out), CLI_READ_MESSAGE);
        assert_string_equal(out.data, want[i]);
    }
    assert_int_equal(cli_term_read(t, "> ", &out), CLI_READ_END);
    assert_int_equal(cli_term_read(t, "> ", &out), CLI_READ_END);
    cli_term_close(&t);
    assert_null(t);
    base_buf_free(&out);
    close(fds[0]);
}

static void running_out_of_memory_is_told(void **state) {
    (void)state;
    for (long n = 1; n < 50; n++) {
        int fds[2];
        cli_term *t = NULL;
        base_buf out = {0};
        assert_int_equal(pipe(fds), 0);
        assert_int_equal(write(fds[1], "a\\\nb\n", 5), 5);
        close(fds[1]);
        cli_term_options o = {.in_fd = fds[0], .out_fd = 1, .history_path = "/nowhere/h"};
        base_fault_after(n);
        rotor_status st = cli_term_open(&t, &o, NULL);
        cli_read r = st == ROTOR_OK ? cli_term_read(t, "> ", &out) : CLI_READ_FAILED;
        bool fired = base_fault_fired();
        base_fault_after(0);
        assert_int_equal(r, fired ? CLI_READ_FAILED : CLI_READ_MESSAGE);
        cli_term_close(&t);
        base_buf_free(&out);
        close(fds[0]);
        if (!fired) return;
    }
    fail();
}

/* ==== A terminal ============================================================================== */

static volatile sig_atomic_t pressed;
static void on_interrupt(int sig) {
    (void)sig;
    pressed = 1;
}
static bool interrupted(void) { return pressed != 0; }

/* The child: reads messages and writes "R:bytes;" lines to fd until the end. */
static void child_at_terminal(int fd, const char *history) {
    struct sigaction act = {0};
    act.sa_handler = on_interrupt;
    sigaction(SIGINT, &act, NULL);
    setenv("TERM", "xterm", 1);
    cli_term *t = NULL;
    cli_term_options o = {
        .in_fd = 0, .out_fd = 1, .history_path = history, .interrupted = interrupted};
    if (cli_term_open(&t, &o, NULL) != ROTOR_OK) _exit(3);
    dprintf(fd, "%d;", cli_term_edits(t));
    for (;;) {
        base_buf out = {0};
        cli_read r = cli_term_read(t, "> ", &out);
        if (r == CLI_READ_MESSAGE)
            dprintf(fd, "M:%s;", out.data);
        else
            dprintf(fd, r == CLI_READ_INTERRUPT ? "I;" : r == CLI_READ_END ? "E;" : "F;");
        pressed = 0;
        base_buf_free(&out);
        if (r == CLI_READ_END || r == CLI_READ_FAILED) break;
    }
    cli_term_close(&t);
    _exit(0);
}

/* Reads what the terminal shows until a message is asked for: bracketed paste goes on, then the
 * prompt is drawn (a prompt alone may be one drawn again while typing). */
static void wait_for_prompt(int terminal) {
    char seen[8192];
    size_t n = 0;
    uint64_t give_up_us = base_now_us() + 120000000;
    while (base_now_us() < give_up_us && n + 1 < sizeof seen) {
        fd_set set;
        struct timeval wait = {0, 100000};
        FD_ZERO(&set);
        FD_SET(terminal, &set);
        if (select(terminal + 1, &set, NULL, NULL, &wait) != 1) continue;
        ssize_t k = read(terminal, seen + n, sizeof seen - 1 - n);
        if (k <= 0) return;
        n += (size_t)k;
        seen[n] = 0;
        const char *asks = strstr(seen, "\x1b[?2004h");
        if (asks && strstr(asks, "> ")) return;
    }
    fail_msg("the terminal never showed a prompt");
}

/* Types each text after the prompt came back; gives what the child reported. */
static void talk(const char *const *typed, size_t n, const char *history, char report[1024]) {
    int fds[2], terminal, status;
    assert_int_equal(pipe(fds), 0);
    pid_t pid = forkpty(&terminal, NULL, NULL, NULL);
    assert_true(pid >= 0);
    if (pid == 0) child_at_terminal(fds[1], history);
    close(fds[1]);
    for (size_t i = 0; i < n; i++) {
        wait_for_prompt(terminal);
        assert_true(write(terminal, typed[i], strlen(typed[i])) > 0);
    }
    size_t len = 0;
    for (ssize_t k; len < 1023 && (k = read(fds[0], report + len, 1023 - len)) > 0;) {
        len += (size_t)k;
        if (len >= 2 && strncmp(report + len - 2, "E;", 2) == 0) break;
    }
    report[len] = 0;
    close(fds[0]);
    char rest[4096];
    while (read(terminal, rest, sizeof rest) > 0) continue;
    close(terminal);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void a_terminal_can_be_edited_on(void **state) {
    (void)state;
    char report[1024], history[64];
    snprintf(history, sizeof history, "/tmp/rotor-term-%ld", (long)getpid());
    /* Typing with a correction; a paste of two lines, then more; Ctrl-C; text beyond ASCII; end. */
    const char *first[] = {"helo\x7flo\n", "\x1b[200~one\ntwo\x1b[201~!\n", "dropped\x03",
                           "gr\xC3\xBC\xC3\x9F dich\n", "\x04"};
    talk(first, BASE_COUNT(first), history, report);
    if (report[0] == '0') {
        print_message("skipped: no line editor in this build\n");
        skip();
    }
    assert_string_equal(report, "1;M:hello;M:one\ntwo!;I;M:gr\xC3\xBC\xC3\x9F dich;E;");
    /* The history is there in the next run: up twice is the paste, whole. */
    const char *second[] = {"\x1b[A\x1b[A\n", "\x04"};
    talk(second, BASE_COUNT(second), history, report);
    assert_string_equal(report, "1;M:one\ntwo!;E;");
    unlink(history);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_make_messages),
        cmocka_unit_test(colour_follows_the_terminal_and_the_user),
        cmocka_unit_test(pipes_are_read_line_by_line),
        cmocka_unit_test(running_out_of_memory_is_told),
        cmocka_unit_test(a_terminal_can_be_edited_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
