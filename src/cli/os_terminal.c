/* SPDX-License-Identifier: MIT
 *
 * What the program asks of the terminal and of signals: is this a terminal, how wide, was Ctrl-C
 * pressed; and standard input, byte for byte.
 */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#include "cli/cli.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted; /* set by the handler */

static void on_interrupt(int sig) {
    (void)sig;
    interrupted = 1;
}

static void catch_signal(int sig, bool on) {
    struct sigaction act = {0};
    act.sa_handler = on ? on_interrupt : SIG_DFL;
    sigemptyset(&act.sa_mask); /* no SA_RESTART: a read at the prompt returns */
    sigaction(sig, &act, NULL);
}

void cli_catch_interrupt(bool on) { catch_signal(SIGINT, on); }
void cli_catch_end(void) { catch_signal(SIGTERM, true); }

bool cli_interrupted(void) { return interrupted != 0; }
void cli_clear_interrupt(void) { interrupted = 0; }

void cli_die_interrupted(void) {
    cli_catch_interrupt(false);
    raise(SIGINT);
}

bool cli_is_terminal(int fd) { return isatty(fd) == 1; }

int cli_terminal_columns(void) {
    struct winsize w;
    return ioctl(1, TIOCGWINSZ, &w) == 0 && w.ws_col ? w.ws_col : 80;
}

rotor_status cli_read_stdin(base_buf *out, rotor_error *err) {
    char chunk[16384];
    for (;;) {
        ssize_t n = read(0, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) {
            if (interrupted) return base_fail(err, ROTOR_E_CANCELLED, "interrupted");
            continue;
        }
        if (n < 0)
            return base_fail(err, ROTOR_E_IO, "cannot read standard input: %s", strerror(errno));
        if (n == 0) break;
        if (!base_buf_append(out, chunk, (size_t)n))
            return base_fail_nomem(err, "reading standard input");
    }
    if (!out->data) base_buf_puts(out, "");
    return out->failed ? base_fail_nomem(err, "reading standard input") : ROTOR_OK;
}
