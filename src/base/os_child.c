/* SPDX-License-Identifier: MIT
 *
 * Programs on a short lead: started with one descriptor to read, watched while they speak, killed
 * when they take too much, and told apart by how they ended.
 *
 *   this program        the child
 *   input_fd ---------> 0              everything above 2 is closed
 *   output() <--- pipe- 1
 *   errors   <--- pipe- 2              its beginning is kept
 *            <--- pipe- 3              why it could not be started; closed by a successful exec
 *
 * The child has a session of its own and no privileges to gain, gets only the surroundings it is
 * given, and dies with the thread that started it. Limits of the kernel (processor time, address
 * space, sizes of files) are set between fork and exec, where only calls that are safe after a
 * fork of a program with threads are made: all memory is taken before.
 *
 * Threading: any number of children at once, each run by one thread.
 */
#define _GNU_SOURCE
#include "base/base.h"
#include "base/base_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PIECE_BYTES = 1 << 16, FIRST_FREE_FD = 10, LOOK_MS = 50, SETTLE_MS = 1000 };

typedef struct running {
    const base_child *what; /* borrowed */
    base_child_end *end;    /* the caller's */
    pid_t pid;              /* leads a session of its own */
    int out, errors, exec;  /* our ends; -1 once closed */
    uint64_t deadline_us;   /* 0: none */
    uint64_t n_out;         /* bytes it has said */
    size_t n_errors;        /* bytes kept in end->errors */
    int wait_status;        /* of waitpid */
    bool ended;             /* waitpid has it */
    char *piece;            /* [PIECE_BYTES] owned */
} running;

/* ---- In the child, after the fork ---------------------------------------------------------- */

static void set_limit(int what, uint64_t soft, uint64_t hard) {
    if (!soft) return;
    const struct rlimit limit = {(rlim_t)soft, (rlim_t)hard};
    setrlimit(what, &limit);
}

static void set_limits(const base_child_limits *l) {
    static const struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    set_limit(RLIMIT_CPU, l->cpu_s, (uint64_t)l->cpu_s + 1); /* SIGXCPU says why; then SIGKILL */
    set_limit(RLIMIT_AS, l->memory_bytes, l->memory_bytes);
    set_limit(RLIMIT_FSIZE, l->file_bytes, l->file_bytes);
    set_limit(RLIMIT_NOFILE, l->open_files, l->open_files);
}

static void close_from(int first) {
#ifdef SYS_close_range
    if (syscall(SYS_close_range, (unsigned)first, ~0u, 0u) == 0) return;
#endif
    const long max = sysconf(_SC_OPEN_MAX);
    for (long fd = first; fd < BASE_MIN(max, 65536); fd++) close((int)fd);
}

/* Moves the four descriptors to 0, 1, 2, 3; none of them may be trodden on while another moves. */
static bool place_descriptors(const int from[4]) {
    int high[4];
    for (int i = 0; i < 4; i++)
        if ((high[i] = fcntl(from[i], F_DUPFD, FIRST_FREE_FD)) < 0) return false;
    for (int i = 0; i < 4; i++)
        if (dup2(high[i], i) < 0) return false;
    return fcntl(3, F_SETFD, FD_CLOEXEC) == 0;
}

static void leave(void) {
    for (;;) syscall(SYS_exit_group, 127);
}

static void default_signals(void) {
    sigset_t none;
    sigemptyset(&none);
    const struct sigaction usual = {.sa_handler = SIG_DFL};
    for (int s = 1; s < 32; s++) sigaction(s, &usual, NULL);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Never returns. */
static void become(const base_child *c, const int fds[4], pid_t parent) {
    static char *const nothing[] = {NULL};
    setsid();
    default_signals();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) leave(); /* it died before the line above */
    int tell = fds[3];
    if (place_descriptors(fds)) {
        tell = 3;
        close_from(4);
        set_limits(&c->limits);
        prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (c->limits.no_network)
            os_deny_network(c->limits.no_processes); /* where there is a way */
        execve(c->argv[0], (char *const *)(uintptr_t)c->argv,
               c->env ? (char *const *)(uintptr_t)c->env : nothing);
    }
    const int why = errno;
    (void)!write(tell, &why, sizeof why);
    leave();
}

/* ---- Starting ------------------------------------------------------------------------------ */

static void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static rotor_status fork_it(running *r, rotor_error *err) {
    int out[2] = {-1, -1}, errors[2] = {-1, -1}, exec[2] = {-1, -1};
    int input = -1;
    const pid_t self = getpid();
    if (pipe2(out, O_CLOEXEC) || pipe2(errors, O_CLOEXEC) || pipe2(exec, O_CLOEXEC)) goto fail;
    input = r->what->input_fd >= 0 ? fcntl(r->what->input_fd, F_DUPFD_CLOEXEC, 0)
                                   : open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (input < 0) goto fail;
    r->pid = fork();
    if (r->pid == 0) become(r->what, (const int[4]){input, out[1], errors[1], exec[1]}, self);
    if (r->pid < 0) goto fail;
    close(input);
    close(out[1]);
    close(errors[1]);
    close(exec[1]);
    r->out = out[0];
    r->errors = errors[0];
    r->exec = exec[0];
    fcntl(r->out, F_SETFL, O_NONBLOCK);
    fcntl(r->errors, F_SETFL, O_NONBLOCK);
    return ROTOR_OK;
fail:
    base_fail(err, ROTOR_E_IO, "cannot start '%s': %s", r->what->argv[0], strerror(errno));
    close_fd(&input);
    for (int i = 0; i < 2; i++) {
        close_fd(&out[i]);
        close_fd(&errors[i]);
        close_fd(&exec[i]);
    }
    return ROTOR_E_IO;
}

/* Waits until the exec has worked; if it has not, says why. */
static rotor_status started(running *r, rotor_error *err) {
    int why = 0;
    ssize_t n;
    while ((n = read(r->exec, &why, sizeof why)) < 0 && errno == EINTR) continue;
    close_fd(&r->exec);
    if (n <= 0) return ROTOR_OK;
    return base_fail(err, why == ENOENT ? ROTOR_E_NOTFOUND : ROTOR_E_IO, "cannot start '%s': %s",
                     r->what->argv[0], strerror(why));
}

/* ---- Listening ----------------------------------------------------------------------------- */

/* What is left of the time, at most LOOK_MS: a child that is gone may have left its pipe open. */
static int wait_ms(const running *r) {
    if (!r->deadline_us) return LOOK_MS;
    const uint64_t now = base_now_us();
    const uint64_t left_ms = now >= r->deadline_us ? 0 : (r->deadline_us - now) / 1000 + 1;
    return (int)BASE_MIN(left_ms, (uint64_t)LOOK_MS);
}

static void take_errors(running *r) {
    const ssize_t n = read(r->errors, r->piece, PIECE_BYTES);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        close_fd(&r->errors);
        return;
    }
    const size_t take = BASE_MIN((size_t)n, sizeof r->end->errors - 1 - r->n_errors);
    memcpy(r->end->errors + r->n_errors, r->piece, take);
    r->n_errors += take;
}

static rotor_status take_output(running *r, rotor_error *err) {
    const ssize_t n = read(r->out, r->piece, PIECE_BYTES);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return ROTOR_OK;
    if (n <= 0) {
        close_fd(&r->out);
        return ROTOR_OK;
    }
    r->n_out += (uint64_t)n;
    if (r->what->limits.output_bytes && r->n_out > r->what->limits.output_bytes) {
        r->end->why = BASE_CHILD_OUTPUT;
        close_fd(&r->out);
        return ROTOR_OK;
    }
    return r->what->output ? r->what->output(r->what->user, r->piece, (size_t)n, err) : ROTOR_OK;
}

static bool has_ended(running *r) {
    if (!r->ended && waitpid(r->pid, &r->wait_status, WNOHANG) == r->pid) r->ended = true;
    return r->ended;
}

static bool late(running *r) {
    if (r->deadline_us && base_now_us() >= r->deadline_us) r->end->why = BASE_CHILD_WALL;
    return r->end->why == BASE_CHILD_WALL;
}

/* Until both pipes are closed, or it is gone and has nothing more to say, or it is to be killed. */
static rotor_status listen_to(running *r, rotor_error *err) {
    while (r->out >= 0 || r->errors >= 0) {
        struct pollfd fds[2] = {{.fd = r->out, .events = POLLIN},
                                {.fd = r->errors, .events = POLLIN}};
        const bool gone = has_ended(r);
        const int n = poll(fds, 2, gone ? 0 : wait_ms(r));
        if (late(r)) return ROTOR_OK;
        if (n == 0 && gone) return ROTOR_OK;
        if (n <= 0) continue;
        if (fds[1].revents) take_errors(r);
        if (fds[0].revents) ROTOR_TRY(take_output(r, err));
        if (r->end->why == BASE_CHILD_OUTPUT) return ROTOR_OK;
    }
    while (!has_ended(r) && !late(r)) base_sleep_us(500);
    return ROTOR_OK;
}

/* ---- The end ------------------------------------------------------------------------------- */

/* Its whole session: what it started is not left behind. */
static void finish(running *r) {
    const bool by_itself = r->ended;
    kill(-r->pid, SIGKILL);
    if (!by_itself) {
        kill(r->pid, SIGKILL);
        while (waitpid(r->pid, &r->wait_status, 0) < 0 && errno == EINTR) continue;
    }
    close_fd(&r->out);
    close_fd(&r->errors);
    close_fd(&r->exec);
}

static void make_one_line(char *s) {
    size_t out = 0;
    for (char *p = s; *p; p++) {
        const char c = *p == '\n' || *p == '\r' ? ' ' : *p;
        if (c == ' ' && (out == 0 || s[out - 1] == ' ')) continue;
        s[out++] = (unsigned char)c < ' ' || (unsigned char)c >= 0x7F ? '?' : c;
    }
    while (out && s[out - 1] == ' ') out--;
    s[out] = 0;
}

static void say_how(running *r) {
    base_child_end *end = r->end;
    make_one_line(end->errors);
    if (end->why != BASE_CHILD_EXITED) return; /* we ended it */
    if (WIFSIGNALED(r->wait_status)) {
        end->status = WTERMSIG(r->wait_status);
        end->why = end->status == SIGXCPU   ? BASE_CHILD_CPU
                   : end->status == SIGXFSZ ? BASE_CHILD_OUTPUT
                                            : BASE_CHILD_SIGNAL;
    } else
        end->status = WEXITSTATUS(r->wait_status);
}

rotor_status base_child_run(const base_child *c, base_child_end *end, rotor_error *err) {
    running r = {.what = c, .end = end, .out = -1, .errors = -1, .exec = -1};
    *end = (base_child_end){0};
    r.piece = base_alloc(PIECE_BYTES);
    if (!r.piece) return base_fail_nomem(err, "starting a program");
    if (c->limits.wall_ms) r.deadline_us = base_now_us() + (uint64_t)c->limits.wall_ms * 1000;
    rotor_status st = fork_it(&r, err);
    if (st == ROTOR_OK) {
        st = started(&r, err);
        if (st == ROTOR_OK) st = listen_to(&r, err);
        finish(&r);
        say_how(&r);
    }
    base_free(r.piece);
    return st;
}
