/* SPDX-License-Identifier: MIT
 *
 * What the program asks of the terminal and of signals: is this a terminal, how wide, was Ctrl-C
 * pressed; and bytes of its descriptors.
 */
#define _POSIX_C_SOURCE 200809L
#define _DEFAULT_SOURCE
#include "cli/cli.h"

#include "base/start.h"

#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

char **cli_start(char **argv) {
    signal(SIGPIPE, SIG_IGN); /* a closed pipe is a failed write, told in words */
    return base_program_start(argv);
}

uint32_t cli_left_out(void) { return 0; }

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

const char *cli_usual_editor(void) { return "vi"; }

int64_t cli_read_some(int fd, void *p, size_t n_bytes) { return read(fd, p, n_bytes); }
int64_t cli_write_some(int fd, const void *p, size_t n_bytes) { return write(fd, p, n_bytes); }
