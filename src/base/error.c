/* SPDX-License-Identifier: MIT
 *
 * Errors, the log, and checked sizes: how anything in Rotor says that something went wrong, and
 * the arithmetic that keeps sizes read from files from going wrong silently.
 */
#include "base/base.h"

#include <stdio.h>

/* Names in messages come out of files: no byte of theirs moves a cursor or begins a line. */
static void make_one_line(char *s) {
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7F) *s = '?';
}

rotor_status base_fail(rotor_error *err, rotor_status code, const char *fmt, ...) {
    if (!err) return code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    make_one_line(err->message);
    err->code = code;
    return code;
}

rotor_status base_fail_in(rotor_error *err, rotor_status code, const char *fmt, ...) {
    if (!err) return code;
    char inner[sizeof err->message];
    memcpy(inner, err->message, sizeof inner);
    inner[sizeof inner - 1] = 0;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(err->message, sizeof err->message, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof err->message)
        snprintf(err->message + n, sizeof err->message - (size_t)n, ": %s", inner);
    make_one_line(err->message);
    return err->code;
}

rotor_status base_fail_nomem(rotor_error *err, const char *what) {
    return base_fail(err, ROTOR_E_NOMEM, "out of memory while %s", what);
}

void base_log_printf(const base_log *log, base_log_level level, const char *fmt, ...) {
    if (!log || !log->fn) return;
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    make_one_line(line);
    log->fn(log->user, level, line);
}

/* ==== Checked sizes =========================================================================== */

bool base_mul_size(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
bool base_add_size(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }
bool base_mul_u64(uint64_t a, uint64_t b, uint64_t *out) {
    return !__builtin_mul_overflow(a, b, out);
}
bool base_add_u64(uint64_t a, uint64_t b, uint64_t *out) {
    return !__builtin_add_overflow(a, b, out);
}

bool base_round_up_u64(uint64_t a, uint64_t align, uint64_t *out) {
    uint64_t sum;
    if (!base_add_u64(a, align - 1, &sum)) return false;
    *out = sum & ~(align - 1);
    return true;
}
