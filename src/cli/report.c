/* SPDX-License-Identifier: MIT
 *
 * Speaking: errors and the log on standard error, the product on standard output, progress on a
 * terminal. A failed write to standard output (a full disk, a closed pipe) is remembered here and
 * becomes an exit status of 1 at the end.
 */
#include "cli/store.h"

#include <errno.h>
#include <stdio.h>

static int out_errno; /* first failure of standard output; 0: none */

static const char *verb_name(const cli_args *a) { return a && a->verb ? a->verb->name : NULL; }

/* What a file or a server said may stand in it. */
static void complain(const cli_args *a, const char *message) {
    const char *verb = verb_name(a);
    base_buf plain = {0};
    cli_put_plain(&plain, message);
    fflush(stdout);
    fprintf(stderr, "rotor: %s%s%s\n", verb ? verb : "", verb ? ": " : "",
            plain.failed || !plain.data ? "out of memory" : plain.data);
    base_buf_free(&plain);
}

int cli_fail(const cli_args *a, const rotor_error *err) {
    complain(a, err->message);
    return CLI_FAILED;
}

int cli_fail_text(const cli_args *a, const char *fmt, ...) {
    char message[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    complain(a, message);
    return CLI_FAILED;
}

int cli_usage(const cli_args *a, const char *fmt, ...) {
    char message[1024];
    const char *verb = verb_name(a);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof message)
        snprintf(message + n, sizeof message - (size_t)n, " (rotor help%s%s)", verb ? " " : "",
                 verb ? verb : "");
    complain(a, message);
    return CLI_USAGE;
}

int cli_status(const cli_args *a, rotor_status st, const rotor_error *err) {
    if (st == ROTOR_OK) return CLI_DONE;
    if (st == ROTOR_E_CANCELLED && cli_interrupted()) cli_die_interrupted();
    return st == ROTOR_E_ARG ? cli_usage(a, "%s", err->message) : cli_fail(a, err);
}

static bool level_shown(const cli_args *a, int level) { return level <= cli_int(a, OPT_LOG_LEVEL); }

void cli_log(const cli_args *a, int level, const char *fmt, ...) {
    if (!level_shown(a, level)) return;
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

/* A file's name may stand in it, which is not to speak to the terminal. */
void cli_log_line(void *user, int level, const char *line) {
    base_buf plain = {0};
    cli_put_plain(&plain, line);
    cli_log(user, level, level <= BASE_LOG_WARN ? "rotor: %s" : "%s", plain.data ? plain.data : "");
    base_buf_free(&plain);
}

/* ==== Standard output ========================================================================= */

void cli_out(const void *p, size_t n_bytes) {
    if (n_bytes && fwrite(p, 1, n_bytes, stdout) != n_bytes && !out_errno) out_errno = errno;
}

void cli_outf(const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    if (vprintf(fmt, ap) < 0 && !out_errno) out_errno = errno;
    va_end(ap);
}

int cli_finish(const cli_args *a, int status) {
    if (fflush(stdout) != 0 && !out_errno) out_errno = errno;
    if (!out_errno) return status;
    if (out_errno == EPIPE) return CLI_FAILED; /* the reader has seen enough; it knows */
    return cli_fail_text(a, "cannot write to standard output: %s", strerror(out_errno));
}

const char *cli_bytes(uint64_t bytes, char out[32]) {
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double v = (double)bytes;
    size_t u = 0;
    while (v >= 1024 && u + 1 < BASE_COUNT(unit)) {
        v /= 1024;
        u++;
    }
    snprintf(out, 32, u ? "%.2f %s" : "%.0f %s", v, unit[u]);
    return out;
}

/* ==== Progress ================================================================================ */

enum { PROGRESS_AFTER_US = 1000000, PROGRESS_EVERY_US = 100000 };

void cli_progress_start(cli_progress *p, const cli_args *a, const char *what) {
    *p = (cli_progress){.a = a, .what = what, .start_us = base_now_us()};
}

bool cli_progress_step(void *user, uint64_t done, uint64_t total) {
    cli_progress *p = user;
    if (cli_interrupted()) return false;
    uint64_t now = base_now_us();
    if (cli_on(p->a, OPT_NO_PROGRESS) || !cli_is_terminal(2) || !total ||
        now - p->start_us < PROGRESS_AFTER_US || now - p->shown_us < PROGRESS_EVERY_US)
        return true;
    p->shown_us = now;
    double part = (double)done / (double)total;
    double left_s = part > 0 ? (double)(now - p->start_us) / 1e6 * (1 - part) / part : 0;
    fprintf(stderr, "\r\033[K%s %3.0f %%, %.0f s left", p->what, 100 * part, left_s);
    fflush(stderr);
    return true;
}

void cli_progress_end(cli_progress *p) {
    if (!p->shown_us) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    p->shown_us = 0;
}

rotor_status cli_read_stdin(base_buf *out, rotor_error *err) {
    char chunk[16384];
    for (;;) {
        const int64_t n = cli_read_some(0, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) {
            if (cli_interrupted()) return base_fail(err, ROTOR_E_CANCELLED, "interrupted");
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
