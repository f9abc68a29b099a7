/* SPDX-License-Identifier: MIT
 *
 * One file through rotor-extract: the program started as a limited child with the file as its
 * descriptor 0, its blocks checked, and every way it can end put into a reason and a sentence.
 *
 * Threading: any number of files at once, each by one thread.
 */
#include "base/base.h"

#include <stdio.h>

enum { ARGS_MAX = 12 };

base_child_limits base_extract_limits(void) {
    const uint64_t mib = 1 << 20;
    return (base_child_limits){.wall_ms = 120000,
                               .cpu_s = 60,
                               .memory_bytes = BASE_CHECKED_BUILD ? 0 : 1024 * mib,
                               .file_bytes = 512 * mib,
                               .output_bytes = 2048 * mib,
                               .open_files = 64,
                               .no_network = true};
}

static rotor_status take_piece(void *user, const void *p, size_t n, rotor_error *err) {
    return base_block_read(user, p, n, err);
}

/* What the child's end means when it did not say so itself. */
static base_reason reason_of(const base_child_end *end) {
    switch (end->why) {
    case BASE_CHILD_WALL:
    case BASE_CHILD_CPU:
        return BASE_REASON_TIMEOUT;
    case BASE_CHILD_OUTPUT:
        return BASE_REASON_TOO_LARGE;
    default:
        return BASE_REASON_CRASHED;
    }
}

static rotor_status say_end(const base_child_end *end, const base_child_limits *l,
                            rotor_error *err) {
    switch (end->why) {
    case BASE_CHILD_WALL:
        return base_fail(err, ROTOR_E_FORMAT, "timeout: not parsed within %u s", l->wall_ms / 1000);
    case BASE_CHILD_CPU:
        return base_fail(err, ROTOR_E_FORMAT, "timeout: not parsed within %u s of processor time",
                         l->cpu_s);
    case BASE_CHILD_OUTPUT:
        return base_fail(err, ROTOR_E_FORMAT, "too_large: more than %llu MiB of text",
                         (unsigned long long)(l->output_bytes >> 20));
    case BASE_CHILD_SIGNAL:
        return base_fail(err, ROTOR_E_FORMAT, "crashed: the parser was ended by signal %d",
                         end->status);
    default:
        return base_fail(err, ROTOR_E_FORMAT,
                         "crashed: the parser ended with %d before the end%s%.300s", end->status,
                         end->errors[0] ? ": " : "", end->errors);
    }
}

static rotor_status status_of(base_reason r) {
    return r == BASE_REASON_MISSING_TOOL ? ROTOR_E_UNSUPPORTED
           : r == BASE_REASON_MEMORY     ? ROTOR_E_NOMEM
                                         : ROTOR_E_FORMAT;
}

typedef struct passing {
    const base_extract *x; /* the caller's request */
    rotor_status returned; /* by its function: not ROTOR_OK once it wanted to stop */
} passing;

static rotor_status pass_on(void *user, const base_block *b, rotor_error *err) {
    passing *p = user;
    return p->returned = p->x->block(p->x->user, b, err);
}

static size_t arguments(const base_extract *x, const char *argv[ARGS_MAX]) {
    size_t n = 0;
    argv[n++] = x->program;
    argv[n++] = "--child";
    const char *const pairs[][2] = {
        {"--type", x->type}, {"--name", x->name}, {"--pdftotext", x->pdftotext}};
    for (size_t i = 0; i < BASE_COUNT(pairs); i++)
        if (pairs[i][1]) {
            argv[n++] = pairs[i][0];
            argv[n++] = pairs[i][1];
        }
    argv[n] = NULL;
    return n;
}

rotor_status base_extract_run(const base_extract *x, base_reason *reason, rotor_error *err) {
    static const char *const env[] = {"LC_ALL=C.UTF-8", "PATH=/usr/local/bin:/usr/bin:/bin", NULL};
    const char *argv[ARGS_MAX];
    passing to = {x, ROTOR_OK};
    base_block_reader r = {.fn = pass_on, .user = &to};
    base_child_end end;
    *reason = BASE_REASON_NONE;
    ROTOR_TRY(base_fd_rewind(x->fd, &r.file_bytes, err));
    arguments(x, argv);
    const base_child c = {.argv = argv,
                          .env = env,
                          .input_fd = x->fd,
                          .limits = x->limits,
                          .output = take_piece,
                          .user = &r};
    rotor_status st = base_child_run(&c, &end, err);
    if (st == ROTOR_E_NOTFOUND)
        *reason = BASE_REASON_MISSING_TOOL;
    else if (st != ROTOR_OK && to.returned == ROTOR_OK)
        *reason = BASE_REASON_CRASHED;
    else if (st == ROTOR_OK && r.why[0]) {
        *reason = r.reason;
        st = base_fail(err, status_of(r.reason), "%s: %s", base_reason_name(r.reason), r.why);
    } else if (st == ROTOR_OK && (!r.ended || end.why != BASE_CHILD_EXITED || end.status)) {
        *reason = reason_of(&end);
        st = say_end(&end, &x->limits, err);
    }
    base_block_reader_reset(&r);
    return st;
}
