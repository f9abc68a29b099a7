/* SPDX-License-Identifier: MIT
 *
 * Other programs: started with this one's terminal, files and surroundings, waited for.
 */
#define _POSIX_C_SOURCE 200809L
#include "base/base.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

extern char **environ; /* passed on unread */

/* Signals that this program ignores or catches mean to the other what they usually mean. */
static int start(pid_t *pid, char *line, char *arg) {
    char name[] = "sh", option[] = "-c";
    char *const argv[] = {name, option, line, name, arg, NULL};
    posix_spawnattr_t attr;
    sigset_t usual;
    sigemptyset(&usual);
    sigaddset(&usual, SIGINT);
    sigaddset(&usual, SIGPIPE);
    int why = posix_spawnattr_init(&attr);
    if (why) return why;
    why = posix_spawnattr_setsigdefault(&attr, &usual);
    if (!why) why = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
    if (!why) why = posix_spawn(pid, "/bin/sh", NULL, &attr, argv, environ);
    posix_spawnattr_destroy(&attr);
    return why;
}

rotor_status base_run_shell(const char *command, const char *arg, int *exit_status,
                            rotor_error *err) {
    base_buf line = {0}, word = {0};
    int status = 0, why = ENOMEM;
    pid_t pid;
    /* The shell takes the command apart; the argument stays whole. */
    bool ready = base_buf_printf(&line, "%s \"$1\"", command) && base_buf_puts(&word, arg);
    if (ready) why = start(&pid, line.data, word.data);
    base_buf_free(&line);
    base_buf_free(&word);
    if (!ready) return base_fail_nomem(err, "starting a program");
    if (why) return base_fail(err, ROTOR_E_IO, "cannot start '%s': %s", command, strerror(why));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    *exit_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return ROTOR_OK;
}
